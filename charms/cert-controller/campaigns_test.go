package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
)

// startParams are start-campaign's parameters with what Juju fills in.
func startParams(set map[string]any) map[string]any {
	params := map[string]any{"kind": "sru", "kernel": "linux=6.8.0-51.52", "image": "", "as-it-is": false, "series": "noble", "flavour": "", "stream": "", "pocket": "proposed", "ppa": "",
		"tracker": "", "spin": 0, "cycle": "", "query": "tags=sru", "machines": "", "of-baseline": false, "except": "", "name": "", "policy": "", "plan": "", "baseline": "", "due": "",
		"priority": 0, "at-once": 0, "reason": "", "dry-run": false}
	for key, value := range set {
		params[key] = value
	}
	return params
}

func TestACampaignIsStarted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("POST", "/api/v1/campaigns", 201, map[string]any{"id": "c1", "name": "noble-linux-6.8.0-51.52", "kind": "sru", "state": "active", "policy": map[string]any{"name": "sru", "version": 3},
		"due": "2026-12-01T23:59:59Z", "rules": map[string]any{"plans": []any{map[string]any{"plan": "a::b"}}}, "subject": map[string]any{"kind": "kernel"}, "url": "https://lab/campaigns/c1"})
	r := l.RunAction("start-campaign", startParams(nil))
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"campaign": "c1", "name": "noble-linux-6.8.0-51.52", "kind": "sru", "state": "active", "policy.name": "sru", "policy.version": "3",
		"due": "2026-12-01T23:59:59Z", "url": "https://lab/campaigns/c1"}, r.Results)
	require.Regexp(t, `^\{"kind":"sru","machines":\{"query":"tags=sru"\},"reason":"start-campaign, task \d+","subject":\{"kind":"kernel","pocket":"proposed","series":"noble","source":"linux","version":"6.8.0-51.52"\}\}$`, l.last().Body)

	r = l.RunAction("start-campaign", startParams(map[string]any{"kind": "weekly", "kernel": "", "image": "20261120", "pocket": "", "query": "", "machines": "node1, node2,", "except": "node3",
		"name": "w47", "policy": "weekly@2", "plan": "a::b", "baseline": "none", "due": "2026-12-01", "priority": 5, "at-once": 3, "reason": "the new image", "tracker": "https://bugs.launchpad.net/bugs/7",
		"spin": 2, "cycle": "2026.11.02", "flavour": "generic", "stream": "esm"}))
	require.False(t, r.Failed, r.Message)
	require.JSONEq(t, `{"kind":"weekly","machines":{"names":["node1","node2"],"except":["node3"]},"reason":"the new image","name":"w47","policy":"weekly@2","plan":"a::b","baseline":"none",
		"due":"2026-12-01T23:59:59Z","priority":5,"at_once":3,"subject":{"kind":"image","serial":"20261120","series":"noble","flavour":"generic","stream":"esm","spin":2,"cycle":"2026.11.02",
		"tracker":"https://bugs.launchpad.net/bugs/7"}}`, l.last().Body)
	r = l.RunAction("start-campaign", startParams(map[string]any{"kind": "certification", "kernel": "", "as-it-is": true, "series": "", "pocket": "", "query": "", "of-baseline": true, "due": "2026-12-01T12:00:00+01:00"}))
	require.False(t, r.Failed, r.Message)
	require.Contains(t, l.last().Body, `"due":"2026-12-01T11:00:00Z"`)
	require.Contains(t, l.last().Body, `"machines":{"of_baseline":true}`)
	require.Contains(t, l.last().Body, `"subject":{"kind":"machine"}`)

	l.answer("POST", "/api/v1/campaigns/plan", 200, map[string]any{"campaign": map[string]any{}, "plans": map[string]any{"a::b": 1}, "finish": "2026-11-24T08:00:00Z", "holds": true,
		"basis": "12 runs of a::b", "warnings": []string{"node2 has no manifest"}, "targets": []map[string]any{
			{"machine": "m1", "hostname": "node1", "class": "r760", "plan": "a::b", "state": "waiting"}, {"machine": "m2", "hostname": "node2", "state": "excluded", "why": "it is arm64"}}})
	r = l.RunAction("start-campaign", startParams(map[string]any{"dry-run": true}))
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"targets": "1", "excluded": "1", "plans": "1", "warnings": "1", "finish": "2026-11-24T08:00:00Z", "holds": "true", "basis": "12 runs of a::b"}, r.Results)
	require.Equal(t, "node1  r760  a::b  waiting\nnode2  excluded  it is arm64\nwarning: node2 has no manifest\n", r.Stdout)
}

func TestFaultACampaignThatIsAskedForWronglyIsNotStarted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const subject, machines = "cannot tell what to test: give one of kernel=, image= and as-it-is=true", "cannot tell which machines: give one of query=, machines= and of-baseline=true"
	for _, c := range []struct {
		set  map[string]any
		want string
	}{
		{map[string]any{"kernel": ""}, subject},
		{map[string]any{"image": "20261120"}, subject},
		{map[string]any{"as-it-is": true}, subject},
		{map[string]any{"kernel": "6.8.0-51.52"}, `cannot use kernel "6.8.0-51.52": want its source package and exact version, such as linux=6.8.0-51.52`},
		{map[string]any{"query": ""}, machines},
		{map[string]any{"machines": "node1"}, machines},
		{map[string]any{"of-baseline": true}, machines},
		{map[string]any{"query": "", "machines": " , ,"}, machines},
		{map[string]any{"machines": strings.Repeat("n,", 1001)}, "cannot use machines: it lists 1001, at most 1000 are taken (use a query)"},
		{map[string]any{"plan": "sru"}, `cannot use plan "sru": want a full id, such as com.canonical.certification::sru-server`},
		{map[string]any{"due": "soon"}, `cannot use due "soon": want a day or a time, such as 2026-12-01 or 2026-12-01T12:00:00Z`},
	} {
		r := l.RunAction("start-campaign", startParams(c.set))
		require.True(t, r.Failed)
		require.Equal(t, c.want, r.Message)
	}
	require.Empty(t, l.asked(), "nobody was asked to do anything")
	// What the service refuses is said as it says it.
	l.answer("POST", "/api/v1/campaigns", 422, map[string]any{"error": map[string]string{"code": "invalid", "message": "cannot start a campaign over no machines: tags=sru excludes 12 of 12"}})
	r := l.RunAction("start-campaign", startParams(nil))
	require.Equal(t, "cannot start a campaign over no machines: tags=sru excludes 12 of 12", r.Message)
	require.Empty(t, r.Results)
	for action, params := range map[string]map[string]any{
		"cancel-campaign": {"campaign": "c1", "reason": " "},
		"retry-campaign":  {"campaign": "c1", "machines": "", "state": "missing", "issue": "", "jobs": "", "reason": ""},
	} {
		r := l.RunAction(action, params)
		require.Equal(t, `cannot do that without a reason: give reason="…"; it is kept in the campaign's history`, r.Message, action)
	}
	r = l.RunAction("retry-campaign", map[string]any{"campaign": "c1", "machines": "", "state": "none", "issue": "", "jobs": "", "reason": "again"})
	require.Equal(t, "cannot run it again: say on which machines (machines=, state= or issue=)", r.Message)
	require.Len(t, l.asked(), 1)
}

func TestCampaignsAreListedShownEndedAndRetried(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	campaign := map[string]any{"id": "c1", "name": "noble", "kind": "sru", "state": "deciding", "due": "2026-12-01T23:59:59Z", "rules": map[string]any{"plans": []any{}}, "url": "https://lab/campaigns/c1",
		"policy":  map[string]any{"name": "sru", "version": 1},
		"subject": map[string]any{"kind": "kernel", "series": "noble", "source": "linux", "version": "6.8.0-51.52", "archive": map[string]any{"key": "BEGIN PGP"}}}
	coverage := map[string]any{"required": 12, "done": 10, "missing": 1, "blocked": 1, "why": map[string]any{"no machine": 1, "wrong-kernel": 2}}
	l.answer("GET", "/api/v1/campaigns?limit=2&state=open", 200, map[string]any{"next": "n2", "campaigns": []map[string]any{
		{"campaign": campaign, "coverage": coverage, "standing": "undecided", "open": 3, "blockers": 2}, {"campaign": map[string]any{"id": "c2", "name": "jammy", "kind": "weekly", "state": "active"}}}})
	r := l.RunAction("list-campaigns", map[string]any{"state": "open", "limit": 2})
	require.Equal(t, map[string]string{"count": "2", "more": "true"}, r.Results, r.Message)
	require.Equal(t, "c1  noble  sru  deciding  undecided  10 of 12 done, 1 missing, 3 open findings, 2 of them blockers  due 2026-12-01T23:59:59Z\n"+
		"c2  jammy  weekly  active    0 of 0 done, 0 missing, 0 open findings, 0 of them blockers  \n", r.Stdout)
	l.answer("GET", "/api/v1/campaigns?limit=1000", 200, map[string]any{"campaigns": []any{}})
	r = l.RunAction("list-campaigns", map[string]any{"state": "any", "limit": 1000})
	require.Equal(t, map[string]string{"count": "0", "more": "false"}, r.Results, r.Message)

	l.answer("GET", "/api/v1/campaigns/noble", 200, map[string]any{"campaign": campaign, "coverage": coverage, "standing": "undecided", "blockers": 2, "others": 1, "late": 0, "days_left": 7.5,
		"holds": true, "finish": nil, "counts": map[string]any{"regression": 2}, "more_groups": 4,
		"needs": []map[string]any{{"what": "node7 does not boot 6.8.0-51-generic", "commands": []string{"certlab finding show f1", "certlab decision reject noble --machine node7"}}},
		"groups": []map[string]any{{"class": "kernel-boot", "job": "", "open": true, "blocker": true, "new": true, "machines": 1, "of": 12, "text": "it panics"},
			{"class": "still-failing", "job": "a::b", "machines": 3, "of": 12, "text": "as before", "issue_link": "https://bugs/9"}},
		"verdict": nil})
	r = l.RunAction("show-campaign", map[string]any{"campaign": "noble"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"campaign": "c1", "name": "noble", "kind": "sru", "state": "deciding", "policy.name": "sru", "policy.version": "1", "due": "2026-12-01T23:59:59Z",
		"url": "https://lab/campaigns/c1", "subject.kind": "kernel", "subject.series": "noble", "subject.source": "linux", "subject.version": "6.8.0-51.52", "coverage.required": "12", "coverage.done": "10",
		"coverage.missing": "1", "coverage.blocked": "1", "standing": "undecided", "blockers": "2", "others": "1", "late": "0", "days-left": "7.5", "holds": "true", "needs": "1", "groups": "6"}, r.Results)
	require.Equal(t, "needed: node7 does not boot 6.8.0-51-generic\n        certlab finding show f1\n        certlab decision reject noble --machine node7\n"+
		"finding: open, blocker, new, kernel-boot  on 1 of 12 machines  it panics\nfinding: still-failing  a::b  on 3 of 12 machines  as before  https://bugs/9\n", r.Stdout)
	campaign["state"] = "rejected"
	l.answer("GET", "/api/v1/campaigns/noble", 200, map[string]any{"campaign": campaign, "verdict": map[string]any{"outcome": "rejected", "by": "ada", "at": "2026-11-23T10:00:00Z", "digest": "ab12", "machines": []any{}}})
	r = l.RunAction("show-campaign", map[string]any{"campaign": "noble"})
	require.Equal(t, []string{"rejected", "ada", "ab12"}, []string{r.Results["verdict.outcome"], r.Results["verdict.by"], r.Results["verdict.digest"]}, r.Message)

	l.answer("POST", "/api/v1/campaigns/noble/cancel", 200, map[string]any{"id": "c1", "name": "noble", "state": "cancelled", "ending": "cancelled by root: a new spin"})
	r = l.RunAction("cancel-campaign", map[string]any{"campaign": "noble", "reason": "a new spin"})
	require.Equal(t, map[string]string{"campaign": "c1", "name": "noble", "state": "cancelled", "ending": "cancelled by root: a new spin"}, r.Results, r.Message)
	require.JSONEq(t, `{"reason":"a new spin"}`, l.last().Body)

	l.answer("POST", "/api/v1/campaigns/noble/retry", 200, map[string]any{"targets": []string{"g1", "g2"}, "runs": []string{"r1"}, "skipped": map[string]string{"node9": "it is retired"}})
	r = l.RunAction("retry-campaign", map[string]any{"campaign": "noble", "machines": "node1,node9", "state": "none", "issue": "", "jobs": "a::b, a::c", "reason": "a new switch"})
	require.Equal(t, map[string]string{"targets": "2", "runs": "1", "skipped": "1"}, r.Results, r.Message)
	require.Equal(t, "skipped: node9  it is retired\n", r.Stdout)
	require.JSONEq(t, `{"machines":["node1","node9"],"jobs":["a::b","a::c"],"reason":"a new switch"}`, l.last().Body)
	r = l.RunAction("retry-campaign", map[string]any{"campaign": "noble", "machines": "", "state": "missing", "issue": "k1", "jobs": "", "reason": "a new switch"})
	require.False(t, r.Failed, r.Message)
	require.JSONEq(t, `{"state":"missing","issue":"k1","reason":"a new switch"}`, l.last().Body)
}

func TestNoActionDecides(t *testing.T) {
	t.Parallel()
	for name := range newCharm(system{}).Actions {
		for _, word := range []string{"approve", "reject", "waive", "decide", "decision", "verdict", "reopen"} {
			require.NotContains(t, name, word, "a decision has a person's name, and an action has none")
		}
	}
}

const exported = "/api/v1/campaigns/c1/export?format=json"

func (l *lab) export(path string) hookstest.Result {
	return l.RunAction("export-campaign", map[string]any{"campaign": "c1", "format": "json", "path": path})
}

func TestACampaignIsExportedToAFileOrAsOutput(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	small := strings.Repeat("x", maxShown)
	l.answer("GET", exported, 200, rawBody(small))
	r := l.export("")
	require.Equal(t, small, r.Stdout, r.Message)
	require.Equal(t, "65536", r.Results["bytes"])
	require.Empty(t, r.Results["path"])
	large := strings.Repeat("y", maxShown+1)
	l.answer("GET", exported, 200, rawBody(large))
	r = l.export("")
	require.Equal(t, "it is too long for an action's output, and there is no storage to put it into (give path=)", r.Message[strings.Index(r.Message, "it is"):])

	l.WithStorage("data", l.storage)
	l.Fire("config-changed")
	r = l.export("")
	require.False(t, r.Failed, r.Message)
	require.Regexp(t, `^`+l.storage+`/exports/\d{8}T\d{6}Z-\d+\.json$`, r.Results["path"])
	require.Empty(t, r.Stdout)
	require.Equal(t, large, string(must(os.ReadFile(r.Results["path"]))))
	path := filepath.Join(l.dir, "out.json")
	r = l.export(path)
	require.Equal(t, path, r.Results["path"], r.Message)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.Equal(t, large, string(must(os.ReadFile(path))))
	r = l.export(path)
	require.Contains(t, r.Message, "it is there already (give another path)")
	l.answer("GET", exported, 200, rawBody(""))
	r = l.export(filepath.Join(l.dir, "empty.json"))
	require.Equal(t, "0", r.Results["bytes"], r.Message)
	require.FileExists(t, filepath.Join(l.dir, "empty.json"))
}

// An export that is cut short leaves no file that somebody takes for one.
func TestFaultAnExportThatBreaksOffLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   any
		want   string
	}{
		"cut short":  {200, cutShort(strings.Repeat("x", 1<<20)), "cannot take over the service's answer after "},
		"refused":    {404, map[string]any{"error": map[string]string{"code": "not-found", "message": `there is no campaign "c1"`}}, `there is no campaign "c1"`},
		"not served": {http.StatusBadGateway, rawBody("no"), "the service answered 502"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.WithStorage("data", l.storage)
			l.Fire("config-changed")
			l.answer("GET", exported, c.status, c.body)
			dir := t.TempDir()
			for _, path := range []string{"", filepath.Join(dir, "out.json")} {
				r := l.export(path)
				require.True(t, r.Failed)
				require.Contains(t, r.Message, c.want)
				require.Empty(t, r.Results)
				require.Empty(t, r.Stdout)
			}
			require.Empty(t, must(os.ReadDir(dir)))
			exports := filepath.Join(l.storage, "exports")
			left, _ := os.ReadDir(exports)
			require.Empty(t, left)
			// What one that was killed has left, the next one removes.
			require.NoError(t, os.MkdirAll(exports, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(exports, ".export-1"), []byte("half"), 0o600))
			l.answer("GET", exported, 200, rawBody(strings.Repeat("y", maxShown+1)))
			require.False(t, l.export("").Failed)
			require.Len(t, must(os.ReadDir(exports)), 1)
		})
	}
}
