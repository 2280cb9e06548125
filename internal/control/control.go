// Package control makes things happen in the controller's service: it applies the desired state, hands out runs, indexes
// submissions, removes what is older than the site keeps, watches the free space, the database and the files, and makes and restores backups.
//
// Each loop is a method that runs until its context ends, keeps what it is at in the database, and goes on there after a restart.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Options say what a Lab works with.
type Options struct {
	DB     *sqlite.DB
	Blobs  *blobs.Store
	Data   Data
	Logger *slog.Logger
	Now    func() time.Time                // nil: time.Now
	Free   func(dir string) (int64, error) // free bytes for the service; nil: as the file system says
	Reader Reader                          // nil: the reader of internal/results

	Indexed func() // is called when a submission was indexed or found to be unreadable; nil: nobody waits for that
}

// A Lab is the running controller.
type Lab struct {
	Options
	hub     hub
	index   chan struct{} // asks the indexer to look
	refresh chan struct{} // asks for the charm's dispatch
	locate  chan struct{} // asks for the damage to be looked at
	ending  chan struct{} // closed by End
	endOnce sync.Once

	desired atomic.Pointer[order.ControllerDesired]
	agents  atomic.Pointer[map[string]string] // public key → machine id
	free    atomic.Int64
	low     atomic.Bool
	epoch   atomic.Pointer[string]
	trouble troubles

	replacing sync.Mutex // held by the repair or restore under way, and for good by one that waits to be put in place

	mu       sync.Mutex
	bad      map[string]bool // hashes of files whose bytes are bad
	refusals []cert.Refusal
	seen     map[string]time.Time // machines' contacts that are not stored yet
	used     map[string]time.Time // tokens' uses that are not stored yet
}

// New returns a Lab with no agents and no limits; Apply gives it its desired state.
func New(o Options) *Lab {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC() }
	}
	if o.Free == nil {
		o.Free = freeBytes
	}
	if o.Reader == nil {
		o.Reader = ReadSubmission
	}
	l := &Lab{Options: o, index: make(chan struct{}, 1), refresh: make(chan struct{}, 1), locate: make(chan struct{}, 1),
		ending: make(chan struct{}), bad: make(map[string]bool), seen: make(map[string]time.Time), used: make(map[string]time.Time)}
	l.hub.waiters = make(map[string]chan struct{})
	l.desired.Store(&order.ControllerDesired{})
	l.agents.Store(&map[string]string{})
	l.DB.OnTrouble(l.noticed)
	return l
}

// Apply makes a desired state the one in force: who may act for which machine, and the limits. What a failing Apply leaves in force is
// the state before.
func (l *Lab) Apply(ctx context.Context, d order.ControllerDesired) error {
	enrolments := make([]cert.Enrolment, len(d.Agents))
	for n, a := range d.Agents {
		id := cert.Identity(a.Identity)
		id.Unit = a.Unit
		enrolments[n] = cert.Enrolment{Relation: a.Relation, Unit: a.Unit, PublicKey: a.PublicKey, Identity: id}
	}
	agents, refusals, err := l.DB.Enrol(ctx, enrolments, l.Now())
	if err != nil && (l.DB.Writable() != nil || sqlite.Full(err)) {
		// Machines that are known stay enrolled, so that their agents are told what is the matter; probe applies the rest.
		l.Logger.Error("cannot store the list of agents", "error", err)
		agents, refusals, err = l.DB.Enrolled(ctx, enrolments)
	}
	if err != nil {
		return fmt.Errorf("cannot apply the list of agents: %w", err)
	}
	l.agents.Store(&agents)
	l.desired.Store(&d)
	l.mu.Lock()
	l.refusals = refusals
	l.mu.Unlock()
	for _, r := range refusals {
		l.Logger.Warn("agent refused", "unit", r.Enrolment.Unit, "relation", r.Enrolment.Relation, "reason", r.Reason)
	}
	l.measure()
	l.hub.wakeAll()
	l.Refresh()
	return nil
}

// Desired returns the desired state in force.
func (l *Lab) Desired() order.ControllerDesired { return *l.desired.Load() }

// Agent returns the machine that the holder of a public key may act for. It fails as Forbidden, and says why if the key is known
// but was refused. Whether a deployed machine's agent may act is read from the database each time: there alone it is right at once when the
// machine goes back, and after a restore.
func (l *Lab) Agent(publicKey string) (string, error) {
	if id, ok := (*l.agents.Load())[publicKey]; ok {
		return id, nil
	}
	switch id, err := l.DB.Guest(context.Background(), publicKey); {
	case err == nil:
		return id, nil
	case cert.CodeOf(err) != cert.NotFound:
		return "", cert.Errorf(cert.Unavailable, "cannot tell now whose agent this is (try again in some seconds): %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.refusals {
		if r.Enrolment.PublicKey == publicKey {
			return "", cert.Errorf(cert.Forbidden, "agent of unit %s was refused: %s", r.Enrolment.Unit, r.Reason)
		}
	}
	return "", cert.Errorf(cert.Forbidden, "this agent's key is not enrolled: integrate its application with the controller (juju integrate), "+
		"and see the controller's status if it is")
}

// Refusals returns the enrolments that were refused.
func (l *Lab) Refusals() []cert.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals
}

// Loops runs all loops until ctx ends.
func (l *Lab) Loops(ctx context.Context) error {
	loops := []func(context.Context) error{l.indexLoop, l.retentionLoop, l.spaceLoop, l.contactLoop, l.refreshLoop,
		l.integrityLoop, l.scrubLoop, l.lostLoop}
	errs := make(chan error, len(loops))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, loop := range loops {
		go func() {
			err := loop(ctx)
			cancel()
			errs <- err
		}()
	}
	var all []error
	for range loops {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// every calls fn now and then once per interval, until ctx ends. An error is logged; fn is called again.
func (l *Lab) every(ctx context.Context, what string, interval time.Duration, fn func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			l.Logger.Error("cannot "+what, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
