package provision

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// What is to be done at the provider for a quarantine, or to end one: cert.Quarantine.Step. Each is done once, and what cannot be done is said
// in cert.Quarantine.Provider; the lab's own record is what holds.
const (
	quarantineTake   = "take" // so that nobody else does meanwhile
	quarantinePool   = "pool"
	quarantineTag    = "tag"
	quarantineBroken = "broken"

	returnFixed = "return-fixed"
	returnPool  = "return-pool"
	returnTag   = "return-tag"
	returnOver  = "return-over"
)

// Quarantine keeps a machine from being handed out. One that somebody has is taken out when it comes back.
func (f *Fleet) Quarantine(ctx context.Context, machine, reason, by string) (cert.MachineDetail, error) {
	if reason == "" {
		return cert.MachineDetail{}, cert.Errorf(cert.Invalid, "cannot quarantine %s: say why (reason)", machine)
	}
	m, err := f.DB.Machine(ctx, machine)
	if err != nil {
		return cert.MachineDetail{}, err
	}
	if err := f.QuarantineAs(ctx, m.ID, cert.Quarantine{By: by, Reason: reason}); err != nil {
		return cert.MachineDetail{}, err
	}
	return f.Machine(ctx, m.ID)
}

// QuarantineAs quarantines a machine, by its id. A machine that is in quarantine stays as it is.
func (f *Fleet) QuarantineAs(ctx context.Context, machine string, q cert.Quarantine) error {
	err := f.editMachine(ctx, machine, func(e *edit) error {
		if e.m.Quarantine != nil {
			if e.m.Quarantine.Step == "" || !isReturn(e.m.Quarantine.Step) {
				return nil
			}
		}
		q.Since, q.Provider, q.Step = e.now, nil, quarantineTake
		if e.m.Quarantine != nil {
			q.Pool = e.m.Quarantine.Pool
		}
		if e.m.Provider == "" {
			q.Step = ""
		}
		e.m.Quarantine = &q
		if err := e.tx.Event(cert.MachineEvent{Machine: machine, At: e.now, Kind: "quarantined", Who: q.By, Text: "quarantined: " + q.Reason, Incident: q.Incident,
			Deployment: e.d.ID, Reservation: e.d.Reservation}); err != nil {
			return err
		}
		n := cert.NewNotice(cert.NoticeQuarantined, machine+" "+e.now.Format(time.RFC3339Nano), e.now, e.m.Machine.Hostname+" is quarantined: "+q.Reason)
		n.Machine, n.Hostname, n.Person = machine, e.m.Machine.Hostname, q.By
		return e.tx.Notice(n)
	})
	f.soon(machine)
	return err
}

func isReturn(step string) bool {
	return step == returnFixed || step == returnPool || step == returnTag || step == returnOver
}

// ReturnToService ends a quarantine: after a passed check, or by force with a reason. Without either a check is begun.
func (f *Fleet) ReturnToService(ctx context.Context, machine string, r cert.ReturnMachine, by string) (cert.MachineDetail, error) {
	var none cert.MachineDetail
	m, err := f.DB.Machine(ctx, machine)
	if err != nil {
		return none, err
	}
	row, err := f.DB.FleetRow(ctx, m.ID)
	if err != nil {
		return none, err
	}
	if row.Quarantine == nil {
		return none, cert.Errorf(cert.Conflict, "cannot return %s to service: it is not in quarantine", m.Hostname)
	}
	passed := row.Passed && row.Checked != nil && row.Checked.After(row.Quarantine.Since)
	switch {
	case r.Force && r.Reason == "":
		return none, cert.Errorf(cert.Invalid, "cannot return %s to service by force without a reason", m.Hostname)
	case r.Force:
	case passed:
		r.Reason = first(r.Reason, "it has passed its check")
	case f.Checker != nil:
		if _, err := f.Checker.CheckToReturn(ctx, m.ID, by); err != nil {
			return none, err
		}
		return f.Machine(ctx, m.ID)
	default:
		return none, cert.Errorf(cert.Conflict, "cannot return %s to service: it has passed no check since it was quarantined (run one, or return it by force with a reason)", m.Hostname)
	}
	if err := f.Return(ctx, m.ID, by, r.Reason); err != nil {
		return none, err
	}
	return f.Machine(ctx, m.ID)
}

// Return ends a machine's quarantine, by its id.
func (f *Fleet) Return(ctx context.Context, machine, by, reason string) error {
	err := f.editMachine(ctx, machine, func(e *edit) error {
		if e.m.Quarantine == nil || isReturn(e.m.Quarantine.Step) {
			return nil
		}
		e.log("returned", by, "returned to service: "+reason)
		n := cert.NewNotice(cert.NoticeReturned, machine+" "+e.m.Quarantine.Since.Format(time.RFC3339Nano), e.now, e.m.Machine.Hostname+" is back in service: "+reason)
		n.Machine, n.Hostname, n.Person = machine, e.m.Machine.Hostname, by
		if err := e.tx.Notice(n); err != nil {
			return err
		}
		e.m.Failures = 0
		if e.m.Provider == "" || e.m.Gone != nil {
			e.m.Quarantine = nil
			return nil
		}
		q := *e.m.Quarantine
		q.Step = returnFixed
		e.m.Quarantine = &q
		return nil
	})
	f.soon(machine)
	return err
}

// soon has a machine's chore done at the next turn.
func (f *Fleet) soon(machine string) {
	f.mu.Lock()
	f.chores[machine] = f.Now()
	f.mu.Unlock()
	f.Wake()
}

// chore does what is due at the provider for machines in quarantine, and reads a machine's hardware now and then.
func (f *Fleet) chore(ctx context.Context, provider cert.Provider) error {
	if f.away() {
		return nil
	}
	rows, err := f.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	now := f.Now()
	for n := range rows {
		m := &rows[n]
		if m.Quarantine == nil || m.Quarantine.Step == "" || m.Gone != nil || m.Provided == nil {
			f.mu.Lock()
			delete(f.chores, m.Machine.ID)
			f.mu.Unlock()
			continue
		}
		f.mu.Lock()
		due := !now.Before(f.chores[m.Machine.ID])
		f.mu.Unlock()
		if !due {
			continue
		}
		done, err := f.tend(ctx, provider, m)
		if err != nil {
			return err
		}
		wait := f.Poll
		if !done {
			wait = idleWait
		}
		f.mu.Lock()
		f.chores[m.Machine.ID] = f.Now().Add(wait)
		f.mu.Unlock()
	}
	return f.examine(ctx, provider, rows)
}

// tend does what is left to do at the provider for one machine's quarantine. It returns false if it has to wait.
func (f *Fleet) tend(ctx context.Context, provider cert.Provider, m *sqlite.FleetRow) (bool, error) {
	_, conf, _ := f.settings()
	for range 8 {
		if m.Quarantine == nil || m.Quarantine.Step == "" {
			return true, nil
		}
		step := m.Quarantine.Step
		if d, err := f.openDeployment(ctx, m.Machine.ID); err != nil || d {
			return false, err // when it is back
		}
		if m.Provided.Holder == cert.AJuju || m.Provided.Holder == cert.Otherwise {
			return f.tended(ctx, m, step, "", "nothing was done at the provider: "+first(m.Provided.Owner, "somebody else")+" has it there")
		}
		next, text, err := f.quarantineStep(ctx, provider, m, conf.MAAS, step)
		switch cert.ProviderFaultOf(err) {
		case cert.ProviderUnreachable, cert.ProviderRefused, cert.ProviderClock, cert.ProviderBusy, cert.ProviderOutcome:
			f.lost(err, false)
			return false, nil
		}
		if err != nil {
			text = fmt.Sprintf("%s: not done: %v", step, err)
		}
		if _, err := f.tended(ctx, m, step, next, text); err != nil {
			return false, err
		}
		row, err := f.DB.FleetRow(ctx, m.Machine.ID)
		if err != nil {
			return false, err
		}
		*m = row
	}
	return true, nil
}

func (f *Fleet) openDeployment(ctx context.Context, machine string) (bool, error) {
	open, err := f.DB.OpenDeployments(ctx)
	for _, d := range open {
		if d.Machine == machine {
			return true, err
		}
	}
	return false, err
}

// tended stores what was done.
func (f *Fleet) tended(ctx context.Context, m *sqlite.FleetRow, step, next, text string) (bool, error) {
	err := f.editMachine(ctx, m.Machine.ID, func(e *edit) error {
		if e.m.Quarantine == nil || e.m.Quarantine.Step != step {
			return nil
		}
		q := *e.m.Quarantine
		q.Step = next
		if text != "" {
			q.Provider = append(append([]string(nil), q.Provider...), text)
			e.log("provider", "certlab", text)
		}
		if q.Pool == "" && e.m.Provided != nil {
			q.Pool = e.m.Provided.Pool
		}
		e.m.Quarantine = &q
		if next == "" && isReturn(step) {
			e.m.Quarantine = nil
		}
		return nil
	})
	return true, err
}

// quarantineStep does one step at the provider and returns the next, and what was done.
func (f *Fleet) quarantineStep(ctx context.Context, p cert.Provider, m *sqlite.FleetRow, conf order.MAAS, step string) (next, text string, err error) {
	id, note := m.Machine.SystemID, "certlab: "+m.Quarantine.Reason
	defer f.touch(m.Machine.ID)
	refresh := func() {
		if got, err := p.Look(ctx, id); err == nil {
			_ = f.take(ctx, got, []string{id}, 1<<60)
		}
	}
	switch step {
	case quarantineTake:
		if m.Provided.Status == cert.StatusFree && m.Provided.Holder == cert.Nobody {
			if _, err = p.Acquire(ctx, id, note); err == nil {
				text = "taken, so that nobody else is handed it"
			}
		}
		return quarantinePool, text, err
	case quarantinePool:
		if conf.QuarantinePool != "" && m.Provided.Pool != conf.QuarantinePool {
			err, text = p.SetPool(ctx, id, conf.QuarantinePool), "moved to pool "+conf.QuarantinePool
		}
		return quarantineTag, text, err
	case quarantineTag:
		if conf.QuarantineTag != "" {
			err, text = p.Tag(ctx, id, conf.QuarantineTag, true), "tagged "+conf.QuarantineTag
		}
		return quarantineBroken, text, err
	case quarantineBroken:
		if m.Provided.Status != cert.StatusBroken {
			err, text = p.MarkBroken(ctx, id, note), "marked broken"
		}
		refresh()
		return "", text, err
	case returnFixed:
		if err = p.MarkFixed(ctx, id, note); cert.ProviderFaultOf(err) == cert.ProviderForbidden || cert.ProviderFaultOf(err) == cert.ProviderConflict {
			err = p.Release(ctx, id, cert.ReleaseOptions{Erase: cert.EraseNone, Comment: note})
		}
		return returnPool, "marked fixed", err
	case returnPool:
		if m.Quarantine.Pool != "" && conf.QuarantinePool != "" && m.Quarantine.Pool != conf.QuarantinePool {
			err, text = p.SetPool(ctx, id, m.Quarantine.Pool), "moved back to pool "+m.Quarantine.Pool
		}
		return returnTag, text, err
	case returnTag:
		if conf.QuarantineTag != "" {
			err = p.Tag(ctx, id, conf.QuarantineTag, false)
		}
		refresh()
		return "", "", err
	}
	return "", "", nil
}

// examine reads the hardware of one machine whose hardware is not known, if the last one was long enough ago.
func (f *Fleet) examine(ctx context.Context, provider cert.Provider, rows []sqlite.FleetRow) error {
	now := f.Now()
	f.mu.Lock()
	due := !now.Before(f.hardware)
	f.mu.Unlock()
	if !due {
		return nil
	}
	for n := range rows {
		m := &rows[n]
		if m.Provided == nil || m.Gone != nil || m.Hardware != nil || m.Provided.Status == cert.StatusNew || m.Provided.Status == cert.StatusExamining {
			continue
		}
		f.mu.Lock()
		f.hardware = now.Add(hardwareEvery)
		f.mu.Unlock()
		h, err := provider.Hardware(ctx, m.Machine.SystemID)
		if err != nil {
			f.lost(err, false)
			if waits(err) {
				return nil
			}
			h = cert.Hardware{} // it cannot be had: it is not asked for again
		}
		h.Read = now
		return f.editMachine(ctx, m.Machine.ID, func(e *edit) error { e.m.Hardware = &h; return nil })
	}
	return nil
}
