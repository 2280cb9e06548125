package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

func TestAnOrderBecomesResults(t *testing.T) {
	t.Parallel()
	a, other := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a, other)
	engineer := l.person(cert.Engineer)
	ctx := t.Context()

	// The agent waits; the order wakes it.
	polled := make(chan order.Poll, 1)
	go func() { polled <- a.poll(50) }()
	run, err := engineer.StartRun(ctx, cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "com.example.lab::small", Exclude: []string{".*crash"}, Environment: map[string]string{"A": "b"}}})
	require.NoError(t, err)
	require.Equal(t, cert.Queued, run.State)
	require.Equal(t, "test engineer", run.RequestedBy)
	p := <-polled
	require.Len(t, p.Orders, 1)
	require.Equal(t, run.ID, p.Orders[0].Run)
	require.Equal(t, order.Spec(run.Spec), p.Orders[0].Spec)
	require.Equal(t, p, a.poll(0), "an order is repeated until it is reported")
	require.Empty(t, other.poll(0).Orders, "an order is for its machine only")

	r := running(run.ID, 1)
	r.Origin = order.FromOrder
	ack, status := a.report(r)
	require.Equal(t, http.StatusOK, status)
	require.False(t, ack.Cancel)
	require.Contains(t, ack.URL, "/runs/"+run.ID)
	require.Empty(t, a.poll(0).Orders, "a reported order is not repeated")

	// Reports are taken once and in order.
	older := r
	older.Progress.JobsDone = 99
	_, status = a.report(older)
	require.Equal(t, http.StatusOK, status)
	r.Sequence, r.Progress.JobsDone = 2, 3
	_, status = a.report(r)
	require.Equal(t, http.StatusOK, status)
	got, err := engineer.Run(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, cert.Running, got.State)
	require.Len(t, got.Attempts, 1)
	require.Equal(t, 3, got.Attempts[0].Progress.JobsDone)
	m, err := engineer.Machine(ctx, "node0")
	require.NoError(t, err)
	require.Equal(t, run.ID, m.CurrentRun)

	archive := sample(t, "head-small.tar.xz")
	submission := newFile(run.ID, 1, order.SubmissionFile, "submission.tar.xz", archive)
	console := newFile(run.ID, 1, order.ConsoleFile, "console.log", []byte("\x1b[31mhello\n"))
	f := finished(r, submission, console)
	missing, status := a.finish(f)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, []string{submission.SHA256, console.SHA256}, missing)

	fileAck := a.upload(submission)
	require.Equal(t, submission.SHA256, fileAck.SHA256)
	require.Equal(t, submission.Size, fileAck.Size)
	require.Contains(t, fileAck.URL, fileAck.Submission)
	require.Equal(t, fileAck, a.upload(submission), "an upload that is repeated gets the same acknowledgement")
	a.upload(console)
	offset, complete := a.offset(submission)
	require.Equal(t, fmt.Sprint(submission.Size), offset)
	require.Equal(t, "true", complete)

	for range 2 {
		missing, status = a.finish(f)
		require.Empty(t, missing)
		require.Equal(t, http.StatusOK, status)
	}
	late := r
	late.Sequence = 5000
	_, status = a.report(late)
	require.Equal(t, http.StatusOK, status, "a report that comes late is acknowledged and changes nothing")

	s := indexed(t, engineer, fileAck.Submission)
	require.Equal(t, cert.IndexDone, s.IndexState)
	require.Equal(t, "com.example.lab::small", s.Plan)
	got, err = engineer.Run(ctx, run.ID)
	require.NoError(t, err)
	require.Equal(t, cert.Completed, got.State)
	require.Equal(t, s.Counts, got.Counts, "the controller counts for itself")
	require.Len(t, got.Files, 2)
	results, err := engineer.Results(ctx, url.Values{"run": {run.ID}}, 0)
	require.NoError(t, err)
	total := 0
	for _, n := range s.Counts {
		total += n
	}
	require.Len(t, results, total)
	var copied bytes.Buffer
	require.NoError(t, engineer.Download(ctx, s.ID, &copied))
	require.True(t, bytes.Equal(archive, copied.Bytes()))
}

func TestRunsThatAreRefused(t *testing.T) {
	t.Parallel()
	a, other := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a, other)
	run := runID()
	_, status := a.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	_, status = other.report(running(run, 2))
	require.Equal(t, http.StatusNotFound, status, "another machine's run")
	_, status = other.finish(finished(running(run, 2)))
	require.Equal(t, http.StatusNotFound, status)
	_, status = a.report(running("r-not-an-id", 1))
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, http.StatusUnprocessableEntity, l.call(a.http, "PUT", l.url()+"/agent/v1/runs/"+runID(), running(run, 1), nil), "path and body differ")
	bad := running(run, 3)
	bad.Attempt = 0
	_, status = a.report(bad)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	_, status = a.finish(finished(running(run, 3)))
	require.Equal(t, http.StatusUnprocessableEntity, status, "completed without a submission")
	f := finished(running(run, 3))
	f.State = order.Failed
	_, status = a.finish(f)
	require.Equal(t, http.StatusUnprocessableEntity, status, "failed without a reason")
	f.Failure = &order.Failure{Type: order.FailNoArchive, Message: "Checkbox wrote none"}
	_, status = a.finish(f)
	require.Equal(t, http.StatusOK, status)
	got, err := l.person(cert.Viewer).Run(t.Context(), run)
	require.NoError(t, err)
	require.Equal(t, cert.Failed, got.State)
	require.Equal(t, order.FailNoArchive, got.Failure.Type)
}

func TestARunIsCancelled(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	engineer, ctx := l.person(cert.Engineer), t.Context()
	start := func() string {
		run, err := engineer.StartRun(ctx, cert.NewRun{Machine: "sys0", Spec: cert.Spec{Plan: "com.example.lab::small"}})
		require.NoError(t, err)
		return run.ID
	}

	// Before the agent has spoken of it, it is over at once; the agent that had it all the same is told, and may end it.
	unseen := start()
	a.poll(0)
	got, err := engineer.CancelRun(ctx, unseen)
	require.NoError(t, err)
	require.Equal(t, cert.Cancelled, got.State)
	require.Empty(t, a.poll(0).Orders)
	r := running(unseen, 1)
	ack, status := a.report(r)
	require.Equal(t, http.StatusOK, status)
	require.True(t, ack.Cancel)
	require.Equal(t, []string{unseen}, a.poll(0).Cancel)
	f := finished(r)
	f.State = order.Cancelled
	_, status = a.finish(f)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, a.poll(0).Cancel)
	_, err = engineer.CancelRun(ctx, unseen)
	hasCode(t, err, cert.Conflict)

	// While it runs, the agent is told until it says that it is over.
	seen := start()
	r = running(seen, 1)
	_, status = a.report(r)
	require.Equal(t, http.StatusOK, status)
	polled := make(chan order.Poll, 1)
	go func() { polled <- a.poll(50) }()
	got, err = engineer.CancelRun(ctx, seen)
	require.NoError(t, err)
	require.Equal(t, cert.Running, got.State)
	require.True(t, got.CancelRequested)
	require.Equal(t, []string{seen}, (<-polled).Cancel)
	r.Sequence, r.State = 2, order.Cancelled
	_, status = a.report(r)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, a.poll(0).Cancel)
	f = finished(r)
	f.State = order.Cancelled
	_, status = a.finish(f)
	require.Equal(t, http.StatusOK, status)
	got, err = engineer.Run(ctx, seen)
	require.NoError(t, err)
	require.Equal(t, cert.Cancelled, got.State)
}

func TestNoRunsWhenTheDiskIsNearlyFull(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	engineer, ctx := l.person(cert.Engineer), t.Context()
	order1 := cert.NewRun{ID: runID(), Machine: "node0", Spec: cert.Spec{Plan: "com.example.lab::small"}}
	_, err := engineer.StartRun(ctx, order1)
	require.NoError(t, err)
	l.apply(func(d *order.ControllerDesired) { d.MinFreeBytes = 1 << 60 })
	require.True(t, l.service.health(ctx).DiskLow)
	_, err = engineer.StartRun(ctx, cert.NewRun{Machine: "node0", Spec: order1.Spec})
	hasCode(t, err, cert.NoSpace)
	require.Empty(t, a.poll(0).Orders, "what was ordered before waits")
	ack := a.deliver(runID(), sample(t, "head-small.tar.xz"))
	require.Equal(t, cert.IndexDone, indexed(t, engineer, ack.Submission).IndexState, "results are still taken and read")
	polled := make(chan order.Poll, 1)
	go func() { polled <- a.poll(50) }()
	l.apply(func(d *order.ControllerDesired) { d.MinFreeBytes = 0 })
	require.Len(t, (<-polled).Orders, 1)
}

func TestOrdersThatAreRefused(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := newLab(t, a)
	engineer, ctx := l.person(cert.Engineer), t.Context()
	spec := cert.Spec{Plan: "com.example.lab::small"}
	run := cert.NewRun{ID: runID(), Machine: "node0", Spec: spec}
	first, err := engineer.StartRun(ctx, run)
	require.NoError(t, err)
	again, err := engineer.StartRun(ctx, run)
	require.NoError(t, err, "the same order can be sent again")
	require.Equal(t, first.Created, again.Created)
	run.Spec.Title = "another"
	_, err = engineer.StartRun(ctx, run)
	hasCode(t, err, cert.Conflict)
	for name, bad := range map[string]cert.NewRun{
		"no machine":          {Spec: spec},
		"a plan without ::":   {Machine: "node0", Spec: cert.Spec{Plan: "sru"}},
		"a variable's name":   {Machine: "node0", Spec: cert.Spec{Plan: spec.Plan, Environment: map[string]string{"A B": "c"}}},
		"two lines":           {Machine: "node0", Spec: cert.Spec{Plan: spec.Plan, Title: "a\nb"}},
		"an id of its own":    {Machine: "node0", ID: "r1", Spec: spec},
		"a negative timeout":  {Machine: "node0", Spec: cert.Spec{Plan: spec.Plan, TimeoutSeconds: -1}},
		"an empty expression": {Machine: "node0", Spec: cert.Spec{Plan: spec.Plan, Match: []string{""}}},
	} {
		_, err := engineer.StartRun(ctx, bad)
		require.Error(t, err, name)
		hasCode(t, err, cert.Invalid)
	}
	_, err = engineer.StartRun(ctx, cert.NewRun{Machine: "node9", Spec: spec})
	hasCode(t, err, cert.NotFound)
	_, err = engineer.AddMachine(ctx, cert.NewMachine{Hostname: "manual1"})
	require.NoError(t, err)
	_, err = engineer.StartRun(ctx, cert.NewRun{Machine: "manual1", Spec: spec})
	hasCode(t, err, cert.Conflict)
}

func TestWhoIsNotEnrolledHasNoAccess(t *testing.T) {
	t.Parallel()
	a, stranger := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a)
	stranger.connect(l)
	viewer, ctx := l.person(cert.Viewer), t.Context()
	var body struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	require.Equal(t, http.StatusForbidden, l.call(stranger.http, "GET", l.url()+"/agent/v1/poll", nil, &body))
	require.Contains(t, body.Error.Message, "not enrolled")

	ack := a.deliver(runID(), sample(t, "head-small.tar.xz"))
	// Gone from the relation: no access from then on, also for a poll that waits; results stay.
	polled := make(chan int, 1)
	go func() { polled <- l.call(a.http, "GET", l.url()+"/agent/v1/poll?wait=50", nil, nil) }()
	l.apply(func(d *order.ControllerDesired) { d.Agents = nil })
	require.Equal(t, http.StatusForbidden, <-polled)
	require.Equal(t, http.StatusForbidden, l.call(a.http, "GET", l.url()+"/agent/v1/poll", nil, nil))
	require.Equal(t, cert.IndexDone, indexed(t, viewer, ack.Submission).IndexState)
	m, err := viewer.Machine(ctx, "node0")
	require.NoError(t, err)
	require.Empty(t, m.Unit)

	// Back with another unit and key on the same machine: the same machine.
	back := newAgent(t, 0)
	back.unit = "checkbox/7"
	l.apply(func(d *order.ControllerDesired) { d.Agents = []order.EnrolledAgent{back.enrolled()} })
	again, err := viewer.Machine(ctx, "node0")
	require.NoError(t, err)
	require.Equal(t, m.ID, again.ID)
	require.Equal(t, "checkbox/7", again.Unit)
}
