package review

import (
	"context"
	"io"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

var errSoon = cert.Errorf(cert.Unavailable, "this is not there yet")

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
func (r *Review) Decisions(ctx context.Context, name string, verify bool, p sqlite.Page) (cert.DecisionList, error) {
	return cert.DecisionList{}, errSoon
}
