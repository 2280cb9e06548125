package cert

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"certlab/internal/order"
)

// Rules of a baseline.
const (
	BaselineReleased = "released" // the last released version of the same series, source and flavour
	BaselinePrevious = "previous" // the campaign before, of the same subject
	BaselineNamed    = "named"    // whoever starts the campaign names it
	BaselineNone     = "none"     // nothing is compared: every failure is new
)

// BaselineRules lists every rule of a baseline.
var BaselineRules = []string{BaselineReleased, BaselinePrevious, BaselineNamed, BaselineNone}

// Bounds of a Policy.
const (
	maxPolicyPlans    = 100
	maxPolicyPatterns = 1000
	maxRetries        = 10
	maxPolicyDays     = 365
	maxAtOnce         = 10000
	maxPolicyMachines = 100000
)

// Validate reports what is wrong with a policy, as Invalid, and what to do about it.
func (p Policy) Validate() error {
	if !slices.Contains(CampaignKinds, string(p.Kind)) {
		return Errorf(Invalid, "cannot use a policy of kind %q%s (there are: %s)", cut(string(p.Kind)), meant(string(p.Kind), CampaignKinds), strings.Join(CampaignKinds, ", "))
	}
	for _, check := range []func() error{p.validatePlans, p.validatePatterns, p.validateCertification, p.validateMachines, p.validateNumbers, p.validateDecide} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) validatePlans() error {
	if len(p.Plans) == 0 {
		return Errorf(Invalid, "cannot use a policy without plans: name one for all machines, as in plans: [{plan: %s}]", PlanSRU)
	}
	if len(p.Plans) > maxPolicyPlans {
		return Errorf(Invalid, "cannot use a policy with %d plans: at most %d are allowed", len(p.Plans), maxPolicyPlans)
	}
	for n, plan := range p.Plans {
		if !planPattern.MatchString(plan.Plan) || len(plan.Plan) > maxSpecText {
			return Errorf(Invalid, "cannot use plan %q: a plan is named by its full id, such as %s", cut(plan.Plan), PlanSRU)
		}
		if plan.Machines == "" {
			if n < len(p.Plans)-1 {
				return Errorf(Invalid, "cannot use the plans after %s: it is for all machines, so that no machine is left for them (put it last)", plan.Plan)
			}
			continue
		}
		if err := policyQuery(plan.Machines, "plans"); err != nil {
			return err
		}
	}
	return nil
}

func policyQuery(text, where string) error {
	if _, err := ParseQuery(text); err != nil {
		return Errorf(Invalid, "cannot use the machines of %s: %v", where, err)
	}
	return nil
}

func (p Policy) validatePatterns() error {
	for _, list := range []struct {
		name     string
		patterns []string
	}{{"exclude", p.Exclude}, {"match", p.Match}} {
		if err := validExpressions(list.name, list.patterns); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		name     string
		patterns []string
	}{{"jobs.required", p.Jobs.Required}, {"jobs.blockers", p.Jobs.Blockers}, {"jobs.non_blockers", p.Jobs.NonBlockers}} {
		if len(list.patterns) > maxPolicyPatterns {
			return Errorf(Invalid, "cannot use %s: %d patterns, at most %d are allowed", list.name, len(list.patterns), maxPolicyPatterns)
		}
		for _, pattern := range list.patterns {
			if err := validJobPattern(pattern); err != nil {
				return Errorf(Invalid, "cannot use %s: %v", list.name, err)
			}
		}
	}
	for _, pattern := range p.Jobs.Blockers {
		if slices.Contains(p.Jobs.NonBlockers, pattern) {
			return Errorf(Invalid, "cannot use %q as a blocker and as none: take it out of jobs.blockers or jobs.non_blockers", cut(pattern))
		}
	}
	for _, pattern := range p.Jobs.Required {
		if !strings.Contains(pattern, "*") && p.Excluded(pattern) {
			return Errorf(Invalid, "cannot require %q: exclude and match leave it out (take it out of jobs.required, or let it run)", cut(pattern))
		}
	}
	return nil
}

// validExpressions checks regular expressions on job ids. They are Checkbox's, which are Python's; only what RE2 can do as well is taken, since that
// is what the comparison needs to know which jobs were left out.
func validExpressions(name string, patterns []string) error {
	if len(patterns) > maxSpecItems {
		return Errorf(Invalid, "cannot use %s: %d patterns, at most %d are allowed", name, len(patterns), maxSpecItems)
	}
	for _, pattern := range patterns {
		if _, err := CompilePattern(pattern); err != nil {
			return Errorf(Invalid, "cannot use the %s pattern %q: %v", name, cut(pattern), err)
		}
	}
	return nil
}

// validJobPattern checks a full job id, or one with *.
func validJobPattern(pattern string) error {
	switch {
	case pattern == "" || len(pattern) > maxSpecText || strings.ContainsFunc(pattern, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q is neither a job's full id nor a pattern of one (as in com.canonical.certification::disk/*)", cut(pattern))
	case !strings.Contains(pattern, "::") && !strings.Contains(pattern, "*"):
		return fmt.Errorf("%q is not a full id: put its namespace before it, as in com.canonical.certification::%s", cut(pattern), cut(pattern))
	case strings.Count(pattern, "*") > maxStars:
		return fmt.Errorf("%q has more than %d *", cut(pattern), maxStars)
	}
	return nil
}

func (p Policy) validateCertification() error {
	if p.Kind != KindCertification {
		return nil
	}
	for _, list := range []struct {
		name string
		has  bool
	}{{"exclude", len(p.Exclude) > 0}, {"match", len(p.Match) > 0}, {"jobs.non_blockers", len(p.Jobs.NonBlockers) > 0}} {
		if list.has {
			return Errorf(Invalid, "cannot use %s in a policy of kind certification: a certificate wants the whole plan (take it out, or choose kind adhoc)", list.name)
		}
	}
	return nil
}

func (p Policy) validateMachines() error {
	if p.Machines.Required == "" {
		return Errorf(Invalid, "cannot use a policy that requires no machines: a verdict would rest on nothing (say machines.required: all, or a query)")
	}
	if p.Machines.Required != RequiredAll {
		if err := policyQuery(p.Machines.Required, "machines.required"); err != nil {
			return err
		}
	}
	if n := p.Machines.AtLeast; n < 0 || n > maxPolicyMachines {
		return Errorf(Invalid, "cannot use machines.at_least %d: it is a number from 0 to %d", n, maxPolicyMachines)
	}
	return nil
}

// RequiredAll is PolicyMachines.Required where the verdict waits for every machine.
const RequiredAll = "all"

func (p Policy) validateNumbers() error {
	for _, n := range []struct {
		name string
		n    int
		most int
	}{{"retries.infrastructure", p.Retries.Infrastructure, maxRetries}, {"retries.kernel_boot", p.Retries.KernelBoot, maxRetries},
		{"at_once", p.AtOnce, maxAtOnce}, {"baseline.max_days", p.Baseline.MaxDays, 10 * maxPolicyDays}} {
		if n.n < 0 || n.n > n.most {
			return Errorf(Invalid, "cannot use %s %d: it is a number from 0 to %d", n.name, n.n, n.most)
		}
	}
	if d := p.Deadline.Days; math.IsNaN(d) || d < 0 || d > maxPolicyDays {
		return Errorf(Invalid, "cannot use deadline.days %v: it is a number from 0 (no deadline of its own) to %d", d, maxPolicyDays)
	}
	if h := p.Deadline.DecideHours; math.IsNaN(h) || h < 0 || h > 24*maxPolicyDays {
		return Errorf(Invalid, "cannot use deadline.decide_hours %v: it is a number from 0 to %d", h, 24*maxPolicyDays)
	}
	if d := p.Deadline; d.Days > 0 && d.DecideHours >= d.Days*24 {
		return Errorf(Invalid, "cannot leave %v hours for the decision of a campaign that has %v days: nothing could run (make deadline.decide_hours less, or deadline.days more)", d.DecideHours, d.Days)
	}
	return nil
}

func (p Policy) validateDecide() error {
	if !slices.Contains(BaselineRules, p.Baseline.Rule) {
		return Errorf(Invalid, "cannot use the baseline rule %q%s (there are: %s)", cut(p.Baseline.Rule), meant(p.Baseline.Rule, BaselineRules), strings.Join(BaselineRules, ", "))
	}
	if p.Baseline.Needed && p.Baseline.Rule == BaselineNone {
		return Errorf(Invalid, "cannot need a baseline and have none: change baseline.rule, or set baseline.needed to false")
	}
	roles := []string{string(Signer), string(Admin)}
	if p.Kind == KindAdhoc {
		roles = append([]string{string(Engineer)}, roles...)
	}
	if !slices.Contains(roles, p.Decide.Approve) {
		return Errorf(Invalid, "cannot let role %q approve a campaign of kind %s%s (there are: %s)", cut(p.Decide.Approve), p.Kind, meant(p.Decide.Approve, roles), strings.Join(roles, ", "))
	}
	return nil
}

// PlanFor returns the plan that a machine gets, or false if none of the policy's is for it.
func (p Policy) PlanFor(m *FleetMachine) (string, bool) {
	for _, plan := range p.Plans {
		if plan.Machines == "" {
			return plan.Plan, true
		}
		q, err := ParseQuery(plan.Machines)
		if err == nil && q.Match(m) == "" {
			return plan.Plan, true
		}
	}
	return "", false
}

// Requires reports whether the verdict waits for a machine. Where that cannot be told, it does.
func (p Policy) Requires(m *FleetMachine) bool {
	if p.Machines.Required == RequiredAll || p.Machines.Required == "" {
		return true
	}
	q, err := ParseQuery(p.Machines.Required)
	return err != nil || q.Match(m) == ""
}

// Lacks says what the policy requires and the planned jobs of a machine do not have; empty: nothing. A pattern with * asks for at least one job. It
// is told as soon as the jobs are known: without it the machine would run for hours and be undecided all the same.
func (p Policy) Lacks(plan string, jobs []order.PlannedJob) string {
	var lacking []string
	for _, pattern := range p.Jobs.Required {
		if !slices.ContainsFunc(jobs, func(j order.PlannedJob) bool { return MatchJob(pattern, j.ID) }) {
			lacking = append(lacking, pattern)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	more := ""
	if n := len(lacking) - 3; n > 0 {
		lacking, more = lacking[:3], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the policy requires %s%s, and plan %s has no such job on this machine (change jobs.required of the policy, or the plan)", strings.Join(lacking, ", "), more, plan)
}

// Excluded reports whether the policy keeps a job from being run.
func (p Policy) Excluded(job string) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			re, err := CompilePattern(pattern)
			return err == nil && re.MatchString(job)
		})
	}
	return matches(p.Exclude) || len(p.Match) > 0 && !matches(p.Match)
}

// CompilePattern compiles an expression of exclude or match, which has to fit the beginning of a job's full
// id: Checkbox takes it by Python's re.match (plainbox/impl/secure/qualifiers.py).
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	if pattern == "" || len(pattern) > MaxIssuePattern || strings.ContainsAny(pattern, "\n\r\x00") {
		return nil, Errorf(Invalid, "it must be one line of 1 to %d bytes", MaxIssuePattern)
	}
	return compileBounded("^(?:", pattern, ")")
}
