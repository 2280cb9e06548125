package maas

import (
	"context"
	"time"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	"github.com/canonical/gomaasclient/entity"
)

// Power switches a machine. Off is hard. A cycle is off, seen to be off, and on: MAAS has none, and its on does not always switch a
// machine off before. A locked machine of this lab is unlocked for it, and locked again. Of a unit's machine that somebody else holds
// only on and cycle are done: it is never left off.
func (p *Provider) Power(ctx context.Context, id string, action cert.PowerAction, unit bool) error {
	ctx, cancel := context.WithTimeout(ctx, p.limits.Off+time.Duration(p.limits.Attempts)*p.limits.Long)
	defer cancel()
	var doing string
	switch action {
	case cert.SwitchOn:
		doing = "switch " + p.name(id) + " on"
	case cert.SwitchOff:
		// Of a unit's machine too only if it is this lab's.
		doing, unit = "switch "+p.name(id)+" off", false
	case cert.SwitchCycle:
		doing = "power-cycle " + p.name(id)
	default:
		return cert.ProviderErrorf(cert.ProviderInvalid, "cannot switch %s %q: that is none of on, off, cycle", p.name(id), plain(string(action)))
	}
	lock, err := p.unlocked(ctx, doing, id)
	if err != nil {
		return p.naming(id, err)
	}
	defer lock()
	if action == cert.SwitchCycle {
		return p.naming(id, p.cycle(ctx, doing, id, unit))
	}
	return p.naming(id, p.switchPower(ctx, doing, id, action == cert.SwitchOn, unit))
}

// unlocked unlocks a machine of this lab, and returns what locks it again if it was locked: MAAS lets nobody switch a locked machine. Should
// the controller die in between, the machine stays unlocked, which its document says.
func (p *Provider) unlocked(ctx context.Context, doing, id string) (lock func(), err error) {
	m, err := p.guard(ctx, doing, id, heldOnly)
	if err != nil || !m.Locked {
		// Whether a machine that is not this lab's may be switched is decided right before that.
		return func() {}, nil
	}
	const comment = "certlab: a locked machine cannot be switched"
	lock = func() {
		if err := p.Lock(context.WithoutCancel(ctx), id, comment); err != nil {
			p.config.Log.Warn("a machine stays unlocked", "machine", id, "error", err)
		}
	}
	if err := p.unlockFirst(ctx, doing, m, comment); err != nil {
		if cert.ProviderFaultOf(err) == cert.ProviderOutcome {
			lock()
		}
		return nil, err
	}
	return lock, nil
}

func (p *Provider) cycle(ctx context.Context, doing, id string, unit bool) error {
	if err := p.switchPower(ctx, doing, id, false, unit); err != nil {
		return err
	}
	until := time.Now().Add(p.limits.Off)
	for pause := p.limits.Pause; ; pause = min(2*pause, 10*time.Second) {
		state, err := p.askPower(ctx, doing, id, unit)
		if err == nil && state == cert.PowerOff {
			break
		}
		if time.Now().Add(pause).After(until) {
			if err != nil {
				return err
			}
			return cert.ProviderErrorf(cert.ProviderOutcome, "cannot %s: it was switched off, and %s later its BMC still says %q", doing, p.limits.Off, state)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return cert.ProviderErrorf(cert.ProviderOutcome, "cannot %s: it was given up after switching it off: switch it on", doing)
		}
	}
	err := p.switchPower(ctx, doing, id, true, unit)
	if err != nil {
		e := providerError(err, doing)
		return &cert.ProviderError{Fault: e.Fault, Wait: e.Wait, Message: e.Message + "; it is off now: switch it on"}
	}
	return nil
}

// switchPower asks MAAS to switch a machine on or off.
func (p *Provider) switchPower(ctx context.Context, doing, id string, on, unit bool) error {
	return p.attempts(ctx, func() (*cert.ProviderError, bool) {
		right, err := p.mayPower(ctx, doing, id, unit)
		if err != nil {
			return providerError(err, doing), false
		}
		c := call{op: "power_off", doing: doing, change: true, long: true, right: right, ask: func(api gomaas.APIClient) error {
			_, err := (&gomaas.Machine{APIClient: api}).PowerOff(id, &entity.MachinePowerOffParams{StopMode: "hard", Comment: "certlab"})
			return err
		}}
		if on {
			c.op, c.ask = "power_on", func(api gomaas.APIClient) error {
				_, err := (&gomaas.Machine{APIClient: api}).PowerOn(id, &entity.MachinePowerOnParams{Comment: "certlab"})
				return err
			}
		}
		return p.once(ctx, c)
	})
}

// mayPower refuses a machine whose power is not this lab's to switch or to ask for, and returns the right that it takes otherwise.
func (p *Provider) mayPower(ctx context.Context, doing, id string, unit bool) (right string, err error) {
	_, err = p.guard(ctx, doing, id, heldOnly)
	if unit && p.config.PowerUnits && cert.ProviderFaultOf(err) == cert.ProviderNotFound && !p.admin() {
		// Somebody else's machine is not even seen with an ordinary key.
		return "", cert.ProviderErrorf(cert.ProviderForbidden, "cannot %s: %s", doing, rights["others"].denied)
	}
	if cert.ProviderFaultOf(err) != cert.ProviderForeign || !unit {
		return "hold", err
	}
	if !p.config.PowerUnits {
		return "", cert.ProviderErrorf(cert.ProviderForeign, "%s (it carries a unit of this lab: to let such machines be power-cycled, set power-units)", err)
	}
	return "others", nil
}

// QueryPower asks a machine's BMC, by way of MAAS, whether it is on: up to a minute. A machine that nobody holds may be asked too.
func (p *Provider) QueryPower(ctx context.Context, id string, unit bool) (cert.PowerState, error) {
	ctx, cancel := p.within(ctx, p.limits.Long)
	defer cancel()
	return p.askPower(ctx, "ask for the power of "+p.name(id), id, unit)
}

func (p *Provider) askPower(ctx context.Context, doing, id string, unit bool) (cert.PowerState, error) {
	right, err := p.mayPower(ctx, doing, id, unit)
	if cert.ProviderFaultOf(err) == cert.ProviderConflict {
		right, err = "hold", nil
	}
	if err != nil {
		return cert.PowerUnknown, err
	}
	state := cert.PowerUnknown
	err = p.do(ctx, call{op: "query_power_state", doing: doing, long: true, right: right, ask: func(api gomaas.APIClient) error {
		found, err := (&gomaas.Machine{APIClient: api}).GetPowerState(id)
		state = powerOf(found.State)
		return err
	}})
	return state, err
}
