package bench

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/control"
	"certlab/internal/sqlite"
)

// A storedLab is the data directory of a lab that has worked for long.
type storedLab struct {
	data     control.Data
	machines int
	runs     int      // of each machine
	jobs     int      // of each run
	real     string   // id of a submission whose archive is there, with 801 results
	findings []string // ids, some of its campaign's
}

// results is how many there are, those that only gather facts not counted.
func (l storedLab) results() int { return l.machines * l.runs * l.jobs }

// largeLab returns a lab with ten million results. It is kept in build/bench: making it takes a minute or two.
func largeLab(b *testing.B) storedLab {
	l := storedLab{machines: 1000, runs: 20, jobs: 500}
	root, err := filepath.Abs(filepath.Join("..", "..", "build", "bench"))
	require.NoError(b, err)
	l.data.Dir = filepath.Join(root, "lab-"+schemaKey(b))
	mark := filepath.Join(l.data.Dir, "whole")
	if id, err := os.ReadFile(mark); err == nil {
		l.real = string(id)
		l.findings = someFindings(b, l)
		return l
	}
	old, err := filepath.Glob(filepath.Join(root, "lab-*"))
	require.NoError(b, err)
	for _, dir := range old {
		require.NoError(b, os.RemoveAll(dir))
	}
	started := time.Now()
	l.make(b)
	l.campaign(b)
	l.compare(b)
	b.Logf("made a lab of %d results in %s", l.results(), time.Since(started).Round(time.Second))
	require.NoError(b, os.WriteFile(mark, []byte(l.real), 0o600))
	return l
}

// labVersion goes up whenever what make makes changes.
const labVersion = 3

// schemaKey tells schemas apart.
func schemaKey(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "schema.db")
	db, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	raw, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	defer raw.Close()
	var text string
	require.NoError(t, raw.QueryRow("SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema ORDER BY name)").Scan(&text))
	sum := sha256.Sum256(fmt.Appendf([]byte(text), "%d", labVersion))
	return hex.EncodeToString(sum[:6])
}

// make fills the data directory: one machine with one run through the ordinary ways, with a real archive; and the rest as copies of its rows
// with other ids, times, jobs and outcomes, made by SQLite itself.
func (l *storedLab) make(t testing.TB) {
	require.NoError(t, os.MkdirAll(l.data.Dir, 0o700))
	db, err := sqlite.Open(t.Context(), l.data.Database())
	require.NoError(t, err)
	l.real = addReal(t, l.data, db)
	require.NoError(t, db.Close())

	raw, err := sql.Open("sqlite", "file:"+(&url.URL{Path: l.data.Database()}).EscapedPath()+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=cache_size(-400000)")
	require.NoError(t, err)
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	run := func(text string, args ...any) {
		_, err := raw.Exec(text, args...)
		require.NoError(t, err, "%s", text)
	}
	// An index is made faster at once than row by row.
	rows, err := raw.Query("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
	require.NoError(t, err)
	var drop, restore []string
	for rows.Next() {
		var name, text string
		require.NoError(t, rows.Scan(&name, &text))
		drop, restore = append(drop, "DROP INDEX "+name), append(restore, text)
	}
	require.NoError(t, rows.Err())
	run("BEGIN")
	for _, text := range drop {
		run(text)
	}
	addJobs(t, raw, l.jobs)
	const numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
	run(numbers+`INSERT INTO machines (id, key, origin, hostname, architecture, system_id, product_uuid, base, kernel, unit, model_uuid, created, seen)
		SELECT printf('m%026d', n), printf('maas:s%d', n), 'juju', printf('machine-%d', n), iif(n % 4, 'amd64', 'arm64'), printf('s%d', n), '', 'ubuntu@24.04',
		'6.8.0-45-generic', '', 'model', 1700000000000000 + n, 1760000000000000 FROM n`, l.machines)
	// Runs came in rounds: every machine once, then every machine again.
	run(numbers+`INSERT INTO runs (id, machine, origin, requested_by, plan, spec, state, created, started, finished, handed_out, cancel_requested, failure, counts)
		SELECT printf('r%026d', n), printf('m%026d', n % ?2 + 1), iif(n % 5, 'order', 'action'), 'somebody', plan, json_object('plan', plan), state, at, at, at + 3600000000, at, 0,
		iif(state = 'failed', '{"type":"timeout","message":"the plan took longer than its limit of 4h0m0s"}', 'null'), 'null' FROM (SELECT n, 1700000000000000 + n * 600000000 AS at,
		'com.canonical.certification::plan-' || (n % 12) AS plan, CASE n % 40 WHEN 7 THEN 'failed' WHEN 9 THEN 'cancelled' ELSE 'completed' END AS state FROM n)`,
		l.machines*l.runs, l.machines)
	run(`INSERT INTO attempts (run, number, sequence, state, updated, progress, boot_id, checkbox_version, interruptions) SELECT id, 1, 200, state, finished,
		'{"phase":"done","jobs_done":500,"jobs_planned":500}', '1e3c8e4e-6f6f-4a9e-8d2c-0123456789ab', '4.0.0', '[]' FROM runs WHERE id LIKE 'r0000%'`)
	run(`INSERT INTO submissions (id, run, attempt, machine, sha256, size, name, received, added_by, index_state, index_version, index_error, plan, title, checkbox_version,
		counts, system) SELECT 's' || substr(r.id, 2), r.id, 1, r.machine, s.sha256, s.size, s.name, r.finished, '', 'indexed', s.index_version, '', r.plan, 'session', '4.0.0',
		'{"pass":390,"fail":8,"skip":52,"not-supported":50}', s.system FROM runs r JOIN submissions s ON s.id = ?1 WHERE r.id LIKE 'r0000%' ORDER BY r.seq`, l.real)
	run(`INSERT INTO files (run, attempt, sha256, kind, name, size, received, submission) SELECT run, 1, sha256, 'submission', name, size, received, id FROM submissions
		WHERE run LIKE 'r0000%'`)
	run(`INSERT INTO attachments (submission, idx, job, name, size) SELECT s.seq, j.value, 'com.canonical.certification::attach-' || j.value,
		'attachment_files/com.canonical.certification__attach-' || j.value, 4000 FROM submissions s JOIN json_each('[0,1,2,3,4,5,6,7,8,9]') j WHERE s.run LIKE 'r0000%'`)
	run("CREATE TEMP TABLE picked AS SELECT id, section, row_number() OVER (ORDER BY id) - 1 AS idx FROM jobs WHERE job LIKE 'com.canonical.certification::%'")
	run(`INSERT INTO results (submission, idx, job, outcome, duration, comments, skip_reason, log_size)
		SELECT submission, idx, job, outcome, h % 977 / 10.0, iif(outcome IN ('skip', 'not-supported'), ?1, ''), iif(outcome IN ('skip', 'not-supported'), ?2, ''),
			iif(h % 3, 0, h * 7 % 40000)
		FROM (SELECT submission, idx, job, h, CASE WHEN section <> 'results' OR h >= 2200 THEN 'pass' WHEN h < 150 THEN 'fail' WHEN h < 151 THEN 'crash'
			WHEN h < 1200 THEN 'skip' ELSE 'not-supported' END AS outcome
		FROM (SELECT submission, idx, job, section, ((x * x) >> 20) % 10000 AS h
		FROM (SELECT s.seq AS submission, j.idx, j.id AS job, j.section, (s.seq * 2654435761 + j.id * 2246822519) & 2147483647 AS x
		FROM submissions s CROSS JOIN picked j WHERE s.run LIKE 'r0000%' ORDER BY s.seq, j.idx)))`,
		"Job cannot be started because of unmet manifest:\n- com.canonical.certification::has_that", "manifests: com.canonical.certification::has_that")
	addFailures(t, raw, "1")
	for _, text := range restore {
		run(text)
	}
	run("COMMIT")
}

// addReal takes in an archive of 801 results as a person would add it, and returns the submission's id.
func addReal(t testing.TB, data control.Data, db *sqlite.DB) string {
	archive, err := os.ReadFile(filepath.Join("..", "..", "internal", "results", "testdata", "head-800jobs.tar.xz"))
	require.NoError(t, err)
	store, err := blobs.Open(data.Blobs())
	require.NoError(t, err)
	at := time.Date(2023, 11, 1, 0, 0, 0, 0, time.UTC)
	m := cert.Machine{ID: cert.NewID(cert.MachineID, at), Key: "manual:real", Origin: cert.OriginManual, Hostname: "real", Architecture: "amd64", Created: at}
	require.NoError(t, db.AddMachine(t.Context(), m))
	sum := sha256.Sum256(archive)
	sha := hex.EncodeToString(sum[:])
	r := cert.Run{ID: cert.NewID(cert.RunID, at), Machine: m.ID, Origin: cert.FromUpload, State: cert.Completed, Created: at, Started: &at, Finished: &at}
	id := ""
	_, whole, err := store.Append(t.Context(), blobs.Upload{Owner: r.ID, SHA256: sha, Size: int64(len(archive))}, 0, strings.NewReader(string(archive)), func() (err error) {
		id, _, err = db.AddUpload(t.Context(), r, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: sha, Size: int64(len(archive)), Received: at})
		return err
	})
	require.NoError(t, err)
	require.True(t, whole)
	x, err := readSubmission(t.Context(), strings.NewReader(string(archive)))
	require.NoError(t, err)
	require.NoError(t, db.SaveIndex(t.Context(), id, x))
	return id
}

func readSubmission(ctx context.Context, r io.Reader) (cert.Index, error) {
	x, err := control.ReadSubmission(ctx, r)
	x.Version = control.ReaderVersion
	return x, err
}

// areas are what jobs are about.
var areas = []string{"audio", "bluetooth", "camera", "cpu", "disk", "ethernet", "firmware", "graphics", "input", "memory", "networking", "power-management", "suspend",
	"thunderbolt", "tpm", "usb", "watchdog", "wireless", "wwan", "zapper"}

// addJobs adds the jobs that the copies have: tests, and some that only gather facts.
func addJobs(t testing.TB, raw *sql.DB, tests int) {
	insert, err := raw.Prepare("INSERT INTO jobs (section, job, name, status, category, plugin, template_id) VALUES (?, ?, ?, ?, ?, ?, ?)")
	require.NoError(t, err)
	defer insert.Close()
	for n := range tests + 40 {
		area := areas[n%len(areas)]
		section, plugin := cert.SectionResults, "shell"
		switch {
		case n >= tests+30:
			section, plugin = cert.SectionAttachments, "attachment"
		case n >= tests:
			section, plugin = cert.SectionResources, "resource"
		}
		_, err := insert.Exec(section, fmt.Sprintf("com.canonical.certification::%s/check_%s_automated_%d", area, area, n), fmt.Sprintf("Check that %s works as it should, case %d", area, n),
			[]string{"blocker", "non-blocker", "unspecified"}[n%3], "com.canonical.plainbox::"+area, plugin, "")
		require.NoError(t, err)
	}
}
