package cert

import (
	"cmp"
	"math"
	"slices"
)

// ReliabilityOf says how well deployments have worked. They are of one machine or class, in any order; those that are not over count only
// once they are ready.
func ReliabilityOf(deployments []Deployment) Reliability {
	all := slices.Clone(deployments)
	slices.SortFunc(all, func(a, b Deployment) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) })
	r := Reliability{Phases: PhaseSums(all)}
	for _, d := range all {
		switch {
		case d.Suspect != "":
			r.Suspect++
		case d.Failure != nil:
			r.Deployments++
			if machinesFault[d.Failure.Type] {
				r.InARow++
			}
		case d.WasReady():
			r.Deployments++
			r.Succeeded++
			r.InARow = 0
		}
	}
	return r
}

// machinesFault holds the failures that say something about the machine: not that somebody else was faster, or that there is no such image.
var machinesFault = map[string]bool{FailPrepare: true, FailDeploy: true, FailBoot: true, FailEnrol: true, FailWrongSystem: true, FailPower: true, FailReleaseStuck: true}

// MachinesFault reports whether a failure of this type says something about the machine.
func MachinesFault(failure string) bool { return machinesFault[failure] }

// WasReady reports whether the deployment has brought its machine as far as it should.
func (d *Deployment) WasReady() bool {
	switch d.Phase {
	case PhaseReady, PhaseRelease:
		return true
	}
	for _, p := range d.Phases {
		if p.Phase == PhaseReady || p.Phase == PhaseEnrol && d.Failure == nil {
			return true
		}
	}
	return false
}

// PhaseSums says how long each phase has taken, where it went well. What happened during an incident is left out.
func PhaseSums(deployments []Deployment) map[DeployPhase]PhaseSum {
	times := make(map[DeployPhase][]float64)
	for _, d := range deployments {
		if d.Suspect != "" {
			continue
		}
		for n, p := range d.Phases {
			if d.Failure != nil && n == len(d.Phases)-1 {
				continue // the phase that it failed in
			}
			times[p.Phase] = append(times[p.Phase], p.Seconds)
		}
	}
	out := make(map[DeployPhase]PhaseSum, len(times))
	for phase, all := range times {
		slices.Sort(all)
		out[phase] = PhaseSum{Count: len(all), Median: Quantile(all, 0.5), P90: Quantile(all, 0.9)}
	}
	return out
}

// Quantile of sorted numbers: the smallest that is at least as large as q of them; 0 of none.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	n := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(n, 0), len(sorted)-1)]
}
