package order

import "time"

// AgentDesired is the desired state that the checkbox charm writes for certlab-agent (AgentDesiredFile in the agent's directory),
// atomically and with mode 0600. The agent reads it at start and on SIGHUP and applies what can be applied while a run goes on.
type AgentDesired struct {
	Unit            string            `json:"unit"`
	ModelUUID       string            `json:"model_uuid"`
	ControllerURLs  []string          `json:"controller_urls"` // empty: on its own
	ControllerCAs   []string          `json:"controller_cas"`  // PEM certificates
	Checkbox        CheckboxSource    `json:"checkbox"`
	DefaultPlan     string            `json:"default_plan"`
	TimeoutSeconds  int64             `json:"timeout_seconds"` // total, per attempt
	SilenceSeconds  int64             `json:"silence_seconds"` // without output
	ConsoleMaxBytes int64             `json:"console_max_bytes"`
	SessionMaxBytes int64             `json:"session_max_bytes"`
	MaxBoots        int               `json:"max_boots"` // per attempt
	NormalUser      string            `json:"normal_user"`
	Environment     map[string]string `json:"environment"`
	SecretEnvFile   string            `json:"secret_environment_file"` // path to NAME=value lines, mode 0600; empty: none
	Manifest        map[string]string `json:"manifest"`                // full manifest entry id → true, false or a number or text
	Proxy           Proxy             `json:"proxy"`
	ProviderPaths   []string          `json:"provider_paths"`   // directories with Checkbox providers: ours, and the operator's resource
	Binary          string            `json:"binary"`           // path of the agent that should be running; it changes to it when idle
	DispatchCommand []string          `json:"dispatch_command"` // what refreshes the unit's status (juju-exec …); run when a run starts and ends
	// Deployment is set on a machine that the lab has deployed: it has no unit, and is the lab's to reboot. Reserved means that a person has
	// it: once Checkbox was installed for them, nothing is installed, refreshed, stopped or set aside there any more.
	Deployment string `json:"deployment,omitempty"`
	Reserved   bool   `json:"reserved,omitempty"`
}

// CheckboxSource says where Checkbox comes from.
type CheckboxSource struct {
	Source        string   `json:"source"`         // snap, deb or path
	Channel       string   `json:"channel"`        // snap channel, or the PPA for deb
	Path          string   `json:"path"`           // of checkbox-cli, for path
	ExtraPackages []string `json:"extra_packages"` // debs with providers
}

// Proxy holds Juju's charm proxy settings.
type Proxy struct {
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	FTP   string `json:"ftp,omitempty"`
	No    string `json:"no,omitempty"`
}

// RunRequest asks the agent, over its unix socket, to start a run: POST /v1/runs → 202 Run.
// A request with an ID that the agent already knows answers with that run (idempotent).
type RunRequest struct {
	ID     string `json:"id,omitempty"` // run id chosen by the caller; empty: the agent chooses
	Origin Origin `json:"origin"`
	Spec
}

// Run is what the agent knows of a run: GET /v1/runs, GET /v1/runs/{id|last}?wait=SECONDS (answers when it is final or the
// wait is over), POST /v1/runs/{id}/cancel, POST /v1/runs/{id}/rerun-failed → a new Run.
type Run struct {
	Report
	Finished       time.Time `json:"finished,omitzero"`
	Failure        *Failure  `json:"failure,omitempty"`
	Counts         Counts    `json:"counts,omitempty"`
	BlockersFailed []string  `json:"blockers_failed,omitempty"` // full ids
	Files          []File    `json:"files,omitempty"`
	SubmissionPath string    `json:"submission_path,omitempty"` // on this machine, while it is kept: delivered or not
	Delivered      bool      `json:"delivered"`                 // the controller has acknowledged everything
	URL            string    `json:"url,omitempty"`             // the controller's page for the run
	Notice         string    `json:"notice,omitempty"`          // why a wait for the run ended before the run and the time did
}

// AgentStatus is GET /v1/status.
type AgentStatus struct {
	Version         string    `json:"version"`
	CheckboxVersion string    `json:"checkbox_version"`
	CheckboxProblem string    `json:"checkbox_problem,omitempty"` // why Checkbox cannot be used, with what to do
	Installing      bool      `json:"installing"`
	Controller      string    `json:"controller"` // "" not related, "enrolled", "unreachable", "refused"
	ControllerError string    `json:"controller_error,omitempty"`
	ControllerSince time.Time `json:"controller_since,omitzero"` // since when it is like that
	Applied         string    `json:"applied"`                   // SHA-256 of the desired-state file that is in force
	Current         *Run      `json:"current,omitempty"`
	Queued          int       `json:"queued"`
	Undelivered     int       `json:"undelivered"`         // final runs that wait for the controller
	Restoring       string    `json:"restoring,omitempty"` // run whose subject is being taken off the machine
	Dirty           string    `json:"dirty,omitempty"`     // why it could not be, with what to do: the machine takes no runs
	Problems        []string  `json:"problems,omitempty"`  // other trouble that a person should see to, each with what to do
	Since           time.Time `json:"since"`
}

// Suite is one test plan: GET /v1/plans?filter=TEXT.
type Suite struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// AgentPublic is what the agent publishes about itself in <dir>/public.json for the charm to put in its databag.
type AgentPublic struct {
	PublicKey string   `json:"public_key"` // base64 of the key's SubjectPublicKeyInfo (DER)
	Identity  Identity `json:"identity"`
}

// Files in the agent's directory (certlab-agent run --dir DIR).
const (
	AgentDesiredFile = "desired.json" // written by the charm
	AgentPublicFile  = "public.json"  // written by `certlab-agent identity` and by the agent at start
	AgentSocket      = "agent.sock"   // mode 0600
)
