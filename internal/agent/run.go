package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// step is how far a run got, as run.json says it.
type step string

const (
	stepQueued    step = "queued"
	stepSubject   step = "subject"   // the subject is being installed, selected and booted; see holding
	stepPreparing step = "preparing" // nothing was started; all of it can be done again
	stepTesting   step = "testing"   // a start directory exists
	stepEnding    step = "ending"    // how it ends is decided; files are being put into the spool
	stepEnded     step = "ended"     // final on this machine
)

// A record is a run's run.json.
type record struct {
	Run     order.Run   `json:"run"`
	Step    step        `json:"step"`
	Start   int         `json:"start"` // number of the last start; 0: none
	Cancel  bool        `json:"cancel,omitempty"`
	Planned int         `json:"planned,omitempty"` // jobs, as the first start announced
	Failed  []string    `json:"failed,omitempty"`  // full ids of jobs that failed, for rerun-failed
	Verdict order.State `json:"verdict,omitempty"` // from stepEnding on
	BootAt  string      `json:"boot_at,omitempty"` // boot id when the record was last written
	Dropped bool        `json:"dropped,omitempty"` // nobody will ever take its files
	Number  int64       `json:"number,omitempty"`  // runs were asked for in this order, whatever the clock said

	// What the controller knows of the machine, as its order said it.
	Manifest        map[string]string `json:"manifest,omitempty"`
	SiteEnvironment map[string]string `json:"site_environment,omitempty"`

	Kept        bool      `json:"kept,omitempty"` // delivered, and its files are still here
	DeliveredAt time.Time `json:"delivered_at,omitzero"`
}

// run is a record in memory. Its fields are guarded by Agent.mu.
type run struct {
	rec      record
	stop     context.CancelFunc // ends what is being done for it, when it is cancelled
	version  int64              // counts changes that the controller should know
	reported int64              // version of the last report
	lastTold time.Time
	failures int           // of deliveries in a row
	retryAt  time.Time     // when to try again to deliver it
	wake     chan struct{} // has room for one: cancel was asked for
	endedAt  time.Time     // when it ended in this agent's life; zero: before
}

// maxQueue is how many runs may wait.
const maxQueue = 16

// maxKnown is how many final runs are remembered, so that an order that is repeated late is not run again.
const maxKnown = 200

// maxAlone is how many final runs keep their files while there is no controller to take them.
const maxAlone = 20

var (
	runID  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	planID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*::[^\s\x00-\x1f"'<>&]{1,200}$`)
)

// newRunID returns an id that sorts by time.
func newRunID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	rand.Read(b[6:])
	return "r" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// A requestError is a request that cannot be met; status is an HTTP status.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

func requestErrorf(status int, format string, args ...any) error {
	return &requestError{status, fmt.Sprintf(format, args...)}
}

// checkPattern refuses what is no regular expression in Python either, which Checkbox would end on without a word that helps. What
// only Go's syntax does not have, such as (?!…), passes.
func checkPattern(pattern string) error {
	_, err := syntax.Parse(pattern, syntax.Perl)
	var wrong *syntax.Error
	if !errors.As(err, &wrong) {
		return nil
	}
	switch wrong.Code {
	case syntax.ErrMissingBracket, syntax.ErrMissingParen, syntax.ErrUnexpectedParen, syntax.ErrTrailingBackslash, syntax.ErrMissingRepeatArgument:
		return requestErrorf(400, "cannot use %q as a regular expression: %s", clip(pattern, 200), wrong.Code)
	}
	return nil
}

// checkSpec refuses what could not be run, or not be written into a launcher.
func checkSpec(s order.Spec) error { return checkOrder(s, nil, nil) }

// checkOrder is checkSpec, for what the lab knows of the machine too.
func checkOrder(s order.Spec, manifest, environment map[string]string) error {
	if !planID.MatchString(s.Plan) {
		return requestErrorf(400, "cannot run plan %q: it is not a full id such as com.canonical.certification::sru", clip(s.Plan, 200))
	}
	if len(s.Exclude) > 2000 || len(s.Match) > 2000 || len(s.Environment)+len(environment) > 500 || len(manifest) > 2000 {
		return requestErrorf(400, "cannot run %s: more than 2000 patterns or manifest entries, or 500 variables", s.Plan)
	}
	total := len(s.Title)
	for _, text := range slices.Concat(s.Exclude, s.Match) {
		total += len(text)
	}
	for _, m := range []map[string]string{s.Environment, environment, manifest} {
		for k, v := range m {
			total += len(k) + len(v)
		}
	}
	if total > 1<<20 {
		return requestErrorf(400, "cannot run %s: patterns and environment are larger than 1 MiB", s.Plan)
	}
	if s.TimeoutSeconds < 0 || s.TimeoutSeconds > 30*24*3600 {
		return requestErrorf(400, "cannot run %s: the timeout is not between 0 and 30 days", s.Plan)
	}
	for _, pattern := range slices.Concat(s.Exclude, s.Match) {
		if err := checkPattern(pattern); err != nil {
			return err
		}
	}
	if s.Subject != nil {
		if err := s.Subject.Check(); err != nil {
			return requestErrorf(400, "%s", err)
		}
	}
	// All that a launcher refuses, it refuses now.
	all := maps.Clone(environment)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, s.Environment)
	launcher := checkbox.Launcher{Plan: s.Plan, Title: s.Title, Exclude: s.Exclude, Match: s.Match, Environment: all, Manifest: manifest}
	if _, err := launcher.Text(checkbox.CapabilitiesOf(checkbox.Version{Major: 99})); err != nil {
		return requestErrorf(400, "%s", err)
	}
	return nil
}

// add queues a run, durably. A request whose id is known answers with that run.
func (a *Agent) add(id string, origin order.Origin, created time.Time, spec order.Spec) (order.Run, error) {
	return a.addOrder(origin, order.Order{Run: id, Created: created, Spec: spec})
}

// addOrder is add, with what the lab knows of the machine.
func (a *Agent) addOrder(origin order.Origin, o order.Order) (order.Run, error) {
	id, created, spec := o.Run, o.Created, o.Spec
	a.mu.Lock()
	defer a.mu.Unlock()
	if id != "" {
		if known, ok := a.runs[id]; ok {
			return a.view(known), nil
		}
		if !runID.MatchString(id) {
			return order.Run{}, requestErrorf(400, "cannot use %q as a run id", clip(id, 100))
		}
	}
	if spec.Plan == "" {
		if spec.Plan = a.desired.DefaultPlan; spec.Plan == "" {
			return order.Run{}, requestErrorf(400, "cannot start a run without a plan: name one, or set the default-plan option")
		}
	}
	if err := checkOrder(spec, o.Manifest, o.SiteEnvironment); err != nil {
		return order.Run{}, err
	}
	if a.leave {
		return order.Run{}, requestErrorf(503, "cannot start a run: the agent is about to restart; try again in a few seconds")
	}
	if h := a.held; h != nil && h.Dirty != "" {
		return order.Run{}, requestErrorf(503, "cannot start a run: this machine is dirty: %s (see to it, then run `certlab-agent clean` on the machine)", h.Dirty)
	}
	waiting := 0
	for _, other := range a.runs {
		if !other.rec.Run.State.Final() {
			waiting++
			if origin == order.FromInteractive {
				return order.Run{}, requestErrorf(409, "cannot start an interactive run: %s of %s is going on", other.rec.Run.Run, other.rec.Run.Spec.Plan)
			}
		}
	}
	if waiting >= maxQueue {
		return order.Run{}, requestErrorf(503, "cannot queue a run: %d are waiting already", waiting)
	}
	now := a.now()
	if created.IsZero() {
		created = now
	}
	if id == "" {
		id = newRunID(now)
	}
	r := &run{wake: make(chan struct{}, 1), version: 1, rec: record{Step: stepQueued, Number: a.nextNumber(), Manifest: o.Manifest, SiteEnvironment: o.SiteEnvironment, Run: order.Run{Report: order.Report{
		Run: id, Attempt: 1, Sequence: 1, Origin: origin, Created: created, State: order.Queued, Spec: spec, BootID: a.bootID,
	}}}}
	r.rec.Run.NoManifest = noManifest(o.Manifest, a.desired.Manifest)
	err := makeDir(a.runDir(id))
	if err == nil {
		err = writeJSON(filepath.Join(a.runDir(id), askedFile), &r.rec, 0o600)
	}
	if err == nil {
		err = a.store(r)
	}
	if err != nil {
		os.RemoveAll(a.runDir(id))
		return order.Run{}, fmt.Errorf("cannot start a run: %w (make room on the machine's disk)", err)
	}
	a.runs[id] = r
	a.order = append(a.order, id)
	a.notify()
	a.opts.Log.Info("run queued", "run", id, "plan", spec.Plan, "origin", origin)
	return a.view(r), nil
}

// noManifest is what a report says of whether there are manifest entries.
func noManifest(of ...map[string]string) *bool {
	none := true
	for _, m := range of {
		none = none && len(m) == 0
	}
	return &none
}

// nextNumber is the number of the run that is asked for next. a.mu must be held.
func (a *Agent) nextNumber() int64 {
	if len(a.order) == 0 {
		return 1
	}
	return a.runs[a.order[len(a.order)-1]].rec.Number + 1
}

func (a *Agent) runDir(id string) string { return filepath.Join(a.opts.Dir, "runs", id) }

func (a *Agent) spoolDir(id string) string { return filepath.Join(a.opts.Dir, "spool", id) }

func (a *Agent) attemptDir(rec *record) string {
	return filepath.Join(a.runDir(rec.Run.Run), fmt.Sprintf("attempt-%d", rec.Run.Attempt))
}

func (a *Agent) startDir(rec *record, n int) string {
	return filepath.Join(a.attemptDir(rec), fmt.Sprintf("start-%d", n))
}

// store writes a run's record. a.mu must be held.
func (a *Agent) store(r *run) error {
	r.rec.BootAt = a.bootID
	return writeJSON(filepath.Join(a.runDir(r.rec.Run.Run), recordFile), &r.rec, 0o600)
}

// update changes a run's record, durably, and tells everybody. The change is undone in memory if it cannot be written.
func (a *Agent) update(r *run, change func(*record)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := r.rec
	change(&r.rec)
	r.rec.Run.Sequence++
	if err := a.store(r); err != nil {
		r.rec = before
		return err
	}
	r.version++
	a.notify()
	return nil
}

// touch changes what need not survive, such as progress.
func (a *Agent) touch(r *run, change func(*record)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&r.rec)
	r.rec.Run.Sequence++
	r.version++
	a.notify()
}

// view is a copy of what is known of a run. a.mu must be held.
func (a *Agent) view(r *run) order.Run {
	v := r.rec.Run
	v.Interruptions = slices.Clone(v.Interruptions)
	v.Files = slices.Clone(v.Files)
	return v
}

// load reads the records of all runs. A record that cannot be read is set aside, loudly; see recoverRun. The others go on.
func (a *Agent) load() error {
	for _, dir := range []string{"runs", "spool"} {
		if err := makeDir(filepath.Join(a.opts.Dir, dir)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Join(a.opts.Dir, "runs"))
	if err != nil {
		return fmt.Errorf("cannot read the runs: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !runID.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(a.runDir(e.Name()), recordFile)
		r := &run{wake: make(chan struct{}, 1), version: 1}
		err := readJSON(path, &r.rec)
		if err == nil && r.rec.Run.Run != e.Name() {
			err = fmt.Errorf("cannot use %s: it names run %q", path, clip(r.rec.Run.Run, 100))
		}
		if err != nil {
			if !exists(path) && !exists(filepath.Join(a.runDir(e.Name()), askedFile)) {
				os.RemoveAll(a.runDir(e.Name())) // a power cut before the run was accepted
				continue
			}
			var ok bool
			if r.rec, ok = a.recoverRun(e.Name(), err); !ok {
				continue
			}
		}
		// Reports that were sent after the record was last written had higher numbers.
		r.rec.Run.Sequence += 1 << 20
		a.runs[e.Name()] = r
		a.order = append(a.order, e.Name())
	}
	spooled, err := os.ReadDir(filepath.Join(a.opts.Dir, "spool"))
	if err != nil {
		return fmt.Errorf("cannot read the spool: %w", err)
	}
	for _, e := range spooled {
		if _, ok := a.runs[e.Name()]; !ok && e.IsDir() && runID.MatchString(e.Name()) {
			if rec, ok := a.recoverRun(e.Name(), fmt.Errorf("%s is gone", a.runDir(e.Name()))); ok && makeDir(a.runDir(e.Name())) == nil {
				rec.Run.Sequence += 1 << 20
				a.runs[e.Name()] = &run{wake: make(chan struct{}, 1), version: 1, rec: rec}
				a.order = append(a.order, e.Name())
			}
		}
		// Forgotten, but the power failed before it was removed.
		if r, ok := a.runs[e.Name()]; ok && r.rec.Run.Delivered && !r.rec.Kept {
			os.RemoveAll(a.spoolDir(e.Name()))
		}
	}
	for id, r := range a.runs {
		if r.rec.Kept && !exists(a.spoolDir(id)) {
			r.rec.Kept, r.rec.Run.SubmissionPath = false, ""
		}
	}
	slices.SortStableFunc(a.order, func(x, y string) int {
		return cmp.Or(cmp.Compare(a.runs[x].rec.Number, a.runs[y].rec.Number), a.runs[x].rec.Run.Created.Compare(a.runs[y].rec.Run.Created))
	})
	return nil
}

// cancel asks for a run to end.
func (a *Agent) cancel(id string) (order.Run, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.runs[id]
	if !ok {
		return order.Run{}, requestErrorf(404, "cannot cancel run %q: it is not known here", clip(id, 100))
	}
	if r.rec.Run.State.Final() || r.rec.Cancel || r.rec.Step == stepEnding {
		return a.view(r), nil
	}
	r.rec.Cancel = true
	if err := a.store(r); err != nil {
		r.rec.Cancel = false
		return order.Run{}, err
	}
	if r.stop != nil {
		r.stop()
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	a.notify()
	return a.view(r), nil
}

// find returns a run by id, or the last one that was asked for.
func (a *Agent) find(id string) (*run, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id == "last" {
		if len(a.order) == 0 {
			return nil, requestErrorf(404, "cannot show the last run: there was none yet")
		}
		id = a.order[len(a.order)-1]
	}
	r, ok := a.runs[id]
	if !ok {
		return nil, requestErrorf(404, "cannot find run %q", clip(id, 100))
	}
	return r, nil
}

// rerunFailed queues a run of those jobs of a run that failed or crashed, and of what they depend on.
func (a *Agent) rerunFailed(id string) (order.Run, error) {
	r, err := a.find(id)
	if err != nil {
		return order.Run{}, err
	}
	a.mu.Lock()
	rec := r.rec
	a.mu.Unlock()
	if !rec.Run.State.Final() {
		return order.Run{}, requestErrorf(409, "cannot run the failed jobs of %s again: it is still %s", rec.Run.Run, rec.Run.State)
	}
	if rec.Run.State != order.Completed {
		return order.Run{}, requestErrorf(409, "cannot run the failed jobs of %s again: it has no valid submission that names them", rec.Run.Run)
	}
	if len(rec.Failed) == 0 {
		return order.Run{}, requestErrorf(409, "cannot run the failed jobs of %s again: none failed", rec.Run.Run)
	}
	spec := rec.Run.Spec
	spec.Match = nil
	for _, job := range rec.Failed {
		spec.Match = append(spec.Match, checkbox.ExactPattern(job))
	}
	origin := rec.Run.Origin
	if origin != order.FromInteractive {
		origin = order.FromAction
	}
	return a.addOrder(origin, order.Order{Spec: spec, Manifest: rec.Manifest, SiteEnvironment: rec.SiteEnvironment})
}

// prune forgets the oldest final runs: their records beyond maxKnown, and, while nobody takes them, their files beyond maxAlone.
// a.mu must be held.
func (a *Agent) prune() {
	known, alone := 0, 0
	var keep []string
	for _, id := range slices.Backward(a.order) {
		r := a.runs[id]
		if r.rec.Step != stepEnded {
			keep = append(keep, id)
			continue
		}
		known++
		// One that cannot be used, as without an authority to trust, is a controller all the same.
		if !r.rec.Run.Delivered && a.wanted > 0 && len(a.desired.ControllerURLs) == 0 {
			if alone++; alone > maxAlone && len(r.rec.Run.Files) > 0 && exists(a.spoolDir(id)) {
				os.RemoveAll(a.spoolDir(id))
				r.rec.Run.SubmissionPath = ""
				r.rec.Dropped = true
				a.store(r)
			}
		}
		if known > maxKnown && (r.rec.Run.Delivered || r.rec.Dropped) {
			os.RemoveAll(a.spoolDir(id))
			os.RemoveAll(a.runDir(id))
			delete(a.runs, id)
			continue
		}
		keep = append(keep, id)
	}
	slices.Reverse(keep)
	a.order = keep
}

// cutBase splits a base such as ubuntu@24.04.
func cutBase(base string) (name, release string, ok bool) { return strings.Cut(base, "@") }
