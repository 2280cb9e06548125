package api

import (
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// IssueParams are the parameters of ListIssues.
var IssueParams = append([]route.Param{{Name: "stale", Kind: route.Boolean, Help: "only those that have run out or have recognised nothing for long"}}, PageParams...)

// ListIssues is GET /api/v1/issues.
func (a *API) ListIssues(w http.ResponseWriter, r *route.Request) error {
	list, err := a.Review.Issues(r.Context(), r.Query.Get("stale") == "true", page(r))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, list)
}

// GetIssue is GET /api/v1/issues/{issue}.
func (a *API) GetIssue(w http.ResponseWriter, r *route.Request) error {
	k, err := a.Review.Issue(r.Context(), r.PathValue("issue"))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, k)
}

// AddIssue is POST /api/v1/issues.
func (a *API) AddIssue(w http.ResponseWriter, r *route.Request) error {
	var in cert.KnownIssue
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.ID != "" || in.Version != 0 {
		return cert.Errorf(cert.Invalid, "cannot add the known issue: leave out id and version (to change one: PUT /api/v1/issues/{issue})")
	}
	return a.saveIssue(w, r, in, http.StatusCreated)
}

// PutIssue is PUT /api/v1/issues/{issue}: all of it, with the version that the change began with.
func (a *API) PutIssue(w http.ResponseWriter, r *route.Request) error {
	var in cert.KnownIssue
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	id := r.PathValue("issue")
	if in.ID != "" && in.ID != id {
		return cert.Errorf(cert.Invalid, "cannot change the known issue: the body is about %q, the path about %s", clipText(in.ID), clipText(id))
	}
	in.ID = id
	return a.saveIssue(w, r, in, http.StatusOK)
}

func (a *API) saveIssue(w http.ResponseWriter, r *route.Request, in cert.KnownIssue, status int) error {
	if in.Reason != "" {
		if err := needReason(in.Reason, "save the known issue"); err != nil {
			return err
		}
	}
	// What the lab says of it is none of the caller's.
	in.By, in.Hits, in.LastHit, in.Closed = r.Caller.Name, 0, nil, nil
	out, err := a.Review.SaveIssue(r.Context(), in, r.Caller.Name, r.Caller.Role)
	return answerIssue(w, status, out, err)
}

func answerIssue(w http.ResponseWriter, status int, out cert.SavedIssue, err error) error {
	if err != nil {
		return err
	}
	return route.JSON(w, status, out)
}

// CloseIssue is POST /api/v1/issues/{issue}/close.
func (a *API) CloseIssue(w http.ResponseWriter, r *route.Request) error {
	var in cert.CloseIssue
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "close the known issue"); err != nil {
		return err
	}
	out, err := a.Review.CloseIssue(r.Context(), r.PathValue("issue"), in.Reason, r.Caller.Name, r.Caller.Role)
	return answerIssue(w, http.StatusOK, out, err)
}

// PreviewParams are the parameters of PreviewIssue.
var PreviewParams = []route.Param{{Name: "cursor", Help: "cursor of the answer before, to go on with"}}

// PreviewIssue is POST /api/v1/issues/preview: what a rule would recognise. Nothing is stored.
func (a *API) PreviewIssue(w http.ResponseWriter, r *route.Request) error {
	var in cert.IssueMatch
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	out, err := a.Review.PreviewIssue(r.Context(), in, r.Query.Get("cursor"))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, out)
}
