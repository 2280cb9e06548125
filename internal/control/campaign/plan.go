package campaign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
)

// A planned campaign is all of one before it is stored.
type planned struct {
	c        cert.Campaign
	targets  []cert.Target
	warnings []string
}

func (p *planned) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// PlanCampaign says what a campaign would do, and does nothing.
func (e *Engine) PlanCampaign(ctx context.Context, want cert.NewCampaign, by string) (cert.CampaignPlan, error) {
	p, err := e.plan(ctx, want, by)
	if err != nil {
		return cert.CampaignPlan{}, err
	}
	return e.told(ctx, &p)
}

// plan decides everything about a campaign that is asked for: its policy, its baseline, its machines and their plans.
func (e *Engine) plan(ctx context.Context, want cert.NewCampaign, by string) (planned, error) {
	now := e.Now()
	if err := want.Validate(now); err != nil {
		return planned{}, err
	}
	ref, rules, departed, err := e.policy(ctx, want)
	if err != nil {
		return planned{}, err
	}
	p := planned{c: cert.Campaign{ID: want.ID, Name: want.Name, Kind: want.Kind, State: cert.CampaignActive, Subject: want.Subject, Policy: ref, Rules: rules,
		Machines: want.Machines, Priority: want.Priority, AtOnce: want.AtOnce, Due: want.Due, Created: now, By: by, Reason: want.Reason, Request: requestHash(want, by)}, warnings: []string{}}
	if p.c.ID == "" {
		p.c.ID = cert.NewID(cert.CampaignID, now)
	}
	if p.c.AtOnce == 0 {
		p.c.AtOnce = rules.AtOnce
	}
	if p.c.Due == nil && rules.Deadline.Days > 0 {
		due := now.Add(days(rules.Deadline.Days))
		p.c.Due = &due
	}
	if p.c.Subject.Kind == cert.SubjectKernel {
		p.c.Subject.Flavour = p.c.Subject.KernelFlavour()
	}
	if p.c.Name == "" {
		p.c.Name = nameFor(p.c)
	}
	if err := e.baseline(ctx, &p, want.Baseline); err != nil {
		return planned{}, err
	}
	if err := e.choose(ctx, &p); err != nil {
		return planned{}, err
	}
	p.c.Size = len(p.targets)
	if departed {
		p.warn("it does not run or compare what policy %s says, but what was asked for: a person has to decide", ref.Name)
	}
	return p, e.doubts(ctx, &p)
}

func days(d float64) time.Duration  { return time.Duration(d * 24 * float64(time.Hour)) }
func hours(h float64) time.Duration { return time.Duration(h * float64(time.Hour)) }

// nameFor makes a campaign's name from its subject.
func nameFor(c cert.Campaign) string {
	s := c.Subject
	parts := []string{s.Series, s.Source, s.VersionText()}
	if s.Kind == cert.SubjectKernel && s.Flavour != "" && s.Flavour != cert.DefaultFlavour(s.Source) {
		parts = []string{s.Series, s.Source, s.Flavour, s.Version}
	}
	if s.Kind == cert.SubjectMachine {
		parts = []string{"machines", c.Created.Format("20060102-1504")}
	}
	if c.Kind != cert.KindSRU {
		parts = append([]string{string(c.Kind)}, parts...)
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "-")
}

// policy returns the policy that is asked for, with what is asked for besides: the site's of that name, or the default of the kind. departed: it is not
// what the policy says any more.
func (e *Engine) policy(ctx context.Context, want cert.NewCampaign) (ref cert.PolicyRef, rules cert.Policy, departed bool, err error) {
	name, version := want.Policy, 0
	if name == "" {
		name = string(want.Kind)
	}
	if before, after, ok := strings.Cut(name, "@"); ok {
		if n, err := fmt.Sscanf(after, "%d", &version); n != 1 || err != nil || version < 0 || fmt.Sprint(version) != after {
			return ref, rules, false, cert.Errorf(cert.Invalid, "cannot use policy %q: give its name, or its name and version as in sru@3", name)
		}
		name = before
	}
	ref = cert.PolicyRef{Name: name, Version: version}
	stored, err := e.DB.Policy(ctx, name, version)
	switch {
	case err == nil:
		ref, rules = stored.PolicyRef, stored.Policy
	case cert.CodeOf(err) != cert.NotFound:
		return ref, rules, false, err
	case version == 0 && slices.Contains(cert.CampaignKinds, name):
		rules = cert.DefaultPolicy(cert.CampaignKind(name))
	default:
		return ref, rules, false, e.noPolicy(ctx, name, version)
	}
	departed = rules.Decide.Auto && departs(rules, want)
	if rules.Kind != want.Kind {
		return ref, rules, false, cert.Errorf(cert.Conflict, "cannot use policy %s for a campaign of kind %s: it is one for %s", name, want.Kind, rules.Kind)
	}
	rules.Decide.Auto = rules.Decide.Auto && !departed
	if want.Plan != "" {
		rules.Plans = []cert.PolicyPlan{{Plan: want.Plan}}
	}
	rules.Exclude = append(slices.Clone(rules.Exclude), want.Exclude...)
	rules.Match = append(slices.Clone(rules.Match), want.Match...)
	return ref, rules, departed, rules.Validate()
}

// departs reports whether a campaign is asked for that runs or compares something else than its policy says. Whoever may start one may not decide, and
// would by leaving out what fails, or by comparing with what fails alike: so the policy does not approve such a campaign by itself.
func departs(rules cert.Policy, want cert.NewCampaign) bool {
	return len(want.Exclude) > 0 || len(want.Match) > 0 || want.Plan != "" && !slices.Equal(rules.Plans, []cert.PolicyPlan{{Plan: want.Plan}}) ||
		want.Baseline != "" && want.Baseline != rules.Baseline.Rule && rules.Baseline.Rule != cert.BaselineNamed
}

func (e *Engine) noPolicy(ctx context.Context, name string, version int) error {
	all, err := e.DB.Policies(ctx)
	if err != nil {
		return err
	}
	names := slices.Clone(cert.CampaignKinds)
	for _, p := range all {
		if p.Name == name {
			return cert.Errorf(cert.NotFound, "there is no version %d of policy %q (the newest is %d)", version, name, p.Version)
		}
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	if version > 0 && slices.Contains(cert.CampaignKinds, name) {
		return cert.Errorf(cert.NotFound, "there is no version %d of policy %q: it is Certlab's own, and the site has none of that name", version, name)
	}
	return cert.Errorf(cert.NotFound, "there is no policy %q%s (there are: %s)", name, meant(name, names), strings.Join(names, ", "))
}

// meant is " (did you mean …?)" where a word is like one of those that there are.
func meant(word string, words []string) string {
	if near := cert.Nearest(word, words); near != "" && near != word {
		return " (did you mean " + near + "?)"
	}
	return ""
}

// told is what a person is told of a planned campaign.
func (e *Engine) told(ctx context.Context, p *planned) (cert.CampaignPlan, error) {
	out := cert.CampaignPlan{Campaign: p.c, Targets: p.targets, Plans: map[string]int{}, Seconds: map[string]float64{}, Warnings: p.warnings}
	for _, t := range p.targets {
		if t.State != cert.TargetExcluded {
			out.Plans[t.Plan]++
		}
	}
	h := e.history(ctx)
	for plan := range out.Plans {
		s, _, err := h.plan(plan)
		if err != nil {
			return out, err
		}
		out.Seconds[plan] = s
	}
	f, err := h.forecast(&p.c, out.Plans, nil, e.Now())
	if err != nil {
		return out, err
	}
	out.Finish, out.Basis, out.Holds = f.finish, f.basis, f.holds
	if out.Holds != nil && !*out.Holds {
		out.Warnings = append(out.Warnings, fmt.Sprintf("the due date does not hold: the runs are expected to be over by %s, and the verdict is due %s with %g hours for the decision before it",
			out.Finish.UTC().Format(time.DateTime), p.c.Due.UTC().Format(time.DateTime), p.c.Rules.Deadline.DecideHours))
	}
	return out, nil
}
