package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// groups writes the failures: blockers and others apart, open ones only; of the rest how many there are.
func (s *sheet) groups(v cert.CampaignView, most int, name string) {
	closed := 0
	for _, part := range []struct {
		label   string
		blocker bool
		open    int // findings
		flag    string
	}{{"Blockers", true, v.Blockers, "--blocker"}, {"Others", false, v.Others, "--no-blocker"}} {
		shown, groups := 0, 0
		for _, g := range v.Groups {
			if !g.Open || g.Blocker != part.blocker {
				continue
			}
			if groups++; groups > most {
				continue
			}
			shown++
			s.group(part.label, g)
		}
		if part.open == 0 && groups == 0 {
			s.row(part.label, "none open")
		}
		if groups > shown {
			s.fold(part.label, groups-shown, "certlab campaign findings "+name+" --open "+part.flag)
		}
	}
	for _, g := range v.Groups {
		if !g.Open {
			closed++
		}
	}
	switch {
	case v.More > 0:
		s.whole("Besides", "%s: certlab campaign findings %s", plural(v.More+closed, "more", "more"), name)
	case closed > 0:
		s.whole("Besides", "%d known, waived or no matter: certlab campaign findings %s --no-open", closed, name)
	}
}

// group writes one failure: where, whether it is new, whether it is known, how its log looks, and where more of it is.
func (s *sheet) group(label string, g cert.FindingGroup) {
	is := "old"
	if g.New {
		is = "NEW"
	}
	var classes []string
	for _, class := range slices.Sorted(mapKeys(g.HWClasses)) {
		classes = append(classes, fmt.Sprintf("%d %s", g.HWClasses[class], class))
	}
	where := fmt.Sprintf("on %d of %d", g.Machines, g.Of)
	if g.Of == 0 { // it is of no job, or not known on how many it ran
		where = fmt.Sprintf("on %d", g.Machines)
	}
	if names := namesText(g.Names, g.Machines, 3); names != "" {
		where += ": " + names
	}
	s.wrap(label, "  ", "%s %s%s %s%s", is, g.Class, because2(" ", jobName(g.Job)), where, because2("; ", strings.Join(classes, ", ")))
	known := "no known issue"
	if g.Issue != "" {
		known = "known: " + cmp.Or(g.IssueLink, g.Issue)
	}
	excerpt := firstLine(cmp.Or(g.Excerpt, g.Text))
	s.wrap(label, "  ", "  %s%s%s", known, because2("; ", g.Flaky), because2("; log: ", excerpt))
	if len(g.Findings) > 0 {
		s.command(label, "certlab finding show "+shellWord(g.Findings[0])+attachmentsText(g.Attachments))
	}
}

func attachmentsText(n int) string {
	if n == 0 {
		return ""
	}
	return "   # and " + plural(n, "attachment", "attachments")
}

// jobName is a job's id without its namespace, where the namespace would fill the line.
func jobName(id string) string {
	if _, name, ok := strings.Cut(id, "::"); ok && name != "" {
		return name
	}
	return id
}

// firstLine is the first line of a text that says something.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// infra writes what says nothing about the subject: the lab's own failures by type, and what is part of an incident.
func (s *sheet) infra(v cert.CampaignView, most int, name string) {
	for _, part := range []struct {
		label, more string
		list        []cert.InfraCount
	}{{"Infra", "certlab campaign targets " + name, v.Infra}, {"Suspects", "certlab machine incidents", v.Suspects}} {
		for n, i := range part.list {
			if n == most {
				s.fold(part.label, len(part.list)-most, part.more)
				break
			}
			text := fmt.Sprintf("%s: %s on %s%s%s", i.Failure, plural(i.Tries, "try", "tries"), plural(i.Machines, "machine", "machines"), because2("; ", i.Again), because2("; last: ", i.Last))
			if most <= 2 {
				s.row(part.label, "%s", text)
			} else {
				s.wrap(part.label, "  ", "%s", text)
			}
		}
	}
}

// machines writes how the machines stand, and those that need a look first.
func (s *sheet) machines(v cert.CampaignView, most int, name string) {
	if len(v.StandCounts) > 0 {
		s.row("Machines", "%s", countsText(v.StandCounts))
	}
	shown := v.Machines[:min(len(v.Machines), most)]
	for _, t := range shown {
		text := fmt.Sprintf("%s %s: %s", t.Shown(), cmp.Or(v.Standings[t.Machine], cert.StandWaiting), t.State)
		if t.Compared != nil {
			text += fmt.Sprintf(", %s jobs, %s", cmp.Or(jobsText(t), "?"), proofText(t))
			if !t.Compared.Manifest {
				text += ", no manifest"
			}
		}
		text += because2(", ", t.Why)
		if d := lastDecision(v.Decisions, t.Machine); d != nil {
			text += fmt.Sprintf("; %s: %s", decidedBy(*d), d.Reason)
		}
		s.wrap("Machines", "  ", "%s", text)
	}
	s.fold("Machines", len(v.Machines)-len(shown)+v.MoreMachines, "certlab campaign targets "+name)
}

// lastDecision is the newest that was made about a machine.
func lastDecision(all []cert.Decision, machine string) *cert.Decision {
	var last *cert.Decision
	for n := range all {
		if d := &all[n]; d.Machine == machine && d.Action != cert.Waive && (last == nil || d.Seq > last.Seq) {
			last = d
		}
	}
	return last
}

func decidedBy(d cert.Decision) string {
	done := map[string]string{cert.Approve: "approved", cert.Reject: "rejected", cert.Waive: "waived", cert.Reopen: "reopened"}[d.Action]
	text := cmp.Or(done, d.Action) + " by " + d.By
	if d.Role != "" {
		text += " (" + string(d.Role) + ")"
	}
	return text
}

// decisions writes who decided what last, and the verdict.
func (s *sheet) decisions(v cert.CampaignView, most int, name string) {
	list := slices.SortedFunc(slices.Values(v.Decisions), func(a, b cert.Decision) int { return cmp.Compare(b.Seq, a.Seq) })
	if len(list) == 0 {
		s.row("Decisions", "none yet")
	}
	for n, d := range list {
		if n == most {
			s.fold("Decisions", len(list)-most, "certlab decision list "+name)
			break
		}
		s.wrap("Decisions", "  ", "%d: %s%s, %s: %s", d.Seq, decidedBy(d), because2(": ", decisionAbout(d, v)), shortTime(&d.At), d.Reason)
	}
	r := v.Verdict
	if r == nil {
		s.row("Verdict", "none yet; once given it is never changed, and the log of decisions is chained by hashes")
		return
	}
	s.wrap("Verdict", "  ", "%s by %s, %s: %s", r.Outcome, r.By, shortTime(&r.At), r.Reason)
	s.wrap("Verdict", "  ", "rests on policy %s, comparing %d, doubts %d, %s; log %s, digest %s", policyText(r.Policy), r.Compare, r.Doubts,
		plural(len(r.Machines), "machine", "machines"), cut(r.Head, 13), cut(r.Digest, 13))
	if v.Late > 0 {
		s.whole("Verdict", "%s came after it and contradict it: certlab campaign findings %s", plural(v.Late, "finding", "findings"), name)
	}
	if t := v.Campaign.Subject.Tracker; t != "" {
		s.row("Verdict", "to be told to %s (certlab does not write there)", t)
	}
}

// decisionAbout is what a decision is about.
func decisionAbout(d cert.Decision, v cert.CampaignView) string {
	switch {
	case len(d.Findings) > 0:
		return plural(len(d.Findings), "finding", "findings") + because2(" until ", shortTime(d.Until))
	case d.Machine != "":
		for _, t := range v.Machines {
			if t.Machine == d.Machine {
				return t.Hostname
			}
		}
		return d.Machine
	}
	return "the campaign"
}

// needs writes what stands between here and a verdict, with the commands that settle it.
func (s *sheet) needs(v cert.CampaignView, most int, name string) {
	for n, need := range v.Needs {
		if n == most {
			s.fold("To do", len(v.Needs)-most, "certlab campaign show --all "+name)
			break
		}
		text := need.What
		if names := namesText(need.Names, need.Machines, 3); names != "" && need.Machines > 0 {
			text += " (" + names + ")"
		}
		s.wrap("To do", "  ", "%s", text)
		for n, command := range need.Commands {
			if n == most {
				break
			}
			s.command("To do", command)
		}
	}
	if len(v.Needs) == 0 && standingStatus(v) == exitUndecided {
		s.row("To do", "a decision on the whole of it")
		s.command("To do", "certlab decision approve "+name+" --seen "+fmt.Sprint(v.Campaign.Version)+" --reason '…'")
	}
}
