package sqlite

import (
	"context"

	"certlab/internal/cert"
)

// FindingsOf returns findings by their ids, in no order.
func (db *DB) FindingsOf(ctx context.Context, ids []string) ([]cert.Finding, error) {
	return list(ctx, db.r, scanFinding, "SELECT data FROM findings WHERE id IN (SELECT value FROM json_each(?))", mustJSON(ids))
}

// A CountedSubmission is one that a campaign counts.
type CountedSubmission struct {
	Seq     int64
	Machine string
}

// Counted returns the submissions that a campaign counts.
func (db *DB) Counted(ctx context.Context, campaign string) ([]CountedSubmission, error) {
	return list(ctx, db.r, func(s scanner) (c CountedSubmission, err error) { return c, s.Scan(&c.Seq, &c.Machine) },
		"SELECT s.seq, s.machine FROM targets t JOIN submissions s ON s.id = t.submission WHERE t.campaign = ? AND t.submission <> '' ORDER BY s.seq", campaign)
}

// An OutcomeRow is what became of a job, by the job's number.
type OutcomeRow struct {
	Job      int64
	Outcome  string
	Comments string // where it was skipped
	Reason   string
}

// Outcomes returns what became of the tests of a submission.
func (db *DB) Outcomes(ctx context.Context, seq int64) ([]OutcomeRow, error) {
	return list(ctx, db.r, func(s scanner) (o OutcomeRow, err error) {
		return o, s.Scan(&o.Job, &o.Outcome, &o.Comments, &o.Reason)
	},
		`SELECT r.job, r.outcome, CASE WHEN r.outcome IN ('pass', 'fail', 'crash') THEN '' ELSE r.comments END, CASE WHEN r.outcome IN ('pass', 'fail', 'crash') THEN '' ELSE r.skip_reason END
		FROM results r WHERE r.submission = ?`, seq)
}

// A JobWord is what is known of a job by its number.
type JobWord struct {
	Number  int64
	Job     string
	Section string
	Status  string
}

// JobWords returns what is known of all jobs after a number: descriptions are never changed.
func (db *DB) JobWords(ctx context.Context, after int64) ([]JobWord, error) {
	return list(ctx, db.r, func(s scanner) (j JobWord, err error) { return j, s.Scan(&j.Number, &j.Job, &j.Section, &j.Status) },
		"SELECT id, job, section, status FROM jobs WHERE id > ? ORDER BY id", after)
}
