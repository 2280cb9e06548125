package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/juju/charm/v12"

	"certlab/internal/juju"
)

// A change is one step of a bundle: what it is called and what does it.
type change struct {
	text string
	do   func() error
}

// A bundlePlan turns a bundle into the changes that are missing in the model.
type bundlePlan struct {
	d     *deployer
	c     *call
	dir   string
	data  *charm.BundleData
	state *juju.State // as it was when the plan was made
	// machines says which of the model's machines each of the bundle's becomes; fresh ones are yet to be added.
	machines map[string]string
	fresh    map[string]bool
	nextID   int
	charms   map[string]*juju.Charm // by application; filled in by the uploads
	changes  []change
}

// bundle deploys the bundle at path.
func (d *deployer) bundle(path string) error {
	c := d.c
	data, dir, err := d.readBundle(path)
	if err != nil {
		return err
	}
	if !d.trust {
		var names []string
		for _, name := range sortedNames(data.Applications) {
			if data.Applications[name].RequiresTrust {
				names = append(names, "  - "+name)
			}
		}
		if len(names) > 0 {
			return fmt.Errorf("Bundle cannot be deployed without trusting applications with your cloud credentials.\nPlease repeat the deploy command with the --trust argument if you consent to trust the following application(s):\n%s", strings.Join(names, "\n"))
		}
	}
	p := &bundlePlan{d: d, c: c, dir: dir, data: data, state: c.Env.Model.Snapshot(), machines: map[string]string{}, fresh: map[string]bool{}, charms: map[string]*juju.Charm{}}
	if err := p.make(); err != nil {
		return fmt.Errorf("cannot deploy bundle: %w", err)
	}
	if len(p.changes) == 0 {
		c.infof("No changes to apply.")
		return nil
	}
	if d.dryRun {
		fmt.Fprintln(c.Stdout, "Changes to deploy bundle:")
	} else {
		fmt.Fprintln(c.Stdout, "Executing changes:")
	}
	for _, step := range p.changes {
		fmt.Fprintf(c.Stdout, "- %s\n", step.text)
		if d.dryRun {
			continue
		}
		if err := step.do(); err != nil {
			return fmt.Errorf("cannot deploy bundle: %w", err)
		}
	}
	if !d.dryRun {
		c.infof("Deploy of bundle completed.")
	}
	return nil
}

// readBundle reads and checks a bundle with its overlays, as far as Juju does before it begins.
func (d *deployer) readBundle(path string) (bundle *charm.BundleData, base string, err error) {
	defer func() { // of an empty key, for one, Juju's own reader knows nothing
		if v := recover(); v != nil {
			err = fmt.Errorf("cannot deploy bundle: %s cannot be read: %v", path, v)
		}
	}()
	c := d.c
	var sources []charm.BundleDataSource
	var ignored []string
	for _, name := range append([]string{path}, d.overlays...) {
		source, err := charm.LocalBundleDataSource(c.path(name))
		if err != nil {
			return nil, "", fmt.Errorf("cannot deploy bundle: %s", strings.ReplaceAll(err.Error(), c.path(name), name))
		}
		for _, part := range source.Parts() {
			if part.UnmarshallError != nil {
				ignored = append(ignored, part.UnmarshallError.Error())
			}
		}
		sources = append(sources, source)
	}
	data, err := charm.ReadAndMergeBundleData(sources...)
	if err != nil {
		return nil, "", fmt.Errorf("cannot deploy bundle: %w", err)
	}
	for name, app := range data.Applications {
		if app == nil { // the check below crashes on it
			return nil, "", fmt.Errorf("cannot deploy bundle: application %q is empty: it needs a charm", name)
		}
	}
	dir := sources[0].BasePath()
	checkConstraints := func(text string) error {
		_, err := parseConstraints(text)
		return err
	}
	checkStorage := func(text string) error {
		_, err := juju.ParseDirective(text)
		return err
	}
	if err := data.VerifyLocal(dir, checkConstraints, checkStorage, nil); err != nil {
		text := err.Error()
		var all *charm.VerificationError
		if errors.As(err, &all) {
			lines := make([]string, len(all.Errors))
			for i, e := range all.Errors {
				lines[i] = e.Error()
			}
			text = strings.Join(lines, "\n")
		}
		return nil, "", fmt.Errorf("cannot deploy bundle: the provided bundle has the following errors:\n%s", text)
	}
	if len(ignored) > 0 {
		c.warnf("These fields\n %s\nwill be ignored during deployment", strings.Join(ignored, "\n "))
	}
	return data, dir, nil
}

func (p *bundlePlan) add(do func() error, format string, args ...any) {
	p.changes = append(p.changes, change{fmt.Sprintf(format, args...), do})
}

// make finds the changes, in the order in which Juju does them: applications, machines, relations, units.
func (p *bundlePlan) make() error {
	if err := p.mapMachines(); err != nil {
		return err
	}
	for _, name := range sortedNames(p.data.Applications) {
		if err := p.application(name, p.data.Applications[name]); err != nil {
			return err
		}
	}
	p.addMachines()
	for _, r := range p.data.Relations {
		if len(r) == 2 {
			p.relation(r[0], r[1])
		}
	}
	for _, name := range sortedNames(p.data.Applications) {
		if err := p.units(name, p.data.Applications[name]); err != nil {
			return err
		}
	}
	return nil
}

// mapMachines decides which of the model's machines those of the bundle are.
func (p *bundlePlan) mapMachines() error {
	existing := false
	mapped := map[string]string{}
	for _, item := range strings.Split(p.d.mapMachines, ",") {
		item = strings.TrimSpace(item)
		bundleID, modelID, pair := strings.Cut(item, "=")
		switch {
		case item == "":
		case item == "existing":
			existing = true
		case pair:
			if _, ok := p.state.Machines[modelID]; !ok {
				return fmt.Errorf("error in --map-machines: machine %q not found", modelID)
			}
			mapped[bundleID] = modelID
		default:
			return fmt.Errorf("error in --map-machines: expected \"existing\" or \"<bundle-id>=<machine-id>\", got %q", item)
		}
	}
	p.nextID = p.state.Next.Machine
	for _, id := range sortedNames(p.data.Machines) {
		switch m := p.state.Machines[id]; {
		case mapped[id] != "":
			p.machines[id] = mapped[id]
		case existing && m != nil && m.Life == juju.Alive:
			p.machines[id] = id
		default:
			p.machines[id] = strconv.Itoa(p.nextID)
			p.fresh[p.machines[id]] = true
			p.nextID++
		}
	}
	return nil
}

func (p *bundlePlan) baseOf(spec *charm.ApplicationSpec, ch *juju.Charm) (juju.Base, error) {
	for _, text := range []string{spec.Base, p.data.DefaultBase} {
		if text != "" {
			return parseBase(text)
		}
	}
	return ch.PreferredBase(), nil
}

func (p *bundlePlan) charmPath(spec *charm.ApplicationSpec) string {
	if filepath.IsAbs(spec.Charm) {
		return spec.Charm
	}
	return filepath.Join(p.dir, spec.Charm)
}

func (p *bundlePlan) application(name string, spec *charm.ApplicationSpec) error {
	c := p.c
	constraints, err := parseConstraints(spec.Constraints)
	if err != nil {
		return err
	}
	options := map[string]string{}
	for key, value := range spec.Options {
		options[key] = optionText(value)
	}
	have := p.state.Applications[name]
	if have == nil {
		if !isPath(spec.Charm) {
			return fmt.Errorf("application %q: the local lab has no Charmhub, and so no charm %q (give the path of a charm)", name, spec.Charm)
		}
		ch, err := juju.ReadCharm(p.charmPath(spec))
		if err != nil {
			return fmt.Errorf("cannot read charm of application %q: %w", name, err)
		}
		base, err := p.baseOf(spec, ch)
		if err != nil {
			return err
		}
		if !ch.SupportsBase(base) && !p.d.force {
			return fmt.Errorf("application %q: base %q not supported by charm, the charm supported bases are: %s", name, base.String(), supportedBases(ch))
		}
		resources, err := p.resources(name, spec)
		if err != nil {
			return err
		}
		p.charms[name] = ch
		p.add(func() error {
			stored, err := c.upload(ch)
			p.charms[name] = stored
			return err
		}, "upload charm %s for base %s/stable with architecture=%s", spec.Charm, base, modelArchitecture(constraints))
		p.add(func() error {
			err := c.addApplication(juju.Deployment{Name: name, Charm: p.charms[name], Base: base, Options: options, Constraints: constraints,
				Storage: spec.Storage, Resources: resources, Trust: spec.RequiresTrust && p.d.trust})
			if err != nil {
				return fmt.Errorf("cannot deploy application %q: %w", name, err)
			}
			return nil
		}, "deploy application %s on %s/stable", name, base)
	} else if differs(p.state, name, options) {
		p.add(func() error {
			// Juju 4.0.15 cannot do this, and stops here.
			if p.state.Model.Major() >= 4 {
				return fmt.Errorf("cannot update options for application %q: config yaml not supported not implemented", name)
			}
			return c.Env.Model.Update(func(s *juju.State) error { return s.SetOptions(name, options) })
		}, "set application options for %s", name)
	}
	if spec.Expose && (have == nil || !have.Exposed) {
		p.add(p.onApplication(name, func(app *juju.Application) { app.Exposed = true }), "expose all endpoints of %s and allow access from CIDRs 0.0.0.0/0 and ::/0", name)
	}
	if have != nil && spec.Constraints != "" && have.Constraints != constraints {
		p.add(p.onApplication(name, func(app *juju.Application) { app.Constraints = constraints }), "set constraints for %s to %q", name, constraints)
	}
	if len(spec.Annotations) > 0 && (have == nil || !contains(have.Annotations, spec.Annotations)) {
		p.add(p.onApplication(name, func(app *juju.Application) {
			for key, value := range spec.Annotations {
				app.Annotations[key] = value
			}
		}), "set annotations for %s", name)
	}
	return nil
}

func (p *bundlePlan) onApplication(name string, do func(*juju.Application)) func() error {
	return func() error {
		return p.c.Env.Model.Update(func(s *juju.State) error {
			app := s.Applications[name]
			if app == nil {
				return fmt.Errorf("application %q not found", name)
			}
			do(app)
			return nil
		})
	}
}

func (p *bundlePlan) resources(name string, spec *charm.ApplicationSpec) (map[string]juju.Resource, error) {
	resources := map[string]juju.Resource{}
	for label, value := range spec.Resources {
		path, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("application %q: resource %q is a revision of Charmhub's, which the local lab has not (give a path)", name, label)
		}
		r, err := p.c.resource(label, path, p.dir)
		if err != nil {
			return nil, err
		}
		resources[label] = r
	}
	return resources, nil
}

// differs says that an option of the bundle is not what the application has.
func differs(s *juju.State, application string, options map[string]string) bool {
	for name, text := range options {
		value, _ := s.OptionValue(application, name)
		if optionText(value) != text {
			return true
		}
	}
	return false
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if all[key] != value {
			return false
		}
	}
	return true
}

func (p *bundlePlan) addMachines() {
	for _, id := range sortedNames(p.data.Machines) {
		spec, target := p.data.Machines[id], p.machines[id]
		if spec == nil {
			spec = &charm.MachineSpec{}
		}
		kind := "existing"
		if p.fresh[target] {
			kind = "new"
			p.newMachine(target, fmt.Sprintf("add new machine %s (bundle machine %s)", target, id), spec.Base, spec.Constraints)
		} else if contains(p.state.Machines[target].Annotations, spec.Annotations) {
			continue
		}
		if len(spec.Annotations) == 0 {
			continue
		}
		p.add(func() error {
			return p.c.Env.Model.Update(func(s *juju.State) error {
				m := s.Machines[target]
				if m == nil {
					return fmt.Errorf("machine %s not found", target)
				}
				if m.Annotations == nil {
					m.Annotations = map[string]string{}
				}
				for key, value := range spec.Annotations {
					m.Annotations[key] = value
				}
				return nil
			})
		}, "set annotations for %s machine %s", kind, target)
	}
}

func (p *bundlePlan) newMachine(id, text, base, constraints string) {
	p.add(func() error {
		if base == "" {
			base = p.data.DefaultBase
		}
		if base == "" {
			base = "ubuntu@24.04"
		}
		parsed, err := parseBase(base)
		if err != nil {
			return err
		}
		return p.c.Env.Model.Update(func(s *juju.State) error {
			if got := s.AddMachine(parsed, constraints, p.c.Env.Model.Now()); got.ID != id {
				return fmt.Errorf("machine %s was to be added, but the model gave out %s: somebody else adds machines (deploy again with --map-machines)", id, got.ID)
			}
			return nil
		})
	}, "%s", text)
}

func (p *bundlePlan) relation(one, two string) {
	if _, err := p.state.FindRelation(one, two); err == nil {
		return
	}
	p.add(func() error {
		return p.c.Env.Model.Update(func(s *juju.State) error {
			if _, err := s.AddRelation(one, two, p.c.Env.Model.Now()); err != nil {
				return fmt.Errorf("cannot add relation between %q and %q: %w", one, two, err)
			}
			return nil
		})
	}, "add relation %s - %s", one, two)
}

// units adds the units that are missing. Those that are there keep their machines.
func (p *bundlePlan) units(name string, spec *charm.ApplicationSpec) error {
	taken := map[string]int{}
	have := p.state.UnitsOf(name)
	for _, u := range have {
		taken[u.Machine]++
	}
	missing := spec.NumUnits - len(have)
	number := p.state.Next.Unit[name]
	for i := 0; i < spec.NumUnits && missing > 0; i++ {
		placement := "new"
		switch {
		case i < len(spec.To):
			placement = spec.To[i]
		case len(spec.To) > 0:
			placement = spec.To[len(spec.To)-1]
		}
		machine, err := p.machineFor(name, placement, i)
		if err != nil {
			return err
		}
		if machine != "" && taken[machine] > 0 {
			taken[machine]--
			continue
		}
		missing--
		if machine == "" {
			machine = strconv.Itoa(p.nextID)
			p.nextID++
			p.fresh[machine] = true
			p.newMachine(machine, "add new machine "+machine, spec.Base, spec.Constraints)
		}
		kind := "existing"
		if p.fresh[machine] {
			kind = "new"
		}
		p.add(func() error {
			return p.c.Env.Model.Update(func(s *juju.State) error {
				if _, err := s.AddUnits(name, 1, []string{machine}, p.c.Env.Model.Now()); err != nil {
					return fmt.Errorf("cannot add unit for application %q: %w", name, err)
				}
				return nil
			})
		}, "add unit %s/%d to %s machine %s", name, number, kind, machine)
		number++
	}
	return nil
}

// machineFor is the machine that a placement of the bundle names, empty for a new one. The unit is the i-th of its application.
func (p *bundlePlan) machineFor(name, placement string, i int) (string, error) {
	where, err := charm.ParsePlacement(placement)
	if err != nil {
		return "", err
	}
	if where.ContainerType != "" {
		return "", fmt.Errorf("application %q: placement %q: the local lab's machines hold no containers (name the machine itself)", name, placement)
	}
	if where.Application == "" {
		return p.machines[where.Machine], nil // empty for "new"
	}
	n := where.Unit
	if n < 0 {
		n = i
	}
	if units := p.state.UnitsOf(where.Application); n < len(units) {
		return units[n].Machine, nil
	}
	other := p.data.Applications[where.Application]
	if other == nil || where.Application == name || n >= len(other.To) {
		return "", fmt.Errorf("application %q: placement %q: that unit has no machine of its own in the bundle (name the machine)", name, placement)
	}
	if inner, err := charm.ParsePlacement(other.To[n]); err != nil || inner.Application != "" {
		return "", fmt.Errorf("application %q: placement %q leads to another placement (name the machine)", name, placement)
	}
	return p.machineFor(where.Application, other.To[n], n)
}
