package juju

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/juju/charm/v12"
)

// maxUnits bounds what one command may add.
const maxUnits = 1000

// A Deployment is what `juju deploy` asks for. Charm must have been stored by AddCharm.
type Deployment struct {
	Name        string
	Charm       *Charm
	Base        Base // of the manifest's first when empty
	Options     map[string]string
	Constraints string
	Storage     map[string]string // storage name → directive
	Resources   map[string]Resource
	Trust       bool
	Units       int
	Placement   []string // machine ids; units beyond it get new machines
}

// AddApplication makes an application, its peer relations and its units.
func (s *State) AddApplication(d Deployment, now time.Time) (*Application, error) {
	if _, ok := s.Applications[d.Name]; ok {
		return nil, fmt.Errorf("creating application %q: creating IAAS application %q: inserting IAAS application %q: checking if application %q exists: application already exists", d.Name, d.Name, d.Name, d.Name)
	}
	if d.Base == (Base{}) {
		d.Base = d.Charm.PreferredBase()
	}
	app := &Application{
		Name: d.Name, Charm: d.Charm.URL, Base: d.Base, Trust: d.Trust, Constraints: d.Constraints,
		Config: map[string]string{}, Bindings: bindingsOf(d.Charm, nil), Directives: map[string]string{}, Resources: map[string]Resource{},
		Annotations: map[string]string{}, Life: Alive, Created: now, ConfigVersion: 1, CharmVersion: 1,
	}
	s.Applications[d.Name] = app
	for name, value := range d.Options {
		text, err := normalOption(d.Charm, name, value)
		if err != nil {
			return nil, fmt.Errorf("preparing application args: validating create application args: validating application config: %w", err)
		}
		app.Config[name] = text
	}
	for name, directive := range d.Storage {
		if _, ok := d.Charm.Meta.Storage[name]; !ok {
			return nil, fmt.Errorf("preparing application args: charm %q has no store called %q", d.Charm.Name, name)
		}
		if _, err := ParseDirective(directive); err != nil {
			return nil, fmt.Errorf("preparing application args: storage %q: %w", name, err)
		}
		app.Directives[name] = directive
	}
	for name, r := range d.Resources {
		if err := s.AttachResource(d.Name, name, r); err != nil {
			return nil, err
		}
	}
	s.addPeers(app, d.Charm, now)
	if _, err := s.addUnits(app, d.Units, d.Placement, now); err != nil {
		return nil, fmt.Errorf("preparing application args: %w", err)
	}
	return app, nil
}

// addPeers makes the peer relations of a charm that the application does not have yet.
func (s *State) addPeers(app *Application, ch *Charm, now time.Time) {
	for _, spec := range ch.Endpoints() {
		if spec.Role != Peer {
			continue
		}
		exists := false
		for _, r := range s.RelationsOf(app.Name) {
			e, _ := r.Endpoint(app.Name)
			exists = exists || (r.Peer() && e.Name == spec.Name)
		}
		if !exists {
			s.insertRelation([]Endpoint{{Application: app.Name, Name: spec.Name, Interface: spec.Interface, Role: Peer}}, now)
		}
	}
}

// AddUnits makes more units of an application.
func (s *State) AddUnits(application string, n int, placement []string, now time.Time) ([]*Unit, error) {
	app := s.Applications[application]
	if app == nil {
		return nil, fmt.Errorf("application %q not found", application)
	}
	if app.Life != Alive {
		return nil, fmt.Errorf("application %q is not alive", application)
	}
	units, err := s.addUnits(app, n, placement, now)
	if err != nil {
		return nil, fmt.Errorf("adding %d units to application %q: %w", n, application, err)
	}
	return units, nil
}

func (s *State) addUnits(app *Application, n int, placement []string, now time.Time) ([]*Unit, error) {
	if n < 0 || n > maxUnits {
		return nil, fmt.Errorf("cannot add %d units at once: ask for 1 to %d", n, maxUnits)
	}
	ch := s.Charms[app.Charm]
	if ch.Meta.Subordinate {
		return nil, nil
	}
	units := make([]*Unit, 0, n)
	for i := range n {
		machine := ""
		if i < len(placement) {
			machine = placement[i]
		}
		m, err := s.place(machine, app, now)
		if err != nil {
			return nil, fmt.Errorf("making unit args: %w", err)
		}
		number := s.Next.Unit[app.Name]
		s.Next.Unit[app.Name]++
		u := &Unit{Name: fmt.Sprintf("%s/%d", app.Name, number), Application: app.Name, Machine: m.ID, Life: Alive, Created: now, CharmState: map[string]string{}}
		u.Workload = Status{Status: "waiting", Message: "waiting for machine", Since: now}
		u.Agent = Status{Status: "allocating", Since: now}
		s.Units[u.Name] = u
		s.addStorage(u, app, ch, now)
		units = append(units, u)
	}
	return units, nil
}

// place finds the machine that a placement names, or makes one.
func (s *State) place(placement string, app *Application, now time.Time) (*Machine, error) {
	if placement == "" || placement == "new" {
		return s.AddMachine(app.Base, app.Constraints, now), nil
	}
	if kind, _, ok := strings.Cut(placement, ":"); ok || kind == "lxd" {
		return nil, fmt.Errorf("placement %q: the local lab's machines hold no containers (give a machine number)", placement)
	}
	m := s.Machines[placement]
	if m == nil || m.Life == Dead {
		return nil, fmt.Errorf("getting machine %q for unit placement directive: machine with name %q does not exist", placement, placement)
	}
	return m, nil
}

// AddMachine asks for a machine. It is pending until whoever has machines has filled it in.
func (s *State) AddMachine(base Base, constraints string, now time.Time) *Machine {
	id := strconv.Itoa(s.Next.Machine)
	s.Next.Machine++
	m := &Machine{ID: id, Base: base, Constraints: constraints, Life: Alive,
		Agent: Status{Status: "pending", Since: now}, Instance: Status{Status: "pending", Since: now}}
	s.Machines[id] = m
	return m
}

// A Directive is a storage directive: rootfs,1,100M.
type Directive struct {
	Pool    string
	Count   int
	SizeMiB uint64
}

// maxCount bounds the storage instances that one directive asks for.
const maxCount = 100

// ParseDirective reads a storage directive: pool, count and size, each optional, in any order.
func ParseDirective(text string) (Directive, error) {
	var d Directive
	if strings.TrimSpace(text) == "" {
		return d, errors.New("storage directives require at least one field to be specified")
	}
	for _, field := range strings.Split(text, ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		if n, err := strconv.Atoi(field); err == nil {
			if n < 1 {
				return d, fmt.Errorf("cannot parse count: count must be greater than zero, got %q", field)
			}
			if n > maxCount {
				return d, fmt.Errorf("cannot parse count: the local lab makes at most %d, got %q", maxCount, field)
			}
			d.Count = n
		} else if size, ok := ParseSize(field); ok {
			d.SizeMiB = size
		} else if d.Pool == "" && field[0] >= 'a' && field[0] <= 'z' {
			d.Pool = field
		} else {
			return d, fmt.Errorf("unrecognized storage directive %q", field)
		}
	}
	if d.Count == 0 {
		d.Count = 1
	}
	return d, nil
}

// ParseSize reads a size such as 100M or 4G as MiB.
func ParseSize(text string) (mib uint64, ok bool) {
	if text == "" {
		return 0, false
	}
	factor, found := map[byte]float64{'M': 1, 'G': 1 << 10, 'T': 1 << 20, 'P': 1 << 30}[text[len(text)-1]]
	if !found {
		return 0, false
	}
	n, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if err != nil || !(n >= 0 && n*factor <= 1<<50) { // NaN is neither
		return 0, false
	}
	return uint64(n*factor + 0.5), true
}

// addStorage makes the storage instances that a new unit's charm asks for.
func (s *State) addStorage(u *Unit, app *Application, ch *Charm, now time.Time) {
	names := make([]string, 0, len(ch.Meta.Storage))
	for name := range ch.Meta.Storage {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		meta := ch.Meta.Storage[name]
		d := Directive{Count: meta.CountMin}
		if text, ok := app.Directives[name]; ok {
			d, _ = ParseDirective(text) // checked when it was set
		}
		for range d.Count {
			s.AddStorage(u.Name, meta, d.Pool, now)
		}
	}
}

// AddStorage makes one storage instance for a unit, to be attached by its agent.
func (s *State) AddStorage(unit string, meta charm.Storage, pool string, now time.Time) *Storage {
	kind := "filesystem"
	if meta.Type == charm.StorageBlock {
		kind = "block"
	}
	if pool == "" {
		pool = "rootfs"
		if kind == "block" {
			pool = "loop"
		}
	}
	st := &Storage{ID: fmt.Sprintf("%s/%d", meta.Name, s.Next.Storage), Name: meta.Name, Kind: kind, Unit: unit, Pool: pool, ReadOnly: meta.ReadOnly, Life: Alive,
		Status: Status{Status: "pending", Since: now}}
	s.Next.Storage++
	if kind == "filesystem" {
		st.Filesystem = strconv.Itoa(s.Next.Filesystem)
		s.Next.Filesystem++
	}
	s.Storage[st.ID] = st
	return st
}
