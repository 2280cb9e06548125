package judge_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/judge/judgetest"
)

// clean are the facts of a campaign that the policy approves.
func clean(t *testing.T) judge.Facts {
	t.Helper()
	c := judgetest.Planted(rand.New(rand.NewPCG(4, 4)), judgetest.Clean)
	f := c.Compared()
	require.Equal(t, cert.StandApproved, judge.Assess(f).Standing)
	return f
}

// Each of these alone keeps the policy from approving, whatever the findings say.
func TestPolicyWantsAllOfIt(t *testing.T) {
	t.Parallel()
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	excused := func(f *judge.Facts, k ...cert.KnownIssue) {
		f.Findings = append(f.Findings, cert.Finding{ID: "fx", Target: f.Targets[0].ID, Machine: f.Targets[0].Machine, Class: cert.ClassRegression, Job: "n::x", Attention: true, New: true,
			Blocker: true, Excused: true, Issue: "k1"})
		f.Issues = k
	}
	require.Equal(t, cert.StandApproved, func() string {
		f := clean(t)
		excused(&f, cert.KnownIssue{ID: "k1", HidesBlockers: true})
		return judge.Assess(f).Standing
	}(), "a rule that says that it hides blockers does")
	for name, spoil := range map[string]func(*judge.Facts, *cert.Target, *cert.Compared, *cert.Try){
		"not proved":               func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Proof.OK = false },
		"proof not needed":         func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Proof.Needed = false },
		"nothing ran":              func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Ran = 0 },
		"plan not known":           func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Planned = 0 },
		"no manifest":              func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Manifest = false },
		"no baseline":              func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Baseline = nil },
		"older rules":              func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Version-- },
		"findings are not at hand": func(_ *judge.Facts, _ *cert.Target, c *cert.Compared, _ *cert.Try) { c.Attention++ },
		"another submission":       func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.Submission = "s-other" },
		"no submission": func(_ *judge.Facts, g *cert.Target, c *cert.Compared, _ *cert.Try) {
			g.Submission, c.Submission = "", ""
		},
		"not compared":              func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.Compared = nil },
		"no try counts":             func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.Counted = 0 },
		"missing":                   func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.State = cert.TargetMissing },
		"cancelled":                 func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.State = cert.TargetCancelled },
		"comparing":                 func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.State = cert.TargetComparing },
		"a state that is not known": func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.State = "" },
		"blocked":                   func(_ *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) { g.State = cert.TargetBlocked },
		"suspect":                   func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) { y.Suspect = "i1" },
		"by hand":                   func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) { y.Purpose = cert.TryAttached },
		"partial":                   func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) { y.Jobs = []string{"n::a"} },
		"infrastructure":            func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) { y.Infra = true },
		"failed":                    func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) { y.State = cert.Failed },
		"a boot that no finding tells": func(_ *judge.Facts, _ *cert.Target, _ *cert.Compared, y *cert.Try) {
			y.Failure = &cert.Failure{Type: "kernel-boot"}
		},
		"paused": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.State = cert.CampaignPaused
		},
		"a person has to": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.Rules.Decide.Auto = false
		},
		"too few machines": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.Rules.Machines.AtLeast = 1000
		},
		"none is required": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.Rules.Machines.AtLeast = 0
			for n := range f.Targets {
				f.Targets[n].Required = false
			}
		},
		"excused by nothing that is there": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) { excused(f) },
		"excused by what has run out": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			excused(f, cert.KnownIssue{ID: "k1", HidesBlockers: true, Expires: &past})
		},
		"excused by what is closed": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			excused(f, cert.KnownIssue{ID: "k1", HidesBlockers: true, Closed: &past})
		},
		"excused by what only explains": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			excused(f, cert.KnownIssue{ID: "k1"})
		},
		"open on a machine that is not required": func(f *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) {
			g.Required = false
			excused(f)
		},
		"open on no machine": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Findings = append(f.Findings, cert.Finding{ID: "fx", Target: "g-gone", Attention: true})
		},
		"a machine that is not required is rejected": func(f *judge.Facts, g *cert.Target, _ *cert.Compared, _ *cert.Try) {
			g.Required = false
			f.Decisions = []cert.Decision{{Seq: 1, Action: cert.Reject, Machine: g.Machine, By: "ada"}} // and what has come since contradicts it
		},
		"something of it may be lost": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.Unsure = "the controller was restored from a backup"
		},
		"a machine of it is lost": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Campaign.Size = len(f.Targets) + 1
		},
		"a person has rejected the campaign": func(f *judge.Facts, _ *cert.Target, _ *cert.Compared, _ *cert.Try) {
			f.Decisions = []cert.Decision{{Seq: 1, Action: cert.Reject, By: "ada"}}
		},
	} {
		f := clean(t)
		f.Targets = slices.Clone(f.Targets)
		g := &f.Targets[0]
		c := *g.Compared
		g.Compared, g.Tries = &c, slices.Clone(g.Tries)
		spoil(&f, g, &c, &g.Tries[g.Counted-1])
		a := judge.Assess(f)
		require.NotEqual(t, cert.StandApproved, a.Standing, name)
		require.NotEmpty(t, a.Needs, name)
		_, ok := judge.ByPolicy(f)
		require.False(t, ok, name)
		_, err := judge.VerdictOf(f, a, "approved", cert.ByPolicy, "x", "", nil)
		require.Error(t, err, name)
	}
}

// What the database has lost stands between a campaign and its verdict: with machines missing not even a person approves, and where a rejection may be
// missing only a person does.
func TestFaultPartsOfACampaignAreLost(t *testing.T) {
	t.Parallel()
	f := clean(t)
	f.Campaign.Name, f.Campaign.Size = "noble", len(f.Targets)+2
	f.Campaign.Unsure = "the controller's database was repaired, and what was decided may be lost"
	a := judge.Assess(f)
	require.Equal(t, cert.StandUndecided, a.Standing)
	require.Contains(t, a.Needs[0].What, "2 are lost with a part of the database: it cannot be approved")
	approve := cert.NewDecision{Action: cert.Approve, Reason: "it looks good"}
	_, _, err := judge.Decide(f, approve, nil, nil, "ada", cert.Signer)
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	require.ErrorContains(t, err, "2 are lost with a part of the database, and nobody can tell what was found on them (restore a backup that has them, or start the campaign anew)")

	f.Campaign.Size = len(f.Targets)
	a = judge.Assess(f)
	require.Equal(t, cert.StandUndecided, a.Standing)
	require.Equal(t, f.Campaign.Unsure+": the policy does not approve it any more, a person has to", a.Needs[0].What)
	drafts, _, err := judge.Decide(f, approve, nil, nil, "ada", cert.Signer)
	require.NoError(t, err)
	require.Len(t, drafts, 1)
}

// A verdict says where a plan has run, where an equal machine has stood in.
func TestVerdictNamesTheMachineThatStoodIn(t *testing.T) {
	t.Parallel()
	f := clean(t)
	f.Targets = slices.Clone(f.Targets)
	g := &f.Targets[0]
	g.Tries = slices.Clone(g.Tries)
	g.Tries[g.Counted-1].Machine, g.Tries[g.Counted-1].Hostname = "m-other", "other"
	v, err := judge.VerdictOf(f, judge.Assess(f), "approved", cert.ByPolicy, "clear", "", nil)
	require.NoError(t, err)
	for _, m := range v.Machines {
		want := ""
		if m.Machine == g.Machine && m.Plan == g.Plan {
			want = "other"
		}
		require.Equal(t, want, m.RanOn)
	}
}
