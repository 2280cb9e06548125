package bench

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/tests/bench/report"
	"certlab/tests/fleet"
)

// region's machines take so long for what real ones take minutes for.
func regionTimings() maastest.Timings {
	const ms = time.Millisecond
	return maastest.Timings{PowerOn: 50 * ms, PowerOff: 200 * ms, Refusal: 100 * ms, PXE: 200 * ms, Install: 2000 * ms, Boot: 300 * ms, Erase: 200 * ms, Test: 200 * ms}
}

func startFleet(b *testing.B, machines int, limits order.FleetLimits) *fleet.Lab {
	limits.MaxPerPerson = 100_000
	lab, err := fleet.Start(b.Context(), fleet.Options{Program: program(b, "certlabd"), Dir: b.TempDir(), Machines: machines, Racks: 10, Timings: regionTimings(), Limits: limits})
	require.NoError(b, err)
	b.Cleanup(lab.Close)
	return lab
}

// reserveOne asks for a machine and waits until it is ready.
func reserveOne(b *testing.B, lab *fleet.Lab) cert.Reservation {
	r := cert.Reservation{ID: cert.NewID(cert.ReservationID, time.Now())}
	require.NoError(b, lab.Persist(b.Context(), http.MethodPost, "/api/v1/reservations", cert.NewReservation{ID: r.ID, Reason: "benchmark",
		Want: cert.Want{Query: "tags=cert", Hours: 1, Failover: true}}, &r))
	awaitState(b, lab, &r, cert.ReservationReady)
	return r
}

// awaitState waits for a reservation's state, looking often enough not to be measured itself.
func awaitState(b *testing.B, lab *fleet.Lab, r *cert.Reservation, state cert.ReservationState) {
	for deadline := time.Now().Add(10 * time.Minute); r.State != state; {
		require.True(b, time.Now().Before(deadline) && r.State != cert.ReservationEnded, "%s: %s %+v", r.State, r.Blocked, r.Failure)
		time.Sleep(5 * time.Millisecond)
		require.NoError(b, lab.Persist(b.Context(), http.MethodGet, "/api/v1/reservations/"+r.ID, nil, r))
	}
}

// BenchmarkFleetOverhead provisions and releases one machine some times, and takes off what the region took and the poll interval.
func BenchmarkFleetOverhead(b *testing.B) {
	const times = 5
	lab := startFleet(b, 20, order.FleetLimits{})
	t := regionTimings()
	deploying, releasing := t.PowerOn+t.PXE+t.Install, t.PowerOff
	var ready, free []time.Duration
	calls := 0
	for n := range times + 1 {
		lab.Region.ResetCalls()
		began := time.Now()
		started := began
		r := reserveOne(b, lab)
		ready = append(ready, time.Since(started)-deploying)
		started = time.Now()
		require.NoError(b, lab.Persist(b.Context(), http.MethodPost, "/api/v1/reservations/"+r.ID+"/release", cert.ReleaseReservation{}, &r))
		awaitState(b, lab, &r, cert.ReservationEnded)
		free = append(free, time.Since(started)-releasing)
		// What is looked at once per interval for all machines in transition is not one machine's own.
		if n == 0 { // images and hardware are read once
			ready, free = nil, nil
			continue
		}
		calls = max(calls, lab.Region.CallsOf("")-int(time.Since(began).Milliseconds()/pollMilliseconds))
	}
	const goal = 2000 + pollMilliseconds
	report.Add(b, report.Row{Measure: "From request to ready machine, less the region's time", Value: report.Milliseconds(report.Percentile(ready, 100)), Unit: "ms",
		Also: fmt.Sprintf("slowest of %d; the poll interval of %d ms included", times, pollMilliseconds), Goal: report.AtMost(goal)})
	report.Add(b, report.Row{Measure: "From release to free again, less the region's time", Value: report.Milliseconds(report.Percentile(free, 100)), Unit: "ms",
		Also: fmt.Sprintf("slowest of %d; the poll interval of %d ms included", times, pollMilliseconds), Goal: report.AtMost(goal)})
	report.Add(b, report.Row{Measure: "Calls of MAAS for one machine's own provisioning and release", Value: float64(calls), Unit: "calls", Goal: report.AtMost(10)})
}

// pollMilliseconds is how often the controller looks at machines that are in transition.
const pollMilliseconds = 2000

// BenchmarkFleetOfThousand has 200 reservations come at once in a lab of 1,000 machines, and then leaves it alone.
func BenchmarkFleetOfThousand(b *testing.B) {
	const machines, wanted, idle = 1000, 200, 2 * time.Minute
	lab := startFleet(b, machines, order.FleetLimits{MaxDeploying: wanted})
	time.Sleep(time.Minute) // what a start asks for
	lab.Region.ResetCalls()
	time.Sleep(idle)
	report.Add(b, report.Row{Measure: "1,000 machines, idle: calls of MAAS", Value: float64(lab.Region.CallsOf("")) / idle.Minutes(), Unit: "calls per minute", Goal: report.AtMost(1)})
	lab.Region.ResetCalls()
	started := time.Now()
	all := make([]cert.Reservation, wanted)
	var wait sync.WaitGroup
	for n := range all {
		wait.Go(func() { all[n] = reserveOne(b, lab) })
	}
	wait.Wait()
	took := time.Since(started)
	polls := lab.Region.CallsOf("machines.read")
	held := map[string]bool{}
	for _, r := range all {
		require.False(b, held[r.Machine], "machine %s is held twice", r.Machine)
		held[r.Machine] = true
	}
	require.Empty(b, lab.Region.Violations())
	t := regionTimings()
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: until all are ready", Value: took.Seconds(), Unit: "s",
		Against: "one deployment in that region", Baseline: (t.PowerOn + t.PXE + t.Install).Seconds()})
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: lists of machines", Value: float64(polls) / took.Minutes(), Unit: "per minute",
		Also: fmt.Sprintf("%d in all, those that guard a change among them", polls)})
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: calls of MAAS for each", Value: float64(lab.Region.CallsOf("")) / wanted, Unit: "calls",
		Also: "the shared lists among them", Goal: report.AtMost(10)})
	_, peak := lab.Memory()
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: memory of certlabd", Value: report.MiB(peak), Unit: "MiB"})
}
