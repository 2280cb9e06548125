package watch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/watch"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// order adds a run that its machine has not reported.
func (b *bench) order(n *node) string {
	run := cert.Run{ID: cert.NewID(cert.RunID, b.now), Machine: n.id, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: b.now}
	require.NoError(b.t, b.db.AddRun(b.ctx(), run))
	return run.ID
}

// TestFaultSilentAfterHandOut has a machine hang after it was given a run and before it has reported it: that is the beginning from which its
// silence counts, and after the power cycle the run is handed out again.
func TestFaultSilentAfterHandOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.boots()
	n, other := b.add("node1", "ipmi", "job"), b.add("node2", "ipmi", "job")
	b.finish(n, "job")
	require.NoError(t, b.watch.Look(b.ctx()))
	n.run = b.order(n)
	b.bmc.booted = func(string) { b.now = b.now.Add(time.Second); n.up = true; b.hear(n) }
	b.pass(time.Hour, other)
	require.Zero(t, b.bmc.called(), "nobody has given it anything")
	given, err := b.db.HandOutRun(b.ctx(), n.run, sqlite.HandOut{Now: b.now})
	require.NoError(t, err)
	require.True(t, given)
	b.pass(14*time.Minute, other)
	require.Zero(t, b.bmc.called(), "silence counts from the hand-out, not from the last contact before it")
	b.pass(2*time.Minute, other)
	require.Equal(t, []string{"off " + n.system, "on " + n.system}, b.bmc.calls)
	b.pass(30*time.Minute, other)
	require.Len(t, b.bmc.calls, 2)
	require.Equal(t, []string{
		"nothing was heard of it for 15 minutes since run " + n.run + " was handed out to it: it is power-cycled (power cycle 1 of run " + n.run + ", which was not reported yet)",
		"switched off, for power cycle 1; its console is empty",
		"switched on, for power cycle 1: its agent is waited for",
		"back after power cycle 1; run " + n.run + " is handed out again",
	}, b.log(n))
	orders, _, err := b.db.OpenRuns(b.ctx(), n.id, 10)
	require.NoError(t, err)
	require.Len(t, orders, 1)
	require.Equal(t, n.run, orders[0].ID)
	require.Empty(t, b.look(n).Attempts)

	// One that never comes back ends as lost.
	n.up, b.bmc.booted = false, nil
	b.pass(2*time.Hour, other)
	run := b.look(n)
	require.Equal(t, cert.Failed, run.State)
	require.Equal(t, cert.FailMachineLost, run.Failure.Type)
}

// hanging is a provider that does not answer for one machine until it is let go.
type hanging struct {
	*bmcs
	id    string
	let   chan struct{}
	asked chan struct{}
}

func (h *hanging) QueryPower(ctx context.Context, id string, unit bool) (cert.PowerState, error) {
	if id == h.id {
		select {
		case h.asked <- struct{}{}:
		default:
		}
		select {
		case <-h.let:
		case <-ctx.Done():
			return cert.PowerUnknown, ctx.Err()
		}
	}
	return h.bmcs.QueryPower(ctx, id, unit)
}

// TestFaultHangingBMCHoldsUpNobody has the provider not answer for one machine: another that hangs is power-cycled meanwhile, one that falls silent
// after that too, and the first one once there is an answer, each once.
func TestFaultHangingBMCHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.now = time.Now().UTC()
		p := &hanging{bmcs: b.bmc, let: make(chan struct{}), asked: make(chan struct{}, 1)}
		b.watch.Provider = func() cert.Provider { return p }
		b.watch.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
		b.watch.Config = func() order.Fleet { return order.Fleet{Limits: order.FleetLimits{SilenceMinutes: 5, BootMinutes: 600}} }
		stuck, well, late, other := b.add("stuck", "ipmi", suspendJob), b.add("well", "ipmi", suspendJob), b.add("late", "ipmi", suspendJob), b.add("other", "ipmi", "job")
		p.id = stuck.system
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func(w *watch.Watch) { done <- w.Loop(ctx) }(b.watch)
		pass := func(d time.Duration, heard ...*node) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(time.Minute)
				b.now = time.Now().UTC()
				b.hear(heard...)
			}
		}
		calls := func(n *node) (out []string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, c := range p.calls {
				if c == "off "+n.system || c == "on "+n.system {
					out = append(out, c)
				}
			}
			return out
		}
		pass(7*time.Minute, late, other)
		<-p.asked
		require.Empty(t, calls(stuck))
		require.Equal(t, []string{"off " + well.system, "on " + well.system}, calls(well))
		pass(7*time.Minute, other)
		require.Equal(t, []string{"off " + late.system, "on " + late.system}, calls(late), "it fell silent while the provider hung")
		require.Len(t, b.log(stuck), 2, "it was begun, and is not begun again")
		close(p.let)
		pass(2*time.Minute, other)
		require.Equal(t, []string{"off " + stuck.system, "on " + stuck.system}, calls(stuck))
		require.Len(t, calls(well), 2)
		cancel()
		require.NoError(t, <-done)
	})
}
