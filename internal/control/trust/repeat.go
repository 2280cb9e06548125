package trust

import (
	"context"
	"errors"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// repeatWithin is for how long after a run, or the incident that has spoilt it, it is done again: nobody waits for what was longer ago, as when
// this service was stopped or its data come from a backup.
const repeatWithin = 7 * 24 * time.Hour

// repeatRuns has the runs done again that incidents have spoilt which are closed. Those of checks are seen to where checks are judged.
func (t *Trust) repeatRuns(ctx context.Context) error {
	if err := t.markRunning(ctx); err != nil {
		return err
	}
	ids, err := t.DB.SuspectRuns(ctx, t.Now().Add(-repeatWithin))
	if err != nil {
		return err
	}
	var errs []error
	settled := make(map[string]bool)
	for _, id := range ids {
		done := t.settled[id]
		if !done {
			var err error
			done, err = t.repeatRun(ctx, id)
			errs = append(errs, err)
		}
		settled[id] = done
	}
	t.settled = settled
	return errors.Join(errs...)
}

// repeatRun reports whether nothing more is to be done for a run.
func (t *Trust) repeatRun(ctx context.Context, id string) (bool, error) {
	run, err := t.DB.Run(ctx, id)
	if err != nil {
		return false, err
	}
	incident := run.Spoilt()
	if incident == "" {
		return true, nil
	}
	r, reserved, err := t.DB.RunReservation(ctx, id)
	if err != nil || reserved && r.Kind == cert.ReserveCheck {
		return err == nil, err
	}
	if !reserved && t.inIncident(run.Machine) { // an order goes to that machine alone: it would be spoilt again
		return false, nil
	}
	_, err = t.Fleet().Repeat(ctx, id, incident)
	if cert.CodeOf(err) == cert.Conflict {
		return false, nil
	}
	return err == nil, err
}

// checkAgain has a check done again that an incident has spoilt, once that is closed, and reports whether it did or will. What is checked to learn
// of an incident or of a new version is not: that goes on to its next machine by itself.
func (t *Trust) checkAgain(ctx context.Context, id string, c check, r cert.Reservation) (bool, error) {
	if c.Kind != checkHealth && c.Kind != checkReturn || r.Run == "" {
		return false, nil
	}
	run, err := t.DB.Run(ctx, r.Run)
	if cert.CodeOf(err) == cert.NotFound {
		return false, nil
	}
	incident := run.Spoilt()
	if err != nil || incident == "" {
		return false, err
	}
	if slices.ContainsFunc(t.incidents(), func(i cert.Incident) bool { return i.ID == incident }) || t.inIncident(c.Machine) {
		if c.Incident == incident {
			return true, nil
		}
		c.Incident = incident
		return true, t.save(ctx, func(s *state) { s.Checks[id] = c })
	}
	next, err := t.Fleet().Repeat(ctx, r.Run, incident)
	if cert.CodeOf(err) == cert.Conflict {
		return true, nil
	}
	if err != nil || next == "" {
		return false, err
	}
	c.Incident, c.Since = "", t.Now()
	return true, t.save(ctx, func(s *state) {
		delete(s.Checks, id)
		s.Checks[next] = c
	})
}

// inIncident reports whether a machine stands where an incident goes on.
func (t *Trust) inIncident(machine string) bool {
	t.mu.Lock()
	p, known := t.places[machine]
	t.mu.Unlock()
	return known && slices.ContainsFunc(t.incidents(), func(i cert.Incident) bool { return i.Covers(p) })
}

// markRunning marks the attempts that have begun within open incidents since those were opened.
func (t *Trust) markRunning(ctx context.Context) error {
	for _, i := range t.incidents() {
		inside := t.inside(i)
		if err := t.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error { return tx.SuspectRunning(i.ID, inside) }); err != nil {
			return err
		}
	}
	return nil
}

// inside returns the machines that an incident covers.
func (t *Trust) inside(i cert.Incident) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for id, p := range t.places {
		if i.Covers(p) {
			out = append(out, id)
		}
	}
	return out
}
