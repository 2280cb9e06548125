package order

// ControllerDesired is the desired state that the cert-controller charm writes for certlabd (ControllerDesiredFile in the
// service's run directory), atomically and with mode 0600. certlabd reads it at start and on SIGHUP;
// GET /health/ready names the SHA-256 of the file that is in force.
type ControllerDesired struct {
	Unit        string   `json:"unit"`
	ModelUUID   string   `json:"model_uuid"`
	SiteName    string   `json:"site_name"`
	Port        int      `json:"port"`
	BindAddress string   `json:"bind_address"` // empty: all addresses
	Addresses   []string `json:"addresses"`    // IPs and names that the server certificate must be good for
	ExternalURL string   `json:"external_url"` // base of links for people; empty: from the first address
	DataDir     string   `json:"data_dir"`     // the storage: database, blobs, keys
	// DataMark names a file in DataDir without which certlabd refuses to start: the charm has put it into the storage, and where it is
	// missing, the storage is not mounted (yet). Empty: nothing is demanded.
	DataMark           string          `json:"data_mark,omitempty"`
	MinFreeBytes       int64           `json:"min_free_bytes"`       // below it no new runs are handed out
	RetentionDays      int             `json:"retention_days"`       // 0: for ever
	MaxSubmissionBytes int64           `json:"max_submission_bytes"` //
	LogLevel           string          `json:"log_level"`            // debug, info, warning or error
	DispatchCommand    []string        `json:"dispatch_command"`     // what refreshes the unit's status and databag (juju-exec …)
	Agents             []EnrolledAgent `json:"agents"`               // sorted by relation, then unit
	Fleet              Fleet           `json:"fleet,omitzero"`
	KernelStatusURL    string          `json:"kernel_status_url,omitempty"` // the kernel team's status; empty: it is not polled
}

// Fleet is how the controller uses its provider of machines. Its zero value means that there is none.
type Fleet struct {
	MAAS      MAAS           `json:"maas,omitzero"`
	Limits    FleetLimits    `json:"limits,omitzero"`
	Checkbox  CheckboxSource `json:"checkbox,omitzero"`   // on machines that are deployed
	Providers string         `json:"providers,omitempty"` // directory with Checkbox providers that go with the agent
	Proxy     Proxy          `json:"proxy,omitzero"`      // Juju's, for machines that are deployed
	Mirror    string         `json:"mirror,omitempty"`    // Juju's apt mirror
	Agents    string         `json:"agents,omitempty"`    // directory with certlab-agent_ARCHITECTURE
	Site      string         `json:"site,omitempty"`      // directory with the site's programs: prepare, console
	Webhook   Webhook        `json:"webhook,omitzero"`
	Problem   string         `json:"problem,omitempty"` // why there is no provider although one is wanted, with what to do
}

// MAAS is a region and the key to it.
type MAAS struct {
	URL            string            `json:"url"`      // http(s)://host:5240/MAAS; empty: none
	KeyFile        string            `json:"key_file"` // path, mode 0600: consumer:token:secret
	CAFile         string            `json:"ca_file,omitempty"`
	Source         string            `json:"source"`                    // trust or secret: where the key comes from
	Pools          []string          `json:"pools,omitempty"`           // machines are taken from these only; empty: from all but the protected ones
	ProtectedPools []string          `json:"protected_pools,omitempty"` // machines in these are never taken
	QuarantinePool string            `json:"quarantine_pool,omitempty"`
	QuarantineTag  string            `json:"quarantine_tag,omitempty"`
	Erase          map[string]string `json:"erase,omitempty"`       // by pool: none, quick, secure or full; "" for the others
	PowerUnits     bool              `json:"power_units,omitempty"` // machines that Juju holds and that carry a unit of this lab may be power-cycled
}

// FleetLimits bound what people and the lab itself do with machines. 0 means the default.
type FleetLimits struct {
	Release          string  `json:"release,omitempty"`           // deployed where nothing else is asked for; empty: the provider's default
	MaxHours         float64 `json:"max_hours,omitempty"`         // of one reservation, extensions included; 72
	MaxExtensions    int     `json:"max_extensions,omitempty"`    // 10
	MaxPerPerson     int     `json:"max_per_person,omitempty"`    // machines at once; 10
	MaxQueue         int     `json:"max_queue,omitempty"`         // reservations that wait; 1000
	MaxTries         int     `json:"max_tries,omitempty"`         // deployments for one reservation; 10
	ReminderMinutes  int     `json:"reminder_minutes,omitempty"`  // before its end; 30
	DeployMinutes    int     `json:"deploy_minutes,omitempty"`    // until the provider says deployed; 40: longer than MAAS's own 30
	BootMinutes      int     `json:"boot_minutes,omitempty"`      // from then until the machine asks for its agent; 15
	EnrolMinutes     int     `json:"enrol_minutes,omitempty"`     // from then until the agent is ready; 45
	ReleaseMinutes   int     `json:"release_minutes,omitempty"`   // 10: longer than MAAS's own 5
	SilenceMinutes   int     `json:"silence_minutes,omitempty"`   // of an agent, before the machine counts as hung; 15
	SilenceSeconds   int     `json:"silence_seconds,omitempty"`   // instead of SilenceMinutes, for trials
	BootSeconds      int     `json:"boot_seconds,omitempty"`      // instead of BootMinutes where a machine reboots in a run or was power-cycled, for trials
	PowerCycles      int     `json:"power_cycles,omitempty"`      // per attempt; 3
	CheckHours       int     `json:"check_hours,omitempty"`       // between health checks of a machine; 0: none
	QuarantineAfter  int     `json:"quarantine_after,omitempty"`  // provisioning failures in a row; 3
	AutoReturn       bool    `json:"auto_return,omitempty"`       // a passed check ends what the policy quarantined
	IncidentMachines int     `json:"incident_machines,omitempty"` // 5
	IncidentPercent  int     `json:"incident_percent,omitempty"`  // 10
	IncidentMinutes  int     `json:"incident_minutes,omitempty"`  // 15
	MaxDeploying     int     `json:"max_deploying,omitempty"`     // at once; 50
}

// Webhook is who is told of reminders and incidents.
type Webhook struct {
	URL        string `json:"url,omitempty"`
	SecretFile string `json:"secret_file,omitempty"` // path, mode 0600: the key of the signature
}

// EnrolledAgent is a unit that may act for a machine. Who is not in the list has no access.
type EnrolledAgent struct {
	Relation  string   `json:"relation"` // relation id, such as cert-agents:3
	Unit      string   `json:"unit"`
	PublicKey string   `json:"public_key"` // as in AgentPublic
	Identity  Identity `json:"identity"`
}

// ControllerPublic is what certlabd publishes in <run directory>/public.json for the charm to put in its databag.
type ControllerPublic struct {
	CAs []string `json:"cas"` // PEM, newest first
}

// ControllerHealth is the answer of GET /health/ready, with status 200 when Ready and 503 when not. Who is not known is told Ready only.
type ControllerHealth struct {
	Ready    bool   `json:"ready"`
	Applied  string `json:"applied,omitempty"` // SHA-256 of the desired-state file that is in force, lower-case hex
	Version  string `json:"version,omitempty"`
	Machines int    `json:"machines,omitempty"` // that an agent may act for now
	Running  int    `json:"running,omitempty"`  // runs in progress
	DiskLow  bool   `json:"disk_low,omitempty"` // less than MinFreeBytes are free: no new runs
	Problem  string `json:"problem,omitempty"`  // one sentence for the operator, with what to do: the gravest of Problems
	// Problems are all that is wrong, the gravest first.
	Problems []string `json:"problems,omitempty"`
}

// Files in certlabd's run directory (certlabd run --dir DIR).
const (
	ControllerDesiredFile = "desired.json"  // written by the charm
	ControllerPublicFile  = "public.json"   // written by certlabd at start and at each CA rotation
	ControllerSocket      = "certlabd.sock" // mode 0600: the API, for root as an admin
)
