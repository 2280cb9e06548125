package review_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/review"
	"certlab/internal/sqlite"
)

// TestAViewAfterAChangeIsAsOneMadeAnew holds views that read only what has changed to those of a Review that has seen nothing before.
func TestAViewAfterAChangeIsAsOneMadeAnew(t *testing.T) {
	t.Parallel()
	const machines = 9
	w := newWorld(t, machines)
	w.released(made{})
	random := rand.New(rand.NewPCG(11, 4))
	anew := func() cert.CampaignView {
		r := review.New(review.Options{DB: w.db, Logger: slog.New(slog.DiscardHandler), Now: w.now})
		v, err := r.View(t.Context(), w.campaign.ID)
		require.NoError(t, err)
		return v
	}
	for n := range machines {
		w.deliver(n, made{outcomes: map[string]string{w.jobs[n%len(w.jobs)]: "fail"}})
		require.Equal(t, anew(), w.view())
	}
	seen := map[int]bool{}
	for range 20 {
		open := w.findings(cert.Filter{})
		seen[len(open)] = true
		f := open[random.IntN(len(open))]
		require.NoError(t, w.db.ChangeCampaigns(context.Background(), func(tx *sqlite.CampaignTx) error {
			switch random.IntN(3) {
			case 0:
				return tx.DropFinding(f.ID)
			case 1:
				f.Blocker, f.Attention = !f.Blocker, true
				return tx.PutFinding(f)
			}
			target, err := tx.Target(f.Target)
			if err != nil {
				return err
			}
			target.Required = !target.Required
			return tx.PutTarget(target)
		}))
		require.Equal(t, anew(), w.view())
		if len(open) == 1 {
			break
		}
	}
	require.Greater(t, len(seen), 2)
}
