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

// issueCmd groups the commands on known issues.
type issueCmd struct {
	List    issueListCmd    `cmd:"" help:"List known issues."`
	Stale   issueStaleCmd   `cmd:"" help:"List known issues that have run out, or have recognised nothing for long."`
	Show    issueShowCmd    `cmd:"" help:"Show a known issue."`
	Preview issuePreviewCmd `cmd:"" help:"Say what a rule would recognise among all stored results. Nothing is stored."`
	Add     issueAddCmd     `cmd:"" help:"Add a known issue. It is applied to the past and the future."`
	Edit    issueEditCmd    `cmd:"" help:"Change a known issue: what is not given stays."`
	Close   issueCloseCmd   `cmd:"" help:"Say that it is fixed: it recognises nothing from now on."`
	Rerun   issueRerunCmd   `cmd:"" help:"Run again everything that it hit, in campaigns that are not final."`
}

func (f formatFlag) listIssues(ctx context.Context, std streams, stale bool, limit int) error {
	api, err := connect()
	if err != nil {
		return err
	}
	list, err := api.Issues(ctx, stale, limit)
	if err != nil || f.json() {
		return f.write(std, struct {
			Issues []cert.KnownIssue `json:"issues"`
		}{list}, err)
	}
	var rows [][]string
	for _, k := range list {
		rows = append(rows, []string{k.ID, k.Title, k.Link, k.Owner, issueState(k), yes(k.HidesBlockers), fmt.Sprint(k.Hits), timeText(k.LastHit), matchText(k.Match)})
	}
	return table(std.out, []string{"ISSUE", "TITLE", "LINK", "OWNER", "STATE", "HIDES BLOCKERS", "HITS", "LAST", "RULE"}, rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func issueState(k cert.KnownIssue) string {
	switch {
	case k.Closed != nil:
		return "closed " + shortTime(k.Closed)
	case k.Expires != nil && !time.Now().Before(*k.Expires):
		return "ran out " + shortTime(k.Expires)
	case k.Expires != nil:
		return "until " + shortTime(k.Expires)
	}
	return "in force"
}

// matchText is a rule on one line.
func matchText(m cert.IssueMatch) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("job", m.Job)
	add("template", m.Template)
	add("plan", m.Plan)
	add("outcomes", strings.Join(m.Outcomes, ","))
	add("machines", m.Machines)
	add("series", strings.Join(m.Series, ","))
	add("source", m.Source)
	add("from", m.From)
	add("before", m.To)
	add("log", m.Log)
	return strings.Join(parts, "; ")
}

type issueListCmd struct {
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *issueListCmd) Run(ctx context.Context, std streams) error {
	return c.listIssues(ctx, std, false, c.Limit)
}

type issueStaleCmd struct {
	limitFlag  `embed:""`
	formatFlag `embed:""`
}

func (c *issueStaleCmd) Run(ctx context.Context, std streams) error {
	return c.listIssues(ctx, std, true, c.Limit)
}

type issueShowCmd struct {
	Issue      string `arg:"" help:"Id of the known issue."`
	formatFlag `embed:""`
}

func (c *issueShowCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	k, err := api.Issue(ctx, c.Issue)
	return c.showIssue(std, k, err)
}

func (f formatFlag) showIssue(std streams, k cert.KnownIssue, err error) error {
	if err != nil || f.json() {
		return f.write(std, k, err)
	}
	return table(std.out, nil, issueRows(k))
}

func issueRows(k cert.KnownIssue) [][]string {
	return [][]string{{"Issue", k.ID}, {"Version", fmt.Sprint(k.Version)}, {"Title", k.Title}, {"Link", k.Link}, {"Owner", k.Owner}, {"State", issueState(k)},
		{"Rule", matchText(k.Match)}, {"Hides blockers", yes(k.HidesBlockers)}, {"Hits", fmt.Sprint(k.Hits)}, {"Last hit", timeText(k.LastHit)},
		{"Reason", k.Reason}, {"By", k.By}, {"Changed", timeText(&k.Updated)}}
}

func (f formatFlag) showSaved(std streams, k cert.SavedIssue, err error) error {
	if err != nil || f.json() {
		return f.write(std, k, err)
	}
	return table(std.out, nil, append(issueRows(k.KnownIssue), []string{"Recognises now", plural(k.Linked, "finding", "findings") + " of open campaigns"},
		[]string{"No more", plural(k.Unlinked, "finding", "findings")}))
}

// matchFlags are a rule. A pointer tells what was not given.
type matchFlags struct {
	Job      *string  `help:"Job: full id, or with * for any text." placeholder:"JOB"`
	Template *string  `help:"Template of the job, by its full id." placeholder:"ID"`
	TestPlan *string  `name:"plan" help:"Only in this plan." placeholder:"ID"`
	Outcome  []string `help:"Only with this outcome; can be repeated. fail and crash if not given; machine-lost, false-pass and kernel-boot are possible too." placeholder:"OUTCOME"`
	Machines *string  `help:"Only on machines that match." placeholder:"QUERY"`
	Series   []string `help:"Only on this series; can be repeated." placeholder:"SERIES"`
	Source   *string  `help:"Only with kernels of this source package." placeholder:"NAME"`
	From     *string  `help:"Only with this kernel package version and later." placeholder:"VERSION"`
	To       *string  `help:"Only with kernel package versions before this one." placeholder:"VERSION"`
	Log      *string  `help:"Only where the log matches this regular expression." placeholder:"REGEX"`
}

// apply changes what was given. An empty text takes a condition away.
func (f matchFlags) apply(m cert.IssueMatch) cert.IssueMatch {
	for _, c := range []struct {
		from *string
		to   *string
	}{{f.Job, &m.Job}, {f.Template, &m.Template}, {f.TestPlan, &m.Plan}, {f.Machines, &m.Machines}, {f.Source, &m.Source}, {f.From, &m.From}, {f.To, &m.To}, {f.Log, &m.Log}} {
		if c.from != nil {
			*c.to = *c.from
		}
	}
	if f.Outcome != nil {
		m.Outcomes = words0(f.Outcome)
	}
	if f.Series != nil {
		m.Series = words0(f.Series)
	}
	return m
}

// words0 is a list without empty words: one empty word takes a condition away.
func words0(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

type issuePreviewCmd struct {
	Issue      string `arg:"" optional:"" help:"Id of a known issue whose rule to begin with."`
	matchFlags `embed:""`
	Patience   time.Duration `help:"Stop looking after this time, and say how much was looked at (${default})." default:"1m" placeholder:"TIME"`
	formatFlag `embed:""`
}

const previewPatience = time.Minute

func (c *issuePreviewCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	var m cert.IssueMatch
	if c.Issue != "" {
		k, err := api.Issue(ctx, c.Issue)
		if err != nil {
			return err
		}
		m = k.Match
	}
	return previewIssue(ctx, std, api, c.apply(m), c.formatFlag, c.Patience)
}

// previewIssue asks on until all was looked at, and says so far what there is.
func previewIssue(ctx context.Context, std streams, api *client.Client, m cert.IssueMatch, f formatFlag, patience time.Duration) error {
	end := time.Now().Add(patience)
	var all cert.IssuePreview
	for first := true; ; first = false {
		p, err := api.PreviewIssue(ctx, m, all.Cursor)
		if err != nil {
			return err
		}
		all = addPreview(all, p)
		if p.Complete || p.Cursor == "" || !time.Now().Before(end) {
			break
		}
		if !first {
			fmt.Fprintf(std.err, "%d of %d results so far\n", all.Matches, all.Examined)
		}
	}
	if f.json() {
		return f.write(std, all, nil)
	}
	looked := fmt.Sprintf("all %d results that it could be about", all.Examined)
	if !all.Complete {
		looked = fmt.Sprintf("the newest %d results that it could be about; there are MORE", all.Examined)
	}
	fmt.Fprintf(std.out, "recognises %s on %s, of %s\n", plural(all.Matches, "result", "results"), plural(all.Machines, "machine", "machines"), looked)
	if len(all.Open) > 0 {
		fmt.Fprintf(std.out, "%s of campaigns that are not final: %s\n", plural(len(all.Open), "finding", "findings"), clean(namesText(all.Open, len(all.Open), 3)))
	}
	jobs := slices.SortedFunc(maps.Keys(all.ByJob), func(a, b string) int { return cmp.Or(cmp.Compare(all.ByJob[b], all.ByJob[a]), strings.Compare(a, b)) })
	for n, job := range jobs {
		if n == 10 {
			fmt.Fprintf(std.out, "  … and %d more jobs\n", len(jobs)-n)
			break
		}
		fmt.Fprintf(std.out, "  %d × %s\n", all.ByJob[job], clean(job))
	}
	var rows [][]string
	for n, r := range all.Results {
		if n == 20 {
			break
		}
		rows = append(rows, []string{shortTime(&r.At), r.Hostname, r.Kernel, r.Outcome, r.Job, cut(firstLine(r.Excerpt), 60)})
	}
	if len(rows) == 0 {
		return nil
	}
	return table(std.out, []string{"TIME", "MACHINE", "KERNEL", "OUTCOME", "JOB", "LOG"}, rows)
}

// previewKept bounds the results of a preview that goes on.
const previewKept = 1000

// addPreview adds the next portion of a preview to those before.
func addPreview(all, p cert.IssuePreview) cert.IssuePreview {
	all.Matches += p.Matches
	all.Examined += p.Examined
	all.Complete, all.Cursor = p.Complete, p.Cursor
	if all.ByJob == nil {
		all.ByJob = make(map[string]int)
	}
	for job, n := range p.ByJob {
		all.ByJob[job] += n
	}
	all.Results = append(all.Results, p.Results...)
	all.Results = all.Results[:min(len(all.Results), previewKept)]
	for _, id := range p.Open {
		if !slices.Contains(all.Open, id) {
			all.Open = append(all.Open, id)
		}
	}
	all.Machines = max(all.Machines, p.Machines) // the same machines are in many portions
	return all
}

type issueAddCmd struct {
	Title         string `required:"" help:"What it is, on one line." placeholder:"TEXT"`
	Link          string `required:"" help:"Address of the bug." placeholder:"URL"`
	Owner         string `required:"" help:"Who sees to it." placeholder:"NAME"`
	Expires       string `help:"From when on it recognises nothing, such as 2026-12-31." placeholder:"TIME"`
	matchFlags    `embed:""`
	HidesBlockers bool   `help:"What it recognises does not keep a campaign from being approved, also where it is a blocker."`
	Reason        string `help:"Why." placeholder:"TEXT"`
	DryRun        bool   `help:"Only say what it would recognise."`
	formatFlag    `embed:""`
}

func (c *issueAddCmd) Run(ctx context.Context, std streams) error {
	expires, err := dueTime(c.Expires)
	if err != nil {
		return err
	}
	api, err := connect()
	if err != nil {
		return err
	}
	m := c.apply(cert.IssueMatch{})
	if c.DryRun {
		return previewIssue(ctx, std, api, m, c.formatFlag, previewPatience)
	}
	k, err := api.SaveIssue(ctx, cert.KnownIssue{Title: c.Title, Link: c.Link, Owner: c.Owner, Expires: expires, Match: m, HidesBlockers: c.HidesBlockers, Reason: c.Reason})
	return c.showSaved(std, k, err)
}

type issueEditCmd struct {
	Issue         string  `arg:"" help:"Id of the known issue."`
	Title         *string `help:"What it is, on one line." placeholder:"TEXT"`
	Link          *string `help:"Address of the bug." placeholder:"URL"`
	Owner         *string `help:"Who sees to it." placeholder:"NAME"`
	Expires       *string `help:"From when on it recognises nothing, such as 2026-12-31; never if empty." placeholder:"TIME"`
	matchFlags    `embed:""`
	HidesBlockers *bool  `negatable:"" help:"What it recognises does not keep a campaign from being approved, also where it is a blocker."`
	Reason        string `help:"Why." placeholder:"TEXT"`
	DryRun        bool   `help:"Only say what it would recognise."`
	formatFlag    `embed:""`
}

func (c *issueEditCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	k, err := api.Issue(ctx, c.Issue)
	if err != nil {
		return err
	}
	k.Title, k.Link, k.Owner = given(c.Title, k.Title), given(c.Link, k.Link), given(c.Owner, k.Owner)
	if c.Expires != nil {
		if k.Expires, err = dueTime(*c.Expires); err != nil {
			return err
		}
	}
	if c.HidesBlockers != nil {
		k.HidesBlockers = *c.HidesBlockers
	}
	k.Match, k.Reason = c.apply(k.Match), c.Reason
	if c.DryRun {
		return previewIssue(ctx, std, api, k.Match, c.formatFlag, previewPatience)
	}
	saved, err := api.SaveIssue(ctx, k)
	return c.showSaved(std, saved, err)
}

func given(text *string, otherwise string) string {
	if text == nil {
		return otherwise
	}
	return *text
}

type issueCloseCmd struct {
	Issue      string `arg:"" help:"Id of the known issue."`
	Reason     string `required:"" help:"Why, such as what fixed it." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *issueCloseCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	k, err := api.CloseIssue(ctx, c.Issue, c.Reason)
	return c.showSaved(std, k, err)
}

type issueRerunCmd struct {
	Issue      string `arg:"" help:"Id of the known issue."`
	Reason     string `required:"" help:"Why, such as what fixed it." placeholder:"TEXT"`
	formatFlag `embed:""`
}

func (c *issueRerunCmd) Run(ctx context.Context, std streams) error {
	api, err := connect()
	if err != nil {
		return err
	}
	out, err := api.RerunIssue(ctx, c.Issue, c.Reason)
	return c.showRetried(std, out, err)
}
