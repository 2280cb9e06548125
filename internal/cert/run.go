package cert

import (
	"maps"
	"regexp"
	"strings"
	"time"

	"certlab/internal/order"
)

// State of a run, with the same words as order.State.
type State string

const (
	Queued    State = "queued"
	Running   State = "running"
	Completed State = "completed"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States lists every state.
var States = []string{string(Queued), string(Running), string(Completed), string(Failed), string(Cancelled)}

// Final reports whether a run in this state never changes again.
func (s State) Final() bool { return s == Completed || s == Failed || s == Cancelled }

func (s State) valid() bool {
	switch s {
	case Queued, Running, Completed, Failed, Cancelled:
		return true
	}
	return false
}

// Origins of a run, with the same words as order.Origin.
const (
	FromOrder       = "order"
	FromAction      = "action"
	FromInteractive = "interactive"
	FromUpload      = "upload"
)

// Spec is what is to be run. See order.Spec.
type Spec struct {
	Plan           string            `json:"plan"`
	Title          string            `json:"title,omitempty"`
	Exclude        []string          `json:"exclude,omitempty"`
	Match          []string          `json:"match,omitempty"`
	Environment    map[string]string `json:"environment,omitempty"`
	TimeoutSeconds int64             `json:"timeout_seconds,omitempty"`
	Subject        *order.Subject    `json:"subject,omitempty"`
}

// Bounds of a Spec.
const (
	maxSpecText  = 4096
	maxSpecItems = 1000
	maxTimeout   = 14 * 24 * 3600 // seconds
)

var (
	planPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[^\s\x00-\x1f]+$`)
	envPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate reports what is wrong with an order's spec, as Invalid.
func (s Spec) Validate() error {
	if !planPattern.MatchString(s.Plan) || len(s.Plan) > maxSpecText {
		return Errorf(Invalid, "cannot run plan %q: a plan is named by its full id, such as com.canonical.certlab::preflight", cut(s.Plan))
	}
	if len(s.Title) > maxSpecText || strings.ContainsAny(s.Title, "\n\r\x00") {
		return Errorf(Invalid, "cannot use the title: it must be one line of at most %d bytes", maxSpecText)
	}
	for name, list := range map[string][]string{"exclude": s.Exclude, "match": s.Match} {
		if len(list) > maxSpecItems {
			return Errorf(Invalid, "cannot use %s: %d patterns, at most %d are allowed", name, len(list), maxSpecItems)
		}
		for _, p := range list {
			if p == "" || len(p) > maxSpecText || strings.ContainsAny(p, "\n\r\x00") {
				return Errorf(Invalid, "cannot use the %s pattern %q: it must be one line of 1 to %d bytes", name, cut(p), maxSpecText)
			}
		}
	}
	if len(s.Environment) > maxSpecItems {
		return Errorf(Invalid, "cannot use environment: %d variables, at most %d are allowed", len(s.Environment), maxSpecItems)
	}
	for name, value := range s.Environment {
		if !envPattern.MatchString(name) || len(name) > maxSpecText {
			return Errorf(Invalid, "cannot set the environment variable %q: not a variable's name", cut(name))
		}
		if len(value) > maxSpecText || strings.ContainsAny(value, "\n\r\x00") {
			return Errorf(Invalid, "cannot set the environment variable %s: its value must be one line of at most %d bytes", name, maxSpecText)
		}
	}
	if s.TimeoutSeconds < 0 || s.TimeoutSeconds > maxTimeout {
		return Errorf(Invalid, "cannot use a timeout of %d seconds: give 0 for the machine's own limit, or up to %d", s.TimeoutSeconds, maxTimeout)
	}
	if s.Subject == nil {
		return nil
	}
	// What a machine installs as root is checked here as well, not by its agent alone.
	if err := s.Subject.Check(); err != nil {
		return Errorf(Invalid, "%v", err)
	}
	if s.Subject.Archive != nil {
		return validArchive(*s.Subject.Archive)
	}
	return nil
}

func cut(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Progress of a running attempt. See order.Progress.
type Progress struct {
	Phase       string `json:"phase"`
	JobsDone    int    `json:"jobs_done"`
	JobsPlanned int    `json:"jobs_planned"`
	CurrentJob  string `json:"current_job,omitempty"`

	QuietSeconds int64 `json:"quiet_seconds,omitempty"` // how long the machine may keep silent
}

// Interruption of an attempt. See order.Interruption.
type Interruption struct {
	Job        string    `json:"job"`
	Cause      string    `json:"cause"`
	Expected   bool      `json:"expected"`
	BootBefore string    `json:"boot_before"`
	BootAfter  string    `json:"boot_after"`
	At         time.Time `json:"at"`
	Note       string    `json:"note,omitempty"`
}

// CausePowerCut is an interruption's cause where the agent was told that this lab has cycled its machine's power.
const CausePowerCut = "power-cut"

// Failure says why a run has no valid submission. See order.Failure.
type Failure struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// Counts maps an outcome to a number of results.
type Counts map[string]int

// OutcomeNoManifest counts results that were skipped because the machine's manifest does not say what it has, on a machine of which the lab has
// no manifest. Nothing is known of what they would have tested.
const OutcomeNoManifest = "no-manifest"

// Clean reports whether nothing needs a look: nothing has failed or crashed, no machine was lost, and nothing was skipped for want of a
// manifest.
func (c Counts) Clean() bool {
	return c["fail"]+c["crash"]+c[OutcomeLost]+c[OutcomeNoManifest] == 0
}

// A Run is a plan, executed on one machine.
type Run struct {
	ID              string     `json:"id"`
	Machine         string     `json:"machine"` // id
	Hostname        string     `json:"hostname"`
	Origin          string     `json:"origin"`
	RequestedBy     string     `json:"requested_by"` // token name; empty: not asked for through the API
	Spec            Spec       `json:"spec"`
	State           State      `json:"state"`
	Created         time.Time  `json:"created"`
	Started         *time.Time `json:"started"`
	Finished        *time.Time `json:"finished"`
	HandedOut       *time.Time `json:"handed_out"`       // when its order was first given to the agent
	CancelRequested bool       `json:"cancel_requested"` //
	Failure         *Failure   `json:"failure"`
	Counts          Counts     `json:"counts"`                // of a completed run's submission when it is indexed, else as the agent counted
	Attempts        []Attempt  `json:"attempts"`              // oldest first
	Files           []File     `json:"files"`                 // that are stored
	Submission      string     `json:"submission"`            // id of the newest; empty: none
	Reservation     string     `json:"reservation,omitempty"` // for which its machine was deployed; empty: none
	NoManifest      bool       `json:"no_manifest"`           // nobody had a manifest of the machine: jobs that asked for an entry were skipped, and have not passed
	Waits           string     `json:"waits,omitempty"`       // what a queued run waits for, such as "iperf-a, held by run r…"
	Repeats         string     `json:"repeats,omitempty"`     // id of a run that an incident has spoilt and that this one does again
	RepeatedBy      string     `json:"repeated_by,omitempty"` // id of the run that does this one again
	URL             string     `json:"url"`
}

// An Attempt is one try at a run.
type Attempt struct {
	Number          int                 `json:"number"`
	Sequence        int64               `json:"sequence"`
	State           State               `json:"state"` // as the agent last reported
	Updated         time.Time           `json:"updated"`
	Progress        Progress            `json:"progress"`
	BootID          string              `json:"boot_id"`
	CheckboxVersion string              `json:"checkbox_version"`
	Interruptions   []Interruption      `json:"interruptions"`
	MachineLost     []LostJob           `json:"machine_lost,omitempty"` // jobs in which its machine was lost: this lab's word, not the agent's
	Subject         *order.SubjectState `json:"subject,omitempty"`      // how far the machine was with the spec's subject, and what it ran at each boot
	Suspect         string              `json:"suspect,omitempty"`      // id of an incident that overlaps it: what it found may be the lab's fault
}

// A File is one file that an attempt has delivered.
type File struct {
	Attempt    int       `json:"attempt"`
	Kind       string    `json:"kind"` // submission, console or session
	Name       string    `json:"name"`
	SHA256     string    `json:"sha256"`
	Size       int64     `json:"size"`
	Received   time.Time `json:"received"`
	Submission string    `json:"submission"` // id, for a submission
}

// Kinds of files.
const (
	KindSubmission = "submission"
	KindConsole    = "console"
	KindSession    = "session"
	KindJournal    = "journal"
	KindPstore     = "pstore"
	KindJobs       = "jobs"        // JSON array of order.PlannedJob
	KindBMC        = "bmc-console" // what the machine's BMC had of its console, when the lab's watch gave it up
)

// A Report is what an agent says of a run. See order.Report.
type Report struct {
	Attempt         int
	Sequence        int64
	Origin          string
	Created         time.Time
	Started         time.Time
	State           State
	Spec            Spec
	Progress        Progress
	BootID          string
	CheckboxVersion string
	Interruptions   []Interruption
	Subject         *order.SubjectState
	NoManifest      *bool // whether there were no manifest entries for it; nil: it does not say
}

// A Finish ends a run. See order.Finish.
type Finish struct {
	Report
	Finished time.Time
	Failure  *Failure
	Counts   Counts
	Files    []string // SHA-256 of every file that the agent has delivered
}

// Bounds of a report.
const (
	maxAttempts      = 1000
	maxInterruptions = 1000
	maxReportText    = 64 << 10
	maxBoots         = 1000
	maxStatePackages = 1000
	maxSubjectState  = 512 << 10
)

// Validate reports what is wrong with a report, as Rejected. What an agent says is checked for bounds, not for taste: a run's
// results must not be lost because its plan has an odd name.
func (r Report) Validate() error {
	if r.Attempt < 1 || r.Attempt > maxAttempts {
		return Errorf(Rejected, "cannot accept the report: attempt %d is not between 1 and %d", r.Attempt, maxAttempts)
	}
	if r.Sequence < 0 {
		return Errorf(Rejected, "cannot accept the report: sequence %d is negative", r.Sequence)
	}
	if !r.State.valid() {
		return Errorf(Rejected, "cannot accept the report: state %q is not known", cut(string(r.State)))
	}
	switch r.Origin {
	case FromOrder, FromAction, FromInteractive:
	default:
		return Errorf(Rejected, "cannot accept the report: origin %q is not known", cut(r.Origin))
	}
	if len(r.Interruptions) > maxInterruptions {
		return Errorf(Rejected, "cannot accept the report: %d interruptions, at most %d are kept", len(r.Interruptions), maxInterruptions)
	}
	if r.Progress.JobsDone < 0 || r.Progress.JobsPlanned < 0 {
		return Errorf(Rejected, "cannot accept the report: negative progress")
	}
	if err := boundedSubject(r.Subject); err != nil {
		return err
	}
	for _, s := range []string{r.Spec.Plan, r.Spec.Title, r.Progress.CurrentJob, r.Progress.Phase, r.BootID, r.CheckboxVersion} {
		if len(s) > maxReportText {
			return Errorf(Rejected, "cannot accept the report: a field is longer than %d bytes", maxReportText)
		}
	}
	return nil
}

// boundedSubject refuses what of a subject's state is too much to be kept with each target that it proves.
func boundedSubject(s *order.SubjectState) error {
	if s == nil {
		return nil
	}
	if len(s.Boots) > maxBoots || len(s.Installed) > maxStatePackages || len(s.Lacking) > maxStatePackages {
		return Errorf(Rejected, "cannot accept the report: its subject has %d boots and %d packages, at most %d and %d are kept", len(s.Boots), len(s.Installed)+len(s.Lacking), maxBoots, maxStatePackages)
	}
	total := len(s.Step) + len(s.Before) + len(s.Problem)
	for _, b := range s.Boots {
		total += len(b.ID) + len(b.Kernel) + len(b.Version) + len(b.Problem)
	}
	for _, p := range s.Installed {
		total += len(p.Name) + len(p.Version)
	}
	for _, name := range s.Lacking {
		total += len(name)
	}
	if total > maxSubjectState {
		return Errorf(Rejected, "cannot accept the report: its subject has %d bytes, at most %d are kept", total, maxSubjectState)
	}
	return nil
}

// NewReportedRun returns the run that a report announces, for a run id that is not known yet: one started on the machine, or an
// order's that this controller has forgotten because it was restored from an older backup.
func NewReportedRun(id, machine string, r Report, now time.Time) *Run {
	created := r.Created
	if created.IsZero() {
		created = now
	}
	return &Run{ID: id, Machine: machine, Origin: r.Origin, Spec: r.Spec, State: Queued, Created: created.UTC()}
}

// Report takes a report in. It returns false when there was nothing new in it: an older sequence, an older attempt, or a run
// that is over. A report never ends a run: the agent's final state is kept with the attempt, and Finish ends it once its files are here.
func (run *Run) Report(r Report, now time.Time) bool {
	if run.State.Final() && !run.cancelledUnseen() && !run.Presumed() {
		return false
	}
	last := run.attempt()
	if last != nil && (r.Attempt < last.Number || (r.Attempt == last.Number && r.Sequence <= last.Sequence)) {
		return false
	}
	presumed := run.Presumed()
	run.take(r, now)
	if presumed {
		run.Failure, run.Finished = nil, nil // it is not lost
		run.State = Running
		return true
	}
	if run.State.Final() {
		return true
	}
	if r.State.Final() {
		run.State = Running
	} else {
		run.State = r.State
	}
	return true
}

// cancelledUnseen is a run that was cancelled here before its agent ever spoke of it. The agent may turn out to have started it.
func (run *Run) cancelledUnseen() bool {
	return run.State == Cancelled && run.CancelRequested && len(run.Files) == 0
}

// Types of a Failure that the controller says, not the agent. See order.FailLost and order.FailMachineLost.
const (
	FailLost        = "lost"
	FailMachineLost = "machine-lost"
	FailKernelBoot  = order.FailKernelBoot // also said by the agent, of a machine that fell back to another kernel
)

// Lose ends a run that nobody else will end: its machine knows nothing of it, or keeps silent. It returns false when the run is over. What
// the machine says of it after all is taken in.
func (run *Run) Lose(why string, now time.Time) bool { return run.lose(FailLost, why, now) }

// LoseMachine is Lose for a run whose machine kept silent and could not be got back.
func (run *Run) LoseMachine(why string, now time.Time) bool {
	return run.lose(FailMachineLost, why, now)
}

// LoseKernel is LoseMachine for a run whose machine did not come up with the kernel that was selected.
func (run *Run) LoseKernel(why string, now time.Time) bool {
	if !run.lose(FailKernelBoot, why, now) {
		return false
	}
	if last := run.attempt(); last != nil && last.Subject != nil {
		said := *last.Subject
		said.GivenUp = why
		last.Subject = &said
	}
	return true
}

// GivenUp says why the controller once gave the run's machine up as one that does not come up with its subject; empty: it has not. It stays so when the
// machine comes up after all: somebody has helped it, or the next time it may not.
func (run *Run) GivenUp() string {
	for _, a := range run.Attempts {
		if a.Subject != nil && a.Subject.GivenUp != "" {
			return a.Subject.GivenUp
		}
	}
	return ""
}

// Booting reports whether the last that was heard of the run is that its machine goes down into its subject.
func (run *Run) Booting() bool {
	last := run.attempt()
	return run.Spec.Subject != nil && last != nil && last.Subject != nil && last.Subject.Step == order.SubjectSelected && last.Progress.Phase == string(order.Booting)
}

func (run *Run) lose(failure, why string, now time.Time) bool {
	if run.State.Final() {
		return false
	}
	run.State = Failed
	if run.CancelRequested {
		run.State = Cancelled
	}
	run.Failure, run.Finished = &Failure{Type: failure, Message: why}, &now
	if last := run.attempt(); last != nil {
		last.State = run.State // it is not asked to cancel it any more
	}
	return true
}

// Presumed reports whether the controller has ended the run without its machine.
func (run *Run) Presumed() bool {
	if !run.State.Final() || run.Failure == nil {
		return false
	}
	// An agent that says kernel-boot of its machine has come up, and says that it fell back.
	return run.Failure.Type == FailLost || run.Failure.Type == FailMachineLost || run.Failure.Type == FailKernelBoot && run.Booting()
}

func (run *Run) take(r Report, now time.Time) {
	a := Attempt{Number: r.Attempt, Sequence: r.Sequence, State: r.State, Updated: now, Progress: r.Progress, BootID: r.BootID,
		CheckboxVersion: r.CheckboxVersion, Interruptions: r.Interruptions, Subject: r.Subject}
	if n := len(run.Attempts); n > 0 && run.Attempts[n-1].Number == r.Attempt {
		before := run.Attempts[n-1].Subject
		switch {
		case a.Subject == nil:
			a.Subject = before
		case before != nil:
			said := *a.Subject
			said.GivenUp = before.GivenUp
			a.Subject = &said
		}
		a.MachineLost, a.Suspect = run.Attempts[n-1].MachineLost, run.Attempts[n-1].Suspect
		run.Attempts[n-1] = a
	} else {
		run.Attempts = append(run.Attempts, a)
	}
	if run.Started == nil && !r.Started.IsZero() {
		started := r.Started.UTC()
		run.Started = &started
	}
	if run.Spec.Plan == "" {
		run.Spec = r.Spec
	}
	if r.NoManifest != nil {
		run.NoManifest = *r.NoManifest
	}
}

func (run *Run) attempt() *Attempt {
	if n := len(run.Attempts); n > 0 {
		return &run.Attempts[n-1]
	}
	return nil
}

// Missing returns the hashes in want of which the run has no stored file.
func (run *Run) Missing(want []string) []string {
	have := make(map[string]bool, len(run.Files))
	for _, f := range run.Files {
		have[f.SHA256] = true
	}
	var missing []string
	for _, sha := range want {
		if !have[sha] {
			missing = append(missing, sha)
		}
	}
	return missing
}

// Finish ends the run. It is idempotent: a run that is over stays as it is, and false is returned. The caller has checked that no
// file is Missing. It fails as Rejected when the end contradicts itself.
func (run *Run) Finish(f Finish, now time.Time) (bool, error) {
	if !f.State.Final() {
		return false, Errorf(Rejected, "cannot finish run %s: %q is not a final state", run.ID, f.State)
	}
	if (f.State == Failed) != (f.Failure != nil) {
		return false, Errorf(Rejected, "cannot finish run %s: a failure goes with the state failed, and with no other", run.ID)
	}
	if f.State == Completed && !run.hasSubmission() {
		return false, Errorf(Rejected, "cannot finish run %s as completed: it has no submission", run.ID)
	}
	if run.State.Final() && !run.cancelledUnseen() && !run.Presumed() {
		return false, nil
	}
	if last := run.attempt(); last != nil && f.Attempt < last.Number {
		return false, Errorf(Conflict, "cannot finish run %s with attempt %d: attempt %d has begun", run.ID, f.Attempt, last.Number)
	}
	run.take(f.Report, now)
	run.State = f.State
	run.Failure = f.Failure
	run.Counts = maps.Clone(f.Counts)
	finished := f.Finished.UTC()
	if f.Finished.IsZero() {
		finished = now
	}
	run.Finished = &finished
	return true, nil
}

func (run *Run) hasSubmission() bool {
	for _, f := range run.Files {
		if f.Kind == KindSubmission {
			return true
		}
	}
	return false
}

// Cancel asks for the run's end. A run that its agent has not spoken of yet ends at once; another ends when the agent says so.
// It fails as Conflict when the run is over, and returns false when it had been asked before.
func (run *Run) Cancel(now time.Time) (bool, error) {
	if run.State.Final() {
		return false, Errorf(Conflict, "cannot cancel run %s: it is %s already", run.ID, run.State)
	}
	if run.CancelRequested {
		return false, nil
	}
	run.CancelRequested = true
	if len(run.Attempts) == 0 {
		run.State = Cancelled
		run.Finished = &now
	}
	return true, nil
}

// CancelPending reports whether the agent still has to be told to end the run.
func (run *Run) CancelPending() bool {
	if !run.CancelRequested {
		return false
	}
	if run.State.Final() {
		last := run.attempt()
		return run.cancelledUnseen() && last != nil && !last.State.Final()
	}
	last := run.attempt()
	return last == nil || !last.State.Final()
}
