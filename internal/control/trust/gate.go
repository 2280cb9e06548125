package trust

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// settling is how long machines have to be heard again after an incident before what is still silent counts as its own fault.
const settling = 5 * time.Minute

// MayDeploy returns nil, or why nothing new may begin on a machine: an incident, a provider's new version that is tried first, or a machine
// that has failed too often and is being judged.
func (t *Trust) MayDeploy(p cert.Place, r cert.Reservation) *cert.Hold {
	p.Release = first(p.Release, t.Config().Limits.Release)
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.state.Checks[r.ID]
	for n := range t.open {
		if i := &t.open[n]; i.Covers(p) && mine.Incident != i.ID {
			return &cert.Hold{Incident: i.ID, Text: fmt.Sprintf("incident since %s: %s; nothing new begins %s until one that is tried goes well (to end it: certlab machine resume%s)",
				clockText(i.Opened), i.Text, i.Where(), resumeWords(i))}
		}
	}
	if c := t.state.Canary; c != nil && mine.Kind != checkCanary && mine.Incident == "" {
		return &cert.Hold{Text: c.text(t.named(c.Machine)), Until: &c.Deadline}
	}
	if since, ok := t.judged[p.Machine]; ok && mine.Machine != p.Machine {
		until := since.Add(minutes(t.limits().IncidentMinutes))
		return &cert.Hold{Text: fmt.Sprintf("%s has failed too often in a row; it is quarantined at %s unless others fail alike", first(p.Hostname, t.named(p.Machine)), clockText(until)), Until: &until}
	}
	return nil
}

// MayRecover returns nil, or why the recovery ladder of a machine waits: an incident. The machine that is tried first is let through.
func (t *Trust) MayRecover(p cert.Place) *cert.Hold {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.open {
		if i := &t.open[n]; i.Covers(p) && i.Canary != p.Machine && !t.probed(i.ID, p.Machine) {
			return &cert.Hold{Incident: i.ID, Text: fmt.Sprintf("incident since %s: %s; machines %s are left as they are", clockText(i.Opened), i.Text, i.Where())}
		}
	}
	return nil
}

// probed reports whether a machine is being tried for an incident. t.mu is held.
func (t *Trust) probed(incident, machine string) bool {
	for _, c := range t.state.Checks {
		if c.Incident == incident && c.Machine == machine {
			return true
		}
	}
	return false
}

// MayCycle is MayRecover for a machine that keeps silent. For some minutes after an incident it is still held: agents come back one by one.
func (t *Trust) MayCycle(p cert.Place) *cert.Hold {
	if hold := t.MayRecover(p); hold != nil {
		return hold
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.closed {
		if i := &t.closed[n]; i.Failure == cert.FailSilent && i.Covers(p) && t.Now().Sub(*i.Closed) < settling && i.Canary != p.Machine {
			until := i.Closed.Add(settling)
			return &cert.Hold{Incident: i.ID, Text: fmt.Sprintf("an incident %s was over only at %s: its machines have until %s to be heard", i.Where(), clockText(*i.Closed), clockText(until)), Until: &until}
		}
	}
	return nil
}

// named is name with t.mu held.
func (t *Trust) named(machine string) string {
	if p, ok := t.places[machine]; ok && p.Hostname != "" {
		return p.Hostname
	}
	return machine
}

func resumeWords(i *cert.Incident) string {
	switch i.Scope {
	case cert.ScopeZone, cert.ScopeRack:
		return " --" + i.Scope + " " + i.Name
	}
	return "" // the whole lab
}

// Resumed is told that a person has resumed a part of the lab: incidents there are over, and with the whole lab a canary's wait too. It
// reports whether it has ended anything.
func (t *Trust) Resumed(ctx context.Context, scope, name, by string) (bool, error) {
	if err := t.load(ctx); err != nil {
		return false, err
	}
	t.deciding.Lock()
	defer t.deciding.Unlock()
	ended := false
	for _, i := range t.incidents() {
		if scope == cert.ScopeLab || i.Scope == scope && i.Name == name {
			if err := t.close(ctx, i, "ended by "+by, by); err != nil {
				return ended, err
			}
			ended = true
		}
	}
	if scope != cert.ScopeLab || t.canaryNow() == nil {
		return ended, nil
	}
	return true, t.trustVersion(ctx, t.canaryNow(), fmt.Sprintf("%s has resumed the lab: provider version %s is trusted without a canary", by, t.canaryNow().Version), by)
}
