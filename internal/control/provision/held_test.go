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

// TestFaultKernelDoesNotBootHoldsNoRelease ends a run for a kernel that did not boot. Its machine is given back at once where no job had run, and
// after a day where jobs had; who waits for it is told what holds it.
func TestFaultKernelDoesNotBootHoldsNoRelease(t *testing.T) {
	t.Parallel()
	for name, tested := range map[string]bool{"before any job": false, "after jobs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard atomic.Pointer[time.Time]
			inLab(t, 1, func(l *lab) {
				r := l.await(l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 1 }).ID)
				id := cert.NewID(cert.RunID, l.now())
				began, ended := l.now(), l.now().Add(time.Second)
				heard.Store(&began)
				status := order.Status{BootID: "b", Release: "ubuntu@24.04", Kernel: "6.8.0-50-generic", CheckboxVersion: "5.0.0", Running: id}
				require.NoError(l, l.fleet().AgentStatus(l.Context(), r.Machine, status))
				subject := &order.Subject{Kind: order.SubjectKernel, Source: "linux", Version: "6.8.0-51.52", Flavour: "generic"}
				require.NoError(l, l.db.AddRun(l.Context(), cert.Run{ID: id, Machine: r.Machine, Origin: cert.FromOrder, State: cert.Failed, Created: began, Finished: &ended,
					Spec: cert.Spec{Plan: "a::b", Subject: subject}, Failure: &cert.Failure{Type: cert.FailKernelBoot, Message: "kernel panic"},
					Attempts: []cert.Attempt{{Number: 1, Sequence: 1, State: cert.Failed, Updated: began, Progress: cert.Progress{Phase: string(order.Booting)},
						Subject: &order.SubjectState{Step: order.SubjectSelected, Boots: []order.Boot{{ID: "b", Kernel: "6.8.0-50-generic", At: began, Tests: tested}}}}}}))
				time.Sleep(10 * time.Minute)
				_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
				require.NoError(l, err)
				says := "nothing of run " + id + " is waited for: its kernel did not boot, and no job of its plan had run"
				if tested {
					says = "what it holds of run " + id + " and was not stored is lost: its kernel did not boot, and nothing was heard of it for 24h0m0s"
					next := l.reserve("node1")
					time.Sleep(10 * time.Minute)
					require.Contains(l, l.state(next.ID).Blocked, "machine node1 is not released yet: it holds what is not stored, of run "+id)
					require.Contains(l, l.state(next.ID).Blocked, "certlab machine release "+r.ID+" --discard node1")
					_, err := l.fleet().Cancel(l.Context(), next.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
					require.NoError(l, err)
					time.Sleep(22 * time.Hour)
					require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
				}
				time.Sleep(3 * time.Hour)
				r = l.state(r.ID)
				require.True(l, r.Final(), r.Blocked)
				events, _, err := l.db.MachineEvents(l.Context(), sqlite.EventFilter{Machine: r.Machine}, sqlite.Page{Limit: 100})
				require.NoError(l, err)
				var texts []string
				for _, e := range events {
					texts = append(texts, e.Text)
				}
				require.Contains(l, texts, says)
				l.clean()
			}, func(l *lab) {
				l.options = func(o *provision.Options) {
					o.Poll = 2 * time.Minute // a day has few turns then
					o.Heard = func(string) time.Time {
						if at := heard.Load(); at != nil {
							return *at
						}
						return l.now()
					}
				}
			})
		})
	}
}
