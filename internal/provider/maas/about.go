package maas

import (
	"context"
	"strconv"
	"strings"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
)

type user struct {
	name  string
	admin bool
}

type version struct{ text string }

// About asks MAAS what it is and who the key's user is.
func (p *Provider) About(ctx context.Context) (cert.About, error) {
	ctx, cancel := p.within(ctx, p.limits.Answer)
	defer cancel()
	v, err := p.version(ctx, "ask MAAS what it is")
	if err != nil {
		return cert.About{}, err
	}
	// Even if it is known: an ordinary user may have become an administrator.
	me, err := p.askWho(ctx, "ask MAAS whose the key is")
	if err != nil {
		return cert.About{}, err
	}
	about := cert.About{Kind: "maas", URL: p.url, Version: v.text, User: me.name, Admin: me.admin}
	if v.atLeast(3, 5) {
		about.Supported = append(about.Supported, "ephemeral-deploy")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	about.Missing = missing(about.Admin, p.denied)
	return about, nil
}

func (p *Provider) version(ctx context.Context, doing string) (version, error) {
	var v version
	err := p.do(ctx, call{op: "version", doing: doing, ask: func(api gomaas.APIClient) error {
		found, err := (&gomaas.Version{APIClient: api}).Get()
		v.text = plain(found.Version)
		return err
	}})
	if err != nil {
		return version{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.about = v
	return v, nil
}

// whoami returns the key's user. It is asked once per key, and by About.
func (p *Provider) whoami(ctx context.Context, doing string) (string, error) {
	p.mu.Lock()
	me := p.me
	p.mu.Unlock()
	if me != nil {
		return me.name, nil
	}
	found, err := p.askWho(ctx, doing)
	return found.name, err
}

func (p *Provider) askWho(ctx context.Context, doing string) (user, error) {
	p.mu.Lock()
	key := p.key
	p.mu.Unlock()
	var found user
	err := p.do(ctx, call{op: "whoami", doing: doing, ask: func(api gomaas.APIClient) error {
		u, err := (&gomaas.Users{APIClient: api}).Whoami()
		found = user{u.UserName, u.IsSuperUser}
		return err
	}})
	if err != nil {
		return user{}, err
	}
	if found.name == "" {
		// Taken for a name, it would make machines without an owner this lab's.
		return user{}, cert.ProviderErrorf(cert.ProviderBroken, "cannot %s: MAAS at %s does not say whose the key is", doing, p.url)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if key == p.key {
		p.me = &found
	}
	return found, nil
}

// admin reports whether the key's user is an administrator, as far as is known.
func (p *Provider) admin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.me != nil && p.me.admin
}

// atLeast compares versions such as 3.4.1 and 3.8.0a1.
func (v version) atLeast(major, minor int) bool {
	parts := strings.SplitN(v.text, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}
