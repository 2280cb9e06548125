package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// After a restore a machine that this lab takes for a person's may be another's long since. It is not taken from them unseen: the agent that was
// on it says that it still is, or a person does, or a day goes by.
func TestFaultRestoredBeforeTheMachineWasAnothers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hours float64
		end   func(l *lab, r cert.Reservation)
		soon  bool
	}{
		"nobody says anything": {hours: 23, end: func(*lab, cert.Reservation) {}},
		"its agent is heard": {hours: 1, soon: true, end: func(l *lab, r cert.Reservation) {
			require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, order.Status{BootID: "boot", CheckboxVersion: "5.0.0"}))
		}},
		"a person discards it": {hours: 1, soon: true, end: func(l *lab, r cert.Reservation) {
			_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Discard: "node1"}, "ada", cert.Engineer)
			require.NoError(l, err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = c.hours }).ID)
				time.Sleep(time.Minute)
				restored := l.now()
				require.NoError(l, l.db.NewEpoch(l.Context(), "restore", restored))
				time.Sleep(hours(c.hours + 0.5)) // its time is over by then
				r, err := l.db.Reservation(l.Context(), r.ID)
				require.NoError(l, err)
				require.Equal(l, cert.ReservationReleasing, r.State)
				require.Equal(l, "machine node1 is not released yet: this lab went back to an earlier time at "+restored.Format(time.RFC3339)+", and nothing was heard since of the agent that "+
					"was on it then, so it may be somebody else's by now; it is released at "+restored.Add(24*time.Hour).Format(time.RFC3339)+" (to release it before, name the machine: "+
					"certlab machine release "+r.ID+" --discard node1)", r.Blocked)
				require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
				c.end(l, r)
				l.over(r.ID)
				if at := l.now().Sub(restored); c.soon {
					require.Less(l, at, 2*time.Hour)
				} else {
					require.Greater(l, at, 24*time.Hour)
				}
				l.clean()
			})
		})
	}
}

func hours(h float64) time.Duration { return time.Duration(h * float64(time.Hour)) }
