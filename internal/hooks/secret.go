package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
)

// A SecretID names a secret as Juju does in that place: secret:ID in an option and in secret-changed, ID in secret-remove,
// secret://MODEL/ID from SecretAdd. Use Bare to compare.
type SecretID string

// Bare is the id alone.
func (id SecretID) Bare() string {
	text := strings.TrimPrefix(string(id), "secret:")
	return text[strings.LastIndexByte(text, '/')+1:]
}

// SecretRead says which secret to read and which revision of it.
type SecretRead struct {
	ID    SecretID // may be empty for an own secret, or one that was given the label before
	Label string   // with ID: gives the secret this label for this unit, to be told it in secret-changed
	// Refresh takes the latest revision from now on; otherwise a unit goes on seeing the one that it read first.
	Refresh bool
	// Peek shows the latest revision this once.
	Peek bool
}

// SecretGet returns the secret's values. Without a grant the error is ErrNotAllowed, and with a removed secret or an unknown label
// ErrNotFound.
func (u *Unit) SecretGet(ctx context.Context, read SecretRead) (map[string]string, error) {
	if read.ID == "" && read.Label == "" {
		return nil, errors.New("cannot read a secret: neither id nor label is given")
	}
	values, ok := u.secrets[read]
	if !ok {
		args := []string{"--format", "json"}
		if read.Label != "" {
			args = append(args, "--label", read.Label)
		}
		if read.Refresh {
			args = append(args, "--refresh")
		}
		if read.Peek {
			args = append(args, "--peek")
		}
		if read.ID != "" {
			args = append(args, "--", string(read.ID))
		}
		if err := u.read(ctx, &values, "secret-get", args...); err != nil {
			return nil, err
		}
		for _, value := range values {
			u.Conceal(value)
		}
		if read.Refresh {
			clear(u.secrets) // what was read without it may be another revision now
		}
		u.secrets[read] = values
	}
	return maps.Clone(values), nil
}

// A Secret is one that the charm owns.
type Secret struct {
	Label       string // unique among the owner's; a way to find it again
	Description string // shown to operators
	Owner       string // "unit" or "application" (the default, for the leader only)
	Expire      string // a duration or an RFC 3339 time; empty: never
	Rotate      string // never, hourly, daily and so on; empty: never
	// Content by key: at least three lower-case letters, digits and single hyphens, the first a letter. At most 1 MB in all (Juju's limit).
	Content map[string]string
}

const maxSecret = 1_000_000 // bytes

var secretKey = regexp.MustCompile(`^[a-z](?:-?[a-z0-9]){2,}$`)

// SecretAdd makes a secret when the hook has succeeded, and returns its id. Grant it with SecretGrant.
//
// That the label is taken comes out only after the hook, which then fails; look with SecretInfo first.
func (u *Unit) SecretAdd(ctx context.Context, s Secret) (SecretID, error) {
	if len(s.Content) == 0 {
		return "", fmt.Errorf("cannot add secret %q: it has no content", s.Label)
	}
	cmd, err := u.secretCommand("secret-add", s)
	if err != nil {
		return "", err
	}
	out, err := u.run(ctx, cmd)
	if err != nil {
		return "", err
	}
	id := SecretID(trimLine(out))
	if id.Bare() == "" {
		return "", errors.New("cannot add a secret: secret-add printed no id")
	}
	clear(u.secrets)
	return id, nil
}

// SecretSet changes an own secret: its content, if any is given, as a whole, and what else is not empty in s. Juju makes a new revision only
// if the content differs.
func (u *Unit) SecretSet(ctx context.Context, id SecretID, s Secret) error {
	cmd, err := u.secretCommand("secret-set", s)
	if err != nil {
		return err
	}
	cmd.Args = append(cmd.Args, "--", string(id))
	if _, err := u.run(ctx, cmd); err != nil {
		return err
	}
	clear(u.secrets)
	return nil
}

func (u *Unit) secretCommand(name string, s Secret) (Command, error) {
	cmd := Command{Name: name}
	for _, flag := range []struct{ name, value string }{
		{"--label", s.Label}, {"--description", s.Description}, {"--owner", s.Owner}, {"--expire", s.Expire}, {"--rotate", s.Rotate},
	} {
		if flag.value != "" {
			cmd.Args = append(cmd.Args, flag.name, flag.value)
		}
	}
	size := 0
	for _, key := range sortedKeys(s.Content) {
		if !secretKey.MatchString(key) {
			return Command{}, fmt.Errorf("cannot use secret key %q: want three or more lower-case letters, digits and single hyphens, the first a letter", key)
		}
		value := s.Content[key]
		if size += len(value); size > maxSecret {
			return Command{}, fmt.Errorf("cannot keep more than %d bytes in a secret", maxSecret)
		}
		u.Conceal(value)
		if cmd.Files == nil {
			cmd.Files = make(map[string][]byte)
		}
		cmd.Files[key] = []byte(value)
	}
	return cmd, nil
}

// SecretGrant lets the relation's remote application read the secret, or one of its units, when the hook has succeeded. It may be repeated.
func (u *Unit) SecretGrant(ctx context.Context, id SecretID, relationID, unit string) error {
	return u.secretAccess(ctx, "secret-grant", id, relationID, unit)
}

// SecretRevoke takes back what SecretGrant gave.
func (u *Unit) SecretRevoke(ctx context.Context, id SecretID, relationID, unit string) error {
	return u.secretAccess(ctx, "secret-revoke", id, relationID, unit)
}

func (u *Unit) secretAccess(ctx context.Context, tool string, id SecretID, relationID, unit string) error {
	args := []string{"-r", relationID}
	if unit != "" {
		args = append(args, "--unit", unit)
	}
	_, err := u.run(ctx, Command{Name: tool, Args: append(args, "--", string(id))})
	return err
}

// SecretRemove removes a revision of an own secret, or with revision 0 all of it.
func (u *Unit) SecretRemove(ctx context.Context, id SecretID, revision int) error {
	var args []string
	if revision > 0 {
		args = append(args, "--revision", strconv.Itoa(revision))
	}
	if _, err := u.run(ctx, Command{Name: "secret-remove", Args: append(args, "--", string(id))}); err != nil {
		return err
	}
	clear(u.secrets)
	return nil
}

// SecretInfo is what an owner may know of a secret without reading it.
type SecretInfo struct {
	ID          SecretID `json:"-"` // bare
	Revision    int      `json:"revision"`
	Label       string   `json:"label"`
	Owner       string   `json:"owner"` // application or unit
	Description string   `json:"description"`
	Rotation    string   `json:"rotation"`
}

// SecretInfo finds an own secret by its label. Without one the error is ErrNotFound.
func (u *Unit) SecretInfo(ctx context.Context, label string) (SecretInfo, error) {
	var infos map[string]SecretInfo
	if err := u.read(ctx, &infos, "secret-info-get", "--format", "json", "--label", label); err != nil {
		return SecretInfo{}, err
	}
	for id, info := range infos {
		info.ID = SecretID(id)
		return info, nil
	}
	return SecretInfo{}, fmt.Errorf("cannot find a secret with label %q: %w", label, ErrNotFound)
}

// A Cloud is the model's cloud, with the model's credential for it.
type Cloud struct {
	Type     string `json:"type"` // such as maas
	Name     string `json:"name"`
	Region   string `json:"region"`
	Endpoint string `json:"endpoint"` // as it was given to add-cloud
	// Credential's attributes depend on the cloud and AuthType; MAAS with oauth1 has maas-oauth.
	Credential struct {
		AuthType   string            `json:"auth-type"`
		Attributes map[string]string `json:"attrs"`
	} `json:"credential"`
	CAs           []string `json:"cacertificates"` // PEM
	SkipTLSVerify bool     `json:"skip-tls-verify"`
}

// CredentialGet returns the model's cloud, for an application that was trusted (juju trust, or deployed with --trust). Without trust the error
// is ErrNotAllowed. The credential's attributes are concealed.
func (u *Unit) CredentialGet(ctx context.Context) (Cloud, error) {
	var cloud Cloud
	if err := u.read(ctx, &cloud, "credential-get", "--format", "json"); err != nil {
		return Cloud{}, err
	}
	for _, value := range cloud.Credential.Attributes {
		u.Conceal(value)
	}
	return cloud, nil
}
