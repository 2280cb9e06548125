package debarchive_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/debarchive"
)

// apt is a real apt with a root of its own.
type apt struct{ dir string }

// newApt returns an apt that has the source in sources, and the key in key; it skips where there is none.
func newApt(t *testing.T, sources, key string) apt {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg-deb", "gpgv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs ", program)
		}
	}
	a := apt{t.TempDir()}
	for _, dir := range []string{"lists/partial", "archives/partial", "trusted", "parts", "log"} {
		require.NoError(t, os.MkdirAll(filepath.Join(a.dir, dir), 0o755))
	}
	for name, text := range map[string]string{"sources.list": sources, "status": "", "key.asc": key, "config": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(a.dir, name), []byte(strings.ReplaceAll(text, "DIR", a.dir)), 0o644))
	}
	return a
}

func (a apt) run(program string, args ...string) (string, error) {
	var options []string
	for name, value := range map[string]string{
		"Dir::State::lists": "lists", "Dir::State::status": "status", "Dir::Cache": "", "Dir::Cache::archives": "archives", "Dir::Etc::sourcelist": "sources.list",
		"Dir::Etc::sourceparts": "parts", "Dir::Etc::main": "none", "Dir::Etc::parts": "parts", "Dir::Etc::preferences": "none", "Dir::Etc::preferencesparts": "parts",
		"Dir::Etc::trustedparts": "trusted", "Dir::Etc::trusted": "none", "Dir::Log": "log",
	} {
		options = append(options, "-o", name+"="+filepath.Join(a.dir, value))
	}
	options = append(options, "-o", "APT::Architecture=amd64", "-o", "APT::Architectures::=amd64", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none")
	cmd := exec.Command(program, append(options, args...)...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "config"), "LC_ALL=C", "http_proxy=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// serve makes an archive with a kernel in each of updates and proposed, and serves it.
func serve(t *testing.T) (url, public string) {
	t.Helper()
	dir := t.TempDir()
	key, err := debarchive.NewKey("Archive of a test <test@localhost>")
	require.NoError(t, err)
	public, err = key.Public()
	require.NoError(t, err)
	require.NoError(t, debarchive.Write(dir, key, "amd64",
		debarchive.Suite{Name: "noble-updates", Codename: "noble", Packages: debarchive.Kernel(debarchive.KernelSpec{Version: "6.8.0-50.51", Arch: "amd64"})},
		debarchive.Suite{Name: "noble-proposed", Codename: "noble", NotAutomatic: true, Packages: debarchive.Kernel(debarchive.KernelSpec{Version: "6.8.0-51.52", Arch: "amd64"})}))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return server.URL, public
}

const source = "deb [signed-by=DIR/key.asc] URL noble-updates main\ndeb [signed-by=DIR/key.asc] URL noble-proposed main\n"

func TestAptTakesTheArchive(t *testing.T) {
	t.Parallel()
	url, public := serve(t)
	a := newApt(t, strings.ReplaceAll(source, "URL", url), public)
	out, err := a.run("apt-get", "update", "--error-on=any")
	require.NoError(t, err, out)
	require.NotContains(t, out, "W:")
	out, err = a.run("apt-cache", "policy", "linux-generic")
	require.NoError(t, err, out)
	require.Contains(t, out, "Candidate: 6.8.0-50.51", "proposed is not automatic")
	require.Contains(t, out, "6.8.0-51.52 100")
	out, err = a.run("apt-get", "install", "--yes", "--download-only", "linux-image-6.8.0-51-generic=6.8.0-51.52", "linux-modules-extra-6.8.0-51-generic=6.8.0-51.52")
	require.NoError(t, err, out)
	debs, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
	require.NoError(t, err)
	require.Len(t, debs, 3, "image, modules, and extra modules")
	for _, deb := range debs {
		target := t.TempDir()
		out, err := exec.Command("dpkg-deb", "--extract", deb, target).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	content, err := exec.Command("dpkg-deb", "--contents", debs[0]).Output()
	require.NoError(t, err)
	require.Contains(t, string(content), "./boot/vmlinuz-6.8.0-51-generic")
}

func TestAptRefusesAnArchiveOfAnotherKey(t *testing.T) {
	t.Parallel()
	url, _ := serve(t)
	_, other := serve(t)
	a := newApt(t, strings.ReplaceAll(source, "URL", url), other)
	out, err := a.run("apt-get", "update", "--error-on=any")
	require.Error(t, err, out)
	require.Contains(t, out, "NO_PUBKEY")
}

func TestAReleaseThatWasChangedIsNotSigned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := debarchive.NewKey("test")
	require.NoError(t, err)
	public, err := key.Public()
	require.NoError(t, err)
	require.NoError(t, debarchive.Write(dir, key, "amd64", debarchive.Suite{Name: "noble"}))
	for _, name := range []string{"InRelease", "Release"} {
		path := filepath.Join(dir, "dists/noble", name)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), "Suite: noble", "Suite: nobler", 1)), 0o644))
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	out, err := newApt(t, "deb [signed-by=DIR/key.asc] "+server.URL+" noble main\n", public).run("apt-get", "update", "--error-on=any")
	require.Error(t, err, out)
	require.Contains(t, out, "BADSIG")
}

func TestKernelReleases(t *testing.T) {
	t.Parallel()
	for spec, want := range map[debarchive.KernelSpec]string{
		{Version: "6.8.0-51.52"}:                                            "6.8.0-51-generic",
		{Version: "6.11.0-9.9~24.04.1", Source: "linux-hwe-6.11"}:           "6.11.0-9-generic",
		{Version: "6.8.0-1019.19", Source: "linux-oem-6.8", Flavour: "oem"}: "6.8.0-1019-oem",
	} {
		require.Equal(t, want, spec.Release())
	}
	_, err := debarchive.Package{Name: "x", Version: "1"}.Deb()
	require.ErrorContains(t, err, "needs a name, a version and an architecture")
	key, err := debarchive.NewKey("test")
	require.NoError(t, err)
	err = debarchive.Write(t.TempDir(), key, "amd64", debarchive.Suite{Name: "noble", Packages: []debarchive.Package{{Name: "x", Version: "1", Arch: "arm64"}}})
	require.ErrorContains(t, err, `package x is for "arm64"`)
}
