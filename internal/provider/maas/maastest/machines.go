package maastest

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

func (c *call) listMachines() reply {
	form := maps.Clone(c.form)
	delete(form, "format")
	nodes, refusal := c.filter(c.visible(), form, true)
	if refusal != nil {
		return *refusal
	}
	return c.listOf(nodes)
}

// listAllocated lists what the caller holds.
func (c *call) listAllocated() reply {
	var nodes []*node
	ids := c.all("id")
	for _, n := range c.state.Nodes {
		if n.Owner == c.user.Name && (len(ids) == 0 || slices.Contains(ids, n.SystemID)) {
			nodes = append(nodes, n)
		}
	}
	return c.listOf(nodes)
}

func (c *call) isRegistered() reply {
	mac := c.get("mac_address")
	if mac == "" {
		return text(400, "No provided mac_address!")
	}
	found := slices.ContainsFunc(c.state.Nodes, func(n *node) bool {
		return n.Status != Retired && slices.ContainsFunc(n.NICs, func(nic NIC) bool { return strings.EqualFold(nic.MAC, mac) })
	})
	return reply{status: 200, contentType: textJSON, body: []byte(strconv.FormatBool(found))}
}

func (c *call) readMachine() reply {
	c.poll(c.node)
	return c.document(c.node)
}

// updateMachine changes what an administrator may. A field that the form does not have stays.
func (c *call) updateMachine() reply {
	n := c.node
	if c.has("pool") && c.pool(c.get("pool")) == nil {
		return invalid("pool", "Select a valid choice. That choice is not one of the available choices.")
	}
	if c.has("zone") && c.zone(c.get("zone")) == nil {
		return invalid("zone", "Select a valid choice. That choice is not one of the available choices.")
	}
	if name := c.get("hostname"); name != "" {
		for _, other := range c.state.Nodes {
			if other != n && other.Hostname == name {
				return invalid("hostname", "Node with hostname '"+name+"' already exists.")
			}
		}
	}
	for name, field := range map[string]*int64{"memory": &n.MemoryMiB} {
		if c.get(name) != "" {
			v, err := strconv.ParseInt(c.get(name), 10, 64)
			if err != nil {
				return invalid(name, "Enter a whole number.")
			}
			*field = v
		}
	}
	if c.get("cpu_count") != "" {
		v, err := strconv.Atoi(c.get("cpu_count"))
		if err != nil {
			return invalid("cpu_count", "Enter a whole number.")
		}
		n.Cores = v
	}
	for name, field := range map[string]*string{
		"hostname": &n.Hostname, "pool": &n.Pool, "zone": &n.Zone, "architecture": &n.Architecture, "power_type": &n.PowerType,
		"min_hwe_kernel": &n.MinKernel,
	} {
		if c.get(name) != "" {
			*field = c.get(name)
		}
	}
	if c.has("description") {
		n.Description = c.get("description")
	}
	for name, values := range c.form {
		if p, ok := strings.CutPrefix(name, "power_parameters_"); ok && p != "skip_check" {
			n.PowerParameters[p] = values[0]
		}
	}
	n.revision++
	return c.document(n)
}

func (c *call) deleteMachine() reply {
	c.drop(c.node)
	return noContent()
}

// drop takes a machine out of the region, whatever it is doing.
func (r *Region) drop(n *node) {
	r.cancel(n)
	delete(r.nodes, n.SystemID)
	delete(r.timers, n)
	r.state.Nodes = slices.DeleteFunc(r.state.Nodes, func(other *node) bool { return other == n })
}

// setOwnerData sets and, with an empty value, removes what the owner has written on the machine. MAAS has two operations and one store.
func (c *call) setOwnerData() reply {
	for name, values := range c.form {
		if name == "op" {
			continue
		}
		if values[0] == "" {
			delete(c.node.OwnerData, name)
			continue
		}
		c.node.OwnerData[name] = values[0]
	}
	c.node.revision++
	return c.document(c.node)
}

func (c *call) lock() reply {
	if !c.node.Locked {
		c.node.Locked = true
		c.requested(c.node, "User locking node")
		c.node.revision++
	}
	return c.document(c.node)
}

func (c *call) unlock() reply {
	if c.node.Locked {
		c.node.Locked = false
		c.requested(c.node, "User unlocking node")
		c.node.revision++
	}
	return c.document(c.node)
}

// powerParameters may hold secrets: they are for administrators.
func (c *call) powerParameters() reply { return asJSON(c.node.PowerParameters) }

func (c *call) allPowerParameters() reply {
	if !c.user.Admin {
		return forbidden()
	}
	all := map[string]map[string]string{}
	ids := c.all("id")
	for _, n := range c.state.Nodes {
		if len(ids) == 0 || slices.Contains(ids, n.SystemID) {
			all[n.SystemID] = n.PowerParameters
		}
	}
	return asJSON(all)
}
