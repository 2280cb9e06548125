package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// A FleetRow is a machine with what its provider says of it and what this lab keeps of it. What Provided and Hardware point to is shared with
// other rows: it is replaced, not changed.
type FleetRow struct {
	Machine    cert.Machine
	Provider   string // empty: its provider has never listed it
	Provided   *cert.Provided
	Hardware   *cert.Hardware // nil: not read yet
	Read       time.Time
	Gone       *time.Time // since when its provider does not list it
	Quarantine *cert.Quarantine
	Retired    string
	Failures   int // provisioning failures in a row
	Checked    *time.Time
	Passed     bool
	Orphan     *time.Time // since when this lab holds it although nobody here wants it
	Dirty      string     // why its agent could not put it back to what it was before a run; empty: it is
}

const fleetColumns = machineColumns + `, coalesce(f.provider, ''), f.provided, f.hardware, f.read, f.gone, f.quarantine, coalesce(f.retired, ''),
	coalesce(f.failures, 0), f.checked, coalesce(f.passed, 0), f.orphan, coalesce(json_extract(g.data, '$.dirty'), '')`

const fleetTablesFrom = " FROM machines m LEFT JOIN fleet f ON f.machine = m.id LEFT JOIN agent_status g ON g.machine = m.id"

func (db *DB) scanFleetRow(s scanner) (r FleetRow, err error) {
	var seq int64
	var provided, hardware sql.NullString
	m := &r.Machine
	err = s.Scan(&m.ID, &m.Key, &m.Origin, &m.Hostname, &m.Architecture, &m.SystemID, &m.ProductUUID, &m.Base, &m.Kernel, &m.Unit,
		&m.ModelUUID, timeColumn{&m.Created}, timePtrColumn{&m.Seen}, &m.CurrentRun, &seq,
		&r.Provider, &provided, &hardware, timeColumn{&r.Read}, timePtrColumn{&r.Gone}, jsonColumn{&r.Quarantine}, &r.Retired,
		&r.Failures, timePtrColumn{&r.Checked}, &r.Passed, timePtrColumn{&r.Orphan}, &r.Dirty)
	if err != nil {
		return r, err
	}
	return r, db.documents.fill(&r, provided.String, hardware.String)
}

// FleetRows lists all machines, the first known first.
func (db *DB) FleetRows(ctx context.Context) ([]FleetRow, error) {
	return remembered(&db.memos.rows, db, func() ([]FleetRow, error) {
		return list(ctx, db.r, db.scanFleetRow, "SELECT "+fleetColumns+fleetTablesFrom+" ORDER BY m.seq")
	})
}

// FleetRow returns one machine, by its id.
func (db *DB) FleetRow(ctx context.Context, machine string) (FleetRow, error) {
	return one(ctx, db.r, db.scanFleetRow, notFound("machine", machine), "SELECT "+fleetColumns+fleetTablesFrom+" WHERE m.id = ?", machine)
}

// A FleetTx is a transaction about machines: what it stores of a machine, of its reservation, of its deployment and in its log comes about
// together or not at all.
type FleetTx struct {
	ctx context.Context
	tx  *sql.Tx
	db  *DB
}

// ChangeFleet runs fn in one transaction, which is durable when ChangeFleet returns nil.
func (db *DB) ChangeFleet(ctx context.Context, fn func(*FleetTx) error) error {
	return db.write(ctx, func(tx *sql.Tx) error { return fn(&FleetTx{ctx, tx, db}) })
}

// Machine returns a machine by its id.
func (t *FleetTx) Machine(id string) (FleetRow, error) {
	return one(t.ctx, t.tx, t.db.scanFleetRow, notFound("machine", id), "SELECT "+fleetColumns+fleetTablesFrom+" WHERE m.id = ?", id)
}

// MachineByKey returns a machine by what makes it this machine. It fails as NotFound.
func (t *FleetTx) MachineByKey(key string) (FleetRow, error) {
	return one(t.ctx, t.tx, t.db.scanFleetRow, notFound("machine", key), "SELECT "+fleetColumns+fleetTablesFrom+" WHERE m.key = ?", key)
}

// AddMachine adds a machine that its provider lists.
func (t *FleetTx) AddMachine(m cert.Machine) error { return insertMachine(t.ctx, t.tx, m) }

// NameMachine stores what a machine is called and what it is, as its provider or its agent says.
func (t *FleetTx) NameMachine(m cert.Machine) error {
	_, err := t.tx.ExecContext(t.ctx, "UPDATE machines SET hostname = ?, architecture = ?, product_uuid = ?, base = ?, kernel = ? WHERE id = ?",
		m.Hostname, m.Architecture, m.ProductUUID, m.Base, m.Kernel, m.ID)
	if err != nil {
		return fmt.Errorf("cannot store machine %q: %w", m.Hostname, err)
	}
	return nil
}

// PutMachine stores what a FleetRow has beyond the machine.
func (t *FleetTx) PutMachine(r FleetRow) error {
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO fleet (machine, provider, provided, hardware, read, gone, quarantine, retired, failures, checked, passed, orphan)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (machine) DO UPDATE SET provider = excluded.provider, provided = excluded.provided,
		hardware = excluded.hardware, read = excluded.read, gone = excluded.gone, quarantine = excluded.quarantine, retired = excluded.retired,
		failures = excluded.failures, checked = excluded.checked, passed = excluded.passed, orphan = excluded.orphan`,
		r.Machine.ID, r.Provider, optionalJSON(r.Provided), optionalJSON(r.Hardware), max(r.Read.UnixMicro(), 0), microsPtr(r.Gone), optionalJSON(r.Quarantine), r.Retired,
		r.Failures, microsPtr(r.Checked), r.Passed, microsPtr(r.Orphan))
	if err != nil {
		return fmt.Errorf("cannot store machine %q: %w", r.Machine.Hostname, err)
	}
	return nil
}

// optionalJSON encodes what v points to; nil as the empty text.
func optionalJSON[T any](v *T) string {
	if v == nil {
		return ""
	}
	return mustJSON(v)
}

// AddRun stores the run that a reservation was made for. One that is there already stays.
func (t *FleetTx) AddRun(run cert.Run, reservation string) error {
	if _, err := loadRun(t.ctx, t.tx, run.ID); cert.CodeOf(err) != cert.NotFound {
		return err
	}
	if gone := removed(t.ctx, t.tx, run.ID); gone != nil {
		return nil
	}
	if err := insertRun(t.ctx, t.tx, &run); err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE runs SET reservation = ? WHERE id = ?", reservation, run.ID); err != nil {
		return fmt.Errorf("cannot store run %s: %w", run.ID, err)
	}
	return nil
}

// CurrentRun returns the id of the run that is on a machine; empty: none.
func (t *FleetTx) CurrentRun(machine string) (string, error) {
	all, err := list(t.ctx, t.tx, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		"SELECT id FROM runs INDEXED BY runs_open WHERE machine = ? AND state IN ('queued', 'running') AND state = 'running' ORDER BY seq LIMIT 1", machine)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0], nil
}

// UnfinishedRuns returns the ids of a machine's runs that are not over.
func (t *FleetTx) UnfinishedRuns(machine string) ([]string, error) {
	return list(t.ctx, t.tx, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		"SELECT id FROM runs WHERE machine = ? AND state IN ('queued', 'running') ORDER BY seq", machine)
}

// BegunRuns returns the ids of a machine's runs that its agent may have begun and that are not over; those among them that were cancelled since
// a time and of which the agent has not spoken yet: it may have begun them all the same.
func (db *DB) BegunRuns(ctx context.Context, machine string, since time.Time) ([]string, error) {
	return begunRuns(ctx, db.r, machine, since)
}

// BegunRuns is DB.BegunRuns in the transaction.
func (t *FleetTx) BegunRuns(machine string, since time.Time) ([]string, error) {
	return begunRuns(t.ctx, t.tx, machine, since)
}

func begunRuns(ctx context.Context, q query, machine string, since time.Time) ([]string, error) {
	return list(ctx, q, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		`SELECT r.id FROM runs r WHERE r.machine = ?1 AND (r.state = 'running' OR r.state = 'queued' AND r.handed_out IS NOT NULL
		OR r.state = 'cancelled' AND r.handed_out IS NOT NULL AND r.finished > ?2 AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.run = r.id)) ORDER BY r.seq`, machine, micros(since))
}

// RunState returns the state of a run; empty if there is none.
func (db *DB) RunState(ctx context.Context, id string) (cert.State, error) {
	const text = "SELECT state FROM runs WHERE id = ?"
	var state cert.State
	err := db.r.QueryRowContext(ctx, text, id).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", noted(db.r, text, fmt.Errorf("cannot read runs: %w", err))
	}
	return state, nil
}

// LabID returns what this lab calls itself at its provider. It is made once and stays, also in backups.
func (db *DB) LabID(ctx context.Context) (string, error) {
	var id string
	found, err := db.Meta(ctx, metaLab, &id)
	if err != nil || found {
		return id, err
	}
	fresh := cert.NewID('l', time.Now())[1:]
	err = db.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", metaLab, mustJSON(fresh)); err != nil {
			return fmt.Errorf("cannot store the lab's id: %w", err)
		}
		return tx.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", metaLab).Scan(jsonColumn{&id})
	})
	return id, err
}

// FleetDossiers returns the dossiers of all machines that have one, without their secrets. All callers share them: they are not to be changed.
func (db *DB) FleetDossiers(ctx context.Context) (map[string]cert.Dossier, error) {
	return db.memos.dossiers.of(db, func() (map[string]cert.Dossier, error) { return db.fleetDossiers(ctx) })
}

func (db *DB) fleetDossiers(ctx context.Context) (map[string]cert.Dossier, error) {
	all, err := list(ctx, db.r, func(s scanner) (d cert.Dossier, err error) { return d, s.Scan(&d.Machine, jsonColumn{&d}) }, "SELECT machine, data FROM dossiers")
	out := make(map[string]cert.Dossier, len(all))
	for _, d := range all {
		out[d.Machine] = d
	}
	return out, err
}
