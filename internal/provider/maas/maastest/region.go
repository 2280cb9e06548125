package maastest

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Options say what a region is like. The zero value is a MAAS 3.4.1 in real time whose machines exist in memory only.
type Options struct {
	Version     string        // 3.4.1
	Clock       Clock         // nil: the time package
	NodeTimeout time.Duration // until a deployment of which nothing is heard fails; MAAS's setting of that name: 30 minutes
	Timings     Timings       // what is zero is as in DefaultTimings
	Seed        uint64        // of system_ids and keys: the same seed gives the same ones
	Host        Host          // nil: machines in memory
	OnBoot      func(Boot)    // without a Host: a machine boots from its disk. Called in a goroutine of its own
	OnChange    func()        // something that Save writes has changed. Called often, without the region's lock
	Images      []Image       // nil: DefaultImages
	Racks       []string      // nil: one, "rack1"
	Log         *slog.Logger  // nil: nothing
}

// Timings are how long things take.
type Timings struct {
	PowerOn  time.Duration // a BMC's answer to on
	PowerOff time.Duration // and to off: what abort and release wait for
	Refusal  time.Duration // until a power action that a BMC refuses has failed
	PXE      time.Duration // from power to the installer
	Install  time.Duration // all that the installer does
	Boot     time.Duration // from the installer's end until cloud-init has fetched its user-data
	Erase    time.Duration
	Test     time.Duration
	Commission,
	Rescue time.Duration
	Query time.Duration // asking a BMC for the state of the power; 0: at once
}

// DefaultTimings are a small server's.
func DefaultTimings() Timings {
	return Timings{
		PowerOn: 3 * time.Second, PowerOff: 4 * time.Second, Refusal: 4 * time.Second, PXE: 90 * time.Second, Install: 5 * time.Minute,
		Boot: 60 * time.Second, Erase: 3 * time.Minute, Test: 5 * time.Minute, Commission: 4 * time.Minute, Rescue: 2 * time.Minute,
	}
}

func (t Timings) orDefault() Timings {
	d := DefaultTimings()
	for _, p := range []struct{ have, def *time.Duration }{
		{&t.PowerOn, &d.PowerOn}, {&t.PowerOff, &d.PowerOff}, {&t.Refusal, &d.Refusal}, {&t.PXE, &d.PXE}, {&t.Install, &d.Install},
		{&t.Boot, &d.Boot}, {&t.Erase, &d.Erase}, {&t.Test, &d.Test}, {&t.Commission, &d.Commission}, {&t.Rescue, &d.Rescue},
	} {
		if *p.have == 0 {
			*p.have = *p.def
		}
	}
	return t
}

// A Region is a simulated MAAS region controller. Its methods may be called by many at once.
type Region struct {
	options Options
	clock   Clock
	log     *slog.Logger
	routes  []route
	steps   map[string]func(*Region, *node)

	mu     sync.Mutex
	random *rand.Rand
	state  state
	nodes  map[string]*node // by system_id; state.Nodes has them in order
	nonces map[string]time.Time
	// While it restarts.
	downUntil, badUntil time.Time
	clockSkew           time.Duration
	calls               map[Call]int
	oplog               []Entry
	timers              map[*node]map[*pending]func() bool
	// undeclared collects parameters that were read but are not in the route's list: a test holds the list to MAAS's own description.
	undeclared map[string]bool
	closed     bool
}

// state is what lasts of a region: Save writes it.
type state struct {
	Users   []*user
	Nodes   []*node
	Tags    []*tag
	Pools   []*pool
	Zones   []*zone
	Scripts []*script
	Config  map[string]any
	Events  []event
	Faults  []*activeFault
	Serial  int // of anything with a number: interfaces, disks, script sets, …
	EventID int64
	Entries int64
	Started time.Time
}

// New returns a region with the pool "default", the zone "default" and the subnet 10.77.1.0/24.
func New(o Options) *Region {
	if o.Version == "" {
		o.Version = "3.4.1"
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	if o.NodeTimeout == 0 {
		o.NodeTimeout = 30 * time.Minute
	}
	if o.Images == nil {
		o.Images = DefaultImages()
	}
	if o.Racks == nil {
		o.Racks = []string{"rack1"}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timings = o.Timings.orDefault()
	r := &Region{
		options: o, clock: o.Clock, log: o.Log, steps: steps(), nodes: map[string]*node{}, nonces: map[string]time.Time{},
		calls: map[Call]int{}, timers: map[*node]map[*pending]func() bool{}, undeclared: map[string]bool{},
		random: rand.New(rand.NewPCG(o.Seed, 0x4d414153)),
	}
	r.routes = routes()
	r.state = state{
		Pools:   []*pool{{Name: "default", Description: "Default pool", ID: 0}},
		Zones:   []*zone{{Name: "default", ID: 1}},
		Scripts: builtinScripts(),
		Config:  defaultConfig(o),
		Started: r.clock.Now(),
	}
	return r
}

// Close ends what is under way: no timer fires afterwards. A region that nobody uses any more needs no Close but in a bubble that waits for
// its timers.
func (r *Region) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, timers := range r.timers {
		for _, stop := range timers {
			stop()
		}
	}
	r.timers = map[*node]map[*pending]func() bool{}
}

// tell whoever saves the region that it has changed. Called without the lock.
func (r *Region) tell() {
	if r.options.OnChange != nil {
		r.options.OnChange()
	}
}

func (r *Region) serial() int {
	r.state.Serial++
	return r.state.Serial
}

// letters returns n random characters of an alphabet.
func (r *Region) letters(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.random.IntN(len(alphabet))]
	}
	return string(b)
}
