package cert

import "time"

// Classes of a job between a baseline and what came after it.
const (
	ClassSame         = "same"          // nothing that a person need see; not stored
	ClassRegression   = "regression"    // passed before, fails now
	ClassStillFailing = "still-failing" //
	ClassNewFailure   = "new-failure"   // fails now, and nothing is known of before: no baseline, or it did not run there
	ClassFixed        = "fixed"         // failed before, passes now
	ClassNewlyPassing = "newly-passing" // did not run before, passes now
	ClassAppeared     = "appeared"      // was not in the plan before, and does not fail
	ClassMissing      = "missing"       // the plan requires it or it ran before, and there is no record of it, or it was not run
	ClassSkipChanged  = "skip-changed"  // skipped before and now, for another reason
)

// Kinds of findings that are not a job's class.
const (
	FindKernelBoot  = "kernel-boot"  // the subject was selected, and does not boot, panics, hangs or falls back
	FindFalsePass   = "false-pass"   // a job passed although its log says otherwise
	FindMachineLost = "machine-lost" // the machine was lost in a job
	FindUnproved    = "unproved"     // the results are of something else than the subject
	FindManifest    = "manifest"     // jobs were skipped for want of a manifest
	FindFlaky       = "flaky"        // failed, and passed when it was done again
	FindUnreadable  = "unreadable"   // a submission that cannot be read
)

// A Finding is something in a campaign that a person should see.
type Finding struct {
	ID         string    `json:"id"` // made from campaign, target, class, job and what tells failures apart, such as the signature: comparing again finds the same ones
	Campaign   string    `json:"campaign"`
	Target     string    `json:"target"`
	Machine    string    `json:"machine"` // on which it was
	Hostname   string    `json:"hostname"`
	HWClass    string    `json:"hw_class,omitempty"`
	Plan       string    `json:"plan"`
	Class      string    `json:"class"` // of a job, or another kind
	Job        string    `json:"job,omitempty"`
	Name       string    `json:"name,omitempty"`
	Template   string    `json:"template,omitempty"`
	Category   string    `json:"category,omitempty"`
	Blocker    bool      `json:"blocker"`   // keeps the subject from being approved, unless waived
	New        bool      `json:"new"`       // not so on the baseline
	Attention  bool      `json:"attention"` // someone has to look; false for what is good or the same
	Outcome    string    `json:"outcome"`
	Before     string    `json:"before,omitempty"` // outcome on the baseline
	Reason     string    `json:"reason,omitempty"` // of a skip; or the rule by which a pass is doubted
	BeforeWhy  string    `json:"before_why,omitempty"`
	Text       string    `json:"text"` // one sentence
	Run        string    `json:"run"`
	Submission string    `json:"submission,omitempty"`
	Index      int       `json:"index"` // of the result in it; -1: none
	OldSub     string    `json:"baseline_submission,omitempty"`
	OldIndex   int       `json:"baseline_index"`
	Signature  string    `json:"signature,omitempty"` // of the normalised log: alike for failures that are alike
	Outcomes   []Again   `json:"outcomes,omitempty"`  // of the job in all tries that had it, in order
	Issue      string    `json:"issue,omitempty"`     // id of the known issue that recognises it
	IssueLink  string    `json:"issue_link,omitempty"`
	Excused    bool      `json:"excused,omitempty"` // by that issue: it says that it hides blockers, or this is none
	Waived     int64     `json:"waived,omitempty"`  // number of the decision that waives it and is in force
	Confirm    *Confirm  `json:"confirm,omitempty"`
	Suspect    string    `json:"suspect,omitempty"` // id of an incident
	Found      time.Time `json:"found"`
	Late       bool      `json:"late,omitempty"` // it came after the verdict
}

// Open reports whether the finding stands between its campaign and an approval.
func (f *Finding) Open() bool { return f.Attention && !f.Excused && f.Waived == 0 }

// Again is what one try has made of a job.
type Again struct {
	Try        int    `json:"try"`
	Purpose    string `json:"purpose"`
	Run        string `json:"run"`
	Submission string `json:"submission"`
	Index      int    `json:"index"`
	Outcome    string `json:"outcome"`
	Lost       bool   `json:"lost,omitempty"`
	Doubt      string `json:"doubt,omitempty"` // rule by which a pass is doubted
}

// Confirm is a job, run again on the baseline's subject on the same machine.
type Confirm struct {
	Run     string `json:"run"`
	State   State  `json:"state"`
	Outcome string `json:"outcome,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Text    string `json:"text"`           // such as "passes on 6.8.0-50-generic: it is the kernel"
	Says    string `json:"says,omitempty"` // subject, machine, or unclear
}

// FindingGroup is one failure on one or more machines.
type FindingGroup struct {
	Key       string         `json:"key"`
	Class     string         `json:"class"`
	Job       string         `json:"job"`
	Blocker   bool           `json:"blocker"`
	New       bool           `json:"new"`
	Open      bool           `json:"open"`
	Signature string         `json:"signature,omitempty"`
	Machines  int            `json:"machines"`
	Of        int            `json:"of"`    // machines that ran the job
	Names     []string       `json:"names"` // some of them, for people: in a view with the machine that stood in, as Target.Shown
	HWClasses map[string]int `json:"hw_classes,omitempty"`
	Findings  []string       `json:"findings"` // ids, some of them
	Issue     string         `json:"issue,omitempty"`
	IssueLink string         `json:"issue_link,omitempty"`
	Flaky     string         `json:"flaky,omitempty"` // such as "failed 3 of the last 20 times on released kernels"
	Excerpt   string         `json:"excerpt,omitempty"`
	// Attachments counts what the first of Findings' submissions attaches of the job.
	Attachments int    `json:"attachments,omitempty"`
	Text        string `json:"text"`
}
