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
	for deadline := time.Now().Add(10 * time.Minute); r.State != cert.ReservationReady; {
		require.True(b, time.Now().Before(deadline) && r.State != cert.ReservationEnded, "%s: %s %+v", r.State, r.Blocked, r.Failure)
		require.NoError(b, lab.Persist(b.Context(), http.MethodGet, "/api/v1/reservations/"+r.ID+"?wait=30", nil, &r))
	}
	return r
}

// releaseOne gives a machine back and waits until it is free.
func releaseOne(b *testing.B, lab *fleet.Lab, r cert.Reservation, every time.Duration) {
	require.NoError(b, lab.Persist(b.Context(), http.MethodPost, "/api/v1/reservations/"+r.ID+"/release", cert.ReleaseReservation{}, &r))
	for deadline := time.Now().Add(10 * time.Minute); r.State != cert.ReservationEnded; time.Sleep(every) {
		require.True(b, time.Now().Before(deadline), "%s: %s %+v", r.State, r.Blocked, r.Failure)
		require.NoError(b, lab.Persist(b.Context(), http.MethodGet, "/api/v1/reservations/"+r.ID, nil, &r))
	}
}

// systemID is what the region calls a reservation's machine.
func systemID(b *testing.B, lab *fleet.Lab, r cert.Reservation) string {
	var m cert.MachineDetail
	require.NoError(b, lab.Persist(b.Context(), http.MethodGet, "/api/v1/machines/"+r.Machine, nil, &m))
	return m.SystemID
}

// BenchmarkFleetOverhead provisions and releases one machine some times, and takes off what the region took for it, as its log has it.
func BenchmarkFleetOverhead(b *testing.B) {
	const times = 5
	lab := startFleet(b, 20, order.FleetLimits{})
	var ready, free []time.Duration
	for n := range times + 1 {
		began := time.Now()
		r := reserveOne(b, lab)
		took := time.Since(began)
		id := systemID(b, lab, r)
		deploying := lab.Took(id, maastest.Deploying, maastest.Deployed, began)
		released := time.Now()
		releaseOne(b, lab, r, 10*time.Millisecond)
		back := time.Since(released)
		releasing := lab.Took(id, maastest.Releasing, maastest.Ready, released)
		require.Positive(b, deploying)
		require.Positive(b, releasing)
		if n > 0 { // images and hardware are read once
			ready, free = append(ready, took-deploying), append(free, back-releasing)
		}
	}
	const goal = 2000 + pollMilliseconds
	report.Add(b, report.Row{Measure: "From request to ready machine, less the region's time", Value: report.Milliseconds(report.Percentile(ready, 100)), Unit: "ms",
		Also: fmt.Sprintf("slowest of %d; the poll interval of %d ms included", times, pollMilliseconds), Goal: report.AtMost(goal)})
	report.Add(b, report.Row{Measure: "From release to free again, less the region's time", Value: report.Milliseconds(report.Percentile(free, 100)), Unit: "ms",
		Also: fmt.Sprintf("slowest of %d; the poll interval of %d ms included", times, pollMilliseconds), Goal: report.AtMost(goal)})
}

// pollMilliseconds is how often the controller looks at machines that are in transition.
const pollMilliseconds = 2000

// BenchmarkFleetOfThousand has 200 reservations come at once in a lab of 1,000 machines, and all released at once; before, it leaves the lab alone.
func BenchmarkFleetOfThousand(b *testing.B) {
	const machines, wanted, idle = 1000, 200, 2 * time.Minute
	lab := startFleet(b, machines, order.FleetLimits{MaxDeploying: wanted})
	time.Sleep(time.Minute) // what a start asks for
	lab.Region.ResetCalls()
	time.Sleep(idle)
	report.Add(b, report.Row{Measure: "1,000 machines, idle: calls of MAAS", Value: float64(lab.Region.CallsOf("")) / idle.Minutes(), Unit: "calls per minute", Goal: report.AtMost(1)})
	lab.Region.ResetCalls()
	all := make([]cert.Reservation, wanted)
	together := func(fn func(n int)) (took time.Duration, polls int) {
		began, before := time.Now(), lab.SharedPolls()
		var wait sync.WaitGroup
		for n := range all {
			wait.Go(func() { fn(n) })
		}
		wait.Wait()
		return time.Since(began), lab.SharedPolls() - before
	}
	took, polls := together(func(n int) { all[n] = reserveOne(b, lab) })
	held := map[string]bool{}
	for _, r := range all {
		require.False(b, held[r.Machine], "machine %s is held twice", r.Machine)
		held[r.Machine] = true
	}
	back, more := together(func(n int) { releaseOne(b, lab, all[n], time.Second) })
	require.Empty(b, lab.Region.Violations())
	t := regionTimings()
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: until all are ready", Value: took.Seconds(), Unit: "s",
		Against: "one deployment in that region", Baseline: (t.PowerOn + t.PXE + t.Install + t.Boot).Seconds()})
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: until all are free again", Value: back.Seconds(), Unit: "s",
		Against: "one release in that region", Baseline: t.PowerOff.Seconds()})
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: shared polls", Value: float64(polls+more) / (took + back).Minutes(), Unit: "per minute", Goal: report.AtMost(30)})
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: calls for one machine's own provisioning and release", Value: float64(lab.Region.CallsOf("")-polls-more) / wanted,
		Unit: "calls", Goal: report.AtMost(10)})
	_, peak := lab.Memory()
	report.Add(b, report.Row{Measure: "1,000 machines, 200 reservations at once: memory of certlabd", Value: report.MiB(peak), Unit: "MiB"})
}
