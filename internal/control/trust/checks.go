package trust

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Kinds of checks: each deploys a machine, runs the plan preflight on it and releases it.
const (
	checkHealth = "health" // now and then
	checkReturn = "return" // of a machine in quarantine
	checkCanary = "canary" // of the provider's new version
	checkProbe  = "probe"  // whether an incident is over
)

// A check is one under way.
type check struct {
	Machine  string    `json:"machine"`
	Kind     string    `json:"kind"`
	Since    time.Time `json:"since"`
	By       string    `json:"by,omitempty"`
	Incident string    `json:"incident,omitempty"` // of a probe; of another: that it waits for, to be done again
	Release  string    `json:"release,omitempty"`
}

const (
	checksAtOnce  = 3
	checkPatience = 30 * time.Minute // in the queue: somebody has the machine
	checkGrace    = 10 * time.Minute // for the engine to have stored the reservation
	returnFirst   = time.Hour        // after a quarantine, until its machine is checked; doubled with each that fails
	returnMost    = 24 * time.Hour
)

// startCheck notes a check and has the engine reserve the machine. A machine that cannot be had is no check.
func (t *Trust) startCheck(ctx context.Context, c check, reason string) error {
	_, err := t.reserveCheck(ctx, c, reason)
	if cert.CodeOf(err) == cert.Conflict {
		return nil
	}
	return err
}

func (t *Trust) reserveCheck(ctx context.Context, c check, reason string) (cert.Reservation, error) {
	c.Since = t.Now()
	id := cert.NewID(cert.ReservationID, c.Since)
	if err := t.save(ctx, func(s *state) { s.Checks[id] = c }); err != nil {
		return cert.Reservation{}, err
	}
	r, err := t.Fleet().Check(ctx, cert.CheckRequest{ID: id, Machine: c.Machine, Reason: reason, Release: c.Release, Quarantined: c.Kind == checkReturn})
	if cert.CodeOf(err) == cert.Conflict {
		return r, errors.Join(err, t.forget(ctx, id))
	}
	return r, err // anything else: judgeChecks looks whether it was stored
}

func (t *Trust) forget(ctx context.Context, id string) error {
	return t.save(ctx, func(s *state) { delete(s.Checks, id) })
}

// CheckToReturn begins the check after which a machine leaves its quarantine.
func (t *Trust) CheckToReturn(ctx context.Context, machine, by string) (cert.Reservation, error) {
	if err := t.load(ctx); err != nil {
		return cert.Reservation{}, err
	}
	for id, c := range t.checks() {
		if c.Machine == machine && c.Kind == checkReturn {
			return t.DB.Reservation(ctx, id)
		}
	}
	return t.reserveCheck(ctx, check{Machine: machine, Kind: checkReturn, By: by}, "to return it to service, asked for by "+by)
}

// judgeChecks takes in what checks that are over have shown.
func (t *Trust) judgeChecks(ctx context.Context) error {
	var errs []error
	for id, c := range t.checks() {
		r, err := t.DB.Reservation(ctx, id)
		switch {
		case cert.CodeOf(err) == cert.NotFound:
			if t.Now().Sub(c.Since) > checkGrace {
				errs = append(errs, t.forget(ctx, id))
			}
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case r.State == cert.ReservationQueued && t.Now().Sub(c.Since) > checkPatience:
			_, err := t.Fleet().Cancel(ctx, id, cert.ReleaseReservation{Reason: "its machine could not be had"}, "certlab", cert.Admin)
			errs = append(errs, err)
			continue
		case !r.Final():
			continue
		}
		errs = append(errs, t.judgeCheck(ctx, id, c, r))
	}
	return errors.Join(errs...)
}

func (t *Trust) judgeCheck(ctx context.Context, id string, c check, r cert.Reservation) error {
	passed, why, err := t.verdict(ctx, r)
	if err != nil {
		return err
	}
	if why == "" && !passed { // it says nothing about the machine
		if again, err := t.checkAgain(ctx, id, c, r); again || err != nil {
			return err
		}
		if c.Kind == checkCanary {
			err = t.canaryOver(ctx, c, false, "it was "+r.Ending)
		}
		return errors.Join(err, t.forget(ctx, id))
	}
	text := "passed its check (" + c.Kind + ")"
	if !passed {
		text = "failed its check (" + c.Kind + "): " + why
	}
	now := t.Now()
	if err := t.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		row, err := tx.Machine(c.Machine)
		if err != nil {
			return err
		}
		if row.Checked != nil && r.Released != nil && !row.Checked.Before(*r.Released) {
			return nil // this service was stopped after it had noted it
		}
		row.Checked, row.Passed = &now, passed
		if err := tx.PutMachine(row); err != nil {
			return err
		}
		return tx.Event(cert.MachineEvent{Machine: c.Machine, At: now, Kind: "checked", Who: "certlab", Text: text, Reservation: id})
	}); err != nil {
		return err
	}
	switch {
	case c.Kind == checkCanary:
		err = t.canaryOver(ctx, c, passed, why)
	case c.Kind == checkProbe:
		err = t.probeOver(ctx, c, passed, why)
	case passed && c.Kind == checkReturn:
		by := c.By
		if by == "" {
			by = "certlab"
		}
		err = t.Fleet().Return(ctx, c.Machine, by, "it has passed its check")
	case !passed && c.Kind == checkHealth:
		err = t.Fleet().QuarantineAs(ctx, c.Machine, cert.Quarantine{By: "certlab", Auto: true, Reason: "it failed its health check: " + why})
	}
	if err != nil {
		return err // it is judged again
	}
	return t.save(ctx, func(s *state) {
		delete(s.Checks, id)
		switch {
		case passed:
			delete(s.Tries, c.Machine)
		case c.Kind == checkReturn || c.Kind == checkHealth:
			s.Tries[c.Machine]++
		}
	})
}

// verdict says whether a check was passed, and why not. Neither: it says nothing about the machine.
func (t *Trust) verdict(ctx context.Context, r cert.Reservation) (passed bool, why string, err error) {
	if r.Ending == cert.EndedCancelled {
		return false, "", nil
	}
	if past, err := t.DB.Deployments(ctx, sqlite.DeploymentFilter{Reservation: r.ID}, 20); err != nil {
		return false, "", err
	} else if len(past) > 0 && past[0].Suspect != "" {
		return false, "", nil // an incident
	}
	if r.Ending != cert.EndedReleased && r.Ending != cert.EndedExpired || r.Run == "" {
		if r.Failure != nil {
			if !cert.MachinesFault(r.Failure.Type) && r.Failure.Type != "" && r.Ready == nil {
				return false, "", nil
			}
			return false, r.Failure.Message, nil
		}
		return false, "it ended as " + r.Ending, nil
	}
	run, err := t.DB.Run(ctx, r.Run)
	if cert.CodeOf(err) == cert.NotFound {
		return false, "its run never began", nil
	}
	if err != nil {
		return false, "", err
	}
	switch bad := run.Counts["fail"] + run.Counts["crash"] + run.Counts[cert.OutcomeLost]; {
	case len(run.Attempts) > 0 && run.Attempts[len(run.Attempts)-1].Suspect != "" && (run.State != cert.Completed || bad > 0):
		return false, "", nil
	case run.Failure != nil:
		return false, fmt.Sprintf("run %s failed (%s): %s", run.ID, run.Failure.Type, run.Failure.Message), nil
	case run.State != cert.Completed:
		return false, "", nil
	case bad > 0:
		return false, fmt.Sprintf("%s of plan %s in run %s", plural(bad, "failure"), run.Spec.Plan, run.ID), nil
	case run.Counts["pass"] == 0:
		return false, fmt.Sprintf("no job of plan %s passed in run %s", run.Spec.Plan, run.ID), nil
	}
	return true, "", nil
}

// startChecks begins the checks that are due: of machines that nobody uses or waits for, a few at once and spread over time.
func (t *Trust) startChecks(ctx context.Context) error {
	conf := t.Config()
	if conf.Limits.CheckHours <= 0 && !conf.Limits.AutoReturn {
		return nil
	}
	under := t.checks()
	room := checksAtOnce
	busy := make(map[string]bool, len(under))
	for _, c := range under {
		busy[c.Machine] = true
		if (c.Kind == checkHealth || c.Kind == checkReturn) && c.Incident == "" {
			room--
		}
	}
	if room <= 0 || t.canaryNow() != nil {
		return nil
	}
	rows, err := t.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	now := t.Now()
	due := make(map[string]check)
	for n := range rows {
		r := &rows[n]
		if r.Provided == nil || r.Gone != nil || r.Retired != "" || busy[r.Machine.ID] {
			continue
		}
		switch {
		case r.Quarantine == nil && conf.Limits.CheckHours > 0 && t.healthDue(r, time.Duration(conf.Limits.CheckHours)*time.Hour, now):
			due[r.Machine.ID] = check{Machine: r.Machine.ID, Kind: checkHealth}
		case r.Quarantine != nil && r.Quarantine.Auto && conf.Limits.AutoReturn && r.Quarantine.Step == "" && t.returnDue(r, now):
			due[r.Machine.ID] = check{Machine: r.Machine.ID, Kind: checkReturn}
		}
	}
	if len(due) == 0 {
		return nil
	}
	free, err := t.free(ctx)
	if err != nil {
		return err
	}
	for n := range rows {
		c, ok := due[rows[n].Machine.ID]
		if !ok || room == 0 || !free[c.Machine] {
			continue
		}
		room--
		reason := "its health check"
		if c.Kind == checkReturn {
			reason = "a check, to return it to service"
		}
		if err := t.startCheck(ctx, c, reason); err != nil {
			return err
		}
	}
	return nil
}

// healthDue spreads machines that were never checked over the interval, by their ids.
func (t *Trust) healthDue(r *sqlite.FleetRow, every time.Duration, now time.Time) bool {
	if r.Checked != nil {
		return now.Sub(*r.Checked) >= every
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(r.Machine.ID))
	wait := time.Duration(float64(every) * float64(sum.Sum32()%1000) / 1000)
	return now.Sub(r.Machine.Created) >= wait
}

func (t *Trust) returnDue(r *sqlite.FleetRow, now time.Time) bool {
	t.mu.Lock()
	tries := t.state.Tries[r.Machine.ID]
	t.mu.Unlock()
	last := r.Quarantine.Since
	if r.Checked != nil && r.Checked.After(last) {
		last = *r.Checked
	}
	return now.Sub(last) >= min(returnFirst<<min(tries, 8), returnMost)
}

// free returns the machines that a check can have: nobody has them, or waits for one like them.
func (t *Trust) free(ctx context.Context) (map[string]bool, error) {
	machines, err := t.Fleet().Machines(ctx)
	if err != nil {
		return nil, err
	}
	open, err := t.DB.OpenReservations(ctx)
	if err != nil {
		return nil, err
	}
	var wanted []cert.Query
	for _, r := range open {
		if r.State == cert.ReservationQueued && r.Kind != cert.ReserveCheck {
			if q, err := cert.ParseQuery(r.Want.Query); err == nil {
				wanted = append(wanted, q.AnyState())
			}
		}
	}
	out := make(map[string]bool)
	for n := range machines {
		m := &machines[n]
		ok := m.Paused == nil && m.Incident == "" && (m.State == cert.MachineFree || m.State == cert.MachineQuarantined)
		for _, q := range wanted {
			ok = ok && (m.State == cert.MachineQuarantined || q.Match(m) != "")
		}
		out[m.ID] = ok
	}
	return out, nil
}
