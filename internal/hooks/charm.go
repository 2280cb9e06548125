package hooks

import "context"

// A Charm has one handler for state, one for the end, and its actions by name.
type Charm struct {
	// Reconcile runs on every event but the last ones, and when dispatch is run by juju-exec. It can be run twice in a row without
	// doing anything the second time.
	Reconcile func(context.Context, *Unit) error
	// Remove runs on stop and again on remove, or on one of them, or on neither: Juju may drop a unit without a hook.
	// A returned Status is shown as Reconcile's is. Nil: nothing is to be done.
	Remove func(context.Context, *Unit) error
	// Actions by the name that charmcraft.yaml gives them.
	Actions map[string]Action
}

// An Action does what an operator asked for with `juju run`. It holds up everything else on its unit, so what takes long is
// only started. An error fails it, and its relation settings, state, ports and secrets are dropped; its results are kept.
type Action func(context.Context, *Unit, *ActionCall) error
