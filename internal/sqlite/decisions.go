package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
)

func scanDecision(s scanner) (d cert.Decision, err error) { return d, s.Scan(jsonColumn{&d}) }

// LastDecision returns number and hash of the last entry of the log; 0 and empty if there is none.
func (t *CampaignTx) LastDecision() (seq int64, hash string, err error) {
	type last struct {
		seq  int64
		hash string
	}
	l, err := one(t.ctx, t.tx, func(s scanner) (l last, err error) { return l, s.Scan(&l.seq, &l.hash) }, errGone,
		"SELECT seq, hash FROM decisions ORDER BY seq DESC LIMIT 1")
	if errors.Is(err, errGone) {
		err = nil
	}
	return l.seq, l.hash, err
}

// AddDecision adds an entry to the log, byte for byte: data is the entry's JSON with its hash. The entry before it has to be the last one.
func (t *CampaignTx) AddDecision(d cert.Decision, data string) error {
	seq, hash, err := t.LastDecision()
	if err != nil {
		return err
	}
	if d.Seq != seq+1 || d.Prev != hash {
		return cert.Errorf(cert.Conflict, "cannot add decision %d: the last one is %d", d.Seq, seq)
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO decisions (seq, campaign, machine, action, at, until, hash, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		d.Seq, d.Campaign, d.Machine, d.Action, micros(d.At), microsPtr(d.Until), d.Hash, data); err != nil {
		return fmt.Errorf("cannot store a decision: %w", err)
	}
	return nil
}

// CampaignDecisions returns the decisions of a campaign, in order.
func (t *CampaignTx) CampaignDecisions(campaign string) ([]cert.Decision, error) {
	return campaignDecisions(t.ctx, t.tx, campaign)
}

// CampaignDecisions returns the decisions of a campaign, in order.
func (db *DB) CampaignDecisions(ctx context.Context, campaign string) ([]cert.Decision, error) {
	return campaignDecisions(ctx, db.r, campaign)
}

func campaignDecisions(ctx context.Context, q query, campaign string) ([]cert.Decision, error) {
	return list(ctx, q, scanDecision, "SELECT data FROM decisions WHERE campaign = ? ORDER BY seq", campaign)
}

// Decision returns one entry of the log. It fails as NotFound.
func (t *CampaignTx) Decision(seq int64) (cert.Decision, error) {
	return one(t.ctx, t.tx, scanDecision, cert.Errorf(cert.NotFound, "there is no decision %d", seq), "SELECT data FROM decisions WHERE seq = ?", seq)
}

// Decisions lists decisions, the oldest first: of one campaign, or of all.
func (db *DB) Decisions(ctx context.Context, campaign string, p Page) ([]cert.Decision, string, error) {
	var w where
	w.equal("campaign", campaign)
	var after int64
	if more, err := p.parse("d", &after); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq > ?", after)
	}
	rows, err := list(ctx, db.r, scanDecision, "SELECT data FROM decisions"+w.String()+" ORDER BY seq LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil || len(rows) <= p.Limit {
		return rows, "", err
	}
	rows = rows[:p.Limit]
	return rows, cursor("d", rows[p.Limit-1].Seq), nil
}

// A DecisionEntry is an entry of the log as it is stored.
type DecisionEntry struct {
	Seq        int64
	Hash, Data string
}

// EachDecision calls fn with each entry of the log of all campaigns, in order.
func (db *DB) EachDecision(ctx context.Context, fn func(DecisionEntry) error) error {
	after := int64(0)
	for {
		rows, err := list(ctx, db.r, func(s scanner) (e DecisionEntry, err error) { return e, s.Scan(&e.Seq, &e.Hash, &e.Data) },
			"SELECT seq, hash, data FROM decisions WHERE seq > ? ORDER BY seq LIMIT 1000", after)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, e := range rows {
			if err := fn(e); err != nil {
				return err
			}
			after = e.Seq
		}
	}
}

// EndedWaivers returns waivers in force whose end has come, of campaigns without a verdict.
func (db *DB) EndedWaivers(ctx context.Context, now time.Time) ([]cert.Decision, error) {
	return list(ctx, db.r, scanDecision, `SELECT d.data FROM decisions d INDEXED BY decisions_until JOIN campaigns c ON c.id = d.campaign
		WHERE d.until IS NOT NULL AND d.until <= ? AND d.action = 'waive' AND c.state IN ('active', 'paused', 'deciding')
		AND EXISTS (SELECT 1 FROM findings f WHERE f.waived = d.seq AND f.waived > 0) ORDER BY d.seq`, micros(now))
}

// NextWaiverEnd returns when the next waiver ends, if any does.
func (db *DB) NextWaiverEnd(ctx context.Context, now time.Time) (end time.Time, err error) {
	const text = "SELECT min(until) FROM decisions INDEXED BY decisions_until WHERE until IS NOT NULL AND until > ?"
	if err := db.r.QueryRowContext(ctx, text, micros(now)).Scan(timeColumn{&end}); err != nil {
		return end, noted(db.r, text, fmt.Errorf("cannot read waivers: %w", err))
	}
	return end, nil
}

// Waivers returns the numbers of a campaign's decisions that waive something, whether they are in force or not.
func (t *CampaignTx) Waivers(campaign string) ([]int64, error) {
	return list(t.ctx, t.tx, func(s scanner) (n int64, err error) { return n, s.Scan(&n) }, "SELECT seq FROM decisions WHERE campaign = ? AND action = 'waive'", campaign)
}

// DecisionsOn returns a campaign's decisions on a machine and those on the campaign as a whole or on findings, in order.
func (t *CampaignTx) DecisionsOn(campaign, machine string) ([]cert.Decision, error) {
	return list(t.ctx, t.tx, scanDecision, "SELECT data FROM decisions WHERE campaign = ? AND (machine = ? OR machine = '') ORDER BY seq", campaign, machine)
}

// LastEntry returns the last entry of the log; nil if there is none.
func (t *CampaignTx) LastEntry() (*cert.Decision, error) {
	d, err := one(t.ctx, t.tx, scanDecision, errGone, "SELECT data FROM decisions ORDER BY seq DESC LIMIT 1")
	if errors.Is(err, errGone) {
		return nil, nil
	}
	return &d, err
}
