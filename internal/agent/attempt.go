package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// Defaults for limits that the desired state leaves out.
const (
	defaultTimeout  = 24 * time.Hour
	defaultMaxBoots = 20
)

// errLeaving means that the agent ends while an attempt goes on; nothing is decided.
var errLeaving = errors.New("the agent is ending")

// A failure is why an attempt has no valid submission.
type failure struct{ order.Failure }

func (f *failure) Error() string { return f.Type + ": " + f.Message }

func fail(kind, format string, args ...any) error {
	return &failure{order.Failure{Type: kind, Message: fmt.Sprintf(format, args...)}}
}

// errCancelled means that the run was ended on request.
var errCancelled = errors.New("the run was cancelled")

// work executes the runs, one at a time, oldest first.
func (a *Agent) work(ctx context.Context) {
	var trouble complaint
	for ctx.Err() == nil {
		a.mu.Lock()
		a.prune()
		changed := a.changed
		var next *run
		for _, id := range a.order {
			r := a.runs[id]
			if r.rec.Step == stepEnded || next != nil && r.rec.Step == stepQueued {
				continue
			}
			if r.rec.Step == stepQueued && a.held != nil && a.held.Run != id {
				continue // what the run before has changed is put back first
			}
			// What was begun comes before what waits; there is at most one.
			if next == nil || next.rec.Step == stepQueued {
				next = r
			}
		}
		held, wait := a.nextRestore()
		a.mu.Unlock()
		if next == nil && held != nil && wait == 0 {
			a.putBack(ctx, *held)
			continue
		}
		if next == nil {
			untilChanged(ctx, changed, wait)
			continue
		}
		err := a.execute(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Nothing can be written down: the disk is full or broken. The run stays where it is until that is better.
			id := next.rec.Run.Run
			trouble.say(a.opts.Log.Error, "cannot go on with a run", "run", id, "error", err)
			a.trouble("write", fmt.Sprintf("cannot go on with run %s: %v (make room on the machine's disk; the run then goes on by itself)", id, plainly(err)))
			a.shed()
			sleep(ctx, a.opts.WriteRetry)
			continue
		}
		trouble.over(a.opts.Log.Info, "runs go on")
		a.trouble("write", "")
	}
}

// execute takes a run from where it is to its end. An error means that the end could not be written down.
func (a *Agent) execute(ctx context.Context, r *run) error {
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	r.stop = stop
	at, cancelled := r.rec.Step, r.rec.Cancel
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		r.stop = nil
		a.mu.Unlock()
	}()
	t := &attempt{agent: a, run: r}
	var err error
	var failed *failure
	switch {
	case at == stepEnding:
		t.quiet()
		return t.finish()
	case cancelled && at != stepTesting:
		err = errCancelled
	default:
		if at == stepTesting {
			t.noteBoot()
		} else {
			if err = t.install(runCtx); err == nil {
				err = t.prepare(runCtx)
			}
			if err != nil && !errors.As(err, &failed) && !errors.Is(err, errCancelled) && runCtx.Err() == nil {
				return err
			}
		}
		if err == nil {
			// Not runCtx: a cancelled attempt has to be seen to its end too.
			if err = t.attend(ctx); err == nil {
				err = t.proved()
			}
		}
	}
	if ctx.Err() != nil {
		return errLeaving
	}
	a.mu.Lock()
	if r.rec.Cancel && err != nil {
		err = errCancelled
	}
	a.mu.Unlock()
	return t.end(err)
}

// An attempt is one try at a run.
type attempt struct {
	agent *Agent
	run   *run
	tool  *checkbox.Tool
	jobs  []checkbox.Job
}

func (t *attempt) rec() record {
	t.agent.mu.Lock()
	defer t.agent.mu.Unlock()
	return t.run.rec
}

func (t *attempt) dir() string {
	rec := t.rec()
	return t.agent.attemptDir(&rec)
}

// description names the attempt in Checkbox's session and in the submission.
func (t *attempt) description() string {
	rec := t.rec()
	return fmt.Sprintf("certlab run %s attempt %d", rec.Run.Run, rec.Run.Attempt)
}

func (t *attempt) archivePath() string  { return filepath.Join(t.dir(), "submission.tar.xz") }
func (t *attempt) consolePath() string  { return filepath.Join(t.dir(), "console") }
func (t *attempt) launcherPath() string { return filepath.Join(t.dir(), "launcher.conf") }
func (t *attempt) secretPath() string   { return filepath.Join(t.dir(), "secret.conf") }
func (t *attempt) jobsPath() string     { return filepath.Join(t.dir(), "jobs.json") }

// attend sees the attempt through: it starts what was written down, adopts what lives, resumes what was interrupted. It returns nil
// once Checkbox has written a valid submission.
func (t *attempt) attend(ctx context.Context) error {
	a := t.agent
	if t.jobs == nil {
		if err := readJSON(t.jobsPath(), &t.jobs); err != nil {
			// Then no job counts as one that is meant to be cut off.
			a.opts.Log.Error("a file of the run was damaged; the run goes on without it", "run", t.rec().Run.Run, "error", err)
		}
	}
	for {
		rec := t.rec()
		dir := a.startDir(&rec, rec.Start)
		end, err := t.watchStart(ctx, dir)
		if err != nil {
			return err
		}
		again, err := t.judge(ctx, dir, end)
		if err != nil || !again {
			return err
		}
	}
}

// judge decides what comes after a start has ended: true means that another was written down.
func (t *attempt) judge(ctx context.Context, dir string, end *exited) (again bool, err error) {
	a := t.agent
	desired := a.desiredNow()
	rec := t.rec()
	if end != nil && end.Left {
		a.opts.Log.Error("processes of Checkbox cannot be ended", "run", rec.Run.Run)
	}
	if end != nil && len(end.Orphans) > 0 {
		a.opts.Log.Warn("Checkbox left processes behind, which were ended", "run", rec.Run.Run, "processes", end.Orphans)
	}
	if end != nil && end.Error != "" && end.Reason == "" {
		a.opts.Log.Warn("not all that Checkbox printed was kept", "run", rec.Run.Run, "error", end.Error)
	}
	if end == nil {
		// The keeper is gone, with it Checkbox, but perhaps not what Checkbox had started.
		if !endAll(func() []process { return marked(dir) }, a.opts.Grace) {
			a.opts.Log.Error("processes of Checkbox cannot be ended", "run", rec.Run.Run)
		}
	}
	if rec.Cancel {
		return false, errCancelled
	}
	if end != nil {
		switch end.Reason {
		case "":
		case reasonCancelled:
			return false, errCancelled
		case order.FailTimeout:
			return false, fail(order.FailTimeout, "the attempt took longer than %v (set timeout if the plan takes that long)%s", t.timeout(desired), t.where())
		case order.FailSilence:
			return false, fail(order.FailSilence, "Checkbox printed nothing for %v (set silence-timeout if a job is that quiet)%s", time.Duration(desired.SilenceSeconds)*time.Second, t.where())
		case order.FailConsoleSize:
			return false, fail(order.FailConsoleSize, "Checkbox printed more than %d bytes%s", desired.ConsoleMaxBytes, t.where())
		case order.FailSessionSize:
			return false, fail(order.FailSessionSize, "Checkbox's session grew beyond %d bytes%s", desired.SessionMaxBytes, t.where())
		default:
			return false, fail(end.Reason, "%s", end.Error)
		}
	}
	if sub, err := t.examine(ctx); err == nil {
		return false, t.accept(sub)
	} else if errors.Is(err, errLeaving) {
		return false, err
	} else if end != nil && !interruptedBy(end) {
		// It ended by itself and there is nothing to go on with.
		return false, t.orFull(t.explain(end, err))
	}
	return true, t.resume(ctx, dir, end)
}

// where says which job was running, for a failure's message.
func (t *attempt) where() string {
	if job := t.rec().Run.Progress.CurrentJob; job != "" {
		return ", in job " + job
	}
	return ""
}

// explain is the failure of a Checkbox that ended by itself without a valid archive.
func (t *attempt) explain(end *exited, archive error) error {
	if _, written := checkbox.FindArchive(t.archivePath()); written {
		return archive
	}
	var console checkbox.Console
	rec := t.rec()
	var s start
	if readJSON(filepath.Join(t.agent.startDir(&rec, rec.Start), startFile), &s) == nil {
		f := &follower{path: s.Console, offset: s.Offset, console: console}
		f.read()
		f.close()
		console = f.console
	}
	said := console.Error
	if said == "" {
		said = "the console is among the run's files"
	}
	if console.Traceback || end.Code != 0 && console.Planned == 0 {
		return fail(order.FailCheckbox, "Checkbox ended with exit code %d and without a submission: %s", end.Code, said)
	}
	return fail(order.FailNoArchive, "Checkbox ended with exit code %d but wrote no submission: %s", end.Code, said)
}
