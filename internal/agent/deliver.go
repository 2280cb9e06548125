package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"certlab/internal/order"
)

// drop gives up on a run that the controller will never take; its files stay as those of an agent on its own do.
func (a *Agent) drop(r *run, err error) {
	a.opts.Log.Error("the controller does not want this run", "run", r.rec.Run.Run, "error", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	r.reported = r.version
	if r.rec.Step == stepEnded {
		r.rec.Dropped = true
		a.store(r)
	}
	a.notify()
}

// deliverAll brings the files of final runs to the controller, oldest first. One that cannot be delivered does not hold up the others.
func (a *Agent) deliverAll(ctx context.Context) {
	var trouble complaint
	for ctx.Err() == nil {
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		var todo *run
		wait := time.Duration(-1)
		if controller != nil && a.controller == "enrolled" {
			todo, wait = a.nextDelivery()
		}
		a.mu.Unlock()
		if todo == nil {
			untilChanged(ctx, changed, wait)
			continue
		}
		deliverCtx, stop := context.WithCancel(ctx)
		go a.whenReplaced(deliverCtx, controller, stop)
		err := a.deliver(deliverCtx, controller, todo)
		stop()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			trouble.over(a.opts.Log.Info, "runs are delivered again")
			a.trouble("delivery", "")
			a.shed()
		case gone(err):
			a.drop(todo, err)
		default:
			id := todo.rec.Run.Run
			trouble.say(a.opts.Log.Warn, "cannot deliver", "run", id, "error", err)
			var answered *remoteError
			if errors.As(err, &answered) && (answered.Status < 500 || answered.Status == http.StatusInsufficientStorage) && !refused(err) {
				a.trouble("delivery", fmt.Sprintf("cannot deliver run %s: %v; its files stay in %s and are tried again", id, err, a.spoolDir(id)))
			}
			a.noteController(controller, err)
			a.mu.Lock()
			todo.retryAt = time.Now().Add(a.patience(todo.failures, err))
			todo.failures++
			a.mu.Unlock()
		}
	}
}

// nextDelivery is the run to be delivered next, or how long it is until there is one; -1: there is none. a.mu must be held.
func (a *Agent) nextDelivery() (*run, time.Duration) {
	wait := time.Duration(-1)
	for _, id := range a.order {
		r := a.runs[id]
		if r.rec.Step != stepEnded || r.rec.Run.Delivered || r.rec.Dropped {
			continue
		}
		left := time.Until(r.retryAt)
		if left <= 0 {
			return r, 0
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

// deliver reports a run, uploads its files and finishes it. Each step may have been done before.
func (a *Agent) deliver(ctx context.Context, controller *remote, r *run) error {
	if err := a.inspect(r); err != nil {
		return err
	}
	a.mu.Lock()
	rec := r.rec
	a.mu.Unlock()
	id := rec.Run.Run
	report := rec.Run.Report
	report.State, report.Progress.Phase = order.Running, order.Delivering
	// The controller must know the run before it takes files of it.
	if _, err := controller.report(ctx, report); err != nil {
		return err
	}
	for _, f := range rec.Run.Files {
		if err := controller.upload(ctx, id, rec.Run.Attempt, f, filepath.Join(a.spoolDir(id), f.Name)); err != nil {
			return err
		}
	}
	final := rec.Run.Report
	final.Sequence++
	ack, err := controller.finish(ctx, order.Finish{
		Report: final, Finished: rec.Run.Finished, Failure: rec.Run.Failure, Counts: rec.Run.Counts, Files: rec.Run.Files,
	})
	if err != nil {
		return err
	}
	if err := a.update(r, func(rec *record) {
		rec.Run.Delivered, rec.Kept, rec.DeliveredAt = true, len(rec.Run.Files) > 0, a.now()
		if ack.URL != "" {
			rec.Run.URL = ack.URL
		}
	}); err != nil {
		return err
	}
	os.Rename(filepath.Join(a.runDir(id), askedFile), filepath.Join(a.runDir(id), deliveredFile))
	if len(rec.Run.Files) == 0 {
		os.RemoveAll(a.spoolDir(id)) // it is empty; should this fail, the next start does it
	}
	a.opts.Log.Info("run delivered", "run", id)
	return nil
}

// inspect looks whether a run's files are what they were when they were put into the spool. What is not is said, and delivered as it
// is: a run whose submission is not whole has failed.
func (a *Agent) inspect(r *run) error {
	a.mu.Lock()
	rec := r.rec
	a.mu.Unlock()
	var files []order.File
	var lost error
	for _, f := range rec.Run.Files {
		path := filepath.Join(a.spoolDir(rec.Run.Run), f.Name)
		err := checkFile(path, f)
		switch {
		case err == nil:
			files = append(files, f)
			continue
		case errors.Is(err, errFileGone):
		case errors.Is(err, errFileDamaged):
			var sumErr error
			if f.SHA256, f.Size, sumErr = hashFile(path); sumErr != nil {
				return sumErr
			}
			if f.Size > 0 {
				files = append(files, f)
			}
		default:
			return err // it may be readable again
		}
		a.opts.Log.Error("a file of a run is not what it was", "run", rec.Run.Run, "error", err)
		if f.Kind == order.SubmissionFile {
			lost = err
		}
	}
	if len(files) == len(rec.Run.Files) && slices.Equal(files, rec.Run.Files) {
		return nil
	}
	return a.update(r, func(rec *record) {
		rec.Run.Files = files
		if lost == nil {
			return
		}
		rec.Run.SubmissionPath = ""
		if rec.Run.State == order.Completed {
			rec.Run.State, rec.Verdict, rec.Run.Counts, rec.Run.BlockersFailed = order.Failed, order.Failed, nil, nil
			rec.Run.Failure = &order.Failure{Type: order.FailSpool, Message: fmt.Sprintf("%v (look at the machine's disk, then run the plan again)", lost)}
		}
	})
}
