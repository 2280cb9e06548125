package judge

import (
	"fmt"
	"strconv"

	"certlab/internal/cert"
)

// finding begins a finding. mark tells apart failures of one job that are not alike.
func (w *work) finding(class, job, mark string, m *mark, old *Result) cert.Finding {
	t := &w.Target
	f := cert.Finding{ID: FindingIDOf(w.Campaign.ID, t.ID, class, job, mark), Campaign: w.Campaign.ID, Target: t.ID, Machine: t.Machine, Hostname: t.Hostname, HWClass: t.Class,
		Plan: t.Plan, Class: class, Job: job, Index: -1, OldIndex: -1, Found: w.Now}
	a, r := w.counted, (*Result)(nil)
	if m != nil {
		a, r = m.a, m.r
	}
	if a != nil {
		f.Run, f.Submission, f.Suspect = a.Try.Run, a.Side.Submission, a.Try.Suspect
		if a.Try.Machine != "" {
			f.Machine, f.Hostname = a.Try.Machine, a.Try.Hostname
		}
	}
	for _, from := range []*Result{r, w.now[job], old} {
		if from == nil {
			continue
		}
		if f.Name == "" {
			f.Name, f.Template, f.Category = from.Name, from.TemplateID, from.Category
		}
	}
	if r != nil {
		f.Index, f.Outcome, f.Signature = r.Index, r.Outcome, r.Signature
	}
	if old != nil && w.before != nil {
		f.OldSub, f.OldIndex, f.Before, f.BeforeWhy = w.before.Submission, old.Index, old.Outcome, ""
		if standOf(old) == lost {
			f.Before = cert.OutcomeLost
		}
		if standOf(old) == skipped {
			f.BeforeWhy = skipReason(old)
		}
	}
	f.Blocker = blocker(w.policy, job, w.status(r, job, old))
	return f
}

// status is what Checkbox says of the job's certification status; empty: nothing is known.
func (w *work) status(r *Result, job string, old *Result) string {
	for _, from := range []*Result{r, w.now[job], old} {
		if from != nil && from.CertificationStatus != "" && from.CertificationStatus != "unspecified" {
			return from.CertificationStatus
		}
	}
	return ""
}

func (w *work) add(f cert.Finding) { w.out.Findings = append(w.out.Findings, f) }

// baselineName is what the other side ran, for people.
func (w *work) baselineName() string {
	if w.before == nil {
		return "the baseline"
	}
	for _, name := range []string{w.before.Version, w.before.Kernel} {
		if name != "" {
			return name
		}
	}
	return "the baseline"
}

func again(marks []mark) []cert.Again {
	var out []cert.Again
	for _, m := range marks {
		out = append(out, cert.Again{Try: m.a.Try.Number, Purpose: m.a.Try.Purpose, Run: m.a.Try.Run, Submission: m.a.Side.Submission, Index: m.r.Index, Outcome: m.r.Outcome,
			Lost: m.s == lost, Doubt: m.r.Doubt})
	}
	return out
}

// several is the outcomes of a job where there is more than one.
func several(marks []mark) []cert.Again {
	if len(marks) < 2 {
		return nil
	}
	return again(marks)
}

func (w *work) lost(job string, losses []mark, old *Result) {
	m := losses[len(losses)-1]
	f := w.finding(cert.FindMachineLost, job, strconv.Itoa(len(losses)), &m, old)
	f.Outcome, f.Blocker, f.Attention = cert.OutcomeLost, true, true
	f.New = old == nil || standOf(old) != lost
	f.Text = "the machine was lost in it"
	if len(losses) > 1 {
		f.Text = fmt.Sprintf("the machine was lost in it %d times", len(losses))
	}
	w.add(f)
}

func (w *work) doubted(job string, doubts []mark, old *Result) {
	m := doubts[len(doubts)-1]
	f := w.finding(cert.FindFalsePass, job, m.r.Doubt, &m, old)
	f.Reason, f.Attention = m.r.Doubt, true
	f.New = old == nil || standOf(old) != doubted || old.Doubt != m.r.Doubt
	f.Text = "it passed, and its log says otherwise: " + explainDoubt(m.r.Doubt)
	w.add(f)
}

func (w *work) failing(job string, m mark, marks []mark, old *Result) {
	was := standOf(old)
	switch {
	case was.pass():
		f := w.finding(cert.ClassRegression, job, m.r.Signature, &m, old)
		f.New, f.Attention = true, true
		f.Text = fmt.Sprintf("passed on %s, and is %s now", w.baselineName(), m.r.Outcome)
		w.add(f)
	case was == failed || was == lost:
		f := w.finding(cert.ClassStillFailing, job, m.r.Signature, &m, old)
		otherwise := was == lost || old.Outcome != m.r.Outcome || old.Signature != m.r.Signature || unread(old) || unread(m.r)
		// What is known not to work may go on not working, but not in another way: that could be something new behind something old.
		f.Attention = f.Blocker || otherwise || w.Campaign.Kind == cert.KindCertification || len(marks) > 1 && anyPass(marks)
		f.Text = "fails as on " + w.baselineName()
		if otherwise {
			f.Text = fmt.Sprintf("fails as on %s, but in another way", w.baselineName())
		}
		w.add(f)
	default:
		f := w.finding(cert.ClassNewFailure, job, m.r.Signature, &m, old)
		f.New, f.Attention = true, true
		f.Text = fmt.Sprintf("is %s, and nothing is known of before", m.r.Outcome)
		if old != nil {
			f.Text = fmt.Sprintf("is %s, and was not run on %s", m.r.Outcome, w.baselineName())
		}
		w.add(f)
	}
}

// unread reports whether there is a log of which nothing is known.
func unread(r *Result) bool { return r.LogSize > 0 && r.Signature == "" }

func anyPass(marks []mark) bool {
	for _, m := range marks {
		if m.s.pass() {
			return true
		}
	}
	return false
}

// flaky is a job that failed and has passed since.
func (w *work) flaky(job string, failures, marks []mark, old *Result) {
	m := failures[len(failures)-1]
	f := w.finding(cert.FindFlaky, job, m.r.Signature+"/"+strconv.Itoa(len(failures)), &m, old)
	was := standOf(old)
	f.New, f.Attention = was != failed && was != lost, !m.weak
	f.Text = fmt.Sprintf("is %s in %d of %d tries, and passes in the last", m.r.Outcome, len(failures), len(marks))
	if m.weak {
		f.Text += "; it failed only within an incident"
	} else {
		f.Suspect = ""
	}
	w.add(f)
}

func (w *work) passing(job string, m mark, old *Result) {
	if w.before == nil {
		return
	}
	was := standOf(old)
	var f cert.Finding
	switch {
	case was == failed || was == lost:
		f = w.finding(cert.ClassFixed, job, "", &m, old)
		f.Text = fmt.Sprintf("failed on %s, and passes now", w.baselineName())
	case was == skipped || was == unknown:
		f = w.finding(cert.ClassNewlyPassing, job, "", &m, old)
		f.Text = fmt.Sprintf("was not run on %s, and passes now", w.baselineName())
	case was == absent:
		f = w.finding(cert.ClassAppeared, job, "", &m, old)
		f.Text = "was not in the plan before, and passes"
	default:
		return
	}
	f.Signature = ""
	w.add(f)
}

// notRun is a job without an outcome that says something.
func (w *work) notRun(job string, now, old *Result, rejected bool) {
	is, was := standOf(now), standOf(old)
	_, planned := w.planned[job]
	need := required(w.policy, job)
	why := ""
	switch {
	case rejected && is == absent:
		why = "somebody took it out before the run"
	case is == unknown:
		why = fmt.Sprintf("its outcome is %q, which says nothing", now.Outcome)
	case is == absent && planned:
		why = "the plan has it on this machine, and there is no record of it"
	case is == absent && need:
		why = "the policy requires it, and there is no record of it"
	case is == absent && was.ran() && !w.excluded(job):
		why = fmt.Sprintf("it ran on %s, and there is no record of it", w.baselineName())
	case is == absent:
		return // it did not run before either, or was left out on purpose
	case need:
		why = "the policy requires it, and it was skipped: " + skipReason(now)
	case was.ran():
		why = fmt.Sprintf("it ran on %s, and was skipped: %s", w.baselineName(), skipReason(now))
	}
	if why == "" {
		w.skipped(job, now, old)
		return
	}
	m := (*mark)(nil)
	if now != nil {
		m = &mark{a: w.counted, r: now, s: is}
	}
	f := w.finding(cert.ClassMissing, job, "", m, old)
	f.Signature = ""
	f.Blocker = f.Blocker || need
	f.New = was.ran() || w.before == nil
	f.Attention, f.Text = true, why
	if is == skipped {
		f.Reason = skipReason(now)
	}
	w.add(f)
	w.missing++
}

// skipped is a job that was skipped and did not run before either.
func (w *work) skipped(job string, now, old *Result) {
	if now.NoManifest || w.counted.Side.NoManifest && now.WantsManifest() {
		w.manifest.jobs++
		if blocker(w.policy, job, w.status(now, job, old)) {
			w.manifest.blockers++
		}
		if w.manifest.first == nil || now.key() < w.manifest.first.key() {
			w.manifest.first = now
		}
		return
	}
	m := &mark{a: w.counted, r: now, s: skipped}
	var f cert.Finding
	switch {
	case w.before == nil:
		return
	case old == nil:
		f = w.finding(cert.ClassAppeared, job, "", m, nil)
		f.Text = "was not in the plan before, and is skipped"
	case sameReason(now, old):
		return
	default:
		f = w.finding(cert.ClassSkipChanged, job, "", m, old)
		f.Text = "is skipped as before, for another reason"
	}
	f.Reason = skipReason(now)
	f.Signature = ""
	w.add(f)
}

func (w *work) manifestFinding() {
	if w.manifest.jobs == 0 {
		return
	}
	f := w.finding(cert.FindManifest, "", strconv.Itoa(w.manifest.jobs), nil, nil)
	f.Attention = w.policy.Machines.Manifests
	f.Blocker = w.manifest.blockers > 0
	f.New = w.before == nil
	f.Reason = skipReason(w.manifest.first)
	f.Text = fmt.Sprintf("%s skipped because nobody has a manifest of the machine, %d of them blockers: nothing is known of what they would have tested",
		count(w.manifest.jobs, "job was", "jobs were"), w.manifest.blockers)
	w.add(f)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
