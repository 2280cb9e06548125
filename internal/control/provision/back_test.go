package provision_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// TestFaultTakenUpRightAfterItsRelease has an administrator examine a machine before anybody has looked whether it is back. It is: the ladder is
// not for that, and neither is a quarantine.
func TestFaultTakenUpRightAfterItsRelease(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]maastest.Status{"commissioned": maastest.Commissioning, "tested": maastest.Testing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				r := l.await(l.reserve("node1").ID)
				sid := l.sid("node1")
				l.region.Fault(sid, maastest.Fault{Kind: maastest.ReleaseHangs, Times: 1})
				_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
				require.NoError(l, err)
				l.until("it is being released", func() bool { return l.region.State(sid).Status == maastest.Releasing })
				l.region.Change(sid, func(s *maastest.MachineState) {
					s.Status, s.Owner, s.AgentName, s.OwnerData, s.Locked = status, "", "", nil, false
				})
				require.Equal(l, cert.EndedReleased, l.over(r.ID).Ending)
				require.NotContains(l, l.kinds("node1"), "recovering")
				m := l.machine("node1")
				require.Nil(l, m.Quarantine)
				require.Nil(l, m.Deployments[0].Failure)
				require.Equal(l, status, l.region.State(sid).Status)
			})
		})
	}
}

// TestFaultProviderTakenAway takes the controller's credentials away while it deploys, and gives them back hours later: no deadline has run out.
func TestFaultProviderTakenAway(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.reserve("node1", func(n *cert.NewReservation) { n.MaxTries = 1 })
		time.Sleep(10 * time.Second)
		l.fleet().Apply(nil, l.conf)
		l.unplug(true) // no first word tells that it is further than was seen
		time.Sleep(30 * time.Minute)
		l.unplug(false)
		v := l.fleet()
		v.Apply(mortal{l.maas, l, v}, l.conf)
		r = l.await(r.ID)
		require.Equal(l, cert.ReservationReady, r.State, "%+v", r.Failure)
		require.Equal(l, 1, r.Tries)
	}, func(l *lab) { l.conf.Limits.DeployMinutes = 10 })
}

// TestFaultNothingToKeep fails to take a machine for somebody who wants to look at machines that fail: there is nothing to see, and it goes on.
func TestFaultNothingToKeep(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		l.region.Fault("", maastest.Fault{Kind: maastest.Answers, Status: http.StatusInternalServerError, Op: "machines.allocate"})
		r := l.reserve("node1", func(n *cert.NewReservation) { n.KeepOnFailureHours = 5 })
		time.Sleep(15 * time.Minute)
		l.region.Clear("")
		r = l.await(r.ID)
		require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
		require.Nil(l, r.KeepUntil)
		require.NotContains(l, l.kinds("node1"), "kept")
		d := l.machine("node1").Deployments
		require.Len(l, d, 2)
		require.Equal(l, cert.FailProvider, d[1].Failure.Type)
		require.Contains(l, d[1].Failure.Message, "node1: the machine could not be taken: ")
	})
}

// TestReserveAgainAfterALostAnswer repeats a request with its id: what is there is answered, whatever has become of the provider meanwhile.
func TestReserveAgainAfterALostAnswer(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		until := l.now().Add(3 * time.Hour).In(time.FixedZone("", 7200))
		ask := func(in *cert.NewReservation) {
			in.ID, in.Hours, in.Until, in.Keys, in.Prepare = "v00000000000000000000000001", 0, &until, []string{}, []string{}
		}
		r := l.reserve("node1", ask)
		require.Equal(l, r.ID, l.reserve("node1", ask).ID)
		_, err := l.tryReserve("node1", ask, func(in *cert.NewReservation) { in.Reason = "another" })
		require.EqualError(l, err, "cannot reserve: reservation "+r.ID+" is there already, and asks for something else")
		l.fleet().Apply(nil, l.conf)
		require.Equal(l, r.ID, l.reserve("node1", ask).ID)
		open, err := l.db.OpenReservations(l.Context())
		require.NoError(l, err)
		require.Len(l, open, 1)
	})
}

// unplug has no machine reach the controller, or again.
func (l *lab) unplug(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unplugged = away
}
