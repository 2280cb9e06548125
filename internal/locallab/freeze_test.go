package locallab

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFrozenMachine has a machine hang: what runs on it stops, it cannot be asked, and it goes on, or is cut off.
func TestFrozenMachine(t *testing.T) {
	t.Parallel()
	m := newTestMachine(t, nil)
	ctx := testContext(t)
	require.ErrorContains(t, m.Freeze(ctx), "machine is not running")
	require.NoError(t, m.Boot(ctx))
	mustSh(t, m, "touch /var/tmp/beats; (while :; do echo x >> /var/tmp/beats; sleep 0.01; done) > /dev/null 2>&1 &")
	eventually(t, "it beats", func() bool { return mustSh(t, m, "wc -l < /var/tmp/beats") != "0" })
	_, boot := m.State()

	require.NoError(t, m.Freeze(ctx))
	require.True(t, m.Frozen())
	processes, err := descendants(m.PID())
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(processes), 2)
	for pid, state := range processes {
		require.Contains(t, "TZD", string(state), "process %d", pid)
	}
	_, err = m.Exec(ctx, ExecSpec{Argv: []string{"true"}})
	require.ErrorContains(t, err, "machine is frozen")
	state, now := m.State()
	require.Equal(t, On, state)
	require.Equal(t, boot, now)

	require.NoError(t, m.Thaw())
	require.False(t, m.Frozen())
	before := mustSh(t, m, "wc -l < /var/tmp/beats")
	eventually(t, "it beats again", func() bool { return mustSh(t, m, "wc -l < /var/tmp/beats") != before })

	require.NoError(t, m.Freeze(ctx))
	require.NoError(t, m.PowerOff(context.Background()), "what hangs is cut off and not waited for")
	require.NoError(t, m.Boot(ctx))
	require.False(t, m.Frozen())
	mustSh(t, m, "true")
}
