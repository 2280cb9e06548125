package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// TestRunsOnUnitsAreAccounted has a unit's machine run something for two hours of five, and a reserved one serve ada for one: what the lab's time
// was for adds up.
func TestRunsOnUnitsAreAccounted(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		placed, refused, err := l.db.Enrol(l.Context(), []cert.Enrolment{{Unit: "checkbox/0", PublicKey: "key", Identity: cert.Identity{Hostname: "unit0", Architecture: "amd64",
			SystemID: "unit00", ModelUUID: "m"}}}, l.now())
		require.NoError(l, err)
		require.Empty(l, refused)
		machine := placed["key"]
		seen := func() { require.NoError(l, l.db.Seen(l.Context(), map[string]time.Time{machine: l.now()})) }
		pass := func(d time.Duration) {
			for range d / (10 * time.Minute) {
				seen()
				time.Sleep(10 * time.Minute)
			}
			seen()
		}
		seen()
		time.Sleep(2 * time.Minute) // that it is there is noticed
		from := l.now()
		pass(time.Hour)
		run := cert.Run{ID: cert.NewID(cert.RunID, l.now()), Machine: machine, Origin: cert.FromOrder, State: cert.Queued, Created: l.now(), Attempts: []cert.Attempt{}}
		require.NoError(l, l.db.AddRun(l.Context(), run))
		pass(time.Hour) // it waits: the machine is idle
		become := func(state cert.State) {
			_, err := l.db.UpdateRun(l.Context(), run.ID, nil, func(r *cert.Run) (bool, error) {
				now := l.now()
				if r.State = state; state.Final() {
					r.Finished = &now
				}
				return true, nil
			})
			require.NoError(l, err)
		}
		become(cert.Running)
		require.Equal(l, cert.MachineBusy, l.machine("unit0").State)
		r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 1 }).ID)
		ready := l.now()
		l.over(r.ID)
		given := l.now()
		l.kill() // what a machine is for does not depend on who looks
		pass(2*time.Hour - l.now().Sub(from.Add(2*time.Hour)))
		pass(from.Add(4 * time.Hour).Sub(l.now()).Truncate(10 * time.Minute))
		time.Sleep(time.Until(from.Add(4 * time.Hour)))
		seen()
		become(cert.Completed)
		l.start()
		pass(time.Hour)
		to := l.now()
		u, err := l.db.Usage(l.Context(), from, to, to)
		require.NoError(l, err)
		require.InDelta(l, 10, u.Total, 0.02)
		require.InDelta(l, 2, u.Consumers[cert.UseRuns], 0.001, "%+v", u)
		require.InDelta(l, given.Sub(ready).Hours(), u.Holders["ada"], 0.1)
		require.InDelta(l, u.Total, u.Consumers[cert.UseRuns]+u.Consumers[cert.UseManual]+u.Consumers[cert.UseIdle], 0.02, "%+v", u)

		// A unit that is not heard of is no use to anybody.
		time.Sleep(time.Hour)
		u, err = l.db.Usage(l.Context(), to, l.now(), l.now())
		require.NoError(l, err)
		require.InDelta(l, 0.75, u.Consumers[cert.UseBroken], 0.05, "%+v", u)
	})
}

// TestAHolderIsShownOnAMachineThatWasAUnits reserves a machine on which a unit was before.
func TestAHolderIsShownOnAMachineThatWasAUnits(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		id := l.sid("node1")
		_, _, err := l.db.Enrol(l.Context(), []cert.Enrolment{{Unit: "checkbox/0", PublicKey: "key", Identity: cert.Identity{Hostname: "node1", Architecture: "amd64", SystemID: id,
			ProductUUID: l.uuids[id], ModelUUID: "m"}}}, l.now())
		require.NoError(l, err)
		_, err = l.tryReserve("node1")
		require.Error(l, err)
		_, _, err = l.db.Enrol(l.Context(), nil, l.now())
		require.NoError(l, err)
		r := l.await(l.reserve("node1").ID)
		m := l.machine("node1")
		require.Equal(l, cert.OriginJuju, m.Origin)
		require.Equal(l, cert.MachineReserved, m.State)
		require.Equal(l, "ada", m.Holder)
		require.Equal(l, r.ID, m.Reservation)
		all, err := l.fleet().Machines(l.Context())
		require.NoError(l, err)
		require.Equal(l, "ada", all[0].Holder)
		require.Equal(l, maastest.Deployed, l.region.State(id).Status)
	})
}
