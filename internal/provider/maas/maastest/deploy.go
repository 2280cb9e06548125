package maastest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// deploy begins a deployment. A machine that is Ready is acquired on the way: nothing keeps anybody from taking one so.
func (c *call) deploy() reply {
	n := c.node
	if (c.yes("install_kvm") || c.yes("register_vmhost") || c.yes("install_rackd")) && !c.user.Admin {
		return forbidden()
	}
	if n.Status == Ready && n.Owner != "" && n.Owner != c.user.Name {
		return conflict("Can't allocate a machine belonging to another user.")
	}
	if n.Status != Ready && n.Status != Allocated {
		return conflict("Can't deploy a machine that is in the '%s' state", n.Status)
	}
	osystem, series := c.get("osystem"), c.get("distro_series")
	image, ok := c.image(osystem, series, n.Architecture)
	if !ok {
		return invalid("distro_series", fmt.Sprintf("'%s' is not a valid distro_series.  It should be one of: %s.", series, c.releases()))
	}
	kernel := c.get("hwe_kernel")
	if kernel == "" {
		kernel = image.Kernels[0]
	} else if !slices.Contains(image.Kernels, kernel) {
		return invalid("hwe_kernel", fmt.Sprintf("%s is not available for %s/%s on %s.", kernel, image.OS, image.Release, n.Architecture))
	}
	if n.NoNetwork {
		return invalid("network", "Node must be configured to use a network")
	}
	var userData []byte
	if s := c.get("user_data"); s != "" {
		var err error
		if userData, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), "")); err != nil {
			return text(400, "Invalid base64 user_data")
		}
	}
	if c.faulty(n, RackGone) {
		return c.noRack(n)
	}
	if n.Status == Ready {
		c.acquire(n, c.get("agent_name"))
	}
	c.requested(n, "User starting deployment")
	n.OSystem, n.Series, n.Kernel, n.UserData, n.Ephemeral = image.OS, image.Release, kernel, userData, c.yes("ephemeral_deploy")
	n.Netboot, n.Installed, n.MetadataKey = true, false, c.newKey()
	c.interrupt(n)
	c.become(n, Deploying)
	c.note(n, info("Deploying"), "", "")
	c.startSet(n, setInstallation, "/tmp/install.log")
	c.expire(n, c.nodeTimeout())
	n.revision++
	answer := c.document(n)
	c.after = append(c.after, func() { c.power(n, task{Action: "on", Then: "deploy-pxe"}) })
	return answer
}

// monitorEvery is how often MAAS looks for what has timed out.
const monitorEvery = time.Minute

// expire lets a machine's status fail once d has passed, at the next look of the region's monitor; 0: never.
func (r *Region) expire(n *node, d time.Duration) {
	r.cancel(n, "timeout")
	n.Expires, n.TimeoutMinutes = time.Time{}, int(d/time.Minute)
	if d == 0 {
		return
	}
	now := r.clock.Now()
	n.Expires = now.Add(d)
	age := n.Expires.Sub(r.state.Started)
	look := age.Truncate(monitorEvery)
	if look < age {
		look += monitorEvery
	}
	r.after(n, r.state.Started.Add(look).Sub(now), "timeout")
}

func (r *Region) timeout(n *node) {
	r.fail(n, fmt.Sprintf("Node operation '%s' timed out after %d minutes.", n.Status, n.TimeoutMinutes))
}

// fail ends what a machine is doing. It stays switched on, and its owner's.
func (r *Region) fail(n *node, why string) {
	to, ok := failedStatus(n.Status)
	if !ok {
		return
	}
	r.interrupt(n)
	r.note(n, failure("Marking node failed"), "", why)
	before := n.Status
	r.finishSets(n, resultFailed)
	r.become(n, to)
	n.Error = why
	r.record(Entry{Op: "fail", SystemID: n.SystemID, Before: before, After: to, OwnerBefore: n.Owner, OwnerAfter: n.Owner, Comment: why})
}

// The installer's way, from the first boot from the network to the one from the disk.

func (r *Region) deployPXE(n *node) {
	if n.Status != Deploying || !n.On { // a BMC has lied, or nobody has pressed the button
		return
	}
	r.note(n, info("Performing PXE boot"), "", "")
	r.after(n, r.options.Timings.PXE, "deploy-install")
}

func (r *Region) deployInstall(n *node) {
	if n.Status != Deploying {
		return
	}
	r.note(n, info("Loading ephemeral"), "", "")
	r.note(n, info("Configuring storage"), "", "")
	r.note(n, info("Installing OS"), "", "")
	r.expire(n, r.nodeTimeout())
	r.runSet(n, setInstallation)
	switch {
	case r.struck(n, DeployHangs):
	case r.faulty(n, DeployFails):
		r.after(n, r.options.Timings.Install/2, "deploy-fail")
	default:
		r.after(n, r.options.Timings.Install*3/4, "deploy-configure")
	}
}

func (r *Region) deployConfigure(n *node) {
	if n.Status != Deploying {
		return
	}
	r.note(n, info("Configuring OS"), "", "")
	r.expire(n, r.nodeTimeout())
	r.after(n, r.options.Timings.Install/4, "deploy-reboot")
}

func (r *Region) deployFail(n *node) {
	message := "curtin command install"
	log := "curtin: Installation failed with exception: Unexpected error while running command.\n"
	if f := r.strike(n, DeployFails); f != nil && f.Message != "" {
		log += f.Message + "\n"
	}
	r.note(n, failure("Node installation failure"), "", "'curtin' "+message)
	r.output(n, setInstallation, log, 3)
	r.fail(n, "Installation failed (refer to the installation log for more information).")
}

// deployReboot: the disk is as it was asked for, or as a fault has it, and boots.
func (r *Region) deployReboot(n *node) {
	if n.Status != Deploying {
		return
	}
	r.note(n, debug("Installation complete"), "", "Node disabled netboot")
	r.note(n, info("Rebooting"), "", "")
	r.output(n, setInstallation, "curtin: Installation finished. "+n.OSystem+"/"+n.Series+" "+n.Kernel+"\n", 0)
	r.finishSets(n, resultPassed)
	n.Netboot, n.Installed, n.Fresh = false, true, true
	n.LastOS, n.LastSeries, n.LastKernel = n.OSystem, n.Series, n.Kernel
	if f := r.strike(n, BootsOther); f != nil {
		if f.Release != "" {
			n.LastSeries = f.Release
		}
		if f.Kernel != "" {
			n.LastKernel = f.Kernel
		}
	}
	n.Dead = r.struck(n, NeverBoots)
	if r.options.Host != nil && !n.Dead {
		r.deployStart(n)
		return
	}
	r.after(n, r.options.Timings.Boot, "deploy-boot")
}

// deployStart has a Host start what was installed.
func (r *Region) deployStart(n *node) {
	r.outside(n, func(h Host) error { return h.PowerOn(n.SystemID, r.nextBoot(n)) }, func(err error) {
		if err != nil && n.Status == Deploying {
			r.fail(n, "Power on for the node failed: "+err.Error())
		}
	})
}

func (r *Region) deployBoot(n *node) {
	if n.Status == Deploying {
		r.deployed(n)
	}
}

// deployed: cloud-init has its user-data. That is all that MAAS means by the word.
func (r *Region) deployed(n *node) {
	before := n.Status
	r.become(n, Deployed)
	r.note(n, info("Deployed"), "", "")
	r.record(Entry{Op: "deployed", SystemID: n.SystemID, Before: before, After: Deployed, OwnerBefore: n.Owner, OwnerAfter: n.Owner})
	r.bootedFromDisk(n)
}

// bootedFromDisk tells whoever wants to know that a machine without a Host has started what is on its disk.
func (r *Region) bootedFromDisk(n *node) {
	n.Boots++
	b := r.bootOf(n)
	n.Fresh = false
	if r.options.Host == nil && r.options.OnBoot != nil && !n.Dead {
		go r.options.OnBoot(b)
	}
}

func (r *Region) diskBoot(n *node) {
	switch {
	case !n.On || !n.Installed:
	case n.Status == Deploying: // it was switched off before its first boot was over
		r.deployed(n)
	default:
		r.bootedFromDisk(n)
	}
}
