package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

// Note adds to a campaign's log.
func (t *CampaignTx) Note(e cert.CampaignEvent) error {
	if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO campaign_events (campaign, at, kind, who, text, target, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6,
		coalesce((SELECT changed + 1 FROM campaigns WHERE id = ?1), 0))`, e.Campaign, micros(e.At), e.Kind, e.Who, e.Text, e.Target); err != nil {
		return fmt.Errorf("cannot write the log of campaign %s: %w", e.Campaign, err)
	}
	t.Touch(e.Campaign)
	return nil
}

func scanCampaignEvent(s scanner) (e cert.CampaignEvent, err error) {
	err = s.Scan(&e.Seq, &e.Campaign, timeColumn{&e.At}, &e.Kind, &e.Who, &e.Text, &e.Target)
	return e, err
}

// CampaignEvents lists what happened in a campaign, the newest first.
func (db *DB) CampaignEvents(ctx context.Context, campaign string, p Page) ([]cert.CampaignEvent, string, error) {
	var w where
	w.add("campaign = ?", campaign)
	var before int64
	if more, err := p.parse("ce", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanCampaignEvent, "SELECT seq, campaign, at, kind, who, text, target FROM campaign_events"+w.String()+" ORDER BY seq DESC LIMIT ?",
		append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("ce", rows[p.Limit-1].Seq)
	}
	return rows, next, nil
}

// EventsSince returns what happened in a campaign after it had a version, the oldest first.
func (t *CampaignTx) EventsSince(campaign string, version int64, limit int) ([]cert.CampaignEvent, error) {
	return list(t.ctx, t.tx, scanCampaignEvent, "SELECT seq, campaign, at, kind, who, text, target FROM campaign_events WHERE campaign = ? AND version > ? ORDER BY seq LIMIT ?",
		campaign, version, limit)
}
