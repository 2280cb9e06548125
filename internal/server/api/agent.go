package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
)

// MaxWait bounds a long poll, in seconds.
const MaxWait = 55

// Headers of an upload, besides those that order.File names.
const (
	headerOffset   = "Upload-Offset"
	headerLength   = "Upload-Length"
	headerComplete = "Upload-Complete"
	headerKind     = "Certlab-File-Kind"
	headerName     = "Certlab-File-Name"
)

// Poll is GET /agent/v1/poll.
func (a *API) Poll(w http.ResponseWriter, r *route.Request) error {
	wait := min(r.Int("wait", 0), MaxWait)
	still := func() error {
		_, err := a.Lab.Agent(AgentKey(r.Request))
		return err
	}
	news, err := a.Lab.Next(r.Context(), r.Caller.Machine, time.Duration(wait)*time.Second, still)
	if err != nil {
		return err
	}
	p := order.Poll{Epoch: news.Epoch, Lost: news.Lost}
	for _, run := range news.Orders {
		p.Orders = append(p.Orders, order.Order{Run: run.ID, Created: run.Created, Spec: order.Spec(run.Spec), Manifest: news.Manifest, SiteEnvironment: news.Environment})
	}
	for _, run := range news.Cancel {
		p.Cancel = append(p.Cancel, run.ID)
	}
	for _, f := range news.Resend {
		p.Resend = append(p.Resend, order.Resend{Run: f.Run, Attempt: f.Attempt,
			File: order.File{Kind: order.FileKind(f.Kind), Name: f.Name, SHA256: f.SHA256, Size: f.Size}})
	}
	if len(p.Orders)+len(p.Cancel) == 0 && (len(p.Resend) > 0 && r.Header.Get(order.TimeHeader) == "" || len(p.Resend) == 0 && len(p.Lost) > 0) {
		// An agent of a release before knows nothing of files to send again or of losses, and would ask again at once.
		select {
		case <-r.Context().Done():
		case <-time.After(min(time.Duration(wait)*time.Second, oldPause)):
		}
	}
	return route.JSON(w, http.StatusOK, p)
}

// oldPause is how long such an agent waits for its answer.
const oldPause = 2 * time.Second

// ReportRun is PUT /agent/v1/runs/{run}.
func (a *API) ReportRun(w http.ResponseWriter, r *route.Request) error {
	var wire order.Report
	if err := r.Decode(&wire, false); err != nil {
		return err
	}
	id, err := reportedRun(r, wire.Run)
	if err != nil {
		return err
	}
	report := reportOf(wire)
	if err := report.Validate(); err != nil {
		return err
	}
	now := a.Now()
	report = report.Corrected(r.Caller.Skew, now)
	var was cert.State
	run, err := a.Store.UpdateRun(r.Context(), id, a.announced(r, id, report), func(run *cert.Run) (bool, error) {
		if err := owns(r, run); err != nil {
			return false, err
		}
		was = run.State
		return run.Report(report, now), nil
	})
	if err != nil {
		return err
	}
	if run.State != was {
		a.Lab.Refresh()
	}
	return route.JSON(w, http.StatusOK, a.ack(run))
}

// announced makes the run that a report announces, if it is not known.
func (a *API) announced(r *route.Request, id string, report cert.Report) func() (*cert.Run, error) {
	return func() (*cert.Run, error) {
		return cert.NewReportedRun(id, r.Caller.Machine, report, a.Now()), nil
	}
}

func (a *API) ack(run cert.Run) order.ReportAck {
	return order.ReportAck{URL: a.url("runs", run.ID), Cancel: run.CancelPending()}
}

// reportedRun is the run id of the path, which must be the body's.
func reportedRun(r *route.Request, body string) (string, error) {
	id := r.PathValue("run")
	if !cert.ValidID(cert.RunID, id) {
		return "", cert.Errorf(cert.Rejected, "cannot use run id %q: it must be an r and 26 lower-case letters or digits", id)
	}
	if body != id {
		return "", cert.Errorf(cert.Rejected, "the body is about run %q, the path about %q", body, id)
	}
	return id, nil
}

// owns fails unless the run is on the agent's machine, and in the words for a run that there is not: agents learn nothing of each other.
func owns(r *route.Request, run *cert.Run) error {
	if run.Machine != r.Caller.Machine {
		return cert.Errorf(cert.NotFound, "there is no run %q", run.ID)
	}
	return nil
}

func reportOf(w order.Report) cert.Report {
	out := cert.Report{Attempt: w.Attempt, Sequence: w.Sequence, Origin: string(w.Origin), Created: w.Created, Started: w.Started,
		State: cert.State(w.State), Spec: cert.Spec(w.Spec), BootID: w.BootID, CheckboxVersion: w.CheckboxVersion,
		Progress: cert.Progress{Phase: string(w.Progress.Phase), JobsDone: w.Progress.JobsDone, JobsPlanned: w.Progress.JobsPlanned,
			CurrentJob: w.Progress.CurrentJob, QuietSeconds: w.Progress.QuietSeconds},
		Interruptions: []cert.Interruption{}, NoManifest: w.NoManifest, Subject: w.Subject}
	for _, i := range w.Interruptions {
		out.Interruptions = append(out.Interruptions, cert.Interruption(i))
	}
	return out
}

// FinishRun is POST /agent/v1/runs/{run}/finish.
func (a *API) FinishRun(w http.ResponseWriter, r *route.Request) error {
	var wire order.Finish
	if err := r.Decode(&wire, false); err != nil {
		return err
	}
	id, err := reportedRun(r, wire.Run)
	if err != nil {
		return err
	}
	finish := cert.Finish{Report: reportOf(wire.Report), Finished: wire.Finished, Counts: cert.Counts(wire.Counts)}
	if wire.Failure != nil {
		finish.Failure = &cert.Failure{Type: wire.Failure.Type, Message: wire.Failure.Message}
	}
	for _, f := range wire.Files {
		finish.Files = append(finish.Files, f.SHA256)
	}
	if err := finish.Validate(); err != nil {
		return err
	}
	now := a.Now()
	finish = finish.Corrected(r.Caller.Skew, now)
	run, err := a.Store.UpdateRun(r.Context(), id, a.announced(r, id, finish.Report), func(run *cert.Run) (bool, error) {
		if err := owns(r, run); err != nil {
			return false, err
		}
		if missing := run.Missing(finish.Files); len(missing) > 0 {
			return false, &route.MissingError{Missing: missing}
		}
		return run.Finish(finish, now)
	})
	if err != nil {
		return err
	}
	a.Lab.Freed(r.Context())
	a.Lab.Refresh()
	return route.JSON(w, http.StatusOK, a.ack(run))
}

// upload is one file that an agent uploads.
type upload struct {
	run     string
	attempt int
	sha     string
}

func uploadOf(r *route.Request) (u upload, err error) {
	u.run, u.sha = r.PathValue("run"), r.PathValue("sha256")
	u.attempt, err = strconv.Atoi(r.PathValue("attempt"))
	switch {
	case err != nil || u.attempt < 1 || u.attempt > 1000:
		return u, cert.Errorf(cert.Rejected, "cannot use attempt %q: it must be a number from 1 to 1000", r.PathValue("attempt"))
	case !cert.ValidSHA256(u.sha):
		return u, cert.Errorf(cert.Rejected, "cannot use %q: a file is named by its SHA-256 in lower-case hexadecimal", u.sha)
	case !cert.ValidID(cert.RunID, u.run):
		return u, cert.Errorf(cert.Rejected, "cannot use run id %q", u.run)
	}
	return u, nil
}

func (u upload) blob(size int64) blobs.Upload {
	return blobs.Upload{Owner: u.run + "." + strconv.Itoa(u.attempt), SHA256: u.sha, Size: size}
}

// stored returns the run's file if it has it already.
func (u upload) stored(run cert.Run) *cert.File {
	for _, f := range run.Files {
		if f.SHA256 == u.sha && f.Attempt == u.attempt {
			return &f
		}
	}
	return nil
}

// ownUpload returns the upload that a request is about and its run, which has to be of the agent's machine.
func (a *API) ownUpload(r *route.Request) (upload, cert.Run, error) {
	u, err := uploadOf(r)
	if err != nil {
		return u, cert.Run{}, err
	}
	run, err := a.Store.Run(r.Context(), u.run)
	if err == nil {
		err = owns(r, &run)
	}
	return u, run, err
}

// UploadOffset is HEAD /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}.
func (a *API) UploadOffset(w http.ResponseWriter, r *route.Request) error {
	u, run, err := a.ownUpload(r)
	if err != nil {
		return err
	}
	h := w.Header()
	if f := u.stored(run); f != nil && !a.Lab.FileIsBad(u.sha) {
		h.Set(headerOffset, strconv.FormatInt(f.Size, 10))
		h.Set(headerComplete, "true")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	offset, err := a.Files.Offset(u.blob(0))
	if err != nil {
		return err
	}
	h.Set(headerOffset, strconv.FormatInt(offset, 10))
	h.Set(headerComplete, "false")
	w.WriteHeader(http.StatusOK)
	return nil
}

// fileKinds are the kinds of files that an agent delivers.
var fileKinds = map[string]bool{cert.KindSubmission: true, cert.KindConsole: true, cert.KindSession: true,
	cert.KindJournal: true, cert.KindPstore: true, cert.KindJobs: true}

// Upload is PATCH of the same path. It says nothing is stored before it is durable.
func (a *API) Upload(w http.ResponseWriter, r *route.Request) error {
	u, run, err := a.ownUpload(r)
	if err != nil {
		return err
	}
	if f := u.stored(run); f != nil && !a.Lab.FileIsBad(u.sha) {
		return route.JSON(w, http.StatusOK, a.fileAck(*f))
	}
	if err := a.Store.Writable(); err != nil {
		return err // before the bytes are sent for nothing
	}
	if run.Closed() && u.stored(run) == nil {
		return cert.Errorf(cert.Conflict, "cannot add a file to run %s: it is %s, and all its files had arrived", run.ID, run.State)
	}
	offset, err := number(r, headerOffset)
	if err != nil {
		return err
	}
	length, err := number(r, headerLength)
	if err != nil {
		return err
	}
	kind, name := r.Header.Get(headerKind), r.Header.Get(headerName)
	if !fileKinds[kind] {
		return cert.Errorf(cert.Rejected, "cannot store a file of kind %q: %s must be submission, console, session, journal or pstore", kind, headerKind)
	}
	if err := checkFileName(name); err != nil {
		return err
	}
	if err := a.checkSize(length); err != nil {
		return err
	}
	f := cert.File{Attempt: u.attempt, Kind: kind, Name: name, SHA256: u.sha, Size: length}
	offset, complete, err := a.Files.Append(r.Context(), u.blob(length), offset, a.body(w, r.Body), func() (err error) {
		ctx, done := a.recording(r)
		defer done()
		f.Received = a.Now()
		if f, err = a.Store.AddFile(ctx, u.run, f); err == nil && a.Lab.FileIsBad(u.sha) {
			err = a.Lab.FileIsBack(ctx, u.sha)
		}
		return err
	})
	if err != nil {
		return a.uploadError(w, err, offset)
	}
	if !complete {
		w.Header().Set(headerOffset, strconv.FormatInt(offset, 10))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if f.Submission != "" {
		a.Lab.Index()
	}
	return route.JSON(w, http.StatusOK, a.fileAck(f))
}

// recordTime bounds how long it takes to record a file that is whole.
const recordTime = time.Minute

// recording is for recording a file whose bytes are all here. It does not end with the request: the hash of a large file on a slow disk takes
// longer than who sent it waits, and would be made in vain each time.
func (a *API) recording(r *route.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), recordTime)
}

func (a *API) fileAck(f cert.File) order.FileAck {
	ack := order.FileAck{SHA256: f.SHA256, Size: f.Size, Submission: f.Submission}
	if f.Submission != "" {
		ack.URL = a.url("submissions", f.Submission)
	}
	return ack
}

func (a *API) checkSize(length int64) error {
	if limit := a.Lab.Desired().MaxSubmissionBytes; limit > 0 && length > limit {
		return cert.Errorf(cert.TooLarge, "cannot store a file of %d bytes: this site takes at most %d (max-submission-size)", length, limit)
	}
	return nil
}

// uploadError answers what went wrong with an upload, with the offset to go on from where there is one.
func (a *API) uploadError(w http.ResponseWriter, err error, offset int64) error {
	w.Header().Set(headerOffset, strconv.FormatInt(offset, 10))
	var wrong *blobs.OffsetError
	switch {
	case errors.As(err, &wrong):
		w.Header().Set(headerOffset, strconv.FormatInt(wrong.Have, 10))
		return cert.Errorf(cert.Conflict, "cannot continue the upload there: %v", wrong)
	case errors.Is(err, blobs.ErrBusy):
		return cert.Errorf(cert.Conflict, "cannot continue the upload: %v", err)
	case errors.Is(err, blobs.ErrHash), errors.Is(err, blobs.ErrSize):
		w.Header().Set(headerOffset, "0")
		return cert.Errorf(cert.Rejected, "cannot store the file: %v; upload it again from the start", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		a.Lab.StorageFull()
		return cert.Errorf(cert.NoSpace, "cannot store the file: the controller's disk is full; it will be taken when there is room")
	case errors.Is(err, os.ErrDeadlineExceeded):
		extend(w, time.Now().Add(a.Patience))
		w.Header().Set("Connection", "close") // nor is the rest waited for before the answer
		return cert.Errorf(cert.Invalid, "the upload was too slow, or stood still: %d bytes are durable, continue there", offset)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return cert.Errorf(cert.Invalid, "the upload was cut off after %d bytes", offset)
	}
	return fmt.Errorf("cannot store the file: %w", err)
}

func number(r *route.Request, header string) (int64, error) {
	n, err := strconv.ParseInt(r.Header.Get(header), 10, 64)
	if err != nil || n < 0 {
		return 0, cert.Errorf(cert.Rejected, "the header %s is %q: it must be a number of bytes", header, r.Header.Get(header))
	}
	return n, nil
}

func checkFileName(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\\\x00\r\n\"") || name == "." || name == ".." {
		return cert.Errorf(cert.Rejected, "cannot use the file name %q: it must be a plain name of at most 255 bytes", name)
	}
	return nil
}
