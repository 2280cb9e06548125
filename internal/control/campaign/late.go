package campaign

import (
	"context"
	"fmt"
	"slices"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// late takes in results of runs that their try had given up: a machine that was believed lost has come back with them. They count where there are no
// others; else what failed in them is held against the subject besides.
func (e *Engine) late(ctx context.Context, c cert.Campaign) error {
	rows, err := e.DB.LateTries(ctx, c.ID, maxMoves)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error { return e.tookLate(tx, row) }); err != nil {
			return err
		}
	}
	if len(rows) > 0 {
		e.Review()
	}
	return nil
}

func (e *Engine) tookLate(tx *sqlite.CampaignTx, row sqlite.TryRow) error {
	g, err := tx.Target(row.Target)
	if err != nil {
		return err
	}
	s, err := tx.RunSubmission(row.Run)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(g.Tries, func(t cert.Try) bool { return t.Run == row.Run })
	if n < 0 || g.Tries[n].Submission == s.ID && g.Tries[n].State == cert.Completed {
		return nil
	}
	now := e.Now()
	try := &g.Tries[n]
	try.Submission, try.Counts, g.Updated = s.ID, s.Counts, now
	if try.Infra { // else it says something about the subject, whatever the machine has done since
		try.Failure = nil
	}
	try.State, try.Infra = cert.Completed, false // what failed in them did fail, whatever a later try made of it
	if g.State == cert.TargetMissing && !try.Partial() && try.Finding == "" {
		g.State, g.Why, g.Counted, g.Submission = cert.TargetComparing, "", try.Number, s.ID
	}
	if err := tx.PutTarget(g); err != nil {
		return err
	}
	if err := tx.ReviewTry(row.Run); err != nil {
		return err
	}
	return tx.Note(cert.CampaignEvent{Campaign: row.Campaign, At: now, Kind: "late", Who: holder, Target: g.ID,
		Text: fmt.Sprintf("%s: run %s was given up, and its results have come after all", try.Hostname, row.Run)})
}
