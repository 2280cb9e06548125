package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// TestFaultDirtyMachineIsHandedNoRun has a machine be put back after a run, fail at that, and be cleaned: it is handed a run only then, also by a
// service that was killed meanwhile.
func TestFaultDirtyMachineIsHandedNoRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: f.now}
	require.NoError(t, f.DB.AddRun(t.Context(), run))
	says := func(s order.Status) {
		require.NoError(t, f.DB.ChangeFleet(t.Context(), func(tx *sqlite.FleetTx) error {
			return tx.PutAgentStatus(sqlite.AgentSaid{Machine: f.machine.ID, At: f.now, Status: s})
		}))
	}
	orders := func() int {
		news, err := f.Next(t.Context(), f.machine.ID, 0, func() error { return nil })
		require.NoError(t, err)
		return len(news.Orders)
	}
	says(order.Status{Restoring: "r0"})
	require.Zero(t, orders())
	says(order.Status{Dirty: "cannot remove what was installed"})
	require.Zero(t, orders())
	f.restart(nil)
	require.Zero(t, orders())
	after, err := f.DB.Run(t.Context(), run.ID)
	require.NoError(t, err)
	require.Nil(t, after.HandedOut, "it waits")
	says(order.Status{})
	require.Equal(t, 1, orders())
}
