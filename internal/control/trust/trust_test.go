package trust_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/trust"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// A bench is a Trust with an engine that does what it is told, and no provider.
type bench struct {
	t        *testing.T
	path     string
	now      time.Time
	db       *sqlite.DB
	trust    *trust.Trust
	conf     order.Fleet
	version  string
	suspects map[string]string // deployment → incident, as the engine was told
	busy     map[string]bool
	calls    []string
}

var begin = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func newBench(t *testing.T) *bench {
	path := filepath.Join(t.TempDir(), "lab.db")
	require.NoError(t, os.WriteFile(path, empty(), 0o600))
	b := &bench{t: t, path: path, now: begin, suspects: map[string]string{}, busy: map[string]bool{}}
	b.start()
	t.Cleanup(func() { b.db.Close() })
	return b
}

func (b *bench) ctx() context.Context { return b.t.Context() }

// start opens the data, as a service that starts.
func (b *bench) start() {
	var err error
	b.db, err = sqlite.Open(context.Background(), b.path)
	require.NoError(b.t, err)
	b.trust = trust.New(trust.Options{DB: b.db, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return b.now },
		Config: func() order.Fleet { return b.conf }, Fleet: func() trust.Fleet { return b },
		About: func(context.Context) (cert.About, bool) { return cert.About{Version: b.version}, b.version != "" }})
	require.NoError(b.t, b.trust.Load(context.Background()))
}

func (b *bench) kill() {
	b.db.Close()
	b.start()
}

// add adds machines of a zone.
func (b *bench) add(zone string, names ...string) []string {
	var ids []string
	for _, name := range names {
		m := cert.Machine{ID: cert.NewID(cert.MachineID, b.now), Key: "maas:" + name, Origin: "maas", Hostname: name, SystemID: name, Created: b.now}
		require.NoError(b.t, b.db.AddMachine(b.ctx(), m))
		require.NoError(b.t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
			return tx.PutMachine(sqlite.FleetRow{Machine: m, Provider: "maas", Provided: &cert.Provided{ID: name, Zone: zone, Status: cert.StatusFree}, Read: b.now, Checked: &b.now, Passed: true})
		}))
		ids = append(ids, m.ID)
	}
	return ids
}

func (b *bench) row(machine string) sqlite.FleetRow {
	r, err := b.db.FleetRow(b.ctx(), machine)
	require.NoError(b.t, err)
	return r
}

func (b *bench) edit(machine string, change func(*sqlite.FleetRow)) error {
	return b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
		r, err := tx.Machine(machine)
		if err != nil {
			return err
		}
		change(&r)
		return tx.PutMachine(r)
	})
}

// deploy has a deployment of a machine end, with a failure or well, as the engine does: it tells of it, and counts the failure then.
func (b *bench) deploy(machine, failure string) (incident string) {
	b.now = b.now.Add(time.Second)
	row := b.row(machine)
	r := cert.Reservation{ID: cert.NewID(cert.ReservationID, b.now), Kind: cert.ReserveManual, State: cert.ReservationEnded, Created: b.now}
	d := cert.Deployment{ID: cert.NewID(cert.DeploymentID, b.now), Reservation: r.ID, Machine: machine, Phase: cert.PhaseReady, Started: b.now, Since: b.now, Release: "noble"}
	if failure == "" {
		d.Phases = []cert.PhaseTime{{Phase: cert.PhaseEnrol, Started: b.now, Seconds: 1}}
	} else {
		d.Phase, d.Failure = cert.PhaseRelease, &cert.Failure{Type: failure, Message: row.Machine.Hostname + ": it did not boot"}
	}
	put := func(first bool) {
		require.NoError(b.t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
			if first {
				if err := tx.AddReservation(r); err != nil {
					return err
				}
				return tx.AddDeployment(d)
			}
			d.Phase, d.Finished = cert.PhaseOver, &b.now
			return tx.PutDeployment(d)
		}))
	}
	put(true)
	d.Suspect = b.trust.Over(b.ctx(), d, cert.Place{Machine: machine, Hostname: row.Machine.Hostname, Zone: row.Provided.Zone, Release: d.Release})
	require.NoError(b.t, b.edit(machine, func(r *sqlite.FleetRow) {
		switch {
		case failure == "":
			r.Failures = 0
		case d.Suspect == "":
			r.Failures++
		}
	}))
	put(false)
	return d.Suspect
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(min(max(time.Minute, d/12), end.Sub(b.now)))
		require.NoError(b.t, b.trust.Turn(b.ctx()))
	}
}

func (b *bench) place(machine string) cert.Place {
	r := b.row(machine)
	return cert.Place{Machine: machine, Hostname: r.Machine.Hostname, Zone: r.Provided.Zone}
}

func (b *bench) incidents() []cert.Incident {
	all, _, err := b.db.Incidents(b.ctx(), false, sqlite.Page{Limit: 100})
	require.NoError(b.t, err)
	return all
}

func (b *bench) notices() (kinds []string) {
	all, _, err := b.db.Notices(b.ctx(), sqlite.Page{Limit: 100})
	require.NoError(b.t, err)
	for n := range all {
		kinds = append(kinds, all[len(all)-1-n].Kind)
	}
	return kinds
}

func (b *bench) log(machine, kind string) (texts []string) {
	all, _, err := b.db.MachineEvents(b.ctx(), sqlite.EventFilter{Machine: machine, Kind: kind}, sqlite.Page{Limit: 100})
	require.NoError(b.t, err)
	for n := range all {
		texts = append(texts, all[len(all)-1-n].Text)
	}
	return texts
}

// The engine, as Trust sees it.

func (b *bench) Check(ctx context.Context, req cert.CheckRequest) (cert.Reservation, error) {
	if b.busy[req.Machine] {
		return cert.Reservation{}, cert.Errorf(cert.Conflict, "it is busy")
	}
	r := cert.Reservation{ID: req.ID, Kind: cert.ReserveCheck, State: cert.ReservationReady, Holder: "certlab", Machine: req.Machine, Reason: req.Reason,
		Created: b.now, Run: cert.NewID(cert.RunID, b.now), Want: cert.Want{Quarantined: req.Quarantined}}
	b.busy[req.Machine] = true
	b.calls = append(b.calls, "check "+b.row(req.Machine).Machine.Hostname)
	return r, b.db.ChangeFleet(ctx, func(tx *sqlite.FleetTx) error { return tx.AddReservation(r) })
}

// checked ends all checks: with counts, or a failure of their deployment.
func (b *bench) checked(counts cert.Counts, failure string) {
	open, err := b.db.OpenReservations(b.ctx())
	require.NoError(b.t, err)
	for _, r := range open {
		if r.Kind != cert.ReserveCheck {
			continue
		}
		delete(b.busy, r.Machine)
		r.State, r.Ending, r.Released = cert.ReservationEnded, cert.EndedReleased, &b.now
		if failure != "" {
			r.Ending, r.Failure = cert.EndedFailed, &cert.Failure{Type: cert.FailBoot, Message: failure}
		} else {
			run := cert.Run{ID: r.Run, Machine: r.Machine, Origin: cert.FromOrder, Spec: cert.Spec{Plan: cert.CheckPlan}, State: cert.Completed, Created: b.now, Finished: &b.now, Counts: counts}
			require.NoError(b.t, b.db.AddRun(b.ctx(), run))
		}
		require.NoError(b.t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error { return tx.PutReservation(r) }))
	}
}

func (b *bench) QuarantineAs(_ context.Context, machine string, q cert.Quarantine) error {
	q.Since = b.now
	b.calls = append(b.calls, "quarantine "+b.row(machine).Machine.Hostname)
	return b.edit(machine, func(r *sqlite.FleetRow) { r.Quarantine = &q })
}

func (b *bench) Return(ctx context.Context, machine, by, reason string) error {
	b.calls = append(b.calls, "return "+b.row(machine).Machine.Hostname)
	if err := b.db.AddMachineEvent(ctx, cert.MachineEvent{Machine: machine, At: b.now, Kind: "returned", Who: by, Text: reason}); err != nil {
		return err
	}
	return b.edit(machine, func(r *sqlite.FleetRow) { r.Quarantine, r.Failures = nil, 0 })
}

func (b *bench) Suspect(_ context.Context, incident string, deployments []string) error {
	for _, d := range deployments {
		b.suspects[d] = incident
	}
	return nil
}

func (b *bench) Cancel(_ context.Context, id string, _ cert.ReleaseReservation, _ string, _ cert.Role) (cert.Reservation, error) {
	b.calls = append(b.calls, "cancel")
	return cert.Reservation{ID: id}, nil
}

func (b *bench) Machines(ctx context.Context) ([]cert.FleetMachine, error) {
	rows, err := b.db.FleetRows(ctx)
	var out []cert.FleetMachine
	for _, r := range rows {
		m := cert.FleetMachine{Machine: r.Machine, State: cert.MachineFree, Zone: r.Provided.Zone}
		switch {
		case r.Quarantine != nil:
			m.State = cert.MachineQuarantined
		case b.busy[r.Machine.ID]:
			m.State = cert.MachineBusy
		}
		out = append(out, m)
	}
	return out, err
}

func names(prefix string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i+1))
	}
	return out
}

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
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
