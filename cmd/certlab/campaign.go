package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// campaignCmd groups the commands on campaigns.
type campaignCmd struct {
	Plan     campaignPlanCmd     `cmd:"" help:"Say what a campaign would do, on what, for how long, and whether its due date holds. Nothing is started."`
	Start    campaignStartCmd    `cmd:"" help:"Start a campaign."`
	List     campaignListCmd     `cmd:"" help:"List campaigns, the newest first: those that are not final, unless you ask for others."`
	Show     campaignShowCmd     `cmd:"" help:"Show what a campaign has found and what stands between it and a verdict. The exit status says how it stands."`
	Wait     campaignWaitCmd     `cmd:"" help:"Wait until a campaign has a verdict or needs a decision. The exit status says which."`
	Targets  campaignTargetsCmd  `cmd:"" help:"List a campaign's machines, their tries and what came of them."`
	Findings campaignFindingsCmd `cmd:"" help:"List a campaign's findings."`
	Events   campaignEventsCmd   `cmd:"" help:"What happened in a campaign, the newest first."`
	Cancel   campaignCancelCmd   `cmd:"" help:"End a campaign without a verdict."`
	Pause    campaignPauseCmd    `cmd:"" help:"Start nothing new of a campaign; what runs goes on."`
	Resume   campaignResumeCmd   `cmd:"" help:"Go on with a campaign that was paused."`
	Change   campaignChangeCmd   `cmd:"" help:"Change a campaign's due date, priority or how much it does at once."`
	Retry    campaignRetryCmd    `cmd:"" help:"Run again what a campaign has run."`
	Attach   campaignAttachCmd   `cmd:"" help:"Count a submission that was made by hand."`
	Export   campaignExportCmd   `cmd:"" help:"Write everything about a campaign: JSON, or its findings as CSV."`
}

// subjectFlags say what a campaign tests.
type subjectFlags struct {
	Kernel         string   `xor:"subject" help:"A kernel: its source package and exact version, such as linux=6.8.0-51.52." placeholder:"SOURCE=VERSION"`
	Package        []string `sep:"none" xor:"subject" help:"Packages in exact versions; can be repeated. --source names the source package; the first package's name if not given." placeholder:"NAME=VERSION"`
	Image          string   `xor:"subject" help:"An image of the release, by its serial." placeholder:"SERIAL"`
	MachineAsItIs  bool     `xor:"subject" help:"The machines as they are; nothing is installed."`
	FromKernelNews bool     `help:"Take the rest of the kernel from the kernel team's status (certlab kernel list); without --kernel, the one that has no campaign yet."`

	Series  string   `help:"Codename of the release, such as noble." placeholder:"SERIES"`
	Flavour string   `help:"Of a kernel; generic if not given." placeholder:"NAME"`
	Source  string   `help:"Source package, with --package." placeholder:"NAME"`
	Stream  string   `help:"Such as esm or realtime; the ordinary one if not given." placeholder:"NAME"`
	Pocket  string   `xor:"where" help:"Where it is: proposed, updates, security or release." placeholder:"POCKET"`
	PPA     string   `name:"ppa" xor:"where" help:"Where it is instead, such as ppa:canonical-kernel-team/ppa." placeholder:"PPA"`
	Archive string   `xor:"where" help:"Where it is instead: an apt archive's address, with --suite." placeholder:"URL"`
	Suite   string   `help:"Of the archive, such as noble." placeholder:"SUITE"`
	Section []string `name:"component" help:"Of the archive; main if not given. Can be repeated." placeholder:"NAME"`
	KeyFile string   `help:"File with the archive's public key, ASCII-armoured." placeholder:"FILE"`
	Tracker string   `help:"Address of the tracking bug." placeholder:"URL"`
	Spin    int      `help:"Of the kernel team's preparation, from 1." placeholder:"N"`
	Cycle   string   `help:"Such as 2026.11.02." placeholder:"NAME"`
}

// campaignFlags say what a campaign is.
type campaignFlags struct {
	Kind         string `help:"What for: sru, weekly, certification or adhoc (${default})." default:"sru" placeholder:"KIND"`
	subjectFlags `embed:""`

	Query      string   `xor:"machines" help:"The machines: what they have to have, such as tags=laptop,arch=amd64." placeholder:"QUERY"`
	Machine    []string `xor:"machines" help:"The machines, by name; can be repeated." placeholder:"MACHINE"`
	OfBaseline bool     `xor:"machines" help:"All machines that ran the baseline."`
	Except     []string `help:"Not this machine; can be repeated." placeholder:"MACHINE"`

	Name     string   `help:"A name; made from the subject if not given." placeholder:"NAME"`
	Policy   string   `help:"What it demands: a policy's name, or name@version; the default of the kind if not given." placeholder:"POLICY"`
	TestPlan string   `name:"plan" help:"The plan of all machines, instead of the policy's." placeholder:"ID"`
	Baseline string   `help:"What to compare with: a version, a campaign, or none; by the policy if not given." placeholder:"BASELINE"`
	Due      string   `help:"When the verdict is wanted, such as 2026-12-01T12:00:00Z, or a date (its end, UTC)." placeholder:"TIME"`
	Priority int      `help:"Go before others, or below 0 let them go first." placeholder:"N"`
	AtOnce   int      `help:"How many runs at once at most; 0 for no cap." placeholder:"N"`
	Match    []string `sep:"none" help:"Only jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Exclude  []string `sep:"none" help:"No jobs whose full id matches this regular expression; can be repeated." placeholder:"REGEX"`
	Reason   string   `help:"What for; others see it." placeholder:"TEXT"`
}

// wrong is an error about the arguments.
func wrong(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// versioned splits NAME=VERSION.
func versioned(flag, text string) (name, version string, err error) {
	name, version, ok := strings.Cut(text, "=")
	if !ok || name == "" || version == "" {
		return "", "", wrong("cannot use --%s %q: give it as NAME=VERSION, such as linux=6.8.0-51.52", flag, text)
	}
	return name, version, nil
}

// dueTime reads a time, or a date as its end.
func dueTime(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if t, err := time.Parse("2006-01-02", text); err == nil {
		t = t.AddDate(0, 0, 1).Add(-time.Second)
		return &t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, wrong("cannot use the time %q: give one such as 2026-12-01T12:00:00Z, or a date such as 2026-12-01", text)
	}
	t = t.UTC()
	return &t, nil
}

func (f subjectFlags) subject() (cert.Subject, error) {
	s := cert.Subject{Series: f.Series, Flavour: f.Flavour, Stream: f.Stream, Pocket: f.Pocket, PPA: f.PPA, Tracker: f.Tracker, Spin: f.Spin, Cycle: f.Cycle}
	var err error
	switch {
	case f.Kernel != "":
		s.Kind = cert.SubjectKernel
		s.Source, s.Version, err = versioned("kernel", f.Kernel)
	case len(f.Package) > 0:
		s.Kind = cert.SubjectPackages
		for _, text := range f.Package {
			p := cert.Package{}
			if p.Name, p.Version, err = versioned("package", text); err != nil {
				return s, err
			}
			s.Packages = append(s.Packages, p)
		}
		s.Source, s.Version = cmp.Or(f.Source, s.Packages[0].Name), s.Packages[0].Version
	case f.Image != "":
		s.Kind, s.Serial = cert.SubjectImage, f.Image
	case f.MachineAsItIs:
		s.Kind = cert.SubjectMachine
	case f.FromKernelNews:
		s.Kind = cert.SubjectKernel
	default:
		err = wrong("cannot tell what to test: give --kernel, --package, --image, --machine-as-it-is or --from-kernel-news")
	}
	if err != nil {
		return s, err
	}
	if f.Source != "" && s.Kind != cert.SubjectPackages {
		return s, wrong("cannot use --source without --package: a kernel's source package is in --kernel SOURCE=VERSION")
	}
	if f.Archive == "" {
		if f.Suite != "" || len(f.Section) > 0 || f.KeyFile != "" {
			return s, wrong("cannot use --suite, --component or --key-file without --archive")
		}
		return s, nil
	}
	s.Archive = &cert.Archive{URI: f.Archive, Suite: f.Suite, Components: f.Section}
	if f.KeyFile != "" {
		key, err := os.ReadFile(f.KeyFile)
		if err != nil {
			return s, wrong("cannot read the archive's key: %w", err)
		}
		s.Archive.Key = string(key)
	}
	return s, nil
}

// wanted makes a request of the flags.
func (f campaignFlags) wanted(ctx context.Context, api *client.Client) (cert.NewCampaign, error) {
	n := cert.NewCampaign{Name: f.Name, Kind: cert.CampaignKind(f.Kind), Policy: f.Policy, Plan: f.TestPlan, Baseline: f.Baseline, Priority: f.Priority, AtOnce: f.AtOnce,
		Reason: f.Reason, Exclude: f.Exclude, Match: f.Match, Machines: cert.MachineChoice{Query: f.Query, Names: f.Machine, OfBaseline: f.OfBaseline, Except: f.Except}}
	var err error
	if n.Due, err = dueTime(f.Due); err != nil {
		return n, err
	}
	if n.Subject, err = f.subject(); err != nil {
		return n, err
	}
	if f.Query == "" && len(f.Machine) == 0 && !f.OfBaseline {
		return n, wrong("cannot tell which machines: give --query, --machine or --of-baseline")
	}
	if f.FromKernelNews {
		err = fromNews(ctx, api, &n)
	}
	return n, err
}

// fromNews fills in what the kernel team's status says of the kernel. What was typed stays.
func fromNews(ctx context.Context, api *client.Client, n *cert.NewCampaign) error {
	list, err := api.Kernels(ctx)
	if err != nil {
		return err
	}
	want := n.Subject
	var found []cert.KernelNews
	for _, k := range list.Kernels {
		s := k.Subject
		fits := func(wanted, has string) bool { return wanted == "" || wanted == has }
		if fits(want.Source, s.Source) && fits(want.Version, s.Version) && fits(want.Series, s.Series) && fits(want.Flavour, s.Flavour) && fits(want.Stream, s.Stream) &&
			(want.Version != "" || k.Campaign == "") {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		var names []string
		for _, k := range found {
			names = append(names, fmt.Sprintf("--kernel %s=%s --series %s", k.Subject.Source, k.Subject.Version, k.Subject.Series))
		}
		if len(found) == 0 {
			return wrong("cannot take the kernel from the kernel team's status: it names none that fits and has no campaign (certlab kernel list)")
		}
		slices.Sort(names)
		return wrong("cannot take the kernel from the kernel team's status: %d fit (choose one: %s)", len(found), clean(strings.Join(names, "; ")))
	}
	s := found[0].Subject
	s.Flavour, s.Stream = cmp.Or(want.Flavour, s.Flavour), cmp.Or(want.Stream, s.Stream)
	s.Tracker, s.Cycle, s.Spin = cmp.Or(want.Tracker, s.Tracker), cmp.Or(want.Cycle, s.Cycle), cmp.Or(want.Spin, s.Spin)
	if want.Pocket != "" || want.PPA != "" || want.Archive != nil {
		s.Pocket, s.PPA, s.Archive = want.Pocket, want.PPA, want.Archive
	}
	n.Subject = s
	if n.Due == nil {
		n.Due = found[0].Due
	}
	return nil
}

type campaignPlanCmd struct {
	campaignFlags `embed:""`
	All           bool `help:"Every machine, also where there are many."`
	formatFlag    `embed:""`
}

func (c *campaignPlanCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	n, err := c.wanted(ctx, api)
	if err != nil {
		return err
	}
	p, err := api.PlanCampaign(ctx, n)
	if err != nil || c.json() {
		return c.write(std, p, err)
	}
	return showPlan(std.out, p, c.All)
}

// plannedShown is how many machines of a plan are listed unless all are asked for.
const plannedShown = 20

func showPlan(w io.Writer, p cert.CampaignPlan, all bool) error {
	c := p.Campaign
	rows := [][]string{{"Campaign", c.Name + " (" + string(c.Kind) + "), not started"}, {"Subject", c.Subject.Title()}, {"Policy", policyText(c.Policy)},
		{"Compared", baselineText(c)}, {"Due", dueText(c.Due)}}
	excluded := 0
	for _, t := range p.Targets {
		if t.State == cert.TargetExcluded {
			excluded++
		}
	}
	rows = append(rows, []string{"Machines", fmt.Sprintf("%d, and %d excluded", len(p.Targets)-excluded, excluded)})
	for _, plan := range slices.Sorted(mapKeys(p.Plans)) {
		text := fmt.Sprintf("%s on %d", plan, p.Plans[plan])
		if s := p.Seconds[plan]; s > 0 {
			text += ", about " + secondsText(s) + " each"
		} else {
			text += ", nobody knows how long it takes"
		}
		rows = append(rows, []string{"Plan", text})
	}
	finish := "not known"
	if p.Finish != nil {
		finish = timeText(p.Finish)
	}
	rows = append(rows, []string{"Runs over", strings.TrimSuffix(finish+" ("+p.Basis+")", " ()")}, []string{"Due date", holdsText(p.Holds)})
	for _, text := range p.Warnings {
		rows = append(rows, []string{"Warning", text})
	}
	if err := table(w, nil, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	var list [][]string
	shown := p.Targets
	if !all && len(shown) > plannedShown {
		shown = shown[:plannedShown]
	}
	for _, t := range shown {
		list = append(list, []string{t.Hostname, t.Class, t.Plan, targetNote(t)})
	}
	if err := table(w, []string{"MACHINE", "CLASS", "PLAN", "NOTE"}, list); err != nil {
		return err
	}
	if n := len(p.Targets) - len(shown); n > 0 {
		fmt.Fprintf(w, "… and %d more: --all\n", n)
	}
	return nil
}

// targetNote is what has to be known of a target before it runs.
func targetNote(t cert.Target) string {
	var notes []string
	if t.State == cert.TargetExcluded {
		notes = append(notes, "excluded: "+t.Why)
	} else {
		if !t.Required {
			notes = append(notes, "not required")
		}
		if t.AsFound {
			notes = append(notes, "as found")
		}
		if t.Why != "" {
			notes = append(notes, t.Why)
		}
	}
	return strings.Join(notes, ", ")
}

type campaignStartCmd struct {
	campaignFlags `embed:""`
	ID            string `name:"id" help:"An id of your own, to repeat the command safely: a c and 26 lower-case letters or digits." placeholder:"ID"`
	watchFlags    `embed:""`
	formatFlag    `embed:""`
}

func (c *campaignStartCmd) Help() string { return standingHelp }

// standingHelp explains the exit statuses.
const standingHelp = "Exit status: 0 approved, 1 rejected, 2 needs a decision, 3 not finished, 4 ended without a verdict; " +
	"64 wrong arguments, 66 no such thing, 69 the controller cannot be reached, 70 anything else, 75 not in the present state, 77 no right to it. " +
	"(Without --watch, start exits with 0 once the campaign is started.)"

func (c *campaignStartCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	n, err := c.wanted(ctx, api)
	if err != nil {
		return err
	}
	// The id is chosen here, so that a request whose answer got lost can be repeated.
	n.ID = cmp.Or(c.ID, cert.NewID(cert.CampaignID, time.Now()))
	started, err := api.StartCampaign(ctx, n)
	if err != nil {
		if failStatus(err) == exitAway {
			return fmt.Errorf("%w (it may be started: repeat the command with --id %s, and nothing is started twice)", err, n.ID)
		}
		return err
	}
	if c.Watch {
		return followCampaign(ctx, std, api, started.ID, c.watchFlags, c.formatFlag)
	}
	if c.json() {
		return c.write(std, started, nil)
	}
	return table(std.out, nil, [][]string{{"Campaign", started.Name}, {"Id", started.ID}, {"Subject", started.Subject.Title()}, {"State", string(started.State)},
		{"Due", dueText(started.Due)}, {"URL", started.URL}, {"Next", "certlab campaign show --watch " + shellWord(started.Name)}})
}
