package sqlite

import (
	"context"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

const reservationColumns = "seq, data, state, machine, run"

type reservationRow struct {
	cert.Reservation
	seq int64
}

// scanReservation reads a reservation; its columns hold what its data say.
func scanReservation(s scanner) (r reservationRow, err error) {
	var state, machine, run string
	err = s.Scan(&r.seq, jsonColumn{&r.Reservation}, &state, &machine, &run)
	return r, err
}

func onlyReservations(rows []reservationRow, err error) ([]cert.Reservation, error) {
	out := make([]cert.Reservation, len(rows))
	for n, r := range rows {
		out[n] = r.Reservation
	}
	return out, err
}

func (t *FleetTx) reservation(where string, args ...any) (cert.Reservation, error) {
	r, err := one(t.ctx, t.tx, scanReservation, notFound("reservation", fmt.Sprint(args...)), "SELECT "+reservationColumns+" FROM reservations WHERE "+where, args...)
	return r.Reservation, err
}

// Reservation returns a reservation. It fails as NotFound.
func (t *FleetTx) Reservation(id string) (cert.Reservation, error) {
	return t.reservation("id = ?", id)
}

// AddReservation stores a new reservation.
func (t *FleetTx) AddReservation(r cert.Reservation) error {
	_, err := t.tx.ExecContext(t.ctx, "INSERT INTO reservations (id, kind, state, holder, machine, run, priority, created, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		r.ID, r.Kind, r.State, r.Holder, r.Machine, r.Run, r.Priority, micros(r.Created), reservationJSON(r))
	if err != nil {
		return fmt.Errorf("cannot store reservation %s: %w", r.ID, err)
	}
	return nil
}

// PutReservation stores a reservation that there is. It fails if its machine has another one.
func (t *FleetTx) PutReservation(r cert.Reservation) error {
	_, err := t.tx.ExecContext(t.ctx, "UPDATE reservations SET state = ?, machine = ?, run = ?, priority = ?, data = ? WHERE id = ?",
		r.State, r.Machine, r.Run, r.Priority, reservationJSON(r), r.ID)
	if err != nil {
		return fmt.Errorf("cannot store reservation %s: %w", r.ID, err)
	}
	return nil
}

// reservationJSON leaves out what is not stored.
func reservationJSON(r cert.Reservation) string {
	r.Estimate, r.Connect, r.URL = nil, "", ""
	return mustJSON(r)
}

// Reservation returns a reservation. It fails as NotFound.
func (db *DB) Reservation(ctx context.Context, id string) (cert.Reservation, error) {
	r, err := one(ctx, db.r, scanReservation, notFound("reservation", id), "SELECT "+reservationColumns+" FROM reservations WHERE id = ?", id)
	return r.Reservation, err
}

// RunReservation returns the reservation that a run has; false if it has none.
func (db *DB) RunReservation(ctx context.Context, run string) (cert.Reservation, bool, error) {
	r, err := one(ctx, db.r, scanReservation, notFound("reservation of run", run), "SELECT "+reservationColumns+
		" FROM reservations WHERE run = ? AND run <> '' ORDER BY seq DESC LIMIT 1", run)
	if cert.CodeOf(err) == cert.NotFound {
		return r.Reservation, false, nil
	}
	return r.Reservation, err == nil, err
}

// OpenReservations returns all that are not over, in the order of the queue.
func (db *DB) OpenReservations(ctx context.Context) ([]cert.Reservation, error) {
	return remembered(&db.memos.reservations, db, func() ([]cert.Reservation, error) { return db.openReservations(ctx) })
}

func (db *DB) openReservations(ctx context.Context) ([]cert.Reservation, error) {
	return onlyReservations(list(ctx, db.r, scanReservation, "SELECT "+reservationColumns+" FROM reservations WHERE state <> 'ended' ORDER BY priority DESC, seq"))
}

// OpenReservations is DB.OpenReservations in the transaction.
func (t *FleetTx) OpenReservations() ([]cert.Reservation, error) {
	return onlyReservations(list(t.ctx, t.tx, scanReservation, "SELECT "+reservationColumns+" FROM reservations WHERE state <> 'ended' ORDER BY priority DESC, seq"))
}

// ReservationFilter selects reservations. Empty fields select all.
type ReservationFilter struct {
	State   string // open: all but ended
	Holder  string
	Machine string // id
	Kind    string
}

// Reservations lists reservations, the newest first.
func (db *DB) Reservations(ctx context.Context, f ReservationFilter, p Page) ([]cert.Reservation, string, error) {
	var w where
	switch f.State {
	case "open":
		w.add("state <> 'ended'")
	default:
		w.equal("state", f.State)
	}
	w.equal("holder", f.Holder)
	w.equal("machine", f.Machine)
	w.equal("kind", f.Kind)
	var before int64
	if more, err := p.parse("v", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanReservation, "SELECT "+reservationColumns+" FROM reservations"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("v", rows[p.Limit-1].seq)
	}
	out, err := onlyReservations(rows, nil)
	return out, next, err
}

// isDouble reports whether an error says that a machine would have been held twice.
func isDouble(err error) bool {
	return err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}

// Doubled reports whether a change failed because a machine, or an id, has one already.
func Doubled(err error) bool { return isDouble(err) }
