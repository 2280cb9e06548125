package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"certlab/internal/cert"
	"certlab/internal/control"
)

type checkCmd struct {
	dataFlag `embed:""`
}

func (c *checkCmd) Run(ctx context.Context, std output) error {
	report, err := control.Check(ctx, c.data())
	if err != nil {
		return err
	}
	problems := report.Problems()
	shown := problems[:min(len(problems), maxLines)]
	for _, p := range shown {
		fmt.Fprintf(std.out, "%s\n", p)
	}
	if more := len(problems) - len(shown); more > 0 {
		fmt.Fprintf(std.out, "and %d more\n", more)
	}
	switch {
	case len(report.Damage) > 0:
		return fmt.Errorf("the database is damaged: run the repair action, or stop the service and run certlabd repair --data %s [--backup FILE]", c.Data)
	case len(report.Bad) > 0:
		return fmt.Errorf("%d files are missing or altered: the service asks their machines for them; with a backup, run certlabd repair --data %s --backup FILE", len(report.Bad), c.Data)
	}
	fmt.Fprintf(std.out, "no damage: schema %d, %d files, %d bytes, %d files that nothing names\n", report.Schema, report.Blobs, report.Bytes, report.Orphans)
	return nil
}

// maxLines bounds how much is listed of one kind.
const maxLines = 100

type repairCmd struct {
	dataFlag `embed:""`
	Backup   string `type:"existingfile" help:"Take what is missing from this backup." placeholder:"FILE"`
}

func (c *repairCmd) Run(ctx context.Context, std output) error {
	data := c.data()
	release, err := data.Lock()
	if err != nil {
		return fmt.Errorf("%w (stop the service first, or run the repair action)", err)
	}
	defer release()
	// One that was cut off after it had made its copy is completed.
	if _, err := control.PutInPlace(data); err != nil {
		return err
	}
	done, err := control.Repair(ctx, data, nil, c.Backup, time.Now())
	if err != nil {
		return err
	}
	if _, err := control.PutInPlace(data); err != nil {
		return err
	}
	printRepair(std.out, done)
	return nil
}

func printRepair(out io.Writer, done cert.Repaired) {
	if !done.Database && done.Files == 0 && len(done.Missing) == 0 {
		fmt.Fprintln(out, "nothing to repair: the database and all files are sound")
		return
	}
	if done.Database {
		fmt.Fprintf(out, "made a new database; the damaged one is in %s\n", done.SetAside)
		for _, table := range sortedKeys(done.Rows) {
			fmt.Fprintf(out, "  %s: %d rows kept, %d from the backup\n", table, done.Rows[table], done.Restored[table])
		}
		fmt.Fprintf(out, "%d submissions will be read again when the service runs\n", done.Queued)
	} else {
		fmt.Fprintln(out, "the database is sound")
	}
	if done.Files > 0 {
		fmt.Fprintf(out, "%d files taken from the backup\n", done.Files)
	}
	for _, list := range []struct {
		name  string
		lines []string
	}{{"could not be read", done.Unread}, {"rebuilt", done.Rebuilt}, {"lost", done.Lost}, {"still missing", done.Missing}} {
		lines := slices.Compact(slices.Clone(list.lines))
		for n, line := range lines {
			if n == maxLines {
				fmt.Fprintf(out, "%s: and %d more\n", list.name, len(lines)-n)
				break
			}
			fmt.Fprintf(out, "%s: %s\n", list.name, line)
		}
	}
	if len(done.Missing) > 0 {
		fmt.Fprintln(out, "machines are asked for the files that are still missing when the service runs")
	}
}

func sortedKeys(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
