package judge

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// Decide checks a decision of a person and returns the entries of the log that it comes to; they have yet to be sealed. machines and findings are the
// ids that it is about, as whoever asks has chosen them by name or by filter. In bulk, what cannot be decided is skipped and told by machine; of what
// was named, nothing is decided unless all of it can be. It fails as Forbidden without the right, and as Conflict where the campaign's state does not
// allow it.
func Decide(f Facts, d cert.NewDecision, machines, findings []string, by string, role cert.Role) (drafts []cert.Decision, skipped map[string]string, err error) {
	if err := d.Validate(f.Now); err != nil {
		return nil, nil, err
	}
	c := &f.Campaign
	need := cert.Role(c.Rules.Decide.Approve)
	if !need.Valid() || !need.May(cert.Engineer) {
		need = cert.Signer
	}
	if !role.May(need) {
		return nil, nil, cert.Errorf(cert.Forbidden, "cannot %s: the policy %s lets role %s decide, and yours is %q", d.Action, c.Policy.Name, need, role)
	}
	if c.State.Final() {
		return nil, nil, cert.Errorf(cert.Conflict, "cannot %s: campaign %s is %s, which is final (what has changed since is for a new campaign)", d.Action, c.Name, c.State)
	}
	v := newView(&f)
	base := cert.Decision{Campaign: c.ID, Action: d.Action, Reason: d.Reason, By: by, Role: role, At: f.Now}
	if d.All {
		text, err := json.Marshal(d.Filter)
		if err != nil {
			return nil, nil, err
		}
		base.Filter = string(text)
	}
	switch {
	case d.Action == cert.Waive:
		return v.decideFindings(base, d, findings)
	case len(d.Machines) > 0 || d.All:
		return v.decideMachines(base, d, machines)
	}
	draft, err := v.decideWhole(base, d)
	if err != nil {
		return nil, nil, err
	}
	return []cert.Decision{draft}, nil, nil
}

// ByPolicy returns the policy's own decision to approve the campaign, if the facts bear it now. It has yet to be sealed.
func ByPolicy(f Facts) (cert.Decision, bool) {
	a := Assess(f)
	v := newView(&f)
	if a.Standing != cert.StandApproved || a.By != cert.ByPolicy || f.Campaign.State.Final() || v.whole != nil {
		return cert.Decision{}, false
	}
	required := 0
	for _, m := range v.machines {
		if m.required {
			required++
		}
	}
	return cert.Decision{Campaign: f.Campaign.ID, Action: cert.Approve, By: cert.ByPolicy, At: f.Now, Before: cert.StandUndecided, Basis: v.wholeBasis(),
		Reason: fmt.Sprintf("%s clear: complete, proved and compared, and nothing is open", count(required, "required machine is", "required machines are"))}, true
}

func (v *view) decideMachines(base cert.Decision, d cert.NewDecision, machines []string) ([]cert.Decision, map[string]string, error) {
	var drafts []cert.Decision
	skipped := map[string]string{}
	chosen := slices.Clone(machines)
	slices.Sort(chosen)
	for _, id := range slices.Compact(chosen) {
		m := v.byID[id]
		why := "it is not in this campaign"
		if m != nil {
			why = v.refuse(m, d.Action)
		}
		if why == "" {
			draft := base
			draft.Machine, draft.Basis, draft.Before = id, v.basis(m), v.machine(m).Standing
			if d.Action == cert.Reopen {
				draft.Reopens = m.decision.Seq
			}
			drafts = append(drafts, draft)
			continue
		}
		if !d.All {
			name := id
			if m != nil {
				name = m.name()
			}
			return nil, nil, cert.Errorf(cert.Conflict, "cannot %s %s: %s", d.Action, name, why)
		}
		skipped[id] = why
	}
	if len(drafts) == 0 {
		return nil, skipped, cert.Errorf(cert.Conflict, "cannot %s: %s", d.Action, nothingLeft(skipped))
	}
	return drafts, skipped, nil
}

func nothingLeft(skipped map[string]string) string {
	for _, why := range skipped {
		return fmt.Sprintf("none of %s can be decided so (such as: %s)", count(len(skipped), "machine", "machines"), why)
	}
	return "the filter fits nothing"
}

// refuse says why a machine cannot be decided so; empty: it can.
func (v *view) refuse(m *machine, action string) string {
	d := m.decision
	switch {
	case len(m.targets) == 0:
		return "it is excluded from the campaign"
	case action == cert.Reopen && d == nil:
		return "nobody has decided on it"
	case action == cert.Reopen:
		return ""
	case d != nil && v.holds(m):
		return fmt.Sprintf("%s has %s it already (decision %d); reopen it first", d.By, past(d.Action), d.Seq)
	case m.has(needWait):
		for _, r := range m.reasons {
			if r.kind == needWait {
				return "it is not through yet: " + r.text + " (wait for it, or cancel it)"
			}
		}
	}
	return ""
}

func past(action string) string {
	if action == cert.Approve {
		return "approved"
	}
	return "rejected"
}

func (v *view) decideFindings(base cert.Decision, d cert.NewDecision, findings []string) ([]cert.Decision, map[string]string, error) {
	byID := make(map[string]*cert.Finding, len(v.Findings))
	for n := range v.Findings {
		byID[v.Findings[n].ID] = &v.Findings[n]
	}
	skipped := map[string]string{}
	for _, id := range findings {
		f := byID[id]
		why := ""
		switch {
		case f == nil:
			why = "it is not in this campaign, or comparing again has replaced it"
		case !f.Attention:
			why = "it stands in nobody's way"
		case v.waived[id] != 0 && v.waivedLonger(id, *d.Until):
			why = fmt.Sprintf("decision %d waives it already, and for as long", v.waived[id])
		case v.waived[id] == 0 && !v.open(f):
			why = "known issue " + f.Issue + " excuses it already"
		}
		if why == "" {
			base.Findings = append(base.Findings, id)
			continue
		}
		if !d.All && len(d.Findings) > 0 {
			return nil, nil, cert.Errorf(cert.Conflict, "cannot waive finding %s: %s", id, why)
		}
		if f != nil {
			skipped[f.Machine] = why
		}
	}
	slices.Sort(base.Findings)
	base.Findings = slices.Compact(base.Findings)
	if len(base.Findings) == 0 {
		return nil, skipped, cert.Errorf(cert.Conflict, "cannot waive: no finding that is open fits")
	}
	until := *d.Until
	base.Until = &until
	base.Basis = cert.Basis{Version: v.Campaign.Version, Findings: base.Findings, Digest: basisDigest(nil, base.Findings)}
	base.Before = cert.StandUndecided
	return []cert.Decision{base}, skipped, nil
}

func (v *view) decideWhole(base cert.Decision, d cert.NewDecision) (cert.Decision, error) {
	a := Assess(*v.Facts)
	base.Basis, base.Before = v.wholeBasis(), a.Standing
	switch {
	case d.Action == cert.Reopen:
		return base, cert.Errorf(cert.Conflict, "cannot reopen campaign %s: it has no verdict yet (name the machines whose decision is to be taken back)", v.Campaign.Name)
	case v.whole != nil:
		return base, cert.Errorf(cert.Conflict, "cannot %s campaign %s: %s has %s it already (decision %d)", d.Action, v.Campaign.Name, v.whole.By, past(v.whole.Action), v.whole.Seq)
	case d.Action == cert.Reject:
		return base, nil
	}
	if why := v.unsettled(&a); why != "" {
		return base, cert.Errorf(cert.Conflict, "cannot approve campaign %s: %s", v.Campaign.Name, why)
	}
	return base, nil
}

// unsettled says what keeps even a person from approving the campaign as a whole: what was not decided one by one, or in bulk. Empty: nothing.
func (v *view) unsettled(a *Assessment) string {
	var waiting, rejected, undecided []string
	approved := 0
	for n := range a.Machines {
		is, m := &a.Machines[n], v.byID[a.Machines[n].Machine]
		switch {
		case is.Standing == cert.StandExcluded:
		case is.Standing == cert.StandRejected:
			rejected = append(rejected, m.name())
		case m.required && is.Standing == cert.StandWaiting:
			waiting = append(waiting, m.name())
		case is.Standing == cert.StandApproved || is.Clear:
			if m.required {
				approved++
			}
		case m.required || len(m.open) > 0 || m.decision != nil:
			undecided = append(undecided, m.name())
		}
	}
	switch {
	case v.lostTargets() > 0:
		return fmt.Sprintf("of its %s %d are lost with a part of the database, and nobody can tell what was found on them (restore a backup that has them, or start the campaign anew)",
			count(v.Campaign.Size, "machine", "machines"), v.lostTargets())
	case len(rejected) > 0:
		return fmt.Sprintf("%s rejected: %s (reopen what does not hold, or reject the campaign)", count(len(rejected), "machine is", "machines are"), list(rejected))
	case len(waiting) > 0:
		return fmt.Sprintf("%s not through yet: %s (wait for them, or cancel them and decide on each)", count(len(waiting), "required machine is", "required machines are"), list(waiting))
	case len(undecided) > 0:
		return fmt.Sprintf("%s decided: %s (approve or reject each, or waive their findings; in bulk with --all)", count(len(undecided), "machine is not", "machines are not"), list(undecided))
	case len(v.strays()) > 0:
		return fmt.Sprintf("%s of no machine open (see certlab campaign findings %s --open)", count(len(v.strays()), "finding is", "findings are"), v.Campaign.Name)
	case approved < max(1, v.Campaign.Rules.Machines.AtLeast):
		return fmt.Sprintf("%s approved, and the policy wants at least %d", count(approved, "required machine is", "required machines are"), max(1, v.Campaign.Rules.Machines.AtLeast))
	}
	return ""
}

// list names some of many.
func list(names []string) string {
	slices.Sort(names)
	if n := len(names) - 5; n > 0 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}
