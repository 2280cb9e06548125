package juju

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"certlab/internal/juju/toolclient"

	"github.com/stretchr/testify/require"
)

// jujucBinary is built once for all tests of the package.
var jujucBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "jujuc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	jujucBinary = filepath.Join(dir, "jujuc")
	build := exec.Command("go", "build", "-trimpath", "-o", jujucBinary, "certlab/cmd/jujuc")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build jujuc: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// serveTools answers on a socket and makes a directory of hook tools.
func serveTools(t *testing.T, server *Server) (socket, tools string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "juju") // short: a socket's path has little room
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, tools = filepath.Join(dir, "agent.socket"), filepath.Join(dir, "tools")
	require.NoError(t, os.Mkdir(tools, 0o755))
	for _, name := range append(ToolNames(4), "juju-exec") {
		require.NoError(t, os.Symlink(jujucBinary, filepath.Join(tools, name)))
	}
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return socket, tools
}

func TestHookToolsAsProcesses(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	server := NewServer(nil)
	remove := server.Add(c)
	socket, tools := serveTools(t, server)
	work := t.TempDir()
	run := func(stdin, script string) (string, int) {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = work
		cmd.Env = []string{"PATH=" + tools + ":/usr/bin:/bin", "JUJU_CONTEXT_ID=" + c.ID(), "JUJU_AGENT_SOCKET_ADDRESS=" + socket}
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			require.IsType(t, &exec.ExitError{}, err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("", "config-get s && status-set active 'two words' && is-leader --format=json")
	require.Equal(t, "hello\ntrue\n", out)
	require.Zero(t, code)
	require.Equal(t, "two words", m.Snapshot().Units["probe/0"].Workload.Message)

	out, code = run("a: from-stdin\n", "relation-set -r cluster:0 --file - && relation-get -r cluster:0 a probe/0")
	require.Equal(t, "from-stdin\n", out)
	require.Zero(t, code)

	require.NoError(t, os.WriteFile(filepath.Join(work, "hidden"), []byte("s3cret"), 0o600))
	out, code = run("", `id=$(secret-add pass-word#file=hidden) && secret-get $id pass-word && secret-add pass-word#file=nowhere`)
	require.Equal(t, 2, code)
	require.Contains(t, out, "s3cret\nERROR ")
	require.Contains(t, out, "no such file or directory")

	out, code = run("", "config-get -o out s; cat out; status-set bogus; leader-get; action-set a=1 b")
	require.Equal(t, 2, code)
	require.Contains(t, out, "hello\nERROR invalid status \"bogus\", expected one of [maintenance blocked waiting active]\n")
	require.Contains(t, out, "leader-get: not found")

	remove()
	out, code = run("", "config-get")
	require.Equal(t, 1, code)
	require.Contains(t, out, "unknown context")
}

func TestHookToolsAnswerManyAtOnce(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	server := NewServer(nil)
	server.Add(c)
	socket, _ := serveTools(t, server)
	errs := make(chan error, 32)
	for n := range cap(errs) {
		go func() {
			resp, err := toolclient.Do(toolclient.Call{Socket: socket, Timeout: 10 * time.Second,
				Request: Request{Context: c.ID(), Tool: "state-set", Args: []string{fmt.Sprintf("k%d=%d", n, n)}}})
			if err == nil && resp.Code != 0 {
				err = fmt.Errorf("code %d: %s", resp.Code, resp.Stderr)
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.NoError(t, c.Flush())
	require.Len(t, m.Snapshot().Units["probe/0"].CharmState, 32)
}

func TestAClientThatSaysTooMuchIsCutOff(t *testing.T) {
	t.Parallel()
	socket, _ := serveTools(t, NewServer(nil))
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := conn.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// socketHost runs scripts as real processes and listens on real sockets below a directory.
type socketHost struct {
	fakeHost
	dir string
}

func (h *socketHost) Paths(unit string) Paths {
	return Paths{CharmDir: h.dir, ToolsDir: h.dir, AgentSocket: h.dir + "/agent.socket", RunSocket: h.dir + "/run.socket"}
}

func (h *socketHost) Listen(_ context.Context, _, path string) (net.Listener, error) {
	return net.Listen("unix", path)
}

func (h *socketHost) Dispatch(ctx context.Context, spec DispatchSpec) Exit {
	if spec.Kind != RunExec {
		return h.fakeHost.Dispatch(ctx, spec)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", spec.Script)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return Exit{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
}

func TestJujuExecRunsInAContextOfTheUnit(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "juju")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range ToolNames(4) {
		require.NoError(t, os.Symlink(jujucBinary, filepath.Join(dir, name)))
	}
	m := probeModel(t, "4.0.15")
	require.NoError(t, m.Update(func(s *State) error {
		delete(s.Tasks, 1)
		s.Settle("probe/0", "boot0", m.Now())
		return nil
	}))
	w := &world{t: t, model: m, ran: map[string][]string{}, envs: map[string][]string{}, boots: map[string]int{}, gates: map[string]chan struct{}{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewAgent(m, "probe/0", &socketHost{fakeHost{w, "0"}, dir}, AgentOptions{}).Run(ctx) }()
	ask := func(script string) (toolclient.Response, error) {
		return toolclient.Do(toolclient.Call{Socket: dir + "/run.socket", Timeout: 20 * time.Second,
			Request: Request{Exec: &toolclient.Exec{Unit: "probe/0", Script: script}}})
	}
	require.Eventually(t, func() bool { _, err := ask("true"); return err == nil }, 10*time.Second, 10*time.Millisecond)
	resp, err := ask(`echo $JUJU_UNIT_NAME $JUJU_DISPATCH_PATH; state-set from=exec; config-get s; action-get; exit 3`)
	require.NoError(t, err)
	require.Equal(t, 3, resp.Code)
	require.Equal(t, "probe/0\nhello\n", string(resp.Stdout))
	require.Equal(t, "ERROR not running an action\n", string(resp.Stderr))
	require.Equal(t, map[string]string{"from": "exec"}, m.Snapshot().Units["probe/0"].CharmState)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.True(t, m.Snapshot().Units["probe/0"].Lost)
}
