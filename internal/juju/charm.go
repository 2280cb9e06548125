package juju

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/juju/charm/v12"
)

// maxCharmText bounds each of a charm's descriptive files. Juju's own limit is the archive's; none of ours is near this.
const maxCharmText = 1 << 20

// A Charm is one uploaded revision of a charm. It never changes once made, so snapshots share it. It is stored as the texts that
// describe it and read again from them, so that nothing is lost or altered by being saved.
type Charm struct {
	URL      string // "local:checkbox-0"
	Name     string
	Revision int
	Path     string // the .charm archive or, for tests only, a directory; as the host's file system names it
	SHA256   string // of the archive; empty for a directory
	Version  string // the charm's own version file

	Meta     *charm.Meta
	Config   *charm.Config
	Actions  *charm.Actions
	Manifest *charm.Manifest

	texts map[string]string
}

// charmTexts are the descriptive files of a charm. metadata.yaml alone must be there.
var charmTexts = []string{"metadata.yaml", "manifest.yaml", "config.yaml", "actions.yaml", "version"}

// NewCharm makes a charm from the texts of its descriptive files: metadata.yaml and, where the charm has them, manifest.yaml,
// config.yaml, actions.yaml and version. Errors are those that deploying such a charm gives on a real controller, as far as
// they are known.
func NewCharm(texts map[string]string) (*Charm, error) {
	c := &Charm{texts: map[string]string{}}
	for _, name := range charmTexts {
		if text, ok := texts[name]; ok {
			c.texts[name] = text
		}
	}
	if err := c.parse(); err != nil {
		return nil, err
	}
	c.Name = c.Meta.Name
	c.Version = strings.TrimSpace(c.texts["version"])
	return c, nil
}

func (c *Charm) parse() (err error) {
	defer func() { // of an empty key, for one, Juju's own readers know nothing
		if v := recover(); v != nil {
			err = fmt.Errorf("a file of the charm cannot be read as Juju reads it: %v", v)
		}
	}()
	text, ok := c.texts["metadata.yaml"]
	if !ok {
		return errors.New(`archive file "metadata.yaml" not found`)
	}
	if c.Meta, err = charm.ReadMeta(strings.NewReader(text)); err != nil {
		return err
	}
	c.Config, c.Actions, c.Manifest = charm.NewConfig(), charm.NewActions(), &charm.Manifest{}
	if text := c.texts["manifest.yaml"]; strings.TrimSpace(text) != "" {
		if c.Manifest, err = charm.ReadManifest(strings.NewReader(text)); err != nil {
			return err
		}
	}
	if text := c.texts["config.yaml"]; strings.TrimSpace(text) != "" {
		if c.Config, err = charm.ReadConfig(strings.NewReader(text)); err != nil {
			return err
		}
	}
	if text := c.texts["actions.yaml"]; strings.TrimSpace(text) != "" {
		if c.Actions, err = charm.ReadActionsYaml(c.Meta.Name, strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// ReadCharm reads a charm from a .charm archive, or from an unpacked directory, which a real controller would not take but
// tests like.
func ReadCharm(path string) (*Charm, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readCharmDir(path)
	}
	return readCharmArchive(path)
}

func readCharmDir(path string) (*Charm, error) {
	texts := map[string]string{}
	for _, name := range charmTexts {
		f, err := os.Open(filepath.Join(path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := readText(f, name)
		f.Close()
		if err != nil {
			return nil, err
		}
		texts[name] = text
	}
	c, err := NewCharm(texts)
	if err != nil {
		return nil, err
	}
	c.Path = path
	return c, nil
}

func readCharmArchive(path string) (*Charm, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("cannot read charm archive %q: %w", path, err)
	}
	texts := map[string]string{}
	runs := false
	for _, file := range archive.File {
		runs = runs || file.Name == "dispatch" || strings.HasPrefix(file.Name, "hooks/")
		if !slices.Contains(charmTexts, file.Name) {
			continue
		}
		r, err := file.Open()
		if err != nil {
			return nil, fmt.Errorf("cannot read %s of charm archive %q: %w", file.Name, path, err)
		}
		text, err := readText(r, file.Name)
		r.Close()
		if err != nil {
			return nil, err
		}
		texts[file.Name] = text
	}
	c, err := NewCharm(texts)
	if err != nil {
		return nil, err
	}
	if len(c.Manifest.Bases) == 0 {
		return nil, errors.New("charm metadata without bases in manifest not valid")
	}
	if !runs {
		return nil, fmt.Errorf("charm %q has no hooks nor dispatch file", c.Name)
	}
	sum := sha256.Sum256(data)
	c.Path, c.SHA256 = path, hex.EncodeToString(sum[:])
	return c, nil
}

func readText(r io.Reader, name string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxCharmText+1))
	if err != nil {
		return "", fmt.Errorf("cannot read charm's %s: %w", name, err)
	}
	if len(data) > maxCharmText {
		return "", fmt.Errorf("cannot read charm's %s: it is larger than %d bytes", name, maxCharmText)
	}
	return string(data), nil
}

// Text returns one of the charm's descriptive files, empty if the charm has none of that name.
func (c *Charm) Text(name string) string { return c.texts[name] }

// WithRevision returns the charm as the controller stores it: with the next revision of its name and the URL that says so.
func (c *Charm) WithRevision(revision int) *Charm {
	stored := *c
	stored.Revision = revision
	stored.URL = fmt.Sprintf("local:%s-%d", c.Name, revision)
	return &stored
}

// An EndpointSpec is one relation endpoint that a charm declares.
type EndpointSpec struct {
	Name      string
	Interface string
	Role      Role
	Limit     int
	Optional  bool
	Scope     string // "global" or "container"
}

// Endpoints lists the charm's relation endpoints by name. The juju-info endpoint that every application has is not among them.
func (c *Charm) Endpoints() []EndpointSpec {
	var all []EndpointSpec
	for _, group := range []struct {
		relations map[string]charm.Relation
		role      Role
	}{{c.Meta.Provides, Provider}, {c.Meta.Requires, Requirer}, {c.Meta.Peers, Peer}} {
		for name, r := range group.relations {
			all = append(all, EndpointSpec{Name: name, Interface: r.Interface, Role: group.role, Limit: r.Limit,
				Optional: r.Optional, Scope: string(r.Scope)})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Endpoint returns the named endpoint of the charm.
func (c *Charm) Endpoint(name string) (EndpointSpec, bool) {
	for _, e := range c.Endpoints() {
		if e.Name == name {
			return e, true
		}
	}
	return EndpointSpec{}, false
}

type charmJSON struct {
	URL      string            `json:"url"`
	Revision int               `json:"revision"`
	Path     string            `json:"path,omitempty"`
	SHA256   string            `json:"sha256,omitempty"`
	Texts    map[string]string `json:"texts"`
}

// MarshalJSON stores the charm's texts, not what was read from them.
func (c *Charm) MarshalJSON() ([]byte, error) {
	return json.Marshal(charmJSON{URL: c.URL, Revision: c.Revision, Path: c.Path, SHA256: c.SHA256, Texts: c.texts})
}

// UnmarshalJSON reads the charm again from its stored texts.
func (c *Charm) UnmarshalJSON(data []byte) error {
	var stored charmJSON
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	read, err := NewCharm(stored.Texts)
	if err != nil {
		return fmt.Errorf("cannot read stored charm %q: %w", stored.URL, err)
	}
	*c = *read
	c.URL, c.Revision, c.Path, c.SHA256 = stored.URL, stored.Revision, stored.Path, stored.SHA256
	return nil
}
