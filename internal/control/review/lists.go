package review

import (
	"context"
	"encoding/base64"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

// Targets lists a campaign's targets by hostname. A filter chooses among them by machine, state, standing, query and what their findings are like.
func (r *Review) Targets(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.TargetList, error) {
	out := cert.TargetList{Targets: []cert.Target{}}
	if err := f.Validate(); err != nil {
		return out, err
	}
	skip, err := parseOffset("targets", p)
	if err != nil {
		return out, err
	}
	v, err := r.viewed(ctx, name)
	if err != nil {
		return out, err
	}
	fits, err := r.chooser(ctx, v, f)
	if err != nil {
		return out, err
	}
	seen := 0
	for n := range v.targets {
		t := &v.targets[n]
		if !fits(t) {
			continue
		}
		if seen++; seen <= skip {
			continue
		}
		if len(out.Targets) == p.Limit {
			out.Next = offset("targets", skip+p.Limit)
			break
		}
		out.Targets = append(out.Targets, *t)
	}
	return out, nil
}

// chooser returns what tells whether a filter fits a target.
func (r *Review) chooser(ctx context.Context, v *viewed, f cert.Filter) (func(*cert.Target) bool, error) {
	var query *cert.Query
	if f.Query != "" {
		q, err := cert.ParseQuery(f.Query)
		if err != nil {
			return nil, err
		}
		q = q.AnyState()
		query = &q
	}
	fleet, err := r.fleet(ctx, query != nil)
	if err != nil {
		return nil, err
	}
	var with map[string]bool
	if f.Class != "" || f.Job != "" || f.Issue != "" || f.Signature != "" || f.Open != nil || f.Blocker != nil || f.New != nil {
		ids, err := r.DB.FindingTargets(ctx, v.view.Campaign.ID, sqlite.FindingFilter{Filter: cert.Filter{Class: f.Class, Job: f.Job, Issue: f.Issue, Signature: f.Signature,
			Open: f.Open, Blocker: f.Blocker, New: f.New}})
		if err != nil {
			return nil, err
		}
		with = make(map[string]bool, len(ids))
		for _, id := range ids {
			with[id] = true
		}
	}
	standing := make(map[string]string, len(v.assess.Machines))
	for _, m := range v.assess.Machines {
		standing[m.Machine] = m.Standing
	}
	return func(t *cert.Target) bool {
		switch {
		case f.Machine != "" && f.Machine != t.Hostname && f.Machine != t.Machine,
			f.Target != "" && f.Target != t.ID,
			f.State != "" && f.State != string(t.State),
			f.Standing != "" && f.Standing != standing[t.Machine],
			query != nil && (fleet[t.Machine] == nil || query.Match(fleet[t.Machine]) != ""),
			with != nil && !with[t.ID]:
			return false
		}
		return true
	}, nil
}

func offset(kind string, n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("%s.%d", kind, n)))
}

func parseOffset(kind string, p sqlite.Page) (n int, err error) {
	if p.Limit < 1 || p.Limit > sqlite.MaxLimit {
		return 0, cert.Errorf(cert.Invalid, "cannot list %d rows: the limit must be between 1 and %d", p.Limit, sqlite.MaxLimit)
	}
	if p.Cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err == nil {
		_, err = fmt.Sscanf(string(text), kind+".%d", &n)
	}
	if err != nil || n < 0 {
		return 0, cert.Errorf(cert.Invalid, "cannot continue the list: the cursor is not one that this list gave")
	}
	return n, nil
}

// Findings lists a campaign's findings, those that need a look first.
func (r *Review) Findings(ctx context.Context, name string, f cert.Filter, p sqlite.Page) (cert.FindingList, error) {
	out := cert.FindingList{Findings: []cert.Finding{}}
	if err := f.Validate(); err != nil {
		return out, err
	}
	c, err := r.DB.Campaign(ctx, name)
	if err != nil {
		return out, err
	}
	in := sqlite.FindingFilter{Filter: f}
	if f.Machine != "" || f.Query != "" || f.Standing != "" || f.State != "" {
		v, err := r.viewed(ctx, c.ID)
		if err != nil {
			return out, err
		}
		fits, err := r.chooser(ctx, v, cert.Filter{Machine: f.Machine, Query: f.Query, Standing: f.Standing, State: f.State})
		if err != nil {
			return out, err
		}
		in.Targets = []string{}
		for n := range v.targets {
			if fits(&v.targets[n]) {
				in.Targets = append(in.Targets, v.targets[n].ID)
			}
		}
		if len(in.Targets) == 0 && f.Machine != "" {
			return out, cert.Errorf(cert.NotFound, "there is no machine %q in campaign %s", f.Machine, c.Name)
		}
	}
	out.Findings, out.Next, err = r.DB.Findings(ctx, c.ID, in, p)
	return out, err
}

// Events lists what happened in a campaign, the newest first.
func (r *Review) Events(ctx context.Context, name string, p sqlite.Page) (cert.CampaignEventList, error) {
	c, err := r.DB.Campaign(ctx, name)
	if err != nil {
		return cert.CampaignEventList{}, err
	}
	events, next, err := r.DB.CampaignEvents(ctx, c.ID, p)
	return cert.CampaignEventList{Events: events, Next: next}, err
}

// Decisions lists decisions, the oldest first: of one campaign, or of all if name is empty. With verify, it says whether the whole log is as it was
// written: each entry's bytes have the hash that it names, and each names the hash of the one before.
func (r *Review) Decisions(ctx context.Context, name string, verify bool, p sqlite.Page) (cert.DecisionList, error) {
	campaign := ""
	if name != "" {
		c, err := r.DB.Campaign(ctx, name)
		if err != nil {
			return cert.DecisionList{}, err
		}
		campaign = c.ID
	}
	all, next, err := r.DB.Decisions(ctx, campaign, p)
	out := cert.DecisionList{Decisions: all, Next: next}
	if err != nil || !verify {
		return out, err
	}
	broken, err := r.verify(ctx)
	if err != nil {
		return out, err
	}
	intact := broken == ""
	out.Intact, out.Broken = &intact, broken
	return out, nil
}

// verify says where the log of decisions is not as it was written; empty: nowhere.
func (r *Review) verify(ctx context.Context) (string, error) {
	var prev *cert.Decision
	broken := ""
	err := r.DB.EachDecision(ctx, func(e sqlite.DecisionEntry) error {
		if broken != "" {
			return nil
		}
		d, err := entryOf(e)
		if err == nil {
			err = judge.VerifyChain(prev, []cert.Decision{d})
		}
		if err != nil {
			broken = err.Error()
			return nil
		}
		prev = &d
		return nil
	})
	return broken, err
}
