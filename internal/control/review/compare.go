package review

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// errChanged says that a target is not what it was when its facts were read.
var errChanged = errors.New("the target has changed meanwhile")

const (
	maxJobsFile = 32 << 20 // bytes
	fewTries    = 3        // times that a target is looked at again when it changes meanwhile
	batch       = 100      // targets
)

// CompareAll compares what waits to be compared, as far as it is indexed. It returns how many targets it has looked at.
func (r *Review) CompareAll(ctx context.Context) (int, error) {
	done, after := 0, ""
	var all []error
	for {
		ids, err := r.DB.UnreviewedTargets(ctx, "", after, batch)
		if err != nil || len(ids) == 0 {
			return done, errors.Join(append(all, err)...)
		}
		for _, id := range ids {
			after = id
			ok, err := r.CompareTarget(ctx, id)
			if ctx.Err() != nil {
				return done, ctx.Err()
			}
			if err != nil { // another target's are not held up by it
				all = append(all, fmt.Errorf("cannot compare target %s: %w", id, err))
			}
			if ok {
				done++
			}
		}
	}
}

// CompareTarget compares what a target has, and stores what it comes to with all that follows from it. It returns false if it has to wait for the
// indexer.
func (r *Review) CompareTarget(ctx context.Context, id string) (bool, error) {
	for range fewTries {
		g, err := r.gather(ctx, id)
		if err != nil || g == nil {
			return false, err
		}
		err = r.keep(ctx, g)
		if !errors.Is(err, errChanged) {
			if err == nil {
				r.woken()
			}
			return err == nil, err
		}
	}
	return false, errChanged
}

// gathered are the facts of a target, and what they come to.
type gathered struct {
	campaign cert.Campaign
	target   cert.Target
	attempts []judge.Attempt
	confirms []confirming
	result   judge.Comparison
	matcher  *judge.Matcher
	machines map[string]*cert.FleetMachine
	logs     map[place]string // excerpts, where a rule asks for them
}

type place struct {
	submission string
	index      int
}

// A confirming is a try that did jobs again on the baseline's subject.
type confirming struct {
	try  cert.Try
	side judge.Side
}

// gather reads the facts of a target. It returns nil if a submission of it is not indexed yet.
func (r *Review) gather(ctx context.Context, id string) (*gathered, error) {
	g := &gathered{}
	var err error
	if g.target, err = r.DB.Target(ctx, id); err != nil {
		return nil, err
	}
	if g.campaign, err = r.DB.Campaign(ctx, g.target.Campaign); err != nil {
		return nil, err
	}
	judged := g.target // with what the runs have delivered meanwhile
	judged.Tries = slices.Clone(g.target.Tries)
	for n := range judged.Tries {
		try := &judged.Tries[n]
		if try.Submission == "" && try.Ended != nil && try.Run != "" {
			if try.Submission, err = r.DB.RunSubmission(ctx, try.Run); err != nil {
				return nil, err
			}
		}
		if try.Submission == "" {
			continue
		}
		ready, err := r.addAttempt(ctx, g, *try)
		if err != nil || !ready {
			return nil, err
		}
	}
	in := judge.Case{Campaign: g.campaign, Target: judged, Attempts: g.attempts, Now: r.Now()}
	taken := 0 // number of the try whose baseline and plan are in
	if newest := g.newest(); newest != nil {
		taken = newest.Try.Number
		if err := r.surround(ctx, &in, newest); err != nil {
			return nil, err
		}
	}
	g.result = judge.Compare(in)
	if n := slices.IndexFunc(g.attempts, func(a judge.Attempt) bool { return a.Try.Number == g.result.Counted }); n >= 0 && g.result.Counted != taken {
		if err := r.surround(ctx, &in, &g.attempts[n]); err != nil {
			return nil, err
		}
		g.result = judge.Compare(in)
	}
	g.target = judged
	return g, r.ready(ctx, g)
}

// surround finds what an attempt is held against: its baseline, and the jobs that its plan had.
func (r *Review) surround(ctx context.Context, in *judge.Case, a *judge.Attempt) (err error) {
	if in.Before, err = r.baseline(ctx, &in.Campaign, &a.Side); err != nil {
		return err
	}
	in.Planned, err = r.planned(ctx, a.Side.Run)
	return err
}

// addAttempt reads the submission of a try. It returns false if that is not indexed yet.
func (r *Review) addAttempt(ctx context.Context, g *gathered, try cert.Try) (bool, error) {
	raw, err := r.DB.Side(ctx, try.Submission)
	if cert.CodeOf(err) == cert.NotFound { // removed, as old: what was compared stays
		g.attempts = append(g.attempts, judge.Attempt{Try: try, Unreadable: "it was removed: it was older than this site keeps results"})
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch raw.State {
	case cert.IndexUnreadable:
		g.attempts = append(g.attempts, judge.Attempt{Try: try, Unreadable: raw.Error, Side: judge.Side{Run: raw.Run, Submission: raw.Submission, Machine: raw.Machine, At: raw.Received}})
		return true, nil
	case cert.IndexDone:
	default:
		return false, nil
	}
	side, evidence, err := r.side(ctx, &raw)
	if err != nil {
		return false, err
	}
	if try.Purpose == cert.TryConfirm {
		g.confirms = append(g.confirms, confirming{try, side})
		return true, nil
	}
	if evidence.Attached = try.Purpose == cert.TryAttached; evidence.Attached || g.campaign.Subject.Kind == cert.SubjectPackages {
		if evidence.Packages, err = r.DB.Packages(ctx, raw.Submission); err != nil {
			return false, err
		}
	}
	proof := judge.Prove(g.campaign.Subject, evidence)
	side.Version = g.campaign.Subject.Version
	g.attempts = append(g.attempts, judge.Attempt{Try: try, Side: side, Proof: proof})
	return true, nil
}

// newest returns the newest attempt at the whole plan that can be read; those that prove the subject go first.
func (g *gathered) newest() *judge.Attempt {
	var best *judge.Attempt
	for n := range g.attempts {
		a := &g.attempts[n]
		if a.Unreadable != "" || a.Try.Partial() {
			continue
		}
		if best == nil || a.Proof.OK || !best.Proof.OK {
			best = a
		}
	}
	return best
}

// side reads a submission as comparing needs it.
func (r *Review) side(ctx context.Context, raw *sqlite.Side) (judge.Side, judge.Evidence, error) {
	facts := &raw.Facts
	lab := sqlite.Surroundings{}
	if facts.Lab != nil {
		lab = *facts.Lab
	}
	rows, err := r.DB.SideResults(ctx, raw)
	if err != nil {
		return judge.Side{}, judge.Evidence{}, err
	}
	s := judge.Side{Run: raw.Run, Submission: raw.Submission, Machine: raw.Machine, Plan: raw.Plan, Kernel: facts.Kernel, At: raw.Received, Checkbox: raw.Checkbox,
		Firmware: lab.Firmware, Cmdline: facts.Cmdline, Processor: processorText(facts.Processor), Hardware: lab.Hardware, Manifest: lab.Manifest,
		NoManifest: raw.NoManifest, Results: make([]judge.Result, len(rows))}
	if facts.Memory != nil {
		s.Memory = facts.Memory.Total
	}
	for n, row := range rows {
		s.Results[n] = judge.Result{Result: row.Result, Signature: row.Signature, Doubt: row.Doubt}
	}
	e := judge.Evidence{Kernel: cmp.Or(facts.Kernel, raw.Kernel)}
	attempt, err := r.DB.Attempt(ctx, raw.Run, raw.Attempt)
	if err == nil {
		e.State = attempt.Subject
	} else if cert.CodeOf(err) != cert.NotFound { // an upload has none
		return s, e, err
	}
	return s, e, nil
}

// processorText names a processor as the submission does.
func processorText(p map[string]string) string {
	for _, key := range []string{"model", "type", "platform"} {
		if p[key] != "" {
			text := p[key]
			if n := p["count"]; n != "" {
				text = n + " × " + text
			}
			return text
		}
	}
	return ""
}

// planned reads which jobs the plan had on the machine; nil: not known.
func (r *Review) planned(ctx context.Context, run string) ([]order.PlannedJob, error) {
	file, ok, err := r.DB.RunFile(ctx, run, 0, cert.KindJobs)
	if err != nil || !ok {
		return nil, err
	}
	if jobs, ok := r.plans.of(file.SHA256); ok {
		return jobs, nil
	}
	in, err := r.Open(ctx, file.SHA256, file.Size)
	if cert.CodeOf(err) == cert.Unavailable {
		return nil, nil // its bytes are lost for now: which jobs are absent is not known
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var jobs []order.PlannedJob
	if err := json.NewDecoder(io.LimitReader(in, maxJobsFile)).Decode(&jobs); err != nil {
		r.Logger.Warn("cannot read which jobs a plan has", "run", run, "error", err)
		return nil, nil
	}
	r.plans.keep(file.SHA256, jobs)
	return jobs, nil
}

// baseline finds what a submission is compared with: the newest submission that its machine has of the same plan on the baseline's subject.
func (r *Review) baseline(ctx context.Context, c *cert.Campaign, new *judge.Side) (*judge.Side, error) {
	b := c.Baseline
	if b.Rule == cert.BaselineNone || b.Version == "" && b.Campaign == "" {
		return nil, nil
	}
	f := sqlite.BaselineFilter{Machine: new.Machine, Plan: new.Plan, Campaign: b.Campaign, Not: new.Submission}
	if c.Rules.Baseline.MaxDays > 0 {
		f.Since = r.Now().Add(-time.Duration(c.Rules.Baseline.MaxDays) * 24 * time.Hour)
	}
	var found []sqlite.BaselineChoice
	var err error
	if b.Campaign != "" {
		if found, err = r.DB.BaselineChoices(ctx, f, batch); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 && b.Version != "" {
		f.Campaign, f.Version, f.Source = "", b.Version, c.Subject.Source
		old := c.Subject
		old.Version = b.Version
		if old.Kind == cert.SubjectKernel {
			if f.Kernel, err = old.KernelRelease(); err != nil {
				f.Kernel = "" // of a form that is not known: only what was asked for by version counts
			}
		}
		if found, err = r.DB.BaselineChoices(ctx, f, batch); err != nil {
			return nil, err
		}
	}
	for _, choice := range found {
		if !slices.Equal(choice.Spec.Match, c.Rules.Match) {
			continue // some jobs only
		}
		if spoilt, err := r.spoilt(ctx, choice.Run); err != nil {
			return nil, err
		} else if spoilt {
			continue
		}
		raw, err := r.DB.Side(ctx, choice.Submission)
		if err != nil {
			return nil, err
		}
		side, evidence, err := r.side(ctx, &raw)
		if err != nil {
			return nil, err
		}
		side.Version = b.Version
		if choice.Spec.Subject != nil {
			side.Version = choice.Spec.Subject.Version
			if evidence.State == nil || evidence.State.Step == order.SubjectFell || evidence.State.Step == order.SubjectRefused {
				continue // it says nothing of that version
			}
		}
		return &side, nil
	}
	return nil, nil
}

// spoilt reports whether a run was a try of a campaign that says nothing about its subject.
func (r *Review) spoilt(ctx context.Context, run string) (bool, error) {
	row, err := r.DB.TryOfRun(ctx, run)
	if cert.CodeOf(err) == cert.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t, err := r.DB.Target(ctx, row.Target)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(t.Tries, func(try cert.Try) bool { return try.Run == run && (try.Infra || try.Suspect != "" || try.Partial()) }), nil
}

// ready reads what recognising known issues needs.
func (r *Review) ready(ctx context.Context, g *gathered) error {
	issues, err := r.DB.ActiveIssues(ctx)
	if err != nil {
		return err
	}
	g.matcher = judge.CompileIssues(issues, r.Now())
	if len(issues) == 0 {
		return nil
	}
	if g.machines, err = r.fleet(ctx, slices.ContainsFunc(issues, func(k cert.KnownIssue) bool { return k.Match.Machines != "" })); err != nil {
		return err
	}
	if !slices.ContainsFunc(issues, func(k cert.KnownIssue) bool { return k.Match.Log != "" }) {
		return nil
	}
	g.logs = make(map[place]string)
	for _, f := range g.result.Findings {
		if f.Submission == "" || f.Index < 0 || f.Signature == "" {
			continue
		}
		text, err := r.DB.Excerpt(ctx, f.Submission, f.Index)
		if err != nil {
			return err
		}
		g.logs[place{f.Submission, f.Index}] = text
	}
	return nil
}

// fleet returns what queries ask for, by machine, if anybody asks.
func (r *Review) fleet(ctx context.Context, asked bool) (map[string]*cert.FleetMachine, error) {
	if !asked || r.Machines == nil {
		return nil, nil
	}
	all, err := r.Machines(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot tell what the machines are: %w", err)
	}
	out := make(map[string]*cert.FleetMachine, len(all))
	for n := range all {
		out[all[n].ID] = &all[n]
	}
	return out, nil
}

func (g *gathered) recognise(f *cert.Finding) {
	g.matcher.Apply(f, hitOf(&g.campaign, f, g.logs[place{f.Submission, f.Index}], g.machines[f.Machine]))
}

func hitOf(c *cert.Campaign, f *cert.Finding, log string, m *cert.FleetMachine) judge.Hit {
	return judge.Hit{Job: f.Job, Template: f.Template, Plan: f.Plan, Outcome: judge.HitOutcome(f), Series: c.Subject.Series, Source: c.Subject.Source,
		Version: c.Subject.Version, Log: log, Machine: m}
}

// same reports whether a target is still what its facts were read of.
func same(read, now *cert.Target) bool {
	a, b := *read, *now
	a.Tries, b.Tries = slices.Clone(a.Tries), slices.Clone(b.Tries)
	for n := range a.Tries {
		if n < len(b.Tries) && b.Tries[n].Submission == "" {
			a.Tries[n].Submission = "" // was looked up
		}
	}
	return reflect.DeepEqual(a, b)
}
