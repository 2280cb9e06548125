package campaign_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

const sruPlan = cert.PlanSRU

// upload adds a submission that was made by hand.
func (l *lab) upload(host, plan, kernel string) string {
	l.Helper()
	ctx := context.Background()
	m, err := l.db.Machine(ctx, host)
	require.NoError(l, err)
	now := l.now()
	run := cert.Run{ID: cert.NewID(cert.RunID, now), Machine: m.ID, Hostname: host, Origin: cert.FromUpload, RequestedBy: "ada", State: cert.Completed, Created: now, Finished: &now}
	id, fresh, err := l.db.AddUpload(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: fmt.Sprintf("%064x", now.UnixNano()), Size: 1, Received: now})
	require.NoError(l, err)
	require.True(l, fresh)
	require.NoError(l, l.db.SaveIndex(ctx, id, cert.Index{Version: 1, Plan: plan, Kernel: kernel}))
	time.Sleep(time.Second) // the next has another hash
	return id
}

func (l *lab) attach(name, submission string) (cert.Target, error) {
	return l.engine().AttachSubmission(context.Background(), name, cert.AttachSubmission{Submission: submission, Reason: "by hand"}, "ada", cert.Engineer)
}

func TestFaultSubmissionIsNotTheTargets(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin(func(c *cert.NewCampaign) { c.Machines.Except = []string{"other"} }).ID)
		require.Equal(l, cert.TargetMissing, l.target(c.ID, "node1").State)
		for kernel, why := range map[string]string{"": "it does not say which kernel ran, so that nothing proves that it was 6.8.0-51-generic",
			"6.8.0-50-generic": "it was made on kernel 6.8.0-50-generic, and the campaign is of 6.8.0-51-generic"} {
			_, err := l.attach(c.ID, l.upload("node1", sruPlan, kernel))
			require.ErrorContains(l, err, why)
		}
		_, err := l.attach(c.ID, l.upload("node1", "a::b", "6.8.0-51-generic"))
		require.ErrorContains(l, err, "it is of plan a::b, and campaign noble-linux-6.8.0-51.52 runs com.canonical.certification::sru on node1")
		_, err = l.attach(c.ID, l.upload("other", sruPlan, "6.8.0-51-generic"))
		require.ErrorContains(l, err, "its machine, other, is not in campaign noble-linux-6.8.0-51.52")
		require.Equal(l, cert.TargetMissing, l.target(c.ID, "node1").State)
		good := l.upload("node1", sruPlan, "6.8.0-51-generic")
		for range 2 { // it can be repeated
			g, err := l.attach(c.ID, good)
			require.NoError(l, err)
			require.Equal(l, good, g.Submission)
		}
		g := l.target(l.over(c.ID).ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Len(l, g.Tries, 2)
		require.Equal(l, cert.TryAttached, g.Tries[1].Purpose)
	}, nodes("node1", "other"), func(l *lab) { l.does = failing(order.FailPlanUnknown, "no such plan") })
}

func TestFaultSubmissionInTwoCampaigns(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		first := l.over(l.begin(func(c *cert.NewCampaign) { c.Name = "first" }).ID)
		second := l.over(l.begin(func(c *cert.NewCampaign) { c.Name, c.Kind = "second", cert.KindAdhoc }).ID)
		_, err := l.attach(second.ID, l.target(first.ID, "node1").Submission)
		require.ErrorContains(l, err, "it counts in campaign first already, and can count in one only")
		require.Equal(l, cert.Conflict, cert.CodeOf(err))
		require.Len(l, l.target(second.ID, "node1").Tries, 1)
	}, nodes("node1"))
}

func TestFaultSubmissionAfterTheVerdict(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.over(l.begin().ID)
		require.NoError(l, l.db.ChangeCampaigns(context.Background(), func(tx *sqlite.CampaignTx) error {
			c.State = cert.CampaignApproved
			return tx.PutCampaign(c)
		}))
		_, err := l.attach(c.ID, l.upload("node1", sruPlan, "6.8.0-51-generic"))
		require.ErrorContains(l, err, "campaign noble-linux-6.8.0-51.52 is approved, and what comes after that does not change it")
		_, err = l.engine().RetryTargets(context.Background(), c.ID, cert.RetryTargets{State: "done", Reason: "x"}, "ada", cert.Engineer)
		require.ErrorContains(l, err, "cannot run anything more in campaign noble-linux-6.8.0-51.52: it is approved (start a new one)")
		_, err = l.engine().CancelCampaign(context.Background(), c.ID, cert.EndCampaign{Reason: "x"}, "ada", cert.Engineer)
		require.ErrorContains(l, err, "it is approved already")
		require.Len(l, l.target(c.ID, "node1").Tries, 1)
	}, nodes("node1"))
}

func TestTargetsAreTriedAgainOnRequest(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.over(l.begin().ID)
		retry := func(r cert.RetryTargets) (cert.Retried, error) {
			r.Reason = "look again"
			return l.engine().RetryTargets(ctx, c.ID, r, "ada", cert.Engineer)
		}
		_, err := retry(cert.RetryTargets{})
		require.ErrorContains(l, err, "cannot try again without knowing what")
		_, err = retry(cert.RetryTargets{Machines: []string{"ndoe1"}})
		require.ErrorContains(l, err, `campaign noble-linux-6.8.0-51.52 has no machine "ndoe1" (did you mean node1?)`)
		_, err = retry(cert.RetryTargets{State: "missing"})
		require.ErrorContains(l, err, "cannot try anything again: no machine of campaign")
		_, err = l.engine().RetryTargets(ctx, c.ID, cert.RetryTargets{State: "done", Reason: "x"}, "eve", cert.Viewer)
		require.ErrorContains(l, err, "that needs the role engineer")

		out, err := retry(cert.RetryTargets{Machines: []string{"node1"}, Jobs: []string{"a::b/c.d"}})
		require.NoError(l, err)
		require.Len(l, out.Runs, 1)
		require.Equal(l, cert.CampaignActive, l.campaign(c.ID).State)
		again, err := retry(cert.RetryTargets{Machines: []string{"node1"}})
		require.NoError(l, err)
		require.Contains(l, again.Skipped["node1"], "wait until that is over")
		l.over(c.ID)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, []string{cert.TryFirst, cert.TryRerun}, purposes(g))
		require.Equal(l, 1, g.Counted, "some jobs do not count as the plan")
		require.Equal(l, out.Runs[0], g.Tries[1].Run)
		run, err := l.db.Run(ctx, out.Runs[0])
		require.NoError(l, err)
		require.Equal(l, []string{`^a::b/c\.d$`}, run.Spec.Match)

		whole := cert.RetryTargets{ID: cert.NewID(cert.TargetID, l.now()), State: "done"}
		first, err := retry(whole)
		require.NoError(l, err)
		l.over(c.ID)
		second, err := retry(whole)
		require.NoError(l, err)
		require.Equal(l, first, second)
		g = l.target(c.ID, "node1")
		require.Len(l, g.Tries, 3)
		require.Equal(l, 3, g.Counted)
	}, nodes("node1"))
}

func TestAFindingIsConfirmedOnTheBaseline(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		c := l.over(l.begin(func(c *cert.NewCampaign) { c.Baseline = "6.8.0-50.51" }).ID)
		g := l.target(c.ID, "node1")
		finding := func(job string) string {
			f := cert.Finding{ID: cert.NewID(cert.FindingID, l.now()), Campaign: c.ID, Target: g.ID, Machine: g.Machine, Class: cert.ClassRegression, Job: job, Attention: true, Issue: "k1"}
			require.NoError(l, l.db.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return tx.PutFinding(f) }))
			return f.ID
		}
		_, err := l.engine().ConfirmFinding(ctx, finding(""), cert.ConfirmFinding{}, "ada", cert.Engineer)
		require.ErrorContains(l, err, "it is no job's, so that there is nothing to run on the baseline")
		id := finding("a::b")
		out, err := l.engine().ConfirmFinding(ctx, id, cert.ConfirmFinding{}, "ada", cert.Engineer)
		require.NoError(l, err)
		_, err = l.engine().ConfirmFinding(ctx, id, cert.ConfirmFinding{}, "ada", cert.Engineer)
		require.ErrorContains(l, err, "wait until that is over")
		l.over(c.ID)
		g = l.target(c.ID, "node1")
		require.Equal(l, cert.TargetDone, g.State)
		require.Equal(l, []string{cert.TryFirst, cert.TryConfirm}, purposes(g))
		require.Equal(l, id, g.Tries[1].Finding)
		require.Equal(l, 1, g.Counted)
		run, err := l.db.Run(ctx, out.Runs[0])
		require.NoError(l, err)
		require.Equal(l, "6.8.0-50.51", run.Spec.Subject.Version)
		require.Empty(l, run.Spec.Subject.Pocket, "what is released is not in proposed")
		require.Equal(l, []string{"^a::b$"}, run.Spec.Match)
	}, nodes("node1"))
}

func TestAPlanSaysWhatWouldBeDone(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		p, err := l.engine().PlanCampaign(ctx, l.request(func(c *cert.NewCampaign) { c.Baseline = "" }), "ada")
		require.NoError(l, err)
		require.Nil(l, p.Finish, "nothing was run yet")
		require.Equal(l, "plan com.canonical.certification::sru has not been run here yet", p.Basis)
		require.Contains(l, p.Warnings[0], "this lab knows no released version of linux (generic) for noble before 6.8.0-51.52")
		all, _, err := l.db.Campaigns(ctx, sqlite.CampaignFilter{}, sqlite.Page{Limit: 10})
		require.NoError(l, err)
		require.Empty(l, all)

		released := l.over(l.begin(func(c *cert.NewCampaign) { c.Subject.Version, c.Subject.Pocket = "6.8.0-50.51", "updates" }).ID)
		due := l.now().Add(24*time.Hour + 10*time.Minute)
		p, err = l.engine().PlanCampaign(ctx, l.request(func(c *cert.NewCampaign) { c.Baseline, c.Due = "", &due }), "ada")
		require.NoError(l, err)
		require.Equal(l, "6.8.0-50.51", p.Campaign.Baseline.Version)
		require.Equal(l, "the last released version that this lab knows: runs took it from updates", p.Campaign.Baseline.Why)
		require.Equal(l, map[string]int{sruPlan: 2}, p.Plans)
		require.InDelta(l, runTime.Seconds(), p.Seconds[sruPlan], 5)
		require.True(l, *p.Holds)
		p, err = l.engine().PlanCampaign(ctx, l.request(func(c *cert.NewCampaign) {
			c.Machines = cert.MachineChoice{OfBaseline: true}
			c.Baseline = "6.8.0-50.51"
		}), "ada")
		require.NoError(l, err)
		require.Len(l, p.Targets, 2)
		soon := l.now().Add(24*time.Hour + 30*time.Second)
		p, err = l.engine().PlanCampaign(ctx, l.request(func(c *cert.NewCampaign) { c.Due = &soon }), "ada")
		require.NoError(l, err)
		require.False(l, *p.Holds)
		require.Contains(l, p.Warnings[len(p.Warnings)-1], "the due date does not hold: ")
		_ = released
	}, nodes("node1", "node2"))
}

func TestFaultBaselineOfAnotherPlan(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		old := l.over(l.begin(func(c *cert.NewCampaign) {
			c.Kind, c.Plan, c.Subject.Version = cert.KindAdhoc, "a::other", "6.8.0-50.51"
		}).ID)
		p, err := l.engine().PlanCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.Baseline = old.Name }), "ada")
		require.NoError(l, err)
		require.Contains(l, p.Warnings, "the baseline, campaign "+old.Name+", is of another plan: nothing in it ran "+sruPlan+"; machines with that plan have no baseline")
		_, err = l.engine().PlanCampaign(context.Background(), l.request(func(c *cert.NewCampaign) { c.Baseline, c.Subject.Source = old.Name, "linux-oem-6.8" }), "ada")
		require.ErrorContains(l, err, "cannot compare with campaign "+old.Name+": it is of ")
	}, nodes("node1"))
}

func TestFaultPolicyRequiresWhatThePlanDoesNotHave(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		ctx := context.Background()
		l.over(l.begin().ID)
		rules := cert.DefaultPolicy(cert.KindSRU)
		rules.Jobs.Required = []string{"a::suspend"}
		require.NoError(l, l.db.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
			_, err := tx.AddPolicy(cert.StoredPolicy{PolicyRef: cert.PolicyRef{Name: "strict"}, Policy: rules})
			return err
		}))
		_, err := l.engine().PlanCampaign(ctx, l.request(func(c *cert.NewCampaign) { c.Policy = "strict"; c.Subject.Version = "6.8.0-52.53" }), "ada")
		require.ErrorContains(l, err, "cannot start this campaign: the policy requires a::suspend, and plan com.canonical.certification::sru has no such job on this machine")
	}, nodes("node1"))
}

func TestATimelineTellsOfARun(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		l.until("it is queued", func() bool { return len(l.target(c.ID, "node1").Tries) == 1 })
		id := l.target(c.ID, "node1").Tries[0].Run
		tl, err := l.engine().Timeline(context.Background(), id)
		require.NoError(l, err)
		require.Equal(l, c.ID, tl.Campaign)
		require.Equal(l, cert.Queued, tl.Run.State)
		l.over(c.ID)
		tl, err = l.engine().Timeline(context.Background(), id)
		require.NoError(l, err)
		require.Equal(l, cert.Completed, tl.Run.State)
		require.Equal(l, "queued", tl.Phases[0].Name)
		require.Equal(l, "completed", tl.Phases[len(tl.Phases)-1].Name)
		require.Len(l, tl.Uploads, 1)
		_, err = l.engine().Timeline(context.Background(), "r0")
		require.Equal(l, cert.NotFound, cert.CodeOf(err))
	}, nodes("node1"))
}
