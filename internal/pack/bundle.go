package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/juju/charm/v12"
	"gopkg.in/yaml.v3"
)

// bundleKeys are what Juju 4.0 knows in a bundle; it ignores other keys with a warning, and so a mistyped one.
var (
	bundleKeys      = []string{"bundle", "applications", "machines", "saas", "default-base", "relations", "tags", "description"}
	applicationKeys = []string{
		"charm", "channel", "revision", "base", "resources", "num_units", "scale", "to", "placement", "expose", "options", "annotations",
		"constraints", "storage", "devices", "bindings", "plan", "trust",
	}
	machineKeys    = []string{"constraints", "annotations", "base"}
	constraintKeys = []string{
		"arch", "cores", "cpu-cores", "cpu-power", "mem", "root-disk", "root-disk-source", "tags", "zones", "spaces", "virt-type",
		"instance-type", "instance-role", "container", "allocate-public-ip", "image-id",
	}
)

var (
	size                  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[MGTPEZY]?(i?B)?$`)
	number                = regexp.MustCompile(`^[0-9]+$`)
	applicationName       = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*$`)
	storageName           = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*$`)
	maxBundle       int64 = 4 << 20
)

// VerifyBundle checks a local bundle file against the charms that it names: everything that charm.VerifyWithCharms does, and what
// `juju deploy --dry-run` lets pass (endpoints, options, unquoted storage, keys that nobody reads), because a real deploy stops in
// the middle of such a bundle and undoes nothing. Charms are looked for in the directory charms by the name of their file, or,
// if charms is empty, where the bundle says, relative to the bundle. The error has a line for each problem.
func VerifyBundle(path, charms string) (err error) {
	defer crashed(&err, "cannot read bundle "+path)
	data, err := readBounded(path, maxBundle)
	if err != nil {
		return fmt.Errorf("cannot read bundle: %w", err)
	}
	b := &bundleVerifier{path: path}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&document); err != nil {
		return fmt.Errorf("cannot read bundle %s: %w", path, err)
	}
	if err := decoder.Decode(new(yaml.Node)); err != io.EOF {
		b.bad("more than one document: overlays are files of their own (--overlay)")
	}
	if err := repeatedKey(&document); err != nil {
		return fmt.Errorf("cannot read bundle %s: %w", path, err)
	}
	for _, problem := range ambiguousKeys("", &document) {
		b.bad("%w", problem)
	}
	var raw rawBundle
	if err := document.Decode(&raw); err != nil {
		b.bad("%w", err)
		return b.err()
	}
	b.keys(raw)
	bundle, err := charm.ReadBundleData(bytes.NewReader(data))
	if err != nil {
		b.bad("%w", err)
		return b.err()
	}
	if bundle == nil { // the reader's answer to a document that is nothing, such as an anchor alone
		b.bad("it is empty: it needs applications")
		return b.err()
	}
	for _, name := range sortedKeys(bundle.Applications) {
		if bundle.Applications[name] == nil { // Juju's own reader crashes on it
			b.bad("application %q is empty: it needs a charm", name)
			return b.err()
		}
	}
	b.applications(bundle, charms)
	return b.err()
}

func readBounded(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s is larger than %d bytes", path, max)
	}
	return data, err
}

// rawBundle is a bundle before charm.BundleData has dropped what it does not know.
type rawBundle map[string]yaml.Node

type bundleVerifier struct {
	path     string
	problems []error
}

func (b *bundleVerifier) bad(format string, args ...any) {
	b.problems = append(b.problems, fmt.Errorf(format, args...))
}

func (b *bundleVerifier) err() error {
	if len(b.problems) == 0 {
		return nil
	}
	return fmt.Errorf("bundle %s:\n%w", b.path, errors.Join(b.problems...))
}

func (b *bundleVerifier) keys(raw rawBundle) {
	for _, key := range sortedKeys(raw) {
		if !slices.Contains(bundleKeys, key) {
			b.bad("Juju does not read %s", key)
		}
	}
	section := func(name string, known []string, check func(at string, key string, value yaml.Node)) {
		node, ok := raw[name]
		if !ok {
			return
		}
		var entries map[string]map[string]yaml.Node
		if err := node.Decode(&entries); err != nil {
			b.bad("%s: %w", name, err)
			return
		}
		for _, entry := range sortedKeys(entries) {
			for _, key := range sortedKeys(entries[entry]) {
				at := name + "." + entry + "." + key
				if !slices.Contains(known, key) {
					b.bad("Juju does not read %s", at)
				}
				check(at, key, entries[entry][key])
			}
		}
	}
	section("applications", applicationKeys, func(at, key string, value yaml.Node) {
		if key == "storage" {
			b.storage(at, value)
		}
	})
	section("machines", machineKeys, func(string, string, yaml.Node) {})
}

// storage finds {data: rootfs,1,100M}, which YAML takes for three keys.
func (b *bundleVerifier) storage(at string, node yaml.Node) {
	var entries map[string]any
	if err := node.Decode(&entries); err != nil {
		b.bad("%s: %w", at, err)
		return
	}
	for _, name := range sortedKeys(entries) {
		if entries[name] == nil {
			b.bad("%s.%s has no value (quote a storage directive with commas: \"rootfs,1,10G\")", at, name)
		}
	}
}

func (b *bundleVerifier) applications(bundle *charm.BundleData, dir string) {
	charms := make(map[string]charm.Charm)
	if bundle.Series != "" {
		b.bad("series: Juju 4 has no series (use default-base)")
	}
	for _, name := range sortedKeys(bundle.Applications) {
		app := bundle.Applications[name]
		if app == nil {
			continue
		}
		if !applicationName.MatchString(name) {
			b.bad("invalid application name %q", name)
		}
		if !strings.HasPrefix(app.Charm, ".") && !filepath.IsAbs(app.Charm) {
			b.bad("application %s: charm %q is not a local file", name, app.Charm)
			continue
		}
		file := filepath.Join(filepath.Dir(b.path), app.Charm)
		if filepath.IsAbs(app.Charm) {
			file = app.Charm
		}
		if dir != "" {
			file = filepath.Join(dir, filepath.Base(app.Charm))
		}
		file, err := filepath.Abs(file)
		if err != nil {
			b.bad("application %s: %w", name, err)
			continue
		}
		c, err := Read(file)
		if err != nil {
			b.bad("application %s: %w", name, err)
			continue
		}
		app.Charm = file // VerifyWithCharms looks for relative paths below the working directory
		charms[file] = c.Archive
		b.application(name, app, bundle, c)
	}
	for _, relation := range bundle.Relations {
		for _, endpoint := range relation {
			if !strings.Contains(endpoint, ":") {
				b.bad("relation %v: name the endpoint of %s (APPLICATION:ENDPOINT)", relation, endpoint)
			}
		}
	}
	err := bundle.VerifyWithCharms(verifyConstraints, verifyStorage, nil, charms)
	var problems *charm.VerificationError
	switch {
	case errors.As(err, &problems):
		b.problems = append(b.problems, problems.Errors...)
	case err != nil:
		b.bad("%w", err)
	}
}

// application checks what VerifyWithCharms does not look at.
func (b *bundleVerifier) application(name string, app *charm.ApplicationSpec, bundle *charm.BundleData, c *Charm) {
	meta := c.Archive.Meta()
	for _, storage := range sortedKeys(app.Storage) {
		if _, ok := meta.Storage[storage]; !ok {
			b.bad("application %s: its charm has no storage %s", name, storage)
		}
	}
	for _, resource := range sortedKeys(app.Resources) {
		if _, ok := meta.Resources[resource]; !ok {
			b.bad("application %s: its charm has no resource %s", name, resource)
		}
	}
	base := app.Base
	if base == "" {
		base = bundle.DefaultBase
	}
	if base == "" {
		b.bad("application %s has no base (Juju would take the first of the charm's, whatever the machine has)", name)
	} else if want, err := charm.ParseBase(base); err == nil && !slices.ContainsFunc(c.Archive.Manifest().Bases, func(has charm.Base) bool {
		return has.Name == want.Name && has.Channel.Track == want.Channel.Track
	}) {
		b.bad("application %s: its charm is not for %s", name, base)
	}
	if arch := constraint(app.Constraints, "arch"); arch != "" && !slices.Contains(c.Architectures, arch) {
		b.bad("application %s: constraint arch=%s, but its charm is for %s", name, arch, strings.Join(c.Architectures, ", "))
	}
	for _, to := range app.To {
		if m := bundle.Machines[to]; m != nil {
			if arch := constraint(m.Constraints, "arch"); arch != "" && !slices.Contains(c.Architectures, arch) {
				b.bad("application %s on machine %s: constraint arch=%s, but its charm is for %s", name, to, arch, strings.Join(c.Architectures, ", "))
			}
		}
	}
	if len(app.To) > 0 && len(app.To) < app.NumUnits {
		b.bad("application %s has %d units and places %d of them", name, app.NumUnits, len(app.To))
	}
}

func constraint(text, key string) string {
	for _, field := range strings.Fields(text) {
		if k, v, ok := strings.Cut(field, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// verifyConstraints checks Juju's constraints syntax.
func verifyConstraints(text string) error {
	seen := make(map[string]bool)
	for _, field := range strings.Fields(text) {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return fmt.Errorf("malformed constraint %q", field)
		}
		if !slices.Contains(constraintKeys, key) {
			return fmt.Errorf("unknown constraint %q", key)
		}
		if seen[key] {
			return fmt.Errorf("constraint %q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "mem", "root-disk":
			if value != "" && !size.MatchString(value) {
				return fmt.Errorf("constraint %s=%s is not a size such as 4G", key, value)
			}
		case "cores", "cpu-cores", "cpu-power":
			if value != "" && !number.MatchString(value) {
				return fmt.Errorf("constraint %s=%s is not a number", key, value)
			}
		case "arch":
			if _, ok := machines[value]; !ok {
				return fmt.Errorf("no charm of ours is for arch=%s", value)
			}
		case "allocate-public-ip":
			if value != "true" && value != "false" {
				return fmt.Errorf("constraint %s=%s is not true or false", key, value)
			}
		}
	}
	return nil
}

// verifyStorage checks a storage directive: a pool, a count and a size, in any order, each at most once.
func verifyStorage(text string) error {
	var pool, count, amount bool
	if text == "" {
		return errors.New("it is empty")
	}
	for _, field := range strings.Split(text, ",") {
		var is *bool
		switch {
		case number.MatchString(field):
			is = &count
			if field == "0" {
				return errors.New("a count of 0")
			}
		case size.MatchString(field):
			is = &amount
		case storageName.MatchString(field):
			is = &pool
		default:
			return fmt.Errorf("%q is no pool, count or size", field)
		}
		if *is {
			return fmt.Errorf("%q comes after another field of its kind", field)
		}
		*is = true
	}
	return nil
}
