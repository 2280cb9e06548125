package campaign

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// follow brings a target up to what its try has come to. It reports whether the try has ended.
func (e *Engine) follow(ctx context.Context, row sqlite.TryRow) (ended bool, err error) {
	err = e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		ended = false
		stored, err := tx.TryOfRun(row.Run)
		if err != nil || !stored.Open {
			return err
		}
		if ended, err = e.moved(tx, row); err != nil {
			return err
		}
		return tx.SeeTry(row.Run, row.Seen)
	})
	return ended, err
}

// moved is follow in the transaction.
func (e *Engine) moved(tx *sqlite.CampaignTx, row sqlite.TryRow) (ended bool, err error) {
	var run *cert.Run
	switch found, err := tx.Run(row.Run); {
	case err == nil:
		run = &found
	case cert.CodeOf(err) != cert.NotFound:
		return false, err
	}
	var held *cert.Reservation
	if row.Reservation != "" {
		switch found, err := tx.Reservation(row.Reservation); {
		case err == nil:
			held = &found
		case cert.CodeOf(err) != cert.NotFound:
			return false, err
		}
	}
	if run != nil && run.State.Final() {
		return e.runOver(tx, row, run, held)
	}
	if run == nil && held != nil && (held.Final() || held.State == cert.ReservationReleasing) {
		return true, e.failed(tx, row, reservationFailure(held), nil)
	}
	return false, e.under(tx, row, run, held)
}

// reservationFailure says why a reservation has come to no run.
func reservationFailure(r *cert.Reservation) *cert.Failure {
	switch {
	case r.Failure != nil:
		return r.Failure
	case r.EndedBy != "" && r.EndedBy != holder:
		return &cert.Failure{Type: failCancelled, Message: fmt.Sprintf("its reservation was ended by %s", r.EndedBy)}
	}
	return &cert.Failure{Type: cert.FailNoMachine, Message: fmt.Sprintf("its reservation %s was %s before there was a run", r.ID, cmp.Or(r.Ending, "over"))}
}

// under notes how far a try is that is under way.
func (e *Engine) under(tx *sqlite.CampaignTx, row sqlite.TryRow, run *cert.Run, held *cert.Reservation) error {
	if run == nil && held == nil {
		return nil // not asked for yet, or not done again yet
	}
	g, err := tx.Target(row.Target)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
	if n < 0 {
		return nil
	}
	try := &g.Tries[n]
	state, why := cert.TargetQueued, ""
	now := e.Now()
	if try.Asked == nil {
		try.Asked = &now
	}
	if held != nil {
		switch held.State {
		case cert.ReservationQueued:
			why = held.Blocked
		default:
			state, why = cert.TargetProvisioning, held.Blocked
		}
		if held.Hostname != "" {
			try.Hostname = held.Hostname
		}
	}
	if run != nil {
		try.State, try.Started = run.State, run.Started
		switch {
		case run.State == cert.Running:
			state, why = cert.TargetRunning, ""
		case held == nil:
			why = run.Waits
		}
	}
	if g.State.Settled() { // it was given up meanwhile
		return nil
	}
	g.State, g.Why, g.Updated = state, why, now
	return tx.PutTarget(g)
}

// runOver notes what a run has come to that is over.
func (e *Engine) runOver(tx *sqlite.CampaignTx, row sqlite.TryRow, run *cert.Run, held *cert.Reservation) (ended bool, err error) {
	c, err := tx.Campaign(row.Campaign)
	if err != nil {
		return false, err
	}
	var s cert.Submission
	if run.State == cert.Completed { // what it has come to is known once its results are read
		if s, err = tx.RunSubmission(run.ID); cert.CodeOf(err) == cert.NotFound || err == nil && s.IndexState == cert.IndexPending {
			return false, e.reading(tx, row)
		} else if err != nil {
			return false, err
		}
	}
	if incident := run.Spoilt(); incident != "" && !c.State.Final() {
		g, err := tx.Target(row.Target)
		if err != nil {
			return false, err
		}
		if incidentTries(g.Tries) < cert.MaxRepeats && (held == nil || held.EndedBy == "" || held.EndedBy == holder) {
			return true, e.spoilt(tx, row, run, incident)
		}
	}
	switch run.State {
	case cert.Cancelled:
		return true, e.failed(tx, row, &cert.Failure{Type: failCancelled, Message: fmt.Sprintf("its run %s was cancelled", run.ID)}, run)
	case cert.Failed:
		f := run.Failure
		if f == nil {
			f = &cert.Failure{Type: "agent", Message: fmt.Sprintf("run %s failed, and nobody said why", run.ID)}
		}
		return true, e.failed(tx, row, f, run)
	}
	if why := run.GivenUp(); why != "" {
		// It came up after it had been given up, before anybody here has looked: that counts all the same, and its results come besides.
		return true, e.failed(tx, row, &cert.Failure{Type: order.FailKernelBoot, Message: why}, run)
	}
	return true, e.end(tx, row, func(g *cert.Target, try *cert.Try) {
		try.State, try.Started, try.Counts, try.Submission, try.Suspect = cert.Completed, run.Started, run.Counts, s.ID, suspectOf(run)
		if !try.Partial() && try.Finding == "" {
			g.Counted, g.Submission, g.Then = try.Number, s.ID, ""
		}
		g.State, g.Why, g.Next, g.NotBefore = cert.TargetComparing, "", nil, nil
	})
}

func suspectOf(run *cert.Run) string {
	if n := len(run.Attempts); n > 0 {
		return run.Attempts[n-1].Suspect
	}
	return ""
}

// reading notes that a run's results are here and not read yet.
func (e *Engine) reading(tx *sqlite.CampaignTx, row sqlite.TryRow) error {
	g, err := tx.Target(row.Target)
	if err != nil || g.State.Settled() {
		return err
	}
	g.State, g.Why, g.Updated = cert.TargetRunning, "its results are being read", e.Now()
	return tx.PutTarget(g)
}

// spoilt closes a try that an incident has spoilt, and follows what the lab does again by itself: its ids are known beforehand.
func (e *Engine) spoilt(tx *sqlite.CampaignTx, row sqlite.TryRow, run *cert.Run, incident string) error {
	now := e.Now()
	err := e.end(tx, row, func(g *cert.Target, try *cert.Try) {
		try.State, try.Failure, try.Started, try.Counts, try.Suspect, try.Infra = run.State, run.Failure, run.Started, run.Counts, incident, true
		next := cert.Try{Number: len(g.Tries) + 1, Purpose: cert.TryIncident, Machine: try.Machine, Hostname: try.Hostname, Run: cert.RepeatID(try.Run), Jobs: try.Jobs, Finding: try.Finding,
			By: holder, Created: now, Asked: &now, State: cert.Queued}
		if try.Reservation != "" {
			next.Reservation = cert.RepeatID(try.Reservation)
		}
		g.Tries = append(g.Tries, next)
		g.State, g.Why = cert.TargetQueued, fmt.Sprintf("incident %s has spoilt run %s: the lab does it again", incident, try.Run)
	})
	if err != nil {
		return err
	}
	return tx.Note(cert.CampaignEvent{Campaign: row.Campaign, At: now, Kind: "spoilt", Who: holder, Target: row.Target,
		Text: fmt.Sprintf("%s: run %s overlapped incident %s: it is done again by the lab", run.Hostname, run.ID, incident)})
}

// repeatedWithin is how long what the lab does again after an incident is waited for.
const repeatedWithin = 8 * 24 * time.Hour

// lost gives up tries whose repetition the lab has not begun for long.
func (e *Engine) lost(ctx context.Context, c cert.Campaign) error {
	now := e.Now()
	if now.Before(e.looked[c.ID]) {
		return nil
	}
	e.looked[c.ID] = now.Add(recheck)
	if err := e.late(ctx, c); err != nil {
		return err
	}
	if c.State != cert.CampaignPaused {
		if err := e.overdue(ctx, c); err != nil {
			return err
		}
	}
	rows, err := e.DB.AwaitedRepeats(ctx, c.ID)
	if err != nil {
		return err
	}
	for _, row := range rows {
		g, err := e.DB.Target(ctx, row.Target)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
		if n < 0 || now.Sub(g.Tries[n].Created) < repeatedWithin {
			continue
		}
		f := &cert.Failure{Type: cert.FailNoMachine, Message: "the lab has not done again what the incident has spoilt"}
		if err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return e.failed(tx, row, f, nil) }); err != nil {
			return err
		}
	}
	return nil
}
