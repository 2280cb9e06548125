package bench

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/tests/bench/report"
	"certlab/tests/fleet"
)

// BenchmarkCampaignOverhead runs campaigns over one machine each, and takes off what the region took to deploy it. The machine's agent delivers as
// soon as it has its order: what is left is this lab's own.
func BenchmarkCampaignOverhead(b *testing.B) {
	const times = 6
	lab := startFleet(b, 20, order.FleetLimits{})
	require.NoError(b, lab.Listed(b.Context()))
	var own []time.Duration
	for n := range times + 1 {
		id := lab.Systems[n]
		began := time.Now()
		in := cert.NewCampaign{ID: cert.NewID(cert.CampaignID, began), Name: fmt.Sprintf("overhead-%d", n), Kind: cert.KindAdhoc, Plan: "com.example::sru", Reason: "benchmark",
			Subject: fleet.Kernel("6.8.0-50.51", "updates"), Machines: cert.MachineChoice{Names: []string{id}}}
		require.NoError(b, lab.Persist(b.Context(), http.MethodPost, "/api/v1/campaigns", in, nil))
		v := cert.CampaignView{Campaign: cert.Campaign{State: cert.CampaignActive}}
		for deadline := began.Add(5 * time.Minute); v.Campaign.State == cert.CampaignActive; time.Sleep(10 * time.Millisecond) {
			require.True(b, time.Now().Before(deadline), "%+v", v.Coverage)
			v = cert.CampaignView{}
			require.NoError(b, lab.Persist(b.Context(), http.MethodGet, "/api/v1/campaigns/"+in.ID, nil, &v))
		}
		took := time.Since(began)
		require.Equal(b, 1, v.Coverage.Done, "%+v", v)
		deploying := lab.Took(id, maastest.Deploying, maastest.Deployed, began)
		require.Positive(b, deploying)
		if n > 0 { // images and hardware are read once
			own = append(own, took-deploying)
		}
	}
	report.Add(b, report.Row{Measure: "A campaign's run, less the region's time: from its start to its comparison", Value: report.Milliseconds(report.Percentile(own, 100)), Unit: "ms",
		Also: fmt.Sprintf("slowest of %d, p50 %.0f ms; the poll interval of %d ms included", times, report.Milliseconds(report.Percentile(own, 50)), pollMilliseconds),
		Goal: report.AtMost(2000 + pollMilliseconds)})
}
