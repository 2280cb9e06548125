package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/blobs"
	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fixture is a lab on a data directory of its own, whose clock stands still.
type fixture struct {
	*Lab
	t       *testing.T
	now     time.Time
	machine cert.Machine
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, now: epoch}
	data := Data{Dir: t.TempDir()}
	f.open(data, nil)
	f.machine = cert.Machine{ID: cert.NewID(cert.MachineID, epoch), Key: "manual:node0", Origin: cert.OriginManual, Hostname: "node0", Created: epoch}
	require.NoError(t, f.DB.AddMachine(t.Context(), f.machine))
	t.Cleanup(func() { f.DB.Close() })
	return f
}

func (f *fixture) open(data Data, reader Reader) {
	db, err := sqlite.Open(f.t.Context(), data.Database())
	require.NoError(f.t, err)
	store, err := blobs.Open(data.Blobs())
	require.NoError(f.t, err)
	f.Lab = New(Options{DB: db, Blobs: store, Data: data, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return f.now },
		Free: func(string) (int64, error) { return 1 << 40, nil }, Reader: reader})
}

// restart is what a crash and a new start come to.
func (f *fixture) restart(reader Reader) {
	require.NoError(f.t, f.DB.Close())
	f.open(f.Data, reader)
}

// add stores a submission that waits to be indexed.
func (f *fixture) add(content []byte) (run, submission, sha string) {
	sum := sha256.Sum256(content)
	sha = hex.EncodeToString(sum[:])
	r := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromUpload, State: cert.Completed, Created: f.now, Finished: &f.now}
	_, complete, err := f.Blobs.Append(f.t.Context(), blobs.Upload{Owner: r.ID, SHA256: sha, Size: int64(len(content))}, 0, bytes.NewReader(content), func() (err error) {
		submission, _, err = f.DB.AddUpload(f.t.Context(), r, cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s.tar.xz", SHA256: sha, Size: int64(len(content)), Received: f.now})
		return err
	})
	require.NoError(f.t, err)
	require.True(f.t, complete)
	return r.ID, submission, sha
}

func (f *fixture) submission(id string) cert.Submission {
	s, err := f.DB.Submission(f.t.Context(), id)
	require.NoError(f.t, err)
	return s
}

func sample(t *testing.T, name string) []byte {
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return content
}

func TestWhatWasAcknowledgedIsIndexedAfterARestart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, small, _ := f.add(sample(t, "head-small.tar.xz"))
	_, odd, _ := f.add(sample(t, "v5.0.0-odd.tar.xz"))
	require.Equal(t, cert.IndexPending, f.submission(small).IndexState)
	f.restart(nil)
	require.NoError(t, f.IndexAll(t.Context()))
	for _, id := range []string{small, odd} {
		s := f.submission(id)
		require.Equal(t, cert.IndexDone, s.IndexState)
		results, _, err := f.DB.Results(t.Context(), sqlite.ResultFilter{Submission: id, Section: cert.SectionResults}, sqlite.Page{Limit: 1000})
		require.NoError(t, err)
		counts := cert.Counts{}
		for _, r := range results {
			counts[r.Outcome]++
			require.NotEmpty(t, r.ID)
		}
		require.Equal(t, counts, s.Counts)
	}
	require.NoError(t, f.IndexAll(t.Context()), "an empty queue is no error")
}

func TestBytesThatCannotBeHadNowAreTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, id, _ := f.add(sample(t, "head-small.tar.xz"))
	f.restart(func(context.Context, io.Reader) (cert.Index, error) {
		return cert.Index{}, errors.New("input/output error")
	})
	require.ErrorContains(t, f.IndexAll(t.Context()), "input/output error")
	require.Equal(t, cert.IndexPending, f.submission(id).IndexState, "a broken disk does not make a submission unreadable")
	f.restart(nil)
	require.NoError(t, f.IndexAll(t.Context()))
	require.Equal(t, cert.IndexDone, f.submission(id).IndexState)
}

func TestABetterReaderReadsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, id, _ := f.add([]byte("of a format to come"))
	require.NoError(t, f.IndexAll(t.Context()))
	s := f.submission(id)
	require.Equal(t, cert.IndexUnreadable, s.IndexState)
	require.NotEmpty(t, s.IndexError)
	n, err := f.DB.Reindex(t.Context(), "", ReaderVersion)
	require.NoError(t, err)
	require.Zero(t, n, "this reader has seen it")
	n, err = f.DB.Reindex(t.Context(), "", ReaderVersion+1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	f.restart(func(context.Context, io.Reader) (cert.Index, error) { return cert.Index{Plan: "x::y"}, nil })
	require.NoError(t, f.IndexAll(t.Context()))
	s = f.submission(id)
	require.Equal(t, cert.IndexDone, s.IndexState)
	require.Empty(t, s.IndexError)
}

func TestRetentionRemovesWhatIsOldAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	_, _, shared := f.add([]byte("shared"))
	_, _, only := f.add([]byte("only old"))
	f.now = epoch.AddDate(0, 0, 20)
	// The same bytes on another machine.
	f.machine = cert.Machine{ID: cert.NewID(cert.MachineID, f.now), Key: "manual:node1", Hostname: "node1", Created: f.now}
	require.NoError(t, f.DB.AddMachine(ctx, f.machine))
	f.add([]byte("shared"))
	orphan := []byte("a crash came between")
	sum := sha256.Sum256(orphan)
	_, _, err := f.Blobs.Append(ctx, blobs.Upload{Owner: "x", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(orphan))}, 0, bytes.NewReader(orphan), func() error { return nil })
	require.NoError(t, err)

	require.NoError(t, os.Chtimes(filepath.Join(f.Data.Blobs(), hex.EncodeToString(sum[:1]), hex.EncodeToString(sum[:])), epoch, epoch))

	left := filepath.Join(f.Data.Dir, ".backup-crashed")
	require.NoError(t, os.Mkdir(left, 0o700))
	require.NoError(t, os.Chtimes(left, epoch, epoch))
	f.now = epoch.AddDate(0, 0, 25)
	require.NoError(t, f.Retain(ctx, 0))
	require.NoDirExists(t, left)
	count := func() (n int) {
		require.NoError(t, f.Blobs.Each(func(string, int64) error { n++; return nil }))
		return n
	}
	require.Equal(t, 2, count(), "for ever, but for what nothing names")
	require.NoError(t, f.Apply(ctx, order.ControllerDesired{RetentionDays: 10}))
	require.NoError(t, f.Retain(ctx, 0))
	require.Equal(t, 1, count())
	require.NoError(t, f.Blobs.Verify(ctx, shared))
	require.Error(t, f.Blobs.Verify(ctx, only))
	problems, err := f.DB.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestARestoreSurvivesAPowerCutAtEachStep cuts the swap at every rename, and starts again.
func TestARestoreSurvivesAPowerCutAtEachStep(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	f.add([]byte("in the backup"))
	require.NoError(t, os.MkdirAll(f.Data.Keys(), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(f.Data.Keys(), "ca-0001.key"), []byte("backed up"), 0o600))
	backup := filepath.Join(t.TempDir(), "b.tar")
	_, err := f.BackupTo(ctx, backup)
	require.NoError(t, err)
	for step := 0; ; step++ {
		data := Data{Dir: filepath.Join(t.TempDir(), fmt.Sprint(step))}
		require.NoError(t, os.MkdirAll(data.Keys(), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(data.Keys(), "ca-0001.key"), []byte("before"), 0o600))
		require.NoError(t, os.WriteFile(data.Database()+"-wal", []byte("of the database before"), 0o600))
		require.NoError(t, os.WriteFile(data.Database(), []byte("before"), 0o600))
		done, err := Stage(ctx, data, backup, epoch)
		require.NoError(t, err)
		content, err := os.ReadFile(data.Database())
		require.NoError(t, err)
		require.Equal(t, "before", string(content), "staging leaves what is in place alone")
		_, err = Stage(ctx, data, backup, epoch)
		require.Equal(t, cert.Conflict, cert.CodeOf(err))
		cut := cutSwap(t, data, step)
		aside, err := PutInPlace(data)
		require.NoError(t, err)
		require.Equal(t, done.SetAside, aside)
		report, err := Check(ctx, data)
		require.NoError(t, err)
		require.Empty(t, report.Problems())
		require.Equal(t, 1, report.Blobs)
		require.Zero(t, report.Orphans)
		key, err := os.ReadFile(filepath.Join(data.Keys(), "ca-0001.key"))
		require.NoError(t, err)
		require.Equal(t, "backed up", string(key))
		content, err = os.ReadFile(filepath.Join(aside, databaseName))
		require.NoError(t, err)
		require.Equal(t, "before", string(content))
		require.FileExists(t, filepath.Join(aside, databaseName+"-wal"))
		left, err := filepath.Glob(filepath.Join(data.Dir, ".*"))
		require.NoError(t, err)
		require.Empty(t, left)
		again, err := PutInPlace(data)
		require.NoError(t, err)
		require.Empty(t, again, "there is nothing more to do")
		if !cut {
			require.Greater(t, step, 4)
			return
		}
	}
}

// cutSwap does the first steps of the swap as swap does them, and reports whether there were more.
func cutSwap(t *testing.T, data Data, steps int) bool {
	matches, err := filepath.Glob(filepath.Join(data.Dir, ".restore-*"))
	require.NoError(t, err)
	require.Len(t, matches, 1)
	aside, err := filepath.Glob(filepath.Join(data.Dir, "before-restore-*"))
	require.NoError(t, err)
	require.Len(t, aside, 1)
	var moves [][2]string
	for _, name := range restorable {
		moves = append(moves, [2]string{filepath.Join(data.Dir, name), filepath.Join(aside[0], name)})
	}
	moves = append(moves, [2]string{"", filepath.Join(matches[0], "aside.done")})
	for _, name := range restorable {
		moves = append(moves, [2]string{filepath.Join(matches[0], name), filepath.Join(data.Dir, name)})
	}
	for _, m := range moves {
		if steps == 0 {
			return true
		}
		if m[0] == "" {
			require.NoError(t, os.WriteFile(m[1], nil, 0o600))
			steps--
			continue
		}
		if err := os.Rename(m[0], m[1]); err == nil {
			steps--
		}
	}
	return false
}

func TestABackupThatIsNotOneIsRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	f.add([]byte("content"))
	good := filepath.Join(t.TempDir(), "b.tar")
	_, err := f.BackupTo(ctx, good)
	require.NoError(t, err)
	content, err := os.ReadFile(good)
	require.NoError(t, err)
	flipped := bytes.Clone(content)
	flipped[bytes.LastIndex(flipped, []byte("content"))] ^= 1
	newer := bytes.Replace(content, []byte(fmt.Sprintf(`"schema": %d`, sqlite.Version)), []byte(`"schema": 9`), 1)
	for name, bad := range map[string][]byte{
		"empty": {}, "no tar": []byte("hello"), "cut in the manifest": content[:600], "cut in the database": content[:len(content)/2],
		"cut at the end": content[:len(content)-3000], "a flipped bit": flipped, "newer": newer,
		"a path": bytes.Replace(content, []byte(`"certlab.db"`), []byte(`"../../a.db"`), 1),
	} {
		path := filepath.Join(t.TempDir(), "bad.tar")
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		data := Data{Dir: t.TempDir()}
		_, err := Stage(ctx, data, path, epoch)
		require.Equal(t, cert.Rejected, cert.CodeOf(err), "%s: %v", name, err)
		left, err := os.ReadDir(data.Dir)
		require.NoError(t, err)
		require.Empty(t, left, name)
	}
}
