// Package judge says what results mean: how a submission compares with its baseline, which passes are to be doubted, which known issue recognises
// what, and whether a campaign may be approved. It is pure: facts in, findings and assessments out, no I/O, no clock of its own, and the same answer
// for the same facts, whatever their order. internal/control/review gets the facts and keeps the answers.
//
// Above all nothing here may approve falsely: what is not known is never taken for good.
package judge

import (
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Version of the rules of comparing; it goes up whenever the same facts give other findings. Stored comparisons of an older version are made anew.
const Version = 1

// A Side is one submission of a comparison, with what the lab knows of its run.
type Side struct {
	Run        string
	Submission string
	Machine    string // id
	Plan       string
	Kernel     string // uname -r, as the submission says
	Version    string // of the subject's package
	At         time.Time
	Checkbox   string
	Firmware   string
	Cmdline    string // of the kernel
	Processor  string
	Memory     int64             // bytes
	Hardware   map[string]string // what else there is of the machine's hardware, such as its devices, by a stable name
	Manifest   map[string]string // entries that the machine was given
	NoManifest bool              // nobody had one
	Rejected   []string          // full ids of jobs that a person took out before the run
	Results    []Result
}

// A Result is one job of a side.
type Result struct {
	cert.Result
	Signature string // of its normalised log, where it failed; see Signature
	Doubt     string // id of the rule by which its pass is doubted; empty: none
}

// An Attempt is a try with a submission.
type Attempt struct {
	Try        cert.Try
	Side       Side
	Proof      cert.Proof // that the submission is of the subject: see Prove
	Unreadable string     // why the submission cannot be read; Side is empty then
}

// A Case is everything about one target that its comparison rests on.
type Case struct {
	Campaign cert.Campaign
	Target   cert.Target // with all its tries, those without a submission among them
	Attempts []Attempt   // those with one, but for tries that confirm a finding
	Before   *Side       // the baseline on the target's machine; nil: there is none
	Planned  []order.PlannedJob
	Now      time.Time
}

// A Comparison is what a Case comes to.
type Comparison struct {
	Compared cert.Compared
	Counted  int            // number of the try whose submission counts; 0: none does
	Findings []cert.Finding // all of the target, by class and job; they take the place of those that there were
	Warnings []string       // such as why there is no baseline
}

// An Assessment is what a campaign's facts come to.
type Assessment struct {
	// Standing of the campaign: approved and rejected say that the policy would give that verdict now, or that a person has; undecided that all is
	// here and a person has to; waiting that not all is here.
	Standing string
	By       string // who decided: a token's name, or policy
	Machines []MachineAssessment
	Needs    []cert.Need // what stands between here and a verdict, the gravest first
}

// MachineAssessment is how one machine stands.
type MachineAssessment struct {
	Machine  string
	Standing string
	By       string
	Decision int64    // that it rests on; 0: none
	Reasons  []string // why the policy does not approve it
	Clear    bool     // nothing speaks against it: it is complete, proved, compared, and nothing is open
}

// Facts of a campaign, for Assess.
type Facts struct {
	Campaign  cert.Campaign
	Now       time.Time
	Targets   []cert.Target
	Findings  []cert.Finding
	Decisions []cert.Decision   // of this campaign, in order
	Issues    []cert.KnownIssue // those that findings name: a finding whose issue is not here, has run out or is closed is not excused
}
