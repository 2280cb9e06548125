package api

import (
	"context"
	"mime"
	"net/http"
	"strings"
	"unicode"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// CampaignParams are the filters of ListCampaigns.
var CampaignParams = append([]route.Param{
	{Name: "state", Enum: append([]string{"open"}, cert.CampaignStates...), Help: "only in this state; open: all that are not final"},
	{Name: "kind", Enum: cert.CampaignKinds, Help: "only of this kind"},
	{Name: "name", Help: "only of this name"},
	{Name: "version", Help: "only of this version of their subject"},
}, PageParams...)

// ListCampaigns is GET /api/v1/campaigns, the newest first.
func (a *API) ListCampaigns(w http.ResponseWriter, r *route.Request) error {
	list, err := a.Review.Campaigns(r.Context(), sqlite.CampaignFilter{State: r.Query.Get("state"), Kind: r.Query.Get("kind"), Name: r.Query.Get("name"),
		Version: r.Query.Get("version")}, page(r))
	if err != nil {
		return err
	}
	for n := range list.Campaigns {
		a.linkCampaign(&list.Campaigns[n].Campaign)
	}
	return route.JSON(w, http.StatusOK, list)
}

func (a *API) linkCampaign(c *cert.Campaign) { c.URL = a.url("campaigns", c.ID) }

// decodeCampaign reads what campaign somebody wants.
func (a *API) decodeCampaign(r *route.Request) (in cert.NewCampaign, err error) {
	if err := r.Decode(&in, true); err != nil {
		return in, err
	}
	if in.ID != "" && !cert.ValidID(cert.CampaignID, in.ID) {
		return in, cert.Errorf(cert.Invalid, "cannot use campaign id %q: it must be a c and 26 lower-case letters or digits (or leave it out)", clipText(in.ID))
	}
	if in.Reason != "" {
		return in, needReason(in.Reason, "start a campaign")
	}
	return in, nil
}

// PlanCampaign is POST /api/v1/campaigns/plan: what the campaign would do. Nothing is stored.
func (a *API) PlanCampaign(w http.ResponseWriter, r *route.Request) error {
	in, err := a.decodeCampaign(r)
	if err != nil {
		return err
	}
	plan, err := a.Campaigns.PlanCampaign(r.Context(), in, r.Caller.Name)
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, plan)
}

// StartCampaign is POST /api/v1/campaigns. With an id of the caller's choosing it can be repeated safely: 200 if it was there.
func (a *API) StartCampaign(w http.ResponseWriter, r *route.Request) error {
	in, err := a.decodeCampaign(r)
	if err != nil {
		return err
	}
	if err := a.Lab.RoomForRuns(); err != nil {
		return err
	}
	c, made, err := a.Campaigns.StartCampaign(r.Context(), in, r.Caller.Name, r.Caller.Role)
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	return a.answerCampaign(w, status, c, err)
}

func (a *API) answerCampaign(w http.ResponseWriter, status int, c cert.Campaign, err error) error {
	if err != nil {
		return err
	}
	a.linkCampaign(&c)
	return route.JSON(w, status, c)
}

// campaignError names the campaign that was probably meant where there is none of that name.
func (a *API) campaignError(ctx context.Context, name string, err error) error {
	if cert.CodeOf(err) != cert.NotFound || cert.ValidID(cert.CampaignID, name) {
		return err
	}
	list, problem := a.Review.Campaigns(ctx, sqlite.CampaignFilter{}, sqlite.Page{Limit: sqlite.MaxLimit})
	if problem != nil || strings.Contains(err.Error(), "did you mean") {
		return err
	}
	var names []string
	for _, c := range list.Campaigns {
		names = append(names, c.Campaign.Name)
	}
	if near := cert.Nearest(name, names); near != "" {
		return cert.Errorf(cert.NotFound, "%s: did you mean %s?", err.Error(), near)
	}
	return err
}

// ChangeCampaign is PATCH /api/v1/campaigns/{campaign}.
func (a *API) ChangeCampaign(w http.ResponseWriter, r *route.Request) error {
	var in cert.ChangeCampaign
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Priority == nil && in.AtOnce == nil && in.Due == nil && in.Paused == nil {
		return cert.Errorf(cert.Invalid, "cannot change the campaign: say what (priority, at_once, due or paused)")
	}
	if in.Reason != "" || in.Paused != nil && *in.Paused {
		if err := needReason(in.Reason, "change the campaign"); err != nil {
			return err
		}
	}
	name := r.PathValue("campaign")
	c, err := a.Campaigns.ChangeCampaign(r.Context(), name, in, r.Caller.Name, r.Caller.Role)
	return a.answerCampaign(w, http.StatusOK, c, a.campaignError(r.Context(), name, err))
}

// CancelCampaign is POST /api/v1/campaigns/{campaign}/cancel.
func (a *API) CancelCampaign(w http.ResponseWriter, r *route.Request) error {
	var in cert.EndCampaign
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "cancel the campaign"); err != nil {
		return err
	}
	name := r.PathValue("campaign")
	c, err := a.Campaigns.CancelCampaign(r.Context(), name, in, r.Caller.Name, r.Caller.Role)
	return a.answerCampaign(w, http.StatusOK, c, a.campaignError(r.Context(), name, err))
}

// RetryTargets is POST /api/v1/campaigns/{campaign}/retry.
func (a *API) RetryTargets(w http.ResponseWriter, r *route.Request) error {
	var in cert.RetryTargets
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "run it again"); err != nil {
		return err
	}
	if len(in.Machines) == 0 && in.State == "" && in.Issue == "" {
		return cert.Errorf(cert.Invalid, "cannot run it again: say which machines (machines, state: missing, blocked or done, or issue)")
	}
	name := r.PathValue("campaign")
	out, err := a.Campaigns.RetryTargets(r.Context(), name, in, r.Caller.Name, r.Caller.Role)
	return answerRetried(w, out, a.campaignError(r.Context(), name, err))
}

func answerRetried(w http.ResponseWriter, out cert.Retried, err error) error {
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, out)
}

// AttachSubmission is POST /api/v1/campaigns/{campaign}/submissions.
func (a *API) AttachSubmission(w http.ResponseWriter, r *route.Request) error {
	var in cert.AttachSubmission
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "count the submission"); err != nil {
		return err
	}
	name := r.PathValue("campaign")
	t, err := a.Campaigns.AttachSubmission(r.Context(), name, in, r.Caller.Name, r.Caller.Role)
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, t)
}

// ConfirmFinding is POST /api/v1/findings/{finding}/confirm.
func (a *API) ConfirmFinding(w http.ResponseWriter, r *route.Request) error {
	var in cert.ConfirmFinding
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if in.Reason != "" {
		if err := needReason(in.Reason, "confirm the finding"); err != nil {
			return err
		}
	}
	out, err := a.Campaigns.ConfirmFinding(r.Context(), r.PathValue("finding"), in, r.Caller.Name, r.Caller.Role)
	return answerRetried(w, out, err)
}

// RerunFinding is POST /api/v1/findings/{finding}/rerun: its job again, or the whole plan where it is about none, on its machine.
func (a *API) RerunFinding(w http.ResponseWriter, r *route.Request) error {
	var in cert.RerunFinding
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "run it again"); err != nil {
		return err
	}
	v, err := a.Review.Finding(r.Context(), r.PathValue("finding"))
	if err != nil {
		return err
	}
	again := cert.RetryTargets{ID: in.ID, Machines: []string{v.Finding.Machine}, Reason: in.Reason}
	if v.Finding.Job != "" {
		again.Jobs = []string{v.Finding.Job}
	}
	out, err := a.Campaigns.RetryTargets(r.Context(), v.Finding.Campaign, again, r.Caller.Name, r.Caller.Role)
	return answerRetried(w, out, err)
}

// RerunIssue is POST /api/v1/issues/{issue}/rerun.
func (a *API) RerunIssue(w http.ResponseWriter, r *route.Request) error {
	var in cert.RerunIssue
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "run it again"); err != nil {
		return err
	}
	out, err := a.Campaigns.RerunIssue(r.Context(), r.PathValue("issue"), in.Reason, r.Caller.Name, r.Caller.Role)
	return answerRetried(w, out, err)
}

// GetTimeline is GET /api/v1/runs/{run}/timeline.
func (a *API) GetTimeline(w http.ResponseWriter, r *route.Request) error {
	t, err := a.Campaigns.Timeline(r.Context(), r.PathValue("run"))
	if err != nil {
		return err
	}
	t.Run.URL = a.url("runs", t.Run.ID)
	return route.JSON(w, http.StatusOK, t)
}

// ListKernels is GET /api/v1/kernels.
func (a *API) ListKernels(w http.ResponseWriter, r *route.Request) error {
	list, err := a.Campaigns.Kernels(r.Context())
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, list)
}

// maxStatus bounds the kernel team's status, in bytes.
const maxStatus = 64 << 20

// ReadKernels is POST /api/v1/kernels: the kernel team's status, as its JSON is.
func (a *API) ReadKernels(w http.ResponseWriter, r *route.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return cert.Errorf(cert.Invalid, "cannot read the request: its Content-Type must be application/json")
	}
	list, err := a.Campaigns.ReadKernels(r.Context(), http.MaxBytesReader(nil, r.Body, maxStatus), r.Caller.Name)
	if err != nil {
		return tooLarge(err, "read the kernel team's status")
	}
	return route.JSON(w, http.StatusOK, list)
}

// plainName fails unless a name that is shown and typed is one word of plain characters.
func plainName(name, what string) error {
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) || c == '@' || c == '/' }) {
		return cert.Errorf(cert.Invalid, "cannot use the %s %q: it must be one word of at most 100 bytes, without @ and /", what, clipText(name))
	}
	return nil
}
