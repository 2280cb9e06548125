package juju

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// probeWorld has the probe charm's units on machine 0, settled.
func probeWorld(t *testing.T, version string, units int, code func(*script)) *world {
	t.Helper()
	w := newWorld(t, version, map[string]func(*script){"probe": code})
	placement := make([]string, units)
	for n := range placement {
		placement[n] = "0"
	}
	w.update(func(s *State, now time.Time) error {
		_, err := s.AddApplication(Deployment{Name: "probe", Charm: s.AddCharm(testCharm(t, probeTexts)), Units: units, Placement: placement}, now)
		return err
	})
	w.quiet()
	w.took()
	return w
}

func (w *world) unit(name string) *Unit { return w.model.Snapshot().Units[name] }

func TestHooksOfOneMachineRunOneAtATimeAndParallelActionsBesideThem(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	for name, text := range probeTexts {
		texts[name] = text
	}
	texts["actions.yaml"] = "echo: {description: e}\nside: {description: s, parallel: true}\n"
	w := newWorld(t, "4.0.15", map[string]func(*script){})
	w.update(func(s *State, now time.Time) error {
		_, err := s.AddApplication(Deployment{Name: "probe", Charm: s.AddCharm(testCharm(t, texts)), Units: 2, Placement: []string{"0", "0"}}, now)
		return err
	})
	w.quiet()
	w.took()
	begun, release := w.hold("probe/0", "action:echo")
	held := w.run("probe/0", "echo", nil)
	<-begun
	// The other unit's hook waits for the machine's lock; its parallel action would not.
	w.update(func(s *State, _ time.Time) error { return s.SetOptions("probe", map[string]string{"i": "9"}) })
	require.Never(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.ran["probe/1"]) > 0
	}, 50*time.Millisecond, 10*time.Millisecond)
	release()
	require.Equal(t, TaskCompleted, w.finished(held).Status)
	w.quiet()
	require.Contains(t, w.took()["probe/1"], "config-changed")

	begun, release = w.hold("probe/0", "action:echo")
	held = w.run("probe/0", "echo", nil)
	<-begun
	side := w.run("probe/1", "side", nil)
	require.Equal(t, TaskCompleted, w.finished(side).Status, "a parallel action does without the machine's lock")
	own := w.run("probe/0", "side", nil)
	require.Equal(t, TaskPending, w.model.Snapshot().Tasks[own].Status, "but within one unit everything is serial")
	release()
	w.finished(held)
	require.Equal(t, TaskCompleted, w.finished(own).Status)
}

func TestActionOutcomes(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, func(sc *script) {
		if sc.event != "action:echo" {
			return
		}
		sc.stdout.WriteString("out\n")
		sc.stderr.WriteString("err\n")
		switch sc.tool("action-get", "text") {
		case "set":
			sc.tool("action-set", "a.b=1", "a.c=2", "return-code=9")
			sc.tool("action-log", "working")
			sc.tool("state-set", "set=1")
		case "fail":
			sc.tool("action-set", "partial=1")
			sc.tool("state-set", "fail=1")
			sc.tool("action-fail", "it did not work")
		case "exit":
			sc.tool("action-set", "partial=1")
			sc.tool("state-set", "exit=1")
			sc.exit(3)
		case "binary":
			sc.stdout.Reset()
			sc.stdout.WriteString("a\x00b\xff\n")
		}
	})
	echo := func(text string) *Task {
		return w.finished(w.run("probe/0", "echo", map[string]any{"num": 1, "text": text}))
	}
	task := echo("set")
	require.Equal(t, TaskCompleted, task.Status)
	require.Equal(t, map[string]any{"a": map[string]any{"b": "1", "c": "2"}, "return-code": 0, "stdout": "out\n", "stderr": "err\n"}, task.Results)
	require.Equal(t, "working", task.Log[0].Message)
	require.Equal(t, TaskCompleted, w.model.Snapshot().Operations[task.Operation].Status)

	task = echo("fail")
	require.Equal(t, TaskFailed, task.Status)
	require.Equal(t, "it did not work", task.Message)
	require.Equal(t, 0, task.Results["return-code"])
	require.Equal(t, "1", task.Results["partial"])

	task = echo("exit")
	require.Equal(t, TaskFailed, task.Status)
	require.Equal(t, "exit status 3", task.Message)
	require.Equal(t, 3, task.Results["return-code"])
	require.Equal(t, "1", task.Results["partial"])
	require.Equal(t, map[string]string{"set": "1", "fail": "1"}, w.unit("probe/0").CharmState, "an action that exits with 3 keeps nothing")

	task = echo("binary")
	require.Equal(t, "YQBi/wo=", task.Results["stdout"])
	require.Equal(t, "base64", task.Results["stdout-encoding"])

	task = w.finished(w.run("probe/0", "echo", map[string]any{}))
	require.Equal(t, TaskError, task.Status)
	require.True(t, task.Started.IsZero(), "a refused action never starts")
	require.Equal(t, `cannot run "echo" action: validation failed: (root) : "num" property is missing and required, given {}`, task.Message)
}

func TestExecKeepsItsChangesWhateverItReturns(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, nil)
	task := w.exec("probe/0", "state-set kept=1; exit x")
	require.Equal(t, TaskCompleted, task.Status)
	require.Equal(t, 1, task.Results["return-code"])
	require.Equal(t, map[string]string{"kept": "1"}, w.unit("probe/0").CharmState)

	w.exec("probe/0", "secret-add --label l key=value")
	task = w.exec("probe/0", "config-get i; secret-add --label l key=other")
	require.Equal(t, TaskFailed, task.Status, "changes that cannot be applied fail the task")
	require.Equal(t, "committing requested changes failed", task.Message)
	require.Contains(t, task.Results["stderr"], `secret with label "l" already exists`)
	require.Equal(t, 0, task.Results["return-code"])
}

func TestJujuReboot(t *testing.T) {
	t.Parallel()
	now, times := false, 1 // not while it is deployed
	w := probeWorld(t, "4.0.15", 1, func(sc *script) {
		if sc.event == "config-changed" && times == 0 {
			times++
			sc.tool("state-set", "before=1")
			if now {
				sc.tool("juju-reboot", "--now")
			} else {
				sc.tool("juju-reboot")
			}
		}
	})
	rebooted := func() {
		require.Eventually(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.reboot["0"]
		}, 10*time.Second, time.Millisecond)
		w.mu.Lock()
		w.reboot["0"] = false
		w.mu.Unlock()
		w.bootMachine("0")
	}
	times = 0
	w.update(func(s *State, _ time.Time) error { return s.SetOptions("probe", map[string]string{"i": "4"}) })
	rebooted()
	w.quiet()
	require.Equal(t, []string{"config-changed", "start"}, w.took()["probe/0"], "the hook was finished; only start follows")
	require.Equal(t, "1", w.unit("probe/0").CharmState["before"])

	w.exec("probe/0", "state-delete before")
	now, times = true, 0
	w.update(func(s *State, _ time.Time) error { return s.SetOptions("probe", map[string]string{"i": "5"}) })
	rebooted()
	w.quiet()
	require.Equal(t, []string{"config-changed", "config-changed", "start"}, w.took()["probe/0"], "the hook was killed, and runs again first")
	require.NotContains(t, w.unit("probe/0").CharmState, "before")
}

// On 4.0.15 a task that was running when the machine rebooted stays running for ever; 3.6 fails it.
func TestDifferenceTaskRunningAtARebootStaysRunningOn4(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]TaskStatus{"3.6.28": TaskFailed, "4.0.15": TaskRunning} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := probeWorld(t, version, 1, nil)
			begun, release := w.hold("probe/0", "action:echo")
			id := w.run("probe/0", "echo", map[string]any{"num": 1})
			<-begun
			w.bootMachine("0")
			release()
			w.until(func(s *State) bool { return !s.Units["probe/0"].Lost && s.Units["probe/0"].Agent.Status == "idle" })
			w.quiet()
			require.Equal(t, want, w.model.Snapshot().Tasks[id].Status)
			require.Equal(t, []string{"action:echo", "start"}, w.took()["probe/0"], "start only, and the action never again")
		})
	}
}

func TestAHookInterruptedByARebootRunsAgainFirst(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, nil)
	begun, release := w.hold("probe/0", "config-changed")
	w.update(func(s *State, _ time.Time) error { return s.SetOptions("probe", map[string]string{"i": "4"}) })
	<-begun
	w.stop("probe/0")
	release()
	w.bootMachine2("0", "probe/0")
	w.quiet()
	require.Equal(t, []string{"config-changed", "config-changed", "start"}, w.took()["probe/0"])
}

// bootMachine2 boots a machine whose agent is stopped already.
func (w *world) bootMachine2(machine, unit string) {
	w.mu.Lock()
	w.boots[machine]++
	w.mu.Unlock()
	w.start(unit)
}

func TestUpdateStatusComesAtItsInterval(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, nil)
	w.clock.Advance(5*time.Minute - time.Second)
	w.quiet()
	require.Empty(t, w.took())
	w.clock.Advance(time.Second)
	w.quiet()
	require.Equal(t, []string{"update-status"}, w.took()["probe/0"])
	require.Equal(t, "unknown", w.unit("probe/0").Workload.Status, "a charm that never said how it is")
}

func TestStorageAddedByAHookIsAttached(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, nil)
	w.exec("probe/0", "storage-add data")
	w.quiet()
	require.Equal(t, []string{"data-storage-attached JUJU_STORAGE_ID=data/0 JUJU_STORAGE_KIND=filesystem JUJU_STORAGE_LOCATION=/srv/probe"},
		w.took()["probe/0"])
	task := w.exec("probe/0", "storage-list; storage-get -s data/0 location")
	require.Equal(t, "data/0\nrc=0\n/srv/probe\nrc=0\n", task.Results["stdout"])
}

func TestSecretDatesBringTheirHooks(t *testing.T) {
	t.Parallel()
	w := probeWorld(t, "4.0.15", 1, nil)
	w.exec("probe/0", "secret-add --rotate hourly --expire 90m --label l key=value")
	w.quiet()
	w.took()
	kinds := func() []string {
		var kinds []string
		for _, line := range w.took()["probe/0"] {
			if name, _, _ := strings.Cut(line, " "); name != "update-status" {
				kinds = append(kinds, name)
			}
		}
		return kinds
	}
	w.clock.Advance(time.Hour)
	w.quiet()
	require.Equal(t, []string{"secret-rotate"}, kinds())
	w.clock.Advance(30 * time.Minute)
	w.quiet()
	require.Equal(t, []string{"secret-expired"}, kinds())
}

func TestAStateThatCannotBeSavedStopsTheAgent(t *testing.T) {
	t.Parallel()
	disk := errors.New("disk full")
	m := probeModel(t, "4.0.15")
	m.save = func(*State) error { return disk }
	w := &world{t: t, clock: newManualClock(testTime), boots: map[string]int{}}
	err := NewAgent(m, "probe/0", &fakeHost{w, "0"}, AgentOptions{}).Run(t.Context())
	require.ErrorIs(t, err, disk)
}
