package sqlite

import (
	"context"

	"certlab/internal/cert"
)

// A FindingGroup is one failure of a campaign, alike on one or more machines.
type FindingGroup struct {
	Class, Job, Signature, Issue string
	Blocker, New, Open, Late     bool
	Machines                     int
	Sample                       cert.Finding // of the first
}

// FindingGroups returns a campaign's groups of findings that need attention: open ones first, blockers first, new ones first, those on the most
// machines first; and how many there are beyond limit. Sample is not filled in.
func (db *DB) FindingGroups(ctx context.Context, campaign string, limit int) ([]FindingGroup, int, error) {
	total := 0
	groups, err := list(ctx, db.r, func(s scanner) (g FindingGroup, err error) {
		err = s.Scan(&g.Class, &g.Job, &g.Signature, &g.Issue, &g.Blocker, &g.New, &g.Open, &g.Late, &g.Machines, &g.Sample.ID, &total)
		return g, err
	}, `SELECT class, job, signature, issue, blocker, new, open, late, count(DISTINCT machine), min(id), count(*) OVER ()
		FROM findings INDEXED BY findings_groups WHERE campaign = ? AND attention = 1
		GROUP BY class, job, signature, blocker, new, open, issue, late
		ORDER BY open DESC, blocker DESC, new DESC, count(DISTINCT machine) DESC, class, job, signature, issue LIMIT ?`, campaign, limit)
	return groups, max(total-len(groups), 0), err
}

// GroupFindings returns up to limit findings of a group.
func (db *DB) GroupFindings(ctx context.Context, campaign string, g *FindingGroup, limit int) ([]cert.Finding, error) {
	return list(ctx, db.r, scanFinding, `SELECT f.data FROM (SELECT id FROM findings INDEXED BY findings_groups WHERE campaign = ? AND attention = 1 AND class = ? AND job = ?
		AND signature = ? AND blocker = ? AND new = ? AND open = ? AND issue = ? AND late = ? ORDER BY machine, id LIMIT ?) g CROSS JOIN findings f ON f.id = g.id`,
		campaign, g.Class, g.Job, g.Signature, g.Blocker, g.New, g.Open, g.Issue, g.Late, limit)
}

// GroupMachines returns the machines that have a finding of a group.
func (db *DB) GroupMachines(ctx context.Context, campaign string, g *FindingGroup) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, `SELECT DISTINCT machine FROM findings INDEXED BY findings_groups
		WHERE campaign = ? AND attention = 1 AND class = ? AND job = ? AND signature = ? AND blocker = ? AND new = ? AND open = ? AND issue = ? AND late = ? ORDER BY machine`,
		campaign, g.Class, g.Job, g.Signature, g.Blocker, g.New, g.Open, g.Issue, g.Late)
}
