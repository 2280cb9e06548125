package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

// putTries stores which runs are a target's. What is known of each is in the target.
func (t *CampaignTx) putTries(g cert.Target) error {
	for _, try := range g.Tries {
		if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO tries (run, reservation, target, campaign, number, machine, purpose, open, asked, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')
			ON CONFLICT (run) DO UPDATE SET open = excluded.open, asked = excluded.asked WHERE open <> excluded.open OR asked <> excluded.asked`,
			try.Run, try.Reservation, g.ID, g.Campaign, try.Number, try.Machine, try.Purpose, try.Ended == nil, try.Asked != nil); err != nil {
			return fmt.Errorf("cannot store try %d of target %s: %w", try.Number, g.ID, err)
		}
	}
	return nil
}

// A TryRow is a try as its own table has it.
type TryRow struct {
	Run         string
	Reservation string
	Target      string
	Campaign    string
	Number      int
	Machine     string
	Purpose     string
	Open        bool
	Asked       bool
	Seen        string // what it has come to, as a text that changes with it
}

func scanTry(s scanner) (r TryRow, err error) {
	return r, s.Scan(&r.Run, &r.Reservation, &r.Target, &r.Campaign, &r.Number, &r.Machine, &r.Purpose, &r.Open, &r.Asked, &r.Seen)
}

const tryColumns = "t.run, t.reservation, t.target, t.campaign, t.number, t.machine, t.purpose, t.open, t.asked, "

// tryNow is what a try has come to: the states of its run and its reservation, of the submission, and what else its target tells.
const tryNow = `coalesce((SELECT r.state || ' ' || r.cancel_requested FROM runs r WHERE r.id = t.run), '') || '/' ||
	coalesce((SELECT s.id || ' ' || s.index_state FROM submissions s WHERE s.run = t.run ORDER BY s.seq DESC LIMIT 1), '') || '/' ||
	coalesce((SELECT v.state || ' ' || v.machine || ' ' || coalesce(json_extract(v.data, '$.blocked'), '') || ' ' || coalesce(json_extract(v.data, '$.ended'), '')
		FROM reservations v WHERE v.id = t.reservation AND t.reservation <> ''), '')`

// MovedTries returns the open tries of a campaign that have come to something else than SeeTry has noted.
func (db *DB) MovedTries(ctx context.Context, campaign string, limit int) ([]TryRow, error) {
	return list(ctx, db.r, scanTry, "SELECT "+tryColumns+tryNow+" AS now FROM tries t INDEXED BY tries_open WHERE t.campaign = ? AND t.open = 1 AND t.seen <> now LIMIT ?", campaign, limit)
}

// UnaskedTries returns the open tries of a campaign that are stored, and were not asked for yet as far as is known.
func (db *DB) UnaskedTries(ctx context.Context, campaign string, limit int) ([]TryRow, error) {
	return list(ctx, db.r, scanTry, "SELECT "+tryColumns+"t.seen FROM tries t INDEXED BY tries_open WHERE t.campaign = ? AND t.open = 1 AND t.asked = 0 LIMIT ?", campaign, limit)
}

// OpenTries returns the open tries of a campaign.
func (db *DB) OpenTries(ctx context.Context, campaign string) ([]TryRow, error) {
	return openTries(ctx, db.r, campaign)
}

// OpenTries is DB.OpenTries in the transaction.
func (t *CampaignTx) OpenTries(campaign string) ([]TryRow, error) {
	return openTries(t.ctx, t.tx, campaign)
}

func openTries(ctx context.Context, q query, campaign string) ([]TryRow, error) {
	return list(ctx, q, scanTry, "SELECT "+tryColumns+"t.seen FROM tries t INDEXED BY tries_open WHERE t.campaign = ? AND t.open = 1", campaign)
}

// TriesOnMachine returns the open tries on a machine, of all campaigns.
func (t *CampaignTx) TriesOnMachine(machine string) ([]TryRow, error) {
	return list(t.ctx, t.tx, scanTry, "SELECT "+tryColumns+"t.seen FROM tries t INDEXED BY tries_machine WHERE t.machine = ? AND t.open = 1", machine)
}

// SeeTry notes what a try has come to, as MovedTries returned it.
func (t *CampaignTx) SeeTry(run, seen string) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE tries SET seen = ? WHERE run = ?", seen, run); err != nil {
		return fmt.Errorf("cannot store try %s: %w", run, err)
	}
	return nil
}

// TryOfRun returns the try that a run is; it fails as NotFound if it is none.
func (db *DB) TryOfRun(ctx context.Context, run string) (TryRow, error) {
	return tryOfRun(ctx, db.r, run)
}

// TryOfRun is DB.TryOfRun in the transaction.
func (t *CampaignTx) TryOfRun(run string) (TryRow, error) { return tryOfRun(t.ctx, t.tx, run) }

func tryOfRun(ctx context.Context, q query, run string) (TryRow, error) {
	return one(ctx, q, scanTry, notFound("try", run), "SELECT "+tryColumns+"t.seen FROM tries t WHERE t.run = ?", run)
}

// How a campaign uses a machine.
const (
	UsedNot  = iota // not at all
	UsedOver        // a target of its own on it is settled
	UsedNow         // a target of its own on it is not settled, or a try of any campaign is under way there
)

// CampaignUses says how a campaign uses a machine.
func (db *DB) CampaignUses(ctx context.Context, campaign, machine string) (int, error) {
	return one(ctx, db.r, func(s scanner) (v int, err error) { return v, s.Scan(&v) }, nil, `SELECT CASE WHEN EXISTS (SELECT 1 FROM tries WHERE machine = ?2 AND open = 1)
		OR EXISTS (SELECT 1 FROM targets WHERE campaign = ?1 AND machine = ?2 AND state IN ('waiting', 'queued', 'provisioning', 'running', 'comparing')) THEN 2
		ELSE EXISTS (SELECT 1 FROM targets WHERE campaign = ?1 AND machine = ?2) END`, campaign, machine)
}

// AwaitedRepeats returns the open tries of a campaign that the lab does again by itself after an incident, and of which there is nothing yet.
func (db *DB) AwaitedRepeats(ctx context.Context, campaign string) ([]TryRow, error) {
	return list(ctx, db.r, scanTry, "SELECT "+tryColumns+`t.seen FROM tries t INDEXED BY tries_open WHERE t.campaign = ? AND t.open = 1 AND t.purpose = 'incident'
		AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = t.run) AND NOT EXISTS (SELECT 1 FROM reservations v WHERE v.id = t.reservation)`, campaign)
}

// RunSubmission returns the newest submission of a run. It fails as NotFound.
func (t *CampaignTx) RunSubmission(run string) (cert.Submission, error) {
	r, err := one(t.ctx, t.tx, scanSubmission, notFound("submission of run", run), "SELECT "+briefSubmission+submissionTables+" WHERE s.run = ? ORDER BY s.seq DESC LIMIT 1", run)
	return r.Submission, err
}

// LateTries returns the closed tries of a campaign whose run has been completed since, and of which their target does not know that, whether or not
// somebody has noted their submission.
func (db *DB) LateTries(ctx context.Context, campaign string, limit int) ([]TryRow, error) {
	return list(ctx, db.r, scanTry, "SELECT "+tryColumns+`t.seen FROM targets g INDEXED BY targets_state CROSS JOIN tries t ON t.target = g.id CROSS JOIN runs r ON r.id = t.run
		WHERE g.campaign = ? AND t.open = 0 AND r.state = 'completed' AND EXISTS (SELECT 1 FROM submissions s WHERE s.run = r.id AND s.index_state <> 'pending')
		AND EXISTS (SELECT 1 FROM json_each(g.data, '$.tries') j WHERE j.value ->> '$.run' = t.run AND (coalesce(j.value ->> '$.submission', '') = '' OR j.value ->> '$.state' <> 'completed') AND coalesce(j.value ->> '$.suspect', '') = '') LIMIT ?`, campaign, limit)
}

// ReviewTry has a try looked at again that was.
func (t *CampaignTx) ReviewTry(run string) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE tries SET reviewed = 0 WHERE run = ?", run); err != nil {
		return fmt.Errorf("cannot store try %s: %w", run, err)
	}
	return nil
}
