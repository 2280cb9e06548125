package maastest

import (
	"sort"
	"sync"
	"time"
)

// A Clock drives everything that takes time in a region.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f, in a goroutine of its own or from whoever moves the clock, once d has passed. stop tells whether it came in time.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// realClock is the time package: real, or a bubble's under testing/synctest.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// ManualClock stands still until it is moved. The zero value is not usable: NewManualClock.
type ManualClock struct {
	mu     sync.Mutex
	now    time.Time
	serial int
	timers []*manualTimer
}

type manualTimer struct {
	at     time.Time
	serial int
	f      func()
}

// NewManualClock returns a clock that stands at a time.
func NewManualClock(at time.Time) *ManualClock { return &ManualClock{now: at} }

// Now returns where the clock stands.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc calls f from the Advance that passes d from now.
func (c *ManualClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	t := &manualTimer{at: c.now.Add(d), serial: c.serial, f: f}
	c.timers = append(c.timers, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.timers {
			if other == t {
				c.timers = append(c.timers[:i], c.timers[i+1:]...)
				return true
			}
		}
		return false
	}
}

// Advance moves the clock, and calls what is due on the way, in order of time.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	until := c.now.Add(d)
	for {
		sort.Slice(c.timers, func(i, j int) bool {
			a, b := c.timers[i], c.timers[j]
			if a.at.Equal(b.at) {
				return a.serial < b.serial
			}
			return a.at.Before(b.at)
		})
		if len(c.timers) == 0 || c.timers[0].at.After(until) {
			break
		}
		t := c.timers[0]
		c.timers = c.timers[1:]
		if t.at.After(c.now) {
			c.now = t.at
		}
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.now = until
	c.mu.Unlock()
}
