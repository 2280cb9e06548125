// Package watch looks at machines under test from outside. An agent on a machine that hangs reports nothing: when nothing was heard of a
// machine with a run for longer than it may keep silent, what its BMC has of the console is saved, the machine is power-cycled,
// its agent is waited for with a new boot id, and the job that it died in is recorded as machine-lost beside Checkbox's own outcome. The agent
// resumes by itself.
//
// What is done is stored before it is done (cert.PowerCycle), so that a service that is killed at any point goes on where it was. Silence
// counts only while this service was there to hear: from its start, and from each time that it stood still. Several machines that fall
// silent together are an incident (see Gate), and where nobody at all is heard it is taken for the network's fault.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// A Gate knows of incidents.
type Gate interface {
	// Silence takes in of which machines something is heard now and of which not (Failure cert.FailSilent), each with the time of its last word.
	Silence(ctx context.Context, now []cert.Trial) error
	// MayCycle returns nil, or why a machine is not to be power-cycled now.
	MayCycle(p cert.Place) *cert.Hold
}

// Options say what a Watch works with. DB, Logger, Provider and Config must be set.
type Options struct {
	DB       *sqlite.DB
	Files    *blobs.Store
	Logger   *slog.Logger
	Now      func() time.Time
	Provider func() cert.Provider                                         // nil: there is none now
	Config   func() order.Fleet                                           // in force
	Console  func(ctx context.Context, machine string, w io.Writer) error // of a machine, by id; fails with fs.ErrNotExist where there is none; nil: nowhere
	Gate     Gate                                                         // nil: there are no incidents
	// Placed says whether the hardware confirms that a machine's unit is on that machine of the provider's; nil: nobody can tell.
	Placed func(ctx context.Context, machine string, p cert.Provided) cert.Placement
}

// A Watch looks at machines from outside.
type Watch struct {
	Options

	mu        sync.Mutex
	reachable time.Time // since when agents could be heard
	last      time.Time // end of the last look
	held      map[string]string

	flying  map[string]bool // machines whose power cycle somebody works on
	slots   chan struct{}
	workers sync.WaitGroup
}

// Bounds of the watch.
const (
	lookEvery   = 15 * time.Second
	trialEvery  = 5 * time.Second
	stoodStill  = 2 * time.Minute // between two looks: the service was stopped, or the clock set
	quietFrom   = 5 * time.Minute // of silence, until it counts for an incident
	leastQuiet  = 90 * time.Second
	lookTimeout = time.Minute
	atOnce      = 16 // machines that are worked on; a call for one of them may hang for minutes
)

// New returns a Watch.
func New(o Options) *Watch {
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	return &Watch{Options: o, held: make(map[string]string), flying: make(map[string]bool), slots: make(chan struct{}, atOnce)}
}

// Loop watches until ctx ends. A machine whose power takes long, or whose provider hangs, keeps nobody from being watched.
func (w *Watch) Loop(ctx context.Context) error {
	defer w.workers.Wait()
	for {
		if _, err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Error("cannot watch the machines", "error", err)
		}
		timer := time.NewTimer(w.pace())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (w *Watch) pace() time.Duration {
	if w.Config().Limits.SilenceSeconds > 0 {
		return trialEvery
	}
	return lookEvery
}

// Look looks at all machines once, does for each that is worked on what can be done now, and waits for that. What a look before is still at
// is not waited for.
func (w *Watch) Look(ctx context.Context) error {
	done, err := w.look(ctx)
	errs := []error{err}
	for _, d := range done {
		errs = append(errs, <-d)
	}
	return errors.Join(errs...)
}

// look looks at all machines once and starts what can be done now. Each channel is closed when the work on one machine ends.
func (w *Watch) look(ctx context.Context) ([]<-chan error, error) {
	if w.DB.Writable() != nil {
		return nil, nil
	}
	open, err := w.survey(ctx)
	var started []<-chan error
	for _, c := range open {
		if done := w.start(ctx, c); done != nil {
			started = append(started, done)
		}
	}
	return started, err
}

// survey looks at all machines once, stores which are to be power-cycled, and returns all power cycles that are not over.
func (w *Watch) survey(ctx context.Context) ([]cert.PowerCycle, error) {
	now := w.Now()
	w.mu.Lock()
	if w.reachable.IsZero() || now.Sub(w.last) > stoodStill || now.Before(w.last) {
		w.reachable = now
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.last = w.Now()
		w.mu.Unlock()
	}()
	machines, err := w.DB.Watched(ctx)
	if err != nil {
		return nil, err
	}
	open, err := w.DB.OpenCycles(ctx)
	if err != nil {
		return nil, err
	}
	cycled := make(map[string]bool, len(open))
	for _, c := range open {
		cycled[c.Machine] = true
	}
	cut, err := w.hear(ctx, machines, cycled, now)
	if err != nil {
		return nil, err
	}
	var errs []error
	for n := range machines {
		m := &machines[n]
		if cycled[m.Machine] || !watched(m) {
			continue
		}
		begun, err := w.consider(ctx, m, cut, len(cycled) > 0, now)
		errs = append(errs, err)
		if begun != nil {
			open = append(open, *begun)
			cycled[m.Machine] = true
		}
	}
	return open, errors.Join(errs...)
}

// start does for a power cycle what can be done now, in a worker of the machine's own; nil if there is one already.
func (w *Watch) start(ctx context.Context, c cert.PowerCycle) <-chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flying[c.Machine] {
		return nil
	}
	w.flying[c.Machine] = true
	done := make(chan error, 1)
	w.workers.Go(func() {
		defer close(done)
		defer func() {
			w.mu.Lock()
			delete(w.flying, c.Machine)
			w.mu.Unlock()
		}()
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-w.slots }()
		err := w.goOn(ctx, c)
		if err != nil && ctx.Err() == nil {
			w.Logger.Error("cannot go on with a power cycle", "machine", c.Machine, "run", c.Run, "error", err)
		}
		done <- err
	})
	return done
}

// goOn works on a power cycle as it is by now: the worker before may have changed it since it was read, and it may have waited for its turn.
func (w *Watch) goOn(ctx context.Context, c cert.PowerCycle) error {
	all, err := w.DB.Cycles(ctx, c.Run, c.Attempt)
	if err != nil {
		return err
	}
	for _, now := range all {
		if !now.At.Equal(c.At) || now.Final() {
			continue
		}
		m, err := w.DB.WatchedMachine(ctx, c.Machine)
		if err != nil {
			return err
		}
		return w.work(ctx, now, m)
	}
	return nil
}

// watched reports whether a machine is to be heard: a run goes on there or was handed out, and nobody has said that it should end. A machine that a person
// has and no run is on is never watched.
func watched(m *sqlite.Watched) bool {
	return m.Run != "" && !m.Cancel && m.State != cert.ReservationReleasing
}

// expected reports whether a machine's agent should be heard at all.
func expected(m *sqlite.Watched) bool {
	switch {
	case m.State == cert.ReservationReleasing, m.State == cert.ReservationPreparing:
		return false
	case m.Run != "":
		return true
	case m.Kind == cert.ReserveManual: // its holder does with it as he likes
		return false
	}
	return m.Unit || m.State == cert.ReservationReady
}

// hear tells the gate what is heard, and reports whether nothing is heard of anybody although there are several who should be: then it is this
// service that hears nothing.
func (w *Watch) hear(ctx context.Context, machines []sqlite.Watched, cycled map[string]bool, now time.Time) (cut bool, err error) {
	var trials []cert.Trial
	should, heard := 0, 0
	for n := range machines {
		m := &machines[n]
		if !expected(m) || m.Seen == nil {
			continue
		}
		q := w.quiet(m)
		t := cert.Trial{Place: place(m), At: *m.Seen}
		from := w.from(*m.Seen)
		silent := now.Sub(from) > w.suspicious()
		if announced := q.Announced(); silent && announced.After(now) {
			continue // as it said
		}
		should++
		if !silent {
			heard++
		} else {
			t.Failure, t.At = cert.FailSilent, from
		}
		if !cycled[m.Machine] {
			trials = append(trials, t)
		}
	}
	if w.Gate != nil {
		err = w.Gate.Silence(ctx, trials)
	}
	return should > 1 && heard == 0, err
}

// from is since when the silence of a machine that was heard then counts.
func (w *Watch) from(seen time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reachable.After(seen) {
		return w.reachable
	}
	return seen
}

// least is how long every machine may keep silent.
func (w *Watch) least() time.Duration {
	limits := w.Config().Limits.Defaults()
	if limits.SilenceSeconds > 0 {
		return time.Duration(limits.SilenceSeconds) * time.Second
	}
	return time.Duration(limits.SilenceMinutes) * time.Minute
}

// suspicious is the silence that counts for an incident: less than what ends in a power cycle, more than agents need between two words.
func (w *Watch) suspicious() time.Duration {
	return min(quietFrom, max(leastQuiet, w.least()/3), w.least())
}

// quiet is what is known of how long a machine may keep silent, but for the estimate of its job.
func (w *Watch) quiet(m *sqlite.Watched) cert.Quiet {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := cert.Quiet{Reported: m.Reported, Progress: m.Progress, Least: w.least(), Reachable: w.reachable, Boot: w.patience()}
	q.Heard = m.Reported
	if m.Handed.After(q.Heard) { // a run begins there, whether it was reported or not
		q.Heard = m.Handed
	}
	if m.Seen != nil && m.Seen.After(q.Heard) {
		q.Heard = *m.Seen
	}
	return q
}

// consider begins a power cycle if a machine has kept silent for too long and nothing speaks against it. alone: another one goes on.
func (w *Watch) consider(ctx context.Context, m *sqlite.Watched, cut, alone bool, now time.Time) (*cert.PowerCycle, error) {
	q := w.quiet(m)
	if q.Until().After(now) {
		delete(w.held, m.Machine)
		return nil, nil
	}
	seconds, _, err := w.DB.JobSeconds(ctx, m.Machine, m.Progress.CurrentJob)
	if err != nil {
		return nil, err
	}
	q.Estimate = time.Duration(seconds * float64(time.Second))
	if q.Until().After(now) {
		return nil, nil
	}
	if w.Gate != nil {
		if hold := w.Gate.MayCycle(place(m)); hold != nil {
			w.hold(m, hold.Text)
			return nil, nil
		}
	}
	if cut && (alone || now.Sub(w.from(q.Heard)) < 2*q.Until().Sub(w.from(q.Heard))) {
		w.hold(m, "nothing is heard of any machine: it is taken for this controller's own network")
		return nil, nil
	}
	delete(w.held, m.Machine)
	return w.begin(ctx, m, q, now)
}

// hold says once why a silent machine is left alone.
func (w *Watch) hold(m *sqlite.Watched, why string) {
	if w.held[m.Machine] != why {
		w.held[m.Machine] = why
		w.Logger.Warn("a machine keeps silent and is left alone", "machine", m.Hostname, "run", m.Run, "reason", why)
	}
}

func place(m *sqlite.Watched) cert.Place {
	p := cert.Place{Machine: m.Machine, Hostname: m.Hostname, Rack: m.Dossier.Rack}
	if m.Provided != nil {
		p.Zone, p.Pool, p.Release = m.Provided.Zone, m.Provided.Pool, m.Provided.Release
	}
	return p
}

func silence(d time.Duration) string {
	if d >= 2*time.Minute {
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}
