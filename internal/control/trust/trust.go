// Package trust decides what this lab makes of failures: whether they are a machine's own or the lab's (incidents), which machine is put out
// of use and brought back (quarantine, health checks), and whether a new version of the provider is trusted (canary).
//
// It answers the engine's questions from memory (MayDeploy, MayRecover, MayCycle) and is told of every deployment that is over (Over). What
// must not be forgotten is in the database before anything follows from it.
package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// A Fleet is what trust asks of the engine. Each method is idempotent.
type Fleet interface {
	// Check reserves that machine for a check. It fails as Conflict if the machine cannot be had.
	Check(ctx context.Context, req cert.CheckRequest) (cert.Reservation, error)
	QuarantineAs(ctx context.Context, machine string, q cert.Quarantine) error
	Return(ctx context.Context, machine, by, reason string) error
	// Suspect marks deployments that an incident overlaps, and gives their reservations the try and the machine back.
	Suspect(ctx context.Context, incident string, deployments []string) error
	// Repeat does a run again that an incident has spoilt, once, and returns what does it: a reservation's id, or that of a run; empty: it is not to
	// be done again. It fails as Conflict while the run's reservation is not over.
	Repeat(ctx context.Context, run, incident string) (string, error)
	Machines(ctx context.Context) ([]cert.FleetMachine, error)
	Cancel(ctx context.Context, id string, r cert.ReleaseReservation, by string, role cert.Role) (cert.Reservation, error)
}

// Options say what a Trust works with. All but Now must be set.
type Options struct {
	DB     *sqlite.DB
	Logger *slog.Logger
	Now    func() time.Time
	Config func() order.Fleet                                   // in force
	About  func(context.Context) (about cert.About, known bool) // the provider, as it last said
	Fleet  func() Fleet                                         // asked for late, as each needs the other
}

// A Trust is safe for concurrent use.
type Trust struct {
	Options
	nudge chan struct{}

	mu      sync.Mutex
	loaded  bool
	state   state
	open    []cert.Incident      // that are not closed
	closed  []cert.Incident      // lately
	trials  []cert.Trial         // lately, that belong to no incident
	silence []cert.Trial         // of which machines something is heard now
	judged  map[string]time.Time // machine → since when it is clear that it failed too often
	changed chan struct{}
	places  map[string]cert.Place // of machines
	placed  time.Time             // when they were read
	settled map[string]bool       // runs that an incident has overlapped and that are seen to; read and written in turns only
	marked  map[string]bool       // deployments that the engine has marked as suspect; read and written while deciding

	deciding sync.Mutex // held by what opens, grows or closes incidents
	saving   sync.Mutex // held by what changes state
}

// state is what a Trust keeps in the database.
type state struct {
	Checks  map[string]check `json:"checks"`  // under way, by the id of their reservation
	Version string           `json:"version"` // of the provider, that is trusted
	Canary  *canary          `json:"canary,omitempty"`
	Tries   map[string]int   `json:"tries,omitempty"` // checks of a machine in quarantine that failed since it is there
}

const metaTrust = "trust"

// tickEvery is how often everything is looked at when nothing happens.
const tickEvery = 30 * time.Second

// New returns a Trust.
func New(o Options) *Trust {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	return &Trust{Options: o, nudge: make(chan struct{}, 1), judged: make(map[string]time.Time), marked: make(map[string]bool), settled: make(map[string]bool), changed: make(chan struct{})}
}

// Loop works until ctx ends.
func (t *Trust) Loop(ctx context.Context) error {
	for {
		if err := t.Turn(ctx); err != nil && ctx.Err() == nil {
			t.Logger.Error("cannot see to the trust in machines", "error", err)
		}
		timer := time.NewTimer(tickEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-t.nudge:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Turn looks at everything once.
func (t *Trust) Turn(ctx context.Context) error {
	if t.DB.Writable() != nil {
		return nil
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	var errs []error
	for _, f := range []func(context.Context) error{t.judgeChecks, t.tendIncidents, t.repeatRuns, t.policy, t.tendCanary, t.startChecks} {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// Load reads what was stored. It is called before anybody asks the gate.
func (t *Trust) Load(ctx context.Context) error { return t.load(ctx) }

// load reads what was stored, once.
func (t *Trust) load(ctx context.Context) error {
	t.deciding.Lock()
	defer t.deciding.Unlock()
	t.mu.Lock()
	loaded := t.loaded
	t.mu.Unlock()
	if loaded {
		return nil
	}
	var s state
	if _, err := t.DB.Meta(ctx, metaTrust, &s); err != nil {
		return err
	}
	all, _, err := t.DB.Incidents(ctx, false, sqlite.Page{Limit: recentIncidents})
	if err != nil {
		return err
	}
	open, err := t.DB.OpenIncidents(ctx)
	if err != nil {
		return err
	}
	past, err := t.DB.Deployments(ctx, sqlite.DeploymentFilter{}, recentDeployments)
	if err != nil {
		return err
	}
	if err := t.locate(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Checks == nil {
		s.Checks = make(map[string]check)
	}
	if s.Tries == nil {
		s.Tries = make(map[string]int)
	}
	t.state, t.open, t.loaded = s, open, true
	for _, i := range all {
		if i.Closed != nil {
			t.closed = append(t.closed, i)
		}
	}
	for _, d := range past {
		if trial, ok := t.trialOf(d, t.places[d.Machine]); ok && d.Suspect == "" && !t.taken(d.ID) {
			t.trials = append(t.trials, trial)
		}
	}
	return nil
}

const (
	recentIncidents   = 20
	recentDeployments = 500
)

// save stores the state that change makes of the present one.
func (t *Trust) save(ctx context.Context, change func(*state)) error {
	t.saving.Lock() // the gate answers meanwhile
	defer t.saving.Unlock()
	t.mu.Lock()
	next := state{Checks: maps.Clone(t.state.Checks), Tries: maps.Clone(t.state.Tries), Version: t.state.Version}
	if t.state.Canary != nil {
		c := *t.state.Canary
		next.Canary = &c
	}
	t.mu.Unlock()
	change(&next)
	if err := t.DB.SetMeta(ctx, metaTrust, next); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = next
	t.ring()
	return nil
}

// checks returns those under way.
func (t *Trust) checks() map[string]check {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.state.Checks)
}

// locate reads where machines stand.
func (t *Trust) locate(ctx context.Context) error {
	rows, err := t.DB.FleetRows(ctx)
	if err != nil {
		return err
	}
	racks, err := t.DB.Racks(ctx)
	if err != nil {
		return err
	}
	places := make(map[string]cert.Place, len(rows))
	for _, r := range rows {
		p := cert.Place{Machine: r.Machine.ID, Hostname: r.Machine.Hostname, Rack: racks[r.Machine.ID]}
		if r.Provided != nil {
			p.Zone, p.Pool, p.Release = r.Provided.Zone, r.Provided.Pool, r.Provided.Release
		}
		places[r.Machine.ID] = p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places, t.placed = places, t.Now()
	return nil
}

// placesFor is how long what is known of places is good for.
const placesFor = time.Minute

// Changed returns a channel that is closed when what may be begun has changed.
func (t *Trust) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// ring says so. t.mu is held.
func (t *Trust) ring() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Trust) wake() {
	select {
	case t.nudge <- struct{}{}:
	default:
	}
}

// name returns what a machine is called.
func (t *Trust) name(machine string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.places[machine]; ok && p.Hostname != "" {
		return p.Hostname
	}
	return machine
}

func (t *Trust) limits() order.FleetLimits { return t.Config().Limits.Defaults() }

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }

func clockText(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }

func plural(n int, one string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", one)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
