package review_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestACleanCampaignIsApprovedByThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{})
	require.Equal(t, cert.TargetDone, w.target(0).State)
	require.Equal(t, cert.CampaignActive, w.state(), "one machine is still to come")
	w.deliver(1, made{})
	w.deciding()
	require.Equal(t, cert.CampaignApproved, w.state())
	v, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	require.Equal(t, cert.ByPolicy, v.By)
	require.Len(t, v.Machines, 2)
	require.NotEmpty(t, v.Machines[0].SHA256)
	log := w.intact()
	require.Len(t, log, 1)
	require.Equal(t, log[0].Hash, v.Head)
	require.Equal(t, []int64{1}, v.Decisions)
	require.Equal(t, cert.StandApproved, w.view().Standing)
}

func TestARegressionWaitsForAPersonAndIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}, logs: map[string]string{w.jobs[2]: "no carrier on wlan0"}})
	w.deliver(1, made{})
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	v := w.view()
	require.Equal(t, cert.StandUndecided, v.Standing)
	require.Equal(t, 1, v.Blockers)
	require.Len(t, v.Groups, 1)
	g := v.Groups[0]
	require.Equal(t, cert.ClassRegression, g.Class)
	require.Equal(t, w.jobs[2], g.Job)
	require.Equal(t, 1, g.Machines)
	require.Equal(t, 2, g.Of)
	require.Equal(t, "no carrier on wlan0", g.Excerpt)
	require.NotEmpty(t, v.Needs)

	f, err := w.r.Finding(t.Context(), g.Findings[0])
	require.NoError(t, err)
	require.Equal(t, "no carrier on wlan0", f.Excerpt)
	require.NotNil(t, f.Old)
	require.Equal(t, "pass", f.Old.Outcome)
	require.Equal(t, oldKernel, f.Old.Kernel)
	require.Len(t, f.Others, 1)
	require.Equal(t, "node2", f.Others[0].Hostname)
	require.NotEmpty(t, f.Commands)

	until := w.now().Add(24 * time.Hour)
	_, err = w.decide(cert.NewDecision{Action: cert.Waive, Findings: g.Findings, Until: &until, Reason: "the access point was off"})
	require.NoError(t, err)
	w.turn()
	require.Equal(t, cert.CampaignApproved, w.state(), "nothing is open any more")
	require.Len(t, w.intact(), 2)
}

func TestAPersonDecidesOnMachinesThenOnTheCampaign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	for n := range 2 {
		w.deliver(n, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	}
	w.deciding()
	out, err := w.decide(cert.NewDecision{Action: cert.Approve, All: true, Filter: cert.Filter{Job: "*::wifi"}, Reason: "known to be flaky"})
	require.NoError(t, err)
	require.Len(t, out.Decisions, 2)
	out, err = w.decide(cert.NewDecision{Action: cert.Approve, Reason: "good enough"})
	require.NoError(t, err)
	require.NotNil(t, out.Verdict)
	require.Equal(t, "grace", out.Verdict.By)
	require.Equal(t, cert.CampaignApproved, w.state())
	require.Len(t, w.intact(), 3)
}

func TestAConfirmationTellsTheSubjectFromTheMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	f := w.findings(cert.Filter{Class: cert.ClassRegression})[0]
	require.Nil(t, f.Confirm)
	w.deliver(0, made{kernel: oldKernel, version: oldVersion}, func(t *cert.Try) { t.Purpose, t.Finding, t.Jobs = cert.TryConfirm, f.ID, []string{f.Job} })
	f = w.findings(cert.Filter{Class: cert.ClassRegression})[0]
	require.NotNil(t, f.Confirm)
	require.Equal(t, "subject", f.Confirm.Says)
	require.Equal(t, "passes on 6.8.0-50-generic: it is the subject", f.Confirm.Text)
	require.Equal(t, cert.TargetDone, w.target(0).State)
}

func TestARetryThatPassesIsShownAsWhatItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	w.deliver(0, made{}, func(t *cert.Try) { t.Purpose = cert.TryRerun })
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	f := w.findings(cert.Filter{})
	require.Len(t, f, 1)
	require.Equal(t, cert.FindFlaky, f[0].Class)
	require.Len(t, f[0].Outcomes, 2)
}
