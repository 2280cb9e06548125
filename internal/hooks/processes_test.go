package hooks_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
)

// dispatchDir names the state directory to a process of this test's binary that is to be a dispatch.
const dispatchDir = "CERTLAB_TEST_DISPATCH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dispatchDir); dir != "" {
		os.Exit(dispatchOnce(dir))
	}
	os.Exit(m.Run())
}

// dispatchOnce says in the file "seen" when it begins and ends, and ends when its input does.
func dispatchOnce(dir string) int {
	say := func(what string) error {
		f, err := os.OpenFile(filepath.Join(dir, "seen"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = fmt.Fprintln(f, what, os.Getpid())
		return err
	}
	work := func() error {
		if err := say("begin"); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return say("end")
	}
	return hooks.Run(context.Background(), hooks.Charm{
		Reconcile: func(context.Context, *hooks.Unit) error { return work() },
		Actions:   map[string]hooks.Action{"probe": func(context.Context, *hooks.Unit, *hooks.ActionCall) error { return work() }},
	}, hooks.Options{Runner: &answers{out: map[string]string{"action-get": "{}"}}, StateDir: filepath.Join(dir, "dispatch")})
}

// An agent that was killed in a hook leaves its process behind and runs the hook again; an action may come at the same moment.
func TestFaultTheSameHookTwiceAtOnceAndAnActionRunOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*exec.Cmd, io.Closer) error{
		"the first ends":    func(_ *exec.Cmd, input io.Closer) error { return input.Close() },
		"the first is dead": func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			seen := func() []string {
				data, err := os.ReadFile(filepath.Join(dir, "seen"))
				if err != nil {
					return nil
				}
				return strings.Split(strings.TrimSpace(string(data)), "\n")
			}
			start := func(input io.Reader, env ...string) (*exec.Cmd, *bytes.Buffer) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(append(os.Environ(), env...), dispatchDir+"="+dir)
				cmd.Stdin = input
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				require.NoError(t, cmd.Start())
				t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, if all is well
				return cmd, &out
			}
			read, write, err := os.Pipe()
			require.NoError(t, err)
			defer write.Close()
			first, _ := start(read, hookEnv("hooks/config-changed")...)
			require.NoError(t, read.Close())
			require.Eventually(t, func() bool { return len(seen()) == 1 }, time.Minute, 5*time.Millisecond)

			second, said := start(nil, hookEnv("hooks/config-changed")...)
			action, told := start(nil, hookEnv("actions/probe", "JUJU_ACTION_NAME=probe", "JUJU_ACTION_UUID=3", "JUJU_ACTION_TAG=action-3")...)
			// Both have come to the lock, which they hold open and do not get.
			require.Eventually(t, func() bool {
				for _, cmd := range []*exec.Cmd{second, action} {
					files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
					waits := false
					for _, file := range files {
						target, _ := os.Readlink(file)
						waits = waits || target == filepath.Join(dir, "dispatch", "lock")
					}
					if !waits {
						return false
					}
				}
				return true
			}, time.Minute, 5*time.Millisecond)
			require.Len(t, seen(), 1)

			require.NoError(t, end(first, write))
			_ = first.Wait() // one that was killed says so
			require.NoError(t, second.Wait(), said)
			require.NoError(t, action.Wait(), told)
			lines := seen()
			if name == "the first is dead" {
				lines = append(lines[:1], append([]string{strings.Replace(lines[0], "begin", "end", 1)}, lines[1:]...)...)
			}
			require.Len(t, lines, 6)
			for i := 0; i < len(lines); i += 2 {
				require.Equal(t, strings.Replace(lines[i], "begin", "end", 1), lines[i+1], lines)
			}
		})
	}
}
