package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// watchRun shows a run's timeline until the run is over.
func watchRun(ctx context.Context, std streams, api *client.Client, id string, w watchFlags, f formatFlag) error {
	s := newScreen(std)
	width, _, _ := terminal(std.out)
	t, err := watch(ctx, std, w.Interval, w.Patience, func() (cert.Timeline, error) { return api.Timeline(ctx, id) },
		func(t cert.Timeline) bool { return t.Run.State.Final() },
		func(t cert.Timeline) {
			now := time.Now()
			s.show(timelineScreen(t, width, now), timelineProgress(t))
		})
	s.end()
	if err != nil {
		return err
	}
	if err := f.showTimeline(std, t); err != nil {
		return err
	}
	switch {
	case !t.Run.State.Final():
		return exitNotOver
	case t.Run.State != cert.Completed:
		return exitCode(1)
	}
	return nil
}

func (f formatFlag) showTimeline(std streams, t cert.Timeline) error {
	if f.json() {
		return f.write(std, t, nil)
	}
	width, _, _ := terminal(std.out)
	_, err := fmt.Fprint(std.out, timelineScreen(t, width, time.Now()))
	return err
}

// timelineProgress is how far a run is, on one line.
func timelineProgress(t cert.Timeline) string {
	text := clean(t.Run.Hostname) + ": " + string(t.Run.State)
	if n := len(t.Phases); n > 0 && !t.Run.State.Final() {
		p := t.Phases[n-1]
		text += ", " + clean(p.Name)
		if p.Attempt > 1 {
			text += fmt.Sprintf(" (attempt %d)", p.Attempt)
		}
	}
	if j := t.Job; j != nil && !t.Run.State.Final() {
		text += fmt.Sprintf(", job %d of %d", j.Number, j.Of)
	}
	return text
}

// timelineScreen shows what a run has gone through and how far it is.
func timelineScreen(t cert.Timeline, width int, now time.Time) string {
	r, s := t.Run, &sheet{width: width}
	s.row("Run", "%s of %s on %s: %s", r.ID, r.Spec.Plan, cmp.Or(r.Hostname, "a machine that is not chosen yet"), r.State)
	if t.Campaign != "" {
		s.row("Run", "for campaign %s%s", t.Campaign, because2(", ", t.Purpose))
	}
	if r.Failure != nil {
		s.row("Failure", "%s: %s", r.Failure.Type, r.Failure.Message)
	}
	if r.Waits != "" {
		s.row("Waits", "for %s", r.Waits)
	}
	for _, p := range t.Phases {
		s.phase(p, now)
	}
	s.boots(r)
	if j := t.Job; j != nil {
		expected := "nobody knows how long it takes"
		if j.Expected > 0 {
			expected = "it takes " + secondsText(j.Expected) + " as a rule"
		}
		s.wrap("Job", "  ", "%s job %d of %d: %s", bar(max(j.Number-1, 0), j.Of, 20), j.Number, j.Of, j.ID)
		s.row("Job", "for %s, %s", secondsText(j.Seconds), expected)
	}
	if t.Expected != nil && !r.State.Final() {
		s.row("Expected", "over about %s", timeText(t.Expected))
	}
	switch {
	case r.State.Final():
	case t.Contact != nil:
		s.row("Contact", "last word of the machine %s, %s ago", timeText(t.Contact), secondsText(max(now.Sub(*t.Contact).Seconds(), 0)))
	default:
		s.row("Contact", "none yet")
	}
	for _, e := range t.Power {
		s.row("Power", "%s %s: %s", timeText(&e.At), e.Who, e.Text)
	}
	for _, u := range t.Uploads {
		state := fmt.Sprintf("%d of %d bytes", u.Bytes, u.Size)
		if u.Done {
			state = fmt.Sprintf("here, %d bytes", u.Size)
		}
		s.row("Upload", "%s %s: %s", u.Kind, u.Name, state)
	}
	if len(r.Counts) > 0 {
		s.row("Results", "%s", countsText(r.Counts))
	}
	if r.Submission != "" {
		s.row("Results", "submission %s", r.Submission)
	}
	return s.String()
}

func (s *sheet) phase(p cert.TimelinePhase, now time.Time) {
	label := "Before"
	if p.Attempt > 0 {
		label = fmt.Sprintf("Attempt %d", p.Attempt)
	}
	took := "since " + secondsText(max(now.Sub(p.Started).Seconds(), 0))
	if p.Ended != nil {
		took = secondsText(p.Ended.Sub(p.Started).Seconds())
	}
	var boot []string
	if p.Boot != "" {
		boot = append(boot, "boot "+p.Boot)
	}
	if p.Kernel != "" {
		boot = append(boot, p.Kernel)
	}
	s.row(label, "%s %-12s %8s%s%s", p.Started.UTC().Format("15:04:05"), p.Name, took, because2("  ", strings.Join(boot, " ")), because2("  ", p.Text))
}

// boots writes what the machine ran at each boot, as it was proved.
func (s *sheet) boots(r cert.Run) {
	for _, a := range r.Attempts {
		if a.Subject == nil {
			continue
		}
		for _, b := range slices.Clone(a.Subject.Boots) {
			proved := "NOT PROVED"
			switch {
			case b.Proved:
				proved = "proved"
			case !b.Tests:
				proved = "before the subject"
			}
			s.row("Boots", "%s %s%s: %s%s", b.ID, cmp.Or(b.Kernel, "kernel not known"), because2(" ", b.Version), proved, because2(": ", b.Problem))
		}
		if len(a.Subject.Lacking) > 0 {
			s.wrap("Boots", "  ", "the machine had with its kernel before, and the subject has not: %s", strings.Join(a.Subject.Lacking, ", "))
		}
		if a.Subject.Problem != "" {
			s.row("Boots", "%s: %s", a.Subject.Step, a.Subject.Problem)
		}
	}
}
