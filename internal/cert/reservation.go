package cert

import "time"

// ReservationID and the other prefixes of what a fleet has.
const (
	ReservationID = 'v'
	DeploymentID  = 'd'
	IncidentID    = 'i'
	NoticeID      = 'n'
)

// A ReservationKind says what a machine is wanted for.
type ReservationKind string

const (
	ReserveManual ReservationKind = "manual" // a person has it until a time
	ReserveRun    ReservationKind = "run"    // one run, then it is released
	ReserveCheck  ReservationKind = "check"  // the lab itself: a health check or a canary; released when it is over
)

// ReservationState of a reservation.
type ReservationState string

const (
	ReservationQueued    ReservationState = "queued"    // waits for a machine
	ReservationPreparing ReservationState = "preparing" // a deployment is under way on Machine
	ReservationReady     ReservationState = "ready"     // the holder, or the run, has Machine
	ReservationReleasing ReservationState = "releasing" // over for the holder; the machine is not back yet
	ReservationEnded     ReservationState = "ended"     // final: Ending says how
)

// Endings of a reservation.
const (
	EndedReleased  = "released"  // by its holder, or because its run is over
	EndedExpired   = "expired"   //
	EndedCancelled = "cancelled" // before it was ready
	EndedFailed    = "failed"    // no machine could be made ready: Failure says why
	EndedLost      = "lost"      // its machine was taken away or vanished
)

// A Reservation is a claim on one machine, for a reason, until a time. Everything that this lab takes from its provider is taken for one.
type Reservation struct {
	ID       string           `json:"id"`
	Kind     ReservationKind  `json:"kind"`
	State    ReservationState `json:"state"`
	Holder   string           `json:"holder"` // token name; "certlab" for the lab itself
	Reason   string           `json:"reason"`
	Priority int              `json:"priority"` // higher first; within one, first come first served
	Want     Want             `json:"want"`
	Created  time.Time        `json:"created"`

	Machine    string     `json:"machine"`              // id; empty while queued
	Hostname   string     `json:"hostname"`             //
	Deployment string     `json:"deployment"`           // id of the last one; empty: none yet
	Tries      int        `json:"tries"`                // deployments begun
	Avoid      []string   `json:"avoid,omitempty"`      // machines on which it failed already
	NotBefore  *time.Time `json:"not_before,omitempty"` // of the next try
	Ready      *time.Time `json:"ready"`                // when the machine was ready
	Until      *time.Time `json:"until"`                // when it ends; null while that is counted from Ready
	Extended   int        `json:"extended"`             // how often
	Reminded   *time.Time `json:"reminded"`             // for the present Until
	Ended      *time.Time `json:"ended"`                // when it was over for the holder
	Released   *time.Time `json:"released"`             // when the machine was back
	Ending     string     `json:"ending,omitempty"`
	EndedBy    string     `json:"ended_by,omitempty"`
	Failure    *Failure   `json:"failure"`
	KeepUntil  *time.Time `json:"keep_until,omitempty"` // of a failed one that a person may look at
	Discard    string     `json:"discard,omitempty"`    // who allowed to release it although the machine holds what is not stored
	Blocked    string     `json:"blocked,omitempty"`    // what a queued, preparing or releasing one waits for, with what to do

	Run        string `json:"run,omitempty"` // id, chosen when the reservation is made; the run exists once the machine is ready
	Spec       *Spec  `json:"spec,omitempty"`
	Repeats    string `json:"repeats,omitempty"`     // id of one whose run an incident has spoilt, and that this one does again
	RepeatedBy string `json:"repeated_by,omitempty"` // id of the one that does this one again

	Estimate *Estimate `json:"estimate,omitempty"` // of a queued or preparing one; not stored
	Connect  string    `json:"connect,omitempty"`  // how its holder gets in: an ssh line; not stored
	URL      string    `json:"url,omitempty"`      // not stored

	Phase     DeployPhase `json:"phase,omitempty"`     // of the deployment of a preparing one; not stored
	Diagnosis string      `json:"diagnosis,omitempty"` // of its last deployment that failed, some lines; not stored
}

// Want is what a reservation asks for.
type Want struct {
	Query              string     `json:"query"` // a machine's name, or attributes such as tags=gpu,arch=arm64,memory>=64G: see ParseQuery
	Release            string     `json:"release,omitempty"`
	Kernel             string     `json:"kernel,omitempty"`   // the provider's name, such as hwe-24.04
	Keys               []string   `json:"keys,omitempty"`     // lp:name, gh:name or public keys, as asked for
	Resolved           []string   `json:"resolved,omitempty"` // the public keys themselves, resolved once when it was made
	Hours              float64    `json:"hours,omitempty"`    // from when it is ready
	Until              *time.Time `json:"until,omitempty"`    // instead of Hours: a fixed time, although the machine may not be ready before
	Prepare            []string   `json:"prepare,omitempty"`  // the site's steps, by name
	Ephemeral          bool       `json:"ephemeral,omitempty"`
	Failover           bool       `json:"failover"`                        // another machine that matches may be tried when one fails
	MaxTries           int        `json:"max_tries,omitempty"`             // 0: the site's limit
	KeepOnFailureHours float64    `json:"keep_on_failure_hours,omitempty"` // hold a failed machine for its holder
	Quarantined        bool       `json:"quarantined,omitempty"`           // of a check: the machine is in quarantine, and is taken for this alone
}

// Final reports whether nothing happens to the reservation any more.
func (r *Reservation) Final() bool { return r.State == ReservationEnded }

// HasMachine reports whether the reservation has a machine at the provider, or may have one.
func (r *Reservation) HasMachine() bool {
	return r.Machine != "" && r.State != ReservationEnded && r.State != ReservationQueued
}

// An Estimate is when a reservation is likely to be ready, from what was measured before.
type Estimate struct {
	Position int        `json:"position"` // in the queue for what it wants, from 1; 0: it is being prepared
	Start    *time.Time `json:"start"`    // null: nothing is known that would tell
	Ready    *time.Time `json:"ready"`
	Basis    string     `json:"basis"` // what it rests on, such as "12 deployments of this class"
}

// A Phase of a deployment.
type DeployPhase string

const (
	PhaseAcquire DeployPhase = "acquire" // at the provider
	PhasePrepare DeployPhase = "prepare" // the site's steps
	PhaseDeploy  DeployPhase = "deploy"  // until the provider says deployed
	PhaseBoot    DeployPhase = "boot"    // until the machine asks this lab for its agent
	PhaseEnrol   DeployPhase = "enrol"   // until the agent says that it is ready, Checkbox among it
	PhaseReady   DeployPhase = "ready"   // in use
	PhaseRelease DeployPhase = "release" // until the provider has it back
	PhaseRecover DeployPhase = "recover" // the recovery ladder
	PhaseOver    DeployPhase = "over"
)

// A Deployment is one try at making one machine ready for one reservation.
type Deployment struct {
	ID            string      `json:"id"`
	Reservation   string      `json:"reservation"`
	Machine       string      `json:"machine"`
	Class         string      `json:"class"`
	Number        int         `json:"number"` // of the reservation's tries, from 1
	Phase         DeployPhase `json:"phase"`
	Since         time.Time   `json:"since"`    // of the phase
	Deadline      *time.Time  `json:"deadline"` // of the phase
	Step          string      `json:"step"`     // within the phase; what a restart goes on with
	Started       time.Time   `json:"started"`
	Finished      *time.Time  `json:"finished"`
	Release       string      `json:"release"`
	Kernel        string      `json:"kernel"`
	BootID        string      `json:"boot_id"` // with which the agent enrolled
	RunningKernel string      `json:"running_kernel"`
	Phases        []PhaseTime `json:"phases"` // that are over, in order
	Failure       *Failure    `json:"failure"`
	Diagnosis     string      `json:"diagnosis,omitempty"` // what provider, events and logs said when it failed
	Suspect       string      `json:"suspect,omitempty"`   // id of an incident that it overlaps: it says nothing about the machine

	Booted   *time.Time `json:"booted"`   // the machine's first word
	Enrolled *time.Time `json:"enrolled"` // its agent has a key
	System   string     `json:"system"`   // that the agent found, such as ubuntu@24.04

	TokenHash string `json:"-"` // of the one-time token; see order.Enrol
	AgentKey  string `json:"-"` // of the agent that has enrolled
}

// PhaseTime is how long a phase took.
type PhaseTime struct {
	Phase   DeployPhase `json:"phase"`
	Started time.Time   `json:"started"`
	Seconds float64     `json:"seconds"`
	Calls   int         `json:"calls,omitempty"` // of the provider, for this machine alone
}

// Failures of a deployment.
const (
	FailNoMachine    = "no-machine"   // none matches, or none is left
	FailAcquire      = "acquire"      // taken by somebody else
	FailPrepare      = "prepare"      // a step of the site
	FailDeploy       = "deploy"       // the provider says so, or too long
	FailImage        = "no-image"     // the provider has no such release or kernel
	FailBoot         = "boot"         // deployed, and nothing was heard of it
	FailEnrol        = "enrol"        // the agent came and did not become ready: Checkbox, mostly
	FailWrongSystem  = "wrong-system" // another release or kernel than asked for
	FailPower        = "power"        // its BMC
	FailVanished     = "vanished"     // gone from the provider, or taken away
	FailProvider     = "provider"     // the provider itself
	FailReleaseStuck = "release"      // it does not come back
)

// A MachineEvent is one thing that happened to a machine. The log only grows.
type MachineEvent struct {
	Seq         int64     `json:"seq"`
	Machine     string    `json:"machine"`
	At          time.Time `json:"at"`
	Kind        string    `json:"kind"` // acquired, deploying, ready, released, quarantined, power, extended, failed, note, …
	Who         string    `json:"who"`  // a person's token name; "certlab"; "maas" for what only the provider can have done
	Text        string    `json:"text"` // one sentence, with the reason
	Reservation string    `json:"reservation,omitempty"`
	Deployment  string    `json:"deployment,omitempty"`
	Incident    string    `json:"incident,omitempty"`
}

// A Quarantine keeps a machine from being handed out.
type Quarantine struct {
	Since    time.Time `json:"since"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
	Auto     bool      `json:"auto"`               // by the policy: a passed check may end it
	Incident string    `json:"incident,omitempty"` //
	Provider []string  `json:"provider,omitempty"` // what was done at the provider (pool, tag, broken), or why not
	Pool     string    `json:"pool,omitempty"`     // that the machine was in, where it goes back to
	Step     string    `json:"step,omitempty"`     // what is to be done at the provider next; empty: nothing
}

// A Pause keeps new work away from a part of the lab; running work ends.
type Pause struct {
	Scope  string    `json:"scope"` // lab, pool, zone or rack
	Name   string    `json:"name"`  // of the pool, zone or rack; empty for the lab
	Since  time.Time `json:"since"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// An Incident is several machines failing alike at once: the lab's fault, not theirs.
type Incident struct {
	ID       string     `json:"id"`
	Scope    string     `json:"scope"` // zone, rack, release or provider
	Name     string     `json:"name"`
	Failure  string     `json:"failure"` // type
	Opened   time.Time  `json:"opened"`
	Closed   *time.Time `json:"closed"`
	Machines []string   `json:"machines"` // ids, that failed
	Of       int        `json:"of"`       // machines in the scope
	Text     string     `json:"text"`
	Ending   string     `json:"ending,omitempty"` // why it was closed

	Deployments []string  `json:"deployments,omitempty"` // that it overlaps and that failed
	Canary      string    `json:"canary,omitempty"`      // id of the machine that is tried first
	NextProbe   time.Time `json:"next_probe,omitzero"`   // when the next one is tried
	Probes      int       `json:"probes,omitempty"`      // that were
	Well        int       `json:"well,omitempty"`        // machines there with which things went well since
}
