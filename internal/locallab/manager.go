package locallab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A manager holds a machine's services.
type manager struct {
	r    *reaper
	logs int // descriptor of the directory of the units' output
	out  io.Writer
	end  func(kind string) // asks for a reboot or a poweroff and returns at once

	mu        sync.Mutex
	services  map[string]*service
	ending    bool
	scheduled *time.Timer     // of a shutdown that was asked for with a time
	stale     map[string]bool // services whose file was not read again since the last daemon-reload
}

func newManager(r *reaper, logs int, out io.Writer, end func(string)) *manager {
	return &manager{r: r, logs: logs, out: out, end: end, services: map[string]*service{}, stale: map[string]bool{}}
}

func (m *manager) logf(format string, args ...any) {
	fmt.Fprintf(m.out, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

func (m *manager) isEnding() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ending
}

// openLog opens the file that keeps a unit's output, outside of the machine.
func (m *manager) openLog(name string) (*os.File, error) {
	name += ".log"
	var st unix.Stat_t
	if err := unix.Fstatat(m.logs, name, &st, 0); err == nil && st.Size > maxUnitLog {
		if err := unix.Renameat(m.logs, name, m.logs, name+".old"); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Openat(m.logs, name, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open log of %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// service returns the named one, loaded from its file if it is not known yet or if daemon-reload was asked for since.
func (m *manager) service(name string) (*service, error) {
	m.mu.Lock()
	s, stale := m.services[name], m.stale[name]
	m.mu.Unlock()
	if s != nil && !stale {
		return s, nil
	}
	file, err := loadUnit(name)
	if err != nil {
		if s != nil {
			s.mu.Lock()
			alive := s.main != nil || s.state == stateActivating
			s.mu.Unlock()
			if alive {
				return s, nil // its file is gone, it is not
			}
			m.mu.Lock()
			delete(m.services, name)
			m.mu.Unlock()
		}
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.stale, name)
	if s = m.services[name]; s == nil {
		s = newService(m, file)
		m.services[name] = s
		return s, nil
	}
	s.mu.Lock()
	s.file = file
	s.mu.Unlock()
	return s, nil
}

// reloaded reports whether daemon-reload was asked for since the service's file was read, and counts it as read.
func (m *manager) reloaded(s *service) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	stale := m.stale[s.name]
	delete(m.stale, s.name)
	return stale
}

func (m *manager) daemonReload() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.services {
		m.stale[name] = true
	}
}

// wantsDir holds the links of the units that start at boot.
const wantsDir = "/etc/systemd/system/multi-user.target.wants"

// startEnabled starts what is enabled, each after those that its After= names. It returns when all have been asked to start.
func (m *manager) startEnabled() {
	entries, err := os.ReadDir(wantsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.logf("cannot read %s: %v", wantsDir, err)
	}
	var files []*unitFile
	for _, entry := range entries {
		file, err := loadUnit(entry.Name())
		if err != nil {
			m.logf("%s: %v", entry.Name(), err)
			continue
		}
		if filepath.Ext(file.name) == ".service" {
			files = append(files, file)
		}
	}
	done := map[string]chan struct{}{}
	for _, file := range files {
		done[file.name] = make(chan struct{})
	}
	for _, file := range files {
		go func() {
			defer close(done[file.name])
			for _, before := range file.after {
				if ch := done[before]; ch != nil && before != file.name && !dependsOn(files, before, file.name, 0) {
					<-ch
				}
			}
			s, err := m.service(file.name)
			if err == nil {
				err = s.start()
			}
			if err != nil {
				m.logf("%s: cannot start: %v", file.name, err)
			}
		}()
	}
}

// dependsOn reports whether the unit's After= leads to other: then there is a cycle, and one of the two has to go first.
func dependsOn(files []*unitFile, name, other string, depth int) bool {
	if depth > len(files) {
		return false
	}
	for _, file := range files {
		if file.name != name {
			continue
		}
		for _, before := range file.after {
			if before == other || dependsOn(files, before, other, depth+1) {
				return true
			}
		}
	}
	return false
}

// list returns all services by name.
func (m *manager) list() []*service {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*service
	for _, s := range m.services {
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}

// stopLimit bounds how long the end of a machine waits for one service, whatever its TimeoutStopSec= says: a lab is for trying things.
const stopLimit = 10 * time.Second

// shutdown stops all services, then ends all other processes.
func (m *manager) shutdown() {
	m.mu.Lock()
	m.ending = true
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range m.list() {
		wg.Go(func() { _ = s.stop(stopLimit) })
	}
	wg.Wait()
	const patience = 3 * time.Second
	_ = syscall.Kill(-1, syscall.SIGTERM)
	_ = syscall.Kill(-1, syscall.SIGCONT)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) && othersRun() {
		time.Sleep(5 * time.Millisecond)
	}
	_ = syscall.Kill(-1, syscall.SIGKILL)
}

// othersRun reports whether there is any process but the first.
func othersRun() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, entry := range entries {
		name := entry.Name()
		if name != "1" && name[0] >= '1' && name[0] <= '9' {
			status, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
			if err != nil {
				continue
			}
			// The state follows the name, which is in parentheses and may hold any byte.
			text := string(status)
			if i := strings.LastIndexByte(text, ')'); i >= 0 && i+2 < len(text) && text[i+2] != 'Z' && text[i+2] != 'X' {
				return true
			}
		}
	}
	return false
}

// killAll signals every process of a service, and reports how many there were.
func (m *manager) killAll(session int, invocation string, sig syscall.Signal) int {
	pids := processesOf(session, invocation)
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
		if sig == syscall.SIGTERM {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	return len(pids)
}
