package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// A PastRun is a submission as rules on results see it.
type PastRun struct {
	Seq        int64
	Submission string
	Machine    string
	Hostname   string
	Plan       string
	Kernel     string
	Series     string
	Received   time.Time
	Subject    *order.Subject
	Campaign   string // id; empty: of none
}

// PastRuns returns indexed submissions before seq (0: the newest), the newest first.
func (db *DB) PastRuns(ctx context.Context, before int64, limit int) ([]PastRun, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	return list(ctx, db.r, func(s scanner) (p PastRun, err error) {
		var subject sql.NullString
		err = s.Scan(&p.Seq, &p.Submission, &p.Machine, &p.Hostname, &p.Plan, &p.Kernel, &p.Series, timeColumn{&p.Received}, &subject, &p.Campaign)
		if err == nil && subject.String != "" {
			err = jsonColumn{&p.Subject}.Scan(subject.String)
		}
		return p, err
	}, `SELECT s.seq, s.id, s.machine, m.hostname, s.plan, s.kernel, s.series, s.received, r.spec ->> '$.subject', coalesce(t.campaign, '') FROM submissions s
		JOIN machines m ON m.id = s.machine JOIN runs r ON r.id = s.run LEFT JOIN tries t ON t.run = s.run
		WHERE s.seq < ? AND +s.index_state = 'indexed' ORDER BY s.seq DESC LIMIT ?`, before, limit)
}

// A PastFailure is a result that failed, of a job by its number in the table of jobs.
type PastFailure struct {
	Submission int64
	Index      int
	Job        int64
	Outcome    string
	Log        int64 // 0: none
}

// fewPastJobs is how many jobs are looked up one by one.
const fewPastJobs = 100

// PastFailures returns what failed in the submissions from lo to hi, of some jobs, or of all if jobs is nil.
func (db *DB) PastFailures(ctx context.Context, lo, hi int64, jobs []int64) ([]PastFailure, error) {
	text, args := "SELECT submission, idx, job, outcome, coalesce(log, 0) FROM failures WHERE submission BETWEEN ? AND ?", []any{lo, hi}
	if jobs != nil && len(jobs) <= fewPastJobs {
		text = "SELECT submission, idx, job, outcome, coalesce(log, 0) FROM failures INDEXED BY failures_job WHERE job IN (SELECT value FROM json_each(?)) AND submission BETWEEN ? AND ?"
		args = []any{mustJSON(jobs), lo, hi}
	}
	return list(ctx, db.r, func(s scanner) (f PastFailure, err error) {
		return f, s.Scan(&f.Submission, &f.Index, &f.Job, &f.Outcome, &f.Log)
	}, text, args...)
}

// CountResults counts the stored results of submissions from lo to hi.
func (db *DB) CountResults(ctx context.Context, lo, hi int64) (n int, err error) {
	const text = "SELECT count(*) FROM results WHERE submission BETWEEN ? AND ?"
	if err := db.r.QueryRowContext(ctx, text, lo, hi).Scan(&n); err != nil {
		return 0, noted(db.r, text, fmt.Errorf("cannot count results: %w", err))
	}
	return n, nil
}

// A JobName is a job as submissions describe it.
type JobName struct {
	Number   int64
	Job      string
	Template string
}

// JobNames returns all jobs that submissions have described.
func (db *DB) JobNames(ctx context.Context) ([]JobName, error) {
	return list(ctx, db.r, func(s scanner) (j JobName, err error) { return j, s.Scan(&j.Number, &j.Job, &j.Template) }, "SELECT id, job, template_id FROM jobs")
}

// LogText returns a kept part of a log by its number.
func (db *DB) LogText(ctx context.Context, number int64) (string, error) {
	text, err := one(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, errGone, "SELECT text FROM logs WHERE id = ?", number)
	if errors.Is(err, errGone) {
		return "", nil
	}
	return text, err
}

// FindingsOfOpen returns the next findings, by their ids, of campaigns that are not final: those in need of attention.
func (db *DB) FindingsOfOpen(ctx context.Context, after string, limit int) ([]cert.Finding, error) {
	return list(ctx, db.r, scanFinding, "SELECT f.data FROM findings f NOT INDEXED CROSS JOIN campaigns c ON c.id = f.campaign WHERE f.id > ? AND f.attention = 1 AND c."+openCampaigns+" ORDER BY f.id LIMIT ?",
		after, limit)
}
