// Package hooks lets a Juju charm be a Go program. Juju starts the charm's dispatch for each hook and action; dispatch asks Juju
// questions and gives it answers through hook tools, each of them a process; then it ends. This package is the thin layer
// between the two: it reads the event from the environment, wraps the tools one to one, and turns what the charm's code
// returns into what Juju expects.
//
// # A charm
//
// A Charm has one handler for state, Reconcile, which runs on every event but the last ones, and actions by name. Reconcile looks
// at what Juju says now and makes the machine so. It does not ask which event it is, but for one thing: in a relation event the
// remote unit that changed is named, so that it costs the same with a thousand units as with one. It must be able to run twice
// in a row and do nothing the second time, because Juju repeats a hook that failed, that was interrupted by a reboot, or whose
// agent died; and it must not count on an event to come, because Juju does not send some of them (no config-changed after an
// option was reset, no stop or remove for most units of a removed application; measured on Juju 4.0.15).
//
//	func main() {
//		os.Exit(hooks.Main(hooks.Charm{
//			Reconcile: reconcile,
//			Remove:    remove,
//			Actions:   map[string]hooks.Action{"list-suites": listSuites},
//		}))
//	}
//
//	func reconcile(ctx context.Context, u *hooks.Unit) error {
//		var config struct {
//			Port int64 `config:"port"`
//		}
//		if err := u.Config(ctx, &config); err != nil {
//			return err
//		}
//		if config.Port <= 0 {
//			return hooks.Blocked("set port to a number from 1 to 65535")
//		}
//		…
//		return hooks.Active("")
//	}
//
// # What is returned
//
// A Status is an error, so that code at any depth can stop with hooks.Waiting("for the controller"). Returned by Reconcile, it is
// shown by `juju status` and the hook succeeds. Any other error is logged and fails the hook: Juju drops the relation settings,
// state and secrets that the hook wrote, shows the unit in error, and runs the hook again after 5, 10, 20 seconds and so on. Use
// errors for what a repetition may mend, and Blocked for what only the operator can. Nil leaves the status as it is.
//
// An action that returns an error fails, with the error on its stderr and an exit code that makes `juju run` exit 1; its results
// are kept. One that calls ActionCall.Fail and returns nil fails with a message while `juju run` exits 0.
//
// # What is written when
//
// Juju applies relation settings, state, ports and secrets when the hook succeeds, all of them or none. Status, log lines and the
// application's version take effect at once.
//
// # Cost
//
// Each tool is a process start, so reads are remembered for the length of a dispatch, writes are compared with what is there,
// log lines are sent together, and a Reconcile that finds nothing to do should need no more than six tools.
//
// # Secrets
//
// Values of secrets are handed to tools in files of a private directory, databags and state by stdin; neither is ever an argument,
// which every user of the machine could read. Values that came from or went to a secret during a dispatch are masked in
// its log lines, statuses, errors and action results.
//
// # Two at once
//
// An agent that is killed in a hook leaves the hook's process behind, and starts the same hook again a few seconds later (measured
// on Juju 4.0.15). Main takes a lock per unit and waits for the former process to end; and a dispatch whose agent is gone has its context
// cancelled, so that it does end.
//
// # Which Juju
//
// 3.6 and 4.x. The tools and flags used here are those that both have.
package hooks
