package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// scanRows is how many rows one step of Scan reads: some milliseconds, during which it holds no lock that a writer needs.
const scanRows = 200

// A source is a table or an index, read from one end to the other in pieces.
type source struct {
	name  string   // for people
	from  string   // after FROM
	keys  []string // columns that order it and tell its rows apart
	size  string   // expression that makes SQLite read the whole row
	where string   // of a partial index, and that no key is null; may be empty
}

// Scan reads every table and every index in small steps and calls pause after each, which bounds its rate. It notes damage that it
// comes upon, as any other query does, and goes on with the next table.
func (db *DB) Scan(ctx context.Context, pause func(context.Context) error) error {
	sources, err := db.sources(ctx)
	if err != nil {
		return err
	}
	for _, s := range sources {
		if err := db.scan(ctx, s, pause); err != nil && !Damaged(err) {
			return fmt.Errorf("cannot check %s: %w", s.name, err)
		}
	}
	return nil
}

func (db *DB) scan(ctx context.Context, s source, pause func(context.Context) error) error {
	var last []any
	for {
		n, err := s.step(ctx, db.r.DB, &last, false)
		if err != nil {
			return db.note(s.name, err)
		}
		if n < scanRows {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// step reads the rows after last, and leaves the last one's key there. It returns how many they were.
func (s source) step(ctx context.Context, q query, last *[]any, descending bool) (int, error) {
	var w where
	if s.where != "" {
		w.add(s.where)
	}
	order, sign := "", ">"
	if descending {
		order, sign = " DESC", "<"
	}
	if *last != nil {
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(s.keys)), ", ")
		w.add("("+strings.Join(s.keys, ", ")+") "+sign+" ("+marks+")", *last...)
	}
	rows, err := q.QueryContext(ctx, "SELECT "+strings.Join(append(s.keys[:len(s.keys):len(s.keys)], s.size), ", ")+" FROM "+s.from+w.String()+
		" ORDER BY "+strings.Join(s.keys, order+", ")+order+fmt.Sprintf(" LIMIT %d", scanRows), w.args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		key := make([]any, len(s.keys))
		to := make([]any, len(s.keys)+1)
		for i := range key {
			to[i] = &key[i]
		}
		to[len(key)] = new(any)
		if err := rows.Scan(to...); err != nil {
			return n, err
		}
		*last = key
		n++
	}
	return n, rows.Err()
}

// A column of a table or an index, as SQLite describes it.
type column struct {
	name string
	null bool
	key  int // place in the primary key, from 1; 0: none
}

func columns(ctx context.Context, q query, table string) ([]column, error) {
	return list(ctx, q, func(s scanner) (c column, err error) {
		var notNull bool
		err = s.Scan(&c.name, &notNull, &c.key)
		c.null = !notNull && c.key == 0
		return c, err
	}, `SELECT name, "notnull", pk FROM pragma_table_info(?)`, table)
}

// sources returns the tables and their indexes.
func (db *DB) sources(ctx context.Context) ([]source, error) {
	type object struct{ kind, name, table, text string }
	all, err := list(ctx, db.r, func(s scanner) (o object, err error) { return o, s.Scan(&o.kind, &o.name, &o.table, &o.text) },
		"SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema WHERE type IN ('table', 'index') AND rootpage > 0 AND name NOT LIKE 'sqlite_s%' ORDER BY tbl_name, type DESC, name")
	if err != nil {
		return nil, err
	}
	var out []source
	for _, o := range all {
		if o.kind == "table" {
			s, err := tableSource(ctx, db.r, o.name, strings.Contains(o.text, "WITHOUT ROWID"))
			if err != nil {
				return nil, err
			}
			out = append(out, s)
			continue
		}
		cols, err := columns(ctx, db.r, o.table)
		if err != nil {
			return nil, err
		}
		s := source{name: "index " + o.name + " of table " + o.table, from: o.table + " INDEXED BY " + o.name, size: "1"}
		names, err := list(ctx, db.r, func(s scanner) (v sql.NullString, err error) { return v, s.Scan(&v) }, "SELECT name FROM pragma_index_xinfo(?) ORDER BY seqno", o.name)
		if err != nil {
			return nil, err
		}
		var conditions []string
		for _, name := range names {
			if !name.Valid {
				name.String = "rowid"
			}
			s.keys = append(s.keys, name.String)
			for _, c := range cols {
				if c.name == name.String && c.null {
					conditions = append(conditions, c.name+" IS NOT NULL")
				}
			}
		}
		if _, partial, ok := strings.Cut(o.text, " WHERE "); ok {
			conditions = append(conditions, partial)
		}
		s.where = strings.Join(conditions, " AND ")
		out = append(out, s)
	}
	return out, nil
}

func tableSource(ctx context.Context, q query, table string, withoutRowid bool) (source, error) {
	cols, err := columns(ctx, q, table)
	s := source{name: "table " + table, from: table, keys: []string{"rowid"}}
	if withoutRowid {
		s.keys = nil
		for n := 1; n <= len(cols); n++ {
			for _, c := range cols {
				if c.key == n {
					s.keys = append(s.keys, c.name)
				}
			}
		}
	}
	var sizes []string
	for _, c := range cols {
		sizes = append(sizes, "coalesce(length("+c.name+"), 0)")
	}
	s.size = strings.Join(sizes, " + ")
	return s, err
}
