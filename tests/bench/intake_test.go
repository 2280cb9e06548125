package bench

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/tests/bench/report"
)

// archive800 is a submission of some 800 results.
func archive800(t testing.TB) []byte {
	content, err := os.ReadFile("../../internal/results/testdata/head-800jobs.tar.xz")
	require.NoError(t, err)
	return content
}

// A delivery is an agent that brings one archive as one run.
type delivery struct {
	s    *service
	http *http.Client
	run  string
	file order.File
	body []byte
}

// begin reports a run, so that its archive can be uploaded. The same bytes of another run are taken in as any others are.
func begin(s *service, c *http.Client, content []byte) *delivery {
	d := &delivery{s: s, http: c, run: cert.NewID(cert.RunID, time.Now()), body: content}
	sum := sha256.Sum256(content)
	d.file = order.File{Kind: order.SubmissionFile, Name: "submission.tar.xz", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
	s.call(c, http.MethodPut, s.url+"/agent/v1/runs/"+d.run, d.report(order.Running), nil)
	return d
}

func (d *delivery) report(state order.State) order.Report {
	now := time.Now().UTC()
	return order.Report{Run: d.run, Attempt: 1, Sequence: 1, Origin: order.FromAction, Created: now, Started: now, State: state,
		Spec: order.Spec{Plan: "com.example.lab::gen800"}, Progress: order.Progress{Phase: order.Testing}}
}

// upload sends the archive and returns how long the acknowledgement took.
func (d *delivery) upload() (time.Duration, order.FileAck) {
	started := time.Now()
	req, err := http.NewRequest(http.MethodPatch, fmt.Sprintf("%s/agent/v1/runs/%s/attempts/1/files/%s", d.s.url, d.run, d.file.SHA256), bytes.NewReader(d.body))
	require.NoError(d.s.t, err)
	req.Header = http.Header{"Upload-Offset": {"0"}, "Upload-Length": {strconv.Itoa(len(d.body))}, "Certlab-File-Kind": {"submission"}, "Certlab-File-Name": {d.file.Name}}
	resp, err := d.http.Do(req)
	require.NoError(d.s.t, err)
	defer resp.Body.Close()
	var ack order.FileAck
	require.NoError(d.s.t, json.NewDecoder(resp.Body).Decode(&ack))
	require.Equal(d.s.t, http.StatusOK, resp.StatusCode)
	return time.Since(started), ack
}

// indexed waits until a submission is read.
func (s *service) indexed(id string) {
	for deadline := time.Now().Add(5 * patience); ; {
		var sub cert.Submission
		s.call(s.root, http.MethodGet, "http://local/api/v1/submissions/"+id, nil, &sub)
		if sub.IndexState == cert.IndexDone {
			return
		}
		require.NotEqual(s.t, cert.IndexUnreadable, sub.IndexState, sub.IndexError)
		require.True(s.t, time.Now().Before(deadline), "%s: %s", sub.IndexState, sub.IndexError)
		time.Sleep(time.Millisecond)
	}
}

// table is a database of one table, with the settings of ours.
func table(t testing.TB, columns string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "baseline.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE t (" + columns + ")")
	require.NoError(t, err)
	return db
}

// BenchmarkTakeIn takes in submissions of 801 results, one after the other, over HTTPS with a client certificate.
func BenchmarkTakeIn(b *testing.B) {
	const times = 30
	a := newAgent(b, 0)
	s := startService(b, b.TempDir(), a)
	c, content := a.client(s), archive800(b)
	rows, results := table(b, "id INTEGER PRIMARY KEY, sha256 TEXT, size INTEGER"), table(b, "submission INTEGER, idx INTEGER, job TEXT, name TEXT, outcome TEXT, "+
		"status TEXT, category TEXT, plugin TEXT, duration REAL, comments TEXT, log_size INTEGER, PRIMARY KEY (submission, idx)")
	dir, path := b.TempDir(), filepath.Join(b.TempDir(), "submission.tar.xz")
	require.NoError(b, os.WriteFile(path, content, 0o600))
	var acked, stored, indexed, read []time.Duration
	for n := range times + 1 {
		d := begin(s, c, content)
		started := time.Now()
		store(b, dir, rows, d)
		theirs := time.Since(started)
		ours, ack := d.upload()
		started = time.Now()
		s.indexed(ack.Submission)
		index := time.Since(started)
		started = time.Now()
		readRows(b, path, results, n)
		baseline := time.Since(started)
		if n > 0 {
			acked, stored, indexed, read = append(acked, ours), append(stored, theirs), append(indexed, index), append(read, baseline)
		}
	}
	report.Add(b, report.Row{Measure: "Acknowledging a submission of 801 results", Value: report.Milliseconds(report.Percentile(acked, 50)), Unit: "ms",
		Also: fmt.Sprintf("p95 %.1f ms", report.Milliseconds(report.Percentile(acked, 95))), Against: "syncing the same bytes and one row",
		Baseline: report.Milliseconds(report.Percentile(stored, 50)), Goal: report.RatioAtMost(2)})
	report.Add(b, report.Row{Measure: "Indexing a submission of 801 results", Value: report.Milliseconds(report.Percentile(indexed, 50)), Unit: "ms",
		Also: fmt.Sprintf("p95 %.1f ms", report.Milliseconds(report.Percentile(indexed, 95))), Against: "xz -dc, tar -xO, encoding/json and the rows in one transaction",
		Baseline: report.Milliseconds(report.Percentile(read, 50)), Goal: report.RatioAtMost(1.5)})
}

// store does what any service has to: the bytes synced, their name in the directory synced, one row committed.
func store(b *testing.B, dir string, rows *sql.DB, d *delivery) {
	f, err := os.Create(filepath.Join(dir, d.file.SHA256))
	require.NoError(b, err)
	_, err = f.Write(d.body)
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	require.NoError(b, f.Close())
	parent, err := os.Open(dir)
	require.NoError(b, err)
	require.NoError(b, parent.Sync())
	require.NoError(b, parent.Close())
	_, err = rows.Exec("INSERT INTO t (sha256, size) VALUES (?, ?)", d.file.SHA256, d.file.Size)
	require.NoError(b, err)
}

// readRows unpacks an archive with other programs and stores its results.
func readRows(b *testing.B, path string, db *sql.DB, n int) {
	out, err := exec.Command("sh", "-c", `xz -dc -- "$1" | tar -xO submission.json`, "sh", path).Output()
	require.NoError(b, err)
	var sub struct {
		Results []struct {
			ID       string  `json:"full_id"`
			Name     string  `json:"name"`
			Outcome  string  `json:"outcome"`
			Status   string  `json:"certification_status"`
			Category string  `json:"category"`
			Plugin   string  `json:"plugin"`
			Duration float64 `json:"duration"`
			Comments string  `json:"comments"`
			IOLog    string  `json:"io_log"`
		} `json:"results"`
		System map[string]any `json:"system_information"`
	}
	require.NoError(b, json.Unmarshal(out, &sub))
	require.NotEmpty(b, sub.Results)
	tx, err := db.Begin()
	require.NoError(b, err)
	insert, err := tx.Prepare("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	require.NoError(b, err)
	for i, r := range sub.Results {
		_, err := insert.Exec(n, i, r.ID, r.Name, r.Outcome, r.Status, r.Category, r.Plugin, r.Duration, r.Comments, len(r.IOLog))
		require.NoError(b, err)
	}
	require.NoError(b, tx.Commit())
}

// BenchmarkDeliverAtOnce has 100 machines deliver a submission each at the same moment, some times over.
func BenchmarkDeliverAtOnce(b *testing.B) {
	const machines, times = 100, 5
	agents := make([]*agent, machines)
	for n := range agents {
		agents[n] = newAgent(b, n)
	}
	s := startService(b, b.TempDir(), agents...)
	clients := make([]*http.Client, machines)
	for n, a := range agents {
		clients[n] = a.client(s)
	}
	content := archive800(b)
	var took time.Duration
	acks := make([]time.Duration, machines*times)
	last := ""
	for round := range times {
		deliveries := make([]*delivery, machines)
		for n, c := range clients {
			deliveries[n] = begin(s, c, content)
		}
		started := time.Now()
		var all sync.WaitGroup
		for n, d := range deliveries {
			all.Go(func() {
				var ack order.FileAck
				acks[round*machines+n], ack = d.upload()
				if n == machines-1 {
					last = ack.Submission
				}
			})
		}
		all.Wait()
		took += time.Since(started)
	}
	s.indexed(last)
	_, peak := s.memory()
	report.Add(b, report.Row{Measure: "100 machines delivering at once", Value: float64(machines*times) / took.Seconds(), Unit: "submissions/s"})
	report.Add(b, report.Row{Measure: "100 machines delivering at once: the slowest acknowledgement", Value: report.Milliseconds(report.Percentile(acks, 100)), Unit: "ms",
		Also: fmt.Sprintf("p50 %.0f ms", report.Milliseconds(report.Percentile(acks, 50)))})
	report.Add(b, report.Row{Measure: "100 machines delivering at once: memory of certlabd", Value: report.MiB(peak), Unit: "MiB"})
}
