package review

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestAGroupNamesTheMachineThatStoodIn: after a failover nobody is told that a machine ran what another one did.
func TestAGroupNamesTheMachineThatStoodIn(t *testing.T) {
	t.Parallel()
	targets := []cert.Target{
		{ID: "t1", Machine: "m1", Hostname: "node-1", Counted: 2, Tries: []cert.Try{{Number: 1, Machine: "m1", Hostname: "node-1"}, {Number: 2, Machine: "m5", Hostname: "node-5"}}},
		{ID: "t3", Machine: "m3", Hostname: "node-3", Counted: 1, Tries: []cert.Try{{Number: 1, Machine: "m3", Hostname: "node-3"}}},
	}
	findings := []cert.Finding{{Target: "t1", Hostname: "node-1"}, {Target: "t3", Hostname: "node-3"}}
	shown := standIns(targets, findings)
	require.Equal(t, "node-1 (ran on node-5)", shown[0].Hostname)
	require.Equal(t, "node-3", shown[1].Hostname)
	require.Equal(t, "node-1", findings[0].Hostname, "what is decided on keeps its names")
	require.Equal(t, "node-1", (&cert.Target{Hostname: "node-1", Machine: "m1", Tries: targets[0].Tries}).Shown(), "nothing counts yet")
}
