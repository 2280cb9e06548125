package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// TestWhatACampaignRestsOnIsKept removes old runs: those of a campaign that is open or has a verdict stay, with the baseline that they were compared with.
func TestWhatACampaignRestsOnIsKept(t *testing.T) {
	t.Parallel()
	for state, kept := range map[cert.CampaignState]int{cert.CampaignDeciding: 2, cert.CampaignApproved: 2, cert.CampaignCancelled: 0, cert.CampaignSuperseded: 0} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			db, ctx := open1(t), t.Context()
			m := machine(t, db, "node0")
			var runs []string
			for n := range 3 {
				run, _ := uploaded(t, db, m, epoch.Add(time.Duration(n)*time.Second), "pass")
				runs = append(runs, run)
			}
			require.NoError(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error {
				c := cert.Campaign{ID: cert.NewID(cert.CampaignID, epoch), Name: "c", State: state, Created: epoch}
				if err := tx.AddCampaign(c, "machine"); err != nil {
					return err
				}
				return tx.PutTarget(cert.Target{ID: cert.NewID(cert.TargetID, epoch), Campaign: c.ID, Machine: m.ID, Plan: "a::b", State: cert.TargetDone, Updated: epoch,
					Compared: &cert.Compared{Version: 1, Baseline: &cert.Compare{Run: runs[0]}}, Tries: []cert.Try{{Number: 1, Machine: m.ID, Run: runs[1], Ended: &epoch}}})
			}))
			n, _, err := db.RemoveRuns(ctx, epoch.AddDate(1, 0, 0), epoch.AddDate(1, 0, 0), 10)
			require.NoError(t, err)
			require.Equal(t, 3-kept, n)
			for i, id := range runs {
				_, err := db.Run(ctx, id)
				require.Equal(t, i < kept, err == nil, "%d: %v", i, err)
			}
			sound(t, db)
		})
	}
}

// TestAVersionGoesUpOncePerTransaction counts changes.
func TestAVersionGoesUpOncePerTransaction(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	c := cert.Campaign{ID: cert.NewID(cert.CampaignID, epoch), Name: "c", State: cert.CampaignActive, Created: epoch}
	require.NoError(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error { return tx.AddCampaign(c, "machine") }))
	require.NoError(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error {
		for range 3 {
			if err := tx.Note(cert.CampaignEvent{Campaign: c.ID, At: epoch, Kind: "note", Who: "ada"}); err != nil {
				return err
			}
		}
		return tx.PutCampaign(c)
	}))
	got, err := db.Campaign(ctx, "c")
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)
	require.Error(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error { tx.Touch(c.ID); return fmt.Errorf("no") }))
	got, err = db.Campaign(ctx, "c")
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)
}

// TestWhatAFinalCampaignRanIsNotRepeated has an incident spoil a campaign's run: the lab does it again for as long as somebody waits for it.
func TestWhatAFinalCampaignRanIsNotRepeated(t *testing.T) {
	t.Parallel()
	for state, again := range map[cert.CampaignState]int{cert.CampaignActive: 1, cert.CampaignPaused: 1, cert.CampaignCancelled: 0, cert.CampaignSuperseded: 0, cert.CampaignApproved: 0} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			db, ctx := open1(t), t.Context()
			m, closed := machine(t, db, "node0"), epoch.Add(time.Hour)
			run := cert.Run{ID: cert.NewID(cert.RunID, epoch), Machine: m.ID, Origin: cert.FromOrder, State: cert.Running, Created: epoch,
				Attempts: []cert.Attempt{{Number: 1, State: cert.Running, Updated: epoch}}}
			require.NoError(t, db.AddRun(ctx, run))
			require.NoError(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error {
				c := cert.Campaign{ID: cert.NewID(cert.CampaignID, epoch), Name: "c", State: state, Created: epoch}
				require.NoError(t, tx.AddCampaign(c, "machine"))
				require.NoError(t, tx.PutTarget(cert.Target{ID: cert.NewID(cert.TargetID, epoch), Campaign: c.ID, Machine: m.ID, Plan: "a::b", State: cert.TargetQueued, Updated: epoch,
					Tries: []cert.Try{{Number: 1, Purpose: cert.TryFirst, Machine: m.ID, Run: run.ID}}}))
				require.NoError(t, tx.PutIncident(cert.Incident{ID: "i1", Scope: cert.ScopeZone, Opened: epoch, Closed: &closed}))
				require.NoError(t, tx.SuspectAttempts("i1", []string{m.ID}))
				return tx.ChangeRun(run.ID, func(r *cert.Run) (bool, error) {
					r.State, r.Finished, r.Failure = cert.Failed, &closed, &cert.Failure{Type: "timeout"}
					return true, nil
				})
			}))
			ids, err := db.SuspectRuns(ctx, epoch)
			require.NoError(t, err)
			require.Len(t, ids, again)
		})
	}
}
