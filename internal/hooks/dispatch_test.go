package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
)

func TestWhatReconcileReturnsDecidesTheHook(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about  string
		result func() error
		code   int
		calls  []string
		stderr string
	}{
		{"nil leaves the status", func() error { return nil }, 0, []string{}, ""},
		{"a status is shown", func() error { return hooks.Blocked("set the plan option") }, 0,
			[]string{"status-get --include-data --format json", "status-set -- blocked set the plan option"}, ""},
		{"from any depth", func() error { return fmt.Errorf("cannot start: %w", hooks.Waiting("for %s", "the controller")) }, 0,
			[]string{"status-get --include-data --format json", "status-set -- waiting for the controller"}, ""},
		{"an error fails the hook", func() error { return errors.New("cannot write: disk full") }, 1,
			[]string{"juju-log -l ERROR -- cannot write: disk full"}, "cannot write: disk full\n"},
	} {
		juju := &answers{out: map[string]string{"status-get": `{"status":"active"}`}}
		var stderr strings.Builder
		code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(context.Context, *hooks.Unit) error { return test.result() }},
			hooks.Options{Environ: hookEnv("hooks/start"), Runner: juju, StateDir: t.TempDir(), Stderr: &stderr})
		require.Equal(t, test.code, code, test.about)
		require.Equal(t, test.calls, juju.lines(), test.about)
		require.Equal(t, test.stderr, stderr.String(), test.about)
	}
}

func TestAPanicFailsTheHookAndSaysWhere(t *testing.T) {
	t.Parallel()
	juju := &answers{}
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		u.Conceal("open sesame")
		panic("index open sesame out of range")
	}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: juju, StateDir: t.TempDir(), Stderr: io.Discard})
	require.Equal(t, 1, code)
	log := strings.Join(juju.lines(), "\n")
	require.Contains(t, log, "panic: index [secret] out of range")
	require.Contains(t, log, "dispatch_test.go")
	require.Contains(t, log, "cannot go on: the charm panicked: index [secret] out of range")
	require.NotContains(t, log, "open sesame")
}

func TestOnlyDispatchsOwnDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	unit := filepath.Join(t.TempDir(), "certlab", "unit-probe-0")
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(context.Context, *hooks.Unit) error { return nil }},
		hooks.Options{Environ: hookEnv("hooks/install"), Runner: &answers{}, StateDir: filepath.Join(unit, "dispatch")})
	require.Zero(t, code)
	// Jobs that do not run as root find their provider's programs below the unit's directory.
	for dir, perm := range map[string]os.FileMode{filepath.Dir(unit): 0o755, unit: 0o755, filepath.Join(unit, "dispatch"): 0o700} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, perm, info.Mode().Perm(), dir)
	}
}

func TestEverythingButTheLastEventsReconciles(t *testing.T) {
	t.Parallel()
	var calls []string
	charm := hooks.Charm{
		Reconcile: func(ctx context.Context, u *hooks.Unit) error {
			calls = append(calls, "reconcile "+string(u.Event.Kind))
			return nil
		},
		Remove: func(ctx context.Context, u *hooks.Unit) error {
			calls = append(calls, "remove "+string(u.Event.Kind))
			return nil
		},
	}
	base := t.TempDir()
	dir := filepath.Join(base, "unit-probe-0", "dispatch")
	dispatch := func(env []string) {
		t.Helper()
		require.Zero(t, hooks.Run(t.Context(), charm, hooks.Options{Environ: env, Runner: &answers{}, StateDir: dir}))
	}
	exec := append(hookEnv(""), "JUJU_ACTION_NAME=juju-exec")
	dispatch(hookEnv("hooks/install"))
	dispatch(hookEnv("hooks/moon-full"))
	dispatch(exec)
	dispatch(hookEnv("hooks/stop"))
	dispatch(exec) // a service that ends asks for its status to be shown
	dispatch(hookEnv("hooks/update-status"))
	dispatch(hookEnv("hooks/remove"))
	require.Equal(t, []string{"reconcile install", "reconcile moon-full", "reconcile exec", "remove stop", "remove remove"}, calls)
	left, err := os.ReadDir(base)
	require.NoError(t, err)
	require.Empty(t, left, "remove deletes what dispatch has kept")

	// A unit that was dropped after stop, and one of the same name later.
	dispatch(hookEnv("hooks/stop"))
	calls = nil
	dispatch(hookEnv("hooks/install"))
	dispatch(hookEnv("hooks/start"))
	require.Equal(t, []string{"reconcile install", "reconcile start"}, calls)
}

func TestAFailedRemoveIsRepeated(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "unit", "dispatch")
	fail := true
	charm := hooks.Charm{Remove: func(context.Context, *hooks.Unit) error {
		if fail {
			return errors.New("cannot stop the service")
		}
		// The unit's own directory, dispatch's in it, may go.
		return os.RemoveAll(filepath.Dir(dir))
	}}
	options := hooks.Options{Environ: hookEnv("hooks/stop"), Runner: &answers{}, StateDir: dir, Stderr: io.Discard}
	require.Equal(t, 1, hooks.Run(t.Context(), charm, options))
	fail = false
	require.Equal(t, 0, hooks.Run(t.Context(), charm, options))
	require.FileExists(t, filepath.Join(dir, "removed"))
}

func TestTwoDispatchesOfAUnitRunOneAfterTheOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started, end := make(chan struct{}), make(chan struct{})
	first := make(chan int)
	go func() {
		first <- hooks.Run(context.Background(), hooks.Charm{Reconcile: func(context.Context, *hooks.Unit) error {
			close(started)
			<-end
			return nil
		}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: &answers{}, StateDir: dir})
	}()
	<-started

	// The wait has an end.
	never := hooks.Charm{Reconcile: func(context.Context, *hooks.Unit) error { panic("must not run") }}
	var stderr strings.Builder
	require.Equal(t, 1, hooks.Run(t.Context(), never, hooks.Options{Environ: hookEnv("hooks/start"), Runner: &answers{}, StateDir: dir,
		LockTimeout: time.Millisecond, Stderr: &stderr}))
	require.Contains(t, stderr.String(), "another hook of this unit has been running")

	// And once the first has ended the second runs.
	second := make(chan int)
	go func() {
		second <- hooks.Run(context.Background(), hooks.Charm{Reconcile: func(context.Context, *hooks.Unit) error {
			select {
			case <-end:
				return nil
			default:
				return errors.New("ran beside the first")
			}
		}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: &answers{}, StateDir: dir, Stderr: io.Discard})
	}()
	close(end)
	require.Zero(t, <-first)
	require.Zero(t, <-second)
}

func TestADispatchHasADeadline(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	juju := &answers{}
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: juju, StateDir: t.TempDir(), Timeout: time.Millisecond, Stderr: &stderr})
	require.Equal(t, 1, code)
	require.Equal(t, "the dispatch took more than 1ms\n", stderr.String())
	require.Equal(t, []string{"juju-log -l ERROR -- the dispatch took more than 1ms"}, juju.lines())
}

func TestADispatchEndsWhenItsAgentIsGone(t *testing.T) {
	t.Parallel()
	var parent atomic.Int64
	parent.Store(100)
	var stderr strings.Builder
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		parent.Store(1)
		<-ctx.Done()
		return context.Cause(ctx)
	}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: &answers{}, StateDir: t.TempDir(), Stderr: &stderr,
		Getppid: func() int { return int(parent.Load()) }})
	require.Equal(t, 1, code)
	require.Equal(t, "the agent that started this is gone, and runs it again\n", stderr.String())
}

func runAction(t *testing.T, juju *answers, action hooks.Action) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = hooks.Run(t.Context(), hooks.Charm{Actions: map[string]hooks.Action{"test": action}},
		hooks.Options{Environ: hookEnv("actions/test", "JUJU_ACTION_NAME=test", "JUJU_ACTION_UUID=11"), Runner: juju, StateDir: t.TempDir(), Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func TestActionParametersAreDecodedStrictly(t *testing.T) {
	t.Parallel()
	type params struct {
		Plan string  `param:"plan"`
		Wait int64   `param:"wait"`
		Rate float64 `param:"rate"`
		Dry  *bool   `param:"dry"`
	}
	for text, want := range map[string]string{
		`{"plan":"a::b","wait":3.0,"rate":2}`:    "",
		`{"plan":1}`:                             `cannot read parameter "plan": not a string`,
		`{"plan":"a","o":"map[a:deep]","l":"x"}`: "cannot read parameter \"l\": the charm does not know it\ncannot read parameter \"o\": the charm does not know it",
	} {
		juju := &answers{out: map[string]string{"action-get": text}}
		code, _, _ := runAction(t, juju, func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
			require.Equal(t, "11", call.ID)
			var got params
			err := call.Params(ctx, &got)
			if want == "" {
				require.NoError(t, err)
				require.Equal(t, params{Plan: "a::b", Wait: 3, Rate: 2}, got)
			} else {
				require.EqualError(t, err, want)
			}
			return nil
		})
		require.Zero(t, code)
	}
}

func TestActionResultsAreNestedByDots(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"secret-get": `{"token":"open sesame"}`}}
	code, stdout, _ := runAction(t, juju, func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
		_, err := u.SecretGet(ctx, hooks.SecretRead{Label: "x"})
		require.NoError(t, err)
		require.NoError(t, call.Log(ctx, "-%s", "hello open sesame"))
		require.NoError(t, call.Set(map[string]any{
			"run": "r01", "done": true, "rate": 1e6, "none": nil, "text": "-x\nopen sesame",
			"counts": map[string]int{"pass": 3, "not-supported": 1}, "runs": []any{map[string]any{"id": "a"}, 2.5},
			"tags": []string{"x", "y"}, "map": map[string]string{"k": "v"},
		}))
		require.ErrorContains(t, call.Set(map[string]any{"counts": 3}), `there is "counts.`)
		require.ErrorContains(t, call.Set(map[string]any{"run": map[string]string{"id": "x"}}), `there is "run" already`)
		for _, key := range []string{"A", "a_b", "", "-a", "a.b"} {
			require.ErrorContains(t, call.Set(map[string]any{key: "x"}), "cannot set action result", key)
		}
		for _, key := range []string{"stdout", "stderr", "stdout-encoding", "return-code"} {
			require.ErrorContains(t, call.Set(map[string]any{key: "x"}), "Juju's own")
			require.ErrorContains(t, call.Set(map[string]any{"a": map[string]string{key: "x"}}), "Juju's own")
		}
		require.ErrorContains(t, call.Set(map[string]any{"big": strings.Repeat("x", 131000)}), "at most 120000 are allowed")
		require.ErrorContains(t, call.Set(map[string]any{"x": struct{}{}}), "it is a struct")
		fmt.Fprint(call.Output, "one-time code\n")
		return nil
	})
	require.Zero(t, code)
	require.Equal(t, "one-time code\n", stdout)
	require.Equal(t, []string{"secret-get --format json --label x", "action-log -- -hello [secret]",
		"action-set -- counts.not-supported=1 counts.pass=3 done=true map.k=v rate=1000000 run=r01 runs.0.id=a runs.1=2.5 tags.0=x tags.1=y text=-x [secret]"}, juju.lines())
}

func TestManyResultsAreSentInSeveralCalls(t *testing.T) {
	t.Parallel()
	juju := &answers{}
	code, _, _ := runAction(t, juju, func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
		for i := range 20 {
			require.NoError(t, call.Set(map[string]any{fmt.Sprintf("k%d", i): strings.Repeat("x", 100_000)}))
		}
		return nil
	})
	require.Zero(t, code)
	require.Len(t, juju.only("action-set"), 2)
}

func TestAnActionFailsInTwoWays(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about  string
		action func(call *hooks.ActionCall) error
		code   int
		calls  []string
		stderr string
	}{
		{"Fail keeps what was written, and exits 0", func(call *hooks.ActionCall) error { call.Fail("no %s", "luck"); return nil },
			0, []string{"action-set -- run=r01", "action-fail -- no luck"}, ""},
		{"an error drops it, and exits 1", func(*hooks.ActionCall) error { return errors.New("no submission") },
			1, []string{"action-set -- run=r01", "action-fail -- no submission", "juju-log -l ERROR -- no submission"}, "no submission\n"},
		{"a status is an error here", func(*hooks.ActionCall) error { return hooks.Waiting("for the agent") },
			1, []string{"action-set -- run=r01", "action-fail -- waiting: for the agent", "juju-log -l ERROR -- waiting: for the agent"}, "waiting: for the agent\n"},
	} {
		juju := &answers{}
		code, _, stderr := runAction(t, juju, func(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
			require.NoError(t, call.Set(map[string]any{"run": "r01"}))
			return test.action(call)
		})
		require.Equal(t, test.code, code, test.about)
		require.Equal(t, test.calls, juju.lines(), test.about)
		require.Equal(t, test.stderr, stderr, test.about)
	}
}

func TestAnUnknownActionFails(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	code := hooks.Run(t.Context(), hooks.Charm{}, hooks.Options{Environ: hookEnv("actions/dance"), Runner: &answers{}, StateDir: t.TempDir(), Stderr: &stderr})
	require.Equal(t, 1, code)
	require.Equal(t, "cannot run action \"dance\": this charm has no such action\n", stderr.String())
}

func TestRunRefusesToRunOutsideJuju(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	require.Equal(t, 1, hooks.Run(t.Context(), hooks.Charm{}, hooks.Options{Environ: []string{"HOME=/"}, Stderr: &stderr}))
	require.Contains(t, stderr.String(), "run this through Juju")
}
