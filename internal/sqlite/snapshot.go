package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
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

// Check looks for damage in the database: pages, indexes, and rows that refer to none. It returns what it finds.
func (db *DB) Check(ctx context.Context) ([]string, error) {
	problems, err := db.integrity(ctx, 100)
	if Damaged(err) {
		return []string{err.Error()}, nil
	}
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	orphans, err := list(ctx, db.r, func(s scanner) (v string, err error) {
		var row, parent, key any
		return v, s.Scan(&v, &row, &parent, &key)
	}, "PRAGMA foreign_key_check")
	if err != nil {
		return nil, err
	}
	if len(orphans) > 0 {
		problems = append(problems, fmt.Sprintf("%d rows refer to nothing, the first in table %s", len(orphans), orphans[0]))
	}
	return problems, nil
}

// integrity returns up to limit problems that SQLite finds in the whole database, with the names of tables in place of their numbers.
func (db *DB) integrity(ctx context.Context, limit int) ([]string, error) {
	text := func(s scanner) (v string, err error) { return v, s.Scan(&v) }
	found, err := list(ctx, db.r.DB, text, fmt.Sprintf("PRAGMA integrity_check(%d)", limit))
	if err != nil {
		return nil, err
	}
	if len(found) == 1 && found[0] == "ok" {
		return nil, nil
	}
	type root struct {
		name string
		page int
	}
	// Best effort: the list of tables may be what is damaged.
	roots, _ := list(ctx, db.r.DB, func(s scanner) (r root, err error) { return r, s.Scan(&r.name, &r.page) },
		"SELECT type || ' ' || name, rootpage FROM sqlite_schema WHERE rootpage > 0")
	names := make(map[string]string, len(roots))
	for _, r := range roots {
		names[fmt.Sprint(r.page)] = r.name
	}
	var problems []string
	for _, f := range found {
		for line := range strings.Lines(f) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "*** in database") {
				continue
			}
			if m := treePattern.FindStringSubmatch(line); m != nil && names[m[1]] != "" {
				line = names[m[1]] + line[len(m[0]):]
			}
			problems = append(problems, line)
		}
	}
	return problems, nil
}

// treePattern is how SQLite names a table or an index: by the number of its first page.
var treePattern = regexp.MustCompile(`^Tree (\d+)`)
