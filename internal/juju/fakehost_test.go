package juju

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A world is a model with an agent for each of its units, on hosts that run charms written in Go.
type world struct {
	t      *testing.T
	model  *Model
	clock  *manualClock
	charms map[string]func(*script)
	choose func([]Hook) int

	mu     sync.Mutex
	ran    map[string][]string // unit → what its charm was told, one line each
	envs   map[string][]string // unit and line → environment of its last run
	agents map[string]*running
	known  map[string]bool // units that had an agent once
	boots  map[string]int
	reboot map[string]bool // machine → juju-reboot was called
	gates  map[string]chan struct{}
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newWorld(t *testing.T, version string, charms map[string]func(*script)) *world {
	clock := newManualClock(testTime)
	s := NewState(ModelInfo{Name: "lab1", UUID: "8cac5806-7ba1-4d95-8a50-ce11f7151656", Version: version, Controller: "c1", Cloud: "lab",
		Region: "default", APIAddresses: []string{"10.0.0.10:17070"}}, testTime)
	for n := range 6 {
		id := fmt.Sprint(n)
		s.Machines[id] = &Machine{ID: id, Hostname: "m" + fmt.Sprint(n+1), Addresses: []string{fmt.Sprintf("10.0.0.%d", 11+n)}, Life: Alive}
	}
	s.Next.Machine = 6
	w := &world{t: t, clock: clock, charms: charms, ran: map[string][]string{}, envs: map[string][]string{}, agents: map[string]*running{}, known: map[string]bool{},
		boots: map[string]int{}, reboot: map[string]bool{}, gates: map[string]chan struct{}{}}
	w.model = NewModel(s, Options{Clock: clock, Random: seeded{newSeeded()}})
	t.Cleanup(func() {
		for unit := range w.agents {
			w.stop(unit)
		}
	})
	return w
}

// update changes the model as an operator does, and starts agents of units that are new.
func (w *world) update(fn func(s *State, now time.Time) error) {
	w.t.Helper()
	require.NoError(w.t, w.model.Update(func(s *State) error { return fn(s, w.clock.Now()) }))
	for unit := range w.model.Snapshot().Units {
		if !w.known[unit] {
			w.known[unit] = true
			w.start(unit)
		}
	}
}

func (w *world) start(unit string) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel, make(chan struct{})}
	w.agents[unit] = r
	host := &fakeHost{w, w.model.Snapshot().Units[unit].Machine}
	agent := NewAgent(w.model, unit, host, AgentOptions{Choose: w.choose})
	go func() {
		defer close(r.done)
		if err := agent.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("agent of %s: %v", unit, err)
		}
	}()
}

// stop is the sudden death of a unit's agent.
func (w *world) stop(unit string) {
	w.agents[unit].cancel()
	<-w.agents[unit].done
	delete(w.agents, unit)
}

// bootMachine reboots the machine: its agents die and start again with a new boot id.
func (w *world) bootMachine(machine string) {
	var units []string
	for _, u := range w.model.Snapshot().UnitsOn(machine) {
		units = append(units, u.Name)
		w.stop(u.Name)
	}
	w.mu.Lock()
	w.boots[machine]++
	w.mu.Unlock()
	for _, unit := range units {
		w.start(unit)
	}
}

// quiet waits until no agent has anything left to do that is due now.
func (w *world) quiet() {
	w.t.Helper()
	w.until(func(s *State) bool {
		for name, u := range s.Units {
			w.mu.Lock()
			boot := fmt.Sprint("boot", w.boots[u.Machine])
			w.mu.Unlock()
			if w.agents[name] == nil {
				continue
			}
			if u.Failed != nil {
				if u.Resolved != NotResolved || !w.clock.Now().Before(u.Failed.RetryAt) || u.Agent.Status != "error" || len(s.sortedTasks(name)) > 0 || u.Uniter.RunningTask != 0 {
					return false
				}
				continue
			}
			if u.Uniter.CharmVersion != s.Applications[u.Application].CharmVersion {
				return false
			}
			if u.Lost || u.Agent.Status != "idle" || len(s.NextHooks(name, boot, w.clock.Now())) > 0 || len(s.sortedTasks(name)) > 0 {
				return false
			}
		}
		return true
	})
	require.NoError(w.t, w.model.Snapshot().Check())
}

func (w *world) until(ok func(*State) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.model.Wait(ctx, ok); err != nil {
		s := w.model.Snapshot()
		for name, u := range s.Units {
			w.t.Logf("%s: agent %+v failed %+v running %+v lost %v next %v", name, u.Agent, u.Failed, u.Uniter.Running, u.Lost, s.NextHooks(name, "boot0", w.clock.Now()))
		}
		require.NoError(w.t, err, "the model did not become as it should")
	}
}

// took returns what the charms have been told since the last call.
func (w *world) took() map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ran := w.ran
	w.ran = map[string][]string{}
	return ran
}

// exec runs a script of hook tools on a unit as `juju exec` does, and returns its task when it has ended.
func (w *world) exec(unit, script string) *Task {
	w.t.Helper()
	var id int
	w.update(func(s *State, now time.Time) error {
		op, err := s.EnqueueExec(script, time.Minute, []string{unit}, nil, nil, false, "", now)
		if err != nil {
			return err
		}
		id = op.Tasks[0]
		return nil
	})
	w.until(func(s *State) bool { return s.Tasks[id].Status.Final() })
	return w.model.Snapshot().Tasks[id]
}

// run asks for an action and returns its task id without waiting.
func (w *world) run(unit, action string, params map[string]any) int {
	w.t.Helper()
	var id int
	w.update(func(s *State, now time.Time) error {
		op, err := s.EnqueueAction(ActionRequest{Receivers: []string{unit}, Action: action, Params: params}, now)
		if err != nil {
			return err
		}
		id = op.Tasks[0]
		return nil
	})
	return id
}

func (w *world) finished(id int) *Task {
	w.t.Helper()
	w.until(func(s *State) bool { return s.Tasks[id].Status.Final() })
	return w.model.Snapshot().Tasks[id]
}

// hold makes the next dispatches of what on unit wait until release is called.
func (w *world) hold(unit, what string) (begun <-chan struct{}, release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate, at := make(chan struct{}), make(chan struct{}, 16)
	w.gates[unit+" "+what] = gate
	w.gates[unit+" "+what+" begun"] = at
	return at, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gates, unit+" "+what)
		close(gate)
	}
}

type fakeHost struct {
	w       *world
	machine string
}

func (h *fakeHost) Paths(unit string) Paths { return DefaultPaths(unit) }

func (h *fakeHost) BootID(context.Context) (string, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return fmt.Sprint("boot", h.w.boots[h.machine]), nil
}

func (h *fakeHost) InstallCharm(context.Context, string, *Charm) error { return nil }

func (h *fakeHost) Listen(context.Context, string, string) (net.Listener, error) { return nil, nil }

func (h *fakeHost) Reboot(context.Context) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.reboot[h.machine] = true
	return nil
}

func (h *fakeHost) AttachStorage(_ context.Context, _ string, st Storage) (string, error) {
	return st.Location, nil
}
func (h *fakeHost) DetachStorage(context.Context, string, Storage) error { return nil }

func (h *fakeHost) FetchResource(_ context.Context, _ string, r Resource) (string, error) {
	return "/resources/" + r.Name, nil
}
func (h *fakeHost) RemoveUnit(context.Context, string) error { return nil }

// told are the variables by which a dispatch is recorded, as the transcript's charms did.
var told = []string{"JUJU_RELATION", "JUJU_RELATION_ID", "JUJU_REMOTE_APP", "JUJU_REMOTE_UNIT", "JUJU_DEPARTING_UNIT", "JUJU_SECRET_ID",
	"JUJU_SECRET_LABEL", "JUJU_SECRET_REVISION", "JUJU_STORAGE_ID", "JUJU_STORAGE_KIND", "JUJU_STORAGE_LOCATION"}

func (h *fakeHost) Dispatch(ctx context.Context, spec DispatchSpec) Exit {
	sc := &script{ctx: ctx, c: spec.Context, spec: spec, env: map[string]string{}}
	for _, line := range spec.Env {
		name, value, _ := strings.Cut(line, "=")
		sc.env[name] = value
	}
	sc.event = strings.TrimPrefix(sc.env["JUJU_DISPATCH_PATH"], "hooks/")
	if spec.Kind == RunAction {
		sc.event = "action:" + sc.env["JUJU_ACTION_NAME"]
	}
	if spec.Kind != RunExec {
		line := sc.event
		for _, name := range told {
			if value, ok := sc.env[name]; ok {
				line += " " + name + "=" + value
			}
		}
		h.w.mu.Lock()
		h.w.ran[spec.Unit] = append(h.w.ran[spec.Unit], line)
		h.w.envs[spec.Unit+" "+sc.event] = spec.Env
		gate, begun := h.w.gates[spec.Unit+" "+sc.event], h.w.gates[spec.Unit+" "+sc.event+" begun"]
		h.w.mu.Unlock()
		if gate != nil {
			begun <- struct{}{}
			select {
			case <-gate:
			case <-ctx.Done():
				return Exit{Code: -1, Signal: "terminated"}
			}
		}
	}
	return sc.run(h.w.charms)
}

// A script is one run of a charm's code.
type script struct {
	ctx            context.Context
	c              *Context
	spec           DispatchSpec
	env            map[string]string
	event          string
	stdout, stderr strings.Builder
	code           int
}

var errExit = errors.New("exit")

func (sc *script) run(charms map[string]func(*script)) (exit Exit) {
	defer func() {
		if r := recover(); r != nil && r != errExit {
			panic(r)
		}
		exit = Exit{Code: sc.code, Stdout: []byte(sc.stdout.String()), Stderr: []byte(sc.stderr.String())}
		if errors.Is(context.Cause(sc.ctx), ErrKillHook) {
			exit = Exit{Code: -1, Signal: "killed"}
		}
	}()
	if sc.spec.Kind == RunExec {
		for _, cmd := range strings.Split(sc.spec.Script, ";") {
			words := strings.Fields(cmd)
			switch {
			case len(words) == 0:
			case words[0] == "exit":
				sc.exit(len(words[1]))
			default:
				stdout, stderr, code := sc.c.Run(words[0], words[1:], nil)
				sc.stdout.Write(stdout)
				sc.stderr.Write(stderr)
				fmt.Fprintf(&sc.stdout, "rc=%d\n", code)
			}
		}
		return
	}
	app, _, _ := strings.Cut(sc.spec.Unit, "/")
	if code := charms[app]; code != nil {
		code(sc)
	}
	return
}

// tool calls a hook tool and returns what it printed, without the last newline.
func (sc *script) tool(name string, args ...string) string {
	stdout, stderr, _ := sc.c.Run(name, args, nil)
	sc.stderr.Write(stderr)
	return strings.TrimSuffix(string(stdout), "\n")
}

func (sc *script) exit(code int) {
	sc.code = code
	panic(errExit)
}
