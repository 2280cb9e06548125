package watch_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/control/watch"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

const suspendJob = "com.canonical.certification::suspend/suspend_advanced_auto"

// bmcs are machines' power, as a provider switches it. Only Power and QueryPower are there.
type bmcs struct {
	cert.Provider
	mu     sync.Mutex
	on     map[string]bool // by the provider's id; missing: on
	fail   map[string]error
	stuck  map[string]bool // says yes and does nothing
	fakes  map[string]bool // says that it is off and on, and nothing happens to the machine
	calls  []string
	onCall func(call string) error // before a call; an error cuts the answer
	booted func(id string)         // called when a machine is switched on
}

func (b *bmcs) Power(_ context.Context, id string, action cert.PowerAction, _ bool) error {
	b.mu.Lock()
	b.calls = append(b.calls, string(action)+" "+id)
	hook, err := b.onCall, b.fail[id]
	b.mu.Unlock()
	if err != nil {
		return err
	}
	b.mu.Lock()
	if !b.stuck[id] {
		b.on[id] = action != cert.SwitchOff
	}
	up := b.on[id] && !b.stuck[id] && !b.fakes[id] && action == cert.SwitchOn
	b.mu.Unlock()
	if up && b.booted != nil {
		b.booted(id)
	}
	if hook != nil {
		return hook(string(action))
	}
	return nil
}

func (b *bmcs) QueryPower(_ context.Context, id string, _ bool) (cert.PowerState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail[id]; err != nil {
		return cert.PowerError, err
	}
	if on, ok := b.on[id]; ok && !on {
		return cert.PowerOff, nil
	}
	return cert.PowerOn, nil
}

func (b *bmcs) called() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.calls)
}

// gate holds what it is told to.
type gate struct {
	mu    sync.Mutex
	hold  *cert.Hold
	heard []cert.Trial
}

func (g *gate) Silence(_ context.Context, now []cert.Trial) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = now
	return nil
}

func (g *gate) MayCycle(cert.Place) *cert.Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hold
}

// A bench is a watch with machines whose agents are scripted.
type bench struct {
	t      *testing.T
	dir    string
	now    time.Time
	db     *sqlite.DB
	files  *blobs.Store
	bmc    *bmcs
	gate   *gate
	conf   order.Fleet
	watch  *watch.Watch
	none   bool // there is no provider
	seq    int64
	text   string      // on the console
	armed  atomic.Bool // the next steps of the database may be the last
	nodes  []*node
	placed cert.Placement // of units
}

type node struct {
	id, system, run, boot string
	up                    bool // it is back and heard
}

var begin = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lab.db"), empty(), 0o600))
	b := &bench{t: t, dir: dir, now: begin, gate: &gate{}, bmc: &bmcs{on: map[string]bool{}, fail: map[string]error{}, stuck: map[string]bool{}, fakes: map[string]bool{}}}
	b.open()
	t.Cleanup(func() { b.db.Close() })
	return b
}

// open opens the data, as a service does that starts.
func (b *bench) open() {
	var err error
	b.db, err = sqlite.Open(context.Background(), filepath.Join(b.dir, "lab.db"))
	require.NoError(b.t, err)
	b.files, err = blobs.Open(filepath.Join(b.dir, "blobs"))
	require.NoError(b.t, err)
	b.watch = watch.New(watch.Options{DB: b.db, Files: b.files, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return b.now },
		Provider: func() cert.Provider {
			if b.none {
				return nil
			}
			return b.bmc
		},
		Config: func() order.Fleet { return b.conf }, Gate: b.gate,
		Placed:  func(context.Context, string, cert.Provided) cert.Placement { return b.placed },
		Console: func(_ context.Context, _ string, w io.Writer) error { _, err := io.WriteString(w, b.text); return err }})
}

// kill ends the service without another word, and starts it again.
func (b *bench) kill() {
	b.db.Close()
	b.open()
}

// add adds a machine with a running attempt in a job.
func (b *bench) add(name, powerType, job string, change ...func(*cert.Provided)) *node {
	n := &node{system: "sys" + name, boot: "boot-1-sys" + name}
	m := cert.Machine{ID: cert.NewID(cert.MachineID, b.now), Key: "maas:" + n.system, Origin: cert.OriginManual, Hostname: name, SystemID: n.system, Created: b.now, Seen: &b.now}
	n.id = m.ID
	require.NoError(b.t, b.db.AddMachine(b.ctx(), m))
	p := cert.Provided{ID: n.system, Hostname: name, Status: cert.StatusDeployed, Holder: cert.ThisLab, PowerType: powerType, Zone: "z1", Power: cert.PowerOn}
	for _, c := range change {
		c(&p)
	}
	run := cert.Run{ID: cert.NewID(cert.RunID, b.now), Machine: m.ID, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "com.canonical.certification::suspend"}, State: cert.Queued, Created: b.now}
	require.NoError(b.t, b.db.AddRun(b.ctx(), run))
	n.run = run.ID
	require.NoError(b.t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
		return tx.PutMachine(sqlite.FleetRow{Machine: m, Provider: "maas", Provided: &p, Read: b.now})
	}))
	b.nodes = append(b.nodes, n)
	b.report(n, job, 0)
	return n
}

func (b *bench) ctx() context.Context { return b.t.Context() }

// report has the agent of a machine report, as the API takes it in.
func (b *bench) report(n *node, job string, quiet int64) {
	b.seq++
	_, err := b.db.UpdateRun(b.ctx(), n.run, nil, func(r *cert.Run) (bool, error) {
		return r.Report(cert.Report{Attempt: 1, Sequence: b.seq, Origin: cert.FromOrder, State: cert.Running, BootID: n.boot, Started: begin,
			Progress: cert.Progress{Phase: "testing", CurrentJob: job, QuietSeconds: quiet}}, b.now), nil
	})
	require.NoError(b.t, err)
	b.hear(n)
}

// hear has machines be heard now.
func (b *bench) hear(all ...*node) {
	seen := make(map[string]time.Time)
	for _, n := range all {
		seen[n.id] = b.now
	}
	require.NoError(b.t, b.db.Seen(b.ctx(), seen))
}

// pass lets time pass, in which these machines are heard.
func (b *bench) pass(d time.Duration, heard ...*node) {
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(time.Minute)
		b.hear(heard...)
		for _, n := range b.nodes {
			if n.up {
				b.hear(n)
			}
		}
		require.NoError(b.t, b.watch.Look(b.ctx()))
	}
}

func (b *bench) look(n *node) cert.Run {
	run, err := b.db.Run(b.ctx(), n.run)
	require.NoError(b.t, err)
	return run
}

// log returns the texts of a machine's log, the oldest first.
func (b *bench) log(n *node) []string {
	events, _, err := b.db.MachineEvents(b.ctx(), sqlite.EventFilter{Machine: n.id}, sqlite.Page{Limit: 100})
	require.NoError(b.t, err)
	out := make([]string, len(events))
	for i, e := range events {
		out[len(events)-1-i] = e.Text
	}
	return out
}

// finish delivers a submission in which the job passed, as Checkbox says of a noreturn job that was interrupted.
func (b *bench) finish(n *node, jobs ...string) {
	sha := "00000000000000000000000000000000000000000000000000000000000000aa"
	file, err := b.db.AddFile(b.ctx(), n.run, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: sha, Size: 1, Received: b.now})
	require.NoError(b.t, err)
	b.seq++
	_, err = b.db.UpdateRun(b.ctx(), n.run, nil, func(r *cert.Run) (bool, error) {
		return r.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: b.seq, Origin: cert.FromOrder, State: cert.Completed, BootID: n.boot}, Finished: b.now,
			Counts: cert.Counts{"pass": len(jobs)}, Files: []string{sha}}, b.now)
	})
	require.NoError(b.t, err)
	x := cert.Index{Version: 1, Counts: cert.Counts{"pass": len(jobs)}}
	for i, job := range jobs {
		x.Results = append(x.Results, cert.Result{Index: i, Section: cert.SectionResults, ID: job, Outcome: "pass", DurationSeconds: 60})
	}
	require.NoError(b.t, b.db.SaveIndex(b.ctx(), file.Submission, x))
}

// TestAMachineIsWatchedOnlyWhileARunGoesOnThere holds that what a person has is left alone, and so is a machine that is heard, that keeps
// silent as it said, or for no longer than its job takes.
func TestAMachineIsWatchedOnlyWhileARunGoesOnThere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	heard := b.add("heard", "ipmi", "job")
	other := b.add("other", "ipmi", "job")
	b.report(other, suspendJob, 3600)
	slow := b.add("slow", "ipmi", "com.example::slow")
	b.finish(slow, "com.example::slow")
	long := b.add("long", "ipmi", "com.example::slow")
	idle := b.add("idle", "ipmi", "job")
	b.finish(idle, "com.example::other")
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(14*time.Minute, heard)
	require.Zero(t, b.bmc.called())
	b.pass(2*time.Minute, heard)
	require.Equal(t, []string{"off " + long.system, "on " + long.system}, b.bmc.calls, "its job takes a minute")
	b.pass(43*time.Minute, heard)
	require.Empty(t, b.log(other), "it said that it would be silent for an hour")
	require.Empty(t, b.log(idle))
	require.Empty(t, b.log(heard))
	b.pass(3*time.Minute, heard)
	require.NotEmpty(t, b.log(other))
}

// TestAJobThatTakesLongMayBeSilentLong holds that the estimate of a job counts twice.
func TestAJobThatTakesLongMayBeSilentLong(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	once := b.add("once", "ipmi", "com.example::slow")
	b.now = b.now.Add(time.Hour)
	b.finish(once, "com.example::slow")
	quick, n, err := b.db.JobSeconds(b.ctx(), once.id, "com.example::slow")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 60.0, quick)
	elsewhere, n, err := b.db.JobSeconds(b.ctx(), "mx", "com.example::slow")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 60.0, elsewhere)
	q := cert.Quiet{Heard: begin, Least: 15 * time.Minute, Estimate: 20 * time.Minute}
	require.Equal(t, begin.Add(40*time.Minute), q.Until())
	q.Reachable = begin.Add(time.Hour)
	require.Equal(t, begin.Add(100*time.Minute), q.Until(), "silence counts only while it could be heard")
	q = cert.Quiet{Heard: begin, Reported: begin, Least: time.Minute, Boot: 15 * time.Minute, Progress: cert.Progress{Phase: "rebooting"}}
	require.Equal(t, begin.Add(15*time.Minute), q.Until())
}

// empty is a database as it is made: making one takes longer than most tests.
var empty = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "certlab-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "lab.db")
	db, err := sqlite.Open(context.Background(), path)
	if err != nil {
		panic(err)
	}
	if err := db.Close(); err != nil {
		panic(err)
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return bytes
})
