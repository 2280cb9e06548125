package agent

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/order"
)

// restartFailures is how many polls of a controller that was there may fail in a row before it counts as unreachable.
const restartFailures = 3

// poll asks the controller for orders, again and again.
func (a *Agent) poll(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		a.mu.Unlock()
		if controller == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		// Until it has answered once, the answer matters more than what it says.
		wait := a.opts.PollWait
		if a.controllerState() != "enrolled" {
			wait = 0
		}
		pollCtx, stop := context.WithCancel(ctx)
		go a.whenReplaced(pollCtx, controller, stop)
		p, err := controller.poll(pollCtx, wait)
		stop()
		if ctx.Err() != nil {
			return
		}
		// A controller that restarts cuts its polls off and is back in seconds, which is nobody's concern.
		if err == nil || refused(err) || failures >= restartFailures || a.controllerState() != "enrolled" {
			a.noteController(controller, err)
		}
		if err != nil {
			failures++
			a.pause(ctx, controller, backoff(failures-1, a.opts.RetryLimit))
			continue
		}
		failures = 0
		for _, o := range p.Orders {
			if !runID.MatchString(o.Run) {
				a.opts.Log.Error("an order has no valid run id", "run", clip(o.Run, 100))
				continue
			}
			if _, err := a.add(o.Run, order.FromOrder, o.Created, o.Spec); err != nil {
				a.opts.Log.Error("cannot take an order", "run", o.Run, "error", err)
				a.refuseOrder(o, err)
			}
		}
		for _, id := range p.Cancel {
			if _, err := a.cancel(id); err != nil {
				a.opts.Log.Warn("cannot cancel", "run", clip(id, 100), "error", err)
			}
		}
		if len(p.Orders)+len(p.Cancel) > 0 {
			// They are repeated until our report of them has arrived.
			sleep(ctx, min(a.opts.ReportEvery, time.Second))
		}
	}
}

// refuseOrder records an order that can never be run as failed, so that the controller learns why and does not repeat it for ever.
func (a *Agent) refuseOrder(o order.Order, reason error) {
	var e *requestError
	if !errors.As(reason, &e) || e.status != http.StatusBadRequest {
		return // it may be taken when it comes again
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now().UTC()
	r := &run{wake: make(chan struct{}, 1), version: 1, rec: record{Step: stepEnded, Verdict: order.Failed, Run: order.Run{
		Report: order.Report{Run: o.Run, Attempt: 1, Sequence: 1, Origin: order.FromOrder, Created: o.Created, Started: now, State: order.Failed,
			Spec: o.Spec, BootID: a.bootID, Progress: order.Progress{Phase: order.Delivering}},
		Finished: now, Failure: &order.Failure{Type: order.FailAgent, Message: reason.Error()},
	}}}
	if err := makeDir(a.runDir(o.Run)); err != nil {
		return
	}
	if err := a.store(r); err != nil {
		return
	}
	a.runs[o.Run] = r
	a.order = append(a.order, o.Run)
	a.notify()
}

func (a *Agent) controllerState() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.controller
}

// whenReplaced calls stop when another controller takes the place of r, so that nobody waits for the old one's answer.
func (a *Agent) whenReplaced(ctx context.Context, r *remote, stop func()) {
	for {
		a.mu.Lock()
		now, changed := a.remote, a.changed
		a.mu.Unlock()
		if now != r {
			stop()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// pause waits for d, or until another controller takes the place of r.
func (a *Agent) pause(ctx context.Context, r *remote, d time.Duration) {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	a.whenReplaced(ctx, r, stop)
}

// noteController takes down how the controller answered.
func (a *Agent) noteController(r *remote, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.remote != r {
		return
	}
	state, text := "enrolled", ""
	switch {
	case refused(err):
		state, text = "refused", err.Error()
	case err != nil:
		var answered *remoteError
		if errors.As(err, &answered) && answered.Status < 500 {
			return // it is there, and knows us; the request was the trouble
		}
		state, text = "unreachable", clip(err.Error(), 500)
	}
	if state == a.controller && text == a.controlErr {
		return
	}
	if state != a.controller {
		a.opts.Log.Info("controller", "state", state, "error", text)
	}
	a.controller, a.controlErr = state, text
	a.notify()
}

// reportAll tells the controller what becomes of runs, each at most once per ReportEvery.
func (a *Agent) reportAll(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		var todo *run
		wait := time.Duration(-1)
		if controller != nil && a.controller == "enrolled" {
			for _, id := range a.order {
				r := a.runs[id]
				if r.rec.Run.Delivered || r.rec.Dropped || r.reported >= r.version {
					continue
				}
				if left := a.opts.ReportEvery - time.Since(r.lastTold); left > 0 {
					if wait < 0 || left < wait {
						wait = left
					}
					continue
				}
				todo = r
				break
			}
		}
		var report order.Report
		var version int64
		if todo != nil {
			report, version = todo.rec.Run.Report, todo.version
			if report.State.Final() { // until it is delivered, it is not over for the controller
				report.State, report.Progress.Phase = order.Running, order.Delivering
			}
			todo.lastTold = time.Now()
		}
		a.mu.Unlock()
		if todo == nil {
			var timer <-chan time.Time
			if wait >= 0 {
				timer = time.After(wait)
			}
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer:
			}
			continue
		}
		ack, err := controller.report(ctx, report)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			failures = 0
			a.mu.Lock()
			todo.reported = max(todo.reported, version)
			if ack.URL != "" && todo.rec.Run.URL != ack.URL {
				todo.rec.Run.URL = ack.URL
				a.notify()
			}
			a.mu.Unlock()
			if ack.Cancel {
				a.cancel(report.Run)
			}
		case gone(err):
			a.drop(todo, err)
		default:
			a.opts.Log.Warn("cannot report", "run", report.Run, "error", err)
			a.noteController(controller, err)
			a.pause(ctx, controller, backoff(failures, a.opts.RetryLimit))
			failures++
		}
	}
}

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

// deliverAll brings the files of final runs to the controller, oldest first, and forgets them once it has acknowledged.
func (a *Agent) deliverAll(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		var todo *run
		if controller != nil && a.controller == "enrolled" {
			for _, id := range a.order {
				if r := a.runs[id]; r.rec.Step == stepEnded && !r.rec.Run.Delivered && !r.rec.Dropped {
					todo = r
					break
				}
			}
		}
		a.mu.Unlock()
		if todo == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
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
			failures = 0
		case gone(err):
			a.drop(todo, err)
		default:
			a.opts.Log.Warn("cannot deliver", "run", todo.rec.Run.Run, "error", err)
			a.noteController(controller, err)
			a.pause(ctx, controller, backoff(failures, a.opts.RetryLimit))
			failures++
		}
	}
}

// deliver reports a run, uploads its files and finishes it. Each step may have been done before.
func (a *Agent) deliver(ctx context.Context, controller *remote, r *run) error {
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
	var files []order.File
	for _, f := range rec.Run.Files {
		path := filepath.Join(a.spoolDir(id), f.Name)
		if !exists(path) {
			a.opts.Log.Error("a file to be delivered is gone", "run", id, "file", f.Name)
			continue
		}
		if err := controller.upload(ctx, id, rec.Run.Attempt, f, path); err != nil {
			return err
		}
		files = append(files, f)
	}
	final := rec.Run.Report
	final.Sequence++
	ack, err := controller.finish(ctx, order.Finish{
		Report: final, Finished: rec.Run.Finished, Failure: rec.Run.Failure, Counts: rec.Run.Counts, Files: files,
	})
	if err != nil {
		return err
	}
	if err := a.update(r, func(rec *record) {
		rec.Run.Delivered, rec.Run.SubmissionPath = true, ""
		if ack.URL != "" {
			rec.Run.URL = ack.URL
		}
	}); err != nil {
		return err
	}
	a.opts.Log.Info("run delivered", "run", id)
	return os.RemoveAll(a.spoolDir(id))
}
