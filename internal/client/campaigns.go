package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"

	"certlab/internal/cert"
)

func campaignPath(name string, rest ...string) string {
	path := "/api/v1/campaigns/" + url.PathEscape(name)
	for _, part := range rest {
		path += "/" + part
	}
	return path
}

// Campaigns lists up to limit campaigns (0: all), the newest first.
func (c *Client) Campaigns(ctx context.Context, filter url.Values, limit int) (out []cert.CampaignSummary, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.CampaignList
		err := c.get(ctx, "/api/v1/campaigns", q, &page)
		out = append(out, page.Campaigns...)
		return page.Next, len(out), err
	})
	return out, err
}

// PlanCampaign asks what a campaign would do.
func (c *Client) PlanCampaign(ctx context.Context, n cert.NewCampaign) (out cert.CampaignPlan, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/campaigns/plan", nil, n, &out)
}

// StartCampaign starts a campaign. With an id it can be repeated.
func (c *Client) StartCampaign(ctx context.Context, n cert.NewCampaign) (out cert.Campaign, err error) {
	return out, c.call(ctx, http.MethodPost, "/api/v1/campaigns", nil, n, &out)
}

// Campaign returns what is to be seen of a campaign, by id or name.
func (c *Client) Campaign(ctx context.Context, name string) (out cert.CampaignView, err error) {
	return out, c.get(ctx, campaignPath(name), nil, &out)
}

// ChangeCampaign pauses, resumes or changes a campaign.
func (c *Client) ChangeCampaign(ctx context.Context, name string, change cert.ChangeCampaign) (out cert.Campaign, err error) {
	return out, c.call(ctx, http.MethodPatch, campaignPath(name), nil, change, &out)
}

// CancelCampaign ends a campaign without a verdict.
func (c *Client) CancelCampaign(ctx context.Context, name, reason string) (out cert.Campaign, err error) {
	return out, c.call(ctx, http.MethodPost, campaignPath(name, "cancel"), nil, cert.EndCampaign{Reason: reason}, &out)
}

// RetryTargets runs again what a campaign has run. With an id it can be repeated.
func (c *Client) RetryTargets(ctx context.Context, name string, r cert.RetryTargets) (out cert.Retried, err error) {
	return out, c.call(ctx, http.MethodPost, campaignPath(name, "retry"), nil, r, &out)
}

// AttachSubmission counts a submission that was made by hand.
func (c *Client) AttachSubmission(ctx context.Context, name string, a cert.AttachSubmission) (out cert.Target, err error) {
	return out, c.call(ctx, http.MethodPost, campaignPath(name, "submissions"), nil, a, &out)
}

// Targets lists up to limit targets of a campaign (0: all).
func (c *Client) Targets(ctx context.Context, name string, filter url.Values, limit int) (out []cert.Target, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.TargetList
		err := c.get(ctx, campaignPath(name, "targets"), q, &page)
		out = append(out, page.Targets...)
		return page.Next, len(out), err
	})
	return out, err
}

// Findings lists up to limit findings of a campaign (0: all).
func (c *Client) Findings(ctx context.Context, name string, filter url.Values, limit int) (out []cert.Finding, err error) {
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.FindingList
		err := c.get(ctx, campaignPath(name, "findings"), q, &page)
		out = append(out, page.Findings...)
		return page.Next, len(out), err
	})
	return out, err
}

// CampaignEvents lists up to limit events of a campaign (0: all), the newest first.
func (c *Client) CampaignEvents(ctx context.Context, name string, limit int) (out []cert.CampaignEvent, err error) {
	err = pages(nil, limit, func(q url.Values) (string, int, error) {
		var page cert.CampaignEventList
		err := c.get(ctx, campaignPath(name, "events"), q, &page)
		out = append(out, page.Events...)
		return page.Next, len(out), err
	})
	return out, err
}

// Export writes everything about a campaign, as json or csv.
func (c *Client) Export(ctx context.Context, name, format string, w io.Writer) error {
	return c.copy(ctx, campaignPath(name, "export"), url.Values{"format": {format}}, w)
}

// Verdict returns a campaign's verdict.
func (c *Client) Verdict(ctx context.Context, name string) (out cert.Verdict, err error) {
	return out, c.get(ctx, campaignPath(name, "verdict"), nil, &out)
}

// Decide approves, rejects, waives or reopens.
func (c *Client) Decide(ctx context.Context, name string, d cert.NewDecision) (out cert.Decided, err error) {
	return out, c.call(ctx, http.MethodPost, campaignPath(name, "decisions"), nil, d, &out)
}

// Decisions lists up to limit decisions (0: all) of a campaign, or of all if it is empty, the oldest first. With verify, which wants one page
// at least, it says too whether the whole log is as it was written.
func (c *Client) Decisions(ctx context.Context, campaign string, verify bool, limit int) (out cert.DecisionList, err error) {
	path := "/api/v1/decisions"
	if campaign != "" {
		path = campaignPath(campaign, "decisions")
	}
	first := verify
	err = pages(nil, limit, func(q url.Values) (string, int, error) {
		var page cert.DecisionList
		if q.Del("verify"); first {
			q.Set("verify", "true")
		}
		err := c.get(ctx, path, q, &page)
		if first {
			out.Intact, out.Broken = page.Intact, page.Broken
		}
		first = false
		out.Decisions = append(out.Decisions, page.Decisions...)
		return page.Next, len(out.Decisions), err
	})
	return out, err
}

func findingPath(id string, rest ...string) string {
	path := "/api/v1/findings/" + url.PathEscape(id)
	for _, part := range rest {
		path += "/" + part
	}
	return path
}

// Finding returns what is to be seen of a finding.
func (c *Client) Finding(ctx context.Context, id string) (out cert.FindingView, err error) {
	return out, c.get(ctx, findingPath(id), nil, &out)
}

// ConfirmFinding runs a finding's job on the baseline's subject on the same machine.
func (c *Client) ConfirmFinding(ctx context.Context, id, reason string) (out cert.Retried, err error) {
	return out, c.call(ctx, http.MethodPost, findingPath(id, "confirm"), nil, cert.ConfirmFinding{Reason: reason}, &out)
}

// RerunFinding runs a finding's job again, on the same subject and machine. With an id it can be repeated.
func (c *Client) RerunFinding(ctx context.Context, id string, r cert.RerunFinding) (out cert.Retried, err error) {
	return out, c.call(ctx, http.MethodPost, findingPath(id, "rerun"), nil, r, &out)
}

func issuePath(id string, rest ...string) string {
	path := "/api/v1/issues/" + url.PathEscape(id)
	for _, part := range rest {
		path += "/" + part
	}
	return path
}

// Issues lists up to limit known issues (0: all).
func (c *Client) Issues(ctx context.Context, stale bool, limit int) (out []cert.KnownIssue, err error) {
	filter := url.Values{}
	if stale {
		filter.Set("stale", "true")
	}
	err = pages(filter, limit, func(q url.Values) (string, int, error) {
		var page cert.IssueList
		err := c.get(ctx, "/api/v1/issues", q, &page)
		out = append(out, page.Issues...)
		return page.Next, len(out), err
	})
	return out, err
}

// Issue returns a known issue.
func (c *Client) Issue(ctx context.Context, id string) (out cert.KnownIssue, err error) {
	return out, c.get(ctx, issuePath(id), nil, &out)
}

// SaveIssue adds a known issue, if it has no id, or replaces the one of its id and version.
func (c *Client) SaveIssue(ctx context.Context, k cert.KnownIssue) (out cert.SavedIssue, err error) {
	if k.ID == "" {
		return out, c.call(ctx, http.MethodPost, "/api/v1/issues", nil, k, &out)
	}
	return out, c.call(ctx, http.MethodPut, issuePath(k.ID), nil, k, &out)
}

// CloseIssue says that a known issue is fixed.
func (c *Client) CloseIssue(ctx context.Context, id, reason string) (out cert.SavedIssue, err error) {
	return out, c.call(ctx, http.MethodPost, issuePath(id, "close"), nil, cert.CloseIssue{Reason: reason}, &out)
}

// RerunIssue runs again what a known issue hit.
func (c *Client) RerunIssue(ctx context.Context, id, reason string) (out cert.Retried, err error) {
	return out, c.call(ctx, http.MethodPost, issuePath(id, "rerun"), nil, cert.RerunIssue{Reason: reason}, &out)
}

// PreviewIssue asks what a rule would recognise. cursor is that of the answer before, to go on with; empty to begin.
func (c *Client) PreviewIssue(ctx context.Context, m cert.IssueMatch, cursor string) (out cert.IssuePreview, err error) {
	query := url.Values{}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return out, c.call(ctx, http.MethodPost, "/api/v1/issues/preview", query, m, &out)
}

// Policies lists the newest version of each policy.
func (c *Client) Policies(ctx context.Context) (out cert.PolicyList, err error) {
	return out, c.get(ctx, "/api/v1/policies", nil, &out)
}

// Policy returns a policy, by name or name@version.
func (c *Client) Policy(ctx context.Context, ref string) (out cert.StoredPolicy, err error) {
	return out, c.get(ctx, "/api/v1/policies/"+url.PathEscape(ref), nil, &out)
}

// SavePolicy takes in a new version of a policy, as YAML.
func (c *Client) SavePolicy(ctx context.Context, name string, text []byte) (out cert.StoredPolicy, err error) {
	return out, c.send(ctx, http.MethodPut, "/api/v1/policies/"+url.PathEscape(name), "application/yaml", text, &out)
}

// CheckPolicy says what the lab makes of a policy.
func (c *Client) CheckPolicy(ctx context.Context, text []byte) (out cert.Policy, err error) {
	return out, c.send(ctx, http.MethodPost, "/api/v1/policies/check", "application/yaml", text, &out)
}

// Kernels lists what the kernel team's status names.
func (c *Client) Kernels(ctx context.Context) (out cert.KernelNewsList, err error) {
	return out, c.get(ctx, "/api/v1/kernels", nil, &out)
}

// ReadKernels hands in the kernel team's status, as its JSON is.
func (c *Client) ReadKernels(ctx context.Context, text []byte) (out cert.KernelNewsList, err error) {
	return out, c.send(ctx, http.MethodPost, "/api/v1/kernels", "application/json", text, &out)
}

// Timeline returns what a run has gone through and how far it is.
func (c *Client) Timeline(ctx context.Context, run string) (out cert.Timeline, err error) {
	return out, c.get(ctx, "/api/v1/runs/"+url.PathEscape(run)+"/timeline", nil, &out)
}

// send sends a text as it is and reads the JSON answer into out.
func (c *Client) send(ctx context.Context, method, path, kind string, text []byte, out any) error {
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {kind}}
	resp, err := c.request(ctx, method, path, nil, header, bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(&stalling{resp.Body, c.stall}, out)
}
