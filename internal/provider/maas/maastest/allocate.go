package maastest

import (
	"bytes"
	"fmt"
	"maps"
	"sort"
	"strings"
)

// allocate gives the caller a machine that is Ready and fits: of several, the one that is least.
func (c *call) allocate() reply {
	form := maps.Clone(c.form)
	for _, name := range []string{"agent_name", "comment", "dry_run", "verbose", "bridge_all", "bridge_stp", "bridge_fd", "bridge_type"} {
		delete(form, name)
	}
	if c.get("storage") != "" || c.get("interfaces") != "" {
		return text(501, "the simulated region cannot choose by storage or interfaces")
	}
	candidates, refusal := c.filter(c.visible(), form, true)
	if refusal != nil {
		return *refusal
	}
	ready := candidates[:0:0]
	for _, n := range candidates {
		if n.Status == Ready && n.Owner == "" && !n.Locked {
			ready = append(ready, n)
		}
	}
	sort.SliceStable(ready, func(i, j int) bool { return cost(ready[i]) < cost(ready[j]) })
	if len(ready) == 0 {
		return c.nothingToAllocate(form)
	}
	n := ready[0]
	if !c.yes("dry_run") {
		c.node = n
		c.acquire(n, c.get("agent_name"))
		n.revision++
	}
	doc := c.document(n)
	// Which constraints the machine was chosen by comes after the machine's own fields.
	doc.body = append(bytes.TrimSuffix(doc.body, []byte("\n}")), []byte(",\n    \"constraints_by_type\": {}\n}")...)
	return doc
}

func cost(n *node) float64 { return float64(n.Cores) + float64(n.MemoryMiB)/1024 }

func (c *call) nothingToAllocate(form map[string][]string) reply {
	if id := c.get("system_id"); id != "" {
		return conflict("No machine with system ID %s available.", id)
	}
	if len(form) == 0 {
		return conflict("No machine available.")
	}
	var given, resolved []string
	for _, name := range sortedKeys(form) {
		given = append(given, fmt.Sprintf("('%s', ['%s'])", name, strings.Join(form[name], "', '")))
		resolved = append(resolved, name+"="+strings.Join(form[name], ","))
	}
	return conflict(`No available machine matches constraints: [%s] (resolved to "%s")`, strings.Join(given, ", "), strings.Join(resolved, " "))
}

// acquire makes the caller the owner of a machine that is Ready.
func (c *call) acquire(n *node, agentName string) {
	c.requested(n, "User acquiring node")
	n.Owner, n.AgentName, n.Token = c.user.Name, agentName, c.key.Token
	c.become(n, Allocated)
}

// become changes a machine's status; what times out with it is set by whoever knows.
func (r *Region) become(n *node, to Status) {
	if n.Status == to {
		return
	}
	if !MayGo(n.Status, to) {
		n.Violations = append(n.Violations, fmt.Sprintf("%s: went from %s to %s", n.SystemID, n.Status, to))
	}
	r.note(n, debug("Node changed status"), "", fmt.Sprintf("From '%s' to '%s'", n.Status, to))
	n.Status, n.StatusSince = to, r.clock.Now()
	r.expire(n, 0)
	n.revision++
}
