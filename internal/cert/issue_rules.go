package cert

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IssueOutcomes lists what a known issue can be about. FindFalsePass is a pass that is doubted, OutcomeLost a job in which the machine was lost, and
// FindKernelBoot a subject that does not boot.
var IssueOutcomes = []string{"fail", "crash", OutcomeLost, FindFalsePass, FindKernelBoot}

const maxTitle = 300

// Validate reports what is wrong with a known issue, as Invalid.
func (k KnownIssue) Validate() error {
	for _, field := range []struct {
		name, value string
		needed      bool
	}{{"title", k.Title, true}, {"owner", k.Owner, true}, {"reason", k.Reason, false}} {
		if field.needed && strings.TrimSpace(field.value) == "" {
			return Errorf(Invalid, "cannot save the known issue: it has no %s (somebody has to know what it is and who sees to it)", field.name)
		}
		if !oneLine(field.value, maxTitle) {
			return Errorf(Invalid, "cannot save the known issue: its %s must be one line of at most %d bytes", field.name, maxTitle)
		}
	}
	if len(k.Link) > maxSpecText || !trackerPattern.MatchString(k.Link) {
		return Errorf(Invalid, "cannot save the known issue: its link %q is not the address of a bug, such as https://bugs.launchpad.net/bugs/2080000", cut(k.Link))
	}
	return k.Match.Validate()
}

func oneLine(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// Validate reports what is wrong with what a rule asks for, as Invalid.
func (m IssueMatch) Validate() error {
	if m.Job == "" && m.Template == "" && m.Log == "" {
		return Errorf(Invalid, "cannot use a rule that asks for neither a job, a template nor a log: it would recognise everything that fails")
	}
	if m.Log == "" && m.Template == "" && strings.Trim(m.Job, "*:") == "" {
		return Errorf(Invalid, "cannot use the rule's job %q: it would recognise everything that fails (name more of the job, or give a log)", m.Job)
	}
	if m.Job != "" {
		if err := validJobPattern(m.Job); err != nil {
			return Errorf(Invalid, "cannot use the rule's job: %v", err)
		}
	}
	if m.Template != "" && (len(m.Template) > maxSpecText || !planPattern.MatchString(m.Template)) {
		return Errorf(Invalid, "cannot use the rule's template %q: give its full id, such as com.canonical.certification::disk/read_performance_name", cut(m.Template))
	}
	if m.Plan != "" && (len(m.Plan) > maxSpecText || !planPattern.MatchString(m.Plan)) {
		return Errorf(Invalid, "cannot use the rule's plan %q: a plan is named by its full id, such as %s", cut(m.Plan), PlanSRU)
	}
	for _, outcome := range m.Outcomes {
		if !slices.Contains(IssueOutcomes, outcome) {
			return Errorf(Invalid, "cannot recognise the outcome %q%s (there are: %s)", cut(outcome), meant(outcome, IssueOutcomes), strings.Join(IssueOutcomes, ", "))
		}
	}
	if m.Machines != "" {
		if err := policyQuery(m.Machines, "the rule"); err != nil {
			return err
		}
	}
	for _, series := range m.Series {
		if !seriesPattern.MatchString(series) || len(series) > maxSubjectText {
			return Errorf(Invalid, "cannot use the rule's series %q: give its codename in lower case, such as noble", cut(series))
		}
	}
	if m.Source != "" && (!packagePattern.MatchString(m.Source) || len(m.Source) > maxSubjectText) {
		return Errorf(Invalid, "cannot use the rule's source %q: give the name of a source package, such as linux", cut(m.Source))
	}
	if err := m.validateRange(); err != nil {
		return err
	}
	if m.Log != "" {
		if _, err := m.CompileLog(); err != nil {
			return err
		}
	}
	return nil
}

func (m IssueMatch) validateRange() error {
	for _, version := range []string{m.From, m.To} {
		if version != "" && !debPattern.MatchString(version) {
			return Errorf(Invalid, "cannot use the rule's version %q: it is not a package's, such as 6.8.0-51.52", cut(version))
		}
	}
	if m.From != "" && m.To != "" && CompareVersions(m.From, m.To) >= 0 {
		return Errorf(Invalid, "cannot recognise versions from %s to before %s: there are none between them", m.From, m.To)
	}
	return nil
}

// CompileLog compiles the rule's expression on logs; it fails as Invalid. ^ and $ are at the lines' ends.
func (m IssueMatch) CompileLog() (*regexp.Regexp, error) {
	if len(m.Log) > MaxIssuePattern || strings.ContainsAny(m.Log, "\x00") || !utf8.ValidString(m.Log) {
		return nil, Errorf(Invalid, "cannot use the rule's log pattern: it must be text of at most %d bytes", MaxIssuePattern)
	}
	re, err := compileBounded("(?m:", m.Log, ")")
	if err != nil {
		return nil, Errorf(Invalid, "cannot use the rule's log pattern %q: %v", cut(m.Log), err)
	}
	if re.MatchString("") {
		return nil, Errorf(Invalid, "cannot use the rule's log pattern %q: it fits every log, even an empty one", cut(m.Log))
	}
	return re, nil
}
