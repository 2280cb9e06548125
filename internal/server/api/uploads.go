package api

import (
	"net/http"
	"strconv"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// An archive that was made by hand is uploaded as agents upload theirs: whoever was interrupted asks how much is durable, and goes on there.
// It belongs to the machine and not to the person, so that anybody may finish what another began: only the right bytes have its hash.

// handUpload is the upload of an archive that was made by hand.
func (a *API) handUpload(r *route.Request) (cert.Machine, blobs.Upload, error) {
	m, err := a.Store.Machine(r.Context(), r.PathValue("machine"))
	if err != nil {
		return m, blobs.Upload{}, err
	}
	u, err := byHand(m, r.PathValue("sha256"))
	return m, u, err
}

func byHand(m cert.Machine, sha string) (blobs.Upload, error) {
	if !cert.ValidSHA256(sha) {
		return blobs.Upload{}, cert.Errorf(cert.Invalid, "cannot use %q: not a SHA-256 in lower-case hexadecimal", sha)
	}
	return blobs.Upload{Owner: m.ID, SHA256: sha}, nil
}

// added returns the submission with these bytes that the machine has already; nil if it has none.
func (a *API) added(r *route.Request, m cert.Machine, sha string) (*cert.Submission, error) {
	have, _, err := a.Store.Submissions(r.Context(), sqlite.SubmissionFilter{Machine: m.ID, SHA256: sha}, sqlite.Page{Limit: 1})
	if err != nil || len(have) == 0 {
		return nil, err
	}
	return &have[0], nil
}

// HandUploadOffset is HEAD /api/v1/machines/{machine}/uploads/{sha256}.
func (a *API) HandUploadOffset(w http.ResponseWriter, r *route.Request) error {
	m, u, err := a.handUpload(r)
	if err != nil {
		return err
	}
	have, err := a.added(r, m, u.SHA256)
	if err != nil {
		return err
	}
	offset := int64(0)
	if have != nil && a.Lab.FileIsBad(u.SHA256) {
		have = nil // its bytes are welcome again
	}
	if have != nil {
		offset = have.Size
	} else if offset, err = a.Files.Offset(u); err != nil {
		return err
	}
	w.Header().Set(headerOffset, strconv.FormatInt(offset, 10))
	w.Header().Set(headerComplete, strconv.FormatBool(have != nil))
	w.WriteHeader(http.StatusOK)
	return nil
}

// HandUpload is PATCH of the same path.
func (a *API) HandUpload(w http.ResponseWriter, r *route.Request) error {
	m, u, err := a.handUpload(r)
	if err != nil {
		return err
	}
	offset, err := number(r, headerOffset)
	if err != nil {
		return err
	}
	if u.Size, err = number(r, headerLength); err != nil {
		return err
	}
	return a.takeByHand(w, r, m, u, offset, r.Header.Get(headerName))
}

// takeByHand takes bytes of an upload from offset on. It answers 204 until all of them are there, then with the submission.
func (a *API) takeByHand(w http.ResponseWriter, r *route.Request, m cert.Machine, u blobs.Upload, offset int64, name string) error {
	have, err := a.added(r, m, u.SHA256)
	if err != nil {
		return err
	}
	bad := a.Lab.FileIsBad(u.SHA256)
	if have != nil && !bad {
		return a.answerSubmission(w, r, http.StatusOK, have.ID)
	}
	if err := a.Store.Writable(); err != nil {
		return err // before the bytes are sent for nothing
	}
	if name == "" {
		name = "submission.tar.xz"
	}
	if err := checkFileName(name); err != nil {
		return err
	}
	if u.Size == 0 {
		return cert.Errorf(cert.Invalid, "cannot add the submission: it is empty")
	}
	if err := a.checkSize(u.Size); err != nil {
		return err
	}
	id, added := "", false
	offset, complete, err := a.Files.Append(r.Context(), u, offset, a.body(w, r.Body), func() (err error) {
		ctx, done := a.recording(r)
		defer done()
		now := a.Now()
		run := cert.Run{ID: cert.NewID(cert.RunID, now), Machine: m.ID, Origin: cert.FromUpload, RequestedBy: r.Caller.Name, State: cert.Completed,
			Created: now, Started: &now, Finished: &now}
		id, added, err = a.Store.AddUpload(ctx, run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: name, SHA256: u.SHA256, Size: u.Size, Received: now})
		if err == nil && bad {
			err = a.Lab.FileIsBack(ctx, u.SHA256)
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
	a.Lab.Index()
	status := http.StatusOK
	if added {
		status = http.StatusCreated
	}
	return a.answerSubmission(w, r, status, id)
}

func (a *API) answerSubmission(w http.ResponseWriter, r *route.Request, status int, id string) error {
	s, err := a.Store.Submission(r.Context(), id)
	if err != nil {
		return err
	}
	a.linkSubmission(&s)
	return route.JSON(w, status, s)
}
