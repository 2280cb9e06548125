package provision_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/order"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

// A lab is an engine, a simulated region, and machines whose agents speak with the engine.
type lab struct {
	*testing.T
	region *maastest.Region
	key    string
	path   string
	db     *sqlite.DB
	conf   order.Fleet
	maas   *maas.Provider
	life   atomic.Pointer[life]
	lives  sync.WaitGroup
	id     string
	now    func() time.Time

	mu        sync.Mutex
	agents    map[string]string // system id → what its agent does wrong: mute, broken, other; empty: nothing
	keys      []string          // that agents have come with
	uuids     map[string]string
	unplugged bool // no machine reaches the controller
	script    []provision.Script
	options   func(*provision.Options)
	also      []func() // begun with the lab
	ends      []func() // called at its end
	deploying func(mortal, cert.DeployOptions) (killed bool)
	cut       func(point string) // called at each point where the power may be cut
}

// A life is the engine from a start to a kill.
type life struct {
	*provision.Fleet
	dead   atomic.Bool
	cancel context.CancelFunc
}

type quiet struct{ l *lab }

func (quiet) Wake(string) {}
func (quiet) Refresh()    {}

func quick() maastest.Timings {
	return maastest.Timings{PowerOn: time.Second, PowerOff: time.Second, Refusal: time.Second, PXE: 5 * time.Second, Install: 20 * time.Second, Boot: 5 * time.Second,
		Erase: 10 * time.Second}
}

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

// inLab runs fn in a bubble with a lab of some machines, node1 and so on.
func inLab(t *testing.T, machines int, fn func(*lab), change ...func(*lab)) {
	t.Helper()
	dir := t.TempDir()
	empty, err := emptyDatabase()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		l := &lab{T: t, path: filepath.Join(dir, "certlab.db"), agents: map[string]string{}, uuids: map[string]string{}, id: "lab1"}
		l.now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
		l.region = maastest.New(maastest.Options{Timings: quick(), NodeTimeout: 10 * time.Minute, Seed: 1, OnBoot: l.boot})
		l.key = l.region.AddUser("certlab", true)
		for n := range machines {
			l.add(maastest.Machine{Hostname: fmt.Sprintf("node%d", n+1)})
		}
		require.NoError(t, os.WriteFile(l.path, empty, 0o600))
		var err error
		l.db, err = sqlite.Open(t.Context(), l.path)
		require.NoError(t, err)
		for _, c := range change {
			c(l)
		}
		l.db.OnStep(func(step string) {
			if step == "committed" {
				l.point("stored")
			}
			if v := l.life.Load(); v != nil && v.dead.Load() && ofEngine() {
				runtime.Goexit() // it was killed
			}
		})
		defer func() {
			for _, end := range l.ends {
				end()
			}
			l.kill()
			synctest.Wait()
			l.region.Close()
			l.db.Close()
		}()
		l.connect()
		l.start()
		for _, fn := range l.also {
			fn()
		}
		fn(l)
		require.Empty(t, l.region.Violations())
	})
}

func (l *lab) add(m maastest.Machine) string {
	if m.ProductUUID == "" {
		m.ProductUUID = fmt.Sprintf("00000000-0000-0000-0000-%012d", len(l.uuids)+1)
	}
	id := l.region.AddMachine(m)
	l.uuids[id] = m.ProductUUID
	return id
}

func (l *lab) connect() {
	var err error
	l.maas, err = maas.New(maas.Config{URL: "http://maas.example:5240/MAAS", Key: l.key, Lab: l.id, Transport: l.region.Transport(), QuarantinePool: "quarantine",
		QuarantineTag: "certlab-quarantine", PowerUnits: l.conf.MAAS.PowerUnits})
	require.NoError(l, err)
	l.conf.MAAS.URL, l.conf.MAAS.QuarantinePool, l.conf.MAAS.QuarantineTag = "http://maas.example:5240/MAAS", "quarantine", "certlab-quarantine"
}

// start starts the engine, as a service that comes up.
func (l *lab) start() {
	v := &life{}
	options := provision.Options{DB: l.db, Logger: slog.New(slog.DiscardHandler), Lab: quiet{l}, Now: l.now, Poll: 5 * time.Second, Secret: []byte(l.id),
		Script: func(s provision.Script) ([]byte, error) {
			l.mu.Lock()
			l.script = append(l.script, s)
			l.mu.Unlock()
			return json.Marshal(s)
		}}
	if l.options != nil {
		l.options(&options)
	}
	v.Fleet = provision.New(options)
	v.Apply(mortal{l.maas, l, v}, l.conf)
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	l.life.Store(v)
	l.lives.Go(func() { _ = v.Loop(ctx) })
}

// ofEngine reports whether this goroutine is the engine's, and not that of somebody who asks it for something.
func ofEngine() bool {
	var buf [16 << 10]byte
	text := string(buf[:runtime.Stack(buf[:], false)])
	return strings.Contains(text, "provision.(*Fleet).Loop(") || strings.Contains(text, "provision.(*Fleet).run(")
}

// kill ends the engine at once: nothing that it does from now on has an effect.
func (l *lab) kill() {
	v := l.life.Load()
	v.dead.Store(true)
	v.cancel()
	l.lives.Wait()
}

func (l *lab) fleet() *life { return l.life.Load() }

func (l *lab) point(name string) {
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	if cut != nil {
		cut(name)
	}
}

// boot is what a machine does that boots what was deployed: its user-data's agent.
func (l *lab) boot(b maastest.Boot) {
	var s provision.Script
	if json.Unmarshal(b.UserData, &s) != nil || !b.Fresh {
		return
	}
	l.mu.Lock()
	wrong := l.agents[b.SystemID]
	l.mu.Unlock()
	if wrong == "mute" {
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(l, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(l, err)
	public := base64.StdEncoding.EncodeToString(der)
	l.mu.Lock()
	l.keys = append(l.keys, public)
	l.mu.Unlock()
	l.insist(func() error { return l.fleet().Booted(l.Context(), s.Token) })
	time.Sleep(2 * time.Second)
	l.insist(func() error {
		_, err := l.fleet().Enrol(l.Context(), order.Enrolment{Deployment: s.Deployment, Token: s.Token, PublicKey: public, BootID: "boot-" + s.Deployment,
			Identity: order.Identity{Hostname: b.Hostname, Architecture: "amd64", SystemID: b.SystemID, ProductUUID: l.uuids[b.SystemID]}})
		return err
	})
	time.Sleep(2 * time.Second)
	version := map[string]string{"jammy": "22.04", "noble": "24.04"}[b.Release]
	kernel := map[string]string{"ga-24.04": "6.8.0-31-generic", "hwe-24.04": "6.14.0-9-generic", "ga-22.04": "5.15.0-100-generic"}[b.Kernel]
	status := order.Status{BootID: "boot-" + s.Deployment, Release: "ubuntu@" + version, Kernel: kernel, CheckboxVersion: "5.0.0"}
	if wrong == "broken" {
		status.CheckboxVersion, status.Problem = "", "snap checkbox24 is not to be had"
	}
	l.insist(func() error { return l.fleet().AgentStatus(l.Context(), s.Machine.ID, status) })
}

// insist does something again until it is done, or is refused for good.
func (l *lab) insist(fn func() error) {
	for range 500 {
		v := l.fleet()
		l.mu.Lock()
		unplugged := l.unplugged
		l.mu.Unlock()
		if v.dead.Load() || unplugged {
			time.Sleep(5 * time.Second)
			continue
		}
		err := fn()
		if err == nil && !v.dead.Load() || cert.CodeOf(err) == cert.Unauthorized || cert.CodeOf(err) == cert.Forbidden {
			return
		}
		select {
		case <-l.Context().Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
}

// mortal is a provider that a killed engine does not reach any more.
type mortal struct {
	cert.Provider
	l *lab
	v *life
}

func (m mortal) do(fn func() error) error {
	if m.v.dead.Load() {
		return cert.ProviderErrorf(cert.ProviderUnreachable, "killed")
	}
	err := fn()
	m.l.point("called")
	if m.v.dead.Load() {
		return cert.ProviderErrorf(cert.ProviderOutcome, "killed")
	}
	return err
}

func (m mortal) Acquire(ctx context.Context, id, c string) (p cert.Provided, err error) {
	err = m.do(func() (err error) { p, err = m.Provider.Acquire(context.WithoutCancel(ctx), id, c); return err })
	return p, err
}
func (m mortal) Deploy(ctx context.Context, id string, d cert.DeployOptions) error {
	if m.l.deploying != nil && m.l.deploying(m, d) {
		return cert.ProviderErrorf(cert.ProviderOutcome, "killed")
	}
	return m.do(func() error { return m.Provider.Deploy(context.WithoutCancel(ctx), id, d) })
}
func (m mortal) Lock(ctx context.Context, id, c string) error {
	return m.do(func() error { return m.Provider.Lock(context.WithoutCancel(ctx), id, c) })
}
func (m mortal) Release(ctx context.Context, id string, r cert.ReleaseOptions) error {
	return m.do(func() error { return m.Provider.Release(context.WithoutCancel(ctx), id, r) })
}
func (m mortal) Abort(ctx context.Context, id, c string) error {
	return m.do(func() error { return m.Provider.Abort(context.WithoutCancel(ctx), id, c) })
}
func (m mortal) MarkBroken(ctx context.Context, id, c string) error {
	return m.do(func() error { return m.Provider.MarkBroken(context.WithoutCancel(ctx), id, c) })
}
func (m mortal) MarkFixed(ctx context.Context, id, c string) error {
	return m.do(func() error { return m.Provider.MarkFixed(context.WithoutCancel(ctx), id, c) })
}
func (m mortal) Power(ctx context.Context, id string, a cert.PowerAction, unit bool) error {
	return m.do(func() error { return m.Provider.Power(context.WithoutCancel(ctx), id, a, unit) })
}

// reserve asks for a machine as ada.
func (l *lab) reserve(query string, change ...func(*cert.NewReservation)) cert.Reservation {
	l.Helper()
	r, err := l.tryReserve(query, change...)
	require.NoError(l, err)
	return r
}

func (l *lab) tryReserve(query string, change ...func(*cert.NewReservation)) (cert.Reservation, error) {
	l.listed()
	in := cert.NewReservation{Reason: "a bug", Want: cert.Want{Query: query, Hours: 2, Failover: true}}
	for _, c := range change {
		c(&in)
	}
	return l.fleet().Reserve(l.Context(), in, "ada", cert.Engineer)
}

// listed waits until the region's machines are known.
func (l *lab) listed() {
	l.Helper()
	for range 100 {
		s, err := l.fleet().Summary(l.Context())
		require.NoError(l, err)
		if s.Read != nil {
			return
		}
		time.Sleep(time.Second)
	}
	l.Fatal("the machines were never listed")
}

// await waits until a reservation is ready, or over.
func (l *lab) await(id string) cert.Reservation {
	l.Helper()
	r, err := l.fleet().Await(l.Context(), id, 6*time.Hour)
	require.NoError(l, err)
	return r
}

// until waits for something to become true.
func (l *lab) until(what string, fn func() bool) {
	l.Helper()
	for range 3600 {
		if fn() {
			return
		}
		time.Sleep(5 * time.Second)
	}
	l.Fatalf("it never came about that %s", what)
}

func (l *lab) over(id string) cert.Reservation {
	l.Helper()
	var r cert.Reservation
	l.until("reservation "+id+" is over", func() bool {
		var err error
		r, err = l.db.Reservation(context.Background(), id)
		require.NoError(l, err)
		return r.Final()
	})
	return r
}

func (l *lab) machine(name string) cert.MachineDetail {
	l.Helper()
	m, err := l.fleet().Machine(context.Background(), name)
	require.NoError(l, err)
	return m
}

func (l *lab) sid(name string) string {
	l.Helper()
	for _, id := range l.region.SystemIDs() {
		if l.region.State(id).Hostname == name {
			return id
		}
	}
	l.Fatalf("there is no machine %s", name)
	return ""
}

// kinds are the kinds of a machine's events, the oldest first.
func (l *lab) kinds(name string) []string {
	l.Helper()
	m, err := l.db.Machine(context.Background(), name)
	require.NoError(l, err)
	events, _, err := l.db.MachineEvents(context.Background(), sqlite.EventFilter{Machine: m.ID}, sqlite.Page{Limit: 1000})
	require.NoError(l, err)
	out := make([]string, len(events))
	for n, e := range events {
		out[len(events)-1-n] = e.Kind
	}
	return out
}

// clean requires that nothing is left of what was reserved: every machine is free at the region and here.
func (l *lab) clean() {
	l.Helper()
	for _, id := range l.region.SystemIDs() {
		s := l.region.State(id)
		require.Equal(l, maastest.Ready, s.Status, s.Hostname)
		require.Empty(l, s.Owner, s.Hostname)
	}
	open, err := l.db.OpenDeployments(context.Background())
	require.NoError(l, err)
	require.Empty(l, open)
	reservations, err := l.db.OpenReservations(context.Background())
	require.NoError(l, err)
	require.Empty(l, reservations)
	require.Empty(l, l.guests(), "an agent may act for a machine that is back")
}

// guests are the machines for which an agent that has come may act.
func (l *lab) guests() (machines []string) {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range l.keys {
		machine, err := l.db.Guest(context.Background(), key)
		if err == nil {
			machines = append(machines, machine)
		} else {
			require.Equal(l, cert.NotFound, cert.CodeOf(err))
		}
	}
	return machines
}
