package hookstest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/hooks/hookstest"
	"certlab/internal/juju"
	"certlab/internal/juju/toolclient"

	"github.com/stretchr/testify/require"
)

// TestMain lets links to the test's binary be the hook tools, as links to cmd/jujuc are in the local lab.
func TestMain(m *testing.M) {
	if slices.Contains(juju.ToolNames(4), filepath.Base(os.Args[0])) {
		os.Exit(toolclient.Main(os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// withProcesses makes hook tools real processes that ask over a unix socket.
func withProcesses(t *testing.T, s *hookstest.Scenario) *hookstest.Scenario {
	t.Helper()
	dir, err := os.MkdirTemp("", "ht") // t.TempDir's names are too long for sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	tools, socket, private := filepath.Join(dir, "tools"), filepath.Join(dir, "agent.socket"), filepath.Join(dir, "private")
	require.NoError(t, os.Mkdir(tools, 0o755))
	require.NoError(t, os.Mkdir(private, 0o700))
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range juju.ToolNames(4) {
		require.NoError(t, os.Symlink(self, filepath.Join(tools, name)))
	}
	return s.Processes(
		func(paths *juju.Paths) { paths.ToolsDir, paths.AgentSocket = tools, socket },
		func(c *juju.Context) (hooks.Runner, func()) {
			server := juju.NewServer(nil)
			remove := server.Add(c)
			listener, err := net.Listen("unix", socket)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- server.Serve(ctx, listener) }()
			// With the race detector a program otherwise sleeps for a second before it ends.
			environ := append(c.Env(), "GORACE=atexit_sleep_ms=0")
			return &hooks.Tools{Environ: environ, PrivateDir: private, Prefix: "test-"}, func() {
				cancel()
				require.NoError(t, <-served)
				remove()
				left, err := os.ReadDir(private)
				require.NoError(t, err)
				require.Empty(t, left, "a tool's private files stayed")
			}
		})
}

func TestToolsThatAreProcessesDoTheSame(t *testing.T) {
	t.Parallel()
	story := func(s *hookstest.Scenario) [][]string {
		s.WithConfig(map[string]string{"port": "8080", "name": "-x\n: ä"}).WithRelation("guests", "walker", 1).
			WithSecretOption("key", map[string]string{"teeth": "sesame-sesame"}, true)
		var facts [][]string
		keep := func(r hookstest.Result) { facts = append(facts, append(r.Facts(), r.Log...)) }
		keep(s.Fire("upgrade-charm").RequireStatus("active", "1 guests"))
		keep(s.RunAction("book", map[string]any{"guest": "burglar"}))
		keep(s.RunAction("book", map[string]any{"guest": "Ada", "nights": 3}).RequireSuccess())
		return facts
	}
	require.Equal(t,
		story(hookstest.New(t, inn(), charmcraft)),
		story(withProcesses(t, hookstest.New(t, inn(), charmcraft))))
}
