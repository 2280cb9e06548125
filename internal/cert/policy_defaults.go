package cert

// Test plans that the default policies give machines, as Checkbox's providers name them.
const (
	PlanSRU       = "com.canonical.certification::sru"
	PlanSRUServer = "com.canonical.certification::sru-server"
	PlanServer    = "com.canonical.certification::server-full-24.04"
	PlanClient    = "com.canonical.certification::client-cert-desktop-24-04-automated"
)

// DefaultPolicy is what holds for a kind of campaign where the site has no policy of its own; of a kind that there is not, the strictest. A policy
// file says only what is different from it.
func DefaultPolicy(kind CampaignKind) Policy {
	p := Policy{
		Kind:     kind,
		Plans:    []PolicyPlan{{Machines: "tags=server", Plan: PlanSRUServer}, {Plan: PlanSRU}},
		Machines: PolicyMachines{Required: "all", Manifests: true, AtLeast: 1},
		Retries:  PolicyRetries{Infrastructure: 2, KernelBoot: 1},
		Deadline: PolicyDeadline{Days: 7, DecideHours: 24},
		Baseline: PolicyBaseline{Rule: BaselineReleased, Needed: true},
		Decide:   PolicyDecide{Approve: string(Signer)},
	}
	switch kind {
	case KindSRU:
		p.Failover, p.Decide.Auto = true, true
	case KindWeekly:
		p.Failover, p.Decide.Auto = true, true
		p.Deadline = PolicyDeadline{Days: 2, DecideHours: 4}
		p.Baseline = PolicyBaseline{Rule: BaselinePrevious}
	case KindAdhoc:
		p.Machines.Manifests = false
		p.Deadline = PolicyDeadline{}
		p.Baseline = PolicyBaseline{Rule: BaselineNone}
		p.Decide.Approve = string(Engineer)
	default:
		p.Plans = []PolicyPlan{{Machines: "tags=server", Plan: PlanServer}, {Plan: PlanClient}}
		p.Deadline = PolicyDeadline{Days: 14, DecideHours: 24}
		p.Baseline = PolicyBaseline{Rule: BaselineNone}
	}
	return p
}
