package campaign_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// dieAt kills the engine at each point that at holds for, by their number from 1, and starts it again after some time. It returns a function that tells
// how many points there were.
func (l *lab) dieAt(at func(n int) bool, pause time.Duration) func() int {
	points := 0
	l.cut = func(string) {
		v := l.engine()
		l.mu.Lock()
		points++
		hit := at(points) && !v.dead.Load() && !l.closing
		l.mu.Unlock()
		if !hit || v.dead.Swap(true) {
			return
		}
		v.cancel()
		l.restarts.Go(func() {
			l.done.Wait()
			time.Sleep(pause)
			l.start()
		})
	}
	return func() int { l.mu.Lock(); defer l.mu.Unlock(); return points }
}

// stubborn does something again until the engine has taken it.
func (l *lab) stubborn(fn func() error) {
	l.Helper()
	l.until("the engine takes a request", func() bool {
		v := l.engine()
		return !v.dead.Load() && fn() == nil && !v.dead.Load()
	})
}

// troubled is a lab in which a machine fails to be deployed and another does not boot the subject at first.
func troubled(l *lab) {
	for _, name := range []string{"node1", "node2", "node3", "spare"} {
		l.add(name)
	}
	l.add("unit1", unit)
	l.deploys = func(machine string, nth int) *cert.Failure {
		if machine == "node2" {
			return &cert.Failure{Type: cert.FailDeploy, Message: "the provider says: failed"}
		}
		return nil
	}
	l.does = func(machine string, spec cert.Spec, nth int) outcome {
		if machine == "node3" && nth == 1 {
			return outcome{failure: &cert.Failure{Type: order.FailKernelBoot, Message: "it panicked"}}
		}
		return outcome{}
	}
}

// sru runs a campaign over the troubled lab, has a machine run again, and requires that nothing was lost or done twice, whatever happens meanwhile.
func (l *lab) sru() {
	id := cert.NewID(cert.CampaignID, l.now())
	want := l.request(func(c *cert.NewCampaign) { c.ID = id; c.Machines.Except = []string{"spare"} })
	l.stubborn(func() error {
		_, _, err := l.engine().StartCampaign(context.Background(), want, "ada", cert.Engineer)
		return err
	})
	l.over(id)
	request := cert.NewID(cert.TargetID, l.now())
	l.stubborn(func() error {
		_, err := l.engine().RetryTargets(context.Background(), id, cert.RetryTargets{ID: request, Machines: []string{"node1"}, Reason: "once more"}, "ada", cert.Engineer)
		return err
	})
	l.over(id)
	l.until("the engine is back", func() bool { return !l.engine().dead.Load() })
	want2 := map[string][]string{"node1": {cert.TryFirst, cert.TryRerun}, "node2": {cert.TryFirst, cert.TryFailover}, "node3": {cert.TryFirst, cert.TryKernel}, "unit1": {cert.TryFirst}}
	tries := map[string]bool{}
	for host, purpose := range want2 {
		g := l.target(id, host)
		require.Equal(l, cert.TargetDone, g.State, "%s: %s", host, g.Why)
		require.Equal(l, purpose, purposes(g), host)
		for _, t := range g.Tries {
			tries[t.Run] = true
			require.NotNil(l, t.Ended)
		}
	}
	runs, _, err := l.db.Runs(context.Background(), sqlite.RunFilter{}, sqlite.Page{Limit: 1000})
	require.NoError(l, err)
	require.Len(l, runs, 6, "one for each try but that whose machine was not deployed")
	for _, r := range runs {
		require.True(l, tries[r.ID], "run %s on %s is no try's", r.ID, r.Hostname)
		require.Equal(l, 1, l.begun[r.ID])
	}
	held, _, err := l.db.Reservations(context.Background(), sqlite.ReservationFilter{}, sqlite.Page{Limit: 1000})
	require.NoError(l, err)
	require.Len(l, held, 6)
	for _, r := range held {
		require.True(l, tries[r.Run], "reservation %s is no try's", r.ID)
	}
	require.Equal(l, "spare", l.target(id, "node2").Tries[1].Hostname)
}

// TestFaultCampaignKilledAtEachStep kills the engine at every seventh point of a campaign, beginning with each of the first seven: so each point is among
// them once. With CERTLAB_EACH_STEP it also kills it once, at each single point.
func TestFaultCampaignKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const stride = 7
	survives := func(t *testing.T, at func(n int) bool) (total int) {
		inLab(t, func(l *lab) {
			count := l.dieAt(at, 10*time.Second)
			l.sru()
			total = count()
		}, troubled)
		return total
	}
	total := survives(t, func(int) bool { return false })
	require.Greater(t, total, 40)
	for first := range stride {
		t.Run(fmt.Sprintf("again and again from %d", first+1), func(t *testing.T) {
			t.Parallel()
			survives(t, func(n int) bool { return n%stride == (first+1)%stride })
		})
	}
	if os.Getenv("CERTLAB_EACH_STEP") == "" {
		return
	}
	for point := 1; point <= total; point++ {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			t.Parallel()
			survives(t, func(n int) bool { return n == point })
		})
	}
}

// TestFaultCancelKilledAtEachStep cancels a campaign that runs on some machines and waits for others.
func TestFaultCancelKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for first := range 5 {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			inLab(t, func(l *lab) {
				c := l.begin()
				l.until("something runs", func() bool { return l.target(c.ID, "node1").State == cert.TargetRunning })
				l.dieAt(func(n int) bool { return n%5 == first }, 10*time.Second)
				l.stubborn(func() error {
					_, err := l.engine().CancelCampaign(context.Background(), c.ID, cert.EndCampaign{Reason: "wrong kernel"}, "ada", cert.Engineer)
					return err
				})
				c = l.over(c.ID)
				require.Equal(l, cert.CampaignCancelled, c.State)
				require.Equal(l, "cancelled by ada: wrong kernel", c.Ending)
				for _, host := range []string{"node1", "node2", "unit1"} {
					require.Equal(l, cert.TargetCancelled, l.target(c.ID, host).State, host)
				}
				l.until("all machines are back", func() bool {
					open, err := l.db.OpenReservations(context.Background())
					require.NoError(l, err)
					return len(open) == 0
				})
				runs, _, err := l.db.Runs(context.Background(), sqlite.RunFilter{}, sqlite.Page{Limit: 100})
				require.NoError(l, err)
				require.False(l, slices.ContainsFunc(runs, func(r cert.Run) bool { return r.State != cert.Cancelled }))
			}, func(l *lab) {
				l.add("node1")
				l.add("node2")
				l.add("unit1", unit)
				l.hold["node2"] = true
				l.does = func(string, cert.Spec, int) outcome { return outcome{hang: true} }
			})
		})
	}
}
