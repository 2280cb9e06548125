package provision_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/provider/maas/maastest"
)

// Runs that a machine takes with it when it goes back are over: the next holder's agent is not given them.
func TestFaultRunsOfTheHolderBefore(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		queued, running := cert.NewID(cert.RunID, l.now()), cert.NewID(cert.RunID, l.now())
		for id, state := range map[string]cert.State{queued: cert.Queued, running: cert.Running} {
			require.NoError(l, l.db.AddRun(l.Context(), cert.Run{ID: id, Machine: r.Machine, Origin: cert.FromOrder, RequestedBy: "ada", State: state, Created: l.now(),
				Spec: cert.Spec{Plan: "a::b"}, Attempts: []cert.Attempt{}}))
		}
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Discard: "node1"}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		for _, id := range []string{queued, running} {
			run, err := l.db.Run(l.Context(), id)
			require.NoError(l, err)
			require.Equal(l, cert.Failed, run.State)
			require.Equal(l, cert.FailMachineLost, run.Failure.Type)
			require.Equal(l, "its machine, node1, was given back before it was over (reserve one, and run it again)", run.Failure.Message)
		}

		next, err := l.fleet().Reserve(l.Context(), cert.NewReservation{Reason: "another bug", Want: cert.Want{Query: "node1"}}, "bob", cert.Engineer)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReady, l.await(next.ID).State)
		orders, _, err := l.db.OpenRuns(l.Context(), r.Machine, 10)
		require.NoError(l, err)
		require.Empty(l, orders)
	})
}

// Who ends a reservation again that is over changes nothing of what the next holder of its machine has.
func TestReleasedAgainWhileAnotherHasTheMachine(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		next, err := l.fleet().Reserve(l.Context(), cert.NewReservation{Reason: "another bug", Want: cert.Want{Query: "node1", Hours: 20}}, "bob", cert.Engineer)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReady, l.await(next.ID).State)
		from := l.now()
		r, err = l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Discard: "node1"}, "ada", cert.Engineer)
		require.NoError(l, err)
		require.Empty(l, r.Discard, "what is over is not changed")
		time.Sleep(10 * time.Hour)
		usage, err := l.db.Usage(l.Context(), from, l.now(), l.now())
		require.NoError(l, err)
		require.InDelta(l, 10, usage.Holders["bob"], 0.01, "%+v", usage)
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
	})
}

// Two machines may have one hostname, in two domains of MAAS's. A name that two have stands for neither.
func TestFaultTwoMachinesOfOneName(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		other := l.add(maastest.Machine{Hostname: "node1"})
		l.listed()
		l.until("both are known", func() bool {
			all, err := l.fleet().Machines(l.Context())
			require.NoError(l, err)
			return len(all) == 3
		})
		one, err := l.db.Machine(l.Context(), l.region.SystemIDs()[0])
		require.NoError(l, err)
		two, err := l.db.Machine(l.Context(), other)
		require.NoError(l, err)
		_, err = l.tryReserve("node1")
		require.Equal(l, cert.Conflict, cert.CodeOf(err))
		require.ErrorContains(l, err, "cannot reserve node1: several machines are called that: name one by its id (")
		require.ErrorContains(l, err, one.ID)
		require.ErrorContains(l, err, two.ID)
		require.Equal(l, two.ID, l.await(l.reserve(two.ID).ID).Machine)
		require.Equal(l, one.ID, l.await(l.reserve(one.SystemID).ID).Machine)

		// The second one of a name may come while somebody waits for the first.
		l.await(l.reserve("node2", func(n *cert.NewReservation) { n.Hours = 20 }).ID)
		waits := l.reserve("node2")
		l.add(maastest.Machine{Hostname: "node2"})
		time.Sleep(time.Hour)
		waits, err = l.fleet().Reservation(l.Context(), waits.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationQueued, waits.State)
		require.Contains(l, waits.Blocked, "several machines are called that: name one by its id (")
	})
}

// Keys that no user-data can hold are refused when they are given: later they would look like a failure of the release.
func TestFaultTooManyKeys(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		_, err := l.tryReserve("node1", func(n *cert.NewReservation) { n.Keys = []string{"ssh-ed25519 AAAA ada", "ssh-ed25519 BBBB ada"} })
		require.EqualError(l, err, "cannot reserve with these keys: it has 20000 bytes and may have 16384")
		require.Equal(l, cert.Invalid, cert.CodeOf(err))
		open, err := l.db.OpenReservations(l.Context())
		require.NoError(l, err)
		require.Empty(l, open)
		require.Equal(l, cert.ReservationReady, l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Keys = []string{"ssh-ed25519 AAAA ada"} }).ID).State)
	}, func(l *lab) {
		l.options = func(o *provision.Options) {
			script := o.Script
			o.Script = func(s provision.Script) ([]byte, error) {
				if len(s.Keys) > 1 {
					return nil, errors.New("it has 20000 bytes and may have 16384")
				}
				return script(s)
			}
		}
	})
}

// A machine that was got for a run and is kept is one of those that its holder may have.
func TestFaultKeptBeyondTheLimit(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		l.await(l.reserve("node1").ID)
		r := l.await(l.reserve("node2", func(n *cert.NewReservation) { n.Hours, n.Spec = 0, &cert.Spec{Plan: "a::b"} }).ID)
		_, err := l.fleet().Cancel(l.Context(), r.ID, cert.ReleaseReservation{Keep: 5}, "ada", cert.Engineer)
		require.EqualError(l, err, "cannot reserve: ada has or waits for 1 machines, and that is as many as one person may have (release one)")
		r, err = l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReserveRun, r.Kind)
		require.Equal(l, cert.ReservationReady, r.State)
	}, func(l *lab) { l.conf.Limits.MaxPerPerson = 1 })
}
