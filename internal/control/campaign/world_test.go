package campaign_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// step moves reservations, runs, the indexer and the review on by one.
func (l *lab) step(ctx context.Context) {
	open, err := l.db.OpenReservations(ctx)
	if err != nil {
		return
	}
	used := map[string]bool{}
	for _, r := range open {
		if r.Machine != "" {
			used[r.Machine] = true
		}
	}
	for _, r := range open {
		l.reservation(ctx, r, used)
	}
	for _, state := range []cert.State{cert.Queued, cert.Running} {
		runs, _, err := l.db.Runs(ctx, sqlite.RunFilter{State: string(state)}, sqlite.Page{Limit: 1000})
		if err != nil {
			return
		}
		for _, run := range runs {
			l.run(ctx, run)
		}
	}
	comparing, err := l.db.ComparingTargets(ctx, 1000)
	if err != nil {
		return
	}
	for _, id := range comparing {
		_ = l.db.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return l.compare(tx, id) })
	}
}

// compare is what package review does, in short.
func (l *lab) compare(tx *sqlite.CampaignTx, id string) error {
	g, err := tx.Target(id)
	if err != nil || g.State != cert.TargetComparing {
		return err
	}
	last := &g.Tries[len(g.Tries)-1]
	switch {
	case strings.HasSuffix(last.Hostname, "-unproved") && !last.Partial():
		last.Infra, last.Failure = true, &cert.Failure{Type: order.FailUnproved, Message: "another kernel ran"}
		g.State, g.Counted, g.Submission = cert.TargetWaiting, 0, ""
	case g.Then != "":
		g.State, g.Then = g.Then, ""
	default:
		g.State = cert.TargetDone
	}
	return tx.PutTarget(g)
}

func (l *lab) reservation(ctx context.Context, r cert.Reservation, used map[string]bool) {
	l.mu.Lock()
	var m *cert.FleetMachine
	for n := range l.machines {
		if l.machines[n].ID == r.Want.Query {
			m = &l.machines[n]
		}
	}
	held := m == nil || l.hold[m.Hostname]
	deploys := l.deploys
	l.mu.Unlock()
	_ = l.db.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error {
		r, err := tx.Reservation(r.ID)
		if err != nil || r.Final() {
			return err
		}
		now := l.now()
		switch r.State {
		case cert.ReservationQueued:
			if held || used[m.ID] || r.NotBefore != nil && now.Before(*r.NotBefore) {
				return nil
			}
			used[m.ID] = true
			r.State, r.Machine, r.Hostname, r.Tries = cert.ReservationPreparing, m.ID, m.Hostname, 1
		case cert.ReservationPreparing:
			l.mu.Lock()
			l.deployed[r.Hostname]++
			nth := l.deployed[r.Hostname]
			l.mu.Unlock()
			if deploys != nil {
				if f := deploys(r.Hostname, nth); f != nil {
					r.State, r.Ended, r.Ending, r.EndedBy, r.Failure = cert.ReservationEnded, &now, cert.EndedFailed, "certlab", f
					break
				}
			}
			r.State, r.Ready = cert.ReservationReady, &now
			spec := *r.Spec
			if err := tx.AddRun(cert.Run{ID: r.Run, Machine: r.Machine, Hostname: r.Hostname, Origin: cert.FromOrder, RequestedBy: r.Holder, Spec: spec, State: cert.Queued, Created: now}, r.ID); err != nil {
				return err
			}
		case cert.ReservationReady:
			run, err := tx.Run(r.Run)
			if err != nil || !run.State.Final() {
				return err
			}
			r.State, r.Ended, r.Released, r.Ending, r.EndedBy = cert.ReservationEnded, &now, &now, cert.EndedReleased, "certlab"
		}
		return tx.PutReservation(r)
	})
}

// runTime is how long a run takes here.
const runTime = time.Minute

func (l *lab) run(ctx context.Context, run cert.Run) {
	report := cert.Report{Attempt: 1, Sequence: 1, Origin: cert.FromOrder, State: cert.Running, Spec: run.Spec, BootID: "b1", Started: l.now(), Progress: cert.Progress{Phase: "testing"}}
	if run.State == cert.Queued {
		l.mu.Lock()
		if l.mute[run.Hostname] {
			l.mu.Unlock()
			return
		}
		l.begun[run.ID]++
		l.mu.Unlock()
		_, _ = l.db.UpdateRun(ctx, run.ID, nil, func(r *cert.Run) (bool, error) { return r.Report(report, l.now()), nil })
		return
	}
	l.mu.Lock()
	nth := 0
	for range l.begun {
		nth++
	}
	does := l.does
	l.mu.Unlock()
	var out outcome
	if does != nil {
		out = does(run.Hostname, run.Spec, l.runsOf(ctx, run))
	}
	finish := cert.Finish{Report: report, Finished: l.now()}
	finish.Sequence = 2
	switch {
	case run.CancelRequested:
		finish.State = cert.Cancelled
	case out.hang || run.Started == nil || l.now().Sub(*run.Started) < runTime:
		return
	case out.failure != nil:
		finish.State, finish.Failure = cert.Failed, out.failure
		finish.Progress.CurrentJob = out.lost
	default:
		finish.State, finish.Counts = cert.Completed, out.counts
		f := cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", l.now().UnixNano()), Size: 1, Received: l.now()}
		f, err := l.db.AddFile(ctx, run.ID, f)
		if err != nil {
			return
		}
		defer func() {
			_ = l.db.SaveIndex(ctx, f.Submission, cert.Index{Version: 1, Plan: run.Spec.Plan, Counts: out.counts})
		}()
	}
	if out.suspect != "" {
		l.suspect(ctx, run.ID, out.suspect)
	}
	_, _ = l.db.UpdateRun(ctx, run.ID, nil, func(r *cert.Run) (bool, error) { return r.Finish(finish, l.now()) })
}

// suspect marks a run as one that an incident overlaps.
func (l *lab) suspect(ctx context.Context, run, incident string) {
	r, err := l.db.Run(ctx, run)
	if err == nil {
		_ = l.db.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error { return tx.SuspectRunning(incident, []string{r.Machine}) })
	}
}

// runsOf counts the runs of a run's machine, this one among them.
func (l *lab) runsOf(ctx context.Context, run cert.Run) int {
	all, _, _ := l.db.Runs(ctx, sqlite.RunFilter{Machine: run.Machine}, sqlite.Page{Limit: 1000})
	return len(all)
}

// Subjects and requests.

func kernel(version string) cert.Subject {
	return cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Version: version, Pocket: "proposed"}
}

func (l *lab) request(change ...func(*cert.NewCampaign)) cert.NewCampaign {
	want := cert.NewCampaign{Kind: cert.KindSRU, Subject: kernel("6.8.0-51.52"), Machines: cert.MachineChoice{Query: "arch=amd64"}, Baseline: "none"}
	for _, c := range change {
		c(&want)
	}
	return want
}

func (l *lab) begin(change ...func(*cert.NewCampaign)) cert.Campaign {
	l.Helper()
	c, fresh, err := l.engine().StartCampaign(context.Background(), l.request(change...), "ada", cert.Engineer)
	require.NoError(l, err)
	require.True(l, fresh)
	return c
}

// until waits for something to hold, for at most two hours of the lab's time.
func (l *lab) until(what string, fn func() bool) {
	l.Helper()
	for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); time.Sleep(5 * time.Second) {
		if fn() {
			return
		}
	}
	require.FailNow(l, "it does not come about that "+what)
}

func (l *lab) campaign(id string) cert.Campaign {
	l.Helper()
	c, err := l.db.Campaign(context.Background(), id)
	require.NoError(l, err)
	return c
}

// over waits until nothing more runs in a campaign.
func (l *lab) over(id string) cert.Campaign {
	l.Helper()
	l.until("the campaign is over", func() bool {
		c := l.campaign(id)
		if !c.State.Final() {
			return c.State == cert.CampaignDeciding
		}
		open, err := l.db.OpenTries(context.Background(), id)
		require.NoError(l, err)
		counts, err := l.db.TargetCounts(context.Background(), id)
		require.NoError(l, err)
		for state, n := range counts {
			if n > 0 && !state.Settled() {
				return false
			}
		}
		return len(open) == 0
	})
	return l.campaign(id)
}

func (l *lab) target(id, host string) cert.Target {
	l.Helper()
	all, err := l.db.Targets(context.Background(), id)
	require.NoError(l, err)
	for _, g := range all {
		if g.Hostname == host {
			return g
		}
	}
	require.FailNow(l, "no target on "+host)
	return cert.Target{}
}

// log is what the campaign's log says, the oldest first.
func (l *lab) log(id string) []string {
	l.Helper()
	all, _, err := l.db.CampaignEvents(context.Background(), id, sqlite.Page{Limit: 1000})
	require.NoError(l, err)
	var out []string
	for n := len(all) - 1; n >= 0; n-- {
		out = append(out, all[n].Kind+": "+all[n].Text)
	}
	return out
}

func purposes(g cert.Target) []string {
	out := []string{}
	for _, t := range g.Tries {
		out = append(out, t.Purpose)
	}
	return out
}
