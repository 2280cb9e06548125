package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/juju"
	"certlab/internal/juju/cli"
)

// newModel is a model of that version with one application, whose agent does not run.
func newModel(t *testing.T, version string) *juju.Model {
	now := time.Now().UTC()
	s := juju.NewState(juju.ModelInfo{Name: "lab1", UUID: modelUUID, Version: version, Controller: "c1", Cloud: "lab", Region: "default"}, now)
	ch, err := juju.NewCharm(map[string]string{
		"metadata.yaml": "name: ctrl\nsummary: s\ndescription: d\nresources: {tool: {type: file, filename: tool.tar}}\n",
		"manifest.yaml": "bases: [{name: ubuntu, channel: \"24.04\", architectures: [amd64]}]\n",
		"config.yaml":   "options:\n  title: {type: string, default: lab, description: a title}\n  count: {type: int, default: 1, description: a number}\n",
		"actions.yaml":  "typed:\n  description: d\n  params:\n    i: {type: integer}\n  required: [i]\n",
	})
	require.NoError(t, err)
	_, err = s.AddApplication(juju.Deployment{Name: "ctrl", Charm: s.AddCharm(ch), Units: 1}, now)
	require.NoError(t, err)
	return juju.NewModel(s, juju.Options{})
}

func call(t *testing.T, m *juju.Model, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(context.Background(), cli.Env{Model: m, Dir: dir, Stdout: &out, Stderr: &errs, Location: time.UTC}, args)
	return out.String(), errs.String(), code
}

func TestEveryCommandHasHelpThatNamesItsOptions(t *testing.T) {
	t.Parallel()
	m := newModel(t, "4.0.15")
	overview, _, code := call(t, m, "")
	require.Zero(t, code)
	n := 0
	for _, line := range strings.Split(overview, "\n") {
		if !strings.HasPrefix(line, "  ") {
			continue
		}
		n++
		name := strings.Fields(line)[0]
		help, stderr, code := call(t, m, "", name, "--help")
		require.Zero(t, code, name)
		require.Empty(t, stderr, name)
		require.Contains(t, help, "Usage: juju "+name+" [options]")
		require.Contains(t, help, "\nCommand Options:\n", name)
	}
	require.Greater(t, n, 40)
	help, _, _ := call(t, m, "", "help", "run")
	require.Contains(t, help, "--params (= \"\")\n    Path to yaml-formatted params file\n")
}

func TestOptionsAreReadAsJujuReadsThem(t *testing.T) {
	t.Parallel()
	m := newModel(t, "4.0.15")
	for _, test := range []struct {
		args   []string
		stderr string
		code   int
	}{
		{[]string{"status", "--nosuch"}, "ERROR option provided but not defined: --nosuch\n", 2},
		{[]string{"status", "--format"}, "ERROR option needs an argument: --format\n", 2},
		{[]string{"status", "--format", "xml"}, "ERROR invalid value \"xml\" for option --format: unknown format \"xml\"\n", 2},
		{[]string{"add-unit", "ctrl", "-n", "x"}, "ERROR invalid value \"x\" for option -n: strconv.ParseInt: parsing \"x\": invalid syntax\n", 2},
		{[]string{"nosuch"}, "ERROR unrecognized command: juju nosuch\n", 1},
		{[]string{"ssh", "ctrl/0"}, "ERROR unrecognized command: juju ssh\nIn the local lab: certlab lab shell MACHINE|UNIT, or certlab lab exec MACHINE|UNIT -- COMMAND\n", 1},
		{[]string{"run", "ctrl/0", "typed", "--wait=1s", "--background"}, "ERROR cannot specify both --wait and --background\n", 2},
		{[]string{"add-unit", "-n2", "nosuch"}, "ERROR application \"nosuch\" not found (not found)\n", 1},
	} {
		_, stderr, code := call(t, m, "", test.args...)
		require.Equal(t, test.stderr, stderr, test.args)
		require.Equal(t, test.code, code, test.args)
	}
}

func TestConfigFileWorksOn36AndNotOn40(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.yaml"), []byte("ctrl:\n  title: from file\n  count: 3\n"), 0o644))
	m := newModel(t, "3.6.28")
	_, stderr, code := call(t, m, dir, "config", "ctrl", "--file", "c.yaml")
	require.Zero(t, code, stderr)
	out, _, _ := call(t, m, dir, "config", "ctrl", "title")
	require.Equal(t, "from file\n", out)
	_, stderr, code = call(t, newModel(t, "4.0.15"), dir, "config", "ctrl", "--file", "c.yaml")
	require.Equal(t, 1, code)
	require.Equal(t, "ERROR config yaml not supported not implemented\n", stderr)
}

func TestResetTellsUnitsOn36AndNotOn40(t *testing.T) {
	t.Parallel()
	for version, told := range map[string]bool{"3.6.28": true, "4.0.15": false} {
		m := newModel(t, version)
		_, _, code := call(t, m, "", "config", "ctrl", "title=x")
		require.Zero(t, code)
		before := m.Snapshot().Applications["ctrl"].ConfigVersion
		_, _, code = call(t, m, "", "config", "ctrl", "--reset", "title")
		require.Zero(t, code)
		require.Equal(t, told, m.Snapshot().Applications["ctrl"].ConfigVersion != before, version)
	}
}

func TestWrongParametersAreRefusedAtOnceOn36AndByTheUnitOn40(t *testing.T) {
	t.Parallel()
	_, stderr, code := call(t, newModel(t, "3.6.28"), "", "run", "ctrl/0", "typed")
	require.Zero(t, code)
	require.Contains(t, stderr, "Operation 0 failed to schedule any tasks:\n")
	require.Contains(t, stderr, `"i" property is missing and required`)
	_, stderr, code = call(t, newModel(t, "4.0.15"), "", "run", "ctrl/0", "typed", "--background")
	require.Zero(t, code)
	require.Contains(t, stderr, "Scheduled operation 0 with task 1\n")
}

func TestAPendingTaskCanBeCancelledOn36AndNotOn40(t *testing.T) {
	t.Parallel()
	for version, status := range map[string]juju.TaskStatus{"3.6.28": juju.TaskCancelled, "4.0.15": juju.TaskPending} {
		m := newModel(t, version)
		call(t, m, "", "run", "ctrl/0", "typed", "i=1", "--background")
		_, _, code := call(t, m, "", "cancel-task", "1")
		require.Zero(t, code)
		require.Equal(t, status, m.Snapshot().Tasks[1].Status, version)
	}
}

func TestAResourceIsAttachedWithItsSizeAndHash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool.tar"), []byte("hello"), 0o644))
	m := newModel(t, "4.0.15")
	_, stderr, code := call(t, m, dir, "attach-resource", "ctrl", "tool=tool.tar")
	require.Zero(t, code, stderr)
	r := m.Snapshot().Applications["ctrl"].Resources["tool"]
	require.Equal(t, int64(5), r.Size)
	require.Equal(t, filepath.Join(dir, "tool.tar"), r.Path)
	require.Len(t, r.SHA384, 96)
	_, stderr, code = call(t, m, dir, "attach-resource", "ctrl", "nosuch=tool.tar")
	require.Equal(t, 1, code)
	require.Equal(t, "ERROR unrecognized resource \"nosuch\"\n", stderr)
}

func TestModelConfigTakesWhatJujuTakes(t *testing.T) {
	t.Parallel()
	m := newModel(t, "4.0.15")
	_, stderr, code := call(t, m, "", "model-config", "update-status-hook-interval=1m", "juju-http-proxy=http://p:3128")
	require.Zero(t, code, stderr)
	out, _, _ := call(t, m, "", "model-config", "juju-http-proxy")
	require.Equal(t, "http://p:3128\n", out)
	_, stderr, code = call(t, m, "", "model-config", "update-status-hook-interval=2h")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "must be between 1m and 60m")
	_, _, code = call(t, m, "", "model-config", "--reset", "juju-http-proxy")
	require.Zero(t, code)
	out, _, _ = call(t, m, "", "model-config", "juju-http-proxy")
	require.Equal(t, "\n", out)
}

func TestUserSecretsLiveAndDie(t *testing.T) {
	t.Parallel()
	m := newModel(t, "4.0.15")
	out, _, code := call(t, m, "", "add-secret", "tok", "value=one")
	require.Zero(t, code)
	id := strings.TrimSpace(strings.TrimPrefix(out, "secret:"))
	require.Len(t, id, 20)
	_, stderr, code := call(t, m, "", "add-secret", "tok", "value=two")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "already exists")
	_, _, code = call(t, m, "", "update-secret", "tok", "value=two")
	require.Zero(t, code)
	require.Equal(t, 2, m.Snapshot().Secrets[id].Latest())
	_, _, code = call(t, m, "", "grant-secret", "tok", "ctrl")
	require.Zero(t, code)
	require.Len(t, m.Snapshot().Secrets[id].Grants, 1)
	_, _, code = call(t, m, "", "revoke-secret", "tok", "ctrl")
	require.Zero(t, code)
	require.Empty(t, m.Snapshot().Secrets[id].Grants)
	out, _, _ = call(t, m, "", "show-secret", "tok", "--format", "json")
	require.NotContains(t, out, "two")
	_, _, code = call(t, m, "", "remove-secret", "tok")
	require.Zero(t, code)
	require.Empty(t, m.Snapshot().Secrets)
	_, stderr, code = call(t, m, "", "add-secret", "t2", "ab=1")
	require.Equal(t, 1, code)
	require.Equal(t, "ERROR key \"ab\" not valid\n", stderr)
}

// A unit that no agent has begun with is gone at once, and its machine with it.
func TestRemovingAnApplicationThatNeverRanLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newModel(t, "4.0.15")
	require.Len(t, m.Snapshot().Machines, 1)
	_, stderr, code := call(t, m, "", "remove-application", "ctrl", "--no-prompt")
	require.Zero(t, code, stderr)
	s := m.Snapshot()
	require.Empty(t, s.Applications)
	require.Empty(t, s.Units)
	require.Empty(t, s.Machines)
	require.Empty(t, s.Charms)
	_, stderr, _ = call(t, m, "", "status")
	require.Equal(t, "\nModel \"c1:lab1\" is empty.\n", stderr)
}
