package campaign

import (
	"context"
	"io"

	"certlab/internal/cert"
)

var errNotYet = cert.Errorf(cert.Unavailable, "cannot do that yet")

func (e *Engine) ChangeCampaign(ctx context.Context, name string, c cert.ChangeCampaign, by string, role cert.Role) (cert.Campaign, error) {
	return cert.Campaign{}, errNotYet
}

func (e *Engine) CancelCampaign(ctx context.Context, name string, x cert.EndCampaign, by string, role cert.Role) (cert.Campaign, error) {
	return cert.Campaign{}, errNotYet
}

func (e *Engine) RetryTargets(ctx context.Context, name string, r cert.RetryTargets, by string, role cert.Role) (cert.Retried, error) {
	return cert.Retried{}, errNotYet
}

func (e *Engine) ConfirmFinding(ctx context.Context, finding string, c cert.ConfirmFinding, by string, role cert.Role) (cert.Retried, error) {
	return cert.Retried{}, errNotYet
}

func (e *Engine) AttachSubmission(ctx context.Context, name string, a cert.AttachSubmission, by string, role cert.Role) (cert.Target, error) {
	return cert.Target{}, errNotYet
}

func (e *Engine) RerunIssue(ctx context.Context, issue, reason, by string, role cert.Role) (cert.Retried, error) {
	return cert.Retried{}, errNotYet
}

func (e *Engine) Timeline(ctx context.Context, run string) (cert.Timeline, error) {
	return cert.Timeline{}, errNotYet
}

func (e *Engine) Kernels(ctx context.Context) (cert.KernelNewsList, error) {
	if e.News == nil {
		return cert.KernelNewsList{Kernels: []cert.KernelNews{}}, nil
	}
	return e.News.Kernels(ctx)
}

func (e *Engine) ReadKernels(ctx context.Context, r io.Reader, by string) (cert.KernelNewsList, error) {
	if e.News == nil {
		return cert.KernelNewsList{}, errNotYet
	}
	return e.News.ReadKernels(ctx, r, by)
}
