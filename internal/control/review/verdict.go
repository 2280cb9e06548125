package review

import (
	"context"
	"encoding/json"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

// Verdict returns a campaign's verdict. It fails as NotFound, and says then how the campaign stands.
func (r *Review) Verdict(ctx context.Context, name string) (cert.Verdict, error) {
	c, err := r.DB.Campaign(ctx, name)
	if err != nil {
		return cert.Verdict{}, err
	}
	v, err := r.DB.Verdict(ctx, c.ID)
	if cert.CodeOf(err) == cert.NotFound {
		return v, cert.Errorf(cert.NotFound, "there is no verdict on campaign %s: it is %s", c.Name, c.State)
	}
	return v, err
}

// giveVerdict stores a campaign's verdict, and makes the campaign final. The decision that it rests on is the last one that facts know.
func (r *Review) giveVerdict(tx *sqlite.CampaignTx, facts *judge.Facts, outcome, by, reason string) (cert.Verdict, error) {
	c := facts.Campaign
	head := ""
	if n := len(facts.Decisions); n > 0 {
		head = facts.Decisions[n-1].Hash
	}
	hashes, err := tx.SubmissionHashes(c.ID)
	if err != nil {
		return cert.Verdict{}, err
	}
	all := *facts
	if all.Findings, err = tx.AllFacts(c.ID); err != nil { // what is good is counted too
		return cert.Verdict{}, err
	}
	if err := complete(inTx{tx}, &all); err != nil {
		return cert.Verdict{}, err
	}
	v, err := judge.VerdictOf(all, judge.Assess(all), outcome, by, reason, head, hashes)
	if err != nil {
		return v, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return v, fmt.Errorf("cannot encode a verdict: %w", err)
	}
	if err := tx.AddVerdict(v, string(data)); err != nil {
		return v, err
	}
	at := v.At
	c.State, c.Finished = cert.CampaignState(v.Outcome), &at
	if err := tx.PutCampaign(c); err != nil {
		return v, err
	}
	facts.Campaign = c
	return v, tx.Note(cert.CampaignEvent{Campaign: c.ID, At: at, Kind: "verdict", Who: by, Text: fmt.Sprintf("%s by %s: %s", v.Outcome, by, reason)})
}

// DecideAll has the policy decide on campaigns in which nothing more runs by itself, where the policy may and it is clear.
func (r *Review) DecideAll(ctx context.Context) error {
	open, err := r.DB.OpenCampaigns(ctx)
	if err != nil {
		return err
	}
	for n := range open {
		c := &open[n]
		if c.State == cert.CampaignPaused || !c.Rules.Decide.Auto {
			continue
		}
		if clear, err := r.mayBeClear(ctx, c); err != nil || !clear {
			if err != nil {
				return err
			}
			continue
		}
		if err := r.byPolicy(ctx, c.ID); err != nil {
			return fmt.Errorf("cannot decide on campaign %s: %w", c.Name, err)
		}
	}
	return nil
}

// mayBeClear looks at what is cheap to look at: only a campaign without anything open is looked at whole.
func (r *Review) mayBeClear(ctx context.Context, c *cert.Campaign) (bool, error) {
	counts, err := r.DB.TargetCounts(ctx, c.ID)
	if err != nil {
		return false, err
	}
	for state, n := range counts {
		if n > 0 && !state.Settled() {
			return false, nil
		}
	}
	if counts[cert.TargetDone] == 0 {
		return false, nil
	}
	open, _, err := r.DB.OpenFindings(ctx, c.ID)
	if err != nil || open > 0 {
		return false, err
	}
	waiting, err := r.DB.UnreviewedTargets(ctx, c.ID, "", 1)
	return len(waiting) == 0, err
}

// byPolicy gives the verdict that the policy gives, if it does.
func (r *Review) byPolicy(ctx context.Context, id string) error {
	decided := false
	err := r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		decided = false
		c, err := tx.Campaign(id)
		if err != nil || c.State.Final() || c.State == cert.CampaignPaused {
			return err
		}
		if waiting, err := tx.UnreviewedTargets(c.ID, "", 1); err != nil || len(waiting) > 0 {
			return err
		}
		facts, err := factsOf(inTx{tx}, c, r.Now())
		if err != nil {
			return err
		}
		draft, ok := judge.ByPolicy(facts)
		if !ok {
			return nil
		}
		if _, err := r.append(tx, &facts, []cert.Decision{draft}); err != nil {
			return err
		}
		_, err = r.giveVerdict(tx, &facts, string(cert.CampaignApproved), cert.ByPolicy, draft.Reason)
		decided = err == nil
		return err
	})
	if decided && err == nil {
		r.woken()
	}
	return err
}

// reopen adds to the log that a decision on a machine or on the campaign does not hold any more, where what is known now contradicts it.
func (r *Review) reopen(tx *sqlite.CampaignTx, c *cert.Campaign, machine string) error {
	on, err := tx.DecisionsOn(c.ID, machine)
	if err != nil || len(on) == 0 {
		return err
	}
	facts, err := factsOf(inTx{tx}, *c, r.Now())
	if err != nil {
		return err
	}
	_, err = r.append(tx, &facts, judge.Reopens(facts))
	return err
}

// EndWaivers brings findings up to waivers whose end has come.
func (r *Review) EndWaivers(ctx context.Context) error {
	ended, err := r.DB.EndedWaivers(ctx, r.Now())
	if err != nil {
		return err
	}
	for _, d := range ended {
		err := r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
			c, err := tx.Campaign(d.Campaign)
			if err != nil || c.State.Final() {
				return err
			}
			facts, err := factsOf(inTx{tx}, c, r.Now())
			if err != nil {
				return err
			}
			if err := r.waive(tx, &facts); err != nil {
				return err
			}
			_, err = r.append(tx, &facts, judge.Reopens(facts))
			if err != nil {
				return err
			}
			return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: r.Now(), Kind: "waiver-ended", Who: lab, Text: fmt.Sprintf("waiver %d by %s has run out: %s", d.Seq, d.By, d.Reason)})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
