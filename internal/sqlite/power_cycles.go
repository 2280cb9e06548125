package sqlite

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

func scanCycle(s scanner) (c cert.PowerCycle, err error) { return c, s.Scan(jsonColumn{&c}) }

// PutCycle stores a power cycle, new or changed.
func (t *FleetTx) PutCycle(c cert.PowerCycle) error {
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO power_cycles (run, attempt, machine, at, job, step, data) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (run, attempt, at) DO UPDATE SET step = excluded.step, data = excluded.data`, c.Run, c.Attempt, c.Machine, micros(c.At), c.Job, c.Step, mustJSON(c))
	if err != nil {
		return fmt.Errorf("cannot store a power cycle of machine %s: %w", c.Machine, err)
	}
	return nil
}

// ChangeRun lets change alter a run in the transaction, as UpdateRun does.
func (t *FleetTx) ChangeRun(id string, change func(*cert.Run) (bool, error)) error {
	row, err := loadRun(t.ctx, t.tx, id)
	if err != nil {
		return err
	}
	before := append([]cert.Attempt(nil), row.Attempts...)
	run := row.Run
	run.Counts = row.own
	changed, err := change(&run)
	if err != nil || !changed {
		return err
	}
	if err := storeRun(t.ctx, t.tx, &run, before); err != nil {
		return err
	}
	return t.db.ran(t.ctx, t.tx, &run, row.State)
}

// OpenCycles returns the power cycles that are not over, the oldest first.
func (db *DB) OpenCycles(ctx context.Context) ([]cert.PowerCycle, error) {
	return list(ctx, db.r, scanCycle, "SELECT data FROM power_cycles INDEXED BY power_cycles_open WHERE step IN ('begun', 'off', 'on') ORDER BY at")
}

// Cycles returns the power cycles of an attempt, the oldest first.
func (db *DB) Cycles(ctx context.Context, run string, attempt int) ([]cert.PowerCycle, error) {
	return list(ctx, db.r, scanCycle, "SELECT data FROM power_cycles WHERE run = ? AND attempt = ? ORDER BY at", run, attempt)
}

// HandsNeeded returns what a person has to do at machines that the watch could not get back, by machine. A machine that was heard of since
// needs nobody.
func (db *DB) HandsNeeded(ctx context.Context) (map[string]string, error) {
	all, err := remembered(&db.memos.stranded, db, func() ([]cert.PowerCycle, error) { return db.strandedCycles(ctx) })
	out := make(map[string]string)
	for _, c := range all {
		out[c.Machine] = c.Hands
	}
	return out, err
}

// LostMachines returns the power cycle with which the watch has given a machine up, by machine; without those that nobody could power-cycle.
func (db *DB) LostMachines(ctx context.Context) (map[string]cert.PowerCycle, error) {
	all, err := remembered(&db.memos.stranded, db, func() ([]cert.PowerCycle, error) { return db.strandedCycles(ctx) })
	out := make(map[string]cert.PowerCycle)
	for _, c := range all {
		if c.Step == cert.CycleGivenUp {
			out[c.Machine] = c
		}
	}
	return out, err
}

// strandedCycles are those after which a person has to go to the machine, and nothing was heard of it since.
func (db *DB) strandedCycles(ctx context.Context) ([]cert.PowerCycle, error) {
	type row struct {
		cert.PowerCycle
		seen time.Time
	}
	all, err := list(ctx, db.r, func(s scanner) (r row, err error) { return r, s.Scan(jsonColumn{&r.PowerCycle}, timeColumn{&r.seen}) },
		`SELECT p.data, m.seen FROM power_cycles p INDEXED BY power_cycles_hands JOIN machines m ON m.id = p.machine WHERE p.step IN ('given-up', 'hands') ORDER BY p.at`)
	var out []cert.PowerCycle
	for _, r := range all {
		if r.Hands != "" && !r.seen.After(r.Since) {
			out = append(out, r.PowerCycle)
		}
	}
	return out, err
}

// A Watched machine has an agent that should be heard.
type Watched struct {
	Machine  string // id
	Hostname string
	Unit     bool
	Seen     *time.Time
	Provided *cert.Provided // nil: its provider is not known
	Dossier  cert.Dossier
	Kind     cert.ReservationKind  // of the reservation that has it; empty: none
	State    cert.ReservationState // its state
	Boot     string                // that its agent said last
	Said     time.Time             // when

	Run      string // that goes on, or that was handed out; empty: none
	Cancel   bool   // it is to be cancelled
	Handed   time.Time
	Attempt  int // 0: its agent has not reported it yet
	Reported time.Time
	Progress cert.Progress
	BootID   string // of the attempt's last report
}

func scanWatched(s scanner) (w Watched, err error) {
	err = s.Scan(&w.Machine, &w.Hostname, &w.Unit, timePtrColumn{&w.Seen}, jsonColumn{&w.Provided}, jsonColumn{&w.Dossier}, &w.Kind, &w.State, &w.Boot, timeColumn{&w.Said},
		&w.Run, &w.Cancel, timeColumn{&w.Handed}, &w.Attempt, timeColumn{&w.Reported}, jsonColumn{&w.Progress}, &w.BootID)
	return w, err
}

// Watched lists the machines that have an agent, each once, with the attempt that goes on there, or else with the run that was handed out.
func (db *DB) Watched(ctx context.Context) ([]Watched, error) {
	return list(ctx, db.r, scanWatched, watchedQuery+"WHERE m.unit <> '' OR g.machine IS NOT NULL OR r.id IS NOT NULL ORDER BY m.seq")
}

// WatchedMachine is Watched of one machine; nil if nothing is expected of it.
func (db *DB) WatchedMachine(ctx context.Context, machine string) (*Watched, error) {
	all, err := list(ctx, db.r, scanWatched, watchedQuery+"WHERE m.id = ? AND (m.unit <> '' OR g.machine IS NOT NULL OR r.id IS NOT NULL)", machine)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

const watchedQuery = `SELECT m.id, m.hostname, m.unit <> '', m.seen, coalesce(f.provided, ''), coalesce(d.data, ''), coalesce(v.kind, ''), coalesce(v.state, ''),
		coalesce(json_extract(g.data, '$.boot_id'), ''), g.at, coalesce(r.id, ''), coalesce(r.cancel_requested, 0), r.handed_out, coalesce(a.number, 0), a.updated,
		coalesce(a.progress, ''), coalesce(a.boot_id, '')
		FROM machines m LEFT JOIN fleet f ON f.machine = m.id LEFT JOIN dossiers d ON d.machine = m.id LEFT JOIN agent_status g ON g.machine = m.id
		LEFT JOIN reservations v ON v.machine = m.id AND v.machine <> '' AND v.state IN ('preparing', 'ready', 'releasing')
		LEFT JOIN runs r ON r.seq = (SELECT seq FROM runs o INDEXED BY runs_open WHERE o.machine = m.id AND o.state IN ('queued', 'running')
			AND (o.state = 'running' OR o.handed_out IS NOT NULL) ORDER BY o.state = 'running' DESC, seq LIMIT 1)
		LEFT JOIN attempts a ON a.run = r.id AND a.number = (SELECT max(number) FROM attempts l WHERE l.run = r.id)
		`

// jobSamples bounds how many runs of a job an estimate looks at.
const jobSamples = 200

// JobSeconds returns how long a job has taken in nine of ten cases: on that machine, or else anywhere, and from how many. 0, 0: nobody knows.
func (db *DB) JobSeconds(ctx context.Context, machine, job string) (float64, int, error) {
	if job == "" {
		return 0, 0, nil
	}
	const text = `SELECT r.duration FROM jobs j CROSS JOIN results r INDEXED BY results_job ON r.job = j.id CROSS JOIN submissions s ON s.seq = r.submission
		WHERE j.job = ?1 AND r.duration > 0 AND (?2 = '' OR s.machine = ?2) ORDER BY r.submission DESC LIMIT ?3`
	for _, where := range []string{machine, ""} {
		all, err := list(ctx, db.r, func(s scanner) (v float64, err error) { return v, s.Scan(&v) }, "SELECT duration FROM ("+text+") ORDER BY duration", job, where, jobSamples)
		if err != nil || len(all) > 0 {
			return cert.Quantile(all, 0.9), len(all), err
		}
	}
	return 0, 0, nil
}
