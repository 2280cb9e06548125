package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMachinesAreListedByStateAndQuery(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("GET", "/api/v1/machines?limit=200&query=arch%3Darm64&state=reserved", 200, map[string]any{"machines": []map[string]any{{
		"id": "m1", "hostname": "node1", "state": "reserved", "holder": "ada", "until": "2026-11-24T10:00:00Z", "architecture": "arm64", "pool": "lab", "zone": "rack-a",
		"tags": []string{"gpu", "bmc"}, "needs_hands": "press the button"}}, "next": ""})
	r := l.RunAction("list-machines", map[string]any{"filter": "", "state": "reserved", "query": "arch=arm64"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "m1  node1  reserved  for ada  until 2026-11-24T10:00:00Z  arm64  pool lab  zone rack-a  gpu,bmc  press the button\n", r.Stdout)
}

func TestAMachineIsShownWithItsHistory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	machine := map[string]any{
		"id": "m1", "hostname": "node1", "state": "quarantined", "quarantine": map[string]any{"reason": "smoke", "by": "ada", "auto": false},
		"dossier":  map[string]any{"cid": "202411-36001", "manifest": map[string]string{"com.canonical.certification::has_camera": "true"}},
		"provided": map[string]any{"id": "abc123"}, "hardware": map[string]any{"lshw": "long"}, "reliability": map[string]any{"succeeded": 7},
		"history": []map[string]any{{"at": "2026-11-23T10:00:00Z", "kind": "quarantined", "who": "ada", "text": "smoke"}},
	}
	l.answer("GET", "/api/v1/machines/node1", 200, machine)
	l.answer("POST", "/api/v1/machines/node1/quarantine", 200, machine)
	l.answer("POST", "/api/v1/machines/node1/return", 200, machine)
	r := l.RunAction("show-machine", map[string]any{"machine": "node1"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"machine": "m1", "hostname": "node1", "state": "quarantined", "quarantine.reason": "smoke", "quarantine.by": "ada",
		"quarantine.auto": "false", "dossier.cid": "202411-36001", "reliability.succeeded": "7"}, r.Results)
	require.Equal(t, "2026-11-23T10:00:00Z  quarantined  ada  smoke\n", r.Stdout)
	r = l.RunAction("quarantine", map[string]any{"machine": "node1", "reason": "smoke"})
	require.Equal(t, "quarantined", r.Results["state"], r.Message)
	require.JSONEq(t, `{"reason":"smoke"}`, l.last().Body)
	l.RunAction("return-to-service", map[string]any{"machine": "node1", "force": true, "reason": "new fan"})
	require.JSONEq(t, `{"force":true,"reason":"new fan"}`, l.last().Body)
	l.answer("POST", "/api/v1/machines/node1/power", 409, map[string]any{"error": map[string]string{"code": "conflict", "message": "cannot switch node1: a Juju model holds it (set power-units)"}})
	r = l.RunAction("power", map[string]any{"machine": "node1", "action": "cycle", "reason": "hangs"})
	require.True(t, r.Failed)
	require.Equal(t, "cannot switch node1: a Juju model holds it (set power-units)", r.Message)
	for action, params := range map[string]map[string]any{
		"quarantine":        {"machine": "node1", "reason": ""},
		"return-to-service": {"machine": "node1", "force": true, "reason": " "},
		"power":             {"machine": "node1", "action": "off", "reason": ""},
		"pause":             {"scope": "lab", "name": "", "reason": ""},
	} {
		r := l.RunAction(action, params)
		require.Equal(t, `cannot do that without a reason: give reason="…"; it is kept in the machine's history`, r.Message, action)
	}
}

func (l *lab) last() request {
	asked := l.asked()
	return asked[len(asked)-1]
}

func TestDossiersComeFromAndGoToFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	csv := filepath.Join(l.dir, "machines.csv")
	require.NoError(t, os.WriteFile(csv, []byte("hostname,cid\nnode1,202411-36001\n"), 0o600))
	l.answer("POST", "/api/v1/dossiers?dry_run=false", 200, map[string]any{"lines": 1, "changed": 1, "dry_run": false, "changes": []map[string]any{{"machine": "m1", "hostname": "node1", "field": "cid", "before": "", "after": "202411-36001"}}})
	r := l.RunAction("import-dossiers", map[string]any{"path": csv, "dry-run": false})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"lines": "1", "changed": "1", "dry-run": "false"}, r.Results)
	require.Equal(t, "node1  cid: \"\" -> \"202411-36001\"\n", r.Stdout)
	require.Equal(t, "hostname,cid\nnode1,202411-36001\n", l.last().Body)
	for _, path := range []string{l.dir, filepath.Join(l.dir, "nothing.csv")} {
		r = l.RunAction("import-dossiers", map[string]any{"path": path, "dry-run": false})
		require.True(t, r.Failed)
		require.Contains(t, r.Message, "want a CSV file of at most 16 MiB on the unit's machine (copy it there: juju scp FILE cert-controller/0:)")
	}
	l.answer("GET", "/api/v1/dossiers.csv", 200, rawBody("hostname,cid\nnode1,202411-36001\n"))
	r = l.RunAction("export-dossiers", map[string]any{"path": ""})
	require.Equal(t, "hostname,cid\nnode1,202411-36001\n", r.Stdout, r.Message)
	out := filepath.Join(l.dir, "out.csv")
	r = l.RunAction("export-dossiers", map[string]any{"path": out})
	require.Equal(t, map[string]string{"lines": "2", "path": out}, r.Results, r.Message)
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "hostname,cid\nnode1,202411-36001\n", string(text))
	r = l.RunAction("export-dossiers", map[string]any{"path": out})
	require.Contains(t, r.Message, "it is there already (give another path)")
}

func TestAPlanRunsOnAMachineThatIsTakenForIt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	got := map[string]any{"id": "v1", "kind": "run", "state": "preparing", "hostname": "node1", "run": "r1",
		"want": map[string]any{"query": "arch=arm64", "keys": []string{"lp:ada"}, "resolved": []string{"ssh-ed25519 AAAA"}}}
	l.answer("POST", "/api/v1/reservations", 201, got)
	params := map[string]any{"plan": "a::b", "query": "arch=arm64", "release": "noble", "kernel": "hwe-24.04", "reason": "", "wait": 0}
	r := l.RunAction("run-plan", params)
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"reservation": "v1", "kind": "run", "state": "preparing", "hostname": "node1", "run": "r1", "want.query": "arch=arm64"}, r.Results)
	require.Regexp(t, `^\{"failover":true,"kernel":"hwe-24.04","query":"arch=arm64","reason":"run-plan, task \d+","release":"noble","spec":\{"plan":"a::b","title":"run-plan, task \d+"\}\}$`, l.asked()[0].Body)
	require.Len(t, l.asked(), 1, "without a wait nothing else is asked")

	got["state"] = "ready"
	l.answer("GET", "/api/v1/reservations/v1?wait=19", 200, got)
	l.answer("GET", "/api/v1/reservations/v1?wait=20", 200, got)
	l.answer("GET", "/api/v1/runs/r1", 200, map[string]any{"id": "r1", "state": "completed", "counts": map[string]int{"pass": 7}, "url": "https://lab/runs/r1"})
	params["wait"] = 60
	r = l.RunAction("run-plan", params)
	require.False(t, r.Failed, r.Message)
	require.Equal(t, []string{"completed", "7", "https://lab/runs/r1"}, []string{r.Results["run-state"], r.Results["counts.pass"], r.Results["run-url"]})

	got["state"], got["failure"], got["run"] = "ended", map[string]any{"type": "no-machine", "message": "no machine matches: arch=arm64 excludes 12 of 12"}, ""
	l.answer("POST", "/api/v1/reservations", 201, got)
	r = l.RunAction("run-plan", params)
	require.True(t, r.Failed)
	require.Equal(t, "no machine matches: arch=arm64 excludes 12 of 12 (reservation v1)", r.Message)
}

func TestFaultAWaitForARunEndsWithItsTimeAndWithTheService(t *testing.T) {
	t.Parallel()
	now := time.Now()
	queued := map[string]any{"id": "v1", "state": "queued"}
	asked := 0
	refuse := func(ctx context.Context, timeout time.Duration, method, path string, body, result any) error {
		asked++
		return context.DeadlineExceeded
	}
	got, run := followRun(t.Context(), refuse, queued, now.Add(time.Hour))
	require.Equal(t, queued, got, "what was known last")
	require.Nil(t, run)
	require.Equal(t, 1, asked)
	_, _ = followRun(t.Context(), refuse, queued, now.Add(-time.Second))
	require.Equal(t, 1, asked)
}

func TestFaultAPersonsReservationIsNotCancelledByAnAction(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("GET", "/api/v1/reservations/v1", 200, map[string]any{"id": "v1", "kind": "manual", "state": "ready", "holder": "ada", "hostname": "node1"})
	r := l.RunAction("cancel-reservation", map[string]any{"reservation": "v1", "reason": ""})
	require.True(t, r.Failed)
	require.Equal(t, "cannot cancel reservation v1: it is ada's own, and Juju does not tell who asks (they, or an admin, can: certlab machine release node1)", r.Message)
	require.Len(t, l.asked(), 1, "nothing was changed")
	l.answer("GET", "/api/v1/reservations/node2", 200, map[string]any{"id": "v2", "kind": "run", "state": "preparing"})
	l.answer("POST", "/api/v1/reservations/v2/cancel", 200, map[string]any{"id": "v2", "kind": "run", "state": "releasing"})
	r = l.RunAction("cancel-reservation", map[string]any{"reservation": "node2", "reason": "not needed"})
	require.Equal(t, "releasing", r.Results["state"], r.Message)
	require.JSONEq(t, `{"reason":"not needed"}`, l.last().Body)
}

func TestTheLabAsAWholeIsShownPausedAndAccountedFor(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	l.answer("GET", "/api/v1/fleet", 200, map[string]any{"provider": map[string]any{"url": region, "version": "3.4.1", "user": "certlab", "admin": false, "missing": []string{"The key may not tag machines"}},
		"states": map[string]int{"free": 12}, "queued": 1, "needs_hands": []map[string]any{{"hostname": "node7", "rack": "r2", "position": "U12", "needs_hands": "its BMC is dead"}}})
	r := l.RunAction("show-fleet", nil)
	require.Equal(t, map[string]string{"source": "secret", "provider.version": "3.4.1", "provider.user": "certlab", "provider.admin": "false",
		"provider.missing.0": "The key may not tag machines", "states.free": "12", "queued": "1", "needs-hands": "1"}, r.Results, r.Message)
	require.Equal(t, "node7  rack r2  U12  its BMC is dead\n", r.Stdout)

	l.answer("POST", "/api/v1/pauses", 201, map[string]any{"scope": "zone", "name": "rack-a", "since": "2026-11-23T10:00:00Z", "reason": "new switch", "by": "root"})
	r = l.RunAction("pause", map[string]any{"scope": "zone", "name": "rack-a", "reason": "new switch"})
	require.Equal(t, "rack-a", r.Results["name"], r.Message)
	l.answer("DELETE", "/api/v1/pauses?name=rack-a&scope=zone", 204, nil)
	r = l.RunAction("resume", map[string]any{"scope": "zone", "name": "rack-a"})
	require.False(t, r.Failed, r.Message)
	r = l.RunAction("resume", map[string]any{"scope": "lab", "name": "rack-a"})
	require.Equal(t, "cannot use name with scope=lab: leave it out, or give scope=pool, zone or rack", r.Message)

	l.answer("GET", "/api/v1/incidents?limit=200&open=true", 200, map[string]any{"incidents": []map[string]any{{"id": "i1", "scope": "zone", "name": "rack-a", "failure": "boot", "opened": "2026-11-23T10:00:00Z",
		"closed": nil, "machines": []string{"m1", "m2"}, "text": "5 of 12 machines do not boot"}}})
	r = l.RunAction("list-incidents", map[string]any{"all": false})
	require.Equal(t, map[string]string{"count": "1", "open": "1"}, r.Results, r.Message)
	require.Equal(t, "i1  zone  rack-a  boot  2026-11-23T10:00:00Z  2 machines  5 of 12 machines do not boot\n", r.Stdout)

	l.answer("GET", "/api/v1/usage?from=2026-11-16T00%3A00%3A00Z", 200, map[string]any{"from": "2026-11-16T00:00:00Z", "total_hours": 168.5, "consumers": map[string]any{"idle": 100}, "holders": map[string]any{"Ada L.": 3.5}})
	r = l.RunAction("usage", map[string]any{"from": "2026-11-16", "to": ""})
	require.Equal(t, map[string]string{"from": "2026-11-16T00:00:00Z", "total-hours": "168.5", "consumers.idle": "100"}, r.Results, r.Message)
	require.Equal(t, "Ada L.  3.5 hours\n", r.Stdout)

	l.answer("GET", "/api/v1/reservations?limit=200&state=open", 200, map[string]any{"reservations": []map[string]any{{"id": "v1", "kind": "manual", "state": "ready", "holder": "ada", "hostname": "node1",
		"until": "2026-11-24T10:00:00Z", "reason": "bug 7", "want": map[string]any{"query": "node1", "release": "noble"}}}})
	r = l.RunAction("list-reservations", map[string]any{"state": "open"})
	require.Equal(t, "v1  manual  ready  ada  node1  until 2026-11-24T10:00:00Z  node1  noble  bug 7\n", r.Stdout, r.Message)
	l.answer("GET", "/api/v1/reservations/node1", http.StatusOK, map[string]any{"id": "v1", "state": "ready", "holder": "ada"})
	r = l.RunAction("show-reservation", map[string]any{"reservation": "node1"})
	require.Equal(t, map[string]string{"reservation": "v1", "state": "ready", "holder": "ada"}, r.Results, r.Message)
	l.answer("GET", "/api/v1/machines/node1/console", 200, rawBody(strings.Repeat("login: \n", 3)))
	r = l.RunAction("console-log", map[string]any{"machine": "node1"})
	require.Equal(t, "login: \nlogin: \nlogin: \n", r.Stdout, r.Message)
	require.Equal(t, "24", r.Results["bytes"])
}
