package locallab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"certlab/internal/juju"
)

// maxBundle bounds a bundle's file, in bytes.
const maxBundle = 4 << 20

// A bundleApp is what the lab looks at in a bundle.
type bundleApp struct {
	Charm     string         `yaml:"charm"`
	Options   map[string]any `yaml:"options"`
	Resources map[string]any `yaml:"resources"`
}

// BundlePlan is what the lab adds to a bundle.
type BundlePlan struct {
	Applications []string // all that the bundle names
	Overlay      []byte   // empty if there is nothing to add
	Ports        []int    // of the host, that its controllers serve on
}

// PlanBundle reads a bundle with its overlays and makes the overlay that fits it to a local lab: charms is a directory whose files are
// used instead of those of the same name (empty for none), and checkbox the host's checkbox-cli (empty for none), which applications of
// the charms "checkbox" and "cert-controller" are told of unless they say themselves where theirs comes from. site is the archive of the
// lab's own programs, for controllers that have none (empty for none).
func PlanBundle(bundle string, overlays []string, charms, checkbox, site string) (BundlePlan, error) {
	apps := map[string]bundleApp{}
	for _, path := range append([]string{bundle}, overlays...) {
		more, err := readBundle(path)
		if err != nil {
			return BundlePlan{}, err
		}
		for name, app := range more {
			merged := apps[name]
			if app.Charm != "" {
				merged.Charm = resolveCharm(filepath.Dir(path), app.Charm)
			}
			merged.Options, merged.Resources = joined(merged.Options, app.Options), joined(merged.Resources, app.Resources)
			apps[name] = merged
		}
	}
	plan := BundlePlan{Applications: sortedNames(apps)}
	changes := map[string]map[string]any{}
	for _, name := range plan.Applications {
		app, change := apps[name], map[string]any{}
		if charms != "" {
			candidate := filepath.Join(charms, filepath.Base(app.Charm))
			if _, err := os.Stat(candidate); err == nil {
				app.Charm = candidate
				change["charm"] = candidate
			}
		}
		if charmName(app.Charm) == "cert-controller" {
			plan.Ports = append(plan.Ports, controllerPort(app))
		}
		maps.Copy(change, fitCharm(app, checkbox, site))
		if len(change) > 0 {
			changes[name] = change
		}
	}
	if len(changes) == 0 {
		return plan, nil
	}
	var err error
	plan.Overlay, err = yaml.Marshal(map[string]any{"applications": changes})
	return plan, err
}

// fitCharm is what the lab changes of an application, by what its charm is.
func fitCharm(app bundleApp, checkbox, site string) map[string]any {
	change := map[string]any{}
	switch charmName(app.Charm) {
	case "checkbox":
		if checkbox != "" && app.Options["checkbox-source"] == nil && app.Options["checkbox-path"] == nil {
			change["options"] = map[string]any{"checkbox-source": "path", "checkbox-path": checkbox}
		}
	case "cert-controller":
		if checkbox != "" && app.Options["deployed-checkbox-source"] == nil && app.Options["deployed-checkbox-path"] == nil {
			change["options"] = map[string]any{"deployed-checkbox-source": "path", "deployed-checkbox-path": checkbox}
		}
		if site != "" && app.Resources["site-programs"] == nil {
			change["resources"] = map[string]any{"site-programs": site}
		}
	}
	return change
}

// controllerPort is the port that a controller serves on, the charm's own unless the bundle says otherwise.
func controllerPort(app bundleApp) int {
	if port, ok := app.Options["port"].(int); ok {
		return port
	}
	return 8443
}

// joined returns both, and of what both have, the second.
func joined(a, b map[string]any) map[string]any {
	all := map[string]any{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// readBundle returns the applications of a bundle, or of an overlay, which may have several documents.
func readBundle(path string) (map[string]bundleApp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxBundle {
		return nil, fmt.Errorf("cannot read bundle: %s is not a file of at most %d bytes", path, maxBundle)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle: %w", err)
	}
	defer file.Close()
	apps := map[string]bundleApp{}
	decoder := yaml.NewDecoder(file)
	for first := true; ; first = false {
		var doc struct {
			Applications map[string]bundleApp `yaml:"applications"`
		}
		if err := decoder.Decode(&doc); err != nil {
			if first || !strings.Contains(err.Error(), "EOF") {
				return nil, fmt.Errorf("cannot read bundle %s: %w", path, err)
			}
			return apps, nil
		}
		for name, app := range doc.Applications {
			apps[name] = app
		}
	}
}

// resolveCharm makes a local charm's path absolute; relative ones begin at the bundle's directory, as Juju has it.
func resolveCharm(dir, charm string) string {
	if !strings.HasSuffix(charm, ".charm") || filepath.IsAbs(charm) {
		return charm
	}
	return filepath.Join(dir, charm)
}

// charmName is the name of the charm in a file, or else what the file is called.
func charmName(path string) string {
	if ch, err := juju.ReadCharm(path); err == nil {
		return ch.Name
	}
	name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".charm"), "_")
	return name
}

// FindCheckbox returns the host's checkbox-cli that a lab uses: named, or in the environment's CERTLAB_CHECKBOX, or that of the virtual
// environment .venv in dir or above it. It is empty if there is none.
func FindCheckbox(named string, env func(string) string, dir string) (string, error) {
	for _, path := range []string{named, env("CERTLAB_CHECKBOX")} {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("cannot use Checkbox: %w", err)
		}
		return path, nil
	}
	for {
		path := filepath.Join(dir, ".venv", "bin", "checkbox-cli")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}
