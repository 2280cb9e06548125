package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// A BadFile is a file of a run whose bytes are missing or altered.
type BadFile struct {
	Run      string
	Machine  string // id
	Hostname string
	cert.File
	Reason string
	Found  time.Time
	Upload bool   // a person added it: no machine can be asked
	Gone   string // why its machine cannot send it again; empty: it has not said so
}

// MarkBad records that a file's bytes are missing or altered. What was recorded before stays.
func (db *DB) MarkBad(ctx context.Context, sha, reason string, now time.Time) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO bad_files (sha256, reason, found) VALUES (?, ?, ?) ON CONFLICT (sha256) DO NOTHING", sha, reason, micros(now))
		if err != nil {
			return fmt.Errorf("cannot record a damaged file: %w", err)
		}
		return nil
	})
}

// MarkGood records that a file's bytes are what they should be.
func (db *DB) MarkGood(ctx context.Context, sha string) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		for _, table := range []string{"bad_files", "gone_files"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE sha256 = ?", sha); err != nil {
				return fmt.Errorf("cannot record a repaired file: %w", err)
			}
		}
		return nil
	})
}

// MarkGone records that a run's machine cannot send a file again.
func (db *DB) MarkGone(ctx context.Context, run string, attempt int, sha, reason string, now time.Time) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO gone_files (run, attempt, sha256, reason, said) SELECT run, attempt, sha256, ?, ? FROM files
			WHERE run = ? AND attempt = ? AND sha256 = ? ON CONFLICT DO NOTHING`, reason, micros(now), run, attempt, sha)
		if err != nil {
			return fmt.Errorf("cannot record a file that is gone: %w", err)
		}
		return nil
	})
}

// BadFiles returns the runs' files whose bytes are bad, up to limit.
func (db *DB) BadFiles(ctx context.Context, limit int) ([]BadFile, error) {
	return db.badFiles(ctx, "", limit)
}

// Wanted returns the bad files that a machine can be asked for, up to limit.
func (db *DB) Wanted(ctx context.Context, machine string, limit int) ([]BadFile, error) {
	return db.badFiles(ctx, "WHERE r.machine = ? AND r.origin <> 'upload' AND g.reason IS NULL", limit, machine)
}

func (db *DB) badFiles(ctx context.Context, where string, limit int, args ...any) ([]BadFile, error) {
	return list(ctx, db.r, func(s scanner) (b BadFile, err error) {
		err = s.Scan(&b.Run, &b.Machine, &b.Hostname, &b.Attempt, &b.Kind, &b.Name, &b.SHA256, &b.Size, timeColumn{&b.Received}, &b.Submission, &b.Reason,
			timeColumn{&b.Found}, &b.Upload, &b.Gone)
		return b, err
	}, `SELECT f.run, r.machine, m.hostname, f.attempt, f.kind, f.name, f.sha256, f.size, f.received, f.submission, b.reason, b.found, r.origin = 'upload',
		coalesce(g.reason, '') FROM bad_files b JOIN files f ON f.sha256 = b.sha256 JOIN runs r ON r.id = f.run JOIN machines m ON m.id = r.machine
		LEFT JOIN gone_files g ON g.run = f.run AND g.attempt = f.attempt AND g.sha256 = f.sha256
		`+where+` ORDER BY b.found, f.run, f.attempt, f.name LIMIT ?`, append(args, limit)...)
}

// BadHashes returns the hashes of all runs' files whose bytes are bad.
func (db *DB) BadHashes(ctx context.Context) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		"SELECT sha256 FROM bad_files b WHERE EXISTS (SELECT 1 FROM files f WHERE f.sha256 = b.sha256)")
}

// FilesOf returns the runs' files with that hash.
func (db *DB) FilesOf(ctx context.Context, sha string) ([]BadFile, error) {
	return list(ctx, db.r, func(s scanner) (b BadFile, err error) {
		err = s.Scan(&b.Run, &b.Machine, &b.Hostname, &b.Attempt, &b.Kind, &b.Name, &b.SHA256, &b.Size, timeColumn{&b.Received}, &b.Submission)
		return b, err
	}, `SELECT f.run, r.machine, m.hostname, f.attempt, f.kind, f.name, f.sha256, f.size, f.received, f.submission
		FROM files f JOIN runs r ON r.id = f.run JOIN machines m ON m.id = r.machine WHERE f.sha256 = ? ORDER BY f.run, f.attempt`, sha)
}

// LostRuns returns up to limit runs that began before an epoch, are not over, and of which their machine has said nothing since before
// then; of one machine, or of all if machine is empty. Orders that no machine has spoken of are not among them.
func (db *DB) LostRuns(ctx context.Context, machine string, before time.Time, limit int) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, `SELECT r.id FROM runs r WHERE r.state IN ('queued', 'running')
		AND (?1 = '' OR r.machine = ?1) AND (SELECT max(updated) FROM attempts a WHERE a.run = r.id) < ?2 LIMIT ?3`, machine, micros(before), limit)
}

// SilentCancelled returns up to limit runs that were to be cancelled, are not over, and of which their machine has said nothing since before then.
func (db *DB) SilentCancelled(ctx context.Context, before time.Time, limit int) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, `SELECT r.id FROM runs r WHERE r.state IN ('queued', 'running')
		AND r.cancel_requested AND (SELECT max(updated) FROM attempts a WHERE a.run = r.id) < ?1 LIMIT ?2`, micros(before), limit)
}
