package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// policy quarantines machines that have failed too often in a row, once it is clear that others do not fail alike, and machines that the watch
// could not get back.
func (t *Trust) policy(ctx context.Context) error {
	rows, err := t.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	lost, err := t.DB.LostMachines(ctx)
	if err != nil {
		return err
	}
	limits, now := t.limits(), t.Now()
	var errs []error
	known := make(map[string]bool, len(rows))
	for n := range rows {
		r := &rows[n]
		id := r.Machine.ID
		known[id] = true
		if c, ok := lost[id]; ok && r.Quarantine == nil && r.Provider != "" && r.Gone == nil && !c.Unit {
			errs = append(errs, t.quarantineLost(ctx, r, c))
		}
		if r.Failures < limits.QuarantineAfter || r.Quarantine != nil || r.Gone != nil {
			t.acquit(id)
			continue
		}
		t.mu.Lock()
		since, ok := t.judged[id]
		if !ok {
			since = now
			t.judged[id] = since
			t.ring()
		}
		place := t.places[id]
		place.Machine = id
		covered := slices.ContainsFunc(t.open, func(i cert.Incident) bool { return i.Covers(place) })
		t.mu.Unlock()
		if covered || now.Sub(since) < minutes(limits.IncidentMinutes) {
			continue
		}
		why, err := t.lastFailure(ctx, id)
		if err == nil {
			err = t.Fleet().QuarantineAs(ctx, id, cert.Quarantine{By: "certlab", Auto: true,
				Reason: fmt.Sprintf("%d deployments in a row failed (quarantine-after is %d), the last one: %s", r.Failures, limits.QuarantineAfter, why)})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot quarantine %s: %w", r.Machine.Hostname, err))
		}
	}
	t.mu.Lock()
	for id := range t.judged {
		if !known[id] {
			delete(t.judged, id)
		}
	}
	t.mu.Unlock()
	return errors.Join(errs...)
}

// acquit ends the judging of a machine that is in quarantine by now, or has failed less often. What was noted a moment ago stays: the engine
// counts a failure after it has told of it.
func (t *Trust) acquit(machine string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if since, ok := t.judged[machine]; ok && t.Now().Sub(since) > tickEvery/2 {
		delete(t.judged, machine)
		t.ring()
	}
}

func (t *Trust) lastFailure(ctx context.Context, machine string) (string, error) {
	past, err := t.DB.Deployments(ctx, sqlite.DeploymentFilter{Machine: machine}, 20)
	for _, d := range past {
		if d.Failure != nil && d.Suspect == "" {
			return d.Failure.Message, err
		}
	}
	return "its record is gone", err
}

// quarantineLost puts a machine out of use that the watch could not get back, unless a person has returned it since.
func (t *Trust) quarantineLost(ctx context.Context, r *sqlite.FleetRow, c cert.PowerCycle) error {
	back, _, err := t.DB.MachineEvents(ctx, sqlite.EventFilter{Machine: c.Machine, Kind: "returned"}, sqlite.Page{Limit: 1})
	if err != nil || len(back) > 0 && back[0].At.After(c.Since) {
		return err
	}
	if err := t.Fleet().QuarantineAs(ctx, c.Machine, cert.Quarantine{By: "certlab", Auto: true, Reason: c.Hands}); err != nil {
		return fmt.Errorf("cannot quarantine %s: %w", r.Machine.Hostname, err)
	}
	return nil
}
