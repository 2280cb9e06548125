package order

// Identity is what a machine says of itself when it is enrolled. Every field but Hostname and Architecture may be empty.
type Identity struct {
	Hostname     string `json:"hostname"`
	Architecture string `json:"architecture"`           // Debian's name: amd64, arm64
	SystemID     string `json:"system_id,omitempty"`    // MAAS system_id, from cloud-init's instance-id
	ProductUUID  string `json:"product_uuid,omitempty"` // DMI
	Base         string `json:"base,omitempty"`         // such as ubuntu@24.04
	Kernel       string `json:"kernel,omitempty"`       // uname -r
	Unit         string `json:"unit,omitempty"`         // such as checkbox/0
	ModelUUID    string `json:"model_uuid,omitempty"`   // Juju model
	// MACs are the addresses of the physical interfaces, such as 52:54:00:12:34:56, sorted. With ProductUUID they confirm SystemID, which is
	// a file on a disk that may have been moved.
	MACs []string `json:"macs,omitempty"`
}
