package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// maxNamed bounds the machines and findings that a group names.
const maxNamed = 10

// GroupKey tells which findings are one: those of the same class, job and signature. Those without a job differ by nothing else.
func GroupKey(f *cert.Finding) string { return f.Class + "|" + f.Job + "|" + f.Signature }

// Group puts findings that are alike together, in the order of a campaign's page: what stands in the way first, of that blockers first, of those what
// is new first, and then what is on most machines. ranOn says on how many machines a job ran; nil: not known.
func Group(findings []cert.Finding, ranOn map[string]int) []cert.FindingGroup {
	all := make([]*cert.Finding, len(findings))
	for n := range findings {
		all[n] = &findings[n]
	}
	return group(all, ranOn, (*cert.Finding).Open)
}

// group is Group where open says which findings are.
func group(findings []*cert.Finding, ranOn map[string]int, open func(*cert.Finding) bool) []cert.FindingGroup {
	type gathered struct {
		cert.FindingGroup
		machines map[string]string // id → hostname
		classes  map[string]map[string]bool
	}
	groups := map[string]*gathered{}
	for _, f := range findings {
		key := GroupKey(f)
		g := groups[key]
		if g == nil {
			g = &gathered{FindingGroup: cert.FindingGroup{Key: key, Class: f.Class, Job: f.Job, Signature: f.Signature, Of: ranOn[f.Job]}, machines: map[string]string{}, classes: map[string]map[string]bool{}}
			groups[key] = g
		}
		g.Blocker, g.New, g.Open = g.Blocker || f.Blocker, g.New || f.New, g.Open || open(f)
		g.machines[f.Machine] = f.Hostname
		if f.HWClass != "" {
			if g.classes[f.HWClass] == nil {
				g.classes[f.HWClass] = map[string]bool{}
			}
			g.classes[f.HWClass][f.Machine] = true
		}
		g.Findings = append(g.Findings, f.ID)
		if f.Issue != "" && (g.Issue == "" || f.Issue < g.Issue) {
			g.Issue, g.IssueLink = f.Issue, f.IssueLink
		}
		if g.Text == "" || f.Text < g.Text {
			g.Text = f.Text
		}
	}
	out := make([]cert.FindingGroup, 0, len(groups))
	for _, g := range groups {
		g.Machines = len(g.machines)
		for _, name := range g.machines {
			g.Names = append(g.Names, name)
		}
		slices.Sort(g.Names)
		slices.Sort(g.Findings)
		g.Names, g.Findings = g.Names[:min(len(g.Names), maxNamed)], g.Findings[:min(len(g.Findings), maxNamed)]
		for class, machines := range g.classes {
			if g.HWClasses == nil {
				g.HWClasses = map[string]int{}
			}
			g.HWClasses[class] = len(machines)
		}
		if g.Of < g.Machines {
			g.Of = 0 // not known, or the job ran on none of them
		}
		out = append(out, g.FindingGroup)
	}
	slices.SortFunc(out, func(a, b cert.FindingGroup) int {
		return cmp.Or(first(a.Open, b.Open), first(a.Blocker, b.Blocker), first(a.New, b.New), cmp.Compare(ClassRank(a.Class), ClassRank(b.Class)), cmp.Compare(b.Machines, a.Machines),
			strings.Compare(a.Job, b.Job), strings.Compare(a.Key, b.Key))
	})
	return out
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// classes in the order of their gravity.
var classes = []string{cert.FindKernelBoot, cert.FindMachineLost, cert.ClassRegression, cert.ClassNewFailure, cert.FindFalsePass, cert.ClassMissing, cert.FindFlaky,
	cert.FindUnproved, cert.FindUnreadable, cert.FindManifest, cert.ClassStillFailing, cert.ClassSkipChanged, cert.ClassAppeared, cert.ClassNewlyPassing, cert.ClassFixed}

// ClassOrder lists the classes, the gravest first.
func ClassOrder() []string { return slices.Clone(classes) }

// ClassRank is how grave a class is, the least for the gravest.
func ClassRank(class string) int {
	if n := slices.Index(classes, class); n >= 0 {
		return n
	}
	return len(classes)
}

// CoverageOf counts a campaign's targets.
func CoverageOf(targets []cert.Target) cert.Coverage {
	c := cert.Coverage{Why: map[string]int{}}
	for n := range targets {
		t := &targets[n]
		if t.State == cert.TargetExcluded {
			c.Excluded++
			c.Why[t.Why]++
			continue
		}
		if t.AsFound {
			c.AsFound++
		}
		if !t.Required {
			c.Optional++
			continue
		}
		c.Required++
		switch t.State {
		case cert.TargetWaiting:
			c.Waiting++
		case cert.TargetQueued:
			c.Queued++
		case cert.TargetProvisioning:
			c.Provisioning++
		case cert.TargetRunning, cert.TargetComparing:
			c.Running++
		case cert.TargetDone:
			c.Done++
		case cert.TargetBlocked:
			c.Blocked++
		default:
			c.Missing++
			c.Why[cmp.Or(t.Why, fmt.Sprintf("is %s, and nobody said why", t.State))]++
		}
		if (t.State == cert.TargetDone || t.State == cert.TargetBlocked) && t.Compared != nil && t.Compared.Proof.OK {
			c.Proved++
		}
	}
	return c
}
