package provision

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// Lab is what a Fleet needs of the controller's other loops.
type Lab interface {
	Wake(machine string) // its agent has something to do, or may act for it no more
	Refresh()
}

// KeyResolver turns what a person gave as SSH keys (lp:name, gh:name, a key) into keys.
type KeyResolver interface {
	Resolve(ctx context.Context, keys []string) ([]string, error)
}

// Gate says whether something may be begun now. It answers from memory.
type Gate interface {
	MayDeploy(p cert.Place, r cert.Reservation) *cert.Hold // nil: go on
	MayRecover(p cert.Place) *cert.Hold
	Changed() <-chan struct{} // closed when what may be begun has changed
}

// Observer is told of each deployment that has become ready, has failed, or does not come back.
type Observer interface {
	// Over answers with the incident that the deployment belongs to; empty: none. It may be told of the same thing again.
	Over(ctx context.Context, d cert.Deployment, p cert.Place) (incident string)
}

// Checker begins the check after which a machine may leave its quarantine.
type Checker interface {
	CheckToReturn(ctx context.Context, machine, by string) (cert.Reservation, error)
}

// A Script asks for the user-data of a deployment.
type Script struct {
	Deployment string
	Token      string
	Machine    cert.Machine
	Keys       []string
}

// Options say what a Fleet works with. DB, Logger and Lab must be set.
type Options struct {
	DB      *sqlite.DB
	Logger  *slog.Logger
	Lab     Lab
	Now     func() time.Time
	Keys    KeyResolver
	Script  func(Script) ([]byte, error)                   // user-data
	Agent   func(cert.Machine) order.AgentDesired          // what an agent that has enrolled is to be
	Console func(context.Context, string, io.Writer) error // writes what a machine's console has; by machine id
	// Heard says when a machine's agent was last heard; nil: always just now.
	Heard func(machine string) time.Time
	// Secret is what the tokens of deployments are made from: 32 random bytes that outlive the process; nil: they do not.
	Secret []byte
	// Run runs a program of the site with an environment until it or ctx ends; nil: a process of its own.
	Run      func(ctx context.Context, path string, env []string, out io.Writer) error
	Gate     Gate
	Observer Observer
	Checker  Checker
	// Placed says whether the hardware confirms that a machine's unit is on that machine of the provider's; nil: nobody can tell.
	Placed func(ctx context.Context, machine string, p cert.Provided) cert.Placement

	Poll time.Duration // between looks at machines that are in transition; 2 s
	Full time.Duration // between lists of all machines; 10 min
}

// A Fleet takes machines from the provider and gives them back. It is safe for concurrent use.
type Fleet struct {
	Options
	wake chan struct{}

	mu       sync.Mutex
	provider cert.Provider
	applied  bool // whether there is a provider is known
	// applications counts configurations.
	applications int64
	conf         order.Fleet
	limits       order.FleetLimits
	about        *cert.About
	problem      string    // what is wrong with the provider; empty: nothing
	outage       time.Time // since when it does not answer; zero: it does
	tries        int       // that failed in a row
	nextLook     time.Time
	nextList     time.Time
	listed       time.Time // when all machines were last listed
	contact      time.Time // when the provider last answered, as stored
	bell         chan struct{}
	seq          int64            // counts changes at the provider
	touched      map[string]int64 // machine → seq of the last change at the provider
	flying       map[string]context.CancelFunc
	stops        map[string]context.CancelFunc // deployment → ends the site's program that runs for it
	later        map[string]time.Time          // deployment → not before
	failures     map[string]int                // deployment → calls that failed in a row
	calls        map[string]int                // deployment → calls of the provider in this phase
	open         map[string]time.Time          // deployment in use → since when its machine is known to be unlocked
	refusals     map[string]int                // deployment → enrolments that were refused
	shy          map[string]time.Time          // machine → not before: somebody else was faster
	images       map[string]imageList
	hardware     time.Time // not before: the next machine is looked at closely
	chores       map[string]time.Time
	measures     map[string]measure // by class
	accounts     time.Time          // not before: the next look at what the machines of units are for
	workers      sync.WaitGroup
	slots        chan struct{}

	accounted map[string]cert.MachineState // machine of a unit → state that was written last; the loop's alone

	looking sync.Mutex
	seen    *picture // the last one; looking guards it
}

// A measure is how long the phases of a class's deployments took.
type measure struct {
	sums  map[cert.DeployPhase]cert.PhaseSum
	count int
}

type imageList struct {
	images []cert.Image
	read   time.Time
}

// Bounds of what goes on at once, and waits.
const (
	maxWorkers    = 16
	maxBackoff    = 30 * time.Second
	busyWait      = 10 * time.Second // where a provider does not say how long it is busy
	idleWait      = time.Minute
	imagesFor     = 10 * time.Minute
	shyFor        = time.Minute
	hardwareEvery = 2 * time.Minute
	contactEvery  = time.Minute
)

// New returns a Fleet without a provider; Apply gives it one.
func New(o Options) *Fleet {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	if o.Run == nil {
		o.Run = runSite
	}
	if len(o.Secret) == 0 {
		o.Secret = make([]byte, 32)
		rand.Read(o.Secret)
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Full <= 0 {
		o.Full = 10 * time.Minute
	}
	f := &Fleet{Options: o, accounted: make(map[string]cert.MachineState), stops: make(map[string]context.CancelFunc), wake: make(chan struct{}, 1), bell: make(chan struct{}), touched: make(map[string]int64), flying: make(map[string]context.CancelFunc),
		later: make(map[string]time.Time), failures: make(map[string]int), calls: make(map[string]int), open: make(map[string]time.Time), refusals: make(map[string]int),
		shy: make(map[string]time.Time), images: make(map[string]imageList), measures: make(map[string]measure), chores: make(map[string]time.Time), slots: make(chan struct{}, maxWorkers),
		limits: order.FleetLimits{}.Defaults()}
	o.DB.OnRun(f.ran)
	return f
}

// Apply makes a provider the one that machines come from, and a configuration the one in force. A nil provider means that there is none.
func (f *Fleet) Apply(provider cert.Provider, conf order.Fleet) {
	f.mu.Lock()
	changed := f.provider != provider
	f.applied = true
	f.applications++
	f.provider, f.conf, f.limits = provider, conf, conf.Limits.Defaults()
	if provider == nil && f.outage.IsZero() {
		f.outage = f.Now() // no deadline runs out while there is nobody to ask
	}
	if changed {
		f.about, f.problem = nil, ""
		f.nextList, f.nextLook = time.Time{}, time.Time{}
		f.images = make(map[string]imageList)
	}
	f.mu.Unlock()
	f.Wake()
}

// Provider returns where machines come from; nil: there is none.
func (f *Fleet) Provider() cert.Provider {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.provider
}

// About returns what the provider last said of itself; nil: that is not known.
func (f *Fleet) About() *cert.About {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.about
}

// Problem says what is wrong with the provider, with what to do; empty: nothing.
func (f *Fleet) Problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return first(f.problem, f.conf.Problem)
}

func (f *Fleet) settings() (cert.Provider, order.Fleet, order.FleetLimits) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.provider, f.conf, f.limits
}

// need returns the provider, or says what to set.
func (f *Fleet) need() (cert.Provider, error) {
	p, conf, _ := f.settings()
	if p != nil {
		return p, nil
	}
	f.mu.Lock()
	applied := f.applied
	f.mu.Unlock()
	if !applied {
		return nil, cert.Errorf(cert.Unavailable, "cannot do that yet: the controller has just been started and its configuration is not in force (try again in some seconds)")
	}
	if conf.Problem != "" {
		return nil, cert.Errorf(cert.Conflict, "cannot do that: there is no provider of machines: %s", conf.Problem)
	}
	return nil, cert.Errorf(cert.Conflict, "cannot do that: this controller has no provider of machines (deploy it in a model on MAAS and run juju trust cert-controller, "+
		"or set its maas-credentials option)")
}

// Wake has the loop look at once.
func (f *Fleet) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// ring tells all who wait that something has changed.
func (f *Fleet) ring() {
	f.mu.Lock()
	close(f.bell)
	f.bell = make(chan struct{})
	f.mu.Unlock()
}

func (f *Fleet) bells() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bell
}

// Loop does all the work until ctx ends. What it was at is stored, and the next Loop goes on with it.
func (f *Fleet) Loop(ctx context.Context) error {
	f.mu.Lock()
	_, err := f.DB.Meta(ctx, sqlite.MetaContact, &f.contact)
	if err == nil && !f.contact.IsZero() {
		f.outage = f.contact // while nobody looked, no deadline ran out
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	defer f.workers.Wait()
	for {
		wait := f.turn(ctx)
		timer := time.NewTimer(wait)
		var changed <-chan struct{}
		if f.Gate != nil {
			changed = f.Gate.Changed()
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-f.wake:
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}
