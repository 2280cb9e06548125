package maas

import (
	"context"
	"io"
	"math/rand/v2"
	"net/url"
	"time"

	"certlab/internal/cert"
	gomaas "github.com/canonical/gomaasclient/client"
	gomaasapi "github.com/juju/gomaasapi/v2"
)

// A call is something asked of MAAS, in one or more attempts.
type call struct {
	op     string                // MAAS's name of it, for Calls
	doing  string                // completes "cannot …"
	change bool                  // it changes something: an attempt that may have had an effect is the last
	long   bool                  // MAAS takes its time
	right  string                // what a user lacks who may not; see rights
	limit  int64                 // how much is read of a good answer; 0: maxSmall
	into   func(io.Reader) error // reads a good answer; nil: ask does
	ask    func(gomaas.APIClient) error
}

// do makes a call that reads, with all the attempts it may have.
func (p *Provider) do(ctx context.Context, c call) error {
	return p.attempts(ctx, func() (*cert.ProviderError, bool) { return p.once(ctx, c) })
}

// attempts repeats try for as long as it fails in a way that allows it. Between two attempts it waits: as long as MAAS says, or longer
// each time, and by chance longer or shorter, so that many callers do not come back at once.
func (p *Provider) attempts(ctx context.Context, try func() (failed *cert.ProviderError, again bool)) error {
	pause := p.limits.Pause
	for attempt := 1; ; attempt++ {
		failed, again := try()
		if failed == nil {
			return nil
		}
		if !again || attempt >= p.limits.Attempts || ctx.Err() != nil {
			return failed
		}
		wait := max(failed.Wait, pause/2+rand.N(pause))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return failed
		}
		p.config.Log.Debug("asking MAAS again", "after", wait, "failed", failed.Message)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return failed
		}
		pause *= 2
	}
}

// once makes one attempt of c. again says whether another one may follow.
func (p *Provider) once(ctx context.Context, c call) (failed *cert.ProviderError, again bool) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return cert.ProviderErrorf(cert.ProviderUnreachable, "cannot %s: there was no time left to ask MAAS", c.doing), false
	}
	p.mu.Lock()
	key := p.key
	p.calls[c.op]++
	p.mu.Unlock()

	patience := p.limits.Answer
	if c.long {
		patience = p.limits.Long
	}
	attempt, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit := c.limit
	if limit == 0 {
		limit = maxSmall
	}
	begun := time.Now()
	x := &exchange{ctx: attempt, begun: begun, next: p.transport, limit: limit, into: c.into, drop: c.change && c.into == nil}
	api, err := newAPI(p.url, key, x)
	if err != nil {
		return cert.ProviderErrorf(cert.ProviderRefused, "cannot %s: %v", c.doing, err), false
	}
	err = c.ask(api)
	failed, again = p.judge(ctx, c, x)
	if failed == nil && err != nil && x.into == nil && !x.drop {
		failed = cert.ProviderErrorf(cert.ProviderBroken, "cannot %s: MAAS's answer cannot be read: %s", c.doing, plain(err.Error()))
	}
	p.config.Log.Debug("asked MAAS", "operation", c.op, "status", x.status, "took", time.Since(begun), "for", c.doing)
	if failed == nil {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch failed.Fault {
	case cert.ProviderRefused:
		// The key was changed while MAAS read the old one.
		again = key != p.key
	case cert.ProviderForbidden:
		if c.right != "" && key == p.key {
			p.denied[c.right] = true
		}
	}
	return failed, again
}

// newAPI returns gomaasclient's client for one attempt. Its typed clients are made of it where they are used: all of them, as
// gomaasclient makes them, are too many for one call.
func newAPI(region, key string, x *exchange) (gomaas.APIClient, error) {
	if err := checkKey(key); err != nil {
		return gomaas.APIClient{}, err
	}
	auth, err := gomaasapi.NewAuthenticatedClient(gomaasapi.AddAPIVersionToURL(region, "2.0"), key)
	if err != nil {
		return gomaas.APIClient{}, errKey
	}
	auth.HTTPClient = httpClient(x)
	return gomaas.APIClient{AuthClient: *auth, MAASObject: gomaasapi.NewMAAS(*auth)}, nil
}

// filter is what a list of machines is asked for by.
func filter(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values
}
