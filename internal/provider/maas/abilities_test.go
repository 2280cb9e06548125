package maas_test

import (
	"maps"
	"testing"
	"time"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

func TestAboutSaysWhatTheKeyMayNot(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		about, err := l.About(l.Context())
		require.NoError(l, err)
		require.Equal(l, "maas", about.Kind)
		require.Equal(l, regionURL, about.URL)
		require.Equal(l, "3.4.1", about.Version)
		require.Equal(l, "certlab", about.User)
		require.False(l, about.Admin)
		require.Empty(l, about.Supported)
		require.Len(l, about.Missing, 7)
		require.Contains(l, about.Missing[1], "may not move machines between pools")

		l.region.SetAdmin("certlab", true)
		about, err = l.About(l.Context())
		require.NoError(l, err)
		require.True(l, about.Admin)
		require.Empty(l, about.Missing)
	})
}

func TestQuarantineWithAnAdministratorsKey(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		ctx := l.Context()
		id := l.held("node7")
		require.NoError(l, l.SetPool(ctx, id, "quarantine"), "the pool is made")
		require.NoError(l, l.Tag(ctx, id, "certlab-quarantine", true), "the tag is made")
		require.NoError(l, l.MarkBroken(ctx, id, "power"))
		m := l.look(id)
		require.Equal(l, cert.StatusBroken, m.Status)
		require.Equal(l, "quarantine", m.Pool)
		require.Equal(l, []string{"certlab-quarantine"}, m.Tags)
		require.NoError(l, l.MarkBroken(ctx, id, "again"), "it is so already")
		require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}), "nobody holds it")
		require.Equal(l, cert.StatusBroken, l.look(id).Status, "releasing would have ended the quarantine")
		_, err := l.Acquire(ctx, id, "")
		require.EqualError(l, err, `cannot acquire "node7": it is not free (Broken: Released)`)

		require.Equal(l, 1, l.calls(func() { require.NoError(l, l.SetPool(ctx, id, "quarantine")) }), "it is there")
		require.NoError(l, l.Tag(ctx, id, "certlab-quarantine", false))
		require.NoError(l, l.Tag(ctx, id, "nosuch", false), "it does not have it")
		require.NoError(l, l.SetPool(ctx, id, "default"))
		require.NoError(l, l.MarkFixed(ctx, id, "a person has looked"))
		require.NoError(l, l.MarkFixed(ctx, id, "again"))
		m = l.look(id)
		require.Equal(l, cert.StatusFree, m.Status)
		require.Empty(l, m.Tags)
	})
}

// What an ordinary key may not do is said, and what goes on without it goes on.
func TestFaultOrdinaryKey(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ctx := l.Context()
		id := l.held("node7")
		for want, err := range map[string]error{
			`cannot move "node7" to pool "quarantine": the key's user may not change pools: that takes an administrator of MAAS`:           l.SetPool(ctx, id, "quarantine"),
			`cannot tag "node7" with "bad": the key's user may not change tags: that takes an administrator of MAAS`:                       l.Tag(ctx, id, "bad", true),
			`cannot test the hardware of "node7": the key's user may not start MAAS's hardware tests: that takes an administrator of MAAS`: l.Test(ctx, id, nil),
		} {
			require.EqualError(l, err, want)
			require.Equal(l, cert.ProviderForbidden, cert.ProviderFaultOf(err))
		}
		require.NoError(l, l.MarkBroken(ctx, id, "bad"))
		require.Equal(l, cert.StatusBroken, l.look(id).Status)
		require.NoError(l, l.MarkFixed(ctx, id, "good"), "done by a release")
		require.Equal(l, cert.StatusFree, l.look(id).Status)
	})
}

func TestPower(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ctx := l.Context()
		id := l.held("node7")
		require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		boots := l.region.State(id).Boots
		require.NoError(l, l.Power(ctx, id, cert.SwitchCycle, false))
		time.Sleep(5 * time.Minute)
		require.Equal(l, boots+1, l.region.State(id).Boots)
		state, err := l.QueryPower(ctx, id, false)
		require.NoError(l, err)
		require.Equal(l, cert.PowerOn, state)
		require.NoError(l, l.Power(ctx, id, cert.SwitchOff, false))
		time.Sleep(time.Minute)
		require.False(l, l.region.State(id).On)
		require.NoError(l, l.Power(ctx, id, cert.SwitchOn, false))
		time.Sleep(time.Minute)
		require.True(l, l.region.State(id).On)
		// Locked, as machines are that somebody has: it is locked again, whatever comes of it.
		require.NoError(l, l.Lock(ctx, id, ""))
		for _, action := range []cert.PowerAction{cert.SwitchOff, cert.SwitchOn, cert.SwitchCycle} {
			require.NoError(l, l.Power(ctx, id, action, false), action)
			require.True(l, l.region.State(id).Locked, action)
			time.Sleep(time.Minute)
		}
		l.region.Fault(id, maastest.Fault{Kind: maastest.RackGone})
		require.Equal(l, cert.ProviderNoRack, cert.ProviderFaultOf(l.Power(ctx, id, cert.SwitchOff, false)))
		require.True(l, l.region.State(id).Locked)
		require.True(l, l.region.State(id).On)
		l.region.Clear(id)
		require.EqualError(l, l.Power(ctx, id, "up", false), `cannot switch "node7" "up": that is none of on, off, cycle`)
	})
}

func TestHardwareTests(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		ctx := l.Context()
		id := l.held("node7")
		found, err := l.TestResults(ctx, id)
		require.NoError(l, err)
		require.Empty(l, found)
		l.region.Fault(id, maastest.Fault{Kind: maastest.TestFails, Message: "no such disk"})
		require.NoError(l, l.Test(ctx, id, []string{"smartctl-validate"}))
		require.Equal(l, cert.StatusExamining, l.look(id).Status)
		l.until(id, cert.StatusTestFailed)
		found, err = l.TestResults(ctx, id)
		require.NoError(l, err)
		require.Len(l, found, 1)
		require.Equal(l, "smartctl-validate", found[0].Script)
		require.Equal(l, "Failed", found[0].Status)
		require.Contains(l, found[0].Output, "no such disk")
		require.NotNil(l, found[0].ExitCode)
		require.False(l, found[0].Finished.IsZero())
		require.EqualError(l, l.Test(ctx, id, []string{"nosuch"}), `cannot test the hardware of "node7": MAAS says: testing_scripts: Select a valid choice. nosuch is not one of the available choices`)
		require.NoError(l, l.OverrideFailedTests(ctx, id))
		l.until(id, cert.StatusFree)
	})
}

func TestReleasesAndHardwareOfTheRegion(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		images, err := l.Releases(l.Context(), "amd64")
		require.NoError(l, err)
		require.NotEmpty(l, images)
		require.True(l, images[0].Default)
		require.NotEmpty(l, images[0].Kernels)
		id := l.region.AddMachine(maastest.Machine{Hostname: "node7", Product: maastest.Product{Vendor: "Example", Name: "Model 9", Serial: "S1"},
			GPUs: []maastest.GPU{{Vendor: "Maker", Product: "Accelerator", ID: "10de:2204"}}})
		h, err := l.Hardware(l.Context(), id)
		require.NoError(l, err)
		require.Equal(l, "Example", h.Vendor)
		require.Equal(l, "Model 9", h.Product)
		require.Equal(l, "S1", h.Serial)
		require.Len(l, h.GPUs, 1)
		require.Contains(l, h.GPUs[0], "Accelerator")
	})
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		l.held("node7")
		require.Equal(l, map[string]int64{"whoami": 1, "machines": 1, "allocate": 1, "set_workload_annotations": 1}, l.Calls())
		sum := int64(0)
		for n := range maps.Values(l.Calls()) {
			sum += n
		}
		require.Equal(l, int64(l.region.CallsOf("")), sum)
	})
}
