package hookstest

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

// A step is one run of the charm.
type step struct {
	kind   juju.RunKind // empty: RunHook
	hook   juju.Hook
	task   int
	before func(*juju.State, *juju.Unit) error
	after  func(*juju.State) // only if it succeeded
}

func (st step) String() string {
	if st.hook.Name != "" {
		return st.hook.Name
	}
	return string(st.kind)
}

// fire runs the charm once, with Juju's transaction around it.
func (s *Scenario) fire(st step) Result {
	s.t.Helper()
	if st.kind == "" {
		st.kind = juju.RunHook
	}
	before := s.State()
	if running := before.Units[s.unit].Uniter.Running; running != nil && running.Name != st.hook.Name {
		require.Fail(s.t, fmt.Sprintf("%s was interrupted: Juju runs it again before %s", running.Name, st))
	}
	if st.before != nil {
		s.Change(func(state *juju.State) error { return st.before(state, state.Units[s.unit]) })
	}
	if st.kind == juju.RunHook {
		s.Change(func(state *juju.State) error {
			st.hook = state.Aim(s.unit, st.hook)
			state.BeginHook(s.unit, st.hook, s.clock.Now())
			return nil
		})
	}
	require.NoError(s.t, s.State().Check(), "Juju could not be in this state")

	tools, err := juju.NewContext(s.model, juju.ContextOptions{Unit: s.unit, Kind: st.kind, Hook: st.hook, Task: st.task, Paths: s.paths(), Fetch: fetch})
	require.NoError(s.t, err)
	logged := len(s.State().Log)
	run := &runner{context: tools, killAt: s.killAt, killNew: s.killNew, named: map[string]int{}}
	s.killAt, s.killNew, s.running = -1, nil, run
	defer func() { s.running = nil }()
	if s.processes != nil {
		var stop func()
		run.tools, stop = s.processes(tools)
		defer stop()
	}
	stdout, stderr := &safeBuffer{}, &safeBuffer{}
	described := s.State().CharmOf(s.app)
	mismatches := make(chan error, 100)
	decoded := func(action string, target any) {
		err := compareConfig(described, target)
		if action != "" {
			err = compareParams(described, action, target)
		}
		if err != nil {
			select {
			case mismatches <- err:
			default: // enough of them
			}
		}
	}
	code := make(chan int, 1)
	go func() {
		defer close(code) // also when the runner has ended the goroutine
		code <- hooks.Run(context.Background(), s.charm, hooks.Options{Environ: tools.Env(), Runner: run, StateDir: s.stateDir,
			Stdout: stdout, Stderr: stderr, Step: run.step, Now: s.clock.Now, Decoded: decoded})
	}()
	result := Result{t: s.t, unit: s.unit, Event: st.String(), Before: before}
	exit, ended := <-code
	// Killed after its last step, and before it has ended.
	atTheEnd := run.killAt >= 0 && run.killAt == len(run.steps) || run.killNew != nil
	result.Killed, result.Code = !ended || atTheEnd, exit
	if result.Killed {
		result.Code = -1
	}
	result.Calls, result.Steps, result.Reboot = run.calls, run.steps, tools.Reboot()
	result.Stdout, result.Stderr = stdout.String(), stderr.String()
	outcome := tools.Outcome()
	if st.kind == juju.RunAction {
		result.Results, result.Failed, result.Message = flat(outcome.Results), outcome.Failed, outcome.Message
	}

	switch {
	case result.Killed:
		tools.Close() // the hook stays the one to run again
	case exit != 0 && st.kind != juju.RunExec:
		tools.Close()
		s.ended()
	default:
		err := tools.FlushAnd(func(state *juju.State) error {
			if st.kind == juju.RunHook {
				state.HookDone(s.unit, st.hook, bootID, s.clock.Now())
			}
			if st.after != nil {
				st.after(state)
			}
			return nil
		})
		if err != nil {
			tools.Close()
			s.ended()
			result.Code, result.FlushError = 1, err
		}
	}
	if st.task != 0 {
		s.endTask(st.task, &result)
	}
	result.After = s.State()
	for _, line := range result.After.Log[min(logged, len(result.After.Log)):] {
		result.Log = append(result.Log, line.Level+" "+line.Message)
	}
	require.NoError(s.t, result.After.Check(), "the hook has brought Juju into a state that it could not be in")
	close(mismatches)
	for err := range mismatches {
		s.t.Errorf("%s: %s", st, err)
	}
	for _, leak := range leaks(result) {
		s.t.Errorf("%s: %s", st, leak)
	}
	s.last = func() Result { s.t.Helper(); return s.fire(st) }
	return result
}

// ended notes that the hook is over without having succeeded.
func (s *Scenario) ended() {
	s.Change(func(state *juju.State) error {
		state.Units[s.unit].Uniter.Running = nil
		return nil
	})
}

// endTask stores what became of an action, as the agent does.
func (s *Scenario) endTask(id int, result *Result) {
	s.Change(func(state *juju.State) error {
		task := state.Tasks[id]
		task.Status, task.Completed = juju.TaskCompleted, s.clock.Now()
		switch {
		case result.Killed:
			task.Status, task.Message = juju.TaskFailed, "action terminated"
		case result.Code != 0:
			task.Status, task.Message = juju.TaskFailed, fmt.Sprintf("exit status %d", result.Code)
		case result.Failed:
			task.Status, task.Message = juju.TaskFailed, result.Message
		}
		for _, line := range task.Log {
			result.ActionLog = append(result.ActionLog, line.Message)
		}
		return nil
	})
}

// Again fires the last event once more and requires that the charm succeeds and writes nothing: no databag, state, status, port, secret or
// version. Juju repeats hooks, so this has to hold for each.
func (s *Scenario) Again() Result {
	s.t.Helper()
	require.NotNil(s.t, s.last, "no event has been fired yet")
	result := s.last()
	require.Zero(s.t, result.Code, "%s the second time: %s", result.Event, result.Stderr)
	require.Empty(s.t, result.Wrote(), "%s the second time wrote something", result.Event)
	return result
}

// A Kill is a hook or an action that is killed everywhere.
type Kill struct {
	// Setup makes a scenario. What it hands to the charm (directories, fakes) must be new each time.
	Setup func(testing.TB) *Scenario
	Fire  func(*Scenario) Result
	// Seen adds to what has to be the same: what the charm has made of the machine.
	Seen func(*Scenario) []string
	// Random are regular expressions for what differs between two scenarios: keys, say, that are made anew in each.
	Random []string
}

// Everywhere fires undisturbed. Then, in another scenario, it has the process killed before its first step (see KillAfter), fires again as
// Juju does once the agent is back, has that one killed before its first step that no earlier one was killed at, and so on; the last one
// but one is killed after its last step. In the end all has to be as undisturbed: exit code, results, Facts and
// Seen. An action is not run again by Juju: then it is the operator who does it. It returns how often it killed.
func (k Kill) Everywhere(t testing.TB) int {
	t.Helper()
	s := k.Setup(t)
	undisturbed := k.Fire(s)
	require.False(t, undisturbed.Killed)
	require.Zero(t, undisturbed.Code, undisturbed.Stderr)
	want := k.facts(s, undisturbed)

	s = k.Setup(t)
	past, kills := map[string]bool{}, 0
	for {
		before := len(past)
		s.killNew = past
		killed := k.Fire(s)
		require.True(t, killed.Killed, "%s", killed.Stderr)
		kills++
		if len(past) == before {
			break // that was at the end
		}
		require.Less(t, kills, maxKills, "there are new steps each time: %q", killed.Steps)
	}
	require.GreaterOrEqual(t, kills, len(undisturbed.Steps), "not every step was reached")
	again := k.Fire(s)
	require.Equal(t, undisturbed.Code, again.Code, again.Stderr)
	require.Equal(t, undisturbed.Results, again.Results)
	require.Equal(t, want, k.facts(s, again))
	return kills
}

// maxKills bounds how many steps a hook may have.
const maxKills = 200

// Skipped is for a hook that is killed and that the operator then skips with `juju resolve --no-retry`: what it would have done, next has to
// do. It is fired until the outcome is that of the undisturbed hook and of next after it, at most five times. Every stride-th step is tried.
func (k Kill) Skipped(t testing.TB, stride int, next func(*Scenario) Result) {
	t.Helper()
	s := k.Setup(t)
	undisturbed := k.Fire(s)
	want := k.facts(s, next(s))
	for n := 0; n <= len(undisturbed.Steps); n += stride {
		s := k.Setup(t)
		killed := k.Fire(s.KillAfter(n))
		about := fmt.Sprintf("killed after %d steps and skipped: %q", n, killed.Steps)
		require.True(t, killed.Killed, about)
		s.Skip()
		var got []string
		for range 5 {
			after := next(s)
			require.Zero(t, after.Code, "%s; then: %s", about, after.Stderr)
			if got = k.facts(s, after); slices.Equal(got, want) {
				break
			}
		}
		require.Equal(t, want, got, about)
	}
}

func (k Kill) facts(s *Scenario, r Result) []string {
	all := r.Facts()
	if k.Seen != nil {
		all = append(all, k.Seen(s)...)
	}
	for i := range all {
		for _, expr := range k.Random {
			all[i] = regexp.MustCompile(expr).ReplaceAllString(all[i], "…")
		}
	}
	return all
}

// Skip is `juju resolve --no-retry` for the hook that was killed: Juju takes it as done, though nothing that it wrote has come to Juju.
func (s *Scenario) Skip() {
	s.t.Helper()
	s.Change(func(state *juju.State) error {
		unit := state.Units[s.unit]
		if running := unit.Uniter.Running; running != nil {
			state.HookDone(s.unit, *running, bootID, s.clock.Now())
		}
		unit.Uniter.Running = nil
		return nil
	})
}

// safeBuffer is a buffer for several goroutines.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
