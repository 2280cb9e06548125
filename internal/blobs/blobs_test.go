package blobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func upload(content []byte) Upload {
	sum := sha256.Sum256(content)
	return Upload{Owner: "r1.1", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}
}

func committed() error { return nil }

func TestBytesArriveWhateverCutsTheUpload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s, err := Open(dir)
		require.NoError(t, err)
		content := rapid.SliceOfN(rapid.Byte(), 1, 10_000).Draw(t, "content")
		u := upload(content)
		require.NoError(t, s.Discard(u))
		errCut := errors.New("cut")
		commits := 0
		commit := func() error { commits++; return nil }
		for cuts := 0; ; cuts++ {
			at, err := s.Offset(u)
			require.NoError(t, err)
			rest := content[at:]
			n := len(rest)
			if cuts < 5 {
				n = rapid.IntRange(0, len(rest)).Draw(t, "bytes before the cut")
			}
			r := io.Reader(bytes.NewReader(rest[:n]))
			fails := rapid.Bool().Draw(t, "fails") && cuts < 5
			if fails {
				r = io.MultiReader(r, iotest.ErrReader(errCut))
			}
			offset, complete, err := s.Append(context.Background(), u, at, r, commit)
			if fails && (n < len(rest) || err != nil) {
				require.ErrorIs(t, err, errCut)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, at+int64(n), offset)
			if complete {
				break
			}
			if rapid.Bool().Draw(t, "restart") {
				s, err = Open(dir)
				require.NoError(t, err)
			}
		}
		require.Equal(t, 1, commits)
		b, err := s.Open(u.SHA256)
		require.NoError(t, err)
		defer b.Close()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, content, got)
		require.NoError(t, s.Verify(context.Background(), u.SHA256))
	})
}

func TestWhatIsWrongIsNotStored(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	require.NoError(t, err)
	ctx, content := t.Context(), []byte("content")
	u := upload(content)
	fail := func() error { t.Fatal("committed"); return nil }
	_, _, err = s.Append(ctx, u, 3, bytes.NewReader(content[3:]), fail)
	var wrong *OffsetError
	require.ErrorAs(t, err, &wrong)
	require.Zero(t, wrong.Have)
	_, _, err = s.Append(ctx, u, 0, bytes.NewReader([]byte("comtent")), fail)
	require.ErrorIs(t, err, ErrHash)
	_, _, err = s.Append(ctx, u, 0, bytes.NewReader([]byte("content and more")), fail)
	require.ErrorIs(t, err, ErrSize)
	at, err := s.Offset(u)
	require.NoError(t, err)
	require.Zero(t, at)
	for _, bad := range []Upload{{Owner: "../x", SHA256: u.SHA256}, {Owner: "x", SHA256: "../../etc/passwd"}, {Owner: "", SHA256: u.SHA256}} {
		_, _, err = s.Append(ctx, bad, 0, bytes.NewReader(content), fail)
		require.Error(t, err)
	}
	_, err = s.Open("../../etc/passwd")
	require.ErrorIs(t, err, fs.ErrNotExist)
	failed := errors.New("no row")
	_, complete, err := s.Append(ctx, u, 0, bytes.NewReader(content), func() error { return failed })
	require.ErrorIs(t, err, failed)
	require.False(t, complete)
	at, err = s.Offset(u)
	require.NoError(t, err)
	require.Equal(t, u.Size, at, "after a commit that failed the bytes are still there")
	_, _, err = s.Append(ctx, u, u.Size, bytes.NewReader([]byte("x")), fail)
	require.ErrorIs(t, err, ErrSize)
	require.NoError(t, s.Verify(ctx, u.SHA256), "an excess does not reach the blob")
	for range 2 {
		_, _, err = s.Append(ctx, u, 0, bytes.NewReader(content), func() error { return failed })
		require.ErrorIs(t, err, failed)
		longer := u
		longer.Size++
		_, _, err = s.Append(ctx, longer, u.Size, bytes.NewReader([]byte("x")), fail)
		require.ErrorIs(t, err, ErrSize)
		require.NoError(t, s.Verify(ctx, u.SHA256), "nor does one that was promised later")
	}
	_, _, err = s.Append(ctx, u, 0, bytes.NewReader(content), func() error { return failed })
	require.ErrorIs(t, err, failed)
	_, complete, err = s.Append(ctx, u, u.Size, bytes.NewReader(nil), committed)
	require.NoError(t, err)
	require.True(t, complete, "nothing more has to be uploaded")
	at, err = s.Offset(u)
	require.NoError(t, err)
	require.Zero(t, at, "nothing is left of the upload")
}

func TestABlobIsRemovedUnlessItIsUsed(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	require.NoError(t, err)
	u := upload([]byte("content"))
	_, _, err = s.Append(t.Context(), u, 0, bytes.NewReader([]byte("content")), committed)
	require.NoError(t, err)
	require.NoError(t, s.RemoveUnless(u.SHA256, func() (bool, error) { return true, nil }))
	require.NoError(t, s.Verify(t.Context(), u.SHA256))
	require.NoError(t, os.WriteFile(s.path(u.SHA256), []byte("cuntent"), 0o600))
	require.ErrorIs(t, s.Verify(t.Context(), u.SHA256), ErrHash)
	require.NoError(t, s.RemoveUnless(u.SHA256, func() (bool, error) { return false, nil }))
	require.ErrorIs(t, s.Verify(t.Context(), u.SHA256), fs.ErrNotExist)
}

func TestUploadsThatWereGivenUpAreSwept(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	require.NoError(t, err)
	u := upload([]byte("content"))
	_, complete, err := s.Append(t.Context(), u, 0, bytes.NewReader([]byte("con")), committed)
	require.NoError(t, err)
	require.False(t, complete)
	n, err := s.SweepPartials(time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = s.SweepPartials(time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	at, err := s.Offset(u)
	require.NoError(t, err)
	require.Zero(t, at)
}

// slow is a reader that waits to be told.
type slow struct{ begun, goOn chan struct{} }

func (s slow) Read([]byte) (int, error) {
	close(s.begun)
	<-s.goOn
	return 0, io.EOF
}

func TestTwoRequestsDoNotWriteOneUpload(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir())
	require.NoError(t, err)
	u := upload([]byte("content"))
	r := slow{make(chan struct{}), make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Append(context.Background(), u, 0, r, committed)
		done <- err
	}()
	<-r.begun
	_, _, err = s.Append(t.Context(), u, 0, bytes.NewReader([]byte("content")), committed)
	require.ErrorIs(t, err, ErrBusy)
	close(r.goOn)
	require.NoError(t, <-done)
}
