package maastest

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// visible are the machines that the caller may see, in the order in which they were added: all for administrators; else those that are
// nobody's or theirs.
func (c *call) visible() []*node {
	var nodes []*node
	for _, n := range c.state.Nodes {
		if view.may(c.user, n) {
			c.poll(n)
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// A filter keeps the machines of which any value holds, or, negated, of which none does.
type filter struct {
	match func(n *node, value string) bool
	all   bool // each value has to hold
	check func(c *call, values []string) (complaint string)
}

var macAddress = regexp.MustCompile(`^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$`)

// without returns the wanted values that there are no things of.
func without(values []string, exists func(string) bool) []string {
	var unknown []string
	for _, v := range values {
		if !exists(v) && !slices.Contains(unknown, v) {
			unknown = append(unknown, v)
		}
	}
	return unknown
}

// filters by parameter. Those with a not_ variant are found by negation.
func filters() map[string]filter {
	atLeast := func(what string, have func(*node) float64) filter {
		return filter{
			match: func(n *node, v string) bool {
				want, _ := strconv.ParseFloat(v, 64)
				return have(n) >= want
			},
			all: true,
			check: func(_ *call, values []string) string {
				for _, v := range values {
					if _, err := strconv.ParseFloat(v, 64); err != nil {
						return what
					}
				}
				return ""
			},
		}
	}
	choice := func(names []string, match func(*node, string) bool) filter {
		return filter{match: match, check: func(_ *call, values []string) string {
			for _, v := range values {
				if !slices.Contains(names, v) {
					return fmt.Sprintf("Select a valid choice. %s is not one of the available choices.", v)
				}
			}
			return ""
		}}
	}
	named := func(what string, exists func(*call, string) bool, match func(*node, string) bool) filter {
		return filter{match: match, check: func(c *call, values []string) string {
			if u := without(values, func(v string) bool { return exists(c, v) }); u != nil {
				return fmt.Sprintf("No such %s(s): %s.", what, strings.Join(u, ", "))
			}
			return ""
		}}
	}
	var statuses []string
	for _, s := range statusNames() {
		statuses = append(statuses, s.Filter)
	}
	never := func(*node, string) bool { return false }
	inNetwork := func(names ...string) filter {
		return filter{match: func(n *node, v string) bool {
			_, v, _ = strings.Cut(":"+v, ":")
			if i := strings.LastIndex(v, ":"); i >= 0 {
				v = v[i+1:]
			}
			return !n.NoNetwork && (slices.Contains(names, v))
		}}
	}
	return map[string]filter{
		"id":         {match: func(n *node, v string) bool { return n.SystemID == v }},
		"system_id":  {match: func(n *node, v string) bool { return n.SystemID == v }},
		"hostname":   {match: func(n *node, v string) bool { return n.Hostname == v }},
		"name":       {match: func(n *node, v string) bool { return n.Hostname == v || n.fqdn() == v }},
		"domain":     {match: func(_ *node, v string) bool { return v == "maas" }},
		"agent_name": {match: func(n *node, v string) bool { return n.AgentName == v }},
		"mac_address": {
			match: func(n *node, v string) bool {
				return slices.ContainsFunc(n.NICs, func(nic NIC) bool {
					return strings.EqualFold(nic.MAC, strings.ReplaceAll(v, "-", ":"))
				})
			},
			check: func(_ *call, values []string) string {
				for _, v := range values {
					if !macAddress.MatchString(v) {
						return "Invalid parameter: invalid MAC address format"
					}
				}
				return ""
			},
		},
		"status": choice(statuses, func(n *node, v string) bool { s, ok := statusOf(v); return ok && n.Status == s }),
		"power_state": choice([]string{"on", "off", "unknown", "error"},
			func(n *node, v string) bool { return n.Power == v }),
		"owner": {
			match: func(n *node, v string) bool { return n.Owner == v },
			check: func(c *call, values []string) string {
				if u := without(values, func(v string) bool { return c.Region.user(v) != nil }); u != nil {
					return fmt.Sprintf("No such owner: '%s'.", u[0])
				}
				return ""
			},
		},
		"zone": named("zone", func(c *call, v string) bool { return c.zone(v) != nil }, func(n *node, v string) bool { return n.Zone == v }),
		"pool": named("pool", func(c *call, v string) bool { return c.pool(v) != nil }, func(n *node, v string) bool { return n.Pool == v }),
		"arch": {
			match: func(n *node, v string) bool { return n.Architecture == v || strings.HasPrefix(n.Architecture, v+"/") },
			check: func(c *call, values []string) string {
				known := func(v string) bool {
					v, _, _ = strings.Cut(v, "/")
					return slices.ContainsFunc(c.options.Images, func(i Image) bool { return slices.Contains(i.Architectures, v) })
				}
				if without(values, known) != nil {
					return "Architecture not recognised."
				}
				return ""
			},
		},
		"tags": {
			all:   true,
			match: func(n *node, v string) bool { return slices.Contains(n.Tags, v) },
			check: func(c *call, values []string) string {
				if u := without(values, func(v string) bool { return c.tag(v) != nil }); u != nil {
					return fmt.Sprintf("No such tag(s): '%s'.", strings.Join(u, "', '"))
				}
				return ""
			},
		},
		"cpu_count": atLeast("Invalid CPU count: number required.", func(n *node) float64 { return float64(n.Cores) }),
		"cpu_speed": atLeast("Invalid CPU speed: number required.", func(n *node) float64 { return float64(n.SpeedMHz) }),
		"mem":       atLeast("Invalid memory: number of MiB required.", func(n *node) float64 { return float64(n.MemoryMiB) }),
		"link_speed": atLeast("Invalid link speed: number required.", func(n *node) float64 {
			speed := 0
			for _, nic := range n.NICs {
				speed = max(speed, nic.SpeedMbits)
			}
			return float64(speed)
		}),
		// One fabric, one VLAN, one subnet, and no pods or fabric classes.
		"fabrics": inNetwork("fabric-0", "0"), "vlans": inNetwork("1", "0", "untagged"), "subnets": inNetwork("1", "10.77.1.0/24"),
		"pod": {match: never}, "pod_type": {match: never}, "fabric_classes": {match: never},
		"devices": {match: func(n *node, v string) bool { return n.hasDevices(v) }},
	}
}

// hasDevices tells whether a graphics card of the machine is as vendor_id=10de,product_id=2204 says.
func (n *node) hasDevices(constraint string) bool {
	for _, g := range n.GPUs {
		vendor, product, _ := strings.Cut(g.ID, ":")
		have := map[string]string{"vendor_id": vendor, "product_id": product, "vendor_name": g.Vendor, "product_name": g.Product, "commissioning_driver": g.Driver}
		fits := true
		for _, pair := range strings.Split(constraint, ",") {
			key, value, _ := strings.Cut(pair, "=")
			fits = fits && strings.EqualFold(have[key], value)
		}
		if fits {
			return true
		}
	}
	return false
}

// negated returns the filter that a not_ parameter negates.
func negated(param string) (string, bool) {
	switch param {
	case "not_in_zone":
		return "zone", true
	case "not_in_pool":
		return "pool", true
	}
	return strings.CutPrefix(param, "not_")
}

// filter returns the machines that a form's constraints keep. Unknown names are refused if strict.
func (c *call) filter(nodes []*node, form url.Values, strict bool) ([]*node, *reply) {
	known := filters()
	for _, param := range sortedKeys(form) {
		values := slices.DeleteFunc(slices.Clone(form[param]), func(v string) bool { return v == "" })
		if param == "tags" || param == "not_tags" {
			values = strings.FieldsFunc(strings.Join(values, ","), func(r rune) bool { return r == ',' || r == ' ' })
		}
		name, not := negated(param)
		if !not {
			name = param
		}
		f, ok := known[name]
		if !ok || !c.route.reads(param) {
			if strict {
				a := invalid(param, "No such constraint.")
				return nil, &a
			}
			continue
		}
		if len(values) == 0 {
			continue
		}
		if f.check != nil {
			if complaint := f.check(c, values); complaint != "" {
				a := invalid(param, complaint)
				return nil, &a
			}
		}
		var kept []*node
		for _, n := range nodes {
			any := slices.ContainsFunc(values, func(v string) bool { return f.match(n, v) })
			every := !slices.ContainsFunc(values, func(v string) bool { return !f.match(n, v) })
			if not && !any || !not && (f.all && every || !f.all && any) {
				kept = append(kept, n)
			}
		}
		nodes = kept
	}
	return nodes, nil
}
