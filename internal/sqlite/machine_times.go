package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

func scanMachineTime(s scanner) (r cert.MachineTime, err error) {
	err = s.Scan(&r.Machine, timeColumn{&r.Since}, timeColumn{&r.Until}, &r.State, &r.Consumer, &r.Holder)
	return r, err
}

// Account notes what a machine is for from now on. Nothing is written while that does not change. Stretches of one machine neither overlap
// nor leave gaps, also where the clock was set back.
func (t *FleetTx) Account(machine string, state cert.MachineState, consumer, holder string, now time.Time) error {
	const text = "SELECT machine, since, until, state, consumer, holder FROM machine_times WHERE machine = ? ORDER BY since DESC LIMIT 1"
	last, err := scanMachineTime(t.tx.QueryRowContext(t.ctx, text, machine))
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return fmt.Errorf("cannot read what machine %s was for: %w", machine, err)
	case last.Until.IsZero() && last.State == state && last.Consumer == consumer && last.Holder == holder:
		return nil
	default:
		if !now.After(last.Since) {
			now = last.Since.Add(time.Microsecond)
		}
		if _, err := t.tx.ExecContext(t.ctx, "UPDATE machine_times SET until = ? WHERE machine = ? AND since = ? AND until IS NULL", micros(now), machine, micros(last.Since)); err != nil {
			return fmt.Errorf("cannot store what machine %s was for: %w", machine, err)
		}
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO machine_times (machine, since, state, consumer, holder) VALUES (?, ?, ?, ?, ?)",
		machine, micros(now), state, consumer, holder); err != nil {
		return fmt.Errorf("cannot store what machine %s is for: %w", machine, err)
	}
	return nil
}

// Usage adds up the lab's time from from to to.
func (db *DB) Usage(ctx context.Context, from, to, now time.Time) (cert.Usage, error) {
	rows, err := list(ctx, db.r, scanMachineTime, `SELECT machine, since, until, state, consumer, holder FROM machine_times
		WHERE since < ?1 AND (until IS NULL OR until > ?2)`, micros(to), micros(from))
	if err != nil {
		return cert.Usage{}, err
	}
	return cert.UsageOf(rows, from, to, now), nil
}
