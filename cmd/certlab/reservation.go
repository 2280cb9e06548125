package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"certlab/internal/cert"
)

// reservationCmd groups the commands that look at reservations.
type reservationCmd struct {
	List reservationListCmd `cmd:"" help:"List reservations, the newest first: your own that are not over, unless you ask for others."`
	Show reservationShowCmd `cmd:"" help:"Show a reservation."`
}

type reservationListCmd struct {
	All        bool   `help:"Everybody's."`
	Holder     string `help:"Only this person's." placeholder:"NAME"`
	State      string `help:"Only in this state: open, queued, preparing, ready, releasing or ended." default:"open" placeholder:"STATE"`
	Over       bool   `help:"Those that are over too."`
	Kind       string `help:"Only of this kind: manual, run or check." placeholder:"KIND"`
	Machine    string `help:"Only of this machine: id, system_id or hostname." placeholder:"MACHINE"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *reservationListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	filter := url.Values{"state": {c.State}, "kind": {c.Kind}, "machine": {c.Machine}, "holder": {c.Holder}}
	if c.Holder == "" && !c.All && c.Machine == "" {
		filter.Set("holder", "me")
	}
	if c.Over {
		filter.Del("state")
	}
	list, err := api.Reservations(ctx, filter, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Reservations []cert.Reservation `json:"reservations"`
		}{list}, err)
	}
	var rows [][]string
	for _, v := range list {
		rows = append(rows, []string{v.ID, string(v.Kind), stateText(v), v.Holder, v.Hostname, timeText(v.Until), v.Want.Query, v.Reason})
	}
	return table(std.out, []string{"RESERVATION", "KIND", "STATE", "HOLDER", "MACHINE", "UNTIL", "WANTED", "REASON"}, rows)
}

func stateText(v cert.Reservation) string {
	if v.Ending != "" {
		return string(v.State) + " (" + v.Ending + ")"
	}
	return string(v.State)
}

type reservationShowCmd struct {
	Reservation string        `arg:"" help:"Id of the reservation, or the machine that it has."`
	Wait        time.Duration `help:"Wait up to this time until its machine is ready, or cannot be had." placeholder:"TIME"`
	formatFlag  `embed:""`
}

func (c *reservationShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.Reservation(ctx, c.Reservation, 0)
	if err == nil && c.Wait > 0 {
		v, err = follow(ctx, api, std, v, c.Wait)
	}
	if err := c.showReservation(std, v, err); err != nil {
		return err
	}
	return reservedStatus(v, c.Wait > 0)
}

func (f formatFlag) showReservation(std streams, v cert.Reservation, err error) error {
	if err != nil || f.json() {
		return f.write(std, v, err)
	}
	rows := [][]string{{"Reservation", v.ID}, {"State", stateText(v)}, {"Holder", v.Holder}}
	more := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	more("Reason", v.Reason)
	more("Wanted", strings.TrimSpace(v.Want.Query+" "+v.Want.Release+" "+v.Want.Kernel))
	more("Machine", v.Hostname)
	more("Connect", v.Connect)
	if e := v.Estimate; e != nil {
		if e.Position > 0 {
			more("In the queue", fmt.Sprint(e.Position))
		}
		more("Likely ready", timeText(e.Ready))
		if e.Ready != nil {
			more("Estimated from", e.Basis)
		}
	}
	more("Waits for", v.Blocked)
	more("Ready", timeText(v.Ready))
	more("Until", timeText(v.Until))
	if v.Spec != nil {
		more("Plan", v.Spec.Plan)
		more("Run", v.Run)
	}
	more("Repeats", v.Repeats)
	more("Repeated by", v.RepeatedBy)
	if v.Failure != nil {
		more("Failure", v.Failure.Type+": "+v.Failure.Message)
	}
	more("Kept until", timeText(v.KeepUntil))
	if v.Ended != nil {
		more("Ended", timeText(v.Ended)+by(v.EndedBy))
		more("Given back", timeText(v.Released))
	}
	more("URL", v.URL)
	if err := table(std.out, nil, rows); err != nil {
		return err
	}
	showDiagnosis(std, "What was seen when it failed", v.Diagnosis)
	return nil
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return ", by " + who
}
