package api

import (
	"context"
	"io"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Fleet is what the API needs of the engine that takes machines from the provider and gives them back. by is a person's token name, with
// their role where rights depend on it. Without a provider each method that needs one fails as Conflict and says what to set.
type Fleet interface {
	Summary(ctx context.Context) (cert.FleetSummary, error)
	// Machines are all machines, those of units too, with their states; Machine is one, by id, the provider's id or hostname.
	Machines(ctx context.Context) ([]cert.FleetMachine, error)
	Machine(ctx context.Context, name string) (cert.MachineDetail, error)

	Reserve(ctx context.Context, want cert.NewReservation, by string, role cert.Role) (cert.Reservation, error)
	Reservation(ctx context.Context, id string) (cert.Reservation, error) // id, or a machine's name: the one that has it
	// Await returns the reservation once it has left the states queued and preparing, or as it is after wait.
	Await(ctx context.Context, id string, wait time.Duration) (cert.Reservation, error)
	Extend(ctx context.Context, id string, e cert.ExtendReservation, by string, role cert.Role) (cert.Reservation, error)
	Release(ctx context.Context, id string, r cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error)
	Cancel(ctx context.Context, id string, r cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error)

	Quarantine(ctx context.Context, machine, reason, by string) (cert.MachineDetail, error)
	ReturnToService(ctx context.Context, machine string, r cert.ReturnMachine, by string) (cert.MachineDetail, error)
	Power(ctx context.Context, machine string, p cert.PowerMachine, by string, role cert.Role) (cert.PoweredMachine, error)
	ConsoleLog(ctx context.Context, machine string, w io.Writer) error
	Pause(ctx context.Context, p cert.NewPause, by string) (cert.Pause, error)
	Resume(ctx context.Context, scope, name, by string) error

	// MayRun fails if a run that somebody wants to start on a machine would disturb its holder, or if the machine takes none.
	MayRun(ctx context.Context, machine, by string, role cert.Role) error

	// Booted is a deployed machine's first word; it fails as Unauthorized unless the token is one that is in force.
	Booted(ctx context.Context, token string) error
	Enrol(ctx context.Context, e order.Enrolment) (order.Enrolled, error)
	AgentStatus(ctx context.Context, machine string, s order.Status) error
}
