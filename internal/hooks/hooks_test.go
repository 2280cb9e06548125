package hooks_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
)

// answers is a Runner that plays back what hook tools print. Keys are whole command lines or tools' names; what is in neither prints
// nothing. It keeps the calls.
type answers struct {
	mu    sync.Mutex
	out   map[string]string
	err   map[string]error
	calls []hooks.Command
	hook  func(hooks.Command)
}

func (a *answers) Run(ctx context.Context, cmd hooks.Command) ([]byte, error) {
	a.mu.Lock()
	a.calls = append(a.calls, cmd)
	a.mu.Unlock()
	if a.hook != nil {
		a.hook(cmd)
	}
	for _, key := range []string{cmd.String(), cmd.Name} {
		if err, ok := a.err[key]; ok {
			return nil, err
		}
		if out, ok := a.out[key]; ok {
			return []byte(out), nil
		}
	}
	return nil, nil
}

// lines returns the calls as command lines.
func (a *answers) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := []string{}
	for _, cmd := range a.calls {
		lines = append(lines, cmd.String())
	}
	return lines
}

// only returns the calls of these tools.
func (a *answers) only(tools ...string) []string {
	lines := []string{}
	for _, line := range a.lines() {
		for _, tool := range tools {
			if name, _, _ := strings.Cut(line, " "); name == tool {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// hookEnv is the environment of a hook of probe/0 on Juju 4.0.15, with more or other variables.
func hookEnv(path string, more ...string) []string {
	hook, _ := strings.CutPrefix(path, "hooks/")
	if hook == path {
		hook = ""
	}
	return append([]string{
		"JUJU_UNIT_NAME=probe/0", "JUJU_MODEL_UUID=e9824888-ad46-4197-8a05-f3d6e755c569", "JUJU_MODEL_NAME=lab1",
		"JUJU_CHARM_DIR=/var/lib/juju/agents/unit-probe-0/charm", "JUJU_VERSION=4.0.15", "JUJU_MACHINE_ID=0",
		"JUJU_DISPATCH_PATH=" + path, "JUJU_HOOK_NAME=" + hook,
	}, more...)
}

// reconcile runs f in a config-changed hook and requires that it gives nil.
func reconcile(t *testing.T, runner hooks.Runner, f func(context.Context, *hooks.Unit)) {
	t.Helper()
	reconcileIn(t, runner, hookEnv("hooks/config-changed"), f)
}

func reconcileIn(t *testing.T, runner hooks.Runner, env []string, f func(context.Context, *hooks.Unit)) {
	t.Helper()
	ran := false
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		ran = true
		f(ctx, u)
		return nil
	}}, hooks.Options{Environ: env, Runner: runner, StateDir: t.TempDir(), Stdout: io.Discard, Stderr: testWriter{t}})
	require.True(t, ran)
	require.Zero(t, code)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("stderr: %s", p)
	return len(p), nil
}

// refused is a tool's refusal.
func refused(tool string, code int, stderr string) error {
	return &hooks.ToolError{Tool: tool, Code: code, Stderr: stderr}
}

func TestToolErrorsAreRecognisedByTheirTexts(t *testing.T) {
	t.Parallel()
	for text, is := range map[string]error{
		`ERROR relation unit not found`:                                        hooks.ErrNotFound,
		`ERROR secret "g1a6hkg3kbj25ult13bg" not found`:                        hooks.ErrNotFound,
		`ERROR invalid value "foo:9" for option -r: relation not found`:        hooks.ErrNotFound,
		`ERROR could not download resource: HTTP request failed: … not found`:  hooks.ErrNotFound,
		`ERROR "worker/0" is not allowed to read this secret`:                  hooks.ErrNotAllowed,
		`ERROR cannot access cloud credentials: permission denied`:             hooks.ErrNotAllowed,
		`ERROR cannot write relation settings`:                                 hooks.ErrNotAllowed,
		`ERROR invalid status "bogus", expected one of [maintenance … active]`: nil,
	} {
		err := error(&hooks.ToolError{Tool: "x-get", Code: 1, Stderr: text})
		require.Equal(t, is == hooks.ErrNotFound, errors.Is(err, hooks.ErrNotFound), text)
		require.Equal(t, is == hooks.ErrNotAllowed, errors.Is(err, hooks.ErrNotAllowed), text)
		require.Equal(t, "cannot run x-get: "+strings.TrimPrefix(text, "ERROR "), err.Error())
	}
	require.EqualError(t, &hooks.ToolError{Tool: "x-get", Code: 3}, "cannot run x-get: exit status 3")
}

func TestCommandShowsNoValues(t *testing.T) {
	t.Parallel()
	cmd := hooks.Command{Name: "secret-add", Args: []string{"--label", "l"}, Stdin: []byte("hush"),
		Files: map[string][]byte{"pass": []byte("sesame"), "name": []byte("aladdin")}}
	require.Equal(t, "secret-add --label l name#file=… pass#file=…", cmd.String())
}

func TestLogLinesGoTogetherAndSecretsAreMasked(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"secret-get": `{"password":"open sesame","pem":"-----BEGIN\nMIIEvQIBADANBgkqhkiG9w0B\n-----END"}`}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		_, err := u.SecretGet(ctx, hooks.SecretRead{ID: "secret:abc"})
		require.NoError(t, err)
		log := u.Log.With("unit", u.Name).WithGroup("checkbox")
		log.Info("one", "password", "open sesame")
		log.Info("two", "line", "x MIIEvQIBADANBgkqhkiG9w0B y", slog.Group("g", "n", 3))
		u.Log.Warn("three", "quoted", "-----BEGIN\nMIIEvQIBADANBgkqhkiG9w0B\n-----END")
		u.Log.Info("four\x00")
		u.Conceal("derived-token")
		u.Log.Info("derived-token")
	})
	require.Equal(t, []string{
		"juju-log -l INFO -- one unit=probe/0 checkbox.password=[secret]\ntwo unit=probe/0 checkbox.line=\"x [secret] y\" checkbox.g.n=3",
		"juju-log -l WARNING -- three quoted=[secret]",
		"juju-log -l INFO -- four\uFFFD\n[secret]",
	}, unquoted(juju.only("juju-log")))
}

// unquoted takes the quotes from around a lone [secret]; whether a masked value was quoted does not matter.
func unquoted(lines []string) []string {
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], `"[secret]"`, "[secret]")
	}
	return lines
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	juju := &answers{}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		for range 3000 {
			u.Log.Info(strings.Repeat("x", 1000))
		}
		u.Log.Info(strings.Repeat("y", 1<<20))
	})
	logs := juju.only("juju-log")
	total := 0
	for _, line := range logs {
		require.Less(t, len(line), 64<<10)
		total += len(line)
	}
	require.Less(t, total, 1200<<10)
	require.Less(t, len(logs), 60)
	require.Contains(t, logs[len(logs)-1], "log lines were dropped")
}

func TestLogLinesGoToStderrWhenJujuDoesNotTakeThem(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		u.Log.Info("hello")
		return nil
	}}, hooks.Options{Environ: hookEnv("hooks/start"), Runner: &answers{err: map[string]error{"juju-log": refused("juju-log", 1, "ERROR no")}},
		StateDir: t.TempDir(), Stderr: &stderr})
	require.Zero(t, code)
	require.Equal(t, "INFO hello\n", stderr.String())
}
