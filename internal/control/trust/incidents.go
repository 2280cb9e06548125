package trust

import (
	"context"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// counts holds the failures that may be an incident: not that somebody was faster, that there is no machine, or that one was taken away.
func counts(failure string) bool {
	return failure != cert.FailNoMachine && failure != cert.FailAcquire && failure != cert.FailVanished
}

// trialOf returns what a deployment says; false if nothing yet, or nothing that may be an incident.
func (t *Trust) trialOf(d cert.Deployment, p cert.Place) (cert.Trial, bool) {
	trial := cert.Trial{ID: d.ID, Place: p, At: d.Since}
	trial.Place.Machine = d.Machine
	if d.Release != "" {
		trial.Place.Release = d.Release
	}
	switch {
	case d.Failure != nil:
		trial.Failure = d.Failure.Type
		return trial, counts(d.Failure.Type)
	case d.WasReady():
		return trial, true
	}
	trial.Open = d.Phase != cert.PhaseOver
	return trial, trial.Open
}

// Over is told of each deployment that has become ready, has failed, or does not come back, and answers with the incident that it belongs to;
// empty: none. It may be told of the same thing again.
func (t *Trust) Over(ctx context.Context, d cert.Deployment, p cert.Place) string {
	if err := t.load(ctx); err != nil {
		t.Logger.Error("cannot judge a failure", "deployment", d.ID, "error", err)
		return ""
	}
	t.deciding.Lock()
	defer t.deciding.Unlock()
	defer t.wake()
	now := t.Now()
	trial, ok := t.trialOf(d, p)
	if !ok {
		return ""
	}
	trial.At = now
	if trial.Failure == "" {
		t.note(trial)
		t.wentWell(ctx, d, p)
		return ""
	}
	if id := t.within(ctx, d, trial, now); id != "" {
		return id
	}
	t.note(trial)
	if id, err := t.find(ctx, now); err != nil {
		t.Logger.Error("cannot look for an incident", "deployment", d.ID, "error", err)
	} else if id != "" && t.belongs(id, d.ID) {
		return id
	}
	if cert.MachinesFault(trial.Failure) {
		if row, err := t.DB.FleetRow(ctx, d.Machine); err == nil && row.Failures+1 >= t.limits().QuarantineAfter {
			t.mu.Lock()
			t.judged[d.Machine] = now
			t.ring()
			t.mu.Unlock()
		}
	}
	return ""
}

// note keeps a trial, in the place of what was known of the same deployment.
func (t *Trust) note(trial cert.Trial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldest := t.Now().Add(-minutes(t.limits().IncidentMinutes))
	t.trials = slices.DeleteFunc(t.trials, func(o cert.Trial) bool { return o.ID == trial.ID || !o.Open && o.At.Before(oldest) })
	t.trials = append(t.trials, trial)
}

// within returns the incident that a failure falls into, and adds it there.
func (t *Trust) within(ctx context.Context, d cert.Deployment, trial cert.Trial, now time.Time) string {
	for _, i := range t.incidents() {
		if !i.Covers(trial.Place) {
			continue
		}
		if !slices.Contains(i.Deployments, d.ID) {
			i.Deployments = append(i.Deployments, d.ID)
			if trial.Failure == i.Failure && !slices.Contains(i.Machines, d.Machine) {
				i.Machines = append(i.Machines, d.Machine)
				i.Of = max(i.Of, len(i.Machines))
			}
			if err := t.put(ctx, i, "incident", fmt.Sprintf("its failure (%s) falls into an incident %s", trial.Failure, i.Where()), []string{d.Machine}, nil); err != nil {
				t.Logger.Error("cannot store an incident", "incident", i.ID, "error", err)
			}
		}
		return i.ID
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.closed {
		if i := &t.closed[n]; i.Covers(trial.Place) && i.Overlaps(d.Started, now) {
			return i.ID
		}
	}
	return ""
}

// incidents returns the open ones.
func (t *Trust) incidents() []cert.Incident {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]cert.Incident, len(t.open))
	for n, i := range t.open {
		i.Machines, i.Deployments = slices.Clone(i.Machines), slices.Clone(i.Deployments)
		out[n] = i
	}
	return out
}

// taken reports whether a deployment belongs to a known incident. t.mu is held.
func (t *Trust) taken(deployment string) bool {
	for _, all := range [][]cert.Incident{t.open, t.closed} {
		for _, i := range all {
			if slices.Contains(i.Deployments, deployment) {
				return true
			}
		}
	}
	return false
}

func (t *Trust) belongs(incident, deployment string) bool {
	for _, i := range t.incidents() {
		if i.ID == incident {
			return slices.Contains(i.Deployments, deployment)
		}
	}
	return false
}

func (t *Trust) rule() cert.IncidentRule {
	l := t.limits()
	return cert.IncidentRule{Machines: l.IncidentMachines, Percent: l.IncidentPercent, Within: minutes(l.IncidentMinutes)}
}

// find opens the incident that the failures of deployments show, and returns its id.
func (t *Trust) find(ctx context.Context, now time.Time) (string, error) {
	open, err := t.DB.OpenDeployments(ctx)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	trials := slices.Clone(t.trials)
	for _, d := range open {
		if d.Failure != nil || d.WasReady() {
			continue
		}
		if trial, ok := t.trialOf(d, t.places[d.Machine]); ok && !slices.ContainsFunc(trials, func(o cert.Trial) bool { return o.ID == d.ID }) {
			trials = append(trials, trial)
		}
	}
	t.mu.Unlock()
	found := t.rule().Find(trials, now)
	if found == nil {
		return "", nil
	}
	for _, trial := range trials {
		if trial.Failure == found.Failure && !trial.Open && found.Covers(trial.Place) && now.Sub(trial.At) <= t.rule().Within && trial.ID != "" {
			found.Deployments = append(found.Deployments, trial.ID)
		}
	}
	return t.begin(ctx, *found, now)
}

// begin opens an incident.
func (t *Trust) begin(ctx context.Context, i cert.Incident, now time.Time) (string, error) {
	if err := t.locate(ctx); err != nil { // what it overlaps is marked by where it stands
		return "", err
	}
	i.ID, i.Opened, i.NextProbe = cert.NewID(cert.IncidentID, now), now, now.Add(probeAfter)
	n := cert.NewNotice(cert.NoticeIncidentOpened, i.ID, now, "incident "+i.Where()+": "+i.Text+"; nothing new begins there, and nothing is quarantined")
	n.Incident = i.ID
	if err := t.put(ctx, i, "incident", i.Text, i.Machines, &n); err != nil {
		return "", err
	}
	t.Logger.Warn("an incident has begun", "incident", i.ID, "scope", i.Scope, "name", i.Name, "failure", i.Failure, "machines", len(i.Machines), "of", i.Of)
	t.mu.Lock()
	t.trials = slices.DeleteFunc(t.trials, func(o cert.Trial) bool { return slices.Contains(i.Deployments, o.ID) })
	for _, m := range i.Machines {
		delete(t.judged, m)
	}
	t.ring()
	t.mu.Unlock()
	t.wake()
	return i.ID, nil
}

// put stores an incident, an event for each of some machines, and a notice, and marks the attempts that it overlaps.
func (t *Trust) put(ctx context.Context, i cert.Incident, kind, text string, machines []string, n *cert.Notice) error {
	inside := t.inside(i)
	err := t.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		if err := tx.PutIncident(i); err != nil {
			return err
		}
		for _, m := range machines {
			if err := tx.Event(cert.MachineEvent{Machine: m, At: t.Now(), Kind: kind, Who: "certlab", Text: text, Incident: i.ID}); err != nil {
				return err
			}
		}
		if i.Closed == nil {
			if err := tx.SuspectAttempts(i.ID, inside); err != nil {
				return err
			}
		}
		if n != nil {
			return tx.Notice(*n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(t.open, func(o cert.Incident) bool { return o.ID == i.ID })
	switch {
	case i.Closed != nil && at >= 0:
		t.open = slices.Delete(t.open, at, at+1)
		t.closed = append([]cert.Incident{i}, t.closed[:min(len(t.closed), recentIncidents)]...)
	case i.Closed != nil:
	case at >= 0:
		t.open[at] = i
	default:
		t.open = append(t.open, i)
	}
	return nil
}

// close ends an incident.
func (t *Trust) close(ctx context.Context, i cert.Incident, why, by string) error {
	now := t.Now()
	i.Closed, i.Ending = &now, why
	text := fmt.Sprintf("the incident %s is over after %s: %s", i.Where(), plural(int(now.Sub(i.Opened).Minutes()), "minute"), why)
	n := cert.NewNotice(cert.NoticeIncidentClosed, i.ID, now, text)
	n.Incident, n.Person = i.ID, by
	if err := t.put(ctx, i, "incident", text, i.Machines, &n); err != nil {
		return err
	}
	t.Logger.Info("an incident is over", "incident", i.ID, "reason", why)
	t.mu.Lock()
	t.ring()
	t.mu.Unlock()
	return nil
}

// wentWell sees whether a deployment that went well ends an incident: things go well again there when the machine that is tried first does, or
// as many as have failed.
func (t *Trust) wentWell(ctx context.Context, d cert.Deployment, p cert.Place) {
	if d.Release != "" {
		p.Release = d.Release
	}
	for _, i := range t.incidents() {
		if !i.Covers(p) || i.Failure == cert.FailSilent {
			continue
		}
		i.Well++
		var err error
		switch {
		case i.Well >= len(i.Machines):
			err = t.close(ctx, i, fmt.Sprintf("%s went well there since", plural(i.Well, "deployment")), "")
		default:
			err = t.put(ctx, i, "", "", nil, nil)
		}
		if err != nil {
			t.Logger.Error("cannot store an incident", "incident", i.ID, "error", err)
		}
	}
}
