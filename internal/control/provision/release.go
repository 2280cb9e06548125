package provision

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// ready tells the observer, and ends a deployment whose machine was taken away.
func (a *at) ready(ctx context.Context) (bool, error) {
	if a.d.Step == stepJudge {
		if a.f.Observer != nil {
			a.f.Observer.Over(ctx, a.d, a.place(ctx))
		}
		return true, a.f.advance(ctx, a.d, func(e *edit) error { e.d.Step = ""; return nil })
	}
	if a.d.Step == stepLock {
		return a.relock(ctx)
	}
	return false, nil
}

// relock locks a machine again that is in use: whoever unlocked it to switch it died, or could not lock it.
func (a *at) relock(ctx context.Context) (bool, error) {
	refused := error(nil)
	if !a.p.Locked {
		refused = a.call(func() error { return a.provider.Lock(ctx, a.id, comment(a.r)) })
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		a.f.lost(refused, false)
	}
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.d.Step = ""
		if refused != nil {
			return nil // that it is not locked is seen again
		}
		e.believe(func(p *cert.Provided) {
			if !p.Locked {
				e.log("locked", "certlab", "locked again at the provider")
			}
			p.Locked = true
		})
		return nil
	})
}

// vanished looks at the machine of a deployment that is in use, and ends the deployment if the machine was taken away.
func (f *Fleet) vanished(ctx context.Context, d cert.Deployment) error {
	a := at{f: f, d: d}
	var err error
	if a.m, err = f.DB.FleetRow(ctx, d.Machine); err != nil {
		return err
	}
	if a.r, err = f.DB.Reservation(ctx, d.Reservation); err != nil {
		return err
	}
	a.provider, a.id = f.Provider(), a.m.Machine.SystemID
	if a.provider == nil {
		return nil
	}
	if err := a.relook(ctx); err != nil {
		return nil // another time
	}
	if a.m.Gone == nil && a.p.Holder == cert.ThisLab && a.p.Status == cert.StatusDeployed {
		return nil
	}
	text := "the machine was taken away: " + a.whose()
	if a.m.Gone != nil {
		text = "the provider does not list the machine any more"
	}
	_, err = a.fail(ctx, cert.FailVanished, text)
	return err
}

func (a *at) place(ctx context.Context) cert.Place {
	rack := ""
	if dossiers, err := a.f.DB.FleetDossiers(ctx); err == nil {
		rack = dossiers[a.d.Machine].Rack
	}
	return cert.Place{Machine: a.d.Machine, Hostname: a.m.Machine.Hostname, Zone: a.p.Zone, Rack: rack, Pool: a.p.Pool, Release: a.d.Release}
}

// release gives the machine back, step by step.
func (a *at) release(ctx context.Context) (bool, error) {
	switch a.d.Step {
	case stepJudge:
		return a.judge(ctx)
	case stepKeep:
		return a.keep(ctx)
	case stepDrain:
		return a.drain(ctx)
	}
	if over, text := a.back(); over {
		return a.over(ctx, text)
	}
	switch a.d.Step {
	case stepUnlock:
		return a.unlock(ctx, stepOff)
	case stepOff:
		if a.d.Failure == nil {
			return a.next(ctx, stepAbort, 0)
		}
		return a.try(ctx, stepAbort, "off", "switched off", func() error { return a.provider.Power(ctx, a.id, cert.SwitchOff, false) }, func(p *cert.Provided) { p.Power = cert.PowerOff })
	case stepAbort:
		return a.abort(ctx, stepRelease)
	case stepRelease:
		return a.giveBack(ctx, stepWait)
	}
	if a.p.Status == cert.StatusReleaseFailed || a.p.Status == cert.StatusDeployFailed || a.p.Status == cert.StatusAcquired || a.expired() {
		return a.stuck(ctx)
	}
	return false, nil
}

// back reports whether the machine is not this lab's any more.
func (a *at) back() (bool, string) {
	switch {
	case a.m.Gone != nil:
		return true, "the provider does not list it any more"
	case a.p.Holder == cert.AJuju, a.p.Holder == cert.Otherwise:
		return true, "it is not this lab's any more: " + a.whose()
	case a.p.Holder == cert.Nobody && a.p.Status == cert.StatusFree:
		return true, "back"
	case a.p.Holder != cert.Nobody:
		return false, ""
	case a.p.Status == cert.StatusBroken && (a.d.Phase == cert.PhaseRelease || a.d.Step == rungAbort || a.d.Step == rungRelease):
		return true, "it is not this lab's any more: " + a.whose()
	case a.p.Status == cert.StatusNew, a.p.Status == cert.StatusExamining, a.p.Status == cert.StatusTestFailed, a.p.Status == cert.StatusRetired:
		// It came back, and an administrator has taken it up at once. The ladder is not for that.
		return true, "it is not this lab's any more: " + a.whose()
	}
	return false, ""
}

// over ends the deployment: the machine is back.
func (a *at) over(ctx context.Context, text string) (bool, error) {
	calls := a.f.counted(a.d.ID)
	_, err := a.f.edit(ctx, a.d.ID, func(e *edit) error {
		if e.d.Phase != a.d.Phase || e.d.Step != a.d.Step {
			return errMoved
		}
		return a.f.finish(e, text, calls)
	})
	if err == nil {
		a.f.drop(a.d)
	}
	return true, err
}

// drop forgets the agent of a deployment and what is in memory of it.
func (f *Fleet) drop(d cert.Deployment) {
	if d.AgentKey != "" {
		f.Lab.Wake(d.Machine)
	}
	f.forget(d.ID)
	f.measureAnew() // how long its release took
	f.Wake()
}

func (f *Fleet) finish(e *edit, text string, calls int) error {
	e.phase(cert.PhaseOver, "", 0, calls)
	e.d.Finished, e.d.TokenHash, e.d.AgentKey = &e.now, "", ""
	e.m.Orphan = nil
	if err := loseRuns(e); err != nil {
		return err
	}
	f.ended(e)
	e.log("released", "certlab", text)
	return e.tx.DropAgentStatus(e.m.Machine.ID)
}

// loseRuns ends the runs that the machine takes with it: what is discarded, or was begun while it was given back. Left open, they would be
// given to the agent of the machine's next holder. Those of a unit on the machine are its own.
func loseRuns(e *edit) error {
	if e.m.Machine.Unit != "" {
		return nil
	}
	open, err := e.tx.UnfinishedRuns(e.m.Machine.ID)
	if err != nil {
		return err
	}
	for _, id := range open {
		err := e.tx.ChangeRun(id, func(run *cert.Run) (bool, error) {
			return run.LoseMachine(fmt.Sprintf("its machine, %s, was given back before it was over (reserve one, and run it again)", e.m.Machine.Hostname), e.now), nil
		})
		if err != nil {
			return err
		}
		e.log("note", "certlab", "run "+id+" has ended: the machine was given back before it was over")
	}
	return nil
}

// ended ends the reservation with its deployment, if it has no other.
func (f *Fleet) ended(e *edit) {
	if e.r.Deployment != e.d.ID || e.r.State != cert.ReservationReleasing {
		return
	}
	e.r.State, e.r.Released, e.r.Blocked = cert.ReservationEnded, &e.now, ""
}

// next goes to a step and does nothing else.
func (a *at) next(ctx context.Context, step string, limit time.Duration) (bool, error) {
	return true, a.f.advance(ctx, a.d, func(e *edit) error { e.step(step, limit); return nil })
}

// try does a change that is worth trying: what it fails with is noted, and the next step is taken, unless the provider is away.
func (a *at) try(ctx context.Context, next, kind, text string, fn func() error, then func(*cert.Provided)) (bool, error) {
	err := a.call(fn)
	switch cert.ProviderFaultOf(err) {
	case cert.ProviderUnreachable, cert.ProviderRefused, cert.ProviderClock:
		return a.hold(ctx, err)
	case cert.ProviderBusy:
		if !a.triedOften() {
			return a.hold(ctx, err)
		}
	}
	if err != nil {
		text = fmt.Sprintf("could not be %s: %v", text, err)
	}
	a.worked()
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.step(next, 0)
		e.log(kind, "certlab", text)
		if err == nil && then != nil {
			e.believe(then)
		}
		return nil
	})
}

// triedOften reports whether a step has been put off often enough.
func (a *at) triedOften() bool {
	a.f.mu.Lock()
	defer a.f.mu.Unlock()
	return a.f.failures[a.d.ID] >= 5
}

// unlock unlocks a machine of which more than to be released is asked: releasing unlocks by itself.
func (a *at) unlock(ctx context.Context, next string) (bool, error) {
	if !a.p.Locked || a.d.Failure == nil && a.p.Status != cert.StatusDeploying && a.d.Phase == cert.PhaseRelease {
		return a.next(ctx, next, 0)
	}
	return a.try(ctx, next, "unlocked", "unlocked", func() error { return a.provider.Unlock(ctx, a.id, comment(a.r)) }, func(p *cert.Provided) { p.Locked = false })
}

// abort ends what the provider is doing with the machine, if that can be ended, and waits until it is.
func (a *at) abort(ctx context.Context, next string) (bool, error) {
	if a.p.Status != cert.StatusDeploying {
		return a.next(ctx, next, 0)
	}
	if a.d.Deadline == nil {
		// The deadline says that it was asked for: the answer comes at once, the end does not.
		if err := a.f.advance(ctx, a.d, func(e *edit) error { e.step(stepAbort, abortLimit); return nil }); err != nil {
			return false, err
		}
		return a.ask(ctx, "aborting", "its deployment is aborted", func() error { return a.provider.Abort(ctx, a.id, comment(a.r)) })
	}
	if a.expired() {
		return a.next(ctx, next, 0)
	}
	return false, nil
}

// ask asks for a change whose end is waited for in the same step. What it fails with is noted.
func (a *at) ask(ctx context.Context, kind, text string, fn func() error) (bool, error) {
	err := a.call(fn)
	if err != nil {
		text = fmt.Sprintf("%s: the provider refuses: %v", kind, err)
	}
	_, stored := a.f.edit(ctx, a.d.ID, func(e *edit) error { e.log(kind, "certlab", text); return nil })
	if err != nil && stored == nil {
		return a.hold(ctx, err)
	}
	return false, stored
}

// giveBack asks the provider to take the machine back.
func (a *at) giveBack(ctx context.Context, next string) (bool, error) {
	_, conf, _ := a.f.settings()
	erase := cert.Erase(conf.MAAS.Erase[a.p.Pool])
	if _, ok := conf.MAAS.Erase[a.p.Pool]; !ok {
		erase = cert.Erase(conf.MAAS.Erase[""])
	}
	if erase == "" {
		erase = cert.EraseNone
	}
	err := a.call(func() error {
		return a.provider.Release(ctx, a.id, cert.ReleaseOptions{Erase: erase, Comment: comment(a.r)})
	})
	switch fault := cert.ProviderFaultOf(err); {
	case err == nil:
	case fault == cert.ProviderNotFound, fault == cert.ProviderForeign, fault == cert.ProviderConflict, fault == cert.ProviderOutcome:
		if look := a.relook(ctx); look != nil {
			return a.hold(ctx, look)
		}
		if over, _ := a.back(); over {
			return true, nil
		}
		if a.p.Status != cert.StatusReleasing {
			if fault == cert.ProviderOutcome {
				return a.hold(ctx, err)
			}
			return a.climb(ctx, err)
		}
	case fault == cert.ProviderUnreachable, fault == cert.ProviderBusy, fault == cert.ProviderRefused, fault == cert.ProviderClock:
		if fault != cert.ProviderBusy || !a.triedOften() {
			return a.hold(ctx, err)
		}
		return a.climb(ctx, err)
	default:
		if fault == cert.ProviderForbidden && a.relook(ctx) == nil && a.p.Locked && !a.triedOften() {
			// Somebody has locked it, or the lock was not known of.
			if _, held := a.hold(ctx, err); held != nil {
				return false, held
			}
			return false, a.f.advance(ctx, a.d, func(e *edit) error { e.step(unlockBefore(a.d), 0); return nil })
		}
		return a.climb(ctx, err)
	}
	a.worked()
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.r.Blocked = ""
		e.step(next, a.f.minutes(releaseMinutes))
		e.believe(func(p *cert.Provided) {
			if p.Status != cert.StatusFree {
				p.Status, p.StatusName = cert.StatusReleasing, "Releasing"
			}
		})
		e.log("releasing", "certlab", "given back to the provider (erase: "+string(erase)+")")
		return nil
	})
}

// unlockBefore is the step that unlocks the machine in the phase.
func unlockBefore(d cert.Deployment) string {
	if d.Phase == cert.PhaseRecover {
		return rungRelease
	}
	return stepUnlock
}

func (f *Fleet) notice(kind string, e *edit, text string) cert.Notice {
	key := e.r.ID
	if e.r.Until != nil {
		key += " " + e.r.Until.UTC().Format(time.RFC3339)
	}
	n := cert.NewNotice(kind, key, e.now, text)
	n.Person, n.Reservation, n.Machine, n.Hostname, n.Until = e.r.Holder, e.r.ID, e.m.Machine.ID, e.m.Machine.Hostname, e.r.Until
	return n
}

// AgentStatus takes in what a machine's agent says of itself.
func (f *Fleet) AgentStatus(ctx context.Context, machine string, s order.Status) error {
	err := f.editMachine(ctx, machine, func(e *edit) error {
		key := ""
		if e.d.ID != "" && e.d.Enrolled != nil && e.m.Machine.Unit == "" {
			key = e.d.ID
			if s.Release != "" && (e.m.Machine.Base != s.Release || e.m.Machine.Kernel != s.Kernel) {
				e.m.Machine.Base, e.m.Machine.Kernel = s.Release, s.Kernel
				if err := e.tx.NameMachine(e.m.Machine); err != nil {
					return err
				}
			}
		}
		return e.tx.PutAgentStatus(agentSaid(machine, e.now, key, s))
	})
	f.Wake()
	return err
}
