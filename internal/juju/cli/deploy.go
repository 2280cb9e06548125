package cli

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"

	"gopkg.in/yaml.v2"

	"certlab/internal/juju"
)

// A deployer holds the options of `juju deploy`.
type deployer struct {
	c           *call
	units       int
	to          string
	config      []string
	storage     []string
	resources   []string
	constraints []string
	base        string
	overlays    []string
	mapMachines string
	channel     string
	revision    int
	trust       bool
	dryRun      bool
	force       bool
}

func deployCommand(c *call) func([]string) (func() error, error) {
	d := &deployer{c: c, units: 1, revision: -1}
	c.flags.integer(&d.units, "n,num-units", "Number of application units to deploy for principal charms")
	c.flags.str(&d.to, "to", "The machine to deploy the unit in, bypassing constraints")
	c.flags.list(&d.config, "config", "Either a path to yaml-formatted application config file or a key=value pair")
	c.flags.list(&d.storage, "storage", "Charm storage directives")
	c.flags.list(&d.resources, "resource", "Resource to be uploaded to the controller")
	c.flags.list(&d.constraints, "constraints", "Set application constraints")
	c.flags.str(&d.base, "base", "The base on which to deploy")
	c.flags.list(&d.overlays, "overlay", "Bundles to overlay on the primary bundle, applied in order")
	c.flags.str(&d.mapMachines, "map-machines", "Specify the existing machines to use for bundle deployments")
	c.flags.str(&d.channel, "channel", "Channel to use when deploying a charm or bundle from Charmhub; the local lab has none")
	c.flags.integer(&d.revision, "revision", "The revision to deploy from Charmhub; the local lab has none")
	c.flags.boolean(&d.trust, "trust", "Allows charm to run hooks that require access credentials")
	c.flags.boolean(&d.dryRun, "dry-run", "Just show what the deploy would do")
	c.flags.boolean(&d.force, "force", "Allow a charm/bundle to be deployed which bypasses checks such as supported base")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no charm or bundle specified")
		}
		if len(args) > 2 {
			return nil, fmt.Errorf("unrecognized args: %q", args[2:])
		}
		name := ""
		if len(args) == 2 {
			name = args[1]
			if err := checkApplicationName(name); err != nil {
				return nil, err
			}
		}
		if d.units < 1 && c.flags.flags["n"].given {
			return nil, errors.New("--num-units must be a positive integer")
		}
		return func() error { return d.run(args[0], name) }, nil
	}
}

// checkApplicationName says what is wrong with the name of an application.
func checkApplicationName(name string) error {
	for _, r := range name {
		if unicode.IsUpper(r) {
			return fmt.Errorf("invalid application name %q, unexpected uppercase character", name)
		}
		if r != '-' && !unicode.IsDigit(r) && (r < 'a' || r > 'z') {
			return fmt.Errorf("invalid application name %q, unexpected character %c", name, r)
		}
	}
	if !unitName.MatchString(name + "/0") {
		return fmt.Errorf("invalid application name %q", name)
	}
	return nil
}

func (d *deployer) run(path, name string) error {
	info, err := os.Stat(d.c.path(path))
	if err != nil {
		if !isPath(path) {
			return fmt.Errorf("cannot deploy %q: the local lab has no Charmhub (give the path of a charm or a bundle, such as ./%s.charm)", path, path)
		}
		return fmt.Errorf("no charm was found at %q", path)
	}
	if info.IsDir() {
		return fmt.Errorf("attempting to deploy %q: deploying from directory not supported", path)
	}
	if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") {
		if name != "" {
			return errors.New("bundle deployment does not take an application name")
		}
		return d.bundle(path)
	}
	if d.mapMachines != "" || len(d.overlays) > 0 {
		return errors.New("options provided but not supported when deploying a charm: --map-machines, --overlay")
	}
	return d.charm(path, name)
}

func isPath(path string) bool {
	return strings.HasPrefix(path, ".") || strings.HasPrefix(path, "/") || strings.ContainsRune(path, filepath.Separator) || strings.HasSuffix(path, ".charm")
}

func (d *deployer) charm(path, name string) error {
	c := d.c
	ch, err := juju.ReadCharm(c.path(path))
	if err != nil {
		return fmt.Errorf("attempting to deploy %q: %w", path, err)
	}
	if name == "" {
		name = ch.Name
	}
	deployment := juju.Deployment{Name: name, Units: d.units, Trust: d.trust, Options: map[string]string{}, Storage: map[string]string{}, Resources: map[string]juju.Resource{}}
	if d.to != "" {
		deployment.Placement = strings.Split(d.to, ",")
	}
	for _, item := range d.config {
		if err := d.option(item, name, deployment.Options); err != nil {
			return err
		}
	}
	if deployment.Constraints, err = parseConstraints(strings.Join(d.constraints, " ")); err != nil {
		return err
	}
	for _, item := range d.storage {
		label, directive, ok := strings.Cut(item, "=")
		if !ok {
			return fmt.Errorf("cannot parse storage directives: expected \"<store>=<directive>\", got %q", item)
		}
		deployment.Storage[label] = directive
	}
	for _, item := range d.resources {
		label, file, ok := strings.Cut(item, "=")
		if !ok || label == "" || file == "" {
			return fmt.Errorf("expected \"key=value\", got %q", item)
		}
		if deployment.Resources[label], err = c.resource(label, file, c.Dir); err != nil {
			return err
		}
	}
	base := ch.PreferredBase()
	if d.base != "" {
		if base, err = parseBase(d.base); err != nil {
			return err
		}
		if !d.force && !ch.SupportsBase(base) {
			return fmt.Errorf("base %q not supported by charm, the charm supported bases are: %s", d.base, supportedBases(ch))
		}
	}
	deployment.Base = base
	if d.dryRun {
		c.infof("%q from local charm %q would be deployed on %s", name, ch.Name, base.String()+"/stable")
		return nil
	}
	stored, err := c.upload(ch)
	if err != nil {
		return err
	}
	c.infof("Located local charm %q, revision %d", stored.Name, stored.Revision)
	c.infof("Deploying %q from local charm %q, revision %d on %s/stable", name, stored.Name, stored.Revision, base)
	deployment.Charm = stored
	return c.addApplication(deployment)
}

// upload stores a charm in the model.
func (c *call) upload(ch *juju.Charm) (*juju.Charm, error) {
	var stored *juju.Charm
	err := c.Env.Model.Update(func(s *juju.State) error {
		stored = s.AddCharm(ch)
		return nil
	})
	return stored, err
}

func (c *call) addApplication(d juju.Deployment) error {
	return c.Env.Model.Update(func(s *juju.State) error {
		if missing := s.CheckAssumes(d.Charm); missing != "" {
			return fmt.Errorf("cannot deploy %q: Charm cannot be deployed because:\n%s", d.Name, indent(missing))
		}
		if _, err := s.AddApplication(d, c.Env.Model.Now()); err != nil {
			return fmt.Errorf("cannot deploy %q: %w", d.Name, err)
		}
		return nil
	})
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// option reads one --config: name=value, name=@file, or a YAML file with options below the application's name.
func (d *deployer) option(item, application string, options map[string]string) error {
	c := d.c
	if key, value, ok := strings.Cut(item, "="); ok {
		text, err := c.valueOrFile(value)
		if err != nil {
			return err
		}
		options[key] = text
		return nil
	}
	data, err := c.readFile(item, maxParams)
	if err != nil {
		return err
	}
	var file map[string]map[string]any
	if err := yaml.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("cannot parse %q: %w", item, err)
	}
	for key, value := range file[application] {
		options[key] = optionText(value)
	}
	return nil
}

// optionText is an option's value from YAML as text.
func optionText(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// maxOption bounds a value that is read from a file by name=@file.
const maxOption = 5 << 20

func (c *call) valueOrFile(value string) (string, error) {
	file, ok := strings.CutPrefix(value, "@")
	if !ok {
		return value, nil
	}
	data, err := c.readFile(file, maxOption)
	if err != nil {
		return "", fmt.Errorf("cannot read option from file %q: %w", file, err)
	}
	return string(data), nil
}

// resource describes a file that is attached to an application.
func (c *call) resource(name, file, dir string) (juju.Resource, error) {
	path := file
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, file)
	}
	f, err := os.Open(path)
	if err != nil {
		return juju.Resource{}, fmt.Errorf("resource %q: open %s: no such file or directory", name, file)
	}
	defer f.Close()
	sum := sha512.New384()
	size, err := io.Copy(sum, f)
	if err != nil {
		return juju.Resource{}, fmt.Errorf("cannot read resource %q: %w", name, err)
	}
	return juju.Resource{Name: name, Path: path, Size: size, SHA384: hex.EncodeToString(sum.Sum(nil))}, nil
}

func parseBase(text string) (juju.Base, error) {
	name, channel, ok := strings.Cut(text, "@")
	channel, _, _ = strings.Cut(channel, "/")
	if !ok || name == "" || channel == "" {
		return juju.Base{}, fmt.Errorf("expected base string to contain os and channel separated by '@', got %q", text)
	}
	return juju.Base{Name: name, Channel: channel}, nil
}

func supportedBases(ch *juju.Charm) string {
	var names []string
	for _, b := range ch.Manifest.Bases {
		names = append(names, b.Name+"@"+b.Channel.Track)
	}
	return strings.Join(names, ", ")
}

// modelArchitecture is what charms are uploaded for when no constraint names another.
func modelArchitecture(constraints string) string {
	for _, part := range strings.Fields(constraints) {
		if arch, ok := strings.CutPrefix(part, "arch="); ok {
			return arch
		}
	}
	return runtime.GOARCH
}
