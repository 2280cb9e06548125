package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// small mounts a file system of its own with so many bytes, where that is allowed.
func small(t *testing.T, bytes string) string {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+bytes); err != nil {
		t.Skipf("a full disk needs a mount, which is not allowed here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// fill leaves so many bytes free in dir.
func fill(t *testing.T, dir string, leave int64) {
	free, err := freeBytes(dir)
	require.NoError(t, err)
	f, err := os.Create(filepath.Join(dir, "fill"))
	require.NoError(t, err)
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, free-leave))
	require.NoError(t, f.Close())
}

func empty(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "fill"))) }

// on is a fixture on a directory.
func on(t *testing.T, dir string) *fixture {
	f := &fixture{t: t, now: epoch}
	f.open(Data{Dir: dir}, nil)
	f.machine = cert.Machine{ID: cert.NewID(cert.MachineID, epoch), Key: "manual:node0", Origin: cert.OriginManual, Hostname: "node0", Created: epoch}
	require.NoError(t, f.DB.AddMachine(t.Context(), f.machine))
	t.Cleanup(func() { f.DB.Close() })
	f.Free = freeBytes
	return f
}

// texts are the problems that the operator sees.
func (f *fixture) texts() string {
	var out []string
	for _, p := range f.Problems() {
		out = append(out, p.Text)
	}
	return strings.Join(out, "\n")
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (f *fixture) path(sha string) string { return filepath.Join(f.Data.Blobs(), sha[:2], sha) }

func TestFaultFullDisk(t *testing.T) {
	t.Parallel()
	dir := small(t, "6m")
	f := on(t, dir)
	ctx := t.Context()
	_, first, _ := f.add(sample(t, "head-small.tar.xz"))
	_, waits, _ := f.add(sample(t, "v5.0.0-odd.tar.xz"))
	require.NoError(t, f.IndexAll(ctx))
	_, err := f.DB.Reindex(ctx, waits, 0)
	require.NoError(t, err)

	// While a file is stored: what fitted is durable and counted, and nothing else.
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	u := blobs.Upload{Owner: "r1.1", SHA256: hashOf(content), Size: int64(len(content))}
	fill(t, dir, 300<<10)
	offset, complete, err := f.Blobs.Append(ctx, u, 0, bytes.NewReader(content), func() error { t.Error("recorded"); return nil })
	require.ErrorIs(t, err, unix.ENOSPC)
	require.False(t, complete)
	have, err := f.Blobs.Offset(u)
	require.NoError(t, err)
	require.Equal(t, offset, have, "the offset is what is on disk")
	_, err = f.Blobs.Open(u.SHA256)
	require.Error(t, err, "no part of a file counts as one")
	f.StorageFull()
	require.Contains(t, f.texts(), "the disk of "+dir+" is full: nothing can be stored and agents keep their results; make room or extend the storage, then it goes on by itself")

	// While the row is committed and while indexing: an error that says so; the submission stays in the queue.
	for n := 0; ; n++ { // until the log does not grow any more
		if err = f.DB.SetMeta(ctx, "fill", strings.Repeat("x", 64<<10)); err != nil {
			break
		}
		require.Less(t, n, 1000)
	}
	require.Equal(t, cert.NoSpace, cert.CodeOf(err))
	require.ErrorContains(t, err, "cannot store this: the controller's disk is full; it will be taken when there is room")
	require.Equal(t, cert.NoSpace, cert.CodeOf(f.IndexAll(ctx)))
	require.Equal(t, cert.IndexPending, f.submission(waits).IndexState)
	require.Equal(t, cert.IndexDone, f.submission(first).IndexState, "reading goes on")
	require.True(t, f.Problems()[0].Stop)
	require.NoError(t, f.probe(ctx))
	require.Contains(t, f.texts(), "is full")

	// While backing up: it says how much is needed, and leaves nothing behind.
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	_, err = f.BackupTo(ctx, filepath.Join(dir, "b.tar"))
	require.Equal(t, cert.NoSpace, cert.CodeOf(err))
	require.ErrorContains(t, err, "MiB are free")
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, after, len(before))

	// A start: what is there can be read.
	require.NoError(t, f.DB.Close())
	db, err := f.Data.OpenDatabase(ctx)
	if err == nil { // otherwise closing has made room for nobody
		_, err = db.Submission(ctx, first)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	} else {
		require.ErrorContains(t, err, "the disk is full (make room in "+dir)
	}

	// With room again all goes on without a person.
	empty(t, dir)
	f.open(f.Data, nil)
	f.Free = freeBytes
	offset, complete, err = f.Blobs.Append(ctx, u, have, bytes.NewReader(content[have:]), func() error { return nil })
	require.NoError(t, err)
	require.True(t, complete)
	require.Equal(t, u.Size, offset)
	f.trouble.full.Store(true)
	f.measure()
	require.NoError(t, f.probe(ctx))
	require.NoError(t, f.IndexAll(ctx))
	require.Equal(t, cert.IndexDone, f.submission(waits).IndexState)
	require.Empty(t, f.texts())
	problems, err := f.DB.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestFaultStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := small(t, "6m")
	f := on(t, dir)
	_, id, _ := f.add(sample(t, "head-small.tar.xz"))
	require.NoError(t, f.Data.keepBallast())
	require.NoError(t, f.DB.Close())
	fill(t, dir, 0)
	db, err := f.Data.OpenDatabase(t.Context())
	require.NoError(t, err, "the ballast makes room for SQLite's log")
	defer db.Close()
	_, err = db.Submission(t.Context(), id)
	require.NoError(t, err)
}

func TestFaultStorageIsReadOnly(t *testing.T) {
	t.Parallel()
	dir := small(t, "6m")
	f := on(t, dir)
	require.NoError(t, f.DB.Close())
	require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := f.Data.Lock()
	require.ErrorContains(t, err, "the storage is read-only (see the kernel's log, and mount it for writing)")
}

func TestFaultDatabaseIsEmptyOrMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.add([]byte("content"))
	require.NoError(t, os.MkdirAll(f.Data.Keys(), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(f.Data.Keys(), "ca-0001.crt"), nil, 0o600))
	backup := filepath.Join(t.TempDir(), "b.tar")
	_, err := f.BackupTo(ctx, backup)
	require.NoError(t, err)
	require.NoError(t, f.DB.Close())
	for _, what := range []string{"empty", "missing"} {
		require.NoError(t, os.Truncate(f.Data.Database(), 0))
		if what == "missing" {
			require.NoError(t, os.Remove(f.Data.Database()))
		}
		_, err = f.Data.OpenDatabase(ctx)
		require.ErrorContains(t, err, "it is "+what+", although this storage has been in use (repair it with certlabd repair --backup FILE, or restore a backup)")
		_, err = Repair(ctx, f.Data, nil, "", f.now)
		require.ErrorContains(t, err, "nothing of the database can be read, and no backup was given")
		done, err := Repair(ctx, f.Data, nil, backup, f.now)
		require.NoError(t, err)
		require.Equal(t, 1, done.Restored["submissions"])
		_, err = PutInPlace(f.Data)
		require.NoError(t, err)
		db, err := f.Data.OpenDatabase(ctx)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}

func TestFaultDamagedDatabaseIsRepaired(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	_, id, _ := f.add(sample(t, "head-small.tar.xz"))
	require.NoError(t, f.IndexAll(ctx))
	require.NoError(t, f.DB.Close())
	// Every page but the first few and those with the primary tables' few rows: the results.
	file, err := os.ReadFile(f.Data.Database())
	require.NoError(t, err)
	at := bytes.LastIndex(file, []byte("com.example.lab::")) / 4096 * 4096
	require.Positive(t, at)
	copy(file[at:at+16], bytes.Repeat([]byte{0xee}, 16))
	require.NoError(t, os.WriteFile(f.Data.Database(), file, 0o600))
	f.open(f.Data, nil)
	require.NoError(t, f.DB.Scan(ctx, func(context.Context) error { return nil }))
	require.Contains(t, f.texts(), "the database is damaged (")
	require.Contains(t, f.texts(), "nothing is written and agents keep their results; run the repair action, or certlabd repair --data "+f.Data.Dir)
	_, err = f.BackupTo(ctx, filepath.Join(t.TempDir(), "b.tar"))
	require.ErrorContains(t, err, "cannot back up: the database is damaged")
	require.ErrorContains(t, err, "keep the backups that you have")
	news, err := f.Next(ctx, f.machine.ID, 0, func() error { return nil })
	require.NoError(t, err)
	require.Empty(t, news.Orders)

	// A repair that is cut off before it is staged has changed nothing.
	done, err := f.Repair(ctx, "")
	require.NoError(t, err)
	require.True(t, done.Database)
	require.Empty(t, done.Lost)
	require.ErrorContains(t, f.DB.SetMeta(ctx, "x", 1), "being repaired", "until the new database is in place")
	require.NoError(t, f.DB.Close())
	_, err = Repair(ctx, f.Data, nil, "", f.now)
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	aside, err := PutInPlace(f.Data)
	require.NoError(t, err)
	kept, err := os.ReadFile(filepath.Join(aside, databaseName))
	require.NoError(t, err)
	require.True(t, bytes.Equal(file, kept), "the damaged database is kept as it was")
	f.open(f.Data, nil)
	require.Empty(t, f.texts())
	require.NoError(t, f.IndexAll(ctx))
	require.Equal(t, cert.IndexDone, f.submission(id).IndexState)
	done, err = f.Repair(ctx, "")
	require.NoError(t, err)
	require.False(t, done.Database, "there is nothing more to repair")
	require.NoError(t, f.DB.SetMeta(ctx, "x", 1))
}

// TestDamageIsLocatedOnce makes an index that its table contradicts.
func TestDamageIsLocatedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.add(sample(t, "head-small.tar.xz"))
	require.NoError(t, f.DB.Close())
	raw, err := sql.Open("sqlite", f.Data.Database())
	require.NoError(t, err)
	raw.SetMaxOpenConns(1)
	for _, text := range []string{"PRAGMA writable_schema = 1", "UPDATE sqlite_schema SET sql = 'CREATE INDEX runs_plan ON runs (origin, seq)' WHERE name = 'runs_plan'"} {
		_, err = raw.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	require.NoError(t, raw.Close())
	require.NoError(t, os.WriteFile(f.Data.Database()+sqlite.DamageName, []byte(`{"where": ["table runs"]}`), 0o600))
	f.open(f.Data, nil)
	f.noticed() // as at a start
	<-f.locate
	require.NoError(t, f.DB.Locate(t.Context()))
	require.Contains(t, f.texts(), "runs_plan")
	require.Empty(t, f.locate, "one close look at the whole database is enough")
}

// TestManyFilesThatCannotBeHadDoNotHideOneThatCan has more files of which nothing can be hoped than are looked at together.
func TestManyFilesThatCannotBeHadDoNotHideOneThatCan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	run := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromAction, State: cert.Completed, Created: f.now, Finished: &f.now}
	require.NoError(t, f.DB.AddRun(ctx, run))
	raw, err := sql.Open("sqlite", f.Data.Database())
	require.NoError(t, err)
	for _, text := range []string{
		"INSERT INTO files SELECT '" + run.ID + "', 1, printf('%064x', n), 'console', 'console', 2, n, '' FROM counter",
		"INSERT INTO bad_files SELECT printf('%064x', n), 'missing', n FROM counter",
		"INSERT INTO gone_files SELECT '" + run.ID + "', 1, printf('%064x', n), 'it is gone', n FROM counter WHERE n < ?1",
	} {
		_, err = raw.ExecContext(ctx, "WITH RECURSIVE counter (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counter WHERE n < ?1) "+text, maxBad)
		require.NoError(t, err)
	}
	require.NoError(t, raw.Close())
	last := fmt.Sprintf("%064x", maxBad)
	require.NoError(t, f.sayFiles(ctx))
	require.True(t, f.FileIsBad(last), "it is welcome again")
	news, err := f.Next(ctx, f.machine.ID, 0, func() error { return nil })
	require.NoError(t, err)
	require.Len(t, news.Resend, 1)
	require.Equal(t, last, news.Resend[0].SHA256)
}

// TestAFileThatTheDiskDoesNotGiveBack has a file in whose place one stands that cannot be read: the others are seen to all the same.
func TestAFileThatTheDiskDoesNotGiveBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	content := sample(t, "head-small.tar.xz")
	_, id, sha := f.add(content)
	_, other, _ := f.add(sample(t, "v5.0.0-odd.tar.xz"))
	require.NoError(t, os.Remove(f.path(sha)))
	require.NoError(t, os.Symlink("/proc/self/mem", f.path(sha)))
	require.ErrorIs(t, f.Blobs.Verify(ctx, sha), unix.EIO)

	require.NoError(t, f.IndexAll(ctx))
	require.Equal(t, cert.IndexPending, f.submission(id).IndexState)
	require.Equal(t, cert.IndexDone, f.submission(other).IndexState)
	require.Contains(t, f.texts(), "s.tar.xz of run ")
	require.Contains(t, f.texts(), "is altered on disk")
	require.NoError(t, f.DB.MarkGood(ctx, sha))
	require.NoError(t, f.sayFiles(ctx))
	_, err := f.Scrub(ctx)
	require.NoError(t, err)
	require.Contains(t, f.texts(), "is altered on disk")
	report, err := Check(ctx, f.Data)
	require.NoError(t, err)
	require.Len(t, report.Bad, 1)
	backup := filepath.Join(t.TempDir(), "b.tar")
	made, err := f.BackupTo(ctx, backup)
	require.NoError(t, err)
	require.Equal(t, []string{sha}, made.Missing)
	done, err := f.Repair(ctx, "")
	require.NoError(t, err)
	require.Len(t, done.Missing, 1)

	u := blobs.Upload{Owner: "r1", SHA256: sha, Size: int64(len(content))}
	_, complete, err := f.Blobs.Append(ctx, u, 0, bytes.NewReader(content), func() error { return f.FileIsBack(ctx, sha) })
	require.NoError(t, err)
	require.True(t, complete)
	require.Empty(t, f.texts())
}

func TestOneRepairOrRestoreAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	backup := filepath.Join(t.TempDir(), "b.tar")
	_, err := f.BackupTo(ctx, backup)
	require.NoError(t, err)
	_, err = f.Restore(ctx, filepath.Join(t.TempDir(), "none"))
	require.Error(t, err)
	require.NoError(t, f.DB.SetMeta(ctx, "x", 1), "one that failed is over")
	_, err = f.Restore(ctx, backup)
	require.NoError(t, err)
	for _, second := range []func() error{
		func() error { _, err := f.Restore(ctx, filepath.Join(t.TempDir(), "none")); return err },
		func() error { _, err := f.Repair(ctx, filepath.Join(t.TempDir(), "none")); return err },
	} {
		err := second()
		require.Equal(t, cert.Conflict, cert.CodeOf(err))
		require.ErrorContains(t, err, "a repair or a restore is under way already")
		require.ErrorContains(t, f.DB.SetMeta(ctx, "x", 1), "is being restored", "nothing is acknowledged that would then be gone")
	}
}

func TestFaultLostFile(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{fileMissing, fileAltered} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ctx := t.Context()
			content := sample(t, "head-small.tar.xz")
			run := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromAction, State: cert.Completed, Created: f.now, Finished: &f.now}
			require.NoError(t, f.DB.AddRun(ctx, run))
			file := cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "submission.tar.xz", SHA256: hashOf(content), Size: int64(len(content)), Received: f.now}
			u := blobs.Upload{Owner: run.ID, SHA256: file.SHA256, Size: file.Size}
			send := func() {
				_, complete, err := f.Blobs.Append(ctx, u, 0, bytes.NewReader(content), func() (err error) {
					if file, err = f.DB.AddFile(ctx, run.ID, file); err == nil && f.FileIsBad(file.SHA256) {
						err = f.FileIsBack(ctx, file.SHA256)
					}
					return err
				})
				require.NoError(t, err)
				require.True(t, complete)
			}
			send()
			_, other, _ := f.add([]byte("another submission, behind it in the queue"))
			backup := filepath.Join(t.TempDir(), "b.tar")
			_, err := f.BackupTo(ctx, backup)
			require.NoError(t, err)
			lose := func() {
				require.NoError(t, os.Remove(f.path(file.SHA256)))
				if reason == fileAltered {
					bad := bytes.Clone(content)
					bad[len(bad)/2] ^= 1
					require.NoError(t, os.WriteFile(f.path(file.SHA256), bad, 0o600))
				}
			}
			lose()

			// Indexing comes upon it first, and goes on with what is behind it.
			require.NoError(t, f.IndexAll(ctx))
			require.Equal(t, cert.IndexPending, f.submission(file.Submission).IndexState, "it is not unreadable: its bytes are lost")
			require.Equal(t, cert.IndexUnreadable, f.submission(other).IndexState)
			want := "submission.tar.xz of run " + run.ID + " (submission " + file.Submission + ") of machine node0 is " + reason + " on disk"
			require.Contains(t, f.texts(), want+": the machine was asked to send it again")
			report, err := Check(ctx, f.Data)
			require.NoError(t, err)
			require.Len(t, report.Problems(), 1)
			require.Contains(t, report.Problems()[0], file.Submission)
			if reason == fileMissing {
				_, err = f.OpenFile(ctx, file.SHA256, file.Size)
				require.ErrorContains(t, err, "it is missing on the controller's disk")
				require.Equal(t, cert.Unavailable, cert.CodeOf(err))
			}
			f.restart(nil) // which does not forget it
			require.NoError(t, f.LookAtFiles(ctx))
			require.Contains(t, f.texts(), want)
			news, err := f.Next(ctx, f.machine.ID, time.Hour, func() error { return nil })
			require.NoError(t, err)
			require.Len(t, news.Resend, 1, "a poll is answered at once")
			require.Equal(t, file.SHA256, news.Resend[0].SHA256)

			// From the machine.
			send()
			require.Empty(t, f.texts())
			require.NoError(t, f.Blobs.Verify(ctx, file.SHA256))
			require.NoError(t, f.IndexAll(ctx))
			require.Equal(t, cert.IndexDone, f.submission(file.Submission).IndexState)

			// The machine has none any more; from the backup.
			lose()
			f.now = f.now.Add(scrubEvery)
			for range 3 {
				_, err = f.Scrub(ctx)
				require.NoError(t, err)
			}
			require.Contains(t, f.texts(), want, "the check of hashes finds it without a reader")
			require.NoError(t, f.FileIsGone(ctx, run.ID, 1, file.SHA256, "removed after 7 days"))
			require.Contains(t, f.texts(), "the machine cannot send it again (removed after 7 days): run certlabd repair --data "+f.Data.Dir+" --backup FILE")
			news, err = f.Next(ctx, f.machine.ID, 0, func() error { return nil })
			require.NoError(t, err)
			require.Empty(t, news.Resend)
			made, err := f.BackupTo(ctx, filepath.Join(t.TempDir(), "without.tar"))
			require.NoError(t, err)
			require.Equal(t, []string{file.SHA256}, made.Missing, "a backup says what is not in it")
			done, err := f.Repair(ctx, backup)
			require.NoError(t, err)
			require.False(t, done.Database)
			require.Equal(t, 1, done.Files)
			require.Empty(t, f.texts())
			require.NoError(t, f.Blobs.Verify(ctx, file.SHA256))
		})
	}
}

func TestFaultClockIsWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	require.NoError(t, f.Apply(ctx, order.ControllerDesired{RetentionDays: 10}))
	_, id, _ := f.add([]byte("content"))
	count := func() (n int) {
		counts, err := f.DB.RunCounts(ctx)
		require.NoError(t, err)
		return counts["completed"]
	}
	require.NoError(t, f.Retain(ctx, 0))
	f.now = epoch.AddDate(1, 0, 0)
	for range 5 {
		require.NoError(t, f.Retain(ctx, time.Hour))
	}
	require.Equal(t, 1, count(), "a jump by a year removes nothing")
	require.Contains(t, f.texts(), "the controller's clock went ahead by 365 days at once (from 2026-01-01 to 2027-01-01): in case it is wrong, old results are not removed for")
	f.now = epoch.AddDate(0, 0, -1)
	require.NoError(t, f.Retain(ctx, time.Hour))
	require.Empty(t, f.texts(), "it is over when the clock is right again")
	require.Equal(t, 1, count())
	f.now = epoch.AddDate(0, 0, 1)
	require.NoError(t, f.Retain(ctx, time.Hour))
	require.Empty(t, f.texts(), "a day is no jump")

	// A clock that stays where it went is believed at last.
	f.now = epoch.AddDate(0, 0, 60)
	for hours := 0; count() == 1; hours++ {
		require.Less(t, hours, 100)
		f.now = f.now.Add(time.Hour)
		require.NoError(t, f.Retain(ctx, time.Hour))
	}
	_, err := f.DB.Submission(ctx, id)
	require.Equal(t, cert.NotFound, cert.CodeOf(err))
	require.Empty(t, f.texts())
}

func TestFaultRestoredToBeforeWhatWasDelivered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	add := func(origin string) string {
		r := cert.Report{Attempt: 1, Sequence: 1, Origin: origin, State: cert.Running, Spec: cert.Spec{Plan: "x::y"}}
		run := cert.NewReportedRun(cert.NewID(cert.RunID, f.now), f.machine.ID, r, f.now)
		require.True(t, run.Report(r, f.now))
		require.NoError(t, f.DB.AddRun(ctx, *run))
		return run.ID
	}
	goesOn, kept, forgotten, silent := add(cert.FromAction), add(cert.FromAction), add(cert.FromAction), add(cert.FromAction)
	noFiles := add(cert.FromAction)
	ordered := cert.NewID(cert.RunID, f.now)
	require.NoError(t, f.DB.AddRun(ctx, cert.Run{ID: ordered, Machine: f.machine.ID, Origin: cert.FromOrder, State: cert.Queued, Created: f.now}))
	backup := filepath.Join(t.TempDir(), "b.tar")
	_, err := f.BackupTo(ctx, backup)
	require.NoError(t, err)
	newer := cert.NewID(cert.RunID, f.now)
	before := f.epochID(ctx)
	require.NotEmpty(t, before)
	f.now = f.now.Add(time.Hour)
	_, err = f.Restore(ctx, backup)
	require.NoError(t, err)
	err = f.DB.SetMeta(ctx, "x", 1)
	require.ErrorContains(t, err, "a backup is being restored: try again in some minutes", "nothing is acknowledged that would then be gone")
	require.Equal(t, cert.Unavailable, cert.CodeOf(err))
	require.NoError(t, f.DB.Close())
	_, err = PutInPlace(f.Data)
	require.NoError(t, err)
	f.open(f.Data, nil)
	news, err := f.Next(ctx, f.machine.ID, 0, func() error { return nil })
	require.NoError(t, err)
	require.NotEmpty(t, news.Epoch)
	require.NotEqual(t, before, news.Epoch, "agents see that the data have gone back")

	files := []order.File{{Kind: order.SubmissionFile, Name: "s.tar.xz", SHA256: hashOf(nil), Size: 1}}
	held := order.Held{Epoch: news.Epoch, Runs: []order.HeldRun{{Run: goesOn, Attempt: 1}, {Run: kept, Attempt: 1, Delivered: true, Files: files},
		{Run: forgotten, Attempt: 1, Delivered: true}, {Run: newer, Attempt: 1, Delivered: true, Files: files},
		{Run: noFiles, Attempt: 1, Delivered: true, Whole: true}, {Run: ordered, Attempt: 1, Delivered: true}, {Run: silent, Attempt: 1}}}
	for range 2 {
		again, err := f.Held(ctx, f.machine.ID, held)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{kept, newer, noFiles}, again)
	}
	state := func(id string) cert.Run {
		run, err := f.DB.Run(ctx, id)
		require.NoError(t, err)
		return run
	}
	require.Equal(t, cert.Running, state(goesOn).State)
	require.Equal(t, cert.Running, state(kept).State)
	for _, id := range []string{forgotten, ordered} {
		lost := state(id)
		require.Equal(t, cert.Failed, lost.State)
		require.Equal(t, order.FailLost, lost.Failure.Type)
		require.Contains(t, lost.Failure.Message, "the machine knows nothing of this run")
	}
	news, err = f.Next(ctx, f.machine.ID, 0, func() error { return nil })
	require.NoError(t, err)
	require.Empty(t, news.Orders, "what the machine has run already is not ordered again")

	// What the machine says after all is taken in.
	_, err = f.DB.UpdateRun(ctx, forgotten, nil, func(run *cert.Run) (bool, error) {
		return run.Finish(cert.Finish{Report: cert.Report{Attempt: 1, Sequence: 9, Origin: cert.FromAction, State: cert.Cancelled}}, f.now)
	})
	require.NoError(t, err)
	require.Equal(t, cert.Cancelled, state(forgotten).State)

	// Cancelling always ends a run, and so does silence after a restore.
	_, err = f.DB.UpdateRun(ctx, kept, nil, func(run *cert.Run) (bool, error) { return run.Cancel(f.now) })
	require.NoError(t, err)
	f.now = f.now.Add(time.Minute)
	require.NoError(t, f.EndLost(ctx))
	require.Equal(t, cert.Cancelled, state(kept).State)
	require.Contains(t, state(kept).Failure.Message, "it was cancelled, and its machine has said nothing of it for an hour")
	news, err = f.Next(ctx, f.machine.ID, 0, func() error { return nil })
	require.NoError(t, err)
	require.Empty(t, news.Cancel)
	require.Equal(t, cert.Running, state(silent).State)
	f.now = f.now.Add(lostAfter + time.Minute)
	require.NoError(t, f.EndLost(ctx))
	require.Equal(t, cert.Failed, state(silent).State)
	require.Contains(t, state(silent).Failure.Message, "its machine has said nothing of it for a day since; run it again")
}

func TestFaultSecondServiceOnTheSameData(t *testing.T) {
	t.Parallel()
	data := Data{Dir: t.TempDir()}
	release, err := data.Lock()
	require.NoError(t, err)
	_, err = data.Lock()
	require.ErrorContains(t, err, "another certlabd is running on it")
	release()
	release, err = data.Lock()
	require.NoError(t, err)
	release()
}
