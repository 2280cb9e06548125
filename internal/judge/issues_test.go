package judge_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
)

func TestKnownIssuesRecogniseWhatTheyAskFor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	past, future := now.Add(-time.Hour), now.Add(time.Hour)
	hit := judge.Hit{Job: "n::disk/read_sda", Template: "n::disk/read_name", Plan: "n::plan", Outcome: "fail", Series: "noble", Source: "linux", Version: "6.8.0-51.52",
		Log: "starting\nI/O error on sda\n", Machine: &cert.FleetMachine{Vendor: "Dell Inc."}}
	for name, test := range map[string]struct {
		issue cert.KnownIssue
		want  bool
	}{
		"job":                  {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::disk/read_sda"}}, true},
		"glob":                 {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::disk/*"}}, true},
		"another job":          {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::disk/read_sd"}}, false},
		"template":             {cert.KnownIssue{Match: cert.IssueMatch{Template: "n::disk/read_name"}}, true},
		"log":                  {cert.KnownIssue{Match: cert.IssueMatch{Log: "^I/O error on sd.$"}}, true},
		"another log":          {cert.KnownIssue{Match: cert.IssueMatch{Log: "^O error"}}, false},
		"outcome":              {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", Outcomes: []string{"crash"}}}, false},
		"machines":             {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", Machines: "vendor=dell"}}, true},
		"other machines":       {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", Machines: "vendor=hp"}}, false},
		"series":               {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", Series: []string{"jammy"}}}, false},
		"from":                 {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", From: "6.8.0-51.52"}}, true},
		"from later":           {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", From: "6.8.0-51.53"}}, false},
		"to is before":         {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", To: "6.8.0-51.52"}}, false},
		"to":                   {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", To: "6.8.0-51.53"}}, true},
		"run out":              {cert.KnownIssue{Expires: &past, Match: cert.IssueMatch{Job: "n::*"}}, false},
		"runs out this moment": {cert.KnownIssue{Expires: &now, Match: cert.IssueMatch{Job: "n::*"}}, false},
		"not run out":          {cert.KnownIssue{Expires: &future, Match: cert.IssueMatch{Job: "n::*"}}, true},
		"closed":               {cert.KnownIssue{Closed: &past, Match: cert.IssueMatch{Job: "n::*"}}, false},
		"cannot be read":       {cert.KnownIssue{Match: cert.IssueMatch{Job: "n::*", Log: "("}}, false},
		"asks for nothing":     {cert.KnownIssue{}, false},
	} {
		m := judge.CompileIssues([]cert.KnownIssue{test.issue}, now)
		require.Equal(t, test.want, m.Recognise(hit) != nil, name)
	}
	require.Len(t, judge.CompileIssues([]cert.KnownIssue{{ID: "k1"}}, now).Problems, 1)
	unknown := hit
	unknown.Machine, unknown.Version = nil, ""
	require.Nil(t, judge.CompileIssues([]cert.KnownIssue{{Match: cert.IssueMatch{Job: "n::*", Machines: "vendor!=hp"}}, {Match: cert.IssueMatch{Job: "n::*", To: "9"}}}, now).Recognise(unknown),
		"what is not known fits nothing that is asked for")
}

func TestNarrowestKnownIssueExplainsAndOnlyAnExplicitOneHides(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	wide := cert.KnownIssue{ID: "k1", Created: now.Add(-2 * time.Hour), HidesBlockers: true, Match: cert.IssueMatch{Job: "n::*"}}
	narrow := cert.KnownIssue{ID: "k2", Link: "https://bugs/2", Created: now, Match: cert.IssueMatch{Job: "n::a", Log: "x"}}
	for _, list := range [][]cert.KnownIssue{{wide, narrow}, {narrow, wide}} {
		m := judge.CompileIssues(list, now)
		f := cert.Finding{Class: cert.ClassRegression, Job: "n::a", Outcome: "fail", Blocker: true, New: true, Attention: true}
		m.Apply(&f, judge.Hit{Job: f.Job, Log: "x"})
		require.Equal(t, "k2", f.Issue)
		require.Equal(t, "https://bugs/2", f.IssueLink)
		require.False(t, f.Excused, "a rule never hides a blocker unless it says so")
		f.Blocker = false
		m.Apply(&f, judge.Hit{Job: f.Job, Log: "x"})
		require.False(t, f.Excused, "nor what is new")
		f.New = false
		m.Apply(&f, judge.Hit{Job: f.Job, Log: "x"})
		require.True(t, f.Excused)
		f = cert.Finding{Class: cert.ClassRegression, Job: "n::b", Outcome: "fail", Blocker: true, New: true}
		m.Apply(&f, judge.Hit{Job: f.Job})
		require.Equal(t, "k1", f.Issue)
		require.True(t, f.Excused)
		f = cert.Finding{Class: cert.FindUnproved, Blocker: true, Issue: "k1", Excused: true}
		m.Apply(&f, judge.Hit{Job: "n::b"})
		require.Empty(t, f.Issue, "what is not known is not recognised")
		require.False(t, f.Excused)
	}
}

func TestFlakyRates(t *testing.T) {
	t.Parallel()
	require.Nil(t, judge.Flaky(nil, true))
	require.Nil(t, judge.Flaky([]judge.Past{{Outcome: "skip"}, {Outcome: "undecided"}}, true), "what was not run says nothing")
	require.Equal(t, &cert.FlakyRate{Failed: 3, Of: 4, Machine: true, Text: "failed 3 of the last 4 times on this machine on released kernels"},
		judge.Flaky([]judge.Past{{Outcome: "fail"}, {Outcome: "pass"}, {Outcome: "pass", Lost: true}, {Outcome: "skip"}, {Outcome: "pass", Doubt: "call-trace"}}, true))
	many := make([]judge.Past, 50)
	for n := range many {
		many[n].Outcome = "pass"
	}
	require.Equal(t, "did not fail in the last 20 times on machines of this lab on released kernels", judge.Flaky(many, false).Text)
}

func TestGroupsAreInTheOrderOfThePage(t *testing.T) {
	t.Parallel()
	list := []cert.Finding{
		{ID: "1", Class: cert.ClassFixed, Job: "a", Machine: "m1"},
		{ID: "2", Class: cert.ClassStillFailing, Job: "b", Machine: "m1", Attention: true, Blocker: true},
		{ID: "3", Class: cert.ClassRegression, Job: "c", Machine: "m1", Hostname: "h1", HWClass: "x", Attention: true, Blocker: true, New: true, Signature: "s"},
		{ID: "4", Class: cert.ClassRegression, Job: "c", Machine: "m2", Hostname: "h2", HWClass: "x", Attention: true, New: true, Signature: "s"},
		{ID: "5", Class: cert.ClassRegression, Job: "c", Machine: "m3", Attention: true, New: true, Signature: "other"},
		{ID: "6", Class: cert.FindKernelBoot, Machine: "m4", Attention: true, Blocker: true, New: true},
	}
	groups := judge.Group(list, map[string]int{"c": 7})
	var order []string
	for _, g := range groups {
		order = append(order, g.Findings...)
	}
	require.Equal(t, []string{"6", "3", "4", "2", "5", "1"}, order)
	require.Equal(t, cert.FindingGroup{Key: "regression|c|s", Class: "regression", Job: "c", Blocker: true, New: true, Open: true, Signature: "s", Machines: 2, Of: 7, Names: []string{"h1", "h2"},
		HWClasses: map[string]int{"x": 2}, Findings: []string{"3", "4"}}, groups[1])
}
