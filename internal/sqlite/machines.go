package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
)

const machineColumns = `m.id, m.key, m.origin, m.hostname, m.architecture, m.system_id, m.product_uuid, m.base, m.kernel, m.unit, m.model_uuid,
	m.created, m.seen, coalesce((SELECT id FROM runs INDEXED BY runs_open WHERE runs.machine = m.id AND state IN ('queued', 'running')
	AND state = 'running' ORDER BY seq LIMIT 1), ''), m.seq`

type machineRow struct {
	cert.Machine
	seq int64
}

func scanMachine(s scanner) (m machineRow, err error) {
	err = s.Scan(&m.ID, &m.Key, &m.Origin, &m.Hostname, &m.Architecture, &m.SystemID, &m.ProductUUID, &m.Base, &m.Kernel, &m.Unit,
		&m.ModelUUID, timeColumn{&m.Created}, timePtrColumn{&m.Seen}, &m.CurrentRun, &m.seq)
	return m, err
}

// MachineFilter selects machines. Empty fields select all.
type MachineFilter struct {
	Hostname     string
	Architecture string
	Origin       string
	Enrolled     *bool // a unit may act for it
}

// Machines lists machines, the first known first. The second value is the next page's cursor, empty on the last.
func (db *DB) Machines(ctx context.Context, f MachineFilter, p Page) ([]cert.Machine, string, error) {
	var w where
	w.equal("m.hostname", f.Hostname)
	w.equal("m.architecture", f.Architecture)
	w.equal("m.origin", f.Origin)
	if f.Enrolled != nil {
		w.add("(m.unit <> '') = ?", *f.Enrolled)
	}
	var after int64
	if more, err := p.parse("m", &after); err != nil {
		return nil, "", err
	} else if more {
		w.add("m.seq > ?", after)
	}
	rows, err := list(ctx, db.r, scanMachine, "SELECT "+machineColumns+" FROM machines m"+w.String()+" ORDER BY m.seq LIMIT ?",
		append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("m", rows[p.Limit-1].seq)
	}
	out := make([]cert.Machine, len(rows))
	for n, r := range rows {
		out[n] = r.Machine
	}
	return out, next, nil
}

// Machine returns the machine with that id, MAAS system_id or hostname. It fails as NotFound, and as Conflict when several have the hostname.
func (db *DB) Machine(ctx context.Context, name string) (cert.Machine, error) {
	if name == "" {
		return cert.Machine{}, notFound("machine", name)
	}
	rows, err := list(ctx, db.r, scanMachine, "SELECT "+machineColumns+` FROM machines m WHERE m.id = ?1 OR m.system_id = ?1 OR m.hostname = ?1
		ORDER BY m.id = ?1 DESC, m.system_id = ?1 DESC, m.seq LIMIT 3`, name)
	switch {
	case err != nil:
		return cert.Machine{}, err
	case len(rows) == 0:
		return cert.Machine{}, notFound("machine", name)
	case len(rows) > 1 && rows[0].ID != name && rows[0].SystemID != name:
		ids := make([]string, len(rows))
		for n, r := range rows {
			ids[n] = r.ID
		}
		return cert.Machine{}, cert.Errorf(cert.Conflict, "several machines have the hostname %q: name one by its id (%s)", name, strings.Join(ids, ", "))
	}
	return rows[0].Machine, nil
}

// AddMachine adds a machine by hand. It fails as Conflict if there is one with that key.
func (db *DB) AddMachine(ctx context.Context, m cert.Machine) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		var id string
		err := tx.QueryRowContext(ctx, "SELECT id FROM machines WHERE key = ? OR hostname = ?", m.Key, m.Hostname).Scan(&id)
		if err == nil {
			return cert.Errorf(cert.Conflict, "cannot add machine %q: there is one already, %s", m.Hostname, id)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("cannot read machines: %w", err)
		}
		return insertMachine(ctx, tx, m)
	})
}

func insertMachine(ctx context.Context, tx *sql.Tx, m cert.Machine) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base, kernel, unit,
		model_uuid, created, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, m.ID, m.Key, m.Origin, m.Hostname, m.Architecture, m.SystemID,
		m.ProductUUID, m.Base, m.Kernel, m.Unit, m.ModelUUID, micros(m.Created), microsPtr(m.Seen))
	if err != nil {
		return fmt.Errorf("cannot store machine %q: %w", m.Hostname, err)
	}
	return nil
}

// Enrol makes the enrolments the ones that hold, in one transaction: machines that they name are added or brought up to date,
// and machines that none of them names keep everything but their unit. It returns who may act for which machine (public key → machine
// id), and the enrolments that were refused.
func (db *DB) Enrol(ctx context.Context, enrolments []cert.Enrolment, now time.Time) (map[string]string, []cert.Refusal, error) {
	keys := make(map[string]string)
	var refusals []cert.Refusal
	err := db.write(ctx, func(tx *sql.Tx) error {
		rows, err := list(ctx, tx, scanMachine, "SELECT "+machineColumns+" FROM machines m")
		if err != nil {
			return err
		}
		known := make(map[string]machineRow, len(rows))
		holder := make(map[string]string, len(rows))
		for _, r := range rows {
			known[r.Key] = r
			if r.Unit != "" {
				holder[r.Key] = r.ModelUUID + "/" + r.Unit
			}
		}
		var claims []cert.Claim
		claims, refusals = cert.Claims(enrolments, holder)
		held := make(map[string]bool, len(claims))
		for _, c := range claims {
			held[c.MachineKey] = true
			old, found := known[c.MachineKey]
			m := old.Machine
			if !found {
				m = cert.Machine{ID: cert.NewID(cert.MachineID, now), Key: c.MachineKey, Created: now}
			}
			before := m
			m.Origin = cert.OriginJuju
			m.Hostname, m.Architecture = c.Identity.Hostname, c.Identity.Architecture
			m.SystemID, m.ProductUUID = c.Identity.SystemID, c.Identity.ProductUUID
			m.Base, m.Kernel = c.Identity.Base, c.Identity.Kernel
			m.Unit, m.ModelUUID = c.Unit, c.Identity.ModelUUID
			keys[c.PublicKey] = m.ID
			switch {
			case !found:
				if err := insertMachine(ctx, tx, m); err != nil {
					return err
				}
			case m != before:
				if _, err := tx.ExecContext(ctx, `UPDATE machines SET origin = ?, hostname = ?, architecture = ?, system_id = ?, product_uuid = ?,
					base = ?, kernel = ?, unit = ?, model_uuid = ? WHERE id = ?`, m.Origin, m.Hostname, m.Architecture, m.SystemID,
					m.ProductUUID, m.Base, m.Kernel, m.Unit, m.ModelUUID, m.ID); err != nil {
					return fmt.Errorf("cannot store machine %q: %w", m.Hostname, err)
				}
			}
		}
		for key, m := range known {
			if m.Unit == "" || held[key] {
				continue
			}
			if _, err := tx.ExecContext(ctx, "UPDATE machines SET unit = '' WHERE id = ?", m.ID); err != nil {
				return fmt.Errorf("cannot store machine %q: %w", m.Hostname, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return keys, refusals, nil
}

// Enrolled is Enrol without a write: machines that are not known yet are left out.
func (db *DB) Enrolled(ctx context.Context, enrolments []cert.Enrolment) (map[string]string, []cert.Refusal, error) {
	rows, err := list(ctx, db.r, scanMachine, "SELECT "+machineColumns+" FROM machines m")
	if err != nil {
		return nil, nil, err
	}
	ids, holder := make(map[string]string, len(rows)), make(map[string]string, len(rows))
	for _, r := range rows {
		ids[r.Key] = r.ID
		if r.Unit != "" {
			holder[r.Key] = r.ModelUUID + "/" + r.Unit
		}
	}
	claims, refusals := cert.Claims(enrolments, holder)
	keys := make(map[string]string, len(claims))
	for _, c := range claims {
		if id, ok := ids[c.MachineKey]; ok {
			keys[c.PublicKey] = id
		}
	}
	return keys, refusals, nil
}

// Seen records the last contact with machines' agents.
func (db *DB) Seen(ctx context.Context, at map[string]time.Time) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		for id, t := range at {
			if _, err := tx.ExecContext(ctx, "UPDATE machines SET seen = ? WHERE id = ?", micros(t), id); err != nil {
				return fmt.Errorf("cannot store a machine's last contact: %w", err)
			}
		}
		return nil
	})
}
