package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// Exit statuses of machine reserve and machine run, besides 0, 1 and 2.
const (
	exitInfrastructure = exitCode(3) // no machine could be made ready, or the run has no results
	exitNotYet         = exitCode(4) // it goes on, but the time to wait is over
)

// deployFlags say what is wanted of a machine.
type deployFlags struct {
	Release       string   `help:"Release to deploy, such as noble; the site's default if not given." placeholder:"SERIES"`
	Kernel        string   `help:"Kernel to deploy, as MAAS names it, such as hwe-24.04." placeholder:"KERNEL"`
	Key           []string `sep:"none" help:"Who may log in: lp:NAME, gh:NAME or a public key; can be repeated. Without one, nobody can." placeholder:"KEY"`
	Prepare       []string `help:"Steps of the site before the deployment, by name." placeholder:"STEP"`
	Ephemeral     bool     `help:"Deploy in memory, where the provider can."`
	KeepOnFailure float64  `help:"Hold the machine for these hours if something fails, to look at it." placeholder:"HOURS"`
	MaxTries      int      `help:"Give up after so many deployments; 0 for the site's limit." placeholder:"N"`
	Priority      int      `help:"Go before others (needs the role admin), or below 0 let them go first." placeholder:"N"`
	NoFailover    bool     `help:"Do not try another machine that matches when one fails."`
}

func (f deployFlags) want(query string) cert.Want {
	return cert.Want{Query: query, Release: f.Release, Kernel: f.Kernel, Keys: f.Key, Prepare: f.Prepare, Ephemeral: f.Ephemeral,
		KeepOnFailureHours: f.KeepOnFailure, MaxTries: f.MaxTries, Failover: !f.NoFailover}
}

// waitFlags say how long to wait.
type waitFlags struct {
	Wait     bool          `default:"true" negatable:"" help:"Wait for it, and say how far it is."`
	Patience time.Duration `default:"4h" help:"How long to wait (${default}); it goes on after that, and can be waited for again." placeholder:"TIME"`
}

type machineReserveCmd struct {
	Query       string  `arg:"" help:"A machine's name, or what it has to have, such as tags=gpu,arch=arm64,memory>=64G."`
	Reason      string  `required:"" help:"What for; others see it." placeholder:"TEXT"`
	Hours       float64 `help:"For how long, from when it is ready; 0, or nothing, for the default of 8." placeholder:"N"`
	Until       string  `help:"Until when instead, such as 2026-01-31T18:00:00Z." placeholder:"TIME"`
	deployFlags `embed:""`
	waitFlags   `embed:""`
	formatFlag  `embed:""`
}

func (c *machineReserveCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	// The id is chosen here, so that a request whose answer got lost can be repeated.
	in := cert.NewReservation{ID: cert.NewID(cert.ReservationID, time.Now()), Reason: c.Reason, Priority: c.Priority, Want: c.want(c.Query)}
	in.Hours = c.Hours
	if in.Until, err = untilTime(c.Until); err != nil {
		return err
	}
	v, err := api.Reserve(ctx, in)
	if err == nil && len(c.Key) == 0 {
		fmt.Fprintln(std.err, "without --key nobody can log in but those whose keys the provider adds by itself")
	}
	if err == nil && c.Wait {
		v, err = follow(ctx, api, std, v, c.Patience)
	}
	if err := c.showReservation(std, v, err); err != nil {
		return err
	}
	return reservedStatus(v, c.Wait)
}

// reservedStatus is the exit status for a reservation that was waited for.
func reservedStatus(v cert.Reservation, waited bool) error {
	switch {
	case !waited || v.State == cert.ReservationReady:
		return nil
	case v.State == cert.ReservationQueued, v.State == cert.ReservationPreparing:
		return exitNotYet
	}
	return exitInfrastructure
}

func untilTime(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("cannot use the time %q: give one such as 2026-01-31T18:00:00Z", text)
	}
	return &t, nil
}

// pollTime is how long one question about a reservation may wait for its answer.
const pollTime = 50 * time.Second

// follow waits until the reservation's machine is ready, or cannot be had, or the time is over, and says on standard error how far it is
// each time that this changes.
func follow(ctx context.Context, api *client.Client, std streams, v cert.Reservation, patience time.Duration) (cert.Reservation, error) {
	end := time.Now().Add(patience)
	said := ""
	for waiting(v) {
		if text := progressText(v); text != said {
			said = text
			fmt.Fprintln(std.err, clean(text))
		}
		left := time.Until(end)
		if left <= 0 {
			return v, nil
		}
		next, err := askAgain(ctx, func() (cert.Reservation, error) { return api.Reservation(ctx, v.ID, min(pollTime, left+time.Second)) })
		if err != nil {
			if ctx.Err() != nil {
				fmt.Fprintf(std.err, "reservation %s goes on: certlab machine cancel %s ends it\n", v.ID, v.ID)
			}
			return v, err
		}
		v = next
	}
	return v, nil
}

func waiting(v cert.Reservation) bool {
	return v.State == cert.ReservationQueued || v.State == cert.ReservationPreparing
}

// askAgain asks until there is an answer, for a minute of a controller that is not there: it may be starting again.
func askAgain[T any](ctx context.Context, ask func() (T, error)) (out T, err error) {
	const pause, tries = 3 * time.Second, 20
	for range tries {
		out, err = ask()
		var answer *client.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &answer) && answer.Code != cert.Unavailable && answer.Code != cert.TooMany {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(pause):
		}
	}
	return out, err
}

// progressText says how far a reservation is.
func progressText(v cert.Reservation) string {
	text := "waiting for a machine"
	if v.State == cert.ReservationPreparing {
		text = fmt.Sprintf("%s is being made ready", v.Hostname)
		if v.Tries > 1 {
			text += fmt.Sprintf(" (try %d)", v.Tries)
		}
	}
	if e := v.Estimate; e != nil {
		if e.Position > 0 {
			text += fmt.Sprintf(", number %d in the queue", e.Position)
		}
		if e.Ready != nil {
			text += ", likely ready at " + timeText(e.Ready)
			if e.Basis != "" {
				text += " (" + e.Basis + ")"
			}
		}
	}
	if v.Blocked != "" {
		text += ": " + v.Blocked
	}
	return text
}

type machineExtendCmd struct {
	Reservation string  `arg:"" help:"Id of the reservation, or the machine that it has."`
	Hours       float64 `xor:"how" help:"For so many hours more." placeholder:"N"`
	Until       string  `xor:"how" help:"Until then, such as 2026-01-31T18:00:00Z." placeholder:"TIME"`
	formatFlag  `embed:""`
}

func (c *machineExtendCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	until, err := untilTime(c.Until)
	if err != nil {
		return err
	}
	v, err := api.Extend(ctx, c.Reservation, cert.ExtendReservation{Hours: c.Hours, Until: until})
	return c.showReservation(std, v, err)
}

type machineReleaseCmd struct {
	Reservation string `arg:"" help:"Id of the reservation, or the machine that it has."`
	Reason      string `help:"Why, for the machine's log." placeholder:"TEXT"`
	Discard     string `help:"Name of the machine, to release it although it holds results that are not stored." placeholder:"MACHINE"`
	formatFlag  `embed:""`
}

func (c *machineReleaseCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.Release(ctx, c.Reservation, cert.ReleaseReservation{Reason: c.Reason, Discard: c.Discard})
	return c.showReservation(std, v, err)
}

type machineCancelCmd struct {
	Reservation string  `arg:"" help:"Id of the reservation, or the machine that it has."`
	Reason      string  `help:"Why, for the machine's log." placeholder:"TEXT"`
	Keep        float64 `help:"Hold the machine for these hours, to look at it." placeholder:"HOURS"`
	Discard     string  `help:"Name of the machine, to release it although it holds results that are not stored." placeholder:"MACHINE"`
	formatFlag  `embed:""`
}

func (c *machineCancelCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.CancelReservation(ctx, c.Reservation, cert.ReleaseReservation{Reason: c.Reason, Discard: c.Discard, Keep: c.Keep})
	return c.showReservation(std, v, err)
}
