package campaign_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/campaign"
	"certlab/internal/sqlite"
)

// emptyDatabase is one that has its tables: making them costs more than most tests.
var emptyDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "certlab-empty")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "certlab.db")
	db, err := sqlite.Open(context.Background(), path)
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// A lab is an engine on a database, and a fleet whose machines do what they are told to.
type lab struct {
	testing.TB
	path     string
	ahead    atomic.Int64 // how far its clock is ahead, in nanoseconds
	db       *sqlite.DB
	now      func() time.Time
	life     atomic.Pointer[life]
	done     sync.WaitGroup
	restarts sync.WaitGroup
	cut      func(point string) // called at each point where the power may be cut

	mu       sync.Mutex
	closing  bool
	machines []cert.FleetMachine
	images   []string
	woken    []string
	full     error // of RoomForRuns
	begun    map[string]int
	does     func(machine string, spec cert.Spec, nth int) outcome // of the nth run on a machine, from 1
	refuse   func(machine string) error                            // of Reserve
	deploys  func(machine string, nth int) *cert.Failure
	deployed map[string]int
	hold     map[string]bool // machines that are never given to a reservation
	mute     map[string]bool // machines whose agents take no order
	took     []string        // reservations, in the order in which they were asked for, each as often as it was
}

// An outcome is what a run comes to.
type outcome struct {
	failure *cert.Failure
	lost    string // job in which the machine is lost
	suspect string
	counts  cert.Counts
	hang    bool // it goes on for ever
	kernel  string
}

// A life is the engine from a start to a kill.
type life struct {
	*campaign.Engine
	dead   atomic.Bool
	cancel context.CancelFunc
}

func inLab(t *testing.T, fn func(*lab), change ...func(*lab)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "certlab.db")
	empty, err := emptyDatabase()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, empty, 0o600))
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, path)
		defer l.close()
		for _, c := range change {
			c(l)
		}
		l.start()
		ctx, end := context.WithCancel(context.Background())
		var worlds sync.WaitGroup
		worlds.Go(func() { l.world(ctx) })
		defer worlds.Wait()
		defer end()
		fn(l)
	})
}

func newLab(t testing.TB, path string) *lab {
	l := &lab{TB: t, path: path, mute: map[string]bool{}, begun: map[string]int{}, deployed: map[string]int{}, hold: map[string]bool{}, images: []string{"noble"}}
	l.now = func() time.Time {
		return time.Now().Add(time.Duration(l.ahead.Load())).UTC().Truncate(time.Microsecond)
	}
	var err error
	l.db, err = sqlite.Open(context.Background(), path)
	require.NoError(t, err)
	l.db.OnStep(func(step string) {
		if step == "committed" {
			l.point("stored")
		}
		if v := l.life.Load(); v != nil && v.dead.Load() && ofEngine() {
			runtime.Goexit() // it was killed
		}
	})
	return l
}

func (l *lab) close() {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.restarts.Wait()
	l.kill()
	require.NoError(l, l.db.Close())
}

// point is where the power may be cut.
func (l *lab) point(name string) {
	if l.cut != nil {
		l.cut(name)
	}
}

func (l *lab) start() {
	v := &life{}
	v.Engine = campaign.New(campaign.Options{DB: l.db, Logger: slog.New(slog.DiscardHandler), Fleet: mortal{l, v}, Lab: l, Now: l.now})
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	l.done.Add(1) // before anybody can see it and kill it
	l.life.Store(v)
	go func() {
		defer l.done.Done()
		_ = v.Loop(ctx)
	}()
}

// world has the machines do what they do, until the lab is closed.
func (l *lab) world(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.step(ctx)
		}
	}
}

func (l *lab) kill() {
	v := l.life.Load()
	if v == nil {
		return
	}
	v.dead.Store(true)
	v.cancel()
	l.done.Wait()
}

func (l *lab) engine() *life { return l.life.Load() }

// add adds a machine of the provider's, or one with a unit.
func (l *lab) add(name string, change ...func(*cert.FleetMachine)) string {
	m := cert.FleetMachine{Machine: cert.Machine{ID: cert.NewID(cert.MachineID, l.now()), Key: "key:" + name, Origin: "maas", Hostname: name, Architecture: "amd64", SystemID: "sid-" + name,
		Created: l.now()}, Provider: "maas", State: cert.MachineFree, Class: "box", Pool: "default"}
	for _, c := range change {
		c(&m)
	}
	l.store(func(tx *sqlite.FleetTx) error { return tx.AddMachine(m.Machine) })
	l.mu.Lock()
	l.machines = append(l.machines, m)
	l.mu.Unlock()
	return m.ID
}

func unit(m *cert.FleetMachine) {
	m.Unit, m.Provider, m.State, m.Base, m.Origin = "checkbox/0", "", cert.MachineReady, "ubuntu@24.04", "juju"
}

func (l *lab) store(fn func(*sqlite.FleetTx) error) {
	l.Helper()
	require.NoError(l, l.db.ChangeFleet(context.Background(), fn))
}

func (l *lab) change(name string, fn func(*cert.FleetMachine)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(&l.machines[slices.IndexFunc(l.machines, func(m cert.FleetMachine) bool { return m.Hostname == name })])
}

// Wake and RoomForRuns are what the controller's other loops do for the engine.
func (l *lab) Wake(machine string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken = append(l.woken, machine)
}

func (l *lab) RoomForRuns() error { l.mu.Lock(); defer l.mu.Unlock(); return l.full }

// mortal is the fleet as one life of the engine sees it: a dead one asks for nothing.
type mortal struct {
	*lab
	v *life
}

type releases struct {
	cert.Provider
	l *lab
}

func (r releases) Releases(context.Context, string) ([]cert.Image, error) {
	var out []cert.Image
	for _, i := range r.l.images {
		out = append(out, cert.Image{OS: "ubuntu", Release: i})
	}
	return out, nil
}

func (m mortal) Provider() cert.Provider { return releases{l: m.lab} }

func (m mortal) Machines(context.Context) ([]cert.FleetMachine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.machines), nil
}

func (m mortal) Reserve(ctx context.Context, in cert.NewReservation, by string, _ cert.Role) (cert.Reservation, error) {
	m.point("asked")
	if m.v.dead.Load() {
		return cert.Reservation{}, context.Canceled
	}
	m.mu.Lock()
	m.took = append(m.took, in.ID)
	refuse := m.refuse
	m.mu.Unlock()
	if refuse != nil {
		if err := refuse(in.Query); err != nil {
			return cert.Reservation{}, err
		}
	}
	r := cert.Reservation{ID: in.ID, Kind: cert.ReserveRun, State: cert.ReservationQueued, Holder: by, Reason: in.Reason, Priority: in.Priority, Want: in.Want, Created: m.now(), Run: in.Run, Spec: in.Spec}
	err := m.db.ChangeFleet(context.WithoutCancel(ctx), func(tx *sqlite.FleetTx) error {
		if _, err := tx.Reservation(r.ID); err == nil {
			return nil
		}
		return tx.AddReservation(r)
	})
	m.point("answered")
	return r, err
}

func (m mortal) Cancel(ctx context.Context, id string, _ cert.ReleaseReservation, by string, _ cert.Role) (out cert.Reservation, err error) {
	m.point("cancel asked")
	if m.v.dead.Load() {
		return out, context.Canceled
	}
	err = m.db.ChangeFleet(context.WithoutCancel(ctx), func(tx *sqlite.FleetTx) error { return m.ends(tx, id, cert.EndedCancelled, by) })
	m.point("cancel answered")
	return out, err
}

func (l *lab) ends(tx *sqlite.FleetTx, id, ending, by string) error {
	r, err := tx.Reservation(id)
	if err != nil || r.Final() {
		return err
	}
	now := l.now()
	r.State, r.Ended, r.Released, r.Ending, r.EndedBy = cert.ReservationEnded, &now, &now, ending, by
	if err := tx.PutReservation(r); err != nil {
		return err
	}
	err = tx.ChangeRun(r.Run, func(run *cert.Run) (bool, error) {
		if run.State.Final() {
			return false, nil
		}
		return run.Cancel(now)
	})
	if cert.CodeOf(err) == cert.NotFound {
		return nil
	}
	return err
}

// ofEngine reports whether this goroutine is the engine's loop.
func ofEngine() bool {
	var buf [16 << 10]byte
	return strings.Contains(string(buf[:runtime.Stack(buf[:], false)]), "campaign.(*Engine).Loop(")
}
