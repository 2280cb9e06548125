package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
	"certlab/internal/results"
)

// A script is what the scripted checkbox-cli does. It stands in for versions that cannot be installed here; what it prints and the
// archives that it writes were made by the real ones.
type script struct {
	Version  string
	Plan     string
	Jobs     []checkbox.Job
	Sessions string // directory
	Running  string // job that the first start hangs in; empty: it goes through
	Blocker  bool   // resuming after Running asks for a comment
	Console  string // printed when it goes through
	Archive  string // copied to where the launcher says; empty: none is written
	Code     int
	Config   string // printed by check-config, which then fails
	Said     string // file that takes what was read from standard input, and the launcher

	Endless  bool   // print without end in Running
	Hang     string // command that never ends
	Flood    string // command that prints without end
	Leave    bool   // leave a process behind that ignores TERM and holds the console
	Die      string // file that is written before the first start ends itself by SIGKILL, in Running
	Wait     string // file that is waited for before the archive is written
	WaitLast string // file that is waited for after that
}

// scriptedCheckbox makes a checkbox-cli that follows s, and the rig that uses it.
func scriptedRig(t *testing.T, s script) (*rig, *script) {
	t.Helper()
	dir := t.TempDir()
	s.Sessions = filepath.Join(dir, "sessions")
	s.Said = filepath.Join(dir, "said")
	for _, path := range []*string{&s.Console, &s.Archive, &s.Config} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(filepath.Join("testdata", *path))
		require.NoError(t, err)
		*path = absolute
	}
	require.NoError(t, os.MkdirAll(s.Sessions, 0o755))
	file := filepath.Join(dir, "script.json")
	require.NoError(t, writeJSON(file, s, 0o644))
	cli := filepath.Join(dir, "checkbox-cli")
	require.NoError(t, os.Rename(program(t, s.answers()+quickly+`scripted-checkbox "$script" "$@"`, "self="+testBinary(t), "script="+file), cli))
	g := newRig(t, cli)
	g.opts.SessionsDir = s.Sessions
	return g, &s
}

// answers is what a shell can answer in the place of scriptedMain, with far less work: what is always the same.
func (s *script) answers() string {
	if s.Hang != "" || s.Flood != "" || strings.HasPrefix(s.Version, "1.") {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "case \"$*\" in\n'launcher --version') echo %s; exit ;;\n", s.Version)
	if s.Config == "" {
		text.WriteString("'check-config '*) exit ;;\n")
	}
	fmt.Fprintf(&text, "'list-bootstrapped %s -f {'*) printf '", s.Plan)
	for _, j := range s.Jobs {
		fmt.Fprintf(&text, `%s\t%s\t%s\n`, j.ID, j.Plugin, strings.Join(j.Flags, " "))
	}
	text.WriteString("'; exit ;;\nesac\n")
	return text.String()
}

func scriptedMain(path string, args []string) int {
	var s script
	if err := readJSON(path, &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	line := strings.Join(args, " ")
	if s.Hang != "" && strings.HasPrefix(line, s.Hang) {
		time.Sleep(5 * time.Minute)
	}
	for s.Flood != "" && strings.HasPrefix(line, s.Flood) {
		os.Stdout.Write(bytes.Repeat([]byte("again and again\n"), 4096))
	}
	switch {
	case line == "launcher --version" && strings.HasPrefix(s.Version, "1."):
		fmt.Printf("checkbox-ng: %s\ncheckbox-support: not available\n", s.Version)
	case line == "launcher --version":
		fmt.Println(s.Version)
	case args[0] == "list":
		fmt.Printf("test plan '%s'\n  name           : 'A plan'\n", s.Plan)
	case args[0] == "list-bootstrapped" && args[1] != s.Plan:
		fmt.Fprintln(os.Stderr, "Test plan not found")
		return 1
	case args[0] == "list-bootstrapped" && args[3] == "json":
		var list []map[string]any
		for _, j := range s.Jobs {
			list = append(list, map[string]any{"full_id": j.ID, "plugin": j.Plugin, "flags": j.Flags})
		}
		json.NewEncoder(os.Stdout).Encode(list)
	case args[0] == "list-bootstrapped":
		for _, j := range s.Jobs {
			fmt.Printf("%s\t%s\t%s\n", j.ID, j.Plugin, strings.Join(j.Flags, " "))
		}
	case args[0] == "check-config":
		if s.Config != "" {
			text, _ := os.ReadFile(s.Config)
			os.Stdout.Write(text)
			return 1
		}
	case args[0] == "launcher":
		return s.launch(args[1:])
	default:
		return 2
	}
	return 0
}

// launch is `checkbox-cli launcher FILE` of 4.0 and newer: it goes on with the newest incomplete session, whatever it is of.
func (s *script) launch(args []string) int {
	launcher, err := os.ReadFile(args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + ` = (.*)$`).FindSubmatch(launcher)
		if m == nil {
			return ""
		}
		return string(m[1])
	}
	said, _ := os.OpenFile(s.Said, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	defer said.Close()
	fmt.Fprintf(said, "start %q\n%s", args[1:], launcher)
	sessions, _ := checkbox.Sessions(s.Sessions)
	resumed := false
	for _, session := range sessions {
		if !session.Incomplete {
			continue
		}
		resumed = true
		fmt.Fprintf(said, "resumed %s\n", session.Description)
		if s.Blocker {
			fmt.Print("This job is required in order to issue a certificate.\nPlease add a comment to explain why it failed.\nPlease enter your comments:\n")
			comment, err := bufio.NewReader(os.Stdin).ReadString('\n')
			if err != nil {
				fmt.Print("Traceback (most recent call last):\nEOFError: EOF when reading a line\n")
				return 1
			}
			fmt.Fprintf(said, "comment %s", comment)
		}
		writeScriptedSession(s.Sessions, session.Description, s.Running, "submitted")
		break
	}
	if !resumed {
		if s.Running != "" {
			writeScriptedSession(s.Sessions, value("session_desc"), s.Running, "incomplete")
			fmt.Printf("=========[ Running job 2 / 3. Estimated time left (at least): 0:00:00 ]=========\n---[ A job ]---\nID: %s\nCategory: x\n", s.Running)
			if s.Die != "" {
				os.WriteFile(s.Die, []byte("oom_kill 1\n"), 0o644)
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			for s.Endless {
				if _, err := os.Stdout.Write(bytes.Repeat([]byte("again and again\n"), 256)); err != nil {
					return 1
				}
			}
			time.Sleep(5 * time.Minute)
			return 1
		}
		if text, _ := bufio.NewReader(os.Stdin).ReadString('\n'); text != "" {
			fmt.Fprintf(said, "unexpected input %s\n", text)
		}
	}
	if s.Leave {
		left := exec.Command("/bin/sh", "-c", "trap '' TERM HUP; while :; do sleep 100; done")
		left.Stdout, left.Stderr, left.SysProcAttr = os.Stdout, os.Stderr, &syscall.SysProcAttr{Setsid: true}
		left.Start()
	}
	text, _ := os.ReadFile(s.Console)
	os.Stdout.Write(text)
	if s.Wait != "" {
		waitFor(time.Minute, func() bool { return exists(s.Wait) })
	}
	if s.Archive != "" {
		data, err := os.ReadFile(s.Archive)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if err := os.WriteFile(value("path"), data, 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if s.WaitLast != "" {
		waitFor(time.Minute, func() bool { return exists(s.WaitLast) })
	}
	return s.Code
}

func writeScriptedSession(dir, description, running, flag string) {
	blob, _ := json.Marshal(map[string]string{"testplan_id": "x::y", "description": description})
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	json.NewEncoder(z).Encode(map[string]any{"version": 7, "session": map[string]any{"results": map[string]any{},
		"metadata": map[string]any{"title": "t", "flags": []string{flag}, "running_job_name": running, "app_blob": base64.StdEncoding.EncodeToString(blob)}}})
	z.Close()
	session := filepath.Join(dir, strings.ReplaceAll(description, " ", "_")+".session")
	os.MkdirAll(session, 0o755)
	os.WriteFile(filepath.Join(session, "session"), b.Bytes(), 0o644)
}

const example = "com.example.lab::"

// small is a run that goes through.
var small = script{Version: "7.3.0", Plan: example + "small", Jobs: []checkbox.Job{{ID: example + "pass", Plugin: "shell"}},
	Console: "console/killed-then-resumed.txt", Archive: "archives/head-small.tar.xz"}

func TestNewCheckboxGoesOnWithoutResumeAndGetsItsComment(t *testing.T) {
	t.Parallel()
	g, s := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "killer", Blocker: true,
		Jobs:    []checkbox.Job{{ID: example + "pass", Plugin: "shell"}, {ID: example + "killer", Plugin: "shell"}, {ID: example + "quotes", Plugin: "shell"}},
		Console: "console/resumed-blocker-with-comment.txt", Archive: "archives/head-killed-nb.tar.xz"})
	// Somebody's unfinished session is newer than ours would be.
	writeScriptedSession(s.Sessions, "somebody else's", "x::y", "incomplete")
	g.start()
	id := g.run(order.Spec{Plan: example + "killed-nb", Match: []string{"com.example.lab::.*"}})
	g.in(id, example+"killer", "")
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Nil(t, r.Failure)
	require.Equal(t, order.Counts{"pass": 2, "crash": 1}, r.Counts)
	require.Len(t, r.Interruptions, 1)
	require.Equal(t, 3, r.Progress.JobsPlanned)
	require.Equal(t, 3, r.Progress.JobsDone)
	said, err := os.ReadFile(s.Said)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(said), "start []\n"), "neither start names a session")
	require.Contains(t, string(said), "resumed certlab run "+id+" attempt 1\n")
	require.NotContains(t, string(said), "somebody")
	require.Contains(t, string(said), "comment Certlab: machine lost: the machine rebooted or lost power in "+example+"killer\n")
	require.Contains(t, string(said), "match = 'com.example.lab::.*'\n")
	left, err := checkbox.Sessions(s.Sessions)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestJobThatIsMeantToRebootMayPass(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, script{Version: "5.0.0", Plan: example + "reboot", Running: example + "noreturn",
		Jobs:    []checkbox.Job{{ID: example + "noreturn", Plugin: "shell", Flags: []string{"noreturn"}}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-reboot.tar.xz"})
	g.start()
	id := g.run(order.Spec{Plan: example + "reboot"})
	g.in(id, example+"noreturn", "")
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State)
	require.True(t, r.Interruptions[0].Expected)
}

func TestFaultInterruptedJobThatPassedFailsTheRun(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, script{Version: "7.3.0", Plan: example + "killed-nb", Running: example + "pass",
		Jobs:    []checkbox.Job{{ID: example + "pass", Plugin: "shell"}},
		Console: "console/killed-then-resumed.txt", Archive: "archives/head-killed-nb.tar.xz"})
	g.start()
	id := g.run(order.Spec{Plan: example + "killed-nb"})
	g.in(id, example+"pass", "")
	g.killAll()
	g.boot("boot-2")
	g.start()
	r := g.wait(id)
	require.Equal(t, order.Failed, r.State)
	require.Equal(t, order.FailInterrupted, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "cannot be trusted")
	require.Empty(t, r.Counts)
	require.Contains(t, kinds(r), order.SubmissionFile, "the evidence is delivered all the same")
}

func TestFaultCheckboxWithoutAValidSubmission(t *testing.T) {
	t.Parallel()
	truncated := filepath.Join(t.TempDir(), "submission.tar.xz")
	data, err := os.ReadFile("testdata/archives/head-small.tar.xz")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(truncated, data[:len(data)/2], 0o644))
	empty := filepath.Join(t.TempDir(), "submission.tar.xz")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	wd, err := os.Getwd()
	require.NoError(t, err)
	fromTestdata, err := filepath.Rel(filepath.Join(wd, "testdata"), truncated)
	require.NoError(t, err)
	emptyFromTestdata, err := filepath.Rel(filepath.Join(wd, "testdata"), empty)
	require.NoError(t, err)
	for _, test := range []struct {
		name    string
		change  func(*script)
		failure string
		message string
		files   []order.FileKind
	}{
		{"exit 0 without an archive", func(s *script) { s.Archive = "" }, order.FailNoArchive, "exit code 0", []order.FileKind{order.ConsoleFile}},
		{"traceback", func(s *script) { s.Archive, s.Console, s.Code = "", "console/head-manual.txt", 1 }, order.FailCheckbox, "UnexpectedMethodCall", []order.FileKind{order.ConsoleFile}},
		{"empty archive", func(s *script) { s.Archive = emptyFromTestdata }, order.FailNoArchive, "wrote no submission", []order.FileKind{order.ConsoleFile}},
		{"truncated archive", func(s *script) { s.Archive = fromTestdata }, order.FailBadArchive, "cannot read submission", []order.FileKind{order.SubmissionFile, order.ConsoleFile}},
		{"archive of another plan", func(s *script) { s.Archive = "archives/head-reboot.tar.xz" }, order.FailWrongPlan, example + "reboot", []order.FileKind{order.SubmissionFile, order.ConsoleFile}},
		{"launcher that is not understood", func(s *script) { s.Config = "../checkbox/testdata/console/check-config-bad.txt" }, order.FailCheckbox, "Unexpected variable 'bogus'", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := small
			test.change(&s)
			g, _ := scriptedRig(t, s)
			g.start()
			r := g.wait(g.run(order.Spec{Plan: small.Plan}))
			require.Equal(t, order.Failed, r.State)
			require.NotNil(t, r.Failure)
			require.Equal(t, test.failure, r.Failure.Type, r.Failure.Message)
			require.Contains(t, r.Failure.Message, test.message)
			require.Equal(t, test.files, kinds(r))
		})
	}
}

func sampleCounts(t *testing.T, path string) order.Counts {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	sub, err := results.Read(f, results.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, sub.Counts()["fail"])
	return sub.Counts()
}

func TestExitCodeIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := small
	s.Code = 1 // as whenever a job failed
	g, _ := scriptedRig(t, s)
	g.start()
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, sampleCounts(t, "testdata/archives/head-small.tar.xz"), r.Counts)
}

func TestFaultCheckboxMissing(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	path := g.desired.Checkbox.Path
	g.desired.Checkbox.Path = "/nothing/checkbox-cli"
	g.start()
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.FailNoCheckbox, r.Failure.Type)
	require.Contains(t, r.Failure.Message, "set checkbox-path")
	s, err := g.client.Status(context.Background())
	require.NoError(t, err)
	require.Equal(t, r.Failure.Message, s.CheckboxProblem)

	g.desired.Checkbox.Path = path
	g.hangup()
	r = g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.Completed, r.State)
}

func TestPersonAtATerminalMayRunWhatAsksAPerson(t *testing.T) {
	t.Parallel()
	s := small
	s.Jobs = append(s.Jobs, checkbox.Job{ID: example + "manual", Plugin: "manual"})
	g, _ := scriptedRig(t, s)
	g.start()
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.FailInteractive, r.Failure.Type)

	person := exec.Command(testBinary(t), "interactive", g.dir, small.Plan)
	var terminal bytes.Buffer
	person.Stdin, person.Stdout, person.Stderr = strings.NewReader("p\n"), &terminal, &terminal
	require.NoError(t, person.Run(), terminal.String())
	require.Contains(t, terminal.String(), "[ Running job 1 / 1.", "Checkbox speaks to the terminal")
	r = g.wait("last")
	require.Equal(t, order.FromInteractive, r.Origin)
	require.Equal(t, order.Completed, r.State)
	require.Equal(t, []order.FileKind{order.SubmissionFile}, kinds(r))
	said, err := os.ReadFile(filepath.Join(filepath.Dir(g.desired.Checkbox.Path), "said"))
	require.NoError(t, err)
	require.Contains(t, string(said), "type = interactive\n")
}

func TestDispatchRefreshesTheUnit(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	mark := filepath.Join(t.TempDir(), "refreshed")
	g.desired.DispatchCommand = []string{"/bin/sh", "-c", "echo x >> " + mark}
	g.start()
	g.until("the unit is refreshed", 20*time.Second, func() bool { return exists(mark) })
}

func TestUnitIsRefreshedWhenWhatItSaysHasChanged(t *testing.T) {
	t.Parallel()
	idle := order.AgentStatus{Controller: "enrolled"}
	ended := idle
	ended.Undelivered = 1
	running := idle
	running.Current = &order.Run{Report: order.Report{Run: "r1", Progress: order.Progress{Phase: order.Testing}}}
	further := running
	further.Undelivered = 1
	require.NotEqual(t, said(idle), said(ended), "the last run is delivered")
	require.NotEqual(t, said(idle), said(running))
	require.Equal(t, said(running), said(further), "a unit that runs a plan does not say what is to be delivered")
}

func TestPatternsThatNoRegularExpressionIsAreRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{`([`, `(a`, `a)`, `[a`, `*`, `a\`} {
		require.ErrorContains(t, checkSpec(order.Spec{Plan: small.Plan, Exclude: []string{pattern}}), "as a regular expression: ", pattern)
	}
	require.NoError(t, checkSpec(order.Spec{Plan: small.Plan, Match: []string{`.*::a`, `(?!b).*`, `(?<=a)b`, `a{1,2}`, `[]a]`, `(?i:x)`, `(a)\1`}}))
}

func TestAnotherBinaryTakesOverWhenIdle(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	g.start()
	other := filepath.Join(t.TempDir(), "certlab-agent")
	require.NoError(t, os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755))
	g.desired.Binary = other
	require.NoError(t, writeJSON(filepath.Join(g.dir, order.AgentDesiredFile), g.desired, 0o600))
	require.NoError(t, g.cmd.Process.Signal(hangupSignal))
	done := make(chan error, 1)
	go func() { done <- g.cmd.Wait() }()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "the agent stays")
	}
}

func TestRequestIsIdempotentAndTheQueueBounded(t *testing.T) {
	t.Parallel()
	s := small
	s.Running = example + "pass" // hangs
	g, _ := scriptedRig(t, s)
	g.start()
	ctx := context.Background()
	first, err := g.client.Start(ctx, order.RunRequest{ID: "r1", Spec: order.Spec{Plan: small.Plan}})
	require.NoError(t, err)
	again, err := g.client.Start(ctx, order.RunRequest{ID: "r1", Spec: order.Spec{Plan: small.Plan}})
	require.NoError(t, err)
	require.Equal(t, first.Created, again.Created)
	_, err = g.client.Start(ctx, order.RunRequest{ID: "../r1", Spec: order.Spec{Plan: small.Plan}})
	require.ErrorContains(t, err, "cannot use")
	for range maxQueue - 1 {
		_, err := g.client.Start(ctx, order.RunRequest{Spec: order.Spec{Plan: small.Plan}})
		require.NoError(t, err)
	}
	_, err = g.client.Start(ctx, order.RunRequest{Spec: order.Spec{Plan: small.Plan}})
	require.ErrorContains(t, err, "are waiting already")
	status, err := g.client.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, maxQueue-1, status.Queued)
}

func TestFaultTwoAgentsInOneDirectory(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	g.start()
	err := Run(context.Background(), Options{Dir: g.dir, BootIDFile: g.opts.BootIDFile})
	require.ErrorIs(t, err, errLocked)
	require.ErrorContains(t, err, "cannot run the agent in "+g.dir+": ")
	// The first one is not disturbed.
	r := g.wait(g.run(order.Spec{Plan: small.Plan}))
	require.Equal(t, order.Completed, r.State)
}
