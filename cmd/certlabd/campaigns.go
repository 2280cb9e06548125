package main

import (
	"certlab/internal/control/campaign"
	"certlab/internal/server/api"
)

var _ api.Campaigns = (*campaign.Engine)(nil)

// newCampaigns makes what plans and runs campaigns.
func (s *service) newCampaigns() *campaign.Engine {
	return campaign.New(campaign.Options{DB: s.db, Logger: s.logger, Fleet: s.fleet, Lab: s.lab, Now: s.now})
}
