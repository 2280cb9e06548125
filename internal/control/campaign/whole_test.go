package campaign_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

func TestEachClassOfMachineGetsItsPlan(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		p, err := l.engine().PlanCampaign(context.Background(), l.request(), "ada")
		require.NoError(l, err)
		require.Equal(l, map[string]int{cert.PlanSRU: 2, cert.PlanSRUServer: 1}, p.Plans)
		c := l.over(l.begin().ID)
		require.Equal(l, cert.CampaignDeciding, c.State, "it is one campaign, with one verdict")
		for host, plan := range map[string]string{"desk1": cert.PlanSRU, "desk2": cert.PlanSRU, "rack1": cert.PlanSRUServer} {
			g := l.target(c.ID, host)
			require.Equal(l, cert.TargetDone, g.State)
			require.True(l, g.Required)
			run, err := l.db.Run(context.Background(), g.Tries[0].Run)
			require.NoError(l, err)
			require.Equal(l, plan, run.Spec.Plan)
		}
	}, nodes("desk1", "desk2"), func(l *lab) {
		l.add("rack1", func(m *cert.FleetMachine) { m.Tags = []string{"server"} })
	})
}

// TestOtherSubjectsThanKernels has an image, the machines as they are and other packages go through a campaign.
func TestOtherSubjectsThanKernels(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]cert.Subject{
		"image":    {Kind: cert.SubjectImage, Series: "noble", Serial: "20261120"},
		"machine":  {Kind: cert.SubjectMachine},
		"packages": {Kind: cert.SubjectPackages, Series: "noble", Source: "mesa", Version: "24.0-1", Pocket: "proposed", Packages: []order.Package{{Name: "libgl1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, func(l *lab) {
				c := l.over(l.begin(func(c *cert.NewCampaign) { c.Kind, c.Subject = cert.KindAdhoc, s }).ID)
				require.Equal(l, cert.CampaignDeciding, c.State)
				node, old := l.target(c.ID, "node1"), l.target(c.ID, "old")
				require.Equal(l, cert.TargetDone, node.State, node.Why)
				run, err := l.db.Run(context.Background(), node.Tries[0].Run)
				require.NoError(l, err)
				switch s.Kind {
				case cert.SubjectPackages:
					require.Equal(l, []order.Package{{Name: "libgl1", Version: "24.0-1"}}, run.Spec.Subject.Packages)
					require.Contains(l, old.Why, "it runs ubuntu@22.04, and the subject is for noble (24.04)")
				case cert.SubjectImage:
					require.Nil(l, run.Spec.Subject, "it is deployed, and nothing is installed")
					require.Contains(l, old.Why, "an image is tested by deploying it")
				case cert.SubjectMachine:
					require.Nil(l, run.Spec.Subject)
					require.Equal(l, cert.TargetDone, old.State, "as it is, each fits")
					return
				}
				require.Equal(l, cert.TargetExcluded, old.State)
				require.Empty(l, old.Tries)
			}, nodes("node1"), func(l *lab) {
				l.add("old", unit, func(m *cert.FleetMachine) { m.Base = "ubuntu@22.04" })
			})
		})
	}
}

func TestNoMoreRunAtOnceThanIsAsked(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 2 })
		most := 0
		l.until("all are through", func() bool {
			open, err := l.db.OpenTries(context.Background(), c.ID)
			require.NoError(l, err)
			most = max(most, len(open))
			return l.campaign(c.ID).State == cert.CampaignDeciding
		})
		require.Equal(l, 2, most)
		counts, err := l.db.TargetCounts(context.Background(), c.ID)
		require.NoError(l, err)
		require.Equal(l, 5, counts[cert.TargetDone])
	}, nodes("node1", "node2", "node3", "node4", "node5"))
}

func TestWhatAKnownIssueHitIsRunAgain(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.over(l.begin().ID)
		issue := cert.KnownIssue{ID: cert.NewID(cert.IssueID, l.now()), Version: 1, Title: "wifi is lost", Link: "https://bugs.launchpad.net/bugs/1", Owner: "ada", Match: cert.IssueMatch{Job: "a::*"}}
		require.NoError(l, l.db.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return tx.AddIssue(issue, l.now()) }))
		again := func(issue string, role cert.Role) (cert.Retried, error) {
			return l.engine().RerunIssue(ctx, issue, "it is fixed", "ada", role)
		}
		_, err := again(issue.ID, cert.Engineer)
		require.ErrorContains(l, err, "it hit nothing in a campaign that is open")
		for _, hit := range []struct{ host, job, issue string }{{"node1", "a::wifi", issue.ID}, {"node1", "a::bluetooth", issue.ID}, {"node2", "a::wifi", issue.ID}, {"node3", "a::disk", ""}} {
			g := l.target(c.ID, hit.host)
			f := cert.Finding{ID: cert.NewID(cert.FindingID, l.now()), Campaign: c.ID, Target: g.ID, Machine: g.Machine, Class: cert.ClassRegression, Job: hit.job, Attention: true, Issue: hit.issue}
			require.NoError(l, l.db.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return tx.PutFinding(f) }))
		}
		_, err = again(issue.ID, cert.Viewer)
		require.ErrorContains(l, err, "cannot run again what an issue hit: that needs the role engineer")
		_, err = again(cert.NewID(cert.IssueID, l.now().Add(time.Second)), cert.Engineer)
		require.Equal(l, cert.NotFound, cert.CodeOf(err))
		out, err := again(issue.ID, cert.Engineer)
		require.NoError(l, err)
		require.Len(l, out.Runs, 2, "one for each machine that it hit")
		l.over(c.ID)
		for host, jobs := range map[string][]string{"node1": {"a::wifi", "a::bluetooth"}, "node2": {"a::wifi"}} {
			g := l.target(c.ID, host)
			require.Equal(l, []string{cert.TryFirst, cert.TryRerun}, purposes(g))
			require.ElementsMatch(l, jobs, g.Tries[1].Jobs)
			require.Equal(l, cert.TargetDone, g.State)
			require.Equal(l, 1, g.Counted, "the whole plan's results stay those that count")
		}
		require.Len(l, l.target(c.ID, "node3").Tries, 1)
	}, nodes("node1", "node2", "node3"))
}

func TestWhenItIsOverIsToldAtAnyMoment(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		outlook := func(c cert.Campaign) cert.CampaignView {
			v := cert.CampaignView{Campaign: l.campaign(c.ID)}
			require.NoError(l, l.engine().Forecast(ctx, &v))
			return v
		}
		first := l.begin(func(c *cert.NewCampaign) { c.Subject.Version = "6.8.0-50.51" })
		v := outlook(first)
		require.Nil(l, v.Finish)
		require.Equal(l, "plan com.canonical.certification::sru has not been run here yet", v.Basis)
		l.over(first.ID)

		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1 })
		l.until("it runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
		v = outlook(c)
		require.NotNil(l, v.Finish)
		require.Greater(l, v.Finish.Sub(l.now()), runTime, "the second one runs after the first")
		require.Contains(l, v.Basis, "the last 2 runs of com.canonical.certification::sru")
		require.Contains(l, v.Basis, "1 at once")
		require.True(l, *v.Holds)
		yes := true
		_, err := l.engine().ChangeCampaign(ctx, c.ID, cert.ChangeCampaign{Paused: &yes}, "ada", cert.Engineer)
		require.NoError(l, err)
		v = outlook(c)
		require.Nil(l, v.Finish)
		require.Equal(l, "the campaign is paused", v.Basis)
	}, nodes("node1", "node2"))
}

func TestWhatHasRunStaysWhenACampaignIsCancelled(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.begin(func(c *cert.NewCampaign) { c.AtOnce = 1 })
		l.until("the first is done", func() bool { return l.target(c.ID, "node1").State == cert.TargetDone })
		l.until("the second runs", func() bool { return l.target(c.ID, "node2").State == cert.TargetRunning })
		_, err := l.engine().CancelCampaign(ctx, c.ID, cert.EndCampaign{}, "ada", cert.Engineer)
		require.ErrorContains(l, err, "cannot cancel a campaign without a reason")
		_, err = l.engine().CancelCampaign(ctx, c.ID, cert.EndCampaign{Reason: "withdrawn"}, "eve", cert.Viewer)
		require.ErrorContains(l, err, "cannot cancel a campaign: that needs the role engineer")
		require.Equal(l, cert.CampaignActive, l.campaign(c.ID).State)
		for range 2 { // it can be repeated
			_, err = l.engine().CancelCampaign(ctx, c.ID, cert.EndCampaign{Reason: "withdrawn"}, "ada", cert.Engineer)
			require.NoError(l, err)
		}
		c = l.over(c.ID)
		require.Equal(l, cert.CampaignCancelled, c.State)
		require.Equal(l, "cancelled by ada: withdrawn", c.Ending)
		done := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, done.State)
		require.NotEmpty(l, done.Submission)
		require.Equal(l, cert.TargetCancelled, l.target(c.ID, "node2").State)
		require.Equal(l, cert.TargetCancelled, l.target(c.ID, "node3").State)
		require.Empty(l, l.target(c.ID, "node3").Tries)
		r, err := l.db.Reservation(ctx, l.target(c.ID, "node2").Tries[0].Reservation)
		require.NoError(l, err)
		require.True(l, r.Final(), "the machine is given back")
	}, nodes("node1", "node2", "node3"))
}
