package trust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// How long after its beginning an incident is tried, and at most how long between two tries.
const (
	probeAfter = 10 * time.Minute
	probeMost  = time.Hour
)

// tendIncidents has the engine mark what each incident overlaps, and tries one machine now and then.
func (t *Trust) tendIncidents(ctx context.Context) error {
	t.deciding.Lock()
	defer t.deciding.Unlock()
	if t.Now().Sub(t.placed) > placesFor {
		if err := t.locate(ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, i := range t.incidents() {
		var fresh []string
		for _, d := range i.Deployments {
			if !t.marked[d] {
				fresh = append(fresh, d)
			}
		}
		if len(fresh) > 0 {
			if err := t.Fleet().Suspect(ctx, i.ID, fresh); err != nil {
				errs = append(errs, fmt.Errorf("cannot mark what incident %s overlaps: %w", i.ID, err))
			} else {
				for _, d := range fresh {
					t.marked[d] = true
				}
			}
		}
		if !t.Now().Before(i.NextProbe) && !t.probing(i.ID) {
			errs = append(errs, t.probe(ctx, i))
		}
	}
	return errors.Join(errs...)
}

func (t *Trust) probing(incident string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.state.Checks {
		if c.Incident == incident {
			return true
		}
	}
	return false
}

// probe tries one machine: one that is free, if it is a matter of deployments; else one of those that failed, for which the ladder, or the
// power cycle, is let through.
func (t *Trust) probe(ctx context.Context, i cert.Incident) error {
	now := t.Now()
	wait := min(probeAfter<<min(i.Probes, 8), probeMost)
	free := ""
	if i.Failure != cert.FailSilent {
		machines, err := t.Fleet().Machines(ctx)
		if err != nil {
			return err
		}
		for n := range machines {
			m := &machines[n]
			p := placeOf(m)
			if i.Scope == cert.ScopeRelease {
				p.Release = i.Name
			}
			if m.State == cert.MachineFree && m.Paused == nil && i.Covers(p) && (free == "" || m.ID == i.Canary) {
				free = m.ID
			}
		}
	}
	release := ""
	if i.Scope == cert.ScopeRelease {
		release = i.Name
	}
	i.NextProbe = now.Add(wait)
	i.Probes++
	if free == "" {
		if len(i.Machines) == 0 {
			return t.put(ctx, i, "", "", nil, nil)
		}
		i.Canary = i.Machines[(i.Probes-1)%len(i.Machines)]
		if i.Failure != cert.FailSilent {
			i.NextProbe = now.Add(min(wait, probeAfter)) // when it is free, it is deployed
		}
		return t.put(ctx, i, "incident", "tried first: if it comes back, the incident "+i.Where()+" is over", []string{i.Canary}, nil)
	}
	i.Canary = free
	if err := t.put(ctx, i, "incident", "tried first: if it can be deployed, the incident "+i.Where()+" is over", []string{free}, nil); err != nil {
		return err
	}
	return t.startCheck(ctx, check{Machine: free, Kind: checkProbe, Incident: i.ID, Release: release}, "a try whether the incident "+i.Where()+" is over")
}

// probeOver takes in what a try has shown.
func (t *Trust) probeOver(ctx context.Context, c check, passed bool, why string) error {
	t.deciding.Lock()
	defer t.deciding.Unlock()
	for _, i := range t.incidents() {
		if i.ID != c.Incident {
			continue
		}
		if passed {
			return t.close(ctx, i, t.name(c.Machine)+", which was tried first, went well", "")
		}
		return t.put(ctx, i, "incident", "the try failed, the incident "+i.Where()+" goes on: "+why, []string{c.Machine}, nil)
	}
	return nil
}

func placeOf(m *cert.FleetMachine) cert.Place {
	return cert.Place{Machine: m.ID, Hostname: m.Hostname, Zone: m.Zone, Rack: m.Rack, Pool: m.Pool}
}
