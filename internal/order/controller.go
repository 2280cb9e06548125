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
