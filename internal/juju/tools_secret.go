package juju

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v2"
)

// maxSecretValue bounds one value of a secret: from Juju's source.
const maxSecretValue = 1 << 20

var secretID = regexp.MustCompile(`^[0-9a-v]{19}[0g]$`)

// ParseSecretURI returns the bare id that a secret's URI means: ID, secret:ID, secret:/ID or secret://MODEL/ID.
func ParseSecretURI(uri string) (id string, ok bool) {
	id = strings.TrimPrefix(uri, "secret:")
	if rest, found := strings.CutPrefix(id, "//"); found && id != uri {
		_, id, _ = strings.Cut(rest, "/")
	} else if id != uri {
		id = strings.TrimPrefix(id, "/")
	}
	return id, secretID.MatchString(id)
}

// secretChanges are what a context will do to secrets when it is flushed. Each list is in the order of the calls.
type secretChanges struct {
	creates []*secretChange
	updates []*secretChange
	grants  []secretGrantee
	revokes []secretGrantee
	deletes []secretDelete
	refresh []string // own secrets whose reader goes on to the latest revision
}

type secretChange struct {
	id                         string
	owner                      Owner
	content                    map[string]string // nil: unchanged
	label, description, rotate *string
	expire                     *time.Time
}

type secretGrantee struct {
	id       string
	relation int // -1: none
	app      string
	unit     string
}

type secretDelete struct {
	id       string
	revision int // 0: all
}

func (g secretGrantee) target() string {
	if g.unit != "" {
		return UnitTag(g.unit)
	}
	return "application-" + g.app
}

// secretView is what secret-info-get shows of a secret that the unit manages. Its fields are in Juju's order.
type secretView struct {
	Revision    int            `json:"revision" yaml:"revision"`
	Label       string         `json:"label" yaml:"label"`
	Owner       string         `json:"owner" yaml:"owner"`
	Description string         `json:"description,omitempty" yaml:"description,omitempty"`
	Rotation    string         `json:"rotation,omitempty" yaml:"rotation,omitempty"`
	Expiry      *time.Time     `json:"expiry,omitempty" yaml:"expiry,omitempty"`
	Access      []secretAccess `json:"access,omitempty" yaml:"access,omitempty"`
}

type secretAccess struct {
	Target string `json:"target" yaml:"target"`
	Scope  string `json:"scope" yaml:"scope"`
	Role   string `json:"role" yaml:"role"`
}

// managed are the secrets that the unit may manage, as they will be.
func (i *invocation) managed() map[string]secretView {
	views := map[string]secretView{}
	for id, secret := range i.state.Secrets {
		if !i.state.manages(i.unit, secret) {
			continue
		}
		rotate := secret.Rotate
		if rotate == "" {
			rotate = "never"
		}
		view := secretView{Revision: secret.Latest(), Label: secret.Label, Owner: secret.Owner.Kind, Description: secret.Description, Rotation: rotate}
		if !secret.Expire.IsZero() {
			expire := secret.Expire
			view.Expiry = &expire
		}
		for _, grant := range secret.Grants {
			view.Access = append(view.Access, secretAccess{grant.Target, grant.Scope, grant.Role})
		}
		views[id] = view
	}
	for _, change := range i.secrets.creates {
		views[change.id] = change.apply(secretView{Revision: 1, Owner: change.owner.Kind})
	}
	for _, change := range i.secrets.updates {
		if view, ok := views[change.id]; ok {
			if change.content != nil {
				view.Revision++
			}
			views[change.id] = change.apply(view)
		}
	}
	for _, grant := range i.secrets.grants {
		if view, ok := views[grant.id]; ok {
			access := secretAccess{grant.target(), i.state.relationScope(grant.relation), "view"}
			if !slices.Contains(view.Access, access) {
				view.Access = append(slices.Clone(view.Access), access)
			}
			views[grant.id] = view
		}
	}
	for _, revoke := range i.secrets.revokes {
		if view, ok := views[revoke.id]; ok {
			view.Access = slices.DeleteFunc(slices.Clone(view.Access), func(a secretAccess) bool { return a.Target == revoke.target() })
			views[revoke.id] = view
		}
	}
	for _, gone := range i.secrets.deletes {
		if gone.revision == 0 {
			delete(views, gone.id)
		}
	}
	return views
}

func (c *secretChange) apply(view secretView) secretView {
	if c.label != nil {
		view.Label = *c.label
	}
	if c.description != nil {
		view.Description = *c.description
	}
	if c.rotate != nil {
		view.Rotation = *c.rotate
	}
	if c.expire != nil {
		view.Expiry = c.expire
	}
	return view
}

// manages reports whether the unit may change the secret: its own, and the leader also its application's.
func (s *State) manages(unit string, secret *Secret) bool {
	u := s.Units[unit]
	switch {
	case u == nil:
		return false
	case secret.Owner.Kind == "unit":
		return secret.Owner.ID == unit
	case secret.Owner.Kind == "application":
		return secret.Owner.ID == u.Application && s.Applications[u.Application] != nil && s.Applications[u.Application].Leader == unit
	}
	return false
}

// MayRead reports whether the unit may read the secret: its own, its application's, and what was granted to either.
func (s *State) MayRead(unit string, secret *Secret) bool {
	u := s.Units[unit]
	if u == nil {
		return false
	}
	if secret.Owner.Kind == "unit" && secret.Owner.ID == unit || secret.Owner.Kind == "application" && secret.Owner.ID == u.Application {
		return true
	}
	return slices.ContainsFunc(secret.Grants, func(g Grant) bool {
		return g.Target == UnitTag(unit) || g.Target == "application-"+u.Application
	})
}

// relationScope is how a grant names its relation.
func (s *State) relationScope(id int) string {
	r := s.Relations[id]
	if r == nil {
		return ""
	}
	return "relation-" + strings.ReplaceAll(strings.ReplaceAll(r.Key(), ":", "."), " ", "#")
}

// secretArgs reads the values and options of secret-add and secret-set.
func (i *invocation) secretArgs(args []string) (*secretChange, error) {
	change := &secretChange{}
	if text := i.flags["expire"]; text != "" {
		expire, err := i.parseExpire(text)
		if err != nil {
			return nil, err
		}
		change.expire = &expire
	}
	rotate := i.flags["rotate"]
	if rotate != "" {
		if !slices.Contains([]string{"never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"}, rotate) {
			return nil, usagef("rotate policy %q not valid", rotate)
		}
		change.rotate = &rotate
	}
	if owner := i.flags["owner"]; owner != "application" && owner != "unit" {
		return nil, usagef("secret owner %q not valid", owner)
	}
	content, err := i.secretContent(args)
	if err != nil {
		return nil, err
	}
	if name := i.flags["file"]; name != "" {
		data, err := i.readFile(name, false)
		if err != nil {
			return nil, err
		}
		values := map[string]string{}
		if err := yaml.Unmarshal(data, &values); err != nil {
			return nil, usageError{err}
		}
		for key, value := range values {
			if err := addSecretValue(content, key, value); err != nil {
				return nil, err
			}
		}
	}
	if len(content) > 0 {
		change.content = content
	}
	if label := i.flags["label"]; label != "" {
		change.label = &label
	}
	if description := i.flags["description"]; description != "" {
		change.description = &description
	}
	return change, nil
}

func (i *invocation) parseExpire(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return time.Time{}, usagef("expire time or duration %q not valid", text)
	}
	if d <= 0 {
		return time.Time{}, usagef("negative expire duration %q not valid", text)
	}
	return i.model.Now().Add(d), nil
}

func (i *invocation) secretContent(args []string) (map[string]string, error) {
	for _, arg := range args {
		if !strings.Contains(arg, "=") {
			return nil, usagef("key value %q not valid", arg)
		}
	}
	content := map[string]string{}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		if name, ok := strings.CutSuffix(key, "#file"); ok {
			if !secretKey.MatchString(name) {
				return nil, usagef("key %q not valid", name)
			}
			data, err := i.readFile(value, false)
			if err != nil {
				var need needInput
				if errors.As(err, &need) {
					return nil, err
				}
				return nil, usageError{err}
			}
			key, value = name, string(data)
		}
		if err := addSecretValue(content, key, value); err != nil {
			return nil, err
		}
	}
	return content, nil
}

func addSecretValue(content map[string]string, key, value string) error {
	name, encoded := strings.CutSuffix(key, "#base64")
	if !secretKey.MatchString(name) {
		return usagef("key %q not valid", name)
	}
	if encoded {
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return usagef("secret value for key %q is not base64: %v", name, err)
		}
		value = string(raw)
	}
	if len(value) > maxSecretValue {
		return usagef("secret content for key %q too large: %d bytes", name, len(value))
	}
	content[name] = value
	return nil
}

func secretAdd(i *invocation) error {
	if len(i.args) == 0 && i.flags["file"] == "" {
		return usagef("missing secret value or filename")
	}
	change, err := i.secretArgs(i.args)
	if err != nil {
		return err
	}
	if change.content == nil {
		return errors.New("empty secret value not valid")
	}
	change.owner = Owner{Kind: "application", ID: i.app}
	if i.flags["owner"] == "unit" {
		change.owner = Owner{Kind: "unit", ID: i.unit}
	}
	if change.owner.Kind == "application" && !i.leader() {
		return errNotLeader
	}
	for _, other := range i.secrets.creates {
		if other.label != nil && change.label != nil && *other.label == *change.label {
			return fmt.Errorf("secret with label %q already exists", *change.label)
		}
	}
	change.id = i.model.NewID()
	i.secrets.creates = append(i.secrets.creates, change)
	i.stdout = fmt.Appendf(i.stdout, "secret://%s/%s\n", i.state.Model.UUID, change.id)
	return nil
}

// secretSet is accepted here whoever calls; whether the unit may is judged at the flush.
func secretSet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing secret URI")
	}
	id, ok := ParseSecretURI(i.args[0])
	if !ok {
		return usagef("secret URI %q not valid", i.args[0])
	}
	change, err := i.secretArgs(i.args[1:])
	if err != nil {
		return err
	}
	change.id = id
	for _, list := range [][]*secretChange{i.secrets.creates, i.secrets.updates} {
		for _, pending := range list {
			if pending.id == id {
				pending.merge(change)
				return nil
			}
		}
	}
	i.secrets.deletes = slices.DeleteFunc(i.secrets.deletes, func(d secretDelete) bool { return d.id == id })
	i.secrets.updates = append(i.secrets.updates, change)
	return nil
}

func (c *secretChange) merge(other *secretChange) {
	if other.content != nil {
		c.content = other.content
	}
	if other.label != nil {
		c.label = other.label
	}
	if other.description != nil {
		c.description = other.description
	}
	if other.rotate != nil {
		c.rotate = other.rotate
	}
	if other.expire != nil {
		c.expire = other.expire
	}
}

func secretGet(i *invocation) error {
	id, label := "", i.flags["label"]
	args := i.args
	if len(args) > 0 {
		var ok bool
		if id, ok = ParseSecretURI(args[0]); !ok {
			return usagef("secret URI %q not valid", args[0])
		}
		args = args[1:]
	}
	peek, refresh := i.flag("peek"), i.flag("refresh")
	switch {
	case id == "" && label == "":
		return usagef("require either a secret URI or label")
	case peek && refresh:
		return usagef("specify one of --peek or --refresh but not both")
	case len(args) > 1:
		return noMore(args[1:])
	}
	if id == "" {
		found, ok := i.labelled(label)
		if !ok {
			return fmt.Errorf("secret URI for consumer label %q not found", label)
		}
		id, label = found, ""
	}
	content, err := i.secretValue(id, label, peek, refresh)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return i.write(content)
	}
	key, encoded := strings.CutSuffix(args[0], "#base64")
	value, ok := content[key]
	if !ok {
		return fmt.Errorf("secret key value %q not found", key)
	}
	if encoded {
		value = base64.StdEncoding.EncodeToString([]byte(value))
	}
	return i.write(value)
}

// labelled finds a secret by the unit's own label for it: as its owner, or as one who has read it before.
func (i *invocation) labelled(label string) (id string, ok bool) {
	for id, view := range i.managed() {
		if view.Label == label {
			return id, true
		}
	}
	for id, secret := range i.state.Secrets {
		if consumer := secret.Consumers[i.unit]; consumer != nil && consumer.Label == label {
			return id, true
		}
		// A unit that does not lead still knows its application's labels.
		if secret.Label == label && secret.Owner == (Owner{Kind: "application", ID: i.app}) {
			return id, true
		}
	}
	return "", false
}

// secretValue returns the revision that the unit is to see. The first read, and --refresh, make the latest revision the unit's.
func (i *invocation) secretValue(id, label string, peek, refresh bool) (map[string]string, error) {
	for _, change := range i.secrets.creates {
		if change.id == id {
			return change.content, nil
		}
	}
	secret := i.state.Secrets[id]
	if secret == nil || secret.Latest() == 0 {
		return nil, fmt.Errorf("secret %q not found", id)
	}
	if !i.state.MayRead(i.unit, secret) {
		return nil, fmt.Errorf("%q is not allowed to read this secret", i.unit)
	}
	if peek || refresh {
		for _, change := range i.secrets.updates {
			if change.id == id && change.content != nil {
				if refresh {
					i.secrets.refresh = append(i.secrets.refresh, id)
				}
				return change.content, nil
			}
		}
	}
	consumer := secret.Consumers[i.unit]
	revision := secret.Latest()
	if consumer != nil && !peek && !refresh {
		revision = consumer.Revision
	}
	if consumer == nil || refresh || label != "" && label != consumer.Label {
		if err := i.consume(id, label, consumer == nil || refresh); err != nil {
			return nil, err
		}
	}
	found := secret.Revision(revision)
	if found == nil {
		return nil, fmt.Errorf("secret revision %q/%d not found", id, revision)
	}
	return found.Content, nil
}

// consume remembers at once what the unit has read: it does not wait for the hook's end.
func (i *invocation) consume(id, label string, latest bool) error {
	return i.model.Update(func(s *State) error {
		secret, unit := s.Secrets[id], s.Units[i.unit]
		if secret == nil || unit == nil {
			return fmt.Errorf("secret %q not found", id)
		}
		consumer := secret.Consumers[i.unit]
		if consumer == nil {
			consumer = &SecretConsumer{}
			secret.Consumers[i.unit] = consumer
			unit.Uniter.Secrets[id] = secret.Latest()
		}
		if label != "" {
			consumer.Label = label
		}
		if latest {
			consumer.Revision = secret.Latest()
		}
		secret.markObsolete()
		return nil
	})
}

// markObsolete finds the revisions that nobody holds and that are not the latest: the owner is told to remove them.
func (s *Secret) markObsolete() {
	held := map[int]bool{s.Latest(): true}
	for _, consumer := range s.Consumers {
		held[consumer.Revision] = true
	}
	for n := range s.Revisions {
		s.Revisions[n].Obsolete = !held[s.Revisions[n].Revision]
	}
}

func secretInfoGet(i *invocation) error {
	id, label := "", i.flags["label"]
	args := i.args
	if len(args) > 0 {
		var ok bool
		if id, ok = ParseSecretURI(args[0]); !ok {
			return usagef("secret URI %q not valid", args[0])
		}
		args = args[1:]
	}
	switch {
	case id == "" && label == "":
		return usagef("require either a secret URI or label")
	case id != "" && label != "":
		return usagef("specify either a secret URI or label but not both")
	}
	if err := noMore(args); err != nil {
		return err
	}
	views := i.managed()
	if view, ok := views[id]; ok {
		return i.write(map[string]secretView{id: view})
	}
	if label != "" {
		for id, view := range views {
			if view.Label == label {
				return i.write(map[string]secretView{id: view})
			}
		}
		id = label
	}
	return fmt.Errorf("secret %q not found", id)
}

func secretIDs(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	ids := []string{}
	for id := range maps.Keys(i.managed()) {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return i.write(ids)
}

func secretGrant(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing secret URI")
	}
	id, ok := ParseSecretURI(i.args[0])
	if !ok {
		return usagef("secret URI %q not valid", i.args[0])
	}
	relation, err := i.relation()
	if err != nil {
		return err
	}
	remote, _ := relation.Remote(i.app)
	grant := secretGrantee{id: id, relation: relation.ID, app: remote.Application, unit: i.flags["unit"]}
	if err := grant.checkUnit(); err != nil {
		return err
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	if _, ok := i.managed()[id]; !ok {
		return fmt.Errorf("secret %q not found", id)
	}
	i.secrets.grants = append(i.secrets.grants, grant)
	return nil
}

func (g secretGrantee) checkUnit() error {
	if g.unit == "" {
		return nil
	}
	if !unitName.MatchString(g.unit) {
		return usagef("unit %q not valid", g.unit)
	}
	if app, _, _ := strings.Cut(g.unit, "/"); app != g.app {
		return usagef("cannot specify unit %q in relation to application %q", g.unit, g.app)
	}
	return nil
}

// secretRevoke is accepted here whoever calls; whether the unit may is judged at the flush.
func secretRevoke(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing secret URI")
	}
	id, ok := ParseSecretURI(i.args[0])
	if !ok {
		return usagef("secret URI %q not valid", i.args[0])
	}
	revoke := secretGrantee{id: id, relation: -1, app: i.flags["app"], unit: i.flags["unit"]}
	if i.flags["r"] != "" {
		relation, err := i.relation()
		if err != nil {
			return err
		}
		remote, _ := relation.Remote(i.app)
		revoke.relation, revoke.app = relation.ID, remote.Application
		if err := revoke.checkUnit(); err != nil {
			return err
		}
	}
	if revoke.app == "" && revoke.unit == "" {
		return usagef("missing relation or application or unit")
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	i.secrets.revokes = append(i.secrets.revokes, revoke)
	return nil
}

func secretRemove(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing secret URI")
	}
	id, ok := ParseSecretURI(i.args[0])
	if !ok {
		return usagef("secret URI %q not valid", i.args[0])
	}
	revision, err := strconv.Atoi(i.flags["revision"])
	if err != nil || revision < 0 {
		return usagef("invalid value %q for option --revision: %v", i.flags["revision"], err)
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	same := func(c *secretChange) bool { return c.id == id }
	i.secrets.creates = slices.DeleteFunc(i.secrets.creates, same)
	i.secrets.updates = slices.DeleteFunc(i.secrets.updates, same)
	grantee := func(g secretGrantee) bool { return g.id == id }
	i.secrets.grants = slices.DeleteFunc(i.secrets.grants, grantee)
	i.secrets.revokes = slices.DeleteFunc(i.secrets.revokes, grantee)
	i.secrets.deletes = append(i.secrets.deletes, secretDelete{id, revision})
	return nil
}
