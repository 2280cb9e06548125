package cli

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"certlab/internal/juju"
)

type showUnitDoc struct {
	WorkloadVersion string            `json:"workload-version,omitempty" yaml:"workload-version,omitempty"`
	Machine         string            `json:"machine,omitempty" yaml:"machine,omitempty"`
	OpenedPorts     []string          `json:"opened-ports" yaml:"opened-ports"`
	PublicAddress   string            `json:"public-address,omitempty" yaml:"public-address,omitempty"`
	Charm           string            `json:"charm" yaml:"charm"`
	Leader          bool              `json:"leader" yaml:"leader"`
	Life            string            `json:"life,omitempty" yaml:"life,omitempty"`
	Relations       []relationInfoDoc `json:"relation-info,omitempty" yaml:"relation-info,omitempty"`
}

type relationInfoDoc struct {
	ID              int                    `json:"relation-id" yaml:"relation-id"`
	Endpoint        string                 `json:"endpoint" yaml:"endpoint"`
	RelatedEndpoint string                 `json:"related-endpoint" yaml:"related-endpoint"`
	ApplicationData map[string]string      `json:"application-data" yaml:"application-data"`
	Local           scopeDoc               `json:"local-unit" yaml:"local-unit,omitempty"`
	Related         map[string]relUnitData `json:"related-units,omitempty" yaml:"related-units,omitempty"`
}

// A scopeDoc is a unit's own part in a relation; only that of a peer relation is filled in.
type scopeDoc struct {
	InScope bool              `json:"in-scope" yaml:"in-scope"`
	Data    map[string]string `json:"data" yaml:"data"`
}

type relUnitData struct {
	InScope bool              `json:"in-scope" yaml:"in-scope"`
	Data    map[string]string `json:"data" yaml:"data"`
}

func showUnitCommand(c *call) func([]string) (func() error, error) {
	var endpoint, related string
	var onlyApp bool
	c.flags.str(&endpoint, "endpoint", "Only show relation data for the specified endpoint")
	c.flags.str(&related, "related-unit", "Only show relation data for the specified unit")
	c.flags.boolean(&onlyApp, "app", "Only show application relation data")
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("an unit name must be supplied")
		}
		for _, name := range args {
			if !unitName.MatchString(name) {
				return nil, fmt.Errorf("unit name %q not valid", name)
			}
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			docs := map[string]showUnitDoc{}
			for _, name := range args {
				u := s.Units[name]
				if u == nil {
					return fmt.Errorf("unit %s not found", name)
				}
				docs[name] = newShowUnitDoc(s, u, endpoint, related, onlyApp)
			}
			return c.out.write(docs)
		}, nil
	}
}

func newShowUnitDoc(s *juju.State, u *juju.Unit, endpoint, related string, onlyApp bool) showUnitDoc {
	app := s.Applications[u.Application]
	doc := showUnitDoc{WorkloadVersion: u.WorkloadVersion, Machine: u.Machine, Charm: app.Charm, Leader: app.Leader == u.Name, Life: string(u.Life)}
	for _, p := range u.Ports {
		doc.OpenedPorts = append(doc.OpenedPorts, p.String())
	}
	if m := s.Machines[u.Machine]; m != nil {
		doc.PublicAddress = m.Address()
	}
	relations := s.RelationsOf(u.Application)
	sort.SliceStable(relations, func(i, j int) bool {
		a, _ := relations[i].Endpoint(u.Application)
		b, _ := relations[j].Endpoint(u.Application)
		return a.Name < b.Name
	})
	for _, r := range relations {
		local, _ := r.Endpoint(u.Application)
		remote, _ := r.Remote(u.Application)
		if endpoint != "" && local.Name != endpoint {
			continue
		}
		// The application's own settings, not the other side's: measured.
		info := relationInfoDoc{ID: r.ID, Endpoint: local.Name, RelatedEndpoint: remote.Name, ApplicationData: r.Apps[u.Application].Settings}
		if info.ApplicationData == nil {
			info.ApplicationData = map[string]string{}
		}
		if !onlyApp {
			for _, name := range sortedNames(r.Units) {
				unit := r.Units[name]
				other := s.Units[name]
				switch {
				case r.Peer() && name == u.Name:
					info.Local = scopeDoc{InScope: unit.InScope, Data: unit.Settings}
				case other == nil || other.Application != remote.Application, related != "" && name != related, !unit.InScope:
				default:
					if info.Related == nil {
						info.Related = map[string]relUnitData{}
					}
					info.Related[name] = relUnitData{InScope: unit.InScope, Data: unit.Settings}
				}
			}
		}
		doc.Relations = append(doc.Relations, info)
	}
	return doc
}

type showApplicationDoc struct {
	Charm       string            `json:"charm" yaml:"charm"`
	Base        string            `json:"base" yaml:"base"`
	Constraints map[string]any    `json:"constraints,omitempty" yaml:"constraints,omitempty"`
	Principal   bool              `json:"principal" yaml:"principal"`
	Exposed     bool              `json:"exposed" yaml:"exposed"`
	Remote      bool              `json:"remote" yaml:"remote"`
	Life        string            `json:"life" yaml:"life"`
	Bindings    map[string]string `json:"endpoint-bindings,omitempty" yaml:"endpoint-bindings,omitempty"`
}

func showApplicationCommand(c *call) func([]string) (func() error, error) {
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("an application name must be supplied")
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			docs := map[string]showApplicationDoc{}
			for _, name := range args {
				app, ch := s.Applications[name], s.CharmOf(name)
				if app == nil || ch == nil {
					return fmt.Errorf("application %s not found", name)
				}
				docs[name] = showApplicationDoc{Charm: ch.Name, Base: app.Base.String(), Constraints: constraintDoc(app.Constraints),
					Principal: !ch.Meta.Subordinate, Exposed: app.Exposed, Life: string(app.Life), Bindings: app.Bindings}
			}
			return c.out.write(docs)
		}, nil
	}
}

func constraintsCommand(c *call) func([]string) (func() error, error) {
	c.out.options("constraints", map[string]func(any) (string, error){"constraints": nil})
	text := ""
	c.out.other["constraints"] = func(any) (string, error) { return text + "\n", nil }
	return func(args []string) (func() error, error) {
		if len(args) != 1 {
			return nil, errors.New("no application name specified")
		}
		return func() error {
			app := c.Env.Model.Snapshot().Applications[args[0]]
			if app == nil {
				return fmt.Errorf("application %q not found", args[0])
			}
			text = app.Constraints
			return c.out.write(constraintDoc(app.Constraints))
		}, nil
	}
}

func storageCommand(c *call) func([]string) (func() error, error) {
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": func(v any) (string, error) {
		t := table{}
		t.add(header("Unit", "Storage ID", "Type", "Pool", "Size", "Status", "Message")...)
		storageRows(&t, v.(storageDoc), false)
		return t.render(false), nil
	}})
	return func(args []string) (func() error, error) {
		return func() error {
			s := c.Env.Model.Snapshot()
			units := map[string]bool{}
			for name := range s.Units {
				units[name] = true
			}
			doc := newStorageDoc(s, units, true, timeFormat{location: c.Location}, true)
			if len(doc.Storage) == 0 {
				c.infof("No storage to display.")
				c.out.written = true
				return nil
			}
			return c.out.write(doc)
		}, nil
	}
}

func showStorageCommand(c *call) func([]string) (func() error, error) {
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("must specify storage id(s)")
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			units := map[string]bool{}
			for name := range s.Units {
				units[name] = true
			}
			all := newStorageDoc(s, units, true, timeFormat{location: c.Location}, true)
			docs := map[string]storageInstanceDoc{}
			for _, id := range args {
				doc, ok := all.Storage[id]
				if !ok {
					return fmt.Errorf("storage instance %q not found", id)
				}
				docs[id] = doc
			}
			return c.out.write(docs)
		}, nil
	}
}

func storagePoolsCommand(c *call) func([]string) (func() error, error) {
	type pool struct {
		Provider string `json:"provider" yaml:"provider"`
	}
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": func(v any) (string, error) {
		t := table{}
		t.add(header("Name", "Provider", "Attributes")...)
		for _, name := range sortedNames(v.(map[string]pool)) {
			t.add(plain(name, name, "")...)
		}
		return t.render(false), nil
	}})
	return func(args []string) (func() error, error) {
		return func() error {
			return c.out.write(map[string]pool{"loop": {"loop"}, "rootfs": {"rootfs"}, "tmpfs": {"tmpfs"}})
		}, nil
	}
}

func showStatusLogCommand(c *call) func([]string) (func() error, error) {
	limit, days := 0, 0
	var kind, from string
	var utc bool
	c.flags.integer(&limit, "n", "Returns the last N logs (cannot be combined with --days or --date)")
	c.flags.integer(&days, "days", "Returns the logs for the past <days> days (cannot be combined with -n or --date)")
	c.flags.str(&from, "from-date", "Returns logs for any date after the passed one, the expected date format is YYYY-MM-DD")
	kind = "unit"
	c.flags.str(&kind, "type", "Type of statuses to be displayed [unit|juju-unit|workload]")
	c.flags.boolean(&utc, "utc", "Display time as UTC in RFC3339 format")
	type entry struct {
		Status  string    `json:"status" yaml:"status"`
		Message string    `json:"message,omitempty" yaml:"message,omitempty"`
		Since   time.Time `json:"since" yaml:"since"`
		Kind    string    `json:"type" yaml:"type"`
	}
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": func(v any) (string, error) {
		f := timeFormat{location: c.Location, utc: utc}
		t := table{}
		t.add(header("Time", "Type", "Status", "Message")...)
		for _, e := range v.([]entry) {
			t.add(plain(f.since(e.Since), e.Kind, e.Status, e.Message)...)
		}
		return t.render(false), nil
	}})
	return func(args []string) (func() error, error) {
		if len(args) != 1 {
			return nil, errors.New("entity name is missing.")
		}
		if limit == 0 && days == 0 && from == "" {
			limit = 20
		}
		switch kind {
		case "unit", "juju-unit", "workload":
		default:
			return nil, fmt.Errorf("unexpected status type %q", kind)
		}
		after := time.Time{}
		if from != "" {
			var err error
			if after, err = time.Parse("2006-01-02", from); err != nil {
				return nil, fmt.Errorf("parsing date %q: %w", from, err)
			}
		}
		if days > 0 {
			after = c.Env.Model.Now().Add(-time.Duration(days) * 24 * time.Hour)
		}
		return func() error {
			u := c.Env.Model.Snapshot().Units[args[0]]
			if u == nil {
				return fmt.Errorf("unit %q not found", args[0])
			}
			entries := []entry{}
			for _, h := range u.History {
				if (kind == "unit" || kind == h.Kind) && !h.Since.Before(after) {
					entries = append(entries, entry{h.Status.Status, h.Message, h.Since.Truncate(time.Second).In(time.UTC), h.Kind})
				}
			}
			if limit > 0 && len(entries) > limit {
				entries = entries[len(entries)-limit:]
			}
			return c.out.write(entries)
		}, nil
	}
}
