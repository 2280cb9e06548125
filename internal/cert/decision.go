package cert

import "time"

// Actions of a Decision.
const (
	Approve = "approve"
	Reject  = "reject"
	Waive   = "waive"  // findings, with a reason and an end
	Reopen  = "reopen" // what was decided does not hold any more
)

// ByPolicy is who decides when the policy does.
const ByPolicy = "policy"

// A Decision is one entry of a lab's log of decisions. The log only grows, and each entry's hash covers the one before it.
type Decision struct {
	Seq      int64      `json:"seq"` // over all campaigns, from 1, without gaps
	Campaign string     `json:"campaign"`
	Action   string     `json:"action"`
	Machine  string     `json:"machine,omitempty"`  // id; empty: the campaign as a whole, or findings on any machine
	Findings []string   `json:"findings,omitempty"` // ids that it waives
	Filter   string     `json:"filter,omitempty"`   // as asked for, where it was decided in bulk
	Until    *time.Time `json:"until,omitempty"`    // of a waiver
	Reason   string     `json:"reason"`
	By       string     `json:"by"`   // token name; policy; certlab for a reopening
	Role     Role       `json:"role"` //
	At       time.Time  `json:"at"`
	Basis    Basis      `json:"basis"`            // what was known
	Before   string     `json:"before,omitempty"` // how it stood: approved, rejected, undecided
	Reopens  int64      `json:"reopens,omitempty"`
	Prev     string     `json:"prev"` // hash of the entry before; of the first: empty
	Hash     string     `json:"hash"` // SHA-256, lower-case hex, over this entry's JSON with an empty hash
}

// Basis is what a decision rests on.
type Basis struct {
	Version     int64    `json:"version"`               // of the campaign
	Submissions []string `json:"submissions,omitempty"` // ids, of the machine or, for a campaign, their number only
	Findings    []string `json:"findings,omitempty"`    // ids of those that were open
	Digest      string   `json:"digest"`                // SHA-256 over the counted submissions' and findings' ids
}

// A Verdict is a campaign's outcome. It is never changed.
type Verdict struct {
	Campaign  string           `json:"campaign"`
	Outcome   string           `json:"outcome"` // approved or rejected
	Subject   Subject          `json:"subject"`
	By        string           `json:"by"` // token name, or policy
	Reason    string           `json:"reason"`
	At        time.Time        `json:"at"`
	Policy    PolicyRef        `json:"policy"`
	Compare   int              `json:"compare"`   // version of the rules of comparing
	Doubts    int              `json:"doubts"`    // version of the rules that doubt passes
	Issues    map[string]int   `json:"issues"`    // known issues that excused or explained a finding, with their versions
	Decisions []int64          `json:"decisions"` // that it rests on
	Head      string           `json:"head"`      // hash of the last decision when it was given
	Machines  []VerdictMachine `json:"machines"`
	Counts    map[string]int   `json:"counts"` // findings by class
	Digest    string           `json:"digest"` // SHA-256 over this verdict's JSON with an empty digest
}

// VerdictMachine is one machine's part of a verdict.
type VerdictMachine struct {
	Machine    string `json:"machine"`
	Hostname   string `json:"hostname"`
	Plan       string `json:"plan"`
	State      string `json:"state"`    // of the target
	Standing   string `json:"standing"` // approved, rejected, undecided, excluded
	By         string `json:"by,omitempty"`
	Submission string `json:"submission,omitempty"`
	SHA256     string `json:"sha256,omitempty"` // of the archive
	Kernel     string `json:"kernel,omitempty"`
	RanOn      string `json:"ran_on,omitempty"` // the equal machine that has stood in for it, where that was another one
	Why        string `json:"why,omitempty"`
}

// Standings of a machine or a campaign.
const (
	StandApproved  = "approved"
	StandRejected  = "rejected"
	StandUndecided = "undecided" // all is here, and a person has to decide
	StandWaiting   = "waiting"   // not all is here
	StandExcluded  = "excluded"
)
