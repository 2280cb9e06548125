package judge_test

import (
	"fmt"
	"strings"
	"testing"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
)

func BenchmarkLogWatch(b *testing.B) {
	var log strings.Builder
	for n := range 20_000 {
		fmt.Fprintf(&log, "[%5d.%06d] usb 1-%d: new high-speed device number %d using xhci_hcd, all of it works\n", n, n, n%9, n)
	}
	data := []byte(log.String())
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w := judge.NewLogWatch("a::b")
		w.Write(data)
		_ = w.Excerpt()
	}
}

// Half of a thousand jobs against as many.
func BenchmarkCompare(b *testing.B) {
	side := func(submission, outcome string) judge.Side {
		s := judge.Side{Submission: submission, Machine: "m1", Plan: cert.PlanSRU}
		for n := range 500 {
			r := judge.Result{Result: cert.Result{ID: fmt.Sprintf("com.canonical.certification::disk/job_%d", n), Index: n, Outcome: "pass", CertificationStatus: "blocker"}}
			if n%20 == 0 {
				r.Outcome = outcome
			}
			s.Results = append(s.Results, r)
		}
		return s
	}
	before := side("s0", "pass")
	c := judge.Case{Campaign: cert.Campaign{ID: "c1", Rules: cert.DefaultPolicy(cert.KindSRU)}, Target: cert.Target{ID: "g1", Machine: "m1", Plan: cert.PlanSRU}, Before: &before,
		Attempts: []judge.Attempt{{Try: cert.Try{Number: 1}, Side: side("s1", "fail")}}}
	for _, r := range before.Results {
		c.Planned = append(c.Planned, order.PlannedJob{ID: r.ID})
	}
	for b.Loop() {
		if got := judge.Compare(c); len(got.Findings) != 25 {
			b.Fatal(len(got.Findings))
		}
	}
}
