package api

import (
	"context"
	"io"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// NoFleet is the Fleet of a lab that takes machines from nowhere: it knows those that carry a unit or were added by hand.
type NoFleet struct{ Store Store }

var _ Fleet = NoFleet{}

func (NoFleet) no() error {
	return cert.Errorf(cert.Conflict, "this lab has no provider of machines (set maas-credentials, or juju trust, on the cert-controller charm)")
}

// Summary implements Fleet.
func (f NoFleet) Summary(ctx context.Context) (cert.FleetSummary, error) {
	s := cert.FleetSummary{States: map[cert.MachineState]int{}, Pauses: []cert.Pause{}, Incidents: []cert.Incident{}, NeedsHands: []cert.FleetMachine{}}
	machines, err := f.Machines(ctx)
	for _, m := range machines {
		s.States[m.State]++
	}
	return s, err
}

// Machines implements Fleet.
func (f NoFleet) Machines(ctx context.Context) (out []cert.FleetMachine, err error) {
	for p := (sqlite.Page{Limit: sqlite.MaxLimit}); ; {
		machines, next, err := f.Store.Machines(ctx, sqlite.MachineFilter{}, p)
		if err != nil {
			return nil, err
		}
		for _, m := range machines {
			out = append(out, f.of(m))
		}
		if p.Cursor = next; next == "" {
			return out, nil
		}
	}
}

func (NoFleet) of(m cert.Machine) cert.FleetMachine {
	return cert.FleetMachine{Machine: m, State: cert.MachineFacts{Running: m.CurrentRun != "", Unit: m.Unit != ""}.State()}
}

// Machine implements Fleet.
func (f NoFleet) Machine(ctx context.Context, name string) (cert.MachineDetail, error) {
	m, err := f.Store.Machine(ctx, name)
	return cert.MachineDetail{FleetMachine: f.of(m)}, err
}

// MayRun implements Fleet.
func (f NoFleet) MayRun(ctx context.Context, machine, _ string, _ cert.Role) error {
	m, err := f.Store.Machine(ctx, machine)
	if err == nil && m.Unit == "" {
		err = cert.Errorf(cert.Conflict, "cannot start a run on %s: no unit is on it (juju add-unit checkbox --to …)", m.Hostname)
	}
	return err
}

// The rest of Fleet needs a provider.

// Reserve implements Fleet.
func (f NoFleet) Reserve(context.Context, cert.NewReservation, string, cert.Role) (v cert.Reservation, err error) {
	return v, f.no()
}

// Reservation implements Fleet.
func (f NoFleet) Reservation(_ context.Context, id string) (v cert.Reservation, err error) {
	return v, cert.Errorf(cert.NotFound, "there is no reservation %q", clipText(id))
}

// Await implements Fleet.
func (f NoFleet) Await(context.Context, string, time.Duration) (v cert.Reservation, err error) {
	return v, f.no()
}

// Extend implements Fleet.
func (f NoFleet) Extend(context.Context, string, cert.ExtendReservation, string, cert.Role) (v cert.Reservation, err error) {
	return v, f.no()
}

// Release implements Fleet.
func (f NoFleet) Release(context.Context, string, cert.ReleaseReservation, string, cert.Role) (v cert.Reservation, err error) {
	return v, f.no()
}

// Cancel implements Fleet.
func (f NoFleet) Cancel(context.Context, string, cert.ReleaseReservation, string, cert.Role) (v cert.Reservation, err error) {
	return v, f.no()
}

// Quarantine implements Fleet.
func (f NoFleet) Quarantine(context.Context, string, string, string) (m cert.MachineDetail, err error) {
	return m, f.no()
}

// ReturnToService implements Fleet.
func (f NoFleet) ReturnToService(context.Context, string, cert.ReturnMachine, string) (m cert.MachineDetail, err error) {
	return m, f.no()
}

// Power implements Fleet.
func (f NoFleet) Power(context.Context, string, cert.PowerMachine, string, cert.Role) (p cert.PoweredMachine, err error) {
	return p, f.no()
}

// ConsoleLog implements Fleet.
func (f NoFleet) ConsoleLog(context.Context, string, io.Writer) error { return f.no() }

// Pause implements Fleet.
func (f NoFleet) Pause(context.Context, cert.NewPause, string) (p cert.Pause, err error) {
	return p, f.no()
}

// Resume implements Fleet.
func (f NoFleet) Resume(context.Context, string, string, string) error { return f.no() }

// Booted implements Fleet.
func (f NoFleet) Booted(context.Context, string) error {
	return cert.Errorf(cert.Unauthorized, "this token is good for no deployment")
}

// Enrol implements Fleet.
func (f NoFleet) Enrol(context.Context, order.Enrolment) (e order.Enrolled, err error) {
	return e, cert.Errorf(cert.Unauthorized, "this token is good for no deployment")
}

// AgentStatus implements Fleet.
func (f NoFleet) AgentStatus(context.Context, string, order.Status) error { return nil }
