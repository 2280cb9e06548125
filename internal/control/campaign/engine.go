package campaign

import (
	"context"
	"io"
	"log/slog"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Fleet is what an Engine needs of what takes machines from the provider.
type Fleet interface {
	// Reserve asks for a machine for a run. It is idempotent by the reservation's id.
	Reserve(ctx context.Context, in cert.NewReservation, by string, role cert.Role) (cert.Reservation, error)
	Cancel(ctx context.Context, id string, x cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error)
	Machines(ctx context.Context) ([]cert.FleetMachine, error)
	Provider() cert.Provider // nil: there is none
}

// Lab is what it needs of the controller's other loops.
type Lab interface {
	Wake(machine string) // its agent has something to do
	RoomForRuns() error
}

// News knows which kernels are to be tested.
type News interface {
	Kernels(ctx context.Context) (cert.KernelNewsList, error)
	ReadKernels(ctx context.Context, r io.Reader, by string) (cert.KernelNewsList, error)
}

// Options say what an Engine works with. DB, Logger, Fleet and Lab must be set.
type Options struct {
	DB     *sqlite.DB
	Logger *slog.Logger
	Fleet  Fleet
	Lab    Lab
	// Findings is called in each transaction in which a try of a target ends: it derives from the target's tries what is to be seen of them without
	// results. It may be called again for the same.
	Findings func(tx *sqlite.CampaignTx, c cert.Campaign, t cert.Target) error
	// Review says that a target waits to be compared, or that nothing more will run in a campaign by itself.
	Review func()
	News   News
	Now    func() time.Time
	Every  time.Duration // between looks; 5 s
}

// An Engine plans and runs campaigns. It is safe for concurrent use.
type Engine struct {
	Options
	wake chan struct{}
}

// New returns an Engine.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if o.Every <= 0 {
		o.Every = 5 * time.Second
	}
	if o.Findings == nil {
		o.Findings = func(*sqlite.CampaignTx, cert.Campaign, cert.Target) error { return nil }
	}
	if o.Review == nil {
		o.Review = func() {}
	}
	return &Engine{Options: o, wake: make(chan struct{}, 1)}
}

// Wake has the loop look at once.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Loop does all the work until ctx ends. What it was at is stored, and the next Loop goes on with it.
func (e *Engine) Loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
		}
		timer.Reset(e.Every)
	}
}
