package cert

import (
	"reflect"
	"time"
)

// Bodies of the people's API, besides the domain's own types. Next is the cursor of the next page, empty on the last.

// MachineList answers GET /api/v1/machines.
type MachineList struct {
	Machines    []FleetMachine `json:"machines"`
	Next        string         `json:"next"`
	Explanation *Explanation   `json:"explanation,omitempty"` // of the query, if there is one
}

// NewMachine asks for a machine to be added by hand.
type NewMachine struct {
	Hostname     string `json:"hostname"`
	Architecture string `json:"architecture,omitempty"`
}

// RunList answers GET /api/v1/runs.
type RunList struct {
	Runs []Run  `json:"runs"`
	Next string `json:"next"`
}

// NewRun asks for a run.
type NewRun struct {
	ID      string `json:"id,omitempty"` // of the caller's choosing, to repeat the request safely
	Machine string `json:"machine"`      // id, system_id or hostname
	Spec
}

// SameOrder reports whether two runs ask for the same.
func (run *Run) SameOrder(other Run) bool {
	return run.ID == other.ID && run.Machine == other.Machine && run.Origin == other.Origin && reflect.DeepEqual(run.Spec, other.Spec)
}

// SubmissionList answers GET /api/v1/submissions.
type SubmissionList struct {
	Submissions []Submission `json:"submissions"`
	Next        string       `json:"next"`
}

// ResultList answers GET /api/v1/results.
type ResultList struct {
	Results []Result `json:"results"`
	Next    string   `json:"next"`
}

// AttachmentList answers GET /api/v1/submissions/{submission}/attachments.
type AttachmentList struct {
	Attachments []Attachment `json:"attachments"`
	Next        string       `json:"next"`
}

// Reindexed says how many submissions were put into the queue.
type Reindexed struct {
	Queued int `json:"queued"`
}

// NewToken asks for a token.
type NewToken struct {
	Name                 string `json:"name"`
	Role                 string `json:"role"`
	ExpiresInSeconds     int64  `json:"expires_in_seconds,omitempty"`      // 0: never
	CodeExpiresInSeconds int64  `json:"code_expires_in_seconds,omitempty"` // 0: an hour
}

// CreatedToken is a token that can be had for a code, once.
type CreatedToken struct {
	Token
	Code          string `json:"code"`
	URL           string `json:"url"`            // of the controller, for certlab login
	CAFingerprint string `json:"ca_fingerprint"` // to compare, or for certlab login --fingerprint
}

// RedeemCode asks for the token behind a code.
type RedeemCode struct {
	Code string `json:"code"`
}

// RedeemedToken is a token with its secret, which is shown this once.
type RedeemedToken struct {
	Token
	Secret string `json:"token"`
}

// TokenList answers GET /api/v1/tokens.
type TokenList struct {
	Tokens []Token `json:"tokens"`
	Next   string  `json:"next"`
}

// Site says what this lab is and how it is.
type Site struct {
	Name          string         `json:"name"`
	Version       string         `json:"version"`
	Protocol      int            `json:"protocol"` // of the conversation with agents
	Schema        int            `json:"schema"`   // of the database
	URL           string         `json:"url"`
	Runs          map[string]int `json:"runs"`        // by state
	Submissions   map[string]int `json:"submissions"` // by index state
	FreeBytes     int64          `json:"free_bytes"`
	MinFreeBytes  int64          `json:"min_free_bytes"`
	DiskLow       bool           `json:"disk_low"`       // no new runs are handed out
	RetentionDays int            `json:"retention_days"` // 0: for ever
	CAFingerprint string         `json:"ca_fingerprint"` // SHA-256 of the newest CA
	Refused       []RefusedAgent `json:"refused"`        // agents that have no access although they are related
	Problems      []string       `json:"problems"`       // what an admin has to see to, the gravest first
	Caller        string         `json:"caller"`         // name of the token that was used
	Role          string         `json:"role"`           // its role
}

// RefusedAgent is a unit that may not act for its machine.
type RefusedAgent struct {
	Unit     string `json:"unit"`
	Relation string `json:"relation"`
	Reason   string `json:"reason"`
}

// BackupRequest asks for a backup.
type BackupRequest struct {
	Path string `json:"path,omitempty"` // on the controller's machine, over the socket only; empty: in the answer
}

// Backup is a backup that was made.
type Backup struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"` // bytes
	// Missing are the hashes of files that are not in the backup, because their bytes were missing or altered on disk.
	Missing []string `json:"missing,omitempty"`
}

// RepairRequest asks for the data to be repaired.
type RepairRequest struct {
	Backup string `json:"backup,omitempty"` // on the controller's machine: what is missing is taken from it
}

// Repaired says what a repair did.
type Repaired struct {
	Database bool           `json:"database"`           // a new database was made
	Rows     map[string]int `json:"rows,omitempty"`     // that were kept, by table
	Restored map[string]int `json:"restored,omitempty"` // that were taken from the backup, by table
	Rebuilt  []string       `json:"rebuilt,omitempty"`  // what was put together from other rows
	Lost     []string       `json:"lost,omitempty"`     // what is known to be lost, by id
	Unread   []string       `json:"unread,omitempty"`   // places of the database that could not be read
	Queued   int            `json:"queued"`             // submissions that are indexed again
	Files    int            `json:"files"`              // that were taken from the backup
	Missing  []string       `json:"missing,omitempty"`  // files that are still missing or altered
	SetAside string         `json:"set_aside,omitempty"`
}

// RestoreRequest asks for a backup to be put in place.
type RestoreRequest struct {
	Path string `json:"path"`
}

// Restored is what a restored copy holds.
type Restored struct {
	BackupCreated time.Time `json:"backup_created"`
	Schema        int       `json:"schema"`
	Blobs         int       `json:"blobs"`
	Bytes         int64     `json:"bytes"`     // of the blobs
	SetAside      string    `json:"set_aside"` // directory that the data in place before goes to; empty: there was none
}

// RotatedCA says how many CAs are published now.
type RotatedCA struct {
	CAs         int    `json:"cas"`
	Fingerprint string `json:"fingerprint"` // SHA-256 of the newest
}

// CAList holds the certificates to trust, as PEM, newest first.
type CAList struct {
	CAs []string `json:"cas"`
}

// Live answers GET /health/live.
type Live struct {
	Live bool `json:"live"`
}
