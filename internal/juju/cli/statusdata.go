package cli

// The shape of `juju status --format yaml|json`, as Juju 4.0.15 prints it; fields in its order.

type statusDoc struct {
	Model        modelDoc                  `json:"model" yaml:"model"`
	Machines     map[string]machineDoc     `json:"machines" yaml:"machines"`
	Applications map[string]applicationDoc `json:"applications" yaml:"applications"`
	Storage      storageDoc                `json:"storage" yaml:"storage"`
	Controller   controllerDoc             `json:"controller" yaml:"controller"`
}

type modelDoc struct {
	Name       string    `json:"name" yaml:"name"`
	Type       string    `json:"type" yaml:"type"`
	Controller string    `json:"controller" yaml:"controller"`
	Cloud      string    `json:"cloud" yaml:"cloud"`
	Region     string    `json:"region,omitempty" yaml:"region,omitempty"`
	Version    string    `json:"version" yaml:"version"`
	Status     statusOne `json:"model-status" yaml:"model-status"`
}

type controllerDoc struct {
	Timestamp string `json:"timestamp" yaml:"timestamp"`
}

// A statusOne is one status with its age.
type statusOne struct {
	Current string `json:"current,omitempty" yaml:"current,omitempty"`
	Message string `json:"message,omitempty" yaml:"message,omitempty"`
	Since   string `json:"since,omitempty" yaml:"since,omitempty"`
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	Life    string `json:"life,omitempty" yaml:"life,omitempty"`
}

type baseDoc struct {
	Name    string `json:"name" yaml:"name"`
	Channel string `json:"channel" yaml:"channel"`
}

type machineDoc struct {
	JujuStatus         statusOne             `json:"juju-status" yaml:"juju-status"`
	Hostname           string                `json:"hostname,omitempty" yaml:"hostname,omitempty"`
	DNSName            string                `json:"dns-name,omitempty" yaml:"dns-name,omitempty"`
	IPAddresses        []string              `json:"ip-addresses,omitempty" yaml:"ip-addresses,omitempty"`
	InstanceID         string                `json:"instance-id,omitempty" yaml:"instance-id,omitempty"`
	MachineStatus      statusOne             `json:"machine-status" yaml:"machine-status"`
	ModificationStatus statusOne             `json:"modification-status" yaml:"modification-status,omitempty"`
	Base               *baseDoc              `json:"base,omitempty" yaml:"base,omitempty"`
	Interfaces         map[string]networkDoc `json:"network-interfaces,omitempty" yaml:"network-interfaces,omitempty"`
	Constraints        string                `json:"constraints,omitempty" yaml:"constraints,omitempty"`
	Hardware           string                `json:"hardware,omitempty" yaml:"hardware,omitempty"`
}

type networkDoc struct {
	IPAddresses []string `json:"ip-addresses" yaml:"ip-addresses"`
	MAC         string   `json:"mac-address" yaml:"mac-address"`
	Gateway     string   `json:"gateway,omitempty" yaml:"gateway,omitempty"`
	Space       string   `json:"space,omitempty" yaml:"space,omitempty"`
	Up          bool     `json:"is-up" yaml:"is-up"`
}

type applicationDoc struct {
	Charm         string                   `json:"charm" yaml:"charm"`
	Base          *baseDoc                 `json:"base,omitempty" yaml:"base,omitempty"`
	CharmOrigin   string                   `json:"charm-origin" yaml:"charm-origin"`
	CharmName     string                   `json:"charm-name" yaml:"charm-name"`
	CharmRev      int                      `json:"charm-rev" yaml:"charm-rev"`
	Exposed       bool                     `json:"exposed" yaml:"exposed"`
	Life          string                   `json:"life,omitempty" yaml:"life,omitempty"`
	Status        statusOne                `json:"application-status" yaml:"application-status"`
	Relations     map[string][]relationDoc `json:"relations,omitempty" yaml:"relations,omitempty"`
	SubordinateTo []string                 `json:"subordinate-to,omitempty" yaml:"subordinate-to,omitempty"`
	Units         map[string]unitDoc       `json:"units,omitempty" yaml:"units,omitempty"`
	Version       string                   `json:"version,omitempty" yaml:"version,omitempty"`
	Bindings      map[string]string        `json:"endpoint-bindings,omitempty" yaml:"endpoint-bindings,omitempty"`
}

type relationDoc struct {
	Application string `json:"related-application" yaml:"related-application"`
	Interface   string `json:"interface" yaml:"interface"`
	Scope       string `json:"scope" yaml:"scope"`
}

type unitDoc struct {
	WorkloadStatus statusOne `json:"workload-status" yaml:"workload-status"`
	JujuStatus     statusOne `json:"juju-status" yaml:"juju-status"`
	Leader         bool      `json:"leader,omitempty" yaml:"leader,omitempty"`
	Machine        string    `json:"machine,omitempty" yaml:"machine,omitempty"`
	OpenedPorts    []string  `json:"open-ports,omitempty" yaml:"open-ports,omitempty"`
	PublicAddress  string    `json:"public-address,omitempty" yaml:"public-address,omitempty"`
}

type storageDoc struct {
	Storage     map[string]storageInstanceDoc `json:"storage,omitempty" yaml:"storage,omitempty"`
	Filesystems map[string]filesystemDoc      `json:"filesystems,omitempty" yaml:"filesystems,omitempty"`
}

type storageInstanceDoc struct {
	Kind        string          `json:"kind" yaml:"kind"`
	Life        string          `json:"life,omitempty" yaml:"life,omitempty"`
	Status      statusOne       `json:"status" yaml:"status"`
	Persistent  bool            `json:"persistent" yaml:"persistent"`
	Attachments *attachmentsDoc `json:"attachments" yaml:"attachments,omitempty"`
}

type attachmentsDoc struct {
	Machines map[string]mountDoc  `json:"machines,omitempty" yaml:"machines,omitempty"`
	Units    map[string]attachDoc `json:"units,omitempty" yaml:"units,omitempty"`
}

type mountDoc struct {
	MountPoint string `json:"mount-point" yaml:"mount-point"`
	ReadOnly   bool   `json:"read-only" yaml:"read-only"`
	Life       string `json:"life,omitempty" yaml:"life,omitempty"`
}

type attachDoc struct {
	Machine  string `json:"machine,omitempty" yaml:"machine,omitempty"`
	Location string `json:"location,omitempty" yaml:"location,omitempty"`
	Life     string `json:"life,omitempty" yaml:"life,omitempty"`
}

type filesystemDoc struct {
	ProviderID  string          `json:"provider-id,omitempty" yaml:"provider-id,omitempty"`
	Storage     string          `json:"storage,omitempty" yaml:"storage,omitempty"`
	Attachments *attachmentsDoc `json:"attachments,omitempty" yaml:"attachments,omitempty"`
	Pool        string          `json:"pool,omitempty" yaml:"pool,omitempty"`
	Size        uint64          `json:"size" yaml:"size"`
	Life        string          `json:"life,omitempty" yaml:"life,omitempty"`
	Status      statusOne       `json:"status" yaml:"status"`
}
