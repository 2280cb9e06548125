package review

import (
	"context"
	"slices"
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

// inDB reads what was committed last. Of what an earlier view has read, it reads only what has changed since: views are for people, and nothing is
// decided by them.
type inDB struct {
	ctx    context.Context
	db     *sqlite.DB
	before *viewed // nil: none
	moved  []string
}

// since returns what reads a campaign's facts after a view of it; nil: none.
func since(ctx context.Context, db *sqlite.DB, c *cert.Campaign, v *viewed) inDB {
	r := inDB{ctx: ctx, db: db}
	if v == nil || v.findings == nil || v.version > c.Version {
		return r
	}
	if moved, ok := db.MovedTargets(c.ID, v.mark); ok && len(moved) <= len(v.targets)/4 {
		r.before, r.moved = v, moved
	}
	return r
}

func (r inDB) targets(c string) ([]cert.Target, error) {
	if r.before == nil {
		return r.db.Targets(r.ctx, c)
	}
	now, err := r.db.TargetsByID(r.ctx, r.moved)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(r.before.targets)
	for n := range out {
		if t, ok := now[out[n].ID]; ok {
			out[n] = t
			delete(now, t.ID)
		}
	}
	if len(now) > 0 { // there are more than there were
		return r.db.Targets(r.ctx, c)
	}
	return out, nil
}

func (r inDB) findings(c string) ([]cert.Finding, error) {
	if r.before == nil {
		return r.db.FindingFacts(r.ctx, c)
	}
	now, err := r.db.TargetFacts(r.ctx, r.moved)
	if err != nil {
		return nil, err
	}
	moved := make(map[string]bool, len(r.moved))
	for _, id := range r.moved {
		moved[id] = true
	}
	out := make([]cert.Finding, 0, len(r.before.findings)+len(now))
	for n := range r.before.findings {
		if !moved[r.before.findings[n].Target] {
			out = append(out, r.before.findings[n])
		}
	}
	return append(out, now...), nil
}

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
