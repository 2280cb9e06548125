package locallab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/juju"
	"certlab/internal/juju/cli"
)

// A Call is what a person's program asks of the lab's process. Three files come along: standard input, output and error.
type Call struct {
	Op       string        `json:"op"`
	Args     []string      `json:"args,omitempty"`
	Dir      string        `json:"dir,omitempty"`
	Target   string        `json:"target,omitempty"` // machine or unit
	Terminal bool          `json:"terminal,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
	Zone     string        `json:"zone,omitempty"` // of the caller's clock, as TZ has it
	Rows     uint16        `json:"rows,omitempty"`
	Columns  uint16        `json:"columns,omitempty"`
	Term     string        `json:"term,omitempty"`
}

// An Answer ends a call. A shell has one more before, with Terminal set and the terminal as its file.
type Answer struct {
	Code     int    `json:"code"`
	Error    string `json:"error,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
}

// maxCalls bounds how many calls are served at once.
const maxCalls = 128

// Serve runs the lab and answers calls until ctx ends or a call asks for the end. ready is called once calls are answered.
func (l *Lab) Serve(ctx context.Context, ready func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := l.dropUnused(); err != nil {
		return fmt.Errorf("cannot tidy the lab's directory: %w", err)
	}
	listener, err := listenIn(l.dir, "lab.sock")
	if err != nil {
		return fmt.Errorf("cannot listen for calls: %w", err)
	}
	defer os.Remove(l.path("lab.sock"))
	defer listener.Close()
	context.AfterFunc(ctx, func() { listener.Close() })
	calls, cancelCalls := context.WithCancel(context.Background())
	defer cancelCalls()
	var wait sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		slots := make(chan struct{}, maxCalls)
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			select {
			case slots <- struct{}{}:
			default:
				conn.Close()
				continue
			}
			wait.Go(func() {
				defer func() { <-slots }()
				l.serveCall(calls, &wire{conn: conn}, stop)
			})
		}
	}()
	ready()
	err = l.Run(ctx)
	listener.Close()
	<-accepting
	cancelCalls()
	wait.Wait()
	return err
}

// serveCall answers one call. The caller's going away cancels it.
func (l *Lab) serveCall(ctx context.Context, w *wire, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer w.close()
	var call Call
	_ = w.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	files, err := w.read(&call)
	defer closeAll(files)
	if err != nil || len(files) != 3 {
		return
	}
	_ = w.conn.SetReadDeadline(time.Time{})
	go func() {
		var nothing Call
		more, _ := w.read(&nothing) // nothing more is said: this ends when the caller does
		closeAll(more)
		cancel()
	}()
	op, ok := ops[call.Op]
	if !ok {
		_ = w.write(Answer{Code: 1, Error: fmt.Sprintf("the lab's process does not know %q: it is of another version (certlab lab down, then up)", call.Op)})
		return
	}
	answer := Answer{}
	answer.Code, err = op(ctx, &served{lab: l, wire: w, Call: call, in: files[0], out: files[1], err: files[2]})
	if err != nil {
		answer.Error = err.Error()
		answer.Code = max(answer.Code, 1)
	}
	_ = w.write(answer)
	if call.Op == "down" {
		stop()
	}
}

// A served call.
type served struct {
	Call
	lab          *Lab
	wire         *wire
	in, out, err *os.File
}

var ops = map[string]func(context.Context, *served) (int, error){
	"juju":    callJuju,
	"down":    func(context.Context, *served) (int, error) { return 0, nil },
	"ping":    func(context.Context, *served) (int, error) { return 0, nil },
	"settle":  callSettle,
	"has":     callHas,
	"status":  callStatus,
	"url":     callURL,
	"exec":    callExec,
	"shell":   callShell,
	"kill":    onMachine(func(_ context.Context, _ *served, t target) error { return t.cut() }),
	"on":      onMachine(func(ctx context.Context, _ *served, t target) error { return t.on(ctx) }),
	"reboot":  onMachine(func(ctx context.Context, _ *served, t target) error { return t.reboot(ctx) }),
	"freeze":  onMachine(func(ctx context.Context, _ *served, t target) error { return t.machine.Freeze(ctx) }),
	"thaw":    onMachine(func(_ context.Context, _ *served, t target) error { return t.machine.Thaw() }),
	"console": callConsole,
	"maas":    callMAAS,
	"fault":   callFault,
}

func onMachine(do func(context.Context, *served, target) error) func(context.Context, *served) (int, error) {
	return func(ctx context.Context, s *served) (int, error) {
		t, err := s.lab.target(s.Target)
		if err != nil {
			return 1, err
		}
		return 0, do(ctx, s, t)
	}
}

func callJuju(ctx context.Context, s *served) (int, error) {
	location, err := time.LoadLocation(s.Zone)
	if s.Zone == "" || err != nil {
		location = time.Local
	}
	env := cli.Env{Model: s.lab.model, Dir: s.Dir, Stdin: s.in, Stdout: s.out, Stderr: s.err, Terminal: s.Terminal, Location: location}
	return cli.Main(ctx, env, s.Args), nil
}

// callHas is 0 when the model has all applications that are named.
func callHas(_ context.Context, s *served) (int, error) {
	state := s.lab.model.Snapshot()
	for _, name := range s.Args {
		if state.Applications[name] == nil {
			return 1, nil
		}
	}
	return 0, nil
}

func callStatus(_ context.Context, s *served) (int, error) {
	state := s.lab.model.Snapshot()
	table := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tSTATE\tADDRESS\tHOSTNAME\tBOOT\tUNITS")
	for _, id := range sortedIDs(state.Machines) {
		power, boot := string(Off), ""
		if m, err := s.lab.sup.find(id); err == nil {
			power, boot = shownState(m.machine)
		}
		var units []string
		for _, u := range state.UnitsOn(id) {
			units = append(units, u.Name)
		}
		jm := state.Machines[id]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", id, power, jm.Address(), jm.Hostname, boot, strings.Join(units, " "))
	}
	if err := table.Flush(); err != nil || s.lab.maas == nil {
		return 0, err
	}
	return 0, s.lab.maas.status(s.out)
}

// shownState is a machine's state for people, and the id of its boot.
func shownState(m *Machine) (state, boot string) {
	power, boot := m.State()
	if m.Frozen() {
		return "frozen", boot
	}
	return string(power), boot
}

// callURL prints where the controller's service is, from the address and the options of its unit.
func callURL(_ context.Context, s *served) (int, error) {
	state := s.lab.model.Snapshot()
	for _, name := range sortedNames(state.Applications) {
		ch := state.CharmOf(name)
		if ch == nil || ch.Name != "cert-controller" {
			continue
		}
		settings := state.Settings(name)
		if url, _ := settings["external-url"].(string); url != "" {
			fmt.Fprintln(s.out, url)
			return 0, nil
		}
		for _, u := range state.UnitsOf(name) {
			if m := state.Machines[u.Machine]; m != nil && m.Address() != "" {
				fmt.Fprintf(s.out, "https://%s\n", net.JoinHostPort(m.Address(), fmt.Sprint(settings["port"])))
				return 0, nil
			}
		}
	}
	return 1, errors.New("the lab has no unit of cert-controller (certlab lab up BUNDLE)")
}

func callExec(ctx context.Context, s *served) (int, error) {
	m, err := s.lab.target(s.Target)
	if err != nil {
		return 1, err
	}
	status, err := m.machine.Exec(ctx, ExecSpec{Argv: s.Args, Dir: "/root", Stdin: s.in, Stdout: s.out, Stderr: s.err})
	return exitCode(status), err
}

// exitCode is a program's exit status as a shell has it.
func exitCode(status ExitStatus) int {
	if status.Signal != 0 {
		return 128 + int(status.Signal)
	}
	return status.Code
}

func callShell(ctx context.Context, s *served) (int, error) {
	m, err := s.lab.target(s.Target)
	if err != nil {
		return 1, err
	}
	env := append(RootEnv(), "TERM="+s.Term)
	terminal, wait, err := m.machine.Terminal(ctx, ExecSpec{Argv: []string{"/bin/bash", "-l"}, Env: lastWins(env), Dir: "/root"})
	if err != nil {
		return 1, err
	}
	defer terminal.Close()
	if s.Rows > 0 {
		_ = unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Columns})
	}
	if err := s.wire.write(Answer{Terminal: true}, terminal); err != nil {
		return 1, err
	}
	status, err := wait()
	return exitCode(status), err
}

// Times of waiting for the model to settle.
const (
	settledFor = 1500 * time.Millisecond // how long nothing may be left to do
	stuckFor   = 20 * time.Second        // how long nothing may change while a unit waits for a person
)

// callSettle waits until every unit is active and idle, and tells of what changes meanwhile.
func callSettle(ctx context.Context, s *served) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	told := map[string]string{}
	last := time.Now()
	var quiet time.Time
	for {
		changed := s.lab.model.Changed()
		state := s.lab.model.Snapshot()
		if tellUnits(s.out, state, told) {
			last = time.Now()
		}
		waiting, stuck := unsettled(state)
		now := time.Now()
		next := 250 * time.Millisecond
		switch {
		case waiting != "":
			quiet = time.Time{}
			if stuck && now.Sub(last) > stuckFor {
				return 1, fmt.Errorf("the lab does not get further: %s", waiting)
			}
		case quiet.IsZero():
			quiet = now
		case now.Sub(quiet) >= settledFor:
			return 0, nil
		}
		select {
		case <-ctx.Done():
			if waiting == "" {
				waiting = "it never was quiet"
			}
			return 1, fmt.Errorf("the lab has not settled within %s: %s", s.Timeout, waiting)
		case <-changed:
		case <-time.After(next):
		}
	}
}

// tellUnits prints a line for each unit whose status is not what was told last.
func tellUnits(out io.Writer, state *juju.State, told map[string]string) bool {
	news := false
	for _, name := range sortedNames(state.Units) {
		u := state.Units[name]
		status := u.WorkloadStatus()
		line := strings.TrimSpace(fmt.Sprintf("%-12s %s", status.Status, status.Message))
		if told[name] == line {
			continue
		}
		told[name] = line
		news = true
		fmt.Fprintf(out, "%s  %-20s %s\n", time.Now().Format("15:04:05"), name, line)
	}
	return news
}

// unsettled says what is still to be waited for; stuck, if a person would have to do it.
func unsettled(state *juju.State) (what string, stuck bool) {
	for _, id := range sortedIDs(state.Machines) {
		m := state.Machines[id]
		if m.Instance.Status == "provisioning error" {
			return fmt.Sprintf("machine %s: %s", id, m.Instance.Message), true
		}
		if m.Agent.Status != "started" {
			return fmt.Sprintf("machine %s is %s", id, m.Agent.Status), false
		}
	}
	for _, name := range sortedNames(state.Units) {
		u := state.Units[name]
		agent, workload := u.AgentStatus(), u.WorkloadStatus()
		if agent.Status != "idle" {
			return fmt.Sprintf("%s: agent is %s %s", name, agent.Status, agent.Message), false
		}
		switch workload.Status {
		case "active", "unknown":
		case "blocked", "error":
			return fmt.Sprintf("%s is %s: %s", name, workload.Status, workload.Message), true
		default:
			return fmt.Sprintf("%s is %s: %s", name, workload.Status, workload.Message), false
		}
	}
	for _, r := range state.Relations {
		for _, e := range r.Endpoints {
			for _, u := range state.UnitsOf(e.Application) {
				if ru := r.Units[u.Name]; r.Life == juju.Alive && (ru == nil || !ru.InScope) {
					return fmt.Sprintf("%s is not in relation %s yet", u.Name, r.Key()), false
				}
			}
		}
	}
	for _, app := range state.Applications {
		if app.Life != juju.Alive {
			return fmt.Sprintf("%s is being removed", app.Name), false
		}
	}
	return "", false
}

// daemonMain is the lab's process: args are the lab's directory, the Checkbox of its machines and the number of nodes. Descriptor 3 is told how it went.
func daemonMain(args []string) int {
	report := os.NewFile(3, "report")
	fail := func(err error) int {
		if report != nil {
			fmt.Fprintln(report, err)
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(args) != 3 {
		return fail(errNotFirst)
	}
	nodes, err := strconv.Atoi(args[2])
	if err != nil {
		return fail(errNotFirst)
	}
	unix.CloseOnExec(3)
	unix.Umask(0o022)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	lab, err := OpenLab(args[0], Options{Checkbox: args[1], Nodes: nodes}, log)
	if err != nil {
		return fail(err)
	}
	// It is not closed: the lock that says that the lab runs is given free by the end of the process, and not before.
	err = lab.Serve(ctx, func() {
		if report != nil {
			fmt.Fprintln(report, "ready")
			report.Close()
		}
	})
	if err != nil {
		return fail(err)
	}
	return 0
}

// listenIn makes a socket in a directory whose path may be longer than a socket's may.
func listenIn(dir, name string) (*net.UnixListener, error) {
	handle, short, err := shortPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	return listener, os.Chmod(filepath.Join(dir, name), 0o600)
}

// shortPath names a file in a directory through an open descriptor of the directory.
func shortPath(dir, name string) (*os.File, string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), fmt.Sprintf("/proc/self/fd/%d/%s", fd, name), nil
}
