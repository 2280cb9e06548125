package judge_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/judge/judgetest"
)

// regressed are the facts of a campaign in which one job of one machine has become worse.
func regressed(t *testing.T) (f judge.Facts, machine string, finding cert.Finding) {
	t.Helper()
	c := judgetest.Planted(rand.New(rand.NewPCG(1, 1)), judgetest.Regression)
	f = c.Compared()
	at := slices.IndexFunc(f.Findings, func(x cert.Finding) bool { return x.Class == cert.ClassRegression })
	require.GreaterOrEqual(t, at, 0)
	return f, f.Findings[at].Machine, f.Findings[at]
}

// decide takes a decision and adds it to the facts, as the lab does.
func decide(t *testing.T, f *judge.Facts, d cert.NewDecision, machines, findings []string) []cert.Decision {
	t.Helper()
	drafts, _, err := judge.Decide(*f, d, machines, findings, "ada", cert.Signer)
	require.NoError(t, err)
	seal(f, drafts)
	return f.Decisions[len(f.Decisions)-len(drafts):]
}

func seal(f *judge.Facts, drafts []cert.Decision) {
	for _, draft := range drafts {
		var prev *cert.Decision
		if n := len(f.Decisions); n > 0 {
			prev = &f.Decisions[n-1]
		}
		f.Decisions = append(f.Decisions, judge.Seal(prev, draft))
	}
}

func of(a judge.Assessment, machine string) judge.MachineAssessment {
	at := slices.IndexFunc(a.Machines, func(m judge.MachineAssessment) bool { return m.Machine == machine })
	return a.Machines[at]
}

func TestPersonApprovesMachineAndThenTheCampaign(t *testing.T) {
	t.Parallel()
	f, machine, finding := regressed(t)
	a := judge.Assess(f)
	require.Equal(t, cert.StandUndecided, a.Standing)
	require.Equal(t, []string{"1 finding is open, 1 of them blockers"}, of(a, machine).Reasons)
	require.Equal(t, finding.ID, a.Needs[0].Finding)
	require.Contains(t, a.Needs[0].Commands, "certlab finding confirm "+finding.ID)
	whole := cert.NewDecision{Action: cert.Approve, Reason: "fine"}
	_, _, err := judge.Decide(f, whole, nil, nil, "ada", cert.Signer)
	require.EqualError(t, err, "cannot approve campaign noble-linux: 1 machine is not decided: host-"+machine+" (approve or reject each, or waive their findings; in bulk with --all)")

	decide(t, &f, cert.NewDecision{Action: cert.Approve, Machines: []string{"host-" + machine}, Reason: "the dock was unplugged"}, []string{machine}, nil)
	a = judge.Assess(f)
	require.Equal(t, judge.MachineAssessment{Machine: machine, Standing: cert.StandApproved, By: "ada", Decision: 1, Reasons: of(a, machine).Reasons}, of(a, machine))
	require.Equal(t, cert.StandUndecided, a.Standing, "what a person had to approve, a person approves")
	require.Len(t, a.Needs, 1)
	require.Equal(t, "verdict", a.Needs[0].Kind)
	_, ok := judge.ByPolicy(f)
	require.False(t, ok)
	_, err = judge.VerdictOf(f, a, "approved", "ada", "fine", "", nil)
	require.ErrorContains(t, err, "ada has not decided so")

	decide(t, &f, whole, nil, nil)
	v, err := judge.VerdictOf(f, judge.Assess(f), "approved", "ada", "fine", f.Decisions[1].Hash, map[string]string{})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, v.Decisions)
	require.Equal(t, judge.DigestVerdict(v), v.Digest)
	v.Reason = "another"
	require.NotEqual(t, judge.DigestVerdict(v), v.Digest)
	_, _, err = judge.Decide(f, cert.NewDecision{Action: cert.Reject, Reason: "no"}, nil, nil, "bob", cert.Admin)
	require.ErrorContains(t, err, "ada has approved it already (decision 2)")
}

func TestFaultDecidingWhatCannotBeDecided(t *testing.T) {
	t.Parallel()
	f, machine, finding := regressed(t)
	approve := cert.NewDecision{Action: cert.Approve, Machines: []string{"x"}, Reason: "fine"}
	says := func(text string, d cert.NewDecision, machines, findings []string, role cert.Role, code cert.Code) {
		t.Helper()
		drafts, _, err := judge.Decide(f, d, machines, findings, "eve", role)
		require.Empty(t, drafts)
		require.Equal(t, code, cert.CodeOf(err))
		require.ErrorContains(t, err, text)
	}
	says("cannot approve: the policy sru lets role signer decide, and yours is \"engineer\"", approve, []string{machine}, nil, cert.Engineer, cert.Forbidden)
	says("the policy sru lets role signer decide", approve, []string{machine}, nil, "", cert.Forbidden)
	says("it is not in this campaign", approve, []string{"m99"}, nil, cert.Signer, cert.Conflict)
	says("nobody has decided on it", cert.NewDecision{Action: cert.Reopen, Machines: []string{"x"}, Reason: "r"}, []string{machine}, nil, cert.Signer, cert.Conflict)
	says("it has no verdict yet", cert.NewDecision{Action: cert.Reopen, Reason: "r"}, nil, nil, cert.Signer, cert.Conflict)
	until := f.Now.Add(time.Hour)
	waive := cert.NewDecision{Action: cert.Waive, Findings: []string{"f"}, Reason: "fine", Until: &until}
	says("comparing again has replaced it", waive, nil, []string{"f"}, cert.Signer, cert.Conflict)
	decide(t, &f, waive, nil, []string{finding.ID})
	says("decision 1 waives it already", waive, nil, []string{finding.ID}, cert.Signer, cert.Conflict)
	decide(t, &f, approve, []string{machine}, nil)
	says("ada has approved it already (decision 2); reopen it first", approve, []string{machine}, nil, cert.Signer, cert.Conflict)
	unfinished := judgetest.Planted(rand.New(rand.NewPCG(5, 1)), judgetest.Unfinished)
	f = unfinished.Compared()
	for n := range f.Targets {
		if f.Targets[n].State != cert.TargetDone {
			f.Targets[n].State = cert.TargetRunning
			says("it is not through yet: "+cert.PlanSRU+" is running", approve, []string{f.Targets[n].Machine}, nil, cert.Signer, cert.Conflict)
			says("1 required machine is not through yet", cert.NewDecision{Action: cert.Approve, Reason: "x"}, nil, nil, cert.Signer, cert.Conflict)
		}
	}
	f.Campaign.State = cert.CampaignApproved
	says("is approved, which is final", approve, []string{machine}, nil, cert.Signer, cert.Conflict)
}

func TestNoMachinesAreNeverApproved(t *testing.T) {
	t.Parallel()
	f, _, _ := regressed(t)
	f.Targets, f.Findings = nil, nil
	require.Equal(t, cert.StandUndecided, judge.Assess(f).Standing)
	_, _, err := judge.Decide(f, cert.NewDecision{Action: cert.Approve, Reason: "x"}, nil, nil, "ada", cert.Admin)
	require.ErrorContains(t, err, "0 required machines are approved, and the policy wants at least 1")
	_, err = judge.VerdictOf(f, judge.Assess(f), "approved", cert.ByPolicy, "x", "", nil)
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	require.Equal(t, cert.StandUndecided, judge.Assess(judge.Facts{}).Standing)
}

func TestWaiversEnd(t *testing.T) {
	t.Parallel()
	f, machine, finding := regressed(t)
	until := f.Now.Add(time.Hour)
	decide(t, &f, cert.NewDecision{Action: cert.Waive, Findings: []string{finding.ID}, Reason: "firmware", Until: &until}, nil, []string{finding.ID})
	require.Equal(t, map[string]int64{finding.ID: 1}, judge.Waivers(f.Decisions, f.Now))
	require.True(t, of(judge.Assess(f), machine).Clear)
	require.Equal(t, cert.StandApproved, judge.Assess(f).Standing)
	draft, ok := judge.ByPolicy(f)
	require.True(t, ok)
	whole := f
	seal(&whole, []cert.Decision{draft})
	v, err := judge.VerdictOf(whole, judge.Assess(whole), "approved", cert.ByPolicy, draft.Reason, "", nil)
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, v.Decisions)
	for n := range f.Findings {
		f.Findings[n].Waived = 1 // as it was stored
	}
	f.Now = until
	require.Equal(t, cert.StandUndecided, judge.Assess(f).Standing, "whatever is stored with the finding")
}

func TestDecisionsAreReopenedByWhatContradictsThem(t *testing.T) {
	t.Parallel()
	f, machine, finding := regressed(t)
	decide(t, &f, cert.NewDecision{Action: cert.Approve, Machines: []string{"x"}, Reason: "fine"}, []string{machine}, nil)
	require.Empty(t, judge.Reopens(f), "nothing has come since")
	other := finding
	other.ID, other.Job = "fother", "n::other"
	f.Findings = append(f.Findings, other)
	require.Equal(t, cert.StandUndecided, of(judge.Assess(f), machine).Standing, "before the reopening is written, too")
	drafts := judge.Reopens(f)
	require.Len(t, drafts, 1)
	require.Equal(t, int64(1), drafts[0].Reopens)
	require.Equal(t, "regression of n::other is open since, which was not when it was approved", drafts[0].Reason)
	seal(&f, drafts)
	require.Empty(t, judge.Reopens(f), "once")
	decide(t, &f, cert.NewDecision{Action: cert.Reject, Machines: []string{"x"}, Reason: "bad"}, []string{machine}, nil)
	require.Equal(t, cert.StandRejected, of(judge.Assess(f), machine).Standing)
	_, _, err := judge.Decide(f, cert.NewDecision{Action: cert.Approve, Reason: "x"}, nil, nil, "ada", cert.Admin)
	require.ErrorContains(t, err, "1 machine is rejected: host-"+machine)
	f.Campaign.State = cert.CampaignApproved
	require.Empty(t, judge.Reopens(f), "a verdict is not reopened")
}

func TestFaultChainOfDecisionsIsBroken(t *testing.T) {
	t.Parallel()
	f, machine, finding := regressed(t)
	until := f.Now.Add(time.Hour)
	decide(t, &f, cert.NewDecision{Action: cert.Waive, Findings: []string{finding.ID}, Reason: "é <b>", Until: &until}, nil, []string{finding.ID})
	decide(t, &f, cert.NewDecision{Action: cert.Approve, Machines: []string{"x"}, Reason: "fine"}, []string{machine}, nil)
	decide(t, &f, cert.NewDecision{Action: cert.Reject, Reason: "no"}, nil, nil)
	var stored []cert.Decision
	for _, d := range f.Decisions { // as it comes back from the database
		raw, err := json.Marshal(d)
		require.NoError(t, err)
		var back cert.Decision
		require.NoError(t, json.Unmarshal(raw, &back))
		stored = append(stored, back)
	}
	require.NoError(t, judge.VerifyChain(nil, stored))
	require.NoError(t, judge.VerifyChain(&stored[0], stored[1:]))
	for name, alter := range map[string]func([]cert.Decision) []cert.Decision{
		"a word":        func(d []cert.Decision) []cert.Decision { d[1].Reason = "fine!"; return d },
		"who":           func(d []cert.Decision) []cert.Decision { d[0].By = "eve"; return d },
		"when":          func(d []cert.Decision) []cert.Decision { d[0].At = d[0].At.Add(1); return d },
		"one less":      func(d []cert.Decision) []cert.Decision { return append(d[:1:1], d[2]) },
		"the first":     func(d []cert.Decision) []cert.Decision { return d[1:] },
		"another order": func(d []cert.Decision) []cert.Decision { d[0], d[1] = d[1], d[0]; return d },
		"hashed anew": func(d []cert.Decision) []cert.Decision {
			d[1].By = "eve"
			d[1].Hash = judge.HashDecision(d[1])
			return d
		},
	} {
		err := judge.VerifyChain(nil, alter(slices.Clone(stored)))
		require.ErrorContains(t, err, "the log of decisions is broken: number ", name)
	}
}
