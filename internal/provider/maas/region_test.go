package maas_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"certlab/internal/cert"
	"certlab/internal/provider/maas"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

const regionURL = "http://maas.example:5240/MAAS"

// lab is a lab with a simulated region.
type lab struct {
	*testing.T
	*maas.Provider
	region *maastest.Region
	key    string
	// allowed: what the region counts as violations (a key in place of another one of the same user; a cycle that is configured) is meant.
	allowed *bool
}

// inLab runs a test in a bubble of its own, with a region and a lab whose key is an administrator's or an ordinary user's.
func inLab(t *testing.T, admin bool, test func(l lab), change ...func(*maas.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		region := maastest.New(maastest.Options{})
		defer region.Close()
		key := region.AddUser("certlab", admin)
		l := lab{t, newProvider(t, region, key, "lab1", change...), region, key, new(bool)}
		test(l)
		if !*l.allowed {
			require.Empty(t, region.Violations())
		}
	})
}

func newProvider(t *testing.T, region *maastest.Region, key, id string, change ...func(*maas.Config)) *maas.Provider {
	t.Helper()
	config := maas.Config{URL: regionURL, Key: key, Lab: id, Transport: region.Transport()}
	for _, c := range change {
		c(&config)
	}
	p, err := maas.New(config)
	require.NoError(t, err)
	return p
}

// machine adds a machine and lets the lab see it, so that messages name it.
func (l lab) machine(hostname string) string {
	l.Helper()
	id := l.region.AddMachine(maastest.Machine{Hostname: hostname})
	_, err := l.List(l.Context())
	require.NoError(l, err)
	return id
}

func (l lab) held(hostname string) string {
	l.Helper()
	id := l.machine(hostname)
	_, err := l.Acquire(l.Context(), id, "for a test")
	require.NoError(l, err)
	return id
}

// look returns one machine.
func (l lab) look(id string) cert.Provided {
	l.Helper()
	found, err := l.Look(l.Context(), id)
	require.NoError(l, err)
	require.Len(l, found, 1)
	return found[0]
}

// until waits for a status, as whoever polls does.
func (l lab) until(id string, status cert.Status) cert.Provided {
	l.Helper()
	for range 1000 {
		if m := l.look(id); m.Status == status {
			return m
		}
		time.Sleep(5 * time.Second)
	}
	l.Fatalf("%s never became %s: it is %s", id, status, l.look(id).StatusName)
	return cert.Provided{}
}

// calls returns how many requests f makes.
func (l lab) calls(f func()) int {
	before := l.region.CallsOf("")
	f()
	return l.region.CallsOf("") - before
}

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
		for range 50 {
			ids = append(ids, l.region.AddMachine(maastest.Machine{}))
		}
		_, err := l.List(ctx) // asks who we are, once
		require.NoError(l, err)
		for i, id := range ids[:30] {
			_, err := l.Acquire(ctx, id, "")
			require.NoError(l, err)
			if i < 20 {
				require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
			}
			if i < 10 {
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
			require.Len(l, found, 50)
			ours := 0
			for _, m := range found {
				if m.Holder == cert.ThisLab {
					ours++
				}
			}
			require.Equal(l, 30, ours)
		}
		require.Equal(l, 0, l.calls(func() { _, err = l.Look(ctx) }))
		require.NoError(l, err)
	})
}

// More machines than a URL can name are looked at with one call all the same.
func TestLookAtMoreMachinesThanAURLNames(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ids := []string{"nosuch"}
		for range 600 {
			ids = append(ids, l.region.AddMachine(maastest.Machine{}))
		}
		other := l.region.AddMachine(maastest.Machine{})
		l.machine("node7")
		require.Equal(l, 1, l.calls(func() {
			found, err := l.Look(l.Context(), ids...)
			require.NoError(l, err)
			require.Len(l, found, 600)
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
