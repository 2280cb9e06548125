package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"certlab/internal/cert"
)

// findingCmd groups the commands on findings.
type findingCmd struct {
	Show    findingShowCmd    `cmd:"" help:"Show a finding: its log, the same job on the baseline and on other machines, what else changed."`
	Confirm findingConfirmCmd `cmd:"" help:"Run its job on the baseline on the same machine, to tell the subject from the machine."`
	Rerun   findingRerunCmd   `cmd:"" help:"Run its job again, on the same subject and machine. Each outcome counts."`
	Link    findingLinkCmd    `cmd:"" help:"Make a known issue of it: a rule that recognises its job and outcome."`
	Waive   findingWaiveCmd   `cmd:"" help:"Say that it does not matter, until a time."`
}

type findingShowCmd struct {
	Finding    string `arg:"" help:"Id of the finding."`
	Lines      int    `help:"How many lines of log and console at most; 0 for all there are." default:"12" placeholder:"N"`
	formatFlag `embed:""`
}

func (c *findingShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.Finding(ctx, c.Finding)
	if err != nil || c.json() {
		return c.write(std, v, err)
	}
	width, _, _ := terminal(std.out)
	_, err = fmt.Fprint(std.out, findingScreen(v, width, c.Lines))
	return err
}

// sidesShown is how many other machines and runs a finding lists.
const sidesShown = 6

// findingScreen shows a finding.
func findingScreen(v cert.FindingView, width, lines int) string {
	f, s := v.Finding, &sheet{width: width}
	s.row("Finding", "%s %s, %s: %s", newText(f.New), weight(f.Blocker), findingStands(f), f.Class)
	s.row("Finding", "%s", f.Text)
	if f.Job != "" {
		s.row("Job", "%s%s", f.Job, because2("  ", f.Name))
		s.row("Job", "outcomes here: %s; on the baseline: %s%s", outcomesText(f), cmp.Or(f.Before, "not known"), because2("; reason: ", f.Reason))
	}
	s.row("Machine", "%s%s, plan %s, run %s", f.Hostname, because2(" ", f.HWClass), f.Plan, f.Run)
	if f.Suspect != "" {
		s.row("Machine", "SUSPECT: part of incident %s, it may be the lab's fault", f.Suspect)
	}
	s.excerpt("Log", cmp.Or(v.Excerpt, "none is kept"), lines, "certlab result list --submission "+f.Submission)
	if o := v.Old; o != nil {
		s.row("Baseline", "on this machine, %s: %s, %s", cmp.Or(o.Kernel, "kernel not known"), o.Outcome, shortTime(&o.At))
		s.excerpt("Baseline", o.Excerpt, min(lines, 3), "")
	} else {
		s.row("Baseline", "nothing is known of this job on it on this machine")
	}
	if c := f.Confirm; c != nil {
		s.row("Confirmed", "%s", cmp.Or(c.Text, string(c.State)+", run "+c.Run))
	}
	s.sides("Elsewhere", v.Others, "no other machine of the campaign has run it")
	s.sides("Before", v.History, "it has not run on this machine before")
	if v.Flaky != nil {
		s.row("Flaky", "%s", cmp.Or(v.Flaky.Text, fmt.Sprintf("failed %d of %d times where nothing is held against the kernel", v.Flaky.Failed, v.Flaky.Of)))
	}
	if len(v.Changes) == 0 {
		s.row("Changed", "nothing else that is known of")
	}
	for _, k := range v.Changes {
		s.row("Changed", "%s: %s → %s", k.What, cmp.Or(k.Before, "none"), cmp.Or(k.After, "none"))
	}
	if k := v.Issue; k != nil {
		s.row("Known as", "%s %s (%s, owner %s, until %s)", k.ID, k.Title, k.Link, k.Owner, cmp.Or(shortTime(k.Expires), "it is closed"))
	} else {
		s.row("Known as", "no known issue recognises it")
	}
	for _, a := range v.Attachments {
		s.row("Attached", "%s (%d bytes): submission %s, attachment %d", a.Name, a.Size, a.Submission, a.Index)
	}
	for _, d := range v.Decisions {
		s.row("Decisions", "%d: %s, %s%s: %s", d.Seq, decidedBy(d), shortTime(&d.At), because2(", until ", shortTime(d.Until)), d.Reason)
	}
	s.excerpt("Console", v.Console, lines, "")
	if v.ConsoleURL != "" {
		s.command("Console", "all of it: "+v.ConsoleURL)
	}
	for _, command := range v.Commands {
		s.command("To do", command)
	}
	return s.String()
}

// excerpt writes the last of so many lines of a text, and where there is more.
func (s *sheet) excerpt(label, text string, most int, more string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if left := len(lines) - most; most > 0 && left > 0 {
		s.whole(label, "… %s before%s", plural(left, "line", "lines"), because2(": ", more))
		lines = lines[left:]
	}
	for _, line := range lines {
		s.row(label, "│ %s", strings.TrimSuffix(line, "\r"))
	}
}

// sides writes what the same job did elsewhere.
func (s *sheet) sides(label string, sides []cert.FindingSide, none string) {
	if len(sides) == 0 {
		s.row(label, "%s", none)
	}
	for n, o := range sides {
		if n == sidesShown {
			s.row(label, "… and %d more: --format json", len(sides)-n)
			break
		}
		alike := ""
		if o.Alike {
			alike = ", the log is alike"
		}
		s.row(label, "%s%s, %s: %s, %s%s", o.Hostname, because2(" ", o.HWClass), cmp.Or(o.Kernel, "kernel not known"), o.Outcome, shortTime(&o.At), alike)
	}
}

type findingConfirmCmd struct {
	Finding    string `arg:"" help:"Id of the finding."`
	Reason     string `help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *findingConfirmCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.ConfirmFinding(ctx, c.Finding, c.Reason)
	return c.showRetried(std, out, err)
}

type findingRerunCmd struct {
	Finding    string `arg:"" help:"Id of the finding."`
	Reason     string `required:"" help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *findingRerunCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.RerunFinding(ctx, c.Finding, cert.RerunFinding{ID: cert.NewID(cert.TargetID, time.Now()), Reason: c.Reason})
	return c.showRetried(std, out, err)
}

type findingLinkCmd struct {
	Finding       string   `arg:"" help:"Id of the finding."`
	Link          string   `required:"" help:"Address of the bug." placeholder:"URL"`
	Owner         string   `required:"" help:"Who sees to it." placeholder:"NAME"`
	Expires       string   `required:"" help:"Until when the rule recognises, such as 2026-12-31." placeholder:"TIME"`
	Title         string   `help:"A title; made from the finding if not given." placeholder:"TEXT"`
	Log           string   `help:"Only where the log matches this regular expression." placeholder:"REGEX"`
	Machines      string   `help:"Only on machines that match." placeholder:"QUERY"`
	Series        []string `help:"Only on this series; can be repeated." placeholder:"SERIES"`
	HidesBlockers bool     `help:"What it recognises does not keep a campaign from being approved, also where it is a blocker."`
	Reason        string   `help:"Why." placeholder:"TEXT"`
	DryRun        bool     `help:"Only say what the rule would recognise."`
	formatFlag    `embed:""`
}

func (c *findingLinkCmd) Run(ctx context.Context, std streams) error {
	expires, err := dueTime(c.Expires)
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.Finding(ctx, c.Finding)
	if err != nil {
		return err
	}
	f := v.Finding
	k := cert.KnownIssue{Title: cmp.Or(c.Title, f.Text), Link: c.Link, Owner: c.Owner, Expires: expires, HidesBlockers: c.HidesBlockers, Reason: c.Reason,
		Match: cert.IssueMatch{Job: f.Job, Log: c.Log, Machines: c.Machines, Series: c.Series, Outcomes: linkedOutcomes(f)}}
	if k.Match.Job == "" && k.Match.Log == "" {
		return wrong("cannot make a rule of this finding alone: it is about no job (give --log with what its log or console has in it)")
	}
	if c.DryRun {
		return previewIssue(ctx, std, api, k.Match, c.formatFlag, previewPatience)
	}
	saved, err := api.SaveIssue(ctx, k)
	return c.showSaved(std, saved, err)
}

// linkedOutcomes are the outcomes that a rule which is made of a finding recognises.
func linkedOutcomes(f cert.Finding) []string {
	switch f.Class {
	case cert.FindKernelBoot, cert.FindFalsePass, cert.FindMachineLost:
		return []string{f.Class}
	}
	if f.Outcome == "" {
		return nil
	}
	return []string{f.Outcome}
}

type findingWaiveCmd struct {
	Finding    []string `arg:"" help:"Ids of findings, of one campaign."`
	Until      string   `required:"" help:"Until when, such as 2026-12-31." placeholder:"TIME"`
	Reason     string   `required:"" help:"Why it does not matter; it is kept with your name." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *findingWaiveCmd) Help() string { return standingHelp }

func (c *findingWaiveCmd) Run(ctx context.Context, std streams) error {
	until, err := dueTime(c.Until)
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	v, err := api.Finding(ctx, c.Finding[0])
	if err != nil {
		return err
	}
	d, err := api.Decide(ctx, v.Finding.Campaign, cert.NewDecision{Action: cert.Waive, Findings: c.Finding, Until: until, Reason: c.Reason})
	return c.showDecided(std, d, err)
}
