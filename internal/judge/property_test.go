package judge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/judge/judgetest"
)

// Six hundred random campaigns, each of one to four machines, compared and assessed by the rules and by the reference: equal.
func TestRandomCampaignsAreJudgedAsByTheReference(t *testing.T) {
	t.Parallel()
	approved, classes := 0, map[string]int{}
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 3))
		c := judgetest.Wild(r)
		for _, one := range c.Cases {
			got := judge.Compare(one)
			require.Equal(t, refCompare(one), inWords(got), "seed %d, target %s", seed, one.Target.ID)
			again := one
			again.Attempts = slices.Clone(one.Attempts)
			slices.Reverse(again.Attempts)
			require.Equal(t, got, judge.Compare(again), "seed %d: the order of the tries given must not matter", seed)
			for _, f := range got.Findings {
				classes[f.Class]++
			}
		}
		f := c.Compared()
		judgetest.Decide(r, &f)
		judgetest.Lose(r, &f)
		a := judge.Assess(f)
		require.Equal(t, refAssess(f), standings(a), "seed %d", seed)
		if a.Standing == cert.StandApproved {
			approved++
		}
		shuffled := f
		shuffled.Targets, shuffled.Findings = slices.Clone(f.Targets), slices.Clone(f.Findings)
		r.Shuffle(len(shuffled.Findings), func(i, j int) {
			shuffled.Findings[i], shuffled.Findings[j] = shuffled.Findings[j], shuffled.Findings[i]
		})
		require.Equal(t, a, judge.Assess(shuffled), "seed %d: the order of the findings must not matter", seed)
	}
	require.Greater(t, approved, 15, "or else the test says little")
	for _, class := range cert.FindingClasses {
		require.Greater(t, classes[class], 3, "class %s hardly occurs, so that the test says little of it", class)
	}
}

func inWords(c judge.Comparison) refCompared {
	out := refCompared{Counted: c.Counted, Baseline: c.Compared.Baseline != nil, Planned: c.Compared.Planned, Ran: c.Compared.Ran, Absent: c.Compared.Absent}
	for _, f := range c.Findings {
		e := expected{Class: f.Class, Job: f.Job, Blocker: f.Blocker, New: f.New, Attention: f.Attention, Outcome: f.Outcome, Reason: f.Reason}
		for _, o := range f.Outcomes {
			e.Tries += word(o) + " "
		}
		out.Findings = append(out.Findings, fmt.Sprintf("%+v", e))
	}
	sort.Strings(out.Findings)
	return out
}

func word(o cert.Again) string {
	if o.Outcome == cert.FindKernelBoot {
		return o.Outcome
	}
	return refWord(judge.Result{Result: cert.Result{Outcome: o.Outcome, MachineLost: o.Lost}, Doubt: o.Doubt})
}

func standings(a judge.Assessment) []string {
	var lines []string
	for _, m := range a.Machines {
		lines = append(lines, fmt.Sprintf("%s %s %s %d %v", m.Machine, m.Standing, m.By, m.Decision, m.Clear))
		if m.Standing != cert.StandApproved && m.Standing != cert.StandRejected && len(m.Reasons) == 0 {
			lines = append(lines, "no reason for "+m.Machine)
		}
	}
	sort.Strings(lines)
	return append(lines, strings.TrimRight(fmt.Sprintf("campaign %s %s", a.Standing, a.By), ""))
}
