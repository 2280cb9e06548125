package control

import (
	"context"
	"errors"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

const (
	lostInterval = 10 * time.Minute
	lostAfter    = 24 * time.Hour // after a restore, for machines whose agent has not said what it knows
	cancelAfter  = time.Hour      // without a word of the machine
	heldGrace    = 30 * time.Second
)

// Held takes in what a machine's agent still knows. It returns the delivered runs that are wanted again, because the data have gone
// back to before they were delivered, and ends the runs that the machine knows nothing of.
func (l *Lab) Held(ctx context.Context, machine string, held order.Held) (again []string, err error) {
	if err := l.DB.Writable(); err != nil {
		return nil, err
	}
	knows := make(map[string]bool, len(held.Runs))
	for _, h := range held.Runs {
		if !h.Delivered {
			knows[h.Run] = true
			continue
		}
		there := h.Whole || len(h.Files) > 0
		run, err := l.DB.Run(ctx, h.Run)
		switch {
		case cert.CodeOf(err) == cert.Gone:
			continue
		case cert.CodeOf(err) == cert.NotFound:
			if !there {
				l.Logger.Warn("a run that was delivered before the data went back is lost: its machine has no copy any more", "run", h.Run)
				continue
			}
		case err != nil:
			return nil, err
		case run.Machine != machine, run.State.Final() && !run.Presumed():
			continue
		}
		if there {
			knows[h.Run] = true
			again = append(again, h.Run)
		} else if err := l.lose(ctx, h.Run, nobodyHas); err != nil { // also an order, which would be given out again and again
			return nil, err
		}
	}
	now := l.Now()
	runs, err := l.DB.LostRuns(ctx, machine, now.Add(-heldGrace), maxBad)
	if err != nil {
		return nil, err
	}
	for _, id := range runs {
		if knows[id] {
			continue
		}
		if err := l.lose(ctx, id, nobodyHas); err != nil {
			return nil, err
		}
	}
	l.Logger.Info("an agent has said what it holds", "machine", machine, "runs", len(held.Runs), "again", len(again))
	l.Refresh()
	return again, nil
}

const nobodyHas = "the machine knows nothing of this run (any more): it was delivered before the controller was restored, or the machine was set up anew; run it again"

func (l *Lab) lose(ctx context.Context, id, why string) error {
	_, err := l.DB.UpdateRun(ctx, id, nil, func(run *cert.Run) (bool, error) { return run.Lose(why, l.Now()), nil })
	if code := cert.CodeOf(err); code == cert.NotFound || code == cert.Gone {
		return nil
	}
	if err == nil {
		l.Logger.Warn("run given up", "run", id, "reason", why)
		l.Freed(ctx)
	}
	return err
}

// lostLoop ends runs that nobody will end.
func (l *Lab) lostLoop(ctx context.Context) error {
	return l.every(ctx, "end lost runs", lostInterval, l.EndLost)
}

// EndLost ends runs from before a restore that their machines have kept silent of for a day, and runs that were to be cancelled and whose
// machines have kept silent for an hour.
func (l *Lab) EndLost(ctx context.Context) error {
	if l.DB.Writable() != nil {
		return nil
	}
	now := l.Now()
	epoch, err := l.DB.Epoch(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if epoch.Cause != "new" && now.Sub(epoch.Since) > lostAfter {
		runs, err := l.DB.LostRuns(ctx, "", epoch.Since, maxBad)
		errs = append(errs, err)
		for _, id := range runs {
			errs = append(errs, l.lose(ctx, id, "the controller was restored to a time when this run was going on, and its machine has said nothing of it for a day since; run it again"))
		}
	}
	cancelled, err := l.DB.SilentCancelled(ctx, now.Add(-cancelAfter), maxBad)
	errs = append(errs, err)
	for _, id := range cancelled {
		errs = append(errs, l.lose(ctx, id, "it was cancelled, and its machine has said nothing of it for an hour"))
	}
	return errors.Join(errs...)
}

// Epoch returns the name of the data's epoch; "" while it cannot be read.
func (l *Lab) epochID(ctx context.Context) string {
	if id := l.epoch.Load(); id != nil {
		return *id
	}
	e, err := l.DB.Epoch(ctx)
	if err != nil || e.ID == "" {
		return ""
	}
	l.epoch.Store(&e.ID)
	return e.ID
}

// News is what an agent is told.
type News struct {
	Orders, Cancel []cert.Run
	Resend         []sqlite.BadFile
	Lost           []string // runs in which the machine was power-cycled, and whose agent does not know yet
	Epoch          string
	// Manifest and Environment are the lab's for the machine. They go with orders.
	Manifest, Environment map[string]string
}

func (n News) empty() bool { return len(n.Orders)+len(n.Cancel)+len(n.Resend)+len(n.Lost) == 0 }
