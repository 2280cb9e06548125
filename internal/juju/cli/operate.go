package cli

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"gopkg.in/yaml.v2"

	"certlab/internal/juju"
)

func configCommand(c *call) func([]string) (func() error, error) {
	var file, resetText string
	c.flags.str(&file, "file", "path to yaml-formatted configuration file")
	reset := c.flags.str(&resetText, "reset", "Reset the provided comma delimited keys, deletes keys not in the model config")
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application name specified")
		}
		application := args[0]
		set := map[string]string{}
		var get []string
		for _, arg := range args[1:] {
			if key, value, ok := strings.Cut(arg, "="); ok && key != "" {
				set[key] = value
			} else {
				get = append(get, arg)
			}
		}
		var resets []string
		if reset.given {
			for _, key := range strings.Split(resetText, ",") {
				if key = strings.TrimSpace(key); key != "" {
					resets = append(resets, key)
				}
			}
			for _, key := range resets {
				if _, ok := set[key]; ok {
					return nil, fmt.Errorf("cannot set and reset key %q simultaneously", key)
				}
			}
		}
		if len(get) > 0 && (len(set) > 0 || len(resets) > 0 || file != "") {
			return nil, errors.New("cannot set and retrieve values simultaneously")
		}
		if len(get) > 1 {
			return nil, errors.New("can only retrieve a single value, or all values")
		}
		return func() error {
			if len(set)+len(resets) == 0 && file == "" {
				return c.showConfig(application, get)
			}
			for key, value := range set {
				text, err := c.valueOrFile(value)
				if err != nil {
					return err
				}
				set[key] = text
			}
			return c.setConfig(application, file, set, resets)
		}, nil
	}
}

func (c *call) setConfig(application, file string, set map[string]string, resets []string) error {
	if file != "" {
		s := c.Env.Model.Snapshot()
		if s.Applications[application] == nil {
			return fmt.Errorf("application %s not found (not found)", application)
		}
		if s.Model.Major() >= 4 { // measured on 4.0.15
			return errors.New("config yaml not supported not implemented")
		}
		data, err := c.readFile(file, maxParams)
		if err != nil {
			return err
		}
		var values map[string]map[string]any
		if err := yaml.Unmarshal(data, &values); err != nil {
			return err
		}
		for key, value := range values[application] {
			if _, ok := set[key]; !ok {
				set[key] = optionText(value)
			}
		}
	}
	return c.Env.Model.Update(func(s *juju.State) error {
		if err := s.ResetOptions(application, resets); err != nil {
			return err
		}
		if text, ok := set["trust"]; ok {
			delete(set, "trust")
			if err := s.SetTrust(application, text == "true"); err != nil {
				return err
			}
		}
		return s.SetOptions(application, set)
	})
}

func (c *call) showConfig(application string, get []string) error {
	s := c.Env.Model.Snapshot()
	app, ch := s.Applications[application], s.CharmOf(application)
	if app == nil || ch == nil {
		return fmt.Errorf("application %s not found (not found)", application)
	}
	if len(get) == 1 {
		if get[0] == "trust" {
			fmt.Fprintln(c.Stdout, app.Trust)
			return nil
		}
		if _, ok := ch.Config.Options[get[0]]; !ok {
			return fmt.Errorf("key %q not found in %q application config or charm settings.", get[0], application)
		}
		value, _ := s.OptionValue(application, get[0])
		c.out.written = true
		fmt.Fprintln(c.Stdout, optionText(value))
		return nil
	}
	settings := map[string]any{}
	for name, option := range ch.Config.Options {
		value, source := s.OptionValue(application, name)
		setting := map[string]any{"type": option.Type, "source": source, "description": option.Description}
		if option.Default != nil {
			setting["default"] = option.Default
		}
		if value != nil {
			setting["value"] = value
		}
		settings[name] = setting
	}
	source := "default"
	if app.Trust {
		source = "user"
	}
	return c.out.write(map[string]any{
		"application": application,
		"application-config": map[string]any{"trust": map[string]any{
			"default": false, "description": "Does this application have access to trusted credentials", "source": source, "type": "bool", "value": app.Trust,
		}},
		"charm":    ch.Name,
		"settings": settings,
	})
}

func trustCommand(c *call) func([]string) (func() error, error) {
	var remove bool
	var scope string
	c.flags.boolean(&remove, "remove", "Remove trusted access from a trusted application")
	c.flags.str(&scope, "scope", "k8s models only - needs to be set to 'cluster'")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application name specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error { return s.SetTrust(args[0], !remove) })
		}, nil
	}
}

func integrateCommand(c *call) func([]string) (func() error, error) {
	var via string
	c.flags.str(&via, "via", "For cross model integrations; the local lab has one model")
	return func(args []string) (func() error, error) {
		if len(args) != 2 {
			return nil, errors.New("an integration must involve two applications")
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error {
				for _, arg := range args {
					name, _, _ := strings.Cut(arg, ":")
					if s.Applications[name] == nil {
						return fmt.Errorf("application %q not found", name)
					}
				}
				_, err := s.AddRelation(args[0], args[1], c.Env.Model.Now())
				return err
			})
		}, nil
	}
}

func removeRelationCommand(c *call) func([]string) (func() error, error) {
	var force bool
	c.flags.boolean(&force, "force", "Force remove a relation")
	return func(args []string) (func() error, error) {
		if len(args) == 0 || len(args) > 2 {
			return nil, errors.New("a relation must involve two applications")
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error {
				if len(args) == 1 {
					for id := range s.Relations {
						if fmt.Sprint(id) == args[0] {
							s.RemoveRelation(id)
							return nil
						}
					}
					return fmt.Errorf("relation %q not found", args[0])
				}
				r, err := s.FindRelation(args[0], args[1])
				if err != nil {
					return err
				}
				s.RemoveRelation(r.ID)
				return nil
			})
		}, nil
	}
}

func addUnitCommand(c *call) func([]string) (func() error, error) {
	n := 1
	var to string
	var attach []string
	c.flags.integer(&n, "n,num-units", "Number of units to add")
	c.flags.str(&to, "to", "The machine to deploy the unit in, bypassing constraints")
	c.flags.list(&attach, "attach-storage", "Existing storage to attach; not in the local lab")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		if n < 1 {
			return nil, errors.New("--num-units must be a positive integer")
		}
		if len(attach) > 0 {
			return nil, errors.New("--attach-storage: the local lab does not attach a unit's storage to another")
		}
		var placement []string
		if to != "" {
			placement = strings.Split(to, ",")
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error {
				if s.Applications[args[0]] == nil {
					return fmt.Errorf("application %q not found (not found)", args[0])
				}
				_, err := s.AddUnits(args[0], n, placement, c.Env.Model.Now())
				return err
			})
		}, nil
	}
}

// A removal is what remove-unit and remove-application have in common.
type removal struct {
	destroyStorage, dryRun, force, noPrompt, noWait bool
}

func (r *removal) options(c *call, what, subject string) {
	c.flags.boolean(&r.destroyStorage, "destroy-storage", "Destroy storage attached to "+what)
	c.flags.boolean(&r.dryRun, "dry-run", "Print what this command would remove without removing")
	c.flags.boolean(&r.force, "force", "Completely remove an "+subject+" and all its dependencies")
	c.flags.boolean(&r.noPrompt, "no-prompt", "Do not ask for confirmation. Overrides `mode` model config setting")
	c.flags.boolean(&r.noWait, "no-wait", "Rush through "+subject+" removal without waiting for each individual step to complete")
}

// go runs a removal: it says what will go, asks, and does it.
func (r *removal) run(c *call, subject string, announce func(), do func() error) error {
	if !r.noPrompt || r.dryRun {
		c.warnf("This command will perform the following actions:")
	}
	announce()
	if r.dryRun {
		return nil
	}
	if !r.noPrompt {
		if err := c.confirm(subject + " removal"); err != nil {
			return err
		}
	}
	return do()
}

func removeUnitCommand(c *call) func([]string) (func() error, error) {
	r := &removal{}
	r.options(c, "the unit", "unit")
	n := 0
	c.flags.integer(&n, "num-units", "Number of units to remove (k8s models only)")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no units specified")
		}
		for _, name := range args {
			if !unitName.MatchString(name) {
				return nil, fmt.Errorf("invalid unit name %q", name)
			}
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			var failed error
			var units []string
			for _, name := range args {
				if s.Units[name] == nil {
					failed = fmt.Errorf("removing unit %s failed: unit %q not found", name, name)
					c.errorf("%v", failed)
					continue
				}
				units = append(units, name)
			}
			if len(units) == 0 {
				return errSilent
			}
			err := r.run(c, "unit", func() {
				for _, name := range units {
					fmt.Fprintf(c.Stdout, "will remove unit %s\n", name)
				}
			}, func() error {
				return c.Env.Model.Update(func(s *juju.State) error {
					for _, name := range units {
						if err := s.RemoveUnit(name, r.destroyStorage, c.Env.Model.Now()); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if err == nil && failed != nil {
				err = errSilent
			}
			return err
		}, nil
	}
}

func removeApplicationCommand(c *call) func([]string) (func() error, error) {
	r := &removal{}
	r.options(c, "application units", "application")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application specified")
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			var failed bool
			var names []string
			for _, name := range args {
				if s.Applications[name] == nil {
					c.errorf("removing application %s failed: application %q not found", name, name)
					failed = true
					continue
				}
				names = append(names, name)
			}
			if len(names) == 0 {
				return errSilent
			}
			err := r.run(c, "application", func() {
				for _, name := range names {
					fmt.Fprintf(c.Stdout, "will remove application %s\n", name)
					for _, u := range s.UnitsOf(name) {
						fmt.Fprintf(c.Stdout, "- will remove unit %s\n", u.Name)
					}
				}
			}, func() error {
				return c.Env.Model.Update(func(s *juju.State) error {
					for _, name := range names {
						if err := s.RemoveApplication(name, r.destroyStorage, c.Env.Model.Now()); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if err == nil && failed {
				err = errSilent
			}
			return err
		}, nil
	}
}

func refreshCommand(c *call) func([]string) (func() error, error) {
	var path, switchTo, channel, base string
	var config, resources []string
	var force, forceUnits, trust bool
	c.flags.str(&path, "path", "Refresh to a charm located at path")
	c.flags.str(&switchTo, "switch", "Crossgrade to a different charm; in the local lab a path, as --path")
	c.flags.str(&channel, "channel", "Channel of Charmhub; the local lab has none")
	c.flags.str(&base, "base", "Select a different base than what is currently running")
	c.flags.list(&config, "config", "Either a path to yaml-formatted application config file or a key=value pair")
	c.flags.list(&resources, "resource", "Resource to be uploaded to the controller")
	c.flags.boolean(&force, "force", "Allow a charm to be refreshed which bypasses checks")
	c.flags.boolean(&forceUnits, "force-units", "Refresh all units immediately, even if in error state")
	c.flags.boolean(&trust, "trust", "Allows charm to run hooks that require access credentials")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		if path != "" && switchTo != "" {
			return nil, errors.New("--switch and --path are mutually exclusive")
		}
		return func() error {
			application := args[0]
			if c.Env.Model.Snapshot().Applications[application] == nil {
				return fmt.Errorf("application %q not found", application)
			}
			from := path + switchTo
			if from == "" {
				return errors.New("refreshing a local charm requires either --path or --switch")
			}
			ch, err := c.readCharm(from)
			if err != nil {
				return err
			}
			attached := map[string]juju.Resource{}
			for _, item := range resources {
				label, file, ok := strings.Cut(item, "=")
				if !ok {
					return fmt.Errorf("expected \"key=value\", got %q", item)
				}
				if attached[label], err = c.resource(label, file, c.Dir); err != nil {
					return err
				}
			}
			options := map[string]string{}
			for _, item := range config {
				if err := (&deployer{c: c}).option(item, application, options); err != nil {
					return err
				}
			}
			return c.Env.Model.Update(func(s *juju.State) error {
				stored, err := s.Refresh(application, ch, attached, c.Env.Model.Now())
				if err != nil {
					return err
				}
				if err := s.SetOptions(application, options); err != nil {
					return err
				}
				if trust {
					if err := s.SetTrust(application, true); err != nil {
						return err
					}
				}
				c.infof("Added local charm %q, revision %d, to the model", stored.Name, stored.Revision)
				c.infof("no change to endpoints in space \"alpha\": %s", strings.Join(s.EndpointNames(application), ", "))
				return nil
			})
		}, nil
	}
}

func resolveCommand(c *call) func([]string) (func() error, error) {
	var noRetry, all bool
	c.flags.boolean(&noRetry, "no-retry", "Do not re-execute failed hooks on the unit")
	c.flags.boolean(&all, "all", "Marks all units in error as resolved")
	return func(args []string) (func() error, error) {
		if all && len(args) > 0 {
			return nil, errors.New("specifying unit names(s) with --all is not supported")
		}
		if !all && len(args) == 0 {
			return nil, errors.New("no unit specified")
		}
		for _, name := range args {
			if !unitName.MatchString(name) {
				return nil, fmt.Errorf("unit name %q not valid", name)
			}
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error {
				if all {
					for _, u := range s.Units {
						if u.Failed != nil {
							args = append(args, u.Name)
						}
					}
					sort.Strings(args)
				}
				for _, name := range args {
					if s.Units[name] == nil {
						return fmt.Errorf("unit %q not found", name)
					}
					if err := s.Resolve(name, !noRetry); err != nil {
						return fmt.Errorf("resolving unit: checking unit %q status: %w", name, err)
					}
				}
				return nil
			})
		}, nil
	}
}

func attachResourceCommand(c *call) func([]string) (func() error, error) {
	return func(args []string) (func() error, error) {
		switch len(args) {
		case 0:
			return nil, errors.New("missing application name")
		case 1:
			return nil, errors.New("no resource specified")
		}
		return func() error {
			label, file, ok := strings.Cut(args[1], "=")
			if !ok {
				return fmt.Errorf("expected \"key=value\", got %q", args[1])
			}
			r, err := c.resource(label, file, c.Dir)
			if err != nil {
				return err
			}
			return c.Env.Model.Update(func(s *juju.State) error {
				if s.Applications[args[0]] == nil {
					return fmt.Errorf("application %q not found", args[0])
				}
				if err := s.AttachResource(args[0], label, r); err != nil {
					return err
				}
				s.Applications[args[0]].CharmVersion++ // Juju runs upgrade-charm for a new resource
				return nil
			})
		}, nil
	}
}
