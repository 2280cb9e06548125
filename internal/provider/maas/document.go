package maas

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"certlab/internal/cert"
)

// machine is as much of MAAS's document of a machine as is used here: a twentieth. gomaasclient's own type reads all of it, and fails
// on the whole list if one machine has one field of another type than it expects.
type machine struct {
	SystemID      string            `json:"system_id"`
	Hostname      string            `json:"hostname"`
	FQDN          string            `json:"fqdn"`
	Status        int               `json:"status"`
	StatusName    string            `json:"status_name"`
	StatusMessage string            `json:"status_message"`
	Owner         owner             `json:"owner"`
	Locked        bool              `json:"locked"`
	PowerState    string            `json:"power_state"`
	PowerType     string            `json:"power_type"`
	Architecture  string            `json:"architecture"`
	Cores         int               `json:"cpu_count"`
	Memory        int64             `json:"memory"`
	Storage       float64           `json:"storage"` // 10^6 bytes
	Pool          named             `json:"pool"`
	Zone          named             `json:"zone"`
	Tags          []string          `json:"tag_names"`
	Addresses     []string          `json:"ip_addresses"`
	UUID          string            `json:"hardware_uuid"`
	OS            string            `json:"osystem"`
	Series        string            `json:"distro_series"`
	Kernel        string            `json:"hwe_kernel"`
	Description   string            `json:"description"`
	OwnerData     map[string]any    `json:"owner_data"`
	Annotations   map[string]any    `json:"workload_annotations"` // the same, by its newer name
	Hardware      map[string]string `json:"hardware_info"`
	Interfaces    []struct {
		Type      string `json:"type"`
		Name      string `json:"name"`
		MAC       string `json:"mac_address"`
		Vendor    string `json:"vendor"`
		Product   string `json:"product"`
		Firmware  string `json:"firmware_version"`
		Speed     int    `json:"interface_speed"`
		Connected bool   `json:"link_connected"`
	} `json:"interface_set"`
	Disks []struct {
		Name  string   `json:"name"`
		Model string   `json:"model"`
		Size  int64    `json:"size"`
		Tags  []string `json:"tags"`
	} `json:"physicalblockdevice_set"`
}

// owner is a machine's user; empty if nobody has it. One that cannot be read is somebody.
type owner string

func (o *owner) UnmarshalJSON(data []byte) error {
	var name *string
	if json.Unmarshal(data, &name) != nil {
		*o = owner(plain(string(data)))
	} else if name != nil {
		*o = owner(*name)
	}
	return nil
}

type named struct {
	Name string `json:"name"`
}

// The annotations that say who holds a machine.
const (
	labMark  = "certlab-lab"
	jujuMark = "juju-model-uuid"
)

func (m *machine) mark(key string) string {
	for _, store := range []map[string]any{m.Annotations, m.OwnerData} {
		switch value := store[key].(type) {
		case nil:
		case string:
			if value != "" {
				return value
			}
		default:
			return fmt.Sprint(value)
		}
	}
	return ""
}

// releasing reports whether a release is under way or has failed: then MAAS has forgotten the agent name already.
func (m *machine) releasing() bool { return m.Status == stReleasing || m.Status == stReleaseFailed }

// statusWord returns MAAS's word for a machine's status.
func (m *machine) statusWord() string {
	if m.StatusName == "" && m.Status >= 0 && m.Status < len(statusNames) {
		return statusNames[m.Status]
	}
	return m.StatusName
}

// answerError is an answer that was read whole and does not say what it has to.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }

// decodeMachines reads a list of machines as it comes and hands each to take. A list that breaks off is an error: half of it would read
// as if the other half had vanished. A field of a wrong type costs that field only.
func decodeMachines(r io.Reader, take func(*machine)) error {
	d := json.NewDecoder(r)
	opening, err := d.Token()
	if err != nil {
		return broken(err)
	}
	if opening != json.Delim('[') {
		return &answerError{"it is no list of machines"}
	}
	for d.More() {
		m := &machine{}
		if err := mild(d.Decode(m)); err != nil {
			return broken(err)
		}
		if m.SystemID == "" {
			return &answerError{"a machine in it has no system_id"}
		}
		take(m)
	}
	if _, err := d.Token(); err != nil {
		return broken(err)
	}
	return nil
}

// decodeMachine reads one machine.
func decodeMachine(r io.Reader) (*machine, error) {
	m := &machine{}
	if err := mild(json.NewDecoder(r).Decode(m)); err != nil {
		return nil, broken(err)
	}
	if m.SystemID == "" {
		return nil, &answerError{"it is no machine: it has no system_id"}
	}
	return m, nil
}

// mild forgives fields of other types: encoding/json skips them and goes on.
func mild(err error) error {
	if errors.As(err, new(*json.UnmarshalTypeError)) {
		return nil
	}
	return err
}

// broken tells JSON that is wrong from an answer that broke off.
func broken(err error) error {
	if errors.As(err, new(*json.SyntaxError)) {
		return &answerError{fmt.Sprintf("it is not JSON: %v", err)}
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// powerStates as MAAS names them; others are unknown.
var powerStates = map[string]cert.PowerState{"on": cert.PowerOn, "off": cert.PowerOff, "error": cert.PowerError}

func powerOf(state string) cert.PowerState {
	if s, ok := powerStates[state]; ok {
		return s
	}
	return cert.PowerUnknown
}

// provided turns MAAS's document into what everybody else reads.
func (m *machine) provided(holder cert.Holder) cert.Provided {
	architecture, _, _ := strings.Cut(m.Architecture, "/")
	v := cert.Provided{
		ID: m.SystemID, Hostname: m.Hostname, FQDN: m.FQDN,
		Status: statusOf(m.Status), StatusName: m.statusWord(), StatusMessage: m.StatusMessage,
		Holder: holder, Owner: string(m.Owner), JujuModel: m.mark(jujuMark), Locked: m.Locked,
		Power: powerOf(m.PowerState), PowerType: m.PowerType,
		Architecture: architecture, Cores: m.Cores, MemoryMiB: m.Memory, StorageBytes: int64(m.Storage * 1e6),
		Pool: m.Pool.Name, Zone: m.Zone.Name, Tags: m.Tags, Addresses: m.Addresses, ProductUUID: m.UUID,
		OS: m.OS, Release: m.Series, Kernel: m.Kernel, Description: m.Description,
	}
	for _, i := range m.Interfaces {
		if i.Type != "" && i.Type != "physical" {
			continue
		}
		v.NICs = append(v.NICs, cert.NIC{Name: i.Name, MAC: i.MAC, Vendor: i.Vendor, Product: i.Product, Firmware: i.Firmware,
			SpeedMbits: i.Speed, Connected: i.Connected})
		if i.MAC != "" {
			v.MACs = append(v.MACs, strings.ToLower(i.MAC))
		}
	}
	for _, d := range m.Disks {
		v.Disks = append(v.Disks, cert.Disk{Name: d.Name, Model: d.Model, Bytes: d.Size, Tags: d.Tags})
	}
	for name, value := range m.Hardware {
		// MAAS's word for nothing.
		if value == "" || value == "Unknown" {
			continue
		}
		if v.Hardware == nil {
			v.Hardware = map[string]string{}
		}
		v.Hardware[name] = value
	}
	return v
}
