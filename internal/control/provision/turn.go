package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// turn does what is due and returns how long nothing else will be.
func (f *Fleet) turn(ctx context.Context) time.Duration {
	wait, err := f.tryTurn(ctx)
	if err != nil && ctx.Err() == nil {
		f.Logger.Error("cannot go on with the machines", "error", err)
		return f.Poll
	}
	return wait
}

func (f *Fleet) tryTurn(ctx context.Context) (time.Duration, error) {
	if err := f.accountUnits(ctx); err != nil {
		return f.Poll, err
	}
	provider, _, _ := f.settings()
	if provider == nil {
		return idleWait, nil
	}
	now := f.Now()
	f.mu.Lock()
	full := !now.Before(f.nextList)
	f.mu.Unlock()
	if full {
		if err := f.list(ctx, provider); err != nil {
			return f.Poll, err
		}
	}
	if err := f.times(ctx); err != nil {
		return f.Poll, err
	}
	open, err := f.DB.OpenDeployments(ctx)
	if err != nil {
		return f.Poll, err
	}
	looked, err := f.poll(ctx, provider, open)
	if err != nil {
		return f.Poll, err
	}
	if looked {
		if open, err = f.DB.OpenDeployments(ctx); err != nil {
			return f.Poll, err
		}
	}
	for _, d := range open {
		f.dispatch(ctx, d)
	}
	if err := f.schedule(ctx); err != nil {
		return f.Poll, err
	}
	if err := f.chore(ctx, provider); err != nil {
		return f.Poll, err
	}
	return f.next(ctx)
}

// next is how long nothing is due.
func (f *Fleet) next(ctx context.Context) (time.Duration, error) {
	f.mu.Lock()
	flying := maps.Clone(f.flying) // before it is looked what they have come to
	f.mu.Unlock()
	p, err := f.look(ctx)
	if err != nil {
		return f.Poll, err
	}
	now := f.Now()
	_, _, limits := f.settings()
	wait := idleWait
	sooner := func(t time.Time) {
		wait = max(min(wait, t.Sub(now)), f.Poll/20)
	}
	// Whoever has news for a reservation wakes the loop: only what nobody tells of is looked at often.
	slow := 5 * f.Poll
	for n := range p.open {
		r := &p.open[n]
		switch {
		case r.State == cert.ReservationQueued:
			wait = min(wait, slow)
		case r.State != cert.ReservationReady:
		case r.Kind != cert.ReserveManual:
			wait = min(wait, f.Poll)
		case r.Until != nil && r.Reminded == nil:
			sooner(r.Until.Add(-time.Duration(limits.ReminderMinutes) * time.Minute))
		case r.Until != nil:
			sooner(*r.Until)
		}
	}
	for _, d := range p.deploying {
		switch _, under := flying[d.ID]; {
		case under, moving(*d), d.Phase == cert.PhaseReady && d.Step != "", d.Phase == cert.PhasePrepare, d.Step == stepJudge:
			wait = min(wait, f.Poll)
		case d.Phase != cert.PhaseReady:
			wait = min(wait, slow)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sooner(f.nextList)
	for _, at := range f.chores {
		sooner(at)
	}
	if !f.outage.IsZero() {
		wait = max(f.nextLook.Sub(now), f.Poll/20) // nothing can be done before
	}
	return wait, nil
}

// moving reports whether a deployment waits for what its machine does at the provider.
func moving(d cert.Deployment) bool {
	switch d.Phase {
	case cert.PhaseAcquire, cert.PhaseDeploy, cert.PhaseBoot, cert.PhaseRecover:
		return true
	case cert.PhaseRelease:
		return d.Step != stepKeep && d.Step != stepDrain && d.Step != stepJudge
	}
	return false
}

// poll looks at all machines that are in transition, at most once per poll interval. It reports whether it did.
func (f *Fleet) poll(ctx context.Context, provider cert.Provider, open []cert.Deployment) (bool, error) {
	now := f.Now()
	f.mu.Lock()
	due, away := !now.Before(f.nextLook), !f.outage.IsZero()
	started := f.seq
	f.mu.Unlock()
	if !due {
		return false, nil
	}
	var ids []string
	if len(open) > 0 {
		p, err := f.look(ctx)
		if err != nil {
			return false, err
		}
		for _, d := range open {
			// When the provider was away, everything under way is looked at before it is gone on with.
			if m := p.row[d.Machine]; m != nil && m.Machine.SystemID != "" && (moving(d) || away) {
				ids = append(ids, m.Machine.SystemID)
			}
		}
	}
	if len(ids) == 0 {
		if away && len(open) == 0 {
			f.mu.Lock()
			if f.problem == "" {
				f.outage = time.Time{} // nothing is under way that an outage could have held up
			}
			f.mu.Unlock()
		}
		return false, nil
	}
	f.mu.Lock()
	f.nextLook = now.Add(f.Poll)
	f.mu.Unlock()
	got, err := provider.Look(ctx, ids...)
	if err != nil {
		f.lost(err, true)
		return false, ctx.Err()
	}
	if err := f.take(ctx, got, ids, started); err != nil {
		return false, err
	}
	return true, f.found(ctx)
}

// lost notes that the provider did not answer as it should. whole: it was asked for machines together, so the fault is no machine's.
func (f *Fleet) lost(err error, whole bool) {
	fault := cert.ProviderFaultOf(err)
	switch fault {
	case cert.ProviderUnreachable, cert.ProviderRefused, cert.ProviderClock:
	default:
		if !whole {
			return
		}
	}
	f.mu.Lock()
	now := f.Now()
	if f.outage.IsZero() {
		f.outage = now
	}
	f.tries++
	wait := min(f.Poll<<min(f.tries, 5), maxBackoff)
	f.nextLook = now.Add(wait)
	f.nextList = f.nextLook // the whole list tells whether it is back, also when nothing is under way
	text := err.Error()
	was := f.problem
	f.problem = text
	f.mu.Unlock()
	if was != text {
		f.Logger.Warn("the provider of machines does not answer as it should", "error", text)
		f.Lab.Refresh()
		f.ring()
	}
}

// found notes that the provider answers, and moves all deadlines by as long as it did not.
func (f *Fleet) found(ctx context.Context) error {
	f.mu.Lock()
	since, was, now := f.outage, f.problem, f.Now()
	stored := f.contact
	f.mu.Unlock()
	if !since.IsZero() {
		if err := f.postpone(ctx, since, now); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.outage, f.tries, f.problem = time.Time{}, 0, ""
	f.mu.Unlock()
	if was != "" {
		f.Logger.Info("the provider of machines answers again", "since", since)
		f.Lab.Refresh()
		f.ring()
	}
	if now.Sub(stored) >= contactEvery || now.Before(stored) {
		if err := f.DB.SetMeta(ctx, sqlite.MetaContact, now); err != nil {
			return err
		}
		f.mu.Lock()
		f.contact = now
		f.mu.Unlock()
	}
	return nil
}

// postpone moves the deadlines of what is under way by the time from since to now. Twice at once does no harm but a later deadline.
func (f *Fleet) postpone(ctx context.Context, since, now time.Time) error {
	if now.Sub(since) < 2*f.Poll {
		return nil
	}
	open, err := f.DB.OpenDeployments(ctx)
	if err != nil {
		return err
	}
	return f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		for _, o := range open {
			d, err := tx.Deployment(o.ID)
			if err != nil {
				return err
			}
			if d.Deadline == nil {
				continue
			}
			from := since
			if d.Since.After(from) {
				from = d.Since
			}
			if !now.After(from) {
				continue
			}
			deadline := d.Deadline.Add(now.Sub(from))
			d.Deadline = &deadline
			if err := tx.PutDeployment(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// away reports whether the provider does not answer.
func (f *Fleet) away() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.outage.IsZero()
}

// dispatch moves a deployment on in a worker of its own, if it is not under way already.
func (f *Fleet) dispatch(ctx context.Context, d cert.Deployment) {
	now := f.Now()
	f.mu.Lock()
	_, busy := f.flying[d.ID]
	idle := d.Phase == cert.PhaseReady && d.Step == ""
	if busy || idle || now.Before(f.later[d.ID]) {
		f.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	f.flying[d.ID] = cancel
	f.workers.Add(1)
	f.mu.Unlock()
	go func() {
		defer f.workers.Done()
		defer cancel()
		if err := f.run(ctx, d.ID); err != nil && ctx.Err() == nil {
			f.Logger.Error("cannot go on with a deployment", "deployment", d.ID, "error", err)
			f.putOff(d.ID, min(5*f.Poll, maxBackoff)) // what it could not store may have been done at the provider, and is done again
		}
		f.mu.Lock()
		delete(f.flying, d.ID)
		f.mu.Unlock()
		f.ring()
	}()
}

// run does steps until one has to wait.
func (f *Fleet) run(ctx context.Context, id string) error {
	for ctx.Err() == nil {
		again, err := f.step(ctx, id)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return fmt.Errorf("deployment %s: %w", id, err)
		}
		if !again {
			return nil
		}
	}
	return nil
}

// putOff keeps a deployment from being gone on with for a while.
func (f *Fleet) putOff(id string, wait time.Duration) {
	f.mu.Lock()
	f.later[id] = f.Now().Add(wait)
	f.mu.Unlock()
}

// forget drops what is kept in memory of a deployment that is over.
func (f *Fleet) forget(id string) {
	f.mu.Lock()
	delete(f.later, id)
	delete(f.failures, id)
	delete(f.calls, id)
	delete(f.open, id)
	delete(f.refusals, id)
	f.mu.Unlock()
}
