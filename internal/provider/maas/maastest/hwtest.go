package maastest

import (
	"slices"
	"strings"
)

// Commissioning, hardware tests and rescue mode: MAAS's own environments, booted from the network.

// scriptsOf returns the scripts that a comma-separated list of names and tags means; complaint is the first that there is none of.
func (c *call) scriptsOf(kind, list, otherwise string) (names []string, complaint string) {
	if list == "" {
		list = otherwise
	}
	if list == "none" || list == "" {
		return nil, ""
	}
	for _, want := range strings.Split(list, ",") {
		found := false
		for _, s := range c.state.Scripts {
			if s.Type == kind && (s.Name == want || slices.Contains(s.Tags, want)) {
				found = true
				if !slices.Contains(names, s.Name) {
					names = append(names, s.Name)
				}
			}
		}
		if !found {
			return nil, want
		}
	}
	return names, ""
}

// test begins hardware tests. The machine is its tester's until they are over.
func (c *call) test() reply {
	n := c.node
	if !MayGo(n.Status, Testing) || slices.Contains([]Status{Testing, Commissioning, RescueMode}, n.Status) {
		return conflict("Unable to start machine testing; node is currently in the '%s' state", n.Status)
	}
	names, complaint := c.scriptsOf("testing", c.get("testing_scripts"), "commissioning")
	if complaint != "" {
		return notAChoice("testing_scripts", complaint)
	}
	c.requested(n, "User starting node testing")
	if c.faulty(n, RackGone) {
		return c.noRack(n)
	}
	c.interrupt(n)
	n.Previous = n.Status
	if n.Owner == "" {
		n.Owner, n.Token = c.user.Name, c.key.Token
	}
	c.become(n, Testing)
	c.note(n, info("Testing"), "", "")
	c.startSet(n, setTesting, names...)
	c.expire(n, c.nodeTimeout()+c.options.Timings.Test)
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "on", Then: "test-start"}) })
	return answer
}

func (r *Region) testStart(n *node) {
	if n.Status != Testing {
		return
	}
	r.runSet(n, setTesting)
	r.after(n, r.options.Timings.Test, "test-done")
}

func (r *Region) testDone(n *node) {
	if n.Status != Testing {
		return
	}
	if f := r.strike(n, TestFails); f != nil {
		r.output(n, setTesting, orElse(f.Message, "a test of the hardware has failed")+"\n", 1)
		r.finishSets(n, resultFailed)
		before := n.Status
		r.become(n, FailedTesting)
		r.note(n, info("Failed testing"), "", "")
		r.record(Entry{Op: "tested", SystemID: n.SystemID, Before: before, After: n.Status, OwnerBefore: n.Owner, OwnerAfter: n.Owner})
		return
	}
	r.output(n, setTesting, "passed\n", 0)
	r.finishSets(n, resultPassed)
	before, owner, to := n.Status, n.Owner, n.Previous
	if slices.Contains([]Status{FailedDeployment, Missing, Retired, Broken, FailedReleasing, FailedDiskErasing, FailedEnteringRescue, FailedExitingRescue, FailedTesting}, to) {
		to = Ready
	}
	r.become(n, to)
	if to == Ready {
		r.freed(n)
		r.power(n, task{Action: "off"})
	} else if to == Deployed {
		r.power(n, task{Action: "on", Disk: true})
	} else {
		r.power(n, task{Action: "off"})
	}
	r.record(Entry{Op: "tested", SystemID: n.SystemID, Before: before, After: to, OwnerBefore: owner, OwnerAfter: n.Owner})
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// overrideFailedTesting puts a machine back to use whose tests have failed.
func (c *call) overrideFailedTesting() reply {
	n := c.node
	if n.Status != FailedTesting {
		return conflict("Unable to override node because it is not in '%s' state", FailedTesting)
	}
	c.requested(n, "User overrode 'Failed testing' status")
	c.interrupt(n)
	if n.OSystem != "" {
		c.become(n, Deployed)
	} else {
		c.freed(n)
		c.become(n, Ready)
	}
	n.revision++
	return c.document(n)
}

// commission has a machine examined anew, or for the first time.
func (c *call) commission() reply {
	n := c.node
	if !MayGo(n.Status, Commissioning) || n.Status == Commissioning {
		return conflict("Unable to be commissioned because it is in the '%s' state", n.Status)
	}
	tests, complaint := c.scriptsOf("testing", c.get("testing_scripts"), "commissioning")
	if complaint != "" {
		return notAChoice("testing_scripts", complaint)
	}
	series := c.config("commissioning_distro_series")
	if _, ok := c.image("ubuntu", series, n.Architecture); !ok {
		return text(400, "Ephemeral operating system ubuntu %s is unavailable.", series)
	}
	if c.faulty(n, RackGone) {
		return c.noRack(n)
	}
	c.requested(n, "User starting node commissioning")
	c.interrupt(n)
	n.Previous = StatusNew
	n.Owner, n.Token = c.user.Name, c.key.Token
	c.become(n, Commissioning)
	c.note(n, info("Commissioning"), "", "")
	names, _ := c.scriptsOf("commissioning", strings.Join(c.namesOf("commissioning"), ","), "")
	c.startSet(n, setCommissioning, names...)
	if len(tests) > 0 {
		c.startSet(n, setTesting, tests...)
	}
	c.expire(n, c.nodeTimeout())
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "on", Then: "commission-start"}) })
	return answer
}

func (r *Region) namesOf(kind string) []string {
	var names []string
	for _, s := range r.state.Scripts {
		if s.Type == kind {
			names = append(names, s.Name)
		}
	}
	return names
}

func (r *Region) commissionStart(n *node) {
	if n.Status != Commissioning {
		return
	}
	r.note(n, info("Gathering information"), "", "")
	r.runSet(n, setCommissioning)
	r.runSet(n, setTesting)
	r.after(n, r.options.Timings.Commission, "commission-done")
}

func (r *Region) commissionDone(n *node) {
	if n.Status != Commissioning {
		return
	}
	r.finishSets(n, resultPassed)
	before, owner := n.Status, n.Owner
	r.freed(n)
	r.become(n, Ready)
	r.note(n, info("Ready"), "", "")
	r.power(n, task{Action: "off"})
	r.record(Entry{Op: "commissioned", SystemID: n.SystemID, Before: before, After: Ready, OwnerBefore: owner})
}

func (c *call) rescueMode() reply {
	n := c.node
	if !MayGo(n.Status, EnteringRescueMode) || n.Status == EnteringRescueMode {
		return conflict("Cannot enter rescue mode: node %s is in state %s.", n.SystemID, n.Status)
	}
	c.requested(n, "User starting rescue mode")
	c.interrupt(n)
	n.Previous = n.Status
	c.become(n, EnteringRescueMode)
	c.note(n, info("Entering rescue mode"), "", "")
	c.expire(n, c.nodeTimeout())
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "on", Then: "rescue-boot"}) })
	return answer
}

func (r *Region) rescueBoot(n *node) {
	if n.Status == EnteringRescueMode {
		r.after(n, r.options.Timings.Rescue, "rescue-in")
	}
}

func (r *Region) rescueIn(n *node) {
	if n.Status != EnteringRescueMode {
		return
	}
	r.become(n, RescueMode)
	r.note(n, info("Rescue mode"), "", "")
}

func (c *call) exitRescueMode() reply {
	n := c.node
	if !MayGo(n.Status, ExitingRescueMode) || n.Status == ExitingRescueMode {
		return conflict("Cannot exit rescue mode: node %s is in state %s.", n.SystemID, n.Status)
	}
	c.requested(n, "User stopping rescue mode")
	c.interrupt(n)
	c.become(n, ExitingRescueMode)
	c.expire(n, releasingLimit)
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "off", Then: "rescue-out"}) })
	return answer
}

// rescueOut: a machine that was deployed boots again, others stay off.
func (r *Region) rescueOut(n *node) {
	if n.Status != ExitingRescueMode {
		return
	}
	r.become(n, n.Previous)
	r.note(n, info("Exited rescue mode"), "", "")
	if n.Previous == Deployed {
		r.power(n, task{Action: "on", Disk: true})
	}
}
