package main

import (
	"testing"

	"certlab/internal/hooks/hookstest"
)

// A hook's process may be killed between any two of its hook tools, with the machine's power or by Juju's agent. Juju then runs the hook again.

func TestAKilledInstallEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	hookstest.KillEverywhere(t,
		func(t testing.TB) *hookstest.Scenario {
			l := newLab(t, hookstest.Fresh())
			l.publish("CA one")
			return l.WithStorage("data", l.storage).WithLeader(true)
		},
		func(s *hookstest.Scenario) hookstest.Result { return s.Fire("install") })
}

func TestAKilledRelationHookEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	hookstest.KillEverywhere(t,
		func(t testing.TB) *hookstest.Scenario {
			l, id := ready(t, 2)
			l.publish("CA two", "CA one") // a rotation that agents have not been told of
			return l.WithData(id, "checkbox/1", agentBag(7, "node7"))
		},
		func(s *hookstest.Scenario) hookstest.Result {
			return s.FireRelation("changed", s.RelationID("cert-agents"), "checkbox/1")
		})
}
