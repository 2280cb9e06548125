package cert

import (
	"time"

	"certlab/internal/order"
)

// OutcomeLost is how a result counts during which its machine was lost, whatever Checkbox says of it.
const OutcomeLost = "machine-lost"

// A LostJob is a job in which its machine kept silent for longer than it may and had to be power-cycled: this lab's word beside Checkbox's
// own outcome. A machine that never woke by itself has not passed, although Checkbox calls an interrupted noreturn job passed.
type LostJob struct {
	Job   string    `json:"job"` // full id; empty: between jobs
	At    time.Time `json:"at"`
	Boots []string  `json:"boots"` // boot id before, and after once it is known
	Power string    `json:"power"` // what was done
	Text  string    `json:"text"`
}

// Steps of a power cycle. Each is stored before the next begins.
const (
	CycleBegun   = "begun"    // the console is being saved, and then the machine switched off
	CycleOff     = "off"      // it is off; it is being switched on
	CycleOn      = "on"       // it is on; its agent is waited for
	CycleResumed = "resumed"  // final: the agent is back
	CycleBack    = "back"     // final: the agent was heard before anything was done
	CycleGivenUp = "given-up" // final: it did not come back
	CycleHands   = "hands"    // final: nobody but a person can do it
)

// A PowerCycle is one that the lab's watch has begun because a machine kept silent.
type PowerCycle struct {
	Run      string    `json:"run"`
	Attempt  int       `json:"attempt"`
	Machine  string    `json:"machine"`
	At       time.Time `json:"at"`
	Job      string    `json:"job"`
	Step     string    `json:"step"`
	Number   int       `json:"number"` // of the attempt's, from 1
	Since    time.Time `json:"since"`  // of the step
	Heard    time.Time `json:"heard"`  // last contact before it
	Boot     string    `json:"boot"`   // before
	NewBoot  string    `json:"new_boot,omitempty"`
	Console  string    `json:"console,omitempty"` // what became of saving it; empty: not tried yet
	Problem  string    `json:"problem,omitempty"` // of the last try
	Hands    string    `json:"hands,omitempty"`   // what a person has to do
	Sent     bool      `json:"sent,omitempty"`    // its power was, or may have been, touched
	Unit     bool      `json:"unit,omitempty"`    // somebody else holds the machine and it carries a unit of this lab
	Provider string    `json:"provider,omitempty"`
}

// Final reports whether nothing more is done for the cycle.
func (c *PowerCycle) Final() bool {
	switch c.Step {
	case CycleResumed, CycleBack, CycleGivenUp, CycleHands:
		return true
	}
	return false
}

// Quiet is what is known of how long a machine may keep silent.
type Quiet struct {
	Heard     time.Time     // last contact of its agent
	Reported  time.Time     // when the last report came
	Progress  Progress      // in it
	Estimate  time.Duration // of the current job; 0: not known
	Least     time.Duration // allowed in any case
	Boot      time.Duration // allowed while it boots as it said
	Reachable time.Time     // since when this lab could have heard it
}

// Until returns when the silence has lasted longer than it may.
func (q Quiet) Until() time.Time {
	allowed := max(q.Least, 2*q.Estimate)
	booting := q.Progress.Phase == string(order.Booting) // into the kernel that is under test
	if q.Progress.Phase == "rebooting" || booting {
		allowed = max(allowed, q.Boot)
	}
	from := q.Heard
	if q.Reachable.After(from) {
		from = q.Reachable
	}
	until := from.Add(allowed)
	// How long a machine takes to boot, the site knows better than its agent.
	if announced := q.Announced(); announced.After(until) && !booting {
		until = announced
	}
	return until
}

// Announced returns until when the machine has said that it keeps silent; zero if it has not.
func (q Quiet) Announced() time.Time {
	if q.Progress.QuietSeconds <= 0 {
		return time.Time{}
	}
	return q.Reported.Add(time.Duration(q.Progress.QuietSeconds) * time.Second)
}
