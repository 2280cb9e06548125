package maas_test

import (
	"certlab/internal/cert"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"fmt"
	"github.com/stretchr/testify/require"
	"slices"
	"testing"
)

func TestAMachinesWholeWayTakesAtMostTenCalls(t *testing.T) {
	t.Parallel()
	for _, admin := range []bool{false, true} {
		inLab(t, admin, func(l lab) {
			ctx := l.Context()
			id := l.machine("node7")
			own := l.calls(func() {
				m, err := l.Acquire(ctx, id, "reservation 5 of alice")
				require.NoError(l, err)
				require.Equal(l, cert.StatusAcquired, m.Status)
				require.Equal(l, cert.ThisLab, m.Holder)
				require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{Release: "jammy", UserData: []byte("#!/bin/sh\ntrue\n"), Comment: "reservation 5"}))
			})
			m := l.until(id, cert.StatusDeployed)
			require.Equal(l, "jammy", m.Release)
			require.Equal(l, cert.ThisLab, m.Holder)
			state := l.region.State(id)
			require.Equal(l, "certlab-lab1", state.AgentName)
			require.Equal(l, "#!/bin/sh\ntrue\n", string(state.UserData))
			own += l.calls(func() {
				require.NoError(l, l.Lock(ctx, id, "held"))
				require.True(l, l.region.State(id).Locked)
				require.NoError(l, l.Unlock(ctx, id, "over"))
				require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{Comment: "over"}))
			})
			m = l.look(id)
			require.Equal(l, cert.StatusReleasing, m.Status)
			require.Equal(l, cert.ThisLab, m.Holder, "the agent name is gone, the annotation is not")
			m = l.until(id, cert.StatusFree)
			require.Equal(l, cert.Nobody, m.Holder)
			require.LessOrEqual(l, own, 10)
			require.Empty(l, l.region.State(id).AgentName)
		})
	}
}

// The number of calls for a list, and for a look at what is in transition, depends neither on the number of machines nor on what they do.
func TestListAndLookTakeOneCall(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ctx := l.Context()
		var ids []string
		for range 20 {
			ids = append(ids, l.region.AddMachine(maastest.Machine{}))
		}
		_, err := l.List(ctx) // asks who we are, once
		require.NoError(l, err)
		for i, id := range ids[:12] {
			_, err := l.Acquire(ctx, id, "")
			require.NoError(l, err)
			if i < 8 {
				require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
			}
			if i < 4 {
				require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}))
			}
		}
		for name, ask := range map[string]func() ([]cert.Provided, error){
			"list": func() ([]cert.Provided, error) { return l.List(ctx) },
			"look": func() ([]cert.Provided, error) { return l.Look(ctx, ids...) },
		} {
			var found []cert.Provided
			require.Equal(l, 1, l.calls(func() { found, err = ask() }), name)
			require.NoError(l, err)
			require.Len(l, found, 20)
			ours := 0
			for _, m := range found {
				if m.Holder == cert.ThisLab {
					ours++
				}
			}
			require.Equal(l, 12, ours)
		}
		require.Equal(l, 0, l.calls(func() { _, err = l.Look(ctx) }))
		require.NoError(l, err)
	})
}

// More machines than a URL can name are looked at with one call all the same.
func TestLookAtMoreMachinesThanAURLNames(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ids := []string{l.region.AddMachine(maastest.Machine{}), l.region.AddMachine(maastest.Machine{})}
		for n := range 600 {
			ids = append(ids, fmt.Sprintf("nosuch%d", n))
		}
		other := l.region.AddMachine(maastest.Machine{})
		l.machine("node7")
		require.Equal(l, 1, l.calls(func() {
			found, err := l.Look(l.Context(), ids...)
			require.NoError(l, err)
			require.Len(l, found, 2)
			require.False(l, slices.ContainsFunc(found, func(m cert.Provided) bool { return m.ID == other }))
		}))
	})
}

// A controller that dies between the two steps of acquiring finds its machine all the same, and annotates it the next time.
func TestFaultKilledBeforeTheAnnotation(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.Change(id, func(m *maastest.MachineState) { m.OwnerData = nil })
		require.Equal(l, 2, l.calls(func() { require.Equal(l, cert.ThisLab, l.look(id).Holder) }))
		m, err := l.Acquire(l.Context(), id, "again")
		require.NoError(l, err)
		require.Equal(l, cert.ThisLab, m.Holder)
		require.Equal(l, "lab1", l.region.State(id).OwnerData["certlab-lab"])

		// Deploy and Release annotate what they find without.
		l.region.Change(id, func(m *maastest.MachineState) { m.OwnerData = nil })
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		require.Equal(l, "lab1", l.region.State(id).OwnerData["certlab-lab"])
	})
}

func TestReleaseIsIdempotent(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ctx := l.Context()
		id := l.machine("node7")
		require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}), "a free machine")
		_, err := l.Acquire(ctx, id, "")
		require.NoError(l, err)
		require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		require.NoError(l, l.Lock(ctx, id, ""))
		require.NoError(l, l.Lock(ctx, id, ""), "a locked machine is locked")
		require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}), "a locked machine is unlocked first")
		releases := l.region.CallsOf("machine.release")
		require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}), "one that is being released")
		require.Equal(l, releases, l.region.CallsOf("machine.release"), "it is left alone")
		l.until(id, cert.StatusFree)
	})
}

func TestErasingIsThePoolsUnlessTheReleaseSaysOtherwise(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pool string
		asks cert.Erase
		want cert.Status
	}{
		{"default", "", cert.StatusReleasing}, {"gpu", "", cert.StatusReleasing}, {"gpu", cert.EraseNone, cert.StatusReleasing}, {"default", cert.EraseQuick, cert.StatusReleasing},
	} {
		inLab(t, false, func(l lab) {
			id := l.region.AddMachine(maastest.Machine{Hostname: "node7", Pool: test.pool})
			_, err := l.Acquire(l.Context(), id, "")
			require.NoError(l, err)
			require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
			l.until(id, cert.StatusDeployed)
			require.NoError(l, l.Release(l.Context(), id, cert.ReleaseOptions{Erase: test.asks}))
			erases := test.pool == "gpu" && test.asks != cert.EraseNone || test.asks == cert.EraseQuick
			m := l.look(id)
			require.Equal(l, test.want, m.Status)
			require.Equal(l, erases, m.StatusName == "Disk erasing", "%+v: %s", test, m.StatusName)
			l.until(id, cert.StatusFree)
		}, func(c *maas.Config) { c.Erase = map[string]cert.Erase{"gpu": cert.EraseSecure} })
	}
}
