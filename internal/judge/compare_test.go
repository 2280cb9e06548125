package judge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
)

// pair is a target with one try, and its baseline: job by outcome on each.
func pair(before, now map[string]string) judge.Case {
	side := func(submission, version string, jobs map[string]string) judge.Side {
		s := judge.Side{Submission: submission, Machine: "m1", Plan: cert.PlanSRU, Version: version, At: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
		for job, outcome := range jobs {
			s.Results = append(s.Results, judge.Result{Result: cert.Result{ID: job, Outcome: outcome, CertificationStatus: "blocker", Index: len(s.Results)}})
		}
		return s
	}
	b := side("s0", "6.8.0-50.51", before)
	try := cert.Try{Number: 1, Run: "r1", Machine: "m1", Purpose: cert.TryFirst, State: cert.Completed, Submission: "s1"}
	c := judge.Case{Campaign: cert.Campaign{ID: "c1", Kind: cert.KindSRU, Subject: proposed(), Rules: cert.DefaultPolicy(cert.KindSRU)},
		Target: cert.Target{ID: "g1", Machine: "m1", Hostname: "h1", Plan: cert.PlanSRU, Tries: []cert.Try{try}}, Before: &b,
		Attempts: []judge.Attempt{{Try: try, Side: side("s1", "6.8.0-51.52", now), Proof: cert.Proof{OK: true, Needed: true}}}}
	for job := range now {
		c.Planned = append(c.Planned, order.PlannedJob{ID: job})
	}
	return c
}

func texts(c judge.Comparison) map[string]string {
	out := map[string]string{}
	for _, f := range c.Findings {
		out[f.Job] = f.Class + ": " + f.Text
	}
	return out
}

func TestClassesOfJobs(t *testing.T) {
	t.Parallel()
	c := pair(map[string]string{"same": "pass", "worse": "pass", "still": "fail", "fixed": "crash", "gone": "pass", "new skip": "pass", "ran not": "skip", "skipped": "skip"},
		map[string]string{"same": "pass", "worse": "fail", "still": "fail", "fixed": "pass", "new": "fail", "appeared": "pass", "new skip": "skip", "ran not": "pass", "odd": "undecided", "skipped": "skip"})
	got := judge.Compare(c)
	require.Equal(t, map[string]string{
		"worse":    "regression: passed on 6.8.0-50.51, and is fail now",
		"still":    "still-failing: fails as on 6.8.0-50.51",
		"fixed":    "fixed: failed on 6.8.0-50.51, and passes now",
		"gone":     "missing: it ran on 6.8.0-50.51, and there is no record of it",
		"new skip": "missing: it ran on 6.8.0-50.51, and was skipped: skip",
		"ran not":  "newly-passing: was not run on 6.8.0-50.51, and passes now",
		"new":      "new-failure: is fail, and nothing is known of before",
		"appeared": "appeared: was not in the plan before, and passes",
		"odd":      `missing: its outcome is "undecided", which says nothing`,
	}, texts(got))
	require.Equal(t, map[string]int{"same": 2, "regression": 1, "still-failing": 1, "fixed": 1, "missing": 3, "newly-passing": 1, "new-failure": 1, "appeared": 1}, got.Compared.Counts)
	require.Equal(t, []int{10, 7, 0, 6}, []int{got.Compared.Planned, got.Compared.Ran, got.Compared.Absent, got.Compared.Attention})
	require.Empty(t, got.Warnings)
	again := judge.Compare(c)
	require.Equal(t, got, again, "comparing again finds the same")
}

func TestFaultBaselinesThatAreNone(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*judge.Case){
		"it is of plan \"com.canonical.certification::sru-server\", not of com.canonical.certification::sru": func(c *judge.Case) { c.Before.Plan = cert.PlanSRUServer },
		"it is of another machine":                      func(c *judge.Case) { c.Before.Machine = "m2" },
		"it is of 6.8.0-51.52 too, which is to be test": func(c *judge.Case) { c.Before.Version = "6.8.0-51.52" },
		"with itself": func(c *judge.Case) { c.Before.Submission = "s1" },
		"older than the 1 days that the policy allows": func(c *judge.Case) {
			c.Campaign.Rules.Baseline.MaxDays, c.Before.At = 1, c.Before.At.AddDate(0, 0, -2)
		},
	} {
		c := pair(map[string]string{"a": "fail"}, map[string]string{"a": "fail"})
		change(&c)
		got := judge.Compare(c)
		require.Len(t, got.Warnings, 1)
		require.Contains(t, got.Warnings[0], says)
		require.Nil(t, got.Compared.Baseline)
		require.Equal(t, "new-failure: is fail, and nothing is known of before", texts(got)["a"], "without a baseline every failure is new")
	}
}

func TestAnotherFailureIsAnotherFinding(t *testing.T) {
	t.Parallel()
	c := pair(map[string]string{"a": "pass"}, map[string]string{"a": "fail"})
	c.Attempts[0].Side.Results[0].Signature = "one"
	first := judge.Compare(c).Findings[0].ID
	require.True(t, cert.ValidID(cert.FindingID, first), first)
	require.Equal(t, first, judge.Compare(c).Findings[0].ID)
	c.Attempts[0].Side.Results[0].Signature = "two"
	require.NotEqual(t, first, judge.Compare(c).Findings[0].ID, "or a waiver of the first would cover it")
}

func TestWhatElseChangedIsTold(t *testing.T) {
	t.Parallel()
	c := pair(map[string]string{"a": "pass"}, map[string]string{"a": "pass"})
	b, n := c.Before, &c.Attempts[0].Side
	b.Checkbox, n.Checkbox = "7.2.0", "7.3.0"
	b.Firmware, n.Firmware = "1.0", "" // not known: no change
	b.Cmdline, n.Cmdline = "BOOT_IMAGE=/vmlinuz-50 root=UUID=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee ro", "BOOT_IMAGE=/vmlinuz-51 root=UUID=11111111-2222-3333-4444-555555555555 ro nosmt"
	b.Memory, n.Memory = 16<<30, 8<<30
	b.Hardware, n.Hardware = map[string]string{"nvme0": "Samsung", "wlan0": "Intel"}, map[string]string{"nvme0": "Samsung"}
	b.Manifest, n.Manifest = map[string]string{"has_x": "true"}, map[string]string{"has_x": "false"}
	require.Equal(t, []cert.Change{{What: "checkbox", Before: "7.2.0", After: "7.3.0"}, {What: "cmdline", Before: "root=UUID=… ro", After: "root=UUID=… ro nosmt"},
		{What: "memory", Before: "16 GiB", After: "8 GiB"}, {What: "hardware", Before: "wlan0: Intel"}, {What: "manifest", Before: "has_x: true", After: "has_x: false"}},
		judge.Compare(c).Compared.Changes)
	b.Hardware = map[string]string{}
	for i := range 100 {
		b.Hardware[fmt.Sprintf("d%03d", i)] = "x"
	}
	require.Contains(t, judge.Compare(c).Compared.Changes, cert.Change{What: "hardware", After: "and 71 more"})
}

func TestFaultMachineWithoutManifest(t *testing.T) {
	t.Parallel()
	c := pair(map[string]string{"a": "pass"}, map[string]string{"a": "pass", "b": "skipped-manifest", "c": "skipped-manifest"})
	c.Attempts[0].Side.NoManifest = true
	got := judge.Compare(c)
	require.Equal(t, map[string]string{"": "manifest: 2 jobs were skipped because nobody has a manifest of the machine, 2 of them blockers: nothing is known of what they would have tested"}, texts(got))
	require.True(t, got.Findings[0].Open())
	require.False(t, got.Compared.Manifest)
}

func TestFaultSubmissionThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c := pair(nil, nil)
	c.Attempts[0].Unreadable, c.Attempts[0].Side = "it ends in the middle", judge.Side{}
	got := judge.Compare(c)
	require.Zero(t, got.Counted)
	require.Equal(t, map[string]string{"": "unreadable: its submission cannot be read: it ends in the middle"}, texts(got))
	require.True(t, got.Findings[0].Blocker)
}
