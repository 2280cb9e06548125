package sqlite

import (
	"context"
	"slices"
	"time"

	"certlab/internal/cert"
)

// CampaignBefore returns the newest campaign of a kind whose subject is a version of the same and that was not given up: neither cancelled nor
// superseded. found is false if there is none.
func (db *DB) CampaignBefore(ctx context.Context, kind cert.CampaignKind, key string) (c cert.Campaign, found bool, err error) {
	rows, err := list(ctx, db.r, scanCampaign, "SELECT "+campaignColumns+" FROM campaigns INDEXED BY campaigns_subject WHERE subject = ? AND kind = ? AND state NOT IN ('cancelled', 'superseded') ORDER BY seq DESC LIMIT 1",
		key, kind)
	if err != nil || len(rows) == 0 {
		return c, false, err
	}
	return rows[0].Campaign, true, nil
}

// A ReleasedVersion is a version of a subject that is known to be released.
type ReleasedVersion struct {
	Version string
	Why     string
}

// recentRuns is how many runs are looked at to learn what they ran.
const recentRuns = 5000

const runsSubject = `SELECT r.machine, r.state, json_extract(r.spec, '$.subject.version') AS version, json_extract(r.spec, '$.subject.source') AS source,
	json_extract(r.spec, '$.subject.series') AS series, coalesce(json_extract(r.spec, '$.subject.flavour'), '') AS flavour, coalesce(json_extract(r.spec, '$.subject.pocket'), '') AS pocket
	FROM (SELECT * FROM runs ORDER BY seq DESC LIMIT 5000) r WHERE json_extract(r.spec, '$.subject') IS NOT NULL`

// ReleasedVersions returns versions of a subject's series, source and flavour that are released as far as this lab knows: they were approved in a
// campaign, or a recent run that was completed took them from a pocket of what is released.
func (db *DB) ReleasedVersions(ctx context.Context, s cert.Subject) ([]ReleasedVersion, error) {
	pair := func(s scanner) (v ReleasedVersion, err error) { return v, s.Scan(&v.Version, &v.Why) }
	approved, err := list(ctx, db.r, pair, "SELECT version, 'approved in campaign ' || name FROM campaigns INDEXED BY campaigns_subject WHERE subject = ? AND state = 'approved' ORDER BY seq DESC", s.Key())
	if err != nil {
		return nil, err
	}
	ran, err := list(ctx, db.r, pair, `SELECT version, 'runs took it from ' || max(pocket) FROM (`+runsSubject+`) WHERE state = 'completed' AND source = ? AND series = ? AND flavour = ?
		AND pocket IN ('updates', 'security', 'release') GROUP BY version`, s.Source, s.Series, s.KernelFlavour())
	return slices.Concat(approved, ran), err
}

// RunsOfVersion returns how many recent completed runs were of a version of the subject.
func (db *DB) RunsOfVersion(ctx context.Context, s cert.Subject, version string) (int, error) {
	machines, err := db.MachinesThatRan(ctx, s, version)
	return len(machines), err
}

// MachinesThatRan returns the ids of the machines that have completed a recent run of a version of the subject, or of which there is a submission that
// names that kernel.
func (db *DB) MachinesThatRan(ctx context.Context, s cert.Subject, version string) ([]string, error) {
	text := func(s scanner) (v string, err error) { return v, s.Scan(&v) }
	out, err := list(ctx, db.r, text, `SELECT DISTINCT machine FROM (`+runsSubject+`) WHERE state = 'completed' AND source = ? AND series = ? AND flavour = ? AND version = ?`,
		s.Source, s.Series, s.KernelFlavour(), version)
	s.Version = version
	release, other := s.KernelRelease()
	if err != nil || other != nil {
		return out, err
	}
	named, err := list(ctx, db.r, text, "SELECT DISTINCT machine FROM (SELECT machine FROM submissions INDEXED BY submissions_kernel WHERE kernel = ? ORDER BY seq DESC LIMIT ?)", release, recentRuns)
	for _, m := range named {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out, err
}

// CampaignMachines returns the ids of the machines of a campaign that were not excluded.
func (db *DB) CampaignMachines(ctx context.Context, campaign string) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, "SELECT DISTINCT machine FROM targets WHERE campaign = ? AND state <> 'excluded'", campaign)
}

// CampaignPlans returns how many targets of a campaign have each plan.
func (db *DB) CampaignPlans(ctx context.Context, campaign string) (map[string]int, error) {
	type row struct {
		plan string
		n    int
	}
	rows, err := list(ctx, db.r, func(s scanner) (r row, err error) { return r, s.Scan(&r.plan, &r.n) },
		"SELECT plan, count(*) FROM targets WHERE campaign = ? AND state <> 'excluded' GROUP BY plan", campaign)
	out := make(map[string]int, len(rows))
	for _, r := range rows {
		out[r.plan] = r.n
	}
	return out, err
}

// PlanSeconds returns how long the newest runs of a plan that were completed took, on any machine, the shortest first.
func (db *DB) PlanSeconds(ctx context.Context, plan string, limit int) ([]float64, error) {
	return list(ctx, db.r, func(s scanner) (v float64, err error) { return v, s.Scan(&v) }, `SELECT seconds FROM (SELECT (finished - started) / 1e6 AS seconds FROM runs INDEXED BY runs_plan
		WHERE plan = ? AND +state = 'completed' AND finished > started AND started IS NOT NULL AND NOT (json_array_length(coalesce(json_extract(spec, '$.match'), '[]')) > 0)
		ORDER BY seq DESC LIMIT ?) ORDER BY seconds`, plan, limit)
}

// DeploySeconds returns how long the newest deployments took until their machines were ready, the shortest first.
func (db *DB) DeploySeconds(ctx context.Context, limit int) ([]float64, error) {
	return list(ctx, db.r, func(s scanner) (v float64, err error) { return v, s.Scan(&v) }, `SELECT seconds FROM (SELECT (SELECT sum(json_extract(p.value, '$.seconds')) FROM json_each(data, '$.phases') p
		WHERE json_extract(p.value, '$.phase') IN ('acquire', 'prepare', 'deploy', 'boot', 'enrol')) AS seconds
		FROM (SELECT * FROM deployments ORDER BY seq DESC LIMIT ?) WHERE failure = '') WHERE seconds > 0 ORDER BY seconds`, limit)
}

// MachinesWithoutPlan returns the ids of the machines whose newest run of a plan failed because they do not know it.
func (db *DB) MachinesWithoutPlan(ctx context.Context, plan string) ([]string, error) {
	return list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, `SELECT machine FROM (SELECT machine, coalesce(json_extract(failure, '$.type'), '') AS kind, max(seq) FROM runs INDEXED BY runs_plan
		WHERE plan = ? AND state IN ('completed', 'failed') GROUP BY machine) WHERE kind = 'plan-unknown'`, plan)
}

// PlanJobs returns the ids of the jobs that the newest indexed submissions of a plan have between them, whole runs only, and how many those were.
func (db *DB) PlanJobs(ctx context.Context, plan string, limit int) ([]string, int, error) {
	subs, err := list(ctx, db.r, func(s scanner) (v int64, err error) { return v, s.Scan(&v) }, `SELECT s.seq FROM submissions s JOIN runs r ON r.id = s.run WHERE s.plan = ? AND s.index_state = 'indexed'
		AND r.state = 'completed' AND coalesce(json_array_length(json_extract(r.spec, '$.match')), 0) = 0 AND coalesce(json_array_length(json_extract(r.spec, '$.exclude')), 0) = 0 ORDER BY s.seq DESC LIMIT ?`, plan, limit)
	if err != nil || len(subs) == 0 {
		return nil, 0, err
	}
	jobs, err := list(ctx, db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		"SELECT DISTINCT j.job FROM results r JOIN jobs j ON j.id = r.job WHERE r.submission IN (SELECT value FROM json_each(?))", mustJSON(subs))
	return jobs, len(subs), err
}

// WaitingPlans returns how many targets of a campaign have still to be begun, by plan.
func (db *DB) WaitingPlans(ctx context.Context, campaign string) (map[string]int, error) {
	type row struct {
		plan string
		n    int
	}
	rows, err := list(ctx, db.r, func(s scanner) (r row, err error) { return r, s.Scan(&r.plan, &r.n) },
		"SELECT plan, count(*) FROM targets WHERE campaign = ? AND state = 'waiting' GROUP BY plan", campaign)
	out := make(map[string]int, len(rows))
	for _, r := range rows {
		out[r.plan] = r.n
	}
	return out, err
}

// A BegunTry is a try that is under way.
type BegunTry struct {
	Plan    string
	Created time.Time  // of its reservation, or its run
	Started *time.Time // its run; nil: not yet
}

// RunningSince returns the tries of a campaign that are under way.
func (db *DB) RunningSince(ctx context.Context, campaign string) ([]BegunTry, error) {
	return list(ctx, db.r, func(s scanner) (b BegunTry, err error) {
		return b, s.Scan(&b.Plan, timeColumn{&b.Created}, timePtrColumn{&b.Started})
	}, `SELECT g.plan, coalesce(v.created, r.created), r.started FROM tries t INDEXED BY tries_open JOIN targets g ON g.id = t.target LEFT JOIN runs r ON r.id = t.run
		LEFT JOIN reservations v ON v.id = t.reservation AND t.reservation <> '' WHERE t.campaign = ? AND t.open = 1 AND (v.id IS NOT NULL OR r.id IS NOT NULL)`, campaign)
}
