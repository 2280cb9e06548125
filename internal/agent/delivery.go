package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"certlab/internal/order"
)

// restartFailures is how many polls of a controller that was there may fail in a row before it counts as unreachable.
const restartFailures = 3

// poll asks the controller for orders, again and again.
func (a *Agent) poll(ctx context.Context) {
	failures := 0
	var refusals, untold complaint
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
		// Until it has answered once, the answer matters more than what it says; after it was gone, whether it comes from a backup.
		wait := a.opts.PollWait
		if a.controllerState() != "enrolled" || failures > 0 {
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
			a.noteController(controller, pollError(err))
		}
		if err != nil {
			failures++
			a.pause(ctx, controller, a.patience(failures-1, err))
			continue
		}
		failures = 0
		a.noteEpoch(p.Epoch)
		a.trouble("clock", controller.clockTrouble())
		if err := a.tellHeld(ctx, controller, p.Epoch); err != nil {
			untold.say(a.opts.Log.Warn, "cannot tell the controller what is still here; it is tried again", "error", err)
		} else {
			untold = complaint{}
		}
		a.wantAgain(p.Resend)
		for _, id := range p.Lost {
			a.wasLost(ctx, id)
		}
		taken := true
		for _, o := range p.Orders {
			if err := a.takeOrder(o); err != nil {
				taken = false
				if queueFull(err) {
					a.opts.Log.Debug("an order has to wait at the controller", "run", o.Run, "error", err)
					continue
				}
				refusals.say(a.opts.Log.Error, "cannot take an order", "run", clip(o.Run, 100), "error", err)
				a.trouble("orders", fmt.Sprintf("cannot take run %s from the controller: %v; it is asked for again", clip(o.Run, 100), err))
			}
		}
		if taken {
			refusals.over(a.opts.Log.Info, "orders are taken again")
			a.trouble("orders", "")
		}
		for _, id := range p.Cancel {
			if _, err := a.cancel(id); err != nil {
				a.opts.Log.Warn("cannot cancel", "run", clip(id, 100), "error", err)
			}
		}
		switch {
		case !taken:
			a.pause(ctx, controller, backoff(max(0, refusals.times-1), min(a.opts.WriteRetry, a.opts.RetryLimit)))
		case len(p.Orders)+len(p.Cancel)+len(p.Resend)+len(p.Lost) > 0:
			// They are repeated until our report of them, or the file, has arrived.
			sleep(ctx, min(a.opts.ReportEvery, time.Second))
		}
	}
}

// noteEpoch takes down of which data the controller speaks.
func (a *Agent) noteEpoch(epoch string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.epoch != epoch {
		a.epoch = epoch
		a.notify()
	}
}

// queueFull reports whether a run was refused only because others wait, which is no trouble.
func queueFull(err error) bool {
	var e *requestError
	return errors.As(err, &e) && e.status == http.StatusServiceUnavailable
}

// takeOrder queues an order, durably. An error means that it was not taken and may be taken when it comes again.
func (a *Agent) takeOrder(o order.Order) error {
	if !runID.MatchString(o.Run) {
		return fmt.Errorf("%q is no run id", clip(o.Run, 100))
	}
	_, err := a.addOrder(order.FromOrder, o)
	var wrong *requestError
	if errors.As(err, &wrong) && wrong.status == http.StatusBadRequest {
		a.opts.Log.Error("an order cannot be run", "run", o.Run, "error", err)
		return a.refuseOrder(o, err)
	}
	return err
}

// refuseOrder records an order that can never be run as failed, so that the controller learns why and does not repeat it for ever.
func (a *Agent) refuseOrder(o order.Order, reason error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	r := &run{wake: make(chan struct{}, 1), version: 1, rec: record{Step: stepEnded, Verdict: order.Failed, Number: a.nextNumber(), Run: order.Run{
		Report: order.Report{Run: o.Run, Attempt: 1, Sequence: 1, Origin: order.FromOrder, Created: o.Created, Started: now, State: order.Failed,
			Spec: o.Spec, BootID: a.bootID, Progress: order.Progress{Phase: order.Delivering}},
		Finished: now, Failure: &order.Failure{Type: order.FailAgent, Message: reason.Error()},
	}}}
	if err := makeDir(a.runDir(o.Run)); err != nil {
		return err
	}
	if err := a.store(r); err != nil {
		return err
	}
	a.runs[o.Run] = r
	a.order = append(a.order, o.Run)
	a.notify()
	return nil
}

func (a *Agent) controllerState() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.controller
}

// patience is how long to wait after the nth failure in a row, from 0, which was err: at least as long as the controller asks for, if that is
// within our own limit.
func (a *Agent) patience(n int, err error) time.Duration {
	d := backoff(n, a.retryLimit(err))
	var answered *remoteError
	if errors.As(err, &answered) {
		d = max(d, min(answered.RetryAfter, a.opts.RetryLimit))
	}
	return d
}

// overLimit is how many times longer than others a deployed machine waits that the controller does not know (any more): its deployment is
// over, most likely, and nobody is going to publish its key.
const overLimit = 10

// retryLimit is the longest time between two tries after err.
func (a *Agent) retryLimit(err error) time.Duration {
	if refused(err) && a.desiredNow().Deployment != "" {
		return overLimit * a.opts.RetryLimit
	}
	return a.opts.RetryLimit
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
		if errors.As(err, &answered) && (answered.Status < 500 || answered.busy() && a.controller == "enrolled") {
			return // it is there, and knows us; the request was the trouble, or comes too early
		}
		state, text = "unreachable", clip(err.Error(), 500)
	}
	if state == a.controller && text == a.controlErr {
		return
	}
	if state != a.controller {
		level := a.opts.Log.Info
		if state != "enrolled" {
			level = a.opts.Log.Warn
		}
		level("controller", "state", state, "error", text)
		a.controlAt = a.now()
	}
	if state == "enrolled" {
		delete(a.problems, "key")
	}
	a.controller, a.controlErr = state, text
	a.notify()
}

// pollError is what the failure of a poll says of the controller: a poll that is answered by anything but an answer to it, was answered
// by something else.
func pollError(err error) error {
	var answered *remoteError
	if errors.As(err, &answered) && !refused(err) && !answered.busy() && answered.Status < 500 {
		return fmt.Errorf("cannot poll the controller: %w (is it a certlabd of this release that answers there?)", errors.New(answered.Error()))
	}
	return err
}

// reportAll tells the controller what becomes of runs, each at most once per ReportEvery.
func (a *Agent) reportAll(ctx context.Context) {
	var trouble complaint
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
				// That the machine falls silent is said before it does.
				if left := a.opts.ReportEvery - time.Since(r.lastTold); left > 0 && r.rec.Run.Progress.QuietSeconds == 0 {
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
			untilChanged(ctx, changed, wait)
			continue
		}
		ack, err := controller.report(ctx, report)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			trouble.over(a.opts.Log.Info, "reports arrive again")
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
			trouble.say(a.opts.Log.Warn, "cannot report", "run", report.Run, "error", err)
			a.noteController(controller, err)
			a.pause(ctx, controller, a.patience(trouble.times-1, err))
		}
	}
}

// untilChanged returns when the agent's state has changed, after wait unless that is negative, or when ctx ends.
func untilChanged(ctx context.Context, changed <-chan struct{}, wait time.Duration) {
	var timer <-chan time.Time
	if wait >= 0 {
		timer = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer:
	}
}
