package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// tendCampaigns goes through the commands on campaigns and what belongs to them, with a controller whose one machine never answers.
func tendCampaigns(t *testing.T) {
	wanted := []string{"--kind", "adhoc", "--machine-as-it-is", "--machine", "node0", "--plan", "com.example.lab::small", "--name", "as-it-is", "--reason", "to see"}
	require.Contains(t, mustCertlab(t, append([]string{"campaign", "plan"}, wanted...)...), "com.example.lab::small on 1")
	require.Contains(t, mustCertlab(t, "campaign", "list"), "CAMPAIGN")
	require.NotContains(t, mustCertlab(t, "campaign", "list"), "as-it-is", "a plan starts nothing")
	started := decodeJSON[cert.Campaign](t, mustCertlab(t, append([]string{"campaign", "start", "--format", "json"}, wanted...)...))
	require.Equal(t, "as-it-is", started.Name)
	require.Contains(t, mustCertlab(t, "campaign", "list", "--kind", "adhoc"), "as-it-is")
	out, _ := ends(t, exitRunning, "campaign", "show", "as-it-is")
	require.Contains(t, out, "NOT FINISHED")
	require.Contains(t, out, "1 required")
	out, _ = ends(t, exitRunning, "campaign", "show", "as-it-is", "--format", "json")
	require.Equal(t, started.ID, decodeJSON[cert.CampaignView](t, out).Campaign.ID)
	_, errs := ends(t, exitNothing, "campaign", "show", "as-it-iss")
	require.Contains(t, errs, "did you mean as-it-is?")
	_, errs = ends(t, exitConflict, append([]string{"campaign", "start"}, wanted...)...)
	require.Contains(t, errs, "as-it-is")
	require.Contains(t, mustCertlab(t, "campaign", "pause", "as-it-is", "--reason", "lunch"), "paused")
	require.Contains(t, mustCertlab(t, "campaign", "resume", "as-it-is"), "active")
	require.Contains(t, mustCertlab(t, "campaign", "change", "as-it-is", "--at-once", "2", "--due", "2030-01-01"), "2030-01-01 23:59 UTC")
	require.Contains(t, mustCertlab(t, "campaign", "targets", "as-it-is"), "node0")
	require.Contains(t, mustCertlab(t, "campaign", "findings", "as-it-is", "--open"), "FINDING")
	require.Contains(t, mustCertlab(t, "campaign", "events", "as-it-is"), "lunch")
	_, errs = ends(t, exitUsage, "decision", "approve", "as-it-is", "--machine", "node0", "--reason", " ")
	require.Contains(t, errs, "say why")
	code, _, errs := certlab(t, "", "decision", "approve", "as-it-is", "--reason", "it will be well")
	require.Greater(t, code, int(exitNoVerdict), "what has not run is not approved: %s", errs)
	require.Contains(t, mustCertlab(t, "campaign", "cancel", "as-it-is", "--reason", "enough"), "cancelled")
	out, _ = ends(t, exitNoVerdict, "campaign", "wait", "as-it-is", "--interval", "1ms")
	require.Contains(t, out, "CANCELLED, WITHOUT A VERDICT")
	exported := filepath.Join(t.TempDir(), "campaign.json")
	mustCertlab(t, "campaign", "export", "as-it-is", "-o", exported)
	require.Contains(t, readFile(t, exported), started.ID)

	rule := []string{"--job", "com.example.lab::*", "--log", "boom"}
	require.Contains(t, mustCertlab(t, append([]string{"issue", "preview"}, rule...)...), "recognises 0 results")
	added := decodeJSON[cert.SavedIssue](t, mustCertlab(t, append([]string{"issue", "add", "--title", "boom", "--link", "https://bugs.launchpad.net/bugs/1", "--owner", "ada", "--expires", "2030-01-01", "--format", "json"}, rule...)...))
	require.Contains(t, mustCertlab(t, "issue", "list"), added.ID)
	require.Contains(t, mustCertlab(t, "issue", "edit", added.ID, "--owner", "bob", "--log", ""), "job com.example.lab::*")
	shown := mustCertlab(t, "issue", "show", added.ID)
	require.Contains(t, shown, "bob")
	require.NotContains(t, shown, "log boom")
	require.Contains(t, mustCertlab(t, "issue", "stale"), "ISSUE")
	require.Contains(t, mustCertlab(t, "issue", "close", added.ID, "--reason", "fixed"), "closed")
	_, errs = ends(t, exitUsage, "issue", "preview", "--log", "(")
	require.Contains(t, errs, "(")

	require.Contains(t, mustCertlab(t, "policy", "list"), "certification")
	policy := filepath.Join(t.TempDir(), "sru.yaml")
	require.NoError(t, os.WriteFile(policy, []byte("kind: sru\nmachines:\n  at_least: 3\n"), 0o600))
	require.Contains(t, mustCertlab(t, "policy", "check", policy), "at_least: 3")
	require.Contains(t, mustCertlab(t, "policy", "save", "sru", policy), "sru@")
	require.Contains(t, mustCertlab(t, "policy", "show", "sru"), "at_least: 3")
	require.NoError(t, os.WriteFile(policy, []byte("kind: sru\nmachine: x\n"), 0o600))
	_, errs = ends(t, exitUsage, "policy", "check", policy)
	require.Contains(t, errs, "machine")
	require.Contains(t, mustCertlab(t, "decision", "list"), "SEQ")
	require.Equal(t, "the log of decisions is as it was written\n", mustCertlab(t, "decision", "verify"))
	require.Contains(t, mustCertlab(t, "kernel", "list"), "SOURCE")
}

func TestAKernelIsTakenFromTheKernelTeamsStatus(t *testing.T) {
	a := newAnswers(t)
	due := at("2027-01-15 12:00")
	ready := cert.KernelNews{Due: &due, Subject: cert.Subject{Kind: cert.SubjectKernel, Source: "linux", Version: "6.8.0-51.52", Series: "noble", Flavour: "generic", Pocket: "proposed", Spin: 2,
		Cycle: "2026.11.02", Tracker: "https://bugs.launchpad.net/bugs/1"}}
	begun := ready
	begun.Subject.Source, begun.Campaign = "linux-aws", "c1"
	a.gives("GET /api/v1/kernels", cert.KernelNewsList{Kernels: []cert.KernelNews{begun, ready}})
	a.gives("POST /api/v1/campaigns/plan", cert.CampaignPlan{})
	asked := func() cert.NewCampaign {
		return decodeJSON[cert.NewCampaign](t, a.bodies["POST /api/v1/campaigns/plan"])
	}
	mustCertlab(t, "campaign", "plan", "--from-kernel-news", "--query", "tags=sru")
	require.Equal(t, ready.Subject, asked().Subject, "the one that has no campaign")
	require.Equal(t, &due, asked().Due)
	mustCertlab(t, "campaign", "plan", "--from-kernel-news", "--kernel", "linux-aws=6.8.0-51.52", "--query", "tags=sru", "--spin", "3", "--ppa", "ppa:a/b", "--due", "2027-01-01")
	require.Equal(t, 3, asked().Subject.Spin, "what is typed stays")
	require.Equal(t, "ppa:a/b", asked().Subject.PPA)
	require.Empty(t, asked().Subject.Pocket)
	_, errs := ends(t, exitUsage, "campaign", "plan", "--from-kernel-news", "--series", "jammy", "--query", "tags=sru")
	require.Contains(t, errs, "it names none that fits and has no campaign (certlab kernel list)")
	begun.Campaign = ""
	a.gives("GET /api/v1/kernels", cert.KernelNewsList{Kernels: []cert.KernelNews{begun, ready}})
	_, errs = ends(t, exitUsage, "campaign", "plan", "--from-kernel-news", "--query", "tags=sru")
	require.Contains(t, errs, "2 fit (choose one: --kernel linux-aws=6.8.0-51.52 --series noble; --kernel linux=6.8.0-51.52 --series noble)")
}

func TestAFindingShowsWhatTellsTheKernelFromTheMachine(t *testing.T) {
	t.Parallel()
	old := cert.FindingSide{Kernel: "6.8.0-50-generic", Outcome: "pass", At: at("2026-11-01 10:00"), Hostname: "node1"}
	v := cert.FindingView{
		Finding: cert.Finding{ID: "f1", Class: cert.ClassRegression, Job: "com.canonical.certification::suspend/suspend_advanced_auto", Name: "Suspend", Hostname: "node1", HWClass: "xps-13",
			Blocker: true, New: true, Attention: true, Outcome: "fail", Before: "pass", Text: "it passed on 6.8.0-50-generic and fails now", Plan: "com.canonical.certification::sru", Run: "r1", Submission: "s1",
			Outcomes: []cert.Again{{Outcome: "fail"}, {Outcome: "pass", Doubt: "kernel-oops"}}, Confirm: &cert.Confirm{Text: "passes on 6.8.0-50-generic: it is the kernel"}},
		Excerpt: strings.Repeat("line\n", 20) + "PM: Some devices failed to suspend\n", Old: &old, Console: "early\nKernel panic\n", ConsoleURL: "https://controller/console",
		Others: []cert.FindingSide{{Hostname: "node2", HWClass: "t480", Kernel: "6.8.0-51-generic", Outcome: "fail", At: at("2026-11-22 10:00"), Alike: true}},
		Flaky:  &cert.FlakyRate{Text: "failed 0 of the last 20 times on released kernels"}, Changes: []cert.Change{{What: "firmware", Before: "1.2", After: "1.3"}},
		Attachments: []cert.Attachment{{Submission: "s1", Index: 4, Name: "dmesg.txt", Size: 1234}},
		Commands:    []string{"certlab finding confirm f1", "certlab finding rerun f1 --reason '…'", "certlab finding link f1 --link … --owner … --expires …", "certlab finding waive f1 --until … --reason '…'"},
	}
	golden(t, "finding-show.txt", findingScreen(v, screenWidth, 12))
}

func TestARunsTimelineIsShownAsFarAsItIs(t *testing.T) {
	t.Parallel()
	boot := func(id, kernel string, proved, tests bool) order.Boot {
		return order.Boot{ID: id, Kernel: kernel, Proved: proved, Tests: tests}
	}
	began := at("2026-11-23 10:00")
	phase := func(name string, attempt int, after, took time.Duration, text string) cert.TimelinePhase {
		p := cert.TimelinePhase{Name: name, Attempt: attempt, Started: began.Add(after), Text: text}
		if took > 0 {
			p.Ended = ptr(p.Started.Add(took))
		}
		return p
	}
	testing := phase("testing", 1, 12*time.Minute, 0, "")
	testing.Boot, testing.Kernel = "0a6b2e0c", "6.8.0-51-generic"
	v := cert.Timeline{Campaign: "noble", Purpose: cert.TryRetry, Expected: ptr(began.Add(time.Hour)), Contact: ptr(began.Add(29*time.Minute + 50*time.Second)),
		Run: cert.Run{ID: "r1", Hostname: "node1", Spec: cert.Spec{Plan: "com.canonical.certification::sru"}, State: cert.Running, Attempts: []cert.Attempt{{Number: 1,
			Subject: &order.SubjectState{Step: order.SubjectProved, Boots: []order.Boot{boot("77aa", "6.8.0-50-generic", false, false), boot("0a6b2e0c", "6.8.0-51-generic", true, true)}}}}},
		Phases: []cert.TimelinePhase{phase("queued", 0, 0, time.Minute, ""), phase("deploy", 0, time.Minute, 8*time.Minute, "noble"), phase("installing", 1, 9*time.Minute, 2*time.Minute, ""),
			phase("booting", 1, 11*time.Minute, time.Minute, ""), testing},
		Job:     &cert.JobProgress{Number: 37, Of: 139, ID: "com.canonical.certification::suspend/suspend_advanced_auto", Seconds: 42, Expected: 65},
		Power:   []cert.MachineEvent{{At: began.Add(20 * time.Minute), Who: "ada", Kind: "power", Text: "switched off and on: it hung"}},
		Uploads: []cert.UploadState{{Kind: "console", Name: "console.txt", Bytes: 100, Size: 4000}, {Kind: "journal", Name: "journal.txt", Bytes: 50, Size: 50, Done: true}}}
	golden(t, "run-timeline.txt", timelineScreen(v, screenWidth, began.Add(30*time.Minute)))
	require.Equal(t, "node1: running, testing, job 37 of 139", timelineProgress(v))
}

func TestARunIsWatchedToItsEnd(t *testing.T) {
	a := newAnswers(t)
	v := cert.Timeline{Run: cert.Run{ID: "r1", Hostname: "node1", State: cert.Completed}}
	a.gives("GET /api/v1/runs/r1/timeline", v)
	require.Contains(t, mustCertlab(t, "run", "show", "r1", "--watch", "--interval", "1ms"), "completed")
	v.Run.State, v.Run.Failure = cert.Failed, &cert.Failure{Type: order.FailKernelBoot, Message: "it did not boot"}
	a.gives("GET /api/v1/runs/r1/timeline", v)
	out, _ := ends(t, 1, "run", "show", "r1", "--watch", "--interval", "1ms")
	require.Contains(t, out, "kernel-boot: it did not boot")
	require.Contains(t, mustCertlab(t, "run", "show", "r1", "--timeline"), "kernel-boot")
	v.Run.State = cert.Running
	a.gives("GET /api/v1/runs/r1/timeline", v)
	ends(t, exitNotOver, "run", "show", "r1", "--watch", "--interval", "1h", "--patience", "1ms")
}

func TestAFindingBecomesAKnownIssue(t *testing.T) {
	a := newAnswers(t)
	f := cert.Finding{ID: "f1", Campaign: "c1", Job: "a::b", Outcome: "fail", Class: cert.ClassRegression, Text: "a::b fails"}
	a.gives("GET /api/v1/findings/f1", cert.FindingView{Finding: f})
	a.gives("POST /api/v1/issues", cert.SavedIssue{KnownIssue: cert.KnownIssue{ID: "k1"}, Linked: 3})
	link := []string{"finding", "link", "f1", "--link", "https://bugs.launchpad.net/bugs/1", "--owner", "ada", "--expires", "2030-01-01"}
	require.Contains(t, mustCertlab(t, link...), "3 findings of open campaigns")
	made := decodeJSON[cert.KnownIssue](t, a.bodies["POST /api/v1/issues"])
	require.Equal(t, cert.IssueMatch{Job: "a::b", Outcomes: []string{"fail"}}, made.Match)
	require.False(t, made.HidesBlockers, "a rule explains, unless somebody says that it hides")
	f.Job, f.Class, f.Outcome = "", cert.FindKernelBoot, ""
	a.gives("GET /api/v1/findings/f1", cert.FindingView{Finding: f})
	_, errs := ends(t, exitUsage, link...)
	require.Contains(t, errs, "it is about no job (give --log")
	mustCertlab(t, append(link, "--log", "VFS: Unable to mount root")...)
	require.Equal(t, []string{cert.FindKernelBoot}, decodeJSON[cert.KnownIssue](t, a.bodies["POST /api/v1/issues"]).Match.Outcomes)

	a.gives("POST /api/v1/campaigns/c1/decisions", cert.Decided{Standing: cert.StandUndecided, Decisions: []cert.Decision{{Seq: 1, Action: cert.Waive, Findings: []string{"f1"}, By: "ada"}}})
	out, _ := ends(t, exitUndecided, "finding", "waive", "f1", "--until", "2030-01-01", "--reason", "a quirk")
	require.Contains(t, out, "decision 1: waived by ada: 1 finding")
	a.gives("POST /api/v1/findings/f1/confirm", cert.Retried{Runs: []string{"r1"}})
	require.Equal(t, "certlab run show --watch r1\n", mustCertlab(t, "finding", "confirm", "f1"))
	a.gives("POST /api/v1/findings/f1/rerun", cert.Retried{Skipped: map[string]string{"node1": "it is gone"}})
	require.Equal(t, "node1: not run again: it is gone\n", mustCertlab(t, "finding", "rerun", "f1", "--reason", "again"))
}

func TestAPreviewIsAddedUpUntilAllWasLookedAt(t *testing.T) {
	a := newAnswers(t)
	portions := []cert.IssuePreview{{Matches: 2, Examined: 500, Cursor: "x", Machines: 2, ByJob: map[string]int{"a::b": 2}, Open: []string{"f1"}}, {Matches: 1, Examined: 100, Complete: true, Machines: 1,
		ByJob: map[string]int{"a::b": 1}, Open: []string{"f1"}}}
	n := 0
	a.by["POST /api/v1/issues/preview"] = func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(portions[n%2])
		n++
	}
	out := mustCertlab(t, "issue", "preview", "--job", "a::b")
	require.Contains(t, out, "recognises 3 results on 2 machines, of all 600 results that it could be about")
	require.Contains(t, out, "3 × a::b")
	require.Equal(t, []string{"POST /api/v1/issues/preview", "POST /api/v1/issues/preview?cursor=x"}, a.asked)
	n = 0
	out = mustCertlab(t, "issue", "preview", "--job", "a::b", "--patience", "0s")
	require.Contains(t, out, "recognises 2 results on 2 machines, of the newest 500 results that it could be about; there are MORE")
}
