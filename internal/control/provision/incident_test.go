package provision_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/control/trust"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

// judged has the lab's failures judged by a Trust, whose version of the provider is what version points to.
func judged(version *atomic.Value) func(*lab) {
	return func(l *lab) {
		judge := trust.New(trust.Options{DB: l.db, Logger: slog.New(slog.DiscardHandler), Now: l.now, Config: func() order.Fleet { return l.conf },
			Fleet: func() trust.Fleet { return l.fleet() },
			About: func(context.Context) (cert.About, bool) {
				v, _ := version.Load().(string)
				return cert.About{Version: v}, v != ""
			}})
		l.options = func(o *provision.Options) { o.Gate, o.Observer, o.Checker = judge, judge, judge }
		ctx, cancel := context.WithCancel(context.Background())
		l.Cleanup(cancel)
		l.also = append(l.also, func() {
			if err := judge.Load(ctx); err == nil {
				l.lives.Go(func() { _ = judge.Loop(ctx) })
			}
		})
		l.ends = append(l.ends, cancel)
	}
}

// checks ends the runs of checks that are ready, well.
func (l *lab) checks() {
	open, err := l.db.OpenReservations(l.Context())
	require.NoError(l, err)
	for _, r := range open {
		if r.Kind != cert.ReserveCheck || r.State != cert.ReservationReady {
			continue
		}
		_, err := l.db.UpdateRun(l.Context(), r.Run, nil, func(run *cert.Run) (bool, error) {
			now := l.now()
			run.State, run.Finished, run.Counts = cert.Completed, &now, cert.Counts{"pass": 3}
			return true, nil
		})
		require.NoError(l, err)
	}
}

// TestFaultZoneDoesNotBoot has nothing boot in a zone for a while: that is one incident, of which reservations are told; nobody is quarantined, and
// when what is tried first goes well, all that wait get their machines there.
func TestFaultZoneDoesNotBoot(t *testing.T) {
	t.Parallel()
	var version atomic.Value
	inLab(t, 0, func(l *lab) {
		var ids []string
		for range 6 {
			ids = append(ids, l.reserve("zone=z1", func(n *cert.NewReservation) { n.Hours = 20 }).ID)
		}
		l.until("there is an incident", func() bool {
			open, err := l.db.OpenIncidents(l.Context())
			require.NoError(l, err)
			return len(open) > 0
		})
		l.until("what was under way has failed too", func() bool {
			open, err := l.db.OpenReservations(l.Context())
			require.NoError(l, err)
			for _, r := range open {
				if r.State != cert.ReservationQueued || r.Blocked == "" {
					return false
				}
			}
			return true
		})
		open, err := l.db.OpenIncidents(l.Context())
		require.NoError(l, err)
		require.Len(l, open, 1)
		require.Equal(l, "zone z1 boot", open[0].Scope+" "+open[0].Name+" "+open[0].Failure)
		for _, id := range ids {
			r, err := l.db.Reservation(l.Context(), id)
			require.NoError(l, err)
			require.Contains(l, r.Blocked, "nothing new begins in zone z1 until one that is tried goes well")
			require.Zero(l, r.Tries, "none of them counts")
		}
		require.Equal(l, cert.ReservationReady, l.await(l.reserve("far").ID).State, "elsewhere all goes on")
		l.region.Clear("zone:z1")
		l.until("all have their machines", func() bool {
			l.checks()
			for _, id := range ids {
				if r, err := l.db.Reservation(l.Context(), id); err != nil || r.State != cert.ReservationReady {
					return false
				}
			}
			return true
		})
		all, _, err := l.db.Incidents(l.Context(), false, page)
		require.NoError(l, err)
		require.Len(l, all, 1)
		require.NotNil(l, all[0].Closed)
		events, _, err := l.db.MachineEvents(l.Context(), sqlite.EventFilter{Kind: "quarantined"}, page)
		require.NoError(l, err)
		require.Empty(l, events)
		past, err := l.db.Deployments(l.Context(), sqlite.DeploymentFilter{}, 100)
		require.NoError(l, err)
		for _, d := range past {
			require.Equal(l, d.Failure != nil, d.Suspect != "", "%+v", d)
		}
	}, func(l *lab) {
		l.conf.Limits.BootMinutes = 2
		for n := range 9 {
			l.add(maastest.Machine{Hostname: fmt.Sprintf("node%d", n+1), Zone: "z1"})
		}
		l.add(maastest.Machine{Hostname: "far", Zone: "z2"})
		l.region.Fault("zone:z1", maastest.Fault{Kind: maastest.NeverBoots})
	}, judged(&version))
}

// TestFaultNewVersionOfMAAS has MAAS be upgraded: one machine is deployed first, and people wait for it and are told.
func TestFaultNewVersionOfMAAS(t *testing.T) {
	t.Parallel()
	var version atomic.Value
	version.Store("3.4.1")
	inLab(t, 3, func(l *lab) {
		time.Sleep(time.Minute)
		version.Store("3.5.0")
		time.Sleep(time.Minute)
		id := l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 20 }).ID
		time.Sleep(time.Minute)
		r, err := l.db.Reservation(l.Context(), id)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationQueued, r.State)
		require.Contains(l, r.Blocked, "the provider has changed from version 3.4.1 to 3.5.0: node")
		l.until("it is ready", func() bool {
			l.checks()
			r, err := l.db.Reservation(l.Context(), id)
			return err == nil && r.State == cert.ReservationReady
		})
	}, judged(&version))
}
