package juju

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// maxTasks bounds the operations that a model remembers; the oldest that have ended are forgotten first.
const maxTasks = 5000

// An ActionRequest is what `juju run` asks for. A receiver is a unit, or "application/leader".
type ActionRequest struct {
	Receivers      []string
	Action         string
	Params         map[string]any
	Parallel       *bool // the charm's own when nil
	ExecutionGroup *string
}

// EnqueueAction makes an operation with a task for each receiver. Unknown units are no error: they are named in the operation's
// Fail (measured on 4.0.15).
func (s *State) EnqueueAction(r ActionRequest, now time.Time) (*Operation, error) {
	receivers := make([]string, 0, len(r.Receivers))
	application := ""
	for _, name := range r.Receivers {
		unit, err := s.leaderOr(name)
		if err != nil {
			return nil, err
		}
		receivers = append(receivers, unit)
		application, _, _ = strings.Cut(unit, "/")
	}
	ch := s.CharmOf(application)
	if ch == nil {
		return nil, fmt.Errorf("adding action operation: adding action operation: getting charm UUID for application %q: application %q not found", application, application)
	}
	spec, ok := ch.Actions.ActionSpecs[r.Action]
	if !ok {
		return nil, fmt.Errorf("action %q not defined for unit %q. (not found)", r.Action, receivers[0])
	}
	task := Task{Action: r.Action, Params: r.Params, Parallel: spec.Parallel, ExecutionGroup: spec.ExecutionGroup}
	if r.Parallel != nil {
		task.Parallel = *r.Parallel
	}
	if r.ExecutionGroup != nil {
		task.ExecutionGroup = *r.ExecutionGroup
	}
	if s.Model.Major() < 4 {
		if err := ch.ValidateAction(s.Model.Major(), r.Action, r.Params); err != nil {
			op := s.newOperation(fmt.Sprintf("action %q", r.Action), now)
			op.Fail, op.Status = err.Error(), TaskError
			return op, nil
		}
	}
	return s.enqueue(fmt.Sprintf("action %q", r.Action), receivers, nil, task, now), nil
}

// EnqueueExec makes an operation that runs a script on units and machines. Its tasks are in the order of their targets' names.
func (s *State) EnqueueExec(script string, timeout time.Duration, units, applications, machines []string, parallel bool, group string, now time.Time) (*Operation, error) {
	seen := map[string]bool{}
	var receivers []string
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			receivers = append(receivers, name)
		}
	}
	for _, name := range applications {
		if s.Applications[name] == nil {
			return nil, fmt.Errorf("application %q not found", name)
		}
		for _, u := range s.UnitsOf(name) {
			add(u.Name)
		}
	}
	for _, name := range units {
		unit, err := s.leaderOr(name)
		if err != nil {
			return nil, err
		}
		add(unit)
	}
	sort.SliceStable(receivers, func(i, j int) bool {
		a, _, _ := strings.Cut(receivers[i], "/")
		b, _, _ := strings.Cut(receivers[j], "/")
		if a != b {
			return a < b
		}
		return unitNumber(receivers[i]) < unitNumber(receivers[j])
	})
	task := Task{Action: ExecAction, Parallel: parallel, ExecutionGroup: group, Params: map[string]any{"command": script, "timeout": int64(timeout)}}
	return s.enqueue(fmt.Sprintf("exec %q", script), receivers, machines, task, now), nil
}

func (s *State) leaderOr(name string) (string, error) {
	application, ok := strings.CutSuffix(name, "/leader")
	if !ok {
		return name, nil
	}
	app := s.Applications[application]
	if app == nil {
		return "", fmt.Errorf("getting leader unit for %s: application %q not found in leases (not found)", application, application)
	}
	if app.Leader == "" {
		return "", fmt.Errorf("getting leader unit for %s: no leader found for application %q", application, application)
	}
	return app.Leader, nil
}

func (s *State) newOperation(summary string, now time.Time) *Operation {
	op := &Operation{ID: s.Next.Task, Summary: summary, Enqueued: now, Status: TaskPending}
	s.Next.Task++
	s.Operations[op.ID] = op
	return op
}

func (s *State) enqueue(summary string, units, machines []string, task Task, now time.Time) *Operation {
	s.dropOldOperations()
	op := s.newOperation(summary, now)
	var failed []string
	add := func(receiver string) {
		t := task
		t.ID, t.Operation, t.Receiver, t.Status, t.Enqueued = s.Next.Task, op.ID, receiver, TaskPending, now
		if t.Params == nil {
			t.Params = map[string]any{}
		}
		s.Next.Task++
		s.Tasks[t.ID] = &t
		op.Tasks = append(op.Tasks, t.ID)
	}
	for _, unit := range units {
		if s.Units[unit] == nil {
			failed = append(failed, fmt.Sprintf("linking task to unit: getting unit UUID for %q: unit %q not found", unit, unit))
			continue
		}
		add(unit)
	}
	for _, machine := range machines {
		if s.Machines[machine] == nil {
			failed = append(failed, fmt.Sprintf("linking task to machine: getting machine UUID for %q: machine %q not found", machine, machine))
			continue
		}
		add(machine)
	}
	op.Fail = strings.Join(failed, "\n")
	if len(op.Tasks) == 0 {
		op.Status = TaskError
	}
	return op
}

// dropOldOperations keeps the number of remembered tasks bounded.
func (s *State) dropOldOperations() {
	if len(s.Tasks)+len(s.Operations) < maxTasks {
		return
	}
	ids := make([]int, 0, len(s.Operations))
	for id := range s.Operations {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		if len(s.Tasks)+len(s.Operations) < maxTasks*9/10 {
			return
		}
		op := s.Operations[id]
		if !s.OperationStatus(op).Final() {
			continue
		}
		for _, t := range op.Tasks {
			delete(s.Tasks, t)
		}
		delete(s.Operations, id)
	}
}

// OperationStatus is the worst of an operation's tasks' states.
func (s *State) OperationStatus(op *Operation) TaskStatus {
	if len(op.Tasks) == 0 {
		return op.Status
	}
	have := map[TaskStatus]bool{}
	for _, id := range op.Tasks {
		if t := s.Tasks[id]; t != nil {
			have[t.Status] = true
		}
	}
	for _, status := range []TaskStatus{TaskRunning, TaskAborting, TaskPending, TaskError, TaskFailed, TaskCancelled, TaskAborted} {
		if have[status] {
			return status
		}
	}
	return TaskCompleted
}

// OperationTimes are when the first task started and when the last one ended; zero if that has not happened.
func (s *State) OperationTimes(op *Operation) (started, completed time.Time) {
	for _, id := range op.Tasks {
		t := s.Tasks[id]
		if t == nil {
			continue
		}
		if !t.Started.IsZero() && (started.IsZero() || t.Started.Before(started)) {
			started = t.Started
		}
		if t.Completed.After(completed) {
			completed = t.Completed
		}
	}
	if !s.OperationStatus(op).Final() {
		completed = time.Time{}
	}
	return started, completed
}

// ErrNotCancelled is what cancelling a task gives on 4.0.15: neither a pending nor a running one ever stops.
var ErrNotCancelled = errors.New("")

// CancelTask asks for a task to end. On 4.x nothing happens (measured on 4.0.15); on 3.6 a pending task is cancelled and a running
// one is told to abort.
func (s *State) CancelTask(id int, now time.Time) error {
	t := s.Tasks[id]
	if t == nil {
		return fmt.Errorf("task %q not found", fmt.Sprint(id))
	}
	if s.Model.Major() >= 4 {
		return ErrNotCancelled
	}
	switch t.Status {
	case TaskPending:
		t.Status, t.Completed = TaskCancelled, now
	case TaskRunning:
		t.Status = TaskAborting
	}
	return nil
}
