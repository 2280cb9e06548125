// Package review says what came of campaigns: it compares each submission with its baseline when it arrives, keeps what was found, recognises known
// issues, shows how a campaign stands and why, takes decisions, and gives the verdict. What may be concluded is package judge's; this package gets it
// the facts and stores what it says.
//
// # What is stored
//
// What a comparison came to (cert.Compared), its findings, and the state that its target is in then, come about in one transaction, and so do a
// decision and what follows from it: findings that it waives, the verdict, the campaign's state, its log, and the notice to who has to know. A kill at
// any point leaves either all of it or nothing, and the next Loop finds what is still to be compared by the targets' state.
//
// # How it goes
//
// One loop compares what waits, the oldest first; then it looks at campaigns in which nothing more runs by itself, and has the policy decide where
// the policy may; then at waivers and rules whose end has come. A submission that is not indexed yet is waited for: the indexer wakes the loop.
//
// What is compared is looked at by target. Nothing here reads all findings of a campaign for one submission that arrives.
package review

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Options say what a Review works with. DB, Open and Logger must be set.
type Options struct {
	DB       *sqlite.DB
	Logger   *slog.Logger
	Open     func(ctx context.Context, sha string, size int64) (io.ReadCloser, error) // a stored file; a size of -1: whatever it is
	Machines func(ctx context.Context) ([]cert.FleetMachine, error)                   // with what queries ask for; nil: none is known
	Wake     func()                                                                   // something was decided or compared: the engine should look; nil: nobody has to
	Now      func() time.Time
	Every    time.Duration // between looks; 30 s
}

// A Review compares, explains and decides. It is safe for concurrent use.
type Review struct {
	Options
	wake    chan struct{}
	again   sync.Mutex // held by what goes through many findings: one at a time
	views   views
	tallies tallies
	plans   plans
	warmed  atomic.Bool
}

// New returns a Review.
func New(o Options) *Review {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if o.Every <= 0 {
		o.Every = 30 * time.Second
	}
	return &Review{Options: o, wake: make(chan struct{}, 1)}
}

// Nudge has the loop look at once: something waits to be compared, or nothing more will run in a campaign by itself.
func (r *Review) Nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Loop does all the work until ctx ends. What it was at is stored, and the next Loop goes on with it.
func (r *Review) Loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(r.Every)
		if err := r.Turn(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Error("cannot review", "error", err)
		}
	}
}

func (r *Review) woken() {
	if r.Wake != nil {
		r.Wake()
	}
}
