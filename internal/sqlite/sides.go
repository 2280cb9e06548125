package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"certlab/internal/cert"
)

// A Side is an indexed submission, as comparing needs it.
type Side struct {
	Seq        int64
	Submission string
	Run        string
	Attempt    int
	Machine    string
	SHA256     string
	State      string // of its index
	Error      string // why it is unreadable
	Plan       string
	Checkbox   string
	Kernel     string
	Received   time.Time
	NoManifest bool
	Facts      SideFacts
}

const sideColumns = `s.seq, s.id, s.run, s.attempt, s.machine, s.sha256, s.index_state, s.index_error, s.plan, s.checkbox_version, s.kernel, s.received,
	coalesce((SELECT no_manifest FROM runs WHERE id = s.run), 0), s.facts`

func scanSide(s scanner) (v Side, err error) {
	err = s.Scan(&v.Seq, &v.Submission, &v.Run, &v.Attempt, &v.Machine, &v.SHA256, &v.State, &v.Error, &v.Plan, &v.Checkbox, &v.Kernel, timeColumn{&v.Received},
		&v.NoManifest, jsonColumn{&v.Facts})
	return v, err
}

// Side returns a submission, indexed or not. It fails as NotFound.
func (db *DB) Side(ctx context.Context, submission string) (Side, error) {
	return one(ctx, db.r, scanSide, notFound("submission", submission), "SELECT "+sideColumns+" FROM submissions s WHERE s.id = ?", submission)
}

// A JudgedResult is a result with what was kept of its log. Of the result it has what comparing needs.
type JudgedResult struct {
	cert.Result
	Signature string
	Doubt     string
}

// jobWords are the descriptions of jobs, which are never changed: they are read once.
type jobWords struct {
	mu   sync.RWMutex
	all  map[int64]jobKey
	last int64
}

// word describes a job by its number.
func (w *jobWords) word(ctx context.Context, db *DB, number int64) (jobKey, error) {
	w.mu.RLock()
	k, ok := w.all[number]
	w.mu.RUnlock()
	if ok {
		return k, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	type row struct {
		number int64
		jobKey
	}
	rows, err := list(ctx, db.r, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.number, &r.section, &r.job, &r.name, &r.status, &r.category, &r.plugin, &r.template)
	}, "SELECT id, section, job, name, status, category, plugin, template_id FROM jobs WHERE id > ? ORDER BY id", w.last)
	if err != nil {
		return k, err
	}
	if w.all == nil {
		w.all = make(map[int64]jobKey, len(rows))
	}
	for _, r := range rows {
		w.all[r.number], w.last = r.jobKey, r.number
	}
	if k, ok = w.all[number]; !ok {
		return k, fmt.Errorf("cannot read the database: there is no job %d", number)
	}
	return k, nil
}

// SideResults returns a submission's results: those that passed, and then the others.
func (db *DB) SideResults(ctx context.Context, v *Side) ([]JudgedResult, error) {
	// Most results are passes, of which there is nothing more to say: they come as one text, which costs a fraction of as many rows.
	passes, err := one(ctx, db.r, func(s scanner) (text string, err error) { return text, s.Scan(&text) }, nil,
		"SELECT coalesce(group_concat(idx || ' ' || job, ' '), '') FROM results WHERE submission = ? AND outcome = 'pass'", v.Seq)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(passes)
	out, numbers := make([]JudgedResult, 0, len(fields)/2+64), make([]int64, 0, len(fields)/2+64)
	for n := 0; n+1 < len(fields); n += 2 {
		index, err := strconv.Atoi(fields[n])
		job, wrong := strconv.ParseInt(fields[n+1], 10, 64)
		if err := errors.Join(err, wrong); err != nil {
			return nil, fmt.Errorf("cannot read the results of submission %s: %w", v.Submission, err)
		}
		r := JudgedResult{}
		r.Index, r.Outcome = index, "pass"
		out, numbers = append(out, r), append(numbers, job)
	}
	others, err := list(ctx, db.r, func(s scanner) (job int64, err error) {
		r := JudgedResult{}
		if err = s.Scan(&r.Index, &job, &r.Outcome, &r.Comments, &r.SkipReason); err == nil {
			out = append(out, r)
		}
		return job, err
	}, "SELECT idx, job, outcome, comments, skip_reason FROM results WHERE submission = ? AND outcome <> 'pass' ORDER BY idx", v.Seq)
	if err != nil {
		return nil, err
	}
	numbers = append(numbers, others...)
	at := make(map[int]int, len(out))
	for n := range out {
		r := &out[n]
		k, err := db.jobs.word(ctx, db, numbers[n])
		if err != nil {
			return nil, err
		}
		r.Section, r.ID, r.Name, r.CertificationStatus, r.Category, r.Plugin, r.TemplateID = k.section, k.job, k.name, k.status, k.category, k.plugin, k.template
		at[r.Index] = n
	}
	type failure struct {
		index            int
		doubt, signature string
	}
	failures, err := list(ctx, db.r, func(s scanner) (f failure, err error) { return f, s.Scan(&f.index, &f.doubt, &f.signature) },
		"SELECT f.idx, f.doubt, coalesce(l.signature, '') FROM failures f LEFT JOIN logs l ON l.id = f.log WHERE f.submission = ?", v.Seq)
	if err != nil {
		return nil, err
	}
	for _, f := range failures {
		if n, ok := at[f.index]; ok {
			out[n].Doubt, out[n].Signature = f.doubt, f.signature
		}
	}
	lost, err := lostJobs(ctx, db.r, []string{v.Run})
	if err != nil {
		return nil, err
	}
	gone := make(map[string]bool)
	for _, l := range lost[v.Run] {
		if l.attempt == v.Attempt {
			gone[l.job.Job] = true
		}
	}
	for n := range out {
		r := &out[n]
		r.Submission, r.Run, r.Machine = v.Submission, v.Run, v.Machine
		r.MachineLost = gone[r.ID] && r.Section == cert.SectionResults
		r.NoManifest = v.NoManifest && r.WantsManifest()
	}
	return out, nil
}

// BaselineFilter chooses what a submission is compared with.
type BaselineFilter struct {
	Machine  string // id
	Plan     string
	Campaign string    // id of the campaign that is the baseline; empty: any
	Kernel   string    // uname -r; empty: any
	Version  string    // of the subject's package, where the run had one; empty: any
	Source   string    // of the subject's package
	Not      string    // id of a submission that it is not
	Since    time.Time // zero: at any time
}

// A BaselineChoice is a submission that may be a baseline.
type BaselineChoice struct {
	Submission string
	Run        string
	Spec       cert.Spec // of its run
}

// BaselineChoices returns submissions that a machine has of a plan, the newest first, as far as they may be what the filter asks for. Only indexed
// ones of completed runs that no incident has touched are among them.
func (db *DB) BaselineChoices(ctx context.Context, f BaselineFilter, limit int) ([]BaselineChoice, error) {
	var w where
	w.add("s.machine = ? AND +s.plan = ? AND +s.index_state = 'indexed' AND r.state = 'completed' AND s.id <> ?", f.Machine, f.Plan, f.Not)
	w.add("coalesce((SELECT a.suspect FROM attempts a WHERE a.run = s.run AND a.number = s.attempt), '') = ''")
	if f.Campaign != "" {
		w.add("s.id IN (SELECT t.submission FROM targets t WHERE t.machine = ? AND t.campaign = ? AND t.submission <> '')", f.Machine, f.Campaign)
	}
	if f.Version != "" || f.Kernel != "" {
		w.add("((r.spec ->> '$.subject.version' = ? AND r.spec ->> '$.subject.source' = ?) OR (r.spec ->> '$.subject' IS NULL AND s.kernel <> '' AND s.kernel = ?))",
			f.Version, f.Source, f.Kernel)
	}
	if !f.Since.IsZero() {
		w.add("s.received >= ?", micros(f.Since))
	}
	return list(ctx, db.r, func(s scanner) (c BaselineChoice, err error) {
		return c, s.Scan(&c.Submission, &c.Run, jsonColumn{&c.Spec})
	}, "SELECT s.id, s.run, r.spec FROM submissions s JOIN runs r ON r.id = s.run"+w.String()+" ORDER BY s.seq DESC LIMIT ?", append(w.args, limit)...)
}

// RunFile returns the newest file of a kind that a run has delivered, of an attempt, or of any if attempt is 0. ok is false if there is none.
func (db *DB) RunFile(ctx context.Context, run string, attempt int, kind string) (f cert.File, ok bool, err error) {
	f, err = one(ctx, db.r, scanFile, errGone, `SELECT attempt, kind, name, sha256, size, received, submission FROM files WHERE run = ? AND kind = ?
		AND (? = 0 OR attempt = ?) ORDER BY received DESC, sha256 LIMIT 1`, run, kind, attempt, attempt)
	if errors.Is(err, errGone) {
		return f, false, nil
	}
	return f, err == nil, err
}

// AttemptSubject returns what an attempt of a run says of its subject, and the incident that it is suspect for.
func (db *DB) attempt(ctx context.Context, run string, number int) (cert.Attempt, error) {
	return one(ctx, db.r, scanAttempt, cert.Errorf(cert.NotFound, "there is no attempt %d of run %q", number, run),
		"SELECT "+attemptColumns+" FROM attempts WHERE run = ? AND number = ?", run, number)
}

// Attempt returns one attempt of a run. It fails as NotFound.
func (db *DB) Attempt(ctx context.Context, run string, number int) (cert.Attempt, error) {
	a, err := db.attempt(ctx, run, number)
	if err != nil {
		return a, fmt.Errorf("cannot read an attempt: %w", err)
	}
	return a, nil
}

// RunSubmission returns the newest submission of a run; empty: none.
func (db *DB) RunSubmission(ctx context.Context, run string) (string, error) {
	id, err := one(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, errGone, "SELECT id FROM submissions WHERE run = ? ORDER BY seq DESC LIMIT 1", run)
	if errors.Is(err, errGone) {
		return "", nil
	}
	return id, err
}

// Packages returns the packages that a submission lists, by name; nil if it lists none.
func (db *DB) Packages(ctx context.Context, submission string) (map[string]string, error) {
	type system struct {
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"packages"`
	}
	all, err := one(ctx, db.r, func(s scanner) (v system, err error) { return v, s.Scan(jsonColumn{&v}) }, notFound("submission", submission),
		"SELECT system FROM submissions WHERE id = ?", submission)
	if err != nil || all.Packages == nil {
		return nil, err
	}
	out := make(map[string]string, len(all.Packages))
	for _, p := range all.Packages {
		out[p.Name] = p.Version
	}
	return out, nil
}
