package sqlite

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// SuspectRuns returns the orders that are over, that an incident has overlapped which is closed, and that no other run repeats, if they or the
// incident were over after then: the oldest first. Nobody waits for those of campaigns that are final.
func (db *DB) SuspectRuns(ctx context.Context, then time.Time) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		`SELECT r.id FROM attempts a INDEXED BY attempts_suspect CROSS JOIN runs r ON r.id = a.run CROSS JOIN incidents i ON i.id = a.suspect
		WHERE a.suspect <> '' AND r.origin = 'order' AND r.state IN ('completed', 'failed') AND r.cancel_requested = 0
		AND i.closed IS NOT NULL AND max(r.finished, i.closed) >= ? AND NOT EXISTS (SELECT 1 FROM runs n WHERE n.repeats = r.id AND n.repeats <> '')
		AND NOT EXISTS (SELECT 1 FROM tries t JOIN campaigns c ON c.id = t.campaign WHERE t.run = r.id AND t.purpose <> 'attached' AND NOT (c.`+openCampaigns+`)) ORDER BY r.seq`, micros(then))
}

// SuspectRunning marks the attempts that have begun on these machines since the incident did, as SuspectAttempts does; but not those of checks,
// which are there to find out.
func (t *FleetTx) SuspectRunning(incident string, machines []string) error {
	_, err := t.tx.ExecContext(t.ctx, `UPDATE attempts SET suspect = ? WHERE suspect = '' AND state IN ('queued', 'running')
		AND run IN (SELECT id FROM runs INDEXED BY runs_open WHERE machine IN (SELECT value FROM json_each(?)) AND state IN ('queued', 'running'))
		AND NOT EXISTS (SELECT 1 FROM reservations v WHERE v.run = attempts.run AND v.run <> '' AND v.kind = 'check')`, incident, mustJSON(machines))
	if err != nil {
		return fmt.Errorf("cannot mark the attempts that incident %s overlaps: %w", incident, err)
	}
	return nil
}

// Run returns a run. It fails as NotFound.
func (t *FleetTx) Run(id string) (cert.Run, error) {
	row, err := loadRun(t.ctx, t.tx, id)
	return row.Run, err
}

// RunReservation returns the reservation that a run has; false if it has none.
func (t *FleetTx) RunReservation(run string) (cert.Reservation, bool, error) {
	r, err := t.reservation("run = ? AND run <> '' ORDER BY seq DESC LIMIT 1", run)
	if cert.CodeOf(err) == cert.NotFound {
		return r, false, nil
	}
	return r, err == nil, err
}
