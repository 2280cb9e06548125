package provision

import (
	"context"
	"errors"
	"reflect"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// An edit is one change of a machine, of the deployment on it and of that deployment's reservation. What it leaves is stored with its events
// and the machine's accounts in one transaction.
type edit struct {
	tx  *sqlite.FleetTx
	now time.Time
	d   cert.Deployment
	r   cert.Reservation
	m   sqlite.FleetRow
	err error // of an event
}

// errMoved says that a deployment is not where it was thought to be.
var errMoved = errors.New("the deployment has moved on")

// edit changes deployment id.
func (f *Fleet) edit(ctx context.Context, id string, fn func(*edit) error) (out edit, err error) {
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		e := edit{tx: tx, now: f.Now()}
		var err error
		if e.d, err = tx.Deployment(id); err != nil {
			return err
		}
		if e.r, err = tx.Reservation(e.d.Reservation); err != nil {
			return err
		}
		if e.m, err = tx.Machine(e.d.Machine); err != nil {
			return err
		}
		if err := f.store(&e, fn); err != nil {
			return err
		}
		out = e
		return nil
	})
	if err == nil {
		f.ring()
	}
	return out, err
}

// advance is edit for a step: it fails with errMoved if the deployment is not at d's any more.
func (f *Fleet) advance(ctx context.Context, d cert.Deployment, fn func(*edit) error) error {
	_, err := f.edit(ctx, d.ID, func(e *edit) error {
		if e.d.Phase != d.Phase || e.d.Step != d.Step {
			return errMoved
		}
		return fn(e)
	})
	return err
}

// store runs fn and stores what it has changed.
func (f *Fleet) store(e *edit, fn func(*edit) error) error {
	d, r, m := e.d, e.r, e.m
	if d.Phases != nil {
		d.Phases = append([]cert.PhaseTime(nil), d.Phases...)
	}
	if err := fn(e); err != nil {
		return err
	}
	if e.err != nil {
		return e.err
	}
	// The deployment first: a machine is free for the next one when its last one is over.
	if e.d.ID != "" && !reflect.DeepEqual(d, e.d) {
		if err := e.tx.PutDeployment(e.d); err != nil {
			return err
		}
	}
	if e.r.ID != "" && !reflect.DeepEqual(r, e.r) {
		if err := e.tx.PutReservation(e.r); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(m, e.m) || e.m.Provider == "" {
		if err := e.tx.PutMachine(e.m); err != nil {
			return err
		}
	}
	return f.account(e)
}

// log adds to the machine's log.
func (e *edit) log(kind, who, text string) {
	if err := e.tx.Event(cert.MachineEvent{Machine: e.m.Machine.ID, At: e.now, Kind: kind, Who: who, Text: text, Reservation: e.d.Reservation, Deployment: e.d.ID}); err != nil && e.err == nil {
		e.err = err
	}
}

// phase ends the deployment's phase and begins another.
func (e *edit) phase(to cert.DeployPhase, step string, limit time.Duration, calls int) {
	if e.d.Phase != cert.PhaseReady && e.d.Phase != cert.PhaseOver {
		e.d.Phases = append(e.d.Phases, cert.PhaseTime{Phase: e.d.Phase, Started: e.d.Since, Seconds: e.now.Sub(e.d.Since).Seconds(), Calls: calls})
	}
	e.d.Phase, e.d.Since = to, e.now
	e.step(step, limit)
}

// step begins a step; limit 0: it has no deadline.
func (e *edit) step(name string, limit time.Duration) {
	e.d.Step, e.d.Deadline = name, nil
	if limit > 0 {
		deadline := e.now.Add(limit)
		e.d.Deadline = &deadline
	}
}

// believe notes what a change at the provider that has succeeded makes of the machine, until it is read.
func (e *edit) believe(fn func(p *cert.Provided)) {
	if e.m.Provided == nil {
		return
	}
	p := *e.m.Provided
	fn(&p)
	e.m.Provided = &p
}

// facts are what the machine's state follows from. d is the deployment on it that is not over, r that one's reservation; nil: none.
func (f *Fleet) facts(m *sqlite.FleetRow, d *cert.Deployment, r *cert.Reservation) cert.MachineFacts {
	_, conf, limits := f.settings()
	facts := cert.MachineFacts{Provided: m.Provided, Gone: m.Gone != nil, Quarantined: m.Quarantine != nil, Retired: m.Retired != "",
		Running: m.Machine.CurrentRun != "", Unit: m.Machine.Unit != "", Changed: m.Dirty != ""}
	if m.Provider == "" {
		facts.Provided = nil
	}
	if m.Provided != nil {
		facts.InPool = inPool(conf.MAAS.Pools, conf.MAAS.ProtectedPools, m.Provided.Pool)
	}
	if facts.Unit {
		facts.Silent = m.Machine.Seen == nil || f.Now().Sub(*m.Machine.Seen) > time.Duration(limits.SilenceMinutes)*time.Minute
	}
	if d != nil && r != nil {
		facts.Kind, facts.Kept = r.Kind, isKept(d, r)
		switch d.Phase {
		case cert.PhaseReady:
			facts.Reservation = cert.ReservationReady
		case cert.PhaseRelease, cert.PhaseRecover:
			facts.Reservation = cert.ReservationReleasing
		default:
			facts.Reservation = cert.ReservationPreparing
		}
	}
	return facts
}

// inPool reports whether machines of a pool are taken.
func inPool(pools, protected []string, pool string) bool {
	for _, p := range protected {
		if p == pool {
			return false
		}
	}
	for _, p := range pools {
		if p == pool {
			return true
		}
	}
	return len(pools) == 0
}
