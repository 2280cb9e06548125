package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// Things that one run at a time may use, such as an iperf target, are rows of shared_locks. A row counts while its run may be going on: nothing has
// to be tidied when a run is over, however it ended and whoever crashed then. Who has to wait has a row in shared_waits with the time at which it
// began to: of those whose machines still ask, the one that has waited longest goes first, for all that it needs at once, so that nobody holds one
// thing while waiting for another.

// holds is true of a lock l whose run may be going on.
const holds = `EXISTS (SELECT 1 FROM runs h WHERE h.id = l.run AND (h.state IN ('queued', 'running')
	OR h.state = 'cancelled' AND EXISTS (SELECT 1 FROM attempts a WHERE a.run = h.id AND a.state IN ('queued', 'running'))))`

// askTime is how long a machine that does not ask keeps its place before others. Agents ask each minute.
const askTime = 3 * time.Minute

// HandOut is with what an order is given to its agent.
type HandOut struct {
	Shared     []string // things that the run has for itself while it is going on
	NoManifest bool     // of the machine's dossier
	Now        time.Time
}

// HandOutRun records that a run's order was given to its agent, the first time that it was, and that what it uses for itself is its own. It
// returns false, and has changed nothing but the run's place among those that wait, while another run has any of that.
func (db *DB) HandOutRun(ctx context.Context, id string, h HandOut) (given bool, err error) {
	err = db.write(ctx, func(tx *sql.Tx) error {
		taken, err := someTaken(ctx, tx, id, h)
		if err != nil {
			return err
		}
		if taken {
			for _, name := range h.Shared {
				if _, err := tx.ExecContext(ctx, `INSERT INTO shared_waits (run, name, since, asked) VALUES (?, ?, ?, ?)
					ON CONFLICT (run, name) DO UPDATE SET asked = excluded.asked`, id, name, micros(h.Now), micros(h.Now)); err != nil {
					return fmt.Errorf("cannot store what run %s waits for: %w", id, err)
				}
			}
			return nil
		}
		for _, name := range h.Shared {
			if _, err := tx.ExecContext(ctx, "INSERT INTO shared_locks (name, run, since) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET run = excluded.run, since = excluded.since",
				name, id, micros(h.Now)); err != nil {
				return fmt.Errorf("cannot store what run %s has for itself: %w", id, err)
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM shared_waits WHERE run = ?", id); err != nil {
			return fmt.Errorf("cannot store what run %s waits for: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE runs SET handed_out = ?, no_manifest = ? WHERE id = ? AND handed_out IS NULL", micros(h.Now), h.NoManifest, id); err != nil {
			return fmt.Errorf("cannot store run %s: %w", id, err)
		}
		given = true
		return nil
	})
	return given, err
}

// someTaken reports whether another run has any of what the run needs, or has waited longer for it.
func someTaken(ctx context.Context, tx *sql.Tx, id string, h HandOut) (bool, error) {
	if len(h.Shared) == 0 {
		return false, nil
	}
	var taken bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM shared_locks l WHERE l.name IN (SELECT value FROM json_each(?1)) AND l.run <> ?2 AND `+holds+`)
		OR EXISTS (SELECT 1 FROM shared_waits w JOIN runs r ON r.id = w.run WHERE w.name IN (SELECT value FROM json_each(?1)) AND w.run <> ?2 AND w.asked > ?3
			AND r.state = 'queued' AND NOT r.cancel_requested AND r.handed_out IS NULL
			AND (w.since, r.seq) < (SELECT coalesce((SELECT min(since) FROM shared_waits WHERE run = ?2), ?4), m.seq FROM runs m WHERE m.id = ?2))`,
		mustJSON(h.Shared), id, micros(h.Now.Add(-askTime)), micros(h.Now)).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("cannot read what runs have for themselves: %w", err)
	}
	return taken, nil
}

// waitsFor says what a queued run waits for; empty: for its machine.
func waitsFor(ctx context.Context, q query, id string) (string, error) {
	type wait struct{ name, run, host string }
	w, err := one(ctx, q, func(s scanner) (w wait, err error) { return w, s.Scan(&w.name, &w.run, &w.host) }, errNoWait,
		`SELECT w.name, coalesce(l.run, ''), coalesce((SELECT hostname FROM machines m JOIN runs r ON r.machine = m.id WHERE r.id = l.run), '')
		FROM shared_waits w LEFT JOIN shared_locks l ON l.name = w.name AND l.run <> w.run AND `+holds+` WHERE w.run = ? ORDER BY l.run IS NULL, w.name LIMIT 1`, id)
	switch {
	case errors.Is(err, errNoWait):
		return "", nil
	case err != nil:
		return "", err
	case w.run == "":
		return w.name + ", for which others have waited longer", nil
	}
	return fmt.Sprintf("%s, held by run %s on %s", w.name, w.run, w.host), nil
}

var errNoWait = errors.New("it waits for nothing")

// WaitingMachines returns the machines with a run that waits for something that another run has.
func (db *DB) WaitingMachines(ctx context.Context) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (id string, err error) { return id, s.Scan(&id) },
		"SELECT DISTINCT r.machine FROM shared_waits w JOIN runs r ON r.id = w.run WHERE r.state = 'queued'")
}

// Site is what the lab knows of a machine and of where it stands.
type Site struct {
	Dossier cert.Dossier
	Zone    cert.ZoneDossier
}

// Site returns what a run on the machine finds there. A machine that no provider lists is in no zone.
func (db *DB) Site(ctx context.Context, machine string) (s Site, err error) {
	if s.Dossier, err = dossier(ctx, db.r, machine); err != nil {
		return s, err
	}
	var zone string
	err = db.r.QueryRowContext(ctx, "SELECT coalesce(provided ->> '$.zone', '') FROM fleet WHERE machine = ? AND provided <> ''", machine).Scan(&zone)
	if errors.Is(err, sql.ErrNoRows) || err == nil && zone == "" {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("cannot read a machine's zone: %w", err)
	}
	s.Zone, err = zoneDossier(ctx, db.r, zone)
	return s, err
}
