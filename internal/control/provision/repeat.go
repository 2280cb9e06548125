package provision

import (
	"context"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Repeat does a run again that an incident has spoilt: a reservation like the first for one that had its machine for it, or else an order for the
// same machine, if that bears a unit. It returns the id of what does it; empty: it is not to be done again, since it went well, a person has
// ended it, or it was done again often enough. The id follows from the first one's, so it can be asked for any number of times. It fails as
// Conflict while the run's reservation is not over.
func (f *Fleet) Repeat(ctx context.Context, run, incident string) (again string, err error) {
	wake := ""
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		again, wake = "", ""
		old, err := tx.Run(run)
		if err != nil {
			return err
		}
		if old.Spoilt() == "" {
			return nil
		}
		r, reserved, err := tx.RunReservation(run)
		switch {
		case err != nil:
			return err
		case reserved:
			again, err = f.repeatReservation(tx, old, r, incident)
			return err
		}
		again, err = f.repeatOrder(tx, old, incident)
		wake = old.Machine
		return err
	})
	if err != nil || again == "" {
		return again, err
	}
	f.ring()
	f.Wake()
	if wake != "" {
		f.Lab.Wake(wake)
	}
	return again, nil
}

func (f *Fleet) repeatReservation(tx *sqlite.FleetTx, old cert.Run, r cert.Reservation, incident string) (string, error) {
	switch {
	case r.RepeatedBy != "":
		return r.RepeatedBy, nil
	case r.Ended == nil && r.Kind != cert.ReserveManual:
		return "", cert.Errorf(cert.Conflict, "cannot repeat run %s yet: reservation %s is %s", old.ID, r.ID, r.State)
	case r.Kind == cert.ReserveManual || r.Ending == cert.EndedCancelled || r.EndedBy != "" && r.EndedBy != "certlab" || r.Spec == nil: // a person has decided
		return "", nil
	}
	number := 1
	for before := r; before.Repeats != ""; number++ {
		var err error
		if before, err = tx.Reservation(before.Repeats); err != nil {
			return "", err
		}
	}
	if number > cert.MaxRepeats {
		return "", nil
	}
	next := cert.Reservation{ID: cert.RepeatID(r.ID), Kind: r.Kind, State: cert.ReservationQueued, Holder: r.Holder, Reason: r.Reason, Priority: r.Priority, Want: r.Want,
		Created: f.Now(), Until: r.Want.Until, Run: cert.RepeatID(old.ID), Spec: r.Spec, Repeats: r.ID}
	if _, err := tx.Reservation(next.ID); cert.CodeOf(err) != cert.NotFound {
		if err != nil {
			return "", err
		}
	} else if err := tx.AddReservation(next); err != nil {
		return "", err
	}
	r.RepeatedBy = next.ID
	if err := tx.PutReservation(r); err != nil {
		return "", err
	}
	return next.ID, f.repeatEvent(tx, old, incident, r.ID, "by reservation "+next.ID, number)
}

func (f *Fleet) repeatOrder(tx *sqlite.FleetTx, old cert.Run, incident string) (string, error) {
	m, err := tx.Machine(old.Machine)
	if err != nil || m.Machine.Unit == "" || old.RequestedBy == "" {
		return "", err
	}
	next := cert.Run{ID: cert.RepeatID(old.ID), Machine: old.Machine, Hostname: old.Hostname, Origin: old.Origin, RequestedBy: old.RequestedBy, Spec: old.Spec, State: cert.Queued,
		Created: f.Now(), Attempts: []cert.Attempt{}, Repeats: old.ID}
	if _, err := tx.Run(next.ID); cert.CodeOf(err) != cert.NotFound {
		return next.ID, err
	}
	number := 1
	for before := old; before.Repeats != ""; number++ {
		if before, err = tx.Run(before.Repeats); cert.CodeOf(err) == cert.NotFound { // removed since
			break
		} else if err != nil {
			return "", err
		}
	}
	if number > cert.MaxRepeats {
		return "", nil
	}
	if err := tx.AddRun(next, ""); err != nil {
		return "", err
	}
	return next.ID, f.repeatEvent(tx, old, incident, "", "by run "+next.ID, number)
}

func (f *Fleet) repeatEvent(tx *sqlite.FleetTx, old cert.Run, incident, reservation, by string, number int) error {
	how := "ended with failures"
	if old.Failure != nil {
		how = "failed (" + old.Failure.Type + ")"
	}
	return tx.Event(cert.MachineEvent{Machine: old.Machine, At: f.Now(), Kind: "repeated", Who: "certlab", Reservation: reservation, Incident: incident,
		Text: fmt.Sprintf("run %s overlapped incident %s and %s: it is done again %s (%d of at most %d times)", old.ID, incident, how, by, number, cert.MaxRepeats)})
}
