package locallab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"certlab/internal/juju"
)

// A supervisor makes the lab's machines and agents what the model says. One loop decides; what takes long runs beside it.
type supervisor struct {
	lab  *Lab
	kick chan struct{} // there may be something to do that is no change of the model

	mu      sync.Mutex
	members map[string]*member
	closing bool
}

// A member is one machine of the lab.
type member struct {
	id      string
	machine *Machine
	host    *host

	// All below are guarded by the supervisor's lock.
	cancel   context.CancelCauseFunc // of the present boot; nil while it is off
	boot     context.Context
	agents   map[string]bool // units whose agents run
	tasks    map[int]bool    // of the machine itself that run
	wait     sync.WaitGroup
	leaving  bool
	hold     bool // it was switched off by a person
	starting bool
}

func newSupervisor(l *Lab) *supervisor {
	return &supervisor{lab: l, kick: make(chan struct{}, 1), members: map[string]*member{}}
}

func (s *supervisor) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// offTimeout bounds how long the lab waits for its machines to end in good order.
const offTimeout = 20 * time.Second

func (s *supervisor) run(ctx context.Context) error {
	for {
		changed := s.lab.model.Changed()
		s.reconcile(ctx)
		select {
		case <-ctx.Done():
			s.shutdown()
			return nil
		case <-changed:
		case <-s.kick:
		}
	}
}

// reconcile starts what is missing and ends what should not be.
func (s *supervisor) reconcile(ctx context.Context) {
	if err := s.lab.keepFiles(); err != nil {
		s.lab.log.Error("cannot keep what was deployed", "error", err)
	}
	state := s.lab.model.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range state.Machines {
		if s.members[id] != nil {
			continue
		}
		m, err := s.newMember(id)
		if err != nil {
			s.lab.log.Error("cannot make machine", "machine", id, "error", err)
			continue
		}
		s.members[id] = m
	}
	for id, m := range s.members {
		switch {
		case state.Machines[id] == nil:
			if !m.leaving {
				m.leaving = true
				go s.dismiss(m)
			}
		case m.cancel == nil && !m.starting && !m.hold:
			m.starting = true
			go s.start(ctx, m)
		case m.cancel != nil:
			s.startAgents(m, state)
			s.startTasks(m, state)
		}
	}
}

func (s *supervisor) newMember(id string) (*member, error) {
	m := &member{id: id, agents: map[string]bool{}, tasks: map[int]bool{}}
	machine, err := s.lab.rack.NewMachine(s.lab.spec(id), func(c Change) { s.changed(m, c) })
	if err != nil {
		return nil, err
	}
	m.machine = machine
	m.host = &host{lab: s.lab, machine: machine, ready: map[string]string{}}
	return m, nil
}

// start boots a machine; what follows from it comes with the machine's own word.
func (s *supervisor) start(ctx context.Context, m *member) {
	err := m.machine.Boot(ctx)
	s.mu.Lock()
	m.starting = false
	if err != nil {
		m.hold = true // until a person has looked at it
	}
	s.mu.Unlock()
	if err == nil {
		return
	}
	s.lab.log.Error("cannot boot machine", "machine", m.id, "error", err)
	s.update("machine's status", func(st *juju.State) {
		if jm := st.Machines[m.id]; jm != nil {
			jm.Instance = juju.Status{Status: "provisioning error", Message: err.Error(), Since: time.Now().UTC()}
		}
	})
}

// changed takes a machine's word that it is up or down. It is called in order, and the machine waits for it.
func (s *supervisor) changed(m *member, c Change) {
	now := time.Now().UTC()
	switch c.State {
	case On:
		s.update("machine's status", func(st *juju.State) {
			if jm := st.Machines[m.id]; jm != nil {
				s.lab.fill(jm, now)
			}
		})
		s.mu.Lock()
		if !s.closing {
			m.boot, m.cancel = context.WithCancelCause(context.Background())
		}
		s.mu.Unlock()
	case Off:
		s.mu.Lock()
		cancel := m.cancel
		m.cancel = nil
		m.hold = m.hold || !c.Again
		s.mu.Unlock()
		if cancel != nil {
			cancel(errDown)
		}
		m.wait.Wait() // the agents say themselves that they are lost
		s.update("machine's status", func(st *juju.State) {
			if jm := st.Machines[m.id]; jm != nil && jm.Life == juju.Alive {
				jm.Agent = juju.Status{Status: "down", Message: machineDown, Since: now}
			}
		})
	}
	s.nudge()
}

func (s *supervisor) update(what string, change func(*juju.State)) {
	err := s.lab.model.Update(func(st *juju.State) error {
		change(st)
		return nil
	})
	if err != nil {
		s.lab.log.Error("cannot store "+what, "error", err)
	}
}

// agentRetry is how long an agent that has ended with an error stays away.
const agentRetry = 2 * time.Second

// startAgents starts the agents of the machine's units that do not run; s.mu is held.
func (s *supervisor) startAgents(m *member, state *juju.State) {
	for _, u := range state.UnitsOn(m.id) {
		if m.agents[u.Name] || u.Life == juju.Dead {
			continue
		}
		name, boot := u.Name, m.boot
		m.agents[name] = true
		m.wait.Go(func() {
			err := juju.NewAgent(s.lab.model, name, m.host, juju.AgentOptions{Log: s.lab.log}).Run(boot)
			if err != nil && boot.Err() == nil {
				s.lab.log.Error("agent has ended", "unit", name, "error", err)
				select {
				case <-time.After(agentRetry):
				case <-boot.Done():
				}
			}
			s.mu.Lock()
			delete(m.agents, name)
			s.mu.Unlock()
			s.nudge()
		})
	}
}

// startTasks runs what "juju exec --machine" asks of a machine itself; s.mu is held.
func (s *supervisor) startTasks(m *member, state *juju.State) {
	for id, task := range state.Tasks {
		if task.Receiver != m.id || task.Status != juju.TaskPending || m.tasks[id] {
			continue
		}
		boot := m.boot
		m.tasks[id] = true
		m.wait.Go(func() {
			s.runTask(boot, m, id)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(m.tasks, id)
		})
	}
}

// machineTaskTimeout bounds a task that says no time itself, as Juju's own does.
const machineTaskTimeout = 5 * time.Minute

func (s *supervisor) runTask(ctx context.Context, m *member, id int) {
	var script string
	limit := machineTaskTimeout
	s.update("task's start", func(st *juju.State) {
		task := st.Tasks[id]
		if task == nil {
			return
		}
		now := time.Now().UTC()
		script, _ = task.Params["command"].(string)
		if n, err := fmt.Sscan(fmt.Sprint(task.Params["timeout"]), new(int64)); n == 1 && err == nil {
			var ns int64
			_, _ = fmt.Sscan(fmt.Sprint(task.Params["timeout"]), &ns)
			limit = time.Duration(ns)
		}
		task.Status, task.Started = juju.TaskRunning, now
		if op := st.Operations[task.Operation]; op != nil && op.Started.IsZero() {
			op.Started, op.Status = now, juju.TaskRunning
		}
	})
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stdout, stderr := &lineWriter{}, &lineWriter{}
	status, err := m.machine.Exec(timed, ExecSpec{Argv: []string{"/bin/bash", "-c", script}, Dir: "/root", Stdout: stdout, Stderr: stderr})
	if ctx.Err() != nil {
		return // the machine went down with it: it stays as it is, as on 4.0.15
	}
	s.update("task's end", func(st *juju.State) {
		task := st.Tasks[id]
		if task == nil {
			return
		}
		now := time.Now().UTC()
		task.Status, task.Completed = juju.TaskCompleted, now
		task.Results = map[string]any{"return-code": status.Code}
		for name, data := range map[string][]byte{"stdout": stdout.all, "stderr": stderr.all} {
			if len(data) > 0 {
				task.Results[name] = string(bytes.ToValidUTF8(data, []byte("\uFFFD")))
			}
		}
		if err != nil || status.Signal != 0 {
			task.Status, task.Message = juju.TaskFailed, "terminated"
		}
		if err != nil {
			task.Message = err.Error()
		}
		if op := st.Operations[task.Operation]; op != nil {
			if op.Status = st.OperationStatus(op); op.Status.Final() {
				op.Completed = now
			}
		}
	})
}

// dismiss takes a machine apart that the model no longer has.
func (s *supervisor) dismiss(m *member) {
	m.machine.Kill()
	m.wait.Wait()
	if err := removeAll(s.lab.machineDir(m.id)); err != nil {
		s.lab.log.Error("cannot remove machine's directory", "machine", m.id, "error", err)
	}
	s.mu.Lock()
	delete(s.members, m.id)
	s.mu.Unlock()
	s.nudge()
}

// removeAll removes a machine's directory, in which the kernel leaves directories that nobody may enter.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	if err := openUp(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// shutdown ends all machines.
func (s *supervisor) shutdown() {
	s.mu.Lock()
	s.closing = true
	var all []*member
	for _, m := range s.members {
		m.hold = true
		all = append(all, m)
		if m.cancel != nil {
			m.cancel(errClosed)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), offTimeout)
	defer cancel()
	var wait sync.WaitGroup
	for _, m := range all {
		wait.Go(func() {
			m.wait.Wait()
			if err := m.machine.PowerOff(ctx); err != nil {
				s.lab.log.Error("cannot switch machine off", "machine", m.id, "error", err)
			}
		})
	}
	wait.Wait()
}

// find returns the machine that a machine's or a unit's name means.
func (s *supervisor) find(target string) (*member, error) {
	state := s.lab.model.Snapshot()
	id := target
	if u := state.Units[target]; u != nil {
		id = u.Machine
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[id]; m != nil && !m.leaving {
		return m, nil
	}
	return nil, fmt.Errorf("the lab has no machine and no unit %q", target)
}

// kill cuts a machine's power; it stays off.
func (s *supervisor) kill(m *member) {
	s.setHold(m, true)
	m.machine.Kill()
}

// on switches a machine on and waits until it is up.
func (s *supervisor) on(ctx context.Context, m *member) error {
	s.setHold(m, false)
	return m.machine.Boot(ctx)
}

func (s *supervisor) setHold(m *member, hold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.hold = hold
}
