package provision_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// How much is asked of MAAS does not depend on how many machines there are.
func TestManyMachinesFewCalls(t *testing.T) {
	t.Parallel()
	const machines, wanted = 60, 12
	inLab(t, 0, func(l *lab) {
		l.listed()
		time.Sleep(5 * time.Minute)
		l.region.ResetCalls()
		time.Sleep(time.Hour)
		require.LessOrEqual(l, l.region.CallsOf(""), 60, "calls in an idle hour")

		l.region.ResetCalls()
		began := time.Now()
		var ids []string
		for range wanted {
			ids = append(ids, l.reserve("arch=amd64").ID)
		}
		held := map[string]bool{}
		for _, id := range ids {
			r := l.await(id)
			require.Equal(l, cert.ReservationReady, r.State)
			require.False(l, held[r.Machine])
			held[r.Machine] = true
			_, err := l.fleet().Release(l.Context(), id, cert.ReleaseReservation{}, "ada", cert.Engineer)
			require.NoError(l, err)
		}
		for _, id := range ids {
			l.over(id)
		}
		shared := int(time.Since(began)/(2*time.Second)) + 2
		require.LessOrEqual(l, l.region.CallsOf(""), shared+10*wanted+20)
		l.clean()
	}, func(l *lab) {
		l.conf.Limits.MaxPerPerson = wanted
		for n := range machines {
			l.add(maastest.Machine{Hostname: fmt.Sprintf("node%d", n+1)})
		}
	})
}
