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
	type key struct{ class, job, signature string }
	type place struct{ machine, hostname, class string }
	type gathered struct {
		cert.FindingGroup
		places []place // of each finding
		rank   int
	}
	// A campaign may have as many groups as findings: nothing here is made for each of them that a slice does not do.
	groups := make(map[key]*gathered)
	for _, f := range findings {
		k := key{f.Class, f.Job, f.Signature}
		g := groups[k]
		if g == nil {
			g = &gathered{FindingGroup: cert.FindingGroup{Key: GroupKey(f), Class: f.Class, Job: f.Job, Signature: f.Signature, Of: ranOn[f.Job]}, rank: ClassRank(f.Class)}
			groups[k] = g
		}
		g.Blocker, g.New, g.Open = g.Blocker || f.Blocker, g.New || f.New, g.Open || open(f)
		g.places = append(g.places, place{f.Machine, f.Hostname, f.HWClass})
		g.Findings = append(g.Findings, f.ID)
		if f.Issue != "" && (g.Issue == "" || f.Issue < g.Issue) {
			g.Issue, g.IssueLink = f.Issue, f.IssueLink
		}
		if g.Text == "" || f.Text < g.Text {
			g.Text = f.Text
		}
	}
	all := make([]*gathered, 0, len(groups))
	for _, g := range groups {
		slices.SortStableFunc(g.places, func(a, b place) int {
			return cmp.Or(strings.Compare(a.machine, b.machine), strings.Compare(a.class, b.class))
		})
		for n, p := range g.places {
			another := n == 0 || g.places[n-1].machine != p.machine
			if another {
				g.Machines++
				g.Names = append(g.Names, p.hostname)
			}
			if p.class != "" && (another || g.places[n-1].class != p.class) {
				if g.HWClasses == nil {
					g.HWClasses = make(map[string]int)
				}
				g.HWClasses[p.class]++
			}
		}
		slices.Sort(g.Names)
		slices.Sort(g.Findings)
		g.Names, g.Findings = g.Names[:min(len(g.Names), maxNamed)], g.Findings[:min(len(g.Findings), maxNamed)]
		if g.Of < g.Machines {
			g.Of = 0 // not known, or the job ran on none of them
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *gathered) int {
		return cmp.Or(first(a.Open, b.Open), first(a.Blocker, b.Blocker), first(a.New, b.New), cmp.Compare(a.rank, b.rank), cmp.Compare(b.Machines, a.Machines),
			strings.Compare(a.Job, b.Job), strings.Compare(a.Key, b.Key))
	})
	out := make([]cert.FindingGroup, len(all))
	for n, g := range all {
		out[n] = g.FindingGroup
	}
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
