package main

import (
	"context"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

// kernelCmd groups the commands on what the kernel team wants tested.
type kernelCmd struct {
	List kernelListCmd `cmd:"" help:"List kernels that are ready for certification testing, and the campaigns for them."`
	Read kernelReadCmd `cmd:"" help:"Take in the kernel team's status from a file, where the lab cannot read it itself."`
}

type kernelListCmd struct {
	formatFlag `embed:""`
}

func (c *kernelListCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Kernels(ctx)
	return c.showKernels(std, list, err)
}

func (f formatFlag) showKernels(std streams, list cert.KernelNewsList, err error) error {
	if err != nil || f.json() {
		return f.write(std, list, err)
	}
	var rows [][]string
	for _, k := range list.Kernels {
		s := k.Subject
		campaign := k.Campaign
		if campaign == "" {
			campaign = "none"
		}
		rows = append(rows, []string{s.Source, s.Version, s.Series, strings.TrimSpace(s.Flavour + " " + s.Stream), s.Pocket + s.PPA, spinText(s.Spin), s.Cycle, k.Task, shortTime(k.Due), campaign, k.Note})
	}
	if err := table(std.out, []string{"SOURCE", "VERSION", "SERIES", "FLAVOUR", "WHERE", "SPIN", "CYCLE", "TASK", "DUE", "CAMPAIGN", "NOTE"}, rows); err != nil {
		return err
	}
	if list.Read != nil {
		fmt.Fprintf(std.err, "as of %s, from %s\n", timeText(list.Read), clean(list.Source))
	}
	if list.Problem != "" {
		fmt.Fprintf(std.err, "certlab: %s\n", clean(list.Problem))
	}
	return nil
}

func spinText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

type kernelReadCmd struct {
	File       string `arg:"" help:"The kernel team's status, as JSON; - for standard input."`
	formatFlag `embed:""`
}

func (c *kernelReadCmd) Run(ctx context.Context, std streams) error {
	text, err := readFileOrInput(std, c.File, "kernel team's status")
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.ReadKernels(ctx, text)
	return c.showKernels(std, list, err)
}
