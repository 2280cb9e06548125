package juju

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Life of an entity. What is dead is about to be taken out of the state.
type Life string

const (
	Alive Life = "alive"
	Dying Life = "dying"
	Dead  Life = "dead"
)

// A State is everything that a model knows. All of it is data: it can be saved as JSON and read back, copied, and compared.
// Maps are keyed by what Juju calls the things.
type State struct {
	Model        ModelInfo               `json:"model"`
	Config       map[string]string       `json:"config,omitempty"`     // model-config that was set; see ModelConfig
	CloudSpec    *CloudSpec              `json:"cloud_spec,omitempty"` // what credential-get shows to who is trusted; nil: the cloud has no credential
	Machines     map[string]*Machine     `json:"machines,omitempty"`
	Charms       map[string]*Charm       `json:"charms,omitempty"` // by URL
	Applications map[string]*Application `json:"applications,omitempty"`
	Units        map[string]*Unit        `json:"units,omitempty"`
	Relations    map[int]*Relation       `json:"relations,omitempty"`
	Storage      map[string]*Storage     `json:"storage,omitempty"` // by storage id, such as data/0
	Secrets      map[string]*Secret      `json:"secrets,omitempty"` // by bare id, 20 characters
	Operations   map[int]*Operation      `json:"operations,omitempty"`
	Tasks        map[int]*Task           `json:"tasks,omitempty"`
	Log          []LogLine               `json:"log,omitempty"` // the last maxLog lines
	Next         Sequences               `json:"next"`
}

// ModelInfo says which model this is.
type ModelInfo struct {
	Name           string    `json:"name"`
	UUID           string    `json:"uuid"`
	Type           string    `json:"type"`    // "iaas"
	Version        string    `json:"version"` // "4.0.15" or "3.6.28"
	Controller     string    `json:"controller"`
	ControllerUUID string    `json:"controller_uuid,omitempty"`
	Cloud          string    `json:"cloud"`
	CloudType      string    `json:"cloud_type,omitempty"` // "unmanaged"
	Region         string    `json:"region"`
	APIAddresses   []string  `json:"api_addresses,omitempty"`
	Life           Life      `json:"life"`
	Status         Status    `json:"status"`
	Created        time.Time `json:"created"`
}

// Major is the model's major version: 3 or 4.
func (m ModelInfo) Major() int {
	major, _, _ := strings.Cut(m.Version, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// A Status is what `juju status` shows of one thing.
type Status struct {
	Status  string         `json:"status"`
	Message string         `json:"message,omitempty"`
	Data    map[string]any `json:"data,omitempty"`
	Since   time.Time      `json:"since"`
}

// A Machine carries units.
type Machine struct {
	ID          string             `json:"id"`
	Hostname    string             `json:"hostname,omitempty"`
	InstanceID  string             `json:"instance_id,omitempty"`
	Addresses   []string           `json:"addresses,omitempty"` // without prefix length; the first is the public and private one
	Interfaces  []NetworkInterface `json:"interfaces,omitempty"`
	Base        Base               `json:"base"`
	Arch        string             `json:"arch,omitempty"`
	Cores       int                `json:"cores,omitempty"`
	MemoryMiB   int                `json:"memory_mib,omitempty"`
	Zone        string             `json:"zone,omitempty"`
	Constraints string             `json:"constraints,omitempty"`
	Annotations map[string]string  `json:"annotations,omitempty"`
	Life        Life               `json:"life"`
	Agent       Status             `json:"agent"`        // juju-status: pending, started, down, …
	Instance    Status             `json:"instance"`     // machine-status: allocating, running, …
	Modify      Status             `json:"modification"` // modification-status
}

// Address is the machine's first address, empty if it has none yet.
func (m *Machine) Address() string {
	if len(m.Addresses) == 0 {
		return ""
	}
	return m.Addresses[0]
}

// A NetworkInterface as network-get and `juju status` show it.
type NetworkInterface struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // with prefix length: 10.0.0.11/24
	Gateway   string   `json:"gateway,omitempty"`
	Space     string   `json:"space,omitempty"`
}

// Base is an operating system: ubuntu, 24.04.
type Base struct {
	Name    string `json:"name"`
	Channel string `json:"channel"` // "24.04", without "/stable"
}

func (b Base) String() string { return b.Name + "@" + b.Channel }

// An Application is a deployed charm with its settings. Its units are those in State.Units that name it.
type Application struct {
	Name        string              `json:"name"`
	Charm       string              `json:"charm"` // URL in State.Charms
	Channel     string              `json:"channel,omitempty"`
	Base        Base                `json:"base"`
	Config      map[string]string   `json:"config,omitempty"` // options that were set, as text; see Settings
	Trust       bool                `json:"trust,omitempty"`
	Constraints string              `json:"constraints,omitempty"`
	Bindings    map[string]string   `json:"bindings,omitempty"`   // endpoint → space; "" is the default
	Directives  map[string]string   `json:"directives,omitempty"` // storage name → directive such as rootfs,1,100M
	Resources   map[string]Resource `json:"resources,omitempty"`
	Annotations map[string]string   `json:"annotations,omitempty"`
	Exposed     bool                `json:"exposed,omitempty"`
	Life        Life                `json:"life"`
	Leader      string              `json:"leader,omitempty"` // unit name
	LeaseEnd    time.Time           `json:"lease_end,omitzero"`
	Status      Status              `json:"status"` // set by the leader with status-set --application; Status.Status empty: derived from units
	Created     time.Time           `json:"created"`
	// LeaderSettings are those of leader-set, which only 3.6 has.
	LeaderSettings map[string]string `json:"leader_settings,omitempty"`
	// ConfigVersion counts changes of config that agents are told of. `juju config --reset` does not count on 4.0.15.
	ConfigVersion int `json:"config_version,omitempty"`
	// CharmVersion counts refreshes: the same file again is a new revision and an upgrade-charm.
	CharmVersion int `json:"charm_version,omitempty"`
}

// A Resource is a file that was attached to an application.
type Resource struct {
	Name     string `json:"name"`
	Path     string `json:"path"` // where the operator's copy is, as the host's file system names it
	Filename string `json:"filename"`
	Revision int    `json:"revision"`
	Size     int64  `json:"size,omitempty"`
	SHA384   string `json:"sha384,omitempty"`
}

// A Unit is one instance of an application, on one machine.
type Unit struct {
	Name        string `json:"name"`
	Application string `json:"application"`
	Machine     string `json:"machine,omitempty"` // empty: waits for a machine
	Life        Life   `json:"life"`
	// Workload is what the charm last set, or the agent for it before the charm ran. While Failed is set, status shows an error instead: see Unit.WorkloadStatus.
	Workload Status `json:"workload"`
	Agent    Status `json:"agent"` // allocating, executing, idle, error, failed
	// Lost: the agent's connection is closed; status shows unknown/lost.
	Lost            bool              `json:"lost,omitempty"`
	LostSince       time.Time         `json:"lost_since,omitzero"`
	AgentVersion    string            `json:"agent_version,omitempty"` // empty until the agent has run
	WorkloadVersion string            `json:"workload_version,omitempty"`
	Failed          *FailedHook       `json:"failed,omitempty"`
	Resolved        Resolved          `json:"resolved,omitempty"`
	Ports           []Port            `json:"ports,omitempty"`       // sorted
	CharmState      map[string]string `json:"charm_state,omitempty"` // state-set
	History         []HistoryEntry    `json:"history,omitempty"`     // the last maxHistory entries
	Uniter          Uniter            `json:"uniter"`
	Created         time.Time         `json:"created"`
}

// Number of a unit: 3 for worker/3.
func (u *Unit) Number() int { return unitNumber(u.Name) }

// Tag of a unit: unit-worker-3.
func (u *Unit) Tag() string { return UnitTag(u.Name) }

// UnitTag is how paths and logs name a unit: unit-worker-3 for worker/3.
func UnitTag(unit string) string { return "unit-" + strings.ReplaceAll(unit, "/", "-") }

func unitNumber(name string) int {
	_, number, _ := strings.Cut(name, "/")
	n, _ := strconv.Atoi(number)
	return n
}

// WorkloadStatus is what `juju status` shows as the unit's workload: the charm's own words unless a hook has failed or the
// agent is lost.
func (u *Unit) WorkloadStatus() Status {
	switch {
	case u.Lost:
		return Status{Status: "unknown", Message: lostMessage, Since: u.LostSince}
	case u.Failed != nil:
		return Status{Status: "error", Message: u.Failed.Message(), Since: u.Failed.Since,
			Data: map[string]any{"hook": u.Failed.Hook.Name}}
	}
	return u.Workload
}

// AgentStatus is what `juju status` shows as the unit's agent. In an error it is idle, since the error belongs to the workload.
func (u *Unit) AgentStatus() Status {
	switch {
	case u.Lost:
		return Status{Status: "lost", Message: "agent is not communicating with the server", Since: u.LostSince}
	case u.Agent.Status == "error":
		return Status{Status: "idle", Since: u.Agent.Since}
	}
	return u.Agent
}

const lostMessage = "agent lost, see `juju debug-logs` or `juju show-status-log` for more information"

// A FailedHook holds up its unit until it has run well or was resolved.
type FailedHook struct {
	Hook    Hook      `json:"hook"`
	Attempt int       `json:"attempt"` // how often it has failed
	RetryAt time.Time `json:"retry_at"`
	Since   time.Time `json:"since"`
}

// Message as status shows it.
func (f *FailedHook) Message() string { return fmt.Sprintf("hook failed: %q", f.Hook.Name) }

// Resolved is how an operator answered a failed hook.
type Resolved string

const (
	NotResolved  Resolved = ""
	ResolveRetry Resolved = "retry-hooks"
	ResolveSkip  Resolved = "no-hooks"
)

// A HistoryEntry is one line of `juju show-status-log`.
type HistoryEntry struct {
	Kind string `json:"kind"` // "juju-unit" or "workload"
	Status
}

// A Port is one range that a unit has open on one endpoint; Endpoint "" is all of them.
type Port struct {
	Protocol string `json:"protocol"` // tcp, udp, icmp
	From     int    `json:"from,omitempty"`
	To       int    `json:"to,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
}

func (p Port) String() string {
	switch {
	case p.Protocol == "icmp":
		return "icmp"
	case p.From == p.To:
		return fmt.Sprintf("%d/%s", p.From, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.From, p.To, p.Protocol)
}

// Role of an endpoint in a relation.
type Role string

const (
	Provider Role = "provider"
	Requirer Role = "requirer"
	Peer     Role = "peer"
)

// A Relation joins two endpoints, or one with itself.
type Relation struct {
	ID        int                      `json:"id"`
	Endpoints []Endpoint               `json:"endpoints"` // requirer first, as in Juju's relation key
	Life      Life                     `json:"life"`
	Status    Status                   `json:"status"`          // joining, joined, broken, suspended
	Apps      map[string]*AppBag       `json:"apps"`            // by application, both sides from the start
	Units     map[string]*RelationUnit `json:"units,omitempty"` // units that are, or were, in scope
	Created   time.Time                `json:"created"`
}

// An Endpoint is one side of a relation.
type Endpoint struct {
	Application string `json:"application"`
	Name        string `json:"name"`
	Interface   string `json:"interface"`
	Role        Role   `json:"role"`
}

func (e Endpoint) String() string { return e.Application + ":" + e.Name }

// Key is Juju's name for the relation: "worker:agents ctrl:agents", or "ctrl:cluster" for peers.
func (r *Relation) Key() string {
	names := make([]string, len(r.Endpoints))
	for i, e := range r.Endpoints {
		names[i] = e.String()
	}
	return strings.Join(names, " ")
}

// Peer reports whether the relation is one of an application with itself.
func (r *Relation) Peer() bool { return len(r.Endpoints) == 1 }

// Endpoint returns the application's side.
func (r *Relation) Endpoint(application string) (Endpoint, bool) {
	for _, e := range r.Endpoints {
		if e.Application == application {
			return e, true
		}
	}
	return Endpoint{}, false
}

// Remote returns the other side as seen by the application; of a peer relation, the application's own.
func (r *Relation) Remote(application string) (Endpoint, bool) {
	local, ok := r.Endpoint(application)
	if !ok || r.Peer() {
		return local, ok
	}
	for _, e := range r.Endpoints {
		if e != local {
			return e, true
		}
	}
	return Endpoint{}, false
}

// An AppBag holds what the leader of one side has written. Version counts its changes: a unit that has seen an older one gets a relation-changed.
type AppBag struct {
	Settings map[string]string `json:"settings,omitempty"`
	Version  int               `json:"version"`
}

// A RelationUnit is one unit's part of a relation. Settings stay readable after the unit has left.
type RelationUnit struct {
	InScope  bool              `json:"in_scope"`
	Settings map[string]string `json:"settings,omitempty"`
	Version  int               `json:"version"`
}

// A Storage is one instance of a charm's storage.
type Storage struct {
	ID         string `json:"id"`   // data/0
	Name       string `json:"name"` // data
	Kind       string `json:"kind"` // filesystem or block
	Unit       string `json:"unit,omitempty"`
	Location   string `json:"location,omitempty"` // mount point on the machine; empty until it is provisioned
	Pool       string `json:"pool"`
	SizeMiB    uint64 `json:"size_mib,omitempty"`
	Filesystem string `json:"filesystem,omitempty"` // id of the filesystem, "0"
	ReadOnly   bool   `json:"read_only,omitempty"`
	Persistent bool   `json:"persistent,omitempty"`
	Destroy    bool   `json:"destroy,omitempty"` // --destroy-storage: its data goes when it is detached
	Attached   bool   `json:"attached"`          // the host has made it available
	Life       Life   `json:"life"`
	Status     Status `json:"status"` // pending, attached, detaching, detached
}

// A Secret belongs to a unit, an application or, if a user made it, the model.
type Secret struct {
	ID          string                     `json:"id"`
	Owner       Owner                      `json:"owner"`
	Label       string                     `json:"label,omitempty"` // the owner's label
	Name        string                     `json:"name,omitempty"`  // user secrets only
	Description string                     `json:"description,omitempty"`
	Rotate      string                     `json:"rotate,omitempty"` // never, hourly, …
	Rotated     time.Time                  `json:"rotated,omitzero"` // when it was last rotated
	Expire      time.Time                  `json:"expire,omitzero"`
	AutoPrune   bool                       `json:"auto_prune,omitempty"`
	Created     time.Time                  `json:"created"`
	Updated     time.Time                  `json:"updated"`
	Revisions   []SecretRevision           `json:"revisions"` // ascending; the last is the latest
	Grants      []Grant                    `json:"grants,omitempty"`
	Consumers   map[string]*SecretConsumer `json:"consumers,omitempty"` // by unit
}

// Owner of a secret.
type Owner struct {
	Kind string `json:"kind"` // unit, application, model
	ID   string `json:"id,omitempty"`
}

// A SecretRevision is one content of a secret.
type SecretRevision struct {
	Revision int               `json:"revision"`
	Content  map[string]string `json:"content"` // plain bytes, not base64
	Created  time.Time         `json:"created"`
	Updated  time.Time         `json:"updated"`
	Expire   time.Time         `json:"expire,omitzero"`
	// Obsolete: no consumer holds it and a newer one exists; the owner gets secret-remove for it.
	Obsolete bool `json:"obsolete,omitempty"`
}

// A Grant lets an application or a unit read a secret for as long as a scope exists.
type Grant struct {
	Target   string `json:"target"`   // application-worker, unit-worker-1
	Scope    string `json:"scope"`    // relation-worker.agents#ctrl.agents, model-UUID
	Relation int    `json:"relation"` // id, or -1 when the scope is no relation
	Role     string `json:"role"`     // view
}

// A SecretConsumer is what a unit that has read a secret holds of it.
type SecretConsumer struct {
	Label    string `json:"label,omitempty"`
	Revision int    `json:"revision"`
}

// Latest is the newest revision's number, 0 for none.
func (s *Secret) Latest() int {
	if len(s.Revisions) == 0 {
		return 0
	}
	return s.Revisions[len(s.Revisions)-1].Revision
}

// Revision returns one revision, nil if it is gone.
func (s *Secret) Revision(n int) *SecretRevision {
	for i := range s.Revisions {
		if s.Revisions[i].Revision == n {
			return &s.Revisions[i]
		}
	}
	return nil
}

// TaskStatus of a task or an operation.
type TaskStatus string

const (
	TaskPending   TaskStatus = "pending"
	TaskRunning   TaskStatus = "running"
	TaskAborting  TaskStatus = "aborting"
	TaskCompleted TaskStatus = "completed"
	TaskFailed    TaskStatus = "failed"
	TaskCancelled TaskStatus = "cancelled"
	TaskAborted   TaskStatus = "aborted"
	TaskError     TaskStatus = "error" // 4.x: parameters were refused by the unit; never started
)

// Final reports whether the task never changes again.
func (s TaskStatus) Final() bool {
	return s != TaskPending && s != TaskRunning && s != TaskAborting
}

// An Operation is one `juju run` or `juju exec`; its tasks are one per target. Both are numbered from one sequence.
type Operation struct {
	ID        int        `json:"id"`
	Summary   string     `json:"summary"`
	Enqueued  time.Time  `json:"enqueued"`
	Started   time.Time  `json:"started,omitzero"`
	Completed time.Time  `json:"completed,omitzero"`
	Status    TaskStatus `json:"status"`
	Fail      string     `json:"fail,omitempty"` // why tasks could not be scheduled
	Tasks     []int      `json:"tasks,omitempty"`
}

// ExecAction is the name that `juju exec` has as an action. Its parameters are command and timeout (nanoseconds).
const ExecAction = "juju-exec"

// A Task is one action, or one exec, on one unit or machine.
type Task struct {
	ID             int            `json:"id"`
	Operation      int            `json:"operation"`
	Receiver       string         `json:"receiver"` // unit name; a machine id for exec --machine
	Action         string         `json:"action"`
	Params         map[string]any `json:"params,omitempty"` // as given; defaults are put in when it starts
	Parallel       bool           `json:"parallel,omitempty"`
	ExecutionGroup string         `json:"execution_group,omitempty"`
	Status         TaskStatus     `json:"status"`
	Message        string         `json:"message,omitempty"`
	Results        map[string]any `json:"results,omitempty"` // nested; return-code is an int
	Log            []TaskLog      `json:"log,omitempty"`
	Enqueued       time.Time      `json:"enqueued"`
	Started        time.Time      `json:"started,omitzero"`
	Completed      time.Time      `json:"completed,omitzero"`
}

// A TaskLog is one action-log line.
type TaskLog struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
}

// A LogLine is one line of `juju debug-log`.
type LogLine struct {
	Time    time.Time `json:"time"`
	Entity  string    `json:"entity"` // unit-worker-0, machine-0
	Level   string    `json:"level"`
	Module  string    `json:"module"`
	Message string    `json:"message"`
}

// Sequences are the next numbers to be given out.
type Sequences struct {
	Machine    int            `json:"machine"`
	Relation   int            `json:"relation"`
	Task       int            `json:"task"` // operations and tasks
	Filesystem int            `json:"filesystem"`
	Storage    int            `json:"storage"`
	Unit       map[string]int `json:"unit,omitempty"`  // by application name; survives the application
	Charm      map[string]int `json:"charm,omitempty"` // by charm name
}

const (
	maxLog     = 4000
	maxHistory = 100
)

// Hook is one event for a charm.
type Hook struct {
	Name string   `json:"name"` // config-changed, agents-relation-joined, data-storage-attached
	Kind HookKind `json:"kind"`
	// relation hooks
	Relation      int    `json:"relation,omitempty"`
	RemoteUnit    string `json:"remote_unit,omitempty"`
	RemoteApp     string `json:"remote_app,omitempty"`
	DepartingUnit string `json:"departing_unit,omitempty"`
	// Version of the bag that a relation-changed, or of the secret that a secret-changed, tells of; set by State.Aim.
	Version int `json:"version,omitempty"`
	// Seen stands for the settings that a config-changed tells of; set by State.Aim.
	Seen string `json:"seen,omitempty"`
	// storage hooks
	Storage string `json:"storage,omitempty"`
	// secret hooks
	Secret         string `json:"secret,omitempty"`
	SecretRevision int    `json:"secret_revision,omitempty"`
}

// HookKind is a hook's name without the endpoint or storage name before it.
type HookKind string

const (
	Install          HookKind = "install"
	Start            HookKind = "start"
	ConfigChanged    HookKind = "config-changed"
	UpgradeCharm     HookKind = "upgrade-charm"
	Stop             HookKind = "stop"
	Remove           HookKind = "remove"
	LeaderElected    HookKind = "leader-elected"
	UpdateStatus     HookKind = "update-status"
	SecretChanged    HookKind = "secret-changed"
	SecretRemove     HookKind = "secret-remove"
	SecretRotate     HookKind = "secret-rotate"
	SecretExpired    HookKind = "secret-expired"
	RelationCreated  HookKind = "relation-created"
	RelationJoined   HookKind = "relation-joined"
	RelationChanged  HookKind = "relation-changed"
	RelationDeparted HookKind = "relation-departed"
	RelationBroken   HookKind = "relation-broken"
	StorageAttached  HookKind = "storage-attached"
	StorageDetaching HookKind = "storage-detaching"
)

// IsRelation reports whether hooks of this kind have a relation.
func (k HookKind) IsRelation() bool { return strings.HasPrefix(string(k), "relation-") }

// IsStorage reports whether hooks of this kind have a storage instance.
func (k HookKind) IsStorage() bool { return strings.HasPrefix(string(k), "storage-") }

// IsSecret reports whether hooks of this kind have a secret.
func (k HookKind) IsSecret() bool { return strings.HasPrefix(string(k), "secret-") }

// Uniter is what a unit's agent remembers of what its charm has been told. An agent that is killed, or a machine that reboots,
// goes on from it.
type Uniter struct {
	Charm        string `json:"charm,omitempty"`         // URL that is unpacked on the machine
	CharmVersion int    `json:"charm_version,omitempty"` // Application.CharmVersion that was unpacked
	// CharmNotified: Application.CharmVersion that an install or upgrade-charm hook was run for.
	CharmNotified int    `json:"charm_notified,omitempty"`
	Installed     bool   `json:"installed,omitempty"`
	Started       bool   `json:"started,omitempty"`
	ConfigHash    string `json:"config_hash,omitempty"` // of what the last config-changed saw; empty: it has to run
	Leader        bool   `json:"leader,omitempty"`      // leader-elected has run since it became leader
	StatusSet     bool   `json:"status_set,omitempty"`  // the charm has called status-set at least once
	BootID        string `json:"boot_id,omitempty"`
	// Running is the hook that has begun and whose changes are not stored yet. After an agent's or machine's death it runs again, first.
	Running *Hook `json:"running,omitempty"`
	// RunningTask is the action that has begun, 0 for none (task ids of 0 are operations).
	RunningTask int                    `json:"running_task,omitempty"`
	Relations   map[int]*LocalRelation `json:"relations,omitempty"`
	Storage     map[string]bool        `json:"storage,omitempty"` // storage-attached has run
	Secrets     map[string]int         `json:"secrets,omitempty"` // latest revision that secret-changed told of
	Stopped     bool                   `json:"stopped,omitempty"`
	Removed     bool                   `json:"removed,omitempty"`
	// Obsolete are the revisions of own secrets that secret-remove has told of, as "id/revision".
	Obsolete map[string]bool `json:"obsolete,omitempty"`
	UpdateAt time.Time       `json:"update_at,omitzero"` // when update-status is due
}

// A LocalRelation is how far a unit's charm has been told of one relation.
type LocalRelation struct {
	Created bool           `json:"created,omitempty"`
	Joined  map[string]int `json:"joined,omitempty"` // remote unit → version of its bag that relation-changed told of; -1: joined, changed is due
	Apps    map[string]int `json:"apps,omitempty"`   // remote application → version told of
	Broken  bool           `json:"broken,omitempty"`
}

// UnitsOf lists an application's units in the order of their numbers.
func (s *State) UnitsOf(application string) []*Unit {
	var units []*Unit
	for _, u := range s.Units {
		if u.Application == application {
			units = append(units, u)
		}
	}
	sort.Slice(units, func(i, j int) bool { return units[i].Number() < units[j].Number() })
	return units
}

// UnitsOn lists the units on a machine by name.
func (s *State) UnitsOn(machine string) []*Unit {
	var units []*Unit
	for _, u := range s.Units {
		if u.Machine == machine {
			units = append(units, u)
		}
	}
	sort.Slice(units, func(i, j int) bool { return units[i].Name < units[j].Name })
	return units
}

// RelationsOf lists an application's relations by id.
func (s *State) RelationsOf(application string) []*Relation {
	var relations []*Relation
	for _, r := range s.Relations {
		if _, ok := r.Endpoint(application); ok {
			relations = append(relations, r)
		}
	}
	sort.Slice(relations, func(i, j int) bool { return relations[i].ID < relations[j].ID })
	return relations
}

// StorageOf lists a unit's storage instances by id.
func (s *State) StorageOf(unit string) []*Storage {
	var all []*Storage
	for _, st := range s.Storage {
		if st.Unit == unit {
			all = append(all, st)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all
}

// CharmOf returns the charm that an application is set to; its units may still run an older one.
func (s *State) CharmOf(application string) *Charm {
	app := s.Applications[application]
	if app == nil {
		return nil
	}
	return s.Charms[app.Charm]
}

// Settings are an application's options as a charm sees them: set values and defaults, by the charm's types (string, int64,
// float64, bool). An option without value and default is there as nil.
func (s *State) Settings(application string) map[string]any {
	app, ch := s.Applications[application], s.CharmOf(application)
	if app == nil || ch == nil {
		return nil
	}
	values := map[string]any{}
	for name, option := range ch.Config.Options {
		values[name] = option.Default
		if text, ok := app.Config[name]; ok {
			if value, err := ParseOption(option.Type, text); err == nil {
				values[name] = value
			}
		}
	}
	return values
}

// ParseOption reads an option's stored text as its type. It is strict: what `juju config` takes is for its caller to judge.
func ParseOption(kind, text string) (any, error) {
	switch kind {
	case "int":
		return strconv.ParseInt(text, 10, 64)
	case "float":
		return strconv.ParseFloat(text, 64)
	case "boolean":
		return strconv.ParseBool(text)
	case "string", "secret":
		return text, nil
	}
	return nil, fmt.Errorf("option has unknown type %q", kind)
}

// ModelConfig returns a key of the model's configuration, or its default.
func (s *State) ModelConfig(key string) string {
	if v, ok := s.Config[key]; ok {
		return v
	}
	return modelDefaults[key]
}

var modelDefaults = map[string]string{
	"update-status-hook-interval": "5m",
	"logging-config":              "<root>=INFO",
	"juju-no-proxy":               "127.0.0.1,localhost,::1",
	"max-action-results-age":      "336h",
	"max-action-results-size":     "5G",
}

// AppendLog adds a line to the model's log and drops the oldest above the limit.
func (s *State) AppendLog(line LogLine) {
	s.Log = append(s.Log, line)
	if len(s.Log) > maxLog {
		s.Log = append([]LogLine(nil), s.Log[len(s.Log)-maxLog:]...)
	}
}

// SetWorkload sets a unit's workload status and remembers it in the unit's history.
func (u *Unit) SetWorkload(status Status) {
	u.Workload = status
	u.remember("workload", status)
}

// SetAgent sets the unit's agent status and remembers it in the unit's history.
func (u *Unit) SetAgent(status Status) {
	u.Agent = status
	u.remember("juju-unit", status)
}

func (u *Unit) remember(kind string, status Status) {
	u.History = append(u.History, HistoryEntry{Kind: kind, Status: status})
	if len(u.History) > maxHistory {
		u.History = append([]HistoryEntry(nil), u.History[len(u.History)-maxHistory:]...)
	}
}
