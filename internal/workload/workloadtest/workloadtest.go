// Package workloadtest lets tests of workloads, and of charms that have one, use a real Pebble without systemd.
package workloadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Builds are the programs that a package's tests need, built once. TestMain makes it and removes it.
type Builds struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string // by import path
}

// Remove removes what was built.
func (b *Builds) Remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// Pebble returns the path of a real Pebble: $CERTLAB_PEBBLE, or one built from the version in go.mod.
func (b *Builds) Pebble(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("CERTLAB_PEBBLE"); path != "" {
		return path
	}
	return b.build(t, "github.com/canonical/pebble/cmd/pebble")
}

// Charm returns the directory of a charm whose bin has Pebble and, by the name of program, a dummy service (see the command dummy).
// Tests share it and must not write to it.
func (b *Builds) Charm(t testing.TB, program string) string {
	t.Helper()
	return b.charm(t, "charm-"+program, program, b.Pebble(t), b.build(t, "certlab/internal/workload/workloadtest/dummy"))
}

// RealCharm returns the directory of a charm whose bin has Pebble and the real program: that of $CERTLAB_BIN, or one built from cmd/.
// Tests share it and must not write to it.
func (b *Builds) RealCharm(t testing.TB, program string) string {
	t.Helper()
	if dir := os.Getenv("CERTLAB_BIN"); dir != "" {
		return b.charm(t, "real-charm-"+program, program, b.Pebble(t), filepath.Join(dir, program))
	}
	return b.charm(t, "real-charm-"+program, program, b.Pebble(t), b.build(t, "certlab/cmd/"+program))
}

func (b *Builds) charm(t testing.TB, name, program, pebble, service string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NoError(t, b.makeDir())
	charm := filepath.Join(b.dir, name)
	if _, err := os.Stat(charm); err == nil {
		return charm
	}
	require.NoError(t, os.MkdirAll(filepath.Join(charm, "bin"), 0o755))
	for name, path := range map[string]string{"pebble": pebble, program: service} {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(charm, "bin", name), data, 0o755))
	}
	return charm
}

// makeDir needs the lock.
func (b *Builds) makeDir() error {
	if b.dir != "" {
		return nil
	}
	dir, err := os.MkdirTemp("", "certlab-builds-")
	b.dir, b.paths = dir, map[string]string{}
	return err
}

func (b *Builds) build(t testing.TB, importPath string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if path := b.paths[importPath]; path != "" {
		return path
	}
	require.NoError(t, b.makeDir())
	path := filepath.Join(b.dir, filepath.Base(importPath))
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, importPath)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "cannot build %s: %s", importPath, out)
	b.paths[importPath] = path
	return path
}

// Systemd answers systemctl for one directory of unit files: it starts the program of ExecStart with the unit's environment, starts it
// again when it ends (Restart=always), and ends only that process on stop (KillMode=process).
type Systemd struct {
	dir  string
	fake bool // its Pebble is in this process

	mu      sync.Mutex
	calls   []string
	enabled map[string]bool
	units   map[string]*unit
}

type unit struct {
	server  *http.Server // of a fake Pebble; then there is nothing else
	mu      sync.Mutex
	process *os.Process
	stopped bool
	done    chan struct{}
}

// NewSystemd returns one that reads unit files in dir. What it started ends with the test.
func NewSystemd(t testing.TB, dir string) *Systemd {
	t.Helper()
	s := &Systemd{dir: dir, enabled: map[string]bool{}, units: map[string]*unit{}}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, u := range s.units {
			u.stop()
		}
	})
	return s
}

// Run is a workload.Run for systemctl.
func (s *Systemd) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if name != "systemctl" || len(args) == 0 {
		return nil, fmt.Errorf("unexpected program %s %v", name, args)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, strings.Join(args, " "))
	if args[0] == "daemon-reload" {
		return nil, nil
	}
	if len(args) != 2 {
		return nil, fmt.Errorf("unexpected arguments %v", args)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, args[1]))
	if err != nil {
		return []byte("Unit " + args[1] + " not found."), errors.New("exit status 5")
	}
	switch args[0] {
	case "enable":
		s.enabled[args[1]] = true
	case "disable":
		delete(s.enabled, args[1])
	case "start":
		if s.units[args[1]] == nil {
			s.units[args[1]] = s.start(text)
		}
	case "stop", "restart":
		if u := s.units[args[1]]; u != nil {
			u.stop()
			delete(s.units, args[1])
		}
		if args[0] == "restart" {
			s.units[args[1]] = s.start(text)
		}
	default:
		return nil, fmt.Errorf("unexpected arguments %v", args)
	}
	return nil, nil
}

// Calls returns the arguments of each systemctl since the last call of it, and forgets them.
func (s *Systemd) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Enabled reports whether the unit would start with the machine.
func (s *Systemd) Enabled(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enabled[name]
}

// Kill sends SIGKILL to the main process of every unit, and returns their number; they are started again.
func (s *Systemd) Kill() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, u := range s.units {
		u.mu.Lock()
		if u.process != nil && u.process.Kill() == nil {
			n++
		}
		u.mu.Unlock()
	}
	return n
}

func (s *Systemd) start(text []byte) *unit {
	if s.fake {
		return startFake(text)
	}
	u := &unit{done: make(chan struct{})}
	go func() {
		defer close(u.done)
		for u.once(text) {
			time.Sleep(100 * time.Millisecond) // RestartSec
		}
	}()
	return u
}

// once runs the unit's program to its end and reports whether it is to be started again.
func (u *unit) once(text []byte) bool {
	cmd := &exec.Cmd{Env: []string{"PATH=" + os.Getenv("PATH")}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	for _, line := range strings.Split(string(bytes.TrimSpace(text)), "\n") {
		if value, ok := strings.CutPrefix(line, "Environment="); ok {
			cmd.Env = append(cmd.Env, value)
		}
		if value, ok := strings.CutPrefix(line, "ExecStart="); ok {
			cmd.Args = strings.Fields(value)
			cmd.Path = cmd.Args[0]
		}
	}
	u.mu.Lock()
	if u.stopped || cmd.Start() != nil {
		u.mu.Unlock()
		return false
	}
	u.process = cmd.Process
	u.mu.Unlock()
	_ = cmd.Wait() // however it ended, it is started again unless stopped
	u.mu.Lock()
	defer u.mu.Unlock()
	u.process = nil
	return !u.stopped
}

func (u *unit) stop() {
	if u.server != nil {
		u.server.Close()
		return
	}
	u.mu.Lock()
	u.stopped = true
	if u.process != nil {
		_ = u.process.Signal(syscall.SIGTERM) // it may have ended by itself
	}
	u.mu.Unlock()
	select {
	case <-u.done:
	case <-time.After(30 * time.Second):
		u.mu.Lock()
		if u.process != nil {
			_ = u.process.Kill()
		}
		u.mu.Unlock()
		<-u.done
	}
}
