// Package web is the controller's pages for people: machines, runs, submissions and results, to look at. They are plain HTML that works
// without JavaScript, asks nothing of other hosts, and shows what machines say as text and never as markup.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/order"
	"certlab/internal/server/route"
	"certlab/internal/sqlite"
)

// Policy is the Content-Security-Policy of every answer: only our style sheet and our forms.
const Policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// SessionCookie is the name of the cookie that a browser's session is kept in.
const SessionCookie = "__Host-certlab"

const sessionLife = 12 * time.Hour

// Store is what the pages need of the database.
type Store interface {
	Runs(context.Context, sqlite.RunFilter, sqlite.Page) ([]cert.Run, string, error)
	Run(ctx context.Context, id string) (cert.Run, error)
	RunCounts(context.Context) (map[string]int, error)
	Submissions(context.Context, sqlite.SubmissionFilter, sqlite.Page) ([]cert.Submission, string, error)
	Submission(ctx context.Context, id string) (cert.Submission, error)
	Results(context.Context, sqlite.ResultFilter, sqlite.Page) ([]cert.Result, string, error)
	Result(ctx context.Context, submission string, index int) (cert.Result, error)
	Attachments(ctx context.Context, submission string, p sqlite.Page) ([]cert.Attachment, string, error)
	TokenByHash(ctx context.Context, hash string, now time.Time) (cert.Token, error)
	TokenBySession(ctx context.Context, hash string, now time.Time) (cert.Token, error)
	Redeem(ctx context.Context, codeHash, hash string, now time.Time) (cert.Token, error)
	AddSession(ctx context.Context, hash, token string, created, expires time.Time) error
	RemoveSession(ctx context.Context, hash string) error
	FleetStore
}

// Lab is what they need of the loops.
type Lab interface {
	Desired() order.ControllerDesired
	Refusals() []cert.Refusal
	Space() (free int64, low bool)
	Problems() []control.Problem
	CopyLog(ctx context.Context, w io.Writer, sha, job string) error
}

// Clocks knows what of a machine is known while the service runs.
type Clocks interface {
	Observe(*cert.Machine, []cert.Refusal)
}

// A Web answers requests for pages. All fields must be set.
type Web struct {
	Store     Store
	Lab       Lab
	Fleet     Fleet
	Clocks    Clocks
	Campaigns Campaigns
	Review    Review
	Logger    *slog.Logger
	Now       func() time.Time
}

//go:embed templates
var files embed.FS

var pages = parse()

func parse() map[string]*template.Template {
	funcs := template.FuncMap{
		"time": formatTime, "bytes": formatBytes, "counts": sortedCounts, "duration": formatDuration, "class": outcomeClass, "progress": progress, "interrupted": interrupted,
		"hardware": hardware, "note": note, "join": strings.Join, "name": outcomeName, "days": daysText,
		"settled": settledTargets, "blocked": provable, "others": otherFindings, "names": someNames, "first": firstOf, "counted": countedText, "stands": findingStands, "took": phaseTook,
	}
	out := make(map[string]*template.Template)
	entries, err := files.ReadDir("templates")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".html")
		if name == "layout" || name == e.Name() {
			continue
		}
		out[name] = template.Must(template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/"+e.Name()))
	}
	return out
}

// view is what a page's template gets.
type view struct {
	Title  string
	Site   string
	Caller route.Caller
	Here   string // which part of the site
	Next   string // link to the next page; empty on the last
	Data   any
	// Refresh makes the browser load the page again every few seconds.
	Refresh bool
}

func (p *Web) render(w http.ResponseWriter, r *route.Request, status int, page string, v view) error {
	v.Site, v.Caller = p.Lab.Desired().SiteName, r.Caller
	if v.Site == "" {
		v.Site = "Certlab"
	}
	var out bytes.Buffer
	if err := pages[page].Execute(&out, v); err != nil {
		return fmt.Errorf("cannot make the page %s: %w", page, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // whoever asked may have gone
	return nil
}

// ErrorPage is the page for an error. message is HTML.
func ErrorPage(status int, message string) string {
	return fmt.Sprintf(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>%[1]d %[2]s</title>
<link rel="icon" href="/favicon.ico" type="image/svg+xml"><link rel="stylesheet" href="/style.css"></head>
<body><main><h1>%[2]s</h1><p class="notice">%[3]s</p><p><a href="/">Start page</a></p></main></body></html>
`, status, http.StatusText(status), message)
}

// Style is GET /style.css.
func (p *Web) Style(w http.ResponseWriter, r *route.Request) error {
	return asset(w, "style.css", "text/css; charset=utf-8")
}

// Icon is GET /favicon.ico, which browsers ask for also where no page names it: the charm's icon, an SVG.
func (p *Web) Icon(w http.ResponseWriter, r *route.Request) error {
	return asset(w, "icon.svg", "image/svg+xml")
}

func asset(w http.ResponseWriter, name, kind string) error {
	text, err := files.ReadFile("templates/" + name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(text)
	return nil
}

const rows = 50

// PageParams are the parameters of pages with lists.
var PageParams = []route.Param{{Name: "cursor", Help: "which page"}}

// RunParams are the parameters of the page of runs.
var RunParams = append([]route.Param{{Name: "state", Enum: cert.States, Help: "only runs in this state"}}, PageParams...)

// ResultParams are the parameters of a submission's page.
var ResultParams = append([]route.Param{
	{Name: "outcome", Help: "only results with this outcome"},
	{Name: "section", Enum: []string{cert.SectionResults, cert.SectionResources, cert.SectionAttachments}, Help: "which jobs"},
}, PageParams...)

func page(r *route.Request) sqlite.Page {
	return sqlite.Page{Limit: rows, Cursor: r.Query.Get("cursor")}
}

// more returns the link to the next page, with the same filters.
func more(r *route.Request, cursor string) string {
	if cursor == "" {
		return ""
	}
	q := url.Values{"cursor": {cursor}}
	for name, values := range r.Query {
		if name != "cursor" && values[0] != "" {
			q[name] = values
		}
	}
	return r.URL.Path + "?" + q.Encode()
}

// Home is GET /.
func (p *Web) Home(w http.ResponseWriter, r *route.Request) error {
	machines, err := p.Fleet.Machines(r.Context())
	if err != nil {
		return err
	}
	machines = byName(machines)
	all := len(machines)
	machines = machines[:min(all, rows)]
	fleet, err := p.Fleet.Summary(r.Context())
	if err != nil {
		return err
	}
	runs, next, err := p.Store.Runs(r.Context(), sqlite.RunFilter{}, sqlite.Page{Limit: 20})
	if err != nil {
		return err
	}
	counts, err := p.Store.RunCounts(r.Context())
	if err != nil {
		return err
	}
	free, low := p.Lab.Space()
	return p.render(w, r, http.StatusOK, "home", view{Title: "Lab", Here: "home", Data: struct {
		Machines []cert.FleetMachine
		All      int
		Fleet    cert.FleetSummary
		Runs     []cert.Run
		More     bool
		Counts   map[string]int
		Free     int64
		Low      bool
		Refused  []cert.Refusal
		Problems []control.Problem
	}{machines, all, fleet, runs, next != "", counts, free, low, p.Lab.Refusals(), p.Lab.Problems()}})
}

// Runs is GET /runs.
func (p *Web) Runs(w http.ResponseWriter, r *route.Request) error {
	runs, next, err := p.Store.Runs(r.Context(), sqlite.RunFilter{State: r.Query.Get("state")}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "runs", view{Title: "Runs", Here: "runs", Next: more(r, next), Data: struct {
		Runs   []cert.Run
		State  string
		States []string
	}{runs, r.Query.Get("state"), cert.States}})
}

// Run is GET /runs/{run}.
func (p *Web) Run(w http.ResponseWriter, r *route.Request) error {
	run, err := p.Store.Run(r.Context(), r.PathValue("run"))
	if err != nil {
		return err
	}
	data := struct {
		cert.Run
		Timeline cert.Timeline
		Problem  string
	}{Run: run}
	if data.Timeline, err = p.Campaigns.Timeline(r.Context(), run.ID); err != nil {
		data.Problem = err.Error()
	}
	return p.render(w, r, http.StatusOK, "run", view{Title: "Run of " + run.Spec.Plan, Here: "runs", Data: data, Refresh: run.State == cert.Running})
}

// Submissions is GET /submissions.
func (p *Web) Submissions(w http.ResponseWriter, r *route.Request) error {
	subs, next, err := p.Store.Submissions(r.Context(), sqlite.SubmissionFilter{}, page(r))
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "submissions", view{Title: "Submissions", Here: "submissions", Next: more(r, next), Data: subs})
}

// Submission is GET /submissions/{submission}.
func (p *Web) Submission(w http.ResponseWriter, r *route.Request) error {
	s, err := p.Store.Submission(r.Context(), r.PathValue("submission"))
	if err != nil {
		return err
	}
	section := r.Query.Get("section")
	if section == "" {
		section = cert.SectionResults
	}
	list, next, err := p.Store.Results(r.Context(), sqlite.ResultFilter{Submission: s.ID, Section: section, Outcome: r.Query.Get("outcome")}, page(r))
	if err != nil {
		return err
	}
	attachments, moreAttachments, err := p.Store.Attachments(r.Context(), s.ID, sqlite.Page{Limit: rows})
	if err != nil {
		return err
	}
	return p.render(w, r, http.StatusOK, "submission", view{Title: submissionTitle(s), Here: "submissions", Next: more(r, next), Data: struct {
		cert.Submission
		Results         []cert.Result
		Section         string
		Sections        []string
		Outcome         string
		Attachments     []cert.Attachment
		MoreAttachments bool
	}{s, list, section, []string{cert.SectionResults, cert.SectionResources, cert.SectionAttachments}, r.Query.Get("outcome"), attachments, moreAttachments != ""}})
}

func submissionTitle(s cert.Submission) string {
	if s.Plan == "" {
		return "Submission " + s.Name
	}
	return "Submission of " + s.Plan
}

// logShown bounds how much of a log is in a page, in bytes. The whole is a link away.
const logShown = 256 << 10

// Result is GET /submissions/{submission}/results/{index}.
func (p *Web) Result(w http.ResponseWriter, r *route.Request) error {
	n, err := strconv.Atoi(r.PathValue("index"))
	if err != nil || n < 0 {
		return cert.Errorf(cert.NotFound, "there is no result %q", r.PathValue("index"))
	}
	res, err := p.Store.Result(r.Context(), r.PathValue("submission"), n)
	if err != nil {
		return err
	}
	s, err := p.Store.Submission(r.Context(), res.Submission)
	if err != nil {
		return err
	}
	log := head{left: logShown}
	problem := ""
	if res.LogSize > 0 {
		if err := p.Lab.CopyLog(r.Context(), &log, s.SHA256, res.ID); err != nil && !errors.Is(err, errFull) {
			problem = "The log cannot be shown: " + err.Error()
		}
	}
	return p.render(w, r, http.StatusOK, "result", view{Title: res.ID, Here: "submissions", Data: struct {
		cert.Result
		Of      cert.Submission
		Log     string
		Cut     bool
		Problem string
	}{res, s, strings.ToValidUTF8(log.String(), "\uFFFD"), log.full, problem}})
}

var errFull = errors.New("enough")

// head keeps the beginning of what is written.
type head struct {
	bytes.Buffer
	left int
	full bool
}

func (h *head) Write(p []byte) (int, error) {
	if len(p) > h.left {
		h.Buffer.Write(p[:h.left])
		h.left, h.full = 0, true
		return 0, errFull
	}
	h.left -= len(p)
	return h.Buffer.Write(p)
}

// LoginParams are the parameters of the login page.
var LoginParams = []route.Param{{Name: "next", Help: "where to go then"}}

type loginForm struct{ Next, Problem string }

// LoginPage is GET /login.
func (p *Web) LoginPage(w http.ResponseWriter, r *route.Request) error {
	return p.render(w, r, http.StatusOK, "login", view{Title: "Log in", Data: loginForm{Next: localPath(r.Query.Get("next"))}})
}

// maxForm bounds a form, in bytes.
const maxForm = 16 << 10

// Login is POST /login, with a token or a code that is good once.
func (p *Web) Login(w http.ResponseWriter, r *route.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return cert.Errorf(cert.Invalid, "cannot read the form")
	}
	secret, next := strings.TrimSpace(r.PostForm.Get("secret")), localPath(r.PostForm.Get("next"))
	now := p.Now()
	var token cert.Token
	err := error(cert.Errorf(cert.Unauthorized, "this is neither a token (%s…) nor a code (%s…)", cert.TokenPrefix, cert.CodePrefix))
	switch {
	case cert.IsSecret(cert.TokenPrefix, secret):
		token, err = p.Store.TokenByHash(r.Context(), cert.HashSecret(secret), now)
	case cert.IsSecret(cert.CodePrefix, secret):
		// The token's own secret is shown to nobody: this browser's session is all that comes of the code.
		token, err = p.Store.Redeem(r.Context(), cert.HashSecret(secret), cert.HashSecret(cert.NewSecret(cert.TokenPrefix)), now)
	}
	if cert.CodeOf(err) == cert.Unauthorized && err != nil {
		p.Logger.Warn("login refused", "from", r.RemoteAddr, "reason", err.Error())
		return p.render(w, r, http.StatusUnauthorized, "login", view{Title: "Log in", Data: loginForm{next, err.Error()}})
	}
	if err != nil {
		return err
	}
	expires := now.Add(sessionLife)
	if token.Expires != nil && token.Expires.Before(expires) {
		expires = *token.Expires
	}
	session := cert.NewSecret(cert.SessionPrefix)
	if err := p.Store.AddSession(r.Context(), cert.HashSecret(session), token.ID, now, expires); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: SessionCookie, Value: session, Path: "/", Expires: expires, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r.Request, next, http.StatusSeeOther)
	return nil
}

// Logout is POST /logout.
func (p *Web) Logout(w http.ResponseWriter, r *route.Request) error {
	if c, err := r.Cookie(SessionCookie); err == nil {
		if err := p.Store.RemoveSession(r.Context(), cert.HashSecret(c.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, &http.Cookie{Name: SessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r.Request, "/login", http.StatusSeeOther)
	return nil
}

// localPath returns path if it leads to this site, else the start page.
func localPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, "\\") {
		return "/"
	}
	return path
}

func formatTime(v any) template.HTML {
	var t time.Time
	switch v := v.(type) {
	case time.Time:
		t = v
	case *time.Time:
		if v == nil {
			return "–"
		}
		t = *v
	}
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC")))
}

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func formatDuration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Millisecond).String()
}

// count is an outcome with its number.
type count struct {
	Outcome string
	N       int
}

// sortedCounts lists outcomes, what needs a look first.
func sortedCounts(c map[string]int) []count {
	out := make([]count, 0, len(c))
	for outcome, n := range c {
		out = append(out, count{outcome, n})
	}
	rank := []string{"fail", "crash", cert.OutcomeLost, cert.OutcomeNoManifest, "not-supported", "skip", "pass"}
	sort.Slice(out, func(i, j int) bool {
		a, b := slices.Index(rank, out[i].Outcome), slices.Index(rank, out[j].Outcome)
		if a != b {
			return a >= 0 && (b < 0 || a < b)
		}
		return out[i].Outcome < out[j].Outcome
	})
	return out
}

// outcomeClass is the CSS class of an outcome or a state.
func outcomeClass(v any) string {
	switch s := fmt.Sprint(v); s {
	case "pass", "completed", "indexed", "free", "approved", "done":
		return "good"
	case "fail", "crash", "failed", "unreadable", cert.OutcomeLost, cert.OutcomeNoManifest, "dirty", "quarantined", "rejected", "blocked", "missing":
		return "bad"
	case "running", "pending", "preparing", "provisioning", "busy", "active", "comparing":
		return "busy"
	}
	return "other"
}

// outcomeName is an outcome in words.
func outcomeName(outcome string) string {
	if outcome == cert.OutcomeNoManifest {
		return "skipped, no manifest"
	}
	return outcome
}

// progress is how far a running run's newest attempt has come; nil for any other run.
func progress(r cert.Run) *cert.Progress {
	if r.State != cert.Running || len(r.Attempts) == 0 {
		return nil
	}
	return &r.Attempts[len(r.Attempts)-1].Progress
}

// interrupted is how often a run was interrupted by what no job asked for.
func interrupted(r cert.Run) int {
	n := 0
	for _, a := range r.Attempts {
		for _, i := range a.Interruptions {
			if !i.Expected {
				n++
			}
		}
	}
	return n
}
