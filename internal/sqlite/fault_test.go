package sqlite

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

// sound holds that there is no damage.
func sound(t *testing.T, db *DB) {
	t.Helper()
	problems, err := db.Check(t.Context())
	require.NoError(t, err)
	require.Empty(t, problems)
}

const runsInLarge = 80

// large makes a database of many pages, checkpointed, and returns its path and how many runs and submissions it has.
func large(t *testing.T) (path string, submissions int) {
	path = filepath.Join(t.TempDir(), "x.db")
	db, err := Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, db.write(t.Context(), func(tx *sql.Tx) error {
		m := machine1(t, tx)
		for n := range runsInLarge {
			at := epoch.Add(time.Duration(n) * time.Second)
			r := cert.Run{ID: cert.NewID(cert.RunID, at), Machine: m, Origin: cert.FromOrder, State: cert.Completed, Created: at, Finished: &at,
				Spec:     cert.Spec{Plan: "x::y", Title: fmt.Sprintf("title of run %d %s", n, strings.Repeat("x", 200))},
				Attempts: []cert.Attempt{{Number: 1, Sequence: 1, State: cert.Completed, Updated: at}}}
			if err := insertRun(t.Context(), tx, &r); err != nil {
				return err
			}
			f := cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s.tar.xz", SHA256: fmt.Sprintf("%064x", n), Size: 1, Received: at}
			if _, err := addFile(t.Context(), tx, &r, f, ""); err != nil {
				return err
			}
			for i := range 10 {
				x := cert.Result{Index: i, Section: cert.SectionResults, ID: fmt.Sprintf("x::job-%d", i), Name: "a name", Outcome: "pass", Plugin: "shell", DurationSeconds: 1,
					Comments: strings.Repeat("c", 50)}
				if err := saveResults(t.Context(), tx, int64(n+1), []cert.Result{x}); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
	return path, runsInLarge
}

func machine1(t *testing.T, tx *sql.Tx) string {
	m := cert.Machine{ID: cert.NewID(cert.MachineID, epoch), Key: "manual:a", Origin: cert.OriginManual, Hostname: "a", Created: epoch}
	require.NoError(t, insertMachine(t.Context(), tx, m))
	return m.ID
}

const pageSize = 4096

// pageOf returns the number of a leaf page of a table or an index, from 1.
func pageOf(t *testing.T, path, name string) int {
	db, err := OpenExisting(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	var pages []int
	rows, err := db.r.Query("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", name)
	require.NoError(t, err)
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		pages = append(pages, n)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.NotEmpty(t, pages, name)
	return pages[len(pages)/2]
}

// scribble overwrites bytes of a file with others.
func scribble(t *testing.T, path string, at int64, n int) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	junk := make([]byte, n)
	rand.Read(junk)
	junk[0] = 0xee // no kind of page
	_, err = f.WriteAt(junk, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func page(t *testing.T, path, name string) {
	scribble(t, path, int64(pageOf(t, path, name)-1)*pageSize, pageSize)
}

func quick(context.Context) error { return nil }

func TestFaultDamagedPage(t *testing.T) {
	t.Parallel()
	whole, total := large(t)
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		table, where string
		lost         func(s Salvage) bool
	}{
		"of results":  {"results", "results", func(s Salvage) bool { return len(s.Lost) == 0 && len(s.Unread) == 0 && s.Rows["runs"] == total }},
		"of an index": {"results_job", "results_job", func(s Salvage) bool { return len(s.Lost) == 0 && s.Rows["runs"] == total }},
		"of runs": {"runs", "runs", func(s Salvage) bool {
			return s.Rows["runs"] < total && s.Rows["runs"] > total/2 && len(s.Rebuilt) > 0
		}},
		"of submissions": {"submissions", "submissions", func(s Salvage) bool { return s.Rows["submissions"] < total && len(s.Rebuilt) > 0 && len(s.Lost) == 0 }},
		"of files":       {"files", "files", func(s Salvage) bool { return s.Rows["files"] < total && len(s.Rebuilt) > 0 && len(s.Lost) == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path := filepath.Join(t.TempDir(), "x.db")
			require.NoError(t, os.WriteFile(path, content, 0o600))
			page(t, path, c.table)
			db, err := Open(ctx, path)
			require.NoError(t, err)
			told := make(chan struct{}, 10)
			db.OnTrouble(func() { told <- struct{}{} })
			require.NoError(t, db.Writable(), "nobody has read the page yet")
			require.NoError(t, db.Scan(ctx, quick))
			<-told
			damage, _, _ := db.Trouble()
			require.NotNil(t, damage)
			require.Contains(t, damage.String(), c.where, "the operator learns where it is")
			require.NoError(t, db.Locate(ctx))
			damage, _, _ = db.Trouble()
			require.Contains(t, damage.String(), c.where)
			for range 2 {
				err = db.SetMeta(ctx, "x", 1)
				require.Equal(t, cert.Unavailable, cert.CodeOf(err), "nothing is acknowledged on top of it")
				require.ErrorContains(t, err, "the controller's database is damaged: nothing is written until an admin repairs it")
				require.NoError(t, db.Close())
				db, err = Open(ctx, path) // a restart does not forget it
				require.NoError(t, err)
			}
			problems, err := db.Check(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, problems)
			require.NoError(t, db.Close())

			to := filepath.Join(t.TempDir(), "new.db")
			s, err := SalvageInto(ctx, path, "", to, epoch)
			require.NoError(t, err)
			require.True(t, c.lost(s), "%+v", s)
			require.Equal(t, total, s.Queued, "every submission is there, and will be indexed again")
			// With a backup nothing is missing at all.
			s, err = SalvageInto(ctx, path, whole, to+"2", epoch)
			require.NoError(t, err)
			require.Empty(t, s.Lost)
			for _, path := range []string{to, to + "2"} {
				mended, err := Open(ctx, path)
				require.NoError(t, err)
				sound(t, mended)
				counts, err := mended.RunCounts(ctx)
				require.NoError(t, err)
				require.Equal(t, map[string]int{"completed": total}, counts)
				e, err := mended.Epoch(ctx)
				require.NoError(t, err)
				require.Equal(t, "repair", e.Cause)
				require.NoError(t, mended.Close())
			}
		})
	}
}

// TestASalvageKeepsWhoAMachineIs loses the page of the machines: their agents are known by keys that an index still has.
func TestASalvageKeepsWhoAMachineIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path, total := large(t)
	db, err := Open(ctx, path)
	require.NoError(t, err)
	id := ""
	require.NoError(t, db.write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "UPDATE machines SET key = 'maas:abc123', origin = 'juju' RETURNING id").Scan(&id)
	}))
	require.NoError(t, db.Close())
	page(t, path, "machines")
	to := filepath.Join(t.TempDir(), "new.db")
	s, err := SalvageInto(ctx, path, "", to, epoch)
	require.NoError(t, err)
	require.Equal(t, total, s.Rows["runs"])
	require.Len(t, s.Rebuilt, 1)
	require.Empty(t, s.Lost)
	mended, err := Open(ctx, to)
	require.NoError(t, err)
	defer mended.Close()
	m, err := mended.Machine(ctx, id)
	require.NoError(t, err)
	require.Equal(t, "maas:abc123", m.Key)
	require.Equal(t, cert.OriginJuju, m.Origin)
}

// TestASalvageAsksForResultsOfWhichNoRowIsLeft loses both rows of a run's results: the run is not over then.
func TestASalvageAsksForResultsOfWhichNoRowIsLeft(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path, total := large(t)
	db, err := Open(ctx, path)
	require.NoError(t, err)
	id := ""
	require.NoError(t, db.write(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, "SELECT run FROM submissions ORDER BY seq LIMIT 1").Scan(&id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM files WHERE run = ?1; DELETE FROM submissions WHERE run = ?1", id)
		return err
	}))
	require.NoError(t, db.Close())
	to := filepath.Join(t.TempDir(), "new.db")
	s, err := SalvageInto(ctx, path, "", to, epoch)
	require.NoError(t, err)
	require.Equal(t, total-1, s.Queued)
	mended, err := Open(ctx, to)
	require.NoError(t, err)
	defer mended.Close()
	run, err := mended.Run(ctx, id)
	require.NoError(t, err)
	require.True(t, run.Presumed(), "what its machine delivers again is taken")
	require.False(t, run.Closed())
	require.Contains(t, strings.Join(s.Rebuilt, "\n"), "run "+id+" (its results were unreadable")
}

func TestFaultDamagedFile(t *testing.T) {
	t.Parallel()
	whole, total := large(t)
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	junk := bytes.Repeat([]byte{0xee}, 100)
	for name, c := range map[string]struct {
		content []byte
		opens   bool
		rows    bool // that some can be salvaged without a backup
	}{
		"header overwritten":     {append(bytes.Clone(junk), content[100:]...), false, true},
		"first page overwritten": {append(bytes.Repeat([]byte{0xee}, pageSize), content[pageSize:]...), false, false},
		"truncated":              {content[:len(content)/2/pageSize*pageSize], false, false},
		"cut in the first page":  {content[:50], false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path := filepath.Join(t.TempDir(), "x.db")
			require.NoError(t, os.WriteFile(path, c.content, 0o600))
			_, err := Open(ctx, path)
			require.Error(t, err)
			require.ErrorContains(t, err, "it is damaged (repair it with certlabd repair, or restore a backup)")
			s, err := SalvageInto(ctx, path, "", filepath.Join(t.TempDir(), "new.db"), epoch)
			require.NoError(t, err)
			if c.rows {
				require.Equal(t, total, s.Queued)
			} else {
				require.NotEmpty(t, s.Unread)
			}
			s, err = SalvageInto(ctx, path, whole, filepath.Join(t.TempDir(), "new.db"), epoch)
			require.NoError(t, err)
			require.Equal(t, total, s.Queued, "%+v", s)
		})
	}
}

func TestFaultDamageThatIsNotFoundAgain(t *testing.T) {
	t.Parallel()
	db := open1(t)
	db.setDamage(Damage{Found: epoch, Where: []string{"table runs: a faulty read"}})
	require.Error(t, db.Writable())
	require.NoError(t, db.Locate(t.Context()))
	require.NoError(t, db.Writable())
	require.NoFileExists(t, db.path+DamageName)
}

func TestAFullDiskIsSaidOnce(t *testing.T) {
	t.Parallel()
	db := open1(t)
	told := 0
	db.OnTrouble(func() { told++ })
	for _, err := range []error{syscall.ENOSPC, syscall.EROFS} {
		told = 0
		for range 3 {
			require.Error(t, db.note("writing", err))
		}
		require.Equal(t, 1, told)
		require.NoError(t, db.SetMeta(t.Context(), "x", 1))
		require.Equal(t, 2, told, "and when it is over")
	}
}

func TestFaultWritesAreRefusedWhileTheDataAreReplaced(t *testing.T) {
	t.Parallel()
	db := open1(t)
	db.Refuse("a restored copy is being put in place: try again in a minute")
	err := db.SetMeta(t.Context(), "x", 1)
	require.Equal(t, cert.Unavailable, cert.CodeOf(err))
	require.ErrorContains(t, err, "try again in a minute")
	db.Refuse("")
	require.NoError(t, db.SetMeta(t.Context(), "x", 1))
}

// TestAScanReadsEverything holds that the check in the background leaves no table and no index out, and no row.
func TestAScanReadsEverything(t *testing.T) {
	t.Parallel()
	path, _ := large(t)
	db, err := Open(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	sources, err := db.sources(t.Context())
	require.NoError(t, err)
	names := map[string]bool{}
	for _, s := range sources {
		names[s.name] = true
		require.NotEmpty(t, s.keys)
		var last []any
		read := 0
		for {
			n, err := s.step(t.Context(), db.r, &last, false)
			require.NoError(t, err, s.name)
			read += n
			if n < scanRows {
				break
			}
		}
		var w where
		if s.where != "" {
			w.add(s.where)
		}
		var want int
		require.NoError(t, db.r.QueryRow("SELECT count(*) FROM "+s.from+w.String()).Scan(&want))
		require.Equal(t, want, read, s.name)
	}
	for _, name := range []string{"table runs", "table results", "index results_job of table results", "index sqlite_autoindex_runs_1 of table runs", "table files"} {
		require.True(t, names[name], "%s is in %v", name, names)
	}
	steps := 0
	enough := errors.New("enough")
	require.ErrorIs(t, db.Scan(t.Context(), func(context.Context) error {
		if steps++; steps == 3 {
			return enough
		}
		return nil
	}), enough, "its rate is the caller's")
}

// TestFaultDamagedLog overwrites a byte in the middle of the write-ahead log that a killed process has left.
func TestFaultDamagedLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open1(t)
	for n := range 10 {
		require.NoError(t, db.SetMeta(ctx, fmt.Sprint("n", n), n))
	}
	content, err := os.ReadFile(db.path)
	require.NoError(t, err)
	log, err := os.ReadFile(db.path + "-wal")
	require.NoError(t, err)
	before, err := db.Epoch(ctx)
	require.NoError(t, err)
	last := logHeader + (len(log)-logHeader)/(frameHeader+pageSize)*(frameHeader+pageSize)
	for name, c := range map[string]struct {
		at   int
		said bool
	}{
		"sound":                   {-1, false},
		"in the middle":           {last / 2, true},
		"torn in the last commit": {last - 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			bad := bytes.Clone(log)
			if c.at >= 0 {
				bad[c.at] ^= 0xff
			}
			require.NoError(t, os.WriteFile(path, content, 0o600))
			require.NoError(t, os.WriteFile(path+"-wal", bad, 0o600))
			if c.said { // a process that ends between opening the database and noting it in there
				ended, end := context.WithCancel(ctx)
				end()
				_, err := OpenAlone(ended, path)
				require.Error(t, err)
				first, err := Open(ctx, path)
				require.NoError(t, err)
				require.NoError(t, first.Close()) // the log is no more
			}
			db, err := OpenAlone(ctx, path)
			require.NoError(t, err)
			require.NoFileExists(t, path+"-wal.lost")
			defer db.Close()
			var lost LostLog
			found, err := db.Meta(ctx, MetaLostLog, &lost)
			require.NoError(t, err)
			require.Equal(t, c.said, found)
			e, err := db.Epoch(ctx)
			require.NoError(t, err)
			require.Equal(t, c.said, e.ID != before.ID, "agents are asked what they hold if something is lost")
			if found {
				require.Positive(t, lost.Transactions)
				require.FileExists(t, lost.Kept)
			}
		})
	}
}
