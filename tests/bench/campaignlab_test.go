package bench

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Of the campaign of a stored lab.
const (
	campaignPlan   = "com.canonical.certification::sru-server"
	campaignName   = "large"
	releasedKernel = "6.8.0-50-generic"
	proposedKernel = "6.8.0-51-generic"
)

// rawDatabase opens a lab's database for what no service does.
func rawDatabase(t testing.TB, path string) *sql.DB {
	raw, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-400000)")
	require.NoError(t, err)
	raw.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

// campaign makes the last round of the lab's runs those of a campaign over all machines, and the round before its baseline. Where a job has passed
// in the baseline, one in two hundred fails now. No target is compared yet: they wait for it.
func (l storedLab) campaign(t testing.TB) {
	raw := rawDatabase(t, l.data.Database())
	run := func(text string, args ...any) {
		_, err := raw.Exec(text, args...)
		require.NoError(t, err, "%s", text)
	}
	run("BEGIN")
	all := l.machines * l.runs
	for _, round := range []struct {
		from, to        int
		kernel, version string
	}{{all - 2*l.machines + 1, all - l.machines, releasedKernel, "6.8.0-50.51"}, {all - l.machines + 1, all, proposedKernel, "6.8.0-51.52"}} {
		from, to := fmt.Sprintf("r%026d", round.from), fmt.Sprintf("r%026d", round.to)
		run("UPDATE runs SET plan = ?1, spec = json_object('plan', ?1), state = 'completed', failure = 'null', no_manifest = 0 WHERE id BETWEEN ?2 AND ?3", campaignPlan, from, to)
		run("UPDATE submissions SET plan = ?1, kernel = ?2, system = json_set(system, '$.kernel', ?2) WHERE run BETWEEN ?3 AND ?4", campaignPlan, round.kernel, from, to)
		state := order.SubjectState{Step: order.SubjectProved, Before: "6.8.0-45-generic", Installed: []order.Package{{Name: "linux-image-" + round.kernel, Version: round.version}},
			Boots: []order.Boot{{ID: "1e3c8e4e-6f6f-4a9e-8d2c-0123456789ab", Kernel: round.kernel, Version: round.version, At: time.Unix(1700000000, 0).UTC(), Proved: true, Tests: true}}}
		run("UPDATE attempts SET subject = ?1 WHERE run BETWEEN ?2 AND ?3", mustJSON(t, state), from, to)
	}
	// What is compared is stored here as it is of each run, now alike on both sides but for some failures.
	run("CREATE TEMP TABLE pairs AS SELECT s.seq AS now, b.seq AS before FROM submissions s JOIN submissions b ON b.machine = s.machine AND b.run BETWEEN ?1 AND ?2 WHERE s.run BETWEEN ?3 AND ?4",
		fmt.Sprintf("r%026d", all-2*l.machines+1), fmt.Sprintf("r%026d", all-l.machines), fmt.Sprintf("r%026d", all-l.machines+1), fmt.Sprintf("r%026d", all))
	run("DELETE FROM failures WHERE submission IN (SELECT now FROM pairs)")
	run("DELETE FROM results WHERE submission IN (SELECT now FROM pairs)")
	run(`INSERT INTO results (submission, idx, job, outcome, duration, comments, skip_reason, log_size) SELECT p.now, r.idx, r.job,
		iif(r.outcome = 'pass' AND j.section = 'results' AND (p.now * 7919 + r.idx * 104729) % 200 = 0, 'fail', r.outcome), r.duration, r.comments, r.skip_reason, r.log_size
		FROM pairs p JOIN results r ON r.submission = p.before JOIN jobs j ON j.id = r.job ORDER BY p.now, r.idx`)
	addFailures(t, raw, "s.seq IN (SELECT now FROM pairs)")
	run("COMMIT")
	require.NoError(t, raw.Close())
	l.addCampaigns(t)
	raw = rawDatabase(t, l.data.Database())
	_, err := raw.Exec("UPDATE tries SET reviewed = 1 WHERE campaign = (SELECT id FROM campaigns WHERE name = ?)", campaignName+"-before")
	require.NoError(t, err)
	require.NoError(t, raw.Close())
}

// addFailures stores what is kept of each failing result's log: one of two thousand texts.
func addFailures(t testing.TB, raw *sql.DB, where string) {
	for _, text := range []string{
		`WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1999) INSERT OR IGNORE INTO logs (hash, signature, text)
			SELECT printf('%064x', n), printf('%032x', n % 400), replace(printf('%120s', ''), ' ', 'Checking that it works, attempt 1.' || char(10)) ||
			'the device ' || n || ' did not wake up: error -' || (n % 97) || char(10) FROM n`,
		`INSERT INTO failures (submission, idx, job, outcome, doubt, log) SELECT r.submission, r.idx, r.job, r.outcome, '', (r.submission * 31 + r.job * 17) % 2000 + (SELECT min(id) FROM logs)
			FROM results r JOIN submissions s ON s.seq = r.submission WHERE r.outcome IN ('fail', 'crash') AND s.run LIKE 'r0000%' AND ` + where,
	} {
		_, err := raw.Exec(text)
		require.NoError(t, err, "%s", text)
	}
}

// addCampaigns stores the baseline's campaign, approved, and the one that is compared with it.
func (l storedLab) addCampaigns(t testing.TB) {
	db, err := sqlite.Open(t.Context(), l.data.Database())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	due := at.Add(14 * 24 * time.Hour)
	policy := cert.DefaultPolicy(cert.KindSRU)
	policy.Machines.Manifests = false // machines here have none
	base := cert.Campaign{ID: cert.NewID(cert.CampaignID, at), Name: campaignName + "-before", Kind: cert.KindSRU, State: cert.CampaignApproved, Policy: cert.PolicyRef{Name: "sru", Version: 1},
		Rules: policy, Baseline: cert.Baseline{Rule: "none"}, Machines: cert.MachineChoice{Query: "tags=cert"}, Created: at, By: "somebody", Finished: &at,
		Subject: cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: "6.8.0-50.51", Pocket: "updates"}}
	now := base
	now.ID, now.Name, now.State, now.Finished, now.Due = cert.NewID(cert.CampaignID, at.Add(time.Hour)), campaignName, cert.CampaignActive, nil, &due
	now.Subject.Version, now.Subject.Pocket = "6.8.0-51.52", "proposed"
	now.Baseline = cert.Baseline{Rule: "named", Version: "6.8.0-50.51", Campaign: base.ID, Why: "asked for"}
	all := l.machines * l.runs
	require.NoError(t, db.ChangeCampaigns(t.Context(), func(tx *sqlite.CampaignTx) error {
		for n, c := range []cert.Campaign{base, now} {
			if err := tx.AddCampaign(c, c.Subject.Key()); err != nil {
				return err
			}
			state, first := cert.TargetDone, all-2*l.machines+1
			if n == 1 {
				state, first = cert.TargetComparing, all-l.machines+1
			}
			for k := range l.machines {
				run := first + k
				machine := fmt.Sprintf("m%026d", run%l.machines+1)
				try := cert.Try{Number: 1, Purpose: cert.TryFirst, Machine: machine, Hostname: fmt.Sprintf("machine-%d", run%l.machines+1), Run: fmt.Sprintf("r%026d", run), By: "somebody", Created: at,
					Asked: &at, Started: &at, Ended: &at, State: cert.Completed, Submission: fmt.Sprintf("s%026d", run)}
				g := cert.Target{ID: cert.NewID(cert.TargetID, at), Campaign: c.ID, Machine: machine, Hostname: try.Hostname, Class: fmt.Sprintf("class-%d", k%20), Plan: campaignPlan,
					Required: true, State: state, Tries: []cert.Try{try}, Counted: 1, Submission: try.Submission, Updated: at}
				if state == cert.TargetDone {
					g.Compared = &cert.Compared{Submission: try.Submission, At: at, Version: 1, Proof: cert.Proof{OK: true, Needed: true, Kernel: releasedKernel}, Manifest: true, Counts: map[string]int{}}
				}
				if err := tx.PutTarget(g); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

func mustJSON(t testing.TB, v any) string {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// compare has the campaign compared, and notes some of what is found.
func (l *storedLab) compare(t testing.TB) {
	r, db := newReview(t, *l)
	_, err := r.CompareAll(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
	l.findings = someFindings(t, *l)
}

func someFindings(t testing.TB, l storedLab) (ids []string) {
	r, db := newReview(t, l)
	list, err := r.Findings(t.Context(), campaignName, cert.Filter{}, sqlite.Page{Limit: 200})
	require.NoError(t, err)
	for _, f := range list.Findings {
		ids = append(ids, f.ID)
	}
	require.NotEmpty(t, ids)
	require.NoError(t, db.Close())
	return ids
}
