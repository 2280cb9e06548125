package api

import (
	"errors"
	"io"
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// GetCampaign is GET /api/v1/campaigns/{campaign}: what somebody who decides has to see.
func (a *API) GetCampaign(w http.ResponseWriter, r *route.Request) error {
	name := r.PathValue("campaign")
	v, err := a.Review.View(r.Context(), name)
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	if err := a.Campaigns.Forecast(r.Context(), &v); err != nil {
		return err
	}
	a.linkCampaign(&v.Campaign)
	return route.JSON(w, http.StatusOK, v)
}

// TargetParams are the filters of ListTargets.
var TargetParams = append([]route.Param{
	{Name: "state", Enum: cert.TargetStates, Help: "only in this state"},
	{Name: "standing", Enum: []string{cert.StandApproved, cert.StandRejected, cert.StandUndecided, cert.StandWaiting, cert.StandExcluded}, Help: "only of machines that stand so"},
	{Name: "machine", Help: "only of this machine: id, system_id or hostname"},
	{Name: "query", Help: "only of machines that match this query"},
}, PageParams...)

// FindingParams are the filters of ListFindings.
var FindingParams = append([]route.Param{
	{Name: "class", Help: "only of this class, such as regression or kernel-boot"},
	{Name: "job", Help: "only of this job: full id, or with * for any text"},
	{Name: "issue", Help: "only those that this known issue recognises"},
	{Name: "signature", Help: "only those whose log is alike"},
	{Name: "open", Kind: route.Boolean, Help: "only those that stand between the campaign and an approval, or only the others"},
	{Name: "blocker", Kind: route.Boolean, Help: "only blockers, or only the others"},
	{Name: "new", Kind: route.Boolean, Help: "only those that are not so on the baseline, or only the others"},
	{Name: "machine", Help: "only of this machine: id, system_id or hostname"},
	{Name: "target", Help: "only of this target, by its id"},
	{Name: "query", Help: "only of machines that match this query"},
}, PageParams...)

// filter reads a list's filter.
func filter(r *route.Request) (cert.Filter, error) {
	q := r.Query
	flag := func(name string) *bool {
		if q.Get(name) == "" {
			return nil
		}
		yes := q.Get(name) == "true"
		return &yes
	}
	f := cert.Filter{State: q.Get("state"), Standing: q.Get("standing"), Query: q.Get("query"), Class: q.Get("class"), Job: q.Get("job"), Issue: q.Get("issue"),
		Signature: q.Get("signature"), Open: flag("open"), Blocker: flag("blocker"), New: flag("new"), Machine: q.Get("machine"), Target: q.Get("target")}
	return f, f.Validate()
}

// ListTargets is GET /api/v1/campaigns/{campaign}/targets.
func (a *API) ListTargets(w http.ResponseWriter, r *route.Request) error {
	f, err := filter(r)
	if err != nil {
		return err
	}
	name := r.PathValue("campaign")
	list, err := a.Review.Targets(r.Context(), name, f, page(r))
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, list)
}

// ListFindings is GET /api/v1/campaigns/{campaign}/findings.
func (a *API) ListFindings(w http.ResponseWriter, r *route.Request) error {
	f, err := filter(r)
	if err != nil {
		return err
	}
	name := r.PathValue("campaign")
	list, err := a.Review.Findings(r.Context(), name, f, page(r))
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, list)
}

// ListCampaignEvents is GET /api/v1/campaigns/{campaign}/events.
func (a *API) ListCampaignEvents(w http.ResponseWriter, r *route.Request) error {
	name := r.PathValue("campaign")
	list, err := a.Review.Events(r.Context(), name, page(r))
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, list)
}

// GetFinding is GET /api/v1/findings/{finding}.
func (a *API) GetFinding(w http.ResponseWriter, r *route.Request) error {
	v, err := a.Review.Finding(r.Context(), r.PathValue("finding"))
	if err != nil {
		return err
	}
	return route.JSON(w, http.StatusOK, v)
}

// Decide is POST /api/v1/campaigns/{campaign}/decisions. The role that the campaign's policy asks for is looked at where the decision is made.
func (a *API) Decide(w http.ResponseWriter, r *route.Request) error {
	var in cert.NewDecision
	if err := r.Decode(&in, true); err != nil {
		return err
	}
	if err := needReason(in.Reason, "decide"); err != nil {
		return err
	}
	if err := in.Validate(a.Now()); err != nil {
		return err
	}
	if r.Caller.Local {
		return cert.Errorf(cert.Forbidden, "cannot decide as root over the socket: a decision has a person's name (certlab login, and certlab decision)")
	}
	name := r.PathValue("campaign")
	out, err := a.Review.Decide(r.Context(), name, in, r.Caller.Name, r.Caller.Role)
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, out)
}

// DecisionParams are the parameters of the lists of decisions.
var DecisionParams = append([]route.Param{{Name: "verify", Kind: route.Boolean, Help: "check each entry's hash, of the whole log, and say whether all are right"}}, PageParams...)

// ListDecisions is GET /api/v1/campaigns/{campaign}/decisions and, for all campaigns, GET /api/v1/decisions.
func (a *API) ListDecisions(w http.ResponseWriter, r *route.Request) error {
	name := r.PathValue("campaign")
	list, err := a.Review.Decisions(r.Context(), name, r.Query.Get("verify") == "true", page(r))
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, list)
}

// GetVerdict is GET /api/v1/campaigns/{campaign}/verdict.
func (a *API) GetVerdict(w http.ResponseWriter, r *route.Request) error {
	name := r.PathValue("campaign")
	v, err := a.Review.Verdict(r.Context(), name)
	if err != nil {
		return a.campaignError(r.Context(), name, err)
	}
	return route.JSON(w, http.StatusOK, v)
}

// ExportParams are the parameters of ExportCampaign.
var ExportParams = []route.Param{{Name: "format", Enum: []string{"json", "csv"}, Help: "json if not given"}}

// ExportCampaign is GET /api/v1/campaigns/{campaign}/export: everything about it.
func (a *API) ExportCampaign(w http.ResponseWriter, r *route.Request) error {
	name, format := r.PathValue("campaign"), "json"
	kind := "application/json"
	if r.Query.Get("format") == "csv" {
		format, kind = "csv", "text/csv; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	return a.stream(w, func(out io.Writer) error {
		return a.campaignError(r.Context(), name, a.Review.Export(r.Context(), name, format, out))
	})
}

// tooLarge says in plain words that a body was too large to do something with it.
func tooLarge(err error, what string) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return cert.Errorf(cert.TooLarge, "cannot %s: it is larger than %d bytes", what, large.Limit)
	}
	return err
}
