package campaign_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestPausedNothingInTheQueueIsBegun pauses a campaign that waits in the queue for a machine that gets free meanwhile.
func TestPausedNothingInTheQueueIsBegun(t *testing.T) {
	t.Parallel()
	inLab(t, func(l *lab) {
		c := l.begin()
		l.until("it waits in the queue", func() bool { return l.target(c.ID, "node1").State == cert.TargetQueued })
		yes, no := true, false
		_, err := l.engine().ChangeCampaign(context.Background(), c.ID, cert.ChangeCampaign{Paused: &yes, Reason: "lunch"}, "ada", cert.Engineer)
		require.NoError(l, err)
		l.mu.Lock()
		l.hold["node1"] = false
		l.mu.Unlock()
		time.Sleep(10 * time.Minute)
		g := l.target(c.ID, "node1")
		require.Equal(l, cert.TargetQueued, g.State)
		require.Equal(l, "campaign "+c.Name+" is paused", g.Why)
		_, err = l.engine().ChangeCampaign(context.Background(), c.ID, cert.ChangeCampaign{Paused: &no}, "ada", cert.Engineer)
		require.NoError(l, err)
		require.Equal(l, cert.CampaignDeciding, l.over(c.ID).State)
		require.Equal(l, []string{cert.TryFirst}, purposes(l.target(c.ID, "node1")), "it has kept its place")
	}, nodes("node1"), func(l *lab) { l.hold["node1"] = true })
}
