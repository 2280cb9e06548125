package sqlite

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Pauses returns the pauses that are in force.
func (db *DB) Pauses(ctx context.Context) ([]cert.Pause, error) {
	return remembered(&db.memos.pauses, db, func() ([]cert.Pause, error) {
		return list(ctx, db.r, func(s scanner) (p cert.Pause, err error) { return p, s.Scan(jsonColumn{&p}) }, "SELECT data FROM pauses ORDER BY scope, name")
	})
}

// PutPause stores a pause; one of the same scope and name is replaced.
func (t *FleetTx) PutPause(p cert.Pause) error {
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO pauses (scope, name, data) VALUES (?, ?, ?) ON CONFLICT (scope, name) DO UPDATE SET data = excluded.data",
		p.Scope, p.Name, mustJSON(p)); err != nil {
		return fmt.Errorf("cannot store the pause of %s %s: %w", p.Scope, p.Name, err)
	}
	return nil
}

// EndPause ends a pause. It returns false if there is none.
func (t *FleetTx) EndPause(scope, name string) (bool, error) {
	res, err := t.tx.ExecContext(t.ctx, "DELETE FROM pauses WHERE scope = ? AND name = ?", scope, name)
	if err != nil {
		return false, fmt.Errorf("cannot end the pause of %s %s: %w", scope, name, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// An AgentSaid is what a machine's agent said last.
type AgentSaid struct {
	Machine string
	At      time.Time
	Key     string // of the deployment that it was enrolled for; empty: a unit's
	Status  order.Status
}

func scanSaid(s scanner) (a AgentSaid, err error) {
	err = s.Scan(&a.Machine, timeColumn{&a.At}, &a.Key, jsonColumn{&a.Status})
	return a, err
}

// PutAgentStatus stores what a machine's agent says.
func (t *FleetTx) PutAgentStatus(a AgentSaid) error {
	if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO agent_status (machine, at, key, data) VALUES (?, ?, ?, ?) ON CONFLICT (machine)
		DO UPDATE SET at = excluded.at, key = excluded.key, data = excluded.data`, a.Machine, micros(a.At), a.Key, mustJSON(a.Status)); err != nil {
		return fmt.Errorf("cannot store the state of machine %s's agent: %w", a.Machine, err)
	}
	return nil
}

// DropAgentStatus forgets what a machine's agent has said: it is not there any more.
func (t *FleetTx) DropAgentStatus(machine string) error {
	if _, err := t.tx.ExecContext(t.ctx, "DELETE FROM agent_status WHERE machine = ?", machine); err != nil {
		return fmt.Errorf("cannot forget the state of machine %s's agent: %w", machine, err)
	}
	return nil
}

// AgentStatus returns what a machine's agent said last; false if it has said nothing.
func (db *DB) AgentStatus(ctx context.Context, machine string) (AgentSaid, bool, error) {
	return agentStatus(ctx, db.r, machine)
}

// AgentStatus is DB.AgentStatus in the transaction.
func (t *FleetTx) AgentStatus(machine string) (AgentSaid, bool, error) {
	return agentStatus(t.ctx, t.tx, machine)
}

func agentStatus(ctx context.Context, q query, machine string) (AgentSaid, bool, error) {
	a, err := one(ctx, q, scanSaid, notFound("state of the agent of machine", machine), "SELECT machine, at, key, data FROM agent_status WHERE machine = ?", machine)
	if cert.CodeOf(err) == cert.NotFound {
		return a, false, nil
	}
	return a, err == nil, err
}
