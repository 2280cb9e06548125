package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListMachinesFollowsPages(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("GET", "/api/v1/machines?limit=200", 200, map[string]any{
		"machines": []map[string]any{{"id": "m1", "hostname": "node1", "unit": "checkbox/0", "current_run": "", "seen": "2026-11-23T10:00:00Z"}}, "next": "n1"})
	l.answer("GET", "/api/v1/machines?cursor=n1&limit=200", 200, map[string]any{
		"machines": []map[string]any{{"id": "m2", "hostname": "node2", "unit": "", "current_run": "r9", "seen": nil}}, "next": ""})
	r := l.RunAction("list-machines", map[string]any{"filter": ""})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "2", r.Results["count"])
	require.Equal(t, "m1  node1  checkbox/0  idle  seen 2026-11-23T10:00:00Z\nm2  node2  running r9\n", r.Stdout)
	r = l.RunAction("list-machines", map[string]any{"filter": "NODE2"})
	require.Equal(t, "1", r.Results["count"])
}

func TestShowRunFlattensTheRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("GET", "/api/v1/runs/r1", 200, map[string]any{
		"id": "r1", "state": "completed", "counts": map[string]int{"pass": 7, "not-supported": 1}, "blockers_failed": []string{"a::b"},
		"spec": map[string]any{"plan": "a::plan", "environment": map[string]string{"UPPER_case": "x"}}, "duration_seconds": 1500000})
	r := l.RunAction("show-run", map[string]any{"run": "r1"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "r1", r.Results["run"])
	require.Equal(t, "7", r.Results["counts.pass"])
	require.Equal(t, "a::b", r.Results["blockers-failed.0"])
	require.Equal(t, "1500000", r.Results["duration-seconds"])
	r = l.RunAction("show-run", map[string]any{"run": "r2/../x"})
	require.True(t, r.Failed)
	require.Equal(t, `cannot find run "r2/../x": want a run's id, as run-suite and `+"`certlab run list` show it", r.Message)
	r = l.RunAction("show-run", map[string]any{"run": "r2"})
	require.Contains(t, r.Message, "cannot find /api/v1/runs/r2")
}

func TestTokensAreHandedOutAsCodes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("POST", "/api/v1/tokens", 201, map[string]any{
		"id": "t1", "name": "ada", "role": "engineer", "code": "ABCD-EFGH", "code_expires": "2026-11-23T11:00:00Z", "expires": "2027-11-23T10:00:00Z", "token": "must not appear",
		"url": "https://10.0.0.5:8443", "ca_fingerprint": "ab12"})
	r := l.RunAction("create-token", map[string]any{"name": "ada", "role": "engineer", "days": 30})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "ABCD-EFGH", r.Results["code"])
	require.Equal(t, "https://10.0.0.5:8443", r.Results["url"])
	require.Equal(t, "ab12", r.Results["ca-fingerprint"])
	require.Equal(t, "certlab login https://10.0.0.5:8443 --code ABCD-EFGH --fingerprint ab12\n", r.Stdout)
	require.JSONEq(t, `{"name":"ada","role":"engineer","expires_in_seconds":2592000}`, l.asked()[0].Body)
	for key, value := range r.Results {
		require.NotContains(t, value, "must not appear", key)
	}
	l.answer("DELETE", "/api/v1/tokens/ada", 200, map[string]any{"id": "t1"})
	r = l.RunAction("revoke-token", map[string]any{"name": "ada"})
	require.Equal(t, "ada", r.Results["revoked"], r.Message)
}

func TestBackupAndRestoreNameAFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.RunAction("backup", map[string]any{"path": ""})
	require.True(t, r.Failed)
	require.Equal(t, "cannot tell where to put the backup: there is no storage (give path=)", r.Message)
	l.WithStorage("data", l.storage)
	l.Fire("config-changed")
	l.answer("POST", "/api/v1/admin/backup", 200, map[string]any{"path": "/b.tar", "sha256": "ab", "size": 12345678})
	r = l.RunAction("backup", map[string]any{"path": ""})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"path": "/b.tar", "sha256": "ab", "size": "12345678"}, r.Results)
	require.Contains(t, l.asked()[len(l.asked())-1].Body, l.storage+"/backups/")

	for _, path := range []string{"", "b.tar"} {
		r = l.RunAction("restore", map[string]any{"path": path})
		require.True(t, r.Failed)
		require.True(t, strings.HasPrefix(r.Message, "cannot use path "), r.Message)
	}
	l.answer("POST", "/api/v1/admin/restore", 200, map[string]any{"schema": 3, "backup_created": "2026-11-23T10:00:00Z"})
	r = l.RunAction("restore", map[string]any{"path": "/b.tar"})
	require.Equal(t, "3", r.Results["schema"], r.Message)
	require.Equal(t, "2026-11-23T10:00:00Z", r.Results["backup-created"])
}
