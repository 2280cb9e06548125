package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

func scanPolicy(s scanner) (p cert.StoredPolicy, err error) { return p, s.Scan(jsonColumn{&p}) }

// AddPolicy stores a new version of a policy: the next one after the last. It returns it with its number.
func (t *CampaignTx) AddPolicy(p cert.StoredPolicy) (cert.StoredPolicy, error) {
	if err := t.tx.QueryRowContext(t.ctx, "SELECT coalesce(max(version), 0) + 1 FROM policies WHERE name = ?", p.Name).Scan(&p.Version); err != nil {
		return p, fmt.Errorf("cannot read policies: %w", err)
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO policies (name, version, data) VALUES (?, ?, ?)", p.Name, p.Version, mustJSON(p)); err != nil {
		return p, fmt.Errorf("cannot store a policy: %w", err)
	}
	return p, nil
}

// LastPolicy returns the newest version of a policy. It fails as NotFound.
func (t *CampaignTx) LastPolicy(name string) (cert.StoredPolicy, error) {
	return one(t.ctx, t.tx, scanPolicy, notFound("policy", name), "SELECT data FROM policies WHERE name = ? ORDER BY version DESC LIMIT 1", name)
}

// Policies returns the newest version of each policy that the site has.
func (db *DB) Policies(ctx context.Context) ([]cert.StoredPolicy, error) {
	return list(ctx, db.r, scanPolicy, "SELECT data FROM policies p WHERE version = (SELECT max(version) FROM policies o WHERE o.name = p.name) ORDER BY name")
}

// Policy returns a version of a policy; 0: the newest. It fails as NotFound.
func (db *DB) Policy(ctx context.Context, name string, version int) (cert.StoredPolicy, error) {
	if version == 0 {
		return one(ctx, db.r, scanPolicy, notFound("policy", name), "SELECT data FROM policies WHERE name = ? ORDER BY version DESC LIMIT 1", name)
	}
	return one(ctx, db.r, scanPolicy, notFound("policy", fmt.Sprintf("%s@%d", name, version)), "SELECT data FROM policies WHERE name = ? AND version = ?", name, version)
}
