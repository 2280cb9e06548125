// Package hookstest runs a charm's code in process against a model of Juju: a state goes in, an event is fired, a state comes out. The hook
// tools that the charm calls are those of package juju, with the real ones' texts, exit codes and transaction: what a hook
// writes is kept only if it succeeds.
//
//	s := hookstest.New(t, newCharm(fakes), "charmcraft.yaml", hookstest.Version("3.6.28"))
//	s.WithConfig(map[string]string{"port": "9443"})
//	s.WithRelation("cert-agents", "checkbox", 2)
//	r := s.Fire("config-changed")
//	r.RequireStatus("active", "")
//	require.LessOrEqual(t, r.Count(), 6)
//
// # States
//
// A scenario begins with one unit of an application that is named as the charm, the leader, started, on machine 0. The With… methods
// change the state between events; what they cannot bring about, Juju cannot either: options must be the charm's and of their
// types, endpoints must fit, a secret that is read must have been granted. Change and Check are for the rest. A test fails when
// the state, or the event in this state, is one that Juju could not be in.
//
// # Events
//
// Fire, FireRelation, FireStorage, FireSecret, RunAction and Exec run the charm once and return a Result with the state after, every
// tool that was called, the log and what an action answered. The scenario goes on from there. Again fires the same event a
// second time and requires that nothing is written; Kill kills the process before each of its steps in turn, fires it again as Juju does
// after an agent's death, and requires that all ends the same.
//
// # Secrets
//
// Whatever the test asks for, each event also fails the test if the content of a secret appears in a tool's arguments, in a databag, in
// charm state, in a status, or in the log.
//
// There is no package-level state: tests run in parallel.
package hookstest
