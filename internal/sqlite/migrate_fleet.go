package sqlite

// fleetTables are schema version 4: machines that come from a provider, and what happens to them. Where a column is named data it holds the
// domain's type as JSON; the other columns are what rows are looked up by, and are written together with it.
const fleetTables = `
CREATE TABLE fleet ( -- a machine as its provider has it
	machine    TEXT PRIMARY KEY REFERENCES machines (id),
	provider   TEXT NOT NULL,
	provided   TEXT NOT NULL, -- JSON: cert.Provided, as last read
	hardware   TEXT NOT NULL, -- JSON: cert.Hardware; empty: not read yet
	read       INTEGER NOT NULL, -- when the provider said so last
	gone       INTEGER, -- since when the provider does not list it
	quarantine TEXT NOT NULL, -- JSON: cert.Quarantine; empty: none
	retired    TEXT NOT NULL, -- by whom and why; empty: not
	failures   INTEGER NOT NULL, -- provisioning failures in a row
	checked    INTEGER, -- last health check
	passed     INTEGER NOT NULL,
	orphan     INTEGER -- since when this lab holds it at the provider although nobody here wants it
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
	seq      INTEGER PRIMARY KEY AUTOINCREMENT,
	id       TEXT NOT NULL UNIQUE,
	kind     TEXT NOT NULL,
	state    TEXT NOT NULL,
	holder   TEXT NOT NULL,
	machine  TEXT NOT NULL, -- empty: none yet
	run      TEXT NOT NULL, -- empty: none
	priority INTEGER NOT NULL,
	created  INTEGER NOT NULL,
	data     TEXT NOT NULL
) STRICT;
CREATE INDEX reservations_open ON reservations (state, priority DESC, seq) WHERE state <> 'ended';
CREATE UNIQUE INDEX reservations_machine ON reservations (machine) WHERE machine <> '' AND state IN ('preparing', 'ready', 'releasing'); -- never two
CREATE INDEX reservations_holder ON reservations (holder, seq);
CREATE INDEX reservations_history ON reservations (machine, seq);
CREATE INDEX reservations_run ON reservations (run) WHERE run <> '';

CREATE TABLE deployments (
	seq         INTEGER PRIMARY KEY AUTOINCREMENT,
	id          TEXT NOT NULL UNIQUE,
	reservation TEXT NOT NULL REFERENCES reservations (id),
	machine     TEXT NOT NULL REFERENCES machines (id),
	class       TEXT NOT NULL,
	phase       TEXT NOT NULL,
	started     INTEGER NOT NULL,
	finished    INTEGER,
	failure     TEXT NOT NULL, -- type; empty: none
	token_hash  TEXT, -- of the one-time token; null: used up or over
	agent_key   TEXT, -- of the agent that has enrolled and may act; null: none (any more)
	data        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX deployments_open ON deployments (machine) WHERE phase <> 'over'; -- never two
CREATE INDEX deployments_reservation ON deployments (reservation, seq);
CREATE INDEX deployments_machine ON deployments (machine, seq);
CREATE INDEX deployments_class ON deployments (class, seq);
CREATE UNIQUE INDEX deployments_token ON deployments (token_hash) WHERE token_hash IS NOT NULL;
CREATE UNIQUE INDEX deployments_key ON deployments (agent_key) WHERE agent_key IS NOT NULL;

CREATE TABLE machine_events ( -- append only
	seq         INTEGER PRIMARY KEY AUTOINCREMENT,
	machine     TEXT NOT NULL REFERENCES machines (id),
	at          INTEGER NOT NULL,
	kind        TEXT NOT NULL,
	who         TEXT NOT NULL,
	text        TEXT NOT NULL,
	reservation TEXT NOT NULL,
	deployment  TEXT NOT NULL,
	incident    TEXT NOT NULL
) STRICT;
CREATE INDEX machine_events_machine ON machine_events (machine, seq);
CREATE TRIGGER machine_events_stay BEFORE UPDATE ON machine_events BEGIN SELECT raise(ABORT, 'the log of machines only grows'); END;
CREATE TRIGGER machine_events_remain BEFORE DELETE ON machine_events BEGIN SELECT raise(ABORT, 'the log of machines only grows'); END;

CREATE TABLE machine_times ( -- what a machine was for, and until when: the lab's accounts
	machine  TEXT NOT NULL REFERENCES machines (id),
	since    INTEGER NOT NULL,
	until    INTEGER, -- null: still
	state    TEXT NOT NULL,
	consumer TEXT NOT NULL, -- manual, runs, checks, idle, broken or foreign
	holder   TEXT NOT NULL,
	PRIMARY KEY (machine, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX machine_times_until ON machine_times (until);

CREATE TABLE agent_status ( -- what each machine's agent said last
	machine TEXT PRIMARY KEY REFERENCES machines (id),
	at      INTEGER NOT NULL,
	key     TEXT NOT NULL, -- which agent
	data    TEXT NOT NULL -- JSON: order.Status
) STRICT, WITHOUT ROWID;

CREATE TABLE dossiers (
	machine   TEXT PRIMARY KEY REFERENCES machines (id),
	version   INTEGER NOT NULL,
	secure_id TEXT NOT NULL, -- a secret
	data      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE zone_dossiers (
	zone    TEXT PRIMARY KEY,
	version INTEGER NOT NULL,
	data    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE dossier_changes ( -- append only
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	at      INTEGER NOT NULL,
	who     TEXT NOT NULL,
	machine TEXT NOT NULL, -- id; empty for a zone
	zone    TEXT NOT NULL,
	field   TEXT NOT NULL,
	before  TEXT NOT NULL, -- of a secret: only whether there is one
	after   TEXT NOT NULL
) STRICT;
CREATE INDEX dossier_changes_machine ON dossier_changes (machine, seq);
CREATE TABLE shared_locks ( -- things that one run at a time may use; a row counts while its run may be going on
	name  TEXT PRIMARY KEY,
	run   TEXT NOT NULL,
	since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE shared_waits ( -- runs that wait for such things
	run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	name  TEXT NOT NULL,
	since INTEGER NOT NULL,
	asked INTEGER NOT NULL, -- when their machine asked for them last
	PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE pauses (
	scope TEXT NOT NULL,
	name  TEXT NOT NULL,
	data  TEXT NOT NULL,
	PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE incidents (
	seq    INTEGER PRIMARY KEY AUTOINCREMENT,
	id     TEXT NOT NULL UNIQUE,
	closed INTEGER,
	data   TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_open ON incidents (seq) WHERE closed IS NULL;

CREATE TABLE notices ( -- what others have to be told: stored first, sent until it was taken
	seq       INTEGER PRIMARY KEY AUTOINCREMENT,
	id        TEXT NOT NULL UNIQUE,
	due       INTEGER NOT NULL, -- of the next try
	tries     INTEGER NOT NULL,
	delivered INTEGER,
	given_up  INTEGER,
	error     TEXT NOT NULL, -- of the last try
	data      TEXT NOT NULL
) STRICT;
CREATE INDEX notices_due ON notices (due) WHERE delivered IS NULL AND given_up IS NULL;

CREATE TABLE lost_jobs ( -- jobs in which a machine was lost: Certlab's word beside Checkbox's outcome
	run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	attempt INTEGER NOT NULL,
	job     TEXT NOT NULL,
	at      INTEGER NOT NULL,
	detail  TEXT NOT NULL,
	PRIMARY KEY (run, attempt, job, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE power_cycles ( -- by the lab's watch, stored before each
	run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	attempt INTEGER NOT NULL,
	machine TEXT NOT NULL,
	at      INTEGER NOT NULL,
	job     TEXT NOT NULL,
	step    TEXT NOT NULL, -- begun, off, on; over: resumed, back, given-up, hands
	data    TEXT NOT NULL, -- JSON: cert.PowerCycle
	PRIMARY KEY (run, attempt, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX power_cycles_open ON power_cycles (at) WHERE step IN ('begun', 'off', 'on');
CREATE INDEX power_cycles_hands ON power_cycles (at) WHERE step IN ('given-up', 'hands');
ALTER TABLE attempts ADD COLUMN suspect TEXT NOT NULL DEFAULT ''; -- id of an incident that overlaps it
CREATE INDEX attempts_suspect ON attempts (suspect) WHERE suspect <> '';

ALTER TABLE runs ADD COLUMN reservation TEXT NOT NULL DEFAULT ''; -- for which its machine was provisioned; empty: none
ALTER TABLE runs ADD COLUMN repeats TEXT NOT NULL DEFAULT ''; -- id of a run that an incident has spoilt and that this one does again; empty: none
CREATE INDEX runs_repeats ON runs (repeats) WHERE repeats <> '';
ALTER TABLE runs ADD COLUMN no_manifest INTEGER NOT NULL DEFAULT 0; -- the machine had none when the run was handed out
`
