package watch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/watch"
	"certlab/internal/order"
)

// booting has a machine's agent say that it goes down into the kernel under test.
func (b *bench) booting(n *node) {
	sub := &order.Subject{Kind: order.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: "6.8.0-51.52", Pocket: "proposed"}
	b.seq++
	_, err := b.db.UpdateRun(b.ctx(), n.run, nil, func(r *cert.Run) (bool, error) {
		r.Spec.Subject = sub
		return r.Report(cert.Report{Attempt: 1, Sequence: b.seq, Origin: cert.FromOrder, State: cert.Running, BootID: n.boot, Started: begin,
			Subject:  &order.SubjectState{Step: order.SubjectSelected, Before: "6.8.0-50-generic"},
			Progress: cert.Progress{Phase: string(order.Booting), QuietSeconds: 900}}, b.now), nil
	})
	require.NoError(b.t, err)
	b.hear(n)
}

// TestFaultMachineDoesNotComeBackWithItsKernel has machines that do not come up with the kernel that was selected: their runs end as kernel-boot,
// with what the console says of it, and not as machine-lost.
func TestFaultMachineDoesNotComeBackWithItsKernel(t *testing.T) {
	t.Parallel()
	const kernel = "kernel 6.8.0-51-generic (linux 6.8.0-51.52) was selected, and the machine did not come up with it: "
	for _, test := range []struct {
		name, power, console string
		change               func(*bench)
		calls                int
		message              string
	}{
		{"it panics", "ipmi", "[    1.2] VFS: Unable to mount root fs on unknown-block(0,0)\n[    1.3] Kernel panic - not syncing: \x1b[1mVFS\x1b[0m\n[ 1.4] Call Trace:\n", func(*bench) {}, 6,
			kernel + "after power cycle 3 nothing was heard of it for 15 minutes, and no more power cycles are allowed for an attempt (power-cycles); the last 130 bytes of its console are kept with the run, and it says: Kernel panic - not syncing: VFS"},
		{"it stands in its initramfs", "ipmi", "Gave up waiting for root file system device.\n(initramfs) ", func(*bench) {}, 6, "and it says: (initramfs)"},
		{"nothing can switch it", "manual", "", func(*bench) {}, 0, kernel + "nothing was heard of it for 16 minutes, and its power type is manual; its console is empty"},
		{"its BMC is dead", "ipmi", "", func(b *bench) { b.bmc.fail["sysnode1"] = cert.ProviderErrorf(cert.ProviderInvalid, "no power driver") }, 0,
			kernel + "it cannot be switched off: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.text = test.console
			n, other := b.add("node1", test.power, "com.example::first"), b.add("node2", "ipmi", "com.example::first")
			test.change(b)
			b.booting(n)
			b.pass(14*time.Minute, other)
			require.Zero(t, b.bmc.called(), "as long as it may take")
			b.pass(3*time.Hour, other)
			run := b.look(n)
			require.Equal(t, cert.Failed, run.State)
			require.Equal(t, order.FailKernelBoot, run.Failure.Type)
			require.Contains(t, run.Failure.Message, test.message)
			require.Len(t, b.bmc.calls, test.calls)
			if test.console != "" {
				require.NotEmpty(t, run.Files, "the console is kept")
			}
			row, err := b.db.FleetRow(b.ctx(), n.id)
			require.NoError(t, err)
			require.Zero(t, row.Failures, "it says nothing about the machine")
			require.Nil(t, row.Quarantine)
			lost, err := b.db.LostMachines(b.ctx())
			require.NoError(t, err)
			require.Empty(t, lost, "nobody quarantines it for that")

			// It comes back after all: what its agent knows is taken.
			require.True(t, run.Presumed())
			b.kill()
			b.seq++
			n.boot = "boot-late"
			_, err = b.db.UpdateRun(b.ctx(), n.run, nil, func(r *cert.Run) (bool, error) {
				return r.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: b.seq, Origin: cert.FromOrder, State: cert.Failed, BootID: n.boot,
					Subject: &order.SubjectState{Step: order.SubjectFell}}, Failure: &cert.Failure{Type: order.FailKernelBoot, Message: "it fell back"}}, b.now)
			})
			require.NoError(t, err)
			run = b.look(n)
			require.Equal(t, "it fell back", run.Failure.Message)
			require.True(t, run.Closed())
		})
	}
}

// TestKernelThatComesUpAfterAPowerCycleIsNoEnd has the agent decide what a machine has come up with.
func TestKernelThatComesUpAfterAPowerCycleIsNoEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.boots()
	n, other := b.add("node1", "ipmi", "com.example::first"), b.add("node2", "ipmi", "com.example::first")
	b.booting(n)
	b.pass(20*time.Minute, other)
	require.Equal(t, []string{"off " + n.system, "on " + n.system}, b.bmc.calls)
	run := b.look(n)
	require.Equal(t, cert.Running, run.State)
	require.Len(t, run.Attempts[0].MachineLost, 1, "it is noted")
}

func TestLastWordsOfAConsole(t *testing.T) {
	t.Parallel()
	require.Equal(t, "Kernel panic - not syncing: Fatal exception", watch.LastWords("BUG: unable to handle\nKernel panic - not syncing: Fatal exception\n---[ end trace ]---\n"))
	require.Equal(t, "", watch.LastWords("Ubuntu 24.04 LTS node1 ttyS0\n\nnode1 login: "))
	require.Len(t, watch.LastWords("Oops: "+string(make([]byte, 10))+"x\xff"+string(make([]byte, 300))), 7)
}
