package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
)

// A hook's or an action's process may be killed anywhere, with the machine's power or by Juju's agent. Juju runs a hook again, or the
// operator skips it; an action is "action terminated" for Juju, and the operator's to run again.

type killCase struct {
	name  string
	setup func(*testing.T) *lab
	fire  func(*hookstest.Scenario) hookstest.Result
	skip  bool // what the hook would have done, update-status does too
}

func killCases() []killCase {
	hook := func(name string) func(*hookstest.Scenario) hookstest.Result {
		return func(s *hookstest.Scenario) hookstest.Result { return s.Fire(name) }
	}
	relation := func(event, remote string) func(*hookstest.Scenario) hookstest.Result {
		return func(s *hookstest.Scenario) hookstest.Result {
			return s.FireRelation(event, s.RelationID("cert-agents"), remote)
		}
	}
	storage := func(event string) func(*hookstest.Scenario) hookstest.Result {
		return func(s *hookstest.Scenario) hookstest.Result { return s.FireStorage(event, s.StorageID("data")) }
	}
	action := func(name string, params map[string]any) func(*hookstest.Scenario) hookstest.Result {
		return func(s *hookstest.Scenario) hookstest.Result { return s.RunAction(name, params) }
	}
	fresh := func(t *testing.T) *lab {
		l := newLab(t, hookstest.Fresh())
		l.publish("CA one")
		l.WithStorage("data", l.storage)
		return l
	}
	machines := func(n int) func(*testing.T) *lab {
		return func(t *testing.T) *lab {
			l, _ := ready(t, n)
			return l
		}
	}
	enrolled := func(t *testing.T) *lab {
		l, id := ready(t, 2)
		l.FireRelation("changed", id, "checkbox/0").RequireSuccess()
		l.FireRelation("changed", id, "checkbox/1").RequireSuccess()
		return l
	}
	answering := func(t *testing.T) *lab {
		l, _ := ready(t, 0)
		l.answer("GET", "/api/v1/machines?limit=200", 200, map[string]any{"machines": []map[string]any{{"id": "m1", "hostname": "node1"}}, "next": ""})
		l.answer("GET", "/api/v1/runs/r1", 200, map[string]any{"id": "r1", "state": "completed"})
		l.answer("POST", "/api/v1/reservations", 201, map[string]any{"id": "v1", "kind": "run", "state": "queued"})
		l.answer("GET", "/api/v1/reservations/v1", 200, map[string]any{"id": "v1", "kind": "run", "state": "queued"})
		l.answer("POST", "/api/v1/reservations/v1/cancel", 200, map[string]any{"id": "v1", "kind": "run", "state": "ended"})
		l.answer("POST", "/api/v1/tokens", 201, map[string]any{"name": "ada", "code": "ABCD-EFGH", "url": "https://10.0.0.5:8443", "ca_fingerprint": "ab12"})
		l.answer("DELETE", "/api/v1/tokens/ada", 200, map[string]any{"id": "t1"})
		l.answer("POST", "/api/v1/admin/backup", 200, map[string]any{"path": "/b.tar", "sha256": "ab", "size": 12})
		l.answer("POST", "/api/v1/admin/restore", 200, map[string]any{"schema": 3})
		l.answer("POST", "/api/v1/campaigns", 201, map[string]any{"id": "c1", "name": "noble", "state": "active"})
		l.answer("POST", "/api/v1/campaigns/c1/cancel", 200, map[string]any{"id": "c1", "state": "cancelled"})
		l.answer("POST", "/api/v1/campaigns/c1/retry", 200, map[string]any{"targets": []string{"g1"}})
		l.answer("GET", exported, 200, rawBody("{}"))
		return l
	}
	return []killCase{
		{name: "storage-attached", setup: fresh, fire: storage("attached")},
		{name: "install", setup: func(t *testing.T) *lab {
			l := fresh(t)
			l.WithLeader(true)
			return l
		}, fire: hook("install")},
		{name: "leader-elected", setup: func(t *testing.T) *lab {
			l, _ := ready(t, 1)
			l.publish("CA two", "CA one")
			return l
		}, fire: hook("leader-elected")},
		{name: "config-changed", setup: func(t *testing.T) *lab {
			l := enrolled(t)
			l.WithConfig(map[string]string{"port": "9443", "site-name": "basement"})
			return l
		}, fire: hook("config-changed"), skip: true},
		{name: "start", setup: machines(1), fire: hook("start")},
		{name: "update-status", setup: machines(4), fire: hook("update-status")},
		{name: "upgrade-charm", setup: func(t *testing.T) *lab {
			l, _ := ready(t, 1)
			require.NoError(t, os.WriteFile(filepath.Join(l.sys.charmDir, "bin", "certlabd"), []byte("#!/bin/true\n"), 0o755))
			return l
		}, fire: hook("upgrade-charm"), skip: true},
		{name: "secret-changed", setup: func(t *testing.T) *lab {
			l, _ := ready(t, 0)
			l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
			l.Fire("config-changed").RequireSuccess()
			l.WithSecretContent("maas-credentials", secretOf(region, nextKey))
			return l
		}, fire: func(s *hookstest.Scenario) hookstest.Result {
			return s.FireSecret("changed", s.OptionSecret("maas-credentials"), 0)
		}, skip: true},
		{name: "upgrade-charm with site programs", setup: func(t *testing.T) *lab {
			l, _ := ready(t, 0)
			l.WithResource("site-programs", programs(t, "console"))
			return l
		}, fire: hook("upgrade-charm")},
		{name: "relation-created", setup: func(t *testing.T) *lab {
			l, _ := ready(t, 0)
			l.WithRelation("cert-agents", "checkbox", 2)
			return l
		}, fire: relation("created", ""), skip: true},
		{name: "relation-joined", setup: machines(2), fire: relation("joined", "checkbox/1")},
		{name: "relation-changed", setup: func(t *testing.T) *lab {
			l, id := ready(t, 2)
			l.publish("CA two", "CA one") // a rotation that agents have not been told of
			l.WithData(id, "checkbox/1", agentBag(7, "node7"))
			return l
		}, fire: relation("changed", "checkbox/1")},
		{name: "relation-changed of a newcomer", setup: machines(4), fire: relation("changed", "checkbox/3"), skip: true},
		{name: "relation-departed", setup: enrolled, fire: relation("departed", "checkbox/1"), skip: true},
		{name: "relation-broken", setup: enrolled, fire: relation("broken", "")},
		{name: "storage-detaching", setup: enrolled, fire: storage("detaching")},
		{name: "stop", setup: enrolled, fire: hook("stop")},
		{name: "remove", setup: enrolled, fire: hook("remove")},
		{name: "action list-machines", setup: answering, fire: action("list-machines", map[string]any{"filter": "", "state": "any", "query": ""})},
		{name: "action run-plan", setup: answering, fire: action("run-plan", map[string]any{"plan": "a::b", "query": "node1", "release": "", "kernel": "", "reason": "", "wait": 0})},
		{name: "action cancel-reservation", setup: answering, fire: action("cancel-reservation", map[string]any{"reservation": "v1", "reason": ""})},
		{name: "action start-campaign", setup: answering, fire: action("start-campaign", startParams(nil))},
		{name: "action cancel-campaign", setup: answering, fire: action("cancel-campaign", map[string]any{"campaign": "c1", "reason": "a new spin"})},
		{name: "action retry-campaign", setup: answering, fire: action("retry-campaign", map[string]any{"campaign": "c1", "machines": "node1", "state": "none", "issue": "", "jobs": "", "reason": "a new switch"})},
		{name: "action export-campaign", setup: answering, fire: action("export-campaign", map[string]any{"campaign": "c1", "format": "json", "path": ""})},
		{name: "action show-run", setup: answering, fire: action("show-run", map[string]any{"run": "r1"})},
		{name: "action create-token", setup: answering, fire: action("create-token", map[string]any{"name": "ada", "role": "viewer", "days": 30})},
		{name: "action revoke-token", setup: answering, fire: action("revoke-token", map[string]any{"name": "ada"})},
		{name: "action backup", setup: answering, fire: action("backup", map[string]any{"path": ""})},
		{name: "action restore", setup: answering, fire: action("restore", map[string]any{"path": "/b.tar"})},
	}
}

func TestFaultAKilledHookOrActionEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	for _, c := range killCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			least := 2
			if c.name == "install" {
				least = 15
			}
			require.Greater(t, c.kill(t).Everywhere(t), least)
		})
		if c.skip {
			t.Run(c.name+", skipped by the operator", func(t *testing.T) {
				t.Parallel()
				c.kill(t).Skipped(t, 5, func(s *hookstest.Scenario) hookstest.Result { return s.Fire("update-status") })
			})
		}
	}
}

func (c killCase) kill(t *testing.T) hookstest.Kill {
	labs := map[*hookstest.Scenario]*lab{}
	return hookstest.Kill{
		Setup: func(testing.TB) *hookstest.Scenario {
			l := c.setup(t)
			labs[l.Scenario] = l
			return l.Scenario
		},
		Fire: c.fire,
		Seen: func(s *hookstest.Scenario) []string { return labs[s].seen() },
	}
}

// seen is what the charm has made of the machine. relations.json has a cursor, which says how far a search has got.
func (l *lab) seen() []string {
	return hookstest.Tree(l.t, l.dir, []string{"desired.json", "storage.json", ".certlab-storage", "public.json", "010-charm.yaml", "certlab-unit-cert-controller-0.service"}, nil)
}
