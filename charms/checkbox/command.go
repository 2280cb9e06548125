package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"certlab/internal/hooks"
	"certlab/internal/workload"
)

const (
	// commandName is what a person at the machine types: certlab-agent run --interactive PLAN.
	commandName = "certlab-agent"
	// commandDir is in the PATH of everybody, and in that of sudo.
	commandDir = "/usr/local/bin"
)

func (sys system) commandPath() string {
	dir := sys.commands
	if dir == "" {
		dir = commandDir
	}
	return filepath.Join(dir, commandName)
}

// linkCommand puts the agent's program into everybody's PATH, as a link to the newest. What is there and not ours stays. A machine whose
// directory cannot be written to is tested all the same, so nothing here fails a hook.
func (sys system) linkCommand(u *hooks.Unit, a agent) {
	path, target := sys.commandPath(), a.Current(commandName)
	old, err := os.Readlink(path)
	switch {
	case err == nil && old == target:
		return
	case err == nil && sys.isOurs(old):
		// Of a unit that was here before.
	case errors.Is(err, fs.ErrNotExist):
	default:
		u.Log.Warn("not offering the agent's command: something else has its place", "path", path)
		return
	}
	a.Step("link command")
	if err := replaceLink(path, target); err != nil {
		u.Log.Warn("not offering the agent's command", "error", err)
	}
}

// unlinkCommand takes the command away, if it is this unit's.
func (sys system) unlinkCommand(a agent) error {
	path := sys.commandPath()
	if target, err := os.Readlink(path); err != nil || target != a.Current(commandName) {
		return nil
	}
	a.Step("unlink command")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the agent's command: %w", err)
	}
	return nil
}

// isOurs reports whether a link leads to the program of some unit's agent.
func (sys system) isOurs(target string) bool {
	root := sys.root
	if root == "" {
		root = workload.Root
	}
	return strings.HasPrefix(target, filepath.Join(root, "unit-")) && filepath.Base(target) == commandName
}

// replaceLink makes path a link to target, at once and whatever was there.
func replaceLink(path, target string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	_ = os.Remove(temp) // of a dispatch that was killed here
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}
