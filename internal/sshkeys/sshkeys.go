// Package sshkeys finds the public SSH keys of people: the key itself, or those that they have published at Launchpad (lp:name) or
// GitHub (gh:name).
//
// What comes back goes into a machine's authorized_keys, as it is. So each line is checked to be one public key and nothing else:
// no options, no second line, no private key. A name is looked up once, when a machine is reserved; who changes their keys at
// Launchpad afterwards does not change who may log in.
package sshkeys

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"certlab/internal/cert"
	"certlab/internal/order"
)

const (
	maxKeys  = 50        // of one name
	maxBody  = 256 << 10 // bytes
	lookTime = 20 * time.Second
)

// A Resolver looks names up. Its zero value asks Launchpad and GitHub without a proxy.
type Resolver struct {
	Launchpad string            // https://launchpad.net if empty
	GitHub    string            // https://github.com if empty
	Transport http.RoundTripper // see NewTransport; nil: Go's own
}

// NewTransport returns a transport that uses that proxy, as the programs that read http_proxy and no_proxy do.
func NewTransport(p order.Proxy) *http.Transport {
	choose := (&httpproxy.Config{HTTPProxy: p.HTTP, HTTPSProxy: p.HTTPS, NoProxy: p.No}).ProxyFunc()
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
	return t
}

// A place is where people publish their keys.
type place struct {
	name string // of the place
	path string // of a person's keys there, %s being the person
	user *regexp.Regexp
}

var places = map[string]place{
	"lp": {"Launchpad", "/~%s/+sshkeys", regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{0,99}$`)},
	"gh": {"GitHub", "/%s.keys", regexp.MustCompile(`^[A-Za-z0-9](-?[A-Za-z0-9]){0,38}$`)},
}

// Resolve returns the public keys that a text stands for, each as one line: lp:name, gh:name, or a public key itself. Its errors are
// for the person who asks, and say what to do.
func (r *Resolver) Resolve(ctx context.Context, text string) ([]string, error) {
	text = strings.TrimSpace(text)
	scheme, user, named := strings.Cut(text, ":")
	at, known := places[scheme]
	if !named || !known {
		if named && !strings.ContainsAny(scheme, " \t") && scheme != "" && len(scheme) < 20 {
			return nil, cert.Errorf(cert.Invalid, "cannot use the key %q: keys are found at lp: (Launchpad) and gh: (GitHub), or given themselves", clip(text))
		}
		key, err := Parse(text)
		if err != nil && strings.Contains(text, "PRIVATE KEY") {
			return nil, cert.Errorf(cert.Invalid, "cannot use the key: %v", err) // no part of it is repeated
		}
		if err != nil {
			return nil, cert.Errorf(cert.Invalid, "cannot use the key %q: %v", clip(text), err)
		}
		return []string{key}, nil
	}
	if !at.user.MatchString(user) {
		return nil, cert.Errorf(cert.Invalid, "cannot look up %q: that is no name of a person at %s", clip(text), at.name)
	}
	base := r.Launchpad
	if base == "" {
		base = "https://launchpad.net"
	}
	if scheme == "gh" {
		if base = r.GitHub; base == "" {
			base = "https://github.com"
		}
	}
	body, err := r.fetch(ctx, strings.TrimRight(base, "/")+fmt.Sprintf(at.path, url.PathEscape(user)), text, at.name)
	if err != nil {
		return nil, err
	}
	return keysOf(body, text, at.name)
}

// fetch reads one address. Redirects are not followed: neither place answers with one, and a proxy's login page is no list of keys.
func (r *Resolver) fetch(ctx context.Context, address, text, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, cert.Errorf(cert.Invalid, "cannot look up %s: %q is no address", text, clip(address))
	}
	req.Header.Set("Accept", "text/plain")
	client := &http.Client{Transport: r.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(text, name, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, cert.Errorf(cert.Invalid, "cannot look up %s: %s knows no such person", text, name)
	case resp.StatusCode != http.StatusOK:
		return nil, cert.Errorf(cert.Unavailable, "cannot look up %s: %s answered %s (try again later, or give the key itself instead)", text, name, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, unreachable(text, name, err)
	case len(body) > maxBody:
		return nil, cert.Errorf(cert.Unavailable, "cannot look up %s: %s answered with more than %d bytes (give the key itself instead)", text, name, maxBody)
	}
	return body, nil
}

func unreachable(text, name string, err error) error {
	why := "it does not answer in time"
	if !errors.Is(err, context.DeadlineExceeded) {
		var wrapped *url.Error // repeats the method and the address, which may name a proxy's password
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		why = err.Error()
	}
	return cert.Errorf(cert.Unavailable, "cannot look up %s: the controller cannot reach %s: %s (give the key itself instead, or set the model's https-proxy)", text, name, why)
}

// keysOf returns the keys of an answer. Lines that are no key that sshd takes are left out; an answer without any other is an error.
func keysOf(body []byte, text, name string) ([]string, error) {
	var keys []string
	var wrong error
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, maxBody+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := Parse(line)
		if err != nil {
			wrong = err
			continue
		}
		keys = append(keys, key)
	}
	switch {
	case len(keys) > maxKeys:
		return nil, cert.Errorf(cert.Invalid, "cannot use the keys of %s: there are %d at %s, at most %d are taken (give the key itself instead)", text, len(keys), name, maxKeys)
	case len(keys) == 0 && wrong != nil:
		return nil, cert.Errorf(cert.Invalid, "cannot use the keys of %s: %s has none that sshd takes: %v (publish an ssh-ed25519 key there, or give the key itself)", text, name, wrong)
	case len(keys) == 0:
		return nil, cert.Errorf(cert.Invalid, "cannot use the keys of %s: there are none at %s (publish one there, or give the key itself)", text, name)
	}
	return keys, nil
}
