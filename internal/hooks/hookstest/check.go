package hookstest

import (
	"fmt"
	"strings"

	"certlab/internal/juju"
)

// check says what is wrong with a state that Juju could not be in.
func check(state *juju.State, unitName string) error {
	unit := state.Units[unitName]
	if unit == nil {
		return fmt.Errorf("there is no unit %q", unitName)
	}
	for name, app := range state.Applications {
		charm := state.Charms[app.Charm]
		if charm == nil {
			return fmt.Errorf("application %q has charm %q, which is not there", name, app.Charm)
		}
		for option, text := range app.Config {
			spec, ok := charm.Config.Options[option]
			if !ok {
				return fmt.Errorf("application %q has a value for option %q, which its charm does not have", name, option)
			}
			if _, err := juju.ParseOption(spec.Type, text); err != nil {
				return fmt.Errorf("option %q of application %q: %w", option, name, err)
			}
		}
		if app.Leader != "" && (state.Units[app.Leader] == nil || state.Units[app.Leader].Application != name) {
			return fmt.Errorf("application %q is led by %q, which is none of its units", name, app.Leader)
		}
	}
	for name, unit := range state.Units {
		if app, _, _ := strings.Cut(name, "/"); app != unit.Application || unit.Name != name || state.Applications[app] == nil {
			return fmt.Errorf("unit %q belongs to no application", name)
		}
		if state.Machines[unit.Machine] == nil {
			return fmt.Errorf("unit %q is on machine %q, which is not there", name, unit.Machine)
		}
		if unit.Uniter.Started && !unit.Uniter.Installed {
			return fmt.Errorf("unit %q has started without having been installed", name)
		}
		for id := range unit.Uniter.Relations {
			if state.Relations[id] == nil {
				return fmt.Errorf("unit %q knows of relation %d, which is not there", name, id)
			}
		}
	}
	for id, relation := range state.Relations {
		if err := checkRelation(state, relation); err != nil {
			return fmt.Errorf("relation %d: %w", id, err)
		}
	}
	for id, storage := range state.Storage {
		name, _, _ := strings.Cut(id, "/")
		owner := state.Units[storage.Unit]
		if storage.Unit != "" && owner == nil {
			return fmt.Errorf("storage %s is of unit %q, which is not there", id, storage.Unit)
		}
		if owner != nil {
			if _, ok := state.CharmOf(owner.Application).Meta.Storage[name]; !ok || storage.Name != name {
				return fmt.Errorf("storage %s is none that the charm of %q declares", id, owner.Application)
			}
		}
		if storage.Attached && storage.Location == "" {
			return fmt.Errorf("storage %s is attached nowhere", id)
		}
	}
	for id, secret := range state.Secrets {
		if len(secret.Revisions) == 0 {
			return fmt.Errorf("secret %s has no content", id)
		}
		for _, grant := range secret.Grants {
			if grant.Relation >= 0 && state.Relations[grant.Relation] == nil {
				return fmt.Errorf("secret %s is granted over relation %d, which is not there", id, grant.Relation)
			}
		}
	}
	return nil
}

func checkRelation(state *juju.State, relation *juju.Relation) error {
	if n := len(relation.Endpoints); n != 1 && n != 2 {
		return fmt.Errorf("it has %d endpoints", n)
	}
	for _, endpoint := range relation.Endpoints {
		charm := state.CharmOf(endpoint.Application)
		if charm == nil {
			return fmt.Errorf("application %q is not there", endpoint.Application)
		}
		spec, ok := charm.Endpoint(endpoint.Name)
		if !ok || spec.Interface != endpoint.Interface || spec.Role != endpoint.Role {
			return fmt.Errorf("the charm of %q has no endpoint %q like that", endpoint.Application, endpoint.Name)
		}
	}
	if len(relation.Endpoints) == 2 && relation.Endpoints[0].Interface != relation.Endpoints[1].Interface {
		return fmt.Errorf("its interfaces differ")
	}
	for app := range relation.Apps {
		if _, ok := relation.Endpoint(app); !ok {
			return fmt.Errorf("%q has a databag and is not in it", app)
		}
	}
	for name, member := range relation.Units {
		app, _, _ := strings.Cut(name, "/")
		if _, ok := relation.Endpoint(app); !ok {
			return fmt.Errorf("unit %q has a databag and its application is not in it", name)
		}
		if member.InScope && state.Units[name] == nil {
			return fmt.Errorf("unit %q is in it and not there", name)
		}
	}
	return nil
}
