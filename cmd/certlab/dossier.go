package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"certlab/internal/cert"
)

// machineDossierCmd groups the commands on dossiers.
type machineDossierCmd struct {
	Show     dossierShowCmd     `cmd:"" help:"Show a machine's dossier."`
	Edit     dossierEditCmd     `cmd:"" help:"Change fields of a machine's dossier."`
	History  dossierHistoryCmd  `cmd:"" help:"What was changed in a machine's dossier, the newest first."`
	SecureID dossierSecureIDCmd `cmd:"" help:"Set a machine's secure id for the certification site, from standard input. Nothing shows it again."`
	Zone     dossierZoneCmd     `cmd:"" help:"Show or change what holds for all machines of a zone."`
	Import   dossierImportCmd   `cmd:"" help:"Change dossiers by a CSV file, all lines or none, and say what has changed."`
	Export   dossierExportCmd   `cmd:"" help:"Write all dossiers as CSV, without secure ids."`
}

type dossierShowCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	formatFlag `embed:""`
}

func (c *dossierShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	d, err := api.Dossier(ctx, c.Machine)
	return c.showDossier(std, d, err)
}

func (f formatFlag) showDossier(std streams, d cert.Dossier, err error) error {
	if err != nil || f.json() {
		return f.write(std, d, err)
	}
	rows := [][]string{{"machine", d.Hostname}}
	rows = append(rows, fieldRows(d.Fields())...)
	if d.SecureIDSet {
		rows = append(rows, []string{"secure_id", "set"})
	}
	if !d.HasManifest() {
		rows = append(rows, []string{"manifest", "none: jobs that ask for an entry are skipped, and that is no pass"})
	}
	return table(std.out, nil, append(rows, []string{"version", versionText(d.Version, d.UpdatedBy)}, []string{"updated", timeText(d.Updated)}))
}

func fieldRows(fields map[string]string) [][]string {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		rows = append(rows, []string{name, fields[name]})
	}
	return rows
}

func versionText(version int64, who string) string {
	if who == "" {
		return fmt.Sprint(version)
	}
	return fmt.Sprintf("%d, by %s", version, who)
}

// cellsOf reads FIELD=VALUE arguments.
func cellsOf(args []string) (map[string]string, error) {
	cells := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("cannot change %q: give FIELD=VALUE, such as rack=r4 (an empty value takes the field away)", arg)
		}
		if err := cert.CheckDossierField(name); err != nil {
			return nil, fmt.Errorf("cannot change %q: %w", name, err)
		}
		cells[name] = value
	}
	return cells, nil
}

type dossierEditCmd struct {
	Machine    string   `arg:"" help:"Id, MAAS system_id or hostname."`
	Fields     []string `arg:"" sep:"none" help:"FIELD=VALUE, such as rack=r4, ability:rtc-wake=true or manifest:com.canonical.certification::has_camera=true; an empty value takes the field away."`
	formatFlag `embed:""`
}

func (c *dossierEditCmd) Run(ctx context.Context, std streams) error {
	cells, err := cellsOf(c.Fields)
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	d, err := api.Dossier(ctx, c.Machine)
	if err != nil {
		return err
	}
	changed, err := cert.DossierRow{Line: 1, Machine: d.Hostname, Cells: cells}.Apply(d)
	if err != nil {
		return fmt.Errorf("cannot change the dossier: %s", strings.TrimPrefix(err.Error(), fmt.Sprintf("cannot import dossiers: line 1 (%s): ", d.Hostname)))
	}
	d, err = api.PutDossier(ctx, c.Machine, changed)
	return c.showDossier(std, d, err)
}

type dossierHistoryCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *dossierHistoryCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	changes, err := api.DossierHistory(ctx, c.Machine, c.Limit)
	if err != nil || c.json() {
		return c.write(std, struct {
			Changes []cert.LoggedChange `json:"changes"`
		}{changes}, err)
	}
	var rows [][]string
	for _, l := range changes {
		rows = append(rows, []string{timeText(&l.At), l.Who, l.Field, l.Before, l.After})
	}
	return table(std.out, []string{"TIME", "WHO", "FIELD", "BEFORE", "AFTER"}, rows)
}

type dossierSecureIDCmd struct {
	Machine    string `arg:"" help:"Id, MAAS system_id or hostname."`
	Remove     bool   `help:"Remove it instead."`
	formatFlag `embed:""`
}

func (c *dossierSecureIDCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	secret := ""
	if !c.Remove {
		line, err := bufio.NewReader(io.LimitReader(std.in, 1024)).ReadString('\n')
		if secret = strings.TrimSpace(line); secret == "" {
			return fmt.Errorf("cannot set the secure id: nothing on standard input (--remove removes it)%s", because(err))
		}
	}
	d, err := api.PutSecureID(ctx, c.Machine, secret)
	return c.showDossier(std, d, err)
}

type dossierZoneCmd struct {
	Zone       string   `arg:"" help:"Name of the zone."`
	Fields     []string `arg:"" optional:"" sep:"none" help:"FIELD=VALUE to change, such as shared=iperf-a or env:TEST_TARGET_IPERF=10.0.0.9; an empty value takes the field away."`
	formatFlag `embed:""`
}

func (c *dossierZoneCmd) Run(ctx context.Context, std streams) error {
	cells, err := cellsOf(c.Fields)
	if err != nil {
		return err
	}
	for name := range cells {
		if name != "shared" && !strings.HasPrefix(name, "env:") {
			return fmt.Errorf("cannot change %q of a zone: a zone has shared and env:NAME only", name)
		}
	}
	api, err := connect()
	if err != nil {
		return err
	}
	z, err := api.ZoneDossier(ctx, c.Zone)
	if err == nil && len(cells) > 0 {
		changed, wrong := cert.DossierRow{Line: 1, Machine: c.Zone, Cells: cells}.Apply(cert.Dossier{Environment: z.Environment, Shared: z.Shared})
		if wrong != nil {
			return fmt.Errorf("cannot change the dossier: %s", strings.TrimPrefix(wrong.Error(), fmt.Sprintf("cannot import dossiers: line 1 (%s): ", c.Zone)))
		}
		z.Environment, z.Shared = changed.Environment, changed.Shared
		z, err = api.PutZoneDossier(ctx, c.Zone, z)
	}
	if err != nil || c.json() {
		return c.write(std, z, err)
	}
	rows := append([][]string{{"zone", z.Zone}}, fieldRows(z.Fields())...)
	return table(std.out, nil, append(rows, []string{"version", versionText(z.Version, z.UpdatedBy)}, []string{"updated", timeText(z.Updated)}))
}

type dossierImportCmd struct {
	File       string `arg:"" help:"The CSV file, or - for standard input."`
	DryRun     bool   `help:"Only say what would change."`
	formatFlag `embed:""`
}

func (c *dossierImportCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	in := std.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("cannot import dossiers: %w", err)
		}
		defer f.Close()
		in = f
	}
	out, err := api.ImportDossiers(ctx, in, c.DryRun)
	if err != nil || c.json() {
		return c.write(std, out, err)
	}
	var rows [][]string
	for _, change := range out.Changes {
		rows = append(rows, []string{change.Hostname, change.Field, change.Before, change.After})
	}
	if len(rows) > 0 {
		if err := table(std.out, []string{"MACHINE", "FIELD", "BEFORE", "AFTER"}, rows); err != nil {
			return err
		}
	}
	what := "changed"
	if out.DryRun {
		what = "would change (dry run: nothing is stored)"
	}
	fmt.Fprintf(std.out, "%d of %d dossiers %s\n", out.Changed, out.Lines, what)
	return nil
}

type dossierExportCmd struct {
	Output string `short:"o" default:"-" help:"File to write; - for standard output." placeholder:"FILE"`
}

func (c *dossierExportCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	if c.Output == "-" {
		return api.ExportDossiers(ctx, std.out)
	}
	if err := writeWhole(c.Output, func(w io.Writer) error { return api.ExportDossiers(ctx, w) }); err != nil {
		return err
	}
	fmt.Fprintln(std.out, c.Output)
	return nil
}
