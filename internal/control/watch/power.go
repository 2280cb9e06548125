package watch

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// elsewhere holds the faults that say nothing about the machine's BMC: somebody else cannot be reached. They use up no deadline, but for those
// that MAAS may answer for one machine alone for ever.
var elsewhere = map[cert.ProviderFault]bool{cert.ProviderUnreachable: true, cert.ProviderBusy: true, cert.ProviderRefused: true, cert.ProviderClock: true, cert.ProviderNoRack: true}

// forGood holds the faults that do not go away by themselves.
var forGood = map[cert.ProviderFault]bool{cert.ProviderForeign: true, cert.ProviderForbidden: true, cert.ProviderNotFound: true, cert.ProviderInvalid: true}

// power asks for a power state and reports whether the machine has it. What cannot be is given up, for a person to see to.
func (w *Watch) power(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched, action cert.PowerAction, want cert.PowerState) (bool, error) {
	p := w.Provider()
	if p == nil {
		return false, w.wait(ctx, c, m, "there is no provider now that could switch it", true)
	}
	state, err := p.QueryPower(ctx, c.Provider, c.Unit)
	if err == nil && state == want {
		return true, nil // also where a call before has done it and nobody heard
	}
	if err == nil || !elsewhere[cert.ProviderFaultOf(err)] && !forGood[cert.ProviderFaultOf(err)] {
		if err = p.Power(ctx, c.Provider, action, c.Unit); err == nil {
			if state, err = p.QueryPower(ctx, c.Provider, c.Unit); err == nil && state == want {
				return true, nil
			}
		}
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	switch fault := cert.ProviderFaultOf(err); {
	case err != nil && forGood[fault]:
		return false, w.bmcDead(ctx, c, m, fmt.Sprintf("it cannot be switched %s: %v", action, err))
	case (fault == cert.ProviderBusy || fault == cert.ProviderNoRack) && w.Now().Sub(w.from(c.At)) >= outsideLimit:
		return false, w.bmcDead(ctx, c, m, err.Error())
	case err != nil && elsewhere[fault]:
		return false, w.wait(ctx, c, m, err.Error(), true)
	case err != nil:
		return false, w.wait(ctx, c, m, err.Error(), false)
	case state == cert.PowerError:
		return false, w.wait(ctx, c, m, "its BMC does not answer", false)
	case state == cert.PowerUnknown:
		return false, w.wait(ctx, c, m, "its BMC does not say whether it is on", false)
	}
	return false, w.wait(ctx, c, m, fmt.Sprintf("its BMC takes the order and the machine is still %s", state), false)
}

const (
	outsideLimit = 2 * time.Hour // where only this machine may be meant
	noteEvery    = 5 * time.Minute
)

// wait notes why a step is not done yet, and gives it up when it has taken too long. outside: it is nobody's fault here, and does not count.
func (w *Watch) wait(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched, problem string, outside bool) error {
	now := w.Now()
	if !outside && now.Sub(w.from(c.Since)) >= stepLimit {
		return w.bmcDead(ctx, c, m, problem)
	}
	changed := c.Problem != problem
	if !changed && !(outside && now.Sub(c.Since) >= noteEvery) {
		return nil
	}
	if outside {
		c.Since = now
	}
	c.Problem = problem
	text := ""
	if changed {
		text = fmt.Sprintf("cannot be switched yet, for %s: %s", ordinal(c.Number), problem)
	}
	return w.store(ctx, m, c, "power", text, nil)
}

// bmcDead ends a power cycle that cannot be done. The attempt cannot go on: only a person can get the machine back.
func (w *Watch) bmcDead(ctx context.Context, c *cert.PowerCycle, m *sqlite.Watched, problem string) error {
	return w.giveUp(ctx, m, c, problem)
}
