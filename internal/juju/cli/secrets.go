package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"gopkg.in/yaml.v2"

	"certlab/internal/juju"
)

// A secretDoc is a secret as show-secret and secrets print it.
type secretDoc struct {
	Revision    int           `json:"revision" yaml:"revision"`
	Checksum    string        `json:"checksum,omitempty" yaml:"checksum,omitempty"`
	Expires     *time.Time    `json:"expires,omitempty" yaml:"expires,omitempty"`
	Rotation    string        `json:"rotation,omitempty" yaml:"rotation,omitempty"`
	Owner       string        `json:"owner,omitempty" yaml:"owner,omitempty"`
	Description string        `json:"description,omitempty" yaml:"description,omitempty"`
	Name        string        `json:"name,omitempty" yaml:"name,omitempty"`
	Label       string        `json:"label,omitempty" yaml:"label,omitempty"`
	Created     time.Time     `json:"created" yaml:"created"`
	Updated     time.Time     `json:"updated" yaml:"updated"`
	Content     yaml.MapSlice `json:"-" yaml:"content,omitempty"`
	JSONContent any           `json:"content,omitempty" yaml:"-"`
	Revisions   []revisionDoc `json:"revisions,omitempty" yaml:"revisions,omitempty"`
	Access      []accessDoc   `json:"access,omitempty" yaml:"access,omitempty"`
}

type revisionDoc struct {
	Revision int       `json:"revision" yaml:"revision"`
	Backend  string    `json:"backend,omitempty" yaml:"backend,omitempty"`
	Created  time.Time `json:"created" yaml:"created"`
	Updated  time.Time `json:"updated" yaml:"updated"`
}

type accessDoc struct {
	Target string `json:"target" yaml:"target"`
	Scope  string `json:"scope" yaml:"scope"`
	Role   string `json:"role" yaml:"role"`
}

func ownerName(s *juju.Secret) string {
	if s.Owner.Kind == "model" {
		return "<model>"
	}
	return s.Owner.ID
}

func newSecretDoc(s *juju.Secret) secretDoc {
	doc := secretDoc{Revision: s.Latest(), Rotation: s.Rotate, Owner: ownerName(s), Description: s.Description, Name: s.Name, Label: s.Label, Created: s.Created, Updated: s.Updated}
	if doc.Rotation == "" {
		doc.Rotation = "never"
	}
	if !s.Expire.IsZero() {
		doc.Expires = &s.Expire
	}
	return doc
}

func secretsCommand(c *call) func([]string) (func() error, error) {
	var owner string
	c.flags.str(&owner, "owner", "Include secrets for the specified owner")
	c.out.options("tabular", map[string]func(any) (string, error){"tabular": nil})
	now := c.Env.Model.Now()
	c.out.other["tabular"] = func(v any) (string, error) {
		docs := v.(map[string]secretDoc)
		ids := sortedNames(docs)
		sort.SliceStable(ids, func(i, j int) bool { return docs[ids[i]].Owner < docs[ids[j]].Owner })
		t := table{right: map[int]bool{4: true}}
		t.add(header("ID", "Name", "Owner", "Rotation", "Revision", "Last updated")...)
		for _, id := range ids {
			doc := docs[id]
			name := doc.Name
			if name == "" {
				name = "-"
			}
			t.add(plain(id, name, doc.Owner, doc.Rotation, fmt.Sprint(doc.Revision), age(now.Sub(doc.Updated)), "")...)
		}
		return t.render(false), nil
	}
	return func(args []string) (func() error, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("unrecognized args: %q", args)
		}
		return func() error {
			docs := map[string]secretDoc{}
			for id, secret := range c.Env.Model.Snapshot().Secrets {
				if owner == "" || ownerName(secret) == strings.TrimPrefix(strings.TrimPrefix(owner, "application-"), "unit-") {
					docs[id] = newSecretDoc(secret)
				}
			}
			return c.out.write(docs)
		}, nil
	}
}

// age is how Juju words how long ago something was.
func age(d time.Duration) string {
	plural := func(n int, unit string) string {
		if n == 1 {
			return fmt.Sprintf("1 %s ago", unit)
		}
		return fmt.Sprintf("%d %ss ago", n, unit)
	}
	switch {
	case d < 2*time.Second:
		return "just now"
	case d < time.Minute:
		return plural(int(d.Seconds()), "second")
	case d < time.Hour:
		return plural(int(d.Minutes()), "minute")
	case d < 24*time.Hour:
		return plural(int(d.Hours()), "hour")
	}
	return plural(int(d.Hours()/24), "day")
}

func showSecretCommand(c *call) func([]string) (func() error, error) {
	var reveal, revisions bool
	revision := 0
	c.flags.boolean(&reveal, "reveal", "Reveal secret values, applicable to yaml or json formats only")
	c.flags.boolean(&revisions, "revisions", "Show the secret revisions metadata")
	c.flags.integer(&revision, "r,revision", "A specific revision of the secret")
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("missing secret ID or name")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		if reveal && revisions {
			return nil, errors.New("specify either --revisions or --reveal but not both")
		}
		return func() error {
			secret := c.Env.Model.Snapshot().FindSecret(args[0])
			if secret == nil {
				return fmt.Errorf("secret %q not found", args[0])
			}
			doc := newSecretDoc(secret)
			if revision == 0 {
				revision = secret.Latest()
			}
			wanted := secret.Revision(revision)
			if wanted == nil {
				return fmt.Errorf("secret %q revision %d not found", args[0], revision)
			}
			if reveal {
				doc.Checksum = wanted.Checksum()
				for _, key := range sortedNames(wanted.Content) {
					doc.Content = append(doc.Content, yaml.MapItem{Key: key, Value: wanted.Content[key]})
				}
				doc.JSONContent = wanted.Content
			}
			if revisions {
				for _, r := range secret.Revisions {
					doc.Revisions = append(doc.Revisions, revisionDoc{r.Revision, "internal", r.Created, r.Updated})
				}
			}
			for _, g := range secret.Grants {
				doc.Access = append(doc.Access, accessDoc{g.Target, g.Scope, g.Role})
			}
			return c.out.write(map[string]secretDoc{secret.ID: doc})
		}, nil
	}
}

// secretContent reads key=value, key#file=path and --file into a secret's content.
func (c *call) secretContent(args []string, file string) (map[string]string, error) {
	content := map[string]string{}
	if file != "" {
		data, err := c.readFile(file, maxParams)
		if err != nil {
			return nil, err
		}
		if err := yaml.Unmarshal(data, &content); err != nil {
			return nil, err
		}
	}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("key value %q not valid", arg)
		}
		if name, isFile := strings.CutSuffix(key, "#file"); isFile {
			data, err := c.readFile(value, maxParams)
			if err != nil {
				return nil, err
			}
			key, value = name, string(data)
		}
		if name, encoded := strings.CutSuffix(key, "#base64"); encoded {
			data, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("cannot decode base64 of key %q: %w", name, err)
			}
			key, value = name, string(data)
		}
		content[key] = value
	}
	return content, nil
}

func addSecretCommand(c *call) func([]string) (func() error, error) {
	var info, file string
	c.flags.str(&info, "info", "The secret description")
	c.flags.str(&file, "file", "A YAML file containing secret key values")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("missing secret name")
		}
		if len(args) == 1 && file == "" {
			return nil, errors.New("missing secret value or filename")
		}
		return func() error {
			content, err := c.secretContent(args[1:], file)
			if err != nil {
				return err
			}
			id := c.Env.Model.NewID()
			err = c.Env.Model.Update(func(s *juju.State) error {
				_, err := s.AddUserSecret(id, args[0], info, content, c.Env.Model.Now())
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Stdout, "secret:%s\n", id)
			return nil
		}, nil
	}
}

func updateSecretCommand(c *call) func([]string) (func() error, error) {
	var info, file, name string
	var prune bool
	infoOption := c.flags.str(&info, "info", "The secret description")
	nameOption := c.flags.str(&name, "name", "The new secret name")
	pruneOption := c.flags.boolean(&prune, "auto-prune", "Used to allow Juju to automatically remove revisions which are no longer being tracked by any observers")
	c.flags.str(&file, "file", "A YAML file containing secret key values")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("missing secret URI")
		}
		return func() error {
			content, err := c.secretContent(args[1:], file)
			if err != nil {
				return err
			}
			var newName, newInfo *string
			var newPrune *bool
			if infoOption.given {
				newInfo = &info
			}
			if nameOption.given {
				newName = &name
			}
			if pruneOption.given {
				newPrune = &prune
			}
			return c.Env.Model.Update(func(s *juju.State) error {
				return s.UpdateUserSecret(args[0], newName, newInfo, content, newPrune, c.Env.Model.Now())
			})
		}, nil
	}
}

func removeSecretCommand(c *call) func([]string) (func() error, error) {
	revision := 0
	c.flags.integer(&revision, "revision", "Remove the specified revision")
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("missing secret URI")
		}
		return func() error {
			return c.Env.Model.Update(func(s *juju.State) error { return s.RemoveUserSecret(args[0], revision) })
		}, nil
	}
}

// grantCommand is grant-secret, or revoke-secret.
func grantCommand(granted bool) func(c *call) func([]string) (func() error, error) {
	return func(c *call) func([]string) (func() error, error) {
		return func(args []string) (func() error, error) {
			if len(args) == 0 {
				return nil, errors.New("missing secret URI")
			}
			if len(args) == 1 {
				return nil, errors.New("missing application name")
			}
			var applications []string
			for _, arg := range args[1:] {
				applications = append(applications, strings.Split(arg, ",")...)
			}
			return func() error {
				return c.Env.Model.Update(func(s *juju.State) error { return s.GrantUserSecret(args[0], applications, granted) })
			}, nil
		}
	}
}
