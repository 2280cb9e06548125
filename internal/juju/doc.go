// Package juju is a model of Juju: what a controller stores, what hook tools answer, and in which order a unit agent runs a
// charm's events. It holds no processes, no sockets but the hook tools', and no file formats of its own, so that one set of
// semantics has two users: unit tests of charms drive it in process, and the local lab drives it with real processes.
//
// # State
//
// A [State] is what Juju's database holds, as plain structs that survive JSON. A [Model] guards one: [Model.View] hands out an
// immutable snapshot, [Model.Update] changes a copy, saves it, and only then shows it. A failed update changes nothing, and
// what was seen has been saved.
//
// # Hook tools
//
// A [Context] is one run of a hook, an action or a script of juju exec. Its Run method is every hook tool, with Juju's flags,
// formats, texts and exit codes. What the tools write becomes visible to others by [Context.Flush], as in Juju: relation
// settings, charm state, ports, storage and secrets are kept back until the hook has ended well, while status, logs and the
// workload version are stored at once.
//
// # Unit agents
//
// An [Agent] runs one unit: it looks at the state, picks the next event as Juju's uniter does, and has a [Host] run the
// charm's dispatch.
//
// # Versions
//
// The model's version is 4.0.15 or 3.6.28. Facts come from transcripts of a real controller of the former, and for the latter
// from its source. Where the two differ, a test carries the difference in its name.
package juju
