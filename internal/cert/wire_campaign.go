package cert

import "time"

// Bodies of the people's API about campaigns.

// NewCampaign asks for a campaign: POST /api/v1/campaigns, or /api/v1/campaigns/plan to be told what it would do.
type NewCampaign struct {
	ID       string        `json:"id,omitempty"` // of the caller's choosing, to repeat the request safely
	Name     string        `json:"name,omitempty"`
	Kind     CampaignKind  `json:"kind"`
	Subject  Subject       `json:"subject"`
	Policy   string        `json:"policy,omitempty"` // name, or name@version; empty: the default of the kind
	Machines MachineChoice `json:"machines"`
	Plan     string        `json:"plan,omitempty"`     // for all machines, instead of the policy's plans; not for certification
	Baseline string        `json:"baseline,omitempty"` // a version, or a campaign's id or name; empty: by the policy; "none"
	Due      *time.Time    `json:"due,omitempty"`
	Priority int           `json:"priority,omitempty"`
	AtOnce   int           `json:"at_once,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Exclude  []string      `json:"exclude,omitempty"` // besides the policy's
	Match    []string      `json:"match,omitempty"`
}

// CampaignPlan says what a campaign would do.
type CampaignPlan struct {
	Campaign Campaign           `json:"campaign"`
	Targets  []Target           `json:"targets"` // the excluded ones among them
	Plans    map[string]int     `json:"plans"`   // targets by plan
	Seconds  map[string]float64 `json:"seconds"` // that one run takes, by plan, from history; 0: not known
	Finish   *time.Time         `json:"finish"`  // expected; null: not known
	Basis    string             `json:"basis"`   // what that rests on
	Holds    *bool              `json:"holds"`   // the due date, with the time that the policy leaves for the decision; null: not known, or no due date
	Warnings []string           `json:"warnings"`
}

// CampaignList answers GET /api/v1/campaigns.
type CampaignList struct {
	Campaigns []CampaignSummary `json:"campaigns"`
	Next      string            `json:"next"`
}

// CampaignSummary is a campaign in a list.
type CampaignSummary struct {
	Campaign Campaign `json:"campaign"`
	Coverage Coverage `json:"coverage"`
	Standing string   `json:"standing"`
	Open     int      `json:"open"`     // findings that stand between it and an approval
	Blockers int      `json:"blockers"` // of those
}

// Coverage counts a campaign's targets. Required ones are in all of the fields after it; Excluded are in none.
type Coverage struct {
	Required     int            `json:"required"`
	Optional     int            `json:"optional"`
	Excluded     int            `json:"excluded"`
	Waiting      int            `json:"waiting"`
	Queued       int            `json:"queued"`
	Provisioning int            `json:"provisioning"`
	Running      int            `json:"running"` // comparing among it
	Done         int            `json:"done"`    // with the plan complete and the subject proved
	Blocked      int            `json:"blocked"`
	Missing      int            `json:"missing"` // cancelled among it
	Proved       int            `json:"proved"`  // of Done and Blocked
	AsFound      int            `json:"as_found"`
	Why          map[string]int `json:"why"` // reasons of what is missing or excluded
}

// A Need is something that stands between a campaign and its verdict.
type Need struct {
	What     string   `json:"what"`     // one sentence
	Kind     string   `json:"kind"`     // wait, finding, missing, manifest, baseline, unproved, machine, verdict, suspect
	Machines int      `json:"machines"` //
	Names    []string `json:"names"`    // some of them
	Finding  string   `json:"finding,omitempty"`
	Commands []string `json:"commands"` // certlab … that would settle it
}

// CampaignView answers GET /api/v1/campaigns/{campaign}: what an engineer must see to sign off.
type CampaignView struct {
	Campaign     Campaign          `json:"campaign"`
	DaysLeft     *float64          `json:"days_left"` // until Due; negative: it is over
	Coverage     Coverage          `json:"coverage"`
	Finish       *time.Time        `json:"finish"` // expected, of the last run; null: not known, or nothing is under way
	Basis        string            `json:"basis,omitempty"`
	Holds        *bool             `json:"holds"`
	Standing     string            `json:"standing"`
	By           string            `json:"by,omitempty"`
	Groups       []FindingGroup    `json:"groups"` // open ones first, blockers first, new ones first; the first MaxGroups
	More         int               `json:"more_groups"`
	Counts       map[string]int    `json:"counts"`   // findings by class
	Blockers     int               `json:"blockers"` // open findings that are blockers
	Others       int               `json:"others"`   // open findings that are not
	Skips        []SkipCount       `json:"skips"`    // by reason, the most first
	Infra        []InfraCount      `json:"infra"`    // infrastructure failures by type, with what became of them
	Suspects     []InfraCount      `json:"suspects"` // tries within incidents
	Changes      []ChangeCount     `json:"changes"`  // what else changed, on how many machines
	Machines     []Target          `json:"machines"` // the first MaxViewTargets, those that need a look first
	MoreMachines int               `json:"more_machines"`
	Standings    map[string]string `json:"standings"`    // of the machines listed, by id
	StandCounts  map[string]int    `json:"stand_counts"` // of all machines
	Needs        []Need            `json:"needs"`
	Verdict      *Verdict          `json:"verdict"`
	Decisions    []Decision        `json:"decisions"` // the last ones
	Late         int               `json:"late"`      // findings that came after the verdict: they contradict it
}

// Bounds of a CampaignView.
const (
	MaxGroups      = 100
	MaxViewTargets = 100
)

// SkipCount counts skipped jobs by reason.
type SkipCount struct {
	Reason   string `json:"reason"`
	Jobs     int    `json:"jobs"`
	Blockers int    `json:"blockers"`
	Machines int    `json:"machines"`
}

// InfraCount counts tries that say nothing about the subject.
type InfraCount struct {
	Failure  string `json:"failure"` // type, or an incident's id
	Tries    int    `json:"tries"`
	Machines int    `json:"machines"`
	Again    string `json:"again"` // what became of them, such as "2 passed on a retry, 1 under way"
	Last     string `json:"last"`  // message of the newest
}

// ChangeCount counts machines on which something besides the subject changed.
type ChangeCount struct {
	What     string   `json:"what"`
	Machines int      `json:"machines"`
	Of       int      `json:"of"`
	Example  Change   `json:"example"`
	Names    []string `json:"names"`
}

// TargetList answers GET /api/v1/campaigns/{campaign}/targets.
type TargetList struct {
	Targets []Target `json:"targets"`
	Next    string   `json:"next"`
}

// FindingList answers GET /api/v1/campaigns/{campaign}/findings.
type FindingList struct {
	Findings []Finding `json:"findings"`
	Next     string    `json:"next"`
}

// FindingView answers GET /api/v1/findings/{finding}.
type FindingView struct {
	Finding     Finding       `json:"finding"`
	Excerpt     string        `json:"excerpt"`  // of the log, with what matters in it
	Old         *FindingSide  `json:"baseline"` // the same job on the baseline on this machine
	Console     string        `json:"console"`  // its end, of the try
	ConsoleURL  string        `json:"console_url,omitempty"`
	Others      []FindingSide `json:"others"`  // the same job on other machines of the campaign
	History     []FindingSide `json:"history"` // on this machine, on any subject, the newest first
	Flaky       *FlakyRate    `json:"flaky"`
	Changes     []Change      `json:"changes"` // what else changed on this machine
	Issue       *KnownIssue   `json:"issue"`
	Attachments []Attachment  `json:"attachments"` // of the job
	Decisions   []Decision    `json:"decisions"`
	Commands    []string      `json:"commands"`
}

// FindingSide is the same job elsewhere.
type FindingSide struct {
	Submission string    `json:"submission"`
	Index      int       `json:"index"`
	Run        string    `json:"run"`
	Machine    string    `json:"machine"`
	Hostname   string    `json:"hostname"`
	HWClass    string    `json:"hw_class,omitempty"`
	Kernel     string    `json:"kernel"`
	Outcome    string    `json:"outcome"`
	At         time.Time `json:"at"`
	Alike      bool      `json:"alike"` // the same signature
	Excerpt    string    `json:"excerpt,omitempty"`
}

// FlakyRate is how often a job failed where nothing is held against the kernel: on released ones.
type FlakyRate struct {
	Failed  int    `json:"failed"`
	Of      int    `json:"of"`
	Machine bool   `json:"machine"` // on this machine; else on all of them
	Text    string `json:"text"`
}

// ChangeCampaign changes a campaign: PATCH /api/v1/campaigns/{campaign}. What is null stays.
type ChangeCampaign struct {
	Priority *int       `json:"priority,omitempty"`
	AtOnce   *int       `json:"at_once,omitempty"`
	Due      *time.Time `json:"due,omitempty"`
	Paused   *bool      `json:"paused,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

// EndCampaign is the body of POST /api/v1/campaigns/{campaign}/cancel.
type EndCampaign struct {
	Reason string `json:"reason"`
}

// RetryTargets asks for runs again: POST /api/v1/campaigns/{campaign}/retry.
type RetryTargets struct {
	ID       string   `json:"id,omitempty"`       // of the caller's choosing, to repeat the request safely
	Machines []string `json:"machines,omitempty"` // names; empty: those that State or Issue choose
	State    string   `json:"state,omitempty"`    // missing, blocked or done
	Issue    string   `json:"issue,omitempty"`    // that the known issue hit
	Jobs     []string `json:"jobs,omitempty"`     // full ids; empty: the whole plan
	Reason   string   `json:"reason"`
}

// Retried says what a RetryTargets, a Confirm or a rerun has begun.
type Retried struct {
	Targets []string          `json:"targets"`           // ids
	Runs    []string          `json:"runs"`              // ids
	Skipped map[string]string `json:"skipped,omitempty"` // hostname → why not
}

// ConfirmFinding is the body of POST /api/v1/findings/{finding}/confirm: its job again, on the baseline's subject on the same machine.
type ConfirmFinding struct {
	Reason string `json:"reason,omitempty"`
}

// RerunFinding is the body of POST /api/v1/findings/{finding}/rerun: its job again, on the same subject and machine.
type RerunFinding struct {
	ID     string `json:"id,omitempty"` // of the caller's choosing, to repeat the request safely
	Reason string `json:"reason"`
}

// RerunIssue is the body of POST /api/v1/issues/{issue}/rerun.
type RerunIssue struct {
	Reason string `json:"reason"`
}

// CloseIssue is the body of POST /api/v1/issues/{issue}/close.
type CloseIssue struct {
	Reason string `json:"reason"`
}

// AttachSubmission counts a submission that was made by hand for a machine: POST /api/v1/campaigns/{campaign}/submissions.
type AttachSubmission struct {
	Submission string `json:"submission"`
	Reason     string `json:"reason"`
}

// NewDecision decides: POST /api/v1/campaigns/{campaign}/decisions. Without Machines, All and Findings it is about the campaign as a whole, and then
// its verdict.
type NewDecision struct {
	Action   string     `json:"action"`             // approve, reject, waive or reopen
	Machines []string   `json:"machines,omitempty"` // names
	All      bool       `json:"all,omitempty"`      // each machine that Filter fits
	Findings []string   `json:"findings,omitempty"` // ids; with waive
	Filter   Filter     `json:"filter,omitzero"`
	Until    *time.Time `json:"until,omitempty"` // of a waiver
	Reason   string     `json:"reason"`
	// Version of the campaign that the decision was made upon, as a view named it; 0: whatever it is. Otherwise 409 if something has changed that
	// matters to it.
	Version int64 `json:"version,omitempty"`
}

// Filter chooses findings or machines of a campaign in bulk. All that is set has to hold.
type Filter struct {
	State     string `json:"state,omitempty"`    // of targets
	Standing  string `json:"standing,omitempty"` // of machines
	Query     string `json:"query,omitempty"`    // of machines, see ParseQuery
	Class     string `json:"class,omitempty"`    // of findings
	Job       string `json:"job,omitempty"`      // full id, or with * for any text
	Issue     string `json:"issue,omitempty"`
	Signature string `json:"signature,omitempty"`
	Open      *bool  `json:"open,omitempty"`
	Blocker   *bool  `json:"blocker,omitempty"`
	New       *bool  `json:"new,omitempty"`
	Machine   string `json:"machine,omitempty"` // name
	Target    string `json:"target,omitempty"`
}

// Decided is the answer to a NewDecision.
type Decided struct {
	Decisions []Decision        `json:"decisions"`
	Skipped   map[string]string `json:"skipped,omitempty"` // in bulk: hostname → why not
	Standing  string            `json:"standing"`          // of the campaign, now
	Verdict   *Verdict          `json:"verdict,omitempty"`
}

// DecisionList answers GET /api/v1/decisions, the oldest first.
type DecisionList struct {
	Decisions []Decision `json:"decisions"`
	Next      string     `json:"next"`
	Intact    *bool      `json:"intact,omitempty"` // with verify: each hash is right
	Broken    string     `json:"broken,omitempty"` // where it is not
}

// IssueList answers GET /api/v1/issues.
type IssueList struct {
	Issues []KnownIssue `json:"issues"`
	Next   string       `json:"next"`
}

// SavedIssue answers what changes a known issue.
type SavedIssue struct {
	KnownIssue
	Linked   int `json:"linked"`   // findings of open campaigns that it recognises now
	Unlinked int `json:"unlinked"` // that it does not any more
}

// PolicyList answers GET /api/v1/policies.
type PolicyList struct {
	Policies []StoredPolicy `json:"policies"` // the newest version of each
}

// CampaignEventList answers GET /api/v1/campaigns/{campaign}/events.
type CampaignEventList struct {
	Events []CampaignEvent `json:"events"`
	Next   string          `json:"next"`
}

// KernelNews is a kernel that the kernel team's status names as ready for certification testing, and what this lab has of it.
type KernelNews struct {
	Subject  Subject    `json:"subject"`
	Due      *time.Time `json:"due"`
	Task     string     `json:"task"`           // state of its certification-testing task
	Note     string     `json:"note,omitempty"` // what is not known of it for certain, or was guessed
	Campaign string     `json:"campaign,omitempty"`
	Seen     time.Time  `json:"seen"`
}

// KernelNewsList answers GET /api/v1/kernels.
type KernelNewsList struct {
	Kernels []KernelNews `json:"kernels"`
	Source  string       `json:"source"` // address or file
	Read    *time.Time   `json:"read"`
	Problem string       `json:"problem,omitempty"`
}

// Timeline answers GET /api/v1/runs/{run}/timeline: what a run has gone through and how far it is.
type Timeline struct {
	Run      Run             `json:"run"`
	Campaign string          `json:"campaign,omitempty"`
	Target   string          `json:"target,omitempty"`
	Purpose  string          `json:"purpose,omitempty"`
	Phases   []TimelinePhase `json:"phases"`   // of the reservation, its deployments, and each attempt, in order
	Expected *time.Time      `json:"expected"` // end of the run, from history
	Job      *JobProgress    `json:"job"`
	Contact  *time.Time      `json:"contact"` // last word of the machine's agent
	Power    []MachineEvent  `json:"power"`   // switched, and by whom
	Uploads  []UploadState   `json:"uploads"`
}

// TimelinePhase is one stretch of a Timeline.
type TimelinePhase struct {
	Name    string     `json:"name"` // queued, acquire, deploy, boot, enrol, installing, booting, testing, …
	Attempt int        `json:"attempt,omitempty"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended"`
	Boot    string     `json:"boot,omitempty"`
	Kernel  string     `json:"kernel,omitempty"`
	Text    string     `json:"text,omitempty"`
}

// JobProgress says which job is running.
type JobProgress struct {
	Number   int     `json:"number"` // from 1
	Of       int     `json:"of"`
	ID       string  `json:"id"`
	Seconds  float64 `json:"seconds"`  // that it has taken
	Expected float64 `json:"expected"` // that it takes here, from history; 0: not known
}

// UploadState is how far a file has come.
type UploadState struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Size  int64  `json:"size"`
	Done  bool   `json:"done"`
}
