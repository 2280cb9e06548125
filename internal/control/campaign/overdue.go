package campaign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Bounds of what is waited for.
const (
	begunWithin = 7 * 24 * time.Hour // until a machine that somebody has, or that keeps silent, begins what it was asked for
	readWithin  = 24 * time.Hour     // until results whose bytes are lost are here again
)

// overdue gives up tries that have not begun where it is too late for them, or that nobody begins, and those whose results cannot be read. What has begun
// ends by the limits of the run and of the lab.
func (e *Engine) overdue(ctx context.Context, c cert.Campaign) error {
	rows, err := e.DB.OpenTries(ctx, c.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, row := range rows {
		if err := e.overdueTry(ctx, c, row); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", row.Run, err))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) overdueTry(ctx context.Context, c cert.Campaign, row sqlite.TryRow) error {
	g, err := e.DB.Target(ctx, row.Target)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
	if n < 0 {
		return nil
	}
	run, err := e.DB.Run(ctx, row.Run)
	none := cert.CodeOf(err) == cert.NotFound || cert.CodeOf(err) == cert.Gone
	if err != nil && !none {
		return err
	}
	reserved, held := cert.Reservation{}, false
	if row.Reservation != "" {
		if reserved, err = e.DB.Reservation(ctx, row.Reservation); err != nil && cert.CodeOf(err) != cert.NotFound {
			return err
		}
		held = err == nil
	}
	f := &cert.Failure{Type: failWaited}
	switch {
	case !none && run.State == cert.Completed:
		if run.Finished == nil || e.Now().Sub(*run.Finished) < readWithin {
			return nil
		}
		f = &cert.Failure{Type: order.FailBadArchive, Message: "its results cannot be read: their bytes are not here"}
	case !none && (run.State != cert.Queued || len(run.Attempts) > 0), held && reserved.State != cert.ReservationQueued && none, held && !none:
		return nil // it has begun, or its machine is made ready, which has its own limits
	case none && !held && row.Asked && row.Purpose != cert.TryIncident:
		f = &cert.Failure{Type: cert.FailLost, Message: "the controller knows nothing of it any more: its data went back to an earlier time, or were repaired"}
	default:
		if f.Message = waitedTooLong(c, &g.Tries[n], g.Why, e.Now()); f.Message == "" {
			return nil
		}
	}
	return e.abandon(ctx, row, held && !reserved.Final(), f)
}

// waitedTooLong says why a try that has not begun is given up; empty: it is not.
func waitedTooLong(c cert.Campaign, try *cert.Try, waitsFor string, now time.Time) string {
	since := try.Created
	if c.Resumed != nil && c.Resumed.After(since) {
		since = *c.Resumed
	}
	waitsFor = cmp.Or(waitsFor, "its machine has not begun")
	byPerson := try.Purpose == cert.TryRerun || try.Purpose == cert.TryConfirm
	if c.Due != nil && !byPerson {
		if cut := c.Due.Add(-hours(c.Rules.Deadline.DecideHours)); now.After(cut) {
			return fmt.Sprintf("not begun by %s, which leaves %g hours for the decision: %s", cut.UTC().Format(time.DateTime), c.Rules.Deadline.DecideHours, waitsFor)
		}
	}
	if try.Purpose != cert.TryIncident && now.Sub(since) > begunWithin {
		return fmt.Sprintf("not begun within %d days: %s", int(begunWithin.Hours()/24), waitsFor)
	}
	return ""
}

// abandon has a try that has not begun never begin, and gives it up. The first comes first: what is begun after that was stored would be nobody's.
func (e *Engine) abandon(ctx context.Context, row sqlite.TryRow, reserved bool, f *cert.Failure) error {
	if reserved && f.Type == failWaited {
		_, err := e.Fleet.Cancel(ctx, row.Reservation, cert.ReleaseReservation{Reason: "it was waited for too long"}, holder, cert.Admin)
		if err != nil && cert.CodeOf(err) != cert.NotFound {
			return err
		}
	}
	wake := ""
	err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		wake = ""
		run, err := tx.Run(row.Run)
		switch {
		case err == nil && f.Type == failWaited && !run.State.Final():
			if len(run.Attempts) > 0 {
				return nil // it has begun meanwhile
			}
			wake = run.Machine
			if err := tx.ChangeRun(run.ID, func(run *cert.Run) (bool, error) { return run.Cancel(e.Now()) }); err != nil {
				return err
			}
		case err != nil && cert.CodeOf(err) != cert.NotFound:
			return err
		}
		return e.failed(tx, row, f, nil)
	})
	if err == nil && wake != "" {
		e.Lab.Wake(wake)
	}
	if err == nil {
		e.Review()
	}
	return err
}
