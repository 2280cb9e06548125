package workload

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
)

// process is one that runs a program of this unit.
type process struct {
	pid   int
	start string // clock ticks since boot: with the pid, names the process for as long as the machine is up
	exe   string // path of the program's file, also when that has been removed since
	args  []string
}

// processes lists the processes whose program lies in the unit's bin directory. Processes that vanish meanwhile, and those of
// other users when not root, are left out.
func (w *Workload) processes() ([]process, error) {
	entries, err := os.ReadDir(w.cfg.Proc)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	// /proc shows paths without symbolic links.
	bin := filepath.Join(w.base, "bin")
	if real, err := filepath.EvalSymlinks(bin); err == nil {
		bin = real
	}
	bin += string(filepath.Separator)
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := w.process(pid, bin); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

func (w *Workload) process(pid int, bin string) (process, bool) {
	dir := filepath.Join(w.cfg.Proc, strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil || !strings.HasPrefix(exe, bin) {
		return process{}, false
	}
	start, err := startTime(dir)
	if err != nil {
		return process{}, false
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || len(cmdline) == 0 {
		return process{}, false
	}
	args := strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	return process{pid: pid, start: start, exe: strings.TrimSuffix(exe, " (deleted)"), args: args}, true
}

// startTime reads field 22 of /proc/PID/stat. The second field, the program's name in parentheses, may hold anything.
func startTime(dir string) (string, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", err
	}
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return "", errors.New("no program name")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return "", errors.New("too few fields")
	}
	return fields[19], nil
}

// isService tells the service from the same program doing something else, such as a person's interactive run.
func (w *Workload) isService(p process) bool {
	return filepath.Base(p.exe) == w.cfg.Service.Name && len(p.args) > 0 && slices.Equal(p.args[1:], w.serviceArgs())
}

func (w *Workload) isPebble(p process) bool {
	return filepath.Base(p.exe) == "pebble" && len(p.args) > 1 && p.args[1] == "run"
}

func (w *Workload) serviceProcesses() ([]process, error) {
	all, err := w.processes()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p process) bool { return !w.isService(p) }), nil
}

// alive reports whether this very process still exists, and not just one with its number.
func (w *Workload) alive(p process) bool {
	start, err := startTime(filepath.Join(w.cfg.Proc, strconv.Itoa(p.pid)))
	return err == nil && start == p.start && !w.zombie(p)
}

func (w *Workload) zombie(p process) bool {
	stat, err := os.ReadFile(filepath.Join(w.cfg.Proc, strconv.Itoa(p.pid), "stat"))
	if err != nil {
		return false
	}
	end := bytes.LastIndexByte(stat, ')')
	return end >= 0 && bytes.HasPrefix(bytes.TrimLeft(stat[end+1:], " "), []byte("Z"))
}

// Reload sends SIGHUP to the service, whichever Pebble started it, and returns to how many processes. None is no error: a
// service that is not running reads its desired state when it starts.
func (w *Workload) Reload() (int, error) {
	services, err := w.serviceProcesses()
	if err != nil {
		return 0, err
	}
	sent := 0
	for _, p := range services {
		switch err := syscall.Kill(p.pid, syscall.SIGHUP); {
		case err == nil:
			sent++
		case !errors.Is(err, syscall.ESRCH):
			return sent, fmt.Errorf("cannot signal %s: %w", w.cfg.Service.Name, err)
		}
	}
	return sent, nil
}
