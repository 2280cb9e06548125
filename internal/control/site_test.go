package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestFaultACrashAfterAnOrderWasGivenKeepsWhatItHasForItself: the order and what it has are stored together before the agent is answered. After a
// crash between the two the agent gets the same order again, and nobody else what it has.
func TestFaultACrashAfterAnOrderWasGivenKeepsWhatItHasForItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := cert.Machine{ID: cert.NewID(cert.MachineID, epoch), Key: "manual:node1", Origin: cert.OriginManual, Hostname: "node1", Created: epoch}
	require.NoError(t, f.DB.AddMachine(t.Context(), other))
	order := func(machine string) string {
		_, err := f.DB.PutDossier(t.Context(), cert.Dossier{Machine: machine, Shared: []string{"iperf-a"}, Manifest: map[string]string{"a::b": "true"}}, "ada", epoch)
		require.NoError(t, err)
		r := cert.Run{ID: cert.NewID(cert.RunID, epoch), Machine: machine, Origin: cert.FromOrder, Spec: cert.Spec{Plan: "a::b"}, State: cert.Queued, Created: epoch}
		require.NoError(t, f.DB.AddRun(t.Context(), r))
		return r.ID
	}
	mine, theirs := order(f.machine.ID), order(other.ID)
	news, err := f.newsFor(t.Context(), f.machine.ID)
	require.NoError(t, err)
	require.Len(t, news.Orders, 1)
	f.restart(nil) // before the answer has left
	news, err = f.newsFor(t.Context(), other.ID)
	require.NoError(t, err)
	require.Empty(t, news.Orders)
	waiting, err := f.DB.Run(t.Context(), theirs)
	require.NoError(t, err)
	require.Equal(t, "iperf-a, held by run "+mine+" on node0", waiting.Waits)
	news, err = f.newsFor(t.Context(), f.machine.ID)
	require.NoError(t, err)
	require.Equal(t, mine, news.Orders[0].ID)
	require.Equal(t, map[string]string{"a::b": "true"}, news.Manifest)

	// Given up by the controller, it is free for the other, whose poll is woken.
	woken := f.hub.wait(other.ID)
	require.NoError(t, f.lose(t.Context(), mine, "gone"))
	<-woken
	news, err = f.newsFor(t.Context(), other.ID)
	require.NoError(t, err)
	require.Equal(t, theirs, news.Orders[0].ID)
}
