package juju

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"
)

var secretKey = regexp.MustCompile(`^([a-z](?:-?[a-z0-9]){2,})$`)

// CheckSecretKeys refuses keys that Juju does: they have at least three characters, begin with a letter, and are lower case.
func CheckSecretKeys(content map[string]string) error {
	size := 0
	for key, value := range content {
		if !secretKey.MatchString(key) {
			return fmt.Errorf("key %q not valid", key)
		}
		size += len(key) + len(value)
	}
	if size > maxSecretContent {
		return fmt.Errorf("secret content of %d bytes is larger than %d bytes", size, maxSecretContent)
	}
	return nil
}

// maxSecretContent is Juju's limit for one secret's content.
const maxSecretContent = 1 << 20

// FindSecret finds a secret by id, by URI, by a user secret's name or by its owner's label; nil if there is none.
func (s *State) FindSecret(name string) *Secret {
	id := strings.TrimPrefix(name, "secret:")
	if rest, ok := strings.CutPrefix(id, "//"); ok {
		_, id, _ = strings.Cut(rest, "/")
	}
	if secret := s.Secrets[id]; secret != nil {
		return secret
	}
	var found *Secret
	for _, secret := range s.Secrets {
		if name != "" && (secret.Name == name || secret.Label == name) && (found == nil || secret.ID < found.ID) {
			found = secret
		}
	}
	return found
}

// UserSecret finds a secret that the model's users own.
func (s *State) UserSecret(name string) (*Secret, error) {
	secret := s.FindSecret(name)
	if secret == nil {
		return nil, fmt.Errorf("secret %q not found", name)
	}
	if secret.Owner.Kind != "model" {
		return nil, fmt.Errorf("%q is not allowed to manage this secret", s.Model.UUID)
	}
	return secret, nil
}

// AddUserSecret makes a secret of the model's. id comes from Model.NewID.
func (s *State) AddUserSecret(id, name, description string, content map[string]string, now time.Time) (*Secret, error) {
	if err := CheckSecretKeys(content); err != nil {
		return nil, err
	}
	for _, other := range s.Secrets {
		if name != "" && other.Name == name {
			return nil, fmt.Errorf("creating user secret %q: secret with label %q already exists", name, name)
		}
	}
	secret := &Secret{ID: id, Owner: Owner{Kind: "model"}, Name: name, Description: description, Rotate: "never", Created: now, Updated: now,
		Consumers: map[string]*SecretConsumer{},
		Revisions: []SecretRevision{{Revision: 1, Content: content, Created: now, Updated: now}}}
	s.Secrets[id] = secret
	return secret, nil
}

// UpdateUserSecret gives a user secret new content (none: it stays), a new name or a new description. The same content again is
// no new revision.
func (s *State) UpdateUserSecret(name string, newName, description *string, content map[string]string, autoPrune *bool, now time.Time) error {
	secret, err := s.UserSecret(name)
	if err != nil {
		return err
	}
	if err := CheckSecretKeys(content); err != nil {
		return err
	}
	if newName != nil {
		secret.Name = *newName
	}
	if description != nil {
		secret.Description = *description
	}
	if autoPrune != nil {
		secret.AutoPrune = *autoPrune
	}
	if len(content) > 0 && !maps.Equal(content, secret.Revision(secret.Latest()).Content) {
		secret.Revisions = append(secret.Revisions, SecretRevision{Revision: secret.Latest() + 1, Content: content, Created: now, Updated: now})
		secret.markObsolete()
	}
	secret.Updated = now
	return nil
}

// RemoveUserSecret deletes a user secret, or one of its revisions.
func (s *State) RemoveUserSecret(name string, revision int) error {
	secret, err := s.UserSecret(name)
	if err != nil {
		return err
	}
	if revision == 0 || (len(secret.Revisions) == 1 && secret.Latest() == revision) {
		delete(s.Secrets, secret.ID)
		return nil
	}
	for i, r := range secret.Revisions {
		if r.Revision == revision {
			secret.Revisions = append(secret.Revisions[:i], secret.Revisions[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("secret %q revision %d not found", name, revision)
}

// GrantUserSecret lets applications read a user secret, or takes that back. Applications whose options name it are told.
func (s *State) GrantUserSecret(name string, applications []string, granted bool) error {
	secret, err := s.UserSecret(name)
	if err != nil {
		return err
	}
	for _, application := range applications {
		app := s.Applications[application]
		if app == nil {
			return fmt.Errorf("application %q not found", application)
		}
		target := "application-" + application
		kept := secret.Grants[:0]
		had := false
		for _, g := range secret.Grants {
			if g.Target == target {
				had = true
				continue
			}
			kept = append(kept, g)
		}
		secret.Grants = kept
		if granted {
			secret.Grants = append(secret.Grants, Grant{Target: target, Scope: "model-" + s.Model.UUID, Relation: -1, Role: "view"})
		}
		if had != granted && s.namesSecret(application, secret.ID) {
			app.ConfigVersion++
		}
	}
	return nil
}

// namesSecret says that an option of the application is this secret.
func (s *State) namesSecret(application, id string) bool {
	for name, option := range s.Options(application) {
		if value, _ := s.OptionValue(application, name); option.Type == "secret" {
			if text, ok := value.(string); ok && strings.HasSuffix(text, id) {
				return true
			}
		}
	}
	return false
}
