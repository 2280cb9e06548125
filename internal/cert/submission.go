package cert

import (
	"encoding/json"
	"time"
)

// States of a submission's index.
const (
	IndexPending    = "pending"    // stored; not read yet
	IndexDone       = "indexed"    // its results can be listed
	IndexUnreadable = "unreadable" // kept, with the reason
)

// IndexStates lists every state of an index.
var IndexStates = []string{IndexPending, IndexDone, IndexUnreadable}

// A Submission is the archive that Checkbox wrote, kept whole.
type Submission struct {
	ID              string          `json:"id"`
	Run             string          `json:"run"`
	Attempt         int             `json:"attempt"`
	Machine         string          `json:"machine"` // id
	Hostname        string          `json:"hostname"`
	SHA256          string          `json:"sha256"`
	Size            int64           `json:"size"` // bytes
	Name            string          `json:"name"`
	Received        time.Time       `json:"received"`
	AddedBy         string          `json:"added_by"`    // token name; empty: delivered by an agent
	IndexState      string          `json:"index_state"` // pending, indexed or unreadable
	IndexVersion    int             `json:"index_version"`
	IndexError      string          `json:"index_error"` // why it is unreadable
	Plan            string          `json:"plan"`        // as the archive names it
	Title           string          `json:"title"`
	CheckboxVersion string          `json:"checkbox_version"`
	Counts          Counts          `json:"counts"`
	System          json.RawMessage `json:"system"` // system information, as read
	URL             string          `json:"url"`
}

// A Result is the outcome of one job in a submission. Submission and Index name it for good, also after a reindex by the same reader.
type Result struct {
	Submission          string  `json:"submission"`
	Index               int     `json:"index"` // position in the submission, from 0
	Run                 string  `json:"run"`
	Machine             string  `json:"machine"`
	Hostname            string  `json:"hostname"`
	Section             string  `json:"section"` // results, resources or attachments
	ID                  string  `json:"id"`      // full job id
	Name                string  `json:"name"`
	Outcome             string  `json:"outcome"`
	CertificationStatus string  `json:"certification_status"`
	Category            string  `json:"category"`
	Plugin              string  `json:"plugin"`
	TemplateID          string  `json:"template_id"`
	DurationSeconds     float64 `json:"duration_seconds"`
	Comments            string  `json:"comments"`
	SkipReason          string  `json:"skip_reason"`
	NoManifest          bool    `json:"no_manifest,omitempty"`  // it was skipped for a manifest entry, and nobody had a manifest of the machine: it has not passed
	LogSize             int64   `json:"log_size"`               // bytes
	MachineLost         bool    `json:"machine_lost,omitempty"` // its machine was lost in it: whatever the outcome says, it has not passed
}

// Sections of a submission: tests, jobs that only gather facts, and jobs that only attach a file.
const (
	SectionResults     = "results"
	SectionResources   = "resources"
	SectionAttachments = "attachments"
)

// An Attachment is a file that a job has put into a submission.
type Attachment struct {
	Submission string `json:"submission"`
	Index      int    `json:"index"` // position in the submission, from 0
	ID         string `json:"id"`    // full job id, where known
	Name       string `json:"name"`  // name of the archive's member
	Size       int64  `json:"size"`  // bytes
}

// An Index is what is kept of a submission so that it can be searched.
type Index struct {
	Version         int
	Plan            string
	Title           string
	CheckboxVersion string
	Counts          Counts
	System          json.RawMessage
	Kernel          string // uname -r, as it says; empty: it does not
	Series          string // codename of its release, likewise
	Results         []Result
	Attachments     []Attachment
	Failures        []IndexedFailure // results that a person may have to look at, in the order of Results
}

// An IndexedFailure is what is kept of a result that failed or crashed, or whose pass is doubted.
type IndexedFailure struct {
	Index     int    // of the result
	Outcome   string // fail, crash, or another that is no pass and no skip; false-pass
	Doubt     string // rule by which a pass is doubted
	Signature string // of its normalised log
	Excerpt   string // of its log, with what matters in it; empty: it had none
}
