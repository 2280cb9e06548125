package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Steps of a deployment within its phases. They are stored: see the package's comment.
const (
	stepDeploy = "deploy" // the provider is asked to deploy
	stepLock   = "lock"   //
	stepWait   = "wait"   // for the provider, or for the machine

	stepJudge   = "judge"   // the observer is told
	stepKeep    = "keep"    // for its holder, who wants to look at it
	stepDrain   = "drain"   // until the machine holds nothing that is not stored
	stepUnlock  = "unlock"  //
	stepOff     = "off"     //
	stepAbort   = "abort"   //
	stepRelease = "release" //
)

const (
	acquireLimit = 10 * time.Minute
	abortLimit   = 2 * time.Minute
)

// at is a deployment with everything that a step goes by.
type at struct {
	f        *Fleet
	provider cert.Provider
	d        cert.Deployment
	r        cert.Reservation
	m        sqlite.FleetRow
	p        cert.Provided // as last read; zero when the machine is gone
	id       string        // the provider's
}

// step does one step of a deployment. It reports whether the next one can be done at once.
func (f *Fleet) step(ctx context.Context, id string) (again bool, err error) {
	a := at{f: f}
	if a.d, err = f.DB.Deployment(ctx, id); err != nil {
		return false, err
	}
	if a.d.Phase == cert.PhaseOver {
		f.forget(id)
		return false, nil
	}
	if a.r, err = f.DB.Reservation(ctx, a.d.Reservation); err != nil {
		return false, err
	}
	if a.m, err = f.DB.FleetRow(ctx, a.d.Machine); err != nil {
		return false, err
	}
	if a.provider = f.Provider(); a.provider == nil {
		return false, nil
	}
	a.id = a.m.Machine.SystemID
	if a.m.Provided != nil && a.m.Gone == nil {
		a.p = *a.m.Provided
	}
	return a.step(ctx)
}

func (a *at) step(ctx context.Context) (bool, error) {
	wanted := a.r.Deployment == a.d.ID && a.r.State == cert.ReservationPreparing
	switch a.d.Phase {
	case cert.PhaseBoot, cert.PhaseEnrol:
		// These need the machine, not the provider.
		if wanted && !a.taken() {
			return a.arrive(ctx)
		}
	}
	if a.f.away() {
		return false, nil
	}
	switch a.d.Phase {
	case cert.PhaseAcquire, cert.PhasePrepare, cert.PhaseDeploy, cert.PhaseBoot, cert.PhaseEnrol:
		switch {
		case a.m.Gone != nil:
			return a.fail(ctx, cert.FailVanished, "the provider does not list the machine any more")
		case !wanted:
			return a.unwanted(ctx)
		}
	}
	if (a.d.Phase == cert.PhaseRelease || a.d.Phase == cert.PhaseRecover) && a.d.Step != stepJudge && a.d.Step != stepKeep {
		if wait, err := a.spare(ctx); wait || err != nil {
			return false, err
		}
	}
	switch a.d.Phase {
	case cert.PhaseAcquire:
		return a.acquire(ctx)
	case cert.PhasePrepare:
		return a.prepare(ctx)
	case cert.PhaseDeploy:
		return a.deploy(ctx)
	case cert.PhaseBoot, cert.PhaseEnrol:
		return a.fail(ctx, cert.FailVanished, "the machine was taken away: "+a.whose())
	case cert.PhaseReady:
		return a.ready(ctx)
	case cert.PhaseRelease:
		return a.release(ctx)
	case cert.PhaseRecover:
		return a.recover(ctx)
	}
	return false, fmt.Errorf("deployment %s is in a phase that is not known: %s", a.d.ID, a.d.Phase)
}

// taken reports whether the machine is not this lab's any more, or nothing is deployed on it any more.
func (a *at) taken() bool {
	return a.m.Gone != nil || a.p.Holder != cert.ThisLab || a.p.Status != cert.StatusDeployed && a.p.Status != cert.StatusDeploying
}

func (a *at) whose() string {
	return fmt.Sprintf("at the provider it is %s%s", first(a.p.StatusName, string(a.p.Status), "unknown"), heldBy(&a.p))
}

// unwanted gives back a machine whose reservation ended before it was ready.
func (a *at) unwanted(ctx context.Context) (bool, error) {
	calls := a.f.counted(a.d.ID)
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		if e.d.Phase == cert.PhaseAcquire && a.p.Holder == cert.ThisLab {
			e.log("acquired", "certlab", "it was taken at the provider, and the answer was lost") // by a kill
		}
		e.phase(cert.PhaseRelease, stepDrain, 0, calls)
		return nil
	})
}

// call asks the provider for a change. It counts it, and notes that what was read before is out of date.
func (a *at) call(fn func() error) error {
	a.f.mu.Lock()
	a.f.calls[a.d.ID]++
	a.f.mu.Unlock()
	a.f.slots <- struct{}{}
	err := fn()
	<-a.f.slots
	a.f.touch(a.d.Machine)
	return err
}

// counted returns how many calls the phase has taken, and begins to count the next one's.
func (f *Fleet) counted(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.calls[id]
	delete(f.calls, id)
	return n
}

// worked notes that calls succeed again.
func (a *at) worked() {
	a.f.mu.Lock()
	delete(a.f.failures, a.d.ID)
	a.f.mu.Unlock()
}

// expired reports whether the step's deadline is over.
func (a *at) expired() bool {
	return a.d.Deadline != nil && !a.f.Now().Before(*a.d.Deadline)
}

// hold has a deployment wait because of an error that is not the machine's, and says so.
func (a *at) hold(ctx context.Context, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	f := a.f
	f.lost(err, false)
	f.mu.Lock()
	f.failures[a.d.ID]++
	wait := min(f.Poll<<min(f.failures[a.d.ID], 5), maxBackoff)
	f.mu.Unlock()
	var pe *cert.ProviderError
	if errors.As(err, &pe) && pe.Fault == cert.ProviderBusy {
		wait = max(wait, pe.Wait)
		if pe.Wait == 0 {
			wait = max(wait, busyWait)
		}
	}
	f.putOff(a.d.ID, wait)
	return false, a.block(ctx, err.Error())
}

// block says what a reservation waits for; empty: nothing any more.
func (a *at) block(ctx context.Context, text string) error {
	if a.r.Blocked == text || a.r.Deployment != a.d.ID || a.r.Final() {
		return nil
	}
	_, err := a.f.edit(ctx, a.d.ID, func(e *edit) error {
		if e.r.Deployment != e.d.ID || e.r.Final() {
			return nil
		}
		e.r.Blocked = text
		if text != "" {
			e.log("waiting", "certlab", text)
		}
		return nil
	})
	a.r.Blocked = text
	return err
}

// relook reads one machine after an outcome that is not known.
func (a *at) relook(ctx context.Context) error {
	a.f.mu.Lock()
	started := a.f.seq
	a.f.mu.Unlock()
	var got []cert.Provided
	err := a.call(func() (err error) { got, err = a.provider.Look(ctx, a.id); return err })
	if err != nil {
		return err
	}
	// call has counted this look as a change: nothing else has changed the machine meanwhile, for one step at a time is under way for it.
	if err := a.f.take(ctx, got, []string{a.id}, started+1<<40); err != nil {
		return err
	}
	if a.m, err = a.f.DB.FleetRow(ctx, a.d.Machine); err != nil {
		return err
	}
	a.p = cert.Provided{}
	if a.m.Provided != nil && a.m.Gone == nil {
		a.p = *a.m.Provided
	}
	return nil
}

// waits reports whether an error says nothing of the machine, so that the step is to be done again later.
func waits(err error) bool {
	switch cert.ProviderFaultOf(err) {
	case cert.ProviderUnreachable, cert.ProviderBusy, cert.ProviderRefused, cert.ProviderClock, cert.ProviderBroken, cert.ProviderOutcome, cert.ProviderNoRack:
		return true
	}
	return false
}

// acquire takes the machine at the provider.
func (a *at) acquire(ctx context.Context) (bool, error) {
	if a.expired() {
		return a.fail(ctx, cert.FailProvider, "the machine could not be taken: "+first(a.r.Blocked, "the provider did not do it"))
	}
	if a.m.Quarantine != nil && a.p.Status == cert.StatusBroken && forQuarantined(&a.r) {
		// Nobody is handed a broken machine. It stays in the quarantine's pool, and is marked broken again if it is not returned to service.
		if err := a.call(func() error { return a.fix(ctx) }); waits(err) {
			return a.hold(ctx, err)
		}
	}
	var got cert.Provided
	err := a.call(func() (err error) { got, err = a.provider.Acquire(ctx, a.id, comment(a.r)); return err })
	fault := cert.ProviderFaultOf(err)
	switch {
	case err == nil:
	case fault == cert.ProviderConflict, fault == cert.ProviderForeign, fault == cert.ProviderForbidden:
		return a.pass(ctx, err)
	case fault == cert.ProviderNotFound:
		return a.fail(ctx, cert.FailVanished, err.Error())
	case waits(err):
		return a.hold(ctx, err)
	default:
		return a.fail(ctx, cert.FailAcquire, err.Error())
	}
	a.worked()
	calls := a.f.counted(a.d.ID)
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.m.Provided, e.r.Blocked = &got, ""
		if len(e.r.Want.Prepare) > 0 {
			e.phase(cert.PhasePrepare, e.r.Want.Prepare[0], 0, calls)
		} else {
			e.phase(cert.PhaseDeploy, stepDeploy, a.f.minutes(deployMinutes), calls)
		}
		e.log("acquired", "certlab", "taken at the provider for "+about(e.r))
		return nil
	})
}

// pass gives a machine up that somebody else was faster to take. That is not the machine's failure.
func (a *at) pass(ctx context.Context, cause error) (bool, error) {
	a.f.mu.Lock()
	a.f.shy[a.d.Machine] = a.f.Now().Add(shyFor)
	a.f.mu.Unlock()
	if err := a.relook(ctx); err != nil && !waits(err) {
		return false, err
	}
	calls := a.f.counted(a.d.ID)
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		e.d.Failure = &cert.Failure{Type: cert.FailAcquire, Message: cause.Error()}
		e.phase(cert.PhaseOver, "", 0, calls)
		e.d.Finished = &e.now
		if e.r.Deployment == e.d.ID && e.r.State == cert.ReservationPreparing {
			e.r.State, e.r.Machine, e.r.Hostname, e.r.Blocked = cert.ReservationQueued, "", "", ""
			e.r.Tries = max(e.r.Tries-1, 0)
		} else {
			a.f.ended(e)
		}
		e.log("passed", "certlab", "not taken: "+cause.Error())
		return nil
	})
	a.f.Wake()
	return true, err
}

// comment is what a provider is told of the reason for a change.
func comment(r cert.Reservation) string {
	return fmt.Sprintf("certlab reservation %s of %s: %s", r.ID, r.Holder, r.Reason)
}

// about names a reservation for people.
func about(r cert.Reservation) string {
	switch r.Kind {
	case cert.ReserveRun:
		return fmt.Sprintf("run %s of %s (%s)", r.Run, r.Holder, r.Reason)
	case cert.ReserveCheck:
		return "a check (" + r.Reason + ")"
	}
	return r.Holder + " (" + r.Reason + ")"
}

// Limits of phases, by what they are configured with.
const (
	deployMinutes = iota
	bootMinutes
	enrolMinutes
	releaseMinutes
)

func (f *Fleet) minutes(which int) time.Duration {
	_, _, l := f.settings()
	return time.Duration([]int{l.DeployMinutes, l.BootMinutes, l.EnrolMinutes, l.ReleaseMinutes}[which]) * time.Minute
}
