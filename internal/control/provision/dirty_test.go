package provision_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// TestFaultDirtyUnitIsShownAndTakesNoRun has a unit's machine not be put back after a run.
func TestFaultDirtyUnitIsShownAndTakesNoRun(t *testing.T) {
	t.Parallel()
	inLab(t, 1, func(l *lab) {
		l.listed()
		placed, refused, err := l.db.Enrol(l.Context(), []cert.Enrolment{{Unit: "checkbox/0", PublicKey: "key", Identity: cert.Identity{Hostname: "unit0", Architecture: "amd64",
			SystemID: "unit00", ModelUUID: "m"}}}, l.now())
		require.NoError(l, err)
		require.Empty(l, refused)
		machine := placed["key"]
		require.NoError(l, l.db.Seen(l.Context(), map[string]time.Time{machine: l.now()}))
		require.NoError(l, l.fleet().AgentStatus(l.Context(), machine, order.Status{BootID: "b", CheckboxVersion: "5.0.0", Dirty: "fwupd is 2.0 and was 1.0"}))
		m := l.machine("unit0")
		require.Equal(l, cert.MachineDirty, m.State)
		require.Equal(l, "fwupd is 2.0 and was 1.0 (see to it, then run `certlab-agent clean` on the machine)", m.Why)
		require.EqualError(l, l.fleet().MayRun(l.Context(), machine, "ada", cert.Admin),
			"cannot start a run on unit0: it is dirty: fwupd is 2.0 and was 1.0 (see to it, then run `certlab-agent clean` on the machine)")
		require.NoError(l, l.fleet().AgentStatus(l.Context(), machine, order.Status{BootID: "b", CheckboxVersion: "5.0.0"}))
		require.Equal(l, cert.MachineReady, l.machine("unit0").State)
		require.NoError(l, l.fleet().MayRun(l.Context(), machine, "ada", cert.Admin))
	})
}
