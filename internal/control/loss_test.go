package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// TestFaultAgentIsToldOfAPowerCycle has a machine be power-cycled in a job that is meant to reboot: its agent is told of the run, also by a service
// that was killed meanwhile, until it has said that it knows; and neither before nor of another run.
func TestFaultAgentIsToldOfAPowerCycle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: f.now}
	require.NoError(t, f.DB.AddRun(t.Context(), run))
	seq := int64(0)
	report := func(boot string, state cert.State, known ...cert.Interruption) {
		seq++
		_, err := f.DB.UpdateRun(t.Context(), run.ID, nil, func(r *cert.Run) (bool, error) {
			return r.Report(cert.Report{Attempt: 1, Sequence: seq, Origin: cert.FromOrder, State: state, BootID: boot, Interruptions: known}, f.now), nil
		})
		require.NoError(t, err)
	}
	told := func() []string {
		news, err := f.Next(t.Context(), f.machine.ID, 0, func() error { return nil })
		require.NoError(t, err)
		return news.Lost
	}
	lost := func(boots ...string) {
		require.NoError(t, f.DB.ChangeFleet(t.Context(), func(tx *sqlite.FleetTx) error {
			return tx.PutLostJob(run.ID, 1, cert.LostJob{Job: "a::suspend", At: f.now, Boots: boots})
		}))
	}
	report("boot-1", cert.Running)
	require.Empty(t, told())
	lost("boot-1")
	require.Equal(t, []string{run.ID}, told())
	f.restart(nil)
	lost("boot-1", "boot-2")
	require.Equal(t, []string{run.ID}, told())
	reboot := cert.Interruption{Job: "a::suspend", Cause: "reboot", Expected: true, BootBefore: "boot-1", BootAfter: "boot-2"}
	report("boot-2", cert.Running, reboot)
	require.Equal(t, []string{run.ID}, told(), "that it was interrupted it sees by itself; not by whom")
	reboot.Cause = cert.CausePowerCut
	report("boot-2", cert.Running, reboot)
	require.Empty(t, told(), "it knows")
	f.now = f.now.Add(1)
	lost("boot-2", "boot-3")
	require.Equal(t, []string{run.ID}, told(), "of the next one it does not")
	report("boot-4", cert.Running, reboot)
	require.Empty(t, told(), "it was not told in that boot, and has nothing to say any more")
	f.now = f.now.Add(1)
	lost("boot-4", "boot-5")
	require.Equal(t, []string{run.ID}, told())
	_, err := f.DB.UpdateRun(t.Context(), run.ID, nil, func(r *cert.Run) (bool, error) { return r.Lose("gone", f.now), nil })
	require.NoError(t, err)
	require.Empty(t, told(), "the run is over")
}
