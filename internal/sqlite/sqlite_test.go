package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func open1(t *testing.T) *DB {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "odd name?#%.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func machine(t *testing.T, db *DB, host string) cert.Machine {
	m := cert.Machine{ID: cert.NewID(cert.MachineID, epoch), Key: "manual:" + host, Origin: cert.OriginManual, Hostname: host, Created: epoch}
	require.NoError(t, db.AddMachine(t.Context(), m))
	return m
}

// uploaded adds a submission of its own run, with results that have these outcomes.
func uploaded(t *testing.T, db *DB, m cert.Machine, at time.Time, outcomes ...string) (run, submission string) {
	r := cert.Run{ID: cert.NewID(cert.RunID, at), Machine: m.ID, Origin: cert.FromUpload, State: cert.Completed, Created: at, Finished: &at}
	id, added, err := db.AddUpload(t.Context(), r, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s.tar.xz", SHA256: fmt.Sprintf("%064x", at.UnixNano()), Size: 1, Received: at})
	require.NoError(t, err)
	require.True(t, added)
	x := cert.Index{Version: 1, Plan: "x::y", Counts: cert.Counts{}}
	for n, o := range outcomes {
		x.Results = append(x.Results, cert.Result{Index: n, Section: cert.SectionResults, ID: fmt.Sprintf("x::job-%d", n), Outcome: o})
		x.Counts[o]++
	}
	require.NoError(t, db.SaveIndex(t.Context(), id, x))
	return r.ID, id
}

func TestWritesAreDurableAndOneAtATime(t *testing.T) {
	t.Parallel()
	db := open1(t)
	for _, conn := range []*sql.DB{db.w, db.r.DB} {
		var mode string
		var sync, keys int
		require.NoError(t, conn.QueryRow("PRAGMA journal_mode").Scan(&mode))
		require.NoError(t, conn.QueryRow("PRAGMA synchronous").Scan(&sync))
		require.NoError(t, conn.QueryRow("PRAGMA foreign_keys").Scan(&keys))
		require.Equal(t, "wal", mode)
		require.Equal(t, 2, sync, "FULL")
		require.Equal(t, 1, keys)
	}
	_, err := db.r.Exec("DELETE FROM machines")
	require.ErrorContains(t, err, "readonly", "readers cannot write")
	sound(t, db)
}

func TestAForeignDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	other, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = other.Exec("CREATE TABLE machines (id TEXT)")
	require.NoError(t, err)
	require.NoError(t, other.Close())
	_, err = Open(t.Context(), path)
	require.ErrorContains(t, err, "not Certlab's")
}

func TestAMigrationThatFailsLeavesTheVersionBefore(t *testing.T) {
	t.Parallel()
	db := open1(t)
	err := db.write(t.Context(), func(tx *sql.Tx) error {
		for _, text := range []string{"CREATE TABLE half (id TEXT)", "PRAGMA user_version = 77", "CREATE TABLE machines (id TEXT)"} {
			if _, err := tx.ExecContext(t.Context(), text); err != nil {
				return err
			}
		}
		return nil
	})
	require.Error(t, err)
	version, err := db.Schema(t.Context())
	require.NoError(t, err)
	require.Equal(t, Version, version)
}

func TestPagesAreStableWhileRowsAreAdded(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node0")
	var want []string
	n := 0
	add := func() string {
		n++
		run, _ := uploaded(t, db, m, epoch.Add(time.Duration(n)*time.Second), "pass", "fail", "pass")
		return run
	}
	for range 25 {
		want = append([]string{add()}, want...)
	}
	for _, limit := range []int{1, 7, 25, 1000} {
		// Between two pages new rows arrive, and a submission is read again.
		var runs, submissions []string
		results := map[string]int{}
		pages := 0
		known := len(want)
		for cursor, first := "", true; first || cursor != ""; first = false {
			list, next, err := db.Runs(ctx, RunFilter{Machine: m.ID, State: "completed"}, Page{Limit: limit, Cursor: cursor})
			require.NoError(t, err)
			require.LessOrEqual(t, len(list), limit)
			for _, r := range list {
				runs = append(runs, r.ID)
			}
			if pages++; pages%3 == 1 {
				want = append([]string{add()}, want...)
			}
			cursor = next
		}
		require.Equal(t, want[len(want)-known:], runs)
		for cursor, first := "", true; first || cursor != ""; first = false {
			list, next, err := db.Submissions(ctx, SubmissionFilter{}, Page{Limit: limit, Cursor: cursor})
			require.NoError(t, err)
			for _, s := range list {
				submissions = append(submissions, s.ID)
			}
			cursor = next
		}
		require.Len(t, submissions, len(want))
		for cursor, first := "", true; first || cursor != ""; first = false {
			list, next, err := db.Results(ctx, ResultFilter{Outcome: "pass"}, Page{Limit: limit, Cursor: cursor})
			require.NoError(t, err)
			for _, r := range list {
				results[fmt.Sprintf("%s/%d", r.Submission, r.Index)]++
			}
			if len(list) > 0 && limit > 1 {
				x := cert.Index{Version: 1, Results: []cert.Result{{Index: 0, Section: "results", ID: "x::a", Outcome: "pass"}, {Index: 2, Section: "results", ID: "x::b", Outcome: "pass"}}}
				require.NoError(t, db.SaveIndex(ctx, list[len(list)/2].Submission, x))
			}
			cursor = next
		}
		require.Len(t, results, 2*len(want))
		for key, times := range results {
			require.Equal(t, 1, times, key)
		}
	}
	for _, p := range []Page{{Limit: 0}, {Limit: 1001}, {Limit: 1, Cursor: "x"}, {Limit: 1, Cursor: cursor("s", 1)}, {Limit: 1, Cursor: cursor("r", 1, 2)}} {
		_, _, err := db.Runs(ctx, RunFilter{}, p)
		require.Equal(t, cert.Invalid, cert.CodeOf(err), "%+v", p)
	}
}

func TestOldRunsAreRemovedAndRemembered(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node0")
	old, sub := uploaded(t, db, m, epoch, "pass")
	kept, _ := uploaded(t, db, m, epoch.AddDate(0, 0, 10), "pass")
	n, files, err := db.RemoveRuns(ctx, epoch.AddDate(0, 0, 5), epoch.AddDate(0, 0, 11), 100)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{fmt.Sprintf("%064x", epoch.UnixNano())}, files)
	used, err := db.Used(ctx, files[0])
	require.NoError(t, err)
	require.False(t, used)
	_, err = db.Run(ctx, old)
	require.Equal(t, cert.Gone, cert.CodeOf(err))
	_, err = db.UpdateRun(ctx, old, func() (*cert.Run, error) { t.Fatal("made again"); return nil, nil }, nil)
	require.Equal(t, cert.Gone, cert.CodeOf(err), "an agent that was away for long does not bring it back")
	err = db.AddRun(ctx, cert.Run{ID: old, Machine: m.ID, Origin: cert.FromOrder, State: cert.Queued, Created: epoch})
	require.Equal(t, cert.Gone, cert.CodeOf(err), "nor does an order with its id: it could not be removed a second time")
	_, err = db.Submission(ctx, sub)
	require.Equal(t, cert.NotFound, cert.CodeOf(err))
	_, err = db.Run(ctx, kept)
	require.NoError(t, err)
	sound(t, db)
	left, _, err := db.Results(ctx, ResultFilter{}, Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestMachinesOutliveTheirUnits(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	unit := func(name, key string, id cert.Identity) cert.Enrolment {
		id.Architecture, id.ModelUUID = "amd64", "model"
		return cert.Enrolment{Relation: "r:1", Unit: name, PublicKey: key, Identity: id}
	}
	a := unit("c/0", "ka", cert.Identity{Hostname: "node0", SystemID: "abc"})
	b := unit("c/1", "kb", cert.Identity{Hostname: "node1", ProductUUID: "UUID"})
	keys, refused, err := db.Enrol(ctx, []cert.Enrolment{a, b}, epoch)
	require.NoError(t, err)
	require.Empty(t, refused)
	require.Len(t, keys, 2)
	// The same again changes nothing; without a, its machine stays.
	again, _, err := db.Enrol(ctx, []cert.Enrolment{a, b}, epoch.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, keys, again)
	_, _, err = db.Enrol(ctx, []cert.Enrolment{b}, epoch)
	require.NoError(t, err)
	m, err := db.Machine(ctx, "abc")
	require.NoError(t, err)
	require.Empty(t, m.Unit)
	require.Equal(t, keys["ka"], m.ID)
	// Deployed anew: other unit, key and hostname, same machine.
	c := unit("d/0", "kc", cert.Identity{Hostname: "renamed", SystemID: "abc"})
	fresh, _, err := db.Enrol(ctx, []cert.Enrolment{b, c}, epoch)
	require.NoError(t, err)
	require.Equal(t, m.ID, fresh["kc"])
	m, err = db.Machine(ctx, "renamed")
	require.NoError(t, err)
	require.Equal(t, "d/0", m.Unit)
	// Two of one hostname have to be told apart.
	_, _, err = db.Enrol(ctx, []cert.Enrolment{b, c, unit("e/0", "ke", cert.Identity{Hostname: "renamed", SystemID: "def"})}, epoch)
	require.NoError(t, err)
	_, err = db.Machine(ctx, "renamed")
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
}

func TestACodeExpires(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	add := func(name string, at time.Time) error {
		return db.AddToken(ctx, cert.Token{ID: cert.NewID(cert.TokenID, at), Name: name, Role: cert.Viewer, Created: at, CodeExpires: at.Add(time.Hour)}, "code "+name+at.String())
	}
	require.NoError(t, add("a", epoch))
	_, err := db.Redeem(ctx, "code a"+epoch.String(), "hash", epoch.Add(time.Hour))
	require.Equal(t, cert.Unauthorized, cert.CodeOf(err))
	require.Equal(t, cert.Conflict, cert.CodeOf(add("a", epoch.Add(time.Minute))))
	require.NoError(t, add("a", epoch.Add(time.Hour)), "a code that nobody used does not block the name")
	_, err = db.Redeem(ctx, "code a"+epoch.Add(time.Hour).String(), "hash", epoch.Add(61*time.Minute))
	require.NoError(t, err)
	_, err = db.TokenByHash(ctx, "hash", epoch.Add(62*time.Minute))
	require.NoError(t, err)
}

func TestASnapshotDoesNotNeedTheWriterToStop(t *testing.T) {
	t.Parallel()
	db, ctx := open1(t), t.Context()
	m := machine(t, db, "node0")
	uploaded(t, db, m, epoch, "pass")
	path := filepath.Join(t.TempDir(), "copy.db")
	tx, err := db.w.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, "UPDATE machines SET hostname = 'not yet'")
	require.NoError(t, err)
	ctx2, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	require.NoError(t, db.Snapshot(ctx2, path))
	require.NoError(t, tx.Rollback())
	copied, err := OpenExisting(ctx, path)
	require.NoError(t, err)
	defer copied.Close()
	sound(t, copied)
	got, err := copied.Machine(ctx, "node0")
	require.NoError(t, err)
	require.Equal(t, m.ID, got.ID)
}
