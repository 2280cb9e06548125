package review_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/review"
	"certlab/internal/judge"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

const (
	oldVersion, oldKernel = "6.8.0-50.51", "6.8.0-50-generic"
	newVersion, newKernel = "6.8.0-51.52", "6.8.0-51-generic"
)

// world is a lab with machines, a database, and a campaign over them.
type world struct {
	testing.TB
	path     string
	db       *sqlite.DB
	r        *review.Review
	clock    time.Time
	mu       sync.Mutex
	files    map[string][]byte
	machines []cert.Machine
	campaign cert.Campaign
	jobs     []string
	serial   int
	nothing  bool // no manifests
}

func newWorld(t testing.TB, machines int, change ...func(*cert.Campaign)) *world {
	w := &world{TB: t, path: filepath.Join(t.TempDir(), "certlab.db"), clock: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), files: map[string][]byte{}}
	w.jobs = []string{"com.canonical.certification::boot", "com.canonical.certification::suspend", "com.canonical.certification::wifi"}
	w.open()
	for n := range machines {
		m := cert.Machine{ID: cert.NewID(cert.MachineID, w.now()), Key: fmt.Sprintf("key%d", n), Origin: "juju", Hostname: fmt.Sprintf("node%d", n+1), Architecture: "amd64", Created: w.now()}
		require.NoError(t, w.db.AddMachine(t.Context(), m))
		w.machines = append(w.machines, m)
	}
	w.campaign = w.start("sru-noble", change...)
	return w
}

func (w *world) open() {
	db, err := sqlite.Open(context.Background(), w.path)
	require.NoError(w, err)
	w.db = db
	w.r = review.New(review.Options{DB: db, Logger: slog.New(slog.DiscardHandler), Now: w.now, Open: func(_ context.Context, sha string, _ int64) (io.ReadCloser, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return io.NopCloser(bytes.NewReader(w.files[sha])), nil
	}, Machines: func(context.Context) ([]cert.FleetMachine, error) {
		var out []cert.FleetMachine
		for _, m := range w.machines {
			out = append(out, cert.FleetMachine{Machine: m})
		}
		return out, nil
	}})
	w.Cleanup(func() { db.Close() })
}

// now goes on by a second each time.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(time.Second)
	return w.clock
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// start begins a campaign over all machines.
func (w *world) start(name string, change ...func(*cert.Campaign)) cert.Campaign {
	c := cert.Campaign{ID: cert.NewID(cert.CampaignID, w.now()), Name: name, Kind: cert.KindSRU, State: cert.CampaignActive, Rules: cert.DefaultPolicy(cert.KindSRU),
		Policy: cert.PolicyRef{Name: "sru"}, Subject: cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: newVersion, Pocket: "proposed"},
		Baseline: cert.Baseline{Rule: cert.BaselineReleased, Version: oldVersion}, Created: w.now(), By: "ada"}
	for _, fn := range change {
		fn(&c)
	}
	require.NoError(w, w.db.ChangeCampaigns(w.Context(), func(tx *sqlite.CampaignTx) error {
		if err := tx.AddCampaign(c, c.Subject.Key()); err != nil {
			return err
		}
		for _, m := range w.machines {
			if err := tx.PutTarget(cert.Target{ID: cert.NewID(cert.TargetID, w.now()), Campaign: c.ID, Machine: m.ID, Hostname: m.Hostname, Class: "box", Plan: cert.PlanSRU, Required: true,
				State: cert.TargetWaiting, Tries: []cert.Try{}, Updated: w.now()}); err != nil {
				return err
			}
		}
		return nil
	}))
	return c
}

// made is a submission that is to come.
type made struct {
	kernel, version string
	plan            string
	outcomes        map[string]string // of jobs; others pass
	logs            map[string]string // excerpts
	doubts          map[string]string
	unproved        bool
	noManifest      bool
	unreadable      string
}

// run stores a run of a machine with its submission, which is not indexed yet.
func (w *world) run(machine int, m made) (run cert.Run, submission string) {
	w.serial++
	now := w.now()
	m.kernel, m.version = or(m.kernel, newKernel), or(m.version, newVersion)
	state := &order.SubjectState{Step: order.SubjectProved, Boots: []order.Boot{{ID: "b", Kernel: m.kernel, Version: m.version, At: now, Proved: !m.unproved, Tests: true}}}
	run = cert.Run{ID: cert.NewID(cert.RunID, now), Machine: w.machines[machine].ID, Hostname: w.machines[machine].Hostname, Origin: cert.FromOrder, State: cert.Completed, Created: now,
		Started: &now, Finished: &now, NoManifest: m.noManifest,
		Spec:     cert.Spec{Plan: or(m.plan, cert.PlanSRU), Subject: &order.Subject{Kind: order.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: m.version, Pocket: "proposed"}},
		Attempts: []cert.Attempt{{Number: 1, Sequence: 1, State: cert.Completed, Updated: now, Subject: state, Interruptions: []cert.Interruption{}}}}
	submission, _, err := w.db.AddUpload(w.Context(), run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s.tar.xz", SHA256: fmt.Sprintf("%064x", w.serial), Size: 1, Received: now})
	require.NoError(w, err)
	var planned []order.PlannedJob
	for _, job := range w.jobs {
		planned = append(planned, order.PlannedJob{ID: job, Plugin: "shell"})
	}
	content, err := json.Marshal(planned)
	require.NoError(w, err)
	sum := sha256.Sum256(content)
	sha := hex.EncodeToString(sum[:])
	w.mu.Lock()
	w.files[sha] = content
	w.mu.Unlock()
	_, err = w.db.AddFile(w.Context(), run.ID, cert.File{Attempt: 1, Kind: cert.KindJobs, Name: "jobs.json", SHA256: sha, Size: int64(len(content)), Received: now})
	require.NoError(w, err)
	return run, submission
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// index stores what a submission says.
func (w *world) index(submission string, m made) {
	if m.unreadable != "" {
		require.NoError(w, w.db.SaveUnreadable(w.Context(), submission, 2, m.unreadable))
		return
	}
	x := cert.Index{Version: 2, Plan: or(m.plan, cert.PlanSRU), CheckboxVersion: "6.0", Kernel: or(m.kernel, newKernel), Series: "noble", Counts: cert.Counts{}}
	x.System, _ = json.Marshal(map[string]any{"kernel": x.Kernel, "distribution": map[string]string{"codename": "noble"}})
	for n, job := range w.jobs {
		r := cert.Result{Index: n, Section: cert.SectionResults, ID: job, Name: job, Outcome: or(m.outcomes[job], "pass"), CertificationStatus: "blocker", Plugin: "shell", LogSize: 10}
		if r.Outcome == "absent" {
			continue
		}
		x.Results = append(x.Results, r)
		x.Counts[r.Outcome]++
		if log := or(m.logs[job], job+" went wrong"); r.Outcome == "fail" || r.Outcome == "crash" {
			x.Failures = append(x.Failures, cert.IndexedFailure{Index: n, Outcome: r.Outcome, Signature: judge.Signature(log), Excerpt: log})
		} else if m.doubts[job] != "" {
			x.Failures = append(x.Failures, cert.IndexedFailure{Index: n, Outcome: cert.FindFalsePass, Doubt: m.doubts[job], Signature: judge.Signature(log), Excerpt: log})
		}
	}
	require.NoError(w, w.db.SaveIndex(w.Context(), submission, x))
}

// released gives each machine a submission on the released kernel.
func (w *world) released(m made) {
	m.kernel, m.version = oldKernel, oldVersion
	for n := range w.machines {
		_, submission := w.run(n, m)
		w.index(submission, m)
	}
}

// target returns a machine's target in the campaign.
func (w *world) target(machine int) cert.Target {
	all, err := w.db.Targets(w.Context(), w.campaign.ID)
	require.NoError(w, err)
	for _, t := range all {
		if t.Machine == w.machines[machine].ID {
			return t
		}
	}
	w.Fatalf("machine %d has no target", machine)
	return cert.Target{}
}

// hand ends a try of a machine's target with a submission, as the engine does.
func (w *world) hand(machine int, run cert.Run, submission string, change ...func(*cert.Try)) {
	now := w.now()
	t := w.target(machine)
	try := cert.Try{Number: len(t.Tries) + 1, Purpose: cert.TryFirst, Machine: t.Machine, Hostname: t.Hostname, Run: run.ID, By: "certlab", Created: now, Asked: &now, Started: &now,
		Ended: &now, State: cert.Completed, Submission: submission}
	for _, fn := range change {
		fn(&try)
	}
	t.Tries = append(t.Tries, try)
	t.Updated = now
	if try.Purpose == cert.TryConfirm || try.Partial() {
		t.Then = t.State
	}
	t.State = cert.TargetComparing
	require.NoError(w, w.db.ChangeCampaigns(w.Context(), func(tx *sqlite.CampaignTx) error { return tx.PutTarget(t) }))
}

// deliver has a machine's run come in and be compared.
func (w *world) deliver(machine int, m made, change ...func(*cert.Try)) (submission string) {
	run, submission := w.run(machine, m)
	w.hand(machine, run, submission, change...)
	w.index(submission, m)
	w.turn()
	return submission
}

func (w *world) turn() { require.NoError(w, w.r.Turn(w.Context())) }

// deciding has the campaign come to where nothing more runs by itself.
func (w *world) deciding() {
	require.NoError(w, w.db.ChangeCampaigns(w.Context(), func(tx *sqlite.CampaignTx) error {
		c, err := tx.Campaign(w.campaign.ID)
		if err != nil || c.State.Final() {
			return err
		}
		c.State = cert.CampaignDeciding
		return tx.PutCampaign(c)
	}))
	w.turn()
}

func (w *world) state() cert.CampaignState {
	c, err := w.db.Campaign(w.Context(), w.campaign.ID)
	require.NoError(w, err)
	return c.State
}

func (w *world) view() cert.CampaignView {
	v, err := w.r.View(w.Context(), w.campaign.Name)
	require.NoError(w, err)
	return v
}

func (w *world) findings(f cert.Filter) []cert.Finding {
	all, err := w.r.Findings(w.Context(), w.campaign.ID, f, sqlite.Page{Limit: 100})
	require.NoError(w, err)
	return all.Findings
}

// decide decides as a signer.
func (w *world) decide(d cert.NewDecision) (cert.Decided, error) {
	return w.r.Decide(w.Context(), w.campaign.Name, d, "grace", cert.Signer)
}

func (w *world) intact() []cert.Decision {
	l, err := w.r.Decisions(w.Context(), "", true, sqlite.Page{Limit: 1000})
	require.NoError(w, err)
	require.NotNil(w, l.Intact)
	require.True(w, *l.Intact, l.Broken)
	return l.Decisions
}

// tryAlter changes the database's file behind the service's back.
func (w *world) tryAlter(statements ...string) error {
	db, err := sql.Open("sqlite", "file:"+w.path)
	require.NoError(w, err)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) alter(statements ...string) { require.NoError(w, w.tryAlter(statements...)) }

// many puts regressions of as many jobs into the first machine's target, straight into the database.
func (w *world) many(n int) {
	t := w.target(0)
	f := cert.Finding{Campaign: t.Campaign, Target: t.ID, Machine: t.Machine, Hostname: t.Hostname, Plan: t.Plan, Class: cert.ClassRegression, Blocker: true, New: true, Attention: true,
		Outcome: "fail", Before: "pass", Text: "passed before, fails now", Index: -1, OldIndex: -1, Found: w.now()}
	data, err := json.Marshal(f)
	require.NoError(w, err)
	w.alter(fmt.Sprintf(`WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
		INSERT INTO findings (id, campaign, target, machine, class, job, signature, blocker, new, attention, open, excused, waived, late, rank, issue, submission, data)
		SELECT printf('f%%026d', n), '%s', '%s', '%s', '%s', printf('many::job%%d', n %% 700), printf('s%%d', n %% 3), 1, 1, 1, 1, 0, 0, 0, 4, '', '',
			json_set('%s', '$.id', printf('f%%026d', n), '$.job', printf('many::job%%d', n %% 700), '$.signature', printf('s%%d', n %% 3)) FROM numbers`,
		n, t.Campaign, t.ID, t.Machine, cert.ClassRegression, data))
}
