package review

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/sqlite"
)

const (
	previewTime    = 700 * time.Millisecond // that one portion takes
	previewWindow  = 2000                   // submissions that are looked at together
	previewResults = 50                     // that are shown
	previewOpen    = 1000                   // ids of findings that are named
)

// PreviewIssue says what a rule would recognise: of the stored results that failed, the newest first, as far as it comes in the time that there is.
// With a cursor it goes on, and counts from there.
func (r *Review) PreviewIssue(ctx context.Context, m cert.IssueMatch, cursor string) (cert.IssuePreview, error) {
	out := cert.IssuePreview{ByJob: map[string]int{}, Results: []cert.IssueHit{}, Open: []string{}}
	if err := m.Validate(); err != nil {
		return out, err
	}
	before, err := parsePreview(cursor)
	if err != nil {
		return out, err
	}
	p, err := r.newPreview(ctx, m)
	if err != nil {
		return out, err
	}
	until := time.Now().Add(previewTime)
	machines := make(map[string]bool)
	if cursor == "" {
		if err := p.open(ctx, &out); err != nil {
			return out, err
		}
	}
	for {
		runs, err := r.DB.PastRuns(ctx, before, previewWindow)
		if err != nil {
			return out, err
		}
		if len(runs) == 0 {
			out.Complete = true
			break
		}
		next, err := p.window(ctx, runs, until, &out, machines)
		if err != nil {
			return out, err
		}
		before = next
		if time.Now().After(until) {
			out.Cursor = base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("preview.%d", before)))
			break
		}
	}
	out.Machines = len(machines)
	return out, nil
}

func parsePreview(cursor string) (before int64, err error) {
	if cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		_, err = fmt.Sscanf(string(text), "preview.%d", &before)
	}
	if err != nil || before <= 0 {
		return 0, cert.Errorf(cert.Invalid, "cannot continue the preview: the cursor is not one that it gave")
	}
	return before, nil
}

// A preview is one rule, ready to be asked.
type preview struct {
	r       *Review
	match   cert.IssueMatch
	matcher *judge.Matcher
	rest    *judge.Matcher // the rule without its log: asked first
	jobs    map[int64]sqlite.JobName
	numbers []int64 // of jobs; nil: all
	fleet   map[string]*cert.FleetMachine
	logs    map[int64]string
}

func (r *Review) newPreview(ctx context.Context, m cert.IssueMatch) (*preview, error) {
	p := &preview{r: r, match: m, jobs: map[int64]sqlite.JobName{}, logs: map[int64]string{}}
	p.matcher = judge.CompileIssues([]cert.KnownIssue{{ID: "preview", Match: m}}, r.Now())
	if len(p.matcher.Problems) > 0 {
		return nil, cert.Errorf(cert.Invalid, "%s", p.matcher.Problems[0])
	}
	p.rest = p.matcher
	if m.Log != "" {
		without := m
		without.Log = ""
		if without.Job == "" && without.Template == "" {
			p.rest = nil
		} else if rest := judge.CompileIssues([]cert.KnownIssue{{ID: "preview", Match: without}}, r.Now()); len(rest.Problems) == 0 {
			p.rest = rest
		} else {
			p.rest = nil
		}
	}
	names, err := r.DB.JobNames(ctx)
	if err != nil {
		return nil, err
	}
	if m.Job != "" || m.Template != "" {
		p.numbers = []int64{}
	}
	for _, j := range names {
		if (m.Job == "" || cert.MatchJob(m.Job, j.Job)) && (m.Template == "" || m.Template == j.Template) {
			p.jobs[j.Number] = j
			if p.numbers != nil {
				p.numbers = append(p.numbers, j.Number)
			}
		}
	}
	p.fleet, err = r.fleet(ctx, m.Machines != "")
	return p, err
}

// window looks at the failures of some submissions, the newest first. It returns the number of the last submission that it has looked at.
func (p *preview) window(ctx context.Context, runs []sqlite.PastRun, until time.Time, out *cert.IssuePreview, machines map[string]bool) (int64, error) {
	byNumber := make(map[int64]*sqlite.PastRun, len(runs))
	for n := range runs {
		byNumber[runs[n].Seq] = &runs[n]
	}
	lo, hi := runs[len(runs)-1].Seq, runs[0].Seq
	failures, err := p.r.DB.PastFailures(ctx, lo, hi, p.numbers)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(failures, func(a, b sqlite.PastFailure) int {
		if a.Submission != b.Submission {
			return int(b.Submission - a.Submission)
		}
		return a.Index - b.Index
	})
	for n, f := range failures {
		if n%64 == 0 && p.match.Log != "" && time.Now().After(until) && (n == 0 || failures[n-1].Submission != f.Submission) {
			return f.Submission + 1, nil // it begins with this one
		}
		run, job := byNumber[f.Submission], p.jobs[f.Job]
		if run == nil || job.Number == 0 {
			continue
		}
		out.Examined++
		fits, err := p.fits(ctx, run, &job, &f)
		if err != nil {
			return 0, err
		}
		if !fits {
			continue
		}
		out.Matches++
		out.ByJob[job.Job]++
		machines[run.Machine] = true
		if len(out.Results) < previewResults {
			hit := cert.IssueHit{Submission: run.Submission, Index: f.Index, Job: job.Job, Outcome: f.Outcome, Machine: run.Machine, Hostname: run.Hostname,
				Kernel: run.Kernel, At: run.Received, Campaign: run.Campaign}
			if hit.Excerpt, err = p.log(ctx, f.Log); err != nil {
				return 0, err
			}
			out.Results = append(out.Results, hit)
		}
	}
	return lo, nil
}

func (p *preview) fits(ctx context.Context, run *sqlite.PastRun, job *sqlite.JobName, f *sqlite.PastFailure) (bool, error) {
	h := judge.Hit{Job: job.Job, Template: job.Template, Plan: run.Plan, Outcome: f.Outcome, Machine: p.fleet[run.Machine], Series: run.Series, Version: run.Kernel}
	if s := run.Subject; s != nil {
		h.Series, h.Source, h.Version = s.Series, s.Source, s.Version
	}
	if p.rest != nil && p.rest.Recognise(h) == nil {
		return false, nil
	}
	if p.match.Log == "" {
		return true, nil
	}
	var err error
	if h.Log, err = p.log(ctx, f.Log); err != nil {
		return false, err
	}
	return p.matcher.Recognise(h) != nil, nil
}

// maxLogsHeld bounds the texts that a preview remembers: alike failures share one.
const maxLogsHeld = 2000

func (p *preview) log(ctx context.Context, number int64) (string, error) {
	if number == 0 {
		return "", nil
	}
	text, ok := p.logs[number]
	if ok {
		return text, nil
	}
	text, err := p.r.DB.LogText(ctx, number)
	if err == nil && len(p.logs) < maxLogsHeld {
		p.logs[number] = text
	}
	return text, err
}

// open names the findings of campaigns that are not final and that the rule would recognise.
func (p *preview) open(ctx context.Context, out *cert.IssuePreview) error {
	campaigns := make(map[string]cert.Campaign)
	all, err := p.r.DB.OpenCampaigns(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		campaigns[c.ID] = c
	}
	until, after := time.Now().Add(previewTime/2), ""
	for time.Now().Before(until) && len(out.Open) < previewOpen {
		page, err := p.r.DB.FindingsOfOpen(ctx, after, relinkStep)
		if err != nil || len(page) == 0 {
			return err
		}
		for n := range page {
			f := &page[n]
			after = f.ID
			c := campaigns[f.Campaign]
			log := ""
			if p.match.Log != "" && f.Submission != "" && f.Index >= 0 {
				if log, err = p.r.DB.Excerpt(ctx, f.Submission, f.Index); err != nil {
					return err
				}
			}
			if len(out.Open) < previewOpen && p.matcher.Recognise(hitOf(&c, f, log, p.fleet[f.Machine])) != nil {
				out.Open = append(out.Open, f.ID)
			}
		}
	}
	return nil
}
