package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// ProjectFile is the file that a charm is made from.
const ProjectFile = "charmcraft.yaml"

// buildSource begins the source of a part that is compiled outside of charmcraft.
const buildSource = "build/"

// charmcraftVersion is the charmcraft whose layout is written; manifest.yaml names it.
const charmcraftVersion = "4.5.0"

// Project is a charmcraft.yaml.
type Project struct {
	Type        string              `yaml:"type"`
	Name        string              `yaml:"name"`
	Title       string              `yaml:"title"`
	Summary     string              `yaml:"summary"`
	Description string              `yaml:"description"`
	Links       Links               `yaml:"links"`
	Base        string              `yaml:"base"`
	Platforms   map[string]Platform `yaml:"platforms"`
	Parts       map[string]Part     `yaml:"parts"`
	Actions     map[string]any      `yaml:"actions"`
	Config      map[string]any      `yaml:"config"`

	// The rest goes to metadata.yaml as it is.
	Assumes       []any          `yaml:"assumes"`
	CharmUser     string         `yaml:"charm-user"`
	Requires      map[string]any `yaml:"requires"`
	Provides      map[string]any `yaml:"provides"`
	Peers         map[string]any `yaml:"peers"`
	Resources     map[string]any `yaml:"resources"`
	Storage       map[string]any `yaml:"storage"`
	ExtraBindings map[string]any `yaml:"extra-bindings"`
	Subordinate   bool           `yaml:"subordinate"`
	Terms         []string       `yaml:"terms"`
}

// Links are a project's links; each may be one text or several, but for Documentation.
type Links struct {
	Documentation string   `yaml:"documentation"`
	Contact       oneOrSet `yaml:"contact"`
	Issues        oneOrSet `yaml:"issues"`
	Source        oneOrSet `yaml:"source"`
	Website       oneOrSet `yaml:"website"`
}

// oneOrSet is a text, or a list of them; charmcraft writes it as it was.
type oneOrSet struct{ value any }

func (o *oneOrSet) UnmarshalYAML(node *yaml.Node) error {
	var one string
	if node.Kind == yaml.ScalarNode {
		err := node.Decode(&one)
		o.value = one
		return err
	}
	var set []string
	err := node.Decode(&set)
	o.value = set
	return err
}

// Platform says on what a charm is built and for what.
type Platform struct {
	BuildOn  []string `yaml:"build-on"`
	BuildFor []string `yaml:"build-for"`
}

// Part is a part of charmcraft's; only plugin dump is understood.
type Part struct {
	Plugin string   `yaml:"plugin"`
	Source string   `yaml:"source"`
	Stage  []string `yaml:"stage"`
}

// LoadProject reads a charmcraft.yaml and checks what packing relies on. A key that is not known is an error: it would be lost.
func LoadProject(path string) (*Project, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read charm project: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("cannot read charm project %s: %w", path, err)
	}
	if err := repeatedKey(&document); err != nil {
		return nil, fmt.Errorf("cannot read charm project %s: %w", path, err)
	}
	var p Project
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&p); err != nil {
		return nil, fmt.Errorf("cannot read charm project %s: %w", path, err)
	}
	if err := decoder.Decode(new(any)); err != io.EOF {
		return nil, fmt.Errorf("cannot read charm project %s: it has more than one document", path)
	}
	if err := p.check(data); err != nil {
		return nil, fmt.Errorf("charm project %s: %w", path, err)
	}
	return &p, nil
}

func (p *Project) check(data []byte) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if p.Type != "charm" {
		bad("type is %q, not charm", p.Type)
	}
	if !validName.MatchString(p.Name) {
		bad("invalid name %q", p.Name)
	}
	for key, value := range map[string]string{"title": p.Title, "summary": p.Summary, "description": p.Description} {
		if strings.TrimSpace(value) == "" {
			bad("%s is missing", key)
		}
	}
	if name, channel, ok := strings.Cut(p.Base, "@"); !ok || name == "" || channel == "" {
		bad("base is %q, not of the form ubuntu@24.04", p.Base)
	}
	if len(p.Platforms) == 0 {
		bad("platforms is missing")
	}
	for name, platform := range p.Platforms {
		if len(platform.BuildOn) == 0 || len(platform.BuildFor) != 1 {
			bad("platform %s needs build-on, and one architecture in build-for", name)
		}
	}
	if len(p.Parts) == 0 {
		bad("parts is missing")
	}
	for _, name := range sortedKeys(p.Parts) {
		part := p.Parts[name]
		if part.Plugin != "dump" || part.Source == "" || len(part.Stage) == 0 {
			bad("part %s needs plugin dump, a source, and in stage the files to take", name)
		}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		bad("%w", err)
	}
	problems = append(problems, ambiguousKeys("", &document)...)
	return errors.Join(problems...)
}

// files are the files that are made from the project.
func (p *Project) files(platform string) (map[string][]byte, error) {
	at, ok := p.Platforms[platform]
	if !ok {
		return nil, fmt.Errorf("cannot pack %s for %q: its platforms are %s", p.Name, platform, strings.Join(sortedKeys(p.Platforms), ", "))
	}
	texts := map[string]any{"metadata.yaml": p.metadata(), "manifest.yaml": p.manifest(at.BuildFor)}
	if len(p.Config) > 0 {
		texts["config.yaml"] = p.Config
	}
	if len(p.Actions) > 0 {
		texts["actions.yaml"] = p.Actions
	}
	files := make(map[string][]byte)
	for name, value := range texts {
		var b bytes.Buffer
		encoder := yaml.NewEncoder(&b)
		encoder.SetIndent(2)
		if err := encoder.Encode(value); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %s: %w", p.Name, name, err)
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

// metadata is metadata.yaml: the project with the names that Juju uses, and its links spread out.
func (p *Project) metadata() map[string]any {
	m := map[string]any{"name": p.Name, "display-name": p.Title, "summary": p.Summary, "description": p.Description}
	put := func(key string, value any, given bool) {
		if given {
			m[key] = value
		}
	}
	put("assumes", p.Assumes, p.Assumes != nil)
	put("charm-user", p.CharmUser, p.CharmUser != "")
	for key, value := range map[string]map[string]any{
		"requires": p.Requires, "provides": p.Provides, "peers": p.Peers, "resources": p.Resources, "storage": p.Storage,
		"extra-bindings": p.ExtraBindings,
	} {
		put(key, value, value != nil)
	}
	put("subordinate", true, p.Subordinate)
	put("terms", p.Terms, p.Terms != nil)
	put("docs", p.Links.Documentation, p.Links.Documentation != "")
	switch contact := p.Links.Contact.value.(type) {
	case string:
		m["maintainers"] = []string{contact}
	case []string:
		m["maintainers"] = contact
	}
	for key, value := range map[string]any{"issues": p.Links.Issues.value, "source": p.Links.Source.value, "website": p.Links.Website.value} {
		put(key, value, value != nil)
	}
	return m
}

// manifest is manifest.yaml. Charmcraft has the time of the build in it; here it is always the same.
func (p *Project) manifest(architectures []string) any {
	type base struct {
		Name          string   `yaml:"name"`
		Channel       string   `yaml:"channel"`
		Architectures []string `yaml:"architectures"`
	}
	type attribute struct {
		Name   string `yaml:"name"`
		Result string `yaml:"result"`
	}
	name, channel, _ := strings.Cut(p.Base, "@")
	return struct {
		Version   string                 `yaml:"charmcraft-version"`
		StartedAt string                 `yaml:"charmcraft-started-at"`
		Bases     []base                 `yaml:"bases"`
		Analysis  map[string][]attribute `yaml:"analysis"`
	}{
		Version: charmcraftVersion, StartedAt: epoch.Format("2006-01-02T15:04:05"),
		Bases:    []base{{name, channel, architectures}},
		Analysis: map[string][]attribute{"attributes": {{"language", "unknown"}, {"framework", "unknown"}}},
	}
}

// yaml11 are words that YAML 1.1, which Juju reads, takes for true and false. As a key, unquoted or not in what charmcraft
// writes, they make `juju deploy` fail with "map keyed with non-string value" (seen on Juju 4.0.15).
var yaml11 = []string{"y", "n", "yes", "no", "on", "off", "true", "false"}

// ambiguousKeys finds keys that YAML 1.1 does not take for texts.
func ambiguousKeys(path string, node *yaml.Node) []error {
	var problems []error
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			at := strings.TrimPrefix(path+"."+key.Value, ".")
			if slices.Contains(yaml11, strings.ToLower(key.Value)) {
				problems = append(problems, fmt.Errorf("line %d: key %s is a boolean to Juju (give it another name)", key.Line, at))
			}
			problems = append(problems, ambiguousKeys(at, value)...)
		}
		return problems
	}
	for _, child := range node.Content {
		problems = append(problems, ambiguousKeys(path, child)...)
	}
	return problems
}

// repeatedKey finds a key that a mapping has twice. YAML's own check of that takes time that grows with the square of their number.
func repeatedKey(node *yaml.Node) error {
	if node.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind == yaml.ScalarNode && seen[key.Value] && key.Value != "<<" {
				return fmt.Errorf("line %d: key %.100q is there twice", key.Line, key.Value)
			}
			seen[key.Value] = key.Kind == yaml.ScalarNode
		}
		if len(seen) > maxKeys {
			return fmt.Errorf("line %d: more than %d keys", node.Line, maxKeys)
		}
	}
	for _, child := range node.Content {
		if err := repeatedKey(child); err != nil {
			return err
		}
	}
	return nil
}

// maxKeys bounds the keys of one mapping.
const maxKeys = 2000
