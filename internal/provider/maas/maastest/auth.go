package maastest

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a request's timestamp may be from the region's clock, and so how long a nonce has to be remembered.
const maxSkew = 300 * time.Second

type user struct {
	Name, Email string
	Admin       bool
	Keys        []*key
}

// key is an API key. A user can have several.
type key struct {
	Consumer, Token, Secret string
	Revoked                 bool
}

func (k *key) String() string { return k.Consumer + ":" + k.Token + ":" + k.Secret }

const keyAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ23456789"

func (r *Region) newKey() *key {
	return &key{Consumer: r.letters(keyAlphabet, 18), Token: r.letters(keyAlphabet, 18), Secret: r.letters(keyAlphabet, 32)}
}

// AddUser returns an API key, consumer:token:secret, of a user, who is made if there is none of that name. Each call gives another key.
func (r *Region) AddUser(name string, admin bool) string {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.user(name)
	if u == nil {
		u = &user{Name: name, Email: name + "@example.com", Admin: admin}
		r.state.Users = append(r.state.Users, u)
	}
	k := r.newKey()
	u.Keys = append(u.Keys, k)
	return k.String()
}

// Revoke makes a key, as AddUser returned it, useless.
func (r *Region) Revoke(apiKey string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.state.Users {
		for _, k := range u.Keys {
			if k.String() == apiKey {
				k.Revoked = true
			}
		}
	}
}

// SetAdmin gives a user an administrator's rights, or takes them.
func (r *Region) SetAdmin(name string, admin bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.user(name); u != nil {
		u.Admin = admin
	}
}

func (r *Region) user(name string) *user {
	for _, u := range r.state.Users {
		if u.Name == name {
			return u
		}
	}
	return nil
}

var oauthField = regexp.MustCompile(`(\w+)="([^"]*)"`)

// oauth reads the fields of an Authorization header: OAuth a="b", c="d". Values are percent-encoded.
func oauth(header string) (map[string]string, bool) {
	rest, ok := strings.CutPrefix(header, "OAuth ")
	if !ok {
		return nil, false
	}
	fields := map[string]string{}
	for _, m := range oauthField.FindAllStringSubmatch(rest, -1) {
		v, err := url.QueryUnescape(strings.ReplaceAll(m[2], "+", "%2B"))
		if err != nil {
			return nil, false
		}
		fields[m[1]] = v
	}
	return fields, true
}

func refused(format string, args ...any) *reply {
	answer := text(http.StatusUnauthorized, "Authorization Error: "+format, args...)
	answer.contentType = "text/html; charset=utf-8"
	answer.header = http.Header{"Www-Authenticate": {`OAuth realm="OAuth"`}}
	return &answer
}

// authenticate tells who asks. The answer is not nil if the request is refused. Called with the lock.
func (r *Region) authenticate(header string) (*user, *key, *reply) {
	fields, ok := oauth(header)
	if !ok {
		return nil, nil, refused("Invalid API key.")
	}
	var who *user
	var with *key
	for _, u := range r.state.Users {
		for _, k := range u.Keys {
			if k.Token == fields["oauth_token"] && k.Consumer == fields["oauth_consumer_key"] && !k.Revoked {
				who, with = u, k
			}
		}
	}
	if who == nil || fields["oauth_signature_method"] != "PLAINTEXT" || fields["oauth_signature"] != "&"+with.Secret {
		return nil, nil, refused("Invalid API key.")
	}
	stamp, err := strconv.ParseInt(fields["oauth_timestamp"], 10, 64)
	if err != nil {
		return nil, nil, refused("'Invalid timestamp: %s'", fields["oauth_timestamp"])
	}
	now := r.clock.Now().Add(r.clockSkew)
	if d := now.Unix() - stamp; d > int64(maxSkew/time.Second) || -d > int64(maxSkew/time.Second) {
		return nil, nil, refused("'Expired timestamp: given %d and now %d has a greater difference than threshold %d'", stamp, now.Unix(), int(maxSkew/time.Second))
	}
	nonce := with.Token + " " + fields["oauth_nonce"]
	if until, used := r.nonces[nonce]; used && until.After(now) {
		return nil, nil, refused("'Nonce already used: %s'", fields["oauth_nonce"])
	}
	if len(r.nonces) > 20_000 {
		for k, until := range r.nonces {
			if !until.After(now) {
				delete(r.nonces, k)
			}
		}
	}
	r.nonces[nonce] = now.Add(2 * maxSkew)
	return who, with, nil
}

// permission is what somebody needs to be for an operation.
type permission int

const (
	anybody   permission = iota // with a good key
	nobody                      // no key needed
	adminOnly                   // for what is no machine
	view                        // a machine that is nobody's or theirs
	edit                        // the same, not locked
	lockOnly                    // the same, locked or not
	admin                       // an administrator; not locked
	adminRead                   // an administrator
)

// may tells whether a user has a permission for a machine (nil: not about one).
func (p permission) may(u *user, n *node) bool {
	theirs := n != nil && (u.Admin || n.Owner == "" || n.Owner == u.Name)
	switch p {
	case anybody, nobody:
		return true
	case adminOnly, adminRead:
		return u.Admin
	case view, lockOnly:
		return theirs
	case edit:
		return theirs && !n.Locked
	default:
		return u.Admin && !n.Locked
	}
}

// Sign adds a good Authorization header to a request: for tests that speak to the region without a client library. A nonce must be new each
// time.
func Sign(req *http.Request, apiKey, nonce string, at time.Time) error {
	parts := strings.Split(apiKey, ":")
	if len(parts) != 3 {
		return fmt.Errorf("cannot sign a request: the key has %d parts, not three", len(parts))
	}
	req.Header.Set("Authorization", fmt.Sprintf(`OAuth oauth_version="1.0", oauth_signature_method="PLAINTEXT", oauth_consumer_key="%s", `+
		`oauth_token="%s", oauth_signature="%%26%s", oauth_nonce="%s", oauth_timestamp="%d"`,
		parts[0], parts[1], url.QueryEscape(parts[2]), url.QueryEscape(nonce), at.Unix()))
	return nil
}

// SetEmail gives a user another address than NAME@example.com.
func (r *Region) SetEmail(name, email string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.user(name); u != nil {
		u.Email = email
	}
}
