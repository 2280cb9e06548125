package cert

import "time"

// A Policy is what a campaign of a kind demands. It is written in YAML, checked when it is taken in, and kept in versions.
type Policy struct {
	Kind     CampaignKind   `json:"kind" yaml:"kind"`
	Plans    []PolicyPlan   `json:"plans" yaml:"plans"`                         // the first whose query fits a machine gives it its plan
	Exclude  []string       `json:"exclude,omitempty" yaml:"exclude,omitempty"` // regular expressions on job ids, for Checkbox; not for certification
	Match    []string       `json:"match,omitempty" yaml:"match,omitempty"`     //
	Jobs     PolicyJobs     `json:"jobs" yaml:"jobs"`
	Machines PolicyMachines `json:"machines" yaml:"machines"`
	Retries  PolicyRetries  `json:"retries" yaml:"retries"`
	Failover bool           `json:"failover" yaml:"failover"` // to another machine of the same class, after an infrastructure failure
	AtOnce   int            `json:"at_once,omitempty" yaml:"at_once,omitempty"`
	Deadline PolicyDeadline `json:"deadline" yaml:"deadline"`
	Baseline PolicyBaseline `json:"baseline" yaml:"baseline"`
	Decide   PolicyDecide   `json:"decide" yaml:"decide"`
}

// PolicyPlan gives machines a plan.
type PolicyPlan struct {
	Machines string `json:"machines,omitempty" yaml:"machines,omitempty"` // query; empty: all that are left
	Plan     string `json:"plan" yaml:"plan"`                             // full id
}

// PolicyJobs says what jobs mean. Patterns are full ids, or with * for any text.
type PolicyJobs struct {
	Required    []string `json:"required,omitempty" yaml:"required,omitempty"`         // have to have passed or failed on each machine; a skip is missing
	Blockers    []string `json:"blockers,omitempty" yaml:"blockers,omitempty"`         // besides those that Checkbox calls so
	NonBlockers []string `json:"non_blockers,omitempty" yaml:"non_blockers,omitempty"` // although Checkbox calls them blockers; not for certification
}

// PolicyMachines says which machines the verdict waits for.
type PolicyMachines struct {
	Required  string `json:"required" yaml:"required"`   // all, or a query
	Manifests bool   `json:"manifests" yaml:"manifests"` // a machine without a manifest has to be decided by a person
	AtLeast   int    `json:"at_least,omitempty" yaml:"at_least,omitempty"`
}

// PolicyRetries says how often what failed is done again.
type PolicyRetries struct {
	Infrastructure int `json:"infrastructure" yaml:"infrastructure"` // tries after the first, failovers among them
	KernelBoot     int `json:"kernel_boot" yaml:"kernel_boot"`       // on the same machine; each counts
}

// PolicyDeadline says how a campaign keeps to its due date.
type PolicyDeadline struct {
	Days        float64 `json:"days,omitempty" yaml:"days,omitempty"`                 // from its start, where nobody names a due date
	DecideHours float64 `json:"decide_hours,omitempty" yaml:"decide_hours,omitempty"` // left for the decision: nothing is started that is not expected to end before
}

// PolicyBaseline says what to compare with.
type PolicyBaseline struct {
	Rule    string `json:"rule" yaml:"rule"`                             // released: the last released version of the same source, series and flavour; previous: the campaign before; named: the caller says; none
	Needed  bool   `json:"needed" yaml:"needed"`                         // a machine without one has to be decided by a person
	MaxDays int    `json:"max_days,omitempty" yaml:"max_days,omitempty"` // how old it may be; 0: any age
}

// PolicyDecide says who decides.
type PolicyDecide struct {
	Approve string `json:"approve" yaml:"approve"` // role that may approve, reject and waive: signer or admin (or engineer, for adhoc)
	Auto    bool   `json:"auto" yaml:"auto"`       // the policy approves when every required machine is complete, proved, with manifest, and nothing is new
}

// PolicyRef names a policy in one version.
type PolicyRef struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// StoredPolicy is a policy as it was taken in.
type StoredPolicy struct {
	PolicyRef
	Policy  Policy    `json:"policy"`
	Text    string    `json:"text"` // YAML, as it came
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Default bool      `json:"default"` // ours, not the site's
}
