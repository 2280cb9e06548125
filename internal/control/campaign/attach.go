package campaign

import (
	"context"
	"fmt"
	"slices"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// AttachSubmission counts a submission that was made by hand for its machine's target. It has to be of the target's plan, and to say by itself that it is
// of the subject: nobody has watched the machine meanwhile. A submission counts in one campaign only.
func (e *Engine) AttachSubmission(ctx context.Context, name string, a cert.AttachSubmission, by string, role cert.Role) (cert.Target, error) {
	if err := mayRun(role, "attach a submission"); err != nil {
		return cert.Target{}, err
	}
	if err := oneReason(a.Reason, "attach a submission"); err != nil {
		return cert.Target{}, err
	}
	s, err := e.DB.Submission(ctx, a.Submission)
	if err != nil {
		return cert.Target{}, err
	}
	side, err := e.DB.Side(ctx, a.Submission)
	if err != nil {
		return cert.Target{}, err
	}
	refuse := func(format string, args ...any) error {
		return cert.Errorf(cert.Conflict, "cannot attach submission %s: %s", s.ID, fmt.Sprintf(format, args...))
	}
	switch s.IndexState {
	case cert.IndexDone:
	case cert.IndexPending:
		return cert.Target{}, refuse("it has not been read yet (try again in some seconds)")
	default:
		return cert.Target{}, refuse("it cannot be read: %s", s.IndexError)
	}
	var out cert.Target
	err = e.DB.ChangeCampaigns(ctx, func(tx *sqlite.CampaignTx) error {
		c, err := tx.Campaign(name)
		if err != nil {
			return err
		}
		if row, err := tx.TryOfRun(s.Run); err == nil {
			if row.Campaign == c.ID {
				out, err = tx.Target(row.Target) // done before
				return err
			}
			other, err := tx.Campaign(row.Campaign)
			if err != nil {
				return err
			}
			return refuse("it counts in campaign %s already, and can count in one only", other.Name)
		} else if cert.CodeOf(err) != cert.NotFound {
			return err
		}
		if c.State.Final() {
			return refuse("campaign %s is %s, and what comes after that does not change it", c.Name, c.State)
		}
		targets, err := tx.Targets(c.ID)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(targets, func(g cert.Target) bool {
			return g.Machine == s.Machine && g.Plan == s.Plan && g.State != cert.TargetExcluded
		})
		if n < 0 {
			return refuse("%s", misplaced(c, targets, s))
		}
		g := targets[n]
		switch {
		case !g.State.Settled() && g.State != cert.TargetWaiting:
			return refuse("%s is %s in campaign %s: wait until that is over, or cancel its run", g.Hostname, g.State, c.Name)
		case len(g.Tries) >= cert.MaxTriesKept:
			return refuse("%s was tried %d times, and that is as often as may be", g.Hostname, len(g.Tries))
		}
		if why := unproved(c.Subject, side.Kernel); why != "" {
			return refuse("%s", why)
		}
		run, err := tx.Run(s.Run)
		if err != nil {
			return err
		}
		now := e.Now()
		g.Tries = append(g.Tries, cert.Try{Number: len(g.Tries) + 1, Purpose: cert.TryAttached, Machine: s.Machine, Hostname: s.Hostname, Run: s.Run, By: by, Created: now, Asked: &now,
			Started: run.Started, Ended: &now, State: cert.Completed, Counts: s.Counts, Submission: s.ID})
		g.Counted, g.Submission, g.State, g.Why, g.Next, g.NotBefore, g.Then, g.Updated = len(g.Tries), s.ID, cert.TargetComparing, "", nil, nil, "", now
		if err := tx.PutTarget(g); err != nil {
			return err
		}
		out = g
		if c.State == cert.CampaignDeciding { // there is something to compare
			c.State = cert.CampaignActive
			if err := tx.PutCampaign(c); err != nil {
				return err
			}
		}
		return tx.Note(cert.CampaignEvent{Campaign: c.ID, At: now, Kind: "attached", Who: by, Target: g.ID, Text: because(fmt.Sprintf("%s: submission %s was attached", g.Hostname, s.ID), a.Reason)})
	})
	if err != nil {
		return cert.Target{}, err
	}
	e.Wake()
	e.Review()
	return out, nil
}

// misplaced says why no target of a campaign is a submission's.
func misplaced(c cert.Campaign, targets []cert.Target, s cert.Submission) string {
	for _, g := range targets {
		switch {
		case g.Machine != s.Machine:
		case g.State == cert.TargetExcluded:
			return fmt.Sprintf("%s is excluded from campaign %s: %s", g.Hostname, c.Name, g.Why)
		default:
			return fmt.Sprintf("it is of plan %s, and campaign %s runs %s on %s", s.Plan, c.Name, g.Plan, g.Hostname)
		}
	}
	return fmt.Sprintf("its machine, %s, is not in campaign %s", s.Hostname, c.Name)
}

// unproved says why a submission that was made by hand does not prove the subject; empty: it does.
func unproved(s cert.Subject, kernel string) string {
	switch s.Kind {
	case cert.SubjectMachine:
		return ""
	case cert.SubjectKernel:
		release, err := s.KernelRelease()
		switch {
		case err != nil:
			return err.Error()
		case kernel == "":
			return fmt.Sprintf("it does not say which kernel ran, so that nothing proves that it was %s", release)
		case kernel != release:
			return fmt.Sprintf("it was made on kernel %s, and the campaign is of %s", kernel, release)
		}
		return ""
	}
	return fmt.Sprintf("nothing in it proves that it is of %s: have it run instead", s.Title())
}
