package juju

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"time"
	"unicode/utf8"
)

// execTimeout bounds an exec that says nothing of it itself; actions have no limit.
const execTimeout = 5 * time.Minute

// runTask runs one action or exec to its end and stores its outcome. A task that is refused never starts.
func (a *Agent) runTask(ctx context.Context, id int) error {
	s := a.model.Snapshot()
	task, u := s.Tasks[id], s.Units[a.unit]
	if task == nil || u == nil {
		return nil
	}
	if task.Action != ExecAction {
		if err := a.judge(s, u, task); err != nil {
			now := a.model.Now()
			return a.model.Update(func(s *State) error {
				if t := s.Tasks[id]; t != nil && t.Status == TaskPending {
					t.Status, t.Message, t.Completed = refusedStatus(s), err.Error(), now
				}
				return nil
			})
		}
	}
	if !task.Parallel || task.ExecutionGroup != "" {
		release, err := a.model.lockMachine(ctx, u.Machine)
		if err != nil {
			return err
		}
		defer release()
	}
	now, started := a.model.Now(), false
	if err := a.model.Update(func(s *State) error {
		t, u := s.Tasks[id], s.Units[a.unit]
		if started = t != nil && u != nil && t.Status == TaskPending; !started {
			return nil // cancelled while it waited for the lock
		}
		t.Status, t.Started = TaskRunning, now
		u.Uniter.RunningTask = id
		u.SetAgent(Status{Status: "executing", Message: "running action " + t.Action, Since: now})
		if op := s.Operations[t.Operation]; op != nil && op.Started.IsZero() {
			op.Started, op.Status = now, TaskRunning
		}
		return nil
	}); err != nil || !started {
		return err
	}
	return a.startedTask(ctx, id, task)
}

// judge refuses an action that the charm does not have, or parameters that its schema does not allow. On 3.6 they were judged when
// the action was asked for.
func (a *Agent) judge(s *State, u *Unit, task *Task) error {
	ch := s.Charms[u.Uniter.Charm]
	if ch == nil || s.Model.Major() < 4 {
		return nil
	}
	if err := ch.ValidateAction(4, task.Action, viaJSON(task.Params)); err != nil {
		return fmt.Errorf("cannot run %q action: %w", task.Action, err)
	}
	return nil
}

func refusedStatus(s *State) TaskStatus {
	if s.Model.Major() >= 4 {
		return TaskError
	}
	return TaskFailed
}

func (a *Agent) startedTask(ctx context.Context, id int, task *Task) error {
	kind, spec := RunAction, DispatchSpec{Kind: RunAction, Task: id, Path: a.paths.CharmDir + "/dispatch"}
	if task.Action == ExecAction {
		script, _ := task.Params["command"].(string)
		kind, spec = RunExec, DispatchSpec{Kind: RunExec, Task: id, Script: script}
	}
	run, c, done, err := a.prepare(ctx, ContextOptions{Kind: kind, Task: id})
	if err != nil {
		return a.finishTask(id, TaskFailed, err.Error(), nil, nil)
	}
	defer done()
	if kind == RunExec {
		limit := taskTimeout(task)
		timed, cancel := withTimeout(run, a.model.Clock(), limit)
		defer cancel()
		run = timed
	}
	exit := a.dispatch(run, spec, c)
	if ctx.Err() != nil {
		return ctx.Err() // the agent dies; the task stays recorded as running
	}
	outcome := c.Outcome()
	results := maps.Clone(outcome.Results)
	if exit.Err != nil {
		message := exit.Err.Error()
		c.Close()
		return a.finishTask(id, TaskFailed, message, results, nil)
	}
	addOutput(results, exit)
	status, message := TaskCompleted, outcome.Message
	switch {
	case exit.Signal != "":
		status, message = TaskFailed, "terminated"
	case exit.Code != 0 && kind == RunAction:
		status, message = TaskFailed, fmt.Sprintf("exit status %d", exit.Code)
	case outcome.Failed:
		status = TaskFailed
	}
	if exit.Signal != "" || exit.Code != 0 && kind == RunAction {
		c.Close()
		return a.finishTask(id, status, message, results, nil)
	}
	// An exec's changes are kept whatever its script returned; an action's only if it returned 0.
	if err := a.finishTask(id, status, message, results, c); err != nil {
		if errors.Is(err, errUnitGone) {
			return err
		}
		appendError(results, err)
		if message == "" {
			message = "committing requested changes failed"
		}
		return a.finishTask(id, TaskFailed, message, results, nil)
	}
	return nil
}

func taskTimeout(task *Task) time.Duration {
	switch n := task.Params["timeout"].(type) {
	case int64:
		return time.Duration(n)
	case int:
		return time.Duration(n)
	case float64:
		return time.Duration(n)
	}
	return execTimeout
}

// withTimeout ends a context with ErrKillHook after d of the model's clock.
func withTimeout(ctx context.Context, clock Clock, d time.Duration) (context.Context, func()) {
	timed, cancel := context.WithCancelCause(ctx)
	if d <= 0 {
		return timed, func() { cancel(nil) }
	}
	timer := clock.After(d)
	go func() {
		select {
		case <-timer:
			cancel(ErrKillHook)
		case <-timed.Done():
		}
	}()
	return timed, func() { cancel(nil) }
}

// addOutput puts the process's end into an action's results, above what the charm may have set of the same names.
func addOutput(results map[string]any, exit Exit) {
	results["return-code"] = exit.Code
	for name, data := range map[string][]byte{"stdout": exit.Stdout, "stderr": exit.Stderr} {
		switch {
		case len(data) == 0:
		case utf8.Valid(data):
			results[name] = string(data)
		default:
			results[name] = base64.StdEncoding.EncodeToString(data)
			results[name+"-encoding"] = "base64"
		}
	}
}

// appendError adds to an action's output why its changes could not be applied.
func appendError(results map[string]any, err error) {
	if text, ok := results["stderr"].(string); ok {
		results["stderr"] = text + "\n" + err.Error()
		return
	}
	results["stderr"] = err.Error()
}

// finishTask stores a task's end, together with the changes of a context if there is one.
func (a *Agent) finishTask(id int, status TaskStatus, message string, results map[string]any, c *Context) error {
	now := a.model.Now()
	finish := func(s *State) error {
		if u := s.Units[a.unit]; u != nil {
			u.Uniter.RunningTask = 0
		}
		t := s.Tasks[id]
		if t == nil {
			return nil
		}
		if t.Status == TaskAborting && status == TaskFailed {
			status = TaskAborted
		}
		t.Status, t.Message, t.Completed = status, message, now
		t.Results = maps.Clone(results)
		if op := s.Operations[t.Operation]; op != nil {
			settleOperation(s, op, now)
		}
		return nil
	}
	if c == nil {
		return a.model.Update(finish)
	}
	return c.FlushAnd(finish)
}

// settleOperation ends an operation once its last task has ended.
func settleOperation(s *State, op *Operation, now time.Time) {
	status := TaskCompleted
	for _, id := range op.Tasks {
		t := s.Tasks[id]
		switch {
		case t == nil:
		case !t.Status.Final():
			return
		case t.Status != TaskCompleted:
			status = t.Status
		}
	}
	op.Status, op.Completed = status, now
}

// runCommand runs a juju-exec from the machine: like an exec, but it is no task and has no action's tools.
func (a *Agent) runCommand(ctx context.Context, script string) Response {
	u := a.model.Snapshot().Units[a.unit]
	if u == nil || !u.Uniter.Installed {
		return refused(fmt.Errorf("unit %q is not ready to run commands", a.unit))
	}
	release, err := a.model.lockMachine(ctx, u.Machine)
	if err != nil {
		return refused(err)
	}
	defer release()
	now := a.model.Now()
	if err := a.model.Update(func(s *State) error {
		if u := s.Units[a.unit]; u != nil {
			u.SetAgent(Status{Status: "executing", Message: "running commands", Since: now})
		}
		return nil
	}); err != nil {
		return refused(err)
	}
	run, c, done, err := a.prepare(ctx, ContextOptions{Kind: RunExec})
	if err != nil {
		return refused(err)
	}
	defer done()
	exit := a.dispatch(run, DispatchSpec{Kind: RunExec, Script: script}, c)
	if exit.Err != nil {
		return refused(exit.Err)
	}
	resp := Response{Stdout: exit.Stdout, Stderr: exit.Stderr, Code: exit.Code}
	if exit.Signal != "" {
		resp.Code = 1
	} else if err := c.Flush(); err != nil {
		resp.Stderr, resp.Code = fmt.Appendf(resp.Stderr, "ERROR %v\n", err), 1
	}
	return resp
}
