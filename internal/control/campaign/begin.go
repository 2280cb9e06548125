package campaign

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// recheck is after what time a target that could not be begun is looked at again.
const recheck = time.Minute

// begin begins as many of a campaign's targets that are due as there is room for, those first whose machines are free. It returns how many it has
// looked at.
func (e *Engine) begin(ctx context.Context, c cert.Campaign) (int, error) {
	due, err := e.DB.DueTargets(ctx, c.ID, e.Now(), maxStarts)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	if err := e.Lab.RoomForRuns(); err != nil {
		return 0, e.put(ctx, due, func(g *cert.Target) { wait(g, e.Now().Add(recheck), err.Error()) })
	}
	counts, err := e.DB.TargetCounts(ctx, c.ID)
	if err != nil {
		return 0, err
	}
	room := maxQueued - counts[cert.TargetQueued]
	under := counts[cert.TargetQueued] + counts[cert.TargetProvisioning] + counts[cert.TargetRunning]
	if c.AtOnce > 0 {
		room = min(room, c.AtOnce-under)
	}
	if room <= 0 {
		return 0, nil // who is under way wakes the loop when it is over
	}
	fleet, err := e.Fleet.Machines(ctx)
	if err != nil {
		return 0, err
	}
	machines := make(map[string]*cert.FleetMachine, len(fleet))
	for n := range fleet {
		machines[fleet[n].ID] = &fleet[n]
	}
	busy := func(g cert.Target) bool {
		m := machines[wanted(g).Machine]
		return m != nil && m.State != cert.MachineFree && m.State != cert.MachineReady
	}
	slices.SortStableFunc(due, func(a, b cert.Target) int { return cmp.Compare(number(busy(a)), number(busy(b))) })
	h := e.history(ctx)
	for _, g := range due {
		if room <= 0 {
			break
		}
		if g.Next == nil && len(g.Tries) > 0 {
			if err := e.rejected(ctx, c, g); err != nil {
				return 0, err
			}
			continue
		}
		m := machines[wanted(g).Machine]
		if m != nil && m.State == cert.MachineReserved && c.AtOnce > 0 && counts[cert.TargetWaiting] > room && under > 0 {
			// It would take the place of one whose machine can be had. One of them waits in the queue all the same: else others would always be before it.
			text := fmt.Sprintf("%s has it", cmp.Or(m.Holder, "somebody"))
			if m.Until != nil {
				text += " until " + m.Until.UTC().Format(time.DateTime)
			}
			if err := e.put(ctx, []cert.Target{g}, func(g *cert.Target) { wait(g, e.Now().Add(recheck), text) }); err != nil {
				return 0, err
			}
			continue
		}
		began, err := e.start(ctx, c, g, m, machines, h)
		if err != nil {
			return 0, err
		}
		if began {
			room--
			under++
			counts[cert.TargetWaiting]--
		}
	}
	return len(due), e.ask(ctx, c)
}

// rejected decides what follows results that did not count: their comparison has found that they say nothing about the subject.
func (e *Engine) rejected(ctx context.Context, c cert.Campaign, g cert.Target) error {
	return e.put(ctx, []cert.Target{g}, func(g *cert.Target) {
		n := len(g.Tries)
		if g.Next != nil || n == 0 {
			return
		}
		try := g.Tries[n-1]
		if try.Failure == nil {
			try.Failure = &cert.Failure{Type: order.FailUnproved, Message: "its results say nothing about the subject"}
		}
		e.follows(c, g, try, meaningOf(try.Failure, nil))
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wait has a target wait until then.
func wait(g *cert.Target, then time.Time, why string) {
	g.NotBefore, g.Why = &then, why
}

// wanted is what is to be tried next for a target.
func wanted(g cert.Target) cert.Try {
	if g.Next != nil {
		next := *g.Next
		next.Machine = cmp.Or(next.Machine, g.Machine)
		return next
	}
	return cert.Try{Purpose: cert.TryFirst, Machine: g.Machine, Hostname: g.Hostname}
}

// put changes targets that still wait.
func (e *Engine) put(ctx context.Context, targets []cert.Target, fn func(*cert.Target)) error {
	return e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		for _, t := range targets {
			g, err := tx.Target(t.ID)
			if err != nil {
				return err
			}
			if g.State != cert.TargetWaiting {
				continue
			}
			before := g
			g.Updated = e.Now()
			fn(&g)
			if before.Why == g.Why && before.State == g.State && before.NotBefore != nil && g.NotBefore != nil && before.NotBefore.Equal(*g.NotBefore) {
				continue
			}
			if err := tx.PutTarget(g); err != nil {
				return err
			}
		}
		return nil
	})
}

// start stores a target's next try. A unit's run is there with it; a reservation is asked for by ask. It reports whether there is one under way now.
func (e *Engine) start(ctx context.Context, c cert.Campaign, g cert.Target, m *cert.FleetMachine, machines map[string]*cert.FleetMachine, h *history) (bool, error) {
	now := e.Now()
	next := wanted(g)
	byPerson := next.Purpose == cert.TryRerun || next.Purpose == cert.TryConfirm
	miss := func(why string) (bool, error) {
		return false, e.put(ctx, []cert.Target{g}, func(g *cert.Target) { missed(g, why) })
	}
	if len(g.Tries) >= cert.MaxTriesKept {
		return miss(fmt.Sprintf("it was tried %d times, and that is as often as may be", len(g.Tries)))
	}
	if c.Due != nil && !byPerson {
		expected, err := h.expected(g.Plan, g.AsFound)
		if err != nil {
			return false, err
		}
		if cut := c.Due.Add(-hours(c.Rules.Deadline.DecideHours)); now.Add(expected).After(cut) {
			return miss(fmt.Sprintf("not begun: it could not be over by %s, which leaves %g hours for the decision", cut.UTC().Format(time.DateTime), c.Rules.Deadline.DecideHours))
		}
	}
	why := gone(m)
	if c.Rules.Failover && mayFailOver(next) && (why != "" || next.Purpose == cert.TryRetry && failsOver(g)) {
		if other := e.equal(ctx, c, &g, machines); other != nil {
			next.Purpose, next.Machine, m, why = cert.TryFailover, other.ID, other, ""
		}
	}
	if why != "" {
		return miss(why)
	}
	spec, err := e.spec(ctx, c, g, next, m)
	if err != nil {
		if code := cert.CodeOf(err); code == cert.Conflict || code == cert.Invalid {
			return miss(err.Error())
		}
		return false, err
	}
	unit := m.Unit != ""
	next.Number, next.State, next.Created, next.Hostname = len(g.Tries)+1, cert.Queued, now, m.Hostname
	if next.By == "" {
		next.By = holder
	}
	if next.Run == "" {
		next.Run = cert.NewID(cert.RunID, now)
	}
	if unit {
		next.Reservation, next.Asked = "", &now
	} else if next.Reservation == "" {
		next.Reservation = cert.NewID(cert.ReservationID, now)
	}
	began := false
	err = e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		began = false
		stored, err := tx.Target(g.ID)
		if err != nil {
			return err
		}
		now, err := tx.Campaign(c.ID)
		if err != nil {
			return err
		}
		if stored.State != cert.TargetWaiting || len(stored.Tries) != len(g.Tries) || now.State != cert.CampaignActive && now.State != cert.CampaignDeciding {
			return nil
		}
		stored.Tries = append(stored.Tries, next)
		stored.State, stored.Why, stored.Next, stored.NotBefore, stored.Updated = cert.TargetQueued, "", nil, nil, next.Created
		if err := tx.PutTarget(stored); err != nil {
			return err
		}
		if unit {
			run := cert.Run{ID: next.Run, Machine: m.ID, Hostname: m.Hostname, Origin: cert.FromOrder, RequestedBy: c.By, Spec: spec, State: cert.Queued, Created: next.Created, Attempts: []cert.Attempt{}}
			if err := tx.AddRun(run, ""); err != nil {
				return err
			}
		}
		began = true
		return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: next.Created, Kind: startedKind(next.Purpose), Who: next.By, Target: g.ID,
			Text: fmt.Sprintf("%s on %s: try %d, run %s (%s)", g.Plan, m.Hostname, next.Number, next.Run, next.Purpose)})
	})
	if err == nil && began && unit {
		e.Lab.Wake(m.ID)
	}
	return began, err
}

// mayFailOver reports whether another machine may stand in: not for a job that failed on this one, not for a subject that did not boot it, and not where
// a person has asked for this one.
func mayFailOver(next cert.Try) bool {
	switch next.Purpose {
	case cert.TryRerun, cert.TryConfirm, cert.TryKernel:
		return false
	}
	return !next.Partial() && next.Finding == ""
}

func startedKind(purpose string) string {
	switch purpose {
	case cert.TryFailover:
		return "failed-over"
	case cert.TryRetry, cert.TryKernel, cert.TryIncident:
		return "retried"
	}
	return "started"
}

// missed gives a target up. One that has results stays as it was.
func missed(g *cert.Target, why string) {
	g.State, g.Why = cert.TargetMissing, why
	if g.Then != "" {
		g.State = g.Then
	}
	g.Then, g.Next, g.NotBefore = "", nil, nil
}

// gone says why nothing can be run on a machine any more; empty: it can be.
func gone(m *cert.FleetMachine) string {
	if m == nil {
		return "its machine is not known any more"
	}
	if why := unusable(m); why != "" {
		return m.Hostname + ": " + why
	}
	return ""
}

// equal returns a free machine that may stand in for a target's: of the same class, not tried for it, and not one with which the campaign has something
// to do itself. One that it does not need at all is the first choice. nil: there is none.
func (e *Engine) equal(ctx context.Context, c cert.Campaign, g *cert.Target, machines map[string]*cert.FleetMachine) *cert.FleetMachine {
	if g.Class == "" || g.AsFound {
		return nil
	}
	var best *cert.FleetMachine
	least := sqlite.UsedNow
	for _, m := range machines {
		if m.Class != g.Class || m.ID == g.Machine || m.Unit != "" || m.Provider == "" || m.State != cert.MachineFree || m.Paused != nil || m.Incident != "" ||
			slices.ContainsFunc(g.Tries, func(t cert.Try) bool { return t.Machine == m.ID }) {
			continue
		}
		use, err := e.DB.CampaignUses(ctx, c.ID, m.ID)
		if err != nil || use > least || use == sqlite.UsedNow || use == least && best != nil && best.Hostname <= m.Hostname {
			continue
		}
		best, least = m, use
	}
	return best
}

// spec is what a try runs.
func (e *Engine) spec(ctx context.Context, c cert.Campaign, g cert.Target, next cert.Try, m *cert.FleetMachine) (cert.Spec, error) {
	subject := c.Subject
	if next.Finding != "" {
		var err error
		if subject, err = e.baselineSubject(ctx, c); err != nil {
			return cert.Spec{}, err
		}
	}
	spec := cert.Spec{Plan: g.Plan, Title: "campaign " + c.Name, Exclude: c.Rules.Exclude, Match: c.Rules.Match}
	if len(next.Jobs) > 0 {
		spec.Match = nil
		for _, job := range next.Jobs {
			spec.Match = append(spec.Match, "^"+regexp.QuoteMeta(job)+"$")
		}
	}
	var err error
	spec.Subject, err = subject.Order(m.Unit != "")
	return spec, err
}

// baselineSubject is the subject of a campaign's baseline.
func (e *Engine) baselineSubject(ctx context.Context, c cert.Campaign) (cert.Subject, error) {
	s := c.Subject
	if c.Baseline.Version == "" || s.Kind != cert.SubjectKernel && s.Kind != cert.SubjectPackages {
		return s, cert.Errorf(cert.Conflict, "cannot run a job on the baseline: campaign %s has none that could be installed (%s)", c.Name, c.Baseline.Why)
	}
	if c.Baseline.Campaign != "" {
		before, err := e.DB.Campaign(ctx, c.Baseline.Campaign)
		if err != nil && cert.CodeOf(err) != cert.NotFound {
			return s, err
		}
		if err == nil {
			s.PPA, s.Archive, s.Packages = before.Subject.PPA, before.Subject.Archive, before.Subject.Packages
		}
	}
	s.Version, s.Pocket, s.Spin = c.Baseline.Version, "", 0 // what is released is where the machine has its packages from
	return s, nil
}

// ask asks the fleet for the reservations of tries that are stored. What it cannot answer now is asked for again later.
func (e *Engine) ask(ctx context.Context, c cert.Campaign) error {
	rows, err := e.DB.UnaskedTries(ctx, c.ID, maxStarts)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := e.askOne(ctx, c, row); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) askOne(ctx context.Context, c cert.Campaign, row sqlite.TryRow) error {
	now := e.Now()
	if now.Before(e.later[row.Run]) {
		return nil
	}
	delete(e.later, row.Run)
	_, err := e.DB.Reservation(ctx, row.Reservation)
	if cert.CodeOf(err) == cert.NotFound {
		err = e.reserve(ctx, c, row)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch cert.CodeOf(err) {
	case cert.TooMany, cert.Unavailable, cert.Internal, cert.NoSpace:
		if err != nil {
			e.later[row.Run] = now.Add(recheck / 2)
			return e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
				g, other := tx.Target(row.Target)
				if other != nil || g.Why == err.Error() {
					return other
				}
				g.Why = err.Error()
				return tx.PutTarget(g)
			})
		}
	}
	return e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		if err != nil {
			return e.failed(tx, row, &cert.Failure{Type: cert.FailNoMachine, Message: err.Error()}, nil)
		}
		g, err := tx.Target(row.Target)
		if err != nil {
			return err
		}
		if c, err := tx.Campaign(row.Campaign); err != nil {
			return err
		} else if c.State == cert.CampaignPaused { // meanwhile
			if err := holdQueued(tx, &c, true, now); err != nil {
				return err
			}
		}
		if n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run }); n >= 0 && g.Tries[n].Asked == nil {
			g.Tries[n].Asked = &now
			return tx.PutTarget(g)
		}
		return nil
	})
}

// Bounds of a reservation's priority: see package provision.
const mostPriority = 100

// reserve asks the fleet for a try's machine.
func (e *Engine) reserve(ctx context.Context, c cert.Campaign, row sqlite.TryRow) error {
	g, err := e.DB.Target(ctx, row.Target)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
	if n < 0 {
		return cert.Errorf(cert.Conflict, "try %s is not the target's", row.Run)
	}
	try := g.Tries[n]
	spec, err := e.spec(ctx, c, g, try, &cert.FleetMachine{})
	if err != nil {
		return err
	}
	_, err = e.Fleet.Reserve(ctx, cert.NewReservation{ID: row.Reservation, Run: row.Run, Spec: &spec, Priority: min(max(c.Priority, -mostPriority), mostPriority),
		Reason: fmt.Sprintf("campaign %s, try %d", c.Name, try.Number), Want: cert.Want{Query: try.Machine, Release: c.Subject.Series, MaxTries: 1}}, c.By, cert.Admin)
	return err
}
