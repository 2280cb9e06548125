package main

import (
	"context"
	"net/url"

	"certlab/internal/cert"
)

// machineCmd groups the commands on machines.
type machineCmd struct {
	List machineListCmd `cmd:"" help:"List machines."`
	Show machineShowCmd `cmd:"" help:"Show a machine."`
	Add  machineAddCmd  `cmd:"" help:"Add a machine that has no agent, to add submissions that were made by hand on it."`
}

type machineListCmd struct {
	Architecture string `help:"Only of this architecture, such as arm64." placeholder:"ARCH"`
	Enrolled     bool   `help:"Only machines that have a unit now."`
	limitFlag    `embed:""`
	formatFlag   `embed:""`
}

func (c *machineListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	filter := url.Values{"architecture": {c.Architecture}}
	if c.Enrolled {
		filter.Set("enrolled", "true")
	}
	machines, err := api.Machines(ctx, filter, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Machines []cert.Machine `json:"machines"`
		}{machines}, err)
	}
	var rows [][]string
	for _, m := range machines {
		rows = append(rows, []string{m.Hostname, m.Architecture, m.Unit, m.Kernel, m.CurrentRun, timeText(m.Seen), m.ID})
	}
	return table(std.out, []string{"HOSTNAME", "ARCH", "UNIT", "KERNEL", "RUN", "LAST CONTACT", "ID"}, rows)
}

type machineShowCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	formatFlag `embed:""`
}

func (c *machineShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	m, err := api.Machine(ctx, c.Machine)
	return c.show(std, m, err)
}

func (f formatFlag) show(std streams, m cert.Machine, err error) error {
	if err != nil || f.json() {
		return f.write(std, m, err)
	}
	return table(std.out, nil, [][]string{
		{"Id", m.ID}, {"Key", m.Key}, {"Hostname", m.Hostname}, {"Origin", m.Origin}, {"Architecture", m.Architecture}, {"Base", m.Base}, {"Kernel", m.Kernel},
		{"Unit", m.Unit}, {"Running", m.CurrentRun}, {"Last contact", timeText(m.Seen)},
	})
}

type machineAddCmd struct {
	Hostname     string `arg:"" help:"Its hostname."`
	Architecture string `help:"Its architecture, such as amd64." placeholder:"ARCH"`
	formatFlag   `embed:""`
}

func (c *machineAddCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	m, err := api.AddMachine(ctx, cert.NewMachine{Hostname: c.Hostname, Architecture: c.Architecture})
	return c.show(std, m, err)
}
