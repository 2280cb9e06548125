// Package sqlite is Certlab's database: one SQLite file in the controller's storage.
//
// Writes go through one connection, one transaction at a time; reads have connections of their own and see the last commit. The
// journal is a write-ahead log with synchronous=FULL: when a method that writes has returned, a power cut does not undo it.
// The schema's version only goes up (see migrate.go).
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"certlab/internal/cert"
)

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	path string
	w    *sql.DB // one connection
	r    reads

	gate      sync.RWMutex // held for reading by each write
	refusal   string       // why no write is taken; empty: they are
	damage    atomic.Pointer[Damage]
	full      atomic.Bool // the last write failed for want of room
	frozen    atomic.Bool // the last write failed because the file system is read-only
	onTrouble func()
	onStep    func(step string)
	onRun     atomic.Pointer[func(*FleetTx, string) error]
	changes   atomic.Int64
	documents documents
	memos     memos
	moves     moves
	jobs      jobWords
}

// reads are the connections that read. What they find out about the storage is noted.
type reads struct {
	*sql.DB
	db *DB
}

// readers bounds the connections that read.
const readers = 4

// Open opens the database at path, makes it if there is none, and brings its schema up to Version. A *NewerError means that a
// later release wrote it; it was not touched.
func Open(ctx context.Context, path string) (*DB, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("cannot open database %s: %w", path, err)
	}
	db, err := open(path)
	if err != nil {
		return nil, err
	}
	err = db.loadDamage()
	if err == nil {
		err = db.migrate(ctx)
	}
	if err == nil && db.damage.Load() == nil {
		err = db.makeEpoch(ctx)
	}
	if err != nil {
		db.Close()
		if Damaged(err) {
			return nil, fmt.Errorf("cannot open database %s: it is damaged (%s): %w", path, repairHint, err)
		}
		return nil, err
	}
	return db, nil
}

// OpenExisting opens a database of any version up to this one as it is, to read it. It fails with fs.ErrNotExist if there is none.
func OpenExisting(ctx context.Context, path string) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("cannot open database: %w", err)
	}
	db, err := open(path)
	if err != nil {
		return nil, err
	}
	version, err := db.Schema(ctx)
	if err == nil && version > Version {
		err = &NewerError{Path: path, Schema: version}
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// create makes the file with a private mode, before the driver would with the umask's.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// dsn returns the driver's name for the database at path, with the settings that every connection has.
func dsn(path, extra string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" + extra
}

func open(path string) (*DB, error) {
	w, err := sql.Open("sqlite", dsn(path, "&_txlock=immediate"))
	if err != nil {
		return nil, fmt.Errorf("cannot open database %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	r, err := sql.Open("sqlite", dsn(path, "&_pragma=query_only(1)"))
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot open database %s: %w", path, err)
	}
	r.SetMaxOpenConns(readers)
	db := &DB{path: path, w: w}
	db.r = reads{r, db}
	return db, nil
}

// Close closes the database.
func (db *DB) Close() error {
	return errors.Join(db.r.Close(), db.w.Close())
}

// write runs fn in one transaction, which is durable when write returns nil.
func (db *DB) write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	db.gate.RLock()
	defer db.gate.RUnlock()
	if err := db.writable(); err != nil {
		return err
	}
	if err := db.transact(ctx, fn); err != nil {
		return db.note("writing", err)
	}
	db.step("committed")
	if full, frozen := db.full.Swap(false), db.frozen.Swap(false); full || frozen {
		db.troubled()
	}
	return nil
}

func (db *DB) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", err)
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	db.step("commit")
	defer db.changes.Add(1) // also if it fails: what became of it is not known
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	return nil
}

// Changes counts the transactions that were committed. What was read when it was the same still holds.
func (db *DB) Changes() int64 { return db.changes.Load() }

// OnStep has fn called before and after each transaction and its commit, where tests cut the power. It is set before the database is used.
func (db *DB) OnStep(fn func(step string)) { db.onStep = fn }

func (db *DB) step(name string) {
	if db.onStep != nil {
		db.onStep(name)
	}
}

// noted looks at an error of a query as DB.note does. Those of a transaction are looked at by write.
func noted(q query, text string, err error) error {
	if r, ok := q.(reads); ok {
		return r.db.note(tableOf(text), err)
	}
	return err
}

var fromPattern = regexp.MustCompile(`(?i)\bFROM\s+([a-z_]+)`)

// tableOf names the first table of a query, for people.
func tableOf(text string) string {
	if m := fromPattern.FindStringSubmatch(text); m != nil {
		return "table " + m[1]
	}
	return "reading"
}

// query is what reading needs: *sql.DB and *sql.Tx have it.
type query interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
}

// list scans each row of a query.
func list[T any](ctx context.Context, q query, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, noted(q, text, fmt.Errorf("cannot query the database: %w", err))
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, noted(q, text, fmt.Errorf("cannot read the database: %w", err))
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, noted(q, text, fmt.Errorf("cannot read the database: %w", err))
	}
	return out, nil
}

type scanner interface{ Scan(dest ...any) error }

// one scans the only row of a query; missing is the error if there is none.
func one[T any](ctx context.Context, q query, scan func(scanner) (T, error), missing error, text string, args ...any) (T, error) {
	v, err := scan(q.QueryRowContext(ctx, text, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, missing
	}
	if err != nil {
		return v, noted(q, text, fmt.Errorf("cannot read the database: %w", err))
	}
	return v, nil
}

// Times are stored as microseconds since 1970, null for none.

func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func microsPtr(t *time.Time) any {
	if t == nil {
		return nil
	}
	return micros(*t)
}

type timeColumn struct{ to *time.Time }

func (c timeColumn) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*c.to = time.Time{}
	case int64:
		*c.to = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("unexpected type %T of a time", v)
	}
	return nil
}

type timePtrColumn struct{ to **time.Time }

func (c timePtrColumn) Scan(v any) error {
	if v == nil {
		*c.to = nil
		return nil
	}
	var t time.Time
	if err := (timeColumn{&t}).Scan(v); err != nil {
		return err
	}
	*c.to = &t
	return nil
}

type jsonColumn struct{ to any }

func (c jsonColumn) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		if v == "" {
			return nil
		}
		return json.Unmarshal([]byte(v), c.to)
	case []byte:
		return json.Unmarshal(v, c.to)
	default:
		return fmt.Errorf("unexpected type %T of JSON", v)
	}
}

// mustJSON encodes values of our own types, none of which can fail.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func notFound(what, id string) error {
	return cert.Errorf(cert.NotFound, "there is no %s %q", what, id)
}
