package locallab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Client speaks to the process of the lab in a directory.
type Client struct {
	Dir            string
	In             io.Reader
	Stdout, Stderr io.Writer
}

// errNoLab says that nothing answers in the directory.
type errNoLab struct{ dir string }

func (e errNoLab) Error() string {
	return fmt.Sprintf("no lab is running in %s (certlab lab up)", e.dir)
}

func (c Client) dial() (*wire, error) {
	handle, short, err := shortPath(c.Dir, "lab.sock")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, errNoLab{c.Dir}
		}
		return nil, err
	}
	defer handle.Close()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: short, Net: "unixpacket"})
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNoLab{c.Dir}
	case err != nil:
		return nil, fmt.Errorf("cannot reach the lab in %s: %w", c.Dir, err)
	}
	return &wire{conn: conn}, nil
}

// Call asks the lab's process for something, which may read In and write Stdout and Stderr, and returns the exit code. When ctx ends, the
// call is cancelled there.
func (c Client) Call(ctx context.Context, call Call) (int, error) {
	w, err := c.dial()
	if err != nil {
		return 1, err
	}
	defer w.close()
	in, closeIn, err := c.input()
	if err != nil {
		return 1, err
	}
	defer closeIn()
	out, err := newOutlet(c.Stdout)
	if err != nil {
		return 1, err
	}
	defer out.close()
	errs, err := newOutlet(c.Stderr)
	if err != nil {
		return 1, err
	}
	defer errs.close()
	if err := w.write(call, in, out.file, errs.file); err != nil {
		return 1, fmt.Errorf("cannot reach the lab: %w", err)
	}
	in.Close() // so that the other side's end is the end
	out.handOver()
	errs.handOver()
	stop := context.AfterFunc(ctx, func() { w.close() })
	defer stop()
	var answer Answer
	files, err := w.read(&answer)
	closeAll(files)
	switch {
	case ctx.Err() != nil:
		return 130, nil
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return 1, errors.New("the lab's process has ended")
	case err != nil:
		return 1, fmt.Errorf("cannot hear from the lab: %w", err)
	}
	out.finish()
	errs.finish()
	if answer.Error != "" {
		return answer.Code, errors.New(answer.Error)
	}
	return answer.Code, nil
}

// input gives the lab's process something to read that ends with this process: it never gets the person's terminal itself, from which it
// might go on reading.
func (c Client) input() (file *os.File, closeAll func(), err error) {
	if c.In == nil {
		file, err = os.Open(os.DevNull)
		return file, func() {}, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	go func() {
		_, _ = io.Copy(write, c.In)
		write.Close()
	}()
	return read, func() { read.Close() }, nil
}

// An outlet is where the lab's process writes to: the file that this process would write to, or a pipe to something else.
type outlet struct {
	file *os.File
	ours *os.File // reading end of a pipe
	done chan struct{}
	to   io.Writer
	own  bool // file is to be closed
}

func newOutlet(to io.Writer) (*outlet, error) {
	if file, ok := to.(*os.File); ok && file != nil {
		return &outlet{file: file}, nil
	}
	if to == nil {
		to = io.Discard
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &outlet{file: write, ours: read, to: to, own: true, done: make(chan struct{})}, nil
}

// handOver is called when the other side has the file.
func (o *outlet) handOver() {
	if !o.own {
		return
	}
	o.file.Close()
	go func() {
		defer close(o.done)
		_, _ = io.Copy(o.to, o.ours)
	}()
}

// finish waits for what was written.
func (o *outlet) finish() {
	if o.done == nil {
		return
	}
	_ = o.ours.SetReadDeadline(time.Now().Add(leftoverWait))
	<-o.done
}

func (o *outlet) close() {
	if o.own {
		o.file.Close()
		o.ours.Close()
	}
}

// attach joins this process' terminal with the one on the machine.
func (c Client) attach(terminal *os.File) (restore func()) {
	restore = func() { terminal.Close() }
	in, ok := c.In.(*os.File)
	if ok {
		if old, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
			raw := *old
			raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
			raw.Oflag &^= unix.OPOST
			raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
			raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
			raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
			if unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw) == nil {
				restore = func() {
					terminal.Close()
					_ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, old)
				}
			}
		}
	}
	if c.In != nil {
		go func() { _, _ = io.Copy(terminal, c.In) }()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c.Stdout, terminal)
	}()
	undo := restore
	return func() {
		select {
		case <-done: // all that was printed has come
		case <-time.After(leftoverWait):
		}
		undo()
	}
}

// Shell opens a root shell on the machine.
func (c Client) Shell(ctx context.Context, target, term string) (int, error) {
	call := Call{Op: "shell", Target: target, Term: term}
	if in, ok := c.In.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(in.Fd()), unix.TIOCGWINSZ); err == nil {
			call.Rows, call.Columns = size.Row, size.Col
		}
	}
	w, err := c.dial()
	if err != nil {
		return 1, err
	}
	defer w.close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 1, err
	}
	defer null.Close()
	if err := w.write(call, null, null, null); err != nil {
		return 1, fmt.Errorf("cannot reach the lab: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { w.close() })
	defer stop()
	restore := func() {}
	defer func() { restore() }()
	for {
		var answer Answer
		files, err := w.read(&answer)
		switch {
		case ctx.Err() != nil:
			return 130, nil
		case err != nil:
			return 1, errors.New("the lab's process has ended")
		case answer.Terminal && len(files) == 1:
			restore = c.attach(files[0])
			continue
		}
		closeAll(files)
		if answer.Error != "" {
			return answer.Code, errors.New(answer.Error)
		}
		return answer.Code, nil
	}
}

// startTimeout bounds how long the lab's process may take until it answers.
const startTimeout = 60 * time.Second

// Start starts the lab's process unless it runs. It reports whether it did.
func (c Client) Start(ctx context.Context, options Options) (started bool, err error) {
	if _, err := c.Call(ctx, Call{Op: "ping"}); err == nil {
		return false, nil
	} else if !errors.As(err, &errNoLab{}) {
		return false, err
	}
	for _, dir := range []string{"", "bin", "log"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return false, fmt.Errorf("cannot make the lab's directory: %w", err)
		}
	}
	exe, err := installPrograms(filepath.Join(c.Dir, "bin"))
	if err != nil {
		return false, fmt.Errorf("cannot start the lab: %w", err)
	}
	log, err := openConsole(labLog(c.Dir))
	if err != nil {
		return false, err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer read.Close()
	command := func() *exec.Cmd {
		return &exec.Cmd{
			Path: exe, Args: []string{appletDaemon, c.Dir, options.Checkbox, strconv.Itoa(options.Nodes)}, Dir: "/", Stdout: log, Stderr: log,
			ExtraFiles: []*os.File{write}, Env: daemonEnv(os.Environ()), SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		}
	}
	cmd := command()
	err = cmd.Start()
	// A process that this one starts at the same time has what was open for writing, the program's copy too, until it is another program.
	for tries := 0; errors.Is(err, syscall.ETXTBSY) && tries < 200; tries++ {
		time.Sleep(10 * time.Millisecond)
		cmd = command()
		err = cmd.Start()
	}
	write.Close()
	if err != nil {
		return false, fmt.Errorf("cannot start the lab: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	_ = read.SetReadDeadline(time.Now().Add(startTimeout))
	word, err := bufio.NewReader(io.LimitReader(read, 4096)).ReadString('\n')
	word = strings.TrimSpace(word)
	switch {
	case word == "ready":
		return true, nil
	case word == errRunning.Error():
		return false, fmt.Errorf("the lab in %s runs, but does not answer (end it with: certlab lab down)", c.Dir)
	case word != "":
		return false, fmt.Errorf("cannot start the lab: %s", word)
	}
	return false, fmt.Errorf("cannot start the lab: %w (see %s)", err, labLog(c.Dir))
}

// daemonEnv keeps of a person's environment what says how to reach the world.
func daemonEnv(environ []string) []string {
	env := []string{"PATH=" + defaultPath, "LANG=C.UTF-8"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if name == "TZ" || name == "GOCOVERDIR" || name == "GORACE" || name == "TMPDIR" {
			env = append(env, entry)
		}
	}
	return env
}

// installPrograms copies this program, and the hook tools if they lie beside it, to where the lab keeps its own: a lab goes on with what it
// was started with, also when the originals are built anew.
func installPrograms(dir string) (exe string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	exe = filepath.Join(dir, "certlab")
	if err := copyProgram("/proc/self/exe", exe); err != nil {
		return "", err
	}
	tools := filepath.Join(filepath.Dir(self), "jujuc")
	if _, err := os.Stat(tools); err != nil {
		tools = ""
	}
	if tools == "" {
		err = os.Remove(filepath.Join(dir, "jujuc"))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return exe, err
	}
	return exe, copyProgram(tools, filepath.Join(dir, "jujuc"))
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".copy")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(0o755); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// downTimeout bounds how long the lab may take to end.
const downTimeout = 60 * time.Second

// Down ends the lab and waits until its process is gone. It reports whether there was one.
func (c Client) Down(ctx context.Context) (was bool, err error) {
	_, err = c.Call(ctx, Call{Op: "down"})
	var none errNoLab
	switch {
	case errors.As(err, &none):
		// Perhaps it just does not answer.
		if _, statErr := os.Stat(filepath.Join(c.Dir, "lock")); statErr != nil {
			return false, nil
		}
	case err != nil:
		return true, err
	default:
		was = true
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	for {
		lock, err := lockDir(c.Dir)
		if err == nil {
			lock.Close()
			return was, nil
		}
		if !errors.Is(err, errRunning) {
			return was, err
		}
		was = true
		select {
		case <-ctx.Done():
			return was, fmt.Errorf("the lab in %s has not ended: %w (see %s)", c.Dir, ctx.Err(), labLog(c.Dir))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Destroy removes all that the lab in the directory has kept. The lab must be down.
func (c Client) Destroy() error {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "lab.json")); err != nil && len(entries) > 0 {
		// A lab that failed to start has made its directories at most.
		if _, err := os.Stat(filepath.Join(c.Dir, "lock")); err != nil {
			return fmt.Errorf("cannot destroy %s: it is not a lab's directory", c.Dir)
		}
	}
	if err := removeAll(c.Dir); err != nil {
		return fmt.Errorf("cannot destroy the lab: %w", err)
	}
	return nil
}
