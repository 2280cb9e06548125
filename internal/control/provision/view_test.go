package provision_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/provision"
)

// closed is a gate that lets nothing begin on one machine.
type closed struct{ hostname string }

func (g closed) MayDeploy(p cert.Place, _ cert.Reservation) *cert.Hold {
	if p.Hostname == g.hostname {
		return &cert.Hold{Text: "node1 has failed too often in a row"}
	}
	return nil
}
func (closed) MayRecover(cert.Place) *cert.Hold { return nil }
func (closed) Changed() <-chan struct{}         { return nil }

// A machine that is free, and that nobody is given, says why.
func TestFreeMachineThatIsHeldBack(t *testing.T) {
	t.Parallel()
	inLab(t, 2, func(l *lab) {
		l.listed()
		m := l.machine("node1")
		require.Equal(l, cert.MachineFree, m.State)
		require.Equal(l, "node1 has failed too often in a row", m.Why)
		require.Empty(l, l.machine("node2").Why)
	}, func(l *lab) {
		l.options = func(o *provision.Options) { o.Gate = closed{"node1"} }
	})
}
