package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootIDFile names the running boot of the kernel.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

func readBootID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if id == "" {
		return "", fmt.Errorf("cannot tell which boot this is: %s is empty", path)
	}
	return id, nil
}

// A process is one process of this boot: a pid alone is soon another's.
type process struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // clock ticks since boot
}

// processOf returns the process with this pid, if it lives and is no zombie.
func processOf(pid int) (process, int, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, 0, false
	}
	// The name in parentheses may hold anything, closing parentheses too.
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return process{}, 0, false
	}
	fields := strings.Fields(string(stat[i+1:])) // from field 3, the state
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, 0, false
	}
	parent, _ := strconv.Atoi(fields[1])
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, 0, false
	}
	return process{PID: pid, StartTime: start}, parent, true
}

// alive reports whether p, and not another with its pid, lives.
func (p process) alive() bool {
	now, _, ok := processOf(p.PID)
	return ok && now == p
}

// signal sends sig to p if it still is p.
func (p process) signal(sig syscall.Signal) {
	if p.PID > 1 && p.alive() {
		syscall.Kill(p.PID, sig)
	}
}

// allProcesses returns the living processes and the parent of each.
func allProcesses() map[process]int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	all := make(map[process]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, parent, ok := processOf(pid); ok {
			all[p] = parent
		}
	}
	return all
}

// descendants returns what root has started, directly or not. As root is a subreaper, also what has lost its parent is found.
func descendants(root int) []process {
	all := allProcesses()
	children := make(map[int][]process)
	for p, parent := range all {
		children[parent] = append(children[parent], p)
	}
	var found []process
	for queue := children[root]; len(queue) > 0; {
		p := queue[0]
		queue = append(queue[1:], children[p.PID]...)
		found = append(found, p)
	}
	return found
}

// maxNames is how many processes are named.
const maxNames = 10

// names are the names of processes with their pids, at most maxNames.
func names(list []process) []string {
	var all []string
	for _, p := range list {
		if len(all) == maxNames {
			return append(all, fmt.Sprintf("and %d more", len(list)-maxNames))
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
		if err == nil {
			all = append(all, fmt.Sprintf("%s (%d)", strings.TrimSpace(string(name)), p.PID))
		}
	}
	return all
}

// startVariable marks the environment of all that one start of Checkbox starts.
const startVariable = "CERTLAB_START"

// marked returns the living processes whose environment says that they belong to the start in dir.
func marked(dir string) []process {
	want := []byte(startVariable + "=" + dir)
	var found []process
	for p := range allProcesses() {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err != nil || p.PID == os.Getpid() {
			continue
		}
		if slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return bytes.Equal(v, want) }) {
			found = append(found, p)
		}
	}
	return found
}

// endAll ends the processes that list names, also those that appear meanwhile: TERM, after grace KILL. It gives up after another 30 s
// and reports whether none is left; a process that hangs in the kernel cannot be ended.
func endAll(list func() []process, grace time.Duration) bool {
	deadline := time.Now().Add(grace)
	termed := make(map[process]bool)
	for {
		left := list()
		if len(left) == 0 {
			return true
		}
		late := time.Now().After(deadline)
		if late && time.Since(deadline) > 30*time.Second {
			return false
		}
		for _, p := range left {
			if late {
				p.signal(syscall.SIGKILL)
			} else if !termed[p] {
				termed[p] = true
				p.signal(syscall.SIGTERM)
				p.signal(syscall.SIGCONT)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A fileLock is held as long as its process lives.
type fileLock struct{ f *os.File }

// errLocked means that another process holds the lock.
var errLocked = errors.New("it is locked by another process")

func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return &fileLock{f}, nil
}

func (l *fileLock) release() { l.f.Close() }

// locked reports whether a living process holds the lock at path.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// A shared lock is enough to ask, and two who ask do not disturb each other.
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// setOOMScoreAdjust changes how willingly the kernel kills this process when memory is short; only root may lower it.
func setOOMScoreAdjust(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0o644)
}

// ownBinary is the path of the program that is running.
func ownBinary() string {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return filepath.Clean(os.Args[0])
	}
	return strings.TrimSuffix(path, " (deleted)")
}
