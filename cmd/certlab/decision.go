package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// decisionCmd groups the commands that decide, and those that show what was decided.
type decisionCmd struct {
	Approve decisionApproveCmd `cmd:"" help:"Approve a machine, several, or the campaign, which ends it."`
	Reject  decisionRejectCmd  `cmd:"" help:"Reject a machine, several, or the campaign, which ends it."`
	Waive   decisionWaiveCmd   `cmd:"" help:"Say that findings do not matter, until a time."`
	Reopen  decisionReopenCmd  `cmd:"" help:"Take back what was decided on machines."`
	List    decisionListCmd    `cmd:"" help:"List decisions, the oldest first."`
	Verify  decisionVerifyCmd  `cmd:"" help:"Check that the log of decisions is as it was written. Exit status 65 if it is not."`
}

// decideFlags choose what a decision is about.
type decideFlags struct {
	Campaign   string   `arg:"" help:"Name or id of the campaign."`
	Machine    []string `xor:"what" help:"Only about this machine; can be repeated. Without it and --all, about the campaign as a whole." placeholder:"MACHINE"`
	All        bool     `xor:"what" help:"About every machine, or with --standing or --query those that fit."`
	Standing   string   `help:"With --all: only machines that stand so, such as undecided." placeholder:"STANDING"`
	Query      string   `help:"With --all: only machines that match." placeholder:"QUERY"`
	Reason     string   `required:"" help:"Why; it is kept with your name." placeholder:"TEXT"`
	Seen       int64    `help:"The version of the campaign that you have seen (campaign show names it): if something has changed since that matters, nothing is decided, and exit status 75." placeholder:"N"`
	formatFlag `embed:""`
}

func (f decideFlags) decide(ctx context.Context, std streams, action string) error {
	if !f.All && (f.Standing != "" || f.Query != "") {
		return wrong("cannot use --standing or --query without --all")
	}
	d := cert.NewDecision{Action: action, Machines: f.Machine, All: f.All, Filter: cert.Filter{Standing: f.Standing, Query: f.Query}, Reason: f.Reason, Version: f.Seen}
	return f.formatFlag.decide(ctx, std, f.Campaign, d)
}

func (f formatFlag) decide(ctx context.Context, std streams, campaign string, d cert.NewDecision) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.Decide(ctx, campaign, d)
	return f.showDecided(std, out, err)
}

// showDecided shows what was decided and exits with how the campaign stands now.
func (f formatFlag) showDecided(std streams, d cert.Decided, err error) error {
	if err != nil {
		return err
	}
	if f.json() {
		if err := f.write(std, d, nil); err != nil {
			return err
		}
		return decidedStatus(d).status()
	}
	for _, x := range d.Decisions {
		about := "the campaign"
		switch {
		case len(x.Findings) > 0:
			about = plural(len(x.Findings), "finding", "findings") + because2(" until ", shortTime(x.Until))
		case x.Machine != "":
			about = x.Machine
		}
		fmt.Fprintf(std.out, "decision %d: %s: %s\n", x.Seq, clean(decidedBy(x)), clean(about))
	}
	for _, host := range slices.Sorted(mapKeys(d.Skipped)) {
		fmt.Fprintf(std.out, "%s: not decided: %s\n", clean(host), clean(d.Skipped[host]))
	}
	fmt.Fprintf(std.out, "the campaign is %s\n", clean(strings.ReplaceAll(d.Standing, cert.StandWaiting, "not finished")))
	if v := d.Verdict; v != nil {
		fmt.Fprintf(std.out, "verdict: %s by %s, digest %s\n", clean(v.Outcome), clean(v.By), clean(v.Digest))
		if v.Subject.Tracker != "" {
			fmt.Fprintf(std.out, "to be told to %s\n", clean(v.Subject.Tracker))
		}
	}
	return decidedStatus(d).status()
}

type decisionApproveCmd struct {
	decideFlags `embed:""`
}

func (c *decisionApproveCmd) Help() string { return standingHelp }
func (c *decisionApproveCmd) Run(ctx context.Context, std streams) error {
	return c.decide(ctx, std, cert.Approve)
}

type decisionRejectCmd struct {
	decideFlags `embed:""`
}

func (c *decisionRejectCmd) Help() string { return standingHelp }
func (c *decisionRejectCmd) Run(ctx context.Context, std streams) error {
	return c.decide(ctx, std, cert.Reject)
}

type decisionReopenCmd struct {
	decideFlags `embed:""`
}

func (c *decisionReopenCmd) Help() string { return standingHelp }
func (c *decisionReopenCmd) Run(ctx context.Context, std streams) error {
	return c.decide(ctx, std, cert.Reopen)
}

type decisionWaiveCmd struct {
	Campaign     string   `arg:"" help:"Name or id of the campaign."`
	Finding      []string `arg:"" optional:"" help:"Ids of findings; without them, --all that fit."`
	All          bool     `help:"All open findings that --class, --job, --machine and so on choose."`
	findingFlags `embed:""`
	Until        string `required:"" help:"Until when, such as 2026-12-31." placeholder:"TIME"`
	Reason       string `required:"" help:"Why they do not matter; it is kept with your name." placeholder:"TEXT"`
	Seen         int64  `help:"The version of the campaign that you have seen: see approve." placeholder:"N"`
	formatFlag   `embed:""`
}

func (c *decisionWaiveCmd) Help() string { return standingHelp }

func (c *decisionWaiveCmd) Run(ctx context.Context, std streams) error {
	until, err := dueTime(c.Until)
	if err != nil {
		return err
	}
	filter := c.filter()
	if c.All == (len(c.Finding) > 0) {
		return wrong("cannot tell what to waive: name findings, or give --all with what chooses them")
	}
	if !c.All && filter != (cert.Filter{}) {
		return wrong("cannot use a filter with named findings: give --all instead of them")
	}
	return c.decide(ctx, std, c.Campaign, cert.NewDecision{Action: cert.Waive, Findings: c.Finding, All: c.All, Filter: filter, Until: until, Reason: c.Reason, Version: c.Seen})
}

type decisionListCmd struct {
	Campaign   string `arg:"" optional:"" help:"Name or id of the campaign; all campaigns if not given."`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *decisionListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Decisions(ctx, c.Campaign, false, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Decisions []cert.Decision `json:"decisions"`
		}{list.Decisions}, err)
	}
	var rows [][]string
	for _, d := range list.Decisions {
		about := d.Machine
		if len(d.Findings) > 0 {
			about = plural(len(d.Findings), "finding", "findings")
		}
		rows = append(rows, []string{fmt.Sprint(d.Seq), timeText(&d.At), d.By, string(d.Role), d.Action, about, d.Campaign, d.Before, d.Reason, cut(d.Hash, 13)})
	}
	return table(std.out, []string{"SEQ", "TIME", "WHO", "ROLE", "ACTION", "ABOUT", "CAMPAIGN", "BEFORE", "REASON", "HASH"}, rows)
}

type decisionVerifyCmd struct {
	formatFlag `embed:""`
}

func (c *decisionVerifyCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Decisions(ctx, "", true, 1)
	if err != nil {
		return err
	}
	intact := list.Intact != nil && *list.Intact
	if c.json() {
		if err := c.write(std, struct {
			Intact bool   `json:"intact"`
			Broken string `json:"broken,omitempty"`
		}{intact, list.Broken}, nil); err != nil {
			return err
		}
	} else if intact {
		fmt.Fprintln(std.out, "the log of decisions is as it was written")
	}
	if intact {
		return nil
	}
	if !c.json() {
		why := list.Broken
		if list.Intact == nil {
			why = "the controller does not say"
		}
		fmt.Fprintf(std.err, "certlab: the log of decisions is not as it was written: %s (compare with a backup: certlabd check)\n", clean(why))
	}
	return exitData
}
