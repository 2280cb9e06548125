package provision_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// settled waits until all that a quarantine asks for at the provider is done, or was said to be impossible.
func (l *lab) settled(name string) *cert.Quarantine {
	l.Helper()
	l.until("the quarantine of "+name+" is settled", func() bool {
		q := l.machine(name).Quarantine
		return q == nil || q.Step == ""
	})
	return l.machine(name).Quarantine
}

// TestQuarantineIsPoolTagAndBroken quarantines a free machine and one that somebody has, and returns both by force.
func TestQuarantineIsPoolTagAndBroken(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		for _, name := range []string{"node1", "node2"} {
			m, err := l.fleet().Quarantine(l.Context(), name, "its fan is loud", "ada")
			require.NoError(l, err)
			require.Equal(l, "its fan is loud", m.Quarantine.Reason)
		}
		time.Sleep(time.Minute)
		require.Equal(l, cert.MachineReserved, l.machine("node1").State, "its holder keeps it")
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		for _, name := range []string{"node1", "node2"} {
			q := l.settled(name)
			require.Equal(l, "default", q.Pool)
			require.Contains(l, strings.Join(q.Provider, "; "), "moved to pool quarantine; tagged certlab-quarantine; marked broken")
			s := l.region.State(l.sid(name))
			require.Equal(l, maastest.Broken, s.Status)
			require.Equal(l, "quarantine", s.Pool)
			require.Contains(l, s.Tags, "certlab-quarantine")
			m := l.machine(name)
			require.Equal(l, cert.MachineQuarantined, m.State)
			require.Equal(l, "its fan is loud", m.Why)
			require.Contains(l, l.kinds(name), "quarantined")
		}
		_, err = l.tryReserve("node1")
		require.EqualError(l, err, "cannot reserve: no machine that matches node1 can be had: node1 is quarantined: its fan is loud")
		time.Sleep(20 * time.Minute)
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{}, "ada")
		require.EqualError(l, err, "cannot return node1 to service: it has passed no check since it was quarantined (run one, or return it by force with a reason)")
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{Force: true}, "ada")
		require.EqualError(l, err, "cannot return node1 to service by force without a reason")
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{Force: true, Reason: "the fan is new"}, "ada")
		require.NoError(l, err)
		l.settled("node1")
		require.Equal(l, "node1", l.await(l.reserve("arch=amd64").ID).Hostname)
		s := l.region.State(l.sid("node1"))
		require.Equal(l, "default", s.Pool)
		require.NotContains(l, s.Tags, "certlab-quarantine")
		require.Contains(l, l.kinds("node1"), "returned")
		require.Equal(l, maastest.Broken, l.region.State(l.sid("node2")).Status)
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{Force: true, Reason: "again"}, "ada")
		require.EqualError(l, err, "cannot return node1 to service: it is not in quarantine")
	})
}

// TestFaultQuarantineWithAnOrdinaryKey has MAAS refuse pool and tag: what it refuses is said, and the lab's own record keeps the machine back.
func TestFaultQuarantineWithAnOrdinaryKey(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		_, err := l.fleet().Quarantine(l.Context(), "node1", "its fan is loud", "ada")
		require.NoError(l, err)
		q := l.settled("node1")
		done := strings.Join(q.Provider, "; ")
		require.Contains(l, done, "pool: not done: ")
		require.Contains(l, done, "tag: not done: ")
		require.Contains(l, done, "administrator")
		require.Contains(l, done, "marked broken")
		time.Sleep(time.Hour)
		m := l.machine("node1")
		require.Equal(l, cert.MachineQuarantined, m.State, "%+v", m)
		require.Equal(l, maastest.Broken, l.region.State(l.sid("node1")).Status)
		// Somebody else's release makes it free at the provider: that is no reason to hand it out.
		l.region.Change(l.sid("node1"), func(s *maastest.MachineState) { s.Status = maastest.Ready })
		time.Sleep(time.Hour)
		require.Equal(l, cert.MachineQuarantined, l.machine("node1").State)
		_, err = l.tryReserve("node1")
		require.ErrorContains(l, err, "node1 is quarantined: its fan is loud")
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{Force: true, Reason: "the fan is new"}, "ada")
		require.NoError(l, err)
		require.Nil(l, l.settled("node1"))
		require.Equal(l, cert.ReservationReady, l.await(l.reserve("node1").ID).State)
	}, func(l *lab) { l.region.SetAdmin("certlab", false) })
}

// TestFaultMachineFailsAgainAndAgain has a machine fail until the policy quarantines it, and a passed check bring it back.
func TestFaultMachineFailsAgainAndAgain(t *testing.T) {
	t.Parallel()
	var version atomic.Value
	inLab(t, 1, func(l *lab) {
		l.listed()
		l.region.Fault(l.sid("node1"), maastest.Fault{Kind: maastest.DeployFails})
		r := l.reserve("node1")
		l.until("the policy quarantines it", func() bool { return l.machine("node1").Quarantine != nil })
		q := l.settled("node1")
		require.True(l, q.Auto)
		require.Contains(l, q.Reason, "deployments in a row failed (quarantine-after is 3), the last one: node1: ")
		require.Equal(l, maastest.Broken, l.region.State(l.sid("node1")).Status)
		require.Contains(l, l.machine("node1").NeedsHands, "look at it: ")
		time.Sleep(time.Minute)
		r, err := l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationQueued, r.State)
		require.Contains(l, r.Blocked, "no machine matches any more: ")
		require.Contains(l, r.Failure.Message, "node1: ")

		l.region.Clear(l.sid("node1"))
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{}, "ada") // begins a check
		require.NoError(l, err)
		l.until("it is back", func() bool { l.checks(); return l.machine("node1").Quarantine == nil })
		require.Contains(l, l.kinds("node1"), "returned")
		require.Equal(l, cert.ReservationReady, l.await(r.ID).State, "who waited gets it")
		require.Equal(l, "default", l.region.State(l.sid("node1")).Pool)
	}, judged(&version))
}

// TestFaultCheckOfAMachineInQuarantineFails has a machine fail the check that was to return it: it is as it was, at MAAS too.
func TestFaultCheckOfAMachineInQuarantineFails(t *testing.T) {
	t.Parallel()
	var version atomic.Value
	inLab(t, 1, func(l *lab) {
		l.listed()
		_, err := l.fleet().Quarantine(l.Context(), "node1", "its fan is loud", "ada")
		require.NoError(l, err)
		l.settled("node1")
		_, err = l.fleet().ReturnToService(l.Context(), "node1", cert.ReturnMachine{}, "ada")
		require.NoError(l, err)
		var r cert.Reservation
		l.until("the check has its machine", func() bool {
			open, err := l.db.OpenReservations(l.Context())
			require.NoError(l, err)
			r = open[0]
			return r.State == cert.ReservationReady
		})
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
		_, err = l.db.UpdateRun(l.Context(), r.Run, nil, func(run *cert.Run) (bool, error) {
			now := l.now()
			run.State, run.Finished, run.Counts = cert.Completed, &now, cert.Counts{"pass": 3, "fail": 1}
			return true, nil
		})
		require.NoError(l, err)
		l.over(r.ID)
		l.until("it is out of use again", func() bool { return l.region.State(l.sid("node1")).Status == maastest.Broken })
		time.Sleep(20 * time.Minute)
		m := l.machine("node1")
		require.Equal(l, cert.MachineQuarantined, m.State)
		require.Equal(l, "its fan is loud", m.Why)
		require.Equal(l, "quarantine", l.region.State(l.sid("node1")).Pool)
		require.Contains(l, l.events("node1", "checked")[0], "failed its check (return): 1 failure of plan ")
		require.NotContains(l, l.kinds("node1"), "returned")
	}, judged(&version))
}
