package main

import (
	"context"
	"io"

	"certlab/internal/control/campaign"
	"certlab/internal/control/review"
	"certlab/internal/server/api"
)

var (
	_ api.Campaigns = (*campaign.Engine)(nil)
	_ api.Review    = (*review.Review)(nil)
)

// newCampaigns makes what plans and runs campaigns, and what says what came of them. Each wakes the other.
func (s *service) newCampaigns() {
	s.review = review.New(review.Options{DB: s.db, Logger: s.logger, Now: s.now, Machines: s.fleet.Machines, Wake: func() { s.engine.Wake() },
		Open: func(ctx context.Context, sha string, size int64) (io.ReadCloser, error) { return s.lab.OpenFile(ctx, sha, size) }})
	s.engine = campaign.New(campaign.Options{DB: s.db, Logger: s.logger, Fleet: s.fleet, Lab: s.lab, Now: s.now, Heard: s.lab.Heard, Review: s.review.Nudge})
}

// indexed tells those who wait for results that there are some.
func (s *service) indexed() {
	s.engine.Wake()
	s.review.Nudge()
}
