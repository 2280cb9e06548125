package juju

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Clock tells and awaits time. Tests hand in one that they turn.
type Clock interface {
	Now() time.Time
	// After is a channel that gets one value once d is over.
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is the time in UTC.
func (SystemClock) Now() time.Time { return time.Now().UTC() }

// After waits for d by the machine's clock.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Options of a model. All may be left empty.
type Options struct {
	Clock  Clock     // default: SystemClock
	Random io.Reader // for ids of secrets and contexts; default: crypto/rand
	// Save makes a new state durable. It is called with the lock held, one call at a time, before anybody can see the state;
	// if it fails, the update has not happened.
	Save func(*State) error
}

// A Model guards a state. All methods may be called from any goroutine.
type Model struct {
	clock  Clock
	random io.Reader
	save   func(*State) error

	mu      sync.Mutex // held by updates
	state   atomic.Pointer[State]
	changed atomic.Pointer[chan struct{}]

	lockMu sync.Mutex
	locks  map[string]chan struct{} // machine id → token
}

// NewModel guards the state, which the caller gives away.
func NewModel(state *State, opts Options) *Model {
	m := &Model{clock: opts.Clock, random: opts.Random, save: opts.Save, locks: map[string]chan struct{}{}}
	if m.clock == nil {
		m.clock = SystemClock{}
	}
	if m.random == nil {
		m.random = rand.Reader
	}
	state.init()
	m.state.Store(state)
	ch := make(chan struct{})
	m.changed.Store(&ch)
	return m
}

// NewState is an empty model of the given name and version at a time.
func NewState(info ModelInfo, now time.Time) *State {
	if info.Type == "" {
		info.Type = "iaas"
	}
	if info.Life == "" {
		info.Life = Alive
	}
	if info.Status.Status == "" {
		info.Status = Status{Status: "available", Since: now}
	}
	if info.Created.IsZero() {
		info.Created = now
	}
	s := &State{Model: info}
	s.init()
	return s
}

// init makes the maps, so that a state from JSON can be written to.
func (s *State) init() {
	makeMap(&s.Config)
	makeMap(&s.Machines)
	makeMap(&s.Charms)
	makeMap(&s.Applications)
	makeMap(&s.Units)
	makeMap(&s.Relations)
	makeMap(&s.Storage)
	makeMap(&s.Secrets)
	makeMap(&s.Operations)
	makeMap(&s.Tasks)
	makeMap(&s.Next.Unit)
	makeMap(&s.Next.Charm)
	for _, app := range s.Applications {
		makeMap(&app.Config)
		makeMap(&app.Bindings)
		makeMap(&app.Directives)
		makeMap(&app.Resources)
		makeMap(&app.Annotations)
	}
	for _, u := range s.Units {
		makeMap(&u.CharmState)
		makeMap(&u.Uniter.Relations)
		makeMap(&u.Uniter.Storage)
		makeMap(&u.Uniter.Secrets)
		makeMap(&u.Uniter.Obsolete)
		for _, r := range u.Uniter.Relations {
			makeMap(&r.Joined)
			makeMap(&r.Apps)
		}
	}
	for _, r := range s.Relations {
		makeMap(&r.Apps)
		makeMap(&r.Units)
		for _, e := range r.Endpoints {
			if r.Apps[e.Application] == nil {
				r.Apps[e.Application] = &AppBag{}
			}
		}
		for _, bag := range r.Apps {
			makeMap(&bag.Settings)
		}
		for _, unit := range r.Units {
			makeMap(&unit.Settings)
		}
	}
	for _, secret := range s.Secrets {
		makeMap(&secret.Consumers)
	}
}

func makeMap[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = map[K]V{}
	}
}

// Snapshot is the state as it is now. It must not be changed; it stays as it is for as long as it is kept.
func (m *Model) Snapshot() *State { return m.state.Load() }

// View calls fn with a snapshot.
func (m *Model) View(fn func(*State)) { fn(m.Snapshot()) }

// Update has fn change a copy of the state, saves the copy, and makes it the state. When fn or the saving fails nothing has
// changed. Updates run one at a time; fn must not call Update.
func (m *Model) Update(fn func(*State) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := clone(m.Snapshot())
	if err := fn(next); err != nil {
		return err
	}
	next.init() // whatever fn has added can be written to by the next update
	if m.save != nil {
		if err := m.save(next); err != nil {
			return fmt.Errorf("cannot save the model's state: %w", err)
		}
	}
	m.state.Store(next)
	ch := make(chan struct{})
	close(*m.changed.Swap(&ch))
	return nil
}

// Changed is closed at the next change. Take it before looking at the state, or a change in between is missed.
func (m *Model) Changed() <-chan struct{} { return *m.changed.Load() }

// Wait returns as soon as ok is true of the state, or with ctx's error.
func (m *Model) Wait(ctx context.Context, ok func(*State) bool) error {
	for {
		changed := m.Changed()
		if ok(m.Snapshot()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Now is the model's time, in UTC.
func (m *Model) Now() time.Time { return m.clock.Now().UTC() }

// Clock is what the model was given.
func (m *Model) Clock() Clock { return m.clock }

// NewID makes the id of a secret as Juju does: 96 bits as 20 characters of 0-9 and a-v, of which the last is therefore 0 or g.
func (m *Model) NewID() string {
	const alphabet = "0123456789abcdefghijklmnopqrstuv"
	raw := m.randomBytes(20)
	for i, b := range raw {
		raw[i] = alphabet[b&31]
	}
	raw[19] = "0g"[raw[19]&1]
	return string(raw)
}

func (m *Model) randomBytes(n int) []byte {
	raw := make([]byte, n)
	m.lockMu.Lock()
	defer m.lockMu.Unlock()
	if _, err := io.ReadFull(m.random, raw); err != nil {
		panic("juju: no randomness: " + err.Error()) // crypto/rand cannot fail; a test's reader must not
	}
	return raw
}

// lockMachine waits for the machine's lock, which hooks and most actions of all its units hold one at a time, and returns what
// releases it.
func (m *Model) lockMachine(ctx context.Context, machine string) (release func(), err error) {
	m.lockMu.Lock()
	token := m.locks[machine]
	if token == nil {
		token = make(chan struct{}, 1)
		m.locks[machine] = token
	}
	m.lockMu.Unlock()
	select {
	case token <- struct{}{}:
		return func() { <-token }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
