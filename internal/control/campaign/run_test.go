package campaign_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

func TestACampaignRunsToTheDecision(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		require.Equal(l, "noble-linux-6.8.0-51.52", c.Name)
		c = l.over(c.ID)
		require.Equal(l, cert.CampaignDeciding, c.State)
		for _, name := range []string{"node1", "node2", "unit1"} {
			g := l.target(c.ID, name)
			require.Equal(l, cert.TargetDone, g.State, g.Why)
			require.Equal(l, []string{cert.TryFirst}, purposes(g))
			require.NotEmpty(l, g.Submission)
			require.Equal(l, 1, g.Counted)
			run, err := l.db.Run(l.Context(), g.Tries[0].Run)
			require.NoError(l, err)
			require.Equal(l, "6.8.0-51-generic", run.Spec.Subject.KernelRelease)
			require.Equal(l, name == "unit1", run.Spec.Subject.Restore, "only what stays is put back")
			require.Equal(l, name == "unit1", g.AsFound)
		}
		require.Contains(l, l.woken, l.target(c.ID, "unit1").Machine)
	}, func(l *lab) {
		l.add("node1")
		l.add("node2")
		l.add("unit1", unit)
	})
}
