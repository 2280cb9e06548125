package campaign

import (
	"context"
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

// News is what looks at the kernel team's status.
type News interface {
	Read() *time.Time // when it was seen last, changed or not; nil: not since the start
	Problem() string  // why it is not known; empty: all is well, or nobody looks
}

// Options say what an Engine works with. DB, Logger, Fleet and Lab must be set.
type Options struct {
	DB     *sqlite.DB
	Logger *slog.Logger
	Fleet  Fleet
	Lab    Lab
	// Review is called when a try has ended, or nothing more will run in a campaign by itself; nil: nobody has to know.
	Review func()
	News   News
	Heard  func(machine string) time.Time // when a machine's agent was last heard; nil: nobody knows
	Now    func() time.Time
	Every  time.Duration // between looks; 1 s
}

// An Engine plans and runs campaigns. It is safe for concurrent use.
type Engine struct {
	Options
	wake    chan struct{}
	changes int64                // of the database, before the last turn; the loop's alone
	turned  time.Time            // when that was
	later   map[string]time.Time // run → its reservation is not asked for before; the loop's alone
	looked  map[string]time.Time // campaign → what is waited for is not looked at before; the loop's alone
}

// New returns an Engine.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Review == nil {
		o.Review = func() {}
	}
	return &Engine{Options: o, wake: make(chan struct{}, 1), later: map[string]time.Time{}, looked: map[string]time.Time{}}
}

// Wake has the loop look at once.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// afterError is how long a turn is waited for after one that could not be done: the disk is full, say.
const afterError = 10 * time.Second

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
		wait := e.Every
		more, err := e.Turn(ctx)
		if err != nil && ctx.Err() == nil {
			e.Logger.Error("cannot go on with the campaigns", "error", err)
			wait = max(e.Every, afterError)
		} else if more {
			wait = 0
		}
		timer.Reset(wait)
	}
}
