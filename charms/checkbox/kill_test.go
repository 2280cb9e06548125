package main

import (
	"testing"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

// A hook's process may be killed between any two of its hook tools, with the machine's power or by Juju's agent. Juju then runs the hook again.

func TestAKilledInstallEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	hookstest.KillEverywhere(t,
		func(t testing.TB) *hookstest.Scenario { return newLab(t, hookstest.Fresh()).Scenario },
		func(s *hookstest.Scenario) hookstest.Result { return s.Fire("install") })
}

func TestAKilledRelationHookEndsAsAnUndisturbedOne(t *testing.T) {
	t.Parallel()
	hookstest.KillEverywhere(t,
		func(t testing.TB) *hookstest.Scenario {
			l, _ := related(t)
			l.WithSecretOption("secret-environment", map[string]string{"wifi-password": "correct horse battery"}, true)
			l.agent(func(s *order.AgentStatus) { s.Undelivered = 1 })
			return l.Scenario
		},
		func(s *hookstest.Scenario) hookstest.Result {
			return s.FireRelation("changed", s.RelationID("cert-agents"), "cert-controller")
		}, `public-key=.*`)
}
