package maastest

import (
	"net/http"
	"time"
)

// task is a power action in progress. A machine has one at a time.
type task struct {
	Action string // on, off
	Soft   bool
	Then   string // the step that comes once it has succeeded
	Disk   bool   // on: boots from its disk; else from the network
	// Failure is what the BMC will say.
	Failure string
}

// actionLimit is how long the region waits for a rack to have done a power action.
const actionLimit = 5 * time.Minute

const (
	refusedText  = "Connection was refused by other side: 111: Connection refused."
	timedOutText = "Timed out talking to node's BMC: no answer."
)

// power starts a power action, or lets it follow the one in progress.
func (r *Region) power(n *node, t task) {
	if n.Task != nil {
		n.Next = &t
		return
	}
	n.Task = &t
	if t.Action == "on" {
		r.note(n, info("Powering on"), "", "")
	} else {
		r.note(n, info("Powering off"), "", "")
	}
	n.revision++
	d := r.options.Timings.PowerOn
	if t.Action == "off" {
		d = r.options.Timings.PowerOff
	}
	switch {
	case n.manual():
		r.after(n, 0, "power-done")
	case r.struck(n, RackGone):
		n.Task.Failure = "No rack controllers can access the BMC of node " + n.Hostname
		r.after(n, r.options.Timings.Refusal, "power-failed")
	case r.struck(n, BMCRefuses):
		n.Task.Failure = "Failed talking to node's BMC: " + refusedText
		r.after(n, r.options.Timings.Refusal, "power-failed")
	case r.struck(n, BMCHangs):
		n.Task.Failure = timedOutText
		r.after(n, actionLimit, "power-failed")
	default:
		r.after(n, d, "power-done")
	}
}

// powerDone is what a BMC that has done, or says that it has done, what it was asked for leads to.
func (r *Region) powerDone(n *node) {
	t := n.Task
	if t == nil {
		return
	}
	if n.manual() || r.faulty(n, BMCLies) {
		r.powered(n, nil)
		return
	}
	if r.options.Host == nil || t.Action == "on" && !t.Disk {
		n.On = t.Action == "on"
		r.powered(n, nil)
		return
	}
	r.outside(n, func(h Host) error {
		if t.Action == "off" {
			return h.PowerOff(n.SystemID, !t.Soft)
		}
		return h.PowerOn(n.SystemID, r.nextBoot(n))
	}, func(err error) {
		if err == nil {
			n.On = t.Action == "on"
		}
		r.powered(n, err)
	})
}

// nextBoot is bootOf with the lock.
func (r *Region) nextBoot(n *node) Boot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bootOf(n)
}

func (r *Region) powered(n *node, err error) {
	t := n.Task
	if t == nil {
		return
	}
	if err != nil {
		r.powerFailedWith(n, err.Error())
		return
	}
	n.Task = nil
	if !n.manual() {
		n.Power, n.PowerSeen = t.Action, r.clock.Now()
	}
	r.note(n, debug("Node powered "+t.Action), "", "")
	if !n.On {
		r.halt(n)
	}
	if t.Then != "" {
		r.steps[t.Then](r, n)
	} else if t.Action == "on" && n.On {
		r.starts(n)
	}
	r.followUp(n)
}

// halt: a machine without power does nothing more. What it was doing times out, or is begun anew once it has power.
func (r *Region) halt(n *node) {
	r.cancel(n, "disk-boot", "deploy-install", "deploy-configure", "deploy-fail", "deploy-reboot", "deploy-boot", "deploy-start", "erase-fail", "erase-done",
		"test-done", "commission-done", "rescue-in")
}

// starts is what a machine does that has got power without any plan: it boots from its disk if it has been installed, else from the network,
// where what was begun is begun anew.
func (r *Region) starts(n *node) {
	r.halt(n)
	switch {
	case n.Status == Deploying && !n.Installed:
		r.deployPXE(n)
	case n.Status == DiskErasing:
		r.eraseStart(n)
	case n.Status == Testing:
		r.testStart(n)
	case n.Status == Commissioning:
		r.commissionStart(n)
	case n.Status == EnteringRescueMode:
		r.rescueBoot(n)
	case n.Installed && r.options.Host == nil:
		r.after(n, r.options.Timings.Boot, "disk-boot")
	}
}

// pollEvery is how often MAAS asks each BMC by itself.
const pollEvery = 5 * time.Minute

// poll is that: done when somebody looks, so that an idle machine costs nothing.
func (r *Region) poll(n *node) {
	now := r.clock.Now()
	if now.Sub(n.PowerSeen) < pollEvery || n.Task != nil || n.manual() || n.Status == StatusNew {
		return
	}
	n.PowerSeen = now
	before := n.Power
	switch {
	case r.faulty(n, RackGone):
		n.Power = "unknown"
	case r.faulty(n, BMCRefuses), r.faulty(n, BMCHangs):
		if n.Power = "error"; before != n.Power {
			r.note(n, warning("Failed to query node's BMC"), "", "Connection was refused by other side: "+refusedText+".")
		}
	default:
		r.knows(n, n.On)
	}
	if n.Power != before {
		n.revision++
	}
}

// followUp starts the power action that has waited for another.
func (r *Region) followUp(n *node) {
	if next := n.Next; next != nil && n.Task == nil {
		n.Next = nil
		r.power(n, *next)
	}
}

func (r *Region) powerFailed(n *node) {
	if n.Task != nil {
		r.powerFailedWith(n, n.Task.Failure)
	}
}

func (r *Region) powerFailedWith(n *node, why string) {
	t := n.Task
	if t == nil {
		return
	}
	n.Task = nil
	why = "Power " + t.Action + " for the node failed: " + why
	r.fail(n, why)
	r.note(n, failure("Failed to power "+t.Action+" node"), "", why+".")
	r.after(n, 10*time.Second, "power-query")
	r.followUp(n)
}

// powerQuery is the region's own look at a BMC, some time after an action has failed.
func (r *Region) powerQuery(n *node) {
	if r.faulty(n, BMCRefuses) || r.faulty(n, BMCHangs) {
		r.note(n, warning("Failed to query node's BMC"), "", "Connection was refused by other side: "+refusedText+".")
		n.Power, n.PowerSeen = "error", r.clock.Now()
		return
	}
	if r.options.Host == nil && !n.manual() {
		r.knows(n, n.On)
	}
}

// knows takes in what a BMC has said. A machine that was only waiting to be off is released by it.
func (r *Region) knows(n *node, on bool) string {
	if lie := r.fault(n, BMCLies); lie != nil && lie.Says != "" {
		on = lie.Says == "on"
	}
	n.Power, n.PowerSeen = "off", r.clock.Now()
	if on {
		n.Power = "on"
	}
	n.revision++
	if n.Status == Releasing && !on && n.Task == nil && !r.faulty(n, ReleaseHangs) {
		r.released(n)
	}
	return n.Power
}

func (c *call) powerOn() reply {
	n := c.node
	if n.Owner == "" {
		return conflict("Can't start node: it hasn't been allocated.")
	}
	if busy := c.powerBusy(n, "on"); busy != nil {
		return *busy
	}
	c.requested(n, "User powering up node")
	answer := c.document(n)
	if n.Task == nil {
		c.after = append(c.after, func() { c.power(n, task{Action: "on", Disk: true}) })
	}
	return answer
}

func (c *call) powerOff() reply {
	n := c.node
	if busy := c.powerBusy(n, "off"); busy != nil {
		return *busy
	}
	c.requested(n, "User powering down node")
	answer := c.document(n)
	soft := c.get("stop_mode") == "soft"
	if n.Task == nil {
		c.cancel(n, "disk-boot")
		c.after = append(c.after, func() { c.power(n, task{Action: "off", Soft: soft}) })
	}
	return answer
}

// powerBusy refuses what cannot be begun: there is nobody to do it, or something else is being done. A second request for the same is one with
// the first.
func (c *call) powerBusy(n *node, action string) *reply {
	var a reply
	switch {
	case c.faulty(n, RackGone):
		a = c.noRack(n)
	case n.Task != nil && n.Task.Action != action, c.struck(n, PowerBusy):
		a = text(http.StatusServiceUnavailable, "Unable to change power state to '%s' for node %s: another action is already in progress for that node.",
			action, n.Hostname)
	default:
		return nil
	}
	return &a
}

func (c *call) noRack(n *node) reply {
	return text(http.StatusServiceUnavailable, "No rack controllers can access the BMC of node %s", n.Hostname)
}

type powerStateDoc struct {
	State string `json:"state"`
}

// queryPowerState asks the BMC. One that does not answer is not an error of HTTP.
func (c *call) queryPowerState() reply {
	n := c.node
	switch {
	case c.faulty(n, RackGone):
		c.note(n, warning("Failed to query node's BMC"), c.user.Name, "("+c.user.Name+") - No rack controllers can access the BMC of node "+n.Hostname)
		n.revision++
		return c.noRack(n)
	case n.manual():
		return asJSON(powerStateDoc{"unknown"})
	case c.faulty(n, BMCRefuses), c.faulty(n, BMCHangs):
		if c.faulty(n, BMCHangs) {
			c.unlocked(func() { c.sleep(c.req, 60*time.Second) })
		}
		c.note(n, warning("Failed to query node's BMC"), c.user.Name, "Connection was refused by other side: "+refusedText+".")
		n.Power = "error"
		n.revision++
		return asJSON(powerStateDoc{"error"})
	}
	on := n.On
	if d := c.options.Timings.Query; d > 0 {
		c.unlocked(func() { c.sleep(c.req, d) })
		on = n.On
	}
	// While the region itself boots it from the network, the host knows nothing of it.
	if h := c.options.Host; h != nil && n.Task == nil && n.Installed {
		var err error
		c.unlocked(func() { on, err = h.State(n.SystemID) })
		if err != nil {
			c.note(n, warning("Failed to query node's BMC"), c.user.Name, err.Error())
			n.Power = "error"
			n.revision++
			return asJSON(powerStateDoc{"error"})
		}
		n.On = on
	}
	if n.Task != nil { // the answer is what was before
		return asJSON(powerStateDoc{n.Power})
	}
	return asJSON(powerStateDoc{c.knows(n, on)})
}
