package main

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

var update = flag.Bool("update", false, "write golden files anew")

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

func ptr[T any](v T) *T { return &v }

// fullView is a campaign that has something of everything.
func fullView() cert.CampaignView {
	compared := func(ran int, proof cert.Proof, manifest bool) *cert.Compared {
		return &cert.Compared{Ran: ran, Planned: 139, Proof: proof, Manifest: manifest, Checkbox: "7.3.0"}
	}
	proved := cert.Proof{OK: true, Needed: true, Kernel: "6.8.0-51-generic"}
	return cert.CampaignView{
		Campaign: cert.Campaign{ID: "c0000000000000000000000001", Name: "noble-linux-6.8.0-51.52", Kind: cert.KindSRU, State: cert.CampaignDeciding, Version: 57,
			Subject: cert.Subject{Kind: cert.SubjectKernel, Source: "linux", Version: "6.8.0-51.52", Flavour: "generic", Series: "noble", Release: "24.04", Pocket: "proposed",
				Spin: 2, Cycle: "2026.11.02", Tracker: "https://bugs.launchpad.net/bugs/2091234"},
			Policy: cert.PolicyRef{Name: "sru", Version: 3}, Baseline: cert.Baseline{Rule: "released", Version: "6.8.0-50.51", Why: "the last released kernel"},
			Due: ptr(at("2026-11-27 12:00")), Supersedes: "c0000000000000000000000000"},
		DaysLeft: ptr(3.6), Finish: ptr(at("2026-11-24 03:00")), Holds: ptr(true), Standing: cert.StandUndecided,
		Coverage: cert.Coverage{Required: 42, Optional: 3, Excluded: 5, Waiting: 1, Queued: 1, Provisioning: 2, Running: 3, Done: 32, Blocked: 1, Missing: 2, Proved: 32, AsFound: 2,
			Why: map[string]int{"no machine could be deployed": 2, "its base is jammy": 5}},
		Counts: map[string]int{cert.ClassRegression: 4, cert.ClassStillFailing: 6, cert.FindKernelBoot: 1, cert.ClassFixed: 2}, Blockers: 4, Others: 2,
		Groups: []cert.FindingGroup{
			{Key: "a", Class: cert.FindKernelBoot, Blocker: true, New: true, Open: true, Machines: 1, Of: 33, Names: []string{"node40"}, HWClasses: map[string]int{"xps-13": 1},
				Findings: []string{"f0000000000000000000000001"}, Excerpt: "Kernel panic - not syncing: VFS: Unable to mount root fs", Text: "node40 did not boot"},
			{Key: "b", Class: cert.ClassRegression, Job: "com.canonical.certification::suspend/suspend_advanced_auto", Blocker: true, New: true, Open: true, Machines: 3, Of: 31,
				Names: []string{"node1", "node2", "node3"}, HWClasses: map[string]int{"xps-13": 2, "t480": 1}, Findings: []string{"f0000000000000000000000002"},
				Flaky: "failed 0 of the last 20 times on released kernels", Excerpt: "PM: Some devices failed to suspend", Attachments: 2},
			{Key: "c", Class: cert.ClassRegression, Job: "com.canonical.certification::audio/playback_hdmi", New: true, Open: true, Machines: 1, Of: 28, Names: []string{"node7"},
				Findings: []string{"f0000000000000000000000003"}, Flaky: "failed 3 of the last 20 times on released kernels", Issue: "k0000000000000000000000001", IssueLink: "https://bugs.launchpad.net/bugs/2090000"},
			{Key: "d", Class: cert.ClassStillFailing, Job: "com.canonical.certification::camera/still", Machines: 6, Of: 20, Names: []string{"node1"}, Issue: "k0000000000000000000000002"},
		},
		Skips: []cert.SkipCount{{Reason: "resource expression \"manifest.has_camera == 'True'\" evaluates to false", Jobs: 12, Blockers: 2, Machines: 9}},
		Infra: []cert.InfraCount{{Failure: "deploy", Tries: 4, Machines: 3, Again: "2 passed on a retry, 1 failed over, 1 given up", Last: "node9: MAAS failed to deploy it: curtin exited with 3"},
			{Failure: order.FailWrongKernel, Tries: 1, Machines: 1, Again: "1 passed on a retry", Last: "node5: no archive has linux-image-6.8.0-51-generic"}},
		Suspects: []cert.InfraCount{{Failure: "i0000000000000000000000001", Tries: 3, Machines: 3, Again: "3 repeated", Last: "rack r4 lost its switch"}},
		Changes:  []cert.ChangeCount{{What: "firmware", Machines: 2, Of: 31, Example: cert.Change{What: "firmware", Before: "1.2.0", After: "1.3.1"}, Names: []string{"node1", "node2"}}},
		Machines: []cert.Target{
			{Machine: "m40", Hostname: "node40", State: cert.TargetBlocked, Required: true, Why: "it did not boot twice"},
			{Machine: "m1", Hostname: "node1", State: cert.TargetDone, Required: true, Compared: compared(139, proved, true)},
			{Machine: "m7", Hostname: "node7", State: cert.TargetDone, Required: true, Compared: compared(137, proved, false)},
		},
		MoreMachines: 39, Standings: map[string]string{"m40": cert.StandUndecided, "m1": cert.StandUndecided, "m7": cert.StandApproved},
		StandCounts: map[string]int{cert.StandApproved: 29, cert.StandUndecided: 4, cert.StandWaiting: 9},
		Needs: []cert.Need{
			{What: "node40 did not boot the kernel", Kind: "finding", Machines: 1, Commands: []string{"certlab decision reject noble-linux-6.8.0-51.52 --reason '…'"}},
			{What: "2 machines are missing", Kind: "missing", Machines: 2, Names: []string{"node9", "node11"}, Commands: []string{"certlab campaign retry noble-linux-6.8.0-51.52 --state missing --reason '…'"}},
		},
		Decisions: []cert.Decision{{Seq: 12, Action: cert.Approve, Machine: "m7", By: "ada", Role: cert.Signer, At: at("2026-11-23 10:00"), Reason: "HDMI fails on this one for a year"}},
	}
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "go test ./cmd/certlab -run %s -update", t.Name())
}

// TestASignersQuestionsAreAnsweredOnOneScreen: whoever signs off a campaign asks six things, and one screen answers each.
func TestASignersQuestionsAreAnsweredOnOneScreen(t *testing.T) {
	t.Parallel()
	v := fullView()
	text := campaignScreen(v, screenWidth, screenLines)
	golden(t, "campaign-show.txt", text)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	require.LessOrEqual(t, len(lines), screenLines, "one screen")
	for _, line := range lines {
		if !strings.Contains(line, "certlab ") {
			require.LessOrEqual(t, utf8.RuneCountInString(line), screenWidth, line)
		}
	}
	flat := strings.Join(strings.Fields(text), " ") // a line may be broken anywhere
	for question, answers := range map[string][]string{
		"which kernel": {"kernel linux 6.8.0-51.52 generic", "series noble (24.04)", "ordinary stream", "pocket proposed", "spin 2: a respin", "cycle 2026.11.02",
			"https://bugs.launchpad.net/bugs/2091234", "2026-11-27 12:00 UTC, 3.6 days left"},
		"how much of it": {"42 required", "1 queued for a machine", "2 being provisioned", "3 running", "32 done", "1 blocked by the subject", "2 missing",
			"ran this kernel, proved at each boot: 32 of 33", "5 excluded", "2 × no machine could be deployed", "5 × its base is jammy"},
		"the whole plan": {"done with their plan complete", "139 of 139 jobs", "Blockers ", "Others ", "12 jobs (2 blockers) on 9 machines: resource expression"},
		"each failure": {"NEW regression suspend/suspend_advanced_auto", "on 3 of 31", "no known issue", "failed 0 of the last 20 times on released kernels",
			"log: PM: Some devices failed to suspend", "# and 2 attachments", "certlab finding show f0000000000000000000000002", "known: https://bugs.launchpad.net/bugs/2090000",
			"6.8.0-50.51 (the last released kernel)", "Changed firmware on 2 of 31: 1.2.0 → 1.3.1"},
		"the lab's own failures": {"Infra deploy: 4 tries on 3 machines; 2 passed on a retry, 1 failed over, 1 given up", "wrong-kernel: 1 try on 1 machine", "Suspects i0000000000000000000000001: 3 tries"},
		"who decides": {"29 approved, 4 undecided, 9 waiting", "node1 undecided: done", "Decisions 12: approved by ada (signer): node7, 2026-11-23 10:00 UTC: HDMI fails on this one for a year",
			"Verdict none yet; once given it is never changed, and the log of decisions is chained by hashes", "certlab decision reject noble-linux-6.8.0-51.52"},
	} {
		for _, answer := range answers {
			require.Contains(t, flat, answer, question)
		}
	}
	require.Contains(t, lines[0], "NEEDS A DECISION")
	require.Less(t, strings.Index(text, "kernel-boot"), strings.Index(text, "playback_hdmi"), "blockers come first")

	// With room, each machine's decision is beside it.
	require.Contains(t, campaignScreen(v, 1<<20, 1<<20), "node7 approved: done, 137 of 139 jobs, 6.8.0-51-generic, no manifest; approved by ada (signer): HDMI fails on this one for a year")

	// Once there is a verdict, it says what it rests on, and whom to tell.
	v.Campaign.State, v.Standing, v.Needs = cert.CampaignRejected, cert.StandRejected, nil
	v.Verdict = &cert.Verdict{Outcome: cert.StandRejected, By: "ada", Reason: "node40 does not boot", At: at("2026-11-24 08:00"), Policy: v.Campaign.Policy, Compare: 4, Doubts: 2,
		Head: strings.Repeat("ab", 32), Digest: strings.Repeat("cd", 32), Machines: make([]cert.VerdictMachine, 42)}
	text = strings.Join(strings.Fields(campaignScreen(v, screenWidth, screenLines)), " ")
	require.Contains(t, text, "REJECTED by ada")
	require.Contains(t, text, "Verdict rejected by ada, 2026-11-24 08:00 UTC: node40 does not boot")
	require.Contains(t, text, "rests on policy sru@3, comparing 4, doubts 2, 42 machines; log abababababab…, digest cdcdcdcdcdcd…")
	require.Contains(t, text, "to be told to https://bugs.launchpad.net/bugs/2091234")
}

// TestALargeCampaignStaysOnOneScreen: what does not fit is folded, and each fold says how many more there are and which command lists them.
func TestALargeCampaignStaysOnOneScreen(t *testing.T) {
	t.Parallel()
	v := fullView()
	for n := range 5 {
		for range 20 {
			v.Groups = append(v.Groups, v.Groups[n%3])
		}
	}
	for range 50 {
		v.Infra, v.Skips, v.Changes = append(v.Infra, v.Infra[0]), append(v.Skips, v.Skips[0]), append(v.Changes, v.Changes[0])
		v.Machines, v.Decisions, v.Needs = append(v.Machines, v.Machines[0]), append(v.Decisions, v.Decisions[0]), append(v.Needs, v.Needs[0])
	}
	v.More = 900
	text := campaignScreen(v, screenWidth, screenLines)
	require.LessOrEqual(t, strings.Count(text, "\n"), screenLines, text)
	for _, fold := range []string{"more: certlab campaign findings noble-linux-6.8.0-51.52 --open --blocker", "more: certlab campaign findings noble-linux-6.8.0-51.52 --open --no-blocker",
		"Besides    901 more: certlab campaign findings noble-linux-6.8.0-51.52", "more: certlab campaign targets noble-linux-6.8.0-51.52", "more: certlab decision list", "more: certlab campaign show --all"} {
		require.Contains(t, text, fold)
	}
}

// TestFaultLogsDoNotDisturbTheTerminal: what a log, a job's name or a machine says is text on a terminal, whatever is in it.
func TestFaultLogsDoNotDisturbTheTerminal(t *testing.T) {
	t.Parallel()
	const attack = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202e\x00\rgone"
	v := fullView()
	v.Groups[0].Excerpt, v.Groups[0].Job, v.Infra[0].Last, v.Needs[0].Commands[0] = attack, attack, attack, "certlab "+attack
	v.Campaign.Name = attack
	f := cert.FindingView{Finding: cert.Finding{Text: attack, Hostname: attack, Job: attack}, Excerpt: attack + "\nsecond\n", Console: "one\ntwo" + attack, Commands: []string{attack},
		Old: &cert.FindingSide{Excerpt: attack}, Issue: &cert.KnownIssue{Title: attack}}
	run := cert.Timeline{Run: cert.Run{Hostname: attack, Failure: &cert.Failure{Message: attack}}, Phases: []cert.TimelinePhase{{Name: attack, Text: attack}}, Job: &cert.JobProgress{ID: attack}}
	for name, text := range map[string]string{"campaign": campaignScreen(v, 1000, 1000), "progress": campaignProgress(v), "finding": findingScreen(f, 1000, 0), "run": timelineScreen(run, 1000, time.Now()),
		"error": plain("cannot: " + attack), "console": console(t, attack)} {
		require.Contains(t, text, "gone", name)
		for _, bad := range []string{"\x1b", "\x07", "\u009b", "\u202e", "\x00", "\r"} {
			require.NotContains(t, text, bad, "%s", name)
		}
	}
	require.Contains(t, findingScreen(f, 1000, 0), "│ second", "lines stay lines")
}

// console passes a text through the writer for consoles, byte for byte.
func console(t *testing.T, text string) string {
	var out strings.Builder
	w := &neutral{w: &out}
	for n := range len(text) {
		_, err := w.Write([]byte(text[n : n+1]))
		require.NoError(t, err)
	}
	require.NoError(t, w.flushed())
	return out.String()
}

func TestAConsoleKeepsItsLinesAndItsLetters(t *testing.T) {
	t.Parallel()
	require.Equal(t, "eins\n\tzwölf €\n", console(t, "eins\r\n\tzwölf €\r\n"))
	require.Equal(t, "cut \uFFFD", console(t, "cut \xe2\x82"))
	require.Equal(t, "bad \uFFFDx", console(t, "bad \xffx"))
}

// TestHowACampaignStandsIsTheExitStatus: nothing but a verdict that approves and that nothing contradicts is 0.
func TestHowACampaignStandsIsTheExitStatus(t *testing.T) {
	t.Parallel()
	approved, rejected := &cert.Verdict{Outcome: cert.StandApproved}, &cert.Verdict{Outcome: cert.StandRejected}
	for _, c := range []struct {
		state    cert.CampaignState
		standing string
		verdict  *cert.Verdict
		late     int
		want     exitCode
	}{
		{cert.CampaignApproved, cert.StandApproved, approved, 0, 0},
		{cert.CampaignApproved, cert.StandApproved, approved, 1, 2},
		{cert.CampaignApproved, cert.StandApproved, nil, 0, 2},
		{cert.CampaignApproved, cert.StandApproved, rejected, 0, 2},
		{cert.CampaignRejected, cert.StandRejected, rejected, 0, 1},
		{cert.CampaignDeciding, cert.StandApproved, nil, 0, 2},
		{cert.CampaignDeciding, cert.StandWaiting, nil, 0, 2},
		{cert.CampaignActive, cert.StandWaiting, nil, 0, 3},
		{cert.CampaignActive, "", nil, 0, 3},
		{cert.CampaignActive, cert.StandApproved, approved, 0, 2},
		{cert.CampaignPaused, cert.StandWaiting, nil, 0, 3},
		{cert.CampaignCancelled, cert.StandApproved, approved, 0, 4},
		{cert.CampaignSuperseded, "", nil, 0, 4},
		{"", "", nil, 0, 3},
	} {
		v := cert.CampaignView{Campaign: cert.Campaign{State: c.state}, Standing: c.standing, Verdict: c.verdict, Late: c.late}
		require.Equal(t, c.want, standingStatus(v), "%+v", c)
	}
	for want, d := range map[exitCode]cert.Decided{0: {Standing: cert.StandApproved, Verdict: approved}, 1: {Standing: cert.StandRejected, Verdict: rejected},
		2: {Standing: cert.StandApproved}, 3: {Standing: cert.StandWaiting}} {
		require.Equal(t, want, decidedStatus(d))
	}
	require.Equal(t, exitUndecided, decidedStatus(cert.Decided{}), "nothing is no approval")
	require.Equal(t, exitUndecided, decidedStatus(cert.Decided{Standing: cert.StandApproved, Verdict: rejected}))
}

func TestAScreenIsDrawnInItsPlace(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := &screen{std: streams{out: &out}, tty: true}
	s.show("one\ntwo\nthree\n", "")
	s.show("four\n", "")
	require.Equal(t, "\rone\x1b[K\n\rtwo\x1b[K\n\rthree\x1b[K\n\x1b[J"+"\x1b[3A\rfour\x1b[K\n\x1b[J", out.String())
	out.Reset()
	s.end()
	s.end()
	require.Equal(t, "\x1b[1A\r\x1b[J", out.String())
	require.Equal(t, "[#####.....]", bar(1, 2, 10))
	require.Equal(t, "[..........]", bar(-1, 2, 10))
	require.Equal(t, "[##########]", bar(9, 2, 10))
	require.Empty(t, bar(0, 0, 10), "nothing is not all")
}
