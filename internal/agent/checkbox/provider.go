package checkbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// standardProviders is where Checkbox looks for providers as long as PROVIDERPATH is not set; setting it replaces them.
var standardProviders = []string{
	"/usr/local/share/plainbox-providers-1",
	"/usr/share/plainbox-providers-1",
	"/var/tmp/checkbox-providers-develop",
}

// A Provider is a directory with a manage.py and units/, and what its manage.py says of it.
type Provider struct {
	Dir         string
	Name        string
	Namespace   string
	Version     string
	Description string
}

var setupArgument = regexp.MustCompile(`(?m)^\s*(name|namespace|version)\s*=\s*(?:N_\(\s*)?['"]([^'"\n]+)['"]`)

// ReadProvider reads the name, namespace and version that dir/manage.py gives to setup().
func ReadProvider(dir string) (Provider, error) {
	text, err := os.ReadFile(filepath.Join(dir, "manage.py"))
	if err != nil {
		return Provider{}, fmt.Errorf("cannot use %s as a Checkbox provider: %w", dir, err)
	}
	p, err := parseProvider(dir, string(text))
	if err != nil {
		return Provider{}, err
	}
	if info, err := os.Stat(filepath.Join(dir, "units")); err != nil || !info.IsDir() {
		return Provider{}, fmt.Errorf("cannot use %s as a Checkbox provider: it has no units directory", dir)
	}
	return p, nil
}

// parseProvider reads a manage.py.
func parseProvider(dir, text string) (Provider, error) {
	p := Provider{Dir: dir, Version: "1.0"}
	for _, m := range setupArgument.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "name":
			p.Name = m[2]
		case "namespace":
			p.Namespace = m[2]
		case "version":
			p.Version = m[2]
		}
	}
	if p.Name == "" {
		return Provider{}, fmt.Errorf("cannot use %s as a Checkbox provider: its manage.py gives setup() no name", dir)
	}
	return p, nil
}

// FindProviders returns the directories with a provider at path: path itself, or those below it, two levels deep, as a resource that
// was unpacked may have them.
func FindProviders(path string) ([]Provider, error) {
	var dirs []string
	for _, pattern := range []string{"manage.py", "*/manage.py", "*/*/manage.py"} {
		found, err := filepath.Glob(filepath.Join(path, pattern))
		if err != nil {
			return nil, fmt.Errorf("cannot look for Checkbox providers in %s: %w", path, err)
		}
		for _, f := range found {
			dirs = append(dirs, filepath.Dir(f))
		}
		if len(found) > 0 {
			break
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("cannot find a Checkbox provider (a directory with manage.py and units) in %s", path)
	}
	var providers []Provider
	for _, dir := range dirs {
		p, err := ReadProvider(dir)
		if err != nil {
			return nil, err
		}
		providers = append(providers, p)
	}
	return providers, nil
}

// ProviderPath is the value of PROVIDERPATH that has the checkbox-cli at program find the providers that WriteProviders has put into dir,
// beside those of the system and, where it runs from a virtual environment, those that were installed there.
func ProviderPath(dir, program string) string {
	dirs := append([]string{dir}, standardProviders...)
	if own := filepath.Join(filepath.Dir(filepath.Dir(program)), "share", "plainbox-providers-1"); !slices.Contains(dirs, own) {
		if info, err := os.Stat(own); err == nil && info.IsDir() {
			dirs = append(dirs, own)
		}
	}
	return strings.Join(dirs, ":")
}

// WriteProviders writes one .provider file for each provider into dir, which it empties of others.
func WriteProviders(dir string, providers []Provider) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot announce providers to Checkbox: %w", err)
	}
	old, _ := filepath.Glob(filepath.Join(dir, "*.provider"))
	wanted := make(map[string]string)
	for _, p := range providers {
		var w iniWriter
		w.section("PlainBox Provider")
		w.set("name", p.Name)
		if p.Namespace != "" {
			w.set("namespace", p.Namespace)
		}
		w.set("version", p.Version)
		w.set("location", p.Dir)
		if w.err != nil {
			return w.err
		}
		file := strings.Map(func(r rune) rune {
			if r == '/' || r == ':' {
				return '.'
			}
			return r
		}, p.Namespace+"-"+p.Name) + ".provider"
		wanted[filepath.Join(dir, file)] = w.String()
	}
	for _, path := range old {
		if _, ok := wanted[path]; !ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot withdraw a provider from Checkbox: %w", err)
			}
		}
	}
	for path, text := range wanted {
		if now, err := os.ReadFile(path); err == nil && string(now) == text {
			continue
		}
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			return fmt.Errorf("cannot announce a provider to Checkbox: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("cannot announce a provider to Checkbox: %w", err)
		}
	}
	return nil
}

// SideloadDir is where every Checkbox, snaps too, looks for providers by their manage.py. A snap sets PROVIDERPATH itself.
const SideloadDir = "/var/tmp/checkbox-providers"

// sideloaded begins the names of the directories that Sideload makes.
const sideloaded = "certlab-"

// Sideload copies providers to where a snap finds them, and removes those that it has copied before and that are not wanted any more:
// a provider there comes before one of the same name from elsewhere. Checkbox does not follow links there.
func Sideload(dir string, providers []Provider) error {
	wanted := make(map[string]bool)
	for _, p := range providers {
		target := filepath.Join(dir, sideloaded+filepath.Base(p.Name))
		temporary := target + ".new"
		wanted[target] = true
		if err := os.RemoveAll(temporary); err != nil {
			return fmt.Errorf("cannot sideload provider %s: %w", p.Name, err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cannot sideload provider %s: %w", p.Name, err)
		}
		if err := os.CopyFS(temporary, os.DirFS(p.Dir)); err != nil {
			return fmt.Errorf("cannot sideload provider %s: %w", p.Name, err)
		}
		if err := errors.Join(os.RemoveAll(target), os.Rename(temporary, target)); err != nil {
			return fmt.Errorf("cannot sideload provider %s: %w", p.Name, err)
		}
	}
	old, _ := filepath.Glob(filepath.Join(dir, sideloaded+"*"))
	for _, target := range old {
		if !wanted[target] {
			if err := os.RemoveAll(target); err != nil {
				return fmt.Errorf("cannot withdraw a sideloaded provider: %w", err)
			}
		}
	}
	return nil
}
