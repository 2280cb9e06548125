package soak

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/order"
)

// check holds what the lab has against what it acknowledged.
func (s *Soak) check(ctx context.Context) {
	runs, err := s.api.Runs(ctx, nil, 0)
	if err != nil {
		s.violate("unreachable", "", "%v", err)
		return
	}
	s.monitor.remember(runs)
	subs, err := s.api.Submissions(ctx, nil, 0)
	if err != nil {
		s.violate("unreachable", "", "%v", err)
		return
	}
	c := &checker{Soak: s, runs: map[string]cert.Run{}, subs: map[string][]cert.Submission{}, byTitle: map[string][]string{},
		requests: map[string]*Request{}, jobs: map[string]map[string]string{}}
	for _, run := range runs {
		if _, ok := c.runs[run.ID]; ok {
			s.violate("twice", run.ID, "the list of runs has it twice")
		}
		c.runs[run.ID] = run
		if run.Origin != cert.FromUpload {
			c.byTitle[run.Spec.Title] = append(c.byTitle[run.Spec.Title], run.ID)
		}
	}
	for _, sub := range subs {
		c.subs[sub.Run] = append(c.subs[sub.Run], sub)
	}
	s.ledger.with(func() {
		for _, r := range s.ledger.requests {
			c.requests[r.Title] = r
		}
	})
	c.acknowledgedRuns()
	for _, listed := range runs {
		run, err := s.api.Run(ctx, listed.ID) // with its files
		if err != nil {
			s.violate("unreachable", listed.ID, "%v", err)
			continue
		}
		c.runs[run.ID] = run
		if run.Origin != cert.FromUpload {
			c.run(ctx, run)
		}
	}
	c.uploads(ctx)
	c.tokens(ctx)
	c.machinesLeft()
	c.controllerLeft(ctx)
	c.logs()
}

// A checker compares what there is with the ledger.
type checker struct {
	*Soak
	runs     map[string]cert.Run
	subs     map[string][]cert.Submission // by run
	byTitle  map[string][]string          // title → runs
	requests map[string]*Request          // by title
	jobs     map[string]map[string]string // plan → job → outcome, as the first submission without an interruption had it
}

// acknowledgedRuns checks that each run that was acknowledged is there, and each request made at most one.
func (c *checker) acknowledgedRuns() {
	for title, r := range c.requests {
		ids := c.byTitle[title]
		if r.Acked && len(ids) == 0 {
			c.violate("lost", r.ID, "the run was acknowledged (%s) and is not there", title)
		}
		if len(ids) > 1 {
			c.violate("twice", r.ID, "%s made %d runs: %v", title, len(ids), ids)
		}
		if r.Acked && len(ids) == 1 && ids[0] != r.ID {
			c.violate("twice", r.ID, "%s was acknowledged as this run, and there is %s", title, ids[0])
		}
	}
}

// expected says how a run of a plan has to end when nobody cancels it: completed, or failed with a type.
func expected(plan string) (cert.State, string) {
	switch strings.TrimPrefix(plan, namespace) {
	case "demo-manual":
		return cert.Failed, order.FailInteractive
	case "demo-unknown":
		return cert.Failed, order.FailPlanUnknown
	case "demo-hang":
		return cert.Failed, order.FailTimeout
	}
	return cert.Completed, ""
}

// maxBoots is the option's default.
const maxBoots = 20

// run checks how one run ended.
func (c *checker) run(ctx context.Context, run cert.Run) {
	failure := ""
	if run.Failure != nil {
		failure = run.Failure.Type
	}
	c.report.Outcomes[strings.TrimPrefix(run.Spec.Plan, namespace)+": "+strings.TrimSpace(string(run.State)+" "+failure)]++
	r := c.requests[run.Spec.Title]
	if r == nil {
		c.violate("unknown", run.ID, "nobody asked for this run: %q of %s on %s", run.Spec.Title, run.Spec.Plan, run.Hostname)
		return
	}
	if run.Hostname != "machine-"+r.Machine || run.Spec.Plan != r.Plan || run.Origin != r.Origin {
		c.violate("wrong", run.ID, "%s of %s on machine %s was asked for, and the run is %s of %s on %s", r.Origin, r.Plan, r.Machine, run.Origin, run.Spec.Plan, run.Hostname)
	}
	boots, unhung := 0, false
	for _, a := range run.Attempts {
		boots += len(a.Interruptions)
		for _, i := range a.Interruptions {
			unhung = unhung || i.Job == namespace+"hang" && !i.Expected
			name := i.Cause
			if i.Expected {
				name += ", expected by the job"
			}
			c.report.Interrupts[name]++
		}
	}
	state, want := expected(run.Spec.Plan)
	switch {
	case !run.State.Final():
		c.violate("open", run.ID, "it is still %s: %+v", run.State, run.Attempts)
	case run.State == cert.Cancelled:
		if !r.CancelSent {
			c.violate("outcome", run.ID, "it was cancelled by nobody")
		}
	case r.CancelDone && run.CancelRequested && len(run.Attempts) == 0:
		c.violate("outcome", run.ID, "it was cancelled before it began and is %s", run.State)
	case run.State == cert.Failed && failure == order.FailInterrupted && boots > maxBoots:
	case run.State == cert.Completed && unhung: // what hung was ended, and Checkbox went on after it; that it did not pass is checked below
	case run.State != state || failure != want:
		c.violate("outcome", run.ID, "it is %s (%+v), not %s %s; interruptions: %+v", run.State, run.Failure, state, want, run.Attempts)
	}
	c.submissions(ctx, run)
}

// tokens checks that tokens that were made are there, and revoked ones are good for nothing.
func (c *checker) tokens(ctx context.Context) {
	listed, err := c.api.Tokens(ctx, 0)
	if err != nil {
		c.violate("unreachable", "", "%v", err)
		return
	}
	known := map[string]int{}
	for _, t := range listed {
		known[t.Name]++
	}
	for _, t := range c.ledger.tokens {
		if t.Created && known[t.Name] != 1 {
			c.violate("lost", t.Name, "the token was acknowledged and is listed %d times", known[t.Name])
		}
		if t.Secret == "" {
			continue
		}
		holder, err := client.New(client.Options{URL: c.report.URL, CAs: c.report.CAs, Token: t.Secret})
		if err == nil {
			_, err = holder.Site(ctx)
		}
		if t.Revoked && err == nil {
			c.violate("lost", t.Name, "its revocation was acknowledged, and the token is still good")
		}
		if !t.RevokeSent && err != nil {
			c.violate("lost", t.Name, "the token was given out and is not good: %v", err)
		}
	}
}

func query(name, value string) url.Values { return url.Values{name: {value}} }

// brief shortens a list for a message.
func brief(list []string) string {
	if len(list) > 8 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:8], ", "), len(list)-8)
	}
	return strings.Join(list, ", ")
}
