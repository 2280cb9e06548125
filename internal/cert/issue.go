package cert

import "time"

// A KnownIssue is a rule that recognises results.
type KnownIssue struct {
	ID      string     `json:"id"`
	Version int        `json:"version"` // from 1; each change makes a new one, the old ones are kept
	Title   string     `json:"title"`
	Link    string     `json:"link"`    // of the bug
	Owner   string     `json:"owner"`   // who sees to it
	Expires *time.Time `json:"expires"` // from then on it recognises nothing; null: never
	Closed  *time.Time `json:"closed"`  // it is fixed: from then on it recognises nothing
	Match   IssueMatch `json:"match"`
	// HidesBlockers says that what it recognises does not keep a campaign from being approved even where it is a blocker or new. Without it
	// the rule only explains.
	HidesBlockers bool       `json:"hides_blockers"`
	Reason        string     `json:"reason,omitempty"`
	Created       time.Time  `json:"created"`
	By            string     `json:"by"`
	Updated       time.Time  `json:"updated"`
	Hits          int        `json:"hits"`     // findings, of all campaigns
	LastHit       *time.Time `json:"last_hit"` //
}

// IssueMatch is what a rule asks of a result. All that is set has to hold; at least Job, Template or Log has to be.
type IssueMatch struct {
	Job      string   `json:"job,omitempty" yaml:"job,omitempty"`           // full id, or with * for any text
	Template string   `json:"template,omitempty" yaml:"template,omitempty"` // full id of the template
	Plan     string   `json:"plan,omitempty" yaml:"plan,omitempty"`
	Outcomes []string `json:"outcomes,omitempty" yaml:"outcomes,omitempty"` // empty: fail and crash; machine-lost, false-pass and kernel-boot are possible too
	Machines string   `json:"machines,omitempty" yaml:"machines,omitempty"` // query, see ParseQuery
	Series   []string `json:"series,omitempty" yaml:"series,omitempty"`
	Source   string   `json:"source,omitempty" yaml:"source,omitempty"`
	From     string   `json:"from,omitempty" yaml:"from,omitempty"` // kernel package version, this one and later
	To       string   `json:"to,omitempty" yaml:"to,omitempty"`     // before this one
	Log      string   `json:"log,omitempty" yaml:"log,omitempty"`   // regular expression (RE2), on the kept part of the log
}

// MaxIssuePattern bounds IssueMatch.Log, in bytes.
const MaxIssuePattern = 1000

// IssuePreview is what a rule would recognise.
type IssuePreview struct {
	Matches  int            `json:"matches"`
	Examined int            `json:"examined"` // results that were looked at
	Complete bool           `json:"complete"` // false: the rest was not looked at yet, or not within the time there is
	Machines int            `json:"machines"`
	ByJob    map[string]int `json:"by_job"`
	Results  []IssueHit     `json:"results"`          // the newest
	Open     []string       `json:"open"`             // ids of findings of campaigns that are not final
	Cursor   string         `json:"cursor,omitempty"` // to go on with
}

// IssueHit is a result that a rule recognises.
type IssueHit struct {
	Submission string    `json:"submission"`
	Index      int       `json:"index"`
	Job        string    `json:"job"`
	Outcome    string    `json:"outcome"`
	Machine    string    `json:"machine"`
	Hostname   string    `json:"hostname"`
	Kernel     string    `json:"kernel"`
	At         time.Time `json:"at"`
	Campaign   string    `json:"campaign,omitempty"`
	Excerpt    string    `json:"excerpt,omitempty"`
}
