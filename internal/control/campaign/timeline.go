package campaign

import (
	"context"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// timelineEvents bounds how many of a machine's events a timeline looks at.
const timelineEvents = 500

// Timeline says what a run has gone through and how far it is. A run that a campaign has promised and that is not there yet has one too.
func (e *Engine) Timeline(ctx context.Context, id string) (cert.Timeline, error) {
	out := cert.Timeline{Phases: []cert.TimelinePhase{}, Power: []cert.MachineEvent{}, Uploads: []cert.UploadState{}}
	row, err := e.DB.TryOfRun(ctx, id)
	ours := err == nil
	if err != nil && cert.CodeOf(err) != cert.NotFound {
		return out, err
	}
	if ours {
		out.Campaign, out.Target, out.Purpose = row.Campaign, row.Target, row.Purpose
	}
	if out.Run, err = e.DB.Run(ctx, id); err != nil {
		if !ours || cert.CodeOf(err) != cert.NotFound {
			return out, err
		}
		m, err := e.DB.Machine(ctx, row.Machine)
		if err != nil {
			return out, err
		}
		out.Run = cert.Run{ID: id, Machine: m.ID, Hostname: m.Hostname, Origin: cert.FromOrder, State: cert.Queued, Reservation: row.Reservation, Attempts: []cert.Attempt{}, Files: []cert.File{}}
	}
	now := e.Now()
	began, err := e.reserved(ctx, &out, row.Reservation)
	if err != nil {
		return out, err
	}
	e.attempts(&out)
	if err := e.power(ctx, &out, began); err != nil {
		return out, err
	}
	for _, f := range out.Run.Files {
		out.Uploads = append(out.Uploads, cert.UploadState{Kind: f.Kind, Name: f.Name, Bytes: f.Size, Size: f.Size, Done: true})
	}
	if e.Heard != nil {
		if at := e.Heard(out.Run.Machine); !at.IsZero() {
			out.Contact = &at
		}
	}
	return out, e.progress(ctx, &out, now)
}

// reserved adds what the run's reservation went through, and returns since when.
func (e *Engine) reserved(ctx context.Context, out *cert.Timeline, id string) (time.Time, error) {
	began := out.Run.Created
	if out.Run.Reservation != "" {
		id = out.Run.Reservation
	}
	if id == "" {
		return began, nil
	}
	r, err := e.DB.Reservation(ctx, id)
	if cert.CodeOf(err) == cert.NotFound {
		return began, nil
	}
	if err != nil {
		return began, err
	}
	began = r.Created
	if out.Run.Created.IsZero() {
		out.Run.Created = r.Created
	}
	queued := cert.TimelinePhase{Name: string(cert.ReservationQueued), Started: r.Created, Text: r.Blocked}
	deployments, err := e.DB.Deployments(ctx, sqlite.DeploymentFilter{Reservation: r.ID}, 100)
	if err != nil {
		return began, err
	}
	slices.Reverse(deployments)
	if len(deployments) > 0 {
		queued.Ended, queued.Text = &deployments[0].Started, ""
	}
	out.Phases = append(out.Phases, queued)
	for _, d := range deployments {
		for _, p := range d.Phases {
			end := p.Started.Add(time.Duration(p.Seconds * float64(time.Second)))
			phase := cert.TimelinePhase{Name: string(p.Phase), Started: p.Started, Ended: &end}
			if p.Phase == cert.PhaseReady {
				phase.Boot, phase.Kernel = d.BootID, d.RunningKernel
			}
			out.Phases = append(out.Phases, phase)
		}
		if d.Phase != cert.PhaseOver {
			out.Phases = append(out.Phases, cert.TimelinePhase{Name: string(d.Phase), Started: d.Since, Boot: d.BootID, Kernel: d.RunningKernel})
		}
		if d.Failure != nil && len(out.Phases) > 0 {
			out.Phases[len(out.Phases)-1].Text = d.Failure.Message
		}
	}
	return began, nil
}

// attempts adds the attempts, each with its boots and what is known of its phase.
func (e *Engine) attempts(out *cert.Timeline) {
	run := &out.Run
	for n, a := range run.Attempts {
		started := a.Updated
		if n == 0 && run.Started != nil {
			started = *run.Started
		}
		boots := []order.Boot(nil)
		if a.Subject != nil {
			boots = a.Subject.Boots
		}
		over := a.State.Final() || n < len(run.Attempts)-1
		for i, b := range boots {
			phase := cert.TimelinePhase{Name: "boot", Attempt: a.Number, Started: b.At, Boot: b.ID, Kernel: b.Kernel, Text: b.Problem}
			if b.Tests {
				phase.Name = string(order.Testing)
			}
			switch {
			case i+1 < len(boots):
				end := boots[i+1].At
				phase.Ended = &end
			case over:
				end := a.Updated
				phase.Ended = &end
			}
			out.Phases = append(out.Phases, phase)
		}
		for _, i := range a.Interruptions {
			at := i.At
			out.Phases = append(out.Phases, cert.TimelinePhase{Name: i.Cause, Attempt: a.Number, Started: i.At, Ended: &at, Boot: i.BootAfter, Text: strings.TrimSpace(i.Job + " " + i.Note)})
		}
		phase := cert.TimelinePhase{Name: a.Progress.Phase, Attempt: a.Number, Started: started, Boot: a.BootID}
		if len(boots) > 0 {
			last := boots[len(boots)-1]
			phase.Kernel, phase.Started = last.Kernel, last.At
		}
		if over {
			end := a.Updated
			if run.Finished != nil && n == len(run.Attempts)-1 {
				end = *run.Finished
			}
			phase.Name, phase.Ended = string(a.State), &end
			phase.Started = end
			if n == len(run.Attempts)-1 && run.Failure != nil {
				phase.Text = run.Failure.Message
			}
		}
		out.Phases = append(out.Phases, phase)
	}
	slices.SortStableFunc(out.Phases, func(a, b cert.TimelinePhase) int { return a.Started.Compare(b.Started) })
}

// power adds what was switched at the machine since the run was asked for, and by whom.
func (e *Engine) power(ctx context.Context, out *cert.Timeline, began time.Time) error {
	events, _, err := e.DB.MachineEvents(ctx, sqlite.EventFilter{Machine: out.Run.Machine}, sqlite.Page{Limit: timelineEvents})
	if err != nil {
		return err
	}
	for _, v := range slices.Backward(events) {
		if v.At.Before(began) || out.Run.Finished != nil && v.At.After(*out.Run.Finished) {
			continue
		}
		if strings.HasPrefix(v.Kind, "power") || v.Kind == "off" {
			out.Power = append(out.Power, v)
		}
	}
	return nil
}

// progress says which job is running, how long it has and will, and when the run is likely to be over.
func (e *Engine) progress(ctx context.Context, out *cert.Timeline, now time.Time) error {
	run := &out.Run
	if run.State.Final() {
		return nil
	}
	if expected, n, err := e.history(ctx).plan(run.Spec.Plan); err != nil {
		return err
	} else if n > 0 && len(run.Spec.Match) == 0 && run.Started != nil {
		end := run.Started.Add(time.Duration(expected * float64(time.Second)))
		if end.After(now) {
			out.Expected = &end
		}
	}
	if len(run.Attempts) == 0 {
		return nil
	}
	p := run.Attempts[len(run.Attempts)-1].Progress
	if p.CurrentJob == "" {
		return nil
	}
	seconds, _, err := e.DB.JobSeconds(ctx, run.Machine, p.CurrentJob)
	out.Job = &cert.JobProgress{Number: p.JobsDone + 1, Of: p.JobsPlanned, ID: p.CurrentJob, Expected: seconds}
	if took := now.Sub(run.Attempts[len(run.Attempts)-1].Updated).Seconds(); took > 0 {
		out.Job.Seconds = took
	}
	return err
}
