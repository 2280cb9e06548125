package locallab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An ExecSpec is a program to run on a machine.
type ExecSpec struct {
	Argv []string
	// Env is all of the environment; nil stands for what a root shell has.
	Env    []string
	Dir    string // "" for /
	User   string // "" for root
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// An ExitStatus says how a program ended.
type ExitStatus struct {
	Code   int            // -1 if it was ended by a signal
	Signal syscall.Signal // 0 if it was not
}

// RootEnv is the environment of a root shell on a machine.
func RootEnv() []string {
	return append([]string{"PATH=" + defaultPath, "LANG=C.UTF-8", "TERM=dumb"}, "HOME=/root", "LOGNAME=root", "USER=root", "SHELL=/bin/bash")
}

// leftoverWait bounds how long output is awaited after a program has ended, from children that hold it open.
const leftoverWait = 2 * time.Second

// Exec runs a program on the machine to its end. When ctx ends first, the program's process group is killed. An error is about
// starting it or losing sight of it (the machine went down); how it ended is the status.
func (m *Machine) Exec(ctx context.Context, spec ExecSpec) (ExitStatus, error) {
	if spec.Env == nil {
		spec.Env = RootEnv()
	}
	pipes, err := newPipes(spec)
	if err != nil {
		return ExitStatus{}, err
	}
	req := request{Op: "exec", Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir, User: spec.User}
	b, id, ch, err := m.ask(req, pipes.theirs[:]...)
	closeAll(pipes.theirs[:])
	if err != nil {
		pipes.abandon()
		return ExitStatus{}, fmt.Errorf("cannot run %s on machine %s: %w", name(spec.Argv), m.spec.ID, err)
	}
	pipes.copy(spec)
	status, err := m.await(ctx, b, id, ch)
	pipes.finish()
	if err != nil {
		return ExitStatus{}, fmt.Errorf("cannot run %s on machine %s: %w", name(spec.Argv), m.spec.ID, err)
	}
	return status, nil
}

func name(argv []string) string {
	if len(argv) == 0 {
		return "nothing"
	}
	return argv[0]
}

// await waits for a program's end.
func (m *Machine) await(ctx context.Context, b *powerCycle, id uint64, ch <-chan answer) (ExitStatus, error) {
	done := ctx.Done()
	for {
		select {
		case a, ok := <-ch:
			switch {
			case !ok:
				return ExitStatus{}, errDown
			case a.Error != "":
				closeAll(a.files)
				return ExitStatus{}, errors.New(a.Error)
			case a.Event == "exited" && a.Signal != 0:
				return ExitStatus{Code: -1, Signal: syscall.Signal(a.Signal)}, nil
			case a.Event == "exited":
				return ExitStatus{Code: a.Code}, nil
			}
			closeAll(a.files)
		case <-done:
			done = nil
			b.signal(id, syscall.SIGKILL)
		}
	}
}

// signal sends a signal to the process group of a program that was started by the request with that id.
func (b *powerCycle) signal(id uint64, sig syscall.Signal) {
	b.mu.Lock()
	b.next++
	req := request{ID: b.next, Op: "signal", Target: id, Signal: int(sig)}
	b.mu.Unlock()
	_ = b.wire.write(req) // if it cannot be told, it is gone
}

// pipes connect a program on a machine with its caller.
type pipes struct {
	theirs [3]*os.File
	ours   [3]*os.File // nil where nobody listens
	wait   sync.WaitGroup
}

func newPipes(spec ExecSpec) (*pipes, error) {
	p := &pipes{}
	wanted := [3]bool{spec.Stdin != nil, spec.Stdout != nil, spec.Stderr != nil}
	given := [3]any{spec.Stdin, spec.Stdout, spec.Stderr}
	for i := range p.theirs {
		var err error
		switch file, _ := given[i].(*os.File); {
		case file != nil: // the program has it itself, and not a copy of what goes through it
			p.theirs[i], err = duplicate(file)
		case i == 2 && wanted[1] && same(spec.Stdout, spec.Stderr):
			p.theirs[2], err = p.theirs[1], nil
		case !wanted[i]:
			p.theirs[i], err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		case i == 0:
			p.theirs[i], p.ours[i], err = os.Pipe()
		default:
			p.ours[i], p.theirs[i], err = os.Pipe()
		}
		if err != nil {
			p.abandon()
			for _, file := range p.theirs {
				if file != nil {
					file.Close()
				}
			}
			return nil, err
		}
	}
	return p, nil
}

func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// same reports whether both are one writer, which then must not be written to by two at once.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }() // of types that cannot be compared
	return a == b
}

func (p *pipes) abandon() {
	for _, file := range p.ours {
		if file != nil {
			file.Close()
		}
	}
}

func (p *pipes) copy(spec ExecSpec) {
	if p.ours[0] != nil {
		go func() {
			_, _ = io.Copy(p.ours[0], spec.Stdin)
			p.ours[0].Close()
		}()
	}
	for i, to := range map[int]io.Writer{1: spec.Stdout, 2: spec.Stderr} {
		if p.ours[i] == nil {
			continue
		}
		p.wait.Go(func() { _, _ = io.Copy(to, p.ours[i]) })
	}
}

// finish waits for the rest of the output, but not for ever for what a surviving child might still say.
func (p *pipes) finish() {
	deadline := time.Now().Add(leftoverWait)
	for _, file := range p.ours[1:] {
		if file != nil {
			_ = file.SetReadDeadline(deadline)
		}
	}
	p.wait.Wait()
	p.abandon()
}

// Terminal runs a program on a terminal of its own on the machine, and returns the terminal's other end, which the caller closes.
// wait returns how the program ended.
func (m *Machine) Terminal(ctx context.Context, spec ExecSpec) (terminal *os.File, wait func() (ExitStatus, error), err error) {
	if spec.Env == nil {
		spec.Env = RootEnv()
	}
	b, id, ch, err := m.ask(request{Op: "exec", Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir, User: spec.User, Pty: true})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot run %s on machine %s: %w", name(spec.Argv), m.spec.ID, err)
	}
	select {
	case a, ok := <-ch:
		switch {
		case !ok:
			err = errDown
		case a.Error != "":
			err = errors.New(a.Error)
		case len(a.files) != 1:
			closeAll(a.files)
			err = errors.New("no terminal came back")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot run %s on machine %s: %w", name(spec.Argv), m.spec.ID, err)
		}
		return a.files[0], func() (ExitStatus, error) { return m.await(ctx, b, id, ch) }, nil
	case <-ctx.Done():
		b.signal(id, syscall.SIGKILL)
		return nil, nil, ctx.Err()
	}
}

// Listen makes a unix socket at path on the machine, that only its root can connect to, and listens on it here.
func (m *Machine) Listen(ctx context.Context, path string) (net.Listener, error) {
	files, err := m.call(ctx, request{Op: "listen", Path: path})
	if err == nil && len(files) != 1 {
		closeAll(files)
		err = errors.New("no socket came back")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s on machine %s: %w", path, m.spec.ID, err)
	}
	defer files[0].Close()
	listener, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s on machine %s: %w", path, m.spec.ID, err)
	}
	if unixListener, ok := listener.(*net.UnixListener); ok {
		unixListener.SetUnlinkOnClose(false) // the path means another file here
	}
	return listener, nil
}

// links makes names in dir lead to target.
func (m *Machine) links(ctx context.Context, dir, target string, names []string) error {
	if _, err := m.call(ctx, request{Op: "links", Path: dir, Source: target, Argv: names}); err != nil {
		return fmt.Errorf("cannot make links in %s on machine %s: %w", dir, m.spec.ID, err)
	}
	return nil
}

// put writes a small file.
func (m *Machine) put(ctx context.Context, path, data string) error {
	if _, err := m.call(ctx, request{Op: "put", Path: path, Data: data}); err != nil {
		return fmt.Errorf("cannot write %s on machine %s: %w", path, m.spec.ID, err)
	}
	return nil
}

// remove deletes a file or directory with all that is in it.
func (m *Machine) remove(ctx context.Context, path string) error {
	if _, err := m.call(ctx, request{Op: "remove", Path: path}); err != nil {
		return fmt.Errorf("cannot remove %s on machine %s: %w", path, m.spec.ID, err)
	}
	return nil
}

// Mount shows the machine's directory source at path as well, until its next boot.
func (m *Machine) Mount(ctx context.Context, source, path string) error {
	if _, err := m.call(ctx, request{Op: "mount", Source: source, Path: path}); err != nil {
		return fmt.Errorf("cannot mount %s on machine %s: %w", path, m.spec.ID, err)
	}
	return nil
}

// Unmount undoes Mount. It does nothing when path is not mounted.
func (m *Machine) Unmount(ctx context.Context, path string) error {
	if _, err := m.call(ctx, request{Op: "unmount", Path: path}); err != nil {
		return fmt.Errorf("cannot unmount %s on machine %s: %w", path, m.spec.ID, err)
	}
	return nil
}
