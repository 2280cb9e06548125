package judge

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"certlab/internal/cert"
)

// Compare says how a target stands against its baseline.
//
// Of the tries for the whole plan the last one counts that is proved, says something about the subject and is not within an incident; failing that,
// the last within an incident; failing that, the last that there is, which then is unproved. What the others found is never hidden by it: a job that
// failed in any of them and passes in the last is flaky and not passed, and a machine that was lost or a pass that is doubted in any of them stays a
// finding. A try for some jobs can add an outcome to a job that had none, and a failure; its passes make a failure flaky and no more. What failed
// within an incident only, and passes outside, is shown and stands in nobody's way.
func Compare(c Case) Comparison {
	w := newWork(c)
	w.chooseTries()
	w.chooseBaseline()
	w.tries()
	if w.counted == nil {
		w.out.Compared = cert.Compared{At: c.Now, Version: Version, Counts: map[string]int{}}
		w.finish()
		return w.out
	}
	w.jobs()
	w.compared()
	w.finish()
	return w.out
}

// work is a comparison under way.
type work struct {
	Case
	policy   *cert.Policy
	excluded func(job string) bool
	usable   []*Attempt // in order
	counted  *Attempt
	before   *Side
	old      map[string]*Result
	now      map[string]*Result // of counted
	marks    map[string][]mark
	planned  map[string]bool // → it is a test
	manifest manifestSkips
	out      Comparison
	same     int
	ran      int
	missing  int
}

// mark is what one try has made of a job.
type mark struct {
	a    *Attempt
	r    *Result
	s    stand
	weak bool // within an incident, while the counted try is not
}

type manifestSkips struct {
	jobs, blockers int
	first          *Result
}

func newWork(c Case) *work {
	w := &work{Case: c, policy: &c.Campaign.Rules}
	w.Attempts = slices.Clone(c.Attempts)
	slices.SortStableFunc(w.Attempts, func(a, b Attempt) int { return cmp.Compare(a.Try.Number, b.Try.Number) })
	var exclude, match []*regexp.Regexp
	compile := func(patterns []string) (out []*regexp.Regexp) {
		for _, pattern := range patterns {
			if re, err := cert.CompilePattern(pattern); err == nil {
				out = append(out, re)
			}
		}
		return out
	}
	exclude, match = compile(w.policy.Exclude), compile(w.policy.Match)
	fits := func(list []*regexp.Regexp, job string) bool {
		return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(job) })
	}
	w.excluded = func(job string) bool {
		return fits(exclude, job) || len(w.policy.Match) > 0 && len(match) == len(w.policy.Match) && !fits(match, job)
	}
	w.planned = make(map[string]bool, len(c.Planned))
	for _, j := range c.Planned {
		w.planned[j.ID] = !gathers("", j.Plugin)
	}
	return w
}

func (w *work) warn(format string, args ...any) {
	w.out.Warnings = append(w.out.Warnings, fmt.Sprintf(format, args...))
}

// chooseTries finds the try that counts and those that say something besides.
func (w *work) chooseTries() {
	var clean, suspect, any *Attempt
	for n := range w.Attempts {
		a := &w.Attempts[n]
		if a.Try.Purpose == cert.TryConfirm || a.Unreadable != "" {
			continue
		}
		if a.Side.Plan != w.Target.Plan {
			w.warn("try %d is of plan %q, not of %s: it was left out", a.Try.Number, a.Side.Plan, w.Target.Plan)
			continue
		}
		usable := !a.Try.Infra && (!a.Proof.Needed || a.Proof.OK)
		if usable {
			w.usable = append(w.usable, a)
		}
		switch {
		case a.Try.Partial():
		case usable && a.Try.Suspect == "":
			clean = a
		case usable:
			suspect = a
		default:
			any = a
		}
	}
	w.counted = cmp.Or(clean, suspect, any)
	if w.counted == nil {
		return
	}
	w.out.Counted = w.counted.Try.Number
	if !slices.Contains(w.usable, w.counted) {
		w.usable = append(w.usable, w.counted) // on which nothing good can be built, since it is unproved
		slices.SortFunc(w.usable, func(a, b *Attempt) int { return cmp.Compare(a.Try.Number, b.Try.Number) })
	}
}

// chooseBaseline refuses a baseline that is none for the counted try.
func (w *work) chooseBaseline() {
	b := w.Before
	if b == nil || w.counted == nil {
		return
	}
	now := &w.counted.Side
	most := time.Duration(w.policy.Baseline.MaxDays) * 24 * time.Hour
	switch {
	case b.Plan != w.Target.Plan:
		w.warn("cannot compare with submission %s: it is of plan %q, not of %s (without a baseline every failure is new)", b.Submission, b.Plan, w.Target.Plan)
	case b.Machine != now.Machine:
		w.warn("cannot compare with submission %s: it is of another machine", b.Submission)
	case b.Submission == now.Submission:
		w.warn("cannot compare submission %s with itself", b.Submission)
	case w.Campaign.Subject.Version != "" && b.Version == w.Campaign.Subject.Version:
		w.warn("cannot compare with submission %s: it is of %s too, which is to be tested", b.Submission, b.Version)
	case most > 0 && now.At.Sub(b.At) > most:
		w.warn("cannot compare with submission %s: it is older than the %d days that the policy allows", b.Submission, w.policy.Baseline.MaxDays)
	default:
		w.before, w.old = b, byJob(b, false)
	}
}

// jobs goes through every job that either side, another try, the plan or the policy knows.
func (w *work) jobs() {
	w.now = byJob(&w.counted.Side, true)
	w.marks = make(map[string][]mark, len(w.now))
	for _, a := range w.usable {
		results := w.now
		if a != w.counted {
			results = byJob(&a.Side, true)
		}
		weak := a.Try.Suspect != "" && w.counted.Try.Suspect == ""
		for job, r := range results {
			if s := standOf(r); s.ran() {
				w.marks[job] = append(w.marks[job], mark{a, r, s, weak})
			}
		}
	}
	all := make(map[string]bool, len(w.now)+len(w.old))
	for job := range w.now {
		all[job] = true
	}
	for job := range w.marks {
		all[job] = true
	}
	for job := range w.old {
		all[job] = true
	}
	for job := range w.planned {
		all[job] = true
	}
	rejected := make(map[string]bool, len(w.counted.Side.Rejected))
	for _, job := range w.counted.Side.Rejected {
		all[job], rejected[job] = true, true
	}
	for job := range all {
		w.job(job, rejected[job])
	}
	for _, pattern := range w.policy.Jobs.Required {
		w.requires(pattern, all)
	}
	w.manifestFinding()
}

// requires finds what the policy asks for and nothing knows of.
func (w *work) requires(pattern string, all map[string]bool) {
	for job := range all {
		if cert.MatchJob(pattern, job) {
			return
		}
	}
	f := w.finding(cert.ClassMissing, pattern, "", nil, nil)
	f.Blocker, f.New, f.Attention = true, w.before == nil, true
	f.Text = "the policy requires it, and nobody has run it: the plan has no such job on this machine"
	w.add(f)
	w.missing++
}

// job finds what is to be said of one job.
func (w *work) job(job string, rejected bool) {
	marks, old, now := w.marks[job], w.old[job], w.now[job]
	before := len(w.out.Findings)
	var last *mark // the last that is neither weak nor lost
	var failures, weakFailures, losses, doubts []mark
	for n := range marks {
		m := &marks[n]
		switch {
		case m.s == lost:
			losses = append(losses, *m)
			continue
		case m.s == doubted:
			doubts = append(doubts, *m)
		case m.s == failed && m.weak:
			weakFailures = append(weakFailures, *m)
		case m.s == failed:
			failures = append(failures, *m)
		}
		if !m.weak {
			last = m
		}
	}
	if len(losses) > 0 {
		w.lost(job, losses, old)
	}
	if len(doubts) > 0 {
		w.doubted(job, doubts, old)
	}
	test := w.isTest(job, now, old)
	if last != nil && test {
		w.ran++
	}
	switch {
	case last != nil && last.s == failed:
		w.failing(job, *last, marks, old)
	case last != nil && len(failures) > 0:
		w.flaky(job, failures, marks, old)
	case last != nil && len(weakFailures) > 0:
		w.flaky(job, weakFailures, marks, old)
	case last != nil && last.s == passed && test && !(len(losses)+len(doubts) > 0):
		w.passing(job, *last, old)
	case last == nil && len(weakFailures) > 0: // only an incident's try has run it: its failure is all that is known
		w.failing(job, weakFailures[len(weakFailures)-1], marks, old)
	case last != nil || len(losses) > 0 || !test:
	default:
		w.notRun(job, now, old, rejected)
	}
	for n := before; n < len(w.out.Findings); n++ {
		w.out.Findings[n].Outcomes = several(marks)
	}
	if len(w.out.Findings) == before && now != nil && test {
		w.same++
	}
}

func (w *work) isTest(job string, now, old *Result) bool {
	switch {
	case now != nil:
		return !now.gathers()
	case old != nil:
		return !old.gathers()
	}
	test, planned := w.planned[job]
	return test || !planned
}
