package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

type machineRunCmd struct {
	Plan        string            `arg:"" help:"Full id of the plan, such as com.canonical.certlab::preflight."`
	Query       string            `xor:"where" required:"" help:"What the machine has to have, such as tags=gpu,arch=arm64." placeholder:"QUERY"`
	Machine     string            `xor:"where" required:"" help:"The machine. One that you hold is used as it is, and stays yours." placeholder:"MACHINE"`
	Reason      string            `help:"What for; others see it." placeholder:"TEXT"`
	Title       string            `help:"Title of the session." placeholder:"TEXT"`
	Match       []string          `sep:"none" help:"Only jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Exclude     []string          `sep:"none" help:"No jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Env         map[string]string `mapsep:"none" help:"Variable for the jobs; can be repeated. Not for secrets: it is copied into the submission." placeholder:"NAME=VALUE"`
	Timeout     time.Duration     `help:"End an attempt after this time, such as 2h; 0 for the machine's own limit." placeholder:"TIME"`
	deployFlags `embed:""`
	waitFlags   `embed:""`
	formatFlag  `embed:""`
}

// ranMachine is what machine run shows as JSON.
type ranMachine struct {
	Reservation *cert.Reservation `json:"reservation"` // null: on a machine that the caller had
	Run         *cert.Run         `json:"run"`         // null: it has not begun
}

// Run exits with 0 if the plan has run and nothing in it has failed, 1 if something has, 2 if the request cannot be right, 3 if there are
// no results, because no machine could be made ready or the run has failed, and 4 if it is not over in time.
func (c *machineRunCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	spec := cert.Spec{Plan: c.Plan, Title: c.Title, Match: c.Match, Exclude: c.Exclude, Environment: c.Env, TimeoutSeconds: int64(c.Timeout / time.Second)}
	out, err := c.start(ctx, api, std, spec)
	if err == nil && c.Wait {
		err = c.await(ctx, api, std, &out)
	}
	if err != nil {
		fmt.Fprintf(std.err, "certlab: %v\n", err)
		return runStatus(err)
	}
	if err := c.show(std, out); err != nil {
		return err
	}
	return c.status(out)
}

// runStatus is the exit status for a request that came to nothing.
func runStatus(err error) error {
	var answer *client.Error
	if errors.As(err, &answer) && (answer.Code == cert.Invalid || answer.Code == cert.NotFound) {
		return exitCode(2)
	}
	return exitInfrastructure
}

// start orders the run: on the machine that the caller holds, else for a reservation of its own.
func (c *machineRunCmd) start(ctx context.Context, api *client.Client, std streams, spec cert.Spec) (out ranMachine, err error) {
	if c.Machine != "" {
		mine, err := c.held(ctx, api)
		if err != nil {
			return out, err
		}
		if mine {
			r, err := api.StartRun(ctx, cert.NewRun{ID: cert.NewID(cert.RunID, time.Now()), Machine: c.Machine, Spec: spec})
			return ranMachine{Run: &r}, err
		}
	}
	in := cert.NewReservation{ID: cert.NewID(cert.ReservationID, time.Now()), Reason: cmp.Or(c.Reason, "run of "+c.Plan), Priority: c.Priority,
		Want: c.want(cmp.Or(c.Query, c.Machine)), Spec: &spec}
	v, err := api.Reserve(ctx, in)
	return ranMachine{Reservation: &v}, err
}

// held reports whether the machine has an agent that runs can be given to now: the caller's own, or one with a unit.
func (c *machineRunCmd) held(ctx context.Context, api *client.Client) (bool, error) {
	m, err := api.Machine(ctx, c.Machine)
	if err != nil {
		return false, err
	}
	if m.Unit != "" {
		return true, nil
	}
	if m.State != cert.MachineReserved && m.State != cert.MachineBusy {
		return false, nil
	}
	if m.Current != nil && m.Current.State == cert.ReservationReleasing { // kept after a failure: it has no agent that is ready
		return false, nil
	}
	site, err := api.Site(ctx)
	return err == nil && m.Holder == site.Caller, err
}

// await follows what was begun until it is over, or the time is.
func (c *machineRunCmd) await(ctx context.Context, api *client.Client, std streams, out *ranMachine) error {
	end := time.Now().Add(c.Patience)
	if out.Reservation != nil {
		v, err := follow(ctx, api, std, *out.Reservation, c.Patience)
		if err != nil {
			return err
		}
		out.Reservation = &v
		if waiting(v) {
			return nil
		}
		r, err := askAgain(ctx, func() (cert.Run, error) { return api.Run(ctx, v.Run) })
		var answer *client.Error
		if errors.As(err, &answer) && answer.Code == cert.NotFound {
			return nil // it never began: the reservation says why
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.err, "%s is ready: %s runs as %s\n", clean(r.Hostname), clean(r.Spec.Plan), r.ID)
		out.Run = &r
	}
	r, err := waitRun(ctx, api, *out.Run, time.Until(end), runProgress(std))
	if err != nil {
		return err
	}
	out.Run = &r
	if out.Reservation != nil {
		if v, err := api.Reservation(ctx, out.Reservation.ID, 0); err == nil {
			out.Reservation = &v
		}
	}
	return nil
}

func (c *machineRunCmd) show(std streams, out ranMachine) error {
	switch {
	case c.json():
		return c.write(std, out, nil)
	case out.Run == nil:
		return c.showReservation(std, *out.Reservation, nil)
	}
	return c.showRun(std, *out.Run, nil)
}

func (c *machineRunCmd) status(out ranMachine) error {
	switch {
	case !c.Wait:
		return nil
	case out.Run == nil && waiting(*out.Reservation), out.Run != nil && !out.Run.State.Final():
		return exitNotYet
	case out.Run == nil || out.Run.State != cert.Completed:
		return exitInfrastructure
	case !out.Run.Counts.Clean():
		return exitCode(1)
	}
	return nil
}
