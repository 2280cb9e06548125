package review

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

const (
	quietFor   = 90 * 24 * time.Hour // after which a rule that recognised nothing is stale
	relinkStep = 200                 // findings of one transaction
	relinkTime = 3 * time.Second     // that saving a rule waits for the findings that there are; the loop does the rest
)

// Issues lists known issues; stale ones only: those that have recognised nothing for long, or have run out.
func (r *Review) Issues(ctx context.Context, stale bool, p sqlite.Page) (cert.IssueList, error) {
	var quiet *time.Time
	if stale {
		since := r.Now().Add(-quietFor)
		quiet = &since
	}
	all, next, err := r.DB.Issues(ctx, quiet, r.Now(), p)
	return cert.IssueList{Issues: all, Next: next}, err
}

// Issue returns a known issue as it is in force.
func (r *Review) Issue(ctx context.Context, id string) (cert.KnownIssue, error) {
	return r.DB.Issue(ctx, id)
}

// SaveIssue adds a known issue, or makes a new version of one, and applies it to the findings of campaigns that are not final.
func (r *Review) SaveIssue(ctx context.Context, k cert.KnownIssue, by string, role cert.Role) (cert.SavedIssue, error) {
	now := r.Now()
	if err := k.Validate(); err != nil {
		return cert.SavedIssue{}, err
	}
	if k.Expires != nil && !k.Expires.After(now) {
		return cert.SavedIssue{}, cert.Errorf(cert.Invalid, "cannot save the known issue: it would have run out on %s already (name a later time, or close it)", k.Expires.Format(time.RFC3339))
	}
	if k.HidesBlockers {
		if err := mayHide(role); err != nil {
			return cert.SavedIssue{}, err
		}
	}
	return r.saveIssue(ctx, by, func(tx *sqlite.CampaignTx) (cert.KnownIssue, error) {
		if k.ID == "" {
			k.ID, k.Version, k.Created, k.By = cert.NewID(cert.IssueID, now), 1, now, by
			k.Closed = nil
		} else {
			old, err := tx.Issue(k.ID)
			if err != nil {
				return k, err
			}
			if old.Version != k.Version {
				return k, cert.Errorf(cert.Conflict, "cannot change known issue %s: version %d is in force, and this change began with version %d (%s changed it meanwhile; look at it again)",
					k.ID, old.Version, k.Version, old.By)
			}
			if old.HidesBlockers {
				if err := mayHide(role); err != nil {
					return k, err
				}
			}
			k.Version, k.Created, k.By = old.Version+1, old.Created, by
		}
		k.Updated = now
		return k, tx.AddIssue(k, now)
	})
}

// mayHide refuses rules that let blockers pass to those who could not waive them.
func mayHide(role cert.Role) error {
	if role.May(cert.Signer) {
		return nil
	}
	return cert.Errorf(cert.Forbidden, "cannot save a known issue that hides blockers: that takes the role %s, since it lets campaigns be approved that otherwise would not be", cert.Signer)
}

// CloseIssue says that a known issue is fixed: it recognises nothing from now on.
func (r *Review) CloseIssue(ctx context.Context, id, reason, by string, role cert.Role) (cert.SavedIssue, error) {
	now := r.Now()
	return r.saveIssue(ctx, by, func(tx *sqlite.CampaignTx) (cert.KnownIssue, error) {
		k, err := tx.Issue(id)
		if err != nil {
			return k, err
		}
		if k.Closed != nil {
			return k, cert.Errorf(cert.Conflict, "known issue %s is closed already, since %s", id, k.Closed.Format(time.RFC3339))
		}
		k.Version, k.Closed, k.Updated, k.By = k.Version+1, &now, now, by
		if reason != "" {
			k.Reason = reason
		}
		return k, tx.AddIssue(k, now)
	})
}

func (r *Review) saveIssue(ctx context.Context, by string, change func(*sqlite.CampaignTx) (cert.KnownIssue, error)) (cert.SavedIssue, error) {
	var out cert.SavedIssue
	err := r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		k, err := change(tx)
		if err != nil {
			return err
		}
		out.KnownIssue = k
		return tx.BeginRelink()
	})
	if err != nil {
		return cert.SavedIssue{}, err
	}
	r.Nudge() // if the time is not enough
	out.Linked, out.Unlinked, err = r.relink(ctx, out.ID, r.Now().Add(relinkTime))
	if err != nil {
		return out, err
	}
	if saved, err := r.DB.Issue(ctx, out.ID); err == nil {
		out.KnownIssue = saved
	}
	return out, nil
}

// Relink applies known issues to the findings that there are, if one of them has changed, until it is done. It goes on where the one before was
// when it was stopped.
func (r *Review) Relink(ctx context.Context) error {
	_, _, err := r.relink(ctx, "", time.Time{})
	return err
}

// relink returns how many findings the issue recognises that it did not before, and the other way round.
func (r *Review) relink(ctx context.Context, issue string, until time.Time) (linked, unlinked int, err error) {
	r.again.Lock()
	defer r.again.Unlock()
	began := time.Now()
	touched := make(map[string]bool)
	for {
		at, under, err := r.DB.Relinking(ctx)
		if err != nil || !under || !until.IsZero() && time.Since(began) > relinkTime {
			if err == nil {
				err = r.reopenAll(ctx, touched)
			}
			return linked, unlinked, err
		}
		page, err := r.DB.FindingsOfOpen(ctx, at.After, relinkStep)
		if err != nil {
			return linked, unlinked, err
		}
		more, less, err := r.relinkPage(ctx, page, issue, touched)
		if err != nil {
			return linked, unlinked, err
		}
		linked, unlinked = linked+more, unlinked+less
	}
}

// relinkPage applies known issues to some findings, in one transaction.
func (r *Review) relinkPage(ctx context.Context, page []cert.Finding, issue string, touched map[string]bool) (linked, unlinked int, err error) {
	issues, err := r.DB.ActiveIssues(ctx)
	if err != nil {
		return 0, 0, err
	}
	needs := needsOf(issues)
	fleet, err := r.fleet(ctx, needs.machines)
	if err != nil {
		return 0, 0, err
	}
	logs := make([]string, len(page))
	if needs.logs {
		for n, f := range page {
			if f.Submission != "" && f.Index >= 0 {
				if logs[n], err = r.DB.Excerpt(ctx, f.Submission, f.Index); err != nil {
					return 0, 0, err
				}
			}
		}
	}
	matcher := judge.CompileIssues(issues, r.Now())
	err = r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		linked, unlinked = 0, 0
		if len(page) == 0 {
			return tx.EndRelink()
		}
		campaigns := make(map[string]cert.Campaign)
		for n, f := range page {
			now, err := tx.Finding(f.ID)
			if cert.CodeOf(err) == cert.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			c, ok := campaigns[now.Campaign]
			if !ok {
				if c, err = tx.Campaign(now.Campaign); err != nil {
					return err
				}
				campaigns[now.Campaign] = c
			}
			if c.State.Final() {
				continue
			}
			was := now
			matcher.Apply(&now, hitOf(&c, &now, logs[n], fleet[now.Machine]))
			if now.Issue == was.Issue && now.IssueLink == was.IssueLink && now.Excused == was.Excused {
				continue
			}
			if was.Issue != issue && now.Issue == issue {
				linked++
			} else if was.Issue == issue && now.Issue != issue {
				unlinked++
			}
			if err := tx.PutFinding(now); err != nil {
				return err
			}
			tx.Touch(c.ID)
			touched[c.ID] = true
		}
		return tx.RelinkedTo(page[len(page)-1].ID)
	})
	return linked, unlinked, err
}

// asked is what rules ask for beyond what a finding says.
type asked struct{ machines, logs bool }

func needsOf(issues []cert.KnownIssue) (n asked) {
	for _, k := range issues {
		n.machines = n.machines || k.Match.Machines != ""
		n.logs = n.logs || k.Match.Log != ""
	}
	return n
}

// reopenAll reopens decisions that do not hold any more in some campaigns.
func (r *Review) reopenAll(ctx context.Context, campaigns map[string]bool) error {
	for id := range campaigns {
		err := r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
			c, err := tx.Campaign(id)
			if err != nil || c.State.Final() {
				return err
			}
			facts, err := factsOf(inTx{tx}, c, r.Now())
			if err != nil {
				return err
			}
			_, err = r.append(tx, &facts, judge.Reopens(facts))
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot reopen decisions: %w", err)
		}
	}
	return nil
}

// EndIssues ends known issues whose end has come, and takes back what they have recognised.
func (r *Review) EndIssues(ctx context.Context) error {
	ended, err := r.DB.IssuesEnded(ctx, r.Now())
	if err != nil || len(ended) == 0 {
		return err
	}
	return r.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		for _, k := range ended {
			if err := tx.EndIssue(k.ID); err != nil {
				return err
			}
		}
		return tx.BeginRelink()
	})
}
