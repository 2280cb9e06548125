package maas_test

import (
	"testing"
	"time"

	"certlab/internal/cert"
	"certlab/internal/provider/maas/maastest"
	"github.com/stretchr/testify/require"
)

func TestFaultBusy(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		// The machine is read again before the change is repeated.
		l.region.Fault("", with(maastest.Overloaded(), "deploy"))
		begun := time.Now()
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		require.Equal(l, 10*time.Second, time.Since(begun).Truncate(time.Second))
		l.until(id, cert.StatusDeployed)

		l.region.Fault(id, maastest.Fault{Kind: maastest.PowerBusy})
		err := l.Power(l.Context(), id, cert.SwitchOff, false)
		require.Equal(l, cert.ProviderBusy, cert.ProviderFaultOf(err))
		require.Regexp(l, `^cannot switch "node7" off: MAAS is busy: .*another action is already in progress`, err.Error())
		require.Equal(l, 10*time.Second, err.(*cert.ProviderError).Wait)
		l.region.Clear(id)
	})
}

// While one waits out that MAAS is busy, the machine may become somebody else's.
func TestFaultTakenWhileMAASIsBusy(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		id := l.held("node7")
		l.region.AddUser("bob", false)
		l.region.Fault("", with(maastest.Overloaded(), "deploy"))
		time.AfterFunc(5*time.Second, func() {
			l.region.Change(id, func(m *maastest.MachineState) { m.Owner, m.AgentName, m.OwnerData = "bob", "", nil })
		})
		err := l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": MAAS user bob has it (Allocated); this lab changes only machines that it has acquired`)
		require.Equal(l, maastest.Allocated, l.region.State(id).Status)
	})
}

func TestFaultNoRack(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		l.region.Fault("rack:rack1", maastest.Fault{Kind: maastest.RackGone})
		_, err := l.QueryPower(l.Context(), id, false)
		require.EqualError(l, err, `cannot ask for the power of "node7": no rack controller of MAAS reaches it: No rack controllers can access the BMC of node node7 (look at the rack controllers in MAAS, and at the machine's network)`)
		require.Equal(l, cert.ProviderNoRack, cert.ProviderFaultOf(err))
		l.region.Clear("rack:rack1")
	})
}

func TestFaultImageMissingInTheRegion(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		id := l.held("node7")
		err := l.Deploy(l.Context(), id, cert.DeployOptions{Release: "warty"})
		require.Equal(l, cert.ProviderInvalid, cert.ProviderFaultOf(err))
		require.Regexp(l, `^cannot deploy "node7": MAAS has no image for ubuntu/warty on amd64 \(import it, or choose one of: .*jammy.*\)$`, err.Error())
		require.Equal(l, maastest.Allocated, l.region.State(id).Status)

		err = l.Deploy(l.Context(), id, cert.DeployOptions{Release: "jammy", Kernel: "hwe-99.04"})
		require.Equal(l, cert.ProviderInvalid, cert.ProviderFaultOf(err))
		require.Regexp(l, `^cannot deploy "node7": MAAS has no kernel "hwe-99.04" for jammy on amd64 \(import it, or choose one of: ga-22.04.*\)$`, err.Error())
		err = l.Deploy(l.Context(), id, cert.DeployOptions{Ephemeral: true})
		require.EqualError(l, err, `cannot deploy "node7" in memory: MAAS 3.4.1 cannot do that (3.5 can; leave out ephemeral)`)

		other := l.region.AddMachine(maastest.Machine{Hostname: "node8", NoNetwork: true})
		_, err = l.Acquire(l.Context(), other, "")
		require.NoError(l, err)
		err = l.Deploy(l.Context(), other, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node8": none of its interfaces uses a network (in MAAS, give one of them a subnet and an IP mode)`)
	})
}

// A free machine is never deployed: MAAS would take it without this lab's name.
func TestFaultDeployOfAMachineThatIsNotAcquired(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.machine("node7")
		err := l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": nobody holds it (Ready): it has to be acquired first`)
		require.Equal(l, cert.ProviderConflict, cert.ProviderFaultOf(err))
		err = l.MarkBroken(l.Context(), id, "")
		require.EqualError(l, err, `cannot mark "node7" broken: nobody holds it (Ready), and MAAS lets only its holder do that (acquire it first)`)
		for _, err := range []error{l.Lock(l.Context(), id, ""), l.Unlock(l.Context(), id, ""), l.Abort(l.Context(), id, ""), l.Test(l.Context(), id, nil),
			l.Power(l.Context(), id, cert.SwitchOff, true), l.Power(l.Context(), id, cert.SwitchCycle, false)} {
			require.Equal(l, cert.ProviderConflict, cert.ProviderFaultOf(err))
		}
		require.Equal(l, maastest.Ready, l.region.State(id).Status)
		_, err = l.QueryPower(l.Context(), id, false)
		require.NoError(l, err, "asking changes nothing")
	})
}

func TestFaultDeploymentFailed(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		l.region.Fault(id, maastest.Fault{Kind: maastest.DeployFails, Message: "curtin: no space left on /dev/sda"})
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		m := l.until(id, cert.StatusDeployFailed)
		require.Equal(l, cert.ThisLab, m.Holder)
		why := l.Why(l.Context(), id)
		require.Contains(l, why, "MAAS says of node7: Failed deployment")
		require.Contains(l, why, "events, newest first:")
		require.Contains(l, why, "curtin: no space left on /dev/sda")
		log, err := l.InstallLog(l.Context(), id)
		require.NoError(l, err)
		require.Contains(l, string(log), "no space left")
		events, err := l.Events(l.Context(), id, 5)
		require.NoError(l, err)
		require.Len(l, events, 5)
		require.Greater(l, events[0].ID, events[4].ID)
		require.False(l, events[0].At.IsZero())

		err = l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": it is Failed deployment: it has to be released first`)
		l.region.Clear(id)
		require.NoError(l, l.Release(l.Context(), id, cert.ReleaseOptions{}))
		l.until(id, cert.StatusFree)
	})
}

// A release that does not end is still this lab's to deal with, although MAAS has forgotten the agent name.
func TestFaultReleaseThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		ctx := l.Context()
		id := l.held("node7")
		require.NoError(l, l.Deploy(ctx, id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		l.region.Fault(id, maastest.Fault{Kind: maastest.ReleaseHangs})
		require.NoError(l, l.Release(ctx, id, cert.ReleaseOptions{}))
		m := l.until(id, cert.StatusReleaseFailed)
		require.Equal(l, cert.ThisLab, m.Holder)
		require.Empty(l, l.region.State(id).AgentName)
		// After a restart of the controller too: nothing but MAAS tells.
		again := newProvider(t, l.region, l.key, "lab1")
		require.NoError(l, again.Power(ctx, id, cert.SwitchOff, false))
		require.NoError(l, again.MarkBroken(ctx, id, "does not release"))
		require.Equal(l, cert.StatusBroken, l.look(id).Status)
		l.region.Clear(id)
	})
}

// A machine whose power MAAS cannot switch off is not switched on: it would not have been a cycle.
func TestFaultCycleThatDoesNotSwitchOff(t *testing.T) {
	t.Parallel()
	inLab(t, false, func(l lab) {
		id := l.held("node7")
		require.NoError(l, l.Deploy(l.Context(), id, cert.DeployOptions{}))
		l.until(id, cert.StatusDeployed)
		l.region.Fault(id, maastest.Fault{Kind: maastest.BMCLies, Says: "on"})
		ons := l.region.CallsOf("machine.power_on")
		err := l.Power(l.Context(), id, cert.SwitchCycle, false)
		require.EqualError(l, err, `cannot power-cycle "node7": it was switched off, and 1m30s later its BMC still says "on"`)
		require.Equal(l, ons, l.region.CallsOf("machine.power_on"))
		l.region.Clear(id)
	})
}

func TestFaultMachineVanishes(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		id := l.held("node7")
		l.region.Fault(id, maastest.Fault{Kind: maastest.Deleted, Op: "deploy", Times: 1})
		err := l.Deploy(l.Context(), id, cert.DeployOptions{})
		require.EqualError(l, err, `cannot deploy "node7": MAAS does not have it: No Machine matches the given query.`)
		err = l.Release(l.Context(), id, cert.ReleaseOptions{})
		require.EqualError(l, err, `cannot release "node7": MAAS at `+regionURL+" has no such machine (any more)")
		require.Equal(l, cert.ProviderNotFound, cert.ProviderFaultOf(err))
		_, err = l.Acquire(l.Context(), id, "")
		require.Equal(l, cert.ProviderNotFound, cert.ProviderFaultOf(err))
		found, err := l.Look(l.Context(), id)
		require.NoError(l, err)
		require.Empty(l, found)
		require.Equal(l, "MAAS has no such machine (any more)\n", l.Why(l.Context(), id))
	})
}

// An id that is no id never becomes a path of its own.
func TestFaultIDThatIsAPath(t *testing.T) {
	t.Parallel()
	inLab(t, true, func(l lab) {
		ctx := l.Context()
		for _, id := range []string{"", "../users/bob", "a/b", "a?op=release", "ä"} {
			_, acquired := l.Acquire(ctx, id, "")
			_, looked := l.Look(ctx, id)
			_, hardware := l.Hardware(ctx, id)
			_, log := l.InstallLog(ctx, id)
			_, events := l.Events(ctx, id, 1)
			for _, err := range []error{acquired, looked, hardware, log, events, l.Release(ctx, id, cert.ReleaseOptions{}), l.SetPool(ctx, id, "x"), l.Tag(ctx, "abc", "../x", true)} {
				require.Equal(l, cert.ProviderInvalid, cert.ProviderFaultOf(err), "%q: %v", id, err)
			}
		}
	})
}
