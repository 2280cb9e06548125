package server

import (
	"net/http"

	"certlab/internal/cert"
	"certlab/internal/server/api"
	"certlab/internal/server/route"
	"certlab/internal/server/web"
)

// campaignTable are the routes for campaigns: what they are over, what they find, what is known and what is decided. Who may decide, a
// campaign's policy says: the route lets in whoever could have that role.
func (s *Server) campaignTable() []route.Route {
	a, p := s.API, s.Web
	const get, post, put, patch = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch
	type doc = route.Doc
	at := func(method, path string, access route.Access, handle route.Handler, d doc) route.Route {
		return route.Route{Method: method, Path: path, Access: access, Handle: handle, Doc: d}
	}
	return []route.Route{
		// Campaigns.
		at(get, "/api/v1/campaigns", viewer, a.ListCampaigns, doc{Summary: "List campaigns, the newest first", Query: api.CampaignParams, Response: cert.CampaignList{}}),
		at(post, "/api/v1/campaigns", engineer, a.StartCampaign, doc{Summary: "Start a campaign; 200 if this id has been started before", Body: cert.NewCampaign{}, Status: 201, Response: cert.Campaign{}}),
		at(post, "/api/v1/campaigns/plan", viewer, a.PlanCampaign, doc{Summary: "What a campaign would do, on what, for how long, and whether its due date holds; nothing is started", Body: cert.NewCampaign{}, Response: cert.CampaignPlan{}}),
		at(get, "/api/v1/campaigns/{campaign}", viewer, a.GetCampaign, doc{Summary: "A campaign, by id or name: what it has found and what stands between it and a verdict", Response: cert.CampaignView{}}),
		at(patch, "/api/v1/campaigns/{campaign}", engineer, a.ChangeCampaign, doc{Summary: "Pause or resume a campaign, or change its priority, due date or how much it does at once", Body: cert.ChangeCampaign{}, Response: cert.Campaign{}}),
		at(post, "/api/v1/campaigns/{campaign}/cancel", engineer, a.CancelCampaign, doc{Summary: "End a campaign without a verdict", Body: cert.EndCampaign{}, Response: cert.Campaign{}}),
		at(post, "/api/v1/campaigns/{campaign}/retry", engineer, a.RetryTargets, doc{Summary: "Run again what a campaign has run", Body: cert.RetryTargets{}, Response: cert.Retried{}}),
		at(get, "/api/v1/campaigns/{campaign}/targets", viewer, a.ListTargets, doc{Summary: "List a campaign's machines with their tries and what came of them", Query: api.TargetParams, Response: cert.TargetList{}}),
		at(get, "/api/v1/campaigns/{campaign}/findings", viewer, a.ListFindings, doc{Summary: "List a campaign's findings: what is open first, blockers first", Query: api.FindingParams, Response: cert.FindingList{}}),
		at(get, "/api/v1/campaigns/{campaign}/events", viewer, a.ListCampaignEvents, doc{Summary: "What happened in a campaign, the newest first", Query: api.PageParams, Response: cert.CampaignEventList{}}),
		at(post, "/api/v1/campaigns/{campaign}/submissions", engineer, a.AttachSubmission, doc{Summary: "Count a submission that was made by hand", Body: cert.AttachSubmission{}, Response: cert.Target{}}),
		at(get, "/api/v1/campaigns/{campaign}/decisions", viewer, a.ListDecisions, doc{Summary: "List a campaign's decisions, the oldest first", Query: api.DecisionParams, Response: cert.DecisionList{}}),
		at(post, "/api/v1/campaigns/{campaign}/decisions", engineer, a.Decide, doc{Summary: "Approve, reject, waive or reopen, with the role that the campaign's policy asks for; 409 if the campaign has changed since the version that is named", Body: cert.NewDecision{}, Response: cert.Decided{}}),
		at(get, "/api/v1/campaigns/{campaign}/verdict", viewer, a.GetVerdict, doc{Summary: "A campaign's verdict, with what it rests on; 404 until there is one", Response: cert.Verdict{}}),
		at(get, "/api/v1/campaigns/{campaign}/export", viewer, a.ExportCampaign, doc{Summary: "Everything about a campaign, as JSON or its findings as CSV", Query: api.ExportParams, Type: anyBytes}),
		at(get, "/api/v1/decisions", viewer, a.ListDecisions, doc{Summary: "The log of decisions over all campaigns, the oldest first", Query: api.DecisionParams, Response: cert.DecisionList{}}),

		// Findings.
		at(get, "/api/v1/findings/{finding}", viewer, a.GetFinding, doc{Summary: "A finding: its log, the same job on the baseline and on other machines, what else changed", Response: cert.FindingView{}}),
		at(post, "/api/v1/findings/{finding}/confirm", engineer, a.ConfirmFinding, doc{Summary: "Run a finding's job on the baseline's subject on the same machine", Body: cert.ConfirmFinding{}, Response: cert.Retried{}}),
		at(post, "/api/v1/findings/{finding}/rerun", engineer, a.RerunFinding, doc{Summary: "Run a finding's job again, on the same subject and machine; each outcome counts", Body: cert.RerunFinding{}, Response: cert.Retried{}}),

		// Known issues.
		at(get, "/api/v1/issues", viewer, a.ListIssues, doc{Summary: "List known issues", Query: api.IssueParams, Response: cert.IssueList{}}),
		at(post, "/api/v1/issues", engineer, a.AddIssue, doc{Summary: "Add a known issue: it is applied to past and future; one that hides blockers needs the role that decides", Body: cert.KnownIssue{}, Status: 201, Response: cert.SavedIssue{}}),
		at(post, "/api/v1/issues/preview", viewer, a.PreviewIssue, doc{Summary: "What a rule would recognise; nothing is stored", Query: api.PreviewParams, Body: cert.IssueMatch{}, Response: cert.IssuePreview{}}),
		at(get, "/api/v1/issues/{issue}", viewer, a.GetIssue, doc{Summary: "A known issue", Response: cert.KnownIssue{}}),
		at(put, "/api/v1/issues/{issue}", engineer, a.PutIssue, doc{Summary: "Replace a known issue; 409 if it is not of that version any more", Body: cert.KnownIssue{}, Response: cert.SavedIssue{}}),
		at(post, "/api/v1/issues/{issue}/close", engineer, a.CloseIssue, doc{Summary: "Say that a known issue is fixed: it recognises nothing from now on", Body: cert.CloseIssue{}, Response: cert.SavedIssue{}}),
		at(post, "/api/v1/issues/{issue}/rerun", engineer, a.RerunIssue, doc{Summary: "Run again what a known issue hit, in campaigns that are not final", Body: cert.RerunIssue{}, Response: cert.Retried{}}),

		// Policies, kernels, and how far a run is.
		at(get, "/api/v1/policies", viewer, a.ListPolicies, doc{Summary: "List policies, the newest version of each", Response: cert.PolicyList{}}),
		at(post, "/api/v1/policies/check", viewer, a.CheckPolicy, doc{Summary: "Check a policy; nothing is stored", BodyType: yamlText, Response: cert.Policy{}}),
		at(get, "/api/v1/policies/{policy}", viewer, a.GetPolicy, doc{Summary: "A policy: its newest version, or with @ and a number another", Response: cert.StoredPolicy{}}),
		at(put, "/api/v1/policies/{policy}", admin, a.PutPolicy, doc{Summary: "Take in a new version of a policy; campaigns that there are keep theirs", BodyType: yamlText, Response: cert.StoredPolicy{}}),
		at(get, "/api/v1/kernels", viewer, a.ListKernels, doc{Summary: "Kernels that the kernel team's status names as ready for testing, and the campaigns for them", Response: cert.KernelNewsList{}}),
		at(post, "/api/v1/kernels", engineer, a.ReadKernels, doc{Summary: "Take in the kernel team's status, its JSON as it is", BodyType: jsonText, Response: cert.KernelNewsList{}}),
		at(get, "/api/v1/runs/{run}/timeline", viewer, a.GetTimeline, doc{Summary: "What a run has gone through and how far it is", Response: cert.Timeline{}}),

		// Pages.
		at(get, "/campaigns", viewer, p.CampaignsPage, doc{Summary: "Campaigns", Query: web.CampaignParams, Type: htmlPage, Page: true}),
		at(get, "/campaigns/{campaign}", viewer, p.CampaignPage, doc{Summary: "A campaign and what stands between it and a verdict", Type: htmlPage, Page: true}),
		at(get, "/campaigns/{campaign}/findings", viewer, p.FindingsPage, doc{Summary: "A campaign's findings", Query: web.FindingParams, Type: htmlPage, Page: true}),
		at(get, "/campaigns/{campaign}/machines", viewer, p.TargetsPage, doc{Summary: "A campaign's machines", Query: web.TargetParams, Type: htmlPage, Page: true}),
		at(get, "/findings/{finding}", viewer, p.FindingPage, doc{Summary: "A finding", Type: htmlPage, Page: true}),
	}
}
