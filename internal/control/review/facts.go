package review

import (
	"context"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

// reading is what facts are read from: the database, or a transaction.
type reading interface {
	targets(campaign string) ([]cert.Target, error)
	findings(campaign string) ([]cert.Finding, error)
	decisions(campaign string) ([]cert.Decision, error)
	issue(id string) (cert.KnownIssue, error)
}

// inTx reads in a transaction.
type inTx struct{ tx *sqlite.CampaignTx }

func (r inTx) targets(c string) ([]cert.Target, error)     { return r.tx.Targets(c) }
func (r inTx) findings(c string) ([]cert.Finding, error)   { return r.tx.FindingFacts(c) }
func (r inTx) decisions(c string) ([]cert.Decision, error) { return r.tx.CampaignDecisions(c) }
func (r inTx) issue(id string) (cert.KnownIssue, error)    { return r.tx.Issue(id) }

// inDB reads what was committed last.
type inDB struct {
	ctx context.Context
	db  *sqlite.DB
}

func (r inDB) targets(c string) ([]cert.Target, error)     { return r.db.Targets(r.ctx, c) }
func (r inDB) findings(c string) ([]cert.Finding, error)   { return r.db.FindingFacts(r.ctx, c) }
func (r inDB) decisions(c string) ([]cert.Decision, error) { return r.db.CampaignDecisions(r.ctx, c) }
func (r inDB) issue(id string) (cert.KnownIssue, error)    { return r.db.Issue(r.ctx, id) }

// factsOf reads what assessing a campaign needs. Of findings that is what their columns say, not their texts.
func factsOf(in reading, c cert.Campaign, now time.Time) (judge.Facts, error) {
	f := judge.Facts{Campaign: c, Now: now}
	var err error
	if f.Targets, err = in.targets(c.ID); err != nil {
		return f, err
	}
	if f.Findings, err = in.findings(c.ID); err != nil {
		return f, err
	}
	if f.Decisions, err = in.decisions(c.ID); err != nil {
		return f, err
	}
	return f, complete(in, &f)
}

// complete adds the known issues that the findings name, and names the machines.
func complete(in reading, f *judge.Facts) error {
	hosts := make(map[string]*cert.Target, len(f.Targets))
	for n := range f.Targets {
		hosts[f.Targets[n].ID] = &f.Targets[n]
	}
	seen := make(map[string]bool)
	for n := range f.Findings {
		one := &f.Findings[n]
		if t := hosts[one.Target]; t != nil {
			one.Hostname, one.HWClass, one.Plan = t.Hostname, t.Class, t.Plan
		}
		if one.Issue == "" || seen[one.Issue] {
			continue
		}
		seen[one.Issue] = true
		k, err := in.issue(one.Issue)
		if cert.CodeOf(err) == cert.NotFound {
			continue // then it excuses nothing
		}
		if err != nil {
			return err
		}
		f.Issues = append(f.Issues, k)
	}
	return nil
}
