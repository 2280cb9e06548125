package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/control/trust"
	"certlab/internal/order"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

// Failing says what a lab is like whose deployments fail.
type Failing struct {
	Machines int           // that a lab has
	Wanted   int           // reservations, all at once
	Share    float64       // of the deployments that each way of failing strikes
	Seed     uint64        //
	Poll     time.Duration // of the engine
	Limit    time.Duration // how long all of it may take
	Tries    int           // deployments for one reservation; 0: the default
}

// Failed is what came of it.
type Failed struct {
	Wanted      int            `json:"wanted"`
	Arrived     int            `json:"arrived"` // got a machine that was ready, and nobody did anything for it
	Deployments int            `json:"deployments"`
	Struck      map[string]int `json:"struck"` // how often each way of failing was drawn
	Person      int            `json:"person"` // reservations that ended without a machine, or still wait
	Quarantined int            `json:"quarantined"`
	Incidents   int            `json:"incidents"`
	Lost        []string       `json:"lost"`  // machines that are neither free nor with who looks at them
	Twice       []string       `json:"twice"` // what was held twice
	Without     []string       `json:"without"`
	Hours       float64        `json:"hours"` // until the last one had its machine
	Calls       int            `json:"calls"` // of MAAS
}

// A way is one of failing: what is wrong with a machine while it is being deployed and given back. In half of the cases a machine's fault lasts
// until that is over; else it goes away by itself.
type way struct {
	name   string
	faults func(*rand.Rand) []maastest.Fault
}

func just(f maastest.Fault) func(*rand.Rand) []maastest.Fault {
	return func(*rand.Rand) []maastest.Fault { return []maastest.Fault{f} }
}

// sometimes strikes once to three times.
func sometimes(f maastest.Fault) func(*rand.Rand) []maastest.Fault {
	return func(r *rand.Rand) []maastest.Fault { f.Times = 1 + r.IntN(3); return []maastest.Fault{f} }
}

// ways are those in which a deployment fails, each once.
func ways() []way {
	answers := func(f maastest.Fault) func(*rand.Rand) []maastest.Fault {
		return func(r *rand.Rand) []maastest.Fault {
			f.Op = []string{"machine.deploy", "machine.release", "machines.allocate", "machine.lock"}[r.IntN(4)]
			f.Times = 1 + r.IntN(3)
			return []maastest.Fault{f}
		}
	}
	return []way{
		{"the BMC refuses", just(maastest.Fault{Kind: maastest.BMCRefuses})},
		{"the BMC hangs", just(maastest.Fault{Kind: maastest.BMCHangs})},
		{"the BMC lies", just(maastest.Fault{Kind: maastest.BMCLies})},
		{"the installer fails", just(maastest.Fault{Kind: maastest.DeployFails})},
		{"the deployment times out", just(maastest.Fault{Kind: maastest.DeployHangs})},
		{"Deployed without booting", just(maastest.Fault{Kind: maastest.NeverBoots})},
		{"another release boots", just(maastest.Fault{Kind: maastest.BootsOther, Release: "jammy", Kernel: "ga-22.04"})},
		{"releasing never ends", sometimes(maastest.Fault{Kind: maastest.ReleaseHangs})},
		{"no rack reaches it", just(maastest.Fault{Kind: maastest.RackGone})},
		{"502", answers(maastest.Gateway(502, false))},
		{"502 after it was done", answers(maastest.Gateway(502, true))},
		{"503", answers(maastest.Overloaded())},
		{"504 after it was done", answers(maastest.Gateway(504, true))},
		{"taken between list and deploy", just(maastest.Fault{Kind: maastest.Taken, Times: 1})},
	}
}

// A failing is a lab in a bubble: engine, trust gate and client as they are, over a region in memory.
type failing struct {
	*testing.T
	o      Failing
	region *maastest.Region
	db     *sqlite.DB
	engine *provision.Fleet
	trust  *trust.Trust
	conf   order.Fleet
	out    Failed

	mu     sync.Mutex
	random *rand.Rand
	drawn  map[string]bool // reservation and machine
	wait   sync.WaitGroup
}

// RunFailing has reservations come to a lab whose deployments fail, in a bubble's time.
func RunFailing(t *testing.T, o Failing) (out Failed) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &failing{T: t, o: o, random: rand.New(rand.NewPCG(o.Seed, 1)), drawn: map[string]bool{}, out: Failed{Wanted: o.Wanted, Struck: map[string]int{}}}
		l.run(filepath.Join(dir, "certlab.db"))
		out = l.out
	})
	return out
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

func utc() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func (l *failing) run(path string) {
	l.region = maastest.New(maastest.Options{Seed: l.o.Seed, OnBoot: l.boot, Racks: []string{"rack1", "rack2", "rack3", "rack4"}})
	key := l.region.AddUser("certlab", true)
	for n := range l.o.Machines {
		l.region.AddMachine(maastest.Machine{Hostname: fmt.Sprintf("node%d", n+1), Zone: fmt.Sprintf("zone%d", n%4), Rack: fmt.Sprintf("rack%d", n%4+1),
			ProductUUID: fmt.Sprintf("00000000-0000-0000-0000-%012d", n+1), Tags: []string{"cert"}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.db = must(sqlite.Open(ctx, path))
	l.conf = order.Fleet{Limits: order.FleetLimits{MaxPerPerson: 100_000, Release: "noble", MaxTries: l.o.Tries}}
	l.conf.MAAS = order.MAAS{URL: "http://maas.example:5240/MAAS", QuarantinePool: "quarantine", QuarantineTag: "certlab-quarantine"}
	quiet := slog.New(slog.DiscardHandler)
	l.trust = trust.New(trust.Options{DB: l.db, Logger: quiet, Now: utc, Config: func() order.Fleet { return l.conf }, Fleet: func() trust.Fleet { return l.engine },
		About: func(context.Context) (cert.About, bool) { return cert.About{Version: "3.4.1"}, true }})
	l.engine = provision.New(provision.Options{DB: l.db, Logger: quiet, Lab: guests{}, Now: utc, Poll: l.o.Poll, Gate: l.trust, Observer: l.trust, Checker: l.trust,
		Script: func(s provision.Script) ([]byte, error) { return encode(s), nil }})
	provider := must(maas.New(maas.Config{URL: l.conf.MAAS.URL, Key: key, Lab: "lab1", Transport: l.region.Transport(), QuarantinePool: "quarantine", QuarantineTag: "certlab-quarantine"}))
	l.engine.Apply(spoiled{provider, l}, l.conf)
	if err := l.trust.Load(ctx); err != nil {
		l.Fatal(err)
	}
	l.wait.Go(func() { _ = l.engine.Loop(ctx) })
	l.wait.Go(func() { _ = l.trust.Loop(ctx) })
	defer func() {
		cancel()
		l.region.Close()
		l.wait.Wait()
		time.Sleep(time.Hour) // until no agent tries again
		_ = l.db.Close()
	}()
	for range 100 {
		if s := must(l.engine.Summary(ctx)); s.Read != nil {
			break
		}
		time.Sleep(time.Second)
	}
	ids := l.reserve(ctx)
	l.hold(ctx, ids)
	l.count(ctx, ids)
}

// reserve asks for all machines.
func (l *failing) reserve(ctx context.Context) []string {
	var ids []string
	for n := range l.o.Wanted {
		r, err := l.engine.Reserve(ctx, cert.NewReservation{Reason: "a trial", Want: cert.Want{Query: "tags=cert", Hours: 24, Failover: true}}, fmt.Sprintf("person%d", n), cert.Engineer)
		if err != nil {
			l.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

// keepFor is how long each person has their machine.
const keepFor = 30 * time.Minute

// hold gives back each machine some time after it was ready, until all reservations are over and all machines back.
func (l *failing) hold(ctx context.Context, ids []string) {
	began := time.Now()
	given := map[string]bool{}
	said := began
	for time.Since(began) < l.o.Limit {
		time.Sleep(2 * time.Minute)
		l.checks(ctx)
		open := must(l.db.OpenReservations(ctx))
		holders := map[string]string{}
		for _, r := range open {
			if r.State != cert.ReservationReady {
				continue
			}
			if other := holders[r.Machine]; other != "" {
				l.out.Twice = append(l.out.Twice, fmt.Sprintf("%s by %s and %s", r.Hostname, other, r.ID))
			}
			holders[r.Machine] = r.ID
			if r.Kind == cert.ReserveManual && !given[r.ID] && time.Since(*r.Ready) >= keepFor {
				given[r.ID] = true
				if _, err := l.engine.Release(ctx, r.ID, cert.ReleaseReservation{}, r.Holder, cert.Engineer); err != nil {
					l.Error(err)
				}
			}
		}
		if time.Since(said) >= time.Hour {
			said = time.Now()
			states := map[cert.ReservationState]int{}
			for _, r := range open {
				states[r.State]++
			}
			l.Logf("after %s: %v, %d deployments open, %d incidents", time.Since(began), states, len(must(l.db.OpenDeployments(ctx))), len(must(l.db.OpenIncidents(ctx))))
		}
		if len(open) == 0 && len(must(l.db.OpenDeployments(ctx))) == 0 {
			time.Sleep(faultMost + 15*time.Minute) // until all faults are over, and all machines were listed again
			return
		}
	}
}

// checks has the runs of checks that are ready end well.
func (l *failing) checks(ctx context.Context) {
	for _, r := range must(l.db.OpenReservations(ctx)) {
		if r.Kind != cert.ReserveCheck || r.State != cert.ReservationReady {
			continue
		}
		_, err := l.db.UpdateRun(ctx, r.Run, nil, func(run *cert.Run) (bool, error) {
			if run.State.Final() {
				return false, nil
			}
			now := utc()
			run.State, run.Finished, run.Counts = cert.Completed, &now, cert.Counts{"pass": 3}
			return true, nil
		})
		if err != nil {
			l.Error(err)
		}
	}
}

// count says what came of it all.
func (l *failing) count(ctx context.Context, ids []string) {
	began := time.Time{}
	for _, id := range ids {
		r := must(l.db.Reservation(ctx, id))
		if began.IsZero() {
			began = r.Created
		}
		if r.Ready == nil {
			l.out.Person++
			text := fmt.Sprintf("%s is %s after %d tries: %s", r.ID, r.State, r.Tries, r.Blocked)
			if r.Failure != nil {
				text += "; " + r.Failure.Message
			}
			l.out.Without = append(l.out.Without, text)
			continue
		}
		l.out.Arrived++
		l.out.Hours = max(l.out.Hours, r.Ready.Sub(began).Hours())
	}
	l.out.Deployments = len(must(l.db.Deployments(ctx, sqlite.DeploymentFilter{}, 1<<20)))
	l.out.Twice = append(l.out.Twice, l.region.Violations()...)
	l.out.Calls = l.region.CallsOf("")
	incidents, _, err := l.db.Incidents(ctx, false, sqlite.Page{Limit: 1000})
	if err != nil {
		l.Error(err)
	}
	l.out.Incidents = len(incidents)
	for _, m := range must(l.engine.Machines(ctx)) {
		s := l.region.State(m.SystemID)
		switch {
		case m.State == cert.MachineQuarantined:
			l.out.Quarantined++
		case m.State != cert.MachineFree || s.Status != maastest.Ready || s.Owner != "":
			l.out.Lost = append(l.out.Lost, fmt.Sprintf("%s is %s (%s), at MAAS %v (%s), owner %q, locked %v", m.Hostname, m.State, m.Why, s.Status, s.StatusMessage, s.Owner, s.Locked))
		}
	}
}
