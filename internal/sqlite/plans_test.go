package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	mathbits "math/bits"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// A planner opens connections of SQLite's driver that keep the plan of every query.
type planner struct {
	driver driver.Driver
	dsn    string
	mu     sync.Mutex
	plans  []plan
}

type plan struct {
	query string
	steps []string
}

func (p *planner) Driver() driver.Driver { return p.driver }

func (p *planner) Connect(context.Context) (driver.Conn, error) {
	c, err := p.driver.Open(p.dsn)
	return plannedConn{c, p}, err
}

type plannedConn struct {
	driver.Conn
	p *planner
}

func (c plannedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	inner := c.Conn.(driver.QueryerContext)
	rows, err := inner.QueryContext(ctx, "EXPLAIN QUERY PLAN "+query, args)
	if err != nil {
		return nil, err
	}
	got := plan{query: query}
	step := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(step); err == nil; err = rows.Next(step) {
		got.steps = append(got.steps, step[len(step)-1].(string))
	}
	if rows.Close(); err != io.EOF {
		return nil, err
	}
	c.p.mu.Lock()
	c.p.plans = append(c.p.plans, got)
	c.p.mu.Unlock()
	return inner.QueryContext(ctx, query, args)
}

// planned makes db keep the plans of what it reads.
func planned(t *testing.T, db *DB) *planner {
	p := &planner{driver: db.r.Driver(), dsn: dsn(db.path, "&_pragma=query_only(1)")}
	require.NoError(t, db.r.DB.Close())
	db.r.DB = sql.OpenDB(p)
	return p
}

// fullScan is a step that reads every row of a table that grows with the lab's work.
var fullScan = regexp.MustCompile(`^SCAN (s|r|a|f|runs|submissions|results|attempts|files|attachments)\b`)

// inOrder are queries that walk a whole list from its newest end, and stop when the page is full; and those that count in an index.
var inOrder = regexp.MustCompile(`(?s)^SELECT (state|index_state), count\(\*\) |FROM (runs r JOIN machines m ON m.id = r.machine|submissions s JOIN machines m ON m.id = s.machine) ORDER BY \w\.seq DESC LIMIT \?$`)

// TestNoQueryReadsAWholeTable runs everything that a page, the API, an agent or a loop asks, with every combination of filters, and looks
// at SQLite's plans.
func TestNoQueryReadsAWholeTable(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node0")
	run, submission := uploaded(t, db, m, epoch, "pass", "fail", "crash")
	uploaded(t, db, m, epoch.Add(time.Hour), "pass", "fail")
	p := planned(t, db)

	ok := func(_ any, err error) { require.NoError(t, err) }
	listed := func(_ any, _ string, err error) { require.NoError(t, err) }
	page := Page{Limit: 2}
	for bits := range 1 << 8 {
		if n := mathbits.OnesCount(uint(bits)); n > 2 && n < 8 {
			continue
		}
		pick := func(n int, value string) string {
			if bits&(1<<n) == 0 {
				return ""
			}
			return value
		}
		for _, cursor := range []string{"", cursor("x", 2, 0)} {
			f := ResultFilter{Machine: pick(0, m.ID), Run: pick(1, run), Submission: pick(2, submission), Job: pick(3, "x::job"), Outcome: pick(4, "fail"),
				Status: pick(5, "blocker"), Plan: pick(6, "x::y"), Section: cert.SectionResults}
			if pick(7, "since") != "" {
				f.Since = epoch
			}
			_, _, err := db.Results(ctx, f, Page{Limit: 1, Cursor: cursor})
			require.NoError(t, err, "%+v", f)
		}
		for _, cursors := range [][2]string{{}, {cursor("r", 2), cursor("s", 2)}} {
			listed(db.Runs(ctx, RunFilter{Machine: pick(0, m.ID), State: pick(1, "completed"), Origin: pick(2, "upload"), Plan: pick(3, "x::y")}, Page{Limit: 1, Cursor: cursors[0]}))
			listed(db.Submissions(ctx, SubmissionFilter{Machine: pick(0, m.ID), Run: pick(1, run), Plan: pick(2, "x::y"), SHA256: pick(3, "00"), IndexState: pick(4, "indexed")},
				Page{Limit: 1, Cursor: cursors[1]}))
		}
	}
	listed(db.Results(ctx, ResultFilter{Outcome: "pass"}, page))
	listed(db.Results(ctx, ResultFilter{}, page))
	listed(db.Machines(ctx, MachineFilter{}, page))
	ok(db.Machine(ctx, "node0"))
	ok(db.Run(ctx, run))
	ok(db.Submission(ctx, submission))
	ok(db.Result(ctx, submission, 1))
	listed(db.Attachments(ctx, submission, page))
	ok(db.NextPending(ctx))
	ok(db.RunCounts(ctx))
	ok(db.IndexCounts(ctx))
	_, _, err := db.OpenRuns(ctx, m.ID, 10)
	require.NoError(t, err)

	// What belongs to a machine, a run or a submission is not looked for among all that have the same state.
	wide := regexp.MustCompile(`INDEX (runs_state|runs_origin|submissions_state)`)
	narrow := regexp.MustCompile(`(r\.machine|s\.run|s\.sha256|s\.machine|s\.id) = `)
	for _, plan := range p.plans {
		last := plan.query[strings.LastIndex(plan.query, "WHERE")+1:]
		for _, step := range plan.steps {
			if !wide.MatchString(step) {
				continue
			}
			require.False(t, narrow.MatchString(last), "%s\n%s", plan.query, step)
			require.False(t, strings.Contains(step, "submissions_state") && strings.Contains(plan.query, " FROM runs r "), "%s\n%s", plan.query, step)
		}
	}
	require.Greater(t, len(p.plans), 300)
	index := map[string]bool{}
	for _, plan := range p.plans {
		text := strings.Join(plan.steps, "\n")
		for _, step := range plan.steps {
			if fullScan.MatchString(step) && !inOrder.MatchString(plan.query) {
				require.Fail(t, "a whole table is read", "%s\n%s", plan.query, text)
			}
			if _, name, found := strings.Cut(step, "INDEX "); found {
				index[strings.Fields(name)[0]] = true
			}
		}
	}
	for _, name := range []string{"results_job", "results_outcome", "runs_state", "runs_plan", "runs_origin", "runs_machine", "submissions_plan", "submissions_state",
		"submissions_received", "submissions_machine", "submissions_sha256", "machines_system_id", "machines_hostname"} {
		require.True(t, index[name], "no query uses the index %s", name)
	}
}

// TestUsesIndexesForWhatIsAskedOften looks at queries of methods that write, too.
func TestUsesIndexesForWhatIsAskedOften(t *testing.T) {
	t.Parallel()
	db := open1(t)
	for query, index := range map[string]string{
		"SELECT 1 FROM submissions s WHERE s.index_state = 'pending' ORDER BY s.seq LIMIT 1":                                 "submissions_state",
		"SELECT 1 FROM tokens WHERE hash = 'x'":                                                                              "sqlite_autoindex_tokens",
		"SELECT id FROM runs WHERE finished < 5 ORDER BY finished LIMIT 10":                                                  "runs_finished",
		"SELECT id FROM runs WHERE runs.machine = 'x' AND state IN ('queued', 'running') AND state = 'running' ORDER BY seq": "runs_",
	} {
		rows, err := list(t.Context(), db.r, func(s scanner) (v string, err error) {
			var a, b, c int
			return v, s.Scan(&a, &b, &c, &v)
		}, "EXPLAIN QUERY PLAN "+query)
		require.NoError(t, err)
		require.Contains(t, strings.Join(rows, "\n"), index, query)
	}
}

// TestRareResultsAreFound looks for results that are further back than the first windows, one page at a time, against a plain search.
func TestRareResultsAreFound(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	machines := []cert.Machine{machine(t, db, "node0"), machine(t, db, "node1")}
	for n := range 150 {
		outcomes := slices.Repeat([]string{"pass"}, 5)
		if n%2 == 0 {
			outcomes[n%5] = "fail"
		}
		if n == 3 || n == 77 {
			outcomes[4] = "crash"
		}
		uploaded(t, db, machines[n%2], epoch.Add(time.Duration(n)*time.Hour), outcomes...)
	}
	all, _, err := db.Results(ctx, ResultFilter{}, Page{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, all, 750)
	for _, f := range []ResultFilter{{}, {Outcome: "crash"}, {Outcome: "fail"}, {Outcome: "pass", Job: "x::job-3"}, {Job: "x::job-"}, {Job: "x::job-4", Outcome: "crash"},
		{Machine: machines[1].ID, Outcome: "crash"}, {Machine: machines[0].ID, Outcome: "crash"}, {Since: epoch.Add(70 * time.Hour), Outcome: "crash"}, {Job: "y"}, {Status: "blocker"}} {
		var want, got []string
		for _, r := range all {
			if (f.Machine == "" || r.Machine == f.Machine) && (f.Outcome == "" || r.Outcome == f.Outcome) && strings.HasPrefix(r.ID, f.Job) &&
				r.CertificationStatus == f.Status && (f.Since.IsZero() || r.Submission >= submissionAt(t, db, f.Since)) {
				want = append(want, fmt.Sprintf("%s/%d", r.Submission, r.Index))
			}
		}
		for page := (Page{Limit: 7}); ; {
			rows, next, err := db.Results(ctx, f, page)
			require.NoError(t, err)
			for _, r := range rows {
				got = append(got, fmt.Sprintf("%s/%d", r.Submission, r.Index))
			}
			if page.Cursor = next; next == "" {
				break
			}
		}
		require.Equal(t, want, got, "%+v", f)
	}
}

// submissionAt returns the id of the first submission that arrived then: ids grow with time.
func submissionAt(t *testing.T, db *DB, at time.Time) string {
	id, err := one(t.Context(), db.r, func(s scanner) (v string, err error) { return v, s.Scan(&v) }, nil,
		"SELECT id FROM submissions WHERE received >= ? ORDER BY seq LIMIT 1", micros(at))
	require.NoError(t, err)
	return id
}

// TestResultsOfBeforeAreKept opens a database in which each result still carries its job's description.
func TestResultsOfBeforeAreKept(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	run, submission := uploaded(t, db, machine(t, db, "node0"), epoch, "pass", "fail")
	want, _, err := db.Results(ctx, ResultFilter{Run: run}, Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, want, 2)
	path := filepath.Join(t.TempDir(), "before.db")
	old, err := sql.Open("sqlite", dsn(path, ""))
	require.NoError(t, err)
	old.SetMaxOpenConns(1) // an attached database is the connection's
	for _, text := range append(migrations[:2:2], fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 2; ATTACH %q AS now", applicationID, db.path),
		"INSERT INTO machines SELECT * FROM now.machines", `INSERT INTO runs SELECT seq, id, machine, origin, requested_by, plan, spec, state, created, started, finished, handed_out, cancel_requested,
			failure, counts FROM now.runs`, `INSERT INTO submissions SELECT seq, id, run, attempt, machine, sha256, size, name, received, added_by, index_state,
			index_version, index_error, plan, title, checkbox_version, counts, system FROM now.submissions`,
		`INSERT INTO results SELECT r.submission, r.idx, j.section, j.job, j.name, r.outcome, j.status, j.category, j.plugin, j.template_id, r.duration, r.comments,
			r.skip_reason, r.log_size FROM now.results r JOIN now.jobs j ON j.id = r.job`) {
		_, err := old.Exec(text)
		require.NoError(t, err, "%s", text)
	}
	require.NoError(t, old.Close())
	now, err := Open(ctx, path)
	require.NoError(t, err)
	defer now.Close()
	got, _, err := now.Results(ctx, ResultFilter{Run: run}, Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, want, got)
	one, err := now.Result(ctx, submission, 1)
	require.NoError(t, err)
	require.Equal(t, "fail", one.Outcome)
	sound(t, now)
}
