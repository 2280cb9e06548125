package provision

import (
	"context"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// account writes what the machine is for now.
func (f *Fleet) account(e *edit) error {
	if e.m.Machine.ID == "" {
		return nil
	}
	var d *cert.Deployment
	var r *cert.Reservation
	if e.d.ID != "" && e.d.Phase != cert.PhaseOver {
		d, r = &e.d, &e.r
	}
	// A run may have begun or ended in this very transaction.
	var err error
	if e.m.Machine.CurrentRun, err = e.tx.CurrentRun(e.m.Machine.ID); err != nil {
		return err
	}
	state := f.facts(&e.m, d, r).State()
	consumer, holder := consumerOf(state, d, r)
	return e.tx.Account(e.m.Machine.ID, state, consumer, holder, e.now)
}

// consumerOf says whom a machine's time is counted for.
func consumerOf(state cert.MachineState, d *cert.Deployment, r *cert.Reservation) (consumer, holder string) {
	if d != nil && r != nil {
		if d.Failure != nil && r.KeepUntil == nil {
			return "broken", ""
		}
		switch r.Kind {
		case cert.ReserveRun:
			return "runs", ""
		case cert.ReserveCheck:
			return "checks", ""
		}
		return "manual", r.Holder
	}
	switch state {
	case cert.MachineFree, cert.MachineReady:
		return "idle", ""
	case cert.MachineBusy:
		return "runs", ""
	case cert.MachineForeign, cert.MachineRetired:
		return "foreign", ""
	}
	return "broken", ""
}

// accountEvery is how often machines on which units are, are looked at for what nothing tells of: that a unit has come, has gone or is silent.
const accountEvery = time.Minute

// ran writes what a machine is for when a run on it has begun or ended. It is part of the transaction that stores the run.
func (f *Fleet) ran(tx *sqlite.FleetTx, machine string) error {
	e, err := f.begin(tx, machine)
	if err != nil {
		return err
	}
	return f.account(&e)
}

// begin reads a machine with the deployment that is on it, if there is one.
func (f *Fleet) begin(tx *sqlite.FleetTx, machine string) (e edit, err error) {
	e = edit{tx: tx, now: f.Now()}
	if e.m, err = tx.Machine(machine); err != nil {
		return e, err
	}
	if e.d, err = tx.OpenDeployment(machine); cert.CodeOf(err) == cert.NotFound {
		e.d = cert.Deployment{}
		return e, nil
	}
	if err == nil {
		e.r, err = tx.Reservation(e.d.Reservation)
	}
	return e, err
}

// accountUnits writes what the machines of units are for, where that has changed since it was last written by this Fleet.
func (f *Fleet) accountUnits(ctx context.Context) error {
	now := f.Now()
	f.mu.Lock()
	due := !now.Before(f.accounts)
	if due {
		f.accounts = now.Add(accountEvery)
	}
	f.mu.Unlock()
	if !due {
		return nil
	}
	rows, err := f.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	for n := range rows {
		m := &rows[n]
		state := cert.MachineState("") // no unit
		if m.Machine.Unit != "" {
			state = f.facts(m, nil, nil).State()
		}
		if f.accounted[m.Machine.ID] == state {
			continue
		}
		if err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error { return f.ran(tx, m.Machine.ID) }); err != nil {
			return err
		}
		f.accounted[m.Machine.ID] = state
	}
	return nil
}
