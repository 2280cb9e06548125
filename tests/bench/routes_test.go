package bench

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/server"
	"certlab/internal/server/api"
	"certlab/internal/server/web"
	"certlab/tests/bench/report"
)

// A request is what somebody asks of the service. path differs from one time to the next, as people's do.
type request struct {
	name  string // the route's pattern and, where there are several of it, what is special
	path  func(l storedLab, n int) string
	agent bool // an agent asks
	bytes bool // the answer is an archive's content: what it costs is how large the archive is
}

func at(path string) func(storedLab, int) string {
	return func(storedLab, int) string { return path }
}

func with(format string, arg func(l storedLab, n int) any) func(storedLab, int) string {
	return func(l storedLab, n int) string { return fmt.Sprintf(format, arg(l, n)) }
}

// ids of the copies, spread over all of them.
func someRun(l storedLab, n int) any        { return fmt.Sprintf("r%026d", n*7919%(l.machines*l.runs)+1) }
func someSubmission(l storedLab, n int) any { return "s" + someRun(l, n).(string)[1:] }
func someMachine(l storedLab, n int) any    { return fmt.Sprintf("m%026d", n*7919%l.machines+1) }
func real(l storedLab, _ int) any           { return l.real }

// someJob is a full job id; its beginning is one of area's.
func someJob(l storedLab, n int) any {
	n = n * 7919 % l.jobs
	area := areas[n%len(areas)]
	return url.QueryEscape(fmt.Sprintf("com.canonical.certification::%s/check_%s_automated_%d", area, area, n))
}

func someArea(l storedLab, n int) any {
	return url.QueryEscape("com.canonical.certification::" + areas[n%min(len(areas), l.jobs)])
}
func somePlan(_ storedLab, n int) any {
	return fmt.Sprintf("com.canonical.certification::plan-%d", n%12)
}

// deep is a cursor somewhere in a list of runs, submissions or results.
func deep(kind string) func(storedLab, int) any {
	return func(l storedLab, n int) any {
		text := fmt.Sprintf("%s.%d", kind, n*7919%(l.machines*l.runs)+1)
		if kind == "x" {
			text += fmt.Sprintf(".%d", n%l.jobs)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
}

// requests are all that a person, a program or an agent reads. TestEveryRouteThatReadsIsMeasured finds what is missing.
var requests = []request{
	{name: "GET /{$}", path: at("/")},
	{name: "GET /machines", path: at("/machines")},
	{name: "GET /machines/{machine}", path: with("/machines/%s", someMachine)},
	{name: "GET /runs", path: at("/runs")},
	{name: "GET /runs, failed", path: at("/runs?state=failed")},
	{name: "GET /runs, running", path: at("/runs?state=running")},
	{name: "GET /runs, a page deep in the list", path: with("/runs?cursor=%s", deep("r"))},
	{name: "GET /runs/{run}", path: with("/runs/%s", someRun)},
	{name: "GET /submissions", path: at("/submissions")},
	{name: "GET /submissions, a page deep in the list", path: with("/submissions?cursor=%s", deep("s"))},
	{name: "GET /submissions/{submission}", path: with("/submissions/%s", someSubmission)},
	{name: "GET /submissions/{submission}, failed results", path: with("/submissions/%s?outcome=fail", someSubmission)},
	{name: "GET /submissions/{submission}, of 801 results", path: with("/submissions/%s", real)},
	{name: "GET /submissions/{submission}/results/{index}", path: with("/submissions/%s/results/3", someSubmission), bytes: true},
	{name: "GET /submissions/{submission}/results/{index}, with a log", path: with("/submissions/%s/results/400", real), bytes: true},
	{name: "GET /login", path: at("/login")},
	{name: "GET /style.css", path: at("/style.css")},
	{name: "GET /favicon.ico", path: at("/favicon.ico")},
	{name: "GET /api/v1/site", path: at("/api/v1/site")},
	{name: "GET /api/v1/cas", path: at("/api/v1/cas")},
	{name: "GET /api/v1/openapi.json", path: at("/api/v1/openapi.json")},
	{name: "GET /api/v1/machines", path: at("/api/v1/machines")},
	{name: "GET /api/v1/machines, 1000 rows", path: at("/api/v1/machines?limit=1000")},
	{name: "GET /api/v1/machines/{machine}", path: with("/api/v1/machines/%s", someMachine)},
	{name: "GET /api/v1/machines/{machine}, by hostname", path: with("/api/v1/machines/machine-%d", func(l storedLab, n int) any { return n%l.machines + 1 })},
	{name: "GET /api/v1/runs", path: at("/api/v1/runs")},
	{name: "GET /api/v1/runs, of a machine", path: with("/api/v1/runs?machine=%s", someMachine)},
	{name: "GET /api/v1/runs, of a plan", path: with("/api/v1/runs?plan=%s", somePlan)},
	{name: "GET /api/v1/runs, failed ones of a plan", path: with("/api/v1/runs?state=failed&plan=%s", somePlan)},
	{name: "GET /api/v1/runs, by how they came about", path: at("/api/v1/runs?origin=interactive")},
	{name: "GET /api/v1/runs, 1000 rows", path: at("/api/v1/runs?limit=1000")},
	{name: "GET /api/v1/runs/{run}", path: with("/api/v1/runs/%s", someRun)},
	{name: "GET /api/v1/submissions", path: at("/api/v1/submissions")},
	{name: "GET /api/v1/submissions, of a machine", path: with("/api/v1/submissions?machine=%s", someMachine)},
	{name: "GET /api/v1/submissions, of a plan", path: with("/api/v1/submissions?plan=%s", somePlan)},
	{name: "GET /api/v1/submissions, of a plan that nobody has run", path: at("/api/v1/submissions?plan=com.example::none")},
	{name: "GET /api/v1/submissions, unreadable", path: at("/api/v1/submissions?index_state=unreadable")},
	{name: "GET /api/v1/submissions, 1000 rows", path: at("/api/v1/submissions?limit=1000")},
	{name: "GET /api/v1/submissions/{submission}", path: with("/api/v1/submissions/%s", someSubmission)},
	{name: "GET /api/v1/submissions/{submission}/archive", path: with("/api/v1/submissions/%s/archive", real), bytes: true},
	{name: "GET /api/v1/submissions/{submission}/results/{index}", path: with("/api/v1/submissions/%s/results/7", someSubmission)},
	{name: "GET /api/v1/submissions/{submission}/results/{index}/log", path: with("/api/v1/submissions/%s/results/400/log", real), bytes: true},
	{name: "GET /api/v1/submissions/{submission}/attachments", path: with("/api/v1/submissions/%s/attachments", someSubmission)},
	{name: "GET /api/v1/results", path: at("/api/v1/results")},
	{name: "GET /api/v1/results, of a job", path: with("/api/v1/results?job=%s", someJob)},
	{name: "GET /api/v1/results, of an area's jobs", path: with("/api/v1/results?job=%s", someArea)},
	{name: "GET /api/v1/results, failed", path: at("/api/v1/results?outcome=fail")},
	{name: "GET /api/v1/results, crashed", path: at("/api/v1/results?outcome=crash")},
	{name: "GET /api/v1/results, with an outcome that none has", path: at("/api/v1/results?outcome=hold")},
	{name: "GET /api/v1/results, crashes of a job", path: with("/api/v1/results?outcome=crash&job=%s", someJob)},
	{name: "GET /api/v1/results, failures of an area's jobs", path: with("/api/v1/results?outcome=fail&job=%s", someArea)},
	{name: "GET /api/v1/results, failed blockers", path: at("/api/v1/results?outcome=fail&certification_status=blocker")},
	{name: "GET /api/v1/results, failures on a machine", path: with("/api/v1/results?outcome=fail&machine=%s", someMachine)},
	{name: "GET /api/v1/results, a job on a machine", path: func(l storedLab, n int) string {
		return fmt.Sprintf("/api/v1/results?machine=%s&job=%s", someMachine(l, n), someJob(l, n))
	}},
	{name: "GET /api/v1/results, crashes in a plan", path: with("/api/v1/results?outcome=crash&plan=%s", somePlan)},
	{name: "GET /api/v1/results, a job in a plan", path: func(l storedLab, n int) string {
		return fmt.Sprintf("/api/v1/results?plan=%s&job=%s", somePlan(l, n), someJob(l, n))
	}},
	{name: "GET /api/v1/results, failures since a day", path: with("/api/v1/results?outcome=fail&since=%s", func(l storedLab, n int) any {
		return time.UnixMicro(1700000000000000 + int64(n*7919%(l.machines*l.runs))*600000000).UTC().Format(time.RFC3339)
	})},
	{name: "GET /api/v1/results, a page deep in the list", path: with("/api/v1/results?cursor=%s", deep("x"))},
	{name: "GET /api/v1/results, failures deep in the list", path: with("/api/v1/results?outcome=fail&cursor=%s", deep("x"))},
	{name: "GET /api/v1/results, 801 of one submission", path: with("/api/v1/results?limit=1000&submission=%s", real)},
	{name: "GET /api/v1/results, 1000 rows", path: at("/api/v1/results?limit=1000")},
	{name: "GET /machines, that match a query", path: at("/machines?query=arch%3Damd64%2Cstate!%3Dfree")},
	{name: "GET /reservations", path: at("/reservations")},
	{name: "GET /api/v1/fleet", path: at("/api/v1/fleet")},
	{name: "GET /api/v1/machines, that match a query", path: at("/api/v1/machines?query=arch%3Damd64%2Cstate!%3Dfree")},
	{name: "GET /api/v1/machines/{machine}/events", path: with("/api/v1/machines/%s/events", someMachine)},
	{name: "GET /api/v1/machines/{machine}/dossier", path: with("/api/v1/machines/%s/dossier", someMachine)},
	{name: "GET /api/v1/machines/{machine}/dossier/history", path: with("/api/v1/machines/%s/dossier/history", someMachine)},
	{name: "GET /api/v1/zones/{zone}/dossier", path: at("/api/v1/zones/z1/dossier")},
	{name: "GET /api/v1/zones/{zone}/dossier/history", path: at("/api/v1/zones/z1/dossier/history")},
	{name: "GET /api/v1/dossiers.csv", path: at("/api/v1/dossiers.csv")},
	{name: "GET /api/v1/reservations", path: at("/api/v1/reservations?state=open")},
	{name: "GET /api/v1/events", path: at("/api/v1/events")},
	{name: "GET /api/v1/pauses", path: at("/api/v1/pauses")},
	{name: "GET /api/v1/incidents", path: at("/api/v1/incidents")},
	{name: "GET /api/v1/notices", path: at("/api/v1/notices")},
	{name: "GET /api/v1/usage", path: at("/api/v1/usage")},
	{name: "GET /metrics", path: at("/metrics")},
	{name: "GET /health/live", path: at("/health/live")},
	{name: "GET /health/ready", path: at("/health/ready")},
	{name: "GET /agent/v1/poll", path: at("/agent/v1/poll?wait=0"), agent: true},
}

func someFinding(l storedLab, n int) any { return l.findings[n%len(l.findings)] }

// campaignRequests are those about campaigns.
var campaignRequests = []request{
	{name: "GET /campaigns", path: at("/campaigns")},
	{name: "GET /campaigns/{campaign}", path: at("/campaigns/" + campaignName)},
	{name: "GET /campaigns/{campaign}/findings", path: at("/campaigns/" + campaignName + "/findings")},
	{name: "GET /campaigns/{campaign}/machines", path: at("/campaigns/" + campaignName + "/machines")},
	{name: "GET /findings/{finding}", path: with("/findings/%s", someFinding)},
	{name: "GET /api/v1/campaigns", path: at("/api/v1/campaigns")},
	{name: "GET /api/v1/campaigns/{campaign}", path: at("/api/v1/campaigns/" + campaignName)},
	{name: "GET /api/v1/campaigns/{campaign}/targets", path: at("/api/v1/campaigns/" + campaignName + "/targets")},
	{name: "GET /api/v1/campaigns/{campaign}/findings", path: at("/api/v1/campaigns/" + campaignName + "/findings?limit=100")},
	{name: "GET /api/v1/campaigns/{campaign}/findings, open ones of a job", path: func(l storedLab, n int) string {
		return "/api/v1/campaigns/" + campaignName + "/findings?open=true&job=" + someJob(l, n).(string)
	}},
	{name: "GET /api/v1/campaigns/{campaign}/events", path: at("/api/v1/campaigns/" + campaignName + "/events")},
	{name: "GET /api/v1/campaigns/{campaign}/decisions", path: at("/api/v1/campaigns/" + campaignName + "/decisions")},
	{name: "GET /api/v1/findings/{finding}", path: with("/api/v1/findings/%s", someFinding)},
	{name: "GET /api/v1/decisions", path: at("/api/v1/decisions")},
	{name: "GET /api/v1/issues", path: at("/api/v1/issues")},
	{name: "GET /api/v1/policies", path: at("/api/v1/policies")},
	{name: "GET /api/v1/policies/{policy}", path: at("/api/v1/policies/sru")},
	{name: "GET /api/v1/kernels", path: at("/api/v1/kernels")},
	{name: "GET /api/v1/runs/{run}/timeline", path: with("/api/v1/runs/%s/timeline", someRun)},
}

// notMeasured are routes that read and whose answer's size and time are what the caller asks for.
var notMeasured = map[string]string{
	"GET /api/v1/runs/{run}/attempts/{attempt}/files/{sha256}":    "a file as it is, like an archive",
	"GET /api/v1/submissions/{submission}/attachments/{index}":    "read from the archive like a log",
	"GET /reservations/{reservation}":                             "its holder looks at it",
	"GET /api/v1/reservations/{reservation}":                      "its holder waits for it",
	"GET /api/v1/machines/{machine}/console":                      "the site's program writes it",
	"GET /api/v1/campaigns/{campaign}/verdict":                    "one row",
	"GET /api/v1/campaigns/{campaign}/export":                     "everything of a campaign, as a file",
	"GET /api/v1/issues/{issue}":                                  "one row",
	"GET /enrol/v1/agent/{architecture}":                          "once for each deployment",
	"GET /api/v1/tokens":                                          "as many rows as there are people",
	"HEAD /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}": "measured with the deliveries",
	"GET /agent/v1/runs/{run}/attempts/{attempt}/files/{sha256}":  "measured with the deliveries",
}

// TestEveryRouteThatReadsIsMeasured compares the requests with the service's table of routes.
func TestEveryRouteThatReadsIsMeasured(t *testing.T) {
	t.Parallel()
	measured := map[string]bool{}
	for _, r := range append(requests[:len(requests):len(requests)], campaignRequests...) {
		pattern, _, _ := strings.Cut(r.name, ", ")
		measured[pattern] = true
	}
	known := map[string]bool{}
	for _, r := range server.New(server.Options{API: &api.API{}, Web: &web.Web{}, Logger: slog.New(slog.DiscardHandler)}).Routes() {
		name := r.Method + " " + r.Path
		known[name] = true
		if r.Method == http.MethodGet && !measured[name] {
			require.NotEmpty(t, notMeasured[name], "%s is not measured", name)
		}
	}
	for name := range measured {
		require.True(t, known[name], "there is no route %s", name)
	}
}

// A labClient asks a service for pages, as a person with a token and as an agent.
type labClient struct {
	service *service
	token   string
	agent   *http.Client
}

func newLabClient(s *service, a *agent) labClient {
	return labClient{s, s.token(cert.Viewer), a.client(s)}
}

// get makes a request, and returns the size of the answer and how long it took to have it whole.
func (c labClient) get(r request, path string) (int, time.Duration) {
	req, err := http.NewRequest(http.MethodGet, c.service.url+path, nil)
	require.NoError(c.service.t, err)
	client := c.agent
	if !r.agent {
		req.Header.Set("Authorization", "Bearer "+c.token)
		client = c.service.http
	}
	started := time.Now()
	resp, err := client.Do(req)
	require.NoError(c.service.t, err, path)
	body, err := io.ReadAll(resp.Body)
	took := time.Since(started)
	resp.Body.Close()
	require.NoError(c.service.t, err, path)
	require.Equal(c.service.t, http.StatusOK, resp.StatusCode, "%s: %s", path, body)
	return len(body), took
}

// TestRequestsAreAnswered makes every request of a small lab, so that what is measured is known to work.
func TestRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	l := storedLab{machines: 12, runs: 5, jobs: 20}
	l.data.Dir = filepath.Join(t.TempDir(), "data")
	l.make(t)
	l.campaign(t)
	l.compare(t)
	a := newAgent(t, 0)
	c := newLabClient(startService(t, l.data.Dir, a), a)
	var all cert.ResultList
	req, err := http.NewRequest(http.MethodGet, c.service.url+"/api/v1/results?limit=1000&outcome=fail", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.service.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&all))
	require.Greater(t, len(all.Results), 80, "the archive's, and some of the copies'")
	for _, r := range append(requests[:len(requests):len(requests)], campaignRequests...) {
		size, _ := c.get(r, r.path(l, 3))
		require.Positive(t, size, r.name)
	}
}

// BenchmarkStoredResults asks a service with ten million stored results for everything that a person, a program or an agent reads.
func BenchmarkStoredResults(b *testing.B) {
	l := largeLab(b)
	a := newAgent(b, 0)
	s := startService(b, l.data.Dir, a) // which may find something to put in order the first time
	info, err := os.Stat(l.data.Database())
	require.NoError(b, err)
	report.Add(b, report.Row{Measure: "10 million results: size of the database", Value: report.MiB(info.Size()), Unit: "MiB",
		Also: fmt.Sprintf("%.0f bytes a result", float64(info.Size())/float64(l.results()))})

	var starts []time.Duration
	for range 5 {
		s.stop()
		starts = append(starts, s.start())
	}
	report.Add(b, report.Row{Measure: "10 million results: start of certlabd, until it is ready", Value: report.Milliseconds(report.Percentile(starts, 50)), Unit: "ms",
		Also: fmt.Sprintf("slowest of 5: %.0f ms", report.Milliseconds(report.Percentile(starts, 100))), Goal: report.AtMost(1000)})

	c := newLabClient(s, a)
	const times = 200
	for _, r := range append(requests[:len(requests):len(requests)], campaignRequests...) {
		c.get(r, r.path(l, times))
		var took []time.Duration
		for n := range times {
			_, t := c.get(r, r.path(l, n))
			took = append(took, t)
		}
		report.Add(b, report.Row{Measure: "10 million results: p99 of a request", Case: r.name, Value: report.Milliseconds(report.Percentile(took, 99)), Unit: "ms",
			Also: fmt.Sprintf("p50 %.1f ms", report.Milliseconds(report.Percentile(took, 50))), Goal: report.AtMost(100)})
	}
	_, peak := s.memory()
	report.Add(b, report.Row{Measure: "10 million results: peak memory of certlabd", Value: report.MiB(peak), Unit: "MiB"})

	path := filepath.Join(b.TempDir(), "backup.tar")
	started := time.Now()
	var made cert.Backup
	s.call(s.root, http.MethodPost, "http://local/api/v1/admin/backup", cert.BackupRequest{Path: path}, &made)
	took := time.Since(started)
	copied, err := copyFile(l.data.Database(), filepath.Join(b.TempDir(), "copy"))
	require.NoError(b, err)
	report.Add(b, report.Row{Measure: "10 million results: time of a backup", Value: took.Seconds(), Unit: "s", Also: fmt.Sprintf("%.0f MiB", report.MiB(made.Size)),
		Against: "copying the database's file and syncing it", Baseline: copied.Seconds()})
}

// copyFile copies a file, makes it durable, and says how long that took.
func copyFile(from, to string) (time.Duration, error) {
	started := time.Now()
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return 0, err
	}
	err = out.Sync()
	return time.Since(started), err
}
