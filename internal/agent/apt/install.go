package apt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/order"
)

// A change is what a dry run would do.
type change struct {
	remove  []string
	upgrade []string // "name old → new"
}

// dryRun says what installing packages would do besides installing them and what they need and the machine lacks.
func (s *System) dryRun(ctx context.Context, set []order.Package) (change, error) {
	out, err := s.aptGet(ctx, append([]string{"-s"}, installing(set)...)...)
	if err != nil {
		return change{}, fmt.Errorf("cannot install %s: %w: %s", texts(set), err, said(out))
	}
	var c change
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		name, _, _ := strings.Cut(f[1], ":")
		switch f[0] {
		case "Remv", "Purg":
			c.remove = append(c.remove, name)
		case "Inst":
			if strings.HasPrefix(f[2], "[") && !slices.ContainsFunc(set, func(p order.Package) bool { return p.Name == name }) {
				c.upgrade = append(c.upgrade, fmt.Sprintf("%s %s", name, strings.Trim(f[2], "[]")))
			}
		}
	}
	return c, nil
}

// refusal is why a change is not made; empty: it may be.
func (c change) refusal() string {
	var parts []string
	if len(c.remove) > 0 {
		parts = append(parts, "remove "+strings.Join(clipped(c.remove), ", "))
	}
	if len(c.upgrade) > 0 {
		parts = append(parts, "change "+strings.Join(clipped(c.upgrade), ", "))
	}
	return strings.Join(parts, " and ")
}

func clipped(list []string) []string {
	if len(list) > 5 {
		return append(slices.Clone(list[:5]), fmt.Sprintf("%d more", len(list)-5))
	}
	return list
}

func installing(set []order.Package) []string {
	args := []string{"install", "--no-install-recommends", "--allow-downgrades"}
	for _, p := range set {
		args = append(args, p.Name+"="+p.Version)
	}
	return args
}

func texts(set []order.Package) string {
	var all []string
	for _, p := range set {
		all = append(all, p.Name+" "+p.Version)
	}
	return strings.Join(clipped(all), ", ")
}

// Try returns what of a set can be installed without changing anything else: all of its packages, and those of the optional ones that can.
// What cannot goes to the lacking ones.
func (s *System) Try(ctx context.Context, set Set) (Set, error) {
	whole := slices.Concat(set.Packages, set.Optional)
	c, err := s.dryRun(ctx, whole)
	if err == nil && c.refusal() == "" {
		return Set{Packages: whole, Lacking: set.Lacking}, nil
	}
	if len(set.Optional) > 0 && ctx.Err() == nil {
		if c, err = s.dryRun(ctx, set.Packages); err == nil && c.refusal() == "" {
			found := Set{Packages: slices.Clone(set.Packages), Lacking: slices.Clone(set.Lacking)}
			for _, p := range set.Optional {
				more := append(slices.Clone(found.Packages), p)
				if c, err := s.dryRun(ctx, more); err == nil && c.refusal() == "" {
					found.Packages = more
				} else {
					found.Lacking = append(found.Lacking, p.Name+" "+p.Version)
				}
			}
			return found, ctx.Err()
		}
	}
	if err != nil {
		return Set{}, err
	}
	return Set{}, fmt.Errorf("cannot install %s: apt would also %s, and nothing else may change on the machine", texts(set.Packages), c.refusal())
}

// Install installs a set that Try has returned, and makes sure that it is there.
func (s *System) Install(ctx context.Context, set Set) error {
	out, err := s.aptGet(ctx, append(installing(set.Packages), "--no-remove")...)
	if err != nil {
		return fmt.Errorf("cannot install %s: %w: %s", texts(set.Packages), err, said(out))
	}
	have, err := s.Packages()
	if err != nil {
		return err
	}
	return Verify(set.Packages, have)
}

// Verify fails if a machine does not have exactly these packages.
func Verify(set []order.Package, have Packages) error {
	for _, p := range set {
		switch is := have[p.Name].Version; is {
		case p.Version:
		case "":
			return fmt.Errorf("%s %s is not installed", p.Name, p.Version)
		default:
			return fmt.Errorf("%s is installed as %s, not as %s", p.Name, is, p.Version)
		}
	}
	return nil
}

// Keep fetches the packages that a set would replace into dir, so that they can be put back whatever becomes of their archive.
func (s *System) Keep(ctx context.Context, set Set, have Packages, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range set.Packages {
		was, ok := have[p.Name]
		if !ok || was.Version == p.Version {
			continue
		}
		if _, ok := kept(dir, was); ok {
			continue
		}
		// apt-get download writes into the working directory, which is not ours to choose here.
		out, err := s.aptGet(ctx, "install", "--download-only", "--reinstall", "--allow-downgrades", "-o", "Dir::Cache::Archives="+dir, was.Name+"="+was.Version)
		if err != nil {
			return fmt.Errorf("cannot put %s %s back afterwards, as no archive has it any more: %s (it is not replaced on a machine that stays)", was.Name, was.Version, said(out))
		}
		if _, ok := kept(dir, was); !ok {
			return fmt.Errorf("cannot put %s %s back afterwards, as it could not be fetched (it is not replaced on a machine that stays)", was.Name, was.Version)
		}
	}
	return nil
}

// kept finds the file of a package in dir; apt writes an epoch's colon as %3a.
func kept(dir string, p Installed) (string, bool) {
	path := filepath.Join(dir, fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch))
	_, err := os.Stat(path)
	return path, err == nil
}

// PutBack has the machine's packages be what they were before: added ones are purged, replaced ones installed from what Keep has fetched.
func (s *System) PutBack(ctx context.Context, added []string, replaced Packages, auto []string, dir string) error {
	if err := s.Repair(ctx); err != nil {
		return err
	}
	have, err := s.Packages()
	if err != nil {
		return err
	}
	args := []string{"install", "--no-install-recommends", "--allow-downgrades", "--no-remove"}
	n := len(args)
	for _, was := range replaced {
		if have[was.Name].Version == was.Version {
			continue
		}
		if path, ok := kept(dir, was); ok {
			args = append(args, path)
		} else {
			args = append(args, was.Name+"="+was.Version)
		}
	}
	if len(args) > n {
		if out, err := s.aptGet(ctx, args...); err != nil {
			return fmt.Errorf("cannot put packages back: %w: %s", err, said(out))
		}
	}
	var gone []string
	for _, name := range added {
		if _, ok := have[name]; ok {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	if len(gone) > 0 {
		out, err := s.aptGet(ctx, append([]string{"-s", "purge"}, gone...)...)
		if err != nil {
			return fmt.Errorf("cannot remove what was installed: %w: %s", err, said(out))
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && (f[0] == "Remv" || f[0] == "Purg" || f[0] == "Inst") && !slices.Contains(gone, strings.TrimSuffix(f[1], ":"+Architecture())) {
				return fmt.Errorf("cannot remove what was installed: apt would also change %s, which needs it", f[1])
			}
		}
		if out, err := s.aptGet(ctx, append([]string{"purge"}, gone...)...); err != nil {
			return fmt.Errorf("cannot remove what was installed: %w: %s", err, said(out))
		}
	}
	if len(auto) > 0 {
		if out, err := s.run(ctx, "apt-mark", append([]string{"auto"}, auto...)...); err != nil {
			return fmt.Errorf("cannot mark packages as they were: %w: %s", err, said(out))
		}
	}
	return nil
}
