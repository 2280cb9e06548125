package locallab

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Active states of a unit, as systemctl names them.
const (
	stateInactive     = "inactive"
	stateActivating   = "activating"
	stateActive       = "active"
	stateDeactivating = "deactivating"
	stateFailed       = "failed"
)

// maxUnitLog bounds what is kept of a unit's output, in bytes: when a start finds more, the file becomes the old one, of which there is one.
const maxUnitLog = 8 << 20

// A service is a unit that was started at least once since the machine booted.
type service struct {
	m    *manager
	name string

	op sync.Mutex // held over a start or a stop

	mu         sync.Mutex // guards what follows
	file       *unitFile
	state      string
	sub        string
	main       *child
	running    *child // of an ExecStartPre= or an ExecStart= of a oneshot
	since      time.Time
	result     string
	code       int
	signal     syscall.Signal
	restarts   int
	invocation string
	starts     []time.Time
	stopping   bool
	timer      *time.Timer
	changed    chan struct{} // closed and replaced at each change of state
}

func newService(m *manager, file *unitFile) *service {
	return &service{m: m, name: file.name, file: file, state: stateInactive, sub: "dead", result: "success", changed: make(chan struct{})}
}

// set changes the state; s.mu is held.
func (s *service) set(state, sub string) {
	if s.state != state {
		s.since = time.Now()
	}
	s.state, s.sub = state, sub
	close(s.changed)
	s.changed = make(chan struct{})
}

// errJob is what a start returns when the service itself did not come up.
var errJob = errors.New("the control process exited with error code")

// start starts the service and returns when its Type= says that it is started. It does nothing when it is.
func (s *service) start() error {
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	s.cancelTimer()
	if s.state == stateActive || s.state == stateActivating && s.main != nil {
		s.mu.Unlock()
		return nil
	}
	file := s.file
	now := time.Now()
	recent := s.starts[:0]
	for _, t := range s.starts {
		if now.Sub(t) < file.limitInterval {
			recent = append(recent, t)
		}
	}
	s.starts = recent
	if file.limitBurst > 0 && file.limitInterval > 0 && len(s.starts) >= file.limitBurst {
		s.result = "start-limit-hit"
		s.set(stateFailed, "failed")
		s.mu.Unlock()
		s.m.logf("%s: Start request repeated too quickly.", s.name)
		return errors.New("start of the service was attempted too often")
	}
	s.starts = append(s.starts, now)
	s.stopping = false
	s.result, s.code, s.signal = "success", 0, 0
	s.invocation = newInvocation()
	s.set(stateActivating, "start")
	s.mu.Unlock()
	return s.bringUp(file)
}

func (s *service) bringUp(file *unitFile) error {
	if err := s.makeDirs(file); err != nil {
		return s.failStart(file, "resources", 0, 0, err)
	}
	for _, line := range file.startPre {
		if err := s.runLine(file, line, file.startTimeout); err != nil {
			return s.failStart(file, "exit-code", s.code, s.signal, err)
		}
	}
	if file.kind == "oneshot" {
		for _, line := range file.start {
			if err := s.runLine(file, line, file.startTimeout); err != nil {
				return s.failStart(file, s.result, s.code, s.signal, err)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if file.remain {
			s.set(stateActive, "exited")
		} else {
			s.set(stateInactive, "dead")
		}
		return nil
	}
	main, err := s.spawn(file, file.start[0])
	if err != nil {
		s.m.logf("%s: cannot start: %v", s.name, err)
		err = s.failStart(file, "exit-code", 203, 0, err)
		if file.kind == "simple" || file.kind == "idle" {
			return nil // systemd has said yes before it knows
		}
		return err
	}
	s.mu.Lock()
	s.main = main
	s.set(stateActive, "running")
	s.mu.Unlock()
	go s.watch(main)
	for _, line := range file.startPost {
		if err := s.runLine(file, line, file.startTimeout); err != nil {
			s.m.logf("%s: ExecStartPost: %v", s.name, err)
		}
	}
	return nil
}

// failStart records that a start came to nothing, and starts again later if the unit's policy is to.
func (s *service) failStart(file *unitFile, result string, code int, signal syscall.Signal, err error) error {
	s.mu.Lock()
	if result == "success" || result == "" {
		result = "exit-code"
	}
	s.result, s.code, s.signal = result, code, signal
	stopping := s.stopping
	s.set(stateFailed, "failed")
	if !stopping && file.restart != "no" && file.restart != "on-success" && file.restart != "on-abort" {
		s.restartLater(file)
	}
	s.mu.Unlock()
	s.m.logf("%s: start failed: %v", s.name, err)
	return errJob
}

// watch waits for the end of the main process.
func (s *service) watch(main *child) {
	<-main.done
	s.mu.Lock()
	if s.main != main {
		s.mu.Unlock()
		return
	}
	s.main = nil
	file := s.file
	clean := s.record(file, main.status)
	stopping := s.stopping
	invocation := s.invocation
	s.mu.Unlock()
	s.m.logf("%s: main process exited, %s", s.name, describe(main.status))
	if stopping {
		return // stop takes it from here
	}
	if file.killMode == "control-group" || file.killMode == "mixed" {
		s.m.killAll(main.pid, invocation, syscall.SIGKILL)
	}
	for _, line := range file.stopPost {
		_ = s.runLine(file, line, file.stopTimeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.main != nil || s.stopping {
		return
	}
	if clean {
		s.set(stateInactive, "dead")
	} else {
		s.set(stateFailed, "failed")
	}
	if s.wantsRestart(file, clean) {
		s.restartLater(file)
	}
}

// record notes how the main process ended and reports whether that counts as clean; s.mu is held.
func (s *service) record(file *unitFile, status syscall.WaitStatus) (clean bool) {
	s.code, s.signal = 0, 0
	switch {
	case status.Exited():
		s.code = status.ExitStatus()
		clean = file.goodCodes[s.code]
		s.result = "exit-code"
	case status.Signaled():
		s.signal = status.Signal()
		clean = file.goodSignals[s.signal]
		s.result = "signal"
		if status.CoreDump() {
			s.result = "core-dump"
		}
	}
	if clean {
		s.result = "success"
	}
	return clean
}

// wantsRestart is the table of systemd.service(5), Restart=, but for what RestartPreventExitStatus= says; s.mu is held.
func (s *service) wantsRestart(file *unitFile, clean bool) bool {
	if s.signal == 0 && file.finalCodes[s.code] || s.signal != 0 && file.finalSignals[s.signal] {
		return false
	}
	switch file.restart {
	case "always":
		return true
	case "on-success":
		return clean
	case "on-failure":
		return !clean
	case "on-abnormal", "on-abort":
		return !clean && s.signal != 0
	}
	return false
}

// restartLater starts the service after its RestartSec=; s.mu is held.
func (s *service) restartLater(file *unitFile) {
	s.set(stateActivating, "auto-restart")
	s.cancelTimer()
	s.timer = time.AfterFunc(file.restartDelay, s.restartNow)
}

func (s *service) restartNow() {
	if s.m.isEnding() {
		return
	}
	fresh, err := loadUnit(s.name)
	reload := s.m.reloaded(s) && err == nil
	s.mu.Lock()
	due := s.state == stateActivating && s.sub == "auto-restart" && !s.stopping
	if due {
		s.restarts++
		if reload {
			s.file = fresh
		}
	}
	s.mu.Unlock()
	if due {
		_ = s.start()
	}
}

func (s *service) cancelTimer() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// stop ends the service as its KillMode= says, and returns when its processes are gone or TimeoutStopSec= is over.
func (s *service) stop(limit time.Duration) error {
	s.mu.Lock()
	s.cancelTimer()
	s.stopping = true
	if s.running != nil {
		_ = s.m.r.signal(s.running, syscall.SIGTERM, true)
	}
	s.mu.Unlock()
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	s.cancelTimer()
	s.stopping = true
	file, main, invocation := s.file, s.main, s.invocation
	if main == nil && s.state != stateActive {
		if s.state == stateActivating {
			s.set(stateInactive, "dead")
		}
		s.mu.Unlock()
		return nil
	}
	s.set(stateDeactivating, "stop")
	s.mu.Unlock()
	timeout := file.stopTimeout
	if timeout == 0 || limit > 0 && limit < timeout {
		timeout = max(limit, 0)
	}
	for _, line := range file.stop {
		if err := s.runLine(file, line, timeout); err != nil && !line.ignore {
			s.m.logf("%s: ExecStop: %v", s.name, err)
		}
	}
	timedOut := s.endProcesses(file, main, invocation, timeout)
	for _, line := range file.stopPost {
		_ = s.runLine(file, line, timeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clean := true
	if main != nil {
		s.main = nil
		clean = s.record(file, main.status)
	}
	switch {
	case timedOut:
		s.result = "timeout"
		s.set(stateFailed, "failed")
	case clean:
		s.set(stateInactive, "dead")
	default:
		s.set(stateFailed, "failed")
	}
	return nil
}

// endProcesses reports whether the main process had to be killed. A timeout of 0 waits for ever.
func (s *service) endProcesses(file *unitFile, main *child, invocation string, timeout time.Duration) (timedOut bool) {
	pid := 0
	if main != nil {
		pid = main.pid
	}
	all := file.killMode == "control-group" || file.killMode == "mixed"
	if file.killMode == "control-group" {
		s.m.killAll(pid, invocation, file.killSignal)
	}
	if main != nil && file.killMode != "none" {
		if file.killMode != "control-group" {
			_ = s.m.r.signal(main, file.killSignal, false)
		}
		_ = s.m.r.signal(main, syscall.SIGCONT, false)
		var deadline <-chan time.Time
		if timeout > 0 {
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			deadline = timer.C
		}
		select {
		case <-main.done:
		case <-deadline:
			s.m.logf("%s: stop timed out; killing", s.name)
			timedOut = true
			_ = s.m.r.signal(main, syscall.SIGKILL, false)
			<-main.done
		}
	}
	if all {
		s.m.killAll(pid, invocation, syscall.SIGKILL)
	}
	return timedOut
}

// kill sends a signal to the main process, or to all.
func (s *service) kill(sig syscall.Signal, whom string) error {
	s.mu.Lock()
	main, invocation := s.main, s.invocation
	s.mu.Unlock()
	if whom == "all" || whom == "" {
		pid := 0
		if main != nil {
			pid = main.pid
		}
		if s.m.killAll(pid, invocation, sig) > 0 {
			return nil
		}
	} else if main != nil {
		return s.m.r.signal(main, sig, false)
	}
	return errors.New("no process to send the signal to")
}

// reload runs ExecReload=.
func (s *service) reload() error {
	s.mu.Lock()
	file, state := s.file, s.state
	s.mu.Unlock()
	if state != stateActive {
		return fmt.Errorf("unit %s is not active", s.name)
	}
	if len(file.reload) == 0 {
		return fmt.Errorf("job type reload is not applicable for unit %s", s.name)
	}
	for _, line := range file.reload {
		if err := s.runLine(file, line, file.startTimeout); err != nil {
			return err
		}
	}
	return nil
}

// runLine runs a command that is to end by itself; a timeout of 0 waits for ever.
func (s *service) runLine(file *unitFile, line execLine, timeout time.Duration) error {
	c, err := s.spawn(file, line)
	if err != nil {
		if line.ignore {
			return nil
		}
		s.mu.Lock()
		s.code, s.result = 203, "exit-code"
		s.mu.Unlock()
		return err
	}
	s.mu.Lock()
	s.running = c
	if s.stopping && s.state == stateActivating {
		_ = s.m.r.signal(c, syscall.SIGTERM, true)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running = nil
		s.mu.Unlock()
	}()
	var deadline <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		deadline = timer.C
	}
	timedOut := false
	select {
	case <-c.done:
	case <-deadline:
		timedOut = true
		_ = s.m.r.signal(c, syscall.SIGKILL, true)
		<-c.done
	}
	if c.status.Exited() && file.goodCodes[c.status.ExitStatus()] || line.ignore {
		return nil
	}
	s.mu.Lock()
	s.record(file, c.status)
	if timedOut {
		s.result = "timeout"
	}
	s.mu.Unlock()
	return fmt.Errorf("%s: %s", line.argv[0], describe(c.status))
}

func (s *service) spawn(file *unitFile, line execLine) (*child, error) {
	env, err := s.environment(file)
	if err != nil {
		return nil, err
	}
	argv := line.argv
	if !line.plain {
		argv = append(argv[:1:1], expandVariables(argv[1:], env)...)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return nil, err
	}
	defer null.Close()
	output, err := s.output(file)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	dir := file.dir
	if rest, ok := strings.CutPrefix(dir, "-"); ok {
		dir = rest
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			dir = "/"
		}
	}
	if dir == "~" {
		dir = "/root"
		if u, err := findUser(file.user); err == nil {
			dir = u.HomeDir
		}
	}
	return s.m.r.start(command{
		argv: argv, env: env, dir: dir, user: file.user, group: file.group, umask: file.umask, oom: file.oom,
		files: [3]uintptr{null.Fd(), output.Fd(), output.Fd()},
	})
}

func (s *service) environment(file *unitFile) ([]string, error) {
	s.mu.Lock()
	invocation, main := s.invocation, s.main
	s.mu.Unlock()
	env := []string{"LANG=C.UTF-8", "PATH=" + defaultPath, "INVOCATION_ID=" + invocation}
	if file.user != "" {
		env = append(env, userEnv(file.user)...)
	}
	if main != nil {
		env = append(env, "MAINPID="+strconv.Itoa(main.pid))
	}
	if len(file.runtimeDirs) > 0 {
		env = append(env, "RUNTIME_DIRECTORY="+joinDirs("/run", file.runtimeDirs))
	}
	if len(file.stateDirs) > 0 {
		env = append(env, "STATE_DIRECTORY="+joinDirs("/var/lib", file.stateDirs))
	}
	env = append(env, file.environment...)
	for _, path := range file.envFiles {
		path, optional := strings.CutPrefix(path, "-")
		more, err := readEnvironment(path)
		if err != nil && !(optional && errors.Is(err, os.ErrNotExist)) {
			return nil, err
		}
		env = append(env, more...)
	}
	return lastWins(env), nil
}

// lastWins keeps the last value of each variable.
func lastWins(env []string) []string {
	place := map[string]int{}
	var out []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if i, ok := place[name]; ok {
			out[i] = entry
			continue
		}
		place[name] = len(out)
		out = append(out, entry)
	}
	return out
}

func joinDirs(base string, names []string) string {
	var paths []string
	for _, name := range names {
		paths = append(paths, filepath.Join(base, name))
	}
	return strings.Join(paths, ":")
}

func (s *service) makeDirs(file *unitFile) error {
	for base, names := range map[string][]string{"/run": file.runtimeDirs, "/var/lib": file.stateDirs} {
		for _, name := range names {
			path := filepath.Join(base, filepath.Clean("/"+name))
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			if cred, err := credential(file.user, file.group); err == nil && cred != nil {
				if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// output opens where the service's output goes.
func (s *service) output(file *unitFile) (*os.File, error) {
	kind, path, _ := strings.Cut(file.output, ":")
	switch kind {
	case "null":
		return os.OpenFile("/dev/null", os.O_WRONLY, 0)
	case "append", "file", "truncate":
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	}
	return s.m.openLog(s.name)
}

func newInvocation() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("status %d", status.ExitStatus())
}

// processesOf returns the processes of a service: those of its main process' session, and those that were started with its
// INVOCATION_ID.
func processesOf(session int, invocation string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	mark := []byte("INVOCATION_ID=" + invocation + "\x00")
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid <= 1 {
			continue
		}
		if sid, err := unix.Getsid(pid); session > 0 && err == nil && sid == session {
			pids = append(pids, pid)
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil || invocation == "" {
			continue
		}
		if bytes.HasPrefix(environ, mark) || bytes.Contains(environ, append([]byte{0}, mark...)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
