package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
	"certlab/internal/results"
)

const namespace = "com.canonical.certlab::"

// submission reads the archive of a run that is still in the spool.
func submission(t *testing.T, r order.Run) *results.Submission {
	t.Helper()
	require.NotEmpty(t, r.SubmissionPath)
	f, err := os.Open(r.SubmissionPath)
	require.NoError(t, err)
	defer f.Close()
	sub, err := results.Read(f, results.Options{KeepLog: 1 << 20})
	require.NoError(t, err)
	return sub
}

// result returns the one result of a job; that there is only one is part of what is tested.
func result(t *testing.T, sub *results.Submission, id string) results.Result {
	t.Helper()
	var found []results.Result
	for _, r := range sub.Results {
		if r.ID == id {
			found = append(found, r)
		}
	}
	require.Len(t, found, 1, "results of %s", id)
	return found[0]
}

func kinds(r order.Run) []order.FileKind {
	var k []order.FileKind
	for _, f := range r.Files {
		if f.Kind != order.JobsFile {
			k = append(k, f.Kind)
		}
	}
	return k
}

func TestRunOfAPlanEndsWithItsSubmission(t *testing.T) {
	t.Parallel()
	g := newRig(t, realCheckbox(t))
	secret := filepath.Join(g.dir, "secret-environment")
	require.NoError(t, os.WriteFile(secret, []byte("# a comment\nCERTLAB_SECRET=do not tell\n"), 0o600))
	g.desired.SecretEnvFile = secret
	g.desired.Proxy = order.Proxy{HTTP: "http://user:hidden@proxy:3128"}
	g.desired.DefaultPlan = namespace + "demo-quick"
	g.start()
	id := g.run(order.Spec{Title: "the title", Exclude: []string{".*::odd-bytes"}, Environment: map[string]string{"CERTLAB_DEMO": "100% 'it'"}})
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, order.Counts{"pass": 3, "fail": 1, "crash": 1, "not-supported": 1}, r.Counts)
	require.Equal(t, []order.FileKind{order.SubmissionFile, order.ConsoleFile}, kinds(r))
	require.Equal(t, "1.18.1", r.CheckboxVersion)
	require.Equal(t, 8, r.Progress.JobsPlanned)
	require.Equal(t, 8, r.Progress.JobsDone)
	require.Empty(t, r.Interruptions)

	sub := submission(t, r)
	require.Equal(t, namespace+"demo-quick", sub.Plan)
	require.Equal(t, "the title", sub.Title)
	require.Equal(t, "certlab run "+id+" attempt 1", sub.Description)
	require.Contains(t, result(t, sub, namespace+"environment").Log, "CERTLAB_DEMO is 100% 'it'")
	sum, size, err := hashFile(r.SubmissionPath)
	require.NoError(t, err)
	require.Equal(t, order.File{Kind: order.SubmissionFile, Name: "submission.tar.xz", SHA256: sum, Size: size}, r.Files[0])

	// Nothing is left of the attempt, least of all its secrets.
	require.NoDirExists(t, filepath.Join(g.dir, "runs", id, "attempt-1"))
	_, left, err := checkbox.FindSession(checkbox.SessionsDir, "certlab run "+id+" attempt 1")
	require.NoError(t, err)
	require.False(t, left)

	// What failed can be run again, and only that.
	again, err := g.client.RerunFailed(context.Background(), id)
	require.NoError(t, err)
	second := g.wait(again.Run)
	require.Equal(t, order.Counts{"fail": 1, "crash": 1}, second.Counts)
}

func TestFaultAgentKilled(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-slow"})
	g.in(id, namespace+"slow", "second 1")
	g.kill()
	var before kept
	require.NoError(t, readJSON(filepath.Join(g.starts()[0], keepFile), &before))
	g.start()
	g.until("the agent has found the run", 10*time.Second, func() bool {
		r, err := g.client.Run(context.Background(), id, 0)
		require.NoError(t, err)
		return r.Progress.CurrentJob == namespace+"slow"
	})
	require.Len(t, g.starts(), 1)
	require.True(t, before.Keeper.alive())
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State)
	require.Empty(t, r.Interruptions)
	log := result(t, submission(t, r), namespace+"slow").Log
	require.Equal(t, 1, strings.Count(log, "second 0\n"))
	require.Contains(t, log, "second 19\n")
}

func TestFaultPowerCutInABlockerJobIsNoPass(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-blocker"})
	g.in(id, namespace+"blocker", "second 1")
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Len(t, r.Interruptions, 1)
	i := r.Interruptions[0]
	require.Equal(t, order.Interruption{Job: namespace + "blocker", Cause: "reboot", BootBefore: "boot-1", BootAfter: "boot-2", At: i.At, Note: "resumed"}, i)
	require.Equal(t, "boot-2", r.BootID)
	sub := submission(t, r)
	lost := result(t, sub, namespace+"blocker")
	require.Equal(t, results.Fail, lost.Outcome)
	require.Contains(t, lost.Comments, "machine lost: the machine rebooted or lost power in "+namespace+"blocker")
	require.Equal(t, results.Pass, result(t, sub, namespace+"pass").Outcome)
	require.Equal(t, results.Pass, result(t, sub, namespace+"after-blocker").Outcome)
	require.Equal(t, []string{namespace + "blocker"}, r.BlockersFailed)
	require.Equal(t, 3, r.Progress.JobsPlanned)
	require.Equal(t, 3, r.Progress.JobsDone)
}

func TestFaultPowerCutBeforeTheFirstJob(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-slow"})
	g.in(id, namespace+"slow", "second 1")
	g.killAll()
	// The session as Checkbox 1.18.1 has it for a moment: the plan is chosen, and no job has been started.
	sessions, err := checkbox.Sessions(checkbox.SessionsDir)
	require.NoError(t, err)
	rewritten := 0
	for _, s := range sessions {
		if s.Description != "certlab run "+id+" attempt 1" {
			continue
		}
		rewritten++
		rewriteSession(t, filepath.Join(s.Dir, "session"), func(session map[string]any) {
			session["results"], session["jobs"] = map[string]any{}, map[string]any{}
			metadata := session["metadata"].(map[string]any)
			metadata["running_job_name"], metadata["last_job_start_time"] = nil, nil
		})
	}
	require.Equal(t, 1, rewritten)
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Completed, r.State)
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, "no job had been started: begun afresh", r.Interruptions[0].Note)
	require.Equal(t, results.Pass, result(t, submission(t, r), namespace+"slow").Outcome)
}

// rewriteSession changes the state of a Checkbox session on disk.
func rewriteSession(t *testing.T, path string, change func(session map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	z, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	var state map[string]any
	require.NoError(t, json.NewDecoder(z).Decode(&state))
	change(state["session"].(map[string]any))
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	require.NoError(t, json.NewEncoder(w).Encode(state))
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
}

func TestFaultKeeperKilled(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-slow"})
	g.in(id, namespace+"slow", "second 1")
	dir := g.starts()[0]
	var k kept
	require.NoError(t, readJSON(filepath.Join(dir, keepFile), &k))
	k.Keeper.signal(syscall.SIGKILL)
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State)
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, "killed", r.Interruptions[0].Cause)
	require.Equal(t, results.Fail, result(t, submission(t, r), namespace+"slow").Outcome)
	require.Empty(t, marked(dir), "processes of the killed start live on")
}

// fakeReboot puts a systemctl into the PATH of the rig that only leaves a mark; a real one would take down the machine of the tests.
func fakeReboot(t *testing.T, g *rig) (mark string) {
	bin := t.TempDir()
	mark = filepath.Join(bin, "rebooted")
	require.NoError(t, os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\n[ \"$1\" = reboot ] && touch "+mark+"\nexit 0\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "reboot"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	g.opts.Path = bin + ":" + os.Getenv("PATH")
	return mark
}

func TestJobThatRebootsOnPurposePasses(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	mark := fakeReboot(t, g)
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-reboot", Environment: map[string]string{"CERTLAB_ALLOW_REBOOT": "1"}})
	g.in(id, namespace+"reboot", "rebooting")
	g.until("the job reboots", 10*time.Second, func() bool { return exists(mark) })
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State)
	require.Len(t, r.Interruptions, 1)
	require.True(t, r.Interruptions[0].Expected)
	require.Equal(t, namespace+"reboot", r.Interruptions[0].Job)
	sub := submission(t, r)
	require.Equal(t, results.Pass, result(t, sub, namespace+"reboot").Outcome)
	require.Equal(t, results.Pass, result(t, sub, namespace+"after-reboot").Outcome)
}

func TestMachineThatIsNotEnrolledIsNotRebooted(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	mark := fakeReboot(t, g)
	g.start()
	r := g.wait(g.run(order.Spec{Plan: namespace + "demo-reboot"}))
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, results.NotSupported, result(t, submission(t, r), namespace+"reboot").Outcome)
	require.NoFileExists(t, mark)
}

func TestRunIsCancelled(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.opts.TempDir = t.TempDir()
	require.NoError(t, os.Chmod(g.opts.TempDir, 0o755))
	g.start()
	id := g.run(order.Spec{Plan: namespace + "demo-hang"})
	queued := g.run(order.Spec{Plan: namespace + "demo-slow"})
	g.in(id, namespace+"hang", "")
	dir := g.starts()[0]
	g.until("the job has started its processes", 10*time.Second, func() bool { return len(marked(dir)) >= 3 })
	g.until("Checkbox has made a directory for the job", 20*time.Second, func() bool {
		made, _ := filepath.Glob(filepath.Join(g.opts.TempDir, "certlab-"+id+"-1", "nest-*"))
		return len(made) > 0
	})
	_, err := g.client.Cancel(context.Background(), queued)
	require.NoError(t, err)
	_, err = g.client.Cancel(context.Background(), id)
	require.NoError(t, err)
	r := g.wait(id)
	require.Equal(t, order.Cancelled, r.State)
	require.Nil(t, r.Failure)
	require.Equal(t, []order.FileKind{order.ConsoleFile, order.SessionFile}, kinds(r))
	require.Empty(t, marked(dir), "processes of the cancelled run live on")
	require.Equal(t, order.Cancelled, g.wait(queued).State)
	left, err := os.ReadDir(g.opts.TempDir)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files go with their run, also where what made them was killed")
}

func TestFaultCheckboxHangsOrPrintsWithoutEnd(t *testing.T) {
	t.Parallel()
	hangs := script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer", Jobs: []checkbox.Job{{ID: example + "killer", Plugin: "shell"}}}
	floods := hangs
	floods.Endless = true
	for _, test := range []struct {
		name, plan, failure string
		script              *script // nil: the real Checkbox
		change              func(*order.AgentDesired)
	}{
		{"total time", hangs.Plan, order.FailTimeout, &hangs, func(d *order.AgentDesired) { d.TimeoutSeconds = 15 }},
		{"silence", namespace + "demo-hang", order.FailSilence, nil, func(d *order.AgentDesired) { d.SilenceSeconds = 25 }},
		{"console", floods.Plan, order.FailConsoleSize, &floods, func(d *order.AgentDesired) { d.ConsoleMaxBytes = 200_000 }},
		{"session", namespace + "demo-flood", order.FailSessionSize, nil, func(d *order.AgentDesired) { d.SessionMaxBytes = 1_000_000 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var g *rig
			if test.script != nil {
				g, _ = scriptedRig(t, *test.script)
			} else {
				g = newRig(t, knownCheckbox(t))
			}
			test.change(&g.desired)
			g.start()
			id := g.run(order.Spec{Plan: test.plan})
			r := g.wait(id)
			require.Equal(t, order.Failed, r.State)
			require.Equal(t, test.failure, r.Failure.Type, r.Failure.Message)
			job, _, _ := strings.Cut(test.plan, "::")
			require.Contains(t, r.Failure.Message, "in job "+job+"::")
			require.Contains(t, kinds(r), order.ConsoleFile)
			require.Contains(t, kinds(r), order.SessionFile)
			if limit := g.desired.ConsoleMaxBytes; limit > 0 {
				require.Equal(t, limit, r.Files[0].Size)
			}
		})
	}
}

func TestFaultPlanThatCannotBeRun(t *testing.T) {
	t.Parallel()
	g := newRig(t, knownCheckbox(t))
	g.start()
	r := g.wait(g.run(order.Spec{Plan: namespace + "demo-quik"}))
	require.Equal(t, order.FailPlanUnknown, r.Failure.Type)
	require.Regexp(t, `Checkbox knows no test plan "com.canonical.certlab::demo-quik" \(did you mean com.canonical.certlab::demo-quick`, r.Failure.Message)
	require.Empty(t, r.Files)

	r = g.wait(g.run(order.Spec{Plan: namespace + "demo-manual"}))
	require.Equal(t, order.FailInteractive, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "asks a person: "+namespace+"manual (exclude them")

	r = g.wait(g.run(order.Spec{Plan: namespace + "demo-quick", Match: []string{"nothing"}}))
	require.Equal(t, order.FailCheckbox, r.Failure.Type)

	// Without the job that asks, it runs.
	r = g.wait(g.run(order.Spec{Plan: namespace + "demo-manual", Exclude: []string{".*::manual"}}))
	require.Equal(t, order.Counts{"pass": 1}, r.Counts)

	_, err := g.client.Start(context.Background(), order.RunRequest{Spec: order.Spec{Plan: "sru"}})
	require.ErrorContains(t, err, "not a full id")
	_, err = g.client.Start(context.Background(), order.RunRequest{})
	require.ErrorContains(t, err, "default-plan")
}

func TestPlansAreListed(t *testing.T) {
	t.Parallel()
	g := newRig(t, realCheckbox(t))
	g.start()
	plans, err := g.client.Plans(context.Background(), "PREFLIGHT")
	require.NoError(t, err)
	require.Equal(t, []order.Suite{{ID: namespace + "preflight", Name: "Preflight: is this machine fit to test"}}, plans)
}
