package locallab

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is what systemd gives to services, and snapd's profile adds.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"

// A command is a program to be started by a machine's first process.
type command struct {
	argv   []string
	name   string // that the program finds itself started under, if it is not argv's first
	env    []string
	dir    string
	user   string // a name or number; empty for root
	group  string
	files  [3]uintptr
	umask  int // -1 for what it is
	oom    *int
	setTTY bool // standard input is to become the controlling terminal
}

// A child is a process that the first process started. done is closed once it was reaped, and then status holds.
type child struct {
	pid    int
	done   chan struct{}
	status syscall.WaitStatus
}

// A reaper starts processes and collects all that end, its own and those that lost their parents. One lock is held over each start
// and each collection: so a process is known before it can be collected, and a signal never reaches a number that was given anew.
type reaper struct {
	mu       sync.Mutex
	children map[int]*child
}

func newReaper() *reaper { return &reaper{children: map[int]*child{}} }

// collect takes every process that has ended.
func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if status.Stopped() || status.Continued() {
			continue
		}
		if c := r.children[pid]; c != nil {
			delete(r.children, pid)
			c.status = status
			close(c.done)
		}
	}
}

// signal sends sig to the child, or with group to all of its process group; it does nothing once the child was collected.
func (r *reaper) signal(c *child, sig syscall.Signal, group bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[c.pid] != c {
		return nil
	}
	pid := c.pid
	if group {
		pid = -pid
	}
	return syscall.Kill(pid, sig)
}

// start starts the command in a session of its own. Errors are about what the caller asked for: no such program, user or directory.
func (r *reaper) start(cmd command) (*child, error) {
	if len(cmd.argv) == 0 {
		return nil, errors.New("no program is named")
	}
	path, err := lookPath(cmd.argv[0], cmd.env)
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{Dir: cmd.dir, Env: cmd.env, Files: cmd.files[:], Sys: &syscall.SysProcAttr{Setsid: true, Setctty: cmd.setTTY}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	if info, err := os.Stat(attr.Dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("no directory %s", attr.Dir)
	}
	if attr.Sys.Credential, err = credential(cmd.user, cmd.group); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cmd.oom != nil {
		defer borrowOOMScore(*cmd.oom)()
	}
	if cmd.umask >= 0 {
		defer syscall.Umask(syscall.Umask(cmd.umask))
	}
	argv := cmd.argv
	if cmd.name != "" {
		argv = append([]string{cmd.name}, argv[1:]...)
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &child{pid: pid, done: make(chan struct{})}
	r.children[pid] = c
	return c, nil
}

// borrowOOMScore takes the adjustment on for a while, so that what is started in that time has it from its first instruction.
// Lowering it needs a privilege; without that it stays as it is.
func borrowOOMScore(adjust int) (giveBack func()) {
	const path = "/proc/self/oom_score_adj"
	old, err := os.ReadFile(path)
	if err != nil || os.WriteFile(path, []byte(strconv.Itoa(adjust)), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(path, old, 0) }
}

func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			continue
		}
		candidate := filepath.Join(dir, name)
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() && unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s", name, os.ErrNotExist, path)
}

func findUser(name string) (*user.User, error) {
	if u, err := user.Lookup(name); err == nil {
		return u, nil
	}
	u, err := user.LookupId(name)
	if err != nil {
		return nil, fmt.Errorf("no user %q", name)
	}
	return u, nil
}

// credential is nil for root, who keeps what the first process has.
func credential(name, group string) (*syscall.Credential, error) {
	if name == "" || name == "root" || name == "0" {
		return nil, nil
	}
	u, err := findUser(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return nil, fmt.Errorf("no group %q", group)
			}
		}
		if gid, err = strconv.ParseUint(g.Gid, 10, 32); err != nil {
			return nil, err
		}
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(n))
		}
	}
	return cred, nil
}

// userEnv is what a login adds for the user.
func userEnv(name string) []string {
	if name == "" {
		name = "root"
	}
	u, err := findUser(name)
	if err != nil {
		return nil
	}
	return []string{"HOME=" + u.HomeDir, "LOGNAME=" + u.Username, "USER=" + u.Username, "SHELL=/bin/sh"}
}
