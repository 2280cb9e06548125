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

// A thousand machines with a hundred findings each, a tenth of them open.
func BenchmarkAssess(b *testing.B) {
	f := judge.Facts{Campaign: cert.Campaign{ID: "c1", Name: "c", Kind: cert.KindSRU, State: cert.CampaignDeciding, Rules: cert.DefaultPolicy(cert.KindSRU)}}
	for m := range 1000 {
		t := cert.Target{ID: fmt.Sprintf("g%d", m), Machine: fmt.Sprintf("m%d", m), Hostname: fmt.Sprintf("h%d", m), Plan: cert.PlanSRU, Required: true, State: cert.TargetDone, Submission: "s",
			Compared: &cert.Compared{Submission: "s", Version: judge.Version, Planned: 500, Ran: 500, Manifest: true, Attention: 10}}
		f.Targets = append(f.Targets, t)
		for n := range 100 {
			f.Findings = append(f.Findings, cert.Finding{ID: fmt.Sprintf("f%d-%d", m, n), Target: t.ID, Machine: t.Machine, Class: cert.ClassRegression, Job: fmt.Sprintf("n::j%d", n), Attention: n%10 == 0})
		}
	}
	for b.Loop() {
		if a := judge.Assess(f); len(a.Needs) == 0 {
			b.Fatal("it is not clear")
		}
	}
}
