// Package workload installs a unit's programs on its machine and keeps its service running: Pebble supervises the service, and
// systemd keeps Pebble alive (in the local lab, the machine's PID 1 does).
//
// # Where things are
//
// Everything of a unit is below one directory, /var/lib/certlab/<unit tag>/:
//
//	bin/<hash>/     the programs, copied out of the charm's directory, so that a refresh does not disturb what is running
//	bin/current     a symbolic link to the programs that should be running
//	pebble/         Pebble's directory, with layers/010-charm.yaml
//	service/        the service's own directory, handed to it with --dir
//	applied.json    which unit file, layer and programs are in force
//
// and the unit file is /etc/systemd/system/certlab-<unit tag>.service.
//
// # What is changed when
//
// The layer refers to bin/current only, so new programs never change it. A changed layer, Pebble or service is activated when the
// caller says that the service may be interrupted, and is otherwise left for a later call: applied.json is written after
// the fact, so that a power cut at any line leads to the same step being taken again.
//
// When Pebble is killed its services live on, and a new Pebble starts second ones. Those find the lock of the first and
// exit; the layer makes Pebble try again with a growing delay, so that the machine heals when the first one ends. Signals are
// therefore sent to the processes that are found in /proc, and not through Pebble, which knows only its own children.
package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Root is the directory below which each unit has one of its own.
const Root = "/var/lib/certlab"

// unitFiles is where systemd finds the unit files that an administrator, or a charm, adds.
const unitFiles = "/etc/systemd/system"

// maxSocketPath is how long the path of a unix socket may be on Linux, in bytes.
const maxSocketPath = 107

// A Run runs a program of the system, such as systemctl, and returns what it printed on both streams.
type Run func(ctx context.Context, name string, args ...string) ([]byte, error)

// Config says what to keep running and where.
type Config struct {
	Unit     string // Juju's name, such as checkbox/0
	CharmDir string // holds bin/ with the service's program and pebble
	Service  Service
	Run      Run          // nil: the real one
	Log      *slog.Logger // nil: nothing is logged
	// Step is for tests: it is told of each change of the machine before it is made, and may end the goroutine. Nil: nobody is told.
	Step func(what string)
	// Root, UnitFiles and Proc are for tests; empty: the real places.
	Root      string
	UnitFiles string
	Proc      string
}

// Service is what Pebble keeps running.
type Service struct {
	Name    string // of the Pebble service, and of the program in bin/
	Summary string
	Dir     string // name of its directory below the unit's, such as agent
	// KillDelay is how long the service has to end after SIGTERM, before SIGKILL.
	KillDelay time.Duration
}

// Workload is a unit's programs and service on this machine. It keeps nothing in memory that matters.
type Workload struct {
	cfg  Config
	tag  string // unit-checkbox-0
	base string
}

var unitName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*/(0|[1-9][0-9]*)$`)

// New returns the workload of a unit. It touches nothing.
func New(cfg Config) (*Workload, error) {
	if !unitName.MatchString(cfg.Unit) {
		return nil, fmt.Errorf("cannot use %q as a unit's name", cfg.Unit)
	}
	if cfg.Service.Name == "" || cfg.Service.Dir == "" {
		return nil, errors.New("cannot keep a service without a name or a directory running")
	}
	if cfg.Root == "" {
		cfg.Root = Root
	}
	if cfg.UnitFiles == "" {
		cfg.UnitFiles = unitFiles
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Run == nil {
		cfg.Run = runProgram
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Workload{cfg: cfg, tag: Tag(cfg.Unit)}
	w.base = filepath.Join(cfg.Root, w.tag)
	if socket := w.pebbleSocket(); len(socket) > maxSocketPath {
		return nil, fmt.Errorf("cannot use %q as Pebble's socket: it is longer than %d bytes (deploy the charm under a shorter application name)",
			socket, maxSocketPath)
	}
	return w, nil
}

// Tag returns Juju's tag of a unit: unit-checkbox-0 for checkbox/0.
func Tag(unit string) string { return "unit-" + strings.ReplaceAll(unit, "/", "-") }

// Base is the unit's directory.
func (w *Workload) Base() string { return w.base }

// Dir is the service's directory.
func (w *Workload) Dir() string { return filepath.Join(w.base, w.cfg.Service.Dir) }

// Current is the path of a program as the layer and the unit file name it: through the link that always leads to the newest.
func (w *Workload) Current(program string) string {
	return filepath.Join(w.base, "bin", currentLink, program)
}

// Command is the service's command line.
func (w *Workload) Command() []string {
	return append([]string{w.Current(w.cfg.Service.Name)}, w.serviceArgs()...)
}

func (w *Workload) serviceArgs() []string { return []string{"run", "--dir", w.Dir()} }
