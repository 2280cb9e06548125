package kernelnews

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"certlab/internal/version"
)

// Times of a Poller.
const (
	Every    = 5 * time.Minute  // between two looks; what Test Observer does
	atMost   = time.Hour        // after failures, or where the server asks for it
	oneTry   = 60 * time.Second // a look, its answer read whole
	maxLinks = 5                // that are followed
)

// PollerOptions are what a Poller works with.
type PollerOptions struct {
	// URL is where the status is, looked up before each poll. Empty: nothing is polled.
	URL func() string
	// Transport is looked up before each poll, since proxies change. Nil: http.DefaultTransport.
	Transport func() http.RoundTripper
	// Take stores a status that is new. While it fails, the same status is fetched again.
	Take   func(ctx context.Context, s Status, url string) error
	Logger *slog.Logger
}

// A Poller looks at the kernel team's status from time to time. It keeps nothing across a restart: the status is fetched again then.
type Poller struct {
	PollerOptions
	nudge chan struct{}

	mu      sync.Mutex
	read    *time.Time
	problem string
}

// NewPoller returns one that does nothing until Run.
func NewPoller(o PollerOptions) *Poller {
	return &Poller{PollerOptions: o, nudge: make(chan struct{}, 1)}
}

// Nudge has the address looked up again at once.
func (p *Poller) Nudge() {
	select {
	case p.nudge <- struct{}{}:
	default:
	}
}

// Read is when the status was seen last, changed or not; nil: not since the start.
func (p *Poller) Read() *time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read
}

// Problem says why the status is not known, or what of it was not understood; nothing if all is well, or nothing is polled.
func (p *Poller) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// seen is what is known of one address.
type seen struct {
	url, etag, modified string
	partly              string // what was not understood of it
	failures            int
}

// Run polls until ctx is done.
func (p *Poller) Run(ctx context.Context) error {
	var last seen
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.nudge:
			if p.URL() == last.url {
				continue // the wait that is under way goes on: a server that asked for patience gets it
			}
		case <-timer.C:
		}
		timer.Reset(p.turn(ctx, &last))
	}
}

// turn looks once, and says how long to wait until the next time.
func (p *Poller) turn(ctx context.Context, last *seen) time.Duration {
	url := p.URL()
	if url != last.url {
		*last = seen{url: url}
	}
	if url == "" {
		p.say(nil, "")
		return Every
	}
	patience, err := p.look(ctx, last)
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return atMost
	case err != nil:
		last.failures++
		text := fmt.Sprintf("cannot read the kernel team's status from %s: %s", url, err)
		if p.Problem() != text {
			p.Logger.Warn("cannot read the kernel team's status", "url", url, "error", err.Error())
		}
		p.say(nil, text)
		return min(atMost, max(patience, Every<<min(last.failures-1, 4)))
	}
	last.failures = 0
	p.say(&now, last.partly)
	return min(atMost, max(patience, Every))
}

func (p *Poller) say(read *time.Time, problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if read != nil {
		p.read = read
	}
	p.problem = problem
}

// look fetches the status, unless it is the one that was taken last. It returns how long the server wants to be left alone.
func (p *Poller) look(ctx context.Context, last *seen) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, last.url, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true // the next one is minutes away, and by another transport
	req.Header.Set("User-Agent", "certlab/"+version.Version)
	req.Header.Set("Accept", "application/json")
	if last.etag != "" {
		req.Header.Set("If-None-Match", last.etag)
	}
	if last.modified != "" {
		req.Header.Set("If-Modified-Since", last.modified)
	}
	response, err := p.client().Do(req)
	if err != nil {
		return 0, without(err)
	}
	defer response.Body.Close()
	patience := retryAfter(response.Header)
	switch {
	case response.StatusCode == http.StatusNotModified && (last.etag != "" || last.modified != ""):
		return patience, nil
	case response.StatusCode != http.StatusOK:
		_, _ = io.CopyN(io.Discard, response.Body, 4096)
		return patience, fmt.Errorf("it answers %s", response.Status)
	}
	status, err := parse(response.Body, time.Now().UTC())
	if err != nil {
		return patience, without(err)
	}
	if err := p.Take(ctx, status, last.url); err != nil {
		return patience, fmt.Errorf("it cannot be stored: %w", err)
	}
	// Only now: a status that is not stored is wanted again.
	last.etag, last.modified, last.partly = response.Header.Get("ETag"), response.Header.Get("Last-Modified"), status.Problem()
	return patience, nil
}

func (p *Poller) client() *http.Client {
	c := &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxLinks {
			return fmt.Errorf("it leads elsewhere more than %d times", maxLinks)
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("it leads from https to something that is not")
		}
		return nil
	}}
	if p.Transport != nil {
		c.Transport = p.Transport()
	}
	return c
}

// without is the error without the request's method and address, which are said anyway.
func without(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no answer within %s", oneTry)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, int(atMost/time.Second))) * time.Second
}
