package agent

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// watchStart waits for the start in dir to end, and follows what it prints meanwhile. It returns nil if the keeper is gone without
// having said how Checkbox ended.
func (t *attempt) watchStart(ctx context.Context, dir string) (*exited, error) {
	a := t.agent
	var s start
	lock := filepath.Join(dir, startLock)
	if err := readJSON(filepath.Join(dir, startFile), &s); err != nil {
		if !locked(lock) && !exists(filepath.Join(dir, keepFile)) {
			return nil, fail(order.FailAgent, "%v (it was damaged, as by a power cut; run the plan again)", err)
		}
		// It has been read by who needs it.
		a.opts.Log.Error("a file of the run was damaged; the run goes on without it", "run", t.rec().Run.Run, "error", err)
		rec := t.rec()
		s = start{Number: rec.Start, Console: t.consolePath(), Terminal: rec.Run.Origin == order.FromInteractive}
	}
	if !exists(filepath.Join(dir, keepFile)) && !locked(lock) {
		if t.rec().Cancel {
			return nil, errCancelled
		}
		if s.Terminal {
			// Who sits there starts it; see Interactive.
			if !t.waitTerminal(ctx, dir) {
				if ctx.Err() != nil {
					return nil, errLeaving
				}
				return nil, fail(order.FailInterrupted, "the person at the terminal did not come (back) within %v", terminalPatience)
			}
		} else if err := spawnKeeper(a.opts.Binary, dir, []string{"PATH=" + a.opts.Path, "LANG=C.UTF-8"}); err != nil {
			return nil, fail(order.FailAgent, "%v", err)
		}
		a.opts.Log.Info("Checkbox started", "run", t.rec().Run.Run, "start", s.Number)
	} else if locked(lock) {
		a.opts.Log.Info("a running Checkbox was found", "run", t.rec().Run.Run, "start", s.Number)
	}
	follow := &follower{path: s.Console, offset: s.Offset}
	defer follow.close()
	tick := time.NewTicker(a.opts.Interval)
	defer tick.Stop()
	told := false
	for {
		// In this order: a keeper writes how it ended before it lets go of its lock.
		living := locked(lock)
		if !s.Terminal {
			follow.read()
			t.progress(&follow.console)
		}
		var end exited
		if err := readJSON(filepath.Join(dir, exitFile), &end); err == nil {
			return &end, nil
		}
		if !living && exists(filepath.Join(dir, keepFile)) {
			return nil, nil
		}
		if t.rec().Cancel && !told {
			told = true
			t.stopKeeper(dir)
		}
		select {
		case <-ctx.Done():
			return nil, errLeaving
		case <-t.run.wake:
		case <-tick.C:
		}
	}
}

// stopKeeper has the keeper end Checkbox.
func (t *attempt) stopKeeper(dir string) {
	// Without a temporary file: there may be no room for another.
	f, err := os.OpenFile(filepath.Join(dir, cancelFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.agent.opts.Log.Error("cannot tell a keeper to end Checkbox; it is ended in its place", "error", err)
		endAll(func() []process { return marked(dir) }, t.agent.opts.Grace)
		return
	}
	var k kept
	if readJSON(filepath.Join(dir, keepFile), &k) == nil && k.Keeper.alive() {
		k.Keeper.signal(syscall.SIGTERM)
		return
	}
	// Who keeps it cannot be told, but what it keeps can be ended, and then it ends too.
	endAll(func() []process { return marked(dir) }, t.agent.opts.Grace)
}

// progress publishes how far Checkbox says it is. After a resume it counts only what was left; what was done before is added.
func (t *attempt) progress(c *checkbox.Console) {
	rec := t.rec()
	p := rec.Run.Progress
	planned := max(rec.Planned, c.Planned)
	p.JobsPlanned, p.CurrentJob = planned, c.Job
	p.QuietSeconds = int64(t.quietFor(&rec, c.Job) / time.Second)
	if c.Planned > 0 {
		p.JobsDone = min(planned, planned-c.Planned+c.Done)
	}
	if c.Planned > 0 && c.Done == c.Planned && c.Job == "" {
		p.Phase = order.Exporting
	} else {
		p.Phase = order.Testing
	}
	if p == rec.Run.Progress && planned == rec.Planned {
		return
	}
	if planned != rec.Planned {
		t.agent.update(t.run, func(rec *record) { rec.Planned, rec.Run.Progress = planned, p })
		return
	}
	t.agent.touch(t.run, func(rec *record) { rec.Run.Progress = p })
}

// quietFor is how long the machine may keep silent because of a job.
func (t *attempt) quietFor(rec *record, job string) time.Duration {
	i := slices.IndexFunc(t.jobs, func(j checkbox.Job) bool { return j.ID == job })
	if i < 0 {
		return 0
	}
	desired := t.agent.desiredNow()
	return checkbox.Quiet(t.jobs[i], func(name string) string {
		for _, environment := range []map[string]string{rec.Run.Spec.Environment, rec.SiteEnvironment, desired.Environment} {
			if value, ok := environment[name]; ok {
				return value
			}
		}
		return ""
	})
}

// A follower reads what is appended to a console.
type follower struct {
	path    string
	offset  int64
	file    *os.File
	console checkbox.Console
}

// maxFollow bounds what is read in one go, so that a flood does not keep the agent from looking at anything else.
const maxFollow = 16 << 20

func (f *follower) read() {
	if f.file == nil {
		file, err := os.Open(f.path)
		if err != nil {
			return // not there yet
		}
		if _, err := file.Seek(f.offset, io.SeekStart); err != nil {
			file.Close()
			return
		}
		f.file = file
	}
	io.Copy(&f.console, io.LimitReader(f.file, maxFollow))
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
	}
}
