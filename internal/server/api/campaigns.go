package api

import (
	"context"
	"io"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// Campaigns is what the API needs of the engine that plans and runs campaigns. name is a campaign's id, or the name of the newest that has it; by is
// a person's token name, with their role where rights depend on it.
type Campaigns interface {
	// PlanCampaign says what a campaign would do, and does nothing.
	PlanCampaign(ctx context.Context, want cert.NewCampaign, by string) (cert.CampaignPlan, error)
	// StartCampaign stores it and its targets; one of the same id that asks for the same is answered again.
	StartCampaign(ctx context.Context, want cert.NewCampaign, by string, role cert.Role) (cert.Campaign, bool, error)
	ChangeCampaign(ctx context.Context, name string, c cert.ChangeCampaign, by string, role cert.Role) (cert.Campaign, error)
	CancelCampaign(ctx context.Context, name string, e cert.EndCampaign, by string, role cert.Role) (cert.Campaign, error)
	RetryTargets(ctx context.Context, name string, r cert.RetryTargets, by string, role cert.Role) (cert.Retried, error)
	ConfirmFinding(ctx context.Context, finding string, c cert.ConfirmFinding, by string, role cert.Role) (cert.Retried, error)
	AttachSubmission(ctx context.Context, name string, a cert.AttachSubmission, by string, role cert.Role) (cert.Target, error)
	// RerunIssue does again what a known issue hit, in campaigns that are not final.
	RerunIssue(ctx context.Context, issue, reason, by string, role cert.Role) (cert.Retried, error)
	Timeline(ctx context.Context, run string) (cert.Timeline, error)
	// Forecast fills in when a campaign's runs are likely to be over, and whether its due date holds.
	Forecast(ctx context.Context, v *cert.CampaignView) error
	Kernels(ctx context.Context) (cert.KernelNewsList, error)
	// ReadKernels takes in the kernel team's status, as its JSON.
	ReadKernels(ctx context.Context, r io.Reader, by string) (cert.KernelNewsList, error)
}

// Review is what the API needs of what compares, explains and decides.
type Review interface {
	Campaigns(ctx context.Context, f sqlite.CampaignFilter, p sqlite.Page) (cert.CampaignList, error)
	View(ctx context.Context, name string) (cert.CampaignView, error)
	Targets(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.TargetList, error)
	Findings(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.FindingList, error)
	Finding(ctx context.Context, id string) (cert.FindingView, error)
	Events(ctx context.Context, name string, p sqlite.Page) (cert.CampaignEventList, error)
	// Export writes everything about a campaign: JSON or CSV.
	Export(ctx context.Context, name, format string, w io.Writer) error

	Decide(ctx context.Context, name string, d cert.NewDecision, by string, role cert.Role) (cert.Decided, error)
	Decisions(ctx context.Context, name string, verify bool, p sqlite.Page) (cert.DecisionList, error)
	Verdict(ctx context.Context, name string) (cert.Verdict, error)

	Issues(ctx context.Context, stale bool, p sqlite.Page) (cert.IssueList, error)
	Issue(ctx context.Context, id string) (cert.KnownIssue, error)
	// SaveIssue adds one (without an id) or makes a new version of one; it fails as Conflict if Version is not the one in force.
	SaveIssue(ctx context.Context, k cert.KnownIssue, by string, role cert.Role) (cert.SavedIssue, error)
	CloseIssue(ctx context.Context, id, reason, by string, role cert.Role) (cert.SavedIssue, error)
	PreviewIssue(ctx context.Context, m cert.IssueMatch, cursor string) (cert.IssuePreview, error)

	Policies(ctx context.Context) (cert.PolicyList, error)
	Policy(ctx context.Context, ref string) (cert.StoredPolicy, error) // name, or name@version
	SavePolicy(ctx context.Context, name string, text []byte, by string) (cert.StoredPolicy, error)
}
