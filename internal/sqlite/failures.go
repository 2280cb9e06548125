package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"certlab/internal/cert"
)

// saveFailures stores what is kept of the logs of a submission's results, after the results themselves.
func saveFailures(ctx context.Context, tx *sql.Tx, seq int64, all []cert.IndexedFailure) error {
	for _, f := range all {
		var log any
		if f.Excerpt != "" {
			id, err := saveLog(ctx, tx, f.Excerpt, f.Signature)
			if err != nil {
				return err
			}
			log = id
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO failures (submission, idx, job, outcome, doubt, log) SELECT submission, idx, job, ?, ?, ? FROM results
			WHERE submission = ? AND idx = ?`, f.Outcome, f.Doubt, log, seq, f.Index); err != nil {
			return fmt.Errorf("cannot store what is kept of the log of result %d: %w", f.Index, err)
		}
	}
	return nil
}

// saveLog stores a text once.
func saveLog(ctx context.Context, tx *sql.Tx, text, signature string) (int64, error) {
	sum := sha256.Sum256([]byte(signature + "\x00" + text))
	hash := hex.EncodeToString(sum[:])
	var id int64
	err := tx.QueryRowContext(ctx, "SELECT id FROM logs WHERE hash = ?", hash).Scan(&id)
	if err == nil {
		return id, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("cannot read logs: %w", err)
	}
	done, err := tx.ExecContext(ctx, "INSERT INTO logs (hash, signature, text) VALUES (?, ?, ?)", hash, signature, text)
	if err != nil {
		return 0, fmt.Errorf("cannot store a log: %w", err)
	}
	return done.LastInsertId()
}

// Excerpt returns what is kept of the log of a result; empty: nothing.
func (db *DB) Excerpt(ctx context.Context, submission string, index int) (string, error) {
	return excerpt(ctx, db.r, submission, index)
}

// Excerpt is DB.Excerpt in the transaction.
func (t *CampaignTx) Excerpt(submission string, index int) (string, error) {
	return excerpt(t.ctx, t.tx, submission, index)
}

func excerpt(ctx context.Context, q query, submission string, index int) (string, error) {
	text, err := one(ctx, q, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, errGone,
		"SELECT l.text FROM submissions s JOIN failures f ON f.submission = s.seq JOIN logs l ON l.id = f.log WHERE s.id = ? AND f.idx = ?", submission, index)
	if errors.Is(err, errGone) {
		err = nil
	}
	return text, err
}

// RemoveUnusedLogs removes up to limit texts that no result has any more, of those with ids from there on. It returns where to go on; 0: at the beginning.
func (db *DB) RemoveUnusedLogs(ctx context.Context, from int64, limit int) (next int64, err error) {
	err = db.write(ctx, func(tx *sql.Tx) error {
		ids, err := list(ctx, tx, func(s scanner) (id int64, err error) { return id, s.Scan(&id) }, "SELECT id FROM logs WHERE id >= ? ORDER BY id LIMIT ?", from, limit)
		if err != nil || len(ids) == 0 {
			return err
		}
		last := ids[len(ids)-1]
		if len(ids) == limit {
			next = last + 1
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM logs WHERE id BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM failures f WHERE f.log = logs.id)", from, last); err != nil {
			return fmt.Errorf("cannot remove logs: %w", err)
		}
		return nil
	})
	return next, err
}
