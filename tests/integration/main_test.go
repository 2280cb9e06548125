// Package integration deploys the bundle and uses it as an operator does, through Juju's command line.
//
// By default that command line is `certlab juju`, against a local lab that the tests start and end. With JUJU set (JUJU=juju)
// the same tests run against a real controller, in its current model, beginning with deploy; CERTLAB_OVERLAY then names a bundle
// overlay with what that lab needs (constraints, Checkbox's source). What a real controller cannot be asked (cutting a
// machine's power) is listed by the test that would do it.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lab is the deployment that the tests of this package share, in order.
type lab struct {
	juju    []string // the juju command
	certlab string   // the certlab program
	dir     string   // the local lab's directory; empty with a real Juju
	root    string   // of the repository
	config  string   // XDG_CONFIG_HOME of the certlab client
	faults  *faults  // what the steps about faults share
	hang    string   // reservation of the machine that hangs
}

// result of a command.
type result struct {
	args   []string
	stdout string
	stderr string
	code   int
	err    error // it could not be run, or has not ended
}

func (r result) String() string {
	return fmt.Sprintf("%s\nexit code %d\n--- stdout\n%s--- stderr\n%s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// local reports whether the lab is the local one.
func (l *lab) local() bool { return l.dir != "" }

// exec runs a program with a deadline and returns what it printed.
func (l *lab) exec(t *testing.T, args ...string) result {
	t.Helper()
	r := l.command(args[0], args[1:]...)
	require.NoError(t, r.err, "%s", r)
	return r
}

// command is exec for a goroutine of its own: it leaves to the caller what is wrong.
func (l *lab) command(name string, args ...string) result {
	args = append([]string{name}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "CERTLAB_LAB="+l.dir, "XDG_CONFIG_HOME="+l.config)
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	r := result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: -1, err: ctx.Err()}
	if cmd.ProcessState == nil {
		r.err = err
		return r
	}
	r.code = cmd.ProcessState.ExitCode()
	return r
}

// jujuCmd runs Juju's command and returns what it printed, whatever its exit code.
func (l *lab) jujuCmd(t *testing.T, args ...string) result {
	t.Helper()
	return l.exec(t, append(append([]string{}, l.juju...), args...)...)
}

// mustJuju runs Juju's command, which has to succeed, and returns its standard output.
func (l *lab) mustJuju(t *testing.T, args ...string) string {
	t.Helper()
	r := l.jujuCmd(t, args...)
	require.Zero(t, r.code, "%s", r)
	return r.stdout
}

// mustCertlab runs the certlab program, which has to succeed, and returns its standard output.
func (l *lab) mustCertlab(t *testing.T, args ...string) string {
	t.Helper()
	r := l.exec(t, append([]string{l.certlab}, args...)...)
	require.Zero(t, r.code, "%s", r)
	return r.stdout
}

// task is what `juju run --format json` says of one unit.
type task struct {
	ID      string         `json:"id"`
	Log     []string       `json:"log"`
	Message string         `json:"message"`
	Results map[string]any `json:"results"`
	Status  string         `json:"status"`
	Timing  struct {
		Enqueued string `json:"enqueued"`
		Started  string `json:"started"`
	} `json:"timing"`
	Unit string `json:"unit"`
}

// run runs an action on one unit and returns its task.
func (l *lab) run(t *testing.T, unit, action string, params ...string) task {
	t.Helper()
	args := append([]string{"run", unit, action}, params...)
	r := l.jujuCmd(t, append(args, "--format", "json", "--wait", "5m")...)
	var tasks map[string]task
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &tasks), "%s", r)
	require.Contains(t, tasks, unit, "%s", r)
	return tasks[unit]
}

// ask runs a quick action on a unit whose machine may go down meanwhile, and returns an empty task then: an action that was running
// when its machine rebooted stays so for ever on Juju 4.
func (l *lab) ask(t *testing.T, unit, action string, params ...string) task {
	t.Helper()
	args := append([]string{"run", unit, action}, params...)
	r := l.jujuCmd(t, append(args, "--format", "json", "--wait", "20s")...)
	var tasks map[string]task
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &tasks), "%s", r)
	return tasks[unit]
}

// taskOf reads the task of one unit, which is empty if it was not printed: juju has given up waiting, say.
func taskOf(r result, unit string) task {
	var tasks map[string]task
	if json.Unmarshal([]byte(r.stdout), &tasks) != nil {
		return task{Message: r.String()}
	}
	return tasks[unit]
}

// str returns a result by its dotted path, or "".
func (k task) str(path string) string {
	var v any = k.Results
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[part]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// counts returns the action's counts per outcome.
func (k task) counts(t *testing.T) map[string]int {
	t.Helper()
	m, ok := k.Results["counts"].(map[string]any)
	require.True(t, ok, "no counts in %v", k.Results)
	counts := map[string]int{}
	for outcome, v := range m {
		var n int
		_, err := fmt.Sscan(fmt.Sprint(v), &n)
		require.NoError(t, err)
		counts[outcome] = n
	}
	return counts
}

// status is the part of `juju status --format json` that the tests look at.
type status struct {
	Applications map[string]struct {
		Units map[string]struct {
			Workload struct {
				Current string `json:"current"`
				Message string `json:"message"`
			} `json:"workload-status"`
			Agent struct {
				Current string `json:"current"`
			} `json:"juju-status"`
			Machine       string `json:"machine"`
			PublicAddress string `json:"public-address"`
		} `json:"units"`
	} `json:"applications"`
}

func (l *lab) status(t *testing.T) status {
	t.Helper()
	var s status
	require.NoError(t, json.Unmarshal([]byte(l.mustJuju(t, "status", "--format", "json")), &s))
	return s
}

// unit returns a unit's workload status and message, both empty when it is not there.
func (s status) unit(name string) (current, message string) {
	app, _, _ := strings.Cut(name, "/")
	u := s.Applications[app].Units[name]
	return u.Workload.Current, u.Workload.Message
}

// eventually polls until ok returns "", for at most limit; what ok returns says what is still missing.
func (l *lab) eventually(t *testing.T, limit time.Duration, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		missing := ok()
		if missing == "" {
			return
		}
		require.True(t, time.Now().Before(deadline), "after %s: %s\n%s", limit, missing, l.mustJuju(t, "status"))
		time.Sleep(300 * time.Millisecond)
	}
}

// waitUnit waits for a unit's workload status and for a text in its message.
func (l *lab) waitUnit(t *testing.T, unit, current, message string, limit time.Duration) {
	t.Helper()
	l.eventually(t, limit, func() string {
		c, m := l.status(t).unit(unit)
		if c == current && strings.Contains(m, message) {
			return ""
		}
		return fmt.Sprintf("%s is %q %q, not %q %q", unit, c, m, current, message)
	})
}

// newLab starts an empty local lab, or takes the real Juju that JUJU names.
func newLab(t *testing.T) *lab {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	l := &lab{root: root, config: t.TempDir()}
	bin := os.Getenv("CERTLAB_BIN")
	if bin == "" {
		bin = filepath.Join(root, "build", "bin")
	}
	l.certlab = filepath.Join(bin, "certlab")
	require.FileExists(t, l.certlab, "run `make pack` first, or set CERTLAB_BIN")
	require.FileExists(t, l.charm("checkbox"), "run `make pack` first, or set CERTLAB_CHARMS")
	if juju := strings.Fields(os.Getenv("JUJU")); len(juju) > 0 {
		l.juju = juju
		return l
	}
	// A short path: the lab's unix sockets lie below it.
	l.dir, err = os.MkdirTemp("", "lab")
	require.NoError(t, err)
	l.juju = []string{l.certlab, "juju"}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.jujuCmd(t, "status").stdout)
			t.Log(l.jujuCmd(t, "debug-log", "--replay", "--no-tail", "--limit", "200").stdout)
		}
		r := l.exec(t, l.certlab, "lab", "down", "--destroy")
		require.Zero(t, r.code, "%s", r)
		require.NoDirExists(t, l.dir)
	})
	l.mustCertlab(t, "lab", "up")
	return l
}

// charm returns the path of a packed charm for the architecture under test.
func (l *lab) charm(name string) string {
	dir := os.Getenv("CERTLAB_CHARMS")
	if dir == "" {
		dir = filepath.Join(l.root, "build", "charms")
	}
	return filepath.Join(dir, name+"_"+arch()+".charm")
}

// arch is the architecture of the machines under test, amd64 unless CERTLAB_ARCH says otherwise.
func arch() string {
	if a := os.Getenv("CERTLAB_ARCH"); a != "" {
		return a
	}
	return "amd64"
}

// freePort returns a TCP port that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
