package sqlite

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"certlab/internal/cert"
)

// PutLostJob stores that a machine was lost in a job, or what has become known of it since.
func (t *FleetTx) PutLostJob(run string, attempt int, l cert.LostJob) error {
	_, err := t.tx.ExecContext(t.ctx, "INSERT INTO lost_jobs (run, attempt, job, at, detail) VALUES (?, ?, ?, ?, ?) ON CONFLICT (run, attempt, job, at) DO UPDATE SET detail = excluded.detail",
		run, attempt, l.Job, micros(l.At), mustJSON(l))
	if err != nil {
		return fmt.Errorf("cannot store that run %s has lost its machine: %w", run, err)
	}
	return nil
}

// DropLostJob takes that back.
func (t *FleetTx) DropLostJob(run string, attempt int, job string, at time.Time) error {
	if _, err := t.tx.ExecContext(t.ctx, "DELETE FROM lost_jobs WHERE run = ? AND attempt = ? AND job = ? AND at = ?", run, attempt, job, micros(at)); err != nil {
		return fmt.Errorf("cannot store that run %s has not lost its machine: %w", run, err)
	}
	return nil
}

// UntoldLosses returns the runs that go on on a machine and in which its power was cycled, as far as its agent has not said that it knows: an
// interruption by a power-cut of the boot that ended so. An agent that has come to another boot since has nothing to say of it any more.
func (db *DB) UntoldLosses(ctx context.Context, machine string) ([]string, error) {
	type row struct {
		run   string
		boot  string
		job   cert.LostJob
		known []cert.Interruption
	}
	rows, err := list(ctx, db.r, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.run, &r.boot, jsonColumn{&r.job}, jsonColumn{&r.known})
	}, `SELECT l.run, a.boot_id, l.detail, a.interruptions FROM runs r INDEXED BY runs_open CROSS JOIN lost_jobs l ON l.run = r.id
		CROSS JOIN attempts a ON a.run = l.run AND a.number = l.attempt WHERE r.machine = ? AND r.state IN ('queued', 'running') AND r.state = 'running' ORDER BY r.seq, l.at`, machine)
	var out []string
	for _, r := range rows {
		before, after := "", ""
		if len(r.job.Boots) > 0 {
			before = r.job.Boots[0]
		}
		if len(r.job.Boots) > 1 {
			after = r.job.Boots[1]
		}
		told := after != "" && r.boot != "" && r.boot != before && r.boot != after
		for _, i := range r.known {
			told = told || i.Cause == cert.CausePowerCut && (before == "" || i.BootBefore == before)
		}
		if !told && !slices.Contains(out, r.run) {
			out = append(out, r.run)
		}
	}
	return out, err
}

type lostRow struct {
	run     string
	attempt int
	job     cert.LostJob
}

// lostJobs returns what was lost in runs, by run.
func lostJobs(ctx context.Context, q query, runs []string) (map[string][]lostRow, error) {
	rows, err := list(ctx, q, func(s scanner) (l lostRow, err error) { return l, s.Scan(&l.run, &l.attempt, jsonColumn{&l.job}) },
		"SELECT run, attempt, detail FROM lost_jobs WHERE run IN (SELECT value FROM json_each(?)) ORDER BY run, attempt, at", mustJSON(runs))
	out := make(map[string][]lostRow)
	for _, r := range rows {
		out[r.run] = append(out[r.run], r)
	}
	return out, err
}

// loadLost gives runs the jobs in which they lost their machines, and counts the results of those apart.
func loadLost(ctx context.Context, q query, runs ...*cert.Run) error {
	ids := make([]string, len(runs))
	for n, r := range runs {
		ids[n] = r.ID
	}
	lost, err := lostJobs(ctx, q, ids)
	if err != nil || len(lost) == 0 {
		return err
	}
	for _, r := range runs {
		rows := lost[r.ID]
		jobs := 0
		for n := range r.Attempts {
			a := &r.Attempts[n]
			for _, l := range rows {
				if l.attempt == a.Number {
					a.MachineLost = append(a.MachineLost, l.job)
					jobs++
				}
			}
		}
		if jobs > 0 && r.State.Final() {
			if r.Counts, err = lostCounts(ctx, q, r.Counts, "s.run = ? AND s.index_state = 'indexed'", r.ID, jobs); err != nil {
				return err
			}
		}
	}
	return nil
}

// lostCounts takes the results of jobs that were lost out of counts and counts them as what they are. They are looked for in the newest
// submission of those that the condition selects; while none is indexed, jobs says how many there are.
func lostCounts(ctx context.Context, q query, counts cert.Counts, condition, id string, jobs int) (cert.Counts, error) {
	type pair struct {
		outcome string
		n       int
	}
	rows, err := list(ctx, q, func(s scanner) (p pair, err error) { return p, s.Scan(&p.outcome, &p.n) },
		`SELECT r.outcome, count(*) FROM results r WHERE r.submission = (SELECT max(s.seq) FROM submissions s WHERE `+condition+`)
		AND `+lostResult+` GROUP BY r.outcome`, id)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(counts)
	if out == nil {
		out = cert.Counts{}
	}
	for _, r := range rows {
		if out[r.outcome] -= r.n; out[r.outcome] <= 0 {
			delete(out, r.outcome)
		}
		out[cert.OutcomeLost] += r.n
	}
	if out[cert.OutcomeLost] == 0 {
		out[cert.OutcomeLost] = jobs
	}
	return out, nil
}

// lostResult is true of a result r whose machine was lost in its job.
const lostResult = `EXISTS (SELECT 1 FROM submissions ls JOIN lost_jobs l ON l.run = ls.run AND l.attempt = ls.attempt
	WHERE ls.seq = r.submission AND l.job = (SELECT lj.job FROM jobs lj WHERE lj.id = r.job AND lj.section = 'results'))`

// loadSubmissionsLost counts the results of lost jobs apart.
func loadSubmissionsLost(ctx context.Context, q query, all ...*cert.Submission) error {
	ids := make([]string, len(all))
	for n, s := range all {
		ids[n] = s.Run
	}
	lost, err := lostJobs(ctx, q, ids)
	if err != nil || len(lost) == 0 {
		return err
	}
	for _, s := range all {
		jobs := 0
		for _, l := range lost[s.Run] {
			if l.attempt == s.Attempt {
				jobs++
			}
		}
		if jobs > 0 && s.IndexState == cert.IndexDone {
			if s.Counts, err = lostCounts(ctx, q, s.Counts, "s.id = ?", s.ID, jobs); err != nil {
				return err
			}
		}
	}
	return nil
}
