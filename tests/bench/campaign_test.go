package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/control/review"
	"certlab/internal/judge"
	"certlab/internal/judge/judgetest"
	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
	"certlab/internal/sqlite"
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

// newReview compares and shows a lab's campaigns in this process.
func newReview(b testing.TB, l storedLab) (*review.Review, *sqlite.DB) {
	db, err := sqlite.Open(b.Context(), l.data.Database())
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	store, err := blobs.Open(l.data.Blobs())
	require.NoError(b, err)
	return review.New(review.Options{DB: db, Logger: slog.New(slog.DiscardHandler), Open: func(_ context.Context, sha string, _ int64) (io.ReadCloser, error) { return store.Open(sha) }}), db
}

// BenchmarkCampaignOfThousand compares what arrives in campaigns of 10, 100 and 1,000 machines, each with 500 jobs, shows them, and compares all of it
// anew.
func BenchmarkCampaignOfThousand(b *testing.B) {
	var arriving, shown []time.Duration
	for _, machines := range []int{10, 100, 1000} {
		l := storedLab{machines: machines, runs: 2, jobs: 500}
		l.data.Dir = filepath.Join(b.TempDir(), "data")
		l.make(b)
		l.campaign(b)
		r, db := newReview(b, l)
		waiting, err := db.UnreviewedTargets(b.Context(), "", "", machines+1)
		require.NoError(b, err)
		require.Len(b, waiting, machines)
		var took []time.Duration
		for _, id := range waiting {
			began := time.Now()
			done, err := r.CompareTarget(b.Context(), id)
			took = append(took, time.Since(began))
			require.NoError(b, err)
			require.True(b, done)
		}
		last := took[len(took)*9/10:] // where the campaign is as large as it gets
		what := fmt.Sprintf("%d machines × %d jobs", machines, l.jobs)
		report.Add(b, report.Row{Measure: "Campaign: comparing one submission that arrives", Case: what, Value: report.Milliseconds(report.Percentile(last, 99)), Unit: "ms",
			Also: fmt.Sprintf("p99 of the last tenth; p50 %.1f ms", report.Milliseconds(report.Percentile(last, 50))), Goal: report.AtMost(20)})
		arriving = append(arriving, report.Percentile(last, 50))

		runtime.GC()
		peak := watchHeap()
		began := time.Now()
		require.NoError(b, r.RecomputeAll(b.Context()))
		anew := time.Since(began)
		report.Add(b, report.Row{Measure: "Campaign: everything computed anew", Case: what, Value: anew.Seconds(), Unit: "s", Goal: report.AtMost(5)})
		report.Add(b, report.Row{Measure: "Campaign: heap while everything is computed anew", Case: what, Value: report.MiB(peak()), Unit: "MiB", Goal: report.AtMost(256)})
		require.NoError(b, db.Close())
		shown = append(shown, showCampaign(b, l, what))
	}
	report.Add(b, report.Row{Measure: "Campaign: comparing in one of 1,000 machines", Value: report.Milliseconds(arriving[2]), Unit: "ms", Against: "in one of 10", Baseline: report.Milliseconds(arriving[0])})
	report.Add(b, report.Row{Measure: "Campaign: showing one of 1,000 machines", Value: report.Milliseconds(shown[2]), Unit: "ms", Against: "one of 10", Baseline: report.Milliseconds(shown[0])})
}

// watchHeap returns what says how large the heap has been at most since.
func watchHeap() func() int64 {
	stop, over := make(chan struct{}), make(chan int64)
	go func() {
		most := uint64(0)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-stop:
				over <- int64(most)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(stop); return <-over }
}

// showCampaign asks a service for a campaign's page, its summary and its first hundred findings, and returns the median of the summary.
func showCampaign(b *testing.B, l storedLab, what string) time.Duration {
	a := newAgent(b, 0)
	s := startService(b, l.data.Dir, a)
	defer s.stop()
	c := newLabClient(s, a)
	var median time.Duration
	for _, r := range []request{
		{name: "its page", path: at("/campaigns/" + campaignName)},
		{name: "its summary", path: at("/api/v1/campaigns/" + campaignName)},
		{name: "100 of its findings", path: at("/api/v1/campaigns/" + campaignName + "/findings?limit=100")},
	} {
		var took []time.Duration
		for n := range 200 {
			_, t := c.get(r, r.path(l, n))
			took = append(took, t)
		}
		report.Add(b, report.Row{Measure: "Campaign: p99 of a request", Case: r.name + ", " + what, Value: report.Milliseconds(report.Percentile(took, 99)), Unit: "ms",
			Also: fmt.Sprintf("p50 %.1f ms, slowest %.1f ms", report.Milliseconds(report.Percentile(took, 50)), report.Milliseconds(report.Percentile(took, 100))), Goal: report.AtMost(100)})
		median = report.Percentile(took, 50)
	}
	_, peak := s.memory()
	report.Add(b, report.Row{Measure: "Campaign: peak memory of certlabd that shows it", Case: what, Value: report.MiB(peak), Unit: "MiB"})
	return median
}

// BenchmarkIssuePreview asks what rules would recognise among ten million stored results.
func BenchmarkIssuePreview(b *testing.B) {
	l := largeLab(b)
	r, _ := newReview(b, l)
	for _, rule := range []struct {
		name  string
		match cert.IssueMatch
	}{
		{"a job", cert.IssueMatch{Job: fmt.Sprintf("com.canonical.certification::%s/check_%s_automated_%d", areas[7], areas[7], 7)}},
		{"an area's jobs", cert.IssueMatch{Job: "com.canonical.certification::suspend/*"}},
		{"an area's jobs with an outcome on a series", cert.IssueMatch{Job: "com.canonical.certification::suspend/*", Outcomes: []string{"crash"}}},
	} {
		began := time.Now()
		p, err := r.PreviewIssue(b.Context(), rule.match, "")
		took := time.Since(began)
		require.NoError(b, err)
		require.Positive(b, p.Matches)
		report.Add(b, report.Row{Measure: "10 million results: preview of a rule by attributes", Case: rule.name, Value: report.Milliseconds(took), Unit: "ms",
			Also: fmt.Sprintf("%d matches, complete: %v", p.Matches, p.Complete), Goal: report.AtMost(1000)})
	}
	began := time.Now()
	p, err := r.PreviewIssue(b.Context(), cert.IssueMatch{Log: `did not wake up: error -(7|11)\b`}, "")
	first, matches, examined, portions := time.Since(began), p.Matches, p.Examined, 1
	require.NoError(b, err)
	for ; !p.Complete && portions < 1000; portions++ {
		p, err = r.PreviewIssue(b.Context(), cert.IssueMatch{Log: `did not wake up: error -(7|11)\b`}, p.Cursor)
		require.NoError(b, err)
		matches, examined = matches+p.Matches, examined+p.Examined
	}
	require.True(b, p.Complete)
	require.Positive(b, matches)
	report.Add(b, report.Row{Measure: "10 million results: preview of a rule by log, the first answer", Value: report.Milliseconds(first), Unit: "ms",
		Also: fmt.Sprintf("whole after %d answers and %.1f s: %d of %d", portions, time.Since(began).Seconds(), matches, examined)})
}

// BenchmarkFalseApprovals counts what the policy approves of campaigns with a fault in them, and what it does not approve of clean ones.
func BenchmarkFalseApprovals(b *testing.B) {
	const campaigns = 1000
	random := rand.New(rand.NewPCG(5, 5))
	faults := judgetest.Faults()
	approved, clean := 0, 0
	for n := range campaigns {
		planted, good := judgetest.Planted(random, faults[n%len(faults)]), judgetest.Planted(random, judgetest.Clean)
		if judge.Assess(planted.Compared()).Standing == cert.StandApproved {
			approved++
		}
		if judge.Assess(good.Compared()).Standing != cert.StandApproved {
			clean++
		}
	}
	report.Add(b, report.Row{Measure: "Campaigns with a planted fault that the policy approves", Value: float64(approved), Unit: fmt.Sprintf("of %d", campaigns),
		Also: fmt.Sprintf("%d kinds of faults", len(faults)), Goal: report.AtMost(0)})
	report.Add(b, report.Row{Measure: "Clean campaigns that need a person", Value: float64(clean), Unit: fmt.Sprintf("of %d", campaigns), Goal: report.AtMost(campaigns / 50)})
}
