package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// TestFaultKilledBetweenUnlockAndLock has a machine that somebody uses unlocked, as it is when who switched it dies before it is locked again.
func TestFaultKilledBetweenUnlockAndLock(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		sid := l.sid("node1")
		require.True(l, l.region.State(sid).Locked)
		l.region.Change(sid, func(s *maastest.MachineState) { s.Locked = false })
		l.kill()
		l.start()
		time.Sleep(time.Minute)
		require.False(l, l.region.State(sid).Locked, "who switches it unlocks it for that")
		time.Sleep(10 * time.Minute)
		require.True(l, l.region.State(sid).Locked)
		require.Contains(l, l.kinds("node1"), "locked")
		r, err := l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReady, r.State)
		require.Empty(l, r.Blocked)
		_, err = l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		l.clean()
	})
}
