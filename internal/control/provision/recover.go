package provision

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// Rungs of the recovery ladder: steps of a deployment in phase recover. A rung has no deadline until it was asked for.
const (
	rungAbort      = "abort"
	rungRelease    = "release"
	rungBroken     = "broken"
	rungFixed      = "fixed"
	rungOff        = "off"
	rungAgain      = "release-again"
	rungQuarantine = "quarantine"
)

// stuck begins the recovery ladder for a machine that does not come back in time.
func (a *at) stuck(ctx context.Context) (bool, error) {
	return a.climb(ctx, fmt.Errorf("after being released it is still %s", first(a.p.StatusName, string(a.p.Status))))
}

// climb goes to the recovery ladder, or to its next rung.
func (a *at) climb(ctx context.Context, cause error) (bool, error) {
	if a.d.Phase == cert.PhaseRecover {
		return a.up(ctx, cause.Error())
	}
	if hold := a.held(ctx); hold != nil {
		a.f.putOff(a.d.ID, a.f.Poll)
		return false, a.block(ctx, hold.Text)
	}
	calls := a.f.counted(a.d.ID)
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		if e.d.Failure == nil {
			e.d.Failure = &cert.Failure{Type: cert.FailReleaseStuck, Message: fmt.Sprintf("%s does not come back: %v", e.m.Machine.Hostname, cause)}
		}
		e.phase(cert.PhaseRecover, rungAbort, 0, calls)
		e.log("recovering", "certlab", fmt.Sprintf("it does not come back (%v): the recovery ladder begins", cause))
		return nil
	})
	if err == nil && a.f.Observer != nil && (a.d.Failure == nil || a.d.Failure.Type == cert.FailReleaseStuck) {
		d := a.d
		d.Failure = &cert.Failure{Type: cert.FailReleaseStuck, Message: cause.Error()}
		if incident := a.f.Observer.Over(ctx, d, a.place(ctx)); incident != "" {
			_, err = a.f.edit(ctx, a.d.ID, func(e *edit) error { e.d.Suspect = first(e.d.Suspect, incident); return nil })
		}
	}
	return true, err
}

// held returns why nothing may be done to get the machine back now; nil: it may.
func (a *at) held(ctx context.Context) *cert.Hold {
	if a.f.Gate == nil {
		return nil
	}
	return a.f.Gate.MayRecover(a.place(ctx))
}

var rungs = []string{rungAbort, rungRelease, rungBroken, rungFixed, rungOff, rungAgain, rungQuarantine}

// up goes to the next rung.
func (a *at) up(ctx context.Context, why string) (bool, error) {
	for n, rung := range rungs {
		if rung != a.d.Step || n+1 == len(rungs) {
			continue
		}
		return true, a.f.advance(ctx, a.d, func(e *edit) error {
			e.step(rungs[n+1], 0)
			if why != "" {
				e.log("recovering", "certlab", fmt.Sprintf("%s did not help (%s): next is %s", rung, why, rungs[n+1]))
			}
			return nil
		})
	}
	return false, nil
}

// recover does the deployment's rung of the ladder.
func (a *at) recover(ctx context.Context) (bool, error) {
	if over, text := a.back(); over {
		return a.over(ctx, text)
	}
	if hold := a.held(ctx); hold != nil {
		a.f.putOff(a.d.ID, a.f.Poll)
		return false, a.block(ctx, hold.Text)
	}
	asked := a.d.Deadline != nil
	still := "it is still " + first(a.p.StatusName, string(a.p.Status))
	switch a.d.Step {
	case rungAbort:
		switch {
		case a.p.Status != cert.StatusDeploying && a.p.Status != cert.StatusReleasing, asked && a.expired():
			return a.up(ctx, "")
		case asked:
			return false, nil
		}
		return a.rung(ctx, "abort", abortLimit, func() error { return a.provider.Abort(ctx, a.id, comment(a.r)) }, nil)
	case rungRelease, rungAgain:
		switch {
		case asked && a.expired():
			return a.up(ctx, still)
		case asked && a.p.Status == cert.StatusReleasing:
			return false, nil
		case asked:
			return a.up(ctx, still)
		case a.p.Locked:
			return a.unlock(ctx, a.d.Step)
		}
		return a.giveBack(ctx, a.d.Step)
	case rungBroken:
		if a.p.Status == cert.StatusBroken || asked && a.expired() {
			return a.up(ctx, "")
		}
		if asked {
			return false, nil
		}
		return a.rung(ctx, "mark broken", abortLimit, func() error { return a.provider.MarkBroken(ctx, a.id, comment(a.r)) },
			func(p *cert.Provided) { p.Status, p.StatusName, p.Holder = cert.StatusBroken, "Broken", cert.Nobody })
	case rungFixed:
		switch {
		case asked && a.expired():
			return a.up(ctx, still)
		case asked:
			return false, nil
		}
		return a.rung(ctx, "mark fixed", abortLimit, func() error { return a.fix(ctx) }, func(p *cert.Provided) { p.Status, p.StatusName, p.Holder = cert.StatusFree, "Ready", cert.Nobody })
	case rungOff:
		return a.try(ctx, rungAgain, "power", "switched off", func() error { return a.provider.Power(ctx, a.id, cert.SwitchOff, false) }, func(p *cert.Provided) { p.Power = cert.PowerOff })
	}
	return a.giveUp(ctx)
}

// rung asks for a change and waits for what becomes of it. One that the provider refuses ends the rung.
func (a *at) rung(ctx context.Context, name string, limit time.Duration, fn func() error, then func(*cert.Provided)) (bool, error) {
	err := a.call(fn)
	switch cert.ProviderFaultOf(err) {
	case cert.ProviderUnreachable, cert.ProviderRefused, cert.ProviderClock:
		return a.hold(ctx, err)
	case cert.ProviderBusy:
		if !a.triedOften() {
			return a.hold(ctx, err)
		}
	case cert.ProviderOutcome:
		err = nil // it is seen in what becomes of the machine
		then = nil
	}
	if err != nil {
		return a.up(ctx, err.Error())
	}
	a.worked()
	return false, a.f.advance(ctx, a.d, func(e *edit) error {
		e.step(e.d.Step, limit)
		e.log("recovering", "certlab", name)
		if then != nil {
			e.believe(then)
		}
		return nil
	})
}

// fix makes a broken machine free again; where the key's user may not mark machines fixed, by releasing it.
func (a *at) fix(ctx context.Context) error {
	err := a.provider.MarkFixed(ctx, a.id, comment(a.r))
	if cert.ProviderFaultOf(err) == cert.ProviderForbidden {
		return a.provider.Release(ctx, a.id, cert.ReleaseOptions{Erase: cert.EraseNone, Comment: comment(a.r)})
	}
	return err
}

// giveUp quarantines a machine that does not come back: a person has to look at it.
func (a *at) giveUp(ctx context.Context) (bool, error) {
	calls := a.f.counted(a.d.ID)
	err := a.f.advance(ctx, a.d, func(e *edit) error {
		reason := fmt.Sprintf("it did not come back from %s", about(e.r))
		if e.d.Failure != nil {
			reason += ": " + e.d.Failure.Message
		}
		if e.m.Quarantine == nil {
			e.m.Quarantine = &cert.Quarantine{Since: e.now, By: "certlab", Reason: reason, Auto: true, Pool: a.p.Pool, Step: quarantinePool}
		}
		e.log("quarantined", "certlab", "quarantined: "+reason)
		n := cert.NewNotice(cert.NoticeQuarantined, e.d.ID, e.now, e.m.Machine.Hostname+" is quarantined: "+reason)
		n.Machine, n.Hostname = e.m.Machine.ID, e.m.Machine.Hostname
		if err := e.tx.Notice(n); err != nil {
			return err
		}
		return a.f.finish(e, "given up: it stays at the provider as it is", calls)
	})
	if err == nil {
		a.f.drop(a.d)
	}
	return true, err
}
