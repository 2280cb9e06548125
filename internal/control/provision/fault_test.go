package provision_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
)

// failover reserves with a fault on node1 and requires that node2 is got instead, and that node1 is back afterwards.
func (l *lab) failover(kind string, message string) cert.Deployment {
	l.Helper()
	r := l.await(l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 10 }).ID)
	require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
	require.Equal(l, "node2", r.Hostname)
	m := l.machine("node1")
	require.NotEmpty(l, m.Deployments)
	d := m.Deployments[0]
	require.NotNil(l, d.Failure)
	require.Equal(l, kind, d.Failure.Type)
	require.Contains(l, d.Failure.Message, message)
	l.until("node1 is back", func() bool { return l.region.State(l.sid("node1")).Owner == "" })
	time.Sleep(time.Minute)
	return d
}

func TestFaultDeploymentFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault         maastest.Fault
		kind, message string
	}{
		"installer":     {maastest.Fault{Kind: maastest.DeployFails, Message: "curtin: no space left"}, cert.FailDeploy, "node1: "},
		"hangs":         {maastest.Fault{Kind: maastest.DeployHangs}, cert.FailDeploy, "timed out after 10 minutes"},
		"never boots":   {maastest.Fault{Kind: maastest.NeverBoots}, cert.FailBoot, "it was deployed, and nothing was heard of it for 15m0s: it did not boot, or cannot reach the controller"},
		"other release": {maastest.Fault{Kind: maastest.BootsOther, Release: "jammy", Kernel: "ga-22.04"}, cert.FailWrongSystem, "asked for noble (24.04), and ubuntu@22.04 is running"},
		"dead BMC":      {maastest.Fault{Kind: maastest.BMCRefuses}, cert.FailPower, "Failed to power on node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 2, func(l *lab) {
				l.region.Fault(l.sid("node1"), c.fault)
				r := l.await(l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 10; n.Release = "noble" }).ID)
				require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
				require.Equal(l, "node2", r.Hostname)
				d := l.machine("node1").Deployments[0]
				require.NotNil(l, d.Failure)
				require.Equal(l, c.kind, d.Failure.Type)
				require.Contains(l, d.Failure.Message, c.message)
				require.Len(l, r.Avoid, 1)
				l.region.Clear(l.sid("node1"))
				l.until("node1 is back, or out of use", func() bool {
					m := l.machine("node1")
					return m.State == cert.MachineFree || m.State == cert.MachineQuarantined
				})
				require.Empty(l, l.region.State(l.sid("node1")).Owner)
				if name != "dead BMC" {
					require.False(l, l.region.State(l.sid("node1")).On, "a failed machine is switched off")
				}
				l.whole2("node1")
			})
		})
	}
}

// whole2 is whole for a machine whose last deployment is over.
func (l *lab) whole2(name string) {
	l.Helper()
	kinds := l.kinds(name)
	require.Contains(l, kinds, "failed")
	require.Contains(l, kinds, "released")
}

func TestFaultAgentNeverGetsReady(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		l.agents[l.sid("node1")] = "broken"
		d := l.failover(cert.FailEnrol, "its agent has no usable Checkbox: snap checkbox24 is not to be had within 45m0s")
		require.NotEmpty(l, d.Diagnosis)
	})
}

func TestFaultNobodyMatches(t *testing.T) {
	t.Parallel()
	inLab(t, 3, func(l *lab) {
		_, err := l.tryReserve("tags=gpu")
		require.ErrorContains(l, err, "cannot reserve: ")
		require.ErrorContains(l, err, "tags=gpu")
		require.Equal(l, cert.Conflict, cert.CodeOf(err))
		_, err = l.tryReserve("colour=red")
		require.ErrorContains(l, err, `cannot select machines by "colour"`)
		_, err = l.tryReserve("arch=amd64", func(n *cert.NewReservation) { n.Release = "focal" })
		require.EqualError(l, err, "cannot deploy focal on amd64: the provider has no image of it (import it, or choose one of: noble, jammy)")
		_, err = l.tryReserve("arch=amd64", func(n *cert.NewReservation) { n.Release, n.Kernel = "noble", "hwe-22.04" })
		require.ErrorContains(l, err, "cannot deploy noble with kernel hwe-22.04 on amd64: the provider has no such kernel (import it, or choose one of: ga-24.04")
		_, err = l.tryReserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 1000 })
		require.EqualError(l, err, "cannot reserve for 1000 hours: at most 72 are allowed")
		l.clean()
	})
}

func TestFaultTakenBetweenListAndAcquire(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		l.listed()
		l.region.Fault(l.sid("node1"), maastest.Fault{Kind: maastest.Taken, Times: 1})
		r := l.await(l.reserve("arch=amd64").ID)
		require.Equal(l, cert.ReservationReady, r.State)
		require.Equal(l, "node2", r.Hostname)
		require.Empty(l, r.Avoid)
		require.Equal(l, 1, r.Tries, "that was not the machine's failure")
		require.Equal(l, cert.MachineForeign, l.machine("node1").State)
		require.Contains(l, l.kinds("node1"), "passed")
		require.Equal(l, "somebody-else", l.region.State(l.sid("node1")).Owner)
	})
}

func TestFaultMAASAway(t *testing.T) {
	t.Parallel()
	for _, during := range []string{"acquire", "deploy", "boot", "release"} {
		t.Run(during, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				l.listed()
				away := func() {
					l.region.Restart(time.Hour, time.Minute)
				}
				if during == "acquire" {
					away()
				}
				r := l.reserve("node1", func(n *cert.NewReservation) { n.Hours = 10 })
				if during == "deploy" || during == "boot" {
					time.Sleep(map[string]time.Duration{"deploy": 3 * time.Second, "boot": 28 * time.Second}[during])
					away()
				}
				if during == "release" {
					r = l.await(r.ID)
					away()
					_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
					require.NoError(l, err)
				}
				time.Sleep(50 * time.Minute)
				s, err := l.fleet().Summary(l.Context())
				require.NoError(l, err)
				require.Contains(l, s.Problem, "MAAS at http://maas.example:5240/MAAS cannot be reached")
				time.Sleep(20 * time.Minute)
				s, err = l.fleet().Summary(l.Context())
				require.NoError(l, err)
				require.Empty(l, s.Problem)
				if during != "release" {
					r = l.await(r.ID)
					require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
					require.Equal(l, 1, r.Tries)
					_, err = l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
					require.NoError(l, err)
				}
				require.Equal(l, cert.EndedReleased, l.over(r.ID).Ending)
				l.clean()
			})
		})
	}
}

func TestFaultMAASAnswersBadly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   maastest.Fault
		problem string
	}{
		"lost answers":   {maastest.Fault{Kind: maastest.Cuts, Op: "POST", After: true, Times: 6}, ""},
		"gateway":        {maastest.Fault{Kind: maastest.Answers, Status: http.StatusGatewayTimeout, Op: "POST", After: true, Times: 6}, ""},
		"overloaded":     {maastest.Fault{Kind: maastest.Answers, Status: 503, RetryAfter: "10", Message: "could not serialize access due to concurrent update", Times: 10}, ""},
		"half an answer": {maastest.Fault{Kind: maastest.Truncates, Op: "GET", Times: 5}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 2, func(l *lab) {
				l.listed()
				l.region.Fault("", c.fault)
				r := l.await(l.reserve("arch=amd64").ID)
				require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
				require.Equal(l, 1, r.Tries)
				_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
				require.NoError(l, err)
				l.over(r.ID)
				l.clean()
			})
		})
	}
}

func TestFaultKeyOrClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil, mend func(*lab)
		problem     string
	}{
		"key revoked":  {func(l *lab) { l.region.Revoke(l.key) }, func(l *lab) { l.maas.SetKey(l.region.AddUser("certlab", true)) }, "key"},
		"clock skewed": {func(l *lab) { l.region.SetClockSkew(time.Hour) }, func(l *lab) { l.region.SetClockSkew(0) }, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				r := l.reserve("node1")
				time.Sleep(10 * time.Second)
				c.spoil(l)
				time.Sleep(time.Hour)
				s, err := l.fleet().Summary(l.Context())
				require.NoError(l, err)
				require.Contains(l, s.Problem, c.problem)
				c.mend(l)
				r = l.await(r.ID)
				require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
				require.Equal(l, 1, r.Tries)
			})
		})
	}
}

func TestFaultReleaseNeverFinishes(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		l.region.Fault(l.sid("node1"), maastest.Fault{Kind: maastest.ReleaseHangs, Times: 2})
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		r = l.over(r.ID)
		d, err := l.db.Deployment(l.Context(), r.Deployment)
		require.NoError(l, err)
		require.Equal(l, cert.FailReleaseStuck, d.Failure.Type)
		require.Contains(l, d.Failure.Message, "node1 does not come back")
		require.Contains(l, l.kinds("node1"), "recovering")
		require.Empty(l, l.region.State(l.sid("node1")).Owner)
	})
}

func TestFaultMachineVanishes(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		r := l.await(l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 10 }).ID)
		require.Equal(l, "node1", r.Hostname)
		l.region.Fault(l.sid("node1"), maastest.Fault{Kind: maastest.Deleted, Times: 1})
		time.Sleep(30 * time.Minute)
		for range 3 { // the fault strikes at a request for the machine
			_, _ = l.fleet().Power(l.Context(), "node1", cert.PowerMachine{Action: "query"}, "ada", cert.Engineer)
			time.Sleep(15 * time.Minute)
		}
		r = l.over(r.ID)
		require.Equal(l, cert.EndedLost, r.Ending)
		require.Equal(l, "node1: the provider does not list the machine any more", r.Failure.Message)
		require.Equal(l, cert.MachineRetired, l.machine("node1").State)
		require.Contains(l, l.kinds("node1"), "gone")
	})
}

func TestFaultReservationEndsDuringProvisioning(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Second, 4 * time.Second, 29 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			inLab(t, 1, func(l *lab) {
				r := l.reserve("node1")
				time.Sleep(after)
				_, err := l.fleet().Cancel(l.Context(), r.ID, cert.ReleaseReservation{Reason: "a mistake"}, "ada", cert.Engineer)
				require.NoError(l, err)
				r = l.over(r.ID)
				require.Equal(l, cert.EndedCancelled, r.Ending)
				require.Nil(l, r.Failure)
				l.clean()
			})
		})
	}
}

// TestFaultNoMachineBeforeItsEnd has reservations until a fixed time pass it: one while it waits, one while its machine is deployed.
func TestFaultNoMachineBeforeItsEnd(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		l.agents[l.sid("node1")] = "mute"
		l.await(l.reserve("node2", func(n *cert.NewReservation) { n.Hours = 20 }).ID)
		until := l.now().Add(5 * time.Minute)
		fixed := func(n *cert.NewReservation) { n.Hours, n.Until = 0, &until }
		queued, preparing := l.reserve("node2", fixed), l.reserve("node1", fixed)
		for _, r := range []cert.Reservation{queued, preparing} {
			r = l.over(r.ID)
			require.Equal(l, cert.EndedFailed, r.Ending)
			require.Equal(l, cert.FailNoMachine, r.Failure.Type)
			require.Equal(l, "the reservation of ada was until "+until.Format(time.RFC3339)+", and no machine was ready for it before", r.Failure.Message)
			require.Less(l, r.Ended.Sub(until), time.Minute)
		}
		notices, _, err := l.db.Notices(l.Context(), page)
		require.NoError(l, err)
		require.Len(l, notices, 2)
		l.until("node1 is back", func() bool { return l.machine("node1").State == cert.MachineFree })
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node2")).Status)
	})
}

func TestFaultTwoDeadBMCsAmongHealthyOnes(t *testing.T) {
	t.Parallel()
	inLab(t, 6, func(l *lab) {
		for _, name := range []string{"node1", "node2"} {
			l.region.Fault(l.sid(name), maastest.Fault{Kind: maastest.BMCRefuses})
		}
		var ids []string
		for range 4 {
			ids = append(ids, l.reserve("arch=amd64", func(n *cert.NewReservation) { n.Hours = 20 }).ID)
		}
		for _, id := range ids {
			r := l.await(id)
			require.Equal(l, cert.ReservationReady, r.State, "%+v", r)
			require.NotContains(l, []string{"node1", "node2"}, r.Hostname)
		}
		l.until("the dead ones are given back", func() bool {
			return l.region.State(l.sid("node1")).Owner == "" && l.region.State(l.sid("node2")).Owner == ""
		})
		for _, name := range []string{"node1", "node2"} {
			for _, d := range l.machine(name).Deployments {
				require.Equal(l, cert.FailPower, d.Failure.Type)
				require.Contains(l, d.Failure.Message, "Failed to power on node")
			}
			require.Contains(l, l.kinds(name), "recovering", "its BMC does not let it be released")
		}
	})
}

func TestFaultTwoControllersOnOneRegion(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		// Another lab with the same user has node1.
		l.region.Change(l.sid("node1"), func(s *maastest.MachineState) {
			s.Status, s.Owner, s.AgentName = maastest.Allocated, "certlab", "certlab-lab2"
			s.OwnerData = map[string]string{"certlab-lab": "lab2"}
		})
		r := l.await(l.reserve("arch=amd64").ID)
		require.Equal(l, "node2", r.Hostname)
		require.Equal(l, cert.MachineForeign, l.machine("node1").State)
		_, err := l.fleet().Release(l.Context(), "node1", cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.EqualError(l, err, "machine node1 has no reservation")
		time.Sleep(time.Hour)
		require.Equal(l, "certlab-lab2", l.region.State(l.sid("node1")).AgentName)
	})
}

func TestFaultMachineHeldForNobody(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.region.Change(l.sid("node1"), func(s *maastest.MachineState) {
			s.Status, s.Owner, s.AgentName = maastest.Allocated, "certlab", "certlab-lab1"
			s.OwnerData = map[string]string{"certlab-lab": "lab1"}
		})
		time.Sleep(time.Hour)
		m := l.machine("node1")
		require.Equal(l, cert.MachineDirty, m.State)
		require.Equal(l, "this lab holds it at the provider, and no reservation here knows of it (release it by name)", m.Why)
		require.Equal(l, maastest.Allocated, l.region.State(l.sid("node1")).Status)
		r, err := l.fleet().Release(l.Context(), "node1", cert.ReleaseReservation{Reason: "nobody is on it"}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		l.clean()
	})
}

func TestFaultMachineHoldsWhatIsNotStored(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		r := l.await(l.reserve("node1").ID)
		run := cert.NewID(cert.RunID, l.now())
		require.NoError(l, l.db.AddRun(l.Context(), cert.Run{ID: run, Machine: r.Machine, Origin: cert.FromInteractive, State: cert.Running, Created: l.now(), Attempts: []cert.Attempt{}}))
		_, err := l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{}, "ada", cert.Engineer)
		require.NoError(l, err)
		time.Sleep(10 * time.Minute)
		r, err = l.fleet().Reservation(l.Context(), r.ID)
		require.NoError(l, err)
		require.Equal(l, cert.ReservationReleasing, r.State)
		require.Equal(l, "machine node1 is not released yet: it holds what is not stored, of run "+run+"; it is released once that is here (to discard it, name the machine: "+
			"certlab machine release "+r.ID+" --discard node1)", r.Blocked)
		require.Equal(l, maastest.Deployed, l.region.State(l.sid("node1")).Status)
		_, err = l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Discard: "node9"}, "ada", cert.Engineer)
		require.ErrorContains(l, err, `cannot discard what machine "node9" holds: the reservation's machine is node1`)
		_, err = l.fleet().Release(l.Context(), r.ID, cert.ReleaseReservation{Discard: "node1"}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.over(r.ID)
		require.Contains(l, l.kinds("node1"), "discarded")
		l.clean()
	})
}
