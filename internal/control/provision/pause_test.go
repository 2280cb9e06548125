package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// TestPausesKeepNewWorkAway pauses parts of a lab one after the other: who has a machine there is told and keeps it, who wants one waits, and
// gets it when that part is resumed.
func TestPausesKeepNewWorkAway(t *testing.T) {
	t.Parallel()
	inLab(t, 0, func(l *lab) {
		held := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 70 }).ID)
		for _, name := range []string{"node1", "node2"} {
			_, err := l.db.PutDossier(l.Context(), cert.Dossier{Machine: l.machine(name).ID, Rack: "r7"}, "root", l.now())
			require.NoError(l, err)
		}
		for n, pause := range []cert.NewPause{{Scope: "zone", Name: "z1"}, {Scope: "pool", Name: "p1"}, {Scope: "rack", Name: "r7"}, {Scope: "lab"}} {
			pause.Reason = "a new switch"
			_, err := l.fleet().Pause(l.Context(), pause, "root")
			require.NoError(l, err)
			name := pause.Scope
			if pause.Name != "" {
				name += " " + pause.Name
			}
			waits := l.reserve("node2")
			time.Sleep(10 * time.Minute)
			waits, err = l.fleet().Reservation(l.Context(), waits.ID)
			require.NoError(l, err)
			require.Equal(l, cert.ReservationQueued, waits.State)
			require.Equal(l, "all machines that match are paused ("+name+": a new switch)", waits.Blocked)
			require.Equal(l, pause.Reason, l.machine("node2").Paused.Reason)
			if pause.Scope != "lab" {
				far := l.await(l.reserve("far").ID)
				require.Equal(l, cert.ReservationReady, far.State, "elsewhere all goes on")
				_, err = l.fleet().Release(l.Context(), far.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
				require.NoError(l, err)
				l.over(far.ID)
			}
			still, err := l.fleet().Reservation(l.Context(), held.ID)
			require.NoError(l, err)
			require.Equal(l, cert.ReservationReady, still.State, "what is under way goes on")
			notices, _, err := l.db.Notices(l.Context(), page)
			require.NoError(l, err)
			require.Len(l, notices, n+1)
			require.Equal(l, held.ID, notices[0].Reservation)
			require.Equal(l, "ada", notices[0].Person)
			require.Equal(l, name+" is paused: a new switch; the reservation of node1 goes on until it ends", notices[0].Text)

			require.NoError(l, l.fleet().Resume(l.Context(), pause.Scope, pause.Name, "root"))
			require.Equal(l, cert.ReservationReady, l.await(waits.ID).State)
			_, err = l.fleet().Release(l.Context(), waits.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
			require.NoError(l, err)
			l.over(waits.ID)
		}
		_, err := l.fleet().Pause(l.Context(), cert.NewPause{Scope: "zone", Name: "z9", Reason: "x"}, "root")
		require.EqualError(l, err, `cannot pause zone "z9": no machine is in it`)
		require.EqualError(l, l.fleet().Resume(l.Context(), "zone", "z1", "root"), `cannot resume zone "z1": it is not paused`)

		// A machine that is being made ready is made ready, and released at its end, in a paused lab too.
		late := l.reserve("node2", func(n *cert.NewReservation) { n.Hours = 1 })
		time.Sleep(10 * time.Second)
		_, err = l.fleet().Pause(l.Context(), cert.NewPause{Scope: "lab", Reason: "a new switch"}, "root")
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReady, l.await(late.ID).State)
		require.Equal(l, cert.EndedExpired, l.over(late.ID).Ending)
		require.Contains(l, l.kinds("node2"), "paused")
		require.Empty(l, l.region.State(l.sid("node2")).Owner)
	}, func(l *lab) {
		for _, name := range []string{"node1", "node2"} {
			l.add(maastest.Machine{Hostname: name, Zone: "z1", Pool: "p1"})
		}
		l.add(maastest.Machine{Hostname: "far", Zone: "z2"})
	})
}
