package pack

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/juju/charm/v12"
	"gopkg.in/yaml.v3"
)

const (
	dispatchFile = "dispatch"

	// Bounds on what is read of a charm.
	maxEntries = 10_000
	maxFile    = 256 << 20
	maxText    = 4 << 20
)

// Charm is a .charm file that was read.
type Charm struct {
	Path          string
	Name          string
	Architectures []string
	Archive       *charm.CharmArchive
}

// Read reads a .charm file as Juju does. It checks no more than Juju would; see Verify.
func Read(path string) (c *Charm, err error) {
	defer crashed(&err, "cannot read charm "+path)
	archive, err := charm.ReadCharmArchive(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read charm %s: %w", path, err)
	}
	c = &Charm{Path: path, Name: archive.Meta().Name, Archive: archive}
	if m := archive.Manifest(); m != nil {
		for _, base := range m.Bases {
			c.Architectures = append(c.Architectures, base.Architectures...)
		}
	}
	return c, nil
}

// crashed makes an error of a crash of Juju's own readers, such as of an empty key.
func crashed(err *error, what string) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%s: it cannot be read as Juju reads it: %v", what, v)
	}
}

// Verify checks a .charm file: that Juju can read and deploy it, that its programs are for the architecture that it names, and
// what Charmhub's reviewers and Juju's two major versions stumble over. The error has a line for each problem.
func Verify(path string) error {
	v := &verifier{path: path, files: make(map[string]*zip.File)}
	if err := v.open(); err != nil {
		return err
	}
	defer v.zip.Close()
	v.entries()
	v.metadata()
	v.config()
	v.actions()
	v.manifest()
	v.programs()
	v.icon()
	return v.err()
}

type verifier struct {
	path     string
	zip      *zip.ReadCloser
	files    map[string]*zip.File
	charm    *Charm
	problems []error
}

func (v *verifier) bad(format string, args ...any) {
	v.problems = append(v.problems, fmt.Errorf(format, args...))
}

func (v *verifier) err() error {
	if len(v.problems) == 0 {
		return nil
	}
	return fmt.Errorf("charm %s:\n%w", v.path, errors.Join(v.problems...))
}

func (v *verifier) open() error {
	archive, err := zip.OpenReader(v.path)
	if err != nil {
		return fmt.Errorf("cannot open charm %s: %w", v.path, err)
	}
	v.zip = archive
	if v.charm, err = Read(v.path); err != nil {
		archive.Close()
		return err
	}
	return nil
}

// entries checks names, kinds and the files that a charm must have.
func (v *verifier) entries() {
	if len(v.zip.File) > maxEntries {
		v.bad("more than %d files", maxEntries)
		return
	}
	for _, f := range v.zip.File {
		switch {
		case !fs.ValidPath(strings.TrimSuffix(f.Name, "/")) || strings.Contains(f.Name, `\`):
			v.bad("%q is not a plain path", f.Name)
		case !f.Mode().IsRegular() && !f.Mode().IsDir():
			v.bad("%s is not a plain file", f.Name)
		case f.UncompressedSize64 > maxFile:
			v.bad("%s is larger than %d bytes", f.Name, int64(maxFile))
		case v.files[f.Name] != nil:
			v.bad("%s is there twice", f.Name)
		}
		v.files[f.Name] = f
	}
	for _, name := range []string{"metadata.yaml", "manifest.yaml", dispatchFile, "icon.svg", "LICENSE", "README.md"} {
		if v.files[name] == nil {
			v.bad("%s is missing", name)
		}
	}
}

func (v *verifier) read(name string, max int64) []byte {
	f := v.files[name]
	if f == nil {
		return nil
	}
	r, err := f.Open()
	if err != nil {
		v.bad("%s: %w", name, err)
		return nil
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("larger than %d bytes", max)
	}
	if err != nil {
		v.bad("%s: %w", name, err)
		return nil
	}
	return data
}

// yaml reads a YAML file of the charm into out, which stays as it is if there is none.
func (v *verifier) yaml(name string, out any) {
	data := v.read(name, maxText)
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		v.bad("%s: %w", name, err)
		return
	}
	if err := repeatedKey(&document); err != nil {
		v.bad("%s: %w", name, err)
		return
	}
	for _, problem := range ambiguousKeys("", &document) {
		v.bad("%s: %w", name, problem)
	}
	if err := document.Decode(out); err != nil && data != nil {
		v.bad("%s: %w", name, err)
	}
}

// validName is Juju's rule for actions and Charmhub's for everything with a name.
var validName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

func (v *verifier) metadata() {
	var m struct {
		Name        string
		DisplayName string `yaml:"display-name"`
		Summary     string
		Description string
		Assumes     []any
		Requires    map[string]map[string]any
		Provides    map[string]map[string]any
		Peers       map[string]map[string]any
		Storage     map[string]map[string]any
		Resources   map[string]map[string]any
	}
	v.yaml("metadata.yaml", &m)
	if !validName.MatchString(m.Name) {
		v.bad("metadata.yaml: invalid name %q", m.Name)
	}
	for key, value := range map[string]string{"display-name": m.DisplayName, "summary": m.Summary, "description": m.Description} {
		if strings.TrimSpace(value) == "" {
			v.bad("metadata.yaml: %s is missing", key)
		}
	}
	if len(m.Assumes) == 0 {
		v.bad("metadata.yaml: assumes is missing (name the Juju that the charm needs)")
	}
	for list, endpoints := range map[string]map[string]map[string]any{"requires": m.Requires, "provides": m.Provides} {
		for _, name := range sortedKeys(endpoints) {
			if _, ok := endpoints[name]["optional"].(bool); !ok {
				v.bad("metadata.yaml: %s.%s has no optional: true or false", list, name)
			}
		}
	}
	for list, things := range map[string]map[string]map[string]any{
		"requires": m.Requires, "provides": m.Provides, "peers": m.Peers, "storage": m.Storage, "resources": m.Resources,
	} {
		for _, name := range sortedKeys(things) {
			if !validName.MatchString(name) {
				v.bad("metadata.yaml: %s.%s: the name is not of a-z, 0-9 and -", list, name)
			}
		}
	}
}

func (v *verifier) config() {
	var c struct {
		Options map[string]struct {
			Type        string
			Description string
			Default     any
		}
	}
	v.yaml("config.yaml", &c)
	types := []string{"string", "int", "float", "boolean", "secret"}
	for _, name := range sortedKeys(c.Options) {
		o := c.Options[name]
		if !validName.MatchString(name) {
			v.bad("config.yaml: option %s: the name is not of a-z, 0-9 and -", name)
		}
		if !slices.Contains(types, o.Type) {
			v.bad("config.yaml: option %s: type %q is not one of %s", name, o.Type, strings.Join(types, ", "))
		}
		if strings.TrimSpace(o.Description) == "" {
			v.bad("config.yaml: option %s has no description", name)
		}
	}
}

// action is one action of actions.yaml.
type action struct {
	Description          string
	Parallel             *bool
	ExecutionGroup       string `yaml:"execution-group"`
	Params               map[string]map[string]any
	Required             []string
	AdditionalProperties *bool `yaml:"additionalProperties"`
}

// parameterTypes are what can be trusted to arrive: Juju 4.0.15 hands lists and objects to a charm as the text that Go prints.
var parameterTypes = []string{"string", "integer", "number", "boolean"}

func (v *verifier) actions() {
	actions := make(map[string]action)
	v.yaml("actions.yaml", &actions)
	for _, name := range sortedKeys(actions) {
		a := actions[name]
		bad := func(format string, args ...any) {
			v.bad("actions.yaml: action %s: %s", name, fmt.Sprintf(format, args...))
		}
		if !validName.MatchString(name) {
			bad("the name is not of a-z, 0-9 and -")
		}
		if strings.TrimSpace(a.Description) == "" {
			bad("no description")
		}
		if a.AdditionalProperties == nil || *a.AdditionalProperties {
			bad("additionalProperties is not false (the default differs between Juju 3 and 4)")
		}
		for _, param := range sortedKeys(a.Params) {
			p := a.Params[param]
			if !validName.MatchString(param) {
				bad("parameter %s: the name is not of a-z, 0-9 and -", param)
			}
			kind, _ := p["type"].(string)
			if !slices.Contains(parameterTypes, kind) {
				bad("parameter %s: type %q is not one of %s", param, p["type"], strings.Join(parameterTypes, ", "))
			} else if def, ok := p["default"]; ok && !fits(kind, def) {
				bad("parameter %s: default %v is no %s", param, def, kind)
			}
			if text, _ := p["description"].(string); strings.TrimSpace(text) == "" {
				bad("parameter %s has no description", param)
			}
			for _, key := range []string{"$ref", "$schema"} {
				if _, ok := p[key]; ok {
					bad("parameter %s: Juju rejects %s", param, key)
				}
			}
		}
		for _, param := range a.Required {
			if _, ok := a.Params[param]; !ok {
				bad("required parameter %s is not among its parameters", param)
			}
		}
	}
}

// fits reports whether a value read from YAML is of a parameter's type.
func fits(kind string, value any) bool {
	switch value.(type) {
	case string:
		return kind == "string"
	case bool:
		return kind == "boolean"
	case int, int64, uint64:
		return kind == "integer" || kind == "number"
	case float64:
		return kind == "number"
	}
	return false
}

func (v *verifier) manifest() {
	m := v.charm.Archive.Manifest()
	if m == nil || len(m.Bases) == 0 {
		v.bad("manifest.yaml: no bases (Juju does not deploy such a charm)")
		return
	}
	if len(v.charm.Architectures) != 1 {
		v.bad("manifest.yaml: architectures are %v, not one", v.charm.Architectures)
		return
	}
	if want := FileName(v.charm.Name, v.charm.Architectures[0]); filepath.Base(v.path) != want {
		v.bad("the file's name is not %s", want)
	}
}

// machines are ELF's names for architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func (v *verifier) programs() {
	for _, name := range sortedKeys(v.files) {
		if name != dispatchFile && !strings.HasPrefix(name, "bin/") || strings.HasSuffix(name, "/") {
			continue
		}
		if v.files[name].Mode()&0o111 != 0o111 {
			v.bad("%s is not executable", name)
		}
		data := v.read(name, maxFile)
		if data == nil {
			continue
		}
		program, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			v.bad("%s is not a program: %w", name, err)
			continue
		}
		for _, architecture := range v.charm.Architectures {
			// A program for other machines says in its name for which: NAME_ARCHITECTURE.
			if _, other, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "_"); ok && machines[other] != elf.EM_NONE {
				architecture = other
			}
			if want, ok := machines[architecture]; !ok || program.Machine != want {
				v.bad("%s is for %s, and has to be for %s", name, program.Machine, architecture)
			}
		}
		for _, segment := range program.Progs {
			if segment.Type == elf.PT_INTERP {
				v.bad("%s needs the machine's C library (build it with CGO_ENABLED=0)", name)
			}
		}
	}
}

// icon checks that the icon is an SVG of 100 by 100, which is what Charmhub asks for.
func (v *verifier) icon() {
	data := v.read("icon.svg", maxText)
	if data == nil {
		return
	}
	var svg struct {
		XMLName xml.Name
		Width   string `xml:"width,attr"`
		Height  string `xml:"height,attr"`
		ViewBox string `xml:"viewBox,attr"`
	}
	if err := xml.Unmarshal(data, &svg); err != nil || svg.XMLName.Local != "svg" {
		v.bad("icon.svg is not an SVG image")
		return
	}
	width, height := strings.TrimSuffix(svg.Width, "px"), strings.TrimSuffix(svg.Height, "px")
	if width == "" && height == "" && strings.Join(strings.Fields(svg.ViewBox), " ") == "0 0 100 100" {
		return
	}
	if width != "100" || height != "100" {
		v.bad("icon.svg is %sx%s, not 100x100", svg.Width, svg.Height)
	}
}
