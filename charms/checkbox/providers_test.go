package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

func newScenario(t *testing.T, sys system) *hookstest.Scenario {
	return hookstest.New(t, newCharm(sys), "charmcraft.yaml")
}

// archive makes a tar.gz file.
func archive(t *testing.T, members ...tar.Header) string {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	w := tar.NewWriter(zipped)
	for _, m := range members {
		body := []byte("content of " + m.Name)
		if m.Typeflag == tar.TypeReg {
			m.Size = int64(len(body))
		}
		require.NoError(t, w.WriteHeader(&m))
		if m.Typeflag == tar.TypeReg {
			_, err := w.Write(body)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, zipped.Close())
	path := filepath.Join(t.TempDir(), "provider.tar.gz")
	require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o644))
	return path
}

func file(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}
}

func TestProvidersOfTheResourceAreUsed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.WithResource("provider", archive(t, file("./one/manage.py"), file("one/units/a.pxu"), file("two/manage.py"), file("README")))
	l.Fire("upgrade-charm").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	paths := l.desired().ProviderPaths
	require.Len(t, paths, 3)
	require.Equal(t, "one", filepath.Base(paths[1]))
	require.FileExists(t, filepath.Join(paths[1], "units", "a.pxu"))
	require.Equal(t, "two", filepath.Base(paths[2]))

	// Another one while a run is in progress leaves the old one in place until the run is over.
	l.agent(func(s *order.AgentStatus) { s.Current = &order.Run{Report: order.Report{State: order.Running}} })
	l.WithResource("provider", archive(t, file("manage.py")))
	l.Fire("upgrade-charm")
	require.DirExists(t, paths[1])
	require.Len(t, l.desired().ProviderPaths, 2)
	l.agent(func(s *order.AgentStatus) { s.Current = nil })
	l.Exec()
	require.NoDirExists(t, paths[1])
	require.DirExists(t, l.desired().ProviderPaths[1])

	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	l.WithResource("provider", empty)
	l.Fire("upgrade-charm").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.Len(t, l.desired().ProviderPaths, 1)
}

func TestABadResourceIsSaidAndWritesNothingOutside(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("hello"), 0o644))
	cut := archive(t, file("manage.py"))
	data, err := os.ReadFile(cut)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cut, data[:len(data)/2], 0o644))
	l := newLab(t)
	const prefix = "attach a proper archive as resource provider, or an empty file: "
	for _, c := range []struct{ path, message string }{
		{text, "it is no gzip file"},
		{cut, "it cannot be read: unexpected EOF"},
		{archive(t, file("../../escape/manage.py")), `member "../../escape/manage.py" leads outside`},
		{archive(t, file("/etc/escape")), `member "/etc/escape" leads outside`},
		{archive(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "manage.py", Linkname: "/etc/passwd"}), `member "manage.py" is neither a directory nor a regular file`},
		{archive(t, file("manage.py"), file("manage.py")), `"manage.py" is in it twice`},
		{archive(t, file("a"), file("a/manage.py")), `member "a/manage.py" is below a file`},
		{archive(t, file("one/two/manage.py")), "it has no manage.py at its top or one level below"},
	} {
		l.WithResource("provider", c.path)
		l.Fire("upgrade-charm").RequireStatus("blocked", prefix+c.message)
	}
	left, err := filepath.Glob(filepath.Join(l.base, "providers", ".new-*"))
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoDirExists(t, filepath.Join(l.sys.root, "..", "escape"))
}
