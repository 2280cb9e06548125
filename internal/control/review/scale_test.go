package review_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// TestScale measures a campaign of 1,000 machines × 500 jobs. It takes minutes: set CERTLAB_SCALE to the number of machines.
func TestScale(t *testing.T) {
	if os.Getenv("CERTLAB_SCALE") == "" {
		t.Skip("CERTLAB_SCALE is not set")
	}
	machines := 0
	_, err := fmt.Sscan(os.Getenv("CERTLAB_SCALE"), &machines)
	require.NoError(t, err)
	w := newWorld(t, machines)
	w.jobs = nil
	for n := range 500 {
		w.jobs = append(w.jobs, fmt.Sprintf("com.canonical.certification::group%d/job-%d", n/20, n))
	}
	skips := func() made {
		m := made{outcomes: map[string]string{}, logs: map[string]string{}}
		for k := range 60 {
			m.outcomes[w.jobs[(k*8+3)%500]] = "not-supported"
		}
		return m
	}
	bad := func(n int) made {
		m := skips()
		for k := range 5 {
			job := w.jobs[(n*7+k*31)%500]
			m.outcomes[job] = "fail"
		}
		return m
	}
	began := time.Now()
	w.released(skips())
	t.Logf("%d baselines in %v", machines, time.Since(began))
	began = time.Now()
	var compare time.Duration
	for n := range machines {
		m := bad(n)
		run, submission := w.run(n, m)
		w.hand(n, run, submission)
		w.index(submission, m)
		at := time.Now()
		_, err := w.r.CompareAll(context.Background())
		require.NoError(t, err)
		if n >= machines*9/10 {
			compare += time.Since(at)
		}
	}
	t.Logf("arrivals in %v, comparing one of the last tenth %v", time.Since(began), compare/time.Duration(max(1, machines/10)))
	measure := func(what string, fn func()) {
		runtime.GC()
		at := time.Now()
		fn()
		first := time.Since(at)
		at = time.Now()
		fn()
		t.Logf("%s: %v, again %v", what, first, time.Since(at))
	}
	measure("view", func() { w.view() })
	w.deliver(0, made{}, func(t *cert.Try) { t.Purpose = cert.TryRerun })
	measure("view after an arrival", func() { w.view() })
	measure("turn", w.turn)
	measure("findings", func() { w.findings(cert.Filter{}) })
	measure("open findings", func() { w.findings(cert.Filter{Open: new(true)}) })
	measure("finding", func() { _, err := w.r.Finding(t.Context(), w.findings(cert.Filter{})[0].ID); require.NoError(t, err) })
	measure("campaigns", func() {
		_, err := w.r.Campaigns(t.Context(), sqlite.CampaignFilter{}, sqlite.Page{Limit: 100})
		require.NoError(t, err)
	})
	measure("export", func() { require.NoError(t, w.r.Export(t.Context(), w.campaign.ID, "csv", io.Discard)) })
	measure("preview", func() {
		p, err := w.r.PreviewIssue(t.Context(), cert.IssueMatch{Job: "*/job-1*"}, "")
		require.NoError(t, err)
		t.Logf("%d of %d, complete %v", p.Matches, p.Examined, p.Complete)
	})
	measure("rule", func() {
		k := wifi()
		k.Match.Job = "*/job-1*"
		saved, err := w.r.SaveIssue(t.Context(), k, "ada", cert.Engineer)
		require.NoError(t, err)
		t.Logf("%d linked", saved.Linked)
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	measure("everything anew", func() { require.NoError(t, w.r.RecomputeAll(t.Context())) })
	runtime.ReadMemStats(&after)
	t.Logf("heap %d MiB, from the system %d MiB", after.HeapInuse>>20, after.Sys>>20)
}
