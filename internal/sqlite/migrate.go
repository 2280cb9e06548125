package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks a SQLite file as Certlab's ("Cert" in ASCII).
const applicationID = 0x43657274

// Version is the schema version that this program writes.
var Version = len(migrations)

// migrations bring the schema from version n to n+1. They are never edited once released, and there is no way down.
var migrations = []string{`
CREATE TABLE machines (
	seq          INTEGER PRIMARY KEY AUTOINCREMENT,
	id           TEXT NOT NULL UNIQUE,
	key          TEXT NOT NULL UNIQUE,
	origin       TEXT NOT NULL,
	hostname     TEXT NOT NULL,
	architecture TEXT NOT NULL,
	system_id    TEXT NOT NULL,
	product_uuid TEXT NOT NULL,
	base         TEXT NOT NULL,
	kernel       TEXT NOT NULL,
	unit         TEXT NOT NULL, -- empty: none
	model_uuid   TEXT NOT NULL,
	created      INTEGER NOT NULL,
	seen         INTEGER
) STRICT;
CREATE INDEX machines_hostname ON machines (hostname);

CREATE TABLE runs (
	seq              INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which the controller learned of them
	id               TEXT NOT NULL UNIQUE,
	machine          TEXT NOT NULL REFERENCES machines (id),
	origin           TEXT NOT NULL,
	requested_by     TEXT NOT NULL,
	plan             TEXT NOT NULL,
	spec             TEXT NOT NULL, -- JSON
	state            TEXT NOT NULL,
	created          INTEGER NOT NULL,
	started          INTEGER,
	finished         INTEGER,
	handed_out       INTEGER,
	cancel_requested INTEGER NOT NULL,
	failure          TEXT NOT NULL, -- JSON
	counts           TEXT NOT NULL  -- JSON
) STRICT;
CREATE INDEX runs_machine ON runs (machine, seq);
CREATE INDEX runs_open ON runs (machine, state) WHERE state IN ('queued', 'running');
CREATE INDEX runs_finished ON runs (finished);

CREATE TABLE removed_runs (
	id      TEXT PRIMARY KEY,
	machine TEXT NOT NULL,
	removed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
	run              TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	number           INTEGER NOT NULL,
	sequence         INTEGER NOT NULL,
	state            TEXT NOT NULL,
	updated          INTEGER NOT NULL,
	progress         TEXT NOT NULL, -- JSON
	boot_id          TEXT NOT NULL,
	checkbox_version TEXT NOT NULL,
	interruptions    TEXT NOT NULL, -- JSON
	PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE submissions (
	seq              INTEGER PRIMARY KEY AUTOINCREMENT,
	id               TEXT NOT NULL UNIQUE,
	run              TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	attempt          INTEGER NOT NULL,
	machine          TEXT NOT NULL REFERENCES machines (id),
	sha256           TEXT NOT NULL,
	size             INTEGER NOT NULL,
	name             TEXT NOT NULL,
	received         INTEGER NOT NULL,
	added_by         TEXT NOT NULL,
	index_state      TEXT NOT NULL, -- pending, indexed, unreadable
	index_version    INTEGER NOT NULL,
	index_error      TEXT NOT NULL,
	plan             TEXT NOT NULL,
	title            TEXT NOT NULL,
	checkbox_version TEXT NOT NULL,
	counts           TEXT NOT NULL, -- JSON
	system           TEXT NOT NULL, -- JSON
	UNIQUE (run, attempt, sha256)
) STRICT;
CREATE INDEX submissions_machine ON submissions (machine, seq);
CREATE INDEX submissions_sha256 ON submissions (sha256);
CREATE INDEX submissions_pending ON submissions (seq) WHERE index_state = 'pending';

CREATE TABLE files (
	run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	attempt    INTEGER NOT NULL,
	sha256     TEXT NOT NULL,
	kind       TEXT NOT NULL,
	name       TEXT NOT NULL,
	size       INTEGER NOT NULL,
	received   INTEGER NOT NULL,
	submission TEXT NOT NULL, -- id; empty for other kinds
	PRIMARY KEY (run, attempt, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_sha256 ON files (sha256);

CREATE TABLE results (
	submission       INTEGER NOT NULL REFERENCES submissions (seq) ON DELETE CASCADE,
	idx              INTEGER NOT NULL,
	section          TEXT NOT NULL, -- results, resources or attachments
	job              TEXT NOT NULL,
	name             TEXT NOT NULL,
	outcome          TEXT NOT NULL,
	status           TEXT NOT NULL, -- certification status
	category         TEXT NOT NULL,
	plugin           TEXT NOT NULL,
	template_id      TEXT NOT NULL,
	duration         REAL NOT NULL, -- seconds
	comments         TEXT NOT NULL,
	skip_reason      TEXT NOT NULL,
	log_size         INTEGER NOT NULL, -- bytes
	PRIMARY KEY (submission, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_job ON results (job, submission);

CREATE TABLE attachments (
	submission INTEGER NOT NULL REFERENCES submissions (seq) ON DELETE CASCADE,
	idx        INTEGER NOT NULL,
	job        TEXT NOT NULL,
	name       TEXT NOT NULL,
	size       INTEGER NOT NULL,
	PRIMARY KEY (submission, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
	seq          INTEGER PRIMARY KEY AUTOINCREMENT,
	id           TEXT NOT NULL UNIQUE,
	name         TEXT NOT NULL,
	role         TEXT NOT NULL,
	code_hash    TEXT NOT NULL UNIQUE,
	code_expires INTEGER NOT NULL,
	hash         TEXT UNIQUE, -- null until the code was redeemed
	created      INTEGER NOT NULL,
	created_by   TEXT NOT NULL,
	redeemed     INTEGER,
	expires      INTEGER,
	last_used    INTEGER,
	revoked      INTEGER
) STRICT;
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked IS NULL;

CREATE TABLE sessions (
	hash    TEXT PRIMARY KEY,
	token   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, `
CREATE TABLE meta ( -- what is known of the data as a whole, and how far background work has come
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE bad_files ( -- files whose bytes are not what they should be
	sha256 TEXT PRIMARY KEY,
	reason TEXT NOT NULL,
	found  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE gone_files ( -- files that their machine cannot send again
	run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	attempt INTEGER NOT NULL,
	sha256  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	said    INTEGER NOT NULL,
	PRIMARY KEY (run, attempt, sha256)
) STRICT, WITHOUT ROWID;
`, normalResults, fleetTables, campaignTables}

// A NewerError says that a later release has written the database.
type NewerError struct {
	Path   string
	Schema int
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("cannot open database %s: a newer certlabd has written it (schema %d, this one knows up to %d): "+
		"refresh cert-controller to the revision that wrote it, or restore a backup made by this one", e.Path, e.Schema, Version)
}

// Schema returns the schema version of the database.
func (db *DB) Schema(ctx context.Context) (int, error) {
	var version int
	if err := db.w.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, fmt.Errorf("cannot read database %s: %w", db.path, err)
	}
	return version, nil
}

func (db *DB) migrate(ctx context.Context) error {
	var id, tables int
	if err := db.w.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return fmt.Errorf("cannot read database %s: %w", db.path, err)
	}
	if err := db.w.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return fmt.Errorf("cannot read database %s: %w", db.path, err)
	}
	if id != applicationID && tables > 0 {
		return fmt.Errorf("cannot open database %s: it is not Certlab's", db.path)
	}
	version, err := db.Schema(ctx)
	if err != nil {
		return err
	}
	if version > Version {
		return &NewerError{Path: db.path, Schema: version}
	}
	for ; version < Version; version++ {
		err := db.write(ctx, func(tx *sql.Tx) error {
			for _, text := range []string{
				migrations[version],
				fmt.Sprintf("PRAGMA application_id = %d", applicationID),
				fmt.Sprintf("PRAGMA user_version = %d", version+1),
			} {
				if _, err := tx.ExecContext(ctx, text); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot migrate database %s from schema %d: %w", db.path, version, err)
		}
	}
	return nil
}
