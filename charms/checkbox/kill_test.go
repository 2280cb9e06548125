package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

// A hook's or an action's process may be killed anywhere, with the machine's power or by Juju's agent. Juju runs a hook again, or the
// operator skips it; an action is "action terminated" for Juju, and the operator's to run again.

type killCase struct {
	name  string
	fresh bool
	setup func(*testing.T, *lab)
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
	action := func(name string, params map[string]any) func(*hookstest.Scenario) hookstest.Result {
		return func(s *hookstest.Scenario) hookstest.Result { return s.RunAction(name, params) }
	}
	settled := func(t *testing.T, l *lab) { l.Fire("config-changed").RequireSuccess() }
	withController := func(t *testing.T, l *lab) {
		l.WithRelation("cert-agents", "cert-controller", 1)
		l.WithData(l.RelationID("cert-agents"), "cert-controller", controllerBag())
		l.agent(func(s *order.AgentStatus) { s.Controller = "enrolled" })
	}
	in := func(t *testing.T, l *lab) {
		withController(t, l)
		settled(t, l)
	}
	run := func(t *testing.T, l *lab) {
		settled(t, l)
		r := completed()
		r.State = order.Running
		l.answer("POST", "/v1/runs", http.StatusAccepted, r)
		l.answer("POST", "/v1/runs/r1/rerun-failed", http.StatusAccepted, r)
		l.answer("POST", "/v1/runs/r1/cancel", 200, completed())
		l.answer("GET", "/v1/runs/r1?wait=20", 200, completed())
		l.answer("GET", "/v1/runs/r1", 200, completed())
		l.answer("GET", "/v1/plans?filter=sru", 200, []order.Suite{{ID: "a::sru", Name: "SRU"}})
	}
	return []killCase{
		{name: "install", fresh: true, fire: hook("install")},
		{name: "leader-elected", setup: settled, fire: hook("leader-elected")},
		{name: "config-changed", setup: func(t *testing.T, l *lab) {
			settled(t, l)
			l.WithConfig(map[string]string{"timeout": "60", "environment": "A=1"})
			l.WithSecretOption("secret-environment", map[string]string{"wifi-password": "correct horse battery"}, true)
		}, fire: hook("config-changed"), skip: true},
		{name: "start", setup: settled, fire: hook("start")},
		{name: "update-status", setup: func(t *testing.T, l *lab) {
			settled(t, l)
			l.agent(func(s *order.AgentStatus) { s.CheckboxVersion = "8.0" })
		}, fire: hook("update-status")},
		{name: "upgrade-charm", setup: func(t *testing.T, l *lab) {
			settled(t, l)
			require.NoError(t, os.WriteFile(filepath.Join(l.sys.charmDir, "bin", "certlab-agent"), []byte("#!/bin/true\n"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(l.sys.charmDir, "provider", "units", "b.pxu"), []byte("unit: job\n"), 0o644))
		}, fire: hook("upgrade-charm"), skip: true},
		{name: "secret-changed", setup: func(t *testing.T, l *lab) {
			l.WithSecretOption("secret-environment", map[string]string{"wifi-password": "correct horse battery"}, true)
			settled(t, l)
			l.WithSecretContent("secret-environment", map[string]string{"wifi-password": "another horse battery"})
		}, fire: func(s *hookstest.Scenario) hookstest.Result {
			return s.FireSecret("changed", s.OptionSecret("secret-environment"), 0)
		}, skip: true},
		{name: "relation-created", setup: func(t *testing.T, l *lab) {
			settled(t, l)
			l.WithRelation("cert-agents", "cert-controller", 1)
		}, fire: relation("created", ""), skip: true},
		{name: "relation-joined", setup: func(t *testing.T, l *lab) {
			settled(t, l)
			withController(t, l)
		}, fire: relation("joined", "cert-controller/0")},
		{name: "relation-changed", setup: func(t *testing.T, l *lab) {
			withController(t, l)
			l.WithSecretOption("secret-environment", map[string]string{"wifi-password": "correct horse battery"}, true)
			l.agent(func(s *order.AgentStatus) { s.Undelivered = 1 })
		}, fire: relation("changed", "cert-controller"), skip: true},
		{name: "relation-departed", setup: in, fire: relation("departed", "cert-controller/0"), skip: true},
		{name: "relation-broken", setup: in, fire: relation("broken", "")},
		{name: "stop", setup: in, fire: hook("stop")},
		{name: "remove", setup: in, fire: hook("remove")},
		{name: "remove after stop", setup: func(t *testing.T, l *lab) {
			in(t, l)
			l.Fire("stop").RequireSuccess()
		}, fire: hook("remove")},
		{name: "action run-suite", setup: run, fire: action("run-suite", params(map[string]any{"plan": preflightPlan}))},
		{name: "action preflight", setup: run, fire: action("preflight", map[string]any{"wait": 45})},
		{name: "action rerun-failed", setup: run, fire: action("rerun-failed", map[string]any{"run": "r1", "wait": 30})},
		{name: "action show-run", setup: run, fire: action("show-run", map[string]any{"run": "r1"})},
		{name: "action cancel-run", setup: run, fire: action("cancel-run", map[string]any{"run": "r1"})},
		{name: "action list-suites", setup: run, fire: action("list-suites", map[string]any{"filter": "sru"})},
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
			var l *lab
			if c.fresh {
				l = newLab(t, hookstest.Fresh())
			} else {
				l = newLab(t)
			}
			l.answer("GET", "/v1/runs", 200, []order.Run{})
			if c.setup != nil {
				c.setup(t, l)
			}
			labs[l.Scenario] = l
			return l.Scenario
		},
		Fire: c.fire,
		Seen: func(s *hookstest.Scenario) []string { return labs[s].seen() },
	}
}

// seen is what the charm has made of the machine.
func (l *lab) seen() []string {
	return hookstest.Tree(l.t, l.dir,
		[]string{"desired.json", "relation.json", "resource.json", "secret-environment", "public.json", "010-charm.yaml", "certlab-unit-checkbox-0.service"}, nil)
}
