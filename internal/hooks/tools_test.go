package hooks_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
)

// recorder is a hook tool that notes how it was called and with what, prints what is in answer/NAME, and ends as answer/NAME.code says.
const recorder = `#!/bin/sh
name=${0##*/}
{
	echo "$name"
	for arg; do
		echo "arg $arg"
		case $arg in
		*'#file='*) f=${arg#*#file=}; echo "file $(stat -c %a "$f") $(stat -c %a "${f%/*}") $(cat "$f")";;
		esac
	done
	if [ -e "$FAKE/stdin.$name" ]; then echo "stdin $(cat)"; fi
	echo "unit $JUJU_UNIT_NAME"
} >>"$FAKE/log"
if [ -e "$FAKE/$name.hang" ]; then exec sleep 60; fi
if [ -e "$FAKE/$name.err" ]; then cat "$FAKE/$name.err" >&2; fi
if [ -e "$FAKE/$name" ]; then cat "$FAKE/$name"; fi
if [ -e "$FAKE/$name.code" ]; then exit "$(cat "$FAKE/$name.code")"; fi
`

// fakeTools makes a directory of hook tools. Files say what they do; see recorder.
func fakeTools(t *testing.T, files map[string]string, tools ...string) (*hooks.Tools, string) {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"bin", "private"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	for _, tool := range tools {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", tool), []byte(recorder), 0o755))
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return &hooks.Tools{
		Environ:    []string{"JUJU_UNIT_NAME=probe/0", "FAKE=" + dir, "PATH=bin:" + filepath.Join(dir, "bin") + ":/usr/bin:/bin"},
		PrivateDir: filepath.Join(dir, "private"), Prefix: ".unit-probe-0-",
	}, dir
}

func toolLog(t *testing.T, dir string) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	return string(log)
}

func TestToolsAreStartedWithStdinAndPrivateFiles(t *testing.T) {
	t.Parallel()
	tools, dir := fakeTools(t, map[string]string{"stdin.relation-set": "", "secret-add": "secret://m/id\n"}, "relation-set", "secret-add")
	out, err := tools.Run(t.Context(), hooks.Command{Name: "relation-set", Args: []string{"-r", "a b:1", "--file", "-"}, Stdin: []byte("k: v")})
	require.NoError(t, err)
	require.Empty(t, out)
	out, err = tools.Run(t.Context(), hooks.Command{Name: "secret-add", Args: []string{"--label", "l"}, Files: map[string][]byte{"pass": []byte("sesame"), "name": []byte("aladdin")}})
	require.NoError(t, err)
	require.Equal(t, "secret://m/id\n", string(out))

	log := toolLog(t, dir)
	for _, line := range strings.Split(log, "\n") {
		if strings.HasPrefix(line, "arg ") {
			require.NotContains(t, line, "sesame")
		}
	}
	private := filepath.Join(dir, "private") + "/.unit-probe-0-"
	log = strings.ReplaceAll(log, private, "PRIVATE")
	require.Regexp(t, `^relation-set
arg -r
arg a b:1
arg --file
arg -
stdin k: v
unit probe/0
secret-add
arg --label
arg l
arg name#file=PRIVATE\d+/0
file 600 700 aladdin
arg pass#file=PRIVATE\d+/1
file 600 700 sesame
unit probe/0
$`, log)
	left, err := os.ReadDir(tools.PrivateDir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAToolThatRefusesGivesItsCodeAndText(t *testing.T) {
	t.Parallel()
	tools, _ := fakeTools(t, map[string]string{"relation-get.err": "ERROR relation unit not found\n", "relation-get.code": "1"}, "relation-get")
	_, err := tools.Run(t.Context(), hooks.Command{Name: "relation-get"})
	require.Equal(t, &hooks.ToolError{Tool: "relation-get", Code: 1, Stderr: "ERROR relation unit not found"}, err)
	require.ErrorIs(t, err, hooks.ErrNotFound)

	_, err = tools.Run(t.Context(), hooks.Command{Name: "leader-set"})
	require.EqualError(t, err, "cannot run leader-set: there is no such hook tool in PATH (is this run by Juju?)")
}

func TestAToolThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	tools, _ := fakeTools(t, map[string]string{"config-get.hang": ""}, "config-get")
	tools.Timeout = 10 * time.Millisecond
	begin := time.Now()
	_, err := tools.Run(t.Context(), hooks.Command{Name: "config-get"})
	require.EqualError(t, err, "cannot run config-get: it did not end within 10ms")
	_, err = tools.Run(t.Context(), hooks.Command{Name: "config-get", Timeout: 20 * time.Millisecond})
	require.EqualError(t, err, "cannot run config-get: it did not end within 20ms")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = tools.Run(ctx, hooks.Command{Name: "config-get"})
	require.EqualError(t, err, "cannot run config-get: enough")
	require.Less(t, time.Since(begin), 30*time.Second)
}

func TestWhatAToolPrintsIsBounded(t *testing.T) {
	t.Parallel()
	tools, _ := fakeTools(t, map[string]string{"a.err": strings.Repeat("x", 100_000), "a.code": "1"}, "a")
	_, err := tools.Run(t.Context(), hooks.Command{Name: "a"})
	var refusal *hooks.ToolError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, 4<<10, len(refusal.Stderr))
}

func TestSweepDeletesWhatAKilledDispatchHasLeft(t *testing.T) {
	t.Parallel()
	tools, _ := fakeTools(t, nil)
	old := filepath.Join(tools.PrivateDir, ".unit-probe-0-123")
	other := filepath.Join(tools.PrivateDir, ".unit-other-0-123")
	for _, dir := range []string{old, other} {
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "0"), []byte("sesame"), 0o600))
	}
	tools.Sweep()
	require.NoDirExists(t, old)
	require.DirExists(t, other)
}

func TestAWholeDispatchWithToolsThatAreProcesses(t *testing.T) {
	t.Parallel()
	tools, dir := fakeTools(t, map[string]string{"config-get": `{"port":8443}`, "status-get": `{"status":"unknown","message":"","status-data":{}}`},
		"config-get", "status-get", "status-set", "juju-log")
	environ := append(hookEnv("hooks/config-changed"), tools.Environ...)
	code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
		var config struct {
			Port int `config:"port"`
		}
		if err := u.Config(ctx, &config); err != nil {
			return err
		}
		u.Log.Info("configured", "port", config.Port)
		return hooks.Active("-listening on %d", config.Port)
	}}, hooks.Options{Environ: environ, StateDir: t.TempDir(), Stdout: io.Discard, Stderr: testWriter{t}})
	require.Zero(t, code)
	require.Equal(t, `config-get
arg --all
arg --format
arg json
unit probe/0
status-get
arg --include-data
arg --format
arg json
unit probe/0
status-set
arg --
arg active
arg -listening on 8443
unit probe/0
juju-log
arg -l
arg INFO
arg --
arg configured port=8443
unit probe/0
`, toolLog(t, dir))
}
