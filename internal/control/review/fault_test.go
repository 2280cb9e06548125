package review_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// failing is a campaign over machines on which wifi fails since the new kernel, and in which nothing more runs.
func failing(t *testing.T, machines int) *world {
	w := newWorld(t, machines)
	w.released(made{})
	for n := range machines {
		w.deliver(n, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	}
	w.deciding()
	return w
}

// decisions requires how many entries the log has, and that it is whole.
func (w *world) decided(n int) {
	w.Helper()
	require.Len(w, w.intact(), n)
}

func TestFaultDecidingTwice(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	_, err := w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node1"}, Reason: "flaky"})
	require.NoError(t, err)
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node1"}, Reason: "flaky"})
	require.ErrorContains(t, err, "cannot approve node1")
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	w.decided(1)
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Reason: "good"})
	require.NoError(t, err)
	first, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	_, err = w.decide(cert.NewDecision{Action: cert.Reject, Reason: "changed my mind"})
	require.ErrorContains(t, err, "is approved, which is final")
	again, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	require.Equal(t, first, again)
	w.decided(2)
}

func TestFaultDecidingWithoutRight(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	until := w.now().Add(time.Hour)
	for _, d := range []cert.NewDecision{{Action: cert.Approve, Reason: "x"}, {Action: cert.Approve, All: true, Reason: "x"}, {Action: cert.Waive, All: true, Filter: cert.Filter{Job: "*::wifi"}, Until: &until, Reason: "x"}} {
		_, err := w.r.Decide(t.Context(), w.campaign.Name, d, "eve", cert.Engineer)
		require.ErrorContains(t, err, "lets role signer decide, and yours is \"engineer\"")
		require.Equal(t, cert.Forbidden, cert.CodeOf(err))
	}
	w.decided(0)
	require.Equal(t, cert.CampaignDeciding, w.state())
	require.Len(t, w.findings(cert.Filter{Open: new(true)}), 1)
}

func TestFaultDecidingOnAnUnfinishedMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{})
	_, err := w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node2"}, Reason: "it will be fine"})
	require.ErrorContains(t, err, "cannot approve node2")
	require.ErrorContains(t, err, "is waiting")
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Reason: "it will be fine"})
	require.ErrorContains(t, err, "1 required machine is not through yet: node2")
	w.decided(0)
	require.Equal(t, cert.CampaignActive, w.state())
}

func TestFaultDecidingOnWhatWasNotComparedYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, func(c *cert.Campaign) { c.Rules.Decide.Auto = false })
	w.released(made{})
	w.deliver(0, made{})
	run, submission := w.run(0, made{})
	w.hand(0, run, submission, func(t *cert.Try) { t.Purpose = cert.TryRerun }) // the indexer has not come to it
	_, err := w.decide(cert.NewDecision{Action: cert.Approve, Reason: "good"})
	require.ErrorContains(t, err, "what node1 delivered was not compared yet")
	w.decided(0)
	m := made{outcomes: map[string]string{w.jobs[0]: "crash"}}
	w.index(submission, m)
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Reason: "good"})
	require.ErrorContains(t, err, "1 machine is not decided: node1", "it crashed meanwhile")
	w.decided(0)
}

func TestFaultDecidingOnACampaignThatIsOver(t *testing.T) {
	t.Parallel()
	for _, state := range []cert.CampaignState{cert.CampaignCancelled, cert.CampaignSuperseded} {
		w := newWorld(t, 1, func(c *cert.Campaign) { c.State = state })
		_, err := w.decide(cert.NewDecision{Action: cert.Approve, Reason: "x"})
		require.ErrorContains(t, err, fmt.Sprintf("is %s, which is final", state))
		w.decided(0)
		require.Equal(t, state, w.state())
	}
}

func TestFaultDecidingUponWhatHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	seen := w.view().Campaign.Version
	w.deliver(1, made{outcomes: map[string]string{w.jobs[1]: "fail"}})
	_, err := w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node2"}, Reason: "x", Version: seen})
	require.ErrorContains(t, err, "sru-noble has changed since you looked at it")
	require.ErrorContains(t, err, "node2: ")
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	w.decided(0)
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node1"}, Reason: "x", Version: seen})
	require.NoError(t, err, "what has changed is on another machine")
}

func TestFaultWaiverWithoutEndOrReason(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	f := w.findings(cert.Filter{})[0]
	until, past := w.now().Add(time.Hour), w.now().Add(-time.Hour)
	for _, c := range []struct {
		d    cert.NewDecision
		want string
	}{{cert.NewDecision{Action: cert.Waive, Findings: []string{f.ID}, Reason: "x"}, "end"}, {cert.NewDecision{Action: cert.Waive, Findings: []string{f.ID}, Until: &until}, "reason"},
		{cert.NewDecision{Action: cert.Waive, Findings: []string{f.ID}, Until: &past, Reason: "x"}, "that is over (give a later time)"},
		{cert.NewDecision{Action: cert.Waive, Findings: []string{"fnothing"}, Until: &until, Reason: "x"}, `there is no finding "fnothing"`}} {
		_, err := w.decide(c.d)
		require.ErrorContains(t, err, c.want)
	}
	w.decided(0)
	require.True(t, w.findings(cert.Filter{})[0].Open())
}

func TestFaultWaiverThatRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	f := w.findings(cert.Filter{})[0]
	until := w.now().Add(time.Hour)
	_, err := w.decide(cert.NewDecision{Action: cert.Waive, Findings: []string{f.ID}, Until: &until, Reason: "the access point is off today"})
	require.NoError(t, err)
	_, err = w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node1"}, Reason: "nothing else"})
	require.NoError(t, err)
	require.Equal(t, 0, w.view().Blockers)
	w.later(2 * time.Hour)
	w.turn()
	log := w.intact()
	require.Len(t, log, 3)
	require.Equal(t, cert.Reopen, log[2].Action)
	require.Equal(t, int64(2), log[2].Reopens)
	require.True(t, w.findings(cert.Filter{})[0].Open())
	require.Equal(t, 1, w.view().Blockers)
	w.turn()
	w.decided(3)
	w.deliver(1, made{})
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
}

func TestFaultDecisionIsContradictedByALaterResult(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	_, err := w.decide(cert.NewDecision{Action: cert.Approve, Machines: []string{"node1"}, Reason: "known"})
	require.NoError(t, err)
	w.deliver(0, made{outcomes: map[string]string{w.jobs[1]: "fail", w.jobs[2]: "fail"}}, func(t *cert.Try) { t.Purpose = cert.TryRerun })
	log := w.intact()
	require.Len(t, log, 2)
	require.Equal(t, cert.Reopen, log[1].Action)
	require.Contains(t, log[1].Reason, "is open since")
	require.Equal(t, map[string]int{cert.StandUndecided: 1}, w.view().StandCounts)
}

func TestFaultSubmissionAfterTheVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{})
	w.deliver(0, made{})
	w.deciding()
	require.Equal(t, cert.CampaignApproved, w.state())
	before, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	w.deliver(0, made{outcomes: map[string]string{w.jobs[1]: "crash"}}, func(t *cert.Try) { t.Purpose = cert.TryRerun })
	after, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, cert.CampaignApproved, w.state())
	require.Equal(t, 1, w.view().Late)
	require.True(t, w.findings(cert.Filter{})[0].Late)
	notices, _, err := w.db.Notices(t.Context(), sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, notices, 1)
	require.Equal(t, cert.NoticeContradicted, notices[0].Kind)
	require.Contains(t, notices[0].Text, "sru-noble was approved by policy, and what node1 has delivered since contradicts that")
	w.turn()
	w.decided(1)
}

func TestFaultMissingManifest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{})
	w.deliver(0, made{noManifest: true})
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	v := w.view()
	require.Equal(t, cert.StandUndecided, v.Standing)
	require.Contains(t, fmt.Sprintf("%+v", v.Needs), "manifest")
	require.False(t, w.target(0).Compared.Manifest)
	w.decided(0)
}

func TestFaultBaselineOfAnotherPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{plan: cert.PlanSRUServer})
	w.deliver(0, made{})
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	require.Nil(t, w.target(0).Compared.Baseline)
	require.Contains(t, fmt.Sprintf("%+v", w.view().Needs), "baseline")
	w.decided(0)
}

func TestFaultSubmissionIsNotOfTheSubject(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		m    made
		fail string
		why  string
	}{
		"another kernel": {made{kernel: oldKernel, version: oldVersion}, "unproved", "the submission says that 6.8.0-50-generic ran, not 6.8.0-51-generic"},
		"unproved":       {made{unproved: true}, "unproved", "is not proved"},
		"unreadable":     {made{unreadable: "it is cut off"}, "bad-archive", "its submission cannot be read: it is cut off"},
		"another plan":   {made{plan: cert.PlanSRUServer}, "wrong-plan", "its submission is of plan"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.released(made{})
			w.deliver(0, c.m)
			target := w.target(0)
			require.Equal(t, cert.TargetWaiting, target.State)
			require.Zero(t, target.Counted)
			require.Empty(t, target.Submission)
			require.True(t, target.Tries[0].Infra)
			require.Equal(t, c.fail, target.Tries[0].Failure.Type)
			require.Contains(t, target.Tries[0].Failure.Message, c.why)
			w.deciding()
			require.Equal(t, cert.CampaignDeciding, w.state())
			require.Equal(t, 1, w.view().Infra[0].Tries)
			w.deliver(0, made{}, func(t *cert.Try) { t.Purpose = cert.TryRetry })
			require.Equal(t, cert.TargetDone, w.target(0).State)
		})
	}
}

func TestFaultKernelDoesNotBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(1, made{})
	now := w.now()
	target := w.target(0)
	target.State, target.Why = cert.TargetBlocked, "6.8.0-51-generic did not boot twice"
	for n := range 2 {
		target.Tries = append(target.Tries, cert.Try{Number: n + 1, Purpose: cert.TryKernel, Machine: target.Machine, Hostname: target.Hostname, Run: cert.NewID(cert.RunID, w.now()), Created: now,
			Asked: &now, Ended: &now, State: cert.Failed, Failure: &cert.Failure{Type: "kernel-boot", Message: "it panicked"}})
	}
	require.NoError(t, w.db.ChangeCampaigns(t.Context(), func(tx *sqlite.CampaignTx) error { return tx.PutTarget(target) }))
	w.turn()
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	f := w.findings(cert.Filter{Class: cert.FindKernelBoot})
	require.Len(t, f, 1)
	require.Equal(t, "the subject did not come up 2 times: it panicked", f[0].Text)
	require.True(t, f[0].Blocker && f[0].Open())
	require.Equal(t, cert.TargetBlocked, w.target(0).State)
	require.Equal(t, cert.FindKernelBoot, w.view().Groups[0].Class)
}

func TestFaultLogOfDecisionsIsAltered(t *testing.T) {
	t.Parallel()
	w := failing(t, 2)
	for _, name := range []string{"node1", "node2"} {
		_, err := w.decide(cert.NewDecision{Action: cert.Reject, Machines: []string{name}, Reason: "wifi is broken"})
		require.NoError(t, err)
	}
	w.decided(2)
	w.alter("DROP TRIGGER decisions_stay", `UPDATE decisions SET data = replace(data, 'wifi is broken', 'wifi is great!') WHERE seq = 1`)
	l, err := w.r.Decisions(t.Context(), "", true, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.False(t, *l.Intact)
	require.Equal(t, "the log of decisions is broken: number 1 was changed after it was written (restore it from a backup)", l.Broken)
}

func TestFaultLogsThatOnlyGrow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.released(made{})
	w.deliver(0, made{})
	w.deciding()
	for statement, want := range map[string]string{"UPDATE decisions SET at = 0": "the log of decisions only grows", "DELETE FROM decisions": "the log of decisions only grows",
		"UPDATE verdicts SET at = 0": "a verdict is never changed", "DELETE FROM verdicts": "a verdict is never changed"} {
		require.ErrorContains(t, w.tryAlter(statement), want)
	}
	w.decided(1)
}

func TestFaultPolicyThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for text, want := range map[string]string{"kind: sru\nfrobnicate: true\n": "frobnicate", "kind: certification\nexclude: [x]\n": "exclude", strings.Repeat("#", 300<<10): "at most"} {
		_, err := w.r.SavePolicy(t.Context(), "strict", []byte(text), "ada")
		require.ErrorContains(t, err, want)
		require.Equal(t, cert.Invalid, cert.CodeOf(err))
	}
	_, err := w.r.SavePolicy(t.Context(), "weekly", []byte("kind: sru\n"), "ada")
	require.ErrorContains(t, err, "cannot store a policy of kind sru as weekly")
	_, err = w.r.Policy(t.Context(), "strict")
	require.EqualError(t, err, `there is no policy "strict"`)
	first, err := w.r.SavePolicy(t.Context(), "strict", []byte("kind: sru\n"), "ada")
	require.NoError(t, err)
	require.Equal(t, 1, first.Version)
	again, err := w.r.SavePolicy(t.Context(), "strict", []byte("kind: sru\n"), "ada")
	require.NoError(t, err)
	require.Equal(t, 1, again.Version)
	all, err := w.r.Policies(t.Context())
	require.NoError(t, err)
	require.Len(t, all.Policies, 5)
}
