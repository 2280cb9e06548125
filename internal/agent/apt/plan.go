package apt

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"certlab/internal/order"
)

// A Set is what a subject is on one machine.
type Set struct {
	Packages []order.Package `json:"packages"`
	Optional []order.Package `json:"optional,omitempty"` // drivers that go with it; left out where they would change anything else
	Lacking  []string        `json:"lacking,omitempty"`  // what the machine has with its kernel and the subject does not have
}

// Resolve says which packages a subject is on this machine, whose kernel now is running and which has these packages.
func (s *System) Resolve(ctx context.Context, sub *order.Subject, where, running string, have Packages) (Set, error) {
	var set Set
	var err error
	if sub.Kind == order.SubjectKernel {
		set, err = s.kernel(ctx, sub, where, running, have)
	} else {
		set, err = s.named(ctx, sub, where, have)
	}
	if err != nil {
		return Set{}, err
	}
	if err := s.more(ctx, sub, where, &set); err != nil {
		return Set{}, err
	}
	for _, p := range slices.Concat(set.Packages, set.Optional) {
		if i, ok := have[p.Name]; ok && i.Held && i.Version != p.Version {
			return Set{}, fmt.Errorf("cannot install %s %s: it is held at %s on this machine (run `apt-mark unhold %s` there)", p.Name, p.Version, i.Version, p.Name)
		}
	}
	return set, nil
}

// kernel are the packages of a kernel.
func (s *System) kernel(ctx context.Context, sub *order.Subject, where, running string, have Packages) (Set, error) {
	release := sub.Release()
	if release == "" {
		return Set{}, fmt.Errorf("cannot tell what uname -r says on %s %s (name the kernel_release of the subject)", sub.Source, sub.Version)
	}
	names := []string{"linux-image-" + release, "linux-modules-" + release, "linux-modules-extra-" + release}
	// What goes with the kernel that runs has its counterpart.
	before := make(map[string]string) // by the counterpart's name
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if counterpart, ok := counterpart(name, running, release); ok && !slices.Contains(names, counterpart) {
			before[counterpart] = name
		}
	}
	known, err := s.versions(ctx, slices.Concat(names, slices.Collect(maps.Keys(before))))
	if err != nil {
		return Set{}, err
	}
	image := order.Package{Name: names[0], Version: sub.Version}
	if !known[image.Name][image.Version] && have[image.Name].Version != sub.Version {
		if image.Version = signedAgain(known[image.Name], sub.Version); image.Version == "" {
			return Set{}, s.noSuch(ctx, sub, image.Name, where)
		}
	}
	set := Set{Packages: []order.Package{image}}
	for _, name := range names[1:] {
		if known[name][sub.Version] {
			set.Packages = append(set.Packages, order.Package{Name: name, Version: sub.Version})
		} else if old, ok := counterpart(name, release, running); ok && have[old].Version != "" {
			set.Lacking = append(set.Lacking, old)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch version := best(known[name], sub.Version); {
		case version == "":
			set.Lacking = append(set.Lacking, before[name])
		case version == sub.Version:
			set.Packages = append(set.Packages, order.Package{Name: name, Version: version})
		default:
			set.Optional = append(set.Optional, order.Package{Name: name, Version: version})
		}
	}
	return set, nil
}

// counterpart is the name that a package of one kernel has for another; false for what belongs to no kernel, or to more than one flavour.
func counterpart(name, from, to string) (string, bool) {
	if from == to || from == "" || !strings.HasPrefix(name, "linux-") || strings.HasPrefix(name, "linux-image-unsigned-") {
		return "", false
	}
	if i := strings.Index(name, from); i > 0 && name[i-1] == '-' && (len(name) == i+len(from) || name[i+len(from)] == '-') {
		return name[:i] + to + name[i+len(from):], true
	}
	return "", false
}

// signedAgain is the version of an image that was signed anew without being built anew, such as 6.8.0-51.52+1; empty: there is none.
func signedAgain(versions map[string]bool, kernel string) string {
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		if IsVersion(v, kernel) {
			return v
		}
	}
	return ""
}

// IsVersion reports whether an image of version v is the kernel of that version: it is, or was only signed anew.
func IsVersion(v, kernel string) bool {
	rest, ok := strings.CutPrefix(v, kernel)
	return ok && (rest == "" || signature.MatchString(rest))
}

var signature = regexp.MustCompile(`^\+\d+$`)

// best is the version of a driver that goes with a kernel: the kernel's own, one that is built upon it, or the newest.
func best(versions map[string]bool, kernel string) string {
	if versions[kernel] {
		return kernel
	}
	found := ""
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		if strings.HasPrefix(v, kernel+"+") || strings.HasPrefix(v, kernel+".") {
			return v
		}
		found = v
	}
	return found
}

// named are the packages of a subject that is no kernel.
func (s *System) named(ctx context.Context, sub *order.Subject, where string, have Packages) (Set, error) {
	wanted := sub.Packages
	if len(wanted) == 0 {
		for _, name := range slices.Sorted(maps.Keys(have)) {
			if have[name].Source == sub.Source {
				wanted = append(wanted, order.Package{Name: name, Version: sub.Version})
			}
		}
		if len(wanted) == 0 {
			return Set{}, fmt.Errorf("cannot tell which packages of %s to install: the machine has none of them (name the subject's packages)", sub.Source)
		}
	}
	return s.exactly(ctx, sub, where, wanted, true)
}

// exactly finds the versions of packages.
func (s *System) exactly(ctx context.Context, sub *order.Subject, where string, wanted []order.Package, subjects bool) (Set, error) {
	var names []string
	for _, p := range wanted {
		names = append(names, p.Name)
	}
	known, err := s.versions(ctx, names)
	if err != nil {
		return Set{}, err
	}
	var set Set
	for _, p := range wanted {
		if p.Version == "" && (known[p.Name][sub.Version] || subjects) {
			p.Version = sub.Version
		}
		if p.Version == "" {
			p.Version = best(known[p.Name], sub.Version)
		}
		if !known[p.Name][p.Version] {
			asked := *sub
			asked.Version = p.Version
			return Set{}, s.noSuch(ctx, &asked, p.Name, where)
		}
		set.Packages = append(set.Packages, p)
	}
	return set, nil
}

// more adds the further packages of a kernel, and what the set needs of its own source in the same version, which the pins would keep out.
func (s *System) more(ctx context.Context, sub *order.Subject, where string, set *Set) error {
	if sub.Kind == order.SubjectKernel && len(sub.Packages) > 0 {
		further, err := s.exactly(ctx, sub, where, sub.Packages, false)
		if err != nil {
			return err
		}
		set.add(further.Packages...)
	}
	for range 5 {
		wanted := make(map[string]bool)
		for _, p := range slices.Concat(set.Packages, set.Optional) {
			out, err := s.run(ctx, "apt-cache", "show", p.Name+"="+p.Version)
			if err != nil {
				continue // it is installed, and no archive has it
			}
			for fields, err := range stanzas(bufio.NewReader(strings.NewReader(out))) {
				if err != nil || fields["version"] != p.Version {
					continue
				}
				for _, name := range dependency.FindAllString(versionPart.ReplaceAllString(fields["pre-depends"]+","+fields["depends"], ""), -1) {
					wanted[name] = true
				}
			}
		}
		for _, p := range slices.Concat(set.Packages, set.Optional) {
			delete(wanted, p.Name)
		}
		known, err := s.versions(ctx, slices.Sorted(maps.Keys(wanted)))
		if err != nil {
			return err
		}
		var found []order.Package
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if known[name][sub.Version] {
				found = append(found, order.Package{Name: name, Version: sub.Version})
			}
		}
		if len(found) == 0 {
			break
		}
		set.add(found...)
	}
	return nil
}

var (
	versionPart = regexp.MustCompile(`\([^)]*\)|\[[^]]*\]|<[^>]*>|:[a-z0-9]+`)
	dependency  = regexp.MustCompile(`[a-z0-9][a-z0-9+.-]+`)
)

func (set *Set) add(more ...order.Package) {
	for _, p := range more {
		if !slices.ContainsFunc(set.Packages, func(o order.Package) bool { return o.Name == p.Name }) {
			set.Packages = append(set.Packages, p)
		}
	}
}

// versions are the versions that the machine's archives have of packages.
func (s *System) versions(ctx context.Context, names []string) (map[string]map[string]bool, error) {
	known := make(map[string]map[string]bool)
	for chunk := range slices.Chunk(names, 100) {
		out, err := s.run(ctx, "apt-cache", append([]string{"madison"}, chunk...)...)
		if err != nil && !strings.Contains(out, "Unable to locate package") {
			return nil, fmt.Errorf("cannot tell which versions there are: %w: %s", err, said(out))
		}
		for line := range strings.Lines(out) {
			f := strings.Split(line, "|")
			if len(f) != 3 || strings.HasSuffix(strings.TrimSpace(f[2]), "Sources") {
				continue
			}
			name := strings.TrimSpace(f[0])
			if known[name] == nil {
				known[name] = make(map[string]bool)
			}
			known[name][strings.TrimSpace(f[1])] = true
		}
	}
	return known, nil
}

// noSuch says that no archive has a package in a version, and what there is.
func (s *System) noSuch(ctx context.Context, sub *order.Subject, name, where string) error {
	names := []string{name}
	if sub.Kind == order.SubjectKernel && sub.Flavour != "" && strings.HasPrefix(name, "linux-image-") {
		// Each kernel has a name of its own.
		out, err := s.run(ctx, "apt-cache", "pkgnames", "linux-image-")
		if err == nil {
			for _, other := range strings.Fields(out) {
				if strings.HasSuffix(other, "-"+sub.Flavour) && !strings.HasPrefix(other, "linux-image-unsigned-") && other != "linux-image-"+sub.Flavour {
					names = append(names, other)
				}
			}
		}
	}
	known, _ := s.versions(ctx, names)
	var versions []string
	for n, all := range known {
		for v := range all {
			if n == name || strings.ContainsAny(n, "0123456789") {
				versions = append(versions, v)
			}
		}
	}
	slices.Sort(versions)
	versions = slices.Compact(versions)
	has := "nor any other version"
	if len(versions) > 0 {
		has = "the nearest that there are: " + strings.Join(nearest(versions, sub.Version), ", ")
	}
	return fmt.Errorf("cannot install %s %s: neither %s nor any other archive of this machine has it; %s", name, sub.Version, where, has)
}

// nearest are the three versions that begin most like v.
func nearest(versions []string, v string) []string {
	like := func(x string) int {
		n := 0
		for n < len(x) && n < len(v) && x[n] == v[n] {
			n++
		}
		return n
	}
	slices.SortStableFunc(versions, func(x, y string) int { return cmp.Compare(like(y), like(x)) })
	return versions[:min(3, len(versions))]
}
