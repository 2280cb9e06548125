package maastest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"certlab/internal/provider/maas/maastest"
)

// passedOver blanks what Differences says cannot match, wherever it is in a document.
func passedOver(v any, inside string) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			switch {
			case name == "cpu_count" || name == "bios_boot_method" || strings.HasPrefix(name, "current_") || name == "uuid" && inside == "partitions":
				v[name] = "passed over"
			case (name == "id" || name == "device_id" || name == "resource_uri") && numbered(inside):
				v[name] = "passed over"
			default:
				v[name] = passedOver(value, name)
			}
		}
	case []any:
		for i := range v {
			v[i] = passedOver(v[i], inside)
		}
	}
	return v
}

func numbered(inside string) bool {
	switch inside {
	case "boot_disk", "physicalblockdevice_set", "blockdevice_set", "partitions", "boot_interface", "interface_set", "links":
		return true
	}
	return false
}

// The machines of testdata/machines.jsonl, whole, as a real MAAS 3.4.1 wrote them.
func TestAMachinesDocumentHasAllThatARealOneHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := maastest.New(maastest.Options{})
		defer r.Close()
		admin := newPerson(t, r, "admin", true)
		add := func(id, name, mac, ip, pool, zone string, tags ...string) {
			r.AddMachine(maastest.Machine{
				SystemID: id, Hostname: name, Cores: 16, MemoryMiB: 32768, Pool: pool, Zone: zone, Tags: tags, PowerType: "webhook",
				Disks: []maastest.Disk{{Name: "sda", Bytes: 250e9, Tags: []string{"ssd", "sata"}}},
				NICs: []maastest.NIC{{Name: "eth0", MAC: mac, IP: ip, Vendor: "My Corporation", Product: "My Gigabit Network Connection",
					Firmware: "1.63, 0x800009fa", SpeedMbits: 10000}},
			})
		}
		admin.post("resourcepools/", "name=quarantine", "description=q")
		admin.post("zones/", "name=row-b")
		add("mrayyc", "node1", "52:54:00:aa:00:01", "10.77.1.2", "quarantine", "row-b", "cert", "gpu")
		add("xemby4", "node3", "52:54:00:aa:00:03", "10.77.1.3", "default", "default")

		r.Fault("mrayyc", maastest.Fault{Kind: maastest.TestFails})
		admin.do("mrayyc", "test")
		time.Sleep(time.Hour)
		require.Equal(t, "Failed testing", status(r, "mrayyc"))
		r.Change("mrayyc", func(s *maastest.MachineState) {
			s.Status, s.Owner, s.StatusMessage, s.Power = maastest.Deployed, "admin", "Powering on", "on"
		})
		r.Change("xemby4", func(s *maastest.MachineState) {
			s.Status, s.Owner, s.Power = maastest.FailedDeployment, "admin", "unknown"
		})
		r.Fault("xemby4", maastest.Fault{Kind: maastest.RackGone})
		a := admin.get("machines/xemby4/?op=query_power_state")
		require.Equal(t, []any{503, "No rack controllers can access the BMC of node node3"}, []any{a.Status, a.Body})

		f, err := os.Open("testdata/machines.jsonl")
		require.NoError(t, err)
		defer func() { _ = f.Close() }()
		count := 0
		for lines := bufio.NewScanner(f); lines.Scan(); count++ {
			var want map[string]any
			require.NoError(t, json.Unmarshal(lines.Bytes(), &want))
			id := want["system_id"].(string)
			body := admin.get("machines/" + id + "/").Body
			var got map[string]any
			require.NoError(t, json.Unmarshal([]byte(body), &got))
			if diff := cmp.Diff(passedOver(want, ""), passedOver(got, "")); diff != "" {
				t.Errorf("%s (-MAAS +simulation):\n%s", id, diff)
			}
			require.Equal(t, fields(t, lines.Bytes()), fields(t, []byte(body)), "the order of the fields")
		}
		require.Equal(t, 2, count)
	})
}

// fields are the names of an object's fields, in order.
func fields(t *testing.T, object []byte) []string {
	var names []string
	d := json.NewDecoder(bytes.NewReader(object))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		names = append(names, name.(string))
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
	}
	return names
}

func TestSimulationsDocumentListsEachDifference(t *testing.T) {
	t.Parallel()
	const name = "../../../../docs/reference/maas-simulation.md"
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	doc := string(b)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\| (.+) \\|$").FindAllStringSubmatch(section(doc, "## What it cannot match"), -1) {
		listed[m[1]+": "+m[2]+": "+m[3]] = true
	}
	table := map[string]bool{}
	for _, d := range maastest.Differences() {
		table[d.Where+": "+d.What+": "+d.Why] = true
	}
	require.Equal(t, table, listed, "Differences and %s", name)

	listed, table = map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$").FindAllStringSubmatch(section(doc, "## Operations that it does not have"), -1) {
		listed[m[1]+": "+m[2]] = true
	}
	for op, why := range maastest.NotOffered() {
		table[op+": "+why] = true
	}
	require.Equal(t, table, listed, "NotOffered and %s", name)

	faults := section(doc, "## Faults")
	for _, f := range maastest.FaultKinds() {
		require.Contains(t, faults, "| `"+string(f.Kind)+"` | "+f.Text+" |")
	}
}

func section(doc, heading string) string {
	_, after, _ := strings.Cut(doc, heading+"\n")
	section, _, _ := strings.Cut(after, "\n## ")
	return section
}
