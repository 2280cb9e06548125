// Package maastest is a simulated MAAS region: API 2.0 of MAAS 3.4 over machines that exist in memory, for tests, benchmarks and the local lab.
//
// # Using one
//
// New returns a Region, which is an http.Handler for everything below /MAAS/. AddUser gives a key, AddMachine a machine that is Ready. Its
// Transport answers in memory, without sockets, so that a whole deployment of half an hour passes in no time inside a testing/synctest bubble;
// outside of one a ManualClock does the same by hand.
//
//	region := maastest.New(maastest.Options{})
//	key := region.AddUser("certlab", true)
//	id := region.AddMachine(maastest.Machine{Hostname: "node1"})
//	client := &http.Client{Transport: region.Transport()}
//
// What the machines are made of is a Host: the local lab gives one that starts processes. Without one, they only exist in the region: power
// and installing take what Timings say, and a machine that boots what was deployed calls Options.OnBoot with its user-data.
//
// # What it is true to
//
// Statuses, texts, permissions, timing and their order are those that a real region answered with (transcripts in testdata) or that its source
// has; docs/reference/maas-simulation.md says which is which, and what the simulation cannot match. Nothing here is a model of MAAS's code:
// only of what a client can see.
//
// # Faults
//
// Fault switches one on, for a machine, a zone, a rack, a release or the whole region, and Clear switches it off. See FaultKind.
package maastest
