package judge

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
)

// A Hit is what a known issue may recognise.
type Hit struct {
	Job      string // full id
	Template string // full id
	Plan     string
	Outcome  string // fail, crash, machine-lost, false-pass or kernel-boot: see HitOutcome
	Machine  *cert.FleetMachine
	Series   string
	Source   string
	Version  string // of the subject's package, or of the kernel that ran
	Log      string // the part of the log that is kept
}

// HitOutcome is what a known issue has to be about to recognise a finding; empty: none can, since nothing failed or nothing is known.
func HitOutcome(f *cert.Finding) string {
	switch f.Class {
	case cert.FindMachineLost:
		return cert.OutcomeLost
	case cert.FindFalsePass, cert.FindKernelBoot:
		return f.Class
	case cert.ClassRegression, cert.ClassStillFailing, cert.ClassNewFailure, cert.FindFlaky:
		return f.Outcome
	}
	return ""
}

// A Matcher recognises findings and results by known issues. It is made once for many.
type Matcher struct {
	rules    []rule
	Problems []string // rules that cannot be used, and why
}

type rule struct {
	issue    *cert.KnownIssue
	outcomes []string
	machines *cert.Query
	log      *regexp.Regexp
	weight   int
}

// CompileIssues makes a Matcher of those that are neither closed nor have run out.
func CompileIssues(issues []cert.KnownIssue, now time.Time) *Matcher {
	m := &Matcher{}
	for n := range issues {
		k := &issues[n]
		if !active(k, now) {
			continue
		}
		r, err := compileIssue(k)
		if err != nil {
			m.Problems = append(m.Problems, fmt.Sprintf("known issue %s recognises nothing: %v", k.ID, err))
			continue
		}
		m.rules = append(m.rules, r)
	}
	slices.SortFunc(m.rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), a.issue.Created.Compare(b.issue.Created), strings.Compare(a.issue.ID, b.issue.ID))
	})
	return m
}

func active(k *cert.KnownIssue, now time.Time) bool {
	return (k.Expires == nil || now.Before(*k.Expires)) && (k.Closed == nil || now.Before(*k.Closed))
}

func compileIssue(k *cert.KnownIssue) (rule, error) {
	r := rule{issue: k, outcomes: k.Match.Outcomes, weight: weight(k.Match)}
	if err := k.Match.Validate(); err != nil {
		return r, err
	}
	if len(r.outcomes) == 0 {
		r.outcomes = []string{"fail", "crash"}
	}
	if k.Match.Machines != "" {
		q, err := cert.ParseQuery(k.Match.Machines)
		if err != nil {
			return r, err
		}
		r.machines = &q
	}
	if k.Match.Log != "" {
		re, err := k.Match.CompileLog()
		if err != nil {
			return r, err
		}
		r.log = re
	}
	return r, nil
}

// weight is how narrow a rule is: of two that fit, the narrower explains a result; of two alike, the older.
func weight(m cert.IssueMatch) int {
	n := 0
	for _, w := range []struct {
		set bool
		n   int
	}{{m.Log != "", 32}, {m.Job != "" && !strings.Contains(m.Job, "*"), 16}, {m.Job != "", 8}, {m.Template != "", 8}, {m.Machines != "", 4}, {m.From != "" || m.To != "", 2},
		{len(m.Series) > 0, 1}, {m.Source != "", 1}, {m.Plan != "", 1}} {
		if w.set {
			n += w.n
		}
	}
	return n
}

// Recognise returns the known issue that recognises a hit, or nil. Of several, the narrowest; of those, the oldest.
func (m *Matcher) Recognise(h Hit) *cert.KnownIssue {
	for n := range m.rules {
		if m.rules[n].fits(&h) {
			return m.rules[n].issue
		}
	}
	return nil
}

// fits reports whether all that the rule asks for holds. What is not known of a hit fits nothing that is asked for.
func (r *rule) fits(h *Hit) bool {
	k := &r.issue.Match
	switch {
	case h.Outcome == "" || !slices.Contains(r.outcomes, h.Outcome),
		k.Job != "" && !cert.MatchJob(k.Job, h.Job),
		k.Template != "" && k.Template != h.Template,
		k.Plan != "" && k.Plan != h.Plan,
		len(k.Series) > 0 && !slices.Contains(k.Series, h.Series),
		k.Source != "" && k.Source != h.Source,
		k.From != "" && (h.Version == "" || cert.CompareVersions(h.Version, k.From) < 0),
		k.To != "" && (h.Version == "" || cert.CompareVersions(h.Version, k.To) >= 0),
		r.machines != nil && (h.Machine == nil || r.machines.Match(h.Machine) != ""):
		return false
	}
	return r.log == nil || r.log.MatchString(h.Log)
}

// Apply says on a finding which known issue recognises it, and whether that excuses it.
func (m *Matcher) Apply(f *cert.Finding, h Hit) {
	f.Issue, f.IssueLink, f.Excused = "", "", false
	h.Outcome = HitOutcome(f)
	k := m.Recognise(h)
	if k == nil {
		return
	}
	f.Issue, f.IssueLink, f.Excused = k.ID, k.Link, excuses(k, f)
}

// excuses: a rule never hides a blocker, nor what is new, unless it says so; without, it only explains.
func excuses(k *cert.KnownIssue, f *cert.Finding) bool {
	return k.HidesBlockers || !f.Blocker && !f.New
}
