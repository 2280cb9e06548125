package review

import (
	"context"
	"io"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

var errSoon = cert.Errorf(cert.Unavailable, "this is not there yet")

type views struct{}
type jobsCache struct{}

func (r *Review) Turn(ctx context.Context) error { return nil }
func (r *Review) Failed(tx *sqlite.CampaignTx, c cert.Campaign, t *cert.Target, try cert.Try, run *cert.Run) error {
	return nil
}
func (r *Review) Campaigns(ctx context.Context, f sqlite.CampaignFilter, p sqlite.Page) (cert.CampaignList, error) {
	return cert.CampaignList{}, errSoon
}
func (r *Review) View(ctx context.Context, name string) (cert.CampaignView, error) {
	return cert.CampaignView{}, errSoon
}
func (r *Review) Targets(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.TargetList, error) {
	return cert.TargetList{}, errSoon
}
func (r *Review) Findings(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.FindingList, error) {
	return cert.FindingList{}, errSoon
}
func (r *Review) Finding(ctx context.Context, id string) (cert.FindingView, error) {
	return cert.FindingView{}, errSoon
}
func (r *Review) Events(ctx context.Context, name string, p sqlite.Page) (cert.CampaignEventList, error) {
	return cert.CampaignEventList{}, errSoon
}
func (r *Review) Export(ctx context.Context, name, format string, w io.Writer) error { return errSoon }
func (r *Review) Decide(ctx context.Context, name string, d cert.NewDecision, by string, role cert.Role) (cert.Decided, error) {
	return cert.Decided{}, errSoon
}
func (r *Review) Decisions(ctx context.Context, name string, verify bool, p sqlite.Page) (cert.DecisionList, error) {
	return cert.DecisionList{}, errSoon
}
func (r *Review) Verdict(ctx context.Context, name string) (cert.Verdict, error) {
	return cert.Verdict{}, errSoon
}
func (r *Review) Issues(ctx context.Context, stale bool, p sqlite.Page) (cert.IssueList, error) {
	return cert.IssueList{}, errSoon
}
func (r *Review) Issue(ctx context.Context, id string) (cert.KnownIssue, error) {
	return cert.KnownIssue{}, errSoon
}
func (r *Review) SaveIssue(ctx context.Context, k cert.KnownIssue, by string, role cert.Role) (cert.SavedIssue, error) {
	return cert.SavedIssue{}, errSoon
}
func (r *Review) CloseIssue(ctx context.Context, id, reason, by string, role cert.Role) (cert.SavedIssue, error) {
	return cert.SavedIssue{}, errSoon
}
func (r *Review) PreviewIssue(ctx context.Context, m cert.IssueMatch, cursor string) (cert.IssuePreview, error) {
	return cert.IssuePreview{}, errSoon
}
