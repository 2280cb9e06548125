package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"certlab/internal/cert"
)

func scanEvent(s scanner) (e cert.MachineEvent, err error) {
	err = s.Scan(&e.Seq, &e.Machine, timeColumn{&e.At}, &e.Kind, &e.Who, &e.Text, &e.Reservation, &e.Deployment, &e.Incident)
	return e, err
}

// Event adds to a machine's log.
func (t *FleetTx) Event(e cert.MachineEvent) error { return insertEvent(t.ctx, t.tx, e) }

// insertEvent adds to a machine's log.
func insertEvent(ctx context.Context, tx *sql.Tx, e cert.MachineEvent) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO machine_events (machine, at, kind, who, text, reservation, deployment, incident) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		e.Machine, micros(e.At), e.Kind, e.Who, e.Text, e.Reservation, e.Deployment, e.Incident)
	if err != nil {
		return fmt.Errorf("cannot store an event of machine %s: %w", e.Machine, err)
	}
	return nil
}

// AddMachineEvent adds to a machine's log.
func (db *DB) AddMachineEvent(ctx context.Context, e cert.MachineEvent) error {
	return db.ChangeFleet(ctx, func(t *FleetTx) error { return t.Event(e) })
}

// EventFilter selects events. Empty fields select all.
type EventFilter struct {
	Machine     string // id
	Kind        string
	Reservation string
}

// MachineEvents lists events, the newest first.
func (db *DB) MachineEvents(ctx context.Context, f EventFilter, p Page) ([]cert.MachineEvent, string, error) {
	var w where
	w.equal("machine", f.Machine)
	w.equal("kind", f.Kind)
	w.equal("reservation", f.Reservation)
	var before int64
	if more, err := p.parse("e", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	events, err := list(ctx, db.r, scanEvent, "SELECT seq, machine, at, kind, who, text, reservation, deployment, incident FROM machine_events"+w.String()+
		" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(events) > p.Limit {
		events = events[:p.Limit]
		next = cursor("e", events[p.Limit-1].Seq)
	}
	return events, next, nil
}
