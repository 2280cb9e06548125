package campaign_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// comesBack has a run whose machine was given up be completed by it after all.
func (l *lab) comesBack(run string) string {
	l.Helper()
	ctx := context.Background()
	f, err := l.db.AddFile(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", 7), Size: 1, Received: l.now()})
	require.NoError(l, err)
	require.NoError(l, l.db.SaveIndex(ctx, f.Submission, cert.Index{Version: 1, Plan: cert.PlanSRU}))
	selected := &order.SubjectState{Step: order.SubjectSelected}
	l.store(func(tx *sqlite.FleetTx) error {
		return tx.ChangeRun(run, func(r *cert.Run) (bool, error) { // as package watch has left it
			last := &r.Attempts[len(r.Attempts)-1]
			last.Subject, last.Progress.Phase = selected, string(order.Booting)
			return true, nil
		})
	})
	_, err = l.db.UpdateRun(ctx, run, nil, func(r *cert.Run) (bool, error) {
		return r.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: 9, Origin: cert.FromOrder, State: cert.Completed}, Finished: l.now()}, l.now())
	})
	require.NoError(l, err)
	return f.Submission
}

// TestFaultRevivedMachineHidesNoFailure has the subject not boot a machine, then the machine go out of use, and then a person revive it: its late results
// do not take back that the subject did not boot.
func TestFaultRevivedMachineHidesNoFailure(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin(func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{Names: []string{"node1"}} })
		l.until("it did not boot", func() bool {
			g := l.target(c.ID, "node1")
			return g.Next != nil && g.Next.Purpose == cert.TryKernel
		})
		l.change("node1", func(m *cert.FleetMachine) { m.State, m.Why = cert.MachineQuarantined, "it hangs" })
		l.over(c.ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "node1: it is quarantined: it hangs", g.Why)
		require.Equal(l, []string{cert.TryFirst}, purposes(g), "what does not boot on one machine is tried on no other")
		submission := l.comesBack(g.Tries[0].Run)
		l.until("its results are here", func() bool { return l.target(c.ID, "node1").State == cert.TargetDone })
		g = l.target(c.ID, "node1")
		require.Equal(l, submission, g.Tries[0].Submission)
		require.NotNil(l, g.Tries[0].Failure, "that it did not boot stays")
		require.Equal(l, order.FailKernelBoot, g.Tries[0].Failure.Type)
		require.Equal(l, "it panicked", g.Tries[0].Failure.Message)
	}, nodes("node1", "spare"), func(l *lab) { l.does = failing(order.FailKernelBoot, "it panicked") })
}

// TestFaultRepeatIsDecidedByTheResults has a run within an incident whose results are read late: what the lab does by them is what the campaign follows.
func TestFaultRepeatIsDecidedByTheResults(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.begin()
		l.until("it runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		run := l.target(c.ID, "node1").Tries[0].Run
		l.suspect(ctx, run, "i1")
		f, err := l.db.AddFile(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", 8), Size: 1, Received: l.now()})
		require.NoError(l, err)
		_, err = l.db.UpdateRun(ctx, run, nil, func(r *cert.Run) (bool, error) {
			return r.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: 9, Origin: cert.FromOrder, State: cert.Completed}, Finished: l.now(), Counts: cert.Counts{"fail": 1}}, l.now())
		})
		require.NoError(l, err)
		l.until("it waits for them", func() bool { return l.target(c.ID, "node1").Why == "its results are being read" })
		require.Len(l, l.target(c.ID, "node1").Tries, 1)
		require.NoError(l, l.db.SaveIndex(ctx, f.Submission, cert.Index{Version: 1, Plan: cert.PlanSRU, Counts: cert.Counts{"pass": 3}}))
		l.over(c.ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State, "nothing in it has failed: the lab does not do it again")
		require.Equal(l, []string{cert.TryFirst}, purposes(g))
		require.Equal(l, "i1", g.Tries[0].Suspect, "a person decides on it")
	}, nodes("node1"), func(l *lab) {
		l.does = func(string, cert.Spec, int) outcome { return outcome{hang: true} }
	})
}

// TestFaultMachineIsNeverThere waits for machines that never begin: somebody has one for ever, and the other's agent keeps silent.
func TestFaultMachineIsNeverThere(t *testing.T) {
	t.Parallel()
	never := func(l *lab) {
		l.add("node1")
		l.add("unit1", unit)
		l.hold["node1"] = true
		l.mute["unit1"] = true
	}
	for name, c := range map[string]struct {
		due  time.Duration
		kind cert.CampaignKind
		jump time.Duration // of the clock, so that nobody waits for days
		why  string
	}{
		"with a due date":    {due: 24*time.Hour + 20*time.Minute, kind: cert.KindSRU, why: ", which leaves 24 hours for the decision: its machine has not begun"},
		"without a due date": {kind: cert.KindAdhoc, jump: 7*24*time.Hour - 20*time.Minute, why: "not begun within 7 days: its machine has not begun"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, func(l *lab) {
				id := l.begin(func(want *cert.NewCampaign) {
					want.Kind, want.Name = c.kind, "patient"
					if c.due > 0 {
						due := l.now().Add(c.due)
						want.Due = &due
					}
				}).ID
				time.Sleep(5 * time.Minute)
				l.ahead.Store(int64(c.jump))
				time.Sleep(10 * time.Minute)
				require.Equal(l, cert.TargetQueued, l.target(id, "node1").State)
				require.Equal(l, cert.CampaignActive, l.campaign(id).State)
				time.Sleep(10 * time.Minute)
				require.Equal(l, cert.CampaignDeciding, l.campaign(id).State)
				for _, host := range []string{"node1", "unit1"} {
					g := l.target(id, host)
					require.Equal(l, cert.TargetMissing, g.State)
					require.Contains(l, g.Why, c.why)
					require.True(l, g.Tries[0].Infra, "it says nothing about the subject")
					require.Len(l, g.Tries, 1)
				}
				run, err := l.db.Run(context.Background(), l.target(id, "unit1").Tries[0].Run)
				require.NoError(l, err)
				require.Equal(l, cert.Cancelled, run.State, "it never begins")
				open, err := l.db.OpenReservations(context.Background())
				require.NoError(l, err)
				require.Empty(l, open)
			}, never)
		})
	}
}

// forget removes a reservation from the database, past the engine.
func (l *lab) forget(reservation string) {
	l.Helper()
	raw, err := sql.Open("sqlite", l.path)
	require.NoError(l, err)
	defer raw.Close()
	_, err = raw.Exec("DELETE FROM reservations WHERE id = ?", reservation)
	require.NoError(l, err)
}

// TestFaultTryIsForgotten has a repair lose what a campaign has asked for.
func TestFaultTryIsForgotten(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		l.until("it is asked for", func() bool {
			g := l.target(c.ID, "node1")
			return len(g.Tries) == 1 && g.Tries[0].Asked != nil
		})
		l.forget(l.target(c.ID, "node1").Tries[0].Reservation)
		l.mu.Lock()
		l.hold["node1"] = false
		l.mu.Unlock()
		l.over(c.ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State, g.Why)
		require.Equal(l, []string{cert.TryFirst, cert.TryRetry}, purposes(g))
		require.Equal(l, "the controller knows nothing of it any more: its data went back to an earlier time, or were repaired", g.Tries[0].Failure.Message)
	}, nodes("node1"), func(l *lab) { l.hold["node1"] = true })
}

// TestFaultLateResultsAreNotHidden has a machine that was given up come back with its results after another try has passed, and somebody note them before
// the engine does: they are a completed try's, so that what failed in them is a finding.
func TestFaultLateResultsAreNotHidden(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin().ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, 2, g.Counted)
		require.True(l, g.Tries[0].Infra)
		submission := l.comesBack(g.Tries[0].Run)
		require.NoError(l, l.db.ChangeCampaigns(context.Background(), func(tx *sqlite.CampaignTx) error {
			g, err := tx.Target(g.ID)
			require.NoError(l, err)
			g.Tries[0].Submission = submission
			return tx.PutTarget(g)
		}))
		l.until("they are known to be whole", func() bool { return !l.target(c.ID, "node1").Tries[0].Infra })
		g = l.target(c.ID, "node1")
		require.Equal(l, cert.Completed, g.Tries[0].State)
		require.Nil(l, g.Tries[0].Failure)
		require.Equal(l, submission, g.Tries[0].Submission)
		require.Equal(l, 2, g.Counted, "the later try counts")
		require.Contains(l, l.log(c.ID), "late: node1: run "+g.Tries[0].Run+" was given up, and its results have come after all")
	}, nodes("node1"), func(l *lab) {
		l.does = func(host string, spec cert.Spec, nth int) outcome {
			if nth == 1 {
				return failing(order.FailMachineLost, "it kept silent")(host, spec, nth)
			}
			return outcome{}
		}
	})
}

// TestFaultMachineComesUpBeforeItIsNoted has the lab give a machine up that does not come up with its kernel, and the machine come up before the campaign has
// looked: that it did not boot counts all the same.
func TestFaultMachineComesUpBeforeItIsNoted(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.begin()
		l.until("it runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		run := l.target(c.ID, "node1").Tries[0].Run
		f, err := l.db.AddFile(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", 9), Size: 1, Received: l.now()})
		require.NoError(l, err)
		require.NoError(l, l.db.SaveIndex(ctx, f.Submission, cert.Index{Version: 1, Plan: cert.PlanSRU, Counts: cert.Counts{"pass": 3}}))
		said := func(sequence int64, step string) cert.Report {
			return cert.Report{Attempt: 1, Sequence: sequence, Origin: cert.FromOrder, State: cert.Running, Progress: cert.Progress{Phase: string(order.Booting)},
				Subject: &order.SubjectState{Step: step}}
		}
		_, err = l.db.UpdateRun(ctx, run, nil, func(r *cert.Run) (bool, error) {
			require.True(l, r.Report(said(8, order.SubjectSelected), l.now()))
			require.True(l, r.LoseKernel("it panicked", l.now()))
			end := said(9, order.SubjectProved)
			require.True(l, r.Report(end, l.now()))
			end.State, end.Sequence = cert.Completed, 10
			return r.Finish(cert.Finish{Report: end, Finished: l.now(), Counts: cert.Counts{"pass": 3}}, l.now())
		})
		require.NoError(l, err)
		l.until("it is noted", func() bool { return l.target(c.ID, "node1").Tries[0].Failure != nil })
		try := l.target(c.ID, "node1").Tries[0]
		require.Equal(l, order.FailKernelBoot, try.Failure.Type)
		require.Equal(l, "it panicked", try.Failure.Message)
		l.until("and its results count besides", func() bool {
			try := l.target(c.ID, "node1").Tries[0]
			return try.Submission == f.Submission && try.Failure != nil && !try.Infra
		})
	}, nodes("node1"), func(l *lab) {
		l.does = func(string, cert.Spec, int) outcome { return outcome{hang: true} }
	})
}
