package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	toolTimeout = time.Minute
	toolGrace   = 2 * time.Second // for a killed tool's pipes to close
	maxStdout   = 64 << 20        // bytes; a databag has at most 16 MiB, in JSON more
	maxStderr   = 4 << 10         // bytes
)

// Tools is the Runner that starts Juju's hook tools.
type Tools struct {
	// Environ is what the tools see: NAME=value. They find the agent by it, and are found in its PATH.
	Environ []string
	// PrivateDir is where files with secrets are put, each call in its own directory with mode 0700; in memory, best.
	PrivateDir string
	// Prefix begins those directories' names, so that what a killed dispatch left behind can be found by Sweep.
	Prefix string
	// Timeout bounds each call that does not bring its own; 0: a minute.
	Timeout time.Duration
}

// Run starts the tool and waits for it.
func (t *Tools) Run(ctx context.Context, cmd Command) ([]byte, error) {
	timeout := cmd.Timeout
	if timeout == 0 {
		timeout = t.Timeout
	}
	if timeout == 0 {
		timeout = toolTimeout
	}
	args := cmd.Args
	if len(cmd.Files) > 0 {
		dir, files, err := t.writeFiles(cmd.Files)
		if dir != "" {
			defer os.RemoveAll(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot run %s: %w", cmd.Name, err)
		}
		args = slices.Concat(args, files)
	}
	path, err := t.find(cmd.Name)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	process := exec.CommandContext(limited, path, args...)
	process.Args[0] = cmd.Name
	process.Env = t.Environ
	process.WaitDelay = toolGrace
	if cmd.Stdin != nil {
		process.Stdin = bytes.NewReader(cmd.Stdin)
	}
	stdout, stderr := &limitedBuffer{max: maxStdout}, &limitedBuffer{max: maxStderr}
	process.Stdout, process.Stderr = stdout, stderr
	err = process.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("cannot run %s: %w", cmd.Name, context.Cause(ctx))
	case limited.Err() != nil:
		return nil, fmt.Errorf("cannot run %s: it did not end within %s", cmd.Name, timeout)
	case errors.As(err, &exit):
		return nil, &ToolError{Tool: cmd.Name, Code: exit.ExitCode(), Stderr: strings.TrimSpace(stderr.buf.String())}
	case err != nil:
		return nil, fmt.Errorf("cannot run %s: %w", cmd.Name, err)
	case stdout.over:
		return nil, fmt.Errorf("cannot run %s: it printed more than %d bytes", cmd.Name, maxStdout)
	}
	return stdout.buf.Bytes(), nil
}

// find looks the tool up in the PATH of t.Environ, which is the dispatch's own: Juju's directory of tools comes first in it.
func (t *Tools) find(name string) (string, error) {
	for _, line := range t.Environ {
		value, ok := strings.CutPrefix(line, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(value) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("cannot run %s: there is no such hook tool in PATH (is this run by Juju?)", name)
}

func (t *Tools) writeFiles(files map[string][]byte) (dir string, args []string, err error) {
	dir, err = os.MkdirTemp(t.PrivateDir, t.Prefix+"*") // mode 0700
	if err != nil {
		return "", nil, err
	}
	for i, key := range sortedKeys(files) {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, files[key], 0o600); err != nil {
			return dir, nil, err
		}
		args = append(args, key+"#file="+path)
	}
	return dir, args, nil
}

// Sweep deletes what a killed dispatch of the same unit has left in PrivateDir. The unit's lock must be held.
func (t *Tools) Sweep() {
	left, err := filepath.Glob(filepath.Join(t.PrivateDir, t.Prefix+"*"))
	if err != nil || t.Prefix == "" {
		return
	}
	for _, dir := range left {
		os.RemoveAll(dir)
	}
}

// limitedBuffer keeps the first max bytes and takes the rest without keeping it.
type limitedBuffer struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would go past Write
	max  int
	over bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); room < len(p) {
		b.over = true
		b.buf.Write(p[:room])
	} else {
		b.buf.Write(p)
	}
	return len(p), nil
}
