package results

import "encoding/json"

// System is what a submission says of the machine and its software. Which parts are there depends on the jobs that were run and
// on Checkbox's version: the typed fields are stable over all versions, all others are kept as JSON.
type System struct {
	Kernel        string // uname -r
	KernelCmdline string
	Architecture  string            // Debian's name, such as amd64
	Distribution  map[string]string // codename, description, distributor_id, release
	Processor     map[string]string
	Memory        *Memory
	Packages      []Package
	Snaps         []map[string]string // name, version, revision, …

	// Other are the remaining keys as the submission has them: dkms_info, devices, raw-devices-dmi, modprobe-info,
	// pci_subsystem_id, bto-info, image-version, buildstamp.
	Other map[string]Value

	Collectors        map[string]Collector // system_information: what Checkbox asked of the machine by itself, since 4.0
	CollectorsVersion string
}

// Memory is in bytes.
type Memory struct {
	Total int64 `json:"total"`
	Swap  int64 `json:"swap"`
}

// Package is an installed Debian package.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Collector is the output of one of Checkbox's collectors.
type Collector struct {
	ToolVersion string `json:"tool_version"`
	Success     bool   `json:"success"`
	Payload     Value  `json:"payload"`     // on success
	Stdout      string `json:"stdout"`      // on failure
	Stderr      string `json:"stderr"`      //
	ReturnCode  int    `json:"return_code"` // on failure
}

// Value is a piece of JSON. One larger than Limits.Value is not held: CopyValue gets it from the submission.
type Value struct {
	JSON json.RawMessage // nil when it is not held
	Size int64           // bytes of the JSON, without white space
}

// MarshalJSON writes the value, or null when it is not held.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.JSON == nil {
		return []byte("null"), nil
	}
	return v.JSON, nil
}
