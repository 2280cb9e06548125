package sqlite

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

func scanTarget(s scanner) (t cert.Target, err error) {
	err = s.Scan(jsonColumn{&t})
	if t.Tries == nil {
		t.Tries = []cert.Try{}
	}
	return t, err
}

func findTarget(ctx context.Context, q query, where string, args ...any) (cert.Target, error) {
	return one(ctx, q, scanTarget, notFound("target", fmt.Sprint(args...)), "SELECT data FROM targets WHERE "+where, args...)
}

// Target returns a target. It fails as NotFound.
func (db *DB) Target(ctx context.Context, id string) (cert.Target, error) {
	return findTarget(ctx, db.r, "id = ?", id)
}

// Target is DB.Target in the transaction.
func (t *CampaignTx) Target(id string) (cert.Target, error) {
	return findTarget(t.ctx, t.tx, "id = ?", id)
}

const targetsOrder = " ORDER BY json_extract(data, '$.hostname'), id"

// Targets returns all targets of a campaign, by hostname.
func (db *DB) Targets(ctx context.Context, campaign string) ([]cert.Target, error) {
	return list(ctx, db.r, scanTarget, "SELECT data FROM targets WHERE campaign = ?"+targetsOrder, campaign)
}

// Targets is DB.Targets in the transaction.
func (t *CampaignTx) Targets(campaign string) ([]cert.Target, error) {
	return list(t.ctx, t.tx, scanTarget, "SELECT data FROM targets WHERE campaign = ?"+targetsOrder, campaign)
}

// TargetsIn returns a campaign's targets in some states, the first due first, at most limit of them.
func (db *DB) TargetsIn(ctx context.Context, campaign string, limit int, states ...cert.TargetState) ([]cert.Target, error) {
	return targetsIn(ctx, db.r, campaign, limit, states)
}

// TargetsIn is DB.TargetsIn in the transaction.
func (t *CampaignTx) TargetsIn(campaign string, limit int, states ...cert.TargetState) ([]cert.Target, error) {
	return targetsIn(t.ctx, t.tx, campaign, limit, states)
}

func targetsIn(ctx context.Context, q query, campaign string, limit int, states []cert.TargetState) ([]cert.Target, error) {
	args := []any{campaign}
	for _, s := range states {
		args = append(args, s)
	}
	return list(ctx, q, scanTarget, "SELECT data FROM targets WHERE campaign = ? AND state IN ("+placeholders(len(states))+") ORDER BY due, id LIMIT ?", append(args, limit)...)
}

// DueTargets returns a campaign's waiting targets whose next step is due, the first due first.
func (db *DB) DueTargets(ctx context.Context, campaign string, now time.Time, limit int) ([]cert.Target, error) {
	return list(ctx, db.r, scanTarget, "SELECT data FROM targets INDEXED BY targets_due WHERE campaign = ? AND due IS NOT NULL AND due <= ? ORDER BY due, id LIMIT ?",
		campaign, micros(now), limit)
}

// TargetCounts returns how many targets of a campaign are in each state.
func (db *DB) TargetCounts(ctx context.Context, campaign string) (map[cert.TargetState]int, error) {
	return targetCounts(ctx, db.r, campaign)
}

// TargetCounts is DB.TargetCounts in the transaction.
func (t *CampaignTx) TargetCounts(campaign string) (map[cert.TargetState]int, error) {
	return targetCounts(t.ctx, t.tx, campaign)
}

func targetCounts(ctx context.Context, q query, campaign string) (map[cert.TargetState]int, error) {
	type row struct {
		state cert.TargetState
		n     int
	}
	rows, err := list(ctx, q, func(s scanner) (r row, err error) { return r, s.Scan(&r.state, &r.n) },
		"SELECT state, count(*) FROM targets INDEXED BY targets_state WHERE campaign = ? GROUP BY state", campaign)
	out := make(map[cert.TargetState]int, len(rows))
	for _, r := range rows {
		out[r.state] = r.n
	}
	return out, err
}

// ComparingTargets returns the ids of targets, of all campaigns, whose newest results wait to be compared.
func (db *DB) ComparingTargets(ctx context.Context, limit int) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, "SELECT id FROM targets INDEXED BY targets_uncompared WHERE state = 'comparing' LIMIT ?", limit)
}

// UnsettledCampaigns returns the ids of campaigns that have targets which are not settled.
func (db *DB) UnsettledCampaigns(ctx context.Context) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		"SELECT DISTINCT campaign FROM targets INDEXED BY targets_unsettled WHERE state IN ('waiting', 'queued', 'provisioning', 'running', 'comparing')")
}

// PutTarget stores a target, new or changed, and its tries.
func (t *CampaignTx) PutTarget(g cert.Target) error {
	var due any
	if g.State == cert.TargetWaiting {
		due = g.Updated.UnixMicro()
		if g.NotBefore != nil {
			due = g.NotBefore.UnixMicro()
		}
	}
	compared := 0
	if g.Compared != nil {
		compared = g.Compared.Version
	}
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO targets (id, campaign, machine, plan, state, required, submission, compared, due, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, required = excluded.required, submission = excluded.submission, compared = excluded.compared,
		due = excluded.due, data = excluded.data`, g.ID, g.Campaign, g.Machine, g.Plan, g.State, g.Required, g.Submission, compared, due, mustJSON(g))
	if err != nil {
		return fmt.Errorf("cannot store target %s: %w", g.ID, err)
	}
	t.move(g.Campaign, g.ID)
	return t.putTries(g)
}
