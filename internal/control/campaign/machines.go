package campaign

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// choose makes the targets of a planned campaign.
func (e *Engine) choose(ctx context.Context, p *planned) error {
	all, err := e.Fleet.Machines(ctx)
	if err != nil {
		return err
	}
	chosen, err := e.chosen(ctx, p, all)
	if err != nil {
		return err
	}
	images := e.images(ctx)
	included := 0
	for _, m := range chosen {
		t, err := p.target(m, images)
		if err != nil {
			return err
		}
		if t.State != cert.TargetExcluded {
			included++
		}
		p.targets = append(p.targets, t)
	}
	slices.SortFunc(p.targets, func(a, b cert.Target) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	for n := range p.targets {
		p.targets[n].Updated = p.c.Created.Add(time.Duration(n) * time.Microsecond) // they are begun in this order
	}
	if included == 0 {
		var why []string
		for _, t := range p.targets {
			if len(why) < 5 {
				why = append(why, t.Hostname+": "+t.Why)
			}
		}
		if len(why) == 0 {
			return cert.Errorf(cert.Conflict, "cannot start a campaign over no machines: none of the %d that there are is chosen (certlab machine list shows them)", len(all))
		}
		return cert.Errorf(cert.Conflict, "cannot start a campaign over no machines: each of the %d that were chosen is excluded: %s", len(p.targets), strings.Join(why, "; "))
	}
	if least := p.c.Rules.Machines.AtLeast; included < least {
		p.warn("the policy wants at least %d machines, and only %d can be tested: a person has to decide", least, included)
	}
	return nil
}

// chosen returns the machines that the campaign is asked for, also those that will be excluded.
func (e *Engine) chosen(ctx context.Context, p *planned, all []cert.FleetMachine) ([]*cert.FleetMachine, error) {
	want := p.c.Machines
	var out []*cert.FleetMachine
	switch {
	case want.Query != "":
		q, err := cert.ParseQuery(want.Query)
		if err != nil {
			return nil, err
		}
		for n := range all {
			if q.Match(&all[n]) == "" {
				out = append(out, &all[n])
			}
		}
		if len(out) == 0 {
			return nil, cert.Errorf(cert.Conflict, "cannot start a campaign over no machines: %s", q.Explain(all).Text)
		}
	case len(want.Names) > 0:
		var err error
		if out, err = byName(all, want.Names); err != nil {
			return nil, err
		}
	default:
		ids, err := e.ranBaseline(ctx, p)
		if err != nil {
			return nil, err
		}
		for n := range all {
			if slices.Contains(ids, all[n].ID) {
				out = append(out, &all[n])
			}
		}
		if len(out) == 0 {
			return nil, cert.Errorf(cert.Conflict, "cannot start a campaign over the machines that ran the baseline: none did (%s)", cmp.Or(p.c.Baseline.Why, "there is none"))
		}
	}
	except, err := byName(all, want.Except)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(m *cert.FleetMachine) bool { return slices.Contains(except, m) }), nil
}

// byName finds machines by id, system id, hostname or certification id.
func byName(all []cert.FleetMachine, names []string) ([]*cert.FleetMachine, error) {
	index := map[string][]*cert.FleetMachine{}
	for n := range all {
		m := &all[n]
		for _, name := range []string{m.ID, m.SystemID, m.Hostname, m.CID} {
			if key := strings.ToLower(name); key != "" && !slices.Contains(index[key], m) {
				index[key] = append(index[key], m)
			}
		}
	}
	var out []*cert.FleetMachine
	for _, name := range names {
		found := index[strings.ToLower(name)]
		switch len(found) {
		case 0:
			var known []string
			for n := range all {
				known = append(known, all[n].Hostname)
			}
			return nil, cert.Errorf(cert.NotFound, "there is no machine %q%s (certlab machine list shows them)", name, meant(name, known))
		case 1:
			if !slices.Contains(out, found[0]) {
				out = append(out, found[0])
			}
		default:
			ids := make([]string, len(found))
			for n, m := range found {
				ids[n] = m.ID
			}
			return nil, cert.Errorf(cert.Conflict, "cannot tell which machine %q is: several are called that (name one by its id: %s)", name, strings.Join(ids, ", "))
		}
	}
	return out, nil
}

func (e *Engine) ranBaseline(ctx context.Context, p *planned) ([]string, error) {
	b := p.c.Baseline
	switch {
	case b.Campaign != "":
		return e.DB.CampaignMachines(ctx, b.Campaign)
	case b.Version != "":
		return e.DB.MachinesThatRan(ctx, p.c.Subject, b.Version)
	}
	return nil, nil
}

// images answers with what can be deployed on an architecture, each asked once; an error if it cannot be told now.
func (e *Engine) images(ctx context.Context) func(architecture string) ([]cert.Image, error) {
	type answer struct {
		images []cert.Image
		err    error
	}
	known := map[string]answer{}
	return func(architecture string) ([]cert.Image, error) {
		a, ok := known[architecture]
		if !ok {
			provider := e.Fleet.Provider()
			if provider == nil {
				a.err = cert.Errorf(cert.Unavailable, "there is no provider of machines")
			} else {
				a.images, a.err = provider.Releases(ctx, architecture)
			}
			known[architecture] = a
		}
		return a.images, a.err
	}
}

// target is what a planned campaign does with a machine.
func (p *planned) target(m *cert.FleetMachine, images func(string) ([]cert.Image, error)) (cert.Target, error) {
	t := cert.Target{ID: cert.NewID(cert.TargetID, p.c.Created), Campaign: p.c.ID, Machine: m.ID, Hostname: m.Hostname, Class: m.Class, State: cert.TargetWaiting, Tries: []cert.Try{},
		AsFound: m.Unit != "", Updated: p.c.Created}
	exclude := func(format string, args ...any) (cert.Target, error) {
		t.State, t.Why = cert.TargetExcluded, fmt.Sprintf(format, args...)
		return t, nil
	}
	plan, ok := p.c.Rules.PlanFor(m)
	if !ok {
		return exclude("the policy has no plan for it")
	}
	t.Plan = plan
	if why := unusable(m); why != "" {
		return exclude("%s", why)
	}
	if t.AsFound {
		if why := misfit(p.c.Subject, m); why != "" {
			return exclude("%s", why)
		}
	} else if why, err := imageless(p.c.Subject, m, images); why != "" || err != nil {
		if err != nil {
			p.warn("%s: cannot tell now whether it can be deployed with %s: %v", m.Hostname, p.c.Subject.Series, err)
		} else {
			return exclude("%s", why)
		}
	}
	t.Required = p.c.Rules.Requires(m)
	return t, nil
}

// unusable says why nothing can be run on a machine whatever is waited for; empty: it can be.
func unusable(m *cert.FleetMachine) string {
	because := func(text string) string {
		if m.Why != "" {
			return text + ": " + m.Why
		}
		return text
	}
	switch {
	case m.State == cert.MachineRetired:
		return because("it is retired")
	case m.State == cert.MachineQuarantined:
		return because("it is quarantined")
	case m.State == cert.MachineDirty && m.Unit != "":
		return because("it is not as it was found")
	case m.State == cert.MachineForeign && m.Unit == "":
		return because("somebody else has it")
	case m.Unit == "" && m.Provider == "":
		return "nothing can be run on it: it has no unit of checkbox, and its provider is not this lab's"
	}
	return ""
}

// seriesVersions are the versions of series, where neither the subject nor the provider says.
var seriesVersions = map[string]string{"trusty": "14.04", "xenial": "16.04", "bionic": "18.04", "focal": "20.04", "jammy": "22.04", "noble": "24.04", "plucky": "25.04", "questing": "25.10",
	"resolute": "26.04", "bullseye": "11", "bookworm": "12", "trixie": "13"}

// misfit says why a unit's machine, which stays as it is, is none for a subject; empty: it fits.
func misfit(s cert.Subject, m *cert.FleetMachine) string {
	if s.Kind == cert.SubjectMachine {
		return ""
	}
	if s.Kind == cert.SubjectImage {
		return "it bears the unit " + m.Unit + ", so that it cannot be deployed anew: an image is tested by deploying it"
	}
	want := cmp.Or(s.Release, seriesVersions[s.Series])
	_, have, _ := strings.Cut(m.Base, "@")
	have, _, _ = strings.Cut(have, "/")
	switch {
	case have == "":
		return fmt.Sprintf("it bears the unit %s and cannot be deployed anew, and it is not known which release it runs", m.Unit)
	case want == "":
		return fmt.Sprintf("it bears the unit %s and cannot be deployed anew, and whether its %s is %s is not known (say which release the series is)", m.Unit, m.Base, s.Series)
	case have != want:
		return fmt.Sprintf("it runs %s, and the subject is for %s (%s); it bears the unit %s, so that it cannot be deployed anew", m.Base, s.Series, want, m.Unit)
	}
	return ""
}

// imageless says that the provider has no image of the subject's series for a machine; empty: it has.
func imageless(s cert.Subject, m *cert.FleetMachine, images func(string) ([]cert.Image, error)) (string, error) {
	if s.Series == "" {
		return "", nil
	}
	all, err := images(m.Architecture)
	if err != nil {
		return "", err
	}
	var names []string
	for _, i := range all {
		if i.Release == s.Series {
			return "", nil
		}
		names = append(names, i.Release)
	}
	return fmt.Sprintf("the provider has no image of %s for %s (import it; it has: %s)", s.Series, m.Architecture, cmp.Or(strings.Join(names, ", "), "none")), nil
}

// doubts warns of what is known from before to go wrong, and refuses what cannot end well.
func (e *Engine) doubts(ctx context.Context, p *planned) error {
	byPlan := map[string][]string{} // machines
	hosts := map[string]string{}
	for _, t := range p.targets {
		if t.State != cert.TargetExcluded {
			byPlan[t.Plan] = append(byPlan[t.Plan], t.Machine)
			hosts[t.Machine] = t.Hostname
		}
	}
	for _, plan := range sortedKeys(byPlan) {
		unknown, err := e.DB.MachinesWithoutPlan(ctx, plan)
		if err != nil {
			return err
		}
		var names []string
		for _, m := range byPlan[plan] {
			if slices.Contains(unknown, m) {
				names = append(names, hosts[m])
			}
		}
		if len(names) > 0 {
			p.warn("plan %s was not known to %s when it was last run there: %s", plan, plural(len(names), "machine"), some(names))
		}
		if len(p.c.Rules.Jobs.Required) == 0 {
			continue
		}
		ids, n, err := e.DB.PlanJobs(ctx, plan, 5)
		if err != nil {
			return err
		}
		jobs := make([]order.PlannedJob, len(ids))
		for n, id := range ids {
			jobs[n] = order.PlannedJob{ID: id}
		}
		if n == 0 {
			continue
		}
		if lacks := p.c.Rules.Lacks(plan, jobs); lacks != "" {
			return cert.Errorf(cert.Conflict, "cannot start this campaign: %s (by the last %s of the plan)", lacks, plural(n, "submission"))
		}
	}
	asFound := 0
	for _, t := range p.targets {
		if t.AsFound && t.State != cert.TargetExcluded {
			asFound++
		}
	}
	if asFound > 0 && p.c.Subject.Kind != cert.SubjectMachine {
		p.warn("%s: not deployed anew, but tested as found, and put back afterwards", plural(asFound, "machine"))
	}
	return nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// some lists the first few of many names.
func some(names []string) string {
	const shown = 5
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}

func sortedKeys[T any](m map[string]T) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
