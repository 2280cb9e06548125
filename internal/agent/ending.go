package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/durable"
	"certlab/internal/order"
	"certlab/internal/results"
)

// examine reads the archive that Checkbox wrote. Checkbox's exit code is not asked: 0 is what it also says when it could not write one.
func (t *attempt) examine(ctx context.Context) (*results.Submission, error) {
	path, ok := checkbox.FindArchive(t.archivePath())
	if !ok {
		return nil, fail(order.FailNoArchive, "Checkbox wrote no submission")
	}
	t.agent.touch(t.run, func(rec *record) {
		rec.Run.Progress.Phase, rec.Run.Progress.CurrentJob, rec.Run.Progress.QuietSeconds = order.Exporting, "", 0
	})
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(order.FailSpool, "cannot read the submission: %v", err)
	}
	defer f.Close()
	sub, err := results.Read(readerWith(ctx, f), results.Options{})
	if ctx.Err() != nil {
		return nil, errLeaving
	}
	var unreadable *results.Error
	if errors.As(err, &unreadable) && unreadable.Kind == results.ReadFailed {
		return nil, fail(order.FailSpool, "%v (look at the machine's disk)", err)
	}
	if err != nil {
		return nil, fail(order.FailBadArchive, "%v", err)
	}
	if want := t.rec().Run.Spec.Plan; sub.Plan != want {
		return nil, fail(order.FailWrongPlan, "the submission is of plan %q, not of %s", sub.Plan, want)
	}
	return sub, nil
}

// accept takes down what a valid submission says. A job that was interrupted although it was not meant to be must not have passed: if
// Checkbox says so all the same, the submission claims what nobody has seen, and the run has failed.
func (t *attempt) accept(sub *results.Submission) error {
	outcome := make(map[string]results.Outcome)
	var failed []string
	for i := range sub.Results {
		r := &sub.Results[i]
		outcome[r.ID] = r.Outcome
		if r.Outcome.Class() == results.Failed {
			failed = append(failed, r.ID)
		}
	}
	for _, i := range t.rec().Run.Interruptions {
		if i.Job != "" && !i.Expected && outcome[i.Job].Class() == results.Passed {
			return fail(order.FailInterrupted, "%s, and Checkbox recorded that job as passed: the submission cannot be trusted", describe(i))
		}
	}
	t.agent.touch(t.run, func(rec *record) {
		rec.Failed = failed
		rec.Run.Counts = sub.Counts()
		rec.Run.BlockersFailed = sub.BlockersFailed()
		if v := sub.CheckboxVersion(); v != "" {
			rec.Run.CheckboxVersion = v
		}
		p := &rec.Run.Progress
		p.JobsDone, p.CurrentJob, p.QuietSeconds = max(p.JobsDone, p.JobsPlanned), "", 0
	})
	return nil
}

// end writes down how the attempt ended, then puts its files into the spool.
func (t *attempt) end(err error) error {
	t.quiet()
	state := order.Completed
	var failure_ *order.Failure
	var failed *failure
	switch {
	case err == nil:
	case errors.Is(err, errCancelled):
		state = order.Cancelled
	case errors.As(err, &failed):
		state, failure_ = order.Failed, &failed.Failure
	default:
		state, failure_ = order.Failed, &order.Failure{Type: order.FailAgent, Message: err.Error()}
	}
	if err := t.agent.update(t.run, func(rec *record) {
		rec.Step, rec.Verdict, rec.Run.Failure = stepEnding, state, failure_
		rec.Run.Progress.Phase, rec.Run.Progress.CurrentJob, rec.Run.Progress.QuietSeconds = order.Delivering, "", 0
		if state != order.Completed {
			rec.Run.Counts, rec.Run.BlockersFailed = nil, nil
		}
	}); err != nil {
		return err
	}
	return t.finish()
}

// quiet makes sure that nothing of the attempt runs on when its end is decided, as where the agent could not make out what a keeper does.
func (t *attempt) quiet() {
	rec := t.rec()
	if rec.Start == 0 {
		return
	}
	dir := t.agent.startDir(&rec, rec.Start)
	if !locked(filepath.Join(dir, startLock)) {
		return
	}
	t.stopKeeper(dir)
	waitFor(t.agent.opts.Grace+30*time.Second, func() bool { return !locked(filepath.Join(dir, startLock)) })
}

// finish moves the attempt's files into the spool and makes the run final. It can be done again after a power cut at any line.
func (t *attempt) finish() error {
	a := t.agent
	rec := t.rec()
	id := rec.Run.Run
	spool := a.spoolDir(id)
	if err := makeDir(spool); err != nil {
		return err
	}
	session, found, err := checkbox.FindSession(a.opts.SessionsDir, t.description())
	if err != nil {
		a.opts.Log.Error("cannot look for the session", "run", id, "error", err)
	}
	if found && rec.Verdict != order.Completed {
		if err := saveSession(session, filepath.Join(t.dir(), "session.tar.gz"), a.desiredNow().SessionMaxBytes); err != nil {
			// The console says most of it; a full disk must not keep the run from ending.
			a.opts.Log.Error("the session is not delivered", "run", id, "error", err)
		}
	}
	var files []order.File
	submission := ""
	all := []spooled{{order.SubmissionFile, "submission.tar.xz"}, {order.ConsoleFile, "console"}, {order.SessionFile, "session.tar.gz"}}
	for _, f := range append(append(all, t.evidence(t.dir(), spool)...), spooled{order.JobsFile, plannedFile}) {
		from, to := filepath.Join(t.dir(), f.name), filepath.Join(spool, f.name)
		if info, err := os.Stat(from); err == nil && info.Mode().IsRegular() {
			if info.Size() == 0 {
				continue
			}
			if err := syncFile(from); err != nil {
				return err
			}
			if err := os.Rename(from, to); err != nil {
				return fmt.Errorf("cannot spool %s: %w", f.name, err)
			}
		}
		sum, size, err := hashFile(to)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files = append(files, order.File{Kind: f.kind, Name: f.name, SHA256: sum, Size: size})
		if f.kind == order.SubmissionFile {
			submission = to
		}
	}
	if err := durable.SyncDir(spool); err != nil {
		return err
	}
	a.releaseSnaps()
	// What is in the spool is all that is needed from here on; secret.conf goes with the rest.
	if found {
		if err := session.Remove(); err != nil {
			a.opts.Log.Error("cannot remove the session", "run", id, "error", err)
		}
	}
	if err := os.RemoveAll(t.tempDir()); err != nil {
		a.opts.Log.Error("cannot remove Checkbox's temporary directory", "run", id, "error", err)
	}
	if err := os.RemoveAll(t.dir()); err != nil {
		a.opts.Log.Error("cannot remove the attempt's directory", "run", id, "error", err)
	}
	if err := a.update(t.run, func(rec *record) {
		rec.Step = stepEnded
		rec.Run.State, rec.Run.Files, rec.Run.SubmissionPath, rec.Run.Finished = rec.Verdict, files, submission, a.now()
	}); err != nil {
		return err
	}
	a.mu.Lock()
	t.run.endedAt = time.Now()
	a.mu.Unlock()
	level := a.opts.Log.Info
	if rec.Verdict == order.Failed {
		level = a.opts.Log.Error
	}
	level("run ended", "run", id, "state", rec.Verdict, "counts", rec.Run.Counts, "failure", rec.Run.Failure)
	return nil
}

// spooled is a file of an attempt.
type spooled struct {
	kind order.FileKind
	name string
}

// saveSession writes the session's files to path.
func saveSession(s checkbox.Session, path string, limit int64) error {
	if limit <= 0 {
		limit = 1 << 30
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = s.Save(f, limit)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(path)
	}
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// readerWith ends reading when ctx does.
func readerWith(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
