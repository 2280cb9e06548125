package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// metaKernels is where the kernels that are listed come from.
const metaKernels = "kernels"

// A KernelSource says where the listed kernels come from.
type KernelSource struct {
	Source  string     `json:"source"`
	Read    *time.Time `json:"read"`
	Problem string     `json:"problem,omitempty"`
}

// PutKernelNews replaces the list of kernels that are to be tested.
func (db *DB) PutKernelNews(ctx context.Context, kernels []cert.KernelNews, from KernelSource) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM kernel_news"); err != nil {
			return fmt.Errorf("cannot store kernels: %w", err)
		}
		for _, k := range kernels {
			k.Campaign = ""
			if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO kernel_news (subject, version, seen, data) VALUES (?, ?, ?, ?)", k.Subject.Key(), k.Subject.Version, micros(k.Seen), mustJSON(k)); err != nil {
				return fmt.Errorf("cannot store kernel %s: %w", k.Subject.Version, err)
			}
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", metaKernels, mustJSON(from))
		if err != nil {
			return fmt.Errorf("cannot store kernels: %w", err)
		}
		return nil
	})
}

// KernelNews returns the kernels that are listed, by series, source and version, each with the id of the newest campaign that is of it.
func (db *DB) KernelNews(ctx context.Context) ([]cert.KernelNews, KernelSource, error) {
	var from KernelSource
	if _, err := db.Meta(ctx, metaKernels, &from); err != nil {
		return nil, from, err
	}
	all, err := list(ctx, db.r, func(s scanner) (k cert.KernelNews, err error) {
		var campaign string
		err = s.Scan(jsonColumn{&k}, &campaign)
		k.Campaign = campaign
		return k, err
	}, `SELECT data, coalesce((SELECT c.id FROM campaigns c INDEXED BY campaigns_subject WHERE c.subject = k.subject AND c.version = k.version AND c.state NOT IN ('cancelled', 'superseded') ORDER BY c.seq DESC LIMIT 1), '')
		FROM kernel_news k ORDER BY subject, version`)
	return all, from, err
}
