package maastest

import (
	"slices"
	"time"
)

func releasable() []Status {
	return []Status{Allocated, Reserved, Broken, Deploying, Deployed, FailedDeployment, FailedDiskErasing, FailedReleasing, DiskErasing}
}

// releasingLimit is how long a release may wait for a machine to be off.
const releasingLimit = 5 * time.Minute

func (c *call) release() reply {
	n := c.node
	if n.Status == Releasing || n.Status == Ready {
		return c.document(n) // it is as it was asked for
	}
	if !slices.Contains(releasable(), n.Status) {
		return conflict("Machine cannot be released in its current state ('%s').", n.Status)
	}
	if c.faulty(n, RackGone) && n.Power != "off" {
		return c.noRack(n)
	}
	if c.yes("erase") || c.forcedErase() {
		c.erase(n)
	} else {
		c.requested(n, "User releasing node")
		c.letGo(n)
	}
	return c.document(n)
}

func (c *call) forcedErase() bool {
	forced, _ := c.state.Config["enable_disk_erasing_on_release"].(bool)
	return forced
}

// letGo begins a release. It is done at once if the machine is off, or if nobody can tell: else when it is.
func (c *call) letGo(n *node) {
	c.interrupt(n)
	n.AgentName, n.Netboot, n.OSystem, n.Series, n.Kernel, n.UserData, n.Locked = "", true, "", "", "", nil, false
	if off := n.Power == "off" && n.Task == nil; off || n.manual() || n.Owner == "" { // nobody's: it is Broken
		c.released(n)
		return
	}
	c.become(n, Releasing)
	c.note(n, info("Releasing"), "", "")
	c.expire(n, releasingLimit)
	if c.struck(n, ReleaseHangs) {
		return
	}
	c.after = append(c.after, func() { c.power(n, task{Action: "off", Then: "released"}) })
}

// released gives a machine back to all.
func (r *Region) released(n *node) {
	before, owner := n.Status, n.Owner
	r.freed(n)
	r.become(n, Ready)
	r.note(n, info("Released"), "", "")
	r.record(Entry{Op: "released", SystemID: n.SystemID, Before: before, After: n.Status, OwnerBefore: owner})
}

// freed forgets all that belonged to the owner, and what was on the disk.
func (r *Region) freed(n *node) {
	n.Owner, n.AgentName, n.Token, n.OwnerData, n.Locked, n.Error = "", "", "", map[string]string{}, false, ""
	n.UserData, n.Installed, n.MetadataKey, n.Ephemeral = nil, false, nil, false
	n.OSystem, n.Series, n.Kernel, n.Netboot = "", "", "", true
	if r.options.Host != nil {
		r.outside(n, func(h Host) error { return h.Wipe(n.SystemID) }, func(err error) {
			if err != nil {
				r.log.Error("cannot wipe a released machine", "machine", n.SystemID, "error", err)
			}
		})
	}
	n.revision++
}

// releaseMany releases all that it can, or nothing if one cannot be.
func (c *call) releaseMany() reply {
	var nodes []*node
	for _, id := range c.all("machines") {
		n := c.nodes[id]
		switch {
		case n == nil:
			return text(400, "Unknown machine(s): %s.", id)
		case !edit.may(c.user, n):
			return text(403, "You don't have the required permission to release the following machine(s): %s.", id)
		case n.Status == Releasing || n.Status == Ready:
			continue
		case !slices.Contains(releasable(), n.Status):
			return conflict("Machine(s) cannot be released in their current state: %s ('%s').", id, n.Status)
		}
		nodes = append(nodes, n)
	}
	ids := []string{}
	for _, n := range nodes {
		before, owner := n.Status, n.Owner
		c.letGo(n)
		c.record(Entry{User: c.user.Name, Token: c.key.Token, Op: c.route.op(), SystemID: n.SystemID, Before: before, After: n.Status,
			OwnerBefore: owner, OwnerAfter: n.Owner, HTTP: 200, Comment: c.get("comment")})
		ids = append(ids, n.SystemID)
		n.revision++
	}
	return asJSON(ids)
}

// erase boots a machine from the network to erase its disks; it is released afterwards.
func (c *call) erase(n *node) {
	c.requested(n, "User erasing disk")
	c.interrupt(n)
	n.Netboot, n.OSystem, n.Series, n.Kernel, n.UserData = true, "", "", "", nil
	c.become(n, DiskErasing)
	c.after = append(c.after, func() { c.power(n, task{Action: "on", Then: "erase-start"}) })
}

func (r *Region) eraseStart(n *node) {
	if n.Status != DiskErasing || r.struck(n, ReleaseHangs) {
		return
	}
	if r.struck(n, EraseFails) {
		r.after(n, r.options.Timings.Erase/2, "erase-fail")
		return
	}
	r.after(n, r.options.Timings.Erase, "erase-done")
}

func (r *Region) eraseFail(n *node) {
	r.fail(n, "Failed to erase disks.")
}

func (r *Region) eraseDone(n *node) {
	if n.Status != DiskErasing {
		return
	}
	r.note(n, info("Disks erased"), "", "")
	n.Installed = false
	before := n.Status
	n.AgentName = ""
	r.become(n, Releasing)
	r.note(n, info("Releasing"), "", "")
	r.expire(n, releasingLimit)
	r.record(Entry{Op: "erased", SystemID: n.SystemID, Before: before, After: n.Status, OwnerBefore: n.Owner, OwnerAfter: n.Owner})
	r.power(n, task{Action: "off", Then: "released"})
}

// abort stops what is going on. The status changes only once the machine is off.
func (c *call) abort() reply {
	n := c.node
	what := map[Status]string{Deploying: "deployment", DiskErasing: "disk erasing", Commissioning: "commissioning", Testing: "testing"}[n.Status]
	if what == "" {
		return conflict("Cannot abort in current state: node %s is in state %s.", n.SystemID, n.Status)
	}
	c.requested(n, "User aborting "+what)
	c.note(n, info("Aborted "+what), "", "")
	expires := n.Expires
	c.interrupt(n)
	if c.struck(n, AbortHangs) {
		if !expires.IsZero() {
			c.expire(n, expires.Sub(c.clock.Now()))
		}
		n.revision++
		return c.document(n)
	}
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "off", Then: "aborted"}) })
	return answer
}

func (r *Region) aborted(n *node) {
	to, ok := map[Status]Status{Deploying: Allocated, DiskErasing: FailedDiskErasing, Commissioning: n.Previous, Testing: n.Previous}[n.Status]
	if !ok {
		return
	}
	before, owner := n.Status, n.Owner
	r.finishSets(n, resultAborted)
	if (before == Commissioning || before == Testing) && (to == Ready || to == StatusNew || to == Broken) {
		n.Owner, n.Token = "", ""
	}
	n.Installed = n.Installed && before != Deploying && before != DiskErasing
	r.become(n, to)
	r.record(Entry{Op: "aborted", SystemID: n.SystemID, Before: before, After: to, OwnerBefore: owner, OwnerAfter: n.Owner})
}

// markBroken takes a machine out of use, whoever holds it: it is released by it, there and then.
func (c *call) markBroken() reply {
	n := c.node
	c.requested(n, "User marking node broken")
	c.interrupt(n)
	c.finishSets(n, resultAborted)
	if n.Owner != "" {
		c.freed(n)
		c.note(n, info("Released"), "", "")
		if n.Power != "off" && !n.manual() {
			c.after = append(c.after, func() { c.power(n, task{Action: "off"}) })
		}
	}
	c.become(n, Broken)
	n.Error = c.get("comment")
	n.revision++
	return c.document(n)
}

func (c *call) markFixed() reply {
	n := c.node
	if n.Status != Broken {
		return conflict("Can't mark a non-broken node as 'Ready'.")
	}
	c.requested(n, "User marking node fixed")
	c.become(n, Ready)
	n.Error = ""
	n.revision++
	return c.document(n)
}
