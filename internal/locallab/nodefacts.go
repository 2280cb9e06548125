package locallab

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"certlab/internal/provider/maas/maastest"
)

// nodeModels are what the lab's nodes are said to be, one after the other and then again: hardware that nobody has here, so that there is
// something to choose from. Only their architecture is true.
func nodeModels() []maastest.Machine {
	return []maastest.Machine{
		{
			Cores: 8, MemoryMiB: 16 << 10, Zone: "north", Tags: []string{"laptop", "suspend"}, CPUModel: "Example Mobile 7",
			Product: maastest.Product{Vendor: "Lenovo", Name: "ThinkPad X1", Version: "Gen 12", FirmwareVendor: "LENOVO", FirmwareVersion: "1.21", FirmwareDate: "03/14/2026"},
			Disks:   []maastest.Disk{{Name: "nvme0n1", Model: "Example 970", Bytes: 512e9, Tags: []string{"ssd"}}},
		},
		{
			Cores: 32, MemoryMiB: 128 << 10, Zone: "north", Tags: []string{"server", "gpu"}, CPUModel: "Example Server 9",
			Product: maastest.Product{Vendor: "Dell Inc.", Name: "PowerEdge R760", FirmwareVendor: "Dell Inc.", FirmwareVersion: "2.4.4", FirmwareDate: "11/02/2025"},
			Disks:   []maastest.Disk{{Name: "sda", Model: "Example SAS", Bytes: 1920e9, Tags: []string{"ssd"}}, {Name: "sdb", Model: "Example SAS", Bytes: 8000e9, Tags: []string{"rotary"}}},
			NICs:    []maastest.NIC{{Name: "eno1", Vendor: "Example", Product: "E810", SpeedMbits: 25000}, {Name: "eno2", Vendor: "Example", Product: "E810", SpeedMbits: 25000}},
			GPUs:    []maastest.GPU{{Vendor: "NVIDIA Corporation", Product: "GA102GL [RTX A6000]", Driver: "nvidia", PCI: "0000:01:00.0", ID: "10de:2230"}},
		},
		{
			Cores: 64, MemoryMiB: 256 << 10, Zone: "south", Tags: []string{"server"}, CPUModel: "Example Server 11",
			Product: maastest.Product{Vendor: "HPE", Name: "ProLiant DL380 Gen11", FirmwareVendor: "HPE", FirmwareVersion: "U54", FirmwareDate: "07/21/2026"},
			Disks:   []maastest.Disk{{Name: "nvme0n1", Model: "Example PM9", Bytes: 3840e9, Tags: []string{"ssd"}}},
		},
		{
			Cores: 4, MemoryMiB: 8 << 10, Zone: "south", Tags: []string{"desktop", "suspend"}, CPUModel: "Example Desktop 3",
			Product: maastest.Product{Vendor: "HP", Name: "EliteDesk 800 G9", FirmwareVendor: "HP", FirmwareVersion: "02.11.01", FirmwareDate: "01/30/2026"},
			Disks:   []maastest.Disk{{Name: "sda", Model: "Example 870", Bytes: 256e9, Tags: []string{"ssd", "sata"}}},
		},
	}
}

// nodeFacts are what the region is told of the node with that number, from 1.
func nodeFacts(lab, number int, productUUID string) maastest.Machine {
	models := nodeModels()
	m := models[(number-1)%len(models)]
	m.Hostname = nodeName(number)
	m.Architecture = runtime.GOARCH
	m.ProductUUID = productUUID
	m.Rack = "rack-" + m.Zone
	if len(m.NICs) == 0 {
		m.NICs = []maastest.NIC{{Name: "eth0", Vendor: "Example", Product: "I225", SpeedMbits: 1000}}
	}
	for i := range m.NICs {
		m.NICs[i].MAC = fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", lab&0xff, number>>8&0xff, number&0xff, i) // of a range that is nobody's
	}
	m.NICs[0].IP = nodeAddress(lab, number)
	return m
}

func nodeName(number int) string { return fmt.Sprintf("node-%d", number) }

// Addresses of a lab: 127.77.LAB.x.
const (
	firstMachine = 11  // of the model's machines
	firstNode    = 131 // of the nodes
	maxNodes     = 120 // so many have addresses
)

func nodeAddress(lab, number int) string {
	return fmt.Sprintf("127.77.%d.%d", lab, firstNode+number-1)
}

// hostKernel is what the region calls the only kernel that there is.
const hostKernel = "host"

// hostImage is what the lab's nodes are deployed with: the release of the host, whose files they see.
func hostImage(osRelease string) maastest.Image {
	values := map[string]string{}
	if env, err := readEnvironment(osRelease); err == nil {
		for _, entry := range env {
			name, value, _ := strings.Cut(entry, "=")
			values[name] = value
		}
	}
	or := func(names ...string) string {
		for _, name := range names[:len(names)-1] {
			if values[name] != "" {
				return values[name]
			}
		}
		return names[len(names)-1]
	}
	return maastest.Image{
		OS: or("ID", "linux"), Release: or("VERSION_CODENAME", "VERSION_ID", "host"), Title: or("VERSION", "PRETTY_NAME", "the host's"),
		Architectures: []string{runtime.GOARCH}, Kernels: []string{hostKernel}, Default: true,
	}
}

// osReleaseFile says what the host's system is (os-release(5)).
func osReleaseFile() string {
	const path = "/etc/os-release"
	if _, err := os.Stat(path); err != nil {
		return "/usr/lib/os-release"
	}
	return path
}
