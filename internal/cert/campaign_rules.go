package cert

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

var campaignNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~:-]*$`)

// Bounds of what people ask for.
const (
	maxCampaignName = 128
	maxReason       = 2000
	maxNames        = 10000
	maxPriority     = 1000
)

// Actions lists what a person can decide.
var Actions = []string{Approve, Reject, Waive, Reopen}

// FindingClasses lists every class of a finding.
var FindingClasses = []string{ClassRegression, ClassStillFailing, ClassNewFailure, ClassFixed, ClassNewlyPassing, ClassAppeared, ClassMissing, ClassSkipChanged,
	FindKernelBoot, FindFalsePass, FindMachineLost, FindUnproved, FindManifest, FindFlaky, FindUnreadable}

// Standings lists how a machine or a campaign can stand.
var Standings = []string{StandApproved, StandRejected, StandUndecided, StandWaiting, StandExcluded}

// Validate reports what is wrong with a wanted campaign, as Invalid, as far as that can be told without the lab's data.
func (c NewCampaign) Validate(now time.Time) error {
	if c.ID != "" && !ValidID(CampaignID, c.ID) {
		return Errorf(Invalid, "cannot use %q as a campaign's id: it is a c and 26 lower-case letters or digits", cut(c.ID))
	}
	if c.Name != "" && (!campaignNamePattern.MatchString(c.Name) || len(c.Name) > maxCampaignName) {
		return Errorf(Invalid, "cannot name a campaign %q: a name is one word of letters, digits and . _ + ~ : - of at most %d bytes, such as noble-linux-6.8.0-51.52", cut(c.Name), maxCampaignName)
	}
	if ValidID(CampaignID, c.Name) {
		return Errorf(Invalid, "cannot name a campaign %q: it looks like a campaign's id", c.Name)
	}
	if !slices.Contains(CampaignKinds, string(c.Kind)) {
		return Errorf(Invalid, "cannot start a campaign of kind %q%s (there are: %s)", cut(string(c.Kind)), meant(string(c.Kind), CampaignKinds), strings.Join(CampaignKinds, ", "))
	}
	if err := c.Subject.Validate(); err != nil {
		return err
	}
	if c.Kind == KindSRU && (c.Subject.Kind == SubjectMachine || c.Subject.Kind == SubjectImage) {
		return Errorf(Invalid, "cannot test a stable release update of kind %s: its subject is a kernel or packages (or choose kind weekly or adhoc)", c.Subject.Kind)
	}
	if err := c.Machines.Validate(); err != nil {
		return err
	}
	return c.validateRest(now)
}

func (c NewCampaign) validateRest(now time.Time) error {
	if c.Kind == KindCertification && (c.Plan != "" || len(c.Exclude) > 0 || len(c.Match) > 0) {
		return Errorf(Invalid, "cannot use plan, exclude or match in a campaign of kind certification: a certificate wants the whole plan that its policy names")
	}
	if c.Plan != "" && (!planPattern.MatchString(c.Plan) || len(c.Plan) > maxSpecText) {
		return Errorf(Invalid, "cannot run plan %q: a plan is named by its full id, such as %s", cut(c.Plan), PlanSRU)
	}
	if err := validExpressions("exclude", c.Exclude); err != nil {
		return err
	}
	if err := validExpressions("match", c.Match); err != nil {
		return err
	}
	if len(c.Policy) > maxCampaignName || len(c.Baseline) > maxSubjectText || !oneLine(c.Policy, maxCampaignName) || !oneLine(c.Baseline, maxSubjectText) {
		return Errorf(Invalid, "cannot use the policy or the baseline: each is one word, as in sru@3 and 6.8.0-50.51")
	}
	if c.Due != nil && !c.Due.After(now) {
		return Errorf(Invalid, "cannot have a verdict by %s: that is over (give a later due date)", c.Due.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if c.Priority < -maxPriority || c.Priority > maxPriority {
		return Errorf(Invalid, "cannot use priority %d: it is a number from -%d to %d", c.Priority, maxPriority, maxPriority)
	}
	if c.AtOnce < 0 || c.AtOnce > maxAtOnce {
		return Errorf(Invalid, "cannot have %d runs at once: it is a number from 1 to %d, or 0 for no cap", c.AtOnce, maxAtOnce)
	}
	return validReason(c.Reason, false)
}

func validReason(reason string, needed bool) error {
	if needed && strings.TrimSpace(reason) == "" {
		return Errorf(Invalid, "cannot do it without a reason: say in one sentence why (it is kept with your name)")
	}
	if len(reason) > maxReason || strings.ContainsAny(reason, "\x00") {
		return Errorf(Invalid, "cannot use the reason: it is text of at most %d bytes", maxReason)
	}
	return nil
}

// Validate reports what is wrong with a choice of machines, as Invalid.
func (m MachineChoice) Validate() error {
	ways := 0
	for _, set := range []bool{m.Query != "", len(m.Names) > 0, m.OfBaseline} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		return Errorf(Invalid, "cannot start a campaign over no machines: choose them by a query, such as arch=amd64, by name, or all that ran the baseline")
	case ways > 1:
		return Errorf(Invalid, "cannot choose machines in more than one way: give one of a query, names, and all that ran the baseline")
	case len(m.Names) > maxNames || len(m.Except) > maxNames:
		return Errorf(Invalid, "cannot choose more than %d machines by name: use a query", maxNames)
	}
	for _, name := range slices.Concat(m.Names, m.Except) {
		if strings.TrimSpace(name) == "" || !oneLine(name, maxSubjectText) {
			return Errorf(Invalid, "cannot find a machine named %q: give its hostname, id or system_id", cut(name))
		}
	}
	if m.Query != "" {
		if err := policyQuery(m.Query, "the campaign"); err != nil {
			return err
		}
	}
	return nil
}

// Validate reports what is wrong with a filter, as Invalid.
func (f Filter) Validate() error {
	for _, word := range []struct {
		name, value string
		words       []string
	}{{"standing", f.Standing, Standings}, {"class", f.Class, FindingClasses}} {
		if word.value != "" && !slices.Contains(word.words, word.value) {
			return Errorf(Invalid, "cannot filter by %s %q%s (there are: %s)", word.name, cut(word.value), meant(word.value, word.words), strings.Join(word.words, ", "))
		}
	}
	if f.Query != "" {
		if err := policyQuery(f.Query, "the filter"); err != nil {
			return err
		}
	}
	if f.Job != "" {
		if err := validJobPattern(f.Job); err != nil {
			return Errorf(Invalid, "cannot filter by job: %v", err)
		}
	}
	for _, text := range []string{f.Issue, f.Signature, f.Machine, f.Target} {
		if !oneLine(text, maxSubjectText) {
			return Errorf(Invalid, "cannot filter by %q: it is one word of at most %d bytes", cut(text), maxSubjectText)
		}
	}
	return nil
}

// Validate reports what is wrong with a decision that is asked for, as Invalid, as far as that can be told without the campaign.
func (d NewDecision) Validate(now time.Time) error {
	if !slices.Contains(Actions, d.Action) {
		return Errorf(Invalid, "cannot decide %q%s (there are: %s)", cut(d.Action), meant(d.Action, Actions), strings.Join(Actions, ", "))
	}
	if err := validReason(d.Reason, true); err != nil {
		return err
	}
	if err := d.Filter.Validate(); err != nil {
		return err
	}
	ways := 0
	for _, set := range []bool{len(d.Machines) > 0, d.All, len(d.Findings) > 0} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		return Errorf(Invalid, "cannot decide on machines, on all and on findings at once: give one of them")
	}
	if !d.All && d.Filter != (Filter{}) {
		return Errorf(Invalid, "cannot use a filter here: it chooses among all (say --all as well)")
	}
	if len(d.Machines) > maxNames || len(d.Findings) > maxNames {
		return Errorf(Invalid, "cannot decide on more than %d at once: use --all with a filter", maxNames)
	}
	if d.Version < 0 {
		return Errorf(Invalid, "cannot decide on version %d of the campaign: give the one that a view named", d.Version)
	}
	return d.validateWaiver(now)
}

func (d NewDecision) validateWaiver(now time.Time) error {
	if d.Action != Waive {
		if len(d.Findings) > 0 {
			return Errorf(Invalid, "cannot %s findings: they are waived; machines and the campaign are approved and rejected", d.Action)
		}
		if d.Until != nil {
			return Errorf(Invalid, "cannot %s until a time: only a waiver ends", d.Action)
		}
		return nil
	}
	if len(d.Machines) == 0 && !d.All && len(d.Findings) == 0 {
		return Errorf(Invalid, "cannot waive a whole campaign: name findings or machines, or all that a filter fits")
	}
	if d.Until == nil {
		return Errorf(Invalid, "cannot waive without an end: say until when it holds")
	}
	if !d.Until.After(now) {
		return Errorf(Invalid, "cannot waive until %s: that is over (give a later time)", d.Until.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if d.Until.After(now.AddDate(2, 0, 0)) {
		return Errorf(Invalid, "cannot waive until %s: at most two years are allowed", d.Until.UTC().Format("2006-01-02"))
	}
	return nil
}
