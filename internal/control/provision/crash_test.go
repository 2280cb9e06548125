package provision_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// cycle reserves two of three machines, one of which fails to be deployed at first, lets one reservation expire and cancels the other, whatever
// happens to the controller meanwhile.
func (l *lab) cycle() {
	ids := []string{cert.NewID(cert.ReservationID, l.now()), cert.NewID(cert.ReservationID, l.now())}
	for _, id := range ids {
		l.stubborn(func() error {
			_, err := l.fleet().Reserve(context.Background(), cert.NewReservation{ID: id, Reason: "a bug", Want: cert.Want{Query: "arch=amd64", Hours: 0.1, Failover: true}}, "ada", cert.Engineer)
			return err
		})
	}
	for _, id := range ids {
		l.until("it is ready", func() bool {
			r, err := l.db.Reservation(context.Background(), id)
			require.NoError(l, err)
			require.False(l, r.Final(), "%+v", r)
			return r.State == cert.ReservationReady
		})
	}
	l.stubborn(func() error {
		_, err := l.fleet().Release(context.Background(), ids[1], cert.ReleaseReservation{}, "ada", cert.Engineer)
		return err
	})
	for _, id := range ids {
		require.Contains(l, []string{cert.EndedReleased, cert.EndedExpired}, l.over(id).Ending)
	}
	l.until("all are back", func() bool {
		open, err := l.db.OpenDeployments(context.Background())
		require.NoError(l, err)
		return len(open) == 0
	})
	time.Sleep(15 * time.Minute) // the next whole list
}

// stubborn does something again until the controller has taken it.
func (l *lab) stubborn(fn func() error) {
	l.Helper()
	l.until("the controller takes a request", func() bool {
		v := l.fleet()
		return !v.dead.Load() && fn() == nil && !v.dead.Load()
	})
}

// dieAt kills the controller at each point that at holds for, by their number from 1, and starts it again after some time. It returns a function
// that tells how many points there were.
func (l *lab) dieAt(at func(n int) bool, pause time.Duration) func() int {
	points := 0
	l.cut = func(string) {
		v := l.fleet()
		l.mu.Lock()
		points++
		hit := at(points) && !v.dead.Load()
		l.mu.Unlock()
		if !hit || v.dead.Swap(true) {
			return
		}
		v.cancel()
		go func() {
			l.lives.Wait()
			time.Sleep(pause)
			l.start()
		}()
	}
	return func() int { l.mu.Lock(); defer l.mu.Unlock(); return points }
}

// TestFaultControllerKilledAtEachStep kills the controller at every eleventh point of a cycle, beginning with each of the first eleven: so each point
// is among them once. With CERTLAB_EACH_STEP it also kills it once, at each single point.
func TestFaultControllerKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const stride = 11
	fail := func(l *lab) {
		l.conf.Limits.ReminderMinutes = 1
		l.region.Fault(l.sid("node2"), maastest.Fault{Kind: maastest.DeployFails, Times: 1})
	}
	survives := func(t *testing.T, at func(n int) bool) (total int) {
		inLab(t, 3, func(l *lab) {
			l.listed()
			count := l.dieAt(at, 40*time.Second)
			l.cycle()
			l.clean()
			for _, name := range []string{"node1", "node2", "node3"} {
				l.whole(name)
				for _, d := range l.machine(name).Deployments {
					if d.Failure != nil {
						require.Equal(l, "node2", name, "a kill has cost a try: %+v", d.Failure)
						require.Equal(l, cert.FailDeploy, d.Failure.Type)
					}
				}
			}
			total = count()
		}, fail)
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
	if os.Getenv("CERTLAB_EACH_STEP") == "" { // all of them take some minutes
		return
	}
	for point := 1; point <= total; point++ {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			t.Parallel()
			survives(t, func(n int) bool { return n == point })
		})
	}
}

// whole requires that a machine's log tells each deployment from its beginning to its end, in order.
func (l *lab) whole(name string) {
	l.Helper()
	on := false
	for n, kind := range l.kinds(name) {
		switch kind {
		case "reserved":
			require.False(l, on, "%s %d: %v", name, n, l.kinds(name))
			on = true
		case "released", "passed":
			require.True(l, on, "%s %d: %v", name, n, l.kinds(name))
			on = false
		case "acquired", "deploying", "ready", "ended", "releasing", "failed":
			require.True(l, on, "%s %d: %v", name, n, l.kinds(name))
		case "orphan", "gone", "adopted":
			l.Fatalf("%s: %v", name, l.kinds(name))
		}
	}
	require.False(l, on, "%s: %v", name, l.kinds(name))
}

// TestFaultDeployTakesEffectAfterAKill has the provider take its time over a call of a controller that is dead by then: the one that was started
// meanwhile has repeated it, and the machine comes with the user-data of the first.
func TestFaultDeployTakesEffectAfterAKill(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.reserve("node1", func(n *cert.NewReservation) { n.MaxTries = 1 })
		l.until("it is ready", func() bool {
			var err error
			r, err = l.db.Reservation(l.Context(), r.ID)
			require.NoError(l, err)
			require.Nil(l, r.Failure)
			return r.State == cert.ReservationReady
		})
		require.Len(l, l.script, 2, "it was asked for twice")
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		l.clean()
	}, func(l *lab) {
		var first *cert.DeployOptions
		l.deploying = func(m mortal, d cert.DeployOptions) bool {
			if first == nil {
				first = &d
				m.v.dead.Store(true)
				m.v.cancel()
				go func() { l.lives.Wait(); l.start() }()
				return true
			}
			require.NoError(l, m.Provider.Deploy(context.Background(), l.sid("node1"), *first))
			return false
		}
	})
}
