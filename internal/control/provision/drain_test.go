package provision_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
)

// TestFaultReservationEndsWhileControllerIsDown has a holder run something by hand while the controller is down, and their time run out: what the
// agent said last is out of date, so it is waited for, and what it holds is fetched.
func TestFaultReservationEndsWhileControllerIsDown(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]bool{"the agent comes back": true, "the agent stays away": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var away atomic.Pointer[time.Time] // since when the agent cannot be heard
			inLab(t, 1, func(l *lab) {
				r := l.await(l.reserve("node1").ID)
				time.Sleep(110 * time.Minute)
				silent := l.now()
				away.Store(&silent)
				l.kill()
				time.Sleep(time.Hour)
				l.start()
				l.until("its time is over", func() bool { return l.state(r.ID).State == cert.ReservationReleasing })
				time.Sleep(time.Minute)
				require.Contains(l, l.state(r.ID).Blocked, "machine node1 is not released yet: its agent was silent since "+silent.Format(time.RFC3339)+
					", and may hold what it could not tell of; it is waited for until ")
				require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
				if comes {
					run := cert.NewID(cert.RunID, l.now())
					away.Store(nil)
					time.Sleep(30 * time.Second) // it calls, and tells a moment later
					status := order.Status{BootID: "b", Release: "ubuntu@24.04", Kernel: "6.8.0-31-generic", CheckboxVersion: "5.0.0", Undelivered: []string{run}}
					require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
					time.Sleep(2 * time.Hour)
					require.Contains(l, l.state(r.ID).Blocked, "it holds what is not stored, of run "+run)
					require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
					status.Undelivered = nil
					require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
				}
				require.Equal(l, cert.EndedExpired, l.over(r.ID).Ending)
				l.clean()
			}, func(l *lab) {
				l.options = func(o *provision.Options) {
					o.Heard = func(string) time.Time {
						if since := away.Load(); since != nil {
							return *since
						}
						return l.now()
					}
				}
			})
		})
	}
}

// state is a reservation as it is stored.
func (l *lab) state(id string) cert.Reservation {
	l.Helper()
	r, err := l.db.Reservation(l.Context(), id)
	require.NoError(l, err)
	return r
}

// TestFaultAgentSilentBeforeItsRun has an agent fall silent after it was ready and before it has asked for the run that its machine was got for.
func TestFaultAgentSilentBeforeItsRun(t *testing.T) {
	t.Parallel()
	var heard atomic.Pointer[time.Time]
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours, n.Spec = 0, &cert.Spec{Plan: "a::b"} }).ID)
		require.Equal(l, cert.ReservationReady, r.State)
		last := l.now()
		heard.Store(&last)
		r = l.over(r.ID)
		require.Equal(l, cert.EndedLost, r.Ending)
		require.Equal(l, "node1: its agent was ready, and nothing was heard of it for 15m0s since: run "+r.Run+" could not be given to it", r.Failure.Message)
		run, err := l.db.Run(l.Context(), r.Run)
		require.NoError(l, err)
		require.True(l, run.State.Final(), "%s", run.State)
		l.clean()
	}, func(l *lab) {
		l.options = func(o *provision.Options) {
			o.Heard = func(string) time.Time {
				if at := heard.Load(); at != nil {
					return *at
				}
				return l.now()
			}
		}
	})
}

// TestFaultProviderAwayIsSaid asks about a reservation while the provider is away.
func TestFaultProviderAwayIsSaid(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		l.region.Restart(time.Hour, time.Minute)
		time.Sleep(11 * time.Minute) // the next whole list
		r := l.reserve("node1")
		time.Sleep(time.Minute)
		r, err := l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationQueued, r.State)
		require.Contains(l, r.Blocked, "MAAS at http://maas.example:5240/MAAS cannot be reached")
		require.Equal(l, cert.ReservationReady, l.await(r.ID).State)
		r, err = l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Empty(l, r.Blocked)
	})
}

// TestFaultCancelledBeforeItsAgentSpoke cancels a run that was given to the agent, and of which the agent has not spoken yet: it has begun it, and
// what it says of it within a minute is waited for.
func TestFaultCancelledBeforeItsAgentSpoke(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours, n.Spec = 0, &cert.Spec{Plan: "a::b"} }).ID)
		given, err := l.db.HandOutRun(l.Context(), r.Run, sqlite.HandOut{Now: l.now()})
		require.NoError(l, err)
		require.True(l, given)
		_, err = l.fleet().Cancel(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		time.Sleep(30 * time.Second)
		require.Contains(l, l.state(r.ID).Blocked, "it holds what is not stored, of run "+r.Run)
		status := order.Status{BootID: "b", Release: "ubuntu@24.04", Kernel: "6.8.0-31-generic", CheckboxVersion: "5.0.0", Undelivered: []string{r.Run}}
		require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
		time.Sleep(time.Hour)
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
		status.Undelivered = nil
		require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
		l.over(r.ID)
		l.clean()
	})
}
