package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/workload"
)

const (
	preflightPlan = "com.canonical.certlab::preflight"

	// callTime bounds a request that the agent answers from what it knows, and planTime one for which it has to ask Checkbox.
	callTime = 30 * time.Second
	planTime = 5 * time.Minute
	// maxExpression and maxRunID bound what the operator types, in bytes.
	maxExpression, maxRunID = 1000, 100
	// waitStep is how long one request of a longer wait may take, in seconds.
	waitStep = 20
)

type runSuiteParams struct {
	Plan        string `param:"plan"`
	Exclude     string `param:"exclude"`
	Match       string `param:"match"`
	Environment string `param:"environment"`
	Title       string `param:"title"`
	Timeout     int64  `param:"timeout"` // minutes
	Wait        int64  `param:"wait"`    // seconds
}

// spec checks the parameters. defaultPlan is asked for only when the action names no plan.
func (p runSuiteParams) spec(defaultPlan func() (string, error)) (order.Spec, error) {
	s := order.Spec{Plan: strings.TrimSpace(p.Plan), Title: p.Title, Exclude: list(p.Exclude), Match: list(p.Match)}
	if s.Plan == "" {
		var err error
		if s.Plan, err = defaultPlan(); err != nil {
			return s, err
		}
		if s.Plan == "" {
			return s, errors.New("cannot tell which plan to run: give plan=ID (see list-suites), or set the option default-plan")
		}
	}
	switch {
	case !validPlan(s.Plan):
		return s, fmt.Errorf("cannot run plan %s: want a full id, such as %s (see list-suites)", hooks.Shown(s.Plan), preflightPlan)
	case p.Timeout < 0 || p.Timeout > maxMinutes:
		return s, fmt.Errorf("cannot use timeout %d: want minutes from 0 to %d", p.Timeout, maxMinutes)
	}
	if err := hooks.CheckLine("title", s.Title, 200); err != nil {
		return s, err
	}
	for _, param := range []struct {
		name    string
		entries []string
	}{{"exclude", s.Exclude}, {"match", s.Match}} {
		if len(param.entries) > maxAssignments {
			return s, fmt.Errorf("cannot use %s: want at most %d regular expressions (it has %d)", param.name, maxAssignments, len(param.entries))
		}
		for _, entry := range param.entries {
			if err := hooks.CheckLine(param.name, entry, maxExpression); err != nil {
				return s, err
			}
		}
	}
	s.TimeoutSeconds = p.Timeout * 60
	env, err := parseEnvironment("environment", splitList(p.Environment))
	if err != nil {
		return s, fmt.Errorf("cannot use this environment: %w (separate the assignments by commas)", err)
	}
	if len(env) > 0 {
		s.Environment = env
	}
	return s, nil
}

func (sys system) runSuite(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params runSuiteParams
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	spec, err := params.spec(func() (string, error) {
		var opts options
		err := u.Config(ctx, &opts)
		return strings.TrimSpace(opts.DefaultPlan), err
	})
	if err != nil {
		return fail(call, err)
	}
	return sys.start(ctx, u, call, spec, params.Wait)
}

func (sys system) preflight(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Wait int64 `param:"wait"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	return sys.start(ctx, u, call, order.Spec{Plan: preflightPlan, Title: "preflight"}, params.Wait)
}

// start asks the agent for a run and waits for it.
func (sys system) start(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall, spec order.Spec, wait int64) error {
	a, err := sys.agent(u)
	if err != nil {
		return fail(call, err)
	}
	return a.follow(ctx, call, "/v1/runs", order.RunRequest{Origin: order.FromAction, Spec: spec}, wait)
}

func (sys system) rerunFailed(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Run  string `param:"run"`
		Wait int64  `param:"wait"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	a, err := sys.agent(u)
	if err != nil {
		return fail(call, err)
	}
	run, err := a.run(ctx, params.Run)
	if err != nil {
		return fail(call, err)
	}
	return a.follow(ctx, call, runPath(run.Run)+"/rerun-failed", nil, params.Wait)
}

// follow posts what starts a run, and waits until the run is over or wait seconds have passed.
func (a agent) follow(ctx context.Context, call *hooks.ActionCall, path string, body any, wait int64) error {
	deadline := time.Now().Add(time.Duration(wait) * time.Second)
	var run order.Run
	if err := a.call(ctx, planTime, "POST", path, body, &run); err != nil {
		return fail(call, err)
	}
	if wait > 0 && !run.State.Final() {
		// Juju never ends a task whose machine reboots, and tells no result of it.
		if err := call.Log(ctx, "run %s has begun; if this task does not end, as after a reboot, ask: juju run %s show-run run=%s", run.Run, a.unit, run.Run); err != nil {
			return err
		}
	}
	for !run.State.Final() {
		left := int64(time.Until(deadline).Seconds())
		if left <= 0 {
			break
		}
		step := min(left, waitStep)
		var now order.Run
		err := a.call(ctx, callTime+time.Duration(step)*time.Second, "GET", fmt.Sprintf("%s?wait=%d", runPath(run.Run), step), nil, &now)
		if errors.Is(err, workload.ErrNotAnswering) {
			// The agent is being restarted, or the machine goes down; the run goes on by itself.
			if !pause(ctx, time.Second) {
				break
			}
			continue
		}
		if err != nil && ctx.Err() != nil {
			break // the machine goes down, say; the run goes on by itself
		}
		if err != nil {
			return fail(call, err)
		}
		run = now
	}
	if !run.State.Final() && ctx.Err() != nil {
		run.Notice = cmp.Or(run.Notice, "this task was ended: the run goes on, see show-run")
	}
	if err := call.Set(runResults(run)); err != nil {
		return fail(call, err)
	}
	failRun(call, run)
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// failRun makes the action fail if the run is over without a valid submission.
func failRun(call *hooks.ActionCall, run order.Run) {
	switch {
	case run.State == order.Failed && run.Failure != nil:
		call.Fail("%s (run %s)", run.Failure.Message, run.Run)
	case run.State == order.Failed:
		call.Fail("run %s has no valid submission", run.Run)
	case run.State == order.Cancelled:
		call.Fail("run %s was cancelled", run.Run)
	}
}

// fail makes the action fail with err's text. An exit code other than 0 would make Juju show "exit status 1" in its place.
func fail(call *hooks.ActionCall, err error) error {
	if errors.Is(err, workload.ErrNotAnswering) {
		call.Fail("the agent does not answer: look at the unit's status, and try again when it is active")
		return nil
	}
	call.Fail("%s", err)
	return nil
}

func (a agent) call(ctx context.Context, timeout time.Duration, method, path string, body, result any) error {
	a.Step(method + " " + path)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return a.socket.Call(ctx, method, path, body, result)
}

func runPath(id string) string { return "/v1/runs/" + url.PathEscape(id) }

// run asks for a run by its id, or for the last one.
func (a agent) run(ctx context.Context, id string) (order.Run, error) {
	var run order.Run
	if id = strings.TrimSpace(id); id == "" {
		id = "last"
	}
	if err := checkRun(id); err != nil {
		return run, err
	}
	err := a.call(ctx, callTime, "GET", runPath(id), nil, &run)
	return run, err
}

var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func checkRun(id string) error {
	if runID.MatchString(id) && len(id) <= maxRunID {
		return nil
	}
	return fmt.Errorf("cannot find run %s: want a run's id, as run-suite has given it, or last", hooks.Shown(id))
}

func (sys system) showRun(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Run string `param:"run"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	a, err := sys.agent(u)
	if err != nil {
		return fail(call, err)
	}
	run, err := a.run(ctx, params.Run)
	if err != nil {
		return fail(call, err)
	}
	results := runResults(run)
	for key, value := range runDetails(run) {
		results[key] = value
	}
	if err := call.Set(results); err != nil {
		return fail(call, err)
	}
	return nil
}

func (sys system) cancelRun(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Run string `param:"run"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	a, err := sys.agent(u)
	if err != nil {
		return fail(call, err)
	}
	id := strings.TrimSpace(params.Run)
	if id == "" {
		var status order.AgentStatus
		if err := a.call(ctx, callTime, "GET", "/v1/status", nil, &status); err != nil {
			return fail(call, err)
		}
		if status.Current == nil {
			return fail(call, errors.New("cannot cancel: no run is in progress"))
		}
		id = status.Current.Run
	}
	if err := checkRun(id); err != nil {
		return fail(call, err)
	}
	var run order.Run
	if err := a.call(ctx, callTime, "POST", runPath(id)+"/cancel", nil, &run); err != nil {
		return fail(call, err)
	}
	if run.Run == "" { // an agent that answers with nothing
		if run, err = a.run(ctx, id); err != nil {
			return fail(call, err)
		}
	}
	if err := call.Set(runResults(run)); err != nil {
		return fail(call, err)
	}
	return nil
}

func (sys system) listSuites(ctx context.Context, u *hooks.Unit, call *hooks.ActionCall) error {
	var params struct {
		Filter string `param:"filter"`
	}
	if err := call.Params(ctx, &params); err != nil {
		return fail(call, err)
	}
	a, err := sys.agent(u)
	if err != nil {
		return fail(call, err)
	}
	if err := hooks.CheckLine("filter", params.Filter, maxExpression); err != nil {
		return fail(call, err)
	}
	var suites []order.Suite
	path := "/v1/plans?" + url.Values{"filter": {params.Filter}}.Encode()
	if err := a.call(ctx, planTime, "GET", path, nil, &suites); err != nil {
		return fail(call, err)
	}
	for _, suite := range suites {
		fmt.Fprintf(call.Output, "%s  %s\n", suite.ID, suite.Name)
	}
	if err := call.Set(map[string]any{"count": len(suites)}); err != nil {
		return fail(call, err)
	}
	return nil
}
