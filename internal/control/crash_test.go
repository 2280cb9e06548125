package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// A crash is what was on disk when the process was killed at a step, and what had been acknowledged by then.
type crash struct {
	step  string
	data  Data
	acked map[string]bool
}

// TestFaultKilledAtEachStep keeps a copy of the storage at every step of taking in, indexing and removing submissions, and of redeeming a
// token. Each copy is what a service that was killed there leaves to the next: nothing that was acknowledged is missing from it, and
// it can be gone on from.
func TestFaultKilledAtEachStep(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	root := t.TempDir()
	acked := map[string]bool{}
	var crashes []crash
	watch := func(step string) {
		c := crash{fmt.Sprintf("%02d %s", len(crashes), step), Data{Dir: filepath.Join(root, fmt.Sprint(len(crashes)))}, map[string]bool{}}
		for what := range acked {
			c.acked[what] = true
		}
		copyTree(t, c.data.Dir, f.Data.Dir)
		crashes = append(crashes, c)
	}
	f.Blobs.OnStep(watch)
	f.DB.OnStep(watch)

	content := sample(t, "head-small.tar.xz")
	run := cert.Run{ID: cert.NewID(cert.RunID, f.now), Machine: f.machine.ID, Origin: cert.FromAction, State: cert.Completed, Created: f.now, Finished: &f.now}
	require.NoError(t, f.DB.AddRun(ctx, run))
	acked["run"] = true
	file := cert.File{Attempt: 1, Kind: cert.KindSubmission, Name: "s.tar.xz", SHA256: hashOf(content), Size: int64(len(content)), Received: f.now}
	u := blobs.Upload{Owner: run.ID, SHA256: file.SHA256, Size: file.Size}
	submission := ""
	take := func(lab *Lab, at int64, part []byte) (int64, bool, error) {
		return lab.Blobs.Append(ctx, u, at, bytes.NewReader(part), func() error {
			stored, err := lab.DB.AddFile(ctx, run.ID, file)
			submission = stored.Submission
			return err
		})
	}
	_, _, err := take(f.Lab, 0, content[:len(content)/2])
	require.NoError(t, err)
	acked["half"] = true
	_, complete, err := take(f.Lab, int64(len(content)/2), content[len(content)/2:])
	require.NoError(t, err)
	require.True(t, complete)
	acked["file"] = true
	first := submission
	require.NoError(t, f.IndexAll(ctx))
	acked["indexed"] = true
	require.NoError(t, f.DB.AddToken(ctx, cert.Token{ID: "t", Name: "a", Role: cert.Viewer, Created: f.now, CodeExpires: f.now.Add(time.Hour)}, "code"))
	acked["code"] = true
	_, err = f.DB.Redeem(ctx, "code", "secret", f.now)
	require.NoError(t, err)
	acked["token"] = true
	require.NoError(t, f.Apply(ctx, order.ControllerDesired{RetentionDays: 1}))
	f.now = f.now.Add(40 * time.Hour)
	acked["may be removed"] = true
	require.NoError(t, f.Retain(ctx, 0))
	f.DB.OnStep(nil)
	f.Blobs.OnStep(nil)
	require.Greater(t, len(crashes), 20)

	for _, c := range crashes {
		next := &fixture{t: t, now: epoch}
		next.open(c.data, nil)
		_, err := next.DB.Run(ctx, run.ID)
		if c.acked["run"] && !c.acked["may be removed"] {
			require.NoError(t, err, c.step)
		}
		gone := err != nil
		offset, err := next.Blobs.Offset(u)
		require.NoError(t, err)
		stored := false
		if !gone {
			got, err := next.DB.Run(ctx, run.ID)
			require.NoError(t, err)
			stored = len(got.Files) == 1
		}
		switch {
		case stored:
			require.NoError(t, next.Blobs.Verify(ctx, u.SHA256), "%s: a row without its bytes", c.step)
		case c.acked["file"] && !c.acked["may be removed"]:
			require.Fail(t, "an acknowledged file is lost", c.step)
		case c.acked["half"] && !c.acked["may be removed"]:
			require.GreaterOrEqual(t, offset, u.Size/2, c.step)
		}
		if c.acked["indexed"] && !c.acked["may be removed"] {
			require.Equal(t, cert.IndexDone, next.submission(first).IndexState, c.step)
		}
		if c.acked["code"] {
			_, byToken := next.DB.TokenByHash(ctx, "secret", epoch)
			_, byCode := next.DB.Redeem(ctx, "code", "secret", epoch)
			require.True(t, (byToken == nil) != (byCode == nil), "%s: a code is good once, and until then", c.step)
			require.False(t, c.acked["token"] && byToken != nil, c.step)
		}
		// It is gone on from there.
		if c.acked["run"] && !gone && !stored {
			_, complete, err := take(next.Lab, offset, content[offset:])
			require.NoError(t, err, c.step)
			require.True(t, complete, c.step)
		}
		require.NoError(t, next.IndexAll(ctx), c.step)
		require.NoError(t, next.LookAtFiles(ctx))
		require.Empty(t, next.texts(), c.step)
		problems, err := next.DB.Check(ctx)
		require.NoError(t, err)
		require.Empty(t, problems, c.step)
		require.NoError(t, next.DB.Close())
	}
}

// copyTree copies what is on disk, as another process sees it.
func copyTree(t *testing.T, to, from string) {
	require.NoError(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		rel, err := filepath.Rel(from, path)
		require.NoError(t, err)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if filepath.Ext(path) == ".db-shm" {
			return nil // shared memory: the next process makes it anew
		}
		in, err := os.Open(path)
		require.NoError(t, err)
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		require.NoError(t, err)
		_, err = io.Copy(out, in)
		require.NoError(t, err)
		return out.Close()
	}))
}

// TestFaultKilledWhileRepairing cuts a repair before and after it is staged, and between the renames that put it in place.
func TestFaultKilledWhileRepairing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	f.add([]byte("content"))
	require.NoError(t, f.DB.Close())
	require.NoError(t, os.WriteFile(f.Data.Database()+sqlite.DamageName, []byte(`{"where":["table runs"]}`), 0o600))
	for cut := 0; ; cut++ {
		data := Data{Dir: filepath.Join(t.TempDir(), fmt.Sprint(cut))}
		copyTree(t, data.Dir, f.Data.Dir)
		require.NoError(t, os.Mkdir(filepath.Join(data.Dir, ".restore-of-a-repair-that-was-killed"), 0o700))
		done, err := Repair(ctx, data, nil, "", epoch)
		require.NoError(t, err)
		require.True(t, done.Database)
		require.FileExists(t, data.Database()+sqlite.DamageName, "staging leaves what is in place alone")
		matches, err := filepath.Glob(filepath.Join(data.Dir, ".restore-[0-9]*"))
		require.NoError(t, err)
		require.Len(t, matches, 1)
		moves := [][2]string{}
		for _, name := range databaseNames {
			moves = append(moves, [2]string{filepath.Join(data.Dir, name), filepath.Join(done.SetAside, name)})
		}
		moves = append(moves, [2]string{"", filepath.Join(matches[0], "aside.done")})
		for _, name := range databaseNames {
			moves = append(moves, [2]string{filepath.Join(matches[0], name), filepath.Join(data.Dir, name)})
		}
		left := cut
		for _, m := range moves {
			if left == 0 {
				break
			}
			if m[0] == "" {
				require.NoError(t, os.WriteFile(m[1], nil, 0o600))
				left--
			} else if os.Rename(m[0], m[1]) == nil {
				left--
			}
		}
		_, err = PutInPlace(data)
		require.NoError(t, err)
		report, err := Check(ctx, data)
		require.NoError(t, err)
		require.Empty(t, report.Problems())
		require.Equal(t, 1, report.Blobs)
		require.NoFileExists(t, data.Database()+sqlite.DamageName)
		if left > 0 {
			require.Greater(t, cut, 3)
			return
		}
	}
}
