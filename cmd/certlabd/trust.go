package main

import (
	"context"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/control/trust"
	"certlab/internal/control/trust/notices"
	"certlab/internal/control/watch"
	"certlab/internal/order"
)

// newTrust makes what judges failures, watches machines from outside, and sends notices. The engine is told of it where it is made.
func (s *service) newTrust() {
	fleet := func() order.Fleet { return s.lab.Desired().Fleet }
	s.trust = trust.New(trust.Options{DB: s.db, Logger: s.logger, Now: s.now, Config: fleet, About: s.about.get(s), Fleet: func() trust.Fleet { return s.fleet }})
	s.watch = watch.New(watch.Options{DB: s.db, Files: s.store, Logger: s.logger, Now: s.now, Config: fleet, Gate: s.trust, Console: s.console, Placed: s.placed,
		Provider: func() cert.Provider { return s.fleet.Provider() }})
	s.outbox = notices.New(notices.Options{DB: s.db, Logger: s.logger, Now: s.now, Config: func() (string, string, order.Fleet) {
		d := s.lab.Desired()
		return d.SiteName, d.ExternalURL, d.Fleet
	}})
}

// aboutFor is how long what the provider says of itself is good for.
const aboutFor = 10 * time.Minute

// aboutCache keeps what the provider last said of itself.
type aboutCache struct {
	mu    sync.Mutex
	read  time.Time
	about cert.About
	known bool
}

func (c *aboutCache) get(s *service) func(context.Context) (cert.About, bool) {
	return func(ctx context.Context) (cert.About, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		p := s.fleet.Provider()
		if p == nil {
			return cert.About{}, false
		}
		if now := s.now(); now.Sub(c.read) >= aboutFor || now.Before(c.read) {
			c.read = now
			if about, err := p.About(ctx); err == nil {
				c.about, c.known = about, true
			}
		}
		return c.about, c.known
	}
}
