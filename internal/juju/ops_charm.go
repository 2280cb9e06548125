package juju

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/juju/charm/v12/assumes"
	"github.com/juju/version/v2"
)

// AddCharm stores a charm under the next revision of its name, as an upload does. The same file again is a new revision.
func (s *State) AddCharm(ch *Charm) *Charm {
	stored := ch.WithRevision(s.Next.Charm[ch.Name])
	s.Next.Charm[ch.Name]++
	s.Charms[stored.URL] = stored
	return stored
}

// PreferredBase is the first base of the charm's manifest.
func (c *Charm) PreferredBase() Base {
	if c.Manifest == nil || len(c.Manifest.Bases) == 0 {
		return Base{}
	}
	b := c.Manifest.Bases[0]
	return Base{Name: b.Name, Channel: b.Channel.Track}
}

// SupportsBase reports whether the charm's manifest has the base.
func (c *Charm) SupportsBase(base Base) bool {
	for _, b := range c.Manifest.Bases {
		if b.Name == base.Name && b.Channel.Track == base.Channel {
			return true
		}
	}
	return false
}

// dropUnusedCharms forgets charms that no application and no unit uses any more. Their numbers are not given out again.
func (s *State) dropUnusedCharms() {
	used := map[string]bool{}
	for _, a := range s.Applications {
		used[a.Charm] = true
	}
	for _, u := range s.Units {
		used[u.Uniter.Charm] = true
	}
	for url := range s.Charms {
		if !used[url] {
			delete(s.Charms, url)
		}
	}
}

// Refresh sets an application to a new revision of its charm. Options that the new revision does not have are forgotten;
// endpoints in use must be there still.
func (s *State) Refresh(application string, ch *Charm, resources map[string]Resource, now time.Time) (*Charm, error) {
	app := s.Applications[application]
	if app == nil {
		return nil, fmt.Errorf("application %q not found", application)
	}
	if old := s.CharmOf(application); old != nil && old.Name != ch.Name {
		return nil, fmt.Errorf("cannot refresh %q to %q", application, ch.Name)
	}
	for _, r := range s.RelationsOf(application) {
		for _, e := range r.Endpoints {
			if e.Application != application {
				continue
			}
			spec, ok := ch.Endpoint(e.Name)
			if !ok || spec.Interface != e.Interface || spec.Role != e.Role {
				return nil, fmt.Errorf("cannot refresh application %q to charm %q: would break relation %q", application, ch.Name, r.Key())
			}
		}
	}
	for name, text := range app.Config {
		option, ok := ch.Config.Options[name]
		if !ok {
			delete(app.Config, name)
			continue
		}
		if _, err := ParseOption(option.Type, text); err != nil {
			delete(app.Config, name)
		}
	}
	stored := s.AddCharm(ch)
	app.Charm = stored.URL
	app.CharmVersion++
	app.Bindings = bindingsOf(stored, app.Bindings)
	s.addPeers(app, stored, now)
	for name, r := range resources {
		if err := s.AttachResource(application, name, r); err != nil {
			return nil, err
		}
	}
	s.dropUnusedCharms()
	return stored, nil
}

// AttachResource gives an application a resource that its charm declares.
func (s *State) AttachResource(application, name string, r Resource) error {
	app, ch := s.Applications[application], s.CharmOf(application)
	if app == nil || ch == nil {
		return fmt.Errorf("application %q not found", application)
	}
	meta, ok := ch.Meta.Resources[name]
	if !ok {
		return fmt.Errorf("unrecognized resource %q", name)
	}
	r.Name, r.Filename = name, meta.Path
	r.Revision = app.Resources[name].Revision + 1
	app.Resources[name] = r
	return nil
}

// bindingsOf binds each endpoint to a space; those that were bound stay.
func bindingsOf(ch *Charm, old map[string]string) map[string]string {
	bindings := map[string]string{"": "alpha", "juju-info": "alpha"}
	for _, e := range ch.Endpoints() {
		bindings[e.Name] = "alpha"
	}
	for name := range ch.Meta.ExtraBindings {
		bindings[name] = "alpha"
	}
	for name := range bindings {
		if space, ok := old[name]; ok {
			bindings[name] = space
		}
	}
	return bindings
}

// EndpointNames are the names of all endpoints of an application, juju-info included, sorted.
func (s *State) EndpointNames(application string) []string {
	var names []string
	if app := s.Applications[application]; app != nil {
		for name := range app.Bindings {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	sort.Strings(names)
	return names
}

// CheckAssumes returns what the charm demands of Juju and the model does not have, as Juju words it; empty if all is well.
func (s *State) CheckAssumes(ch *Charm) string {
	if ch.Meta.Assumes == nil || ch.Meta.Assumes.Expression == nil {
		return ""
	}
	return strings.Join(s.unmet(ch.Meta.Assumes.Expression), "\n")
}

// unmet lists why an expression of assumes does not hold.
func (s *State) unmet(e assumes.Expression) []string {
	switch e := e.(type) {
	case assumes.FeatureExpression:
		return s.unmetFeature(e)
	case *assumes.FeatureExpression:
		return s.unmetFeature(*e)
	case assumes.CompositeExpression:
		var all []string
		for _, sub := range e.SubExpressions {
			reasons := s.unmet(sub)
			if len(reasons) == 0 && e.ExprType == assumes.AnyOfExpression {
				return nil
			}
			all = append(all, reasons...)
		}
		return all
	case *assumes.CompositeExpression:
		return s.unmet(*e)
	}
	return nil
}

func (s *State) unmetFeature(e assumes.FeatureExpression) []string {
	if e.Name != "juju" {
		return []string{fmt.Sprintf("- charm requires feature %q but model does not support it", e.Name)}
	}
	have, err := version.Parse(s.Model.Version)
	if err != nil || e.Version == nil {
		return nil
	}
	if (e.Constraint == assumes.VersionGTE) == (have.Compare(*e.Version) >= 0) {
		return nil
	}
	return []string{fmt.Sprintf("- charm requires Juju version %s %s, model has version %s", e.Constraint, e.Version, s.Model.Version)}
}
