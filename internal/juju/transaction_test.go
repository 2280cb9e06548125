package juju

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tools runs tools one after another, each of which must succeed.
func runTools(t *testing.T, c *Context, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		_, stderr, code := c.Run(words[0], words[1:], nil)
		require.Zero(t, code, "%s: %s", line, stderr)
	}
}

var everyTool = []string{"relation-set -r cluster:0 a=1", "relation-set -r cluster:0 --app b=2", "state-set k=v", "open-port 80", "storage-add data",
	"secret-add --label new key=value", "status-set maintenance busy", "application-version-set 2", "juju-log hello", "action-log step"}

func TestOnlyWhatWaitsIsDroppedWhenAHookFails(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	before := m.Snapshot()
	c := execContext(t, m)
	runTools(t, c, everyTool...)
	c.Close()
	s := m.Snapshot()
	require.Equal(t, before.Relations, s.Relations)
	require.Empty(t, s.Units["probe/0"].CharmState)
	require.Empty(t, s.Units["probe/0"].Ports)
	require.Empty(t, s.Storage)
	require.Empty(t, s.Secrets)
	require.Equal(t, "maintenance", s.Units["probe/0"].Workload.Status)
	require.Equal(t, "2", s.Units["probe/0"].WorkloadVersion)
	require.Len(t, s.Log, 1)
	require.Len(t, s.Tasks[1].Log, 1)
	_, stderr, code := c.Run("config-get", nil, nil)
	require.Equal(t, 1, code, "a process that outlives its hook is refused")
	require.Contains(t, string(stderr), "unknown context")
}

func TestFlushShowsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	runTools(t, c, everyTool...)
	require.NoError(t, c.Flush())
	s := m.Snapshot()
	require.Equal(t, "1", s.Relations[0].Units["probe/0"].Settings["a"])
	require.Equal(t, "2", s.Relations[0].Apps["probe"].Settings["b"])
	require.Equal(t, map[string]string{"k": "v"}, s.Units["probe/0"].CharmState)
	require.Equal(t, []Port{{Protocol: "tcp", From: 80, To: 80}}, s.Units["probe/0"].Ports)
	require.Contains(t, s.Storage, "data/0")
	require.Len(t, s.Secrets, 1)
	require.NoError(t, s.Check())
	require.Error(t, c.Flush(), "a context is flushed once")
}

func TestAFailedFlushChangesNothing(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	runTools(t, c, "state-set k=v", "relation-set -r cluster:0 a=1", "secret-add --label taken key=value")
	other := execContext(t, m)
	runTools(t, other, "secret-add --label taken key=value")
	require.NoError(t, other.Flush())
	require.ErrorContains(t, c.Flush(), `executing leadership func: create secrets: creating secret`)
	require.Empty(t, m.Snapshot().Units["probe/0"].CharmState)
	require.NotContains(t, m.Snapshot().Relations[0].Units["probe/0"].Settings, "a")
}

func TestTheSameSettingsAgainAreNoChange(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	for range 2 {
		c := execContext(t, m)
		runTools(t, c, "relation-set -r cluster:0 a=1", "relation-set -r cluster:0 --app b=2")
		require.NoError(t, c.Flush())
	}
	require.Equal(t, 1, m.Snapshot().Relations[0].Units["probe/0"].Version)
	require.Equal(t, 1, m.Snapshot().Relations[0].Apps["probe"].Version)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	_, stderr, code := c.Run("state-set", []string{"k=" + strings.Repeat("x", maxStateValue+1)}, nil)
	require.Equal(t, 1, code)
	require.Contains(t, string(stderr), "quota limit exceeded")
	runTools(t, c, "state-set k="+strings.Repeat("x", maxStateValue))

	_, _, code = c.Run("relation-set", []string{"-r", "0", "k=" + strings.Repeat("x", maxBag)}, nil)
	require.Zero(t, code, "the size is judged at the flush")
	require.EqualError(t, c.Flush(), "max allowed total size (16777216): quota limit exceeded")

	c = execContext(t, m)
	_, stderr, code = c.Run("secret-add", []string{"key=" + strings.Repeat("x", maxSecretValue+1)}, nil)
	require.Equal(t, 2, code)
	require.Contains(t, string(stderr), "too large")
}

func TestOnlyTheLeaderWritesTheApplicationsSettings(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	require.NoError(t, m.Update(func(s *State) error { s.Applications["probe"].Leader = ""; return nil }))
	c := execContext(t, m)
	_, stderr, code := c.Run("relation-set", strings.Fields("-r 0 --app a=1"), nil)
	require.Equal(t, 1, code)
	require.Equal(t, "ERROR cannot write relation settings\n", string(stderr))
	_, _, code = c.Run("relation-get", strings.Fields("-r 0 --app - probe"), nil)
	require.Zero(t, code, "reading is allowed")
}

func TestFilesAndStandardInputAreAskedFor(t *testing.T) {
	t.Parallel()
	m := probeModel(t, "4.0.15")
	c := execContext(t, m)
	resp := c.Do(Request{Tool: "relation-set", Args: strings.Fields("-r 0 --file -")})
	require.True(t, resp.NeedStdin)
	resp = c.Do(Request{Tool: "secret-add", Args: []string{"key#file=secret.txt", "other=x"}, Dir: "/tmp/d"})
	require.Equal(t, []string{"/tmp/d/secret.txt"}, resp.NeedFiles)
	resp = c.Do(Request{Tool: "secret-add", Args: []string{"key#file=secret.txt", "other=x"}, Dir: "/tmp/d",
		Files: map[string][]byte{"/tmp/d/secret.txt": []byte("hidden\n")}})
	require.Zero(t, resp.Code, "%s", resp.Stderr)
	uri := strings.TrimSpace(string(resp.Stdout))
	stdout, _, _ := c.Run("secret-get", []string{uri, "key", "--format", "json"}, nil)
	require.Equal(t, "\"hidden\\n\"\n", string(stdout))
	stdout, _, _ = c.Run("secret-get", []string{uri, "key#base64"}, nil)
	require.Equal(t, "aGlkZGVuCg==\n", string(stdout))
	resp = c.Do(Request{Tool: "config-get", Args: strings.Fields("s -o out.txt"), Dir: "/tmp/d"})
	require.Equal(t, "/tmp/d/out.txt", resp.Output)
}
