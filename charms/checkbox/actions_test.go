package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

func completed() order.Run {
	return order.Run{
		Report:         order.Report{Run: "r1", State: order.Completed, Origin: order.FromAction, Attempt: 1, Spec: order.Spec{Plan: preflightPlan}},
		Counts:         order.Counts{"pass": 7, "fail": 1, "not-supported": 2},
		BlockersFailed: []string{"com.canonical.certlab::clock"},
		Files:          []order.File{{Kind: order.ConsoleFile, SHA256: "c0"}, {Kind: order.SubmissionFile, SHA256: "ab12"}},
		SubmissionPath: "/var/lib/certlab/unit-checkbox-0/agent/runs/r1/submission.tar.xz", Delivered: true, URL: "https://lab/runs/r1",
	}
}

// params are run-suite's with their defaults, as Juju fills them in.
func params(set map[string]any) map[string]any {
	all := map[string]any{"plan": "", "exclude": "", "match": "", "environment": "", "title": "", "timeout": 0, "wait": 30}
	for key, value := range set {
		all[key] = value
	}
	return all
}

func TestRunSuiteReturnsTheResultsOfARunThatEndsInTime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	run := completed()
	run.State = order.Running
	l.answer("POST", "/v1/runs", http.StatusAccepted, run)
	l.answer("GET", "/v1/runs/r1?wait=20", 200, completed())
	r := l.RunAction("run-suite", params(map[string]any{
		"plan": preflightPlan, "exclude": "a::b.*, c::d", "match": "x,y\nz", "environment": "A=1,B=two", "title": "first", "timeout": 5, "wait": 60,
	}))
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{
		"run": "r1", "state": "completed", "counts.pass": "7", "counts.fail": "1", "counts.not-supported": "2", "blockers-failed": "1",
		"blockers": "com.canonical.certlab::clock", "sha256": "ab12", "url": "https://lab/runs/r1",
		"submission": "/var/lib/certlab/unit-checkbox-0/agent/runs/r1/submission.tar.xz",
	}, r.Results)
	require.JSONEq(t, `{"origin":"action","plan":"com.canonical.certlab::preflight","title":"first","exclude":["a::b.*","c::d"],"match":["x,y","z"],
		"environment":{"A":"1","B":"two"},"timeout_seconds":300}`, l.asked()[0].Body)
	require.LessOrEqual(t, r.Count(), 3, r.Tools())
}

func TestRunSuiteDoesNotWaitLongerThanItIsTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	run := completed()
	run.State, run.Progress.Phase = order.Running, order.Testing
	l.answer("POST", "/v1/runs", http.StatusAccepted, run)
	r := l.RunAction("run-suite", params(map[string]any{"plan": preflightPlan, "wait": 0}))
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{"run": "r1", "state": "running", "phase": "testing"}, r.Results)
	require.Len(t, l.asked(), 1)
}

func TestRunSuiteFailsOnlyWithoutAValidSubmission(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state   order.State
		failure *order.Failure
		message string
	}{
		{order.Completed, nil, ""},
		{order.Failed, &order.Failure{Type: order.FailPlanUnknown, Message: "there is no plan x::y (did you mean x::z?)"}, "there is no plan x::y (did you mean x::z?) (run r1)"},
		{order.Cancelled, nil, "run r1 was cancelled"},
	} {
		l := newLab(t)
		run := completed()
		run.State, run.Failure = c.state, c.failure
		l.answer("POST", "/v1/runs", http.StatusAccepted, run)
		r := l.RunAction("run-suite", params(map[string]any{"plan": "x::y"}))
		require.Equal(t, c.message != "", r.Failed)
		require.Equal(t, c.message, r.Message)
		require.Equal(t, string(c.state), r.Results["state"])
	}
}

func TestRunSuiteRefusesWhatMakesNoRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, c := range []struct {
		params  map[string]any
		message string
	}{
		{map[string]any{}, "cannot tell which plan to run: give plan=ID (see list-suites), or set the option default-plan"},
		{map[string]any{"plan": "sru"}, `cannot run plan "sru": want a full id, such as com.canonical.certlab::preflight (see list-suites)`},
		{map[string]any{"plan": "a::b", "environment": "A=1,B"}, "cannot use this environment: environment, line 2: want NAME=value (separate the assignments by commas)"},
		{map[string]any{"plan": "a::b", "title": "two\nlines"}, `cannot use title "two\nlines": want one line of at most 200 bytes`},
	} {
		r := l.RunAction("run-suite", params(c.params))
		require.True(t, r.Failed)
		require.Zero(t, r.Code)
		require.Equal(t, c.message, r.Message)
	}
	require.Empty(t, l.asked())
	l.WithConfig(map[string]string{"default-plan": "com.canonical.certification::sru"})
	l.answer("POST", "/v1/runs", http.StatusAccepted, completed())
	l.RunAction("run-suite", params(nil))
	require.Contains(t, l.asked()[0].Body, "com.canonical.certification::sru")
}

func TestActionsSayWhenTheAgentDoesNotAnswerOrRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.RunAction("show-run", map[string]any{"run": "r9"})
	require.True(t, r.Failed)
	require.Equal(t, "cannot find /v1/runs/r9", r.Message)
	sys := l.sys
	sys.root += "-elsewhere"
	r = newScenario(t, sys).RunAction("show-run", map[string]any{"run": "last"})
	require.True(t, r.Failed)
	require.Equal(t, "the agent does not answer: look at the unit's status, and try again when it is active", r.Message)
}

func TestShowRunTellsWhereARunIs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	run := completed()
	run.State, run.Delivered, run.URL = order.Running, false, ""
	run.Progress = order.Progress{Phase: order.Testing, JobsDone: 3, JobsPlanned: 9, CurrentJob: "a::job"}
	run.Interruptions = []order.Interruption{{Job: "a::reboot", Cause: "reboot"}}
	l.answer("GET", "/v1/runs/last", 200, run)
	r := l.RunAction("show-run", map[string]any{"run": "last"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, map[string]string{
		"run": "r1", "state": "running", "phase": "testing", "plan": preflightPlan, "origin": "action", "attempt": "1", "delivered": "false",
		"current-job": "a::job", "jobs-done": "3", "jobs-planned": "9", "interruptions": "1",
	}, r.Results)
}

func TestShowRunOfAFailedRunDoesNotFail(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	run := completed()
	run.State, run.Failure = order.Failed, &order.Failure{Type: order.FailTimeout, Message: "took longer than 5 minutes"}
	l.answer("GET", "/v1/runs/r1", 200, run)
	r := l.RunAction("show-run", map[string]any{"run": "r1"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "timeout", r.Results["failure.type"])
	require.Equal(t, "took longer than 5 minutes", r.Results["failure.message"])
	require.Equal(t, "true", r.Results["delivered"])
	require.NotContains(t, r.Results, "phase")
}

func TestCancelRunTakesTheOneInProgress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.RunAction("cancel-run", map[string]any{"run": ""})
	require.True(t, r.Failed)
	require.Equal(t, "cannot cancel: no run is in progress", r.Message)

	run := completed()
	run.State = order.Running
	l.agent(func(s *order.AgentStatus) { s.Current = &run })
	l.answer("POST", "/v1/runs/r1/cancel", 200, run)
	r = l.RunAction("cancel-run", map[string]any{"run": ""})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "r1", r.Results["run"])
}

func TestRerunFailedAndPreflightAreRuns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	again := completed()
	again.Run = "r2"
	l.answer("GET", "/v1/runs/last", 200, completed())
	l.answer("POST", "/v1/runs/r1/rerun-failed", http.StatusAccepted, again)
	r := l.RunAction("rerun-failed", map[string]any{"run": "last", "wait": 30})
	require.Equal(t, "r2", r.Results["run"], r.Message)

	l.answer("POST", "/v1/runs", http.StatusAccepted, completed())
	r = l.RunAction("preflight", map[string]any{"wait": 45})
	require.Equal(t, "7", r.Results["counts.pass"], r.Message)
	require.Contains(t, l.asked()[2].Body, preflightPlan)
}

func TestListSuitesPrintsPlans(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.answer("GET", "/v1/plans?filter=cert+lab", 200, []order.Suite{{ID: "a::b", Name: "First"}, {ID: "c::d", Name: "Second"}})
	r := l.RunAction("list-suites", map[string]any{"filter": "cert lab"})
	require.False(t, r.Failed, r.Message)
	require.Equal(t, "2", r.Results["count"])
	require.Equal(t, "a::b  First\nc::d  Second\n", r.Stdout)
}
