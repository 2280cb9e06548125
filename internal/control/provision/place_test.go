package provision_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
	"certlab/internal/provider/maas/maastest"
)

// A unit's word for the machine that it is on is a file on a disk. Unless the hardware agrees, no machine is switched for it: it might be another's.
func TestFaultUnitNamesAnotherMachine(t *testing.T) {
	t.Parallel()
	at := cert.Placement{Problem: "checkbox/0 says that it is on node1, but neither the product UUID nor a MAC address agrees"}
	inLab(t, 1, func(l *lab) {
		l.listed()
		l.region.Change(l.sid("node1"), func(s *maastest.MachineState) {
			s.Status, s.Owner, s.Power = maastest.Deployed, "juju", "on"
			s.OwnerData = map[string]string{"juju-model-uuid": "model"}
		})
		_, refused, err := l.db.Enrol(l.Context(), []cert.Enrolment{{Unit: "checkbox/0", PublicKey: "key", Identity: cert.Identity{Hostname: "node1", SystemID: l.sid("node1")}}}, l.now())
		require.NoError(l, err)
		require.Empty(l, refused)
		power := func() error {
			_, err := l.fleet().Power(l.Context(), "node1", cert.PowerMachine{Action: "off"}, "ada", cert.Admin)
			return err
		}
		require.EqualError(l, power(), "cannot switch node1: "+at.Problem)
		at = cert.Placement{}
		require.EqualError(l, power(), "cannot switch node1: nothing confirms that checkbox/0 is on it: neither a product UUID nor a MAC address is known of both")
		require.Equal(l, "on", l.region.State(l.sid("node1")).Power)
		at = cert.Placement{Confirmed: true}
		require.NotContains(l, fmt.Sprint(power()), "nothing confirms")
	}, func(l *lab) {
		l.conf.MAAS.PowerUnits = true
		l.options = func(o *provision.Options) {
			o.Placed = func(context.Context, string, cert.Provided) cert.Placement { return at }
		}
	})
}
