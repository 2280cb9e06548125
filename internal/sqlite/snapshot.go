package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Snapshot writes a consistent copy of the database to path, which must not exist. It needs no lock and does not hold up writers.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	// A connection of its own: the readers' may not write anything, and the writer's is not to be held up.
	c, err := sql.Open("sqlite", dsn(db.path, ""))
	if err != nil {
		return fmt.Errorf("cannot copy the database: %w", err)
	}
	defer c.Close()
	c.SetMaxOpenConns(1)
	if _, err := c.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("cannot copy the database: %w", err)
	}
	return nil
}

// Check looks for damage in the database: pages, indexes, and rows that refer to none.
func (db *DB) Check(ctx context.Context) error {
	text := func(s scanner) (v string, err error) { return v, s.Scan(&v) }
	problems, err := list(ctx, db.r, text, "PRAGMA integrity_check(20)")
	if err != nil {
		return err
	}
	if len(problems) != 1 || problems[0] != "ok" {
		return fmt.Errorf("the database is damaged (restore a backup): %s", strings.Join(problems, "; "))
	}
	orphans, err := list(ctx, db.r, func(s scanner) (v string, err error) {
		var row, parent, key any
		return v, s.Scan(&v, &row, &parent, &key)
	}, "PRAGMA foreign_key_check")
	if err != nil {
		return err
	}
	if len(orphans) > 0 {
		return fmt.Errorf("the database is damaged (restore a backup): %d rows refer to nothing, the first in table %s", len(orphans), orphans[0])
	}
	return nil
}
