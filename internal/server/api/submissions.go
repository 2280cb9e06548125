package api

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// SubmissionParams are the filters of ListSubmissions.
var SubmissionParams = append([]route.Param{
	{Name: "machine", Help: "only of this machine: id, system_id or hostname"},
	{Name: "run", Help: "only of this run"},
	{Name: "plan", Help: "only of this plan, by its full id"},
	{Name: "sha256", Help: "only the archive with this SHA-256"},
	{Name: "index_state", Enum: cert.IndexStates, Help: "only in this state"},
}, PageParams...)

// ListSubmissions is GET /api/v1/submissions.
func (a *API) ListSubmissions(w http.ResponseWriter, r *route.Request) error {
	machine, err := a.machineParam(r)
	if err != nil {
		return err
	}
	subs, next, err := a.Store.Submissions(r.Context(), sqlite.SubmissionFilter{Machine: machine, Run: r.Query.Get("run"), Plan: r.Query.Get("plan"),
		SHA256: r.Query.Get("sha256"), IndexState: r.Query.Get("index_state")}, page(r))
	if err != nil {
		return err
	}
	for n := range subs {
		a.linkSubmission(&subs[n])
	}
	return route.JSON(w, http.StatusOK, cert.SubmissionList{Submissions: subs, Next: next})
}

func (a *API) linkSubmission(s *cert.Submission) { s.URL = a.url("submissions", s.ID) }

// GetSubmission is GET /api/v1/submissions/{submission}.
func (a *API) GetSubmission(w http.ResponseWriter, r *route.Request) error {
	s, err := a.Store.Submission(r.Context(), r.PathValue("submission"))
	if err != nil {
		return err
	}
	a.linkSubmission(&s)
	return route.JSON(w, http.StatusOK, s)
}

// GetArchive is GET /api/v1/submissions/{submission}/archive: the bytes that Checkbox wrote.
func (a *API) GetArchive(w http.ResponseWriter, r *route.Request) error {
	s, err := a.Store.Submission(r.Context(), r.PathValue("submission"))
	if err != nil {
		return err
	}
	return a.serveBlob(w, r, s.SHA256, s.Size, s.Name)
}

// serveBlob streams a blob as a download. Ranges are answered, so that a download can go on.
func (a *API) serveBlob(w http.ResponseWriter, r *route.Request, sha string, size int64, name string) error {
	b, err := a.Lab.OpenFile(r.Context(), sha, size)
	if err != nil {
		return err
	}
	defer b.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("ETag", `"`+sha+`"`)
	http.ServeContent(patient{w, a.Patience}, r.Request, "", time.Time{}, b)
	return nil
}

// UploadParams are the parameters of AddSubmission.
var UploadParams = []route.Param{
	{Name: "machine", Required: true, Help: "the machine that the archive is of: id, system_id or hostname"},
	{Name: "sha256", Required: true, Help: "of the body, in lower-case hexadecimal"},
	{Name: "name", Help: "file name; submission.tar.xz if not given"},
}

// AddSubmission is POST /api/v1/submissions: an archive that was made by hand, in one request. Adding the same bytes again for the same machine
// answers with the submission that is there.
func (a *API) AddSubmission(w http.ResponseWriter, r *route.Request) error {
	m, err := a.Store.Machine(r.Context(), r.Query.Get("machine"))
	if err != nil {
		return err
	}
	u, err := byHand(m, r.Query.Get("sha256"))
	if err != nil {
		return err
	}
	if r.ContentLength <= 0 {
		return cert.Errorf(cert.Invalid, "cannot add the submission: the request must have a Content-Length, and bytes")
	}
	u.Size = r.ContentLength
	// What an interrupted upload of the same bytes has left is no use to who sends all of them.
	if offset, err := a.Files.Offset(u); err != nil {
		return err
	} else if offset > 0 {
		if err := a.Files.Discard(u); err != nil {
			return a.uploadError(w, err, 0)
		}
	}
	return a.takeByHand(w, r, m, u, 0, r.Query.Get("name"))
}

// ReindexOne is POST /api/v1/submissions/{submission}/reindex.
func (a *API) ReindexOne(w http.ResponseWriter, r *route.Request) error {
	return a.reindex(w, r, r.PathValue("submission"))
}

// ReindexAll is POST /api/v1/admin/reindex.
func (a *API) ReindexAll(w http.ResponseWriter, r *route.Request) error {
	return a.reindex(w, r, "")
}

func (a *API) reindex(w http.ResponseWriter, r *route.Request, submission string) error {
	n, err := a.Store.Reindex(r.Context(), submission, 0)
	if err != nil {
		return err
	}
	a.Lab.Index()
	return route.JSON(w, http.StatusAccepted, cert.Reindexed{Queued: n})
}

// ResultParams are the filters of ListResults.
var ResultParams = append([]route.Param{
	{Name: "machine", Help: "only of this machine: id, system_id or hostname"},
	{Name: "run", Help: "only of this run"},
	{Name: "submission", Help: "only of this submission"},
	{Name: "section", Enum: []string{cert.SectionResults, cert.SectionResources, cert.SectionAttachments, "all"},
		Help: "tests (results), jobs that only gather facts (resources), jobs that only attach a file (attachments); results if not given"},
	{Name: "job", Help: "only jobs whose full id begins with this"},
	{Name: "outcome", Help: "only with this outcome, such as fail"},
	{Name: "certification_status", Help: "only with this certification status, such as blocker"},
	{Name: "plan", Help: "only of submissions of this plan, by its full id"},
	{Name: "since", Kind: route.Time, Help: "only of submissions that arrived at or after this time"},
}, PageParams...)

// ListResults is GET /api/v1/results.
func (a *API) ListResults(w http.ResponseWriter, r *route.Request) error {
	machine, err := a.machineParam(r)
	if err != nil {
		return err
	}
	f := sqlite.ResultFilter{Machine: machine, Run: r.Query.Get("run"), Submission: r.Query.Get("submission"), Section: cert.SectionResults,
		Job: r.Query.Get("job"), Outcome: r.Query.Get("outcome"), Status: r.Query.Get("certification_status"), Plan: r.Query.Get("plan")}
	switch section := r.Query.Get("section"); section {
	case "":
	case "all":
		f.Section = ""
	default:
		f.Section = section
	}
	if since := r.Query.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return cert.Errorf(cert.Invalid, "cannot read since: %v", err)
		}
	}
	list, next, err := a.Store.Results(r.Context(), f, page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.ResultList{Results: list, Next: next})
}

func index(r *route.Request) (int, error) {
	n, err := strconv.Atoi(r.PathValue("index"))
	if err != nil || n < 0 {
		return 0, cert.Errorf(cert.NotFound, "there is no number %q: positions count from 0", r.PathValue("index"))
	}
	return n, nil
}

// GetResult is GET /api/v1/submissions/{submission}/results/{index}.
func (a *API) GetResult(w http.ResponseWriter, r *route.Request) error {
	n, err := index(r)
	if err != nil {
		return err
	}
	result, err := a.Store.Result(r.Context(), r.PathValue("submission"), n)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, result)
}

// GetLog is GET /api/v1/submissions/{submission}/results/{index}/log: the job's whole output, as text.
func (a *API) GetLog(w http.ResponseWriter, r *route.Request) error {
	n, err := index(r)
	if err != nil {
		return err
	}
	result, err := a.Store.Result(r.Context(), r.PathValue("submission"), n)
	if err != nil {
		return err
	}
	s, err := a.Store.Submission(r.Context(), result.Submission)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return a.stream(w, func(out io.Writer) error { return a.Lab.CopyLog(r.Context(), out, s.SHA256, result.ID) })
}

// ListAttachments is GET /api/v1/submissions/{submission}/attachments.
func (a *API) ListAttachments(w http.ResponseWriter, r *route.Request) error {
	if _, err := a.Store.Submission(r.Context(), r.PathValue("submission")); err != nil {
		return err
	}
	list, next, err := a.Store.Attachments(r.Context(), r.PathValue("submission"), page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, cert.AttachmentList{Attachments: list, Next: next})
}

// GetAttachment is GET /api/v1/submissions/{submission}/attachments/{index}: its bytes.
func (a *API) GetAttachment(w http.ResponseWriter, r *route.Request) error {
	n, err := index(r)
	if err != nil {
		return err
	}
	at, err := a.Store.Attachment(r.Context(), r.PathValue("submission"), n)
	if err != nil {
		return err
	}
	s, err := a.Store.Submission(r.Context(), at.Submission)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": baseName(at.Name)}))
	return a.stream(w, func(out io.Writer) error { return a.Lab.CopyMember(r.Context(), out, s.SHA256, at.Name) })
}

func baseName(member string) string {
	for n := len(member) - 1; n >= 0; n-- {
		if member[n] == '/' {
			return member[n+1:]
		}
	}
	return member
}

// stream writes what copy writes. An error before the first byte is answered; after it, the connection is cut, so that nobody takes
// a part for the whole.
func (a *API) stream(w http.ResponseWriter, copy func(io.Writer) error) error {
	out := &counter{w: patient{w, a.Patience}}
	err := copy(out)
	if err == nil {
		return nil
	}
	if out.n == 0 {
		w.Header().Del("Content-Disposition")
		return err
	}
	a.Logger.Warn("answer cut short", "error", err)
	panic(http.ErrAbortHandler)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
