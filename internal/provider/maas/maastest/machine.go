package maastest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Machine is what a machine is: what commissioning has found, and how an administrator has set it up. What is empty gets a sensible value.
type Machine struct {
	SystemID     string // six characters; made up if empty
	Hostname     string
	Description  string
	Architecture string // amd64 or amd64/generic
	Cores        int    // 8
	MemoryMiB    int64  // 16384
	SpeedMHz     int
	Disks        []Disk // one of 256 GB, "sda"
	NICs         []NIC  // one, "eth0"
	GPUs         []GPU
	Pool, Zone   string // made if they do not exist
	Rack         string // the one that reaches its BMC; the region's first
	Tags         []string
	ProductUUID  string
	Product      Product
	CPUModel     string
	BootMethod   string // uefi or pxe
	PowerType    string // ipmi; "manual": nobody but a person switches it
	// PowerParameters are shown to administrators only.
	PowerParameters map[string]string
	MinKernel       string
	// NoNetwork: no interface is linked to a subnet, so that it cannot be deployed.
	NoNetwork bool
	// New: not commissioned yet; else it is Ready.
	New bool
}

// A Product is what a machine's firmware says of it.
type Product struct {
	Vendor, Name, Family, Version, SKU, Serial          string
	BoardVendor, BoardName, BoardSerial, BoardVersion   string
	FirmwareVendor, FirmwareVersion, FirmwareDate       string
	ChassisVendor, ChassisType, ChassisSerial, ChassisV string
}

// A Disk is a disk.
type Disk struct {
	Name, Model, Serial, Firmware string
	Bytes                         int64
	Tags                          []string // ssd, sata, …
	ID                            int      // the region's
}

// A NIC is a network card.
type NIC struct {
	Name, MAC, IP             string
	Vendor, Product, Firmware string
	SpeedMbits                int
	Disconnected              bool
	ID, LinkID                int // the region's
}

// A GPU is a graphics card, as lshw shows it.
type GPU struct {
	Vendor, Product, Driver string
	PCI                     string // bus address, 0000:01:00.0
	ID                      string // vendor and device, 10de:2204
}

// node is a machine and all that changes of it.
type node struct {
	Machine
	ID int

	Status, Previous Status // Previous: before testing or rescue mode
	Owner, AgentName string
	Token            string // of whoever acquired it: one user can have several
	OwnerData        map[string]string
	Locked           bool

	Power     string // as the region last knew: on, off, error, unknown
	PowerSeen time.Time
	On        bool  // what is true
	Task      *task // the power action in progress
	Next      *task // and what comes after it

	OSystem, Series, Kernel, LastOS, LastSeries, LastKernel string
	Ephemeral                                               bool
	Netboot                                                 bool
	UserData                                                []byte
	Boots                                                   int  // from its disk
	Installed                                               bool // the disk carries what was deployed last
	Fresh                                                   bool // the next boot is the first of a deployment
	Dead                                                    bool // what is on the disk does not run
	MetadataKey                                             *key // what its cloud-init signs with

	StatusMessage, StatusAction, Error string
	StatusSince                        time.Time
	Expires                            time.Time // when the status times out; zero: never
	TimeoutMinutes                     int

	Sets       []*scriptSet
	Violations []string

	Pending []*pending

	revision    int
	document    []byte // as a machine's own, and as one of a list
	listed      []byte
	documentRev int
}

func (n *node) forget(p *pending) bool {
	i := slices.Index(n.Pending, p)
	if i < 0 {
		return false
	}
	n.Pending = slices.Delete(n.Pending, i, i+1)
	return true
}

func (n *node) fqdn() string { return n.Hostname + ".maas" }

// manual tells whether the power can neither be switched nor queried.
func (n *node) manual() bool { return n.PowerType == "manual" }

// system_ids have no characters that are easily taken for one another.
const systemIDAlphabet = "34678abcdefghkmnpqrstwxy"

// AddMachine adds a machine and returns its system_id. Its pool, zone and tags are made if they do not exist.
func (r *Region) AddMachine(m Machine) string {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	for m.SystemID == "" || r.nodes[m.SystemID] != nil {
		m.SystemID = r.letters(systemIDAlphabet, 6)
	}
	serial := len(r.state.Nodes) + 1
	m = m.orDefault(serial, r.options.Racks[0])
	n := &node{Machine: m, ID: serial, Power: "unknown", Netboot: true, OwnerData: map[string]string{}, StatusSince: r.clock.Now(), PowerSeen: r.clock.Now()}
	for i := range n.Disks {
		n.Disks[i].ID = r.serial()
	}
	for i := range n.NICs {
		n.NICs[i].ID, n.NICs[i].LinkID = r.serial(), r.serial()
		if n.NICs[i].IP == "" && i == 0 && !n.NoNetwork {
			n.NICs[i].IP = fmt.Sprintf("10.77.%d.%d", 1+(serial+1)/250, 2+(serial-1)%250)
		}
	}
	for _, t := range n.Tags {
		if r.tag(t) == nil {
			r.state.Tags = append(r.state.Tags, &tag{Name: t})
		}
	}
	if r.pool(n.Pool) == nil {
		r.state.Pools = append(r.state.Pools, &pool{Name: n.Pool, ID: len(r.state.Pools)})
	}
	if r.zone(n.Zone) == nil {
		r.state.Zones = append(r.state.Zones, &zone{Name: n.Zone, ID: len(r.state.Zones) + 1})
	}
	if !n.New {
		n.Status, n.Power = Ready, "off"
		if n.manual() {
			n.Power = "unknown"
		}
		r.finishedSet(n, setCommissioning, resultPassed)
	}
	r.state.Nodes = append(r.state.Nodes, n)
	r.nodes[n.SystemID] = n
	return n.SystemID
}

func (m Machine) orDefault(serial int, rack string) Machine {
	or := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	m.Tags, m.Disks, m.NICs, m.GPUs = slices.Clone(m.Tags), slices.Clone(m.Disks), slices.Clone(m.NICs), slices.Clone(m.GPUs)
	m.PowerParameters = maps.Clone(m.PowerParameters)
	or(&m.Hostname, fmt.Sprintf("node%d", serial))
	or(&m.Architecture, "amd64/generic")
	if !strings.Contains(m.Architecture, "/") {
		m.Architecture += "/generic"
	}
	or(&m.Pool, "default")
	or(&m.Zone, "default")
	or(&m.Rack, rack)
	or(&m.PowerType, "ipmi")
	or(&m.BootMethod, "uefi")
	if m.Cores == 0 {
		m.Cores = 8
	}
	if m.MemoryMiB == 0 {
		m.MemoryMiB = 16384
	}
	if len(m.Disks) == 0 {
		m.Disks = []Disk{{Name: "sda", Bytes: 256e9, Tags: []string{"ssd", "sata"}}}
	}
	if len(m.NICs) == 0 {
		m.NICs = []NIC{{Name: "eth0", SpeedMbits: 1000}}
	}
	for i := range m.NICs {
		or(&m.NICs[i].MAC, fmt.Sprintf("52:54:00:%02x:%02x:%02x", i, serial>>8&0xff, serial&0xff))
	}
	if m.PowerParameters == nil {
		m.PowerParameters = map[string]string{}
		if m.PowerType == "ipmi" {
			m.PowerParameters = map[string]string{"power_driver": "LAN_2_0", "power_address": fmt.Sprintf("10.78.0.%d", serial), "power_user": "maas",
				"power_pass": fmt.Sprintf("ipmi-secret-%d", serial)}
		}
	}
	return m
}

// A MachineState is what a test wants to know of a machine, behind the API's back.
type MachineState struct {
	SystemID, Hostname     string
	Status                 Status
	StatusMessage          string
	Owner, AgentName       string
	OwnerData              map[string]string
	Locked                 bool
	Power                  string // as the region last knew
	On                     bool   // what is true
	Pool, Zone             string
	Tags                   []string
	Series, Kernel         string // asked for
	UserData               []byte
	Boots                  int      // from its disk, over its life
	Violations             []string // times when somebody did something to it while somebody else held it
	LastSeries, LastKernel string   // that last booted from its disk
	Netboot                bool
}

// State returns a machine's state; the zero value, with Status -1, if there is none.
func (r *Region) State(systemID string) MachineState {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[systemID]
	if n == nil {
		return MachineState{Status: -1}
	}
	return MachineState{
		SystemID: n.SystemID, Hostname: n.Hostname, Status: n.Status, StatusMessage: n.StatusMessage, Owner: n.Owner, AgentName: n.AgentName,
		OwnerData: maps.Clone(n.OwnerData), Locked: n.Locked, Power: n.Power, On: n.On, Pool: n.Pool, Zone: n.Zone, Tags: slices.Clone(n.Tags),
		Series: n.Series, Kernel: n.Kernel, UserData: slices.Clone(n.UserData), Boots: n.Boots, Violations: slices.Clone(n.Violations),
		LastSeries: n.LastSeries, LastKernel: n.LastKernel, Netboot: n.Netboot,
	}
}

// SystemIDs returns all machines, in order.
func (r *Region) SystemIDs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, len(r.state.Nodes))
	for i, n := range r.state.Nodes {
		ids[i] = n.SystemID
	}
	return ids
}

// Change does something to a machine that no API does: a test's or a stranger's hand. The change is to its state as State shows it: Status,
// Owner, AgentName, OwnerData, Locked, Power, On, Pool, Zone, Tags, StatusMessage, Series, Kernel and Netboot are taken over; what was pending is
// forgotten if the status changes.
func (r *Region) Change(systemID string, f func(*MachineState)) {
	s := r.State(systemID)
	if s.Status < 0 {
		return
	}
	f(&s)
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[systemID]
	if n == nil {
		return
	}
	if n.Status != s.Status {
		r.cancel(n)
		n.Task, n.Next, n.Expires = nil, nil, time.Time{}
		r.record(Entry{Op: "change", SystemID: n.SystemID, Before: n.Status, After: s.Status, OwnerBefore: n.Owner, OwnerAfter: s.Owner})
	}
	n.Status, n.Owner, n.AgentName, n.Locked, n.Power, n.On, n.StatusMessage = s.Status, s.Owner, s.AgentName, s.Locked, s.Power, s.On, s.StatusMessage
	n.Pool, n.Zone, n.Tags, n.Series, n.Kernel = s.Pool, s.Zone, s.Tags, s.Series, s.Kernel
	n.OwnerData, n.Netboot, n.PowerSeen = maps.Clone(s.OwnerData), s.Netboot, r.clock.Now()
	if n.OwnerData == nil {
		n.OwnerData = map[string]string{}
	}
	if s.Owner == "" {
		n.Token = ""
	}
	if n.OSystem = ""; n.Series != "" {
		n.OSystem = "ubuntu"
	}
	n.revision++
}
