package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
)

// TestTheRealServiceUnderstandsTheCharm runs the real certlabd: what the charm writes, signals and asks is what it reads and answers.
func TestTheRealServiceUnderstandsTheCharm(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	require.NoError(t, os.Remove(filepath.Join(l.serviceDir(), "certlabd.sock")))
	l.sys.charmDir = builds.RealCharm(t, "certlabd")
	l.Scenario = hookstest.New(t, newCharm(l.sys), "charmcraft.yaml")
	l.WithStorage("data", l.storage)
	l.WithConfig(map[string]string{"port": fmt.Sprint(freePort(t)), "bind-address": "127.0.0.1"})
	l.WithRelation("cert-agents", "checkbox", 1)
	id := l.RelationID("cert-agents")
	l.WithData(id, "checkbox/0", agentBag(0, "node0"))
	l.settles(t, "1 machine, 0 running")
	require.Contains(t, l.bag(id)["cas"], "BEGIN CERTIFICATE")

	r := l.RunAction("list-machines", map[string]any{"filter": ""})
	require.Equal(t, "1", r.Results["count"], r.Message)
	require.Contains(t, r.Stdout, "node0")

	r = l.RunAction("create-token", map[string]any{"name": "ada", "role": "engineer", "days": 30})
	require.False(t, r.Failed, r.Message)
	require.NotEmpty(t, r.Results["code"])
	require.Equal(t, "ada", r.Results["name"])
	r = l.RunAction("revoke-token", map[string]any{"name": "ada"})
	require.False(t, r.Failed, r.Message)
	r = l.RunAction("revoke-token", map[string]any{"name": "bob"})
	require.True(t, r.Failed)
	require.Contains(t, r.Message, "bob")

	r = l.RunAction("backup", map[string]any{"path": ""})
	require.False(t, r.Failed, r.Message)
	require.FileExists(t, r.Results["path"])
	r = l.RunAction("restore", map[string]any{"path": filepath.Join(l.storage, "no-such-file")})
	require.True(t, r.Failed)
	path := l.RunAction("backup", map[string]any{"path": filepath.Join(l.storage, "b2.tar")}).Results["path"]
	r = l.RunAction("restore", map[string]any{"path": path})
	require.False(t, r.Failed, r.Message)
	l.settles(t, "1 machine, 0 running")
	require.FileExists(t, filepath.Join(l.storage, markFile))

	l.fleetActions(t)
	l.campaignActions(t)

	l.WithConfig(map[string]string{"site-name": "basement", "log-level": "debug"})
	l.settles(t, "1 machine, 0 running")
	l.FireRelation("departed", id, "checkbox/0").RequireStatus("active", "0 machines, 0 running")

	// Without its storage it does not begin an empty lab.
	require.NoError(t, os.Remove(filepath.Join(l.storage, markFile)))
	l.systemd.Kill()
	r = l.Fire("update-status")
	require.Equal(t, "blocked", r.Status().Name)
	require.True(t, strings.HasPrefix(r.Status().Message, "mount the storage data/0"), r.Status().Message)
}

// fleetActions asks the real API for what needs no provider, and gets its refusals where one is needed.
func (l *lab) fleetActions(t *testing.T) {
	t.Helper()
	works := func(action string, params map[string]any) map[string]string {
		t.Helper()
		r := l.RunAction(action, params)
		require.False(t, r.Failed, "%s: %s", action, r.Message)
		return r.Results
	}
	require.Equal(t, "none", works("show-fleet", nil)["source"])
	require.Equal(t, "0", works("list-machines", map[string]any{"filter": "", "state": "quarantined", "query": ""})["count"])
	require.Equal(t, "1", works("list-machines", map[string]any{"filter": "", "state": "any", "query": "node0"})["count"])
	require.Equal(t, "node0", works("show-machine", map[string]any{"machine": "node0"})["hostname"])
	require.Equal(t, "0", works("list-reservations", map[string]any{"state": "open"})["count"])
	require.Equal(t, "0", works("list-incidents", map[string]any{"all": true})["count"])
	require.Contains(t, works("usage", map[string]any{"from": "", "to": ""}), "total-hours")
	require.Equal(t, "quarantined", works("quarantine", map[string]any{"machine": "node0", "reason": "smoke"})["state"])
	require.NotContains(t, works("return-to-service", map[string]any{"machine": "node0", "force": true, "reason": "new fan"}), "quarantine.reason")
	require.Equal(t, "lab", works("pause", map[string]any{"scope": "lab", "name": "", "reason": "new switch"})["scope"])
	works("resume", map[string]any{"scope": "lab", "name": ""})
	csv := filepath.Join(l.dir, "dossiers.csv")
	require.Equal(t, csv, works("export-dossiers", map[string]any{"path": csv})["path"])
	require.Equal(t, "true", works("import-dossiers", map[string]any{"path": csv, "dry-run": true})["dry-run"])
	for action, params := range map[string]map[string]any{
		"run-plan":           {"plan": "com.canonical.certlab::preflight", "query": "arch=amd64", "release": "", "kernel": "", "reason": "", "wait": 0},
		"power":              {"machine": "node0", "action": "query", "reason": ""},
		"console-log":        {"machine": "node0"},
		"show-reservation":   {"reservation": "node0"},
		"cancel-reservation": {"reservation": "node0", "reason": ""},
	} {
		r := l.RunAction(action, params)
		require.True(t, r.Failed, action)
		require.Zero(t, r.Code, action)
		require.NotContains(t, r.Message, "cannot read the service's answer", action)
		require.NotContains(t, r.Message, "there is nothing at", action)
		t.Logf("%s: %s", action, r.Message)
	}
}

// campaignActions take a campaign from its start to its end. No agent is there to run anything.
func (l *lab) campaignActions(t *testing.T) {
	t.Helper()
	run := func(action string, params map[string]any) hookstest.Result {
		t.Helper()
		r := l.RunAction(action, params)
		require.False(t, r.Failed, "%s: %s", action, r.Message)
		return r
	}
	start := startParams(map[string]any{"kind": "adhoc", "query": "node0", "plan": "com.canonical.certlab::preflight", "name": "first", "dry-run": true, "due": "2099-12-31",
		"kernel": "", "series": "", "pocket": "", "as-it-is": true})
	r := run("start-campaign", start)
	require.Equal(t, []string{"1", "0", "1"}, []string{r.Results["targets"], r.Results["excluded"], r.Results["plans"]}, "%v", r.Results)
	require.True(t, strings.HasPrefix(r.Stdout, "node0  com.canonical.certlab::preflight  waiting"), r.Stdout)
	start["dry-run"] = false
	r = run("start-campaign", start)
	require.Equal(t, []string{"first", "adhoc", "active", "2099-12-31T23:59:59Z"}, []string{r.Results["name"], r.Results["kind"], r.Results["state"], r.Results["due"]})
	id := r.Results["campaign"]
	require.Equal(t, map[string]string{"count": "1", "more": "false"}, run("list-campaigns", map[string]any{"state": "open", "limit": 10}).Results)
	r = run("show-campaign", map[string]any{"campaign": "first"})
	require.Equal(t, []string{id, "waiting", "1", "machine"}, []string{r.Results["campaign"], r.Results["standing"], r.Results["coverage.required"], r.Results["subject.kind"]}, "%v", r.Results)
	require.Contains(t, r.Stdout, "needed: ")
	r = run("export-campaign", map[string]any{"campaign": id, "format": "json", "path": ""})
	require.Contains(t, r.Stdout, id)
	path := filepath.Join(l.dir, "findings.csv")
	require.Equal(t, path, run("export-campaign", map[string]any{"campaign": id, "format": "csv", "path": path}).Results["path"])
	again := map[string]any{"campaign": "first", "machines": "", "state": "missing", "issue": "", "jobs": "", "reason": "a new switch"}
	if r := l.RunAction("retry-campaign", again); r.Failed {
		require.NotContains(t, r.Message, "cannot read the service's answer")
		t.Logf("retry-campaign: %s", r.Message)
	}
	require.Equal(t, "cancelled", run("cancel-campaign", map[string]any{"campaign": "first", "reason": "smoke"}).Results["state"])
	require.Equal(t, "0", run("list-campaigns", map[string]any{"state": "open", "limit": 10}).Results["count"])
	start["kernel"], start["series"], start["as-it-is"] = "linux=6.8", "noble", false
	r = l.RunAction("start-campaign", start)
	require.True(t, r.Failed)
	require.Contains(t, r.Message, `cannot tell which kernel version "6.8" is when it runs`)
}

// settles dispatches, as certlabd would have it done through juju-exec, until the unit is active with the message.
func (l *lab) settles(t *testing.T, message string) {
	t.Helper()
	var r hookstest.Result
	require.Eventually(t, func() bool {
		r = l.Fire("config-changed")
		return r.Status().Name == "active" && r.Status().Message == message
	}, 90*time.Second, 200*time.Millisecond, "want %q", message)
	require.Zero(t, r.Code)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
