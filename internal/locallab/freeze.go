package locallab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errFrozen is what was asked of a machine that is frozen.
var errFrozen = errors.New("machine is frozen")

// freezeTimeout bounds how long all of a machine's processes may take to stop.
const freezeTimeout = 10 * time.Second

// Freeze stops every process of the machine where it is, as a hang does: the machine stays switched on, and nothing on it answers any more,
// until Thaw goes on or the power is cut. Its connections stay, since the kernel that keeps them is the host's.
func (m *Machine) Freeze(ctx context.Context) error {
	b, err := m.running()
	if err != nil {
		return fmt.Errorf("cannot freeze machine %s: %w", m.spec.ID, err)
	}
	b.mu.Lock()
	b.frozen = true // before anything stops: what is asked from now on would never be answered
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	told := map[int]bool{}
	for {
		processes, err := descendants(b.cmd.Process.Pid)
		if err != nil {
			return fmt.Errorf("cannot freeze machine %s: %w", m.spec.ID, err)
		}
		running := 0
		for pid, state := range processes {
			// One in the kernel, as after vfork with a child that has stopped, stops before it does anything of its own again.
			if strings.IndexByte("TtZX", state) >= 0 || state == 'D' && told[pid] {
				continue
			}
			running++
			told[pid] = true
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		if running == 0 {
			return nil
		}
		select {
		case <-b.done:
			return fmt.Errorf("cannot freeze machine %s: it went off meanwhile", m.spec.ID)
		case <-ctx.Done():
			return fmt.Errorf("cannot freeze machine %s: %d of its processes do not stop", m.spec.ID, running)
		case <-time.After(time.Millisecond):
		}
	}
}

// Thaw lets a frozen machine go on. It does nothing on one that is not.
func (m *Machine) Thaw() error {
	b, err := m.running()
	if err != nil {
		return fmt.Errorf("cannot thaw machine %s: %w", m.spec.ID, err)
	}
	b.mu.Lock()
	panics := b.panics
	b.mu.Unlock()
	if panics {
		return fmt.Errorf("cannot thaw machine %s: its kernel has panicked (cut its power: certlab lab kill %s)", m.spec.ID, m.spec.ID)
	}
	processes, err := descendants(b.cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("cannot thaw machine %s: %w", m.spec.ID, err)
	}
	for pid := range processes {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = false
	return nil
}

// Frozen reports whether the machine is on and frozen.
func (m *Machine) Frozen() bool {
	b, err := m.running()
	return err == nil && b.isFrozen()
}

func (b *powerCycle) isFrozen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frozen
}

// running returns the present boot of a machine that is on.
func (m *Machine) running() (*powerCycle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == nil || m.state != On {
		return nil, errDown
	}
	return m.boot, nil
}

// descendants returns the process and all that come from it, with the state that each is in (proc_pid_stat(5)). In a PID namespace whose
// first process it is, that is every process: orphans are given to it.
func descendants(first int) (map[int]byte, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	states, children := map[int]byte{}, map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The state and the parent follow the name, which is in parentheses and may hold any byte.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		states[pid] = fields[0][0]
		children[parent] = append(children[parent], pid)
	}
	found := map[int]byte{}
	for next := []int{first}; len(next) > 0; next = next[1:] {
		pid := next[0]
		if state, ok := states[pid]; ok {
			found[pid] = state
			next = append(next, children[pid]...)
		}
	}
	return found, nil
}
