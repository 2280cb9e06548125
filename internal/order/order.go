// Package order holds what a lab's controller and its agents say to each other, and what a charm's dispatch says to the
// service it configures: types and their validation only, no I/O.
//
// Three conversations use it:
//
//   - controller ↔ agent, HTTPS with mutual TLS under /agent/v1 (Order, Poll, Report, FileAck, Finish);
//   - checkbox charm ↔ agent, HTTP over the agent's unix socket (RunRequest, Run, AgentStatus, Suite);
//   - charm → service, a desired-state file each (AgentDesired, ControllerDesired).
//
// All times are UTC. All durations in JSON are whole seconds and are named so. Unknown JSON fields are ignored, so that an
// agent of the previous release works with a controller of this one and the other way round; Protocol says which fields exist.
package order

import "time"

// Protocol is the version of the conversation between controller and agent. A peer that is one behind must go on working.
const Protocol = 1

// State of a run. The last three are final.
type State string

const (
	Queued    State = "queued"    // known, not started
	Running   State = "running"   // an attempt is in progress, or its files are being delivered
	Completed State = "completed" // a valid submission of the plan that was asked for exists, whatever its outcomes
	Failed    State = "failed"    // no valid submission; Failure says why
	Cancelled State = "cancelled" // ended on request
)

// Final reports whether a run in this state never changes again.
func (s State) Final() bool { return s == Completed || s == Failed || s == Cancelled }

// Phase of a running attempt.
type Phase string

const (
	Installing Phase = "installing" // the subject's packages are being installed and selected
	Booting    Phase = "booting"    // the machine goes down into the subject's kernel
	Restoring  Phase = "restoring"  // the subject is being taken off a machine that stays
	Preparing  Phase = "preparing"  // Checkbox is being installed or checked, the plan is being resolved
	Testing    Phase = "testing"    // Checkbox runs jobs
	Rebooting  Phase = "rebooting"  // the machine went down during a job and is expected back
	Exporting  Phase = "exporting"  // jobs are over; the archive is being read and checked
	Delivering Phase = "delivering" // files wait for, or are on, their way to the controller
)

// Origin of a run: who asked for it.
type Origin string

const (
	FromOrder       Origin = "order"       // the controller
	FromAction      Origin = "action"      // a Juju action on the machine's unit
	FromInteractive Origin = "interactive" // a person at the machine's keyboard
	FromUpload      Origin = "upload"      // nobody: an archive that was added by hand
)

// Spec is what is to be run, complete and declarative. It is the same for an order and for a run asked for on the machine.
type Spec struct {
	Plan  string `json:"plan"`            // full id, such as com.canonical.certification::sru
	Title string `json:"title,omitempty"` // session title; empty: Checkbox's own
	// Exclude and Match are regular expressions on full job ids, as Checkbox's [test selection] takes them. Exclude beats Match.
	Exclude []string `json:"exclude,omitempty"`
	Match   []string `json:"match,omitempty"`
	// Environment reaches the jobs. It is copied into the submission and is no place for secrets.
	Environment map[string]string `json:"environment,omitempty"`
	// TimeoutSeconds bounds one attempt's total time over all reboots, but not counting what the machine is down; 0: the agent's
	// configured limit.
	TimeoutSeconds int64 `json:"timeout_seconds,omitempty"`
	// Subject is what the machine runs before the plan begins; null: what it is.
	Subject *Subject `json:"subject,omitempty"`
}

// An Order is what the controller asks of an agent.
type Order struct {
	Run     string    `json:"run"` // run id
	Created time.Time `json:"created"`
	Spec
	// Manifest holds Checkbox's manifest entries of the machine, as the lab knows them: full id → true, false, a number or text. They go
	// before those of the agent's desired state. SiteEnvironment is the machine's and its zone's; what Spec says goes before it.
	Manifest        map[string]string `json:"manifest,omitempty"`
	SiteEnvironment map[string]string `json:"site_environment,omitempty"`
}

// Poll is the controller's answer to an agent's long poll: what it should do next. Both lists may be empty. An order is repeated
// until the agent has reported the run (Report); a cancellation until the agent has reported it final.
type Poll struct {
	Orders []Order  `json:"orders,omitempty"`
	Cancel []string `json:"cancel,omitempty"` // run ids
	Resend []Resend `json:"resend,omitempty"`
	// Lost are runs whose machine the controller has power-cycled: what the boot before has left behind goes with their files. A run is named
	// while it goes on, until a report says of the boot that ended so that it was a power-cut.
	Lost []string `json:"lost,omitempty"`
	// Epoch names the controller's data. It changes when they go back in time, by a restore or a repair: see Held.
	Epoch string `json:"epoch,omitempty"`
}

// A Resend asks for a file that the agent has delivered before and the controller has lost. It is repeated until the agent has uploaded
// the file again, by the route that it took the first time, or has answered POST /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}/gone
// with a FileGone. No Finish follows. Agents keep what they have delivered for some days if they have room for it.
type Resend struct {
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
	File
}

// FileGone says that the agent cannot send a file again.
type FileGone struct {
	Reason string `json:"reason"` // for the operator
}

// TimeHeader is the header of each request of an agent with the time of the machine's clock, RFC 3339 and UTC.
const TimeHeader = "Certlab-Time"

// Interruption is one time that an attempt's Checkbox stopped without being told to.
type Interruption struct {
	Job        string    `json:"job"`            // full id of the job that was running; empty: none or unknown
	Cause      string    `json:"cause"`          // "reboot" (boot id changed), "killed" (same boot), "power-cut" (the controller has said so: see Poll.Lost)
	Expected   bool      `json:"expected"`       // the job is flagged noreturn
	BootBefore string    `json:"boot_before"`    // kernel boot ids
	BootAfter  string    `json:"boot_after"`     //
	At         time.Time `json:"at"`             // when the agent noticed
	Note       string    `json:"note,omitempty"` // what was done about it
}

// Failure types: why there is no valid submission. A run's Failure.Type is one of these.
const (
	FailInterrupted = "interrupted"      // could not be resumed, or too many boots
	FailTimeout     = "timeout"          // total time
	FailSilence     = "silence"          // no output for too long
	FailConsoleSize = "console-size"     // printed more than allowed
	FailSessionSize = "session-size"     // session directory larger than allowed
	FailNoCheckbox  = "checkbox-missing" // not installed and cannot be
	FailPlanUnknown = "plan-unknown"     //
	FailInteractive = "interactive-jobs" // plan asks for a person, run is unattended
	FailNoArchive   = "no-archive"       // Checkbox ended without a submission.tar.xz
	FailBadArchive  = "bad-archive"      // archive cannot be read
	FailWrongPlan   = "wrong-plan"       // archive is of another plan
	FailCheckbox    = "checkbox-failed"  // Checkbox refused to start or died with a traceback
	FailSpool       = "spool"            // disk full or unwritable
	FailAgent       = "agent"            // anything else
	FailLost        = "lost"             // said by the controller: the machine knows nothing of the run (any more)
	FailMachineLost = "machine-lost"     // said by the controller: the machine kept silent, and power cycles did not bring it back
)

// Failure says why a run has no valid submission.
type Failure struct {
	Type    string `json:"type"`    // one of the Fail… constants
	Message string `json:"message"` // one sentence for the operator, with what to do where that is known
}

// Progress of a running attempt.
type Progress struct {
	Phase       Phase  `json:"phase"`
	JobsDone    int    `json:"jobs_done"`
	JobsPlanned int    `json:"jobs_planned"` // 0: not known yet
	CurrentJob  string `json:"current_job,omitempty"`
	// QuietSeconds is how long the machine may keep silent from this report on because of the current job, which suspends or switches off;
	// 0: no longer than usual.
	QuietSeconds int64 `json:"quiet_seconds,omitempty"`
}

// Counts maps an outcome (pass, fail, crash, skip, not-supported, …) to a number of results.
type Counts map[string]int

// Report is what an agent tells the controller of a run: PUT /agent/v1/runs/{run}. It also announces a run that was started
// on the machine, and acknowledges an order. Reports are idempotent; one with a Sequence not above the last one seen is ignored.
type Report struct {
	Run             string         `json:"run"`
	Attempt         int            `json:"attempt"` // from 1
	Sequence        int64          `json:"sequence"`
	Origin          Origin         `json:"origin"`
	Created         time.Time      `json:"created"`
	Started         time.Time      `json:"started,omitzero"`
	State           State          `json:"state"`
	Spec            Spec           `json:"spec"`
	Progress        Progress       `json:"progress"`
	BootID          string         `json:"boot_id"`
	CheckboxVersion string         `json:"checkbox_version,omitempty"`
	Interruptions   []Interruption `json:"interruptions,omitempty"`
	// NoManifest says whether the run has no manifest entries at all: neither the order's nor those of the agent's desired state. An agent that
	// does not say leaves it at what the controller knows.
	NoManifest *bool `json:"no_manifest,omitempty"`
	// Subject is how far the machine is with the spec's subject; null: there is none, or nothing was done yet.
	Subject *SubjectState `json:"subject,omitempty"`
}

// ReportAck answers a Report.
type ReportAck struct {
	URL    string `json:"url"`    // of the run's page, for people
	Cancel bool   `json:"cancel"` // the run was cancelled at the controller
}

// FileKind says what a delivered file is.
type FileKind string

const (
	SubmissionFile FileKind = "submission" // the archive that Checkbox wrote, byte for byte
	ConsoleFile    FileKind = "console"    // what checkbox-cli printed, capped
	SessionFile    FileKind = "session"    // tar.gz of the session directory, when there is no archive
	JournalFile    FileKind = "journal"    // the end of the journal of the boot before, after a machine was lost
	PstoreFile     FileKind = "pstore"     // tar.gz of what the kernel kept of its end
	JobsFile       FileKind = "jobs"       // JSON array of PlannedJob: what the plan has on this machine, before anything was excluded
)

// File is one file that an attempt delivers.
//
//	HEAD  /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}   → Upload-Offset: bytes that are durable (0 for an unknown file);
//	                                                                 Upload-Complete: true once acknowledged
//	PATCH the same, with Upload-Offset, Upload-Length, Certlab-File-Kind and Certlab-File-Name headers and the bytes from that
//	offset on; answers 204 with the new Upload-Offset, or 200 with a FileAck when the last byte is durable and the hash is right.
type File struct {
	Kind   FileKind `json:"kind"`
	Name   string   `json:"name"`
	SHA256 string   `json:"sha256"` // lower-case hex
	Size   int64    `json:"size"`
}

// FileAck acknowledges a whole file: its bytes and a row naming it are durable.
type FileAck struct {
	SHA256     string `json:"sha256"`
	Size       int64  `json:"size"`
	Submission string `json:"submission,omitempty"` // submission id, for SubmissionFile
	URL        string `json:"url,omitempty"`
}

// Finish ends a run: POST /agent/v1/runs/{run}/finish. The controller answers 200 with a ReportAck once all Files are durable and
// the end is recorded; 409 with {"missing":[sha256…]} when files are missing. Only after the 200 may the agent forget its copies.
type Finish struct {
	Report
	Finished time.Time `json:"finished"`
	Failure  *Failure  `json:"failure,omitempty"` // set if and only if State is failed
	Counts   Counts    `json:"counts,omitempty"`
	Files    []File    `json:"files"`
}
