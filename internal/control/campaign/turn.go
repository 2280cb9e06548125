package campaign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Bounds of what one turn does for one campaign. What is left is done in the next, which follows at once.
const (
	maxMoves  = 200 // tries that have come to something
	maxStarts = 100 // targets that are begun
	maxQueued = 100 // targets that wait in the fleet's queue; the queue is everybody's
)

// unmoved is how long nothing is looked at while nothing is stored: only what follows from the time alone can be due.
const unmoved = 5 * time.Second

// Turn does what is due, once. more: it is not all done.
func (e *Engine) Turn(ctx context.Context) (more bool, err error) {
	changes, now := e.DB.Changes(), e.Now()
	if changes == e.changes && now.Sub(e.turned) < unmoved && !now.Before(e.turned) {
		return false, nil
	}
	if more, err = e.turn(ctx); err == nil {
		e.changes, e.turned = changes, now
	}
	return more, err
}

func (e *Engine) turn(ctx context.Context) (more bool, err error) {
	open, err := e.DB.OpenCampaigns(ctx)
	if err != nil {
		return false, err
	}
	left, err := e.DB.UnsettledCampaigns(ctx)
	if err != nil {
		return false, err
	}
	for _, id := range left {
		if !slices.ContainsFunc(open, func(c cert.Campaign) bool { return c.ID == id }) {
			c, err := e.DB.Campaign(ctx, id)
			if err != nil {
				return false, err
			}
			open = append(open, c)
		}
	}
	var errs []error
	for _, c := range open {
		again, err := e.campaign(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("campaign %s: %w", c.Name, err))
		}
		more = more || again
	}
	return more, errors.Join(errs...)
}

// campaign does what is due for one campaign.
func (e *Engine) campaign(ctx context.Context, c cert.Campaign) (more bool, err error) {
	moved, err := e.DB.MovedTries(ctx, c.ID, maxMoves)
	if err != nil {
		return false, err
	}
	ended := false
	var errs []error
	for _, row := range moved {
		end, err := e.follow(ctx, row)
		if err != nil { // another machine's are not held up by it
			errs = append(errs, fmt.Errorf("run %s: %w", row.Run, err))
		}
		ended = ended || end
	}
	defer func() { err = errors.Join(append(errs, err)...) }()
	if ended {
		e.Review()
	}
	more = len(moved) == maxMoves
	if c, err = e.DB.Campaign(ctx, c.ID); err != nil {
		return more, err
	}
	if c.State.Final() {
		return more, e.wind(ctx, c)
	}
	if err := e.lost(ctx, c); err != nil {
		return more, err
	}
	if c.State != cert.CampaignPaused {
		if err := e.ask(ctx, c); err != nil {
			return more, err
		}
		started, err := e.begin(ctx, c)
		if err != nil {
			return more, err
		}
		more = more || started == maxStarts
	}
	return more, e.settle(ctx, c)
}

// settle says that nothing more will run by itself, or that it does again.
func (e *Engine) settle(ctx context.Context, c cert.Campaign) error {
	counts, err := e.DB.TargetCounts(ctx, c.ID)
	if err != nil || c.State == cert.CampaignPaused || settled(counts) == (c.State == cert.CampaignDeciding) {
		return err
	}
	now := e.Now()
	err = e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		c, err := tx.Campaign(c.ID)
		if err != nil {
			return err
		}
		counts, err := tx.TargetCounts(c.ID)
		if err != nil || c.State.Final() || c.State == cert.CampaignPaused {
			return err
		}
		event := cert.CampaignEvent{Campaign: c.ID, At: now, Kind: "deciding", Who: "certlab", Text: "nothing more will run by itself"}
		switch done := settled(counts); {
		case done && c.State != cert.CampaignDeciding:
			c.State = cert.CampaignDeciding
		case !done && c.State == cert.CampaignDeciding:
			c.State = cert.CampaignActive
			event.Kind, event.Text = "active", "there is more to run"
		default:
			return nil
		}
		if err := tx.PutCampaign(c); err != nil {
			return err
		}
		return tx.Note(event)
	})
	if err == nil {
		e.Review()
	}
	return err
}

func settled(counts map[cert.TargetState]int) bool {
	for state, n := range counts {
		if n > 0 && !state.Settled() {
			return false
		}
	}
	return true
}

// wind ends what of a final campaign has not begun; of one that was cancelled, also what runs.
func (e *Engine) wind(ctx context.Context, c cert.Campaign) error {
	for {
		waiting, err := e.DB.TargetsIn(ctx, c.ID, maxStarts, cert.TargetWaiting)
		if err != nil || len(waiting) == 0 {
			if err != nil {
				return err
			}
			break
		}
		if err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
			for _, t := range waiting {
				g, err := tx.Target(t.ID)
				if err != nil {
					return err
				}
				if g.State != cert.TargetWaiting {
					continue
				}
				e.giveUp(&g, endText(c))
				if err := tx.PutTarget(g); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	open, err := e.DB.OpenTries(ctx, c.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, row := range open {
		if err := e.stop(ctx, c, row); err != nil { // the others are stopped all the same
			errs = append(errs, fmt.Errorf("run %s: %w", row.Run, err))
		}
	}
	return errors.Join(errs...)
}

// giveUp settles a target whose campaign has ended before it was tried, or tried again.
func (e *Engine) giveUp(g *cert.Target, why string) {
	g.State, g.Why, g.Updated = cert.TargetCancelled, why, e.Now()
	if g.Then != "" {
		g.State, g.Why = g.Then, ""
	}
	g.Then, g.Next, g.NotBefore = "", nil, nil
}

func endText(c cert.Campaign) string {
	if c.Ending != "" {
		return c.Ending
	}
	return fmt.Sprintf("the campaign was %s", c.State)
}

// stop has a try end before its time.
func (e *Engine) stop(ctx context.Context, c cert.Campaign, row sqlite.TryRow) error {
	wake := ""
	cancel := false
	err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		wake, cancel = "", false
		run, err := tx.Run(row.Run)
		none := cert.CodeOf(err) == cert.NotFound
		if err != nil && !none {
			return err
		}
		if !none && (run.State.Final() || run.CancelRequested || run.State == cert.Running && c.State != cert.CampaignCancelled) {
			return nil
		}
		if row.Reservation != "" {
			r, err := tx.Reservation(row.Reservation)
			if err == nil {
				cancel = r.State != cert.ReservationReleasing && !r.Final()
				return nil
			}
			if cert.CodeOf(err) != cert.NotFound {
				return err
			}
		}
		if none { // nothing was asked for, and nothing will be
			return e.end(tx, row, func(g *cert.Target, try *cert.Try) { try.State = cert.Cancelled; e.giveUp(g, endText(c)) })
		}
		wake = run.Machine
		return tx.ChangeRun(run.ID, func(run *cert.Run) (bool, error) { return run.Cancel(e.Now()) })
	})
	if err != nil {
		return err
	}
	if wake != "" {
		e.Lab.Wake(wake)
	}
	if cancel {
		_, err := e.Fleet.Cancel(ctx, row.Reservation, cert.ReleaseReservation{Reason: endText(c)}, holder, cert.Admin)
		return err
	}
	return nil
}

// end closes a try.
func (e *Engine) end(tx *sqlite.CampaignTx, row sqlite.TryRow, fn func(*cert.Target, *cert.Try)) error {
	g, err := tx.Target(row.Target)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
	if n < 0 || g.Tries[n].Ended != nil {
		return nil
	}
	now := e.Now()
	g.Tries[n].Ended, g.Updated = &now, now
	fn(&g, &g.Tries[n])
	return tx.PutTarget(g)
}

// holder is who does what the engine does by itself.
const holder = "certlab"
