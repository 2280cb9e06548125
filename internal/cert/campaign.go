package cert

import (
	"cmp"
	"time"

	"certlab/internal/order"
)

// CampaignID and the other prefixes of what a campaign has.
const (
	CampaignID = 'c'
	TargetID   = 'g'
	FindingID  = 'f'
	IssueID    = 'k'
)

// A CampaignKind says what a campaign is for.
type CampaignKind string

const (
	KindSRU           CampaignKind = "sru"           // may this stable release update be released?
	KindWeekly        CampaignKind = "weekly"        // what has become worse since last week?
	KindCertification CampaignKind = "certification" // does this machine deserve a certificate? The whole plan, nothing left out
	KindAdhoc         CampaignKind = "adhoc"         // whatever a person wants to know
)

// CampaignKinds lists every kind.
var CampaignKinds = []string{string(KindSRU), string(KindWeekly), string(KindCertification), string(KindAdhoc)}

// Kinds of a Subject.
const (
	SubjectKernel   = order.SubjectKernel
	SubjectPackages = order.SubjectPackages
	SubjectImage    = "image"   // a release as deployed, of one serial
	SubjectMachine  = "machine" // as it is
)

// What a Subject is made of.
type (
	Archive = order.Archive
	Package = order.Package
)

// A Subject is what a campaign tests.
type Subject struct {
	Kind    string `json:"kind"`              // kernel, packages, image or machine
	Series  string `json:"series,omitempty"`  // codename, such as noble
	Release string `json:"release,omitempty"` // version of the series, such as 24.04; filled in where it is known
	Source  string `json:"source,omitempty"`  // source package
	Flavour string `json:"flavour,omitempty"` // of a kernel; generic where not said
	Stream  string `json:"stream,omitempty"`  // such as esm or realtime; empty: the ordinary one
	Version string `json:"version,omitempty"` // exact, of the package
	Serial  string `json:"serial,omitempty"`  // of an image
	Pocket  string `json:"pocket,omitempty"`  // proposed, updates, security, release
	PPA     string `json:"ppa,omitempty"`     // ppa:owner/name, instead of a pocket
	Spin    int    `json:"spin,omitempty"`    // of the kernel team's preparation, from 1; 0: not known
	Cycle   string `json:"cycle,omitempty"`   // such as 2026.11.02
	Tracker string `json:"tracker,omitempty"` // address of the tracking bug

	Archive  *order.Archive  `json:"archive,omitempty"`  // instead of pocket and PPA
	Packages []order.Package `json:"packages,omitempty"` // of kind packages: exactly these
}

// CampaignState of a campaign.
type CampaignState string

const (
	CampaignActive     CampaignState = "active"     // runs are going on or to come
	CampaignPaused     CampaignState = "paused"     // nothing new is started; what runs goes on
	CampaignDeciding   CampaignState = "deciding"   // nothing more will run by itself, and there is no verdict
	CampaignApproved   CampaignState = "approved"   // final
	CampaignRejected   CampaignState = "rejected"   // final
	CampaignCancelled  CampaignState = "cancelled"  // final: by a person, without a verdict
	CampaignSuperseded CampaignState = "superseded" // final: by a campaign of a newer spin
)

// CampaignStates lists every state.
var CampaignStates = []string{string(CampaignActive), string(CampaignPaused), string(CampaignDeciding), string(CampaignApproved), string(CampaignRejected),
	string(CampaignCancelled), string(CampaignSuperseded)}

// Final reports whether a campaign in this state never changes again.
func (s CampaignState) Final() bool {
	return s != CampaignActive && s != CampaignPaused && s != CampaignDeciding
}

// A Campaign is a subject, a set of machines and their plans, with a deadline, a baseline and a policy.
type Campaign struct {
	ID           string        `json:"id"`
	Name         string        `json:"name"` // of the caller's choosing or made from the subject; unique among campaigns that are not final
	Kind         CampaignKind  `json:"kind"`
	State        CampaignState `json:"state"`
	Subject      Subject       `json:"subject"`
	Policy       PolicyRef     `json:"policy"`
	Rules        Policy        `json:"rules"` // the policy as it was when the campaign was made: a later version does not change it
	Baseline     Baseline      `json:"baseline"`
	Machines     MachineChoice `json:"machines"`
	Priority     int           `json:"priority"`
	AtOnce       int           `json:"at_once"`              // runs under way at most; 0: no cap of its own
	Due          *time.Time    `json:"due"`                  // when the verdict is wanted
	Created      time.Time     `json:"created"`              //
	By           string        `json:"by"`                   // token name
	Reason       string        `json:"reason,omitempty"`     //
	Finished     *time.Time    `json:"finished"`             // when it became final
	Ending       string        `json:"ending,omitempty"`     // why it was paused, cancelled or superseded, and by whom
	Resumed      *time.Time    `json:"resumed,omitempty"`    // when it last was, after it was paused
	Request      string        `json:"request,omitempty"`    // SHA-256 of what was asked for, by which a repeated request is known
	Supersedes   string        `json:"supersedes,omitempty"` // id of the campaign of the spin before
	SupersededBy string        `json:"superseded_by,omitempty"`
	Size         int           `json:"size,omitempty"`   // targets that it was made of, those excluded among them: with fewer at hand nothing is approved; 0: not known
	Unsure       string        `json:"unsure,omitempty"` // why something of it, such as a rejection, may be lost: from then on only a person approves
	Version      int64         `json:"version"`          // goes up with each change of the campaign, its targets, findings and decisions
	URL          string        `json:"url"`              // not stored
}

// MachineChoice says which machines a campaign is over. One of the first three.
type MachineChoice struct {
	Query      string   `json:"query,omitempty"`       // see ParseQuery
	Names      []string `json:"names,omitempty"`       // ids, system ids or hostnames
	OfBaseline bool     `json:"of_baseline,omitempty"` // all that ran the baseline
	Except     []string `json:"except,omitempty"`      // names
}

// Baseline is what a campaign is compared with.
type Baseline struct {
	Rule     string `json:"rule"`               // released, named, previous or none: see Policy
	Version  string `json:"version,omitempty"`  // of the subject that it is; empty: none was found
	Campaign string `json:"campaign,omitempty"` // id, where it is one; results of other campaigns and runs of that version count too
	Why      string `json:"why,omitempty"`      // how it was chosen, or why there is none
}

// TargetState of a target.
type TargetState string

const (
	TargetExcluded     TargetState = "excluded"     // not in the campaign: Why says so
	TargetWaiting      TargetState = "waiting"      // to be started
	TargetQueued       TargetState = "queued"       // waits for its machine
	TargetProvisioning TargetState = "provisioning" // its machine is being made ready
	TargetRunning      TargetState = "running"      //
	TargetComparing    TargetState = "comparing"    // the run is over; its submission is not compared yet
	TargetDone         TargetState = "done"         // a submission of the plan on the subject is here and was compared
	TargetBlocked      TargetState = "blocked"      // the subject does not boot on it, as often as the policy wants to see: a finding says so
	TargetMissing      TargetState = "missing"      // given up: Why says so
	TargetCancelled    TargetState = "cancelled"    // with the campaign, by a newer spin, or by a person
)

// TargetStates lists every state.
var TargetStates = []string{string(TargetExcluded), string(TargetWaiting), string(TargetQueued), string(TargetProvisioning), string(TargetRunning),
	string(TargetComparing), string(TargetDone), string(TargetBlocked), string(TargetMissing), string(TargetCancelled)}

// Settled reports whether nothing happens to a target in this state by itself any more.
func (s TargetState) Settled() bool {
	switch s {
	case TargetExcluded, TargetDone, TargetBlocked, TargetMissing, TargetCancelled:
		return true
	}
	return false
}

// A Target is one plan on one machine in a campaign.
type Target struct {
	ID         string      `json:"id"`
	Campaign   string      `json:"campaign"`
	Machine    string      `json:"machine"` // id: the one that is wanted
	Hostname   string      `json:"hostname"`
	Class      string      `json:"class,omitempty"` // of the machine's hardware
	Plan       string      `json:"plan"`
	Required   bool        `json:"required"`           // the verdict waits for it
	AsFound    bool        `json:"as_found,omitempty"` // a unit: it is not deployed anew for the run
	State      TargetState `json:"state"`
	Why        string      `json:"why,omitempty"`        // why it is excluded, missing, cancelled or blocked, or what it waits for
	Tries      []Try       `json:"tries"`                // oldest first, at most MaxTriesKept
	Counted    int         `json:"counted"`              // number of the try whose submission counts, from 1; 0: none
	Submission string      `json:"submission,omitempty"` // id, of the counted try
	Compared   *Compared   `json:"compared,omitempty"`
	NotBefore  *time.Time  `json:"not_before,omitempty"` // of the next try
	Next       *Try        `json:"next,omitempty"`       // what is to be tried next: purpose, machine, jobs, finding and who asked, and ids that were promised; null: the first try
	Then       TargetState `json:"then,omitempty"`       // that it goes back to after a try for some jobs, or one that came to nothing
	Updated    time.Time   `json:"updated"`
}

// RanOn names the machine that has stood in for the target's own: the one of the try that counts. Empty: its own, or nothing counts yet.
func (t Target) RanOn() string {
	for n := range t.Tries {
		if y := &t.Tries[n]; t.Counted > 0 && y.Number == t.Counted && y.Machine != "" && y.Machine != t.Machine {
			return cmp.Or(y.Hostname, y.Machine)
		}
	}
	return ""
}

// Shown is the machine's name for people, with the one that has stood in for it.
func (t Target) Shown() string {
	if on := t.RanOn(); on != "" {
		return t.Hostname + " (ran on " + on + ")"
	}
	return t.Hostname
}

// MaxTriesKept bounds how often one target is tried, whatever policy and people ask for.
const MaxTriesKept = 100

// Purposes of a Try.
const (
	TryFirst    = "first"    //
	TryRetry    = "retry"    // after an infrastructure failure, on the same machine
	TryFailover = "failover" // the same, on an equal one
	TryKernel   = "kernel"   // once more after the subject did not boot
	TryIncident = "incident" // what an incident has spoilt
	TryRerun    = "rerun"    // asked for by a person; a part of the plan if Jobs are named: it proves nothing about the others
	TryConfirm  = "confirm"  // some jobs on the baseline's subject on the same machine
	TryAttached = "attached" // a submission that a person added
)

// A Try is one run for a target.
type Try struct {
	Number      int        `json:"number"` // from 1
	Purpose     string     `json:"purpose"`
	Machine     string     `json:"machine"` // id: on which it is, or was
	Hostname    string     `json:"hostname"`
	Run         string     `json:"run"`                   // id; chosen before anything is asked for, so that nothing is asked for twice
	Reservation string     `json:"reservation,omitempty"` // id, chosen likewise; empty for a unit
	Jobs        []string   `json:"jobs,omitempty"`        // full ids; empty: the whole plan
	Finding     string     `json:"finding,omitempty"`     // id of the finding that it is to confirm
	By          string     `json:"by"`                    // token name, or certlab
	Created     time.Time  `json:"created"`
	Asked       *time.Time `json:"asked"`   // when the reservation or run was there for certain
	Started     *time.Time `json:"started"` // the run
	Ended       *time.Time `json:"ended"`
	State       State      `json:"state"`             // of the run; queued until there is one
	Failure     *Failure   `json:"failure,omitempty"` // typed; of the reservation, if it came to no run
	Infra       bool       `json:"infra,omitempty"`   // it says nothing about the subject
	Suspect     string     `json:"suspect,omitempty"` // id of an incident
	Counts      Counts     `json:"counts,omitempty"`
	Submission  string     `json:"submission,omitempty"` // id
}

// Partial reports whether the try was for some jobs of the plan only.
func (t Try) Partial() bool { return len(t.Jobs) > 0 }

// Compared says what the comparison of a target's counted submission came to.
type Compared struct {
	Submission string         `json:"submission"`
	At         time.Time      `json:"at"`
	Version    int            `json:"version"` // of the rules of comparing
	Baseline   *Compare       `json:"baseline"`
	Proof      Proof          `json:"proof"`
	Manifest   bool           `json:"manifest"`  // the machine has one
	Checkbox   string         `json:"checkbox"`  // version
	Counts     map[string]int `json:"counts"`    // by class, same among it
	Changes    []Change       `json:"changes"`   // what else is different from the baseline
	Planned    int            `json:"planned"`   // jobs that the plan has on the machine; 0: not known
	Ran        int            `json:"ran"`       // jobs that passed or failed; the others were skipped, or nothing is known of them
	Absent     int            `json:"absent"`    // of those planned, without a record
	Attention  int            `json:"attention"` // findings that someone has to look at: with fewer at hand, nothing is approved
}

// Compare names the other side of a comparison.
type Compare struct {
	Run        string    `json:"run"`
	Submission string    `json:"submission"`
	Machine    string    `json:"machine"`
	Version    string    `json:"version"` // of the subject there
	Kernel     string    `json:"kernel"`
	At         time.Time `json:"at"`
	Plan       string    `json:"plan"`
}

// Proof says whether a submission is of the subject.
type Proof struct {
	OK     bool         `json:"ok"`
	Needed bool         `json:"needed"` // false: the subject is the machine as it is
	Kernel string       `json:"kernel"` // that ran
	Boots  []order.Boot `json:"boots,omitempty"`
	Why    string       `json:"why,omitempty"` // it is not
}

// A Change is something besides the subject that differs from the baseline.
type Change struct {
	What   string `json:"what"` // checkbox, firmware, cmdline, hardware, manifest, processor, memory
	Before string `json:"before"`
	After  string `json:"after"`
}

// CampaignEvent is one thing that happened in a campaign. The log only grows.
type CampaignEvent struct {
	Seq      int64     `json:"seq"`
	Campaign string    `json:"campaign"`
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"` // created, started, failed-over, retried, compared, superseded, paused, resumed, verdict, …
	Who      string    `json:"who"`
	Text     string    `json:"text"`
	Target   string    `json:"target,omitempty"`
}
