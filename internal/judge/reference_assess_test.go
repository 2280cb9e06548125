package judge_test

import (
	"fmt"
	"slices"
	"sort"

	"certlab/internal/cert"
	"certlab/internal/judge"
)

// refAssess says how a campaign and its machines stand: one line for each, and the campaign's own last.
func refAssess(f judge.Facts) []string {
	takenBack := func(seq int64) bool {
		for _, d := range f.Decisions {
			if d.Action == "reopen" && d.Reopens == seq && seq > 0 {
				return true
			}
		}
		return false
	}
	waived := func(id string) bool {
		for _, d := range f.Decisions {
			if d.Action == "waive" && slices.Contains(d.Findings, id) && d.Until != nil && d.Until.After(f.Now) && !takenBack(d.Seq) {
				return true
			}
		}
		return false
	}
	excused := func(x cert.Finding) bool {
		for _, k := range f.Issues {
			over := k.Expires != nil && !k.Expires.After(f.Now) || k.Closed != nil && !k.Closed.After(f.Now)
			if x.Excused && k.ID == x.Issue && !over && (k.HidesBlockers || !x.Blocker && !x.New) {
				return true
			}
		}
		return false
	}
	open := func(machine string) (list []cert.Finding) {
		for _, x := range f.Findings {
			for _, t := range f.Targets {
				if t.ID == x.Target && t.Machine == machine && x.Attention && !waived(x.ID) && !excused(x) {
					list = append(list, x)
				}
			}
		}
		return list
	}
	decision := func(machine string) *cert.Decision {
		var last *cert.Decision
		for n := range f.Decisions {
			d := &f.Decisions[n]
			if d.Machine == machine && (d.Action == "approve" || d.Action == "reject") && !takenBack(d.Seq) {
				last = d
			}
		}
		return last
	}
	machines := map[string]bool{}
	for _, t := range f.Targets {
		machines[t.Machine] = true
	}
	var lines []string
	required, requiredWaiting, allClear, nothingElse := 0, false, true, true
	for id := range machines {
		var targets []cert.Target
		need := false
		for _, t := range f.Targets {
			if t.Machine == id && t.State != "excluded" {
				targets = append(targets, t)
				need = need || t.Required
			}
		}
		if len(targets) == 0 {
			lines = append(lines, fmt.Sprintf("%s excluded  0 false", id))
			continue
		}
		waiting, wrong := false, false // something is not there yet; something other than an open finding is wrong
		var submissions []string
		for _, t := range targets {
			w, x := refTarget(f, t)
			waiting, wrong = waiting || w, wrong || x
			if t.Submission != "" {
				submissions = append(submissions, t.Submission)
			}
		}
		sort.Strings(submissions)
		o := open(id)
		clear := !waiting && !wrong && len(o) == 0
		d := decision(id)
		holds := d != nil
		if d != nil {
			same := slices.Equal(submissions, d.Basis.Submissions)
			if d.Action == "approve" {
				for _, x := range o {
					if !slices.Contains(d.Basis.Findings, x.ID) {
						holds = false
					}
				}
				if !same && wrong {
					holds = false
				}
			} else if !same && clear {
				holds = false
			}
		}
		standing, by, seq := "undecided", "", int64(0)
		switch {
		case waiting:
			standing = "waiting"
		case holds:
			standing, by, seq = map[string]string{"approve": "approved", "reject": "rejected"}[d.Action], d.By, d.Seq
		case d != nil:
		case clear && f.Campaign.Rules.Decide.Auto:
			standing, by = "approved", "policy"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %d %v", id, standing, by, seq, clear))
		if d != nil && d.Action == "reject" || len(o) > 0 {
			nothingElse = false
		}
		if need {
			required++
			requiredWaiting = requiredWaiting || waiting
			allClear = allClear && clear && standing == "approved"
		}
	}
	sort.Strings(lines)
	whole := decision("")
	standing, by := "undecided", ""
	auto := f.Campaign.Rules.Decide.Auto && refOneOf(string(f.Campaign.State), "active", "deciding")
	switch {
	case refOneOf(string(f.Campaign.State), "approved", "rejected"):
		standing, by = string(f.Campaign.State), "policy"
		if whole != nil {
			by = whole.By
		}
	case refOneOf(string(f.Campaign.State), "cancelled", "superseded"):
	case auto && whole == nil && required > 0 && required >= f.Campaign.Rules.Machines.AtLeast && allClear && nothingElse:
		standing, by = "approved", "policy"
	case requiredWaiting:
		standing = "waiting"
	}
	return append(lines, fmt.Sprintf("campaign %s %s", standing, by))
}

// refTarget says of one target whether something of it has yet to come, and whether something is wrong with it, whatever its findings.
func refTarget(f judge.Facts, t cert.Target) (waiting, wrong bool) {
	if !refOneOf(string(t.State), "done", "blocked", "missing", "cancelled") {
		return true, false
	}
	c := t.Compared
	attention := 0
	boots := false
	for _, x := range f.Findings {
		if x.Target == t.ID && x.Attention {
			attention++
		}
		if x.Target == t.ID && x.Class == "kernel-boot" {
			boots = true
		}
	}
	for _, try := range t.Tries {
		if try.Failure != nil && try.Failure.Type == "kernel-boot" && try.Purpose != "confirm" && !boots {
			wrong = true
		}
	}
	waiting = c != nil && attention < c.Attention
	if t.State != "done" {
		return waiting, true
	}
	if t.Submission == "" || c == nil || c.Version != judge.Version || c.Submission != t.Submission {
		return true, wrong
	}
	known := false
	for _, try := range t.Tries {
		if try.Number == t.Counted && try.Submission == t.Submission && try.State == "completed" && len(try.Jobs) == 0 && try.Purpose != "attached" && try.Suspect == "" && !try.Infra {
			known = true
		}
	}
	policy := f.Campaign.Rules
	switch {
	case !known, !c.Proof.OK, !c.Proof.Needed, policy.Machines.Manifests && !c.Manifest, policy.Baseline.Needed && c.Baseline == nil, c.Planned == 0, c.Ran == 0:
		wrong = true
	}
	return waiting, wrong
}
