package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// maxNeeds bounds how many findings a campaign's needs tell apart.
const maxNeeds = 20

// why is where a person fills in a reason.
const why = " --reason '…'"

// needs says what stands between the campaign and its verdict, the gravest first, with the commands that would settle it.
func (v *view) needs(a *Assessment) []cert.Need {
	if v.Campaign.State.Final() || a.Standing == cert.StandApproved {
		return nil
	}
	var out []cert.Need
	if n, ok := v.lossNeed(); ok {
		out = append(out, n)
	}
	out = append(out, v.findingNeeds(a)...)
	for _, kind := range []string{needMachine, needUnproved, needMissing, needManifest, needBaseline, needSuspect} {
		out = append(out, v.machineNeeds(a, kind)...)
	}
	if n, ok := v.waitNeed(a); ok {
		out = append(out, n)
	}
	if n, ok := v.verdictNeed(a, len(out)); ok {
		out = append(out, n)
	}
	return out
}

// campaign is the campaign's name as a word of a command.
func (v *view) campaign() string { return word(cmp.Or(v.Campaign.Name, v.Campaign.ID)) }

// word quotes a text for a shell where it has to be.
func word(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@+-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// settled reports whether a person's decision carries a machine, whatever was found on it.
func settled(a *MachineAssessment) bool {
	return a.Standing == cert.StandExcluded || a.Decision != 0
}

// findingNeeds are the open findings of machines on which nobody has decided, those that are alike as one.
func (v *view) findingNeeds(a *Assessment) []cert.Need {
	var open []*cert.Finding
	for n := range a.Machines {
		if !settled(&a.Machines[n]) {
			open = append(open, v.byID[a.Machines[n].Machine].open...)
		}
	}
	groups := group(append(open, v.strays()...), nil, func(*cert.Finding) bool { return true })
	var out []cert.Need
	for n := range groups[:min(len(groups), maxNeeds)] {
		out = append(out, v.findingNeed(&groups[n]))
	}
	if more := len(groups) - maxNeeds; more > 0 {
		out = append(out, cert.Need{Kind: needFinding, What: fmt.Sprintf("%s open too", count(more, "other group of findings is", "other groups of findings are")),
			Names: []string{}, Commands: []string{"certlab campaign findings " + v.campaign() + " --open"}})
	}
	return out
}

func (v *view) findingNeed(g *cert.FindingGroup) cert.Need {
	what := g.Class
	if g.Job != "" {
		what += " of " + g.Job
	}
	if g.Blocker {
		what = "blocker: " + what
	}
	id := g.Findings[0]
	until := v.Now.AddDate(0, 0, 30).UTC().Format("2006-01-02")
	n := cert.Need{Kind: needFinding, Machines: g.Machines, Names: g.Names, Finding: id,
		What:     fmt.Sprintf("%s on %s", what, count(g.Machines, "machine", "machines")),
		Commands: []string{"certlab finding show " + id}}
	if g.Text != "" {
		n.What += ": " + g.Text
	}
	if g.Job != "" && g.Class != cert.ClassMissing {
		n.Commands = append(n.Commands, "certlab finding confirm "+id)
		n.Commands = append(n.Commands, "certlab finding link "+id+" --link URL --owner NAME --expires "+until)
	}
	waive := "certlab decision waive " + v.campaign() + " " + id
	if g.Machines > 1 && g.Job != "" {
		waive = "certlab decision waive " + v.campaign() + " --all --class " + g.Class + " --job " + word(g.Job)
		if g.Signature != "" {
			waive += " --signature " + g.Signature
		}
	}
	n.Commands = append(n.Commands, waive+" --until "+until+why)
	return n
}

// machineNeeds are the machines of which something of a kind is not known, by what that is.
func (v *view) machineNeeds(a *Assessment, kind string) []cert.Need {
	byText := map[string][]string{}
	for n := range a.Machines {
		is, m := &a.Machines[n], v.byID[a.Machines[n].Machine]
		if settled(is) || !m.required && kind != needMachine && kind != needUnproved {
			continue
		}
		for _, r := range m.reasons {
			if r.kind == kind && !slices.Contains(byText[r.text], m.name()) {
				byText[r.text] = append(byText[r.text], m.name())
			}
		}
	}
	var out []cert.Need
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		names := byText[text]
		slices.Sort(names)
		out = append(out, cert.Need{Kind: kind, Machines: len(names), Names: names[:min(len(names), maxNamed)],
			What: fmt.Sprintf("%s: %s", list(slices.Clone(names)), text), Commands: v.machineCommands(kind, names)})
	}
	slices.SortStableFunc(out, func(a, b cert.Need) int { return cmp.Compare(b.Machines, a.Machines) })
	if more := len(out) - maxNeeds; more > 0 {
		out = append(out[:maxNeeds], cert.Need{Kind: kind, What: fmt.Sprintf("%s", count(more, "other reason keeps machines from being approved", "other reasons keep machines from being approved")),
			Names: []string{}, Commands: []string{"certlab campaign targets " + v.campaign()}})
	}
	return out
}

func (v *view) machineCommands(kind string, names []string) []string {
	var flags strings.Builder
	for _, name := range names[:min(len(names), maxNamed)] {
		flags.WriteString(" --machine " + word(name))
	}
	retry := "certlab campaign retry " + v.campaign() + flags.String() + why
	approve := "certlab decision approve " + v.campaign() + flags.String() + why
	reject := "certlab decision reject " + v.campaign() + flags.String() + why
	switch kind {
	case needMissing, needUnproved, needSuspect:
		return []string{retry, approve, reject}
	case needManifest:
		return []string{"certlab dossier show " + word(names[0]), retry, approve}
	}
	return []string{approve, reject, retry}
}

// lossNeed is that something of the campaign is lost, or may be.
func (v *view) lossNeed() (cert.Need, bool) {
	n := cert.Need{Kind: needVerdict, Machines: v.lostTargets(), Names: []string{}}
	switch {
	case n.Machines > 0:
		n.What = fmt.Sprintf("of its %s %d are lost with a part of the database: it cannot be approved", count(v.Campaign.Size, "machine", "machines"), n.Machines)
		n.Commands = []string{"certlab campaign cancel " + v.campaign() + why}
	case v.Campaign.Unsure != "":
		n.What = v.Campaign.Unsure + ": the policy does not approve it any more, a person has to"
		n.Commands = []string{"certlab decision list " + v.campaign(), "certlab decision approve " + v.campaign() + why}
	default:
		return n, false
	}
	return n, true
}

// waitNeed is what goes on by itself.
func (v *view) waitNeed(a *Assessment) (cert.Need, bool) {
	states := map[string]int{}
	var names []string
	for n := range a.Machines {
		m := v.byID[a.Machines[n].Machine]
		if a.Machines[n].Standing != cert.StandWaiting || !m.required {
			continue
		}
		names = append(names, m.name())
		for _, t := range m.targets {
			if !t.State.Settled() {
				states[string(t.State)]++
			}
		}
	}
	if len(names) == 0 {
		return cert.Need{}, false
	}
	slices.Sort(names)
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
	}
	need := cert.Need{Kind: needWait, Machines: len(names), Names: names[:min(len(names), maxNamed)], Commands: []string{"certlab campaign wait " + v.campaign()},
		What: fmt.Sprintf("%s not through yet", count(len(names), "required machine is", "required machines are"))}
	if len(parts) > 0 {
		need.What += " (" + strings.Join(parts, ", ") + ")"
	}
	if v.Campaign.State == cert.CampaignPaused {
		need.What += ", and the campaign is paused"
		need.Commands = []string{"certlab campaign resume " + v.campaign()}
	}
	return need, true
}

// verdictNeed is the decision on the campaign itself, where nothing else is left, or somebody has rejected a machine.
func (v *view) verdictNeed(a *Assessment, others int) (cert.Need, bool) {
	approve, reject := "certlab decision approve "+v.campaign()+why, "certlab decision reject "+v.campaign()+why
	var rejected []string
	required := 0
	for n := range a.Machines {
		m := v.byID[a.Machines[n].Machine]
		if a.Machines[n].Standing == cert.StandRejected {
			rejected = append(rejected, m.name())
		}
		if m.required {
			required++
		}
	}
	blocked := v.unsettled(a)
	need := cert.Need{Kind: needVerdict, Machines: required, Names: []string{}, Commands: []string{approve, reject}}
	switch {
	case len(rejected) > 0:
		need.Machines, need.Names = len(rejected), rejected[:min(len(rejected), maxNamed)]
		need.What = fmt.Sprintf("%s rejected: the campaign can only be rejected, unless that is taken back", count(len(rejected), "machine is", "machines are"))
		need.Commands = []string{reject, "certlab decision reopen " + v.campaign() + " --machine " + word(rejected[0]) + why}
	case required == 0:
		need.What = "no machine is required, so that there is nothing that a verdict could rest on"
		need.Commands = []string{reject, "certlab campaign cancel " + v.campaign() + why}
	case blocked == "":
		need.What = "every machine is settled: the campaign itself is to be decided by a person"
		if v.Campaign.State == cert.CampaignPaused {
			need.Commands = append(need.Commands, "certlab campaign resume "+v.campaign())
		}
	case others > 0:
		return need, false
	default:
		need.What = blocked
		need.Commands = []string{"certlab campaign targets " + v.campaign(), reject}
	}
	return need, true
}
