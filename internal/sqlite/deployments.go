package sqlite

import (
	"context"
	"fmt"

	"certlab/internal/cert"
)

const deploymentColumns = "seq, data, coalesce(token_hash, ''), coalesce(agent_key, '')"

type deploymentRow struct {
	cert.Deployment
	seq int64
}

func scanDeployment(s scanner) (d deploymentRow, err error) {
	err = s.Scan(&d.seq, jsonColumn{&d.Deployment}, &d.TokenHash, &d.AgentKey)
	return d, err
}

func onlyDeployments(rows []deploymentRow, err error) ([]cert.Deployment, error) {
	out := make([]cert.Deployment, len(rows))
	for n, d := range rows {
		out[n] = d.Deployment
	}
	return out, err
}

func nullIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func failureType(d cert.Deployment) string {
	if d.Failure == nil {
		return ""
	}
	return d.Failure.Type
}

// Deployment returns a deployment. It fails as NotFound.
func (t *FleetTx) Deployment(id string) (cert.Deployment, error) {
	d, err := one(t.ctx, t.tx, scanDeployment, notFound("deployment", id), "SELECT "+deploymentColumns+" FROM deployments WHERE id = ?", id)
	return d.Deployment, err
}

// OpenDeployment returns the deployment of a machine that is not over. It fails as NotFound.
func (t *FleetTx) OpenDeployment(machine string) (cert.Deployment, error) {
	d, err := one(t.ctx, t.tx, scanDeployment, notFound("deployment of machine", machine), "SELECT "+deploymentColumns+
		" FROM deployments WHERE machine = ? AND phase <> 'over'", machine)
	return d.Deployment, err
}

// AddDeployment stores a new deployment. It fails if its machine has one that is not over.
func (t *FleetTx) AddDeployment(d cert.Deployment) error {
	_, err := t.tx.ExecContext(t.ctx, `INSERT INTO deployments (id, reservation, machine, class, phase, started, finished, failure, token_hash, agent_key, data)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.ID, d.Reservation, d.Machine, d.Class, d.Phase, micros(d.Started), microsPtr(d.Finished), failureType(d),
		nullIfEmpty(d.TokenHash), nullIfEmpty(d.AgentKey), mustJSON(d))
	if err != nil {
		return fmt.Errorf("cannot store deployment %s: %w", d.ID, err)
	}
	return nil
}

// PutDeployment stores a deployment that there is.
func (t *FleetTx) PutDeployment(d cert.Deployment) error {
	_, err := t.tx.ExecContext(t.ctx, "UPDATE deployments SET phase = ?, finished = ?, failure = ?, token_hash = ?, agent_key = ?, data = ? WHERE id = ?",
		d.Phase, microsPtr(d.Finished), failureType(d), nullIfEmpty(d.TokenHash), nullIfEmpty(d.AgentKey), mustJSON(d), d.ID)
	if err != nil {
		return fmt.Errorf("cannot store deployment %s: %w", d.ID, err)
	}
	return nil
}

// Deployment returns a deployment. It fails as NotFound.
func (db *DB) Deployment(ctx context.Context, id string) (cert.Deployment, error) {
	d, err := one(ctx, db.r, scanDeployment, notFound("deployment", id), "SELECT "+deploymentColumns+" FROM deployments WHERE id = ?", id)
	return d.Deployment, err
}

// DeploymentByToken returns the deployment whose token has that hash. It fails as NotFound.
func (db *DB) DeploymentByToken(ctx context.Context, hash string) (cert.Deployment, error) {
	d, err := one(ctx, db.r, scanDeployment, notFound("deployment with this token", ""), "SELECT "+deploymentColumns+
		" FROM deployments WHERE token_hash = ? AND token_hash IS NOT NULL", hash)
	return d.Deployment, err
}

// Guest returns the machine that the holder of a public key may act for: one that is deployed, and whose agent has enrolled with that key. It
// fails as NotFound.
func (db *DB) Guest(ctx context.Context, publicKey string) (machine string, err error) {
	return one(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, notFound("deployment with this agent", ""),
		"SELECT machine FROM deployments WHERE agent_key = ? AND phase <> 'over'", publicKey)
}

// OpenDeployments returns all that are not over, the oldest first.
func (db *DB) OpenDeployments(ctx context.Context) ([]cert.Deployment, error) {
	return remembered(&db.memos.deployments, db, func() ([]cert.Deployment, error) { return db.openDeployments(ctx) })
}

func (db *DB) openDeployments(ctx context.Context) ([]cert.Deployment, error) {
	return onlyDeployments(list(ctx, db.r, scanDeployment, "SELECT "+deploymentColumns+" FROM deployments INDEXED BY deployments_open WHERE phase <> 'over' ORDER BY seq"))
}

// DeploymentFilter selects deployments. Empty fields select all.
type DeploymentFilter struct {
	Machine     string // id
	Reservation string
	Class       string
}

// Deployments lists the newest deployments, the newest first.
func (db *DB) Deployments(ctx context.Context, f DeploymentFilter, limit int) ([]cert.Deployment, error) {
	var w where
	w.equal("reservation", f.Reservation)
	w.equal("machine", f.Machine)
	w.equal("class", f.Class)
	return onlyDeployments(list(ctx, db.r, scanDeployment, "SELECT "+deploymentColumns+" FROM deployments"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit)...))
}
