package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

// CampaignFilter selects campaigns. Empty fields select all.
type CampaignFilter struct {
	State   string // or "open": those that are not final
	Kind    string
	Subject string // see Subject.Key
	Version string // of the subject
	Name    string
}

// A CampaignTx is a transaction about campaigns: what it stores of them, their targets, findings and decisions comes about together or not at
// all, with what it stores of machines, reservations and runs. Each campaign that it has touched is one version further on when it is durable.
type CampaignTx struct {
	*FleetTx
	touched map[string]bool
	moved   map[string]map[string]bool // campaign → targets that are stored, or of which a finding is
}

// ChangeCampaigns runs fn in one transaction, which is durable when ChangeCampaigns returns nil.
func (db *DB) ChangeCampaigns(ctx context.Context, fn func(*CampaignTx) error) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		t := &CampaignTx{FleetTx: &FleetTx{ctx, tx, db}, touched: map[string]bool{}, moved: map[string]map[string]bool{}}
		if err := fn(t); err != nil {
			return err
		}
		for id := range t.touched {
			var version int64
			err := tx.QueryRowContext(ctx, "UPDATE campaigns SET changed = changed + 1 WHERE id = ? RETURNING changed", id).Scan(&version)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("cannot store campaign %s: %w", id, err)
			}
			db.moves.note(id, version, t.moved[id])
		}
		return nil
	})
}

// Touch notes that something of a campaign changes: its version goes up with the transaction. What CampaignTx's own methods store is noted by
// themselves.
func (t *CampaignTx) Touch(campaign string) { t.touched[campaign] = true }

// move notes that a target or one of its findings changes.
func (t *CampaignTx) move(campaign, target string) {
	t.Touch(campaign)
	if t.moved[campaign] == nil {
		t.moved[campaign] = make(map[string]bool)
	}
	t.moved[campaign][target] = true
}

const campaignColumns = "seq, data, changed"

type campaignRow struct {
	cert.Campaign
	seq int64
}

func scanCampaign(s scanner) (r campaignRow, err error) {
	err = s.Scan(&r.seq, jsonColumn{&r.Campaign}, &r.Version)
	return r, err
}

func campaignJSON(c cert.Campaign) string {
	c.URL, c.Version = "", 0
	return mustJSON(c)
}

// findCampaign returns a campaign by its id, or the newest of a name.
func findCampaign(ctx context.Context, q query, name string) (cert.Campaign, error) {
	missing := notFound("campaign", name)
	r, err := one(ctx, q, scanCampaign, missing, "SELECT "+campaignColumns+" FROM campaigns WHERE id = ?", name)
	if cert.CodeOf(err) == cert.NotFound {
		r, err = one(ctx, q, scanCampaign, missing, "SELECT "+campaignColumns+" FROM campaigns WHERE name = ? ORDER BY seq DESC LIMIT 1", name)
	}
	return r.Campaign, err
}

// Campaign returns a campaign by its id, or the newest that has the name. It fails as NotFound.
func (db *DB) Campaign(ctx context.Context, name string) (cert.Campaign, error) {
	return findCampaign(ctx, db.r, name)
}

// Campaign is DB.Campaign in the transaction.
func (t *CampaignTx) Campaign(name string) (cert.Campaign, error) {
	return findCampaign(t.ctx, t.tx, name)
}

// AddCampaign stores a new campaign. key is what its subject is a version of: see cert.Subject.Key. It fails if an open one has its name: see Doubled.
func (t *CampaignTx) AddCampaign(c cert.Campaign, key string) error {
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO campaigns (id, name, kind, state, subject, version, priority, created, changed, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
		c.ID, c.Name, c.Kind, c.State, key, c.Subject.Version, c.Priority, micros(c.Created), campaignJSON(c)); err != nil {
		return fmt.Errorf("cannot store campaign %q: %w", c.Name, err)
	}
	t.Touch(c.ID)
	return nil
}

// PutCampaign stores a campaign that there is. Its subject and what that is a version of do not change.
func (t *CampaignTx) PutCampaign(c cert.Campaign) error {
	if _, err := t.tx.ExecContext(t.ctx, "UPDATE campaigns SET state = ?, priority = ?, data = ? WHERE id = ?", c.State, c.Priority, campaignJSON(c), c.ID); err != nil {
		return fmt.Errorf("cannot store campaign %q: %w", c.Name, err)
	}
	t.Touch(c.ID)
	return nil
}

const openCampaigns = "state IN ('active', 'paused', 'deciding')"

// Campaigns lists campaigns, the newest first.
func (db *DB) Campaigns(ctx context.Context, f CampaignFilter, p Page) ([]cert.Campaign, string, error) {
	var w where
	if f.State == "open" {
		w.add(openCampaigns)
	} else {
		w.equal("state", f.State)
	}
	w.equal("name", f.Name)
	w.equal("subject", f.Subject)
	w.equal("version", f.Version)
	w.equal("kind", f.Kind)
	var before int64
	if more, err := p.parse("c", &before); err != nil {
		return nil, "", err
	} else if more {
		w.add("seq < ?", before)
	}
	rows, err := list(ctx, db.r, scanCampaign, "SELECT "+campaignColumns+" FROM campaigns"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, p.Limit+1)...)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		next = cursor("c", rows[p.Limit-1].seq)
	}
	return onlyCampaigns(rows), next, nil
}

func onlyCampaigns(rows []campaignRow) []cert.Campaign {
	out := make([]cert.Campaign, len(rows))
	for n, r := range rows {
		out[n] = r.Campaign
	}
	return out
}

// OpenCampaigns returns those that are not final, in the order in which they are served: the highest priority first, then the oldest.
func (db *DB) OpenCampaigns(ctx context.Context) ([]cert.Campaign, error) {
	rows, err := list(ctx, db.r, scanCampaign, "SELECT "+campaignColumns+" FROM campaigns WHERE "+openCampaigns+" ORDER BY priority DESC, seq")
	return onlyCampaigns(rows), err
}

// OpenCampaignsOf returns those that are not final and of a kind, and whose subject is a version of the same, the oldest first.
func (t *CampaignTx) OpenCampaignsOf(kind cert.CampaignKind, key string) ([]cert.Campaign, error) {
	rows, err := list(t.ctx, t.tx, scanCampaign, "SELECT "+campaignColumns+" FROM campaigns INDEXED BY campaigns_subject WHERE subject = ? AND kind = ? AND "+openCampaigns+
		" ORDER BY seq", key, kind)
	return onlyCampaigns(rows), err
}

// CampaignNames returns the names of the newest campaigns, to find the one that was meant.
func (db *DB) CampaignNames(ctx context.Context, limit int) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, "SELECT name FROM campaigns ORDER BY seq DESC LIMIT ?", limit)
}

// placeholders returns n of them.
func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
