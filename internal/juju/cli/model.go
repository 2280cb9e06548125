package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"time"

	"certlab/internal/juju"
)

func versionCommand(c *call) func([]string) (func() error, error) {
	return func(args []string) (func() error, error) {
		return func() error {
			fmt.Fprintf(c.Stdout, "%s-genericlinux-%s\n", c.Env.Model.Snapshot().Model.Version, runtime.GOARCH)
			return nil
		}, nil
	}
}

func switchCommand(c *call) func([]string) (func() error, error) {
	return func(args []string) (func() error, error) {
		return func() error {
			info := c.Env.Model.Snapshot().Model
			here := info.Controller + ":admin/" + info.Name
			if len(args) == 0 {
				fmt.Fprintln(c.Stdout, here)
				return nil
			}
			switch args[0] {
			case info.Name, "admin/" + info.Name, info.Controller, info.Controller + ":", info.Controller + ":" + info.Name, here:
				c.infof("%s (no change)", here)
				return nil
			}
			return fmt.Errorf("cannot determine if %q is a valid model: %q is not the name of a model or controller", args[0], info.Controller+":"+args[0])
		}, nil
	}
}

func whoamiCommand(c *call) func([]string) (func() error, error) {
	return func(args []string) (func() error, error) {
		return func() error {
			info := c.Env.Model.Snapshot().Model
			fmt.Fprintf(c.Stdout, "Controller:  %s\nModel:       %s\nUser:        admin\n", info.Controller, info.Name)
			return nil
		}, nil
	}
}

type modelRow struct {
	Name           string            `json:"name" yaml:"name"`
	ShortName      string            `json:"short-name" yaml:"short-name"`
	UUID           string            `json:"model-uuid" yaml:"model-uuid"`
	ModelType      string            `json:"model-type" yaml:"model-type"`
	ControllerUUID string            `json:"controller-uuid" yaml:"controller-uuid"`
	Controller     string            `json:"controller-name" yaml:"controller-name"`
	IsController   bool              `json:"is-controller" yaml:"is-controller"`
	Cloud          string            `json:"cloud" yaml:"cloud"`
	Region         string            `json:"region,omitempty" yaml:"region,omitempty"`
	Type           string            `json:"type,omitempty" yaml:"type,omitempty"`
	Life           string            `json:"life" yaml:"life"`
	Status         map[string]string `json:"status" yaml:"status"`
	Access         string            `json:"access" yaml:"access"`
	LastConnection string            `json:"last-connection" yaml:"last-connection"`
	AgentVersion   string            `json:"agent-version" yaml:"agent-version"`
}

func modelsCommand(c *call) func([]string) (func() error, error) {
	type list struct {
		Models  []modelRow `json:"models" yaml:"models"`
		Current string     `json:"current-model" yaml:"current-model"`
	}
	s := c.Env.Model.Snapshot()
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": func(v any) (string, error) {
		t := table{right: map[int]bool{4: true, 5: true}}
		t.add(header("Model", "Cloud/Region", "Type", "Status", "Machines", "Units", "Access", "Last connection")...)
		for _, m := range v.(list).Models {
			t.add(plain(m.ShortName+"*", m.Cloud+"/"+m.Region, m.Type, m.Status["current"], fmt.Sprint(len(s.Machines)), fmt.Sprint(len(s.Units)), m.Access, m.LastConnection)...)
		}
		return fmt.Sprintf("Controller: %s\n\n%s", s.Model.Controller, t.render(false)), nil
	}})
	return func(args []string) (func() error, error) {
		return func() error {
			info := s.Model
			return c.out.write(list{Current: info.Name, Models: []modelRow{{Name: "admin/" + info.Name, ShortName: info.Name, UUID: info.UUID, ModelType: info.Type, ControllerUUID: info.ControllerUUID,
				Controller: info.Controller, Cloud: info.Cloud, Region: info.Region, Type: info.CloudType, Life: string(info.Life),
				Status: map[string]string{"current": info.Status.Status, "since": "just now"}, Access: "admin", LastConnection: "just now", AgentVersion: info.Version}}})
		}, nil
	}
}

type machinesDoc struct {
	Model    string                `json:"model" yaml:"model"`
	Machines map[string]machineDoc `json:"machines" yaml:"machines"`
}

func (c *call) machines(ids []string, utc bool) machinesDoc {
	s := c.Env.Model.Snapshot()
	doc := machinesDoc{Model: s.Model.Name, Machines: map[string]machineDoc{}}
	for id, m := range s.Machines {
		if len(ids) == 0 || anyMatches(ids, id) {
			doc.Machines[id] = newMachineDoc(m, timeFormat{location: c.Location, utc: utc})
		}
	}
	return doc
}

func machineTable(v any, colour bool) string {
	view := statusView{doc: statusDoc{Machines: v.(machinesDoc).Machines}}
	_, machines, _ := strings.Cut(view.tabular(colour, false, false), "\n\n") // without the table of the model
	return machines
}

// machinesCommand is machines and, with arguments, show-machine.
func machinesCommand(initial string) func(c *call) func([]string) (func() error, error) {
	return func(c *call) func([]string) (func() error, error) {
		var utc, colour bool
		c.flags.boolean(&utc, "utc", "Display time as UTC in RFC3339 format")
		c.flags.boolean(&colour, "color", "Force use of ANSI color codes")
		c.out.options(initial, map[string]func(any) (string, error){"tabular": func(v any) (string, error) { return machineTable(v, colour || c.Terminal), nil }})
		return func(args []string) (func() error, error) {
			return func() error { return c.out.write(c.machines(args, utc)) }, nil
		}
	}
}

func addMachineCommand(c *call) func([]string) (func() error, error) {
	n := 1
	var constraints []string
	var base string
	c.flags.integer(&n, "n", "The number of machines to add")
	c.flags.list(&constraints, "constraints", "Machine constraints that overwrite those available from 'juju model-constraints' and provider's defaults")
	c.flags.str(&base, "base", "The operating system base to install on the new machine(s)")
	return func(args []string) (func() error, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("the local lab makes its machines itself: %q cannot be added", args[0])
		}
		if n < 1 {
			return nil, errors.New("-n must be a positive integer")
		}
		return func() error {
			text, err := parseConstraints(strings.Join(constraints, " "))
			if err != nil {
				return err
			}
			if base == "" {
				base = "ubuntu@24.04"
			}
			parsed, err := parseBase(base)
			if err != nil {
				return err
			}
			return c.Env.Model.Update(func(s *juju.State) error {
				for range n {
					c.infof("created machine %s", s.AddMachine(parsed, text, c.Env.Model.Now()).ID)
				}
				return nil
			})
		}, nil
	}
}

func removeMachineCommand(c *call) func([]string) (func() error, error) {
	r := &removal{}
	r.options(c, "the machine", "machine")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no machines specified")
		}
		return func() error {
			return r.run(c, "machine", func() {
				for _, id := range args {
					fmt.Fprintf(c.Stdout, "will remove machine %s\n", id)
					for _, u := range c.Env.Model.Snapshot().UnitsOn(id) {
						fmt.Fprintf(c.Stdout, "- will remove unit %s\n", u.Name)
					}
				}
			}, func() error {
				return c.Env.Model.Update(func(s *juju.State) error {
					for _, id := range args {
						if err := s.RemoveMachine(id, r.force, c.Env.Model.Now()); err != nil {
							return fmt.Errorf("removing machine %s failed: %w", id, err)
						}
					}
					return nil
				})
			})
		}, nil
	}
}

func modelConfigCommand(c *call) func([]string) (func() error, error) {
	var reset string
	resetOption := c.flags.str(&reset, "reset", "Reset the provided comma delimited keys, deletes keys not in the model config")
	type value struct {
		Value  any    `json:"Value" yaml:"value"`
		Source string `json:"Source" yaml:"source"`
	}
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": func(v any) (string, error) {
		all := v.(map[string]value)
		t := table{}
		t.add(header("Attribute", "From", "Value")...)
		for _, name := range sortedNames(all) {
			t.add(plain(name, all[name].Source, fmt.Sprint(all[name].Value))...)
		}
		return t.render(false), nil
	}})
	return func(args []string) (func() error, error) {
		set := map[string]string{}
		var get []string
		for _, arg := range args {
			if key, text, ok := strings.Cut(arg, "="); ok && key != "" {
				set[key] = text
			} else {
				get = append(get, arg)
			}
		}
		if len(get) > 1 || len(get) == 1 && len(set) > 0 {
			return nil, errors.New("can only retrieve a single value, or all values")
		}
		return func() error {
			if len(set) > 0 || resetOption.given {
				return c.setModelConfig(set, strings.Split(reset, ","))
			}
			s := c.Env.Model.Snapshot()
			all := map[string]value{}
			for _, name := range juju.ModelConfigKeys() {
				source := "default"
				if _, ok := s.Config[name]; ok {
					source = "model"
				}
				all[name] = value{s.ModelConfig(name), source}
			}
			if len(get) == 0 {
				return c.out.write(all)
			}
			one, ok := all[get[0]]
			if !ok {
				return fmt.Errorf("key %q not found in %q model config", get[0], s.Model.Name)
			}
			if c.out.machine() {
				return c.out.write(map[string]value{get[0]: one})
			}
			_, err := fmt.Fprintln(c.Stdout, one.Value)
			return err
		}, nil
	}
}

func (c *call) setModelConfig(set map[string]string, reset []string) error {
	return c.Env.Model.Update(func(s *juju.State) error {
		for _, name := range reset {
			delete(s.Config, strings.TrimSpace(name))
		}
		for name, text := range set {
			if err := juju.CheckModelConfig(name, text); err != nil {
				return err
			}
			s.Config[name] = text
		}
		return nil
	})
}

var levels = map[string]int{"TRACE": 1, "DEBUG": 2, "INFO": 3, "WARNING": 4, "ERROR": 5, "CRITICAL": 6}

func debugLogCommand(c *call) func([]string) (func() error, error) {
	var replay, noTail, tail, date, ms, utc, location bool
	limit, lines := 0, 10
	level := "DEBUG"
	var include, exclude, includeModule, excludeModule []string
	c.flags.boolean(&replay, "replay", "Show the entire (possibly filtered) log and continue to append")
	c.flags.boolean(&noTail, "no-tail", "Stop after returning existing log messages")
	c.flags.boolean(&tail, "tail", "Show existing log messages and continue to append")
	c.flags.integer(&limit, "limit", "Exit once this many of the most recent (possibly filtered) lines are shown")
	c.flags.integer(&lines, "n,lines", "Show this many of the most recent (possibly filtered) lines, and continue to append")
	c.flags.str(&level, "l,level", "Log level to show, one of [TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL]")
	c.flags.list(&include, "i,include", "Only show log messages for these entities")
	c.flags.list(&exclude, "x,exclude", "Do not show log messages for these entities")
	c.flags.list(&includeModule, "include-module", "Only show log messages for these logging modules")
	c.flags.list(&excludeModule, "exclude-module", "Do not show log messages for these logging modules")
	c.flags.boolean(&date, "date", "Show dates as well as times")
	c.flags.boolean(&ms, "ms", "Show times to millisecond precision")
	c.flags.boolean(&utc, "utc", "Show times in UTC")
	c.flags.boolean(&location, "location", "Show filename and line numbers; the local lab has none")
	c.out.options("text", map[string]func(any) (string, error){"text": func(v any) (string, error) { return v.(string), nil }})
	return func(args []string) (func() error, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("unrecognized args: %q", args)
		}
		if _, ok := levels[strings.ToUpper(level)]; !ok {
			return nil, fmt.Errorf("level value %q is not one of %q, %q, %q, %q, %q, %q", level, "TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
		}
		if tail && noTail {
			return nil, errors.New("setting --tail and --no-tail not valid")
		}
		zone := c.Location
		if utc {
			zone = time.UTC
		}
		layout := "15:04:05"
		if ms {
			layout += ".000"
		}
		if date {
			layout = "2006-01-02 " + layout
		}
		wanted := func(l juju.LogLine) bool {
			return levels[l.Level] >= levels[strings.ToUpper(level)] &&
				(len(include) == 0 || entityMatches(include, l.Entity)) && !entityMatches(exclude, l.Entity) &&
				(len(includeModule) == 0 || moduleMatches(includeModule, l.Module)) && !moduleMatches(excludeModule, l.Module)
		}
		show := func(l juju.LogLine) error {
			if c.out.format == "json" {
				data, err := json.Marshal(logDoc{c.Env.Model.Snapshot().Model.UUID, l.Time, l.Entity, l.Level, l.Module, l.Message})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.Stdout, "%s\n", data)
				return err
			}
			_, err := fmt.Fprintf(c.Stdout, "%s: %s %s %s %s\n", l.Entity, l.Time.In(zone).Format(layout), l.Level, l.Module, l.Message)
			return err
		}
		return func() error {
			c.out.written = true
			log := c.Env.Model.Snapshot().Log
			var selected []juju.LogLine
			for _, l := range log {
				if wanted(l) {
					selected = append(selected, l)
				}
			}
			switch {
			case limit > 0 && len(selected) > limit && replay:
				selected = selected[:limit]
			case limit > 0 && len(selected) > limit:
				selected = selected[len(selected)-limit:]
			case !replay && limit == 0 && len(selected) > lines:
				selected = selected[len(selected)-lines:]
			}
			for _, l := range selected {
				if err := show(l); err != nil {
					return err
				}
			}
			if noTail || limit > 0 || !tail && !c.Terminal {
				return nil
			}
			return c.followLog(log, wanted, show)
		}, nil
	}
}

type logDoc struct {
	Model     string    `json:"model-uuid"`
	Timestamp time.Time `json:"timestamp"`
	Entity    string    `json:"entity"`
	Level     string    `json:"level"`
	Module    string    `json:"module"`
	Message   string    `json:"message"`
}

// followLog shows what is logged from now on, until the caller goes.
func (c *call) followLog(seen []juju.LogLine, wanted func(juju.LogLine) bool, show func(juju.LogLine) error) error {
	last := time.Time{}
	if len(seen) > 0 {
		last = seen[len(seen)-1].Time
	}
	for {
		changed := c.Env.Model.Changed()
		log := c.Env.Model.Snapshot().Log
		from := sort.Search(len(log), func(i int) bool { return log[i].Time.After(last) })
		for _, l := range log[from:] {
			last = l.Time
			if wanted(l) {
				if err := show(l); err != nil {
					return err
				}
			}
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			return nil
		}
	}
}

// entityMatches: unit-worker-0 and worker/0 are the same.
func entityMatches(patterns []string, entity string) bool {
	for _, p := range patterns {
		if unitName.MatchString(p) {
			p = juju.UnitTag(p)
		}
		if matches(p, entity) {
			return true
		}
	}
	return false
}

func moduleMatches(patterns []string, module string) bool {
	for _, p := range patterns {
		if module == p || strings.HasPrefix(module, p+".") {
			return true
		}
	}
	return false
}
