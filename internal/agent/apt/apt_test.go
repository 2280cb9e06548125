package apt_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/agent/apt"
	"certlab/internal/agent/apt/apttest"
	"certlab/internal/agent/checkbox"
	"certlab/internal/debarchive"
	"certlab/internal/order"
)

func kernel() *order.Subject {
	return &order.Subject{Kind: order.SubjectKernel, Series: "noble", Source: "linux", Flavour: "generic", Version: apttest.New, Pocket: "proposed", Restore: true}
}

func system(m *apttest.Machine) *apt.System {
	run := func(ctx context.Context, env []string, name string, args ...string) (string, error) {
		if path := filepath.Join(m.Bin, name); m.Has(name) {
			name = path
		}
		return checkbox.Exec(ctx, env, name, args...)
	}
	return &apt.System{Root: m.Root, Run: run, Env: append([]string{"PATH=" + m.Bin + ":" + os.Getenv("PATH")}, m.Env...), Timeout: time.Minute,
		LockWait: 50 * time.Millisecond, Patience: 10 * time.Millisecond}
}

// prepared opens the subject's pocket and says what it would install.
func prepared(t *testing.T, s *apt.System, sub *order.Subject) (apt.Opened, apt.Set, error) {
	t.Helper()
	have, err := s.Packages()
	require.NoError(t, err)
	opened, err := s.Open(t.Context(), sub)
	if err != nil {
		return opened, apt.Set{}, err
	}
	set, err := s.Resolve(t.Context(), sub, opened.Where, apttest.Before, have)
	if err != nil {
		return opened, set, err
	}
	require.NoError(t, s.Pin(opened, append(set.Packages, set.Optional...)))
	set, err = s.Try(t.Context(), set)
	return opened, set, err
}

func TestDriversGoWithTheirKernelAndNothingElseComesFromThePocket(t *testing.T) {
	t.Parallel()
	needs := func(v string) map[string]string { return map[string]string{"Depends": "fwupd (>= " + v + ")"} }
	m := apttest.NewMachine(t, []debarchive.Package{apttest.Tool("1.0", nil), apttest.Driver(apttest.Before, apttest.Old+"+1", needs("1.0")),
		{Name: "linux-modules-ipu6-" + apttest.Before, Version: apttest.Old, Arch: "all"}},
		[]debarchive.Package{apttest.Tool("2.0", nil), apttest.Driver(apttest.After, apttest.New+"+1", needs("1.0"))})
	s := system(m)
	before := m.Versions()
	opened, set, err := prepared(t, s, kernel())
	require.NoError(t, err)
	require.Equal(t, "noble-proposed of "+m.URL, opened.Where)
	require.Equal(t, []string{"linux-modules-ipu6-" + apttest.Before}, set.Lacking)
	require.NoError(t, s.Install(t.Context(), set))
	now := m.Versions()
	require.Equal(t, []string{
		"linux-headers-6.8.0-51-generic 6.8.0-51.52 is there and was not", "linux-image-6.8.0-51-generic 6.8.0-51.52 is there and was not",
		"linux-modules-6.8.0-51-generic 6.8.0-51.52 is there and was not", "linux-modules-extra-6.8.0-51-generic 6.8.0-51.52 is there and was not",
		"linux-modules-nvidia-550-6.8.0-51-generic 6.8.0-51.52+1 is there and was not"}, apt.Changes(before, now, nil))
	// What somebody else would do meanwhile takes nothing from the pocket either.
	out, err := checkbox.Exec(t.Context(), s.Env, "apt-get", "-s", "dist-upgrade")
	require.NoError(t, err, out)
	require.NotContains(t, out, "Inst ")
	require.NoError(t, s.Close(opened.Lists))
	require.Empty(t, s.Added())
}

func TestFaultDriverThatWouldChangeSomethingElseIsLeftOut(t *testing.T) {
	t.Parallel()
	m := apttest.NewMachine(t, []debarchive.Package{apttest.Tool("1.0", nil), apttest.Driver(apttest.Before, apttest.Old+"+1", nil)},
		[]debarchive.Package{apttest.Tool("2.0", nil), apttest.Driver(apttest.After, apttest.New+"+1", map[string]string{"Depends": "fwupd (>= 2.0)"})})
	_, set, err := prepared(t, system(m), kernel())
	require.NoError(t, err)
	require.Equal(t, []string{"linux-modules-nvidia-550-6.8.0-51-generic 6.8.0-51.52+1"}, set.Lacking, "it is said")
	require.Len(t, set.Packages, 4)
}

func TestFaultSubjectCannotBeInstalled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		change  func(*testing.T, *apttest.Machine, *order.Subject)
		message string
	}{
		{"no archive has the version", func(_ *testing.T, _ *apttest.Machine, s *order.Subject) { s.Version = "6.8.0-52.53" },
			"cannot install linux-image-6.8.0-52-generic 6.8.0-52.53: neither noble-proposed of URL nor any other archive of this machine has it; the nearest that there are: 6.8.0-50.51, 6.8.0-51.52"},
		{"it needs something else changed", func(t *testing.T, m *apttest.Machine, s *order.Subject) {
			all := apttest.Kernel(apttest.New)
			all[0].Fields["Breaks"] = "fwupd (<< 2.0)"
			m.Publish("noble-proposed", append(all, apttest.Tool("2.0", nil)))
		}, "linux-headers-6.8.0-51-generic 6.8.0-51.52: apt would also remove fwupd, and nothing else may change on the machine"},
		{"held", func(t *testing.T, m *apttest.Machine, s *order.Subject) {
			*s = order.Subject{Kind: order.SubjectPackages, Series: "noble", Source: "fwupd", Version: "2.0", Pocket: "proposed"}
			m.Publish("noble-proposed", []debarchive.Package{apttest.Tool("2.0", nil)})
			out, err := checkbox.Exec(t.Context(), append([]string{"PATH=" + os.Getenv("PATH")}, m.Env...), "apt-mark", "hold", "fwupd")
			require.NoError(t, err, out)
		}, "cannot install fwupd 2.0: it is held at 1.0 on this machine (run `apt-mark unhold fwupd` there)"},
		{"no such pocket", func(_ *testing.T, _ *apttest.Machine, s *order.Subject) { s.Pocket = "backports" }, "cannot read noble-backports of URL: "},
		{"archive of another key", func(t *testing.T, m *apttest.Machine, s *order.Subject) {
			key, err := debarchive.NewKey("Somebody else <other@localhost>")
			require.NoError(t, err)
			public, err := key.Public()
			require.NoError(t, err)
			s.Pocket, s.Archive = "", &order.Archive{URI: m.URL, Suite: "noble-proposed", Key: public}
		}, "(the archive's key is not the one that was given, or none was: see to the subject's archive.key)"},
		{"apt locked for ever", func(t *testing.T, m *apttest.Machine, s *order.Subject) {
			m.Program("apt-get", `echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)'; exit 100`)
		}, "another program holds the lock of apt or dpkg, for longer than 50ms: E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr) (look for unattended-upgrades, or an apt that hangs, on the machine)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := apttest.NewMachine(t, []debarchive.Package{apttest.Tool("1.0", nil)}, nil)
			sub := kernel()
			test.change(t, m, sub)
			before := m.Versions()
			s := system(m)
			opened, _, err := prepared(t, s, sub)
			require.ErrorContains(t, err, strings.ReplaceAll(test.message, "URL", m.URL))
			require.Equal(t, before, m.Versions(), "nothing was changed")
			require.NoError(t, s.Close(opened.Lists))
			require.Empty(t, s.Added())
		})
	}
}

func TestImageThatWasSignedAnewIsTheSameKernel(t *testing.T) {
	t.Parallel()
	for version, same := range map[string]bool{apttest.New: true, apttest.New + "+1": true, apttest.New + "+1x": false, apttest.New + "1": false, apttest.New + "~1": false, "": false} {
		require.Equal(t, same, apt.IsVersion(version, apttest.New), version)
	}
}

func TestFaultDpkgWasInterrupted(t *testing.T) {
	t.Parallel()
	m := apttest.NewMachine(t, []debarchive.Package{apttest.Tool("1.0", nil)}, nil)
	text, err := os.ReadFile(m.Path("var/lib/dpkg/status"))
	require.NoError(t, err)
	m.Write("var/lib/dpkg/status", strings.Replace(string(text), "Package: fwupd\nStatus: install ok installed", "Package: fwupd\nStatus: install ok half-configured", 1))
	s := system(m)
	_, err = s.Packages()
	require.EqualError(t, err, "cannot tell what packages the machine has: dpkg was interrupted in fwupd (run `dpkg --configure -a` there)")
	require.NoError(t, s.Repair(t.Context()))
	require.Equal(t, "1.0", m.Versions()["fwupd"], "what was begun is ended")
}

func TestFaultDiskIsFullWhileInstalling(t *testing.T) {
	t.Parallel()
	m := apttest.NewMachine(t, nil, nil)
	m.Program("apt-get", `case "$*" in *" --no-remove") echo "E: You don't have enough free space in /var/cache/apt/archives/."; exit 100;; esac
exec /usr/bin/apt-get "$@"`)
	s := system(m)
	before := m.Versions()
	_, set, err := prepared(t, s, kernel())
	require.NoError(t, err)
	require.ErrorContains(t, s.Install(t.Context(), set), "E: You don't have enough free space in /var/cache/apt/archives/.")
	require.Equal(t, before, m.Versions())
}

func TestOtherPackagesAreReplacedAndPutBackExactly(t *testing.T) {
	t.Parallel()
	m := apttest.NewMachine(t, []debarchive.Package{apttest.Tool("1.0", nil)}, []debarchive.Package{apttest.Tool("2.0", map[string]string{"Depends": "libfwupd (= 2.0)"}),
		{Name: "libfwupd", Version: "2.0", Arch: "all", Source: "fwupd"}})
	s := system(m)
	before := m.Files()
	have, err := s.Packages()
	require.NoError(t, err)
	sub := &order.Subject{Kind: order.SubjectPackages, Series: "noble", Source: "fwupd", Version: "2.0", Pocket: "proposed", Restore: true}
	opened, set, err := prepared(t, s, sub)
	require.NoError(t, err)
	keep := filepath.Join(t.TempDir(), "kept")
	require.NoError(t, s.Keep(t.Context(), set, have, keep))
	m.Publish("noble", nil) // it is gone from there meanwhile
	require.NoError(t, s.Install(t.Context(), set))
	require.Equal(t, "2.0", m.Versions()["fwupd"])
	require.NoError(t, s.Close(opened.Lists))
	require.NoError(t, s.PutBack(context.Background(), []string{"libfwupd"}, apt.Packages{"fwupd": have["fwupd"]}, nil, keep))
	require.Equal(t, have.Versions(), m.Versions())
	require.Empty(t, apttest.Differ(before, m.Files()))
}
