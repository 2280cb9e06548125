package provision_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

// TestExtendAtTheInstantOfTheEnd extends reservations at the very time at which they end: each is either extended and goes on, or refused and
// over; never extended and released.
func TestExtendAtTheInstantOfTheEnd(t *testing.T) {
	t.Parallel()
	const all = 5
	inLab(t, all, func(l *lab) {
		var ids []string
		for range all {
			ids = append(ids, l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 0.25 }).ID)
		}
		type answer struct {
			r   cert.Reservation
			err error
		}
		answers := make([]chan answer, all)
		for n, id := range ids {
			r := l.await(id)
			answers[n] = make(chan answer, 1)
			go func() {
				time.Sleep(time.Until(*r.Until) + time.Duration(n%3-1)*time.Nanosecond)
				r, err := l.fleet().Extend(l.Context(), id, cert.ExtendReservation{Hours: 0.25}, "ada", cert.Engineer)
				answers[n] <- answer{r, err}
			}()
		}
		extended := 0
		for n, id := range ids {
			a := <-answers[n]
			time.Sleep(time.Minute)
			r, err := l.fleet().Reservation(l.Context(), id)
			require.NoError(l, err)
			if a.err != nil {
				require.EqualError(l, a.err, "cannot extend reservation "+id+": it is over (expired)")
				require.Equal(l, cert.EndedExpired, r.Ending)
				continue
			}
			extended++
			require.Equal(l, cert.ReservationReady, r.State)
			require.Equal(l, 1, r.Extended)
			require.Equal(l, maastest.Deployed, l.region.State(l.sid(r.Hostname)).Status)
			require.True(l, r.Until.After(time.Now()))
		}
		require.Positive(l, extended)
		for _, id := range ids {
			require.Equal(l, cert.EndedExpired, l.over(id).Ending)
		}
		l.clean()
	})
}

// TestFaultOlderBackupRestored restores a backup from before a reservation: its machine is left alone for a day, for an agent may be at work on
// it, and then given back; one that the backup has and that was given back since ends as lost.
func TestFaultOlderBackupRestored(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		before := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 70 }).ID)
		backup := filepath.Join(filepath.Dir(l.path), "backup.db")
		require.NoError(l, l.db.Snapshot(l.Context(), backup))
		after := l.await(l.reserve("node2", func(n *cert.NewReservation) { n.Hours = 70 }).ID)
		_, err := l.fleet().Release(l.Context(), before.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(before.ID)

		l.kill()
		was := l.db
		l.db, err = sqlite.Open(l.Context(), backup)
		require.NoError(l, err)
		require.NoError(l, was.Close())
		l.start()
		before = l.over(before.ID)
		require.Equal(l, cert.EndedLost, before.Ending)
		require.Contains(l, before.Failure.Message, "node1: the machine was taken away: at the provider it is Ready")
		l.until("node2 is found", func() bool { return l.machine("node2").State == cert.MachineDirty })
		m := l.machine("node2")
		require.Equal(l, "this lab holds it at the provider, and no reservation here knows of it (release it by name)", m.Why)
		require.Contains(l, l.kinds("node2"), "orphan")
		_, err = l.fleet().Reservation(l.Context(), after.ID)
		require.Equal(l, cert.NotFound, cert.CodeOf(err))
		time.Sleep(23 * time.Hour)
		waits := l.reserve("node2")
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node2")).Status, "its holder may be at work on it")
		require.Equal(l, cert.ReservationReady, l.await(waits.ID).State, "after a day it is given back, and had again")
		require.Contains(l, l.kinds("node2"), "adopted")
	})
}

// TestFaultAgentHasNotDeliveredYet releases a machine whose agent says that it has results: they are waited for, and the release goes on by itself.
func TestFaultAgentHasNotDeliveredYet(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 0.2 }).ID)
		run := cert.NewID(cert.RunID, l.now())
		status := order.Status{BootID: "b", Release: "ubuntu@24.04", Kernel: "6.8.0-31-generic", CheckboxVersion: "5.0.0", Undelivered: []string{run}}
		require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
		time.Sleep(20 * time.Minute)
		r, err := l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReleasing, r.State)
		require.Equal(l, cert.EndedExpired, r.Ending)
		require.Contains(l, r.Blocked, "machine node1 is not released yet: it holds what is not stored, of run "+run+"; it is released once that is here")
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
		require.NotEmpty(l, l.guests(), "its agent may still deliver")
		status.Undelivered = nil
		require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
		l.over(r.ID)
		require.NotContains(l, l.kinds("node1"), "discarded")
		l.clean()
	})
}

// TestFaultSwitchAway has the lab's switch go away for ten minutes while machines are taken, deployed, booted, in use and released: nobody reaches
// a BMC, and no machine the controller. All of it goes on afterwards.
func TestFaultSwitchAway(t *testing.T) {
	t.Parallel()
	const all = 6
	inLab(t, all, func(l *lab) {
		hours := func(n *cert.NewReservation) { n.Hours = 20 }
		used := l.await(l.reserve("node1", hours).ID)
		given := l.await(l.reserve("node2", hours).ID)
		ids := []string{used.ID}
		for _, name := range []string{"node3", "node4"} {
			ids = append(ids, l.reserve(name, hours).ID)
			time.Sleep(12 * time.Second)
		}
		l.region.Fault("", maastest.Fault{Kind: maastest.RackGone})
		l.mu.Lock()
		l.unplugged = true
		l.mu.Unlock()
		_, err := l.fleet().Release(l.Context(), given.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		for _, name := range []string{"node5", "node6"} {
			ids = append(ids, l.reserve(name, hours).ID)
		}
		time.Sleep(5 * time.Minute)
		blocked, err := l.fleet().Reservation(l.Context(), ids[3])
		require.NoError(l, err)
		require.Contains(l, blocked.Blocked, "No rack controllers can access the BMC of node node5", "%+v", blocked)
		time.Sleep(5 * time.Minute)
		l.region.Clear("")
		l.mu.Lock()
		l.unplugged = false
		l.mu.Unlock()
		for _, id := range ids {
			r := l.await(id)
			require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
			_, err := l.fleet().Release(l.Context(), id, cert.ReleaseReservation{}, "ada", cert.Engineer)
			require.NoError(l, err)
		}
		require.Equal(l, cert.EndedReleased, l.over(given.ID).Ending)
		for _, id := range ids {
			require.Equal(l, cert.EndedReleased, l.over(id).Ending)
		}
		l.clean()
		for _, name := range []string{"node1", "node2", "node3", "node4", "node5", "node6"} {
			require.Nil(l, l.machine(name).Quarantine)
		}
	})
}
