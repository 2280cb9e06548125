package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/tests/bench/report"
	"certlab/tests/fleet"
)

// failuresEnv asks TestFleetOfFailures for the lab that is measured, and names the file for what came of it.
const failuresEnv = "CERTLAB_FLEET_OF_FAILURES"

// TestFleetOfFailures has a tenth of all deployments fail in each way that deployments fail in: each reservation gets its machine without a
// person, and no machine is lost or held twice.
func TestFleetOfFailures(t *testing.T) {
	o := fleet.Failing{Machines: 12, Wanted: 6, Share: 0.1, Seed: 5, Poll: 20 * time.Second, Limit: 7 * 24 * time.Hour}
	path := os.Getenv(failuresEnv)
	if path != "" {
		o.Machines, o.Wanted = 300, 500 // half of all their deployments fail
	}
	out := fleet.RunFailing(t, o)
	text, err := json.MarshalIndent(out, "", "  ")
	require.NoError(t, err)
	t.Logf("%s", text)
	if path != "" {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return
	}
	require.Empty(t, out.Without)
	require.Equal(t, o.Wanted, out.Arrived)
	require.Empty(t, out.Lost)
	require.Empty(t, out.Twice)
}

// BenchmarkFleetOfFailures is TestFleetOfFailures with 500 reservations. It runs in a process of its own: a bubble of its own time needs a test.
func BenchmarkFleetOfFailures(b *testing.B) {
	path := filepath.Join(b.TempDir(), "failures.json")
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestFleetOfFailures$", "-test.timeout", "25m")
	cmd.Env = append(os.Environ(), failuresEnv+"="+path)
	printed, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", printed)
	text, err := os.ReadFile(path)
	require.NoError(b, err)
	var out fleet.Failed
	require.NoError(b, json.Unmarshal(text, &out))
	for _, without := range append(append(out.Without, out.Lost...), out.Twice...) {
		b.Log(without)
	}
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: arrived without a person", Value: float64(out.Arrived), Unit: "machines",
		Also: fmt.Sprintf("%d deployments, %d incidents", out.Deployments, out.Incidents)})
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: needed a person", Value: float64(out.Wanted - out.Arrived), Unit: "machines", Goal: report.AtMost(0)})
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: machines lost", Value: float64(len(out.Lost)), Unit: "machines", Goal: report.AtMost(0)})
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: held twice", Value: float64(len(out.Twice)), Unit: "machines", Goal: report.AtMost(0)})
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: machines in quarantine", Value: float64(out.Quarantined), Unit: "machines"})
	report.Add(b, report.Row{Measure: "500 machines requested while deployments fail: until the last one is ready", Value: out.Hours, Unit: "hours"})
}
