package cert

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

const uuid = "4c4c4544-0047-3010-8052-b4c04f4b3132"

func TestFaultAUnitsMachineIsConfirmedByItsHardware(t *testing.T) {
	t.Parallel()
	machines := []Provided{
		{ID: "abc123", Hostname: "node1", ProductUUID: "4C4C4544-0047-3010-8052-B4C04F4B3132", MACs: []string{"52:54:00:00:00:01"}},
		{ID: "def456", Hostname: "node2", ProductUUID: "11111111-2222-3333-4444-555555555555", MACs: []string{"52:54:00:00:00:02"}},
		{ID: "ghi789", Hostname: "bare"},
	}
	const (
		gone  = "checkbox/0 is on machine zzz999, which MAAS does not know: it was deleted there, or belongs to another MAAS"
		leave = " (remove the unit and deploy the machine again, or leave it: it works, but nothing is switched or recovered over MAAS)"
		wrong = "checkbox/0 says that it is on node2 (def456), but neither the product UUID nor a MAC address agrees"
		moved = ": the disk was moved or cloned, or the board was replaced (commission the machine in MAAS again, or deploy the unit anew; until then nothing is switched over MAAS)"
	)
	for what, c := range map[string]struct {
		identity order.Identity
		want     Placement
	}{
		"of no MAAS":                    {order.Identity{ProductUUID: uuid}, Placement{}},
		"by UUID":                       {order.Identity{SystemID: "abc123", ProductUUID: uuid, MACs: []string{"52:54:00:ff:ff:ff"}}, Placement{Machine: "abc123", Confirmed: true}},
		"by UUID in another byte order": {order.Identity{SystemID: "abc123", ProductUUID: "44454c4c-4700-1030-8052-b4c04f4b3132"}, Placement{Machine: "abc123", Confirmed: true}},
		"by MAC, with another board":    {order.Identity{SystemID: "abc123", ProductUUID: "11111111-2222-3333-4444-000000000000", MACs: []string{"52:54:00:00:00:01"}}, Placement{Machine: "abc123", Confirmed: true}},
		"nothing to compare":            {order.Identity{SystemID: "abc123"}, Placement{Machine: "abc123"}},
		"nothing to compare in MAAS":    {order.Identity{SystemID: "ghi789", ProductUUID: uuid}, Placement{Machine: "ghi789"}},
		"a maker's placeholder":         {order.Identity{SystemID: "abc123", ProductUUID: "03000200-0400-0500-0006-000700080009"}, Placement{Machine: "abc123"}},
		"not in MAAS":                   {order.Identity{SystemID: "zzz999"}, Placement{Problem: gone + leave}},
		"enlisted anew":                 {order.Identity{SystemID: "zzz999", ProductUUID: uuid}, Placement{Problem: gone + "; its hardware is that of node1 (abc123)" + leave}},
		"another machine's disk":        {order.Identity{SystemID: "def456", ProductUUID: uuid, MACs: []string{"52:54:00:00:00:01"}}, Placement{Problem: wrong + "; its hardware is that of node1 (abc123)" + moved}},
		"a disk of nobody's":            {order.Identity{SystemID: "def456", MACs: []string{"52:54:00:aa:aa:aa"}}, Placement{Problem: wrong + moved}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, PlaceUnit("checkbox/0", c.identity, machines))
		})
	}
	require.Zero(t, PlaceUnit("checkbox/0", order.Identity{SystemID: "zzz999"}, nil), "MAAS was not read yet")
}
