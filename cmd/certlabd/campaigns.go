package main

import (
	"context"
	"io"
	"net/http"

	"certlab/internal/control/campaign"
	"certlab/internal/control/kernelnews"
	"certlab/internal/control/review"
	"certlab/internal/server/api"
	"certlab/internal/sshkeys"
)

var (
	_ api.Campaigns = (*campaign.Engine)(nil)
	_ api.Review    = (*review.Review)(nil)
)

// newCampaigns makes what plans and runs campaigns, and what says what came of them. Each wakes the other.
func (s *service) newCampaigns() {
	s.review = review.New(review.Options{DB: s.db, Logger: s.logger, Now: s.now, Machines: s.fleet.Machines, Wake: func() { s.engine.Wake() },
		Open: func(ctx context.Context, sha string, size int64) (io.ReadCloser, error) {
			return s.lab.OpenFile(ctx, sha, size)
		}})
	s.kernels = kernelnews.NewPoller(kernelnews.PollerOptions{Logger: s.logger, URL: func() string { return s.lab.Desired().KernelStatusURL },
		Transport: func() http.RoundTripper { return sshkeys.NewTransport(s.lab.Desired().Fleet.Proxy) },
		Take: func(ctx context.Context, st kernelnews.Status, url string) error {
			return s.engine.TakeKernels(ctx, st, url)
		}})
	s.engine = campaign.New(campaign.Options{DB: s.db, Logger: s.logger, Fleet: s.fleet, Lab: s.lab, Now: s.now, Heard: s.lab.Heard, News: s.kernels, Review: s.review.Nudge})
}

// indexed tells those who wait for results that there are some.
func (s *service) indexed() {
	s.engine.Wake()
	s.review.Nudge()
}
