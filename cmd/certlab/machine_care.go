package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"certlab/internal/cert"
)

type machineQuarantineCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	Reason     string `required:"" help:"Why, for everybody who wonders." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *machineQuarantineCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	m, err := api.Quarantine(ctx, c.Machine, c.Reason)
	return c.showMachine(std, m, err)
}

type machineReturnCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	Force      bool   `help:"Although it has passed no check; say why."`
	Reason     string `help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *machineReturnCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	m, err := api.ReturnToService(ctx, c.Machine, cert.ReturnMachine{Force: c.Force, Reason: c.Reason})
	return c.showMachine(std, m, err)
}

type machinePowerCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	Action     string `arg:"" enum:"query,on,off,cycle" default:"query" help:"What to do: ${enum}."`
	Reason     string `help:"Why, for the machine's log." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *machinePowerCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	p, err := api.Power(ctx, c.Machine, cert.PowerMachine{Action: c.Action, Reason: c.Reason})
	if err != nil || c.json() {
		return c.write(std, p, err)
	}
	return table(std.out, nil, [][]string{{"Machine", c.Machine}, {"Power", string(p.Power)}})
}

type machineConsoleCmd struct {
	Machine string `arg:"" help:"Id, MAAS system_id or hostname."`
}

func (c *machineConsoleCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	if _, _, tty := terminal(std.out); !tty {
		return api.Console(ctx, c.Machine, std.out) // a file gets it as it is
	}
	shown := &neutral{w: std.out}
	if err := api.Console(ctx, c.Machine, shown); err != nil {
		return err
	}
	return shown.flushed()
}

// scopeFlags name a part of the lab.
type scopeFlags struct {
	Pool string `xor:"scope" help:"This pool; the whole lab if neither pool, zone nor rack is given." placeholder:"NAME"`
	Zone string `xor:"scope" help:"This zone." placeholder:"NAME"`
	Rack string `xor:"scope" help:"This rack, as dossiers name it." placeholder:"NAME"`
}

func (f scopeFlags) scope() (scope, name string) {
	switch {
	case f.Pool != "":
		return "pool", f.Pool
	case f.Zone != "":
		return "zone", f.Zone
	case f.Rack != "":
		return "rack", f.Rack
	}
	return "lab", ""
}

type machinePauseCmd struct {
	Reason     string `help:"Why; who waits for a machine sees it. Without a reason, what is paused is listed." placeholder:"TEXT"`
	scopeFlags `embed:""`
	formatFlag `embed:""`
}

func (c *machinePauseCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	scope, name := c.scope()
	pauses := []cert.Pause{{}}
	if c.Reason != "" || name != "" {
		pauses[0], err = api.Pause(ctx, cert.NewPause{Scope: scope, Name: name, Reason: c.Reason})
	} else {
		pauses, err = api.Pauses(ctx)
	}
	if err != nil || c.json() {
		return c.write(std, cert.PauseList{Pauses: pauses}, err)
	}
	var rows [][]string
	for _, p := range pauses {
		rows = append(rows, []string{p.Scope, p.Name, timeText(&p.Since), p.By, p.Reason})
	}
	return table(std.out, []string{"PAUSED", "NAME", "SINCE", "BY", "REASON"}, rows)
}

type machineResumeCmd struct {
	scopeFlags `embed:""`
}

func (c *machineResumeCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	scope, name := c.scope()
	if err := api.Resume(ctx, scope, name); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s takes new work again\n", strings.TrimSpace(scope+" "+name))
	return nil
}

type machineEventsCmd struct {
	Machine     string `arg:"" optional:"" help:"Id, MAAS system_id or hostname; all machines if not given."`
	Kind        string `help:"Only of this kind, such as quarantined." placeholder:"KIND"`
	Reservation string `help:"Only of this reservation." placeholder:"ID"`
	limitFlag   `embed:""`
	formatFlag  `embed:""`
}

func (c *machineEventsCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	events, err := api.MachineEvents(ctx, c.Machine, url.Values{"kind": {c.Kind}, "reservation": {c.Reservation}}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Events []cert.MachineEvent `json:"events"`
		}{events}, err)
	}
	return eventTable(std, events, c.Machine == "")
}

type machineUsageCmd struct {
	From       string `help:"Beginning of the period, such as 2026-01-01T00:00:00Z; a week before its end if not given." placeholder:"TIME"`
	To         string `help:"End of the period; now if not given." placeholder:"TIME"`
	formatFlag `embed:""`
}

func (c *machineUsageCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	var period [2]time.Time
	for n, text := range []string{c.From, c.To} {
		t, err := untilTime(text)
		if err != nil {
			return err
		}
		if t != nil {
			period[n] = *t
		}
	}
	u, err := api.Usage(ctx, period[0], period[1])
	if err != nil || c.json() {
		return c.write(std, u, err)
	}
	fmt.Fprintf(std.out, "%s to %s: %.1f hours of machines\n\n", timeText(&u.From), timeText(&u.To), u.Total)
	if err := table(std.out, []string{"CONSUMER", "HOURS"}, hoursText(u.Consumers)); err != nil || len(u.Holders) == 0 {
		return err
	}
	fmt.Fprintln(std.out)
	return table(std.out, []string{"HOLDER", "HOURS"}, hoursText(u.Holders))
}

type machineIncidentsCmd struct {
	Open       bool `help:"Only those that are open."`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *machineIncidentsCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	filter := url.Values{}
	if c.Open {
		filter.Set("open", "true")
	}
	list, err := api.Incidents(ctx, filter, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Incidents []cert.Incident `json:"incidents"`
		}{list}, err)
	}
	var rows [][]string
	for _, i := range list {
		rows = append(rows, []string{i.ID, strings.TrimSpace(i.Scope + " " + i.Name), i.Failure, fmt.Sprintf("%d of %d", len(i.Machines), i.Of), timeText(&i.Opened), timeText(i.Closed), i.Text})
	}
	return table(std.out, []string{"INCIDENT", "WHERE", "FAILURE", "MACHINES", "OPENED", "CLOSED", "TEXT"}, rows)
}
