package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// schedule gives free machines to those who wait: the queue's order decides who is asked first, and each takes the best machine that it can
// use. Nobody waits for a machine that only others can use.
//
// The best machine is the one with the fewest provisioning failures in a row; among these one of the class of which most are free, so that
// what is scarce stays; among these the first by name.
func (f *Fleet) schedule(ctx context.Context) error {
	if f.away() {
		return nil
	}
	p, err := f.look(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(p.open, func(r cert.Reservation) bool { return r.State == cert.ReservationQueued }) {
		return nil
	}
	_, _, limits := f.settings()
	room := limits.MaxDeploying
	for _, d := range p.deploying {
		if d.Phase != cert.PhaseReady && d.Phase != cert.PhaseRelease && d.Phase != cert.PhaseRecover {
			room--
		}
	}
	free, common := map[string]bool{}, map[string]int{}
	now := f.Now()
	f.mu.Lock()
	for n := range p.machines {
		m := &p.machines[n]
		if usable(m) && p.deploying[m.ID] == nil && !now.Before(f.shy[m.ID]) {
			free[m.ID] = true
			common[m.Class]++
		}
	}
	f.mu.Unlock()
	var touched bool
	queries, holds := map[wanted][]*cert.FleetMachine{}, heldBack{}
	blocked := map[string]string{}
	for n := range p.open {
		r := &p.open[n]
		if r.State != cert.ReservationQueued || r.NotBefore != nil && now.Before(*r.NotBefore) {
			continue
		}
		q, err := cert.ParseQuery(r.Want.Query)
		if err != nil {
			if r.Blocked != err.Error() {
				blocked[r.ID] = err.Error()
			}
			continue
		}
		q = q.AnyState()
		candidates, known := queries[wantedBy(r)]
		if !known {
			candidates = f.candidates(p, r, q)
			queries[wantedBy(r)] = candidates
		}
		m, why := f.choose(p, r, q, candidates, holds, free, common, room)
		if m == nil {
			if r.Blocked != why {
				blocked[r.ID] = why
			}
			continue
		}
		id, err := f.assign(ctx, r.ID, m)
		if errors.Is(err, errMoved) || sqlite.Doubled(err) {
			continue // its state has changed meanwhile: the next turn sees it
		}
		if err != nil {
			return err
		}
		delete(free, m.ID)
		common[m.Class]--
		room--
		touched = true
		if d, err := f.DB.Deployment(ctx, id); err == nil {
			f.dispatch(ctx, d)
		}
	}
	if touched {
		f.ring()
	}
	return f.waiting(ctx, blocked)
}

// wanted is what of a reservation decides which machines it can have.
type wanted struct {
	query       string
	quarantined bool
	only        string // machine
}

func wantedBy(r *cert.Reservation) wanted {
	w := wanted{query: r.Want.Query, quarantined: forQuarantined(r)}
	if !r.Want.Failover && len(r.Avoid) > 0 {
		w.only = r.Avoid[len(r.Avoid)-1]
	}
	return w
}

// heldBack keeps what the gate has said in one turn. It tells reservations apart only where they are for checks.
type heldBack map[holdOf]*cert.Hold

type holdOf struct{ machine, release, check string }

func (h heldBack) of(g Gate, m *cert.FleetMachine, r *cert.Reservation) *cert.Hold {
	key := holdOf{machine: m.ID, release: r.Want.Release}
	if r.Kind == cert.ReserveCheck {
		key.check = r.ID
	}
	hold, known := h[key]
	if !known {
		hold = g.MayDeploy(placeOf(m, r.Want.Release), *r)
		h[key] = hold
	}
	return hold
}

// usable reports whether a machine can be had now. One that is quarantined can be had for a check.
func usable(m *cert.FleetMachine) bool {
	return m.Provider != "" && m.Unit == "" && m.Paused == nil && (m.State == cert.MachineFree || m.State == cert.MachineQuarantined)
}

// choose returns the machine of the candidates that a reservation gets now, or why it gets none.
func (f *Fleet) choose(p *picture, r *cert.Reservation, q cert.Query, candidates []*cert.FleetMachine, holds heldBack, free map[string]bool,
	common map[string]int, room int) (*cert.FleetMachine, string) {
	var best *cert.FleetMachine
	var held *cert.Hold
	paused, others, matching := 0, false, 0
	if twice := ambiguous(q, candidates); twice != "" {
		return nil, twice
	}
	for _, m := range candidates {
		if !slices.Contains(r.Avoid, m.ID) {
			others = true
		}
	}
	for _, m := range candidates {
		matching++
		if m.Paused != nil {
			paused++
		}
		if !free[m.ID] || m.State == cert.MachineQuarantined && !forQuarantined(r) || others && slices.Contains(r.Avoid, m.ID) {
			continue
		}
		if f.Gate != nil {
			if hold := holds.of(f.Gate, m, r); hold != nil {
				held = hold
				continue
			}
		}
		if best == nil || better(p, m, best, common) {
			best = m
		}
	}
	switch {
	case matching == 0:
		return nil, "no machine matches any more: " + q.Explain(p.machines).Text
	case best != nil && room <= 0:
		return nil, "as many machines as may be are being deployed"
	case best != nil:
		return best, ""
	case held != nil:
		return nil, held.Text
	case paused == matching:
		return nil, fmt.Sprintf("all machines that match are paused (%s)", pausedText(candidates))
	}
	text := fmt.Sprintf("all machines that match (%d) are in use or cannot be used now", matching)
	for _, m := range candidates {
		if d := p.deploying[m.ID]; d != nil && d.Phase == cert.PhaseRelease && p.held[d.ID] != nil && p.held[d.ID].Blocked != "" {
			return nil, text + ": " + p.held[d.ID].Blocked
		}
	}
	return nil, text
}

func pausedText(all []*cert.FleetMachine) string {
	for _, m := range all {
		if m.Paused != nil {
			return strings.TrimSpace(m.Paused.Scope+" "+m.Paused.Name) + ": " + m.Paused.Reason
		}
	}
	return ""
}

// candidates are the machines that a reservation can have at some time: that match, are this lab's to take and not out of use.
func (f *Fleet) candidates(p *picture, r *cert.Reservation, q cert.Query) []*cert.FleetMachine {
	var out []*cert.FleetMachine
	for n := range p.machines {
		m := &p.machines[n]
		if q.Match(m) != "" || !f.takes(p, m) {
			continue
		}
		switch {
		case m.State == cert.MachineQuarantined && !forQuarantined(r):
			continue
		case !r.Want.Failover && len(r.Avoid) > 0 && m.ID != r.Avoid[len(r.Avoid)-1]:
			continue // the one that failed is tried again
		}
		out = append(out, m)
	}
	return out
}

// takes reports whether this lab takes a machine at all.
func (f *Fleet) takes(p *picture, m *cert.FleetMachine) bool {
	_, conf, _ := f.settings()
	row := p.row[m.ID]
	if row == nil || row.Provided == nil || m.Provider == "" || m.Unit != "" || m.State == cert.MachineRetired {
		return false
	}
	pool := m.Pool
	if row.Quarantine != nil && row.Quarantine.Pool != "" {
		pool = row.Quarantine.Pool
	}
	return inPool(conf.MAAS.Pools, conf.MAAS.ProtectedPools, pool)
}

// forQuarantined reports whether a reservation is a check of a machine in quarantine.
func forQuarantined(r *cert.Reservation) bool {
	return r.Kind == cert.ReserveCheck && r.Want.Quarantined
}

func better(p *picture, a, b *cert.FleetMachine, common map[string]int) bool {
	return cmp.Or(cmp.Compare(p.row[a.ID].Failures, p.row[b.ID].Failures), -cmp.Compare(common[a.Class], common[b.Class]), strings.Compare(a.Hostname, b.Hostname)) < 0
}

// waiting says what reservations in the queue wait for.
func (f *Fleet) waiting(ctx context.Context, why map[string]string) error {
	if len(why) == 0 {
		return nil
	}
	err := f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		for id, text := range why {
			stored, err := tx.Reservation(id)
			if err != nil {
				return err
			}
			if stored.State != cert.ReservationQueued {
				continue
			}
			stored.Blocked = text
			if err := tx.PutReservation(stored); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		f.ring()
	}
	return err
}

// assign gives a machine to a reservation. All that follows is stored before the provider is asked for the machine.
func (f *Fleet) assign(ctx context.Context, reservation string, m *cert.FleetMachine) (id string, err error) {
	_, _, limits := f.settings()
	err = f.DB.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		e := edit{tx: tx, now: f.Now()}
		var err error
		if e.r, err = tx.Reservation(reservation); err != nil {
			return err
		}
		if e.m, err = tx.Machine(m.ID); err != nil {
			return err
		}
		if e.r.State != cert.ReservationQueued || e.m.Quarantine != nil && !forQuarantined(&e.r) || e.m.Machine.Unit != "" {
			return errMoved
		}
		id = cert.NewID(cert.DeploymentID, e.now)
		release := first(e.r.Want.Release, limits.Release)
		d := cert.Deployment{ID: id, Reservation: e.r.ID, Machine: m.ID, Class: m.Class, Number: e.r.Tries + 1, Phase: cert.PhaseAcquire, Since: e.now, Step: "",
			Started: e.now, Release: release, Kernel: e.r.Want.Kernel, Phases: []cert.PhaseTime{}}
		if err := tx.AddDeployment(d); err != nil {
			return err
		}
		e.d = d
		return f.store(&e, func(e *edit) error {
			e.step("", acquireLimit)
			e.r.State, e.r.Machine, e.r.Hostname, e.r.Deployment, e.r.Blocked = cert.ReservationPreparing, m.ID, e.m.Machine.Hostname, id, ""
			e.r.Tries++
			if e.m.Quarantine != nil { // for the check alone: it goes back when that is over
				q := *e.m.Quarantine
				q.Step = quarantineTake
				e.m.Quarantine = &q
			}
			e.log("reserved", e.r.Holder, "reserved for "+about(e.r))
			return nil
		})
	})
	return id, err
}

// estimate says when a reservation is likely to be ready.
func (f *Fleet) estimate(r *cert.Reservation, p *picture) *cert.Estimate {
	q, err := cert.ParseQuery(r.Want.Query)
	if err != nil {
		return nil
	}
	candidates := f.candidates(p, r, q.AnyState())
	class := ""
	if len(candidates) > 0 {
		class = candidates[0].Class
	}
	if m := p.row[r.Machine]; m != nil && m.Provided != nil {
		class = cert.Class(*m.Provided)
	}
	sums, count := f.measured(class)
	now := f.Now()
	out := &cert.Estimate{}
	if r.State == cert.ReservationPreparing {
		out.Start = &now
		if d := p.deploying[r.Machine]; d != nil {
			out.Start = &d.Started
		}
	} else {
		out.Position = 1
		var ends []time.Time
		for n := range p.open {
			o := &p.open[n]
			if o.ID == r.ID {
				break
			}
			if o.State == cert.ReservationQueued && f.shares(p, o, candidates) {
				out.Position++
			}
		}
		for _, m := range candidates {
			switch d := p.deploying[m.ID]; {
			case usable(m) && d == nil:
				ends = append(ends, now)
			case d != nil && d.Phase == cert.PhaseReady && p.held[d.ID].Until != nil:
				ends = append(ends, p.held[d.ID].Until.Add(seconds(sums[cert.PhaseRelease].Median)))
			}
		}
		slices.SortFunc(ends, time.Time.Compare)
		if len(ends) >= out.Position {
			start := ends[out.Position-1]
			if start.Before(now) {
				start = now
			}
			out.Start = &start
		}
	}
	out.Basis = "nothing was measured of machines of this class yet"
	if count > 0 {
		out.Basis = fmt.Sprintf("%d deployments of this class", count)
		if count == 1 {
			out.Basis = "1 deployment of this class"
		}
		if out.Start != nil {
			total := 0.0
			for _, phase := range []cert.DeployPhase{cert.PhaseAcquire, cert.PhasePrepare, cert.PhaseDeploy, cert.PhaseBoot, cert.PhaseEnrol} {
				total += sums[phase].Median
			}
			ready := out.Start.Add(seconds(total))
			if ready.Before(now) {
				ready = now
			}
			out.Ready = &ready
		}
	}
	return out
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// shares reports whether a reservation may want one of some machines.
func (f *Fleet) shares(p *picture, o *cert.Reservation, machines []*cert.FleetMachine) bool {
	q, err := cert.ParseQuery(o.Want.Query)
	if err != nil {
		return false
	}
	q = q.AnyState()
	return slices.ContainsFunc(machines, func(m *cert.FleetMachine) bool { return q.Match(m) == "" })
}

// measuredOver is how many deployments of a class an estimate rests on at most.
const measuredOver = 50

// measured is how long the phases of a class's deployments took.
func (f *Fleet) measured(class string) (map[cert.DeployPhase]cert.PhaseSum, int) {
	if class == "" {
		return nil, 0
	}
	f.mu.Lock()
	known, ok := f.measures[class]
	f.mu.Unlock()
	if ok {
		return known.sums, known.count
	}
	all, err := f.DB.Deployments(context.Background(), sqlite.DeploymentFilter{Class: class}, measuredOver)
	if err != nil {
		return nil, 0
	}
	all = slices.DeleteFunc(all, func(d cert.Deployment) bool { return d.Failure != nil || !arrived(d) })
	known = measure{cert.PhaseSums(all), len(all)}
	f.mu.Lock()
	f.measures[class] = known
	f.mu.Unlock()
	return known.sums, known.count
}

// measureAnew forgets what was measured: there is more.
func (f *Fleet) measureAnew() {
	f.mu.Lock()
	clear(f.measures)
	f.mu.Unlock()
}

// arrived reports whether a deployment's machine was ready.
func arrived(d cert.Deployment) bool {
	return slices.ContainsFunc(d.Phases, func(p cert.PhaseTime) bool { return p.Phase == cert.PhaseEnrol })
}
