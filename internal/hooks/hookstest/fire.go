package hookstest

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
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
	run := &runner{context: tools, killAt: s.killAt}
	s.killAt = -1
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
			Stdout: stdout, Stderr: stderr, Now: s.clock.Now, Decoded: decoded})
	}()
	result := Result{t: s.t, unit: s.unit, Event: st.String(), Before: before}
	exit, ended := <-code
	result.Killed, result.Code = !ended, exit
	if result.Killed {
		result.Code = -1
	}
	result.Calls, result.Reboot = run.calls, tools.Reboot()
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

// KillEverywhere runs fire on a scenario that setup has made, undisturbed. Then, for each hook tool that was called, it makes a fresh scenario, has the
// hook killed after that tool, fires again as Juju does once the agent is back, and requires the same outcome as undisturbed:
// the same exit code and the same Facts, but for what the regular expressions match: keys, say, that are made anew in each scenario. What
// setup hands to the charm (directories, fakes) must be new each time.
func KillEverywhere(t *testing.T, setup func(t testing.TB) *Scenario, fire func(*Scenario) Result, random ...string) {
	t.Helper()
	facts := func(r Result) []string {
		all := r.Facts()
		for i := range all {
			for _, expr := range random {
				all[i] = regexp.MustCompile(expr).ReplaceAllString(all[i], "…")
			}
		}
		return all
	}
	undisturbed := fire(setup(t))
	for n := range undisturbed.Count() {
		s := setup(t)
		killed := fire(s.KillAfter(n))
		require.True(t, killed.Killed, "tool %d was not reached: the charm does not call the same tools each time", n)
		again := fire(s)
		about := fmt.Sprintf("killed after %d tools, the last one: %s", n, lastCall(killed))
		require.Equal(t, undisturbed.Code, again.Code, about)
		require.Equal(t, facts(undisturbed), facts(again), about)
	}
}

func lastCall(r Result) string {
	if lines := r.Tools(); len(lines) > 0 {
		return lines[len(lines)-1]
	}
	return "none"
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
