package hookstest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

// Versions of Juju that a scenario can be in.
const (
	Juju36 = "3.6.28"
	Juju40 = "4.0.15" // the default
)

// An Option of New.
type Option func(*settings)

type settings struct {
	version   string
	charmDir  string
	app       string
	installed bool
}

// Version chooses the version of Juju.
func Version(version string) Option { return func(s *settings) { s.version = version } }

// App names the application; it is the charm's name otherwise.
func App(name string) Option { return func(s *settings) { s.app = name } }

// CharmDir is JUJU_CHARM_DIR: where the charm finds what it was packed with. Otherwise it is Juju's path, where nothing is.
func CharmDir(dir string) Option { return func(s *settings) { s.charmDir = dir } }

// Fresh makes a unit whose charm has not run yet, for install and what follows. It is no leader yet.
func Fresh() Option { return func(s *settings) { s.installed = false } }

// A Scenario is a model of Juju around one unit, and the charm that runs on it.
type Scenario struct {
	t        testing.TB
	charm    hooks.Charm
	model    *juju.Model
	unit     string
	app      string
	stateDir string
	charmDir string
	killAt   int // steps after which the next event is killed; -1: never
	killNew  map[string]bool
	running  *runner
	last     func() Result
	// processes, if set, changes the unit's paths and answers a context's tools; for this package's own tests.
	processes func(*juju.Context) (hooks.Runner, func())
	atPaths   func(*juju.Paths)
	clock     *clock
}

// clock stands still unless a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After never comes: nothing in a scenario waits.
func (c *clock) After(time.Duration) <-chan time.Time { return nil }

// randomness gives each scenario the same ids.
type randomness struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (r *randomness) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Read(p)
}

// New makes a scenario for the charm, which charmcraft.yaml, or the directory with it, describes.
func New(t testing.TB, charm hooks.Charm, path string, options ...Option) *Scenario {
	t.Helper()
	set := settings{version: Juju40, installed: true}
	for _, option := range options {
		option(&set)
	}
	require.Contains(t, []string{Juju36, Juju40}, set.version, "version of Juju")
	described, err := readCharm(path)
	require.NoError(t, err)
	if set.app == "" {
		set.app = described.Name
	}
	clock := &clock{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	state := juju.NewState(juju.ModelInfo{Name: "lab", UUID: "8cac5806-7ba1-4d95-8a50-ce11f7151656", Version: set.version,
		Controller: "test", Cloud: "test", Region: "default", APIAddresses: []string{"10.0.0.2:17070"}}, clock.now)
	s := &Scenario{t: t, charm: charm, app: set.app, charmDir: set.charmDir, stateDir: t.TempDir(), killAt: -1, clock: clock,
		model: juju.NewModel(state, juju.Options{Clock: clock, Random: &randomness{r: rand.NewChaCha8([32]byte{7})}})}
	s.Change(func(state *juju.State) error {
		if _, err := state.AddApplication(juju.Deployment{Name: s.app, Charm: state.AddCharm(described), Units: 1}, clock.now); err != nil {
			return err
		}
		unit := state.UnitsOf(s.app)[0]
		s.unit = unit.Name
		s.place(state, unit)
		unit.Workload = juju.Status{Status: "waiting", Message: "agent initialising", Since: clock.now}
		app := state.Applications[s.app]
		unit.Uniter.Charm, unit.Uniter.CharmVersion = app.Charm, app.CharmVersion
		if set.installed {
			unit.Workload = juju.Status{Status: "unknown", Since: clock.now}
			app.Leader = unit.Name
			state.Settle(unit.Name, bootID, clock.now)
		}
		return nil
	})
	return s
}

// place gives the unit's machine what a machine has once it runs.
func (s *Scenario) place(state *juju.State, unit *juju.Unit) {
	machine := state.Machines[unit.Machine]
	var n int
	fmt.Sscan(machine.ID, &n)
	address := fmt.Sprintf("10.0.0.%d", 10+n)
	machine.Addresses = []string{address}
	machine.Interfaces = []juju.NetworkInterface{{Name: "eth0", MAC: fmt.Sprintf("52:54:00:00:00:%02x", 10+n), Addresses: []string{address + "/24"}}}
	machine.Hostname, machine.InstanceID = "machine-"+machine.ID, "i-"+machine.ID
	machine.Agent = juju.Status{Status: "started", Since: s.clock.Now()}
	machine.Instance = juju.Status{Status: "running", Since: s.clock.Now()}
}

// Unit is the name of the unit that the charm runs on.
func (s *Scenario) Unit() string { return s.unit }

// State is the model's state now. It does not change when the scenario goes on.
func (s *Scenario) State() *juju.State { return s.model.Snapshot() }

// Change changes the state in ways that the With… methods do not cover.
func (s *Scenario) Change(change func(*juju.State) error) *Scenario {
	s.t.Helper()
	require.NoError(s.t, s.model.Update(change), "cannot make this state")
	return s
}

// Advance moves the clock.
func (s *Scenario) Advance(d time.Duration) *Scenario {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.now = s.clock.now.Add(d)
	return s
}

// WithConfig sets options, as `juju config` takes them.
func (s *Scenario) WithConfig(options map[string]string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error { return state.SetOptions(s.app, options) })
}

// WithLeader makes the unit the leader, or takes leadership away from it.
func (s *Scenario) WithLeader(leader bool) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		app := state.Applications[s.app]
		if leader {
			app.Leader = s.unit
		} else if app.Leader == s.unit {
			app.Leader = ""
		}
		return nil
	})
}

// WithUnits adds n more units of the application, on machines of their own, in its peer relations.
func (s *Scenario) WithUnits(n int) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		units, err := state.AddUnits(s.app, n, nil, s.clock.Now())
		if err != nil {
			return err
		}
		for _, unit := range units {
			s.place(state, unit)
		}
		for _, relation := range state.RelationsOf(s.app) {
			for _, unit := range units {
				s.join(state, relation, unit.Name)
			}
		}
		return nil
	})
}

// WithRelation relates the endpoint to a new application with that many units, which have joined; a Fresh unit has yet to be told. The other
// side's endpoint has the same name. The relation's id is what RelationID returns.
func (s *Scenario) WithRelation(endpoint, remote string, units int) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		spec, ok := state.CharmOf(s.app).Endpoint(endpoint)
		if !ok || spec.Role == juju.Peer {
			return fmt.Errorf("charm %q has no endpoint %q to relate", state.CharmOf(s.app).Name, endpoint)
		}
		if state.Applications[remote] == nil {
			section := "provides"
			if spec.Role == juju.Provider {
				section = "requires"
			}
			other, err := juju.NewCharm(map[string]string{
				"metadata.yaml": fmt.Sprintf("name: %s\nsummary: s\ndescription: d\n%s: {%s: {interface: %s}}\n", remote, section, endpoint, spec.Interface),
				"manifest.yaml": "bases:\n- {name: ubuntu, channel: 24.04/stable, architectures: [amd64]}\n",
			})
			if err != nil {
				return err
			}
			if _, err := state.AddApplication(juju.Deployment{Name: remote, Charm: state.AddCharm(other), Units: units}, s.clock.Now()); err != nil {
				return err
			}
		}
		relation, err := state.AddRelation(s.app+":"+endpoint, remote+":"+endpoint, s.clock.Now())
		if err != nil {
			return err
		}
		relation.Apps = map[string]*juju.AppBag{s.app: {}, remote: {}}
		s.join(state, relation, s.unit)
		for _, unit := range state.UnitsOf(remote) {
			s.place(state, unit)
			s.join(state, relation, unit.Name)
		}
		relation.Status = juju.Status{Status: "joined", Since: s.clock.Now()}
		return nil
	})
}

// join brings a unit into a relation's scope, and lets the scenario's own unit know of it, unless that is a fresh one.
func (s *Scenario) join(state *juju.State, relation *juju.Relation, unit string) {
	fresh := !state.Units[s.unit].Uniter.Started
	if unit == s.unit && fresh {
		return // its relation-created brings it in
	}
	if relation.Units == nil {
		relation.Units = make(map[string]*juju.RelationUnit)
	}
	address := state.Machines[state.Units[unit].Machine].Address()
	settings := map[string]string{"ingress-address": address, "egress-subnets": address + "/32"}
	if state.Model.Major() < 4 {
		settings["private-address"] = address
	}
	relation.Units[unit] = &juju.RelationUnit{InScope: true, Settings: settings, Version: 1}
	if fresh {
		return
	}
	uniter := &state.Units[s.unit].Uniter
	if uniter.Relations == nil {
		uniter.Relations = make(map[int]*juju.LocalRelation)
	}
	local := uniter.Relations[relation.ID]
	if local == nil {
		local = &juju.LocalRelation{Created: true, Joined: make(map[string]int), Apps: make(map[string]int)}
		uniter.Relations[relation.ID] = local
	}
	if unit != s.unit {
		local.Joined[unit] = 1
	}
}

// WithRemoteUnits adds n units to a remote application. They have joined its relations.
func (s *Scenario) WithRemoteUnits(remote string, n int) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		units, err := state.AddUnits(remote, n, nil, s.clock.Now())
		if err != nil {
			return err
		}
		for _, unit := range units {
			s.place(state, unit)
			for _, relation := range state.RelationsOf(remote) {
				s.join(state, relation, unit.Name)
			}
		}
		return nil
	})
}

// RelationID returns the id of the endpoint's newest relation, such as cert-agents:1.
func (s *Scenario) RelationID(endpoint string) string {
	s.t.Helper()
	ids := []string{}
	for _, relation := range s.State().RelationsOf(s.app) {
		if e, _ := relation.Endpoint(s.app); e.Name == endpoint {
			ids = append(ids, fmt.Sprintf("%s:%d", endpoint, relation.ID))
		}
	}
	require.NotEmpty(s.t, ids, "endpoint %q has no relation", endpoint)
	return ids[len(ids)-1]
}

// WithData writes settings into a databag of the relation: a unit's or an application's, own or remote. An empty value takes a setting out.
func (s *Scenario) WithData(relationID, owner string, settings map[string]string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		relation, err := s.relation(state, relationID)
		if err != nil {
			return err
		}
		var bag *map[string]string
		if unit, ok := relation.Units[owner]; ok {
			bag = &unit.Settings
			unit.Version++
		} else if app, ok := relation.Apps[owner]; ok {
			bag = &app.Settings
			app.Version++
		} else {
			return fmt.Errorf("%q has no databag in relation %s", owner, relationID)
		}
		if *bag == nil {
			*bag = make(map[string]string)
		}
		maps.Copy(*bag, settings)
		maps.DeleteFunc(*bag, func(_, value string) bool { return value == "" })
		return nil
	})
}

func (s *Scenario) relation(state *juju.State, id string) (*juju.Relation, error) {
	for _, relation := range state.RelationsOf(s.app) {
		if e, _ := relation.Endpoint(s.app); fmt.Sprintf("%s:%d", e.Name, relation.ID) == id {
			return relation, nil
		}
	}
	return nil, fmt.Errorf("application %q has no relation %s", s.app, id)
}

// WithStorage attaches one instance of the charm's storage of that name, at the directory or device; a Fresh unit has yet to be told.
func (s *Scenario) WithStorage(name, location string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		meta, ok := state.CharmOf(s.app).Meta.Storage[name]
		if !ok {
			return fmt.Errorf("charm %q has no storage %q", state.CharmOf(s.app).Name, name)
		}
		var storage *juju.Storage
		attached := 0
		for _, each := range state.StorageOf(s.unit) {
			if each.Name == name && each.Attached {
				attached++
			} else if each.Name == name && storage == nil {
				storage = each
			}
		}
		if meta.CountMax >= 0 && attached >= meta.CountMax {
			return fmt.Errorf("unit %s can have %d of storage %q", s.unit, meta.CountMax, name)
		}
		if storage == nil {
			storage = state.AddStorage(s.unit, meta, "", s.clock.Now())
		}
		storage.Location, storage.Attached = location, true
		storage.Status = juju.Status{Status: "attached", Since: s.clock.Now()}
		if uniter := &state.Units[s.unit].Uniter; uniter.Started {
			uniter.Storage[storage.ID] = true
		}
		return nil
	})
}

// StorageID returns the id of the unit's newest storage of that name, such as data/0.
func (s *Scenario) StorageID(name string) string {
	s.t.Helper()
	ids := []string{}
	for _, storage := range s.State().StorageOf(s.unit) {
		if storage.Name == name {
			ids = append(ids, storage.ID)
		}
	}
	require.NotEmpty(s.t, ids, "unit has no storage %q", name)
	return ids[len(ids)-1]
}

// WithSecretOption makes a secret of the operator's, sets the option to it and, if granted, lets the application read it.
func (s *Scenario) WithSecretOption(option string, content map[string]string, granted bool) *Scenario {
	s.t.Helper()
	id := s.model.NewID()
	return s.Change(func(state *juju.State) error {
		if _, err := state.AddUserSecret(id, option, "", content, s.clock.Now()); err != nil {
			return err
		}
		if granted {
			if err := state.GrantUserSecret(option, []string{s.app}, true); err != nil {
				return err
			}
		}
		return state.SetOptions(s.app, map[string]string{option: "secret:" + id})
	})
}

// WithSecretContent gives the operator's secret that WithSecretOption made for the option new content.
func (s *Scenario) WithSecretContent(option string, content map[string]string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		return state.UpdateUserSecret(option, nil, nil, content, nil, s.clock.Now())
	})
}

// WithResource attaches the file as the charm's resource of that name.
func (s *Scenario) WithResource(name, path string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		return state.AttachResource(s.app, name, juju.Resource{Name: name, Path: path, Filename: name, Revision: 1})
	})
}

// WithModelConfig sets the model's configuration, such as juju-http-proxy.
func (s *Scenario) WithModelConfig(key, value string) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error {
		state.Config[key] = value
		return nil
	})
}

// WithTrust deploys the application with --trust, or without.
func (s *Scenario) WithTrust(trust bool) *Scenario {
	s.t.Helper()
	return s.Change(func(state *juju.State) error { return state.SetTrust(s.app, trust) })
}

// KillAfter has the next event's process killed when n steps have done their work, before the charm is told; with 0, before the first. A
// step is a hook tool, or what follows a call of Point.
func (s *Scenario) KillAfter(n int) *Scenario {
	s.killAt = n
	return s
}

// Point is for a charm's seams, such as one that writes files: it names a step that is about to be taken, and before which the
// process may be killed. It is called by the charm's own goroutine, and does not return when that is killed. Outside an
// event it does nothing.
func (s *Scenario) Point(what string) {
	if s.running != nil {
		s.running.step(what)
	}
}

// paths are where Juju has the unit's things, but for the charm's directory.
func (s *Scenario) paths() juju.Paths {
	paths := juju.DefaultPaths(s.unit)
	if s.charmDir != "" {
		paths.CharmDir = s.charmDir
	}
	if s.atPaths != nil {
		s.atPaths(&paths)
	}
	return paths
}

// fetch has resource-get print where the operator's file is.
func fetch(_ context.Context, resource juju.Resource) (string, error) { return resource.Path, nil }
