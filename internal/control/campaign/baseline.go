package campaign

import (
	"context"
	"fmt"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// baseline decides what a planned campaign is compared with. asked is a version, a campaign, "none", or empty: as the policy says.
//
// The last released version is the highest one below the subject's that this lab knows to be released: it was approved in a campaign, or a run took
// it from one of the pockets updates, security and release.
func (e *Engine) baseline(ctx context.Context, p *planned, asked string) error {
	s, rule := p.c.Subject, p.c.Rules.Baseline.Rule
	switch {
	case asked == cert.BaselineNone || asked == "" && rule == cert.BaselineNone:
		p.c.Baseline = cert.Baseline{Rule: cert.BaselineNone, Why: "nothing is compared: " + map[bool]string{true: "it was asked for so", false: "the policy says so"}[asked != ""]}
		return nil
	case asked != "":
		return e.named(ctx, p, asked)
	case rule == cert.BaselineNamed:
		return cert.Errorf(cert.Invalid, "cannot start a campaign without a baseline: policy %s wants one to be named (a version such as 6.8.0-50.51, a campaign, or none)", p.c.Policy.Name)
	}
	p.c.Baseline.Rule = rule
	if rule == cert.BaselinePrevious || s.Kind == cert.SubjectMachine || s.Kind == cert.SubjectImage {
		before, found, err := e.DB.CampaignBefore(ctx, p.c.Kind, s.Key())
		if err != nil {
			return err
		}
		if found {
			p.c.Baseline.Campaign, p.c.Baseline.Version, p.c.Baseline.Why = before.ID, before.Subject.VersionText(), "the campaign before: "+before.Name
			e.otherPlans(ctx, p, before)
			return nil
		}
		p.c.Baseline.Why = fmt.Sprintf("there is no campaign of kind %s before this one", p.c.Kind)
	} else {
		versions, err := e.DB.ReleasedVersions(ctx, s)
		if err != nil {
			return err
		}
		best := sqlite.ReleasedVersion{}
		for _, v := range versions {
			if cert.CompareVersions(v.Version, s.Version) < 0 && (best.Version == "" || cert.CompareVersions(v.Version, best.Version) > 0) {
				best = v
			}
		}
		p.c.Baseline.Version, p.c.Baseline.Campaign = best.Version, ""
		if best.Version != "" {
			p.c.Baseline.Why = "the last released version that this lab knows: " + best.Why
			return nil
		}
		p.c.Baseline.Why = fmt.Sprintf("this lab knows no released version of %s (%s) for %s before %s", s.Source, s.KernelFlavour(), s.Series, s.Version)
	}
	p.warn("nothing to compare with: %s; every failure is a new one (name a baseline, or run a campaign of it first)", p.c.Baseline.Why)
	return nil
}

// named takes the baseline that a person names: a campaign, or a version.
func (e *Engine) named(ctx context.Context, p *planned, asked string) error {
	b := cert.Baseline{Rule: cert.BaselineNamed}
	c, err := e.DB.Campaign(ctx, asked)
	switch {
	case err == nil:
		if c.Subject.Key() != p.c.Subject.Key() {
			return cert.Errorf(cert.Conflict, "cannot compare with campaign %s: it is of %s, and this one of %s", c.Name, c.Subject.Title(), p.c.Subject.Title())
		}
		b.Campaign, b.Version, b.Why = c.ID, c.Subject.VersionText(), "campaign "+c.Name+" was named"
		p.c.Baseline = b
		e.otherPlans(ctx, p, c)
		return nil
	case cert.CodeOf(err) != cert.NotFound:
		return err
	case p.c.Subject.Kind != cert.SubjectKernel && p.c.Subject.Kind != cert.SubjectPackages:
		return cert.Errorf(cert.NotFound, "cannot compare with %q: there is no such campaign", asked)
	}
	trial := p.c.Subject
	trial.Version = asked
	if trial.Validate() != nil {
		names, err := e.DB.CampaignNames(ctx, 1000)
		if err != nil {
			return err
		}
		return cert.Errorf(cert.NotFound, "cannot compare with %q: there is no such campaign, and it is no version of %s%s", asked, p.c.Subject.Source, meant(asked, names))
	}
	if asked == p.c.Subject.Version {
		return cert.Errorf(cert.Invalid, "cannot compare %s with itself: name another version as the baseline", asked)
	}
	b.Version, b.Why = asked, "version "+asked+" was named"
	p.c.Baseline = b
	n, err := e.DB.RunsOfVersion(ctx, p.c.Subject, asked)
	if err == nil && n == 0 {
		p.warn("nothing has run on the baseline %s here: every failure is a new one until something has", asked)
	}
	return err
}

// otherPlans warns where the campaign that is the baseline ran none of the plans that this one's policy names.
func (e *Engine) otherPlans(ctx context.Context, p *planned, c cert.Campaign) {
	ran, err := e.DB.CampaignPlans(ctx, c.ID)
	if err != nil || len(ran) == 0 {
		return
	}
	for _, plan := range p.c.Rules.Plans {
		if ran[plan.Plan] == 0 {
			p.warn("the baseline, campaign %s, is of another plan: nothing in it ran %s; machines with that plan have no baseline", c.Name, plan.Plan)
		}
	}
}
