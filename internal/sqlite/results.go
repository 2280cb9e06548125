package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// ResultFilter selects results. Empty fields select all.
type ResultFilter struct {
	Machine    string // id
	Run        string
	Submission string
	Section    string // results, resources or attachments
	Job        string // prefix of the full job id
	Outcome    string
	Status     string // certification status
	Plan       string // of the submission
	Since      time.Time
}

const (
	resultColumns = `s.id, r.idx, s.run, s.machine, (SELECT hostname FROM machines m WHERE m.id = s.machine), j.section, j.job, j.name, r.outcome, j.status, j.category, j.plugin, j.template_id, r.duration,
	r.comments, r.skip_reason, r.log_size, s.seq, EXISTS (SELECT 1 FROM lost_jobs l WHERE l.run = s.run AND l.attempt = s.attempt AND l.job = j.job AND j.section = 'results'),
	(SELECT no_manifest FROM runs WHERE id = s.run)`
	resultTables = "results r JOIN submissions s ON s.seq = r.submission JOIN jobs j ON j.id = r.job"
)

type resultRow struct {
	cert.Result
	seq int64
}

func scanResult(s scanner) (r resultRow, err error) {
	err = s.Scan(&r.Submission, &r.Index, &r.Run, &r.Machine, &r.Hostname, &r.Section, &r.ID, &r.Name, &r.Outcome, &r.CertificationStatus, &r.Category, &r.Plugin, &r.TemplateID,
		&r.DurationSeconds, &r.Comments, &r.SkipReason, &r.LogSize, &r.seq, &r.MachineLost, &r.NoManifest)
	r.NoManifest = r.NoManifest && r.WantsManifest()
	return r, err
}

// Result returns one result of a submission. It fails as NotFound.
func (db *DB) Result(ctx context.Context, submission string, index int) (cert.Result, error) {
	r, err := one(ctx, db.r, scanResult, cert.Errorf(cert.NotFound, "there is no result %d in submission %q", index, submission),
		"SELECT "+resultColumns+" FROM "+resultTables+" WHERE s.id = ? AND r.idx = ?", submission, index)
	return r.Result, err
}

// jobKey is what submissions say of a job beyond its outcome.
type jobKey struct{ section, job, name, status, category, plugin, template string }

// saveResults stores the results of a submission that has none.
func saveResults(ctx context.Context, tx *sql.Tx, seq int64, all []cert.Result) error {
	find, err := tx.PrepareContext(ctx, `SELECT id FROM jobs WHERE job = ? AND section = ? AND name = ? AND status = ? AND category = ? AND plugin = ? AND template_id = ?`)
	if err != nil {
		return fmt.Errorf("cannot store results: %w", err)
	}
	defer find.Close()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO results (submission, idx, job, outcome, duration, comments, skip_reason, log_size) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return fmt.Errorf("cannot store results: %w", err)
	}
	defer insert.Close()
	for _, r := range all {
		k := jobKey{r.Section, r.ID, r.Name, r.CertificationStatus, r.Category, r.Plugin, r.TemplateID}
		var job int64
		err := find.QueryRowContext(ctx, k.job, k.section, k.name, k.status, k.category, k.plugin, k.template).Scan(&job)
		if err == sql.ErrNoRows {
			job, err = addJob(ctx, tx, k)
		}
		if err == nil {
			_, err = insert.ExecContext(ctx, seq, r.Index, job, r.Outcome, r.DurationSeconds, r.Comments, r.SkipReason, r.LogSize)
		}
		if err != nil {
			return fmt.Errorf("cannot store result %d: %w", r.Index, err)
		}
	}
	return nil
}

func addJob(ctx context.Context, tx *sql.Tx, k jobKey) (int64, error) {
	done, err := tx.ExecContext(ctx, "INSERT INTO jobs (section, job, name, status, category, plugin, template_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
		k.section, k.job, k.name, k.status, k.category, k.plugin, k.template)
	if err != nil {
		return 0, err
	}
	return done.LastInsertId()
}
