// Package judgetest makes random campaigns: wild ones, in which anything may be, to hold judge's rules to a reference; and such as a lab has, clean or
// with one fault planted, to count how many are approved that must not be, and how many need a person that need none.
package judgetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
)

// A Fault is what is wrong in a campaign.
type Fault string

// Faults that can be planted. Each must keep the policy from approving.
const (
	Clean           Fault = ""
	Panic           Fault = "panic"         // the subject did not come up once; it did the next time, and all passed
	Hang            Fault = "hang"          // the machine was lost in a job; it was not the next time
	FalseWake       Fault = "false wake"    // a suspend that passed although devices did not suspend
	WrongKernel     Fault = "wrong kernel"  // the jobs ran on another
	NoManifest      Fault = "no manifest"   //
	MissingJob      Fault = "missing job"   // without a record, or skipped although it ran before
	FalsePass       Fault = "false pass"    // the kernel's log is in the job's
	FlakyRegression Fault = "flaky"         // fails, and passes when it is done again
	Regression      Fault = "regression"    //
	Unfinished      Fault = "unfinished"    // a machine has not run
	OtherBaseline   Fault = "no baseline"   // of another plan
	SuspectOnly     Fault = "suspect"       // all that there is is from within an incident
	SecondFailure   Fault = "other failure" // what is known to fail, fails in another way
)

// Faults lists every fault.
func Faults() []Fault {
	return []Fault{Panic, Hang, FalseWake, WrongKernel, NoManifest, MissingJob, FalsePass, FlakyRegression, Regression, Unfinished, OtherBaseline, SuspectOnly, SecondFailure}
}

// A Campaign is a campaign's cases, before they are compared.
type Campaign struct {
	Fault Fault
	Facts judge.Facts  // without findings, and with targets that are not compared
	Cases []judge.Case // of the targets that have submissions, in their order
}

// Compared compares every case and returns the facts that follow.
func (c *Campaign) Compared() judge.Facts {
	f := c.Facts
	f.Targets = append([]cert.Target(nil), f.Targets...)
	byID := map[string]int{}
	for n := range f.Targets {
		byID[f.Targets[n].ID] = n
	}
	matcher := judge.CompileIssues(f.Issues, f.Now)
	for _, one := range c.Cases {
		result := judge.Compare(one)
		t := &f.Targets[byID[one.Target.ID]]
		t.Counted = result.Counted
		for _, a := range one.Attempts {
			if a.Try.Number == result.Counted {
				t.Submission = a.Side.Submission
				compared := result.Compared
				t.Compared = &compared
			}
		}
		for _, finding := range result.Findings {
			matcher.Apply(&finding, judge.Hit{Job: finding.Job, Series: f.Campaign.Subject.Series, Source: f.Campaign.Subject.Source, Version: f.Campaign.Subject.Version})
			f.Findings = append(f.Findings, finding)
		}
	}
	return f
}

const (
	oldVersion, oldKernel = "6.8.0-50.51", "6.8.0-50-generic"
	newVersion, newKernel = "6.8.0-51.52", "6.8.0-51-generic"
	plan                  = cert.PlanSRU
)

// start is when every campaign here began.
func start() time.Time { return time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC) }

// Planted returns a campaign such as a lab has, with one fault. Its policy is the default of its kind. A clean one is not without events: things fail
// that fail on the baseline too, are skipped as before, are fixed; machines fail to deploy and are tried again.
func Planted(r *rand.Rand, fault Fault) Campaign {
	subject := cert.Subject{Kind: cert.SubjectKernel, Series: "noble", Source: "linux", Version: newVersion, Pocket: "proposed"}
	c := Campaign{Fault: fault, Facts: judge.Facts{Now: start().Add(48 * time.Hour), Campaign: cert.Campaign{ID: "c1", Name: "noble-linux", Kind: cert.KindSRU,
		State: cert.CampaignDeciding, Subject: subject, Rules: cert.DefaultPolicy(cert.KindSRU), Policy: cert.PolicyRef{Name: "sru", Version: 1}}}}
	machines := 3 + r.IntN(8)
	jobs := 15 + r.IntN(40)
	victim := r.IntN(machines)
	for n := range machines {
		planted := Clean
		if n == victim {
			planted = fault
		}
		lab := machine{r: r, number: n, jobs: jobs, fault: planted, campaign: &c}
		lab.build()
	}
	return c
}

// machine builds one target.
type machine struct {
	r        *rand.Rand
	number   int
	jobs     int
	fault    Fault
	campaign *Campaign
	victim   int
}

func (m *machine) job(n int) string {
	names := []string{"suspend/suspend", "disk/read", "cpu/scaling", "ethernet/multi", "memory/stress", "usb/storage"}
	return fmt.Sprintf("com.canonical.certification::%s_%d", names[n%len(names)], n)
}

func (m *machine) id() string { return fmt.Sprintf("m%02d", m.number) }

func (m *machine) build() {
	c := &m.campaign.Facts.Campaign
	m.victim = 6 * m.r.IntN(m.jobs/6) // a suspend, which passed before
	t := cert.Target{ID: "g" + m.id(), Campaign: c.ID, Machine: m.id(), Hostname: "host-" + m.id(), Plan: plan, Required: true, State: cert.TargetDone}
	if m.fault == Unfinished {
		t.State = []cert.TargetState{cert.TargetMissing, cert.TargetQueued, cert.TargetRunning, cert.TargetCancelled}[m.r.IntN(4)]
		t.Why = "no machine could be had"
		m.campaign.Facts.Targets = append(m.campaign.Facts.Targets, t)
		return
	}
	one := judge.Case{Campaign: *c, Now: m.campaign.Facts.Now}
	for n := range m.jobs {
		one.Planned = append(one.Planned, order.PlannedJob{ID: m.job(n), Plugin: "shell"})
	}
	before := m.side("s-old-"+m.id(), oldKernel, oldVersion, true, false)
	if m.fault == OtherBaseline {
		before.Plan = cert.PlanSRUServer
	}
	one.Before = &before
	for m.r.IntN(3) == 0 && len(t.Tries) < 3 {
		m.add(&t, cert.Try{Failure: &cert.Failure{Type: "deploy", Message: "MAAS says so"}, Infra: true, State: cert.Failed})
	}
	if m.r.IntN(6) == 0 || m.fault == SuspectOnly { // an incident, and in it a failure
		m.run(&one, &t, cert.Try{Suspect: "i1", State: cert.Completed}, m.r.IntN(2) == 0, false)
	}
	m.plant(&one, &t)
	one.Target = t
	m.campaign.Facts.Targets = append(m.campaign.Facts.Targets, t)
	m.campaign.Cases = append(m.campaign.Cases, one)
}

// plant adds the tries that the fault is made of, and those without it.
func (m *machine) plant(one *judge.Case, t *cert.Target) {
	whole := cert.Try{State: cert.Completed}
	switch m.fault {
	case SuspectOnly:
		return
	case Panic:
		m.add(t, cert.Try{State: cert.Failed, Failure: &cert.Failure{Type: order.FailKernelBoot, Message: "Kernel panic - not syncing: VFS"}})
		m.run(one, t, whole, false, false)
	case Hang:
		if m.r.IntN(2) == 0 {
			m.add(t, cert.Try{State: cert.Failed, Failure: &cert.Failure{Type: order.FailMachineLost, Message: "it kept silent"}})
		} else {
			m.run(one, t, whole, false, true)
		}
		m.run(one, t, whole, false, false)
	case FlakyRegression:
		m.run(one, t, whole, true, false)
		if m.r.IntN(2) == 0 {
			whole.Jobs = []string{m.job(m.victim)}
		}
		m.run(one, t, whole, false, false)
	case Regression:
		m.run(one, t, whole, true, false)
	default:
		m.run(one, t, whole, false, false)
	}
}

func (m *machine) add(t *cert.Target, try cert.Try) *cert.Try {
	try.Number = len(t.Tries) + 1
	try.Run, try.Machine, try.Hostname = fmt.Sprintf("r-%s-%d", m.id(), try.Number), t.Machine, t.Hostname
	try.Purpose = cert.TryRetry
	if try.Number == 1 {
		try.Purpose = cert.TryFirst
	}
	t.Tries = append(t.Tries, try)
	return &t.Tries[len(t.Tries)-1]
}

// run adds a try with a submission, in which the victim has failed, or the machine was lost in it.
func (m *machine) run(one *judge.Case, t *cert.Target, try cert.Try, fails, loses bool) {
	added := m.add(t, try)
	added.Submission = fmt.Sprintf("s-%s-%d", m.id(), added.Number)
	side := m.side(added.Submission, newKernel, newVersion, false, try.Partial())
	side.Run = added.Run
	for n := range side.Results {
		r := &side.Results[n]
		if r.ID != m.job(m.victim) {
			continue
		}
		if fails {
			r.Outcome = "fail"
			m.log(r, "suspend: error: device did not come back\n")
		}
		if loses {
			r.Outcome, r.MachineLost = "crash", true
		}
	}
	state := &order.SubjectState{Step: order.SubjectProved, Boots: []order.Boot{{ID: "b0", Kernel: oldKernel, Version: oldVersion},
		{ID: "b1", Kernel: newKernel, Version: newVersion, Proved: true, Tests: true}, {ID: "b2", Kernel: newKernel, Version: newVersion, Proved: true, Tests: true}}}
	evidence := judge.Evidence{State: state, Kernel: newKernel}
	if m.fault == WrongKernel {
		switch m.r.IntN(5) {
		case 0:
			evidence.Kernel = oldKernel
		case 1:
			state.Boots[2].Kernel = oldKernel
		case 2:
			state.Boots[2].Proved = false
		case 3:
			state.Boots[1].Version = newVersion + "+other"
		case 4:
			evidence.State = nil
		}
	}
	one.Attempts = append(one.Attempts, judge.Attempt{Try: *added, Side: side, Proof: judge.Prove(m.campaign.Facts.Campaign.Subject, evidence)})
}
