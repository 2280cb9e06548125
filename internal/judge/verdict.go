package judge

import (
	"cmp"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// VerdictOf makes a campaign's verdict. It refuses an approval that the facts do not bear: by the policy unless Assess says so, and by a person unless
// they have decided on the campaign and on every machine that was not clear. head is the hash of the last decision of the log, and archives the
// SHA-256 of each counted submission's archive.
func VerdictOf(f Facts, a Assessment, outcome, by, reason, head string, archives map[string]string) (cert.Verdict, error) {
	v := newView(&f)
	if err := v.bears(outcome, by); err != nil {
		return cert.Verdict{}, err
	}
	c := &f.Campaign
	out := cert.Verdict{Campaign: c.ID, Outcome: outcome, Subject: c.Subject, By: by, Reason: reason, At: f.Now.UTC().Round(0), Policy: c.Policy, Compare: Version, Doubts: DoubtsVersion,
		Issues: map[string]int{}, Decisions: v.decisions(), Head: head, Machines: v.verdictMachines(&a, archives), Counts: map[string]int{}}
	for n := range f.Findings {
		one := &f.Findings[n]
		out.Counts[one.Class]++
		if k := v.issues[one.Issue]; k != nil {
			out.Issues[k.ID] = k.Version
		}
	}
	out.Digest = DigestVerdict(out)
	return out, nil
}

func (v *view) bears(outcome, by string) error {
	c := &v.Campaign
	switch {
	case outcome != string(cert.CampaignApproved) && outcome != string(cert.CampaignRejected):
		return cert.Errorf(cert.Invalid, "cannot give the verdict %q: it is approved or rejected", outcome)
	case c.State.Final():
		return cert.Errorf(cert.Conflict, "cannot give a verdict on campaign %s: it is %s, which is final", c.Name, c.State)
	}
	a := Assess(*v.Facts)
	if by == cert.ByPolicy {
		if outcome != string(cert.CampaignApproved) || a.Standing != cert.StandApproved || a.By != cert.ByPolicy {
			return cert.Errorf(cert.Conflict, "cannot let the policy decide on campaign %s: it is not clear (certlab campaign show %s says why)", c.Name, c.Name)
		}
		return nil
	}
	if v.whole == nil || v.whole.By != by || past(v.whole.Action) != outcome {
		return cert.Errorf(cert.Conflict, "cannot give a verdict on campaign %s: %s has not decided so", c.Name, by)
	}
	if outcome == string(cert.CampaignRejected) {
		return nil
	}
	if why := v.unsettled(&a); why != "" {
		return cert.Errorf(cert.Conflict, "cannot approve campaign %s: %s", c.Name, why)
	}
	return nil
}

// decisions are those that the verdict rests on: in force, on machines, findings and the campaign.
func (v *view) decisions() []int64 {
	seqs := []int64{}
	for _, d := range inForce(v.Decisions) {
		seqs = append(seqs, d.Seq)
	}
	for _, seq := range v.waived {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return slices.Compact(seqs)
}

func (v *view) verdictMachines(a *Assessment, archives map[string]string) []cert.VerdictMachine {
	standings := make(map[string]*MachineAssessment, len(a.Machines))
	for n := range a.Machines {
		standings[a.Machines[n].Machine] = &a.Machines[n]
	}
	out := make([]cert.VerdictMachine, 0, len(v.Targets))
	for n := range v.Targets {
		t := &v.Targets[n]
		m := cert.VerdictMachine{Machine: t.Machine, Hostname: t.Hostname, Plan: t.Plan, State: string(t.State), Submission: t.Submission, SHA256: archives[t.Submission], Why: t.Why,
			Standing: cert.StandUndecided}
		if t.State == cert.TargetExcluded {
			m.Standing = cert.StandExcluded
		} else if is := standings[t.Machine]; is != nil {
			m.Standing, m.By = is.Standing, is.By
		}
		if try := countedTry(t); try != nil && try.Machine != "" && try.Machine != t.Machine {
			m.RanOn = cmp.Or(try.Hostname, try.Machine)
		}
		if t.Compared != nil {
			m.Kernel = t.Compared.Proof.Kernel
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b cert.VerdictMachine) int {
		return cmp.Or(strings.Compare(a.Hostname, b.Hostname), strings.Compare(a.Machine, b.Machine), strings.Compare(a.Plan, b.Plan))
	})
	return out
}
