package maastest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// saved is what Save writes.
type saved struct {
	Format int
	At     time.Time
	State  state
	Log    []Entry
}

// maxSavedEvents bounds what Save writes of the machines' history.
const maxSavedEvents = 5000

// Save returns all of the region but its counters: machines, what is happening to them, users, keys, events and faults. It
// holds secrets: keys and user-data.
func (r *Region) Save() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.oplog
	if len(log) > 1000 {
		log = log[len(log)-1000:]
	}
	state := r.state
	if n := len(state.Events) - maxSavedEvents; n > 0 {
		state.Events = state.Events[n:]
	}
	b, err := json.Marshal(saved{Format: 1, At: r.clock.Now(), State: state, Log: log})
	if err != nil {
		return nil, fmt.Errorf("cannot save the region: %w", err)
	}
	return b, nil
}

// Load returns a region as Save has written it.
func Load(o Options, data []byte) (*Region, error) {
	r := New(o)
	if err := r.Load(data); err != nil {
		return nil, err
	}
	return r, nil
}

// Load replaces all of the region by what Save returned. What was under way goes on as if no time had passed since.
func (r *Region) Load(data []byte) error {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("cannot load the region: %w", err)
	}
	if s.Format != 1 {
		return fmt.Errorf("cannot load the region: it was saved in format %d, and only 1 is known", s.Format)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, timers := range r.timers {
		for _, stop := range timers {
			stop()
		}
	}
	r.state, r.oplog, r.timers, r.nodes = s.State, s.Log, map[*node]map[*pending]func() bool{}, map[string]*node{}
	// Other ids and keys than those that were given out before.
	r.random = rand.New(rand.NewPCG(r.options.Seed, uint64(s.State.Serial)<<20|uint64(s.State.EventID)))
	for name, v := range r.state.Config {
		if f, ok := v.(float64); ok {
			r.state.Config[name] = int(f)
		}
	}
	pause := r.clock.Now().Sub(s.At)
	if r.options.Host != nil {
		pause += hostGrace
	}
	r.state.Started = r.state.Started.Add(pause)
	for _, n := range r.state.Nodes {
		if n.OwnerData == nil {
			n.OwnerData = map[string]string{}
		}
		r.nodes[n.SystemID] = n
		if !n.Expires.IsZero() {
			n.Expires = n.Expires.Add(pause)
		}
		for _, p := range n.Pending {
			p.At = p.At.Add(pause)
			r.arm(n, p)
		}
		r.resume(n)
	}
	return nil
}

// hostGrace is how long a Host has, after Load, until it is asked for anything: it may have machines of its own to find again.
const hostGrace = time.Second

// resume asks a Host again for what it was doing when the region was saved.
func (r *Region) resume(n *node) {
	if r.options.Host != nil && n.Status == Deploying && n.Installed && !n.Dead && n.Task == nil {
		r.after(n, hostGrace, "deploy-start") // its first boot, which nobody has heard of
		return
	}
	if n.Task == nil {
		return
	}
	for _, p := range n.Pending {
		if p.Step == "power-done" || p.Step == "power-failed" {
			return
		}
	}
	r.after(n, hostGrace, "power-done")
}
