package provision

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Pause keeps new work away from a part of the lab; running work ends.
func (f *Fleet) Pause(ctx context.Context, in cert.NewPause, by string) (cert.Pause, error) {
	out := cert.Pause{Scope: in.Scope, Name: in.Name, Since: f.Now(), By: by, Reason: strings.TrimSpace(in.Reason)}
	switch in.Scope {
	case "lab":
		if in.Name != "" {
			return out, cert.Errorf(cert.Invalid, "cannot pause the lab %q: there is one lab (leave the name out)", in.Name)
		}
	case "pool", "zone", "rack":
		if in.Name == "" {
			return out, cert.Errorf(cert.Invalid, "cannot pause a %s without its name", in.Scope)
		}
	default:
		return out, cert.Errorf(cert.Invalid, "cannot pause %q: it must be lab, pool, zone or rack", in.Scope)
	}
	if out.Reason == "" {
		return out, cert.Errorf(cert.Invalid, "cannot pause: say why (reason)")
	}
	p, err := f.look(ctx)
	if err != nil {
		return out, err
	}
	there := in.Scope == "lab"
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		for n := range p.machines {
			m := &p.machines[n]
			if pausedBy([]cert.Pause{out}, m) == nil {
				continue
			}
			there = true
			d := p.deploying[m.ID]
			if d == nil || p.held[d.ID].Final() {
				continue
			}
			// Who has a machine there is told: their work goes on, and nothing new begins.
			e := edit{tx: tx, now: out.Since, d: *d, r: *p.held[d.ID], m: p.rows[n]}
			e.log("paused", by, fmt.Sprintf("%s is paused: %s; what is under way goes on", strings.TrimSpace(in.Scope+" "+in.Name), out.Reason))
			notice := cert.NewNotice(cert.NoticeBlocked, e.r.ID+" "+out.Since.Format(time.RFC3339Nano), out.Since, fmt.Sprintf("%s is paused: %s; the reservation of %s goes on until it ends",
				strings.TrimSpace(in.Scope+" "+in.Name), out.Reason, m.Hostname))
			notice.Person, notice.Reservation, notice.Machine, notice.Hostname, notice.Until = e.r.Holder, e.r.ID, m.ID, m.Hostname, e.r.Until
			if e.err == nil {
				e.err = tx.Notice(notice)
			}
			if e.err != nil {
				return e.err
			}
		}
		if !there {
			return cert.Errorf(cert.NotFound, "cannot pause %s %q: no machine is in it", in.Scope, in.Name)
		}
		return tx.PutPause(out)
	})
	f.ring()
	f.Wake()
	return out, err
}

// A Resumer ends more than pauses when a person resumes a part of the lab: incidents there, and the wait for a canary. It reports whether it
// has ended anything. An Observer may be one.
type Resumer interface {
	Resumed(ctx context.Context, scope, name, by string) (bool, error)
}

// Resume ends a pause, and an incident there.
func (f *Fleet) Resume(ctx context.Context, scope, name, by string) error {
	ended := false
	if r, ok := f.Observer.(Resumer); ok {
		var err error
		if ended, err = r.Resumed(ctx, scope, name, by); err != nil {
			return err
		}
	}
	err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		found, err := tx.EndPause(scope, name)
		if err == nil && !found && !ended {
			return cert.Errorf(cert.NotFound, "cannot resume %s %q: it is not paused", scope, name)
		}
		return err
	})
	if err == nil {
		f.Logger.Info("resumed", "scope", scope, "name", name, "by", by)
	}
	f.ring()
	f.Wake()
	return err
}

// MayRun fails if a run that somebody wants to start on a machine would disturb its holder, or if the machine takes none.
func (f *Fleet) MayRun(ctx context.Context, machine, by string, role cert.Role) error {
	p, err := f.look(ctx)
	if err != nil {
		return err
	}
	for n := range p.machines {
		m := &p.machines[n]
		if m.ID != machine {
			continue
		}
		d := p.deploying[m.ID]
		switch {
		case m.Quarantine != nil:
			return cert.Errorf(cert.Conflict, "cannot start a run on %s: it is quarantined: %s", m.Hostname, m.Quarantine.Reason)
		case m.Paused != nil:
			return cert.Errorf(cert.Conflict, "cannot start a run on %s: %s is paused: %s", m.Hostname, strings.TrimSpace(m.Paused.Scope+" "+m.Paused.Name), m.Paused.Reason)
		case m.Unit != "" && m.State == cert.MachineDirty:
			return cert.Errorf(cert.Conflict, "cannot start a run on %s: it is dirty: %s", m.Hostname, m.Why)
		case m.Unit != "":
			return nil
		case d == nil || d.Phase != cert.PhaseReady || d.AgentKey == "":
			return cert.Errorf(cert.Conflict, "cannot start a run on %s: it is %s, and no agent acts for it (reserve it first, or start the run with a machine provisioned for it)", m.Hostname, m.State)
		}
		if r := p.held[d.ID]; r.Holder != by {
			return cert.Errorf(cert.Forbidden, "cannot start a run on %s: %s has it until %s (%s)", m.Hostname, r.Holder, untilText(r.Until), r.Reason)
		}
		return nil
	}
	return cert.Errorf(cert.NotFound, "there is no machine %q", machine)
}

func untilText(t *time.Time) string {
	if t == nil {
		return "its run is over"
	}
	return t.UTC().Format(time.RFC3339)
}

// Power switches a machine, or asks how it is.
func (f *Fleet) Power(ctx context.Context, machine string, in cert.PowerMachine, by string, role cert.Role) (out cert.PoweredMachine, err error) {
	provider, err := f.need()
	if err != nil {
		return out, err
	}
	m, err := f.DB.Machine(ctx, machine)
	if err != nil {
		return out, err
	}
	p, err := f.look(ctx)
	if err != nil {
		return out, err
	}
	row := p.row[m.ID]
	if row == nil || row.Provided == nil || row.Gone != nil {
		return out, cert.Errorf(cert.Conflict, "cannot switch %s: the provider does not know it", m.Hostname)
	}
	out.Machine = m.ID
	unit := m.Unit != ""
	action := cert.PowerAction(in.Action)
	switch action {
	case "query":
		out.Power, err = provider.QueryPower(ctx, m.SystemID, unit)
		return out, told(err)
	case cert.SwitchOn, cert.SwitchOff, cert.SwitchCycle:
	default:
		return out, cert.Errorf(cert.Invalid, "cannot switch %s %q: it must be on, off, cycle or query", m.Hostname, in.Action)
	}
	if unit {
		if err := f.placed(ctx, m, *row.Provided); err != nil {
			return out, err
		}
	}
	if d := p.deploying[m.ID]; d != nil {
		if r := p.held[d.ID]; r.Holder != by && !role.May(cert.Admin) {
			return out, cert.Errorf(cert.Forbidden, "cannot switch %s: %s has it (%s)", m.Hostname, r.Holder, r.Reason)
		}
	}
	text := "power " + in.Action
	if in.Reason != "" {
		text += ": " + in.Reason
	}
	if err := f.editMachine(ctx, m.ID, func(e *edit) error { e.log("power", by, text); return nil }); err != nil {
		return out, err
	}
	err = provider.Power(ctx, m.SystemID, action, unit)
	f.touch(m.ID)
	if err != nil {
		_ = f.editMachine(ctx, m.ID, func(e *edit) error { e.log("power", "certlab", text+" failed: "+err.Error()); return nil })
		return out, told(err)
	}
	out.Power = map[cert.PowerAction]cert.PowerState{cert.SwitchOn: cert.PowerOn, cert.SwitchOff: cert.PowerOff, cert.SwitchCycle: cert.PowerOn}[action]
	return out, nil
}

// placed fails unless the hardware confirms that a unit is on that machine: its own word is a file on a disk, and disks are moved and cloned.
func (f *Fleet) placed(ctx context.Context, m cert.Machine, p cert.Provided) error {
	var at cert.Placement
	if f.Placed != nil {
		at = f.Placed(ctx, m.ID, p)
	}
	if at.Confirmed {
		return nil
	}
	return cert.Errorf(cert.Conflict, "cannot switch %s: %s", m.Hostname, first(at.Problem, "nothing confirms that "+m.Unit+" is on it: neither a product UUID nor a MAC address is known of both"))
}

// told makes a provider's error one that a person is told.
func told(err error) error {
	codes := map[cert.ProviderFault]cert.Code{cert.ProviderUnreachable: cert.Unavailable, cert.ProviderBusy: cert.Unavailable, cert.ProviderOutcome: cert.Unavailable,
		cert.ProviderForeign: cert.Forbidden, cert.ProviderForbidden: cert.Forbidden, cert.ProviderConflict: cert.Conflict, cert.ProviderNotFound: cert.NotFound,
		cert.ProviderInvalid: cert.Invalid, cert.ProviderNoRack: cert.Unavailable, cert.ProviderRefused: cert.Unavailable, cert.ProviderClock: cert.Unavailable}
	if err == nil {
		return nil
	}
	code, ok := codes[cert.ProviderFaultOf(err)]
	if !ok {
		code = cert.Internal
	}
	return cert.Errorf(code, "%s", err.Error())
}

// ConsoleLog writes what a machine's console has.
func (f *Fleet) ConsoleLog(ctx context.Context, machine string, w io.Writer) error {
	m, err := f.DB.Machine(ctx, machine)
	if err != nil {
		return err
	}
	if f.Console == nil {
		return cert.Errorf(cert.NotFound, "there is no console log of %s: the site has no program for it (put one named console into the site's resource)", m.Hostname)
	}
	limit, cancel := context.WithTimeout(ctx, consoleTime)
	defer cancel()
	text := limited{most: consoleMost}
	err = f.Console(limit, m.ID, &text)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limit.Err() != nil:
		return cert.Errorf(cert.Unavailable, "cannot read the console of %s: the site's program took longer than %s and was ended", m.Hostname, consoleTime)
	case cert.CodeOf(err) == cert.NotFound:
		return err
	case err != nil:
		said := strings.TrimSpace(text.String()) // its last line says why
		if said = said[strings.LastIndexByte(said, '\n')+1:]; said != "" {
			said = " (" + said[:min(len(said), 300)] + ")"
		}
		return cert.Errorf(cert.Unavailable, "cannot read the console of %s: the site's program failed: %v%s", m.Hostname, err, strings.ToValidUTF8(said, ""))
	}
	_, err = io.WriteString(w, text.String())
	return err
}

// Bounds of a console: who asks for it waits, and its program may not end.
const (
	consoleTime = time.Minute
	consoleMost = 4 << 20 // bytes; of more, the end
)

// Suspect marks deployments that failed as part of an incident, which was found only afterwards: they say nothing of their machines, and their
// reservations that are still open get the try and the machine back.
func (f *Fleet) Suspect(ctx context.Context, incident string, deployments []string) error {
	for _, id := range deployments {
		_, err := f.edit(ctx, id, func(e *edit) error {
			if e.d.Suspect != "" {
				return nil
			}
			e.d.Suspect = incident
			if e.d.Failure == nil {
				return nil
			}
			if e.m.Failures > 0 {
				e.m.Failures--
			}
			if e.r.Final() || e.r.State == cert.ReservationReleasing {
				return nil
			}
			for n, m := range e.r.Avoid {
				if m == e.m.Machine.ID {
					e.r.Avoid = append(append([]string(nil), e.r.Avoid[:n]...), e.r.Avoid[n+1:]...)
					e.r.Tries = max(e.r.Tries-1, 0)
					break
				}
			}
			return nil
		})
		if err != nil && cert.CodeOf(err) != cert.NotFound {
			return err
		}
	}
	f.Wake()
	return nil
}
