package juju

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Check refuses states that Juju could not be in, with every reason at once. It is for tests that build a state by hand: what
// the model's own operations do keeps to it.
func (s *State) Check() error {
	c := &checker{s: s}
	c.model()
	c.applications()
	c.units()
	c.relations()
	c.storage()
	c.secrets()
	c.tasks()
	if len(c.wrong) == 0 {
		return nil
	}
	sort.Strings(c.wrong)
	return errors.New("Juju could not be in this state: " + strings.Join(c.wrong, "; "))
}

type checker struct {
	s     *State
	wrong []string
}

func (c *checker) bad(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *checker) model() {
	if c.s.Model.Name == "" || c.s.Model.UUID == "" {
		c.bad("the model has no name or no UUID")
	}
	if major := c.s.Model.Major(); major != 3 && major != 4 {
		c.bad("Juju %q is none of 3.6 and 4.x", c.s.Model.Version)
	}
	for id, m := range c.s.Machines {
		if m.ID != id {
			c.bad("machine %q is kept as %q", m.ID, id)
		}
	}
	for url, ch := range c.s.Charms {
		if ch.URL != url {
			c.bad("charm %q is kept as %q", ch.URL, url)
		}
	}
}

func (c *checker) applications() {
	for name, app := range c.s.Applications {
		if app.Name != name || !appName.MatchString(name) {
			c.bad("application %q is kept as %q or has no valid name", app.Name, name)
		}
		ch := c.s.Charms[app.Charm]
		if ch == nil {
			c.bad("application %s has charm %q, which is not in the model", name, app.Charm)
			continue
		}
		if leader := app.Leader; leader != "" && (c.s.Units[leader] == nil || c.s.Units[leader].Application != name) {
			c.bad("%s leads application %s and is no unit of it", leader, name)
		}
		for option, text := range app.Config {
			declared, ok := ch.Config.Options[option]
			if !ok {
				c.bad("application %s has option %q, which charm %s does not declare", name, option, ch.Name)
			} else if _, err := ParseOption(declared.Type, text); err != nil {
				c.bad("application %s has option %s=%q, which is not of type %s", name, option, text, declared.Type)
			} else if _, valid := ParseSecretURI(text); declared.Type == "secret" && text != "" && !valid {
				c.bad("application %s has option %s=%q, which is no secret's URI", name, option, text)
			}
		}
		for resource := range app.Resources {
			if _, ok := ch.Meta.Resources[resource]; !ok {
				c.bad("application %s has resource %q, which charm %s does not declare", name, resource, ch.Name)
			}
		}
		for _, spec := range ch.Endpoints() {
			if spec.Role == Peer && app.Life == Alive && !slices.ContainsFunc(c.s.RelationsOf(name), func(r *Relation) bool {
				e, _ := r.Endpoint(name)
				return r.Peer() && e.Name == spec.Name
			}) {
				c.bad("application %s lacks its peer relation %s", name, spec.Name)
			}
		}
	}
}

// charmStatuses are what a unit's or application's status can be: what charms set, and what Juju does for them.
var charmStatuses = append(slices.Clone(settable), "unknown", "terminated")

func (c *checker) units() {
	for name, u := range c.s.Units {
		if u.Name != name || !unitName.MatchString(name) || !strings.HasPrefix(name, u.Application+"/") {
			c.bad("unit %q is kept as %q, or is no unit of %q", u.Name, name, u.Application)
		}
		if c.s.Applications[u.Application] == nil {
			c.bad("unit %s is of application %q, which is not in the model", name, u.Application)
		}
		if u.Machine != "" && c.s.Machines[u.Machine] == nil {
			c.bad("unit %s is on machine %q, which is not in the model", name, u.Machine)
		}
		if !slices.Contains(charmStatuses, u.Workload.Status) {
			c.bad("unit %s has workload status %q, which no charm can set", name, u.Workload.Status)
		}
		if u.Uniter.Started && !u.Uniter.Installed {
			c.bad("unit %s has started and was not installed", name)
		}
		if next := c.s.Next.Unit[u.Application]; next <= u.Number() {
			c.bad("unit %s exists and the next one of %s would be number %d", name, u.Application, next)
		}
		size := 0
		for key, value := range u.CharmState {
			size += len(key) + len(value)
			if len(value) > maxStateValue {
				c.bad("unit %s has a charm state value of %d bytes", name, len(value))
			}
		}
		if size > maxCharmState {
			c.bad("unit %s has a charm state of %d bytes", name, size)
		}
		for _, p := range u.Ports {
			if _, err := parsePort(p.String()); err != nil {
				c.bad("unit %s has port %s open: %v", name, p, err)
			}
			if ch := c.s.CharmOf(u.Application); ch != nil && p.Endpoint != "" {
				if _, ok := ch.Endpoint(p.Endpoint); !ok {
					c.bad("unit %s has port %s open on endpoint %q, which its charm does not declare", name, p, p.Endpoint)
				}
			}
		}
	}
}

func (c *checker) relations() {
	keys := map[string]int{}
	for id, r := range c.s.Relations {
		if r.ID != id {
			c.bad("relation %d is kept as %d", r.ID, id)
		}
		if id >= c.s.Next.Relation {
			c.bad("relation %d exists and the next one would be number %d", id, c.s.Next.Relation)
		}
		if other, twice := keys[r.Key()]; twice && r.Life == Alive && c.s.Relations[other].Life == Alive {
			c.bad("relations %d and %d are both %s", other, id, r.Key())
		}
		keys[r.Key()] = id
		if n := len(r.Endpoints); n != 1 && n != 2 {
			c.bad("relation %d has %d endpoints", id, n)
			continue
		}
		c.endpoints(r)
		for app, bag := range r.Apps {
			if _, ok := r.Endpoint(app); !ok {
				c.bad("relation %d has settings of application %s, which is not in it", id, app)
			}
			c.bag(fmt.Sprintf("relation %d, application %s", id, app), bag.Settings)
		}
		for name, unit := range r.Units {
			app, _, _ := strings.Cut(name, "/")
			if _, ok := r.Endpoint(app); !ok {
				c.bad("relation %d has unit %s, whose application is not in it", id, name)
			}
			if unit.InScope && c.s.Units[name] == nil {
				c.bad("relation %d has unit %s in it, which is not in the model", id, name)
			}
			c.bag(fmt.Sprintf("relation %d, unit %s", id, name), unit.Settings)
		}
	}
}

func (c *checker) bag(whose string, settings map[string]string) {
	for key, value := range settings {
		if key == "" || value == "" {
			c.bad("%s: setting %q is empty; Juju would have removed it", whose, key)
		}
	}
	if err := checkBag(settings); err != nil {
		c.bad("%s: %v", whose, err)
	}
}

func (c *checker) endpoints(r *Relation) {
	for _, e := range r.Endpoints {
		ch := c.s.CharmOf(e.Application)
		if ch == nil {
			if r.Life == Alive {
				c.bad("relation %d is with application %q, which is not in the model", r.ID, e.Application)
			}
			continue
		}
		spec, ok := ch.Endpoint(e.Name)
		switch {
		case !ok && e.Name == "juju-info":
		case !ok:
			c.bad("relation %d uses endpoint %s, which charm %s does not declare", r.ID, e, ch.Name)
		case spec.Role != e.Role || spec.Interface != e.Interface:
			c.bad("relation %d uses endpoint %s as %s of %s; the charm declares %s of %s", r.ID, e, e.Role, e.Interface, spec.Role, spec.Interface)
		}
	}
	if r.Peer() {
		if r.Endpoints[0].Role != Peer {
			c.bad("relation %d has one endpoint and is no peer relation", r.ID)
		}
		return
	}
	a, b := r.Endpoints[0], r.Endpoints[1]
	if a.Interface != b.Interface || a.Role == b.Role || a.Role == Peer || b.Role == Peer {
		c.bad("relation %d joins %s and %s, which do not fit", r.ID, a, b)
	}
}

func (c *checker) storage() {
	count := map[string]int{}
	for id, st := range c.s.Storage {
		if st.ID != id || !strings.HasPrefix(id, st.Name+"/") {
			c.bad("storage %q is kept as %q, or has not the name %q", st.ID, id, st.Name)
		}
		if st.Unit == "" {
			continue
		}
		u := c.s.Units[st.Unit]
		if u == nil {
			c.bad("storage %s is attached to unit %q, which is not in the model", id, st.Unit)
			continue
		}
		ch := c.s.CharmOf(u.Application)
		if ch == nil {
			continue
		}
		meta, ok := ch.Meta.Storage[st.Name]
		if !ok {
			c.bad("storage %s is one that charm %s does not declare", id, ch.Name)
			continue
		}
		if st.Kind != string(meta.Type) {
			c.bad("storage %s is a %s; the charm declares a %s", id, st.Kind, meta.Type)
		}
		key := st.Unit + " " + st.Name
		if count[key]++; meta.CountMax > 0 && count[key] > meta.CountMax {
			c.bad("unit %s has %d instances of storage %s, of which it may have %d", st.Unit, count[key], st.Name, meta.CountMax)
		}
		if st.Attached && st.Location == "" {
			c.bad("storage %s is attached nowhere", id)
		}
	}
}

func (c *checker) secrets() {
	labels := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(c.s.Secrets)) {
		secret := c.s.Secrets[id]
		if secret.ID != id || !secretID.MatchString(id) {
			c.bad("secret %q is kept as %q, or has no id that Juju makes", secret.ID, id)
		}
		switch secret.Owner.Kind {
		case "unit":
			if c.s.Units[secret.Owner.ID] == nil {
				c.bad("secret %s is of unit %q, which is not in the model", id, secret.Owner.ID)
			}
		case "application":
			if c.s.Applications[secret.Owner.ID] == nil {
				c.bad("secret %s is of application %q, which is not in the model", id, secret.Owner.ID)
			}
		case "model":
		default:
			c.bad("secret %s has an owner of kind %q", id, secret.Owner.Kind)
		}
		if key := secret.Owner.Kind + " " + secret.Owner.ID + " " + secret.Label; secret.Label != "" {
			if other, twice := labels[key]; twice {
				c.bad("secrets %s and %s of one owner have label %q", other, id, secret.Label)
			}
			labels[key] = id
		}
		if len(secret.Revisions) == 0 {
			c.bad("secret %s has no revision", id)
		}
		for n, r := range secret.Revisions {
			if n > 0 && r.Revision <= secret.Revisions[n-1].Revision {
				c.bad("secret %s has revisions out of order", id)
			}
			for key := range r.Content {
				if !secretKey.MatchString(key) {
					c.bad("secret %s has key %q, which is not valid", id, key)
				}
			}
		}
		for _, g := range secret.Grants {
			if g.Relation >= 0 && c.s.Relations[g.Relation] == nil {
				c.bad("secret %s is granted for relation %d, which is not in the model", id, g.Relation)
			} else if g.Relation >= 0 && c.s.Relations[g.Relation].Peer() {
				c.bad("secret %s is granted over a peer relation", id)
			}
		}
		for unit, consumer := range secret.Consumers {
			if c.s.Units[unit] == nil {
				c.bad("secret %s was read by unit %q, which is not in the model", id, unit)
			}
			if consumer.Revision < 1 || consumer.Revision > secret.Latest() {
				c.bad("secret %s was read by %s at revision %d, which never was", id, unit, consumer.Revision)
			}
		}
	}
}

func (c *checker) tasks() {
	for id, task := range c.s.Tasks {
		if task.ID != id || id >= c.s.Next.Task {
			c.bad("task %d is kept as %d, or beyond the next number %d", task.ID, id, c.s.Next.Task)
		}
		u := c.s.Units[task.Receiver]
		if u == nil || task.Action == ExecAction || task.Status.Final() {
			continue
		}
		if ch := c.s.CharmOf(u.Application); ch != nil {
			if _, ok := ch.Actions.ActionSpecs[task.Action]; !ok {
				c.bad("task %d is action %q, which charm %s does not declare", id, task.Action, ch.Name)
			}
		}
	}
}
