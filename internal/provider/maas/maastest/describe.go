package maastest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

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
