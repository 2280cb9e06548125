package provision

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// mine reports whether a person may change a reservation.
func mine(r *cert.Reservation, by string, role cert.Role) error {
	if r.Holder == by || role.May(cert.Admin) {
		return nil
	}
	return cert.Errorf(cert.Forbidden, "reservation %s is %s's: only they or an admin may change it", r.ID, r.Holder)
}

// change alters a reservation, and with it what is written of its machine.
func (f *Fleet) change(ctx context.Context, id string, fn func(*edit) error) (cert.Reservation, error) {
	err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		e := edit{tx: tx, now: f.Now()}
		var err error
		if e.r, err = tx.Reservation(id); err != nil {
			return err
		}
		if e.r.Final() {
			return fn(&e) // nothing of it changes any more, and the machine may be another's by now
		}
		if e.r.Machine == "" {
			if err := fn(&e); err != nil {
				return err
			}
			return tx.PutReservation(e.r)
		}
		if e.d, err = tx.Deployment(e.r.Deployment); err != nil {
			return err
		}
		if e.m, err = tx.Machine(e.r.Machine); err != nil {
			return err
		}
		return f.store(&e, fn)
	})
	if err != nil {
		return cert.Reservation{}, err
	}
	f.ring()
	f.Wake()
	return f.Reservation(ctx, id)
}

// Extend gives a reservation more time.
func (f *Fleet) Extend(ctx context.Context, id string, x cert.ExtendReservation, by string, role cert.Role) (cert.Reservation, error) {
	r, err := f.Reservation(ctx, id)
	if err != nil {
		return r, err
	}
	_, _, limits := f.settings()
	return f.change(ctx, r.ID, func(e *edit) error {
		if err := mine(&e.r, by, role); err != nil {
			return err
		}
		switch {
		case e.r.State == cert.ReservationReleasing || e.r.Final():
			return cert.Errorf(cert.Conflict, "cannot extend reservation %s: it is over (%s)", e.r.ID, first(e.r.Ending, string(e.r.State)))
		case e.r.State != cert.ReservationReady || e.r.Until == nil:
			return cert.Errorf(cert.Conflict, "cannot extend reservation %s: it is %s, and its time has not begun", e.r.ID, e.r.State)
		case (x.Hours > 0) == (x.Until != nil) || x.Hours < 0:
			return cert.Errorf(cert.Invalid, "cannot extend: give hours or until")
		case e.r.Extended >= limits.MaxExtensions:
			return cert.Errorf(cert.Conflict, "cannot extend reservation %s: it was extended %d times, and that is as often as is allowed", e.r.ID, e.r.Extended)
		}
		until := e.r.Until.Add(hoursOf(x.Hours))
		if x.Until != nil {
			until = x.Until.UTC()
		}
		last := e.r.Ready.Add(hoursOf(limits.MaxHours))
		switch {
		case until.After(last):
			return cert.Errorf(cert.Conflict, "cannot extend reservation %s until %s: at most %g hours are allowed, which is until %s", e.r.ID, until.Format(time.RFC3339), limits.MaxHours,
				last.UTC().Format(time.RFC3339))
		case !until.After(*e.r.Until):
			return cert.Errorf(cert.Invalid, "cannot extend reservation %s until %s: it has until %s already", e.r.ID, until.Format(time.RFC3339), e.r.Until.UTC().Format(time.RFC3339))
		}
		e.r.Until, e.r.Reminded = &until, nil
		e.r.Extended++
		e.log("extended", by, "extended until "+until.Format(time.RFC3339))
		return nil
	})
}

// Release gives a reservation's machine back. Named by a machine that this lab holds for nobody, it gives that one back.
func (f *Fleet) Release(ctx context.Context, id string, x cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error) {
	r, err := f.Reservation(ctx, id)
	if cert.CodeOf(err) == cert.NotFound {
		if m, other := f.DB.Machine(ctx, id); other == nil {
			row, other := f.DB.FleetRow(ctx, m.ID)
			if other != nil {
				return r, other
			}
			if row.Provided == nil || row.Gone != nil || row.Provided.Holder != cert.ThisLab {
				return r, err
			}
			if !role.May(cert.Engineer) {
				return r, cert.Errorf(cert.Forbidden, "cannot release %s: that needs the role engineer", m.Hostname)
			}
			if row.Quarantine != nil {
				return r, cert.Errorf(cert.Conflict, "cannot release %s: it is quarantined: %s (return it to service: certlab machine return-to-service %s)", m.Hostname,
					row.Quarantine.Reason, m.Hostname)
			}
			return f.adopt(ctx, m.ID, by, first(x.Reason, "released by name"))
		}
	}
	if err != nil {
		return r, err
	}
	return f.end(ctx, r.ID, cert.EndedReleased, x, by, role)
}

// Cancel ends the wait for a machine, or what goes on with it.
func (f *Fleet) Cancel(ctx context.Context, id string, x cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error) {
	r, err := f.Reservation(ctx, id)
	if err != nil {
		return r, err
	}
	return f.end(ctx, r.ID, cert.EndedCancelled, x, by, role)
}

func (f *Fleet) end(ctx context.Context, id, ending string, x cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error) {
	cancelled := ""
	_, _, limits := f.settings()
	if x.Keep < 0 || x.Keep > limits.MaxHours {
		return cert.Reservation{}, cert.Errorf(cert.Invalid, "cannot keep the machine for %g hours: at most %g are allowed", x.Keep, limits.MaxHours)
	}
	r, err := f.change(ctx, id, func(e *edit) error {
		if err := mine(&e.r, by, role); err != nil {
			return err
		}
		if x.Discard != "" && x.Discard != e.r.Hostname && x.Discard != e.r.Machine && x.Discard != e.m.Machine.SystemID {
			return cert.Errorf(cert.Invalid, "cannot discard what machine %q holds: the reservation's machine is %s (name it to discard what it holds)", x.Discard, first(e.r.Hostname, "none yet"))
		}
		if x.Discard != "" {
			e.r.Discard = by
		}
		if e.r.Final() {
			return nil
		}
		if e.r.State == cert.ReservationReleasing {
			e.r.KeepUntil = nil
			return nil
		}
		if e.r.State == cert.ReservationReady && e.r.Kind == cert.ReserveRun && x.Keep > 0 {
			// A person wants to look at it: it becomes theirs, and one of those that they may have.
			if err := more(e.tx, e.r.Holder, limits); err != nil && !role.May(cert.Admin) {
				return err
			}
			until := e.now.Add(hoursOf(x.Keep))
			e.r.Kind, e.r.Until, e.r.Reminded = cert.ReserveManual, &until, nil
			cancelled = e.r.Run
			e.log("kept", by, "kept for "+by+" until "+until.Format(time.RFC3339))
			return f.cancelRun(e)
		}
		if e.r.State == cert.ReservationQueued || e.r.State == cert.ReservationPreparing {
			ending = cert.EndedCancelled
		}
		cancelled = e.r.Run
		return f.over(e, ending, by, x.Reason)
	})
	if err != nil {
		return r, err
	}
	f.interrupt(r)
	if cancelled != "" && r.Machine != "" {
		f.Lab.Wake(r.Machine)
	}
	return r, nil
}

// over ends a reservation for its holder. Its machine goes back from then on.
func (f *Fleet) over(e *edit, ending, by, reason string) error {
	queued := e.r.State == cert.ReservationQueued
	e.r.Ended, e.r.Ending, e.r.EndedBy, e.r.Blocked = &e.now, ending, by, ""
	if queued {
		e.r.State = cert.ReservationEnded
		return nil
	}
	e.r.State = cert.ReservationReleasing
	text := ending
	if reason != "" {
		text += ": " + reason
	}
	if e.d.Phase == cert.PhaseReady {
		e.phase(cert.PhaseRelease, stepDrain, 0, 0)
	}
	e.log("ended", by, fmt.Sprintf("the reservation of %s is over: %s", e.r.Holder, text))
	if ending == cert.EndedExpired {
		n := f.notice(cert.NoticeEnded, e, fmt.Sprintf("the reservation of %s by %s has ended", e.m.Machine.Hostname, e.r.Holder))
		if err := e.tx.Notice(n); err != nil {
			return err
		}
	}
	return f.cancelRun(e)
}

// cancelRun asks for the end of a reservation's run, if it is not over.
func (f *Fleet) cancelRun(e *edit) error {
	if e.r.Run == "" {
		return nil
	}
	err := e.tx.ChangeRun(e.r.Run, func(run *cert.Run) (bool, error) {
		if run.State.Final() {
			return false, nil
		}
		return run.Cancel(e.now)
	})
	if code := cert.CodeOf(err); code == cert.NotFound {
		return nil
	}
	return err
}

// interrupt ends a program that prepares a reservation's machine, if it is over.
func (f *Fleet) interrupt(r cert.Reservation) {
	if r.State != cert.ReservationReleasing && !r.Final() {
		return
	}
	f.mu.Lock()
	stop := f.stops[r.Deployment]
	f.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// adopt gives back a machine that this lab holds at the provider for nobody.
func (f *Fleet) adopt(ctx context.Context, machine, by, reason string) (cert.Reservation, error) {
	var id string
	err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		e := edit{tx: tx, now: f.Now()}
		var err error
		if e.m, err = tx.Machine(machine); err != nil {
			return err
		}
		id = cert.NewID(cert.ReservationID, e.now)
		deployment := cert.NewID(cert.DeploymentID, e.now)
		e.r = cert.Reservation{ID: id, Kind: cert.ReserveCheck, State: cert.ReservationReleasing, Holder: "certlab", Reason: reason, Want: cert.Want{Query: e.m.Machine.Hostname},
			Created: e.now, Machine: machine, Hostname: e.m.Machine.Hostname, Deployment: deployment, Ended: &e.now, Ending: cert.EndedReleased, EndedBy: by}
		class := ""
		if e.m.Provided != nil {
			class = cert.Class(*e.m.Provided)
		}
		e.d = cert.Deployment{ID: deployment, Reservation: id, Machine: machine, Class: class, Phase: cert.PhaseRelease, Since: e.now, Step: stepUnlock, Started: e.now,
			Phases: []cert.PhaseTime{}}
		if err := tx.AddReservation(e.r); err != nil {
			return err
		}
		if err := tx.AddDeployment(e.d); err != nil {
			return err
		}
		return f.store(&e, func(e *edit) error {
			e.log("adopted", by, "given back although no reservation knew of it: "+reason)
			return nil
		})
	})
	if sqlite.Doubled(err) {
		return cert.Reservation{}, cert.Errorf(cert.Conflict, "cannot release the machine: it is being released already, or somebody has it")
	}
	if err != nil {
		return cert.Reservation{}, err
	}
	f.ring()
	f.Wake()
	return f.Reservation(ctx, id)
}

// graceAfter is how much time a holder has who could not be reminded in time.
const graceAfter = 10 * time.Minute

// times reminds holders, and ends what is over.
func (f *Fleet) times(ctx context.Context) error {
	open, err := f.DB.OpenReservations(ctx)
	if err != nil {
		return err
	}
	_, _, limits := f.settings()
	lead := time.Duration(limits.ReminderMinutes) * time.Minute
	now := f.Now()
	for n := range open {
		r := &open[n]
		switch {
		case r.State == cert.ReservationQueued || r.State == cert.ReservationPreparing:
			if r.Until != nil && !now.Before(*r.Until) {
				err = f.tooLate(ctx, r.ID)
			}
		case r.State != cert.ReservationReady:
		case r.Kind == cert.ReserveManual && r.Until != nil && r.Reminded == nil && !now.Before(r.Until.Add(-lead)):
			err = f.remind(ctx, r.ID, lead)
		case r.Kind == cert.ReserveManual && r.Until != nil && r.Reminded != nil && !now.Before(*r.Until):
			err = f.expire(ctx, r.ID)
		case r.Kind != cert.ReserveManual && r.Run != "":
			err = f.runOver(ctx, r)
		}
		if err != nil && ctx.Err() == nil {
			f.Logger.Error("cannot go on with a reservation", "reservation", r.ID, "error", err)
		}
	}
	return ctx.Err()
}

// remind tells a holder that their time is nearly over. Who could not be told in time gets some more.
func (f *Fleet) remind(ctx context.Context, id string, lead time.Duration) error {
	_, err := f.change(ctx, id, func(e *edit) error {
		if e.r.State != cert.ReservationReady || e.r.Until == nil || e.r.Reminded != nil || e.now.Before(e.r.Until.Add(-lead)) {
			return nil
		}
		if grace := e.now.Add(min(graceAfter, lead)); e.r.Until.Before(e.now) {
			e.r.Until = &grace
		}
		e.r.Reminded = &e.now
		text := fmt.Sprintf("the reservation of %s by %s ends at %s: it is released then (to keep it: certlab machine extend %s)", e.m.Machine.Hostname, e.r.Holder,
			e.r.Until.UTC().Format(time.RFC3339), e.r.ID)
		e.log("reminded", "certlab", text)
		return e.tx.Notice(f.notice(cert.NoticeEnding, e, text))
	})
	return err
}

// expire ends a reservation whose time is over, unless it was extended meanwhile.
func (f *Fleet) expire(ctx context.Context, id string) error {
	_, err := f.change(ctx, id, func(e *edit) error {
		if e.r.State != cert.ReservationReady || e.r.Until == nil || e.now.Before(*e.r.Until) {
			return nil
		}
		return f.over(e, cert.EndedExpired, "certlab", "")
	})
	return err
}

// tooLate ends a reservation until a fixed time for which no machine was ready before that.
func (f *Fleet) tooLate(ctx context.Context, id string) error {
	r, err := f.change(ctx, id, func(e *edit) error {
		if e.r.State != cert.ReservationQueued && e.r.State != cert.ReservationPreparing || e.r.Until == nil || e.now.Before(*e.r.Until) {
			return nil
		}
		text := fmt.Sprintf("the reservation of %s was until %s, and no machine was ready for it before", e.r.Holder, e.r.Until.UTC().Format(time.RFC3339))
		e.r.Failure = &cert.Failure{Type: cert.FailNoMachine, Message: text}
		if err := f.over(e, cert.EndedFailed, "certlab", "no machine was ready before"); err != nil {
			return err
		}
		return e.tx.Notice(f.notice(cert.NoticeEnded, e, text))
	})
	if err == nil {
		f.interrupt(r)
	}
	return err
}

// runOver ends a reservation whose run is over.
func (f *Fleet) runOver(ctx context.Context, r *cert.Reservation) error {
	state, err := f.DB.RunState(ctx, r.Run)
	if err == nil && state == cert.Queued {
		return f.neverTold(ctx, r)
	}
	if err != nil || state != "" && !state.Final() {
		return err
	}
	_, err = f.change(ctx, r.ID, func(e *edit) error {
		if e.r.State != cert.ReservationReady || e.r.Kind == cert.ReserveManual {
			return nil
		}
		return f.over(e, cert.EndedReleased, "certlab", "run "+e.r.Run+" is "+first(string(state), "removed"))
	})
	return err
}

// neverTold ends a reservation whose run could not be given to the machine's agent, because it has fallen silent since it was ready. Once a run was
// given to an agent, the lab's watch looks after it.
func (f *Fleet) neverTold(ctx context.Context, r *cert.Reservation) error {
	_, _, limits := f.settings()
	long := time.Duration(limits.SilenceMinutes) * time.Minute
	now := f.Now()
	if f.Heard == nil || r.Ready == nil || now.Sub(*r.Ready) < long || now.Sub(f.Heard(r.Machine)) < long {
		return nil
	}
	if run, err := f.DB.Run(ctx, r.Run); err != nil || run.HandedOut != nil {
		return err
	}
	_, err := f.change(ctx, r.ID, func(e *edit) error {
		if e.r.State != cert.ReservationReady || e.r.Kind == cert.ReserveManual || e.d.Phase != cert.PhaseReady {
			return nil
		}
		text := fmt.Sprintf("its agent was ready, and nothing was heard of it for %s since: run %s could not be given to it", long, e.r.Run)
		e.d.Failure = &cert.Failure{Type: cert.FailEnrol, Message: e.m.Machine.Hostname + ": " + text}
		e.phase(cert.PhaseRelease, stepJudge, 0, 0)
		e.log("failed", "certlab", fmt.Sprintf("failed (%s): %s", cert.FailEnrol, text))
		return nil
	})
	return err
}
