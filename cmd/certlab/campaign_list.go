package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"certlab/internal/cert"
)

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

type campaignListCmd struct {
	State      string `help:"Only in this state: open (all that are not final), active, paused, deciding, approved, rejected, cancelled or superseded." default:"open" placeholder:"STATE"`
	Over       bool   `help:"Those that are final too."`
	Kind       string `help:"Only of this kind: sru, weekly, certification or adhoc." placeholder:"KIND"`
	Version    string `name:"subject-version" help:"Only of this version of their subject." placeholder:"VERSION"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *campaignListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	filter := url.Values{"state": {c.State}, "kind": {c.Kind}, "version": {c.Version}}
	if c.Over && c.State == "open" {
		filter.Del("state")
	}
	list, err := api.Campaigns(ctx, filter, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Campaigns []cert.CampaignSummary `json:"campaigns"`
		}{list}, err)
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.Campaign.Name, string(s.Campaign.Kind), string(s.Campaign.State), s.Standing, fmt.Sprintf("%d of %d", s.Coverage.Done+s.Coverage.Blocked, s.Coverage.Required),
			fmt.Sprint(s.Blockers), fmt.Sprint(s.Open - s.Blockers), shortTime(s.Campaign.Due), s.Campaign.ID})
	}
	return table(std.out, []string{"CAMPAIGN", "KIND", "STATE", "STANDING", "DONE", "BLOCKERS", "OTHERS", "DUE", "ID"}, rows)
}

type campaignTargetsCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	State      string `help:"Only in this state, such as missing." placeholder:"STATE"`
	Standing   string `help:"Only of machines that stand so: approved, rejected, undecided, waiting or excluded." placeholder:"STANDING"`
	Machine    string `help:"Only of this machine." placeholder:"MACHINE"`
	Query      string `help:"Only of machines that match." placeholder:"QUERY"`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *campaignTargetsCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Targets(ctx, c.Campaign, url.Values{"state": {c.State}, "standing": {c.Standing}, "machine": {c.Machine}, "query": {c.Query}}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Targets []cert.Target `json:"targets"`
		}{list}, err)
	}
	var rows [][]string
	for _, t := range list {
		run := ""
		if n := len(t.Tries); n > 0 {
			run = t.Tries[n-1].Run
		}
		rows = append(rows, []string{t.Shown(), t.Plan, string(t.State), fmt.Sprint(len(t.Tries)), jobsText(t), proofText(t), join(targetNote(t), lastTry(t)), run})
	}
	return table(std.out, []string{"MACHINE", "PLAN", "STATE", "TRIES", "JOBS", "PROVED", "NOTE", "LAST RUN"}, rows)
}

// join puts those texts that there are behind each other.
func join(texts ...string) string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return strings.Join(out, "; ")
}

// jobsText says how much of its plan a target has run.
func jobsText(t cert.Target) string {
	switch c := t.Compared; {
	case c == nil:
		return ""
	case c.Planned == 0:
		return strconv.Itoa(c.Ran) + " of ?"
	default:
		return fmt.Sprintf("%d of %d", c.Ran, c.Planned)
	}
}

// proofText says whether a target's submission is of the subject.
func proofText(t cert.Target) string {
	switch c := t.Compared; {
	case c == nil:
		return ""
	case !c.Proof.Needed:
		return "as it is"
	case c.Proof.OK:
		return c.Proof.Kernel
	default:
		return "NO: " + c.Proof.Why
	}
}

// lastTry says what the newest try failed of.
func lastTry(t cert.Target) string {
	if len(t.Tries) == 0 {
		return ""
	}
	y := t.Tries[len(t.Tries)-1]
	switch {
	case y.Suspect != "":
		return "suspect: incident " + y.Suspect
	case y.Failure != nil:
		return y.Failure.Type + ": " + y.Failure.Message
	}
	return ""
}

// findingFlags choose findings.
type findingFlags struct {
	Class     string `help:"Only of this class, such as regression, kernel-boot or false-pass." placeholder:"CLASS"`
	Job       string `help:"Only of this job: full id, or with * for any text." placeholder:"JOB"`
	KnownAs   string `name:"issue" help:"Only those that this known issue recognises." placeholder:"ISSUE"`
	Signature string `help:"Only those whose log is alike (certlab finding show names it)." placeholder:"HEX"`
	On        string `name:"machine" help:"Only on this machine." placeholder:"MACHINE"`
	Query     string `help:"Only on machines that match." placeholder:"QUERY"`
	Blocker   *bool  `negatable:"" help:"Only blockers, or with --no-blocker only the others."`
	New       *bool  `negatable:"" help:"Only those that are not so on the baseline, or with --no-new only the others."`
}

func (f findingFlags) filter() cert.Filter {
	return cert.Filter{Class: f.Class, Job: f.Job, Issue: f.KnownAs, Signature: f.Signature, Machine: f.On, Query: f.Query, Blocker: f.Blocker, New: f.New}
}

func flagText(b *bool) []string {
	if b == nil {
		return nil
	}
	return []string{strconv.FormatBool(*b)}
}

type campaignFindingsCmd struct {
	Campaign     string `arg:"" help:"Name or id of the campaign."`
	findingFlags `embed:""`
	Open         *bool  `negatable:"" help:"Only those that stand between the campaign and an approval, or with --no-open only the others."`
	Target       string `help:"Only of this target, by its id." placeholder:"ID"`
	limitFlag    `embed:""`
	formatFlag   `embed:""`
}

func (c *campaignFindingsCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Findings(ctx, c.Campaign, url.Values{"class": {c.Class}, "job": {c.Job}, "issue": {c.KnownAs}, "signature": {c.Signature}, "machine": {c.On}, "query": {c.Query},
		"target": {c.Target}, "open": flagText(c.Open), "blocker": flagText(c.Blocker), "new": flagText(c.New)}, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Findings []cert.Finding `json:"findings"`
		}{list}, err)
	}
	var rows [][]string
	for _, f := range list {
		rows = append(rows, []string{f.ID, f.Hostname, f.Class, weight(f.Blocker), newText(f.New), findingStands(f), f.Job, outcomesText(f), f.Text})
	}
	return table(std.out, []string{"FINDING", "MACHINE", "CLASS", "WEIGHT", "NEW", "STANDS", "JOB", "OUTCOMES", "WHAT"}, rows)
}

func weight(blocker bool) string {
	if blocker {
		return "blocker"
	}
	return "other"
}

func newText(isNew bool) string {
	if isNew {
		return "new"
	}
	return "old"
}

// findingStands says whether a finding is in the way of an approval, and if not, why.
func findingStands(f cert.Finding) string {
	switch {
	case f.Late:
		return "late: after the verdict"
	case f.Waived != 0:
		return fmt.Sprintf("waived by decision %d", f.Waived)
	case f.Excused:
		return "excused by " + f.Issue
	case f.Open():
		return "open"
	}
	return "no matter"
}

// outcomesText lists what each try has made of a job, so that a repeat that passes is shown as what it was.
func outcomesText(f cert.Finding) string {
	var outs []string
	for _, a := range f.Outcomes {
		o := a.Outcome
		if a.Lost {
			o += " (machine lost)"
		}
		if a.Doubt != "" {
			o += " (doubted)"
		}
		outs = append(outs, o)
	}
	if len(outs) == 0 {
		return f.Outcome
	}
	return strings.Join(outs, ", ")
}

type campaignEventsCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *campaignEventsCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.CampaignEvents(ctx, c.Campaign, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Events []cert.CampaignEvent `json:"events"`
		}{list}, err)
	}
	var rows [][]string
	for _, e := range list {
		rows = append(rows, []string{timeText(&e.At), e.Who, e.Kind, e.Text})
	}
	return table(std.out, []string{"TIME", "WHO", "WHAT", "TEXT"}, rows)
}

type campaignExportCmd struct {
	Campaign string `arg:"" help:"Name or id of the campaign."`
	Format   string `help:"json: everything; csv: its findings." enum:"json,csv" default:"json"`
	Output   string `short:"o" help:"File to write; standard output if not given." placeholder:"FILE"`
}

func (c *campaignExportCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	if c.Output == "" || c.Output == "-" {
		return api.Export(ctx, c.Campaign, c.Format, std.out)
	}
	if err := writeWhole(c.Output, func(w io.Writer) error { return api.Export(ctx, c.Campaign, c.Format, w) }); err != nil {
		return err
	}
	fmt.Fprintln(std.out, c.Output)
	return nil
}
