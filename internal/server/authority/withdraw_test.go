package authority

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAnAuthorityIsWithdrawn does what the documentation says to do when a CA's key is in the wrong hands: a new CA is made, the files of
// the old one are taken away, and the service starts again.
func TestAnAuthorityIsWithdrawn(t *testing.T) {
	t.Parallel()
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	a, err := Open(dir, c.now)
	require.NoError(t, err)
	_, err = a.Serve(nil)
	require.NoError(t, err)
	_, err = a.Rotate()
	require.NoError(t, err)
	published := a.CAs()
	require.Len(t, published, 2)
	require.NoError(t, verify(t, a, c, published[1], "localhost"), "a rotation alone takes no trust away")
	for _, name := range []string{"ca-0001.key", "ca-0001.crt", "ca-0002.cross.crt"} {
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
	}
	a, err = Open(dir, c.now)
	require.NoError(t, err)
	_, err = a.Serve(nil)
	require.NoError(t, err)
	require.Equal(t, published[:1], a.CAs())
	require.NoError(t, verify(t, a, c, published[0], "localhost"))
	require.Error(t, verify(t, a, c, published[1], "localhost"))
	_, err = a.Rotate()
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "ca-0003.crt"), "no number is used again")
}
