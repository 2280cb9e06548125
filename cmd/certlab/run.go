package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// runCmd groups the commands on runs.
type runCmd struct {
	List   runListCmd   `cmd:"" help:"List runs, the newest first."`
	Show   runShowCmd   `cmd:"" help:"Show a run."`
	Start  runStartCmd  `cmd:"" help:"Start a run on a machine."`
	Cancel runCancelCmd `cmd:"" help:"End a run."`
}

type runListCmd struct {
	Machine    string `help:"Only on this machine: id, system_id or hostname." placeholder:"MACHINE"`
	State      string `help:"Only in this state: queued, running, completed, failed or cancelled." placeholder:"STATE"`
	Plan       string `help:"Only of this plan." placeholder:"ID"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *runListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	runs, err := api.Runs(ctx, url.Values{"machine": {c.Machine}, "state": {c.State}, "plan": {c.Plan}}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Runs []cert.Run `json:"runs"`
		}{runs}, err)
	}
	var rows [][]string
	for _, r := range runs {
		rows = append(rows, []string{r.ID, r.Hostname, r.Spec.Plan, string(r.State), runNote(r), timeText(&r.Created)})
	}
	return table(std.out, []string{"RUN", "MACHINE", "PLAN", "STATE", "RESULTS", "CREATED"}, rows)
}

// runNote is a run's results, with what must not be overlooked in them.
func runNote(r cert.Run) string {
	if r.NoManifest {
		return strings.TrimPrefix(countsText(r.Counts)+", no manifest", ", ")
	}
	return countsText(r.Counts)
}

type runShowCmd struct {
	ID         string `arg:"" name:"run" help:"Id of the run."`
	Timeline   bool   `help:"Show what it has gone through: phases, boots and their kernels, power, uploads. --watch follows it."`
	watchFlags `embed:""`
	formatFlag `embed:""`
}

// Help is shown by --help.
func (runShowCmd) Help() string {
	return "With --watch, the exit status is 0 if the run has completed, 1 if it has failed or was cancelled, or something went wrong, and 3 if it is not over."
}

func (c *runShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	switch {
	case c.Watch:
		return watchRun(ctx, std, api, c.ID, c.watchFlags, c.formatFlag)
	case c.Timeline:
		t, err := api.Timeline(ctx, c.ID)
		if err != nil {
			return err
		}
		return c.showTimeline(std, t)
	}
	r, err := api.Run(ctx, c.ID)
	return c.showRun(std, r, err)
}

func (f formatFlag) showRun(std streams, r cert.Run, err error) error {
	if err != nil || f.json() {
		return f.write(std, r, err)
	}
	rows := [][]string{
		{"Id", r.ID}, {"Machine", r.Hostname}, {"Plan", r.Spec.Plan}, {"State", string(r.State)}, {"Asked for by", askedBy(r)},
		{"Created", timeText(&r.Created)}, {"Started", timeText(r.Started)}, {"Finished", timeText(r.Finished)},
	}
	if r.Waits != "" {
		rows = append(rows, []string{"Waits for", r.Waits})
	}
	if r.Reservation != "" {
		rows = append(rows, []string{"Reservation", r.Reservation})
	}
	if r.Repeats != "" {
		rows = append(rows, []string{"Repeats", r.Repeats})
	}
	if r.RepeatedBy != "" {
		rows = append(rows, []string{"Repeated by", r.RepeatedBy})
	}
	if r.NoManifest {
		rows = append(rows, []string{"Manifest", "none: jobs that asked for an entry were skipped, and have not passed"})
	}
	if r.Failure != nil {
		rows = append(rows, []string{"Failure", r.Failure.Type + ": " + r.Failure.Message})
	}
	for _, a := range r.Attempts {
		rows = append(rows, []string{fmt.Sprintf("Attempt %d", a.Number), attemptText(a)})
		for _, i := range a.Interruptions {
			rows = append(rows, []string{"Interrupted", fmt.Sprintf("%s by %s at %s", cmp.Or(i.Job, "no job"), i.Cause, timeText(&i.At))})
		}
		for _, l := range a.MachineLost {
			rows = append(rows, []string{"Machine lost", fmt.Sprintf("in %s at %s: %s", cmp.Or(l.Job, "no job"), timeText(&l.At), l.Text)})
		}
		if a.Suspect != "" {
			rows = append(rows, []string{"Suspect", "part of incident " + a.Suspect + ": it says nothing of the machine"})
		}
	}
	rows = append(rows, []string{"Results", countsText(r.Counts)}, []string{"Submission", r.Submission}, []string{"URL", r.URL})
	return table(std.out, nil, rows)
}

func askedBy(r cert.Run) string {
	if r.RequestedBy == "" {
		return r.Origin
	}
	return fmt.Sprintf("%s (%s)", r.Origin, r.RequestedBy)
}

// attemptText leaves out what is not known yet, and the phase and the job of an attempt that is over.
func attemptText(a cert.Attempt) string {
	texts := []string{string(a.State)}
	going := a.State == cert.Running
	if going && a.Progress.Phase != "" {
		texts = append(texts, a.Progress.Phase)
	}
	if a.Progress.JobsPlanned > 0 {
		texts = append(texts, fmt.Sprintf("%d of %d jobs", a.Progress.JobsDone, a.Progress.JobsPlanned))
	}
	if going && a.Progress.CurrentJob != "" {
		texts = append(texts, a.Progress.CurrentJob)
	}
	return strings.Join(texts, ", ")
}

type runStartCmd struct {
	Machine    string            `arg:"" help:"Id, MAAS system_id or hostname."`
	Plan       string            `arg:"" help:"Full id of the plan, such as com.canonical.certlab::preflight."`
	Title      string            `help:"Title of the session." placeholder:"TEXT"`
	Match      []string          `sep:"none" help:"Only jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Exclude    []string          `sep:"none" help:"No jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Env        map[string]string `mapsep:"none" help:"Variable for the jobs; can be repeated. Not for secrets: it is copied into the submission." placeholder:"NAME=VALUE"`
	Timeout    time.Duration     `help:"End an attempt after this time, such as 2h; 0 for the machine's own limit." placeholder:"TIME"`
	Wait       time.Duration     `help:"Wait up to this time for the run to be over; exit status 1 if it has failed or was cancelled, 3 if it is not over." placeholder:"TIME"`
	formatFlag `embed:""`
}

// exitNotOver is the exit status of run start --wait when the time was too short.
const exitNotOver = exitCode(3)

func (c *runStartCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	// The id is chosen here, so that a request whose answer got lost can be repeated.
	order := cert.NewRun{ID: cert.NewID(cert.RunID, time.Now()), Machine: c.Machine, Spec: cert.Spec{Plan: c.Plan, Title: c.Title, Match: c.Match,
		Exclude: c.Exclude, Environment: c.Env, TimeoutSeconds: int64(c.Timeout / time.Second)}}
	r, err := api.StartRun(ctx, order)
	if err == nil && c.Wait > 0 {
		r, err = waitRun(ctx, api, r, c.Wait, runProgress(std))
	}
	if err := c.showRun(std, r, err); err != nil {
		return err
	}
	switch {
	case c.Wait > 0 && !r.State.Final():
		return exitNotOver
	case c.Wait > 0 && r.State != cert.Completed:
		return exitCode(1)
	}
	return nil
}

// waitRun waits for the run to be over, or for the time. It calls seen with each answer on the way.
func waitRun(ctx context.Context, api *client.Client, r cert.Run, patience time.Duration, seen func(cert.Run)) (cert.Run, error) {
	const pause = 2 * time.Second
	over := time.After(patience)
	for !r.State.Final() {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-over:
			return r, nil
		case <-time.After(pause):
		}
		var err error
		if r, err = api.Run(ctx, r.ID); err != nil {
			return r, err
		}
		seen(r)
	}
	return r, nil
}

// runProgress says on standard error how far a run is, each time that its phase changes or its machine was lost.
func runProgress(std streams) func(cert.Run) {
	said := ""
	return func(r cert.Run) {
		if len(r.Attempts) == 0 || r.State.Final() {
			return
		}
		a := r.Attempts[len(r.Attempts)-1]
		text := fmt.Sprintf("%s: %s", clean(r.Hostname), clean(a.Progress.Phase))
		if n := len(a.MachineLost); n > 0 {
			text += ", after the machine was lost in " + clean(a.MachineLost[n-1].Job)
		}
		if text == said {
			return
		}
		said = text
		if p := a.Progress; p.JobsPlanned > 0 {
			text += fmt.Sprintf(" (%d of %d jobs)", p.JobsDone, p.JobsPlanned)
		}
		fmt.Fprintln(std.err, text)
	}
}

type runCancelCmd struct {
	ID         string `arg:"" name:"run" help:"Id of the run."`
	formatFlag `embed:""`
}

func (c *runCancelCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	r, err := api.CancelRun(ctx, c.ID)
	return c.showRun(std, r, err)
}
