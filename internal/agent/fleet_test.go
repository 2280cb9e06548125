package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/cert"
	"certlab/internal/order"
)

// last is the last status that the controller was told.
func (c *testController) last() order.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.statuses) == 0 {
		return order.Status{}
	}
	return c.statuses[len(c.statuses)-1]
}

func newID() string { return cert.NewID(cert.RunID, time.Now()) }

func TestControllerLearnsHowAMachineIs(t *testing.T) {
	t.Parallel()
	s := small
	s.Wait = filepath.Join(t.TempDir(), "go on")
	g, _ := scriptedRig(t, s)
	c := newController(t)
	c.faults["status 503"] = 2 // it is told again until it has heard
	c.enrol(g)
	g.start()
	g.until("Checkbox is ready", 30*time.Second, func() bool { return c.last().Ready() })
	told := c.last()
	require.Equal(t, "boot-1", told.BootID)
	require.Equal(t, "7.3.0", told.CheckboxVersion)
	require.Equal(t, machineIdentity("/").Kernel, told.Kernel)
	require.Empty(t, told.Problem)
	require.Empty(t, told.Undelivered)
	id := newID()
	c.mu.Lock()
	c.orders[id] = order.Order{Run: id, Spec: order.Spec{Plan: small.Plan}}
	c.faults["report 500"] = 1
	c.mu.Unlock()
	g.until("the run is told of", 30*time.Second, func() bool {
		now := c.last()
		return now.Running == id && len(now.Undelivered) == 1 && now.Undelivered[0] == id
	})
	require.NoError(t, os.WriteFile(s.Wait, nil, 0o644))
	g.until("nothing is held any more", 30*time.Second, func() bool { return c.last().Running == "" && len(c.last().Undelivered) == 0 })
	count := len(c.statuses)
	// One that goes back in time is told again.
	c.mu.Lock()
	c.epoch = "another"
	c.mu.Unlock()
	g.until("it is told again", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.statuses) > count
	})
}

func TestFaultCheckboxCannotBeInstalledAndTheControllerLearnsWhy(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	path := g.desired.Checkbox.Path
	g.desired.Checkbox.Path = "/nothing/checkbox-cli"
	c := newController(t)
	c.enrol(g)
	g.start()
	want := "set checkbox-path to where checkbox-cli is: there is nothing at /nothing/checkbox-cli"
	g.until("it says why", 30*time.Second, func() bool { return c.last().Problem == want })
	require.False(t, c.last().Ready())
	g.desired.Checkbox.Path = path
	g.hangup()
	g.until("it is ready", 30*time.Second, func() bool { return c.last().Ready() && c.last().Problem == "" })
}

func TestWhatTheLabKnowsOfAMachineReachesItsRuns(t *testing.T) {
	t.Parallel()
	g, s := scriptedRig(t, small)
	g.desired.Deployment = "d1"
	g.desired.Environment = map[string]string{"A": "unit", "B": "unit", "C": "unit"}
	g.desired.Manifest = map[string]string{"x::has_a": "false", "x::has_b": "false"}
	c := newController(t)
	c.enrol(g)
	id := newID()
	c.orders[id] = order.Order{Run: id, Spec: order.Spec{Plan: small.Plan, Environment: map[string]string{"A": "asked"}},
		SiteEnvironment: map[string]string{"A": "site", "B": "site"}, Manifest: map[string]string{"x::has_a": "true", "x::port": "7"}}
	g.start()
	g.delivered(id)
	said, err := os.ReadFile(s.Said)
	require.NoError(t, err)
	for _, line := range []string{"A = asked", "B = site", "C = unit", "CERTLAB_ALLOW_REBOOT = 1", "x::has_a = true", "x::has_b = false", "x::port = 7"} {
		require.Contains(t, string(said), "\n"+line+"\n")
	}
	// It is on disk, so that a restart in the middle changes nothing.
	var rec record
	require.NoError(t, readJSON(filepath.Join(g.dir, "runs", id, recordFile), &rec))
	require.Equal(t, "site", rec.SiteEnvironment["B"])
	require.Equal(t, "7", rec.Manifest["x::port"])
	require.False(t, *rec.Run.NoManifest)

	bad := newID()
	c.mu.Lock()
	c.orders[bad] = order.Order{Run: bad, Spec: order.Spec{Plan: small.Plan}, Manifest: map[string]string{"has a": "true"}}
	c.mu.Unlock()
	r := g.delivered(bad)
	require.Equal(t, order.Failed, r.State)
	require.Contains(t, r.Failure.Message, `manifest entry "has a" is not a full id`)
}

func TestJobThatSwitchesTheMachineOffAnnouncesItsSilence(t *testing.T) {
	t.Parallel()
	job := "com.canonical.certification::cold-boot-loop-reboot1"
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "reboot", Running: job,
		Jobs:    []checkbox.Job{{ID: job, Plugin: "shell", Flags: []string{"noreturn"}}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-reboot.tar.xz"})
	g.opts.ReportEvery = time.Minute // which must not keep the word back
	c := newController(t)
	c.enrol(g)
	id := newID()
	c.orders[id] = order.Order{Run: id, Spec: order.Spec{Plan: example + "reboot", Environment: map[string]string{"STRESS_BOOT_WAKEUP_DELAY": "7200"}}}
	g.start()
	g.until("the silence is announced", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := len(c.reports[id])
		return n > 0 && c.reports[id][n-1].Progress == order.Progress{Phase: order.Testing, JobsPlanned: 3, JobsDone: 1, CurrentJob: job, QuietSeconds: 1800 + 7200 + 120}
	})
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Zero(t, r.Progress.QuietSeconds)
}

// lossRig is a machine that is lost in a job, and what its last boot leaves behind.
func lossRig(t *testing.T, flags ...string) (*rig, string) {
	t.Helper()
	job := example + "hang"
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: job, Jobs: []checkbox.Job{{ID: job, Plugin: "shell", Flags: flags}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz", WaitLast: filepath.Join(t.TempDir(), "go on")})
	g.opts.JournalCommand = []string{program(t, `echo "asked for $*"; for i in 1 2 3; do echo "line $i"; done`)}
	dir := filepath.Join(g.opts.PstoreDirs[0], "1700000000")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dmesg-efi-1"), []byte("Kernel panic - not syncing: Fatal exception"), 0o600))
	return g, job
}

const firstBoot, secondBoot = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"

func TestFaultMachineIsLostInAJobAndItsLastWordsAreDelivered(t *testing.T) {
	t.Parallel()
	g, job := lossRig(t)
	c := newController(t)
	c.enrol(g)
	g.boot(firstBoot)
	g.start()
	id := newID()
	c.mu.Lock()
	c.orders[id] = order.Order{Run: id, Spec: order.Spec{Plan: example + "killed-nb"}}
	c.mu.Unlock()
	g.taken(id)
	g.in(id, job, "")
	g.killAll()
	g.boot(secondBoot)
	g.start()
	g.until("it is taken", 30*time.Second, func() bool { return exists(filepath.Join(g.dir, "runs", id, "attempt-1", "lost-1-journal.txt")) })
	require.NoError(t, os.WriteFile(scriptOf(t, g).WaitLast, nil, 0o644))
	r := g.delivered(id)
	require.Equal(t, []order.FileKind{order.SubmissionFile, order.ConsoleFile, order.JournalFile, order.PstoreFile}, kinds(r))
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, "asked for -b "+strings.ReplaceAll(firstBoot, "-", "")+" -n 2000 --no-pager -q\nline 1\nline 2\nline 3\n", string(c.files[r.Files[2].SHA256]))
	z, err := gzip.NewReader(bytes.NewReader(c.files[r.Files[3].SHA256]))
	require.NoError(t, err)
	archive := tar.NewReader(z)
	header, err := archive.Next()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(header.Name, "1700000000/dmesg-efi-1"), header.Name)
	text, err := io.ReadAll(archive)
	require.NoError(t, err)
	require.Equal(t, "Kernel panic - not syncing: Fatal exception", string(text))
}

// taken waits until an order has become a run.
func (g *rig) taken(id string) {
	g.t.Helper()
	g.until("the order is taken", 30*time.Second, func() bool {
		_, err := g.client.Run(context.Background(), id, 0)
		return err == nil
	})
}

// scriptOf reads what a rig's Checkbox does.
func scriptOf(t *testing.T, g *rig) script {
	t.Helper()
	text, err := os.ReadFile(g.desired.Checkbox.Path)
	require.NoError(t, err)
	file := regexp.MustCompile(`script='([^']*)'`).FindSubmatch(text)
	require.NotNil(t, file)
	var s script
	require.NoError(t, readJSON(string(file[1]), &s))
	return s
}

func TestFaultMachineIsLostInAJobThatReboots(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		cycled bool
		want   []order.FileKind
	}{
		{"by itself", false, []order.FileKind{order.SubmissionFile, order.ConsoleFile}},
		{"the controller has cycled its power", true, []order.FileKind{order.SubmissionFile, order.ConsoleFile, order.JournalFile, order.PstoreFile}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g, job := lossRig(t, "noreturn")
			c := newController(t)
			c.enrol(g)
			g.boot(firstBoot)
			g.start()
			id := newID()
			c.mu.Lock()
			c.orders[id] = order.Order{Run: id, Spec: order.Spec{Plan: example + "killed-nb"}}
			c.mu.Unlock()
			g.taken(id)
			g.in(id, job, "")
			g.killAll()
			if test.cycled {
				c.mu.Lock()
				c.lost = []string{id}
				c.mu.Unlock()
			}
			g.boot(secondBoot)
			g.start()
			if test.cycled {
				g.until("it is taken", 30*time.Second, func() bool { return exists(filepath.Join(g.dir, "runs", id, "attempt-1", "lost-1-pstore.tar.gz")) })
			}
			require.NoError(t, os.WriteFile(scriptOf(t, g).WaitLast, nil, 0o644))
			r := g.delivered(id)
			require.Equal(t, test.want, kinds(r))
			require.True(t, r.Interruptions[0].Expected)
			if test.cycled {
				require.Equal(t, "power-cut", r.Interruptions[0].Cause)
				require.Equal(t, "resumed; the machine kept silent and was power-cycled by the lab's controller", r.Interruptions[0].Note)
			} else {
				require.Equal(t, "reboot", r.Interruptions[0].Cause)
			}
		})
	}
}

func TestFaultReservedMachineKeepsItsHoldersSession(t *testing.T) {
	t.Parallel()
	g, s := scriptedRig(t, small)
	g.desired.Reserved = true
	writeScriptedSession(s.Sessions, "somebody else's", "x::y", "incomplete")
	g.start()
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.FailCheckbox, r.Failure.Type)
	require.Regexp(t, `^an unfinished session of Checkbox that somebody began by hand is on this machine, which is reserved: finish it, or move .*/somebody_else's.session elsewhere, and run the plan again$`, r.Failure.Message)
	left, err := checkbox.Sessions(s.Sessions)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "somebody else's", left[0].Description)
	require.FileExists(t, filepath.Join(g.dir, handedOverFile), "and what is installed is theirs from here on")
	a := newAgent(Options{Dir: g.dir, Now: time.Now})
	require.True(t, a.handedOver(g.desired))
	require.False(t, a.handedOver(order.AgentDesired{}), "one that is the lab's is kept as the lab wants it")
}

func TestCheckboxByHandIsTold(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"/usr/bin/python3\x00/usr/bin/checkbox-cli\x00run\x00x\x00": true,
		"checkbox-cli\x00": true,
		"/usr/bin/python3\x00/usr/bin/checkbox-cli\x00run-agent\x00":      false,
		"vim\x00a\x00b\x00checkbox-cli\x00":                               false,
		"/snap/checkbox/1/bin/checkbox.checkbox-cli\x00launcher\x00x\x00": true,
		"": false,
	} {
		require.Equal(t, want, checkboxCommand(line), "%q", line)
	}
}

// score reads how willingly the kernel ends a process for want of memory.
func score(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return n
}

func TestAgentAndKeeperAreTheLastToGoAndCheckboxIsNot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's agent is protected")
	}
	s := small
	s.Running = example + "pass"
	g, _ := scriptedRig(t, s)
	// Whatever the agent was started with.
	g.opts.Binary = program(t, `[ "$1" != agent ] || echo 500 >/proc/self/oom_score_adj; `+quickly+`"$@"`, "self="+testBinary(t))
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	g.in(id, example+"pass", "")
	dir := g.starts()[0]
	var k kept
	require.NoError(t, readJSON(filepath.Join(dir, keepFile), &k))
	all := marked(dir)
	require.NotEmpty(t, all)
	for _, p := range all {
		if p != k.Keeper {
			require.Zero(t, score(t, p.PID), "Checkbox and its jobs are ended like any other")
		}
	}
	if score(t, g.cmd.Process.Pid) == 500 {
		t.Log("this machine's root may not protect processes: the agent's and the keeper's scores are not looked at")
	} else {
		require.Equal(t, -1000, score(t, g.cmd.Process.Pid))
		require.Equal(t, -1000, score(t, k.Keeper.PID))
	}
	_, err := g.client.Cancel(context.Background(), id)
	require.NoError(t, err)
	g.wait(id)
}
