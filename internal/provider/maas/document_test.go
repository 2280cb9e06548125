package maas

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"certlab/internal/cert"
	"certlab/internal/fuzztest"
	"github.com/stretchr/testify/require"
)

// Whole documents of a real region, 3.4.1.
func TestRealMachinesAreRead(t *testing.T) {
	t.Parallel()
	lines := realMachines(t)
	p := provider(t, always(200, "["+string(bytes.Join(lines, []byte(",")))+"]"))
	machines, err := p.List(t.Context())
	require.NoError(t, err)
	require.Len(t, machines, 2)
	require.Equal(t, cert.Provided{
		ID: "mrayyc", Hostname: "node1", FQDN: "node1.maas", Status: cert.StatusDeployed, StatusName: "Deployed", StatusMessage: "Powering on",
		Holder: cert.Otherwise, Owner: "admin", Power: cert.PowerOn, PowerType: "webhook", Architecture: "amd64",
		MemoryMiB: 32768, StorageBytes: 250_000_000_000, Pool: "quarantine", Zone: "row-b", Tags: []string{"cert", "gpu"},
		Addresses: []string{"10.77.1.2"}, MACs: []string{"52:54:00:aa:00:01"},
		NICs: []cert.NIC{{Name: "eth0", MAC: "52:54:00:aa:00:01", Vendor: "My Corporation", Product: "My Gigabit Network Connection",
			Firmware: "1.63, 0x800009fa", SpeedMbits: 10000, Connected: true}},
		Disks: []cert.Disk{{Name: "sda", Bytes: 250_000_000_000, Tags: []string{"ssd", "sata"}}},
	}, machines[0])
	require.NotEmpty(t, machines[1].ID)
	require.NotEmpty(t, machines[1].Hostname)
}

func realMachines(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/machines.jsonl")
	require.NoError(t, err)
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// A field of a kind that nobody expects costs that field, and not the list.
func TestFaultFieldOfAnotherKind(t *testing.T) {
	t.Parallel()
	body := `[{"system_id": "a", "cpu_count": "many", "hostname": "one", "storage": "big", "hardware_info": {"system_vendor": 5, "cpu_model": "X"},
		"tag_names": null, "ip_addresses": [null, "10.0.0.1"], "owner": null, "pool": null, "status": 99}, {"system_id": "b", "hostname": "two", "status": 4}]`
	machines, err := provider(t, always(200, body)).List(t.Context())
	require.NoError(t, err)
	require.Len(t, machines, 2)
	require.Equal(t, "one", machines[0].Hostname)
	require.Equal(t, cert.StatusOther, machines[0].Status)
	require.Equal(t, cert.PowerUnknown, machines[0].Power)
	require.Equal(t, cert.StatusFree, machines[1].Status)
	require.Equal(t, "Ready", machines[1].StatusName)
}

// An owner that cannot be read is not nobody.
func TestFaultOwnerOfAnotherKind(t *testing.T) {
	t.Parallel()
	s := always(200, `[{"system_id": "abc123", "owner": {"username": "bob"}, "status": 10}]`)
	machines, err := provider(t, s).List(t.Context())
	require.NoError(t, err)
	require.Equal(t, cert.Otherwise, machines[0].Holder)
	err = provider(t, s).Tag(t.Context(), "abc123", "x", true)
	require.Equal(t, cert.ProviderForeign, cert.ProviderFaultOf(err))
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	require.Len(t, statusNames, 23)
	for number, want := range map[int]cert.Status{0: cert.StatusNew, 4: cert.StatusFree, 5: cert.StatusOther, 6: cert.StatusDeployed, 8: cert.StatusBroken,
		10: cert.StatusAcquired, 11: cert.StatusDeployFailed, 13: cert.StatusReleaseFailed, 15: cert.StatusReleaseFailed, 14: cert.StatusReleasing,
		18: cert.StatusOther, 22: cert.StatusTestFailed, 23: cert.StatusOther, -1: cert.StatusOther} {
		require.Equal(t, want, statusOf(number), number)
	}
}

// FuzzMachine: whatever a list says, it is read or refused, and no machine of unknown owner comes out as nobody's by accident.
func FuzzMachine(f *testing.F) {
	seeds := fuzztest.Seeds("[]", "["+held+"]", "[{}]", `[{"system_id":"a","owner":5}]`, "{", `[{"system_id":"a","interface_set":[{"type":"physical"}]}]`)
	for _, line := range realMachines(f) {
		seeds = append(seeds, []byte("["+string(line)+"]"))
	}
	p := provider(f, nil)
	fuzztest.Run(f, 700, seeds, func(t *testing.T, data []byte) {
		err := decodeMachines(bytes.NewReader(data), func(m *machine) {
			if m.SystemID == "" {
				t.Fatal("a machine without an id")
			}
			holder := p.holder(m, "certlab", nil)
			if (holder == cert.Nobody) != (m.Owner == "") {
				t.Fatalf("owner %q makes it %q", m.Owner, holder)
			}
			m.provided(holder)
		})
		if err == nil && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
			t.Fatal("that is no list")
		}
	})
}

// FuzzError: whatever MAAS says of an error becomes one short printable line.
func FuzzError(f *testing.F) {
	seeds := fuzztest.Seeds("", "No Machine matches the given query.", `{"pool": ["Select a valid choice."], "x": {"y": [1]}}`, "<html>", `{"a": [[[["b"]]]]}`,
		"Authorization Error: 'Expired timestamp: given 1795449600 and now 1795450200 has a greater difference than threshold 300'")
	p := provider(f, nil)
	fuzztest.Run(f, 700, seeds, func(t *testing.T, data []byte) {
		for _, status := range []int{400, 401, 403, 404, 409, 500, 503} {
			x := &exchange{answered: true, sent: true, status: status, text: string(data)}
			failed, _ := p.judge(t.Context(), call{doing: "x"}, x)
			if failed == nil || failed.Message == "" || len([]rune(failed.Message)) > 2*maxSaid {
				t.Fatalf("%d %q became %v", status, data, failed)
			}
			if strings.ContainsAny(failed.Message, "\n\r\x00\x1b") {
				t.Fatalf("%q is not one line", failed.Message)
			}
		}
	})
}
