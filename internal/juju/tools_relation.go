package juju

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"gopkg.in/yaml.v2"
)

// maxBag is the largest a bag of relation settings may be, keys and values together. Measured on Juju 4.0.15.
const maxBag = 16 << 20

func relationIDs(i *invocation) error {
	name := ""
	switch {
	case len(i.args) > 1:
		return noMore(i.args[1:])
	case len(i.args) == 1:
		name = i.args[0]
	case i.kind == RunHook && i.hook.Kind.IsRelation():
		if r := i.state.Relations[i.hook.Relation]; r != nil {
			local, _ := r.Endpoint(i.app)
			name = local.Name
		}
	default:
		return usagef("no endpoint name specified")
	}
	ids := []string{}
	for _, r := range i.state.RelationsOf(i.app) {
		if local, _ := r.Endpoint(i.app); local.Name == name {
			ids = append(ids, fmt.Sprintf("%s:%d", name, r.ID))
		}
	}
	return i.write(ids)
}

func relationList(i *invocation) error {
	relation, err := i.relation()
	if err != nil {
		return err
	}
	if err := noMore(i.args); err != nil {
		return err
	}
	if i.flag("app") {
		remote, _ := relation.Remote(i.app)
		return i.write(remote.Application)
	}
	return i.write(i.members(relation))
}

var (
	unitName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*/(0|[1-9][0-9]*)$`)
	appName  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*$`)
)

func relationGet(i *invocation) error {
	relation, err := i.relation()
	if err != nil {
		return err
	}
	key, args := "", i.args
	if len(args) > 0 {
		key, args = args[0], args[1:]
	}
	if key == "-" {
		key = ""
	}
	whose, ofApp, err := i.bagOwner(&args)
	if err != nil {
		return err
	}
	if err := noMore(args); err != nil {
		return err
	}
	settings, err := i.settings(relation, whose, ofApp)
	if err != nil {
		return err
	}
	if key == "" {
		return i.write(settings)
	}
	if value, ok := settings[key]; ok {
		return i.write(value)
	}
	return i.write(nil)
}

// bagOwner decides whose settings relation-get reads: those named, or else those of the hook's remote side.
func (i *invocation) bagOwner(args *[]string) (name string, ofApp bool, err error) {
	app := i.flag("app")
	if len(*args) > 0 {
		name := (*args)[0]
		*args = (*args)[1:]
		switch {
		case app && unitName.MatchString(name):
			name, _, _ = strings.Cut(name, "/")
			return name, true, nil
		case app:
			return name, true, nil
		case unitName.MatchString(name):
			return name, false, nil
		case appName.MatchString(name):
			return "", false, usagef("expected unit name, got application name %q", name)
		}
		return "", false, usagef("invalid unit name %q", name)
	}
	if i.kind == RunHook && i.hook.Kind.IsRelation() {
		if !app && i.hook.RemoteUnit != "" {
			return i.hook.RemoteUnit, false, nil
		}
		if i.hook.RemoteApp != "" {
			return i.hook.RemoteApp, true, nil
		}
	}
	return "", false, usagef("no unit or application specified")
}

func (i *invocation) settings(relation *Relation, whose string, ofApp bool) (map[string]string, error) {
	if whose == i.unit && !ofApp {
		return i.bags(relation).unit, nil
	}
	if ofApp && whose == i.app && i.leader() {
		return i.bags(relation).app, nil
	}
	cached := fmt.Sprintf("%d %t %s", relation.ID, ofApp, whose)
	if settings, ok := i.remote[cached]; ok {
		return settings, nil
	}
	settings := map[string]string{}
	if ofApp {
		bag := relation.Apps[whose]
		if bag == nil {
			return nil, errors.New("relation application not found") // text not measured
		}
		maps.Copy(settings, bag.Settings)
	} else {
		unit := relation.Units[whose]
		if unit == nil {
			return nil, errors.New("relation unit not found")
		}
		maps.Copy(settings, unit.Settings)
	}
	i.remote[cached] = settings
	return settings, nil
}

func relationSet(i *invocation) error {
	relation, err := i.relation()
	if err != nil {
		return err
	}
	values, err := keyValues(i.args)
	if err != nil {
		return err
	}
	if values, err = i.withFile(values); err != nil {
		return err
	}
	if i.flag("app") && !i.leader() {
		return errors.New("cannot write relation settings")
	}
	bags := i.bags(relation)
	bag := bags.unit
	if i.flag("app") {
		bag, bags.appDirty = bags.app, true
	} else {
		bags.unitDirty = true
	}
	for key, value := range values {
		if value == "" {
			delete(bag, key)
		} else {
			bag[key] = value
		}
	}
	return nil
}

// withFile adds the settings of the --file option; those on the command line win.
func (i *invocation) withFile(values map[string]string) (map[string]string, error) {
	name := i.flags["file"]
	if name == "" {
		return values, nil
	}
	data, err := i.readFile(name, true)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	if err := yaml.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, values)
	return all, nil
}

func relationModelGet(i *invocation) error {
	if _, err := i.relation(); err != nil {
		return err
	}
	if err := noMore(i.args); err != nil {
		return err
	}
	return i.write(map[string]string{"uuid": i.state.Model.UUID})
}
