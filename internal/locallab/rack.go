package locallab

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// A Rack starts machines. All that run on it end when it is closed, and when the process that holds it ends, however it ends.
type Rack struct {
	log  *slog.Logger
	work chan func()
	quit chan struct{}

	mu      sync.Mutex
	closed  bool
	running map[*exec.Cmd]bool
}

// NewRack returns a rack that logs what its machines do.
func NewRack(log *slog.Logger) *Rack {
	r := &Rack{log: log, work: make(chan func()), quit: make(chan struct{}), running: map[*exec.Cmd]bool{}}
	go r.spawn()
	return r
}

// Close ends the rack; machines that still run are cut off from power.
func (r *Rack) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	close(r.quit)
	for cmd := range r.running {
		_ = cmd.Process.Kill()
	}
}

// spawn runs each start on one thread, which lives as long as the rack: the kernel delivers the parent's death signal to a child when the
// thread that made it ends.
func (r *Rack) spawn() {
	runtime.LockOSThread() // and never unlocked: the thread ends with this function
	for {
		select {
		case start := <-r.work:
			start()
		case <-r.quit:
			return
		}
	}
}

// errClosed is what starting a machine on a closed rack returns.
var errClosed = errors.New("the lab is going down")

// start starts the command on the rack's thread.
func (r *Rack) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case r.work <- func() { result <- cmd.Start() }:
	case <-r.quit:
		return errClosed
	}
	if err := <-result; err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[cmd] = true
	if r.closed {
		_ = cmd.Process.Kill()
	}
	return nil
}

// wait waits for the end of what start has started.
func (r *Rack) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, cmd)
	return err
}

// namespaces returns how a machine's first process is started: in namespaces of its own, and dying with its parent.
func namespaces(rootless bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if rootless {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// Probe says whether this process may make machines; the error says what is in the way, and what to do about it.
func Probe(rack *Rack) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	rootless := os.Geteuid() != 0
	// An applet without its configuration ends at once, which is all that is asked of it here.
	cmd := &exec.Cmd{Path: exe, Args: []string{appletProbe}, SysProcAttr: namespaces(rootless)}
	if err := rack.start(cmd); err != nil {
		if rootless {
			return fmt.Errorf("cannot make namespaces without being root: %w (allow user namespaces, on Ubuntu "+
				"by kernel.apparmor_restrict_unprivileged_userns=0, or run as root)", err)
		}
		return fmt.Errorf("cannot make namespaces: %w (in a container, it has to be privileged)", err)
	}
	if err := rack.wait(cmd); err != nil {
		return fmt.Errorf("cannot mount file systems in a new namespace: %w (in a container, it has to be privileged)", err)
	}
	return nil
}
