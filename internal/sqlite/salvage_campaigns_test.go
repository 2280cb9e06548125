package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

const inCampaign = 60

// campaignOn adds an open campaign over machines to the database at path, with a try, a finding and an event for each.
func campaignOn(t *testing.T, path string, machines []string) string {
	ctx := t.Context()
	db, err := Open(ctx, path)
	require.NoError(t, err)
	defer db.Close()
	long := strings.Repeat("x", 300)
	c := cert.Campaign{ID: cert.NewID(cert.CampaignID, epoch), Name: "noble-linux", Kind: cert.KindSRU, State: cert.CampaignDeciding, Subject: cert.Subject{Kind: cert.SubjectKernel, Version: "6.8.0-51.52"}, Created: epoch}
	require.NoError(t, db.ChangeCampaigns(ctx, func(tx *CampaignTx) error {
		if err := tx.AddCampaign(c, "kernel/noble/linux"); err != nil {
			return err
		}
		for n, m := range machines {
			at := epoch.Add(time.Duration(n) * time.Second)
			g := cert.Target{ID: cert.NewID(cert.TargetID, at), Campaign: c.ID, Machine: m, Hostname: fmt.Sprint("node", n), Plan: "a::b", Required: true, State: cert.TargetDone, Why: long,
				Compared: &cert.Compared{Version: 1, Submission: "s"}, Updated: at}
			g.Tries = []cert.Try{{Number: 1, Purpose: cert.TryFirst, Machine: m, Run: cert.NewID(cert.RunID, at), Reservation: cert.NewID(cert.ReservationID, at), By: "certlab", Created: at, Asked: &at, Ended: &at}}
			if err := tx.PutTarget(g); err != nil {
				return err
			}
			if err := tx.PutFinding(cert.Finding{ID: cert.NewID(cert.FindingID, at), Campaign: c.ID, Target: g.ID, Machine: m, Class: cert.ClassRegression, Text: long}); err != nil {
				return err
			}
			if err := tx.Note(cert.CampaignEvent{Campaign: c.ID, At: at, Kind: "started", Who: "certlab", Text: long}); err != nil {
				return err
			}
		}
		return nil
	}))
	return c.ID
}

// TestFaultDamagedPageOfCampaigns loses a page of each table of campaigns: what is on other pages is kept, what is left fits together, and the campaign
// is paused, so that nothing is approved of which a part may be missing.
func TestFaultDamagedPageOfCampaigns(t *testing.T) {
	t.Parallel()
	whole, machines := fleetOf(t)
	id := campaignOn(t, whole, machines[:inCampaign])
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	for _, table := range []string{"campaigns", "targets", "tries", "findings", "campaign_events", "machines"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path := filepath.Join(t.TempDir(), "x.db")
			require.NoError(t, os.WriteFile(path, content, 0o600))
			page(t, path, table)
			to := filepath.Join(t.TempDir(), "new.db")
			alone, err := SalvageInto(ctx, path, "", to, epoch)
			require.NoError(t, err)
			full, err := SalvageInto(ctx, path, whole, to+"2", epoch)
			require.NoError(t, err)
			require.Empty(t, full.Lost)
			for _, name := range []string{to, to + "2"} {
				db, err := Open(ctx, name)
				require.NoError(t, err)
				defer db.Close()
				sound(t, db)
				c, err := db.Campaign(ctx, id)
				if name == to && table == "campaigns" {
					require.Equal(t, cert.NotFound, cert.CodeOf(err))
					require.Contains(t, alone.Lost, "campaign "+id)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, cert.CampaignPaused, c.State)
				require.Contains(t, c.Unsure, "the controller's database was repaired, and what was decided may be lost")
				require.Equal(t, "paused: the controller's database was repaired, and machines or findings of this campaign may be missing; look at it, and resume it if all is here", c.Ending)
				targets, err := db.Targets(ctx, id)
				require.NoError(t, err)
				require.Greater(t, len(targets), inCampaign/2)
				if name != to || table != "targets" {
					require.Len(t, targets, inCampaign)
				}
				for _, g := range targets {
					require.Zero(t, g.Compared.Version, "it is compared anew")
					_, err := db.TryOfRun(ctx, g.Tries[0].Run)
					require.NoError(t, err)
				}
			}
		})
	}
}

// TestFaultOldDatabaseOfCampaigns begins an epoch as restoring a backup and losing the end of the log do: of open campaigns it is noted what may be lost.
func TestFaultOldDatabaseOfCampaigns(t *testing.T) {
	t.Parallel()
	path, machines := fleetOf(t)
	id := campaignOn(t, path, machines[:1])
	db, err := Open(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	before, err := db.Campaign(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, before.Unsure)
	for cause, want := range map[string]string{
		"restore": "the controller was restored from a backup, and what was decided since that was made is lost (",
		"log":     "the end of the database's log was damaged, and what was decided last may be lost (",
	} {
		require.NoError(t, db.NewEpoch(t.Context(), cause, epoch))
		c, err := db.Campaign(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want+epoch.UTC().Format("2006-01-02 15:04 UTC")+")", c.Unsure)
		require.Greater(t, c.Version, before.Version, "who looks at it sees it")
		e, err := db.Epoch(t.Context())
		require.NoError(t, err)
		require.Equal(t, cause, e.Cause)
	}
}
