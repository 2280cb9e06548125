package juju

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"certlab/internal/juju/toolclient"
)

// ErrKillHook is the cause with which the context of Host.Dispatch is cancelled when the process is to be killed: juju-reboot
// --now, and an exec's timeout. Any other cause means that the agent itself is going away; as on a real machine, the process is
// then left to go on by itself, and its hook tools fail.
var ErrKillHook = errors.New("the hook is to be killed")

const (
	// retryMin and retryMax bound the wait before a failed hook runs again; it doubles from one to the other.
	retryMin = 5 * time.Second
	retryMax = 5 * time.Minute
	// interruptedRetry is the wait before a hook runs again that was interrupted by the agent's death. About 4 s were measured.
	interruptedRetry = 4 * time.Second
	// LeaseDuration is how long an application keeps a leader whose agent is gone. 46 s were measured.
	LeaseDuration = 45 * time.Second
)

// AgentOptions may all be left empty.
type AgentOptions struct {
	Log *slog.Logger
	// Choose picks among the hooks that may come next; nil: always the first. See State.NextHooks.
	Choose func([]Hook) int
	// Record is told of every hook tool call. It sees secrets: it is for tests.
	Record func(Call)
	// Ran is told of every process that has ended, before its outcome is stored.
	Ran func(DispatchSpec, Exit)
}

// An Agent is one unit's agent. It reads what to do from the model and has the host do it, one thing at a time.
type Agent struct {
	model    *Model
	unit     string
	host     Host
	opts     AgentOptions
	paths    Paths
	server   *Server
	commands chan command
}

// A command is a juju-exec that waits for its turn.
type command struct {
	script string
	answer chan Response
}

// maxCommands bounds how many juju-exec calls wait for one unit.
const maxCommands = 64

// NewAgent makes the agent of a unit whose machine is host.
func NewAgent(model *Model, unit string, host Host, opts AgentOptions) *Agent {
	a := &Agent{model: model, unit: unit, host: host, opts: opts, paths: host.Paths(unit), commands: make(chan command, maxCommands)}
	if a.opts.Log == nil {
		a.opts.Log = slog.New(slog.DiscardHandler)
	}
	a.server = NewServer(a.execCommand)
	return a
}

// Run works until ctx is done or the unit is gone, which it returns nil for. Cancelling ctx is the agent's sudden death: what was
// running stays recorded as running, and the next Run takes it up as Juju does. The unit is lost from then on.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 2)
	listening := 0
	for _, path := range []string{a.paths.AgentSocket, a.paths.RunSocket} {
		l, err := a.host.Listen(ctx, a.unit, path)
		if err != nil {
			cancel()
			return fmt.Errorf("cannot start agent of %s: %w", a.unit, err)
		}
		if l != nil {
			listening++
			go func() { served <- a.server.Serve(ctx, l) }()
		}
	}
	defer func() {
		cancel()
		for range listening {
			<-served
		}
	}()
	if err := a.start(ctx); err != nil {
		return err
	}
	defer a.lose()
	for {
		changed := a.model.Changed()
		worked, err := a.step(ctx)
		switch {
		case errors.Is(err, errUnitGone):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("agent of %s: %w", a.unit, err)
		case worked:
			continue
		}
		if err := a.idle(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-a.timer():
		case cmd := <-a.commands:
			cmd.answer <- a.runCommand(ctx, cmd.script)
		}
	}
}

var errUnitGone = errors.New("the unit is gone")

// start records that the agent is there, and settles what its predecessor left behind.
func (a *Agent) start(ctx context.Context) error {
	boot, err := a.host.BootID(ctx)
	if err != nil {
		return fmt.Errorf("cannot start agent of %s: %w", a.unit, err)
	}
	now := a.model.Now()
	return a.model.Update(func(s *State) error {
		u := s.Units[a.unit]
		if u == nil {
			return errUnitGone
		}
		u.Lost, u.LostSince = false, time.Time{}
		if u.AgentVersion == "" {
			u.SetWorkload(Status{Status: "waiting", Message: "agent initialising", Since: now})
		}
		u.AgentVersion = s.Model.Version
		local := &u.Uniter
		rebooted := local.BootID != "" && boot != local.BootID
		if local.BootID == "" {
			local.BootID = boot
		}
		if task := s.Tasks[local.RunningTask]; local.RunningTask != 0 {
			local.RunningTask = 0
			// 4.0.15 forgets a task that was running when the machine rebooted: it stays running for ever. 3.6 fails it, as both do
			// when only the agent was restarted.
			if task != nil && !task.Status.Final() && !(rebooted && s.Model.Major() >= 4) {
				task.Status, task.Message, task.Completed = TaskFailed, "action terminated", now
			}
		}
		if u.Failed != nil {
			local.Running = nil // it was being tried again, and will be
		}
		if local.Running != nil && !rebooted {
			u.Failed = &FailedHook{Hook: *local.Running, Attempt: 1, RetryAt: now.Add(interruptedRetry), Since: now}
			local.Running = nil
			u.SetAgent(Status{Status: "error", Message: u.Failed.Message(), Since: now})
		}
		return nil
	})
}

// lose records that the agent's connection is closed.
func (a *Agent) lose() {
	now := a.model.Now()
	err := a.model.Update(func(s *State) error {
		if u := s.Units[a.unit]; u != nil {
			u.Lost, u.LostSince = true, now
			if app := s.Applications[u.Application]; app != nil && app.Leader == a.unit {
				app.LeaseEnd = now.Add(LeaseDuration)
			}
		}
		return nil
	})
	if err != nil {
		a.opts.Log.Error("cannot record that the agent has gone", "unit", a.unit, "err", err)
	}
}

// idle shows that nothing is left to do.
func (a *Agent) idle() error {
	u := a.model.Snapshot().Units[a.unit]
	if u == nil || u.Agent.Status == "idle" || u.Agent.Status == "error" && u.Failed != nil || !u.Uniter.Installed && u.Failed == nil {
		return nil
	}
	now := a.model.Now()
	return a.model.Update(func(s *State) error {
		u := s.Units[a.unit]
		if u == nil {
			return nil
		}
		if u.Failed != nil {
			u.SetAgent(Status{Status: "error", Message: u.Failed.Message(), Since: now})
		} else {
			u.SetAgent(Status{Status: "idle", Since: now})
		}
		return nil
	})
}

// timer fires when something is due that no change announces: a retry, update-status, a secret's date, a lease's end.
func (a *Agent) timer() <-chan time.Time {
	s := a.model.Snapshot()
	u := s.Units[a.unit]
	if u == nil {
		return nil
	}
	now, next := a.model.Now(), time.Duration(math.MaxInt64)
	due := func(at time.Time) {
		if !at.IsZero() {
			next = min(next, max(at.Sub(now), 0))
		}
	}
	if u.Failed != nil {
		due(u.Failed.RetryAt)
	} else {
		due(u.Uniter.UpdateAt)
		for id, secret := range s.Secrets {
			if s.manages(a.unit, secret) {
				if every := rotations[secret.Rotate]; every > 0 {
					due(secret.Rotated.Add(every))
				}
				if !u.Uniter.Obsolete[expiryKey(id, secret.Latest())] {
					due(secret.Expire)
				}
			}
		}
	}
	if app := s.Applications[u.Application]; app != nil && app.Leader != a.unit {
		due(app.LeaseEnd)
	}
	if next == math.MaxInt64 {
		return nil
	}
	return a.model.Clock().After(next)
}

// step does one thing if there is one to do.
func (a *Agent) step(ctx context.Context) (worked bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s := a.model.Snapshot()
	u := s.Units[a.unit]
	if u == nil {
		return false, errUnitGone
	}
	if worked, err := a.lead(s); worked || err != nil {
		return worked, err
	}
	if tasks := s.sortedTasks(a.unit); len(tasks) > 0 && u.Uniter.Installed && !u.Uniter.Stopped && u.Uniter.Running == nil {
		if u.Failed != nil || !a.beforeActions(ctx, s) {
			return true, a.runTask(ctx, tasks[0].ID)
		}
	}
	select {
	case cmd := <-a.commands:
		cmd.answer <- a.runCommand(ctx, cmd.script)
		return true, nil
	default:
	}
	if u.Failed != nil {
		return a.failed(ctx, u)
	}
	return a.advance(ctx, s, u)
}

// beforeActions reports whether a hook is next that comes before actions in Juju's order.
func (a *Agent) beforeActions(ctx context.Context, s *State) bool {
	boot, err := a.host.BootID(ctx)
	if err != nil {
		return false
	}
	hooks := s.NextHooks(a.unit, boot, a.model.Now())
	if len(hooks) == 0 {
		return false
	}
	switch hooks[0].Kind {
	case RelationCreated, LeaderElected, SecretChanged, SecretRemove, SecretRotate, SecretExpired:
		return true
	case Start:
		return s.Units[a.unit].Uniter.Started // a reboot's
	}
	return s.Units[a.unit].Uniter.Running != nil
}

// lead makes the unit its application's leader if there is none, or the leader's lease has run out.
func (a *Agent) lead(s *State) (bool, error) {
	may := func(s *State) bool {
		u := s.Units[a.unit]
		if u == nil || u.Life != Alive {
			return false
		}
		app := s.Applications[u.Application]
		if app == nil || app.Leader == a.unit && app.LeaseEnd.IsZero() {
			return false
		}
		leader := s.Units[app.Leader]
		return leader == nil || app.Leader == a.unit || leader.Lost && !app.LeaseEnd.IsZero() && !a.model.Now().Before(app.LeaseEnd)
	}
	if !may(s) {
		return false, nil
	}
	return true, a.model.Update(func(s *State) error {
		if may(s) {
			u := s.Units[a.unit]
			app := s.Applications[u.Application]
			if app.Leader != a.unit {
				app.Status = Status{} // the new leader says anew how the application is
			}
			app.Leader, app.LeaseEnd = a.unit, time.Time{}
		}
		return nil
	})
}

// failed answers a failed hook: by the operator's word, or by the next try when it is due.
func (a *Agent) failed(ctx context.Context, u *Unit) (bool, error) {
	hook := u.Failed.Hook
	switch {
	case u.Resolved == ResolveSkip:
		boot, err := a.host.BootID(ctx)
		if err != nil {
			return false, err
		}
		now := a.model.Now()
		return true, a.model.Update(func(s *State) error {
			if u := s.Units[a.unit]; u != nil {
				u.Failed, u.Resolved = nil, NotResolved
				s.HookDone(a.unit, hook, boot, now)
			}
			return nil
		})
	case u.Resolved == ResolveRetry, !a.model.Now().Before(u.Failed.RetryAt):
		return true, a.runHook(ctx, hook)
	}
	return false, nil
}

// advance does what is next for a unit without a failed hook.
func (a *Agent) advance(ctx context.Context, s *State, u *Unit) (bool, error) {
	boot, err := a.host.BootID(ctx)
	if err != nil {
		return false, err
	}
	if u.Uniter.Removed || u.Life != Alive && !u.Uniter.Installed && u.Uniter.Running == nil {
		return true, a.remove(ctx, s)
	}
	app := s.Applications[u.Application]
	if app != nil && u.Life == Alive && (u.Uniter.Charm == "" || u.Uniter.CharmVersion != app.CharmVersion) && u.Uniter.Running == nil {
		return true, a.installCharm(ctx, s.Charms[app.Charm], app.CharmVersion)
	}
	if worked, err := a.storage(ctx, s, u); worked || err != nil {
		return worked, err
	}
	hooks := s.NextHooks(a.unit, boot, a.model.Now())
	if len(hooks) == 0 {
		return false, nil
	}
	n := 0
	if a.opts.Choose != nil {
		n = a.opts.Choose(hooks)
	}
	if n < 0 || n >= len(hooks) {
		return false, fmt.Errorf("there is no hook %d among %d", n, len(hooks))
	}
	return true, a.runHook(ctx, hooks[n])
}

func (a *Agent) installCharm(ctx context.Context, ch *Charm, version int) error {
	if ch == nil {
		return errors.New("the application's charm is not in the model")
	}
	if err := a.host.InstallCharm(ctx, a.unit, ch); err != nil {
		return fmt.Errorf("cannot install charm %s: %w", ch.URL, err)
	}
	return a.model.Update(func(s *State) error {
		if u := s.Units[a.unit]; u != nil {
			u.Uniter.Charm, u.Uniter.CharmVersion = ch.URL, version
		}
		return nil
	})
}

// storage makes storage available before its hook, and takes away what was removed after its hook.
func (a *Agent) storage(ctx context.Context, s *State, u *Unit) (bool, error) {
	for _, st := range s.StorageOf(a.unit) {
		switch {
		case u.Life == Alive && st.Life == Alive && !st.Attached:
			st := *st
			if ch := s.Charms[u.Uniter.Charm]; ch != nil && st.Location == "" {
				meta := ch.Meta.Storage[st.Name]
				st.Location = meta.Location
				if st.Location == "" || meta.CountMax != 1 && meta.CountMax != 0 {
					st.Location = strings.TrimSuffix(orDefault(meta.Location, "/var/lib/juju/storage"), "/") + "/" + st.ID
				}
			}
			location, err := a.host.AttachStorage(ctx, a.unit, st)
			if err != nil {
				return false, fmt.Errorf("cannot attach storage %s: %w", st.ID, err)
			}
			now := a.model.Now()
			return true, a.model.Update(func(s *State) error {
				if got := s.Storage[st.ID]; got != nil {
					got.Attached, got.Location, got.Status = true, location, Status{Status: "attached", Since: now}
				}
				return nil
			})
		case st.Life != Alive && !u.Uniter.Storage[st.ID]:
			if st.Attached {
				if err := a.host.DetachStorage(ctx, a.unit, *st); err != nil {
					return false, fmt.Errorf("cannot detach storage %s: %w", st.ID, err)
				}
			}
			return true, a.model.Update(func(s *State) error {
				delete(s.Storage, st.ID)
				return nil
			})
		}
	}
	return false, nil
}

func orDefault(text, def string) string {
	if text == "" {
		return def
	}
	return text
}

// remove takes the unit off its machine and out of the model.
func (a *Agent) remove(ctx context.Context, s *State) error {
	for _, st := range s.StorageOf(a.unit) {
		if st.Attached {
			if err := a.host.DetachStorage(ctx, a.unit, *st); err != nil {
				return fmt.Errorf("cannot detach storage %s: %w", st.ID, err)
			}
		}
	}
	if err := a.host.RemoveUnit(ctx, a.unit); err != nil {
		return fmt.Errorf("cannot clean up after %s: %w", a.unit, err)
	}
	now := a.model.Now()
	if err := a.model.Update(func(s *State) error {
		s.DropUnit(a.unit, now)
		return nil
	}); err != nil {
		return err
	}
	return errUnitGone
}

// runHook runs one hook to its end and stores how it went.
func (a *Agent) runHook(ctx context.Context, hook Hook) error {
	machine := a.model.Snapshot().Units[a.unit].Machine
	release, err := a.model.lockMachine(ctx, machine)
	if err != nil {
		return err
	}
	defer release()
	now := a.model.Now()
	var begun Hook
	if err := a.model.Update(func(s *State) error {
		u := s.Units[a.unit]
		if u == nil {
			return errUnitGone
		}
		begun = s.Aim(a.unit, hook)
		u.Resolved = NotResolved
		s.BeginHook(a.unit, begun, now)
		return nil
	}); err != nil {
		return err
	}
	boot, err := a.host.BootID(ctx)
	if err != nil {
		return err
	}
	run, c, done, err := a.prepare(ctx, ContextOptions{Kind: RunHook, Hook: begun})
	if err != nil {
		return err
	}
	defer done()
	exit := a.dispatch(run, DispatchSpec{Kind: RunHook, Hook: begun, Path: a.paths.CharmDir + "/dispatch"}, c)
	if ctx.Err() != nil {
		return ctx.Err() // the agent dies; the hook stays recorded as running
	}
	if c.Reboot() == RebootNow {
		c.Close()
		return a.rebootMachine(ctx) // the hook stays recorded as running, and runs again after the reboot
	}
	failure := exitError(exit)
	if failure == nil {
		failure = c.FlushAnd(func(s *State) error {
			u := s.Units[a.unit]
			if u == nil {
				return errUnitGone
			}
			u.Failed = nil
			s.HookDone(a.unit, begun, boot, a.model.Now())
			return nil
		})
		if errors.Is(failure, errUnitGone) {
			return failure
		}
	}
	c.Close()
	if failure != nil {
		return a.hookFailed(begun, failure)
	}
	if c.Reboot() == RebootAfter {
		return a.rebootMachine(ctx)
	}
	return nil
}

// exitError says why a process did not end well, nil if it did.
func exitError(exit Exit) error {
	switch {
	case exit.Err != nil:
		return exit.Err
	case exit.Signal != "":
		return fmt.Errorf("signal: %s", exit.Signal)
	case exit.Code != 0:
		return fmt.Errorf("exit status %d", exit.Code)
	}
	return nil
}

// hookFailed stops the unit until the hook has run well or was resolved.
func (a *Agent) hookFailed(hook Hook, failure error) error {
	now := a.model.Now()
	return a.model.Update(func(s *State) error {
		u := s.Units[a.unit]
		if u == nil {
			return errUnitGone
		}
		attempt, since := 1, now
		if u.Failed != nil && u.Failed.Hook.Name == hook.Name {
			attempt, since = u.Failed.Attempt+1, u.Failed.Since
		}
		delay := retryMax
		if attempt < 8 {
			delay = min(retryMin<<(attempt-1), retryMax)
		}
		u.Uniter.Running = nil
		u.Failed = &FailedHook{Hook: hook, Attempt: attempt, RetryAt: now.Add(delay), Since: since}
		u.SetAgent(Status{Status: "error", Message: u.Failed.Message(), Since: now})
		s.AppendLog(LogLine{Time: now, Entity: UnitTag(a.unit), Level: "ERROR", Module: "juju.worker.uniter.operation",
			Message: fmt.Sprintf("hook %q (via hook dispatching script: dispatch) failed: %v", hook.Name, failure)})
		return nil
	})
}

// rebootMachine has the host reboot and waits for the agent's end, which comes with it.
func (a *Agent) rebootMachine(ctx context.Context) error {
	if err := a.host.Reboot(ctx); err != nil {
		return fmt.Errorf("cannot reboot the machine: %w", err)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// prepare makes a context that tools can ask for, and the Go context in which its process runs.
func (a *Agent) prepare(ctx context.Context, opts ContextOptions) (run context.Context, c *Context, done func(), err error) {
	run, kill := context.WithCancelCause(ctx)
	opts.Unit, opts.Paths, opts.Record = a.unit, a.paths, a.opts.Record
	opts.Kill = func() { kill(ErrKillHook) }
	opts.Fetch = func(ctx context.Context, r Resource) (string, error) { return a.host.FetchResource(ctx, a.unit, r) }
	c, err = NewContext(a.model, opts)
	if err != nil {
		kill(nil)
		return nil, nil, nil, err
	}
	remove := a.server.Add(c)
	return run, c, func() {
		remove()
		c.Close()
		kill(nil)
	}, nil
}

// dispatch runs a context's process, and keeps what it prints in the model's log as Juju does.
func (a *Agent) dispatch(ctx context.Context, spec DispatchSpec, c *Context) Exit {
	spec.Unit, spec.Dir, spec.Env, spec.Context = a.unit, a.paths.CharmDir, c.Env(), c
	exit := a.host.Dispatch(ctx, spec)
	if a.opts.Ran != nil {
		a.opts.Ran(spec, exit)
	}
	name := spec.Hook.Name
	if spec.Kind != RunHook {
		name = c.action
	}
	a.logOutput(name, exit)
	return exit
}

// maxLoggedLines bounds how much of one process's output goes into the model's log.
const maxLoggedLines = 200

func (a *Agent) logOutput(name string, exit Exit) {
	now := a.model.Now()
	var lines []LogLine
	for _, out := range []struct {
		level string
		text  []byte
	}{{"INFO", exit.Stdout}, {"WARNING", exit.Stderr}} {
		text := string(out.text[max(0, len(out.text)-maxLoggedLines*256):])
		for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			if line != "" {
				lines = append(lines, LogLine{Time: now, Entity: UnitTag(a.unit), Level: out.level,
					Module: "unit." + a.unit + "." + name, Message: strings.ToValidUTF8(line, "\uFFFD")})
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	lines = lines[max(0, len(lines)-maxLoggedLines):]
	if err := a.model.Update(func(s *State) error {
		for _, line := range lines {
			s.AppendLog(line)
		}
		return nil
	}); err != nil {
		a.opts.Log.Error("cannot log a hook's output", "unit", a.unit, "err", err)
	}
}

// execCommand queues a juju-exec and waits for its turn and its end.
func (a *Agent) execCommand(ctx context.Context, exec toolclient.Exec) Response {
	if exec.Unit != a.unit {
		return refused(fmt.Errorf("unit %q not found on this machine", exec.Unit))
	}
	cmd := command{exec.Script, make(chan Response, 1)}
	select {
	case a.commands <- cmd:
	default:
		return refused(fmt.Errorf("%d commands are waiting already", maxCommands))
	}
	select {
	case resp := <-cmd.answer:
		return resp
	case <-ctx.Done():
		return refused(errors.New("the unit agent is stopping"))
	}
}
