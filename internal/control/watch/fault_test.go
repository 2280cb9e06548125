package watch_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// reboot has a machine come up with a new boot id and its agent go on, as it does when its power comes.
func (b *bench) reboot(n *node) {
	n.boot = fmt.Sprintf("boot-%d-%s", len(b.bmc.calls)+1, n.system)
	n.up = true
	b.report(n, "com.example::next", 0)
}

// boots has each machine that is switched on come up at once.
func (b *bench) boots() {
	b.bmc.booted = func(id string) {
		for _, n := range b.nodes {
			if n.system == id {
				was := b.armed.Swap(false) // what the agent does goes on whatever becomes of the service
				b.now = b.now.Add(time.Second)
				b.reboot(n)
				b.armed.Store(was)
			}
		}
	}
}

// TestFaultHangInSuspend has a machine hang in a suspend job: it is power-cycled, its console is kept, it resumes and delivers, and the job,
// which Checkbox calls passed, counts as machine-lost.
func TestFaultHangInSuspend(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.text = "BUG: unable to handle page fault\n"
	b.boots()
	n, other := b.add("node1", "ipmi", "com.example::first"), b.add("node2", "ipmi", "com.example::first")
	b.report(n, suspendJob, 120)
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(14*time.Minute, other)
	require.Zero(t, b.bmc.called())
	b.pass(3*time.Minute, other)
	require.Equal(t, []string{"off " + n.system, "on " + n.system}, b.bmc.calls)
	b.finish(n, "com.example::first", suspendJob, "com.example::next")
	b.pass(20*time.Minute, n, other)
	require.Len(t, b.bmc.calls, 2, "it is heard again")

	run := b.look(n)
	require.Equal(t, cert.Completed, run.State)
	require.Equal(t, cert.Counts{"pass": 2, "machine-lost": 1}, run.Counts)
	require.Len(t, run.Attempts[0].MachineLost, 1)
	lost := run.Attempts[0].MachineLost[0]
	require.Equal(t, suspendJob, lost.Job)
	require.Equal(t, []string{"boot-1-" + n.system, n.boot}, lost.Boots)
	require.Equal(t, "power cycle 1", lost.Power)
	require.Equal(t, "the machine kept silent in this job for longer than it may and was power-cycled, and came back", lost.Text)
	results, _, err := b.db.Results(b.ctx(), sqlite.ResultFilter{Run: run.ID, Job: suspendJob}, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, "pass", results[0].Outcome, "Checkbox's own word stays")
	require.True(t, results[0].MachineLost)
	runs, _, err := b.db.Runs(b.ctx(), sqlite.RunFilter{Machine: n.id}, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, run.Counts, runs[0].Counts)
	submissions, _, err := b.db.Submissions(b.ctx(), sqlite.SubmissionFilter{Run: run.ID}, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, run.Counts, submissions[0].Counts)

	var console cert.File
	for _, f := range run.Files {
		if f.Kind == cert.KindBMC {
			console = f
		}
	}
	require.Equal(t, "bmc-console-1.txt", console.Name)
	require.NoError(t, b.files.Verify(b.ctx(), console.SHA256))
	require.Equal(t, []string{
		"nothing was heard of it for 15 minutes during job " + suspendJob + ": it is power-cycled (power cycle 1 of attempt 1 of run " + run.ID + ")",
		"switched off, for power cycle 1; the last 33 bytes of its console are kept with the run, and it says: BUG: unable to handle page fault",
		"switched on, for power cycle 1: its agent is waited for",
		"back after power cycle 1; job " + suspendJob + " counts as machine-lost",
	}, b.log(n))
	require.Empty(t, b.log(other))
}

// TestFaultWatchKilled kills the service at each step of a power cycle, before and after what is done: it is done once more at most, nothing is
// lost, and the machine is back in the end.
func TestFaultWatchKilled(t *testing.T) {
	t.Parallel()
	counted := 0
	for cut := 0; ; cut++ {
		b := newBench(t)
		b.conf.Limits.SilenceMinutes = 1
		b.boots()
		n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
		require.NoError(t, b.watch.Look(b.ctx()))
		var killed atomic.Bool
		var steps atomic.Int32
		b.db.OnStep(func(string) {
			if b.armed.Load() && int(steps.Add(1)) == cut+1 {
				killed.Store(true)
				runtime.Goexit() // nothing of what this one was at is done any more
			}
		})
		for range 4 {
			b.now = b.now.Add(30 * time.Second)
			b.hear(other)
			if n.up {
				b.hear(n)
			}
			b.armed.Store(true)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = b.watch.Look(b.ctx())
			}()
			<-done
			b.armed.Store(false)
			if killed.Load() {
				break
			}
		}
		if !killed.Load() {
			counted = cut
			break
		}
		b.kill()
		b.pass(3*time.Minute, other)
		run := b.look(n)
		require.Equal(t, cert.Running, run.State, "cut %d", cut)
		require.Len(t, run.Attempts[0].MachineLost, 1, "cut %d", cut)
		require.Len(t, run.Attempts[0].MachineLost[0].Boots, 2, "cut %d", cut)
		open, err := b.db.OpenCycles(b.ctx())
		require.NoError(t, err)
		require.Empty(t, open, "cut %d", cut)
		require.LessOrEqual(t, b.bmc.called(), 3, "cut %d: %v", cut, b.bmc.calls)
		all := strings.Join(b.log(n), "\n")
		require.Equal(t, 1, strings.Count(all, "counts as machine-lost"), "cut %d: %s", cut, all)
	}
	require.Greater(t, counted, 10, "steps at which it was killed")
}

// TestFaultPowerCyclesUsedUp has a machine that does not come back: after the last power cycle its run has failed, and a person is asked to
// look. What the machine delivers after all is taken.
func TestFaultPowerCyclesUsedUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.conf.Limits.PowerCycles = 2
	n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(2*time.Hour, other)
	require.Equal(t, []string{"off " + n.system, "on " + n.system, "off " + n.system, "on " + n.system}, b.bmc.calls)
	run := b.look(n)
	require.Equal(t, cert.Failed, run.State)
	require.Equal(t, "machine-lost", run.Failure.Type)
	require.Equal(t, "its machine kept silent in job "+suspendJob+" and could not be got back: after power cycle 2 nothing was heard of it for 15 minutes, "+
		"and no more power cycles are allowed for an attempt (power-cycles) (look at the machine, then run it again)", run.Failure.Message)
	require.Equal(t, 2, run.Counts["machine-lost"])
	hands, err := b.db.HandsNeeded(b.ctx())
	require.NoError(t, err)
	require.Contains(t, hands[n.id], "it was lost in job "+suspendJob+" and does not come back")
	lost, err := b.db.LostMachines(b.ctx())
	require.NoError(t, err)
	require.Contains(t, lost, n.id, "so that it is quarantined")
	sent, _, err := b.db.Notices(b.ctx(), sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, sent, 1)
	require.Equal(t, cert.NoticeNeedsHands, sent[0].Kind)

	b.reboot(n)
	require.Equal(t, cert.Running, b.look(n).State, "it comes back after all")
	hands, err = b.db.HandsNeeded(b.ctx())
	require.NoError(t, err)
	require.Empty(t, hands)
}

// TestFaultTwoDeadBMCs has two machines with dead BMCs hang among healthy ones: those two are given up, the third is power-cycled, and the
// others are left alone.
func TestFaultTwoDeadBMCs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.boots()
	var healthy []*node
	for n := range 6 {
		healthy = append(healthy, b.add(fmt.Sprintf("well%d", n), "ipmi", "job"))
	}
	dead1, dead2, hung := b.add("dead1", "ipmi", suspendJob), b.add("dead2", "ipmi", suspendJob), b.add("hung", "ipmi", suspendJob)
	for _, n := range []*node{dead1, dead2} {
		b.bmc.fail[n.system] = cert.ProviderErrorf(cert.ProviderBroken, "cannot ask for the power of %s: its BMC does not answer", n.system)
	}
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(40*time.Minute, healthy...)
	for _, n := range []*node{dead1, dead2} {
		run := b.look(n)
		require.Equal(t, "machine-lost", run.Failure.Type)
		require.Equal(t, "its machine kept silent in job "+suspendJob+" and could not be got back: cannot ask for the power of "+n.system+
			": its BMC does not answer (look at the machine, then run it again)", run.Failure.Message)
		require.Empty(t, run.Attempts[0].MachineLost, "its power was never off")
	}
	require.Len(t, b.look(hung).Attempts[0].MachineLost, 1)
	for _, n := range healthy {
		require.Equal(t, cert.Running, b.look(n).State)
		require.Empty(t, b.log(n))
	}
}

// TestFaultLyingBMC has a BMC that says that the machine is off, and it goes on; and one that takes the order and does nothing.
func TestFaultLyingBMC(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	liar, stuck, other := b.add("liar", "ipmi", suspendJob), b.add("stuck", "ipmi", suspendJob), b.add("other", "ipmi", "job")
	b.bmc.fakes[liar.system], b.bmc.stuck[stuck.system] = true, true
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(17*time.Minute, other)
	require.Len(t, b.look(liar).Attempts[0].MachineLost, 1)
	b.report(liar, suspendJob, 0) // with the same boot
	b.pass(20*time.Minute, other, liar)
	run := b.look(liar)
	require.Equal(t, cert.Running, run.State)
	require.Empty(t, run.Attempts[0].MachineLost, "it was never off")
	require.Contains(t, b.log(liar), "its BMC lies: it said that the machine was off and on again, and the machine goes on with the same boot")
	run = b.look(stuck)
	require.Equal(t, cert.Failed, run.State)
	require.Contains(t, run.Failure.Message, "its BMC takes the order and the machine is still on")
	require.Empty(t, run.Attempts[0].MachineLost)
}

// TestFaultNoBMC has a machine hang that nobody but a person can switch: that is said, once, and nothing else is done.
func TestFaultNoBMC(t *testing.T) {
	t.Parallel()
	unit := func(p *cert.Provided) { p.Holder = cert.AJuju }
	for name, c := range map[string]struct {
		power  string
		change func(*cert.Provided)
		unit   string
		none   bool
		units  bool
		why    string
	}{
		"manual power":     {power: "manual", why: "its power type is manual"},
		"a unit's machine": {power: "ipmi", change: unit, unit: "checkbox/0", why: "machines that carry a unit are not to be switched (option power-units)"},
		"a unit that its hardware does not confirm": {power: "ipmi", change: unit, unit: "checkbox/0", units: true,
			why: "nothing confirms that its unit is on the provider's machine SYSTEM (the product UUID or a MAC address has to agree)"},
		"a machine of another user": {power: "ipmi", change: func(p *cert.Provided) { p.Holder = cert.Otherwise }, why: "somebody else holds it at the provider"},
		"no provider":               {power: "ipmi", none: true, why: "this controller has no provider that could switch it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.none, b.conf.MAAS.PowerUnits = c.none, c.units
			change := c.change
			if change == nil {
				change = func(*cert.Provided) {}
			}
			n, other := b.add("node1", c.power, suspendJob, change), b.add("node2", "ipmi", "job")
			if c.unit != "" {
				_, refused, err := b.db.Enrol(b.ctx(), []cert.Enrolment{{Unit: c.unit, PublicKey: "key", Identity: cert.Identity{Hostname: "node1", SystemID: n.system}}}, b.now)
				require.NoError(t, err)
				require.Empty(t, refused)
			}
			require.NoError(t, b.watch.Look(b.ctx()))
			b.pass(20*time.Minute, other)
			require.Zero(t, b.bmc.called())
			require.Equal(t, cert.Running, b.look(n).State, "nothing says that it is lost")
			hands, err := b.db.HandsNeeded(b.ctx())
			require.NoError(t, err)
			require.Equal(t, "nothing was heard of it for 15 minutes during job "+suspendJob+", and "+strings.ReplaceAll(c.why, "SYSTEM", n.system)+": look at it, and switch it off and on", hands[n.id])
			sent, _, err := b.db.Notices(b.ctx(), sqlite.Page{Limit: 10})
			require.NoError(t, err)
			require.Len(t, sent, 1)
			require.Len(t, b.log(n), 1)
		})
	}
}

// TestFaultControllerWasDown has the service be down for hours: the silence of that time is nobody's.
func TestFaultControllerWasDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
	b.pass(5*time.Minute, n, other)
	b.now = b.now.Add(5 * time.Hour)
	b.kill()
	b.pass(14*time.Minute, other)
	require.Zero(t, b.bmc.called())
	b.now = b.now.Add(5 * time.Hour) // it stood still
	b.pass(14*time.Minute, other)
	require.Zero(t, b.bmc.called())
	b.pass(2*time.Minute, other)
	require.NotZero(t, b.bmc.called())
}

// TestFaultNobodyIsHeard has the controller's own network fail in a lab that is too small for an incident: no machine is power-cycled while
// that may be all, and then one before the others.
func TestFaultNobodyIsHeard(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.boots()
	all := []*node{b.add("node1", "ipmi", "job"), b.add("node2", "ipmi", "job"), b.add("node3", "ipmi", "job")}
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(20 * time.Minute)
	require.Zero(t, b.bmc.called())
	b.pass(5*time.Minute, all...)
	require.Zero(t, b.bmc.called(), "it was the network")
	b.bmc.booted = nil
	b.pass(32 * time.Minute)
	require.Len(t, b.bmc.calls, 2, "one is tried")
	require.Len(t, b.gate.heard, 2)
}

// TestFaultProviderAwayDuringPowerCycle has MAAS go away when a machine is to be switched: that uses up no deadline, and it goes on after.
func TestFaultProviderAwayDuringPowerCycle(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.boots()
	n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
	b.bmc.fail[n.system] = cert.ProviderErrorf(cert.ProviderUnreachable, "cannot reach MAAS at http://maas:5240/MAAS: connection refused")
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(time.Hour, other)
	require.Equal(t, cert.Running, b.look(n).State)
	require.Contains(t, b.log(n), "cannot be switched yet, for power cycle 1: cannot reach MAAS at http://maas:5240/MAAS: connection refused")
	require.Len(t, b.log(n), 3)
	delete(b.bmc.fail, n.system)
	b.pass(3*time.Minute, other)
	require.Equal(t, []string{"off " + n.system, "on " + n.system}, b.bmc.calls)
	require.Len(t, b.look(n).Attempts[0].MachineLost, 1)
}

// TestFaultIncidentHoldsPowerCycles holds that the watch asks about incidents first.
func TestFaultIncidentHoldsPowerCycles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
	b.gate.hold = &cert.Hold{Incident: "i1", Text: "an incident"}
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(time.Hour, other)
	require.Zero(t, b.bmc.called())
	require.Empty(t, b.log(n))
	require.Equal(t, cert.FailSilent, b.gate.heard[0].Failure)
	require.Empty(t, b.gate.heard[1].Failure)
	b.gate.hold = nil
	b.pass(time.Minute, other)
	require.NotZero(t, b.bmc.called())
}

// TestFaultMachineWakesByItself has a machine be heard again before its power is touched.
func TestFaultMachineWakesByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.add("node1", "ipmi", suspendJob), b.add("node2", "ipmi", "job")
	require.NoError(t, b.db.ChangeFleet(b.ctx(), func(tx *sqlite.FleetTx) error {
		return tx.PutCycle(cert.PowerCycle{Run: n.run, Attempt: 1, Machine: n.id, At: b.now, Job: suspendJob, Step: cert.CycleBegun, Number: 1, Since: b.now, Heard: b.now,
			Boot: n.boot, Provider: n.system})
	}))
	b.now = b.now.Add(time.Minute)
	b.hear(n, other)
	require.NoError(t, b.watch.Look(b.ctx()))
	require.Zero(t, b.bmc.called())
	require.Equal(t, []string{"heard again after 60 seconds by itself: it is not power-cycled"}, b.log(n))
	open, err := b.db.OpenCycles(b.ctx())
	require.NoError(t, err)
	require.Empty(t, open)
	require.Empty(t, b.look(n).Attempts[0].MachineLost)
}

// TestFaultUnitHangs has a machine hang that carries a unit, where the site allows to switch those and the hardware confirms which one it is.
func TestFaultUnitHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.conf.MAAS.PowerUnits, b.placed = true, cert.Placement{Confirmed: true}
	n, other := b.add("node1", "ipmi", suspendJob, func(p *cert.Provided) { p.Holder = cert.AJuju }), b.add("node2", "ipmi", "job")
	_, refused, err := b.db.Enrol(b.ctx(), []cert.Enrolment{{Unit: "checkbox/0", PublicKey: "key", Identity: cert.Identity{Hostname: "node1", SystemID: n.system}}}, b.now)
	require.NoError(t, err)
	require.Empty(t, refused)
	require.NoError(t, b.watch.Look(b.ctx()))
	b.pass(20*time.Minute, other)
	require.NotZero(t, b.bmc.called())
	require.Contains(t, strings.Join(b.log(n), "\n"), "nothing was heard of it for 15 minutes during job "+suspendJob+": it is power-cycled (power cycle 1 of attempt 1 of run ")
}
