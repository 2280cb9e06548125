package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

const runColumns = `r.id, r.machine, m.hostname, r.origin, r.requested_by, r.spec, r.state, r.created, r.started, r.finished, r.handed_out,
	r.cancel_requested, r.failure, r.counts, r.seq,
	coalesce((SELECT id FROM submissions s WHERE s.run = r.id ORDER BY s.seq DESC LIMIT 1), ''),
	coalesce((SELECT counts FROM submissions s WHERE s.run = r.id AND +s.index_state = 'indexed' ORDER BY s.seq DESC LIMIT 1), ''), r.reservation, r.no_manifest,
	r.repeats, coalesce((SELECT id FROM runs n WHERE n.repeats = r.id AND n.repeats <> ''), '')`

const runTables = " FROM runs r JOIN machines m ON m.id = r.machine"

type runRow struct {
	cert.Run
	seq int64
	own cert.Counts // as stored with the run
}

func scanRun(s scanner) (r runRow, err error) {
	var indexed cert.Counts
	err = s.Scan(&r.ID, &r.Machine, &r.Hostname, &r.Origin, &r.RequestedBy, jsonColumn{&r.Spec}, &r.State, timeColumn{&r.Created},
		timePtrColumn{&r.Started}, timePtrColumn{&r.Finished}, timePtrColumn{&r.HandedOut}, &r.CancelRequested, jsonColumn{&r.Failure},
		jsonColumn{&r.own}, &r.seq, &r.Submission, jsonColumn{&indexed}, &r.Reservation, &r.NoManifest, &r.Repeats, &r.RepeatedBy)
	r.Counts = r.own
	if indexed != nil && r.State == cert.Completed { // a failed run's archive is evidence, not its results
		r.Counts = indexed
	}
	r.Attempts, r.Files = []cert.Attempt{}, []cert.File{}
	return r, err
}

func scanAttempt(s scanner) (a cert.Attempt, err error) {
	a.Interruptions = []cert.Interruption{}
	err = s.Scan(&a.Number, &a.Sequence, &a.State, timeColumn{&a.Updated}, jsonColumn{&a.Progress}, &a.BootID, &a.CheckboxVersion,
		jsonColumn{&a.Interruptions}, &a.Suspect, jsonColumn{&a.Subject})
	return a, err
}

func scanFile(s scanner) (f cert.File, err error) {
	err = s.Scan(&f.Attempt, &f.Kind, &f.Name, &f.SHA256, &f.Size, timeColumn{&f.Received}, &f.Submission)
	return f, err
}

// RunFilter selects runs. Empty fields select all.
type RunFilter struct {
	Machine string // id
	State   string
	Origin  string
	Plan    string
}

// Runs lists runs, the newest to the controller first, with their attempts but without their files.
func (db *DB) Runs(ctx context.Context, f RunFilter, p Page) ([]cert.Run, string, error) {
	var w where
	state, open := term{"r.state", f.State}, term{}
	if f.State == string(cert.Queued) || f.State == string(cert.Running) {
		state, open = open, state // few at any time
	}
	w.narrowest(term{"r.machine", f.Machine}, open, term{"r.plan", f.Plan}, state, term{"r.origin", f.Origin})
	var before int64
	if more, err := p.parse("r", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("r.seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanRun, "SELECT "+runColumns+runTables+w.String()+" ORDER BY r.seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("r", rows[p.Limit-1].seq)
	}
	out := make([]cert.Run, len(rows))
	for n := range rows {
		out[n] = rows[n].Run
	}
	return out, next, loadAllAttempts(ctx, db.r, out)
}

// loadAllAttempts gives each run its attempts, with one query: a page may have a thousand.
func loadAllAttempts(ctx context.Context, q query, runs []cert.Run) error {
	ids, at := make([]string, len(runs)), make(map[string]int, len(runs))
	for n, r := range runs {
		ids[n], at[r.ID] = r.ID, n
	}
	type row struct {
		run string
		cert.Attempt
	}
	all, err := list(ctx, q, func(s scanner) (r row, err error) {
		r.Attempt, err = scanAttempt(scanFunc(func(dest ...any) error { return s.Scan(append([]any{&r.run}, dest...)...) }))
		return r, err
	}, "SELECT run, "+attemptColumns+" FROM attempts WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, number", mustJSON(ids))
	for _, r := range all {
		n := at[r.run]
		runs[n].Attempts = append(runs[n].Attempts, r.Attempt)
	}
	if err != nil {
		return err
	}
	each := make([]*cert.Run, len(runs))
	for n := range runs {
		each[n] = &runs[n]
	}
	return loadLost(ctx, q, each...)
}

const attemptColumns = "number, sequence, state, updated, progress, boot_id, checkbox_version, interruptions, suspect, subject"

type scanFunc func(dest ...any) error

func (f scanFunc) Scan(dest ...any) error { return f(dest...) }

func loadAttempts(ctx context.Context, q query, r *runRow) (err error) {
	if r.Attempts, err = list(ctx, q, scanAttempt, "SELECT "+attemptColumns+" FROM attempts WHERE run = ? ORDER BY number", r.ID); err != nil {
		return err
	}
	return loadLost(ctx, q, &r.Run)
}

func loadRun(ctx context.Context, q query, id string) (runRow, error) {
	r, err := one(ctx, q, scanRun, notFound("run", id), "SELECT "+runColumns+runTables+" WHERE r.id = ?", id)
	if err != nil {
		return r, err
	}
	if err := loadAttempts(ctx, q, &r); err != nil {
		return r, err
	}
	if r.State == cert.Queued {
		if r.Waits, err = waitsFor(ctx, q, id); err != nil {
			return r, err
		}
	}
	r.Files, err = list(ctx, q, scanFile, "SELECT attempt, kind, name, sha256, size, received, submission FROM files WHERE run = ? ORDER BY attempt, kind DESC, name, sha256", id)
	return r, err
}

// Run returns a run with its attempts and files. It fails as NotFound, and as Gone if retention has removed it.
func (db *DB) Run(ctx context.Context, id string) (cert.Run, error) {
	r, err := loadRun(ctx, db.r, id)
	if cert.CodeOf(err) == cert.NotFound {
		if gone := removed(ctx, db.r, id); gone != nil {
			return r.Run, gone
		}
	}
	return r.Run, err
}

func removed(ctx context.Context, q query, id string) error {
	var n int
	err := q.QueryRowContext(ctx, "SELECT 1 FROM removed_runs WHERE id = ?", id).Scan(&n)
	switch {
	case err == nil:
		return cert.Errorf(cert.Gone, "run %s was removed: it was older than this site keeps results", id)
	case errors.Is(err, sql.ErrNoRows):
		return nil
	default:
		return noted(q, "FROM removed_runs", fmt.Errorf("cannot read runs: %w", err))
	}
}

// AddRun stores a new run. It fails as Conflict if there is one with that id.
func (db *DB) AddRun(ctx context.Context, run cert.Run) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := loadRun(ctx, tx, run.ID); cert.CodeOf(err) != cert.NotFound {
			if err != nil {
				return err
			}
			return cert.Errorf(cert.Conflict, "cannot add run %s: there is one already", run.ID)
		}
		if gone := removed(ctx, tx, run.ID); gone != nil {
			return gone
		}
		if err := insertRun(ctx, tx, &run); err != nil {
			return err
		}
		return db.ran(ctx, tx, &run, "")
	})
}

func insertRun(ctx context.Context, tx *sql.Tx, r *cert.Run) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO runs (id, machine, origin, requested_by, plan, spec, state, created, started, finished, handed_out,
		cancel_requested, failure, counts, no_manifest, repeats) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, r.ID, r.Machine, r.Origin, r.RequestedBy, r.Spec.Plan,
		mustJSON(r.Spec), r.State, micros(r.Created), microsPtr(r.Started), microsPtr(r.Finished), microsPtr(r.HandedOut), r.CancelRequested,
		mustJSON(r.Failure), mustJSON(r.Counts), r.NoManifest, r.Repeats)
	if err != nil {
		return fmt.Errorf("cannot store run %s: %w", r.ID, err)
	}
	return saveAttempts(ctx, tx, r, nil)
}

// saveAttempts stores the attempts that differ from before.
func saveAttempts(ctx context.Context, tx *sql.Tx, r *cert.Run, before []cert.Attempt) error {
	for n, a := range r.Attempts {
		if n < len(before) && mustJSON(before[n]) == mustJSON(a) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO attempts (run, number, sequence, state, updated, progress, boot_id, checkbox_version, interruptions, subject)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, number) DO UPDATE SET sequence = excluded.sequence, state = excluded.state,
			updated = excluded.updated, progress = excluded.progress, boot_id = excluded.boot_id, checkbox_version = excluded.checkbox_version,
			interruptions = excluded.interruptions, subject = excluded.subject`, r.ID, a.Number, a.Sequence, a.State, micros(a.Updated), mustJSON(a.Progress), a.BootID,
			a.CheckboxVersion, mustJSON(a.Interruptions), optionalJSON(a.Subject)); err != nil {
			return fmt.Errorf("cannot store attempt %d of run %s: %w", a.Number, r.ID, err)
		}
	}
	return nil
}

// UpdateRun loads a run, lets change alter it, and stores it, in one transaction. If there is none, absent makes it, or fails; a nil
// absent fails as NotFound. A run that retention has removed fails as Gone. Nothing is stored if change fails or returns false.
func (db *DB) UpdateRun(ctx context.Context, id string, absent func() (*cert.Run, error), change func(*cert.Run) (bool, error)) (cert.Run, error) {
	var out cert.Run
	err := db.write(ctx, func(tx *sql.Tx) error {
		row, err := loadRun(ctx, tx, id)
		fresh := false
		if cert.CodeOf(err) == cert.NotFound {
			if gone := removed(ctx, tx, id); gone != nil {
				return gone
			}
			if absent == nil {
				return err
			}
			made, err := absent()
			if err != nil {
				return err
			}
			row.Run, fresh = *made, true
		} else if err != nil {
			return err
		}
		before := append([]cert.Attempt(nil), row.Attempts...)
		run, was := row.Run, row.State
		if fresh {
			was = ""
		}
		shown := run.Counts
		run.Counts = row.own
		changed, err := change(&run)
		if err != nil {
			return err
		}
		out = run
		if shown != nil && !changed {
			out.Counts = shown
		}
		switch {
		case !changed:
			return nil
		case fresh:
			err = insertRun(ctx, tx, &run)
		default:
			err = storeRun(ctx, tx, &run, before)
		}
		if err != nil {
			return err
		}
		return db.ran(ctx, tx, &run, was)
	})
	return out, err
}

// OnRun has fn called in each transaction that begins a run or ends one, with the id of its machine: what the machine is for has changed. Where
// fn fails, nothing of the transaction is stored.
func (db *DB) OnRun(fn func(tx *FleetTx, machine string) error) { db.onRun.Store(&fn) }

// ran calls what OnRun was given if a run has begun or ended; it was in state was.
func (db *DB) ran(ctx context.Context, tx *sql.Tx, run *cert.Run, was cert.State) error {
	fn := db.onRun.Load()
	if fn == nil || (was == cert.Running) == (run.State == cert.Running) {
		return nil
	}
	return (*fn)(&FleetTx{ctx, tx, db}, run.Machine)
}

// storeRun stores a run that there is; its attempts were before.
func storeRun(ctx context.Context, tx *sql.Tx, run *cert.Run, before []cert.Attempt) error {
	if _, err := tx.ExecContext(ctx, `UPDATE runs SET plan = ?, spec = ?, state = ?, started = ?, finished = ?, handed_out = ?, cancel_requested = ?,
		failure = ?, counts = ?, no_manifest = ? WHERE id = ?`, run.Spec.Plan, mustJSON(run.Spec), run.State, microsPtr(run.Started), microsPtr(run.Finished),
		microsPtr(run.HandedOut), run.CancelRequested, mustJSON(run.Failure), mustJSON(run.Counts), run.NoManifest, run.ID); err != nil {
		return fmt.Errorf("cannot store run %s: %w", run.ID, err)
	}
	return saveAttempts(ctx, tx, run, before)
}

// OpenRuns returns the runs of a machine that its agent has something to do for: orders that it has not reported, and runs that it
// has to cancel. Oldest first.
func (db *DB) OpenRuns(ctx context.Context, machine string, limit int) (orders, cancel []cert.Run, err error) {
	rows, err := list(ctx, db.r, scanRun, "SELECT "+runColumns+runTables+` WHERE r.machine = ?1 AND (r.state IN ('queued', 'running'))
		AND (r.cancel_requested OR (r.origin = 'order' AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.run = r.id)))
		UNION ALL SELECT `+runColumns+runTables+` WHERE r.machine = ?1 AND +r.state = 'cancelled' AND r.cancel_requested
		AND EXISTS (SELECT 1 FROM attempts a WHERE a.run = r.id AND a.state IN ('queued', 'running'))
		ORDER BY 15 LIMIT ?2`, machine, limit)
	if err != nil {
		return nil, nil, err
	}
	for n := range rows {
		if err := loadAttempts(ctx, db.r, &rows[n]); err != nil {
			return nil, nil, err
		}
		switch r := rows[n].Run; {
		case r.CancelPending():
			cancel = append(cancel, r)
		case !r.CancelRequested && len(r.Attempts) == 0:
			orders = append(orders, r)
		}
	}
	return orders, cancel, nil
}

// RunCounts returns how many runs are in each state.
func (db *DB) RunCounts(ctx context.Context) (map[string]int, error) {
	return db.countBy(ctx, "SELECT state, count(*) FROM runs GROUP BY state")
}

func (db *DB) countBy(ctx context.Context, text string) (map[string]int, error) {
	type pair struct {
		key string
		n   int
	}
	rows, err := list(ctx, db.r, func(s scanner) (p pair, err error) { return p, s.Scan(&p.key, &p.n) }, text)
	out := make(map[string]int, len(rows))
	for _, r := range rows {
		out[r.key] = r.n
	}
	return out, err
}

// evidence is true of a run that a campaign rests on which is open or has a verdict: one of its tries, or the baseline of one of its comparisons. Such a
// run stays however old it is, with its files: a verdict is only worth what can be shown for it. Of campaigns that were cancelled or superseded
// nothing is kept.
const evidence = `(EXISTS (SELECT 1 FROM tries t JOIN campaigns c ON c.id = t.campaign WHERE t.run = runs.id AND c.state NOT IN ('cancelled', 'superseded'))
	OR EXISTS (SELECT 1 FROM targets g INDEXED BY targets_machine JOIN campaigns c ON c.id = g.campaign WHERE g.machine = runs.machine
		AND json_extract(g.data, '$.compared.baseline.run') = runs.id AND c.state NOT IN ('cancelled', 'superseded')))`

// RemoveRuns removes up to limit runs that were over before then, by their machines' clocks and by this one's, with their results, and remembers their ids. It returns how
// many it removed and the hashes of their files, which the caller may remove if Used says that nothing else names them. What is evidence stays.
func (db *DB) RemoveRuns(ctx context.Context, then, now time.Time, limit int) (int, []string, error) {
	var ids, files []string
	text := func(s scanner) (v string, err error) { return v, s.Scan(&v) }
	err := db.write(ctx, func(tx *sql.Tx) error {
		var err error
		if ids, err = list(ctx, tx, text, `SELECT id FROM runs WHERE finished < ?1
			AND coalesce((SELECT max(updated) FROM attempts a WHERE a.run = runs.id), 0) < ?1 AND NOT `+evidence+` ORDER BY finished LIMIT ?2`, micros(then), limit); err != nil || len(ids) == 0 {
			return err
		}
		chosen := mustJSON(ids)
		if files, err = list(ctx, tx, text, "SELECT DISTINCT sha256 FROM files WHERE run IN (SELECT value FROM json_each(?))", chosen); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO removed_runs (id, machine, removed) SELECT id, machine, ? FROM runs WHERE id IN (SELECT value FROM json_each(?))",
			micros(now), chosen); err != nil {
			return fmt.Errorf("cannot remember removed runs: %w", err)
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM runs WHERE id IN (SELECT value FROM json_each(?))", chosen); err != nil {
			return fmt.Errorf("cannot remove runs: %w", err)
		}
		return nil
	})
	return len(ids), files, err
}

// Used reports whether a file's hash is named by any run.
func (db *DB) Used(ctx context.Context, sha string) (bool, error) {
	var n int
	err := db.w.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM files WHERE sha256 = ?)", sha).Scan(&n)
	if err != nil {
		return false, db.note("table files", fmt.Errorf("cannot read files: %w", err))
	}
	return n == 1, nil
}

// EachFile calls fn with the hash and size of every file that is named by a run, each hash once.
func (db *DB) EachFile(ctx context.Context, fn func(sha string, size int64) error) error {
	after := ""
	for {
		files, err := db.FilesAfter(ctx, after, 1000)
		if err != nil || len(files) == 0 {
			return err
		}
		for _, f := range files {
			if err := fn(f.SHA256, f.Size); err != nil {
				return err
			}
			after = f.SHA256
		}
	}
}

// FilesAfter returns the next files that are named by a run, in the order of their hashes, each hash once.
func (db *DB) FilesAfter(ctx context.Context, sha string, limit int) ([]Stored, error) {
	return list(ctx, db.r, func(s scanner) (f Stored, err error) { return f, s.Scan(&f.SHA256, &f.Size) },
		"SELECT sha256, max(size) FROM files WHERE sha256 > ? GROUP BY sha256 ORDER BY sha256 LIMIT ?", sha, limit)
}

// Stored is a file's bytes.
type Stored struct {
	SHA256 string
	Size   int64
}
