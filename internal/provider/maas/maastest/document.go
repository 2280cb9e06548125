package maastest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// A machine's document: each field of MAAS 3.4.1's, in its order.

type poolDoc struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	ID          int    `json:"id"`
	ResourceURI string `json:"resource_uri"`
}

type domainDoc struct {
	Authoritative bool   `json:"authoritative"`
	TTL           *int   `json:"ttl"`
	Records       int    `json:"resource_record_count"`
	ID            int    `json:"id"`
	IsDefault     bool   `json:"is_default"`
	Name          string `json:"name"`
	ResourceURI   string `json:"resource_uri"`
}

type gatewayDoc struct {
	GatewayIP *string `json:"gateway_ip"`
	LinkID    *int    `json:"link_id"`
}

type gatewaysDoc struct {
	IPv4 gatewayDoc `json:"ipv4"`
	IPv6 gatewayDoc `json:"ipv6"`
}

type partitionDoc struct {
	UUID        string   `json:"uuid"`
	Size        int64    `json:"size"`
	Bootable    bool     `json:"bootable"`
	Tags        []string `json:"tags"`
	Filesystem  any      `json:"filesystem"`
	Type        string   `json:"type"`
	UsedFor     string   `json:"used_for"`
	Path        string   `json:"path"`
	SystemID    string   `json:"system_id"`
	ID          int      `json:"id"`
	DeviceID    int      `json:"device_id"`
	ResourceURI string   `json:"resource_uri"`
}

type diskDoc struct {
	Firmware    *string        `json:"firmware_version"`
	IDPath      string         `json:"id_path"`
	Type        string         `json:"type"`
	Filesystem  any            `json:"filesystem"`
	UsedSize    int64          `json:"used_size"`
	Model       string         `json:"model"`
	Available   int64          `json:"available_size"`
	StoragePool any            `json:"storage_pool"`
	Path        string         `json:"path"`
	Tags        []string       `json:"tags"`
	BlockSize   int            `json:"block_size"`
	UUID        any            `json:"uuid"`
	SystemID    string         `json:"system_id"`
	Name        string         `json:"name"`
	Serial      string         `json:"serial"`
	Size        int64          `json:"size"`
	UsedFor     string         `json:"used_for"`
	Partitions  []partitionDoc `json:"partitions"`
	TableType   *string        `json:"partition_table_type"`
	NUMANode    int            `json:"numa_node"`
	ID          int            `json:"id"`
	ResourceURI string         `json:"resource_uri"`
}

type vlanDoc struct {
	VID           int    `json:"vid"`
	MTU           int    `json:"mtu"`
	DHCPOn        bool   `json:"dhcp_on"`
	ExternalDHCP  any    `json:"external_dhcp"`
	RelayVLAN     any    `json:"relay_vlan"`
	PrimaryRack   any    `json:"primary_rack"`
	Fabric        string `json:"fabric"`
	ID            int    `json:"id"`
	SecondaryRack any    `json:"secondary_rack"`
	Name          string `json:"name"`
	FabricID      int    `json:"fabric_id"`
	Space         string `json:"space"`
	ResourceURI   string `json:"resource_uri"`
}

type subnetDoc struct {
	Name            string   `json:"name"`
	Description     string   `json:"description"`
	VLAN            vlanDoc  `json:"vlan"`
	CIDR            string   `json:"cidr"`
	RDNSMode        int      `json:"rdns_mode"`
	GatewayIP       string   `json:"gateway_ip"`
	DNSServers      []string `json:"dns_servers"`
	AllowDNS        bool     `json:"allow_dns"`
	AllowProxy      bool     `json:"allow_proxy"`
	ActiveDiscovery bool     `json:"active_discovery"`
	Managed         bool     `json:"managed"`
	Disabled        []string `json:"disabled_boot_architectures"`
	ID              int      `json:"id"`
	Space           string   `json:"space"`
	ResourceURI     string   `json:"resource_uri"`
}

type linkDoc struct {
	ID        int       `json:"id"`
	Mode      string    `json:"mode"`
	IPAddress string    `json:"ip_address,omitempty"`
	Subnet    subnetDoc `json:"subnet"`
}

type nicDoc struct {
	Discovered     any       `json:"discovered"`
	Type           string    `json:"type"`
	LinkConnected  bool      `json:"link_connected"`
	Parents        []string  `json:"parents"`
	Links          []linkDoc `json:"links"`
	SRIOV          int       `json:"sriov_max_vf"`
	MAC            string    `json:"mac_address"`
	Vendor         *string   `json:"vendor"`
	Product        *string   `json:"product"`
	Tags           []string  `json:"tags"`
	VLAN           vlanDoc   `json:"vlan"`
	Firmware       *string   `json:"firmware_version"`
	InterfaceSpeed int       `json:"interface_speed"`
	SystemID       string    `json:"system_id"`
	Children       []string  `json:"children"`
	Name           string    `json:"name"`
	Enabled        bool      `json:"enabled"`
	NUMANode       int       `json:"numa_node"`
	ID             int       `json:"id"`
	Params         struct{}  `json:"params"`
	MTU            int       `json:"effective_mtu"`
	LinkSpeed      int       `json:"link_speed"`
	ResourceURI    string    `json:"resource_uri"`
}

type numaDoc struct {
	Index     int      `json:"index"`
	Memory    int64    `json:"memory"`
	Cores     []int    `json:"cores"`
	Hugepages []string `json:"hugepages_set"`
}

type hardwareDoc struct {
	SystemVendor    string `json:"system_vendor"`
	SystemProduct   string `json:"system_product"`
	SystemFamily    string `json:"system_family"`
	SystemVersion   string `json:"system_version"`
	SystemSKU       string `json:"system_sku"`
	SystemSerial    string `json:"system_serial"`
	CPUModel        string `json:"cpu_model"`
	BoardVendor     string `json:"mainboard_vendor"`
	BoardProduct    string `json:"mainboard_product"`
	BoardSerial     string `json:"mainboard_serial"`
	BoardVersion    string `json:"mainboard_version"`
	FirmwareVendor  string `json:"mainboard_firmware_vendor"`
	FirmwareDate    string `json:"mainboard_firmware_date"`
	FirmwareVersion string `json:"mainboard_firmware_version"`
	ChassisVendor   string `json:"chassis_vendor"`
	ChassisType     string `json:"chassis_type"`
	ChassisSerial   string `json:"chassis_serial"`
	ChassisVersion  string `json:"chassis_version"`
}

type machineDoc struct {
	Parent                  any               `json:"parent"`
	EnableHWSync            bool              `json:"enable_hw_sync"`
	LastSync                any               `json:"last_sync"`
	StatusMessage           *string           `json:"status_message"`
	CPUTestStatusName       string            `json:"cpu_test_status_name"`
	CacheSets               []string          `json:"cache_sets"`
	CurrentCommissioning    *int              `json:"current_commissioning_result_id"`
	VolumeGroups            []string          `json:"volume_groups"`
	IPAddresses             []string          `json:"ip_addresses"`
	OtherTestStatus         int               `json:"other_test_status"`
	Owner                   *string           `json:"owner"`
	SystemID                string            `json:"system_id"`
	MemoryTestStatusName    string            `json:"memory_test_status_name"`
	Hostname                string            `json:"hostname"`
	SpecialFilesystems      []string          `json:"special_filesystems"`
	AddressTTL              any               `json:"address_ttl"`
	VirtualMachineID        any               `json:"virtualmachine_id"`
	SwapSize                any               `json:"swap_size"`
	Description             string            `json:"description"`
	OtherTestStatusName     string            `json:"other_test_status_name"`
	FQDN                    string            `json:"fqdn"`
	Domain                  domainDoc         `json:"domain"`
	CommissioningStatus     int               `json:"commissioning_status"`
	TestingStatus           int               `json:"testing_status"`
	PowerState              string            `json:"power_state"`
	StatusName              string            `json:"status_name"`
	Pod                     any               `json:"pod"`
	CurrentTesting          *int              `json:"current_testing_result_id"`
	TagNames                []string          `json:"tag_names"`
	DefaultGateways         gatewaysDoc       `json:"default_gateways"`
	Memory                  int64             `json:"memory"`
	InterfaceTestStatus     int               `json:"interface_test_status"`
	NetworkTestStatus       int               `json:"network_test_status"`
	Zone                    poolDoc           `json:"zone"`
	OwnerData               map[string]string `json:"owner_data"`
	WorkloadAnnotations     map[string]string `json:"workload_annotations"`
	PowerType               string            `json:"power_type"`
	Pool                    poolDoc           `json:"pool"`
	NextSync                any               `json:"next_sync"`
	Storage                 decimal           `json:"storage"`
	NodeTypeName            string            `json:"node_type_name"`
	TestingStatusName       string            `json:"testing_status_name"`
	NodeType                int               `json:"node_type"`
	Netboot                 bool              `json:"netboot"`
	CommissioningStatusName string            `json:"commissioning_status_name"`
	BIOSBootMethod          *string           `json:"bios_boot_method"`
	CPUCount                int               `json:"cpu_count"`
	CPUTestStatus           int               `json:"cpu_test_status"`
	BootDisk                *diskDoc          `json:"boot_disk"`
	OSystem                 string            `json:"osystem"`
	PhysicalDisks           []diskDoc         `json:"physicalblockdevice_set"`
	CPUSpeed                int               `json:"cpu_speed"`
	StorageTestStatus       int               `json:"storage_test_status"`
	SyncInterval            any               `json:"sync_interval"`
	StorageTestStatusName   string            `json:"storage_test_status_name"`
	CurrentInstallation     *int              `json:"current_installation_result_id"`
	NetworkTestStatusName   string            `json:"network_test_status_name"`
	VirtualDisks            []string          `json:"virtualblockdevice_set"`
	DisableIPv4             bool              `json:"disable_ipv4"`
	BootInterface           *nicDoc           `json:"boot_interface"`
	HardwareUUID            *string           `json:"hardware_uuid"`
	RAIDs                   []string          `json:"raids"`
	MemoryTestStatus        int               `json:"memory_test_status"`
	StatusAction            string            `json:"status_action"`
	HWEKernel               *string           `json:"hwe_kernel"`
	MinHWEKernel            string            `json:"min_hwe_kernel"`
	NUMANodes               []numaDoc         `json:"numanode_set"`
	Architecture            string            `json:"architecture"`
	Interfaces              []nicDoc          `json:"interface_set"`
	Disks                   []diskDoc         `json:"blockdevice_set"`
	InterfaceTestStatusName string            `json:"interface_test_status_name"`
	DistroSeries            string            `json:"distro_series"`
	Locked                  bool              `json:"locked"`
	Status                  Status            `json:"status"`
	BCaches                 []string          `json:"bcaches"`
	HardwareInfo            hardwareDoc       `json:"hardware_info"`
	ResourceURI             string            `json:"resource_uri"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orUnknown(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}

// documentOf returns a machine's document as it is written: made again only if something has changed.
func (r *Region) documentOf(n *node) []byte {
	if n.document == nil || n.documentRev != n.revision {
		n.document, n.listed, n.documentRev = indented(r.describe(n)), nil, n.revision
	}
	return n.document
}

// listOf writes the documents of several machines.
func (r *Region) listOf(nodes []*node) reply {
	if len(nodes) == 0 {
		return asJSON([]string{})
	}
	size := 0
	for _, n := range nodes {
		if doc := r.documentOf(n); n.listed == nil {
			n.listed = bytes.ReplaceAll(doc, []byte("\n"), []byte("\n    "))
		}
		size += len(n.listed) + 6
	}
	b := append(make([]byte, 0, size+4), "[\n"...)
	for i, n := range nodes {
		if i > 0 {
			b = append(b, ",\n"...)
		}
		b = append(append(b, "    "...), n.listed...)
	}
	return reply{status: 200, contentType: textJSON, body: append(b, "\n]"...)}
}

func (c *call) document(n *node) reply {
	return reply{status: 200, contentType: textJSON, body: slices.Clone(c.documentOf(n))}
}

func (r *Region) describe(n *node) machineDoc {
	none := []string{}
	d := machineDoc{
		StatusMessage: orNull(n.StatusMessage), StatusAction: n.StatusAction, CacheSets: none, VolumeGroups: none, IPAddresses: none,
		Owner: orNull(n.Owner), SystemID: n.SystemID, Hostname: n.Hostname, SpecialFilesystems: none, Description: n.Description, FQDN: n.fqdn(),
		Domain:     domainDoc{Authoritative: true, IsDefault: true, Name: "maas", ResourceURI: apiRoot + "domains/0/"},
		PowerState: n.Power, StatusName: n.Status.String(), TagNames: append(none, n.Tags...), Memory: n.MemoryMiB,
		OwnerData: n.OwnerData, WorkloadAnnotations: n.OwnerData, PowerType: n.PowerType, NodeTypeName: "Machine", Netboot: n.Netboot,
		BIOSBootMethod: orNull(n.BootMethod), CPUCount: n.Cores, OSystem: n.OSystem, CPUSpeed: n.SpeedMHz, VirtualDisks: none,
		HardwareUUID: orNull(n.ProductUUID), RAIDs: none, HWEKernel: orNull(n.Kernel), MinHWEKernel: n.MinKernel, Architecture: n.Architecture,
		DistroSeries: n.Series, Locked: n.Locked, Status: n.Status, BCaches: none, ResourceURI: apiRoot + "machines/" + n.SystemID + "/",
		Pool: r.pool(n.Pool).document(), Zone: r.zone(n.Zone).document(), HardwareInfo: n.hardware(),
	}
	d.CurrentCommissioning, d.CommissioningStatus, d.CommissioningStatusName = n.current(setCommissioning)
	d.CurrentTesting, d.TestingStatus, d.TestingStatusName = n.current(setTesting)
	d.CurrentInstallation, _, _ = n.current(setInstallation)
	for _, s := range []struct {
		status *int
		name   *string
	}{
		{&d.CPUTestStatus, &d.CPUTestStatusName}, {&d.MemoryTestStatus, &d.MemoryTestStatusName}, {&d.StorageTestStatus, &d.StorageTestStatusName},
		{&d.NetworkTestStatus, &d.NetworkTestStatusName}, {&d.InterfaceTestStatus, &d.InterfaceTestStatusName},
	} {
		*s.status, *s.name = -1, "Unknown"
	}
	d.OtherTestStatus, d.OtherTestStatusName = d.TestingStatus, d.TestingStatusName
	var bytes int64
	for i, disk := range n.Disks {
		bytes += disk.Bytes
		d.Disks = append(d.Disks, n.disk(i))
	}
	d.PhysicalDisks = d.Disks
	if len(d.Disks) > 0 {
		d.BootDisk = &d.Disks[0]
	}
	d.Storage = decimal(float64(bytes/100_000) / 10)
	for i := range n.NICs {
		nic := n.nic(i)
		for _, l := range nic.Links {
			if l.IPAddress != "" {
				d.IPAddresses = append(d.IPAddresses, l.IPAddress)
			}
		}
		d.Interfaces = append(d.Interfaces, nic)
	}
	if len(d.Interfaces) > 0 {
		d.BootInterface = &d.Interfaces[0]
	}
	if len(d.Interfaces) > 0 && len(d.Interfaces[0].Links) > 0 {
		d.DefaultGateways.IPv4.GatewayIP = &d.Interfaces[0].Links[0].Subnet.GatewayIP
	}
	numa := numaDoc{Memory: n.MemoryMiB, Cores: make([]int, max(n.Cores, 0)), Hugepages: none}
	for i := range numa.Cores {
		numa.Cores[i] = i
	}
	d.NUMANodes = []numaDoc{numa}
	return d
}

// claimed tells whether the machine has addresses: from deploying until it has been released.
func (n *node) claimed() bool {
	switch n.Status {
	case Deploying, Deployed, FailedDeployment, Releasing, FailedReleasing, DiskErasing, FailedDiskErasing, RescueMode, Testing, Commissioning:
		return true
	}
	return false
}

func (n *node) hardware() hardwareDoc {
	p := n.Product
	return hardwareDoc{
		SystemVendor: orUnknown(p.Vendor), SystemProduct: orUnknown(p.Name), SystemFamily: orUnknown(p.Family), SystemVersion: orUnknown(p.Version),
		SystemSKU: orUnknown(p.SKU), SystemSerial: orUnknown(p.Serial), CPUModel: orUnknown(n.CPUModel), BoardVendor: orUnknown(p.BoardVendor),
		BoardProduct: orUnknown(p.BoardName), BoardSerial: orUnknown(p.BoardSerial), BoardVersion: orUnknown(p.BoardVersion),
		FirmwareVendor: orUnknown(p.FirmwareVendor), FirmwareDate: orUnknown(p.FirmwareDate), FirmwareVersion: orUnknown(p.FirmwareVersion),
		ChassisVendor: orUnknown(p.ChassisVendor), ChassisType: orUnknown(p.ChassisType), ChassisSerial: orUnknown(p.ChassisSerial),
		ChassisVersion: orUnknown(p.ChassisV),
	}
}

func (n *node) disk(i int) diskDoc {
	disk := n.Disks[i]
	gpt := "GPT"
	d := diskDoc{
		Firmware: orNull(disk.Firmware), IDPath: "/dev/" + disk.Name, Type: "physical", Model: disk.Model, Path: "/dev/disk/by-dname/" + disk.Name,
		Tags: append([]string{}, disk.Tags...), BlockSize: 512, SystemID: n.SystemID, Name: disk.Name, Serial: disk.Serial, Size: disk.Bytes,
		UsedFor: "Unused", Available: disk.Bytes, Partitions: []partitionDoc{}, ID: disk.ID,
		ResourceURI: fmt.Sprintf("%snodes/%s/blockdevices/%d/", apiRoot, n.SystemID, disk.ID),
	}
	if i > 0 {
		return d
	}
	// The flat layout: one partition, aligned to 4 MiB, after the table.
	const mib = 1 << 20
	size := disk.Bytes/(4*mib)*4*mib - 4*mib
	d.UsedSize, d.Available, d.TableType, d.UsedFor = disk.Bytes/mib*mib, 0, &gpt, "GPT partitioned with 1 partition"
	d.Partitions = append(d.Partitions, partitionDoc{
		UUID: fmt.Sprintf("00000000-0000-4000-8000-%012x", disk.ID), Size: size, Tags: []string{}, Type: "partition", UsedFor: "Unused",
		Path: d.Path + "-part2", SystemID: n.SystemID, ID: disk.ID, DeviceID: disk.ID,
		ResourceURI: fmt.Sprintf("%snodes/%s/blockdevices/%d/partition/%d", apiRoot, n.SystemID, disk.ID, disk.ID),
	})
	return d
}

func (n *node) nic(i int) nicDoc {
	nic := n.NICs[i]
	vlan := vlanDoc{MTU: 1500, Fabric: "fabric-0", ID: 1, Name: "untagged", Space: "undefined", ResourceURI: apiRoot + "vlans/1/"}
	d := nicDoc{
		Type: "physical", LinkConnected: !nic.Disconnected, Parents: []string{}, Links: []linkDoc{}, MAC: nic.MAC, Vendor: orNull(nic.Vendor),
		Product: orNull(nic.Product), Tags: []string{}, VLAN: vlan, Firmware: orNull(nic.Firmware), InterfaceSpeed: nic.SpeedMbits,
		SystemID: n.SystemID, Children: []string{}, Name: nic.Name, Enabled: true, ID: nic.ID, MTU: 1500, LinkSpeed: nic.SpeedMbits,
		ResourceURI: fmt.Sprintf("%snodes/%s/interfaces/%d/", apiRoot, n.SystemID, nic.ID),
	}
	if nic.Disconnected {
		d.LinkSpeed = 0
	}
	if nic.IP != "" {
		prefix := nic.IP[:strings.LastIndex(nic.IP, ".")]
		address := ""
		if n.claimed() {
			address = nic.IP
		}
		d.Links = append(d.Links, linkDoc{ID: nic.LinkID, Mode: "auto", IPAddress: address, Subnet: subnetDoc{
			Name: prefix + ".0/24", VLAN: vlan, CIDR: prefix + ".0/24", RDNSMode: 2, GatewayIP: prefix + ".1", DNSServers: []string{}, AllowDNS: true,
			AllowProxy: true, Managed: true, Disabled: []string{}, ID: 1, Space: "undefined", ResourceURI: apiRoot + "subnets/1/",
		}})
	}
	return d
}
