package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"
)

// Defaults of Options.
const (
	hookTimeout    = 20 * time.Minute
	actionTimeout  = 25 * time.Hour // Juju has no limit, and some wait as long as the operator wants
	lockTimeout    = 5 * time.Minute
	closingTimeout = 30 * time.Second // for the last log lines, after the dispatch's own time is over
	parentPoll     = 250 * time.Millisecond
)

// BaseDir is where units keep what is theirs on a machine, each below it in a directory named by its tag.
const BaseDir = "/var/lib/certlab"

// Options are what a test, or a charm with special needs, hands in. The zero value is right for a charm.
type Options struct {
	Environ        []string // nil: the process's
	Runner         Runner   // nil: Tools
	Stdout, Stderr io.Writer
	// StateDir is dispatch's own directory: its lock, and what it remembers. Empty: BaseDir/<unit tag>/dispatch.
	StateDir string
	// Timeout bounds the whole dispatch, without the wait for the lock; 0: 20 minutes for a hook, 25 hours for an action.
	Timeout time.Duration
	// LockTimeout bounds the wait for another dispatch of the unit; 0: 5 minutes.
	LockTimeout time.Duration
	// Getppid tells the parent process, Juju's agent. When it changes the agent is gone, and will run the hook again: this
	// dispatch ends, instead of standing in the way of that one. Nil: os.Getppid.
	Getppid func() int
	Now     func() time.Time // nil: time.Now
	// Step is for tests: it is told of each file of dispatch's own before it is written, and may end the goroutine. Nil: nobody is told.
	Step func(what string)
	// Decoded is told of each struct that is handed to Unit.Config and ActionCall.Params, so that a test can compare it with
	// charmcraft.yaml. The action's name is empty for options.
	Decoded func(action string, target any)
}

// Main is dispatch: it runs the charm's code for the event that the process's environment names and returns the exit code.
func Main(charm Charm) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return Run(ctx, charm, Options{})
}

// Run is Main with everything handed in. It returns 0, or 1 for a hook or action that failed.
func Run(ctx context.Context, charm Charm, o Options) int {
	o = o.withDefaults()
	if err := run(ctx, charm, o); err != nil {
		// Juju logs a hook's stderr, and shows an action's as a result.
		fmt.Fprintln(o.Stderr, err)
		return 1
	}
	return 0
}

func (o Options) withDefaults() Options {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Getppid == nil {
		o.Getppid = os.Getppid
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = lockTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Decoded == nil {
		o.Decoded = func(string, any) {}
	}
	return o
}

func run(ctx context.Context, charm Charm, o Options) error {
	env, event, err := ParseEnv(o.Environ)
	if err != nil {
		return err
	}
	if o.StateDir == "" {
		o.StateDir = filepath.Join(BaseDir, env.UnitTag(), "dispatch")
	}
	files := &files{dir: o.StateDir, step: o.Step}
	unlock, err := files.lock(ctx, o.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()

	if o.Runner == nil {
		tools := &Tools{Environ: o.Environ, PrivateDir: privateDir(o.StateDir), Prefix: "." + env.UnitTag() + "-"}
		tools.Sweep()
		o.Runner = tools
	}
	if o.Timeout == 0 {
		o.Timeout = hookTimeout
		if event.Kind == RunAction {
			o.Timeout = actionTimeout
		}
	}
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the dispatch took more than %s", o.Timeout))
	defer cancel()
	ctx, orphan := context.WithCancelCause(ctx)
	defer orphan(nil)
	go watchParent(ctx, o.Getppid(), o.Getppid, orphan)

	hidden := &mask{}
	sink := &logSink{run: o.Runner.Run, mask: hidden, stderr: o.Stderr, now: o.Now}
	unit := newUnit(env, event, o.Runner, files, sink)
	unit.decoded = o.Decoded

	err = dispatch(ctx, charm, unit, o)
	if err != nil {
		err = errors.New(hidden.hide(err.Error()))
		unit.Log.Error(err.Error())
	}
	// What went wrong is worth saying also when time is over.
	closing, cancel := context.WithTimeout(context.WithoutCancel(whole), closingTimeout)
	defer cancel()
	sink.finish(closing)
	return err
}

// dispatch runs the handler that the event asks for and turns what it returns into what Juju expects.
func dispatch(ctx context.Context, charm Charm, u *Unit, o Options) error {
	switch u.Event.Kind {
	case RunAction:
		return runAction(ctx, charm, u, o)
	case Install:
		// A unit of that name may have been here before.
		if err := u.files.setRemoved(false); err != nil {
			return fmt.Errorf("cannot begin anew after an earlier unit of this name: %w", err)
		}
	case Stop, Remove:
		return runRemove(ctx, charm, u)
	}
	if u.files.removed() {
		// Between stop and the unit's end, a service that ends may still ask for a dispatch. It must not bring everything back.
		u.Log.Debug("nothing is done any more: the unit is being removed")
		return nil
	}
	return settle(ctx, u, guard(u, func() error { return charm.Reconcile(ctx, u) }))
}

func runRemove(ctx context.Context, charm Charm, u *Unit) error {
	if err := u.files.setRemoved(true); err != nil {
		return fmt.Errorf("cannot note that the unit is being removed: %w", err)
	}
	if charm.Remove != nil {
		if err := settle(ctx, u, guard(u, func() error { return charm.Remove(ctx, u) })); err != nil {
			return err
		}
	}
	if u.Event.Kind == Remove {
		if err := u.files.forget(); err != nil {
			u.Log.Warn("cannot delete what dispatch has kept on the machine", "error", err)
		}
		return nil
	}
	// Remove may have deleted the note together with the unit's directory.
	if err := u.files.setRemoved(true); err != nil {
		return fmt.Errorf("cannot note that the unit is being removed: %w", err)
	}
	return nil
}

func runAction(ctx context.Context, charm Charm, u *Unit, o Options) error {
	call := &ActionCall{Name: u.Event.ActionName, ID: u.Event.ActionID, Output: o.Stdout, unit: u, results: make(map[string]string)}
	action, ok := charm.Actions[call.Name]
	err := fmt.Errorf("cannot run action %q: this charm has no such action", call.Name)
	if ok {
		err = guard(u, func() error { return action(ctx, u, call) })
	}
	if finishErr := call.finish(context.WithoutCancel(ctx), err); err == nil {
		err = finishErr
	}
	return err
}

// settle shows a returned Status. Every other error fails the hook.
func settle(ctx context.Context, u *Unit, err error) error {
	var status Status
	if errors.As(err, &status) {
		return u.SetStatus(ctx, status)
	}
	return err
}

// guard turns a panic into an error, and logs where it was.
func guard(u *Unit, handler func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			u.Log.Error("panic: "+fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("cannot go on: the charm panicked: %v", v)
		}
	}()
	return handler()
}

// watchParent cancels the dispatch when its parent is not the one that it was.
func watchParent(ctx context.Context, parent int, getppid func() int, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(parentPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if getppid() != parent {
				cancel(errors.New("the agent that started this is gone, and runs it again"))
				return
			}
		}
	}
}

// privateDir is where secrets wait for a hook tool to read them: in memory if there is a /run that can be written.
func privateDir(otherwise string) string {
	const dir = "/run"
	if syscall.Access(dir, 2) == nil { // W_OK
		return dir
	}
	return otherwise
}
