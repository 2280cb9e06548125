package locallab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signals that systemd takes for requests (systemd(1), SIGRTMIN+4 and +5).
const (
	signalPowerOff = syscall.Signal(34 + 4)
	signalReboot   = syscall.Signal(34 + 5)
)

// An initProcess is a machine's process 1.
type initProcess struct {
	r    *reaper
	m    *manager
	wire *wire
	end  chan string

	mu    sync.Mutex
	execs map[uint64]*child
}

// initMain is the second half of a machine's process 1. It returns the code that tells the lab what comes next.
func initMain() int {
	// The lab's death is this process' death; both ways of learning of it are used, as each has a moment when it is not yet in place.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	unix.Umask(0o022)
	// Not ignored: what is started from here would inherit that.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPWR,
		signalPowerOff, signalReboot)
	// One waiting notice is enough: each collection takes all that have ended.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)

	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "cannot start machine's first process: %v\n", err)
		return exitBootFailed
	}
	panics := len(os.Args) == 3 && os.Args[2] == initPanics
	if os.Getpid() != 1 || len(os.Args) != 2 && !panics {
		return fail(errNotFirst)
	}
	unix.Close(configFD)
	unix.CloseOnExec(controlFD)
	logs, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return fail(err)
	}
	unix.CloseOnExec(logs)
	control, err := newWire(os.NewFile(controlFD, "lab"))
	if err != nil {
		return fail(err)
	}
	if panics {
		if err := control.write(reply{Event: initPanics}); err != nil {
			return fail(err)
		}
		for { // until the power is cut, whatever it is asked for
			<-signals
		}
	}
	p := &initProcess{r: newReaper(), wire: control, end: make(chan string, 1), execs: map[uint64]*child{}}
	p.m = newManager(p.r, logs, os.Stderr, p.ask)
	if err := serveConsole(os.Stderr); err != nil {
		p.m.logf("machine: no /dev/console: %v", err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: insideSocket, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	if err := os.Chmod(insideSocket, 0o666); err != nil { // who may do what is decided for each request
		return fail(err)
	}
	go p.m.serve(socket)
	gone := make(chan struct{})
	go p.serveLab(gone)
	p.m.startEnabled()
	p.startCloud()
	if err := p.wire.write(reply{Event: "booted"}); err != nil {
		return fail(err)
	}
	return p.loop(signals, ended, gone)
}

// startCloud starts the stand-in for cloud-init on a machine that is in a cloud. It says what it does on the console, and ends by itself.
func (p *initProcess) startCloud() {
	if _, err := os.Stat(insideCloud); err != nil {
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		p.m.logf("machine: cannot start cloud-init: %v", err)
		return
	}
	defer null.Close()
	_, err = p.r.start(command{
		argv: []string{insideExe}, name: appletCloud, env: []string{"PATH=" + defaultPath, "LANG=C.UTF-8"}, umask: -1,
		files: [3]uintptr{null.Fd(), os.Stderr.Fd(), os.Stderr.Fd()},
	})
	if err != nil {
		p.m.logf("machine: cannot start cloud-init: %v", err)
	}
}

// ask asks for the machine's end; the first one wins.
func (p *initProcess) ask(kind string) {
	select {
	case p.end <- kind:
	default:
	}
}

// loop collects what has ended, until the machine is to end.
func (p *initProcess) loop(signals, ended <-chan os.Signal, gone <-chan struct{}) int {
	down := make(chan int, 1)
	for {
		select {
		case <-ended:
			p.r.collect()
		case sig := <-signals:
			switch sig {
			case syscall.SIGINT, signalReboot: // the first is control-alt-del
				p.ask("reboot")
			case signalPowerOff:
				p.ask("poweroff")
			}
		case <-gone:
			return exitPowerOff
		case kind := <-p.end:
			p.m.logf("machine: %s", kind)
			code := exitPowerOff
			if kind == "reboot" {
				code = exitReboot
			}
			go func() {
				p.m.shutdown()
				down <- code
			}()
		case code := <-down:
			return code
		}
	}
}

// serveLab answers the lab until it is gone.
func (p *initProcess) serveLab(gone chan<- struct{}) {
	defer close(gone)
	for {
		var req request
		files, err := p.wire.read(&req)
		if err != nil {
			return
		}
		p.handle(req, files)
	}
}

func (p *initProcess) handle(req request, files []*os.File) {
	switch req.Op {
	case "exec":
		p.exec(req, files)
		return
	case "signal":
		p.mu.Lock()
		c := p.execs[req.Target]
		p.mu.Unlock()
		if c != nil {
			_ = p.r.signal(c, syscall.Signal(req.Signal), true)
		}
		p.done(req, nil)
	case "listen":
		file, err := listenAt(req.Path)
		if err == nil {
			err = p.wire.write(reply{ID: req.ID, Event: "done"}, file)
			file.Close()
		}
		if err != nil {
			p.done(req, err)
		}
	case "mount":
		p.done(req, mountInside(req.Source, req.Path))
	case "unmount":
		err := unix.Unmount(req.Path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			err = nil // it is not mounted, which is what was asked for
		}
		p.done(req, err)
	case "links":
		p.done(req, makeLinks(req.Path, req.Source, req.Argv))
	case "put":
		p.done(req, putFile(req.Path, req.Data))
	case "remove":
		p.done(req, os.RemoveAll(req.Path))
	case "shutdown":
		p.done(req, nil) // before there is nobody left to say it
		p.ask(req.Kind)
	default:
		p.done(req, fmt.Errorf("no operation %q", req.Op))
	}
	closeAll(files)
}

func (p *initProcess) done(req request, err error) {
	r := reply{ID: req.ID, Event: "done"}
	if err != nil {
		r.Event, r.Error = "error", err.Error()
	}
	_ = p.wire.write(r)
}

// exec starts a program for the lab: with the three files that came along, or on a new terminal, whose other end goes back.
func (p *initProcess) exec(req request, files []*os.File) {
	defer closeAll(files)
	cmd := command{argv: req.Argv, env: req.Env, dir: req.Dir, user: req.User, umask: -1}
	var back []*os.File
	switch {
	case req.Pty:
		master, slave, err := openPty()
		if err != nil {
			p.done(req, fmt.Errorf("cannot make a terminal: %w", err))
			return
		}
		defer closeAll([]*os.File{master, slave})
		back = []*os.File{master}
		cmd.files = [3]uintptr{slave.Fd(), slave.Fd(), slave.Fd()}
		cmd.setTTY = true
	case len(files) == 3:
		cmd.files = [3]uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()}
	default:
		p.done(req, errors.New("a program needs three files"))
		return
	}
	c, err := p.r.start(cmd)
	if err != nil {
		p.done(req, err)
		return
	}
	p.mu.Lock()
	p.execs[req.ID] = c
	p.mu.Unlock()
	_ = p.wire.write(reply{ID: req.ID, Event: "started", PID: c.pid}, back...)
	go func() {
		<-c.done
		p.mu.Lock()
		delete(p.execs, req.ID)
		p.mu.Unlock()
		r := reply{ID: req.ID, Event: "exited"}
		if c.status.Signaled() {
			r.Signal = int(c.status.Signal())
		} else {
			r.Code = c.status.ExitStatus()
		}
		_ = p.wire.write(r)
	}()
}

// listenAt makes a unix socket that only root can connect to, in place of one that an earlier boot left.
func listenAt(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	unixListener := listener.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, err
	}
	return unixListener.File()
}

// mountInside shows source at path as well. Doing it again changes nothing.
func mountInside(source, path string) error {
	for _, dir := range []string{source, path} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var a, b unix.Stat_t
	if unix.Stat(source, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino {
		return nil
	}
	return bind(source, path, false)
}

// makeLinks makes names in dir lead to target, whatever they were before.
func makeLinks(dir, target string, names []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, filepath.Base(name))
		if old, err := os.Readlink(path); err == nil && old == target {
			continue
		}
		if err := replaceLink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// putFile writes a script in a directory of its own.
func putFile(path, data string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o755)
}

// serveConsole makes /dev/console a terminal whose output goes to the machine's console.
func serveConsole(console io.Writer) error {
	master, slave, err := openPty()
	if err != nil {
		return err
	}
	if termios, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err == nil {
		termios.Oflag &^= unix.OPOST
		termios.Lflag &^= unix.ECHO
		_ = unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, termios)
	}
	if err := os.Symlink(slave.Name(), "/dev/console"); err != nil {
		closeAll([]*os.File{master, slave})
		return err
	}
	go func() {
		defer slave.Close() // open until then, so that there is never nobody at the other end
		_, _ = io.Copy(console, master)
	}()
	return nil
}

func openPty() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	other, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "terminal"), os.NewFile(uintptr(other), name), nil
}
