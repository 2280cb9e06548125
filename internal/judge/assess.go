package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// Assess says how a campaign stands.
//
// The policy approves a machine when every target of it is done: the whole plan by a try that is no suspect and was not added by hand, the subject
// proved, compared by these rules, with a manifest and a baseline where the policy wants them, with planned jobs that are known and at least one that
// ran, and with no finding open. It approves the campaign when that is so of every required machine, there are as many as it wants and at least one,
// nothing is open on any other machine, nobody has rejected a machine, and nothing of the campaign can be lost; it never rejects. What a person had to approve, a person approves: a
// machine that only a person's decision carries keeps the policy from approving the campaign.
//
// A person's decision on a machine settles it for as long as its basis holds: until something is open that was not then.
func Assess(f Facts) Assessment {
	v := newView(&f)
	a := Assessment{Machines: make([]MachineAssessment, 0, len(v.machines))}
	for _, m := range v.machines {
		a.Machines = append(a.Machines, v.machine(m))
	}
	v.standing(&a)
	a.Needs = v.needs(&a)
	return a
}

// view is a campaign's facts, arranged.
type view struct {
	*Facts
	machines []*machine // by id
	byID     map[string]*machine
	byTarget map[string]*machine
	waived   map[string]int64
	issues   map[string]*cert.KnownIssue
	whole    *cert.Decision // that is in force on the campaign as a whole
}

// machine is what is known of one machine.
type machine struct {
	id, hostname string
	targets      []*cert.Target // but for those excluded
	excluded     []*cert.Target
	required     bool
	findings     []*cert.Finding
	open         []*cert.Finding
	decision     *cert.Decision
	reasons      []reason
}

// reason is why a machine is not clear.
type reason struct {
	kind string // of a Need
	text string
}

func newView(f *Facts) *view {
	v := &view{Facts: f, byID: map[string]*machine{}, byTarget: map[string]*machine{}, waived: Waivers(f.Decisions, f.Now), issues: map[string]*cert.KnownIssue{}}
	for n := range f.Issues {
		v.issues[f.Issues[n].ID] = &f.Issues[n]
	}
	for n := range f.Targets {
		t := &f.Targets[n]
		m := v.byID[t.Machine]
		if m == nil {
			m = &machine{id: t.Machine, hostname: t.Hostname}
			v.byID[t.Machine] = m
			v.machines = append(v.machines, m)
		}
		v.byTarget[t.ID] = m
		if t.State == cert.TargetExcluded {
			m.excluded = append(m.excluded, t)
			continue
		}
		m.targets = append(m.targets, t)
		m.required = m.required || t.Required
	}
	slices.SortFunc(v.machines, func(a, b *machine) int { return strings.Compare(a.id, b.id) })
	for n := range f.Findings {
		one := &f.Findings[n]
		m := v.byTarget[one.Target]
		if m == nil {
			continue
		}
		m.findings = append(m.findings, one)
		if v.open(one) {
			m.open = append(m.open, one)
		}
	}
	for machine, d := range inForce(f.Decisions) {
		if machine == "" {
			v.whole = d
		} else if m := v.byID[machine]; m != nil {
			m.decision = d
		}
	}
	for _, m := range v.machines {
		v.reasons(m)
	}
	return v
}

// open reports whether a finding stands in the way now: waivers end, and known issues run out, whatever is stored with the finding.
func (v *view) open(f *cert.Finding) bool {
	if !f.Attention || v.waived[f.ID] != 0 {
		return false
	}
	if f.Excused {
		k := v.issues[f.Issue]
		return k == nil || !active(k, v.Now) || !excuses(k, f)
	}
	return true
}

// reasons fills in what keeps a machine from being clear.
func (v *view) reasons(m *machine) {
	say := func(kind, format string, args ...any) {
		m.reasons = append(m.reasons, reason{kind, fmt.Sprintf(format, args...)})
	}
	for _, t := range m.targets {
		v.targetReasons(m, t, say)
	}
	blockers := 0
	for _, f := range m.open {
		if f.Blocker {
			blockers++
		}
	}
	if n := len(m.open); n > 0 {
		say(needFinding, "%s open, %d of them blockers", count(n, "finding is", "findings are"), blockers)
	}
}

// Kinds of a Need.
const (
	needWait     = "wait"
	needFinding  = "finding"
	needMissing  = "missing"
	needManifest = "manifest"
	needBaseline = "baseline"
	needUnproved = "unproved"
	needMachine  = "machine"
	needVerdict  = "verdict"
	needSuspect  = "suspect"
)

func (v *view) targetReasons(m *machine, t *cert.Target, say func(kind, format string, args ...any)) {
	c := t.Compared
	switch {
	case !t.State.Settled():
		say(needWait, "%s is %s", t.Plan, t.State)
		return
	case t.State == cert.TargetBlocked:
		say(needMachine, "the subject does not come up: %s", t.Why)
	case t.State != cert.TargetDone:
		say(needMissing, "%s is %s: %s", t.Plan, t.State, cmp.Or(t.Why, "nobody said why"))
	case t.Submission == "" || c == nil || c.Submission != t.Submission || c.Version != Version:
		say(needWait, "%s is not compared yet", t.Plan)
	default:
		v.doneReasons(t, c, say)
	}
	v.hidden(m, t, say)
}

func (v *view) doneReasons(t *cert.Target, c *cert.Compared, say func(kind, format string, args ...any)) {
	p := &v.Campaign.Rules
	if try := countedTry(t); try == nil {
		say(needMachine, "it is not known which try counts")
	} else {
		switch {
		case try.State != cert.Completed || try.Partial() || try.Submission != t.Submission:
			say(needMachine, "the try that counts is not a whole one")
		case try.Purpose == cert.TryAttached:
			say(needMachine, "its submission was added by hand")
		case try.Infra:
			say(needUnproved, "the try that counts says nothing about the subject")
		}
		if try.Suspect != "" {
			say(needSuspect, "its results are from within incident %s", try.Suspect)
		}
	}
	if !c.Proof.OK || !c.Proof.Needed && v.Campaign.Subject.Kind != cert.SubjectMachine {
		say(needUnproved, "it is not proved that the subject ran: %s", cmp.Or(c.Proof.Why, "nothing is known"))
	}
	if p.Machines.Manifests && !c.Manifest {
		say(needManifest, "nobody has a manifest of it")
	}
	if p.Baseline.Needed && c.Baseline == nil {
		say(needBaseline, "there is nothing to compare it with")
	}
	switch {
	case c.Planned == 0:
		say(needMachine, "it is not known which jobs the plan has on it")
	case c.Ran == 0:
		say(needMachine, "not one job passed or failed")
	}
}

// countedTry is the try whose submission counts.
func countedTry(t *cert.Target) *cert.Try {
	for n := range t.Tries {
		if t.Counted > 0 && t.Tries[n].Number == t.Counted {
			return &t.Tries[n]
		}
	}
	return nil
}

// hidden finds what the tries or the comparison tell and no finding does: then not all findings are here, and nothing can be said.
func (v *view) hidden(m *machine, t *cert.Target, say func(kind, format string, args ...any)) {
	attention, boots := 0, 0
	for _, f := range m.findings {
		if f.Target != t.ID {
			continue
		}
		if f.Attention {
			attention++
		}
		if f.Class == cert.FindKernelBoot {
			boots++
		}
	}
	for n := range t.Tries {
		if try := &t.Tries[n]; try.Purpose != cert.TryConfirm && try.Failure != nil && try.Failure.Type == order.FailKernelBoot && boots == 0 {
			say(needMachine, "the subject did not come up in try %d, and no finding says so yet", try.Number)
			break
		}
	}
	if t.Compared != nil && t.Compared.Attention > attention {
		say(needWait, "%d of %d findings are not at hand", t.Compared.Attention-attention, t.Compared.Attention)
	}
}

// machine says how a machine stands.
func (v *view) machine(m *machine) MachineAssessment {
	a := MachineAssessment{Machine: m.id, Standing: cert.StandUndecided}
	if len(m.targets) == 0 {
		a.Standing = cert.StandExcluded
		for _, t := range m.excluded {
			a.Reasons = append(a.Reasons, t.Why)
		}
		return a
	}
	for _, r := range m.reasons {
		a.Reasons = append(a.Reasons, r.text)
	}
	a.Clear = len(m.reasons) == 0
	d := m.decision
	switch {
	case m.has(needWait):
		a.Standing = cert.StandWaiting
	case d != nil && v.holds(m):
		a.Standing, a.By, a.Decision = standingOf(d.Action), d.By, d.Seq
	case d != nil:
		a.Reasons = append(a.Reasons, fmt.Sprintf("decision %d of %s does not hold any more", d.Seq, d.By))
	case a.Clear && v.Campaign.Rules.Decide.Auto:
		a.Standing, a.By = cert.StandApproved, cert.ByPolicy
	case a.Clear:
		a.Reasons = append(a.Reasons, "nothing is against it, and the policy leaves the decision to a person")
	}
	return a
}

func standingOf(action string) string {
	if action == cert.Approve {
		return cert.StandApproved
	}
	return cert.StandRejected
}

func (m *machine) has(kind string) bool {
	return slices.ContainsFunc(m.reasons, func(r reason) bool { return r.kind == kind })
}

func (m *machine) submissions() []string {
	var ids []string
	for _, t := range m.targets {
		if t.Submission != "" {
			ids = append(ids, t.Submission)
		}
	}
	slices.Sort(ids)
	return ids
}

// done reports whether every target of the machine is.
func (m *machine) done() bool {
	return len(m.targets) > 0 && !slices.ContainsFunc(m.targets, func(t *cert.Target) bool { return t.State != cert.TargetDone })
}

// holds reports whether a person's decision on the machine still does.
func (v *view) holds(m *machine) bool { return v.contradiction(m) == "" }

// contradiction says what has come since a decision on a machine that it does not cover; empty: nothing.
func (v *view) contradiction(m *machine) string {
	d := m.decision
	same := slices.Equal(d.Basis.Submissions, m.submissions())
	if d.Action == cert.Reject {
		if !same && len(m.reasons) == 0 {
			return "what has come since has nothing against it"
		}
		return ""
	}
	for _, f := range m.open {
		if !slices.Contains(d.Basis.Findings, f.ID) {
			return fmt.Sprintf("%s is open since, which was not when it was approved", describe(f))
		}
	}
	if same {
		return ""
	}
	for _, r := range m.reasons {
		if r.kind != needFinding && r.kind != needWait {
			return "it has other results than when it was approved, and " + r.text
		}
	}
	return ""
}

func describe(f *cert.Finding) string {
	if f.Job == "" {
		return f.Class
	}
	return f.Class + " of " + f.Job
}

// standing says how the campaign stands.
func (v *view) standing(a *Assessment) {
	switch v.Campaign.State {
	case cert.CampaignApproved, cert.CampaignRejected:
		a.Standing, a.By = string(v.Campaign.State), cert.ByPolicy
		if v.whole != nil {
			a.By = v.whole.By
		}
		return
	case cert.CampaignCancelled, cert.CampaignSuperseded:
		a.Standing = cert.StandUndecided
		return
	}
	a.Standing = cert.StandUndecided
	if v.policyApproves(a) {
		a.Standing, a.By = cert.StandApproved, cert.ByPolicy
		return
	}
	for n := range a.Machines {
		if m := &a.Machines[n]; m.Standing == cert.StandWaiting && v.byID[m.Machine].required {
			a.Standing = cert.StandWaiting
			return
		}
	}
}

// policyApproves reports whether the policy gives the verdict by itself. Each line can only say no.
func (v *view) policyApproves(a *Assessment) bool {
	if v.Campaign.Unsure != "" || v.lostTargets() > 0 {
		return false
	}
	if !v.Campaign.Rules.Decide.Auto || v.Campaign.State != cert.CampaignActive && v.Campaign.State != cert.CampaignDeciding || v.whole != nil && v.whole.By != cert.ByPolicy {
		return false
	}
	required := 0
	for n := range a.Machines {
		is, m := &a.Machines[n], v.byID[a.Machines[n].Machine]
		if is.Standing == cert.StandExcluded {
			continue
		}
		if is.Standing == cert.StandRejected || m.decision != nil && m.decision.Action == cert.Reject || len(m.open) > 0 {
			return false
		}
		if !m.required {
			continue
		}
		if !is.Clear || !m.done() || is.Standing != cert.StandApproved {
			return false
		}
		required++
	}
	return required >= max(1, v.Campaign.Rules.Machines.AtLeast) && len(v.strays()) == 0
}

// lostTargets is how many of the campaign's targets are not there any more. Nothing is known of them.
func (v *view) lostTargets() int { return max(0, v.Campaign.Size-len(v.Targets)) }

// strays are open findings of targets that are not among the facts.
func (v *view) strays() []*cert.Finding {
	var out []*cert.Finding
	for n := range v.Findings {
		if f := &v.Findings[n]; v.byTarget[f.Target] == nil && v.open(f) {
			out = append(out, f)
		}
	}
	return out
}
