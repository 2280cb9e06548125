package maastest

import (
	"slices"
	"strconv"
)

type pool struct {
	Name, Description string
	ID                int
}

type zone struct {
	Name, Description string
	ID                int
}

func (p *pool) document() poolDoc {
	return poolDoc{p.Name, p.Description, p.ID, apiRoot + "resourcepool/" + strconv.Itoa(p.ID) + "/"}
}

func (z *zone) document() poolDoc {
	return poolDoc{z.Name, z.Description, z.ID, apiRoot + "zones/" + z.Name + "/"}
}

func (r *Region) pool(name string) *pool {
	for _, p := range r.state.Pools {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func (r *Region) zone(name string) *zone {
	for _, z := range r.state.Zones {
		if z.Name == name {
			return z
		}
	}
	return nil
}

// touchAll makes every machine's document anew: something that is written into several has changed.
func (r *Region) touchAll() {
	for _, n := range r.state.Nodes {
		n.revision++
	}
}

func (c *call) listPools() reply {
	docs := []poolDoc{}
	for _, p := range c.state.Pools {
		docs = append(docs, p.document())
	}
	return asJSON(docs)
}

func (c *call) createPool() reply {
	name := c.get("name")
	if name == "" {
		return invalid("name", "This field is required.")
	}
	if c.pool(name) != nil {
		return invalid("name", "Resource pool with this Name already exists.")
	}
	p := &pool{Name: name, Description: c.get("description")}
	for _, other := range c.state.Pools {
		p.ID = max(p.ID, other.ID+1)
	}
	c.state.Pools = append(c.state.Pools, p)
	return asJSON(p.document())
}

// thePool is the one that the path names, by number.
func (c *call) thePool() *pool {
	for _, p := range c.state.Pools {
		if strconv.Itoa(p.ID) == c.vars["id"] {
			return p
		}
	}
	return nil
}

func (c *call) readPool() reply {
	if p := c.thePool(); p != nil {
		return asJSON(p.document())
	}
	return missing("ResourcePool")
}

func (c *call) updatePool() reply {
	p := c.thePool()
	if p == nil {
		return missing("ResourcePool")
	}
	if name := c.get("name"); name != "" && name != p.Name {
		if p.ID == 0 {
			return invalid("name", "This field cannot be changed.")
		}
		for _, n := range c.state.Nodes {
			if n.Pool == p.Name {
				n.Pool = name
			}
		}
		p.Name = name
	}
	if c.has("description") {
		p.Description = c.get("description")
	}
	c.touchAll()
	return asJSON(p.document())
}

func (c *call) deletePool() reply {
	p := c.thePool()
	if p == nil {
		return missing("ResourcePool")
	}
	if p.ID == 0 {
		return text(400, "Default resource pool cannot be deleted.")
	}
	for _, n := range c.state.Nodes {
		if n.Pool == p.Name {
			return text(400, "Cannot delete pool; contains machines.")
		}
	}
	c.state.Pools = slices.DeleteFunc(c.state.Pools, func(other *pool) bool { return other == p })
	return noContent()
}

func (c *call) listZones() reply {
	docs := []poolDoc{}
	for _, z := range c.state.Zones {
		docs = append(docs, z.document())
	}
	return asJSON(docs)
}

func (c *call) createZone() reply {
	name := c.get("name")
	if name == "" {
		return invalid("name", "This field is required.")
	}
	if c.zone(name) != nil {
		return invalid("name", "Physical zone with this Name already exists.")
	}
	z := &zone{Name: name, Description: c.get("description")}
	for _, other := range c.state.Zones {
		z.ID = max(z.ID, other.ID+1)
	}
	c.state.Zones = append(c.state.Zones, z)
	return asJSON(z.document())
}

func (c *call) readZone() reply {
	if z := c.zone(c.vars["name"]); z != nil {
		return asJSON(z.document())
	}
	return missing("Zone")
}

// setZone moves several machines.
func (c *call) setZone() reply {
	z := c.zone(c.get("zone"))
	if z == nil {
		return notAChoice("zone", c.get("zone"))
	}
	for _, id := range c.all("nodes") {
		if n := c.nodes[id]; n != nil {
			n.Zone = z.Name
			n.revision++
		}
	}
	return reply{status: 200, contentType: textJSON, body: []byte("null")}
}
