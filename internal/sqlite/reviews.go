package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

// UnreviewedTargets returns the ids of targets with a try that is over and of which nobody has stored yet what it means: of one campaign, or of all.
func (db *DB) UnreviewedTargets(ctx context.Context, campaign, after string, limit int) ([]string, error) {
	return unreviewedTargets(ctx, db.r, campaign, after, limit)
}

// UnreviewedTargets is DB.UnreviewedTargets in the transaction.
func (t *CampaignTx) UnreviewedTargets(campaign, after string, limit int) ([]string, error) {
	return unreviewedTargets(t.ctx, t.tx, campaign, after, limit)
}

func unreviewedTargets(ctx context.Context, q query, campaign, after string, limit int) ([]string, error) {
	var w where
	w.add("open = 0 AND reviewed = 0")
	w.equal("campaign", campaign)
	if after != "" {
		w.add("target > ?", after)
	}
	return list(ctx, q, func(s scanner) (id string, err error) { return id, s.Scan(&id) },
		"SELECT DISTINCT target FROM tries INDEXED BY tries_unreviewed"+w.String()+" ORDER BY target LIMIT ?", append(w.args, limit)...)
}

// Reviewed notes that what a target's tries mean was stored, as far as they are over: the first so many.
func (t *CampaignTx) Reviewed(target string, tries int) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE tries SET reviewed = 1 WHERE target = ? AND open = 0 AND reviewed = 0 AND number <= ?", target, tries); err != nil {
		return fmt.Errorf("cannot store that target %s was looked at: %w", target, err)
	}
	return nil
}

// StaleTargets returns the ids of the next targets, by id, that were compared by other rules than these, in campaigns that are not final.
func (db *DB) StaleTargets(ctx context.Context, rules int, after string, limit int) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (id string, err error) { return id, s.Scan(&id) },
		"SELECT id FROM targets WHERE campaign IN (SELECT id FROM campaigns WHERE "+openCampaigns+") AND compared > 0 AND compared <> ? AND id > ? ORDER BY id LIMIT ?",
		rules, after, limit)
}

// A CoverageCount is how many targets of a campaign are in a state.
type CoverageCount struct {
	State    cert.TargetState
	Required bool
	N        int
}

// CoverageCounts counts a campaign's targets.
func (db *DB) CoverageCounts(ctx context.Context, campaign string) ([]CoverageCount, error) {
	return list(ctx, db.r, func(s scanner) (c CoverageCount, err error) { return c, s.Scan(&c.State, &c.Required, &c.N) },
		"SELECT state, required, count(*) FROM targets WHERE campaign = ? GROUP BY state, required", campaign)
}
