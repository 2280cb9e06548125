package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/client"
)

type campaignShowCmd struct {
	Campaign   string `arg:"" help:"Name or id of the campaign."`
	All        bool   `help:"Everything that the answer has, also where it does not fit on a screen."`
	watchFlags `embed:""`
	formatFlag `embed:""`
}

func (c *campaignShowCmd) Help() string { return standingHelp }

func (c *campaignShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	if c.Watch {
		return followCampaign(ctx, std, api, c.Campaign, c.watchFlags, c.formatFlag)
	}
	v, err := api.Campaign(ctx, c.Campaign)
	return c.showView(std, v, err, c.All)
}

type campaignWaitCmd struct {
	Campaign   string        `arg:"" help:"Name or id of the campaign."`
	Interval   time.Duration `help:"How often to look (${default})." default:"3s" placeholder:"TIME"`
	Patience   time.Duration `help:"How long at most; exit status 3 if it is not finished then. Without it, as long as it takes." placeholder:"TIME"`
	formatFlag `embed:""`
}

func (c *campaignWaitCmd) Help() string { return standingHelp }

func (c *campaignWaitCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	return followCampaign(ctx, std, api, c.Campaign, watchFlags{true, c.Interval, c.Patience}, c.formatFlag)
}

// followCampaign shows a campaign until there is nothing more to wait for, and then once more for good.
func followCampaign(ctx context.Context, std streams, api *client.Client, name string, w watchFlags, f formatFlag) error {
	s := newScreen(std)
	width, height, _ := terminal(std.out)
	v, err := watch(ctx, std, w.Interval, w.Patience, func() (cert.CampaignView, error) { return api.Campaign(ctx, name) },
		func(v cert.CampaignView) bool { return standingStatus(v) != exitRunning },
		func(v cert.CampaignView) {
			line := campaignProgress(v)
			s.show(campaignScreen(v, width, max(height-2, 20))+"\n"+line+"\n", line)
		})
	s.end()
	if err != nil {
		return err
	}
	return f.showView(std, v, nil, false)
}

// campaignProgress is how far a campaign is, on one line.
func campaignProgress(v cert.CampaignView) string {
	c := v.Coverage
	done := c.Done + c.Blocked + c.Missing
	text := fmt.Sprintf("%s %s %d of %d machines: %d running, %d provisioning, %d queued, %d missing; %d blockers, %d others open",
		clean(v.Campaign.Name), bar(done, c.Required, 20), done, c.Required, c.Running, c.Provisioning, c.Queued+c.Waiting, c.Missing, v.Blockers, v.Others)
	if v.Finish != nil {
		text += "; likely over " + shortTime(v.Finish)
	}
	return text
}

func (f formatFlag) showView(std streams, v cert.CampaignView, err error, all bool) error {
	if err != nil {
		return err
	}
	if f.json() {
		if err := f.write(std, v, nil); err != nil {
			return err
		}
		return standingStatus(v).status()
	}
	width, height, tty := terminal(std.out)
	lines := screenLines
	switch {
	case all:
		lines, width = 1<<30, 1<<30
	case tty && height > screenLines:
		lines = height - 2
	}
	if _, err := fmt.Fprint(std.out, campaignScreen(v, width, lines)); err != nil {
		return err
	}
	return standingStatus(v).status()
}

// screenLines is how many lines a campaign may take if that is possible at all.
const screenLines = 40

// campaignScreen shows a campaign on one screen if that is possible: with less of each list the more there is.
func campaignScreen(v cert.CampaignView, width, lines int) string {
	text := ""
	for _, level := range []int{1 << 20, 6, 4, 3, 2, 1} {
		s := &sheet{width: width}
		s.campaign(v, level)
		if text = s.String(); s.lines <= lines {
			return text
		}
	}
	return text
}

// campaign writes all parts, with so many rows of each list at most.
func (s *sheet) campaign(v cert.CampaignView, most int) {
	c, name := v.Campaign, shellWord(v.Campaign.Name)
	s.row("Campaign", "%s: %s (%s, %s%s; version %d)", c.Name, headline(v), c.Kind, c.State, byText(c.Ending), c.Version)
	s.subject(v)
	s.coverage(v)
	if len(v.Counts) > 0 {
		s.row("Findings", "%s", countsText(v.Counts))
	}
	s.groups(v, most, name)
	s.infra(v, most, name)
	few := (most + 1) / 2
	for n, k := range v.Skips {
		if n == few {
			s.fold("Skips", len(v.Skips)-few, "certlab campaign show --all "+name)
			break
		}
		s.row("Skips", "%s%s on %s: %s", plural(k.Jobs, "job", "jobs"), blockersText(k.Blockers), plural(k.Machines, "machine", "machines"), cmp.Or(k.Reason, "no reason given"))
	}
	for n, k := range v.Changes {
		if n == few {
			s.fold("Changed", len(v.Changes)-few, "certlab campaign show --all "+name)
			break
		}
		s.row("Changed", "%s on %d of %d: %s → %s (%s)", k.What, k.Machines, k.Of, cmp.Or(k.Example.Before, "none"), cmp.Or(k.Example.After, "none"), namesText(k.Names, k.Machines, 3))
	}
	s.machines(v, most, name)
	s.decisions(v, few, name)
	s.needs(v, most, name)
}

func because2(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func byText(ending string) string { return because2(", ", ending) }

func blockersText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", plural(n, "blocker", "blockers"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// headline is how a campaign stands, for people.
func headline(v cert.CampaignView) string {
	switch standingStatus(v) {
	case exitApproved:
		return "APPROVED by " + v.Verdict.By
	case exitRejected:
		if v.Verdict != nil {
			return "REJECTED by " + v.Verdict.By
		}
		return "REJECTED"
	case exitNoVerdict:
		return strings.ToUpper(string(v.Campaign.State)) + ", WITHOUT A VERDICT"
	case exitRunning:
		return "NOT FINISHED"
	}
	if v.Campaign.State == cert.CampaignApproved {
		return fmt.Sprintf("NEEDS A DECISION: it was approved, and %s contradict it", plural(v.Late, "later finding", "later findings"))
	}
	return "NEEDS A DECISION"
}

// subject writes what is tested, for whom, by when and against what.
func (s *sheet) subject(v cert.CampaignView) {
	c, u := v.Campaign, v.Campaign.Subject
	var what []string
	add := func(format string, value string) {
		if value != "" {
			what = append(what, fmt.Sprintf(format, value))
		}
	}
	switch u.Kind {
	case cert.SubjectMachine:
		add("%s", "the machines as they are")
	case cert.SubjectImage:
		add("image %s", u.Serial)
	default:
		what := u.Kind + " " + u.Source + " " + u.Version
		if u.Kind == cert.SubjectKernel {
			what += " " + u.KernelFlavour()
		}
		add("%s", what)
	}
	if u.Release != "" {
		add("series %s", u.Series+" ("+u.Release+")")
	} else {
		add("series %s", u.Series)
	}
	if u.Kind == cert.SubjectKernel {
		add("%s stream", cmp.Or(u.Stream, "ordinary"))
	}
	add("pocket %s", u.Pocket)
	add("from %s", u.PPA)
	if u.Archive != nil {
		add("from %s", u.Archive.URI+" "+u.Archive.Suite)
	}
	for _, p := range u.Packages {
		add("%s", p.Name+"="+p.Version)
	}
	s.wrap("Subject", "  ", "%s", strings.Join(what, ", "))
	if u.Kind == cert.SubjectKernel || u.Spin > 0 || c.Supersedes != "" {
		spin := "spin not known"
		switch {
		case u.Spin == 1:
			spin = "spin 1: the first, no respin"
		case u.Spin > 1:
			spin = fmt.Sprintf("spin %d: a respin", u.Spin)
		}
		s.row("Subject", "%s%s%s%s", spin, because2(", cycle ", u.Cycle), because2(", supersedes ", c.Supersedes), because2(", superseded by ", c.SupersededBy))
	}
	s.row("Tracker", "%s", cmp.Or(u.Tracker, "no tracking bug"))
	due := dueText(c.Due)
	if v.DaysLeft != nil {
		due += ", " + daysLeft(*v.DaysLeft)
	}
	if v.Finish != nil {
		due += "; runs likely over " + shortTime(v.Finish)
	}
	if v.Holds != nil {
		due += ", " + holdsText(v.Holds)
	}
	s.row("Due", "%s", due)
	s.row("Compared", "with %s; policy %s", baselineText(c), policyText(c.Policy))
}

// coverage writes how much there is of what is wanted, and what is missing, and why.
func (s *sheet) coverage(v cert.CampaignView) {
	c := v.Coverage
	s.row("Coverage", "%d required: %d waiting, %d queued for a machine, %d being provisioned, %d running", c.Required, c.Waiting, c.Queued, c.Provisioning, c.Running)
	s.row("Coverage", "%d done with their plan complete, %d blocked by the subject, %d missing%s", c.Done, c.Blocked, c.Missing, because2("  ", going(v)))
	proved := fmt.Sprintf("ran this %s, proved at each boot: %d of %d", subjectWord(v.Campaign.Subject), c.Proved, c.Done+c.Blocked)
	if v.Campaign.Subject.Kind == cert.SubjectMachine {
		proved = "nothing to prove: the machines as they are"
	}
	s.wrap("Coverage", "  ", "%s; %d optional, %d as found, %d excluded", proved, c.Optional, c.AsFound, c.Excluded)
	if len(c.Why) > 0 {
		s.wrap("Why", "  ", "%s", whyText(c.Why, 4))
	}
}

// going is a bar, while something goes on.
func going(v cert.CampaignView) string {
	c := v.Coverage
	if c.Required == 0 || v.Campaign.State != cert.CampaignActive && v.Campaign.State != cert.CampaignPaused {
		return ""
	}
	return bar(c.Done+c.Blocked+c.Missing, c.Required, 20)
}

func subjectWord(u cert.Subject) string {
	switch u.Kind {
	case cert.SubjectKernel:
		return "kernel"
	case cert.SubjectPackages:
		return "version"
	}
	return "subject"
}

// whyText lists reasons, the most frequent first.
func whyText(why map[string]int, most int) string {
	names := slices.SortedFunc(maps.Keys(why), func(a, b string) int { return cmp.Or(cmp.Compare(why[b], why[a]), strings.Compare(a, b)) })
	var out []string
	for n, name := range names {
		if n == most {
			out = append(out, fmt.Sprintf("%d other reasons", len(names)-most))
			break
		}
		out = append(out, fmt.Sprintf("%d × %s", why[name], name))
	}
	return strings.Join(out, "; ")
}

// namesText lists some names of so many.
func namesText(names []string, of, most int) string {
	shown := names[:min(len(names), most)]
	text := strings.Join(shown, ", ")
	if more := of - len(shown); more > 0 && len(shown) > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func policyText(p cert.PolicyRef) string { return fmt.Sprintf("%s@%d", p.Name, p.Version) }

func baselineText(c cert.Campaign) string {
	b := c.Baseline
	text := "nothing"
	if b.Version != "" || b.Campaign != "" {
		text = strings.TrimSpace(b.Version + " " + because2("of campaign ", b.Campaign))
	}
	if why := cmp.Or(b.Why, b.Rule); why != "" {
		text += " (" + why + ")"
	}
	return text
}
