package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
	"certlab/internal/provider/maas/maastest"
)

// TestFaultUnitsAreNotWhereTheySay has units on machines that MAAS does not know, and on ones whose hardware is another's: the site says so of each,
// and goes on.
func TestFaultUnitsAreNotWhereTheySay(t *testing.T) {
	t.Parallel()
	f := newFleetLab(t, maastest.Machine{Hostname: "node1"}, maastest.Machine{Hostname: "node2"}, maastest.Machine{Hostname: "node3"})
	right, wrong, gone, elsewhere := newAgent(t, 0), newAgent(t, 1), newAgent(t, 2), newAgent(t, 3)
	right.identity.SystemID, right.identity.ProductUUID = f.system["node1"], uuidOf("node1")
	wrong.identity.SystemID, wrong.identity.ProductUUID = f.system["node2"], uuidOf("node3")
	gone.identity.SystemID = "zzz999"
	elsewhere.identity.SystemID = ""
	f.apply(func(d *order.ControllerDesired) {
		d.Fleet.MAAS.PowerUnits = true
		for _, a := range []*agent{right, wrong, gone, elsewhere} {
			d.Agents = append(d.Agents, a.enrolled())
		}
	})
	var found []string
	require.Eventually(t, func() bool {
		found = f.service.placements(t.Context())
		return len(found) == 2
	}, patience, 10*time.Millisecond, "%v", found)
	require.True(t, strings.HasPrefix(found[0], "checkbox/1 says that it is on node2 ("+f.system["node2"]+"), but neither the product UUID nor a MAC address agrees; its hardware is that of node3 ("), found[0])
	require.True(t, strings.HasPrefix(found[1], "checkbox/2 is on machine zzz999, which MAAS does not know: it was deleted there, or belongs to another MAAS"), found[1])
	h := f.service.health(t.Context())
	require.Subset(t, h.Problems, found)
	require.True(t, h.Ready, "the others can work")
	f.apply(func(d *order.ControllerDesired) { d.Fleet.MAAS.PowerUnits = false })
	require.Eventually(t, func() bool {
		found = f.service.placements(t.Context())
		return len(found) == 1 && strings.HasPrefix(found[0], "checkbox/1 ")
	}, patience, 10*time.Millisecond, "a unit may be on another MAAS's machine: %v", found)
}
