package campaign_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/campaign"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// nodes adds machines of the provider's.
func nodes(names ...string) func(*lab) {
	return func(l *lab) {
		for _, name := range names {
			l.add(name)
		}
	}
}

func failing(kind, message string) func(string, cert.Spec, int) outcome {
	return func(string, cert.Spec, int) outcome {
		return outcome{failure: &cert.Failure{Type: kind, Message: message}}
	}
}

// refused asks for a campaign and requires that it is refused and that nothing is stored.
func (l *lab) refused(code cert.Code, message string, change ...func(*cert.NewCampaign)) {
	l.Helper()
	want := l.request(change...)
	_, err := l.engine().PlanCampaign(context.Background(), want, "ada")
	require.ErrorContains(l, err, message)
	_, _, err = l.engine().StartCampaign(context.Background(), want, "ada", cert.Engineer)
	require.ErrorContains(l, err, message)
	require.Equal(l, code, cert.CodeOf(err))
	all, _, err := l.db.Campaigns(context.Background(), sqlite.CampaignFilter{}, sqlite.Page{Limit: 10})
	require.NoError(l, err)
	require.Empty(l, all)
}

func TestFaultCampaignCannotBeStarted(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		l.refused(cert.Conflict, "cannot start a campaign over no machines: ", func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{Query: "arch=riscv64"} })
		l.refused(cert.Invalid, "cannot start a campaign over no machines: choose them by a query", func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{} })
		l.refused(cert.Conflict, "each of the 1 that were chosen is excluded: unit1: it runs ubuntu@22.04, and the subject is for noble (24.04); it bears the unit checkbox/0, so that it cannot be deployed anew",
			func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{Names: []string{"unit1"}} })
		l.refused(cert.NotFound, `there is no machine "noed1" (did you mean node1?)`, func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{Names: []string{"noed1"}} })
		l.refused(cert.Conflict, "cannot start a campaign over the machines that ran the baseline: none did", func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{OfBaseline: true} })
		l.refused(cert.NotFound, `there is no policy "srv" (did you mean sru?)`, func(c *cert.NewCampaign) { c.Policy = "srv" })
		l.refused(cert.NotFound, `there is no version 7 of policy "sru": it is Certlab's own`, func(c *cert.NewCampaign) { c.Policy = "sru@7" })
		l.refused(cert.Conflict, "cannot use policy weekly for a campaign of kind sru", func(c *cert.NewCampaign) { c.Policy = "weekly" })
		l.refused(cert.Invalid, "that is over (give a later due date)", func(c *cert.NewCampaign) { past := l.now().Add(-time.Hour); c.Due = &past })
		l.refused(cert.Invalid, "a certificate wants the whole plan", func(c *cert.NewCampaign) { c.Kind, c.Exclude = cert.KindCertification, []string{"a.*"} })
		l.refused(cert.NotFound, `cannot compare with "nobel-linux": there is no such campaign`, func(c *cert.NewCampaign) { c.Baseline = "nobel-linux" })
		l.refused(cert.Invalid, "cannot compare 6.8.0-51.52 with itself", func(c *cert.NewCampaign) { c.Baseline = "6.8.0-51.52" })
		_, _, err := l.engine().StartCampaign(context.Background(), l.request(), "eve", cert.Viewer)
		require.ErrorContains(l, err, "cannot start a campaign: that needs the role engineer")
		_, _, err = l.engine().StartCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.Priority = 5 }), "ada", cert.Engineer)
		require.ErrorContains(l, err, "only an admin may go before others")
	}, nodes("node1"), func(l *lab) {
		l.add("unit1", unit, func(m *cert.FleetMachine) { m.Base = "ubuntu@22.04" })
	})
}

func TestWhatDoesNotFitIsExcluded(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin().ID)
		for host, why := range map[string]string{"old": "it runs ubuntu@22.04", "sick": "it is quarantined: no power", "gone": "it is retired: scrapped", "theirs": "somebody else has it",
			"bare": "it has no unit of checkbox"} {
			g := l.target(c.ID, host)
			require.Equal(l, cert.TargetExcluded, g.State, host)
			require.Contains(l, g.Why, why)
			require.Empty(l, g.Tries)
		}
		require.Equal(l, cert.TargetDone, l.target(c.ID, "node1").State)
	}, nodes("node1"), func(l *lab) {
		l.add("old", unit, func(m *cert.FleetMachine) { m.Base = "ubuntu@22.04" })
		l.add("sick", func(m *cert.FleetMachine) { m.State, m.Why = cert.MachineQuarantined, "no power" })
		l.add("gone", func(m *cert.FleetMachine) { m.State, m.Why = cert.MachineRetired, "scrapped" })
		l.add("theirs", func(m *cert.FleetMachine) { m.State = cert.MachineForeign })
		l.add("bare", func(m *cert.FleetMachine) { m.Provider, m.State = "", cert.MachineUnknown })
	})
	inLab(t, func(l *lab) {
		l.refused(cert.Conflict, "the provider has no image of noble for amd64 (import it; it has: jammy)")
	}, nodes("node1"), func(l *lab) { l.images = []string{"jammy"} })
}

func TestFaultNoArchiveHasTheVersion(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1 })
		l.until("it is held back", func() bool { return l.campaign(c.ID).State == cert.CampaignPaused })
		time.Sleep(10 * time.Minute)
		c = l.campaign(c.ID)
		require.Equal(l, cert.CampaignPaused, c.State)
		require.Contains(l, c.Ending, "could be installed on none of 3 machines (")
		require.Contains(l, c.Ending, "no archive has 6.8.0-51.52; nothing more is begun until a person resumes it (certlab campaign resume noble-linux-6.8.0-51.52) or cancels it")
		runs, _, err := l.db.Runs(context.Background(), sqlite.RunFilter{}, sqlite.Page{Limit: 100})
		require.NoError(l, err)
		require.Less(l, len(runs), 6, "the lab was not deployed all over")
		l.mu.Lock()
		l.does = nil
		l.mu.Unlock()
		no := false
		_, err = l.engine().ChangeCampaign(context.Background(), c.ID, cert.ChangeCampaign{Paused: &no, Reason: "it is there now"}, "ada", cert.Engineer)
		require.NoError(l, err)
		c = l.over(c.ID)
		for n := range 8 {
			require.Equal(l, cert.TargetDone, l.target(c.ID, fmt.Sprintf("node%d", n+1)).State)
		}
	}, nodes("node1", "node2", "node3", "node4", "node5", "node6", "node7", "node8"), func(l *lab) {
		l.does = failing(order.FailWrongKernel, "no archive has 6.8.0-51.52")
	})
}

func TestFaultSubjectDoesNotBoot(t *testing.T) {
	t.Parallel()
	for name, does := range map[string]func(string, cert.Spec, int) outcome{
		"on one machine": func(machine string, s cert.Spec, n int) outcome {
			if machine == "node1" {
				return failing(order.FailKernelBoot, "it panicked")(machine, s, n)
			}
			return outcome{}
		},
		"on all": failing(order.FailKernelBoot, "it panicked"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, func(l *lab) {
				c := l.over(l.begin(func(c *cert.NewCampaign) { c.Machines.Except = []string{"spare"} }).ID)
				require.Equal(l, cert.CampaignDeciding, c.State)
				for _, host := range []string{"node1", "node2"} {
					g := l.target(c.ID, host)
					if name == "on one machine" && host == "node2" {
						require.Equal(l, cert.TargetDone, g.State)
						continue
					}
					require.Equal(l, cert.TargetBlocked, g.State)
					require.Equal(l, "the subject did not boot twice: it panicked", g.Why)
					require.Equal(l, []string{cert.TryFirst, cert.TryKernel}, purposes(g), "it is never failed over")
					for _, try := range g.Tries {
						require.Equal(l, host, try.Hostname)
						require.False(l, try.Infra, "it says something about the subject")
					}
				}
			}, nodes("node1", "node2", "spare"), func(l *lab) { l.does = does })
		})
	}
}

func TestFaultPlanIsNotKnownThere(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin().ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "there is no plan sru here", g.Why)
		require.Len(l, g.Tries, 1, "it would fail again")
		require.Equal(l, cert.TargetDone, l.target(c.ID, "node2").State)
		p, err := l.engine().PlanCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.Subject.Version = "6.8.0-52.53" }), "ada")
		require.NoError(l, err)
		require.Contains(l, p.Warnings, "plan com.canonical.certification::sru was not known to 1 machine when it was last run there: node1")
	}, nodes("node1", "node2"), func(l *lab) {
		l.does = func(machine string, s cert.Spec, n int) outcome {
			if machine == "node1" {
				return failing(order.FailPlanUnknown, "there is no plan sru here")(machine, s, n)
			}
			return outcome{}
		}
	})
}

func TestFaultMachineFailsToDeploy(t *testing.T) {
	t.Parallel()
	deploys := func(machine string, nth int) *cert.Failure {
		return &cert.Failure{Type: cert.FailDeploy, Message: machine + " was not deployed"}
	}
	inLab(t, func(l *lab) { // nothing is left to try
		c := l.over(l.begin().ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "deploy: node1 was not deployed (tried 3 times)", g.Why)
		require.Equal(l, []string{cert.TryFirst, cert.TryRetry, cert.TryRetry}, purposes(g))
		require.GreaterOrEqual(l, g.Tries[2].Created.Sub(g.Tries[1].Created), 2*time.Minute, "less and less often")
	}, nodes("node1"), func(l *lab) { l.deploys = deploys })
	inLab(t, func(l *lab) { // an equal one does
		c := l.over(l.begin(func(c *cert.NewCampaign) { c.Machines = cert.MachineChoice{Names: []string{"node1"}} }).ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, []string{cert.TryFirst, cert.TryFailover}, purposes(g))
		require.Equal(l, "node2", g.Tries[1].Hostname)
	}, nodes("node1"), func(l *lab) {
		l.add("another", func(m *cert.FleetMachine) { m.Class = "crate" })
		l.add("node2")
		l.deploys = func(machine string, nth int) *cert.Failure {
			if machine == "node1" {
				return deploys(machine, nth)
			}
			return nil
		}
	})
}

func TestFaultMachineRetiredInTheMiddle(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1; c.Kind = cert.KindAdhoc; c.Name = "a" })
		l.until("the first runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		l.change("node2", func(m *cert.FleetMachine) { m.State, m.Why = cert.MachineRetired, "scrapped" })
		c = l.over(c.ID)
		require.Equal(l, cert.TargetDone, l.target(c.ID, "node1").State)
		g := l.target(c.ID, "node2")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "node2: it is retired: scrapped", g.Why)
	}, nodes("node1", "node2"))
}

func TestFaultDeadlineLeavesNoTime(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		due := l.now().Add(24*time.Hour + 90*time.Second) // the policy leaves 24 hours for the decision
		c := l.over(l.begin(func(c *cert.NewCampaign) { c.Due = &due; c.AtOnce = 1 }).ID)
		require.Equal(l, cert.TargetDone, l.target(c.ID, "node1").State)
		g := l.target(c.ID, "node3")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Contains(l, g.Why, "not begun: it could not be over by")
		require.Contains(l, g.Why, "which leaves 24 hours for the decision")
		require.Empty(l, g.Tries)
	}, nodes("node1", "node2", "node3"))
}

func TestFaultResultsSayNothingAboutTheSubject(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin().ID)
		g := l.target(c.ID, "node1-unproved")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "unproved: another kernel ran (tried 3 times)", g.Why)
		require.Zero(l, g.Counted)
	}, nodes("node1-unproved"))
}

func TestFaultRunCancelledByAPerson(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		l.until("it runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		_, err := l.db.UpdateRun(context.Background(), l.target(c.ID, "node1").Tries[0].Run, nil, func(r *cert.Run) (bool, error) { return r.Cancel(l.now()) })
		require.NoError(l, err)
		c = l.over(c.ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Contains(l, g.Why, "was cancelled (certlab campaign retry noble-linux-6.8.0-51.52 --machine node1)")
	}, nodes("node1"))
}

func TestFaultFleetCannotAnswerNow(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		l.until("it says so", func() bool { return l.target(c.ID, "node1").Why == "the queue is full" })
		l.mu.Lock()
		l.refuse = func(string) error { return nil }
		l.mu.Unlock()
		require.Equal(l, cert.CampaignDeciding, l.over(c.ID).State)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, []string{cert.TryFirst}, purposes(g), "no try was lost to it")
	}, nodes("node1"), func(l *lab) {
		l.refuse = func(string) error { return cert.Errorf(cert.TooMany, "the queue is full") }
	})
}

func TestFaultIncidentSpoilsARun(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		var first cert.Try
		l.until("it is followed", func() bool {
			g := l.target(c.ID, "node1")
			if len(g.Tries) != 2 {
				return false
			}
			first = g.Tries[0]
			return true
		})
		g := l.target(c.ID, "node1")
		require.Equal(l, "incident i1 has spoilt run "+first.Run+": the lab does it again", g.Why)
		require.Equal(l, cert.RepeatID(first.Run), g.Tries[1].Run)
		time.Sleep(10 * time.Minute)
		require.Len(l, l.target(c.ID, "node1").Tries, 2, "the campaign begins nothing by itself")
		l.store(func(tx *sqlite.FleetTx) error { // as package provision does
			r, err := tx.Reservation(first.Reservation)
			if err != nil {
				return err
			}
			next := cert.Reservation{ID: cert.RepeatID(r.ID), Kind: r.Kind, State: cert.ReservationQueued, Holder: r.Holder, Want: r.Want, Created: l.now(), Run: cert.RepeatID(r.Run), Spec: r.Spec, Repeats: r.ID}
			return tx.AddReservation(next)
		})
		require.Equal(l, cert.CampaignDeciding, l.over(c.ID).State)
		g = l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, 2, g.Counted)
		require.Equal(l, "i1", g.Tries[0].Suspect)
	}, nodes("node1"), func(l *lab) {
		l.does = func(machine string, s cert.Spec, n int) outcome {
			if n == 1 {
				return outcome{failure: &cert.Failure{Type: order.FailTimeout, Message: "too long"}, suspect: "i1"}
			}
			return outcome{}
		}
	})
}

func TestANewerSpinSupersedes(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		old := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1 })
		l.until("it runs", func() bool { return l.target(old.ID, "node1").State == cert.TargetRunning })
		fresh := l.begin(func(c *cert.NewCampaign) { c.Subject.Version = "6.8.0-52.53" })
		require.Equal(l, old.ID, fresh.Supersedes)
		old = l.over(old.ID)
		require.Equal(l, cert.CampaignSuperseded, old.State)
		require.Equal(l, fresh.ID, old.SupersededBy)
		require.Contains(l, old.Ending, "superseded by noble-linux-6.8.0-52.53")
		require.Equal(l, cert.TargetDone, l.target(old.ID, "node1").State, "what runs goes on to its end")
		require.Equal(l, cert.TargetCancelled, l.target(old.ID, "node2").State)
		_, _, err := l.engine().StartCampaign(context.Background(), l.request(), "ada", cert.Engineer)
		require.ErrorContains(l, err, "campaign noble-linux-6.8.0-52.53 is of a newer one")
		require.Equal(l, cert.CampaignDeciding, l.over(fresh.ID).State)
	}, nodes("node1", "node2"))
}

func TestARequestIsRepeatedSafely(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		id := cert.NewID(cert.CampaignID, l.now())
		first := l.begin(func(c *cert.NewCampaign) { c.ID = id })
		again, fresh, err := l.engine().StartCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.ID = id }), "ada", cert.Engineer)
		require.NoError(l, err)
		require.False(l, fresh)
		require.Equal(l, first.ID, again.ID)
		_, _, err = l.engine().StartCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.ID, c.AtOnce = id, 3 }), "ada", cert.Engineer)
		require.ErrorContains(l, err, "is there already, and was asked for in another way")
		_, _, err = l.engine().StartCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.Name = first.Name }), "ada", cert.Engineer)
		require.ErrorContains(l, err, "an open one is called that")
	}, nodes("node1"))
}

func TestPausedNothingIsBegun(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1 })
		l.until("it runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		yes, no, priority := true, false, -3
		_, err := l.engine().ChangeCampaign(context.Background(), c.ID, cert.ChangeCampaign{Paused: &yes, Priority: &priority, Reason: "lunch"}, "ada", cert.Engineer)
		require.NoError(l, err)
		time.Sleep(10 * time.Minute)
		require.Equal(l, cert.TargetDone, l.target(c.ID, "node1").State)
		require.Equal(l, cert.TargetWaiting, l.target(c.ID, "node2").State)
		require.Equal(l, "paused by ada: lunch", l.campaign(c.ID).Ending)
		_, err = l.engine().ChangeCampaign(context.Background(), c.ID, cert.ChangeCampaign{Paused: &no}, "ada", cert.Engineer)
		require.NoError(l, err)
		require.Equal(l, cert.CampaignDeciding, l.over(c.ID).State)
		r, err := l.db.Reservation(context.Background(), l.target(c.ID, "node2").Tries[0].Reservation)
		require.NoError(l, err)
		require.Equal(l, -3, r.Priority)
	}, nodes("node1", "node2"))
}

var _ campaign.Fleet = mortal{}

// TestFaultLostMachineComesBack has a run given up, and its machine come back with the results.
func TestFaultLostMachineComesBack(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.over(l.begin().ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetMissing, g.State)
		require.Equal(l, "machine-lost: it kept silent (tried 3 times)", g.Why)
		run := g.Tries[2].Run
		f, err := l.db.AddFile(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", 7), Size: 1, Received: l.now()})
		require.NoError(l, err)
		require.NoError(l, l.db.SaveIndex(ctx, f.Submission, cert.Index{Version: 1, Plan: cert.PlanSRU}))
		_, err = l.db.UpdateRun(ctx, run, nil, func(r *cert.Run) (bool, error) {
			return r.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: 9, Origin: cert.FromOrder, State: cert.Completed}, Finished: l.now()}, l.now())
		})
		require.NoError(l, err)
		l.until("they count", func() bool { return l.target(c.ID, "node1").State == cert.TargetDone })
		require.Equal(l, f.Submission, l.target(c.ID, "node1").Submission)
		require.Contains(l, l.log(c.ID), "late: node1: run "+run+" was given up, and its results have come after all")
	}, nodes("node1"), func(l *lab) { l.does = failing(order.FailMachineLost, "it kept silent") })
}

// TestFaultAskedForMoreThanThePolicy starts campaigns that leave out, or compare, something else than their policy says: whoever may start one may not
// decide by that.
func TestFaultAskedForMoreThanThePolicy(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		plan := func(change func(*cert.NewCampaign)) cert.CampaignPlan {
			want := l.request(func(c *cert.NewCampaign) { c.Baseline = "" }, change)
			p, err := l.engine().PlanCampaign(context.Background(), want, "ada")
			require.NoError(l, err)
			return p
		}
		const warning = "it does not run or compare what policy sru says, but what was asked for: a person has to decide"
		for name, change := range map[string]func(*cert.NewCampaign){
			"exclude":      func(c *cert.NewCampaign) { c.Exclude = []string{"a::.*"} },
			"match":        func(c *cert.NewCampaign) { c.Match = []string{"a::.*"} },
			"plan":         func(c *cert.NewCampaign) { c.Plan = "a::smoke" },
			"baseline":     func(c *cert.NewCampaign) { c.Baseline = "6.8.0-50.51" },
			"no baseline":  func(c *cert.NewCampaign) { c.Baseline = "none" },
			"same machine": nil,
		} {
			if change == nil {
				p := plan(func(*cert.NewCampaign) {})
				require.True(l, p.Campaign.Rules.Decide.Auto)
				require.NotContains(l, p.Warnings, warning)
				require.Equal(l, len(p.Targets), p.Campaign.Size)
				continue
			}
			p := plan(change)
			require.False(l, p.Campaign.Rules.Decide.Auto, name)
			require.Contains(l, p.Warnings, warning, name)
		}
	}, nodes("node1", "node2"))
}
