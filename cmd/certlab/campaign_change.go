package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
)

type campaignCancelCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	Reason     string `required:"" help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignCancelCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.CancelCampaign(ctx, c.Campaign, c.Reason)
	return c.showCampaign(std, out, err)
}

func (f formatFlag) showCampaign(std streams, c cert.Campaign, err error) error {
	if err != nil || f.json() {
		return f.write(std, c, err)
	}
	rows := [][]string{{"Campaign", c.Name}, {"Id", c.ID}, {"State", string(c.State)}, {"Due", dueText(c.Due)}, {"Priority", fmt.Sprint(c.Priority)}}
	if c.AtOnce > 0 {
		rows = append(rows, []string{"At once", fmt.Sprint(c.AtOnce)})
	}
	if c.Ending != "" {
		rows = append(rows, []string{"Why", c.Ending})
	}
	return table(std.out, nil, rows)
}

type campaignPauseCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	Reason     string `required:"" help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignPauseCmd) Run(ctx context.Context, std streams) error {
	yes := true
	return c.change(ctx, std, c.Campaign, cert.ChangeCampaign{Paused: &yes, Reason: c.Reason})
}

func (f formatFlag) change(ctx context.Context, std streams, name string, change cert.ChangeCampaign) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.ChangeCampaign(ctx, name, change)
	return f.showCampaign(std, out, err)
}

type campaignResumeCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	Reason     string `help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignResumeCmd) Run(ctx context.Context, std streams) error {
	no := false
	return c.change(ctx, std, c.Campaign, cert.ChangeCampaign{Paused: &no, Reason: c.Reason})
}

type campaignChangeCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	Due        string `help:"When the verdict is wanted, such as 2026-12-01T12:00:00Z, or a date (its end, UTC)." placeholder:"TIME"`
	Priority   *int   `help:"Go before others, or below 0 let them go first." placeholder:"N"`
	AtOnce     *int   `help:"How many runs at once at most; 0 for no cap." placeholder:"N"`
	Reason     string `help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignChangeCmd) Run(ctx context.Context, std streams) error {
	due, err := dueTime(c.Due)
	if err != nil {
		return err
	}
	if due == nil && c.Priority == nil && c.AtOnce == nil {
		return wrong("cannot change the campaign: give --due, --priority or --at-once")
	}
	return c.change(ctx, std, c.Campaign, cert.ChangeCampaign{Due: due, Priority: c.Priority, AtOnce: c.AtOnce, Reason: c.Reason})
}

type campaignRetryCmd struct {
	Campaign   string   `arg:"" help:"Name or id of the campaign."`
	Machine    []string `xor:"which" required:"" help:"On this machine; can be repeated." placeholder:"MACHINE"`
	State      string   `xor:"which" required:"" help:"All that are missing, blocked or done." placeholder:"STATE"`
	Issue      string   `xor:"which" required:"" help:"What this known issue hit." placeholder:"ISSUE"`
	Job        []string `help:"Only this job, by its full id; can be repeated. It proves nothing about the others." placeholder:"JOB"`
	Reason     string   `required:"" help:"Why." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignRetryCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.RetryTargets(ctx, c.Campaign, cert.RetryTargets{ID: cert.NewID(cert.TargetID, time.Now()), Machines: c.Machine, State: c.State, Issue: c.Issue, Jobs: c.Job, Reason: c.Reason})
	return c.showRetried(std, out, err)
}

func (f formatFlag) showRetried(std streams, r cert.Retried, err error) error {
	if err != nil || f.json() {
		return f.write(std, r, err)
	}
	for _, run := range r.Runs {
		fmt.Fprintf(std.out, "certlab run show --watch %s\n", clean(run))
	}
	for _, host := range slices.Sorted(mapKeys(r.Skipped)) {
		fmt.Fprintf(std.out, "%s: not run again: %s\n", clean(host), clean(r.Skipped[host]))
	}
	if len(r.Runs) == 0 && len(r.Targets) > 0 {
		fmt.Fprintf(std.out, "%d will be run again when their machines are free\n", len(r.Targets))
	}
	if len(r.Runs) == 0 && len(r.Targets) == 0 && len(r.Skipped) == 0 {
		fmt.Fprintln(std.out, "nothing is run again: nothing fits")
	}
	return nil
}

type campaignAttachCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	Submission string `arg:"" help:"Id of the submission (certlab submission add)."`
	Reason     string `required:"" help:"Why it counts." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *campaignAttachCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	t, err := api.AttachSubmission(ctx, c.Campaign, cert.AttachSubmission{Submission: c.Submission, Reason: c.Reason})
	if err != nil || c.json() {
		return c.write(std, t, err)
	}
	return table(std.out, nil, [][]string{{"Machine", t.Hostname}, {"Plan", t.Plan}, {"State", string(t.State)}, {"Why", t.Why}})
}
