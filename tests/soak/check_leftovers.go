package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/tests/lab"
)

// Bounds of what may be left on disk, in bytes: besides programs, which a machine has twice at most, little.
const (
	maxMachineDisk = 256 << 20
	maxLogs        = 64 << 20
)

// machinesLeft checks what the agents know of runs, and what is left on the machines' disks.
func (c *checker) machinesLeft() {
	ps, err := c.lab.Processes()
	if err != nil {
		c.violate("unreachable", "", "%v", err)
		return
	}
	c.fact("processor time of the lab: %.0f s since it was last started", ps.CPU().Seconds())
	known := map[string]bool{}
	for _, machine := range c.machines() {
		records, err := agentRuns(ps, machine)
		if err != nil {
			c.violate("unreachable", "", "machine %s: %v", machine, err)
			continue
		}
		for _, r := range records {
			known[r.Run.Run] = true
			c.delivered(machine, r)
		}
		c.spool(ps, machine, records)
		c.machineLeft(ps, machine)
	}
	for id, run := range c.runs {
		if run.Origin != cert.FromUpload && len(run.Attempts) > 0 && !known[id] {
			c.violate("unknown", id, "the controller has it with an attempt of %s, whose agent does not know it", run.Hostname)
		}
	}
}

// delivered checks that what an agent has forgotten, because it was acknowledged, is at the controller.
func (c *checker) delivered(machine string, r agentRun) {
	run, ok := c.runs[r.Run.Run]
	if !ok {
		c.violate("lost", r.Run.Run, "the agent of machine %s has run it, delivered %v, and the controller does not know it", machine, r.Run.Delivered)
		return
	}
	if !r.Run.Delivered || r.Dropped || r.Step != "ended" {
		c.violate("open", run.ID, "the agent of machine %s has it in step %q, delivered %v, dropped %v", machine, r.Step, r.Run.Delivered, r.Dropped)
		return // what it still has may well not be at the controller
	}
	if string(r.Run.State) != string(run.State) {
		c.violate("wrong", run.ID, "it is %s for its agent and %s for the controller", r.Run.State, run.State)
	}
	stored := map[string]bool{}
	for _, f := range run.Files {
		stored[f.SHA256] = true
	}
	for _, f := range r.Run.Files {
		if !stored[f.SHA256] {
			c.violate("lost", run.ID, "its agent has delivered %s %s, which the controller does not have", f.Kind, f.SHA256)
		}
	}
}

// spool checks that nothing waits in a machine's spool: what is there was delivered, is kept on purpose, and is whole.
func (c *checker) spool(ps lab.Processes, machine string, records []agentRun) {
	kept := map[string]agentRun{}
	for _, r := range records {
		if r.Run.Delivered && r.Kept {
			kept[r.Run.Run] = r
		}
	}
	dirs, err := os.ReadDir(ps.Path(machine, agentDir(machine)+"/spool"))
	if err != nil {
		c.violate("unreachable", "", "machine %s: %v", machine, err)
	}
	for _, dir := range dirs {
		r, ok := kept[dir.Name()]
		if !ok {
			c.violate("leftover", dir.Name(), "machine %s has files of this run in its spool, and does not mean to", machine)
		}
		for _, f := range r.Run.Files {
			sum, err := hash(filepath.Join(ps.Path(machine, agentDir(machine)+"/spool"), dir.Name(), f.Name))
			if err != nil || sum != f.SHA256 {
				c.violate("damage", dir.Name(), "what machine %s keeps of %s has SHA-256 %s, not %s %v", machine, f.Name, sum, f.SHA256, err)
			}
		}
	}
}

// machineLeft checks that a machine's runs and sessions are over, and its disk is not filled.
func (c *checker) machineLeft(ps lab.Processes, machine string) {
	for _, pattern := range []string{agentDir(machine) + "/runs/*/attempt-*", agentDir(machine) + "/runs/*.unreadable",
		"/var/tmp/checkbox-ng/sessions/*", "/var/lib/certlab/*/bin/.new-*"} {
		found, err := filepath.Glob(ps.Path(machine, pattern))
		found = slices.DeleteFunc(found, listing)
		if err != nil || len(found) > 0 {
			c.violate("leftover", "", "machine %s has %d of %s: %s %v", machine, len(found), pattern, brief(found), err)
		}
	}
	programs, _ := filepath.Glob(ps.Path(machine, "/var/lib/certlab/*/bin/*/certlab*")) // the pattern is good
	if len(programs) > 3 {                                                              // "current" is a link to one of them
		c.violate("leftover", "", "machine %s has programs of %d builds: %v", machine, len(programs)-1, programs)
	}
	size := diskUse(filepath.Join(c.lab.Dir, "machines", machine, "layers"))
	c.fact("machine %s: %d MiB written", machine, size>>20)
	if size > maxMachineDisk {
		c.violate("disk", "", "machine %s has written %d MiB, more than %d", machine, size>>20, maxMachineDisk>>20)
	}
}

// listing reports whether a session is one that list-bootstrapped leaves behind, of less than an hour ago: the agent removes older ones.
func listing(path string) bool {
	info, err := os.Stat(path)
	return strings.HasPrefix(filepath.Base(path), "checkbox-listing-ephemeral-") && (err != nil || time.Since(info.ModTime()) < time.Hour)
}

func diskUse(dir string) int64 {
	sum := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what vanishes meanwhile takes no room
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// storage is where the host has the controller's data.
func (c *checker) storage() string { return filepath.Join(c.lab.Dir, "storage", "data", "0") }

var checked = regexp.MustCompile(`^no damage: schema \d+, (\d+) files, (\d+) bytes, (\d+) files that nothing names`)

// controllerLeft has the controller's data checked, and the backups.
func (c *checker) controllerLeft(ctx context.Context) {
	out, err := c.verify(ctx, c.storage())
	found := checked.FindStringSubmatch(out)
	if err != nil || found == nil {
		c.violate("damage", "", "certlabd check: %v: %s", err, out)
	} else {
		c.fact("certlabd check: %s", strings.TrimSpace(out))
		// A crash between bytes and row leaves the bytes; the agent tries again, and the row comes.
		if found[3] != "0" {
			c.violate("leftover", "", "certlabd check: %s", out)
		}
	}
	for _, copied := range c.ledger.copies {
		path := filepath.Join(c.storage(), strings.TrimPrefix(copied.Path, "/srv/certlab"))
		sum, err := hash(path)
		if err != nil || sum != copied.SHA256 {
			c.violate("lost", copied.Path, "the backup was acknowledged with SHA-256 %s, and has %s %v", copied.SHA256, sum, err)
		}
	}
	if n := len(c.ledger.copies); n > 0 {
		c.restore(ctx, c.ledger.copies[n-1])
	}
}

func (c *checker) verify(ctx context.Context, data string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.lab.Program("certlabd"), "check", "--data", data).CombinedOutput()
	return string(out), err
}

// restore puts a backup into an empty directory and has that checked.
func (c *checker) restore(ctx context.Context, copied Copy) {
	dir := filepath.Join(c.lab.Dir, "restored")
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	path := filepath.Join(c.storage(), strings.TrimPrefix(copied.Path, "/srv/certlab"))
	err := os.Mkdir(dir, 0o700)
	var out []byte
	if err == nil {
		out, err = exec.CommandContext(ctx, c.lab.Program("certlabd"), "restore", "--data", dir, "--from", path).CombinedOutput()
	}
	if err == nil {
		var text string
		text, err = c.verify(ctx, dir)
		out = append(out, text...)
	}
	if err != nil {
		c.violate("damage", copied.Path, "the backup cannot be restored: %v: %s", err, out)
	}
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// alarming is what no log may have: a program's own end, or what the race detector says.
var alarming = regexp.MustCompile(`panic:|DATA RACE|fatal error:|goroutine \d+ \[|runtime error|SIGSEGV|assertion failed|database disk image is malformed`)

// logs reads the logs of the machines and of the lab.
func (c *checker) logs() {
	paths, _ := filepath.Glob(filepath.Join(c.lab.Dir, "machines", "*", "log", "*")) // the pattern is good
	total := int64(0)
	for _, path := range append(paths, filepath.Join(c.lab.Dir, "log", "lab.log")) {
		data, err := os.ReadFile(path)
		if err != nil {
			c.violate("unreachable", "", "%v", err)
			continue
		}
		total += int64(len(data))
		seen := 0
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			// Checkbox's own jobs crash on purpose and say so in the console, which is in no log.
			if alarming.Match(line) {
				if seen++; seen <= 3 {
					c.violate("log", "", "%s: %s", path, line)
				}
			}
		}
	}
	c.fact("logs of the machines: %s", fmt.Sprintf("%d KiB", total>>10))
	if total > maxLogs {
		c.violate("disk", "", "the logs have %d MiB", total>>20)
	}
}
