// Package apt changes what packages a machine has, exactly and so that it can be undone: a pocket or archive for a few packages only, those
// packages in one version, and back.
//
// It drives the machine's own apt-get and dpkg. Nothing but the packages that were asked for, and what they need and the machine lacks, is
// ever installed; nothing is removed or upgraded on the way: each change is tried with `apt-get -s` first and refused if it would.
// Every step can be done again after a kill or a power cut.
package apt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A System is a machine's packages.
type System struct {
	Root string // of the machine's file system; /
	// Run runs a command and returns what it printed, on both outputs.
	Run      func(ctx context.Context, env []string, name string, args ...string) (string, error)
	Env      []string      // complete, with proxies
	Timeout  time.Duration // of one command; 45 min
	LockWait time.Duration // how long another program may hold apt's locks; 15 min
	Patience time.Duration // between two tries; 5 s
}

const (
	sourcesFile = "etc/apt/sources.list.d/certlab-subject.sources"
	pinsFile    = "etc/apt/preferences.d/certlab-subject"
	keyFile     = "etc/apt/keyrings/certlab-subject.asc"
	authFile    = "etc/apt/auth.conf.d/certlab-subject.conf"
	listsDir    = "var/lib/apt/lists"
)

func (s *System) path(name string) string { return filepath.Join(s.Root, name) }

// options go with every apt-get. Files that a person has changed stay as they are, and nobody is asked.
var options = []string{"-q", "-y", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
	"-o", "Acquire::Retries=3"}

// unattended is the environment in which nobody is asked, and nothing is restarted by itself.
var unattended = []string{"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "NEEDRESTART_MODE=l", "NEEDRESTART_SUSPEND=1",
	"UCF_FORCE_CONFFOLD=1", "APT_LISTCHANGES_FRONTEND=none", "LC_ALL=C.UTF-8"}

// ErrLocked means that another program held apt's or dpkg's lock for as long as it was waited for.
var ErrLocked = errors.New("another program holds the lock of apt or dpkg")

// run runs a command of apt's or dpkg's, and waits for whoever holds their locks.
func (s *System) run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, or(s.Timeout, 45*time.Minute))
	defer cancel()
	deadline := time.Now().Add(or(s.LockWait, 15*time.Minute))
	for {
		out, err := s.Run(ctx, append(slices.Clone(s.Env), unattended...), name, args...)
		if err == nil || !lockHeld(out) {
			return out, err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return out, fmt.Errorf("%w, for longer than %v: %s (look for unattended-upgrades, or an apt that hangs, on the machine)",
				ErrLocked, or(s.LockWait, 15*time.Minute), said(out))
		}
		timer := time.NewTimer(min(or(s.Patience, 5*time.Second), max(time.Until(deadline), time.Millisecond)))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (s *System) aptGet(ctx context.Context, args ...string) (string, error) {
	return s.run(ctx, "apt-get", append(slices.Clone(options), args...)...)
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func lockHeld(out string) bool {
	for _, text := range []string{"Could not get lock", "Unable to acquire the dpkg frontend lock", "Unable to lock directory", "is locked by another process",
		"Unable to lock the administration directory"} {
		if strings.Contains(out, text) {
			return true
		}
	}
	return false
}

// said is what of a command's output says why it failed, in one line.
func said(out string) string {
	var told, all []string
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "E: "), strings.HasPrefix(line, "dpkg: error"), strings.Contains(line, "No space left on device"),
			strings.Contains(line, "You don't have enough free space"):
			told = append(told, line)
		case strings.Contains(line, ": Depends: "), strings.HasPrefix(line, "Depends: "), strings.HasPrefix(line, "W: GPG error"), strings.HasPrefix(line, "Err:") && i+1 < len(lines):
			told = append(told, line)
		}
		if line != "" {
			all = append(all, line)
		}
	}
	if len(told) == 0 {
		told = all[max(0, len(all)-2):]
	}
	return clip(strings.Join(slices.Compact(told), "; "), 600)
}

func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// Architecture is the machine's, as dpkg names it.
func Architecture() string {
	if name, ok := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]; ok {
		return name
	}
	return runtime.GOARCH
}

// remove removes files and reports the first that stays.
func remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
