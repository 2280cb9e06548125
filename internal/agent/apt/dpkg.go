package apt

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Installed is a package that a machine has.
type Installed struct {
	Name, Arch, Version string
	Source              string // package
	Held                bool   // a person has said that it stays at its version
}

// Packages are what a machine has, by name; those of another architecture than the machine's by name:arch.
type Packages map[string]Installed

// Versions are the packages' versions.
func (p Packages) Versions() map[string]string {
	versions := make(map[string]string, len(p))
	for name, i := range p {
		versions[name] = i.Version
	}
	return versions
}

// Packages reads what dpkg has. It fails while dpkg was interrupted: see Repair.
func (s *System) Packages() (Packages, error) {
	all, broken, err := s.status()
	if err != nil {
		return nil, err
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("cannot tell what packages the machine has: dpkg was interrupted in %s (run `dpkg --configure -a` there)", strings.Join(broken[:min(3, len(broken))], ", "))
	}
	return all, nil
}

// status reads dpkg's database, and which packages are neither here nor there.
func (s *System) status() (all Packages, broken []string, err error) {
	path := s.path("var/lib/dpkg/status")
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot tell what packages the machine has: %w", err)
	}
	defer f.Close()
	all = make(Packages)
	native := Architecture()
	for fields, err := range stanzas(bufio.NewReader(f)) {
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read %s: %w", path, err)
		}
		words := strings.Fields(fields["status"])
		if len(words) != 3 {
			continue
		}
		name := fields["package"]
		if arch := fields["architecture"]; arch != "all" && arch != native {
			name += ":" + arch
		}
		switch words[2] {
		case "installed":
			source, _, _ := strings.Cut(fields["source"], " ")
			if source == "" {
				source = fields["package"]
			}
			all[name] = Installed{Name: fields["package"], Arch: fields["architecture"], Version: fields["version"], Source: source, Held: words[0] == "hold"}
		case "not-installed", "config-files":
		default:
			broken = append(broken, name)
		}
	}
	// What dpkg has not put into its database yet.
	entries, _ := os.ReadDir(s.path("var/lib/dpkg/updates"))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			broken = append(broken, "updates/"+e.Name())
		}
	}
	slices.Sort(broken)
	return all, broken, nil
}

// Repair ends what an interrupted dpkg has begun. It does nothing where none was.
func (s *System) Repair(ctx context.Context) error {
	_, broken, err := s.status()
	if err != nil || len(broken) == 0 {
		return err
	}
	out, err := s.run(ctx, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
	if err == nil {
		_, broken, err = s.status()
	}
	if err == nil && len(broken) > 0 {
		// What was half unpacked is fetched again.
		out, err = s.aptGet(ctx, "-f", "install", "--no-remove", "--no-install-recommends")
		if err == nil {
			_, broken, err = s.status()
		}
	}
	if err != nil {
		return fmt.Errorf("cannot end what an interrupted dpkg has begun (%s): %w: %s (see to dpkg on the machine)", strings.Join(broken[:min(3, len(broken))], ", "), err, said(out))
	}
	if len(broken) > 0 {
		return fmt.Errorf("cannot end what an interrupted dpkg has begun: %s is still not installed (see to dpkg on the machine)", strings.Join(broken[:min(3, len(broken))], ", "))
	}
	return nil
}

// Auto returns which of the named packages are there only because others need them.
func (s *System) Auto(names []string) ([]string, error) {
	f, err := os.Open(s.path("var/lib/apt/extended_states"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var auto []string
	for fields, err := range stanzas(bufio.NewReader(f)) {
		if err != nil {
			return nil, err
		}
		if fields["auto-installed"] == "1" && slices.Contains(names, fields["package"]) {
			auto = append(auto, fields["package"])
		}
	}
	slices.Sort(auto)
	return slices.Compact(auto), nil
}

// Changes are what differs between two states of a machine's packages, among names; all if that is nil. Sorted.
func Changes(before, now map[string]string, names []string) []string {
	var changes []string
	all := maps.Clone(before)
	for name, v := range now {
		if _, ok := all[name]; !ok {
			all[name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if names != nil && !slices.Contains(names, name) {
			continue
		}
		switch was, is := before[name], now[name]; {
		case was == is:
		case was == "":
			changes = append(changes, fmt.Sprintf("%s %s is there and was not", name, is))
		case is == "":
			changes = append(changes, fmt.Sprintf("%s %s is not there any more", name, was))
		default:
			changes = append(changes, fmt.Sprintf("%s is %s and was %s", name, is, was))
		}
	}
	return changes
}
