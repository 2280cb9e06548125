package agent

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"certlab/internal/order"
)

// systemID is what a MAAS system_id looks like; other clouds put other things into cloud-init's instance-id.
var systemID = regexp.MustCompile(`^[a-z0-9]{6}$`)

// Firmware has been seen to say anything in the place of a UUID.
var (
	productUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	baseName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,50}@[A-Za-z0-9._-]{1,50}$`)
)

// debianArchitecture names what the kernel calls a machine in Debian's words.
var debianArchitecture = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "ppc64le": "ppc64el", "s390x": "s390x", "riscv64": "riscv64", "i686": "i386",
}

// machineIdentity says what this machine is, from the files below root (usually /). What cannot be read stays empty; a machine
// without MAAS or without firmware tables is one all the same.
func machineIdentity(root string) order.Identity {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || len(text) > 4096 {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	var id order.Identity
	id.Hostname, _ = os.Hostname()
	var names unix.Utsname
	if unix.Uname(&names) == nil {
		id.Kernel = unix.ByteSliceToString(names.Release[:])
		machine := unix.ByteSliceToString(names.Machine[:])
		id.Architecture = machine
		if name, ok := debianArchitecture[machine]; ok {
			id.Architecture = name
		}
	}
	if release := read("proc/sys/kernel/osrelease"); release != "" {
		id.Kernel = release // the same, where that can be told apart: proofs go by this file
	}
	if instance := read("var/lib/cloud/data/instance-id"); systemID.MatchString(instance) {
		id.SystemID = instance
	}
	if uuid := strings.ToLower(read("sys/class/dmi/id/product_uuid")); productUUID.MatchString(uuid) && uuid != "00000000-0000-0000-0000-000000000000" {
		id.ProductUUID = uuid
	}
	id.MACs = physicalMACs(root)
	var osID, osVersion string
	for line := range strings.Lines(read("etc/os-release")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			osID = value
		case "VERSION_ID":
			osVersion = value
		}
	}
	if base := osID + "@" + osVersion; baseName.MatchString(base) {
		id.Base = base
	}
	return id
}

// macAddress is what the kernel says of an Ethernet interface.
var macAddress = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)

// maxIdentityMACs is how many addresses an identity names.
const maxIdentityMACs = 32

// physicalMACs are the addresses of the interfaces that are hardware, sorted: those of bridges and containers come and go.
func physicalMACs(root string) []string {
	interfaces, _ := filepath.Glob(filepath.Join(root, "sys/class/net/*/device"))
	var macs []string
	for _, device := range interfaces {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(device), "address"))
		mac := strings.ToLower(strings.TrimSpace(string(text)))
		if err == nil && macAddress.MatchString(mac) && mac != "00:00:00:00:00:00" {
			macs = append(macs, mac)
		}
	}
	slices.Sort(macs)
	macs = slices.Compact(macs)
	return macs[:min(len(macs), maxIdentityMACs)]
}

// Identify makes the key pair of the agent in dir if there is none, and writes public.json with the key and the machine's identity for
// the charm. The unit and model come from desired.json if it is there already.
func Identify(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := loadKey(filepath.Join(dir, keyFile))
	if err != nil {
		return err
	}
	desired, _, err := readDesired(dir, order.AgentDesiredFile)
	if err != nil {
		return err
	}
	return writePublic(dir, key, desired)
}

func writePublic(dir string, key *agentKey, desired order.AgentDesired) error {
	public := order.AgentPublic{PublicKey: key.public, Identity: machineIdentity("/")}
	public.Identity.Unit, public.Identity.ModelUUID = desired.Unit, desired.ModelUUID
	path := filepath.Join(dir, order.AgentPublicFile)
	var now order.AgentPublic
	if readJSON(path, &now) == nil && reflect.DeepEqual(now, public) {
		return nil
	}
	return writeJSON(path, public, 0o644)
}
