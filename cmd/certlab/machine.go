package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// machineCmd groups the commands on machines.
type machineCmd struct {
	List            machineListCmd       `cmd:"" help:"List machines."`
	Show            machineShowCmd       `cmd:"" help:"Show a machine."`
	Add             machineAddCmd        `cmd:"" help:"Add a machine that has no agent, to add submissions that were made by hand on it."`
	Reserve         machineReserveCmd    `cmd:"" help:"Have a machine deployed and hold it: exit status 3 if none could be made ready, 4 if none is ready in time."`
	Extend          machineExtendCmd     `cmd:"" help:"Hold a machine for longer."`
	Release         machineReleaseCmd    `cmd:"" help:"Give a machine back."`
	Cancel          machineCancelCmd     `cmd:"" help:"End the wait for a machine, or a reservation's run; of a machine that you have, it is release."`
	Run             machineRunCmd        `cmd:"" help:"Have a machine deployed, run a plan on it, and give it back."`
	Quarantine      machineQuarantineCmd `cmd:"" help:"Keep a machine from being handed out."`
	ReturnToService machineReturnCmd     `cmd:"" help:"Let a quarantined machine be handed out again, once it has passed a check."`
	Power           machinePowerCmd      `cmd:"" help:"Switch a machine, or ask whether it is on."`
	ConsoleLog      machineConsoleCmd    `cmd:"" help:"Show what a machine's console has shown."`
	Pause           machinePauseCmd      `cmd:"" help:"Keep new work away from the lab, a pool, a zone or a rack."`
	Resume          machineResumeCmd     `cmd:"" help:"Take new work again."`
	Events          machineEventsCmd     `cmd:"" aliases:"log" help:"What happened to machines, the newest first."`
	Usage           machineUsageCmd      `cmd:"" help:"What the lab's time went into."`
	Incidents       machineIncidentsCmd  `cmd:"" help:"What failed on several machines at once, the newest first."`
	Dossier         machineDossierCmd    `cmd:"" help:"What the lab knows of machines and no API tells."`
}

type machineListCmd struct {
	Query        string `arg:"" optional:"" help:"Only machines that match, such as tags=gpu,arch=arm64,memory>=64G, or a machine's name."`
	State        string `help:"Only in this state: unknown, free, reserved, provisioning, ready, busy, releasing, dirty, quarantined, foreign or retired." placeholder:"STATE"`
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
	filter := url.Values{"query": {c.Query}, "state": {c.State}, "architecture": {c.Architecture}}
	if c.Enrolled {
		filter.Set("enrolled", "true")
	}
	machines, err := api.Machines(ctx, filter, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Machines []cert.FleetMachine `json:"machines"`
		}{machines}, err)
	}
	if len(machines) == 0 && c.Query != "" {
		if e, err := api.Explain(ctx, c.Query); err == nil {
			fmt.Fprintln(std.err, clean(e.Text))
		}
	}
	var rows [][]string
	for _, m := range machines {
		rows = append(rows, []string{m.Hostname, string(m.State), m.Holder, timeText(m.Until), m.Architecture, hardwareText(m), m.Pool, strings.Join(m.Tags, ","), noteText(m), m.ID})
	}
	return table(std.out, []string{"HOSTNAME", "STATE", "HOLDER", "UNTIL", "ARCH", "HARDWARE", "POOL", "TAGS", "NOTE", "ID"}, rows)
}

// hardwareText is a machine's size and kind in a few words.
func hardwareText(m cert.FleetMachine) string {
	return strings.Join(append(m.Size(), strings.TrimSpace(m.Vendor+" "+m.Product)), " ")
}

// noteText is what somebody who looks for a machine has to know first.
func noteText(m cert.FleetMachine) string {
	switch {
	case m.NeedsHands != "":
		return "needs hands: " + m.NeedsHands
	case m.Quarantine != nil:
		return "quarantined: " + m.Quarantine.Reason
	case m.Incident != "":
		return "incident " + m.Incident
	case m.Paused != nil:
		return "paused: " + m.Paused.Reason
	case m.Why != "" || m.Problem != "":
		return cmp.Or(m.Why, m.Problem)
	case m.NoManifest:
		return "no manifest"
	}
	return m.Reason
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
	return c.showMachine(std, m, err)
}

func (f formatFlag) showMachine(std streams, m cert.MachineDetail, err error) error {
	if err != nil || f.json() {
		return f.write(std, m, err)
	}
	rows := [][]string{{"Hostname", m.Hostname}, {"Id", m.ID}, {"Key", m.Key}, {"State", string(m.State)}}
	more := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	more("Why", m.Why)
	more("Needs hands", m.NeedsHands)
	more("Where", strings.TrimSpace(m.Rack+" "+m.Position))
	more("Problem", m.Problem)
	if m.Holder != "" {
		more("Holder", m.Holder+" ("+m.Reservation+")")
		more("Reason", m.Reason)
		more("Until", timeText(m.Until))
	}
	more("Connect", m.Connect)
	if q := m.Quarantine; q != nil {
		more("Quarantined", fmt.Sprintf("%s, by %s: %s", timeText(&q.Since), q.By, q.Reason))
		more("At the provider", strings.Join(q.Provider, "; "))
	}
	if p := m.Paused; p != nil {
		more("Paused", fmt.Sprintf("%s, by %s: %s", strings.TrimSpace(p.Scope+" "+p.Name), p.By, p.Reason))
	}
	more("Incident", m.Incident)
	rows = append(rows, []string{"Origin", m.Origin}, []string{"Architecture", m.Architecture}, []string{"Unit", m.Unit}, []string{"Running", m.CurrentRun},
		[]string{"Last contact", timeText(m.Seen)}, []string{"Base", m.Base}, []string{"Kernel", m.Kernel})
	more("Provider", strings.TrimSpace(m.Provider+" "+m.SystemID))
	more("Status there", m.Status)
	more("Power", string(m.Power))
	more("Pool", m.Pool)
	more("Zone", m.Zone)
	more("Tags", strings.Join(m.Tags, ", "))
	more("Hardware", hardwareText(m.FleetMachine))
	more("Firmware", m.Firmware)
	for _, gpu := range m.GPUs {
		more("GPU", gpu)
	}
	more("Class", m.Class)
	more("CID", m.CID)
	if m.NoManifest {
		more("Manifest", "none: jobs that ask for an entry are skipped, and that is no pass")
	}
	if r := m.Reliability; r != nil && r.Deployments > 0 {
		more("Reliability", fmt.Sprintf("%d of %d deployments succeeded, %d failed in a row", r.Succeeded, r.Deployments, r.InARow))
		more("Last check", timeText(r.LastCheck))
	}
	if err := table(std.out, nil, rows); err != nil {
		return err
	}
	return showHistory(std, m)
}

// showHistory writes what happened to a machine last.
func showHistory(std streams, m cert.MachineDetail) error {
	var rows [][]string
	for _, d := range m.Deployments {
		rows = append(rows, []string{timeText(&d.Started), d.Release, deploymentText(d), phasesText(d)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(std.out)
		if err := table(std.out, []string{"DEPLOYED", "RELEASE", "OUTCOME", "PHASES"}, rows); err != nil {
			return err
		}
	}
	for _, d := range m.Deployments {
		if d.Failure != nil {
			showDiagnosis(std, "What was seen when the deployment of "+timeText(&d.Started)+" failed", d.Diagnosis)
			break
		}
	}
	if len(m.History) == 0 {
		return nil
	}
	fmt.Fprintln(std.out)
	return eventTable(std, m.History, false)
}

// showDiagnosis writes what provider, events and logs said of something that failed, line by line.
func showDiagnosis(std streams, heading, text string) {
	if text == "" {
		return
	}
	fmt.Fprintf(std.out, "\n%s:\n", heading)
	for line := range strings.Lines(text) {
		fmt.Fprintf(std.out, "  %s\n", clean(strings.TrimRight(line, "\n")))
	}
}

func deploymentText(d cert.Deployment) string {
	switch {
	case d.Failure != nil:
		return d.Failure.Type + ": " + d.Failure.Message
	case d.Finished != nil:
		return "over"
	}
	return string(d.Phase)
}

func phasesText(d cert.Deployment) string {
	var parts []string
	for _, p := range d.Phases {
		if p.Phase != cert.PhaseReady {
			parts = append(parts, fmt.Sprintf("%s %s", p.Phase, secondsText(p.Seconds)))
		}
	}
	return strings.Join(parts, ", ")
}

func eventTable(std streams, events []cert.MachineEvent, machine bool) error {
	var rows [][]string
	for _, e := range events {
		row := []string{timeText(&e.At), e.Who, e.Kind, e.Text}
		if machine {
			row = append(row, e.Machine)
		}
		rows = append(rows, row)
	}
	header := []string{"TIME", "WHO", "WHAT", "TEXT"}
	if machine {
		header = append(header, "MACHINE")
	}
	return table(std.out, header, rows)
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
	if err != nil || c.json() {
		return c.write(std, m, err)
	}
	return table(std.out, nil, [][]string{{"Id", m.ID}, {"Key", m.Key}, {"Hostname", m.Hostname}, {"Origin", m.Origin}, {"Architecture", m.Architecture}})
}

// hoursText lists hours by name, the most first.
func hoursText(hours map[string]float64) [][]string {
	var rows [][]string
	for _, name := range slices.SortedFunc(maps.Keys(hours), func(a, b string) int {
		return cmp.Or(cmp.Compare(hours[b], hours[a]), strings.Compare(a, b))
	}) {
		rows = append(rows, []string{name, fmt.Sprintf("%.1f", hours[name])})
	}
	return rows
}
