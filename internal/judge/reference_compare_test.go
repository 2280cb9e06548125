package judge_test

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"certlab/internal/judge"
)

// The reference: what comparing comes to, said job by job in words, without regard for time. It shares no code with the package but its types.

// expected is what the reference says of a finding.
type expected struct {
	Class, Job              string
	Blocker, New, Attention bool
	Outcome, Reason         string
	Tries                   string // the outcomes of all tries
}

type refCompared struct {
	Counted              int
	Baseline             bool
	Findings             []string
	Planned, Ran, Absent int
}

// told is what one try tells of a job.
type told struct {
	word   string // pass, doubt, fail, lost, skip, unknown or nothing
	result judge.Result
	weak   bool
	try    int
}

func refWord(r judge.Result) string {
	if r.MachineLost {
		return "lost"
	}
	if r.Outcome == "pass" && r.Doubt != "" {
		return "doubt"
	}
	if r.Outcome == "pass" {
		return "pass"
	}
	if r.Outcome == "fail" || r.Outcome == "crash" {
		return "fail"
	}
	for _, w := range []string{"skip", "not-supported", "skipped-dependency", "skipped-resource", "skipped-manifest", "not-implemented"} {
		if r.Outcome == w {
			return "skip"
		}
	}
	return "unknown"
}

// refLook finds a job's record on a side: of several the first of the worst, or of the best.
func refLook(s judge.Side, job string, worst bool) told {
	scale := []string{"pass", "doubt", "skip", "unknown", "fail", "lost"}
	if worst {
		slices.Reverse(scale)
	}
	for _, word := range scale {
		for _, r := range s.Results {
			if r.ID == job && refWord(r) == word {
				return told{word: word, result: r}
			}
		}
	}
	return told{word: "nothing"}
}

func refOneOf(word string, words ...string) bool { return slices.Contains(words, word) }

// refPattern is MatchJob by way of a regular expression.
func refPattern(pattern, job string) bool {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(job)
}

func refAny(patterns []string, job string) bool {
	for _, p := range patterns {
		if refPattern(p, job) {
			return true
		}
	}
	return false
}

func refCompare(c judge.Case) refCompared {
	var out refCompared
	var findings []expected
	rules := c.Campaign.Rules
	good := func(a judge.Attempt) bool { return !a.Try.Infra && (a.Proof.OK || !a.Proof.Needed) }
	readable := func(a judge.Attempt) bool {
		return a.Unreadable == "" && a.Try.Purpose != "confirm" && a.Side.Plan == c.Target.Plan
	}
	// The try that counts.
	var counted *judge.Attempt
	for _, accept := range []func(judge.Attempt) bool{
		func(a judge.Attempt) bool { return true },
		good,
		func(a judge.Attempt) bool { return good(a) && a.Try.Suspect == "" },
	} {
		for _, a := range c.Attempts {
			if readable(a) && len(a.Try.Jobs) == 0 && accept(a) {
				if counted == nil || counted.Try.Number < a.Try.Number || !accept(*counted) || accept(*counted) {
					copied := a
					counted = &copied
				}
			}
		}
	}
	// About tries.
	boots, losses := 0, 0
	for _, t := range c.Target.Tries {
		if t.Failure != nil && t.Purpose != "confirm" {
			if t.Failure.Type == "kernel-boot" {
				boots++
			}
			if t.Failure.Type == "machine-lost" && !t.Infra {
				losses++
			}
		}
	}
	if boots > 0 {
		findings = append(findings, expected{Class: "kernel-boot", Blocker: true, New: true, Attention: true, Outcome: "kernel-boot", Tries: strings.Repeat("kernel-boot ", boots)})
	}
	if losses > 0 {
		findings = append(findings, expected{Class: "machine-lost", Blocker: true, New: true, Attention: true, Outcome: "machine-lost"})
	}
	for _, a := range c.Attempts {
		if a.Unreadable != "" && !(a.Try.Infra && counted != nil) {
			findings = append(findings, expected{Class: "unreadable", Blocker: true, New: true, Attention: true})
		}
	}
	if counted != nil {
		out.Counted = counted.Try.Number
		if counted.Proof.Needed && !counted.Proof.OK {
			findings = append(findings, expected{Class: "unproved", Blocker: true, New: true, Attention: true})
		}
		findings = append(findings, refJobs(c, counted, good, readable, &out)...)
	}
	_ = rules
	for _, f := range findings {
		out.Findings = append(out.Findings, fmt.Sprintf("%+v", f))
	}
	sort.Strings(out.Findings)
	return out
}

func refBaseline(c judge.Case, counted *judge.Attempt) *judge.Side {
	b := c.Before
	if b == nil || b.Plan != c.Target.Plan || b.Machine != counted.Side.Machine || b.Submission == counted.Side.Submission || b.Version == c.Campaign.Subject.Version {
		return nil
	}
	if days := c.Campaign.Rules.Baseline.MaxDays; days > 0 && counted.Side.At.Sub(b.At).Hours() > float64(24*days) {
		return nil
	}
	return b
}

func refJobs(c judge.Case, counted *judge.Attempt, good, readable func(judge.Attempt) bool, out *refCompared) []expected {
	rules := c.Campaign.Rules
	before := refBaseline(c, counted)
	out.Baseline = before != nil
	var findings []expected
	manifest, manifestBlockers, manifestReason, manifestJob := 0, 0, "", ""
	jobs := map[string]bool{}
	planned := map[string]string{}
	for _, p := range c.Planned {
		planned[p.ID] = p.Plugin
		jobs[p.ID] = true
	}
	for _, id := range counted.Side.Rejected {
		jobs[id] = true
	}
	for _, r := range counted.Side.Results {
		jobs[r.ID] = true
	}
	if before != nil {
		for _, r := range before.Results {
			jobs[r.ID] = true
		}
	}
	for _, a := range c.Attempts {
		if readable(a) && good(a) {
			for _, r := range a.Side.Results {
				if refOneOf(refWord(r), "pass", "doubt", "fail", "lost") {
					jobs[r.ID] = true
				}
			}
		}
	}
	gatherer := func(plugin string) bool { return plugin == "resource" || plugin == "attachment" }
	for _, plugin := range planned {
		if !gatherer(plugin) {
			out.Planned++
		}
	}
	for job := range jobs {
		now := refLook(counted.Side, job, true)
		old := told{word: "nothing"}
		if before != nil {
			old = refLook(*before, job, false)
		}
		var story []told
		for _, a := range c.Attempts {
			if !readable(a) || !good(a) && a.Try.Number != counted.Try.Number {
				continue
			}
			one := refLook(a.Side, job, true)
			if refOneOf(one.word, "pass", "doubt", "fail", "lost") {
				one.weak, one.try = a.Try.Suspect != "" && counted.Try.Suspect == "", a.Try.Number
				story = append(story, one)
			}
		}
		with := func(word string, weak ...bool) (list []told) {
			for _, s := range story {
				if s.word == word && (len(weak) == 0 || s.weak == weak[0]) {
					list = append(list, s)
				}
			}
			return list
		}
		last := told{word: "nothing"} // the last that is neither within an incident nor lost
		for _, s := range story {
			if !s.weak && s.word != "lost" {
				last = s
			}
		}
		isTest := true
		switch {
		case now.word != "nothing":
			isTest = !gatherer(now.result.Plugin)
		case old.word != "nothing":
			isTest = !gatherer(old.result.Plugin)
		default:
			isTest = !gatherer(planned[job])
		}
		if last.word != "nothing" && isTest {
			out.Ran++
		}
		strong := false
		for _, s := range story {
			strong = strong || !s.weak
		}
		if plugin, ok := planned[job]; ok && !gatherer(plugin) && now.word == "nothing" && !strong {
			out.Absent++
		}
		blocker := func(from told) bool {
			if refAny(rules.Jobs.Blockers, job) {
				return true
			}
			if c.Campaign.Rules.Kind != "certification" && refAny(rules.Jobs.NonBlockers, job) {
				return false
			}
			for _, t := range []told{from, now, old} {
				switch t.result.CertificationStatus {
				case "blocker":
					return true
				case "non-blocker":
					return false
				}
			}
			return true
		}
		all := func() string {
			if len(story) < 2 {
				return ""
			}
			text := ""
			for _, s := range story {
				text += s.word + " "
			}
			return text
		}
		say := func(class string, from told, new, attention bool) *expected {
			findings = append(findings, expected{Class: class, Job: job, Blocker: blocker(from), New: new, Attention: attention, Outcome: from.result.Outcome, Tries: all()})
			return &findings[len(findings)-1]
		}
		if l := with("lost"); len(l) > 0 {
			f := say("machine-lost", l[len(l)-1], old.word != "lost", true)
			f.Blocker, f.Outcome = true, "machine-lost"
		}
		if d := with("doubt"); len(d) > 0 {
			rule := d[len(d)-1].result.Doubt
			say("false-pass", d[len(d)-1], !(old.word == "doubt" && old.result.Doubt == rule), true).Reason = rule
		}
		strongFails, weakFails := with("fail", false), with("fail", true)
		passesToo := len(with("pass"))+len(with("doubt")) > 0
		switch {
		case last.word == "fail" || last.word == "nothing" && len(weakFails) > 0:
			from := last
			if last.word == "nothing" {
				from = weakFails[len(weakFails)-1]
			}
			switch {
			case refOneOf(old.word, "pass", "doubt"):
				say("regression", from, true, true)
			case refOneOf(old.word, "fail", "lost"):
				alike := old.word == "fail" && old.result.Outcome == from.result.Outcome && old.result.Signature == from.result.Signature
				say("still-failing", from, false, !alike || blocker(from) || c.Campaign.Kind == "certification" || passesToo)
			default:
				say("new-failure", from, true, true)
			}
		case last.word != "nothing" && len(strongFails) > 0:
			say("flaky", strongFails[len(strongFails)-1], !refOneOf(old.word, "fail", "lost"), true)
		case last.word != "nothing" && len(weakFails) > 0:
			say("flaky", weakFails[len(weakFails)-1], !refOneOf(old.word, "fail", "lost"), false)
		case !isTest:
		case last.word == "pass" && len(with("lost"))+len(with("doubt")) == 0 && before != nil:
			switch old.word {
			case "fail", "lost":
				say("fixed", last, false, false)
			case "skip", "unknown":
				say("newly-passing", last, false, false)
			case "nothing":
				say("appeared", last, false, false)
			}
		case last.word != "nothing" || len(with("lost")) > 0:
		default: // it was not run
			_, isPlanned := planned[job]
			ranBefore := refOneOf(old.word, "pass", "doubt", "fail", "lost")
			need := refAny(rules.Jobs.Required, job)
			leftOut := refAnyExpression(rules.Exclude, job)
			missing := false
			switch now.word {
			case "nothing":
				missing = slices.Contains(counted.Side.Rejected, job) || isPlanned || need || ranBefore && !leftOut
			case "unknown":
				missing = true
			case "skip":
				missing = need || ranBefore
			}
			wantsManifest := strings.Contains(now.result.Comments, "manifest.") && counted.Side.NoManifest
			switch {
			case missing:
				f := say("missing", now, ranBefore || before == nil, true)
				f.Blocker = f.Blocker || need
				if now.word == "skip" {
					f.Reason = now.result.Comments
				}
			case now.word != "skip":
			case wantsManifest:
				manifest++
				if blocker(now) {
					manifestBlockers++
				}
				if manifestJob == "" || job < manifestJob {
					manifestJob, manifestReason = job, now.result.Comments
				}
			case before == nil:
			case old.word == "nothing":
				say("appeared", now, false, false).Reason = now.result.Comments
			case old.result.Comments != now.result.Comments:
				say("skip-changed", now, false, false).Reason = now.result.Comments
			}
		}
	}
	for _, pattern := range rules.Jobs.Required {
		known := false
		for job := range jobs {
			known = known || refPattern(pattern, job)
		}
		if !known {
			findings = append(findings, expected{Class: "missing", Job: pattern, Blocker: true, New: before == nil, Attention: true})
		}
	}
	if manifest > 0 {
		findings = append(findings, expected{Class: "manifest", Blocker: manifestBlockers > 0, New: before == nil, Attention: rules.Machines.Manifests, Reason: manifestReason})
	}
	return findings
}

func refAnyExpression(patterns []string, job string) bool {
	for _, p := range patterns {
		if at := regexp.MustCompile(p).FindStringIndex(job); at != nil && at[0] == 0 {
			return true
		}
	}
	return false
}
