package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

func scanVerdict(s scanner) (v cert.Verdict, err error) { return v, s.Scan(jsonColumn{&v}) }

// AddVerdict stores a campaign's verdict, byte for byte. A campaign has one, for good: another fails as Conflict.
func (t *CampaignTx) AddVerdict(v cert.Verdict, data string) error {
	if _, err := t.Verdict(v.Campaign); cert.CodeOf(err) != cert.NotFound {
		if err == nil {
			err = cert.Errorf(cert.Conflict, "campaign %s has a verdict already, and a verdict is never changed", v.Campaign)
		}
		return err
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO verdicts (campaign, outcome, at, digest, data) VALUES (?, ?, ?, ?, ?)", v.Campaign, v.Outcome, micros(v.At), v.Digest, data); err != nil {
		return fmt.Errorf("cannot store a verdict: %w", err)
	}
	return nil
}

// Verdict returns a campaign's verdict, by the campaign's id. It fails as NotFound.
func (t *CampaignTx) Verdict(campaign string) (cert.Verdict, error) {
	return one(t.ctx, t.tx, scanVerdict, notFound("verdict on campaign", campaign), "SELECT data FROM verdicts WHERE campaign = ?", campaign)
}

// Verdict is CampaignTx.Verdict.
func (db *DB) Verdict(ctx context.Context, campaign string) (cert.Verdict, error) {
	return one(ctx, db.r, scanVerdict, notFound("verdict on campaign", campaign), "SELECT data FROM verdicts WHERE campaign = ?", campaign)
}

// SubmissionHashes returns the SHA-256 of the archives of the submissions that a campaign counts, by submission.
func (t *CampaignTx) SubmissionHashes(campaign string) (map[string]string, error) {
	type pair struct{ id, hash string }
	rows, err := list(t.ctx, t.tx, func(s scanner) (p pair, err error) { return p, s.Scan(&p.id, &p.hash) },
		"SELECT s.id, s.sha256 FROM targets t JOIN submissions s ON s.id = t.submission WHERE t.campaign = ? AND t.submission <> ''", campaign)
	out := make(map[string]string, len(rows))
	for _, r := range rows {
		out[r.id] = r.hash
	}
	return out, err
}
