package soak

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"certlab/tests/lab"
)

// faultKinds is what is done to the lab. Each returns what it did, or "" when there was nothing to do it to.
var faultKinds = map[string]func(*Soak, context.Context, Event) (string, error){
	"kill-certlabd": kill(lab.Certlabd), "kill-pebble": kill(lab.Pebble), "kill-agent": kill(lab.Agent),
	"kill-keeper": killUnderJob(lab.Keeper), "kill-checkbox": killUnderJob(lab.Checkbox),
	"kill-hook": (*Soak).killHook, "kill-action": (*Soak).killAction,
	"power-cut": (*Soak).powerCut, "power-off": (*Soak).powerCut, "controller-cut": (*Soak).powerCut, "controller-off": (*Soak).powerCut,
	"reboot": (*Soak).reboot, "rack-cut": (*Soak).rackCut,
	"freeze-certlabd": freeze(lab.Certlabd), "freeze-agent": freeze(lab.Agent),
	"config": (*Soak).config, "refresh": (*Soak).refresh, "relation": (*Soak).removeRelation, "disk-low": (*Soak).diskLow,
	"backup": (*Soak).backup, "rotate-ca": (*Soak).rotateCA,
}

// inject does one fault and takes down what came of it.
func (s *Soak) inject(ctx context.Context, e Event, do func(*Soak, context.Context, Event) (string, error)) {
	did, err := do(s, ctx, e)
	s.ledger.note(e.Kind, did != "")
	switch {
	case err != nil:
		s.logf("%s: %s: %v", e, did, err)
	case did == "":
		s.logf("%s: there was nothing to do it to", e)
	default:
		s.logf("%s: %s", e, did)
	}
}

// kill kills a machine's process of a role.
func kill(role lab.Role) func(*Soak, context.Context, Event) (string, error) {
	return func(s *Soak, _ context.Context, e Event) (string, error) {
		ps, err := s.lab.Processes()
		if err != nil {
			return "", err
		}
		for _, p := range ps.Of(e.Machine, role) {
			if p.Signal(unix.SIGKILL) {
				return "killed " + p.String(), nil
			}
		}
		return "", nil
	}
}

// jobOf says which job of a run a process of role Job is, by its plan.
func (s *Soak) jobOf(run string) string {
	job := ""
	s.ledger.with(func() {
		for _, r := range s.ledger.requests {
			if r.ID == run {
				job = map[string]string{namespace + "demo-slow": namespace + "slow", namespace + "demo-blocker": namespace + "blocker"}[r.Plan]
			}
		}
	})
	return job
}

// holdJobs stops the jobs that are in progress on a machine, so that what is killed next is killed in their middle for certain: a job that
// stands still does not end.
func (s *Soak) holdJobs(ps lab.Processes, e Event) (held []Cut) {
	for _, p := range ps.Of(e.Machine, lab.Job) {
		run := p.Environment("CERTLAB_RUN")
		if !p.Signal(unix.SIGSTOP) {
			continue
		}
		stopped := false
		for range 100 {
			now, ok := p.Now()
			if stopped = ok && now.State == "T"; stopped || !ok {
				break
			}
			time.Sleep(time.Millisecond) // until the kernel has done it
		}
		if job := s.jobOf(run); stopped && job != "" {
			held = append(held, Cut{Run: run, Job: job, At: s.now(), By: e.Kind})
		}
	}
	return held
}

func (s *Soak) cut(cuts []Cut) string {
	s.ledger.with(func() { s.ledger.cuts = append(s.ledger.cuts, cuts...) })
	if len(cuts) == 0 {
		return ""
	}
	return fmt.Sprintf(" in the middle of %s of run %s", cuts[0].Job, cuts[0].Run)
}

// find waits for a process of a role, on the event's machine or rather on another one than nowhere.
func (s *Soak) find(ctx context.Context, e Event, role lab.Role) (lab.Processes, lab.Process, bool) {
	ctx, cancel := context.WithTimeout(ctx, s.Profile.Patience)
	defer cancel()
	for {
		ps, err := s.lab.Processes()
		if err == nil {
			for _, machine := range append([]string{e.Machine}, ps.Numbers()...) {
				if found := ps.Of(machine, role); len(found) > 0 {
					return ps, found[0], true
				}
			}
		}
		if !wait(ctx, time.Now().Add(250*time.Millisecond)) {
			return ps, lab.Process{}, false
		}
	}
}

// killUnderJob kills a process that a job depends on.
func killUnderJob(role lab.Role) func(*Soak, context.Context, Event) (string, error) {
	return func(s *Soak, ctx context.Context, e Event) (string, error) {
		sought := role
		if e.Number%2 == 0 {
			sought = lab.Job
		}
		ps, found, ok := s.find(ctx, e, sought)
		if !ok {
			return "", nil
		}
		e.Machine = found.Machine
		for _, p := range ps.Of(e.Machine, role) {
			cuts := s.holdJobs(ps, e)
			if p.Signal(unix.SIGKILL) {
				return "killed " + p.String() + s.cut(cuts), nil
			}
		}
		return "", nil
	}
}

// catchDispatch waits for a dispatch on the machine, lets it go on for a moment and kills it.
func (s *Soak) catchDispatch(ctx context.Context, e Event) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		ps, err := s.lab.Processes()
		if err != nil {
			return ""
		}
		for _, p := range ps.Of(e.Machine, lab.Dispatch) {
			wait(ctx, time.Now().Add(e.For))
			hook := p.Environment("JUJU_DISPATCH_PATH")
			if p.Signal(unix.SIGKILL) {
				return fmt.Sprintf("killed dispatch of %s after %d ms", hook, e.For.Milliseconds())
			}
		}
		wait(ctx, time.Now().Add(10*time.Millisecond))
	}
	return ""
}

// killHook changes an option and kills the hook that comes of it.
func (s *Soak) killHook(ctx context.Context, e Event) (string, error) {
	if _, err := s.config(ctx, e); err != nil {
		return "", err
	}
	return s.catchDispatch(ctx, e), nil
}

// killAction asks a unit for something and kills the action.
func (s *Soak) killAction(ctx context.Context, e Event) (string, error) {
	go func() { // nobody waits for an action that is killed
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_, _ = s.lab.Action(ctx, "20s", e.unit(), "list-suites")
	}()
	return s.catchDispatch(ctx, e), nil
}

// again repeats what has to come about, such as a machine being switched on, also when the whole lab is down meanwhile.
func (s *Soak) again(ctx context.Context, args ...string) error {
	for {
		one, cancel := context.WithTimeout(ctx, 2*time.Minute)
		_, err := s.lab.Must(one, args...)
		cancel()
		if err == nil {
			return nil
		}
		if !wait(ctx, time.Now().Add(time.Second)) {
			return err
		}
	}
}

// powerCut cuts a machine's power, in the middle of a job if there is one, and switches it on again after the event's time.
func (s *Soak) powerCut(ctx context.Context, e Event) (string, error) {
	if e.Machine != "0" && e.Number%2 == 0 {
		if _, p, ok := s.find(ctx, e, lab.Job); ok {
			e.Machine = p.Machine
		}
	}
	s.power[e.Machine].Lock()
	defer s.power[e.Machine].Unlock()
	ps, err := s.lab.Processes()
	if err != nil || len(ps.Of(e.Machine, lab.Init)) == 0 {
		return "", err
	}
	cuts := s.holdJobs(ps, e)
	if err := s.again(ctx, "lab", "kill", e.Machine); err != nil {
		return "", err
	}
	did := "cut" + s.cut(cuts)
	s.logf("%s: %s", e, did)
	wait(ctx, time.Now().Add(e.For))
	return did + ", and switched on again", s.again(ctx, "lab", "on", e.Machine)
}

func (s *Soak) reboot(ctx context.Context, e Event) (string, error) {
	s.power[e.Machine].Lock()
	defer s.power[e.Machine].Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := s.lab.Must(ctx, "lab", "reboot", e.Machine)
	if err != nil {
		return "", err
	}
	return "rebooted", nil
}

// rackCut kills the lab's own process: all machines lose their power, and Juju its controller.
func (s *Soak) rackCut(ctx context.Context, e Event) (string, error) {
	for n := range s.Profile.Machines + 1 {
		s.power[fmt.Sprint(n)].Lock()
		defer s.power[fmt.Sprint(n)].Unlock()
	}
	ps, err := s.lab.Processes()
	if err != nil || ps.Daemon.PID == 0 {
		return "", err
	}
	var cuts []Cut
	for _, machine := range ps.Numbers() {
		e.Machine = machine
		cuts = append(cuts, s.holdJobs(ps, e)...)
	}
	if !ps.Daemon.Signal(unix.SIGKILL) {
		return "", nil
	}
	return "everything was cut" + s.cut(cuts), s.again(ctx, "lab", "up", "--wait", "0s")
}

// freeze stops a process for the event's time, as a machine does that swaps or a network that is away.
func freeze(role lab.Role) func(*Soak, context.Context, Event) (string, error) {
	return func(s *Soak, ctx context.Context, e Event) (string, error) {
		ps, err := s.lab.Processes()
		if err != nil {
			return "", err
		}
		for _, p := range ps.Of(e.Machine, role) {
			if p.Signal(unix.SIGSTOP) {
				wait(ctx, time.Now().Add(e.For))
				p.Signal(unix.SIGCONT)
				return "froze " + p.String(), nil
			}
		}
		return "", nil
	}
}

// juju runs a command of Juju's that may fail while the lab is down.
func (s *Soak) juju(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := s.lab.Juju(ctx, args...)
	return err
}

// config changes an option that changes what the services are told.
func (s *Soak) config(ctx context.Context, e Event) (string, error) {
	app, setting := "checkbox", fmt.Sprintf("environment=SOAK_EVENT=%d", e.N)
	if e.Machine == "0" {
		app, setting = "cert-controller", "site-name=lab after event "+fmt.Sprint(e.N)
	} else if e.Number%3 == 0 {
		setting = fmt.Sprintf("silence-timeout=%d", 100+e.N)
	}
	if err := s.juju(ctx, "config", app, setting); err != nil {
		return "", err
	}
	return "set " + app + " " + setting, nil
}

func (s *Soak) refresh(ctx context.Context, e Event) (string, error) {
	app := "checkbox"
	if e.Machine == "0" {
		app = "cert-controller"
	}
	s.limits.Lock() // one at a time
	var path string
	s.ledger.with(func() { path = s.charms[app][(1+s.ledger.done["refresh"])%2] })
	s.limits.Unlock()
	if err := s.juju(ctx, "refresh", app, "--path", path); err != nil {
		return "", err
	}
	return "refreshed " + app + " to " + strings.TrimSuffix(filepath.Base(path), ".charm"), nil
}

var relationEnds = []string{"cert-controller:cert-agents", "checkbox:cert-agents"}

// removeRelation takes the agents' access away, and gives it back.
func (s *Soak) removeRelation(ctx context.Context, e Event) (string, error) {
	s.relation.Lock()
	defer s.relation.Unlock()
	if err := s.juju(ctx, append([]string{"remove-relation"}, relationEnds...)...); err != nil {
		return "", err
	}
	wait(ctx, time.Now().Add(e.For))
	// It can be made anew only once the old one has gone, hooks and all.
	return "removed and made anew", s.again(ctx, append([]string{"juju", "integrate"}, relationEnds...)...)
}

// diskLow lets the controller believe that its disk is full, and then that it is not.
func (s *Soak) diskLow(ctx context.Context, e Event) (string, error) {
	s.limits.Lock()
	defer s.limits.Unlock()
	if err := s.juju(ctx, "config", "cert-controller", "min-free-space=1000000000"); err != nil {
		return "", err
	}
	wait(ctx, time.Now().Add(e.For))
	return "too little free space, and enough again", s.again(ctx, "juju", "config", "cert-controller", "min-free-space=1")
}

func (s *Soak) backup(ctx context.Context, e Event) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	path := fmt.Sprintf("/srv/certlab/backups/soak-%d.tar", e.N)
	k, err := s.lab.Action(ctx, "2m", controllerUnit, "backup", "path="+path)
	if err == nil && k.Status != "completed" {
		err = fmt.Errorf("no backup: %s %s", k.Status, k.Message)
	}
	if err != nil {
		return "", err
	}
	s.ledger.with(func() {
		s.ledger.copies = append(s.ledger.copies, Copy{Path: k.Text("path"), SHA256: k.Text("sha256")})
	})
	return "made " + path, nil
}

// rotateCA has the controller make a new certificate authority, as root on its machine.
func (s *Soak) rotateCA(ctx context.Context, e Event) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ps, err := s.lab.Processes()
	socket := ps.Path("0", "/var/lib/certlab/unit-cert-controller-0/service/certlabd.sock")
	if err != nil || socket == "" {
		return "", err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://certlabd/api/v1/admin/rotate-ca", nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("no rotation: %s", resp.Status)
	}
	return "rotated", nil
}
