package maas

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"certlab/internal/cert"
)

// Config says which region, and how it is used.
type Config struct {
	URL string // http(s)://host:5240/MAAS
	Key string // consumer:token:secret, of a user of MAAS
	Lab string // this lab's id; its machines are allocated with the agent name certlab-LAB

	QuarantinePool, QuarantineTag string                // made with a description that says what they are for
	Erase                         map[string]cert.Erase // what releasing does to disks, by pool; "" is the other pools'
	PowerUnits                    bool                  // machines of other owners that carry a unit of this lab may be power-cycled

	CACert    []byte            // PEM; of a region whose https certificate no public authority has signed
	Transport http.RoundTripper // nil: a real one
	Now       func() time.Time  // nil: the clock
	Log       *slog.Logger      // nil: none
	Limits    Limits
}

// Provider is a MAAS region. Its methods may be called at once.
type Provider struct {
	config    Config
	url       string
	transport http.RoundTripper
	limits    Limits
	slots     chan struct{} // one per call under way

	mu     sync.Mutex
	key    string
	me     *user
	about  version
	denied map[string]bool   // rights that MAAS has denied to this key
	names  map[string]string // host names by id, for messages
	calls  map[string]int64
}

var _ cert.Provider = (*Provider)(nil)

// New returns the provider that config says. It asks nothing of MAAS: whether the region can be reached and likes the key is About's.
func New(config Config) (*Provider, error) {
	address, err := regionURL(config.URL)
	if err != nil {
		return nil, err
	}
	if !identifier.MatchString(config.Lab) {
		return nil, fmt.Errorf("cannot use %q as the lab's id: it is not made of letters, digits, - and _", config.Lab)
	}
	for pool, erase := range config.Erase {
		if _, ok := erasing[erase]; !ok {
			return nil, fmt.Errorf("cannot erase disks of pool %q by %q: that is none of none, quick, secure, full", pool, erase)
		}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{config: config, url: address, transport: config.Transport, limits: config.Limits.filled(),
		names: map[string]string{}, calls: map[string]int64{}}
	p.slots = make(chan struct{}, p.limits.Parallel)
	if p.transport == nil {
		if p.transport, err = newTransport(config.CACert); err != nil {
			return nil, err
		}
	}
	p.SetKey(config.Key)
	return p, nil
}

// SetKey changes the key for all calls from now on. What the old one was allowed is forgotten.
func (p *Provider) SetKey(key string) {
	key = strings.TrimSpace(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	if key == p.key && p.denied != nil {
		return
	}
	p.key, p.me, p.denied = key, nil, map[string]bool{}
}

// Calls returns how many requests were made of MAAS so far, by operation.
func (p *Provider) Calls() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.calls)
}

func (p *Provider) agentName() string { return "certlab-" + p.config.Lab }

// name returns what a message calls a machine.
func (p *Provider) name(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name := p.names[id]; name != "" {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q", id)
}

// within gives a method its deadline: what all attempts of its slowest call may take.
func (p *Provider) within(ctx context.Context, answer time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(p.limits.Attempts)*answer+p.limits.Busy)
}

// identifier is what a system id, a tag and a lab's id look like. It keeps them from being a path of their own in a URL.
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// regionURL checks what a person gave as the region's address and completes it.
func regionURL(text string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("cannot use %q as MAAS's address: it is not like http://maas.example:5240/MAAS", redacted(text))
	}
	if u.User != nil {
		return "", errors.New("cannot use an address of MAAS with a user in it: the key is given by itself")
	}
	u.RawQuery, u.Fragment = "", ""
	path := strings.TrimRight(u.Path, "/")
	path = strings.TrimSuffix(path, "/api/2.0")
	if path == "" {
		path = "/MAAS"
	}
	u.Path = path
	return u.String(), nil
}

// redacted returns an address without what may be a password in it.
func redacted(address string) string {
	if at := strings.LastIndex(address, "@"); at >= 0 {
		return "…" + address[at:]
	}
	return address
}

// newTransport returns a transport with connections that are used once. See Attempts in the package's documentation.
func newTransport(ca []byte) (http.RoundTripper, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableKeepAlives:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("cannot use MAAS's CA certificate: it holds no certificate in PEM")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}
