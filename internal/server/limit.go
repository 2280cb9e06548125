package server

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// Limits bound what is under way at once, so that too many requests are answered as such instead of using up the machine.
type Limits struct {
	PerCaller int           // requests of one token, one machine, or one address that nobody is known at
	Receive   int           // uploads
	Unpack    int           // archives that are read for an answer
	Wait      time.Duration // how long an upload or a reading waits for its turn before it is refused
	Patience  time.Duration // how long a body may stand still
	Head      time.Duration // for a TLS handshake, and for a request's head
}

// DefaultLimits suit a lab of 1,000 machines: all of them may deliver at once, and wait for their turn.
func DefaultLimits() Limits {
	return Limits{PerCaller: 64, Receive: 64, Unpack: 2 + runtime.NumCPU(), Wait: 30 * time.Second, Patience: 2 * time.Minute, Head: 10 * time.Second}
}

// gate counts requests under way.
type gate struct {
	limits Limits
	slots  map[route.Slot]chan struct{}

	mu      sync.Mutex
	callers map[string]int
}

func newGate(l Limits) *gate {
	return &gate{limits: l, callers: make(map[string]int),
		slots: map[route.Slot]chan struct{}{route.Receive: make(chan struct{}, l.Receive), route.Unpack: make(chan struct{}, l.Unpack)}}
}

// callerKey names who makes a request, for counting.
func callerKey(c route.Caller, r *http.Request) string {
	switch {
	case c.Machine != "":
		return "machine " + c.Machine
	case c.TokenID != "":
		return "token " + c.TokenID
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}

// enter lets a request in, or fails as TooMany or, after waiting for its turn, as Unavailable. leave is called when it is over.
func (g *gate) enter(ctx context.Context, key string, slot route.Slot) (leave func(), err error) {
	g.mu.Lock()
	full := g.callers[key] >= g.limits.PerCaller
	if !full {
		g.callers[key]++
	}
	g.mu.Unlock()
	if full {
		return nil, cert.Errorf(cert.TooMany, "%d requests of this caller are under way already (try again in a moment)", g.limits.PerCaller)
	}
	out := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.callers[key]--; g.callers[key] == 0 {
			delete(g.callers, key)
		}
	}
	free := g.slots[slot]
	if free == nil {
		return out, nil
	}
	select {
	case free <- struct{}{}:
		return func() { <-free; out() }, nil
	default:
	}
	turn := time.NewTimer(g.limits.Wait)
	defer turn.Stop()
	select {
	case free <- struct{}{}:
		return func() { <-free; out() }, nil
	case <-turn.C:
		err = cert.Errorf(cert.Unavailable, "the controller is busy: %d others are being served (try again in a moment)", cap(free))
	case <-ctx.Done():
		err = ctx.Err()
	}
	out()
	return nil, err
}
