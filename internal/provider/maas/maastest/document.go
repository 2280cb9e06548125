package maastest

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
