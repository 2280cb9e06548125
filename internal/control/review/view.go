package review

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

const (
	viewsKept     = 16
	viewDecisions = 20
	viewNames     = 10
	viewFor       = 30 * time.Second // that a view of an unchanged campaign is good: what follows from the time changes too
)

// views are those that were made last, by campaign. A view of a campaign that has not changed since is the same.
type views struct {
	mu  sync.Mutex
	all map[string]*viewed
}

type viewed struct {
	version int64
	at      time.Time
	view    cert.CampaignView
	targets []cert.Target
	assess  judge.Assessment

	mark     sqlite.Mark    // with which the next view reads on
	findings []cert.Finding // in need of attention, as they are assessed; nil: they are too many to keep, or nobody looks on
}

// viewFindings bounds the findings that are kept for the next view.
const viewFindings = 20_000

// View says how a campaign stands.
func (r *Review) View(ctx context.Context, name string) (cert.CampaignView, error) {
	v, err := r.viewed(ctx, name)
	if err != nil {
		return cert.CampaignView{}, err
	}
	out := v.view
	if c := &out.Campaign; c.Due != nil {
		days := c.Due.Sub(r.Now()).Hours() / 24
		if c.Finished != nil {
			days = c.Due.Sub(*c.Finished).Hours() / 24
		}
		out.DaysLeft = &days
	}
	return out, nil
}

func (r *Review) viewed(ctx context.Context, name string) (*viewed, error) {
	c, err := r.DB.Campaign(ctx, name)
	if err != nil {
		return nil, err
	}
	now := r.Now()
	r.views.mu.Lock()
	before := r.views.all[c.ID]
	r.views.mu.Unlock()
	if before != nil && before.version == c.Version && !now.Before(before.at) && now.Sub(before.at) < viewFor {
		return before, nil
	}
	v, err := r.look(ctx, c, now, before)
	if err != nil {
		return nil, err
	}
	r.views.mu.Lock()
	defer r.views.mu.Unlock()
	if r.views.all == nil {
		r.views.all = make(map[string]*viewed)
	}
	if len(r.views.all) >= viewsKept && r.views.all[c.ID] == nil {
		oldest := ""
		for id, other := range r.views.all {
			if oldest == "" || other.at.Before(r.views.all[oldest].at) {
				oldest = id
			}
		}
		delete(r.views.all, oldest)
	}
	r.views.all[c.ID] = v
	return v, nil
}

// look makes a view, after another if there is one. What is stored meanwhile may be in it or not; the next one has it.
func (r *Review) look(ctx context.Context, c cert.Campaign, now time.Time, before *viewed) (*viewed, error) {
	mark := r.DB.MarkOf(&c)
	facts, err := factsOf(since(ctx, r.DB, &c, before), c, now)
	if err != nil {
		return nil, err
	}
	assessed := judge.Assess(facts)
	out := cert.CampaignView{Campaign: c, Coverage: judge.CoverageOf(facts.Targets), Standing: assessed.Standing, By: assessed.By, Needs: assessed.Needs,
		StandCounts: map[string]int{}, Standings: map[string]string{}, Skips: []cert.SkipCount{}}
	for _, m := range assessed.Machines {
		out.StandCounts[m.Standing]++
	}
	for n := range facts.Findings {
		f := &facts.Findings[n]
		switch {
		case !f.Open():
			continue
		case f.Late:
			out.Late++
		case f.Blocker:
			out.Blockers++
		default:
			out.Others++
		}
	}
	if out.Counts, err = r.DB.FindingCounts(ctx, c.ID); err != nil {
		return nil, err
	}
	err = r.tallyOf(ctx, c.ID, func(t *tally) {
		out.Skips = t.skipCounts()
		out.Groups = judge.Group(standIns(facts.Targets, facts.Findings), t.ran)
	})
	if err != nil {
		return nil, err
	}
	if n := len(out.Groups) - cert.MaxGroups; n > 0 {
		out.Groups, out.More = out.Groups[:cert.MaxGroups], n
	}
	if err := r.describe(ctx, out.Groups); err != nil {
		return nil, err
	}
	out.Infra, out.Suspects = infra(facts.Targets)
	out.Changes = changed(facts.Targets)
	r.list(&out, facts.Targets, facts.Findings, &assessed)
	if v, err := r.DB.Verdict(ctx, c.ID); err == nil {
		out.Verdict = &v
	} else if cert.CodeOf(err) != cert.NotFound {
		return nil, err
	}
	out.Decisions = facts.Decisions[max(0, len(facts.Decisions)-viewDecisions):]
	if out.Needs == nil {
		out.Needs = []cert.Need{}
	}
	v := &viewed{version: c.Version, at: now, view: out, targets: facts.Targets, assess: assessed, mark: mark}
	if len(facts.Findings) <= viewFindings && !c.State.Final() {
		v.findings = facts.Findings
	}
	return v, nil
}

// standIns names in findings the machines that have stood in for others, for people. The findings that are handed in stay as they are.
func standIns(targets []cert.Target, findings []cert.Finding) []cert.Finding {
	shown := make(map[string]string)
	for n := range targets {
		if targets[n].RanOn() != "" {
			shown[targets[n].ID] = targets[n].Shown()
		}
	}
	if len(shown) == 0 {
		return findings
	}
	out := slices.Clone(findings)
	for n := range out {
		if name := shown[out[n].Target]; name != "" {
			out[n].Hostname = name
		}
	}
	return out
}

// describe fills in what the groups that are shown have beyond their numbers, of one finding each.
func (r *Review) describe(ctx context.Context, groups []cert.FindingGroup) error {
	ids := make([]string, 0, len(groups))
	for n := range groups {
		if len(groups[n].Findings) > 0 {
			ids = append(ids, groups[n].Findings[0])
		}
	}
	found, err := r.DB.FindingsOf(ctx, ids)
	if err != nil {
		return err
	}
	byID := make(map[string]*cert.Finding, len(found))
	for n := range found {
		byID[found[n].ID] = &found[n]
	}
	for n := range groups {
		g := &groups[n]
		if len(g.Findings) == 0 || byID[g.Findings[0]] == nil {
			continue
		}
		f := byID[g.Findings[0]]
		g.Text = f.Text
		if g.Issue == f.Issue {
			g.IssueLink = f.IssueLink
		}
		if f.Submission == "" || f.Index < 0 || g.Signature == "" {
			continue
		}
		excerpt, err := r.DB.Excerpt(ctx, f.Submission, f.Index)
		if err != nil {
			return err
		}
		g.Excerpt = firstLines(excerpt)
	}
	return nil
}

const (
	groupLines = 6
	groupBytes = 600
)

func firstLines(text string) string {
	lines := strings.SplitN(text, "\n", groupLines+1)
	text = strings.Join(lines[:min(len(lines), groupLines)], "\n")
	if len(text) > groupBytes {
		text = strings.ToValidUTF8(text[:groupBytes], "") + "…"
	}
	return text
}

// infra counts tries that say nothing about the subject, and those within incidents.
func infra(targets []cert.Target) (failures, suspects []cert.InfraCount) {
	type kind struct {
		count    cert.InfraCount
		machines map[string]bool
		after    map[string]int
		last     time.Time
	}
	sort := func(kinds map[string]*kind) []cert.InfraCount {
		out := []cert.InfraCount{}
		for _, k := range kinds {
			k.count.Machines = len(k.machines)
			var parts []string
			for _, word := range []string{"passed on another try", "failed again", "under way"} {
				if n := k.after[word]; n > 0 {
					parts = append(parts, fmt.Sprintf("%d %s", n, word))
				}
			}
			if n := k.after["given up"]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d given up", n))
			}
			k.count.Again = strings.Join(parts, ", ")
			out = append(out, k.count)
		}
		slices.SortFunc(out, func(a, b cert.InfraCount) int {
			return cmp.Or(cmp.Compare(b.Tries, a.Tries), strings.Compare(a.Failure, b.Failure))
		})
		return out
	}
	add := func(kinds map[string]*kind, name, message, became string, t *cert.Try) {
		k := kinds[name]
		if k == nil {
			k = &kind{count: cert.InfraCount{Failure: name}, machines: map[string]bool{}, after: map[string]int{}}
			kinds[name] = k
		}
		k.count.Tries++
		k.machines[t.Machine] = true
		k.after[became]++
		if !t.Created.Before(k.last) {
			k.last, k.count.Last = t.Created, message
		}
	}
	byType, byIncident := map[string]*kind{}, map[string]*kind{}
	for n := range targets {
		g := &targets[n]
		for i := range g.Tries {
			t := &g.Tries[i]
			became := "given up"
			switch {
			case g.State == cert.TargetDone:
				became = "passed on another try"
			case i+1 < len(g.Tries) && g.Tries[i+1].Infra:
				became = "failed again"
			case !g.State.Settled():
				became = "under way"
			}
			if t.Infra && t.Failure != nil {
				add(byType, t.Failure.Type, t.Failure.Message, became, t)
			}
			if t.Suspect != "" {
				message := "within incident " + t.Suspect
				if t.Failure != nil {
					message = t.Failure.Message
				}
				add(byIncident, t.Suspect, message, became, t)
			}
		}
	}
	return sort(byType), sort(byIncident)
}

// changed counts the machines on which something else than the subject is not as it was on the baseline.
func changed(targets []cert.Target) []cert.ChangeCount {
	whats, of := map[string]*cert.ChangeCount{}, 0
	for n := range targets {
		t := &targets[n]
		if t.Compared == nil || t.Compared.Baseline == nil {
			continue
		}
		of++
		seen := map[string]bool{}
		for _, ch := range t.Compared.Changes {
			if seen[ch.What] {
				continue
			}
			seen[ch.What] = true
			c := whats[ch.What]
			if c == nil {
				c = &cert.ChangeCount{What: ch.What, Example: ch}
				whats[ch.What] = c
			}
			c.Machines++
			if len(c.Names) < viewNames {
				c.Names = append(c.Names, t.Shown())
			}
		}
	}
	out := []cert.ChangeCount{}
	for _, what := range slices.Sorted(maps.Keys(whats)) {
		c := *whats[what]
		c.Of = of
		out = append(out, c)
	}
	return out
}

// list chooses the targets that the view names: those that need a look first.
func (r *Review) list(out *cert.CampaignView, targets []cert.Target, findings []cert.Finding, assessed *judge.Assessment) {
	open := make(map[string]int)
	for n := range findings {
		if findings[n].Open() {
			open[findings[n].Target]++
		}
	}
	standing := make(map[string]string, len(assessed.Machines))
	for _, m := range assessed.Machines {
		standing[m.Machine] = m.Standing
	}
	rank := func(t *cert.Target) int {
		switch {
		case t.State == cert.TargetExcluded:
			return 9
		case t.State == cert.TargetBlocked:
			return 0
		case standing[t.Machine] == cert.StandRejected:
			return 1
		case open[t.ID] > 0:
			return 2
		case t.State == cert.TargetMissing || t.State == cert.TargetCancelled:
			return 3
		case standing[t.Machine] == cert.StandUndecided:
			return 4
		case !t.State.Settled():
			return 5
		}
		return 6
	}
	order := make([]*cert.Target, len(targets))
	for n := range targets {
		order[n] = &targets[n]
	}
	slices.SortStableFunc(order, func(a, b *cert.Target) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(open[b.ID], open[a.ID]), strings.Compare(a.Hostname, b.Hostname), strings.Compare(a.ID, b.ID))
	})
	out.Machines = []cert.Target{}
	for _, t := range order[:min(len(order), cert.MaxViewTargets)] {
		out.Machines = append(out.Machines, *t)
		if s, ok := standing[t.Machine]; ok {
			out.Standings[t.Machine] = s
		}
	}
	out.MoreMachines = len(order) - len(out.Machines)
}

// Campaigns lists campaigns, the newest first, with how each stands.
func (r *Review) Campaigns(ctx context.Context, f sqlite.CampaignFilter, p sqlite.Page) (cert.CampaignList, error) {
	all, next, err := r.DB.Campaigns(ctx, f, p)
	if err != nil {
		return cert.CampaignList{}, err
	}
	out := cert.CampaignList{Campaigns: []cert.CampaignSummary{}, Next: next}
	for _, c := range all {
		s, err := r.summarise(ctx, c)
		if err != nil {
			return out, err
		}
		out.Campaigns = append(out.Campaigns, s)
	}
	return out, nil
}

// summarise says how a campaign stands, from what the database counts.
func (r *Review) summarise(ctx context.Context, c cert.Campaign) (cert.CampaignSummary, error) {
	s := cert.CampaignSummary{Campaign: c, Standing: cert.StandWaiting}
	counts, err := r.DB.CoverageCounts(ctx, c.ID)
	if err != nil {
		return s, err
	}
	s.Coverage = coverage(counts)
	if s.Open, s.Blockers, err = r.DB.OpenFindings(ctx, c.ID); err != nil {
		return s, err
	}
	switch c.State {
	case cert.CampaignApproved:
		s.Standing = cert.StandApproved
	case cert.CampaignRejected:
		s.Standing = cert.StandRejected
	case cert.CampaignDeciding:
		s.Standing = cert.StandUndecided
	}
	return s, nil
}

// coverage is judge.CoverageOf from counts, without what is in the targets themselves.
func coverage(counts []sqlite.CoverageCount) cert.Coverage {
	c := cert.Coverage{Why: map[string]int{}}
	for _, k := range counts {
		switch {
		case k.State == cert.TargetExcluded:
			c.Excluded += k.N
			continue
		case !k.Required:
			c.Optional += k.N
			continue
		}
		c.Required += k.N
		switch k.State {
		case cert.TargetWaiting:
			c.Waiting += k.N
		case cert.TargetQueued:
			c.Queued += k.N
		case cert.TargetProvisioning:
			c.Provisioning += k.N
		case cert.TargetRunning, cert.TargetComparing:
			c.Running += k.N
		case cert.TargetDone:
			c.Done += k.N
		case cert.TargetBlocked:
			c.Blocked += k.N
		default:
			c.Missing += k.N
		}
	}
	return c
}
