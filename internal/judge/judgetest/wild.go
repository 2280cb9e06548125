package judgetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
)

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func chance(r *rand.Rand, in int) bool { return r.IntN(in) == 0 }

// Wild returns a campaign in which anything may be. Its cases are few and small, so that everything meets everything.
func Wild(r *rand.Rand) Campaign {
	kind := pick(r, cert.KindSRU, cert.KindSRU, cert.KindWeekly, cert.KindCertification, cert.KindAdhoc)
	rules := cert.DefaultPolicy(kind)
	calm := chance(r, 2) // so that some of them come to an approval
	rare := 1
	if calm {
		rare = 5
	}
	rules.Decide.Auto = !chance(r, 5)
	rules.Machines.Manifests = !chance(r, 3)
	rules.Baseline.Needed = !chance(r, 3)
	rules.Machines.AtLeast = pick(r, 0, 0, 1, 2)
	if chance(r, 4*rare) {
		rules.Jobs.Required = []string{pick(r, "n::j1", "n::*2", "n::nowhere", "x::*")}
	}
	if chance(r, 4) {
		rules.Jobs.Blockers = []string{pick(r, "n::j1", "n::*")}
	}
	if chance(r, 4) {
		rules.Jobs.NonBlockers = []string{pick(r, "n::j2", "n::*")}
	}
	if chance(r, 6) {
		rules.Exclude = []string{"n::j[12]"}
	}
	if chance(r, 6) {
		rules.Baseline.MaxDays = 10
	}
	c := Campaign{Facts: judge.Facts{Now: start().Add(48 * time.Hour), Campaign: cert.Campaign{ID: "c1", Name: "wild", Kind: kind, Rules: rules, Version: 7,
		State:   pick(r, cert.CampaignActive, cert.CampaignDeciding, cert.CampaignDeciding, cert.CampaignDeciding, cert.CampaignPaused, cert.CampaignRejected, cert.CampaignCancelled),
		Subject: cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Version: newVersion}}}}
	if chance(r, 3) {
		c.Facts.Issues = wildIssues(r, c.Facts.Now)
	}
	for n := range 1 + r.IntN(4) {
		c.wildTarget(r, n, calm)
	}
	return c
}

func wildIssues(r *rand.Rand, now time.Time) []cert.KnownIssue {
	k := cert.KnownIssue{ID: "k1", Version: 1, Match: cert.IssueMatch{Job: pick(r, "n::j1", "n::*"), Outcomes: pick(r, nil, []string{"fail", "machine-lost", "false-pass"})},
		HidesBlockers: chance(r, 2)}
	if chance(r, 4) {
		past := now.Add(-time.Hour)
		k.Expires = &past
	}
	return []cert.KnownIssue{k}
}

func (c *Campaign) wildTarget(r *rand.Rand, n int, calm bool) {
	t := cert.Target{ID: fmt.Sprintf("g%d", n), Campaign: "c1", Machine: fmt.Sprintf("m%d", pick(r, n, n, n, 0)), Plan: plan, Required: !chance(r, 5), State: cert.TargetDone}
	t.Hostname = "host-" + t.Machine
	if !calm || chance(r, 20) {
		t.State = pick(r, cert.TargetDone, cert.TargetDone, cert.TargetDone, cert.TargetMissing, cert.TargetBlocked, cert.TargetRunning, cert.TargetExcluded, cert.TargetCancelled)
	}
	one := judge.Case{Campaign: c.Facts.Campaign, Now: c.Facts.Now}
	for j := range 5 {
		if !calm && chance(r, 5) {
			continue
		}
		one.Planned = append(one.Planned, order.PlannedJob{ID: fmt.Sprintf("n::j%d", j), Plugin: pick(r, "shell", "shell", "shell", "resource")})
	}
	rare := 1
	if calm {
		rare = 5
	}
	if chance(r, 8*rare) {
		one.Planned = nil
	}
	if !chance(r, 5*rare) {
		before := wildSide(r, t.Machine, "sold", calm)
		before.Version = oldVersion
		before.At = start().Add(-time.Duration(r.IntN(20)) * 24 * time.Hour)
		if chance(r, 12) {
			before.Version = newVersion
		}
		one.Before = &before
	}
	for tries := pick(r, 1, 1, 1, 1, 2, 2, 3, 3, 0); tries > 0; tries-- {
		c.wildTry(r, &one, &t, calm)
	}
	one.Target = t
	c.Facts.Targets = append(c.Facts.Targets, t)
	c.Cases = append(c.Cases, one)
}

func (c *Campaign) wildTry(r *rand.Rand, one *judge.Case, t *cert.Target, calm bool) {
	try := cert.Try{Number: len(t.Tries) + 1, Purpose: pick(r, cert.TryFirst, cert.TryRetry, cert.TryRerun), Machine: t.Machine, State: cert.Completed}
	try.Run = fmt.Sprintf("r%s-%d", t.ID, try.Number)
	odd := 6
	if calm {
		odd = 60
	}
	if chance(r, odd) {
		try.Suspect = "i1"
	}
	if chance(r, odd) {
		try.Infra = true
	}
	if chance(r, odd) {
		try.Jobs = []string{"n::j1"}
	}
	if chance(r, odd) {
		try.Purpose = pick(r, cert.TryAttached, cert.TryConfirm)
	}
	if chance(r, odd) {
		try.State = cert.Failed
		try.Failure = &cert.Failure{Type: pick(r, order.FailKernelBoot, order.FailMachineLost, "deploy"), Message: "so it was"}
		t.Tries = append(t.Tries, try)
		return
	}
	try.Submission = "s-" + try.Run
	t.Tries = append(t.Tries, try)
	a := judge.Attempt{Try: try, Side: wildSide(r, t.Machine, try.Submission, calm), Proof: cert.Proof{Needed: true, OK: !chance(r, odd), Why: "who knows"}}
	if chance(r, 2*odd) {
		a.Side, a.Unreadable = judge.Side{}, "it is torn"
	}
	one.Attempts = append(one.Attempts, a)
}

func wildSide(r *rand.Rand, machine, submission string, calm bool) judge.Side {
	times := 1 // how much rarer what is odd is
	if calm {
		times = 6
	}
	s := judge.Side{Submission: submission, Machine: machine, Plan: plan, At: start(), NoManifest: chance(r, 8*times)}
	if chance(r, 15*times) {
		s.Plan = cert.PlanSRUServer
	}
	if chance(r, 20*times) {
		s.Machine = "m9"
	}
	if chance(r, 20*times) {
		s.Rejected = []string{"n::j3", "n::j7"}
	}
	for j := range 6 {
		for chance(r, 30*times) || j < 5 && !chance(r, 8*times) {
			x := judge.Result{Result: cert.Result{ID: fmt.Sprintf("n::j%d", j), Index: len(s.Results), Plugin: "shell", Outcome: "pass",
				CertificationStatus: pick(r, "blocker", "non-blocker", "non-blocker", "unspecified", "")}}
			if !calm || chance(r, 60) {
				x.Outcome = pick(r, "pass", "pass", "pass", "fail", "fail", "crash", "skip", "not-supported", "undecided", "none", "PASS", "")
				x.MachineLost = chance(r, 15)
			}
			if chance(r, 12) {
				x.Plugin = pick(r, "resource", "attachment")
			}
			switch x.Outcome {
			case "pass":
				if !calm && chance(r, 8) {
					x.Doubt = pick(r, "kernel-oops", "call-trace")
				}
			case "fail", "crash":
				x.Signature = pick(r, "sig1", "sig2")
			case "skip", "not-supported":
				x.Comments = pick(r, "a", "b", `resource expression "manifest.has_x == 'True'" evaluates to false`)
			}
			s.Results = append(s.Results, x)
			if !chance(r, 10) {
				break
			}
		}
	}
	return s
}

// Decide adds what people may have decided on facts that are compared.
func Decide(r *rand.Rand, f *judge.Facts) {
	for range pick(r, 0, 0, 1, 2, 4) {
		d := cert.Decision{Seq: int64(len(f.Decisions) + 1), Campaign: "c1", By: pick(r, "ada", "bob"), Action: pick(r, cert.Approve, cert.Approve, cert.Reject, cert.Waive, cert.Reopen)}
		if len(f.Targets) > 0 {
			t := pick(r, f.Targets...)
			d.Machine = t.Machine
			if !chance(r, 3) {
				for _, other := range f.Targets {
					if other.Machine == t.Machine && other.State != cert.TargetExcluded && other.Submission != "" {
						d.Basis.Submissions = append(d.Basis.Submissions, other.Submission)
					}
				}
			}
		}
		for _, one := range f.Findings {
			if one.Machine == d.Machine && !chance(r, 8) {
				d.Basis.Findings = append(d.Basis.Findings, one.ID)
			}
		}
		switch d.Action {
		case cert.Waive:
			d.Findings, d.Machine, d.Basis = d.Basis.Findings, "", cert.Basis{}
			until := f.Now.Add(time.Duration(pick(r, 24, 24, 24, -1)) * time.Hour)
			d.Until = &until
		case cert.Reopen:
			d.Reopens = int64(r.IntN(len(f.Decisions) + 1))
		case cert.Approve, cert.Reject:
			if chance(r, 12) {
				d.Machine = ""
			}
		}
		f.Decisions = append(f.Decisions, d)
	}
}

// Lose takes something out of facts, as if it had not been read.
func Lose(r *rand.Rand, f *judge.Facts) {
	if len(f.Findings) > 0 && chance(r, 10) {
		n := r.IntN(len(f.Findings))
		f.Findings = append(f.Findings[:n:n], f.Findings[n+1:]...)
	}
	if len(f.Targets) > 0 && chance(r, 10) {
		t := &f.Targets[r.IntN(len(f.Targets))]
		switch {
		case t.Compared == nil:
		case chance(r, 2):
			c := *t.Compared
			c.Version--
			t.Compared = &c
		default:
			t.Compared = nil
		}
	}
	if chance(r, 10) {
		f.Issues = nil
	}
}
