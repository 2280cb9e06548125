package workload

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/workload/workloadtest"
)

// machine is a place for one workload with a real Pebble.
type machine struct {
	*Workload
	systemd *workloadtest.Systemd
	charm   string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	// Not t.TempDir: its names are too long for sockets.
	dir, err := os.MkdirTemp("", "wl")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	units := filepath.Join(dir, "units")
	charm := filepath.Join(dir, "charm")
	require.NoError(t, os.MkdirAll(units, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(charm, "bin"), 0o755))
	systemd := workloadtest.NewSystemd(t, units)
	w, err := New(Config{
		Unit: "checkbox/0", CharmDir: charm, Root: filepath.Join(dir, "lib"), UnitFiles: units, Run: systemd.Run,
		Service: Service{Name: "certlab-agent", Summary: "a service for tests", Dir: "agent", KillDelay: 5 * time.Second},
	})
	require.NoError(t, err)
	m := machine{w, systemd, charm}
	m.pack(t, "")
	t.Cleanup(func() { require.NoError(t, w.Stop(context.Background())) })
	return m
}

// pack puts programs into the charm: Pebble, and this test's binary with suffix appended, which makes it another version.
func (m machine) pack(t *testing.T, suffix string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	for name, from := range map[string]string{"pebble": builds.Pebble(t), "certlab-agent": self} {
		in, err := os.Open(from)
		require.NoError(t, err)
		defer in.Close()
		path := filepath.Join(m.charm, "bin", name)
		require.NoError(t, os.RemoveAll(path))
		out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
		require.NoError(t, err)
		_, err = io.Copy(out, in)
		require.NoError(t, err)
		if name == "certlab-agent" {
			_, err = out.WriteString(suffix)
			require.NoError(t, err)
		}
		require.NoError(t, out.Close())
	}
}

func (m machine) log(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.Dir(), "log"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	return strings.Fields(strings.ReplaceAll(string(data), " ", "_"))
}

func (m machine) apply(t *testing.T, opts Options) string {
	t.Helper()
	pending, err := m.Apply(t.Context(), opts)
	require.NoError(t, err)
	return pending
}

// eventually waits for real processes.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 60*time.Second, 50*time.Millisecond, what)
}

func (m machine) waitLog(t *testing.T, n int) []string {
	t.Helper()
	eventually(t, "lines in the service's log", func() bool { return len(m.log(t)) >= n })
	return m.log(t)
}

func TestApplyStartsTheServiceAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	require.Empty(t, m.apply(t, Options{}))
	require.Equal(t, []string{"daemon-reload", "enable certlab-unit-checkbox-0.service", "start certlab-unit-checkbox-0.service"}, m.systemd.Calls())
	require.True(t, m.systemd.Enabled("certlab-unit-checkbox-0.service"))
	m.waitLog(t, 1)

	require.Empty(t, m.apply(t, Options{}))
	require.Empty(t, m.systemd.Calls())
	require.Len(t, m.log(t), 1)
	state, err := m.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{Pebble: true, Service: "active", Processes: 1}, state)
}

func TestReloadReachesTheServiceAlsoAfterPebbleWasKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(t, Options{})
	m.waitLog(t, 1)
	n, err := m.Reload()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	m.waitLog(t, 2)

	require.Equal(t, 1, m.systemd.Kill())
	eventually(t, "a new Pebble that tries in vain to start a second service", func() bool {
		state, err := m.State(t.Context())
		return err == nil && state.Pebble && state.Service == "backoff"
	})
	require.Equal(t, "another one is running", m.LastLog(t.Context()))
	m.apply(t, Options{})
	require.Len(t, m.log(t), 2, "the first service goes on")
	_, err = m.Reload()
	require.NoError(t, err)
	m.waitLog(t, 3)

	orphans, err := m.serviceProcesses()
	require.NoError(t, err)
	for _, p := range orphans {
		require.NoError(t, syscall.Kill(p.pid, syscall.SIGTERM))
	}
	eventually(t, "Pebble to start the service when the first one is gone", func() bool {
		state, err := m.State(t.Context())
		return err == nil && state.Service == "active" && len(m.log(t)) == 4
	})
}

func TestNewProgramsDoNotDisturbARunAndOldOnesGoWhenUnused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(t, Options{})
	first := m.waitLog(t, 1)
	old, err := os.Readlink(filepath.Join(m.Base(), "bin", "current"))
	require.NoError(t, err)

	m.pack(t, "newer")
	require.Empty(t, m.apply(t, Options{}), "the service changes by itself")
	require.Equal(t, first, m.log(t))
	newest, err := os.Readlink(filepath.Join(m.Base(), "bin", "current"))
	require.NoError(t, err)
	require.NotEqual(t, old, newest)
	require.FileExists(t, filepath.Join(m.Base(), "bin", old, "certlab-agent"), "the service still runs from it")

	running, err := m.serviceProcesses()
	require.NoError(t, err)
	require.Len(t, running, 1)
	require.NoError(t, syscall.Kill(running[0].pid, syscall.SIGTERM), "the service is idle and ends")
	second := m.waitLog(t, 2)
	require.Contains(t, second[1], newest, "Pebble starts the newest")
	// Pebble itself is unchanged, so it may go on from the old directory, which then stays.
	m.apply(t, Options{})
	require.Len(t, m.log(t), 2)
}

func TestAServiceThatMayBeInterruptedIsRestartedFromNewPrograms(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(t, Options{RestartOnNewPrograms: true})
	m.waitLog(t, 1)
	m.pack(t, "newer")
	require.Equal(t, "certlab-agent", m.apply(t, Options{RestartOnNewPrograms: true}))
	require.Len(t, m.log(t), 1)
	require.Empty(t, m.apply(t, Options{RestartOnNewPrograms: true, MayInterrupt: true}))
	require.Len(t, m.waitLog(t, 2), 2)
	require.Empty(t, m.apply(t, Options{RestartOnNewPrograms: true, MayInterrupt: true}))
	require.Len(t, m.log(t), 2)
}

func TestAChangedLayerWaitsUntilTheServiceMayBeInterrupted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(t, Options{})
	m.waitLog(t, 1)
	// As an older charm would have left it: another layer planned.
	m.cfg.Service.KillDelay = 6 * time.Second
	require.Equal(t, "layer", m.apply(t, Options{}))
	require.Equal(t, "layer", m.apply(t, Options{}))
	require.Len(t, m.log(t), 1)
	require.Empty(t, m.apply(t, Options{MayInterrupt: true}))
	m.waitLog(t, 2)
	require.Empty(t, m.apply(t, Options{MayInterrupt: true}))
	require.Len(t, m.log(t), 2)
}

func TestRemoveLeavesOnlyTheServicesOwnFiles(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.apply(t, Options{})
	m.waitLog(t, 1)
	m.systemd.Kill() // leaves a service that no Pebble knows
	require.NoError(t, m.Remove(t.Context()))
	running, err := m.processes()
	require.NoError(t, err)
	require.Empty(t, running)
	require.False(t, m.systemd.Enabled("certlab-unit-checkbox-0.service"))
	require.NoFileExists(t, m.unitFilePath())
	entries, err := os.ReadDir(m.Base())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "agent", entries[0].Name())
	require.NoError(t, m.Remove(t.Context()), "twice is once")
}

func TestInstallRecoversFromEveryHalfDoneStep(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, bin, hash string){
		"copy not finished": func(t *testing.T, bin, hash string) {
			require.NoError(t, os.Rename(filepath.Join(bin, hash), filepath.Join(bin, ".new-123")))
			require.NoError(t, os.Remove(filepath.Join(bin, "current")))
			require.NoError(t, os.Remove(filepath.Join(bin, "copied.json")))
		},
		"link not switched": func(t *testing.T, bin, _ string) {
			require.NoError(t, os.Remove(filepath.Join(bin, "current")))
			require.NoError(t, os.Symlink("elsewhere", filepath.Join(bin, "current")))
			require.NoError(t, os.Symlink("half", filepath.Join(bin, ".new-current")))
		},
		"not recorded": func(t *testing.T, bin, _ string) {
			require.NoError(t, os.Remove(filepath.Join(bin, "copied.json")))
		},
		"record damaged": func(t *testing.T, bin, _ string) {
			require.NoError(t, os.WriteFile(filepath.Join(bin, "copied.json"), []byte("{"), 0o644))
		},
		"directory gone": func(t *testing.T, bin, hash string) {
			require.NoError(t, os.RemoveAll(filepath.Join(bin, hash)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			dir, err := m.Install(t.Context())
			require.NoError(t, err)
			damage(t, filepath.Dir(dir), filepath.Base(dir))
			again, err := m.Install(t.Context())
			require.NoError(t, err)
			require.Equal(t, dir, again)
			for _, program := range []string{"pebble", "certlab-agent"} {
				want, err := os.ReadFile(filepath.Join(m.charm, "bin", program))
				require.NoError(t, err)
				got, err := os.ReadFile(m.Current(program))
				require.NoError(t, err)
				require.True(t, string(want) == string(got), "%s differs", program)
			}
			require.NoError(t, m.removeUnused(nil))
			entries, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".new-1*"))
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

func TestInstallNamesAProgramThatTheCharmLacks(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	require.NoError(t, os.Remove(filepath.Join(m.charm, "bin", "pebble")))
	_, err := m.Install(t.Context())
	require.ErrorContains(t, err, `"bin/pebble" is not in the charm`)
}

func TestNewRefusesNamesThatAreNoUnits(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "checkbox", "checkbox/", "checkbox/x", "../x/0", "a b/0", "checkbox/00", strings.Repeat("a", 90) + "/0"} {
		_, err := New(Config{Unit: name, Service: Service{Name: "s", Dir: "s"}})
		require.Error(t, err, name)
	}
}

func TestWriteFileWritesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, step := range []struct {
		data    string
		perm    os.FileMode
		changed bool
	}{{"a", 0o600, true}, {"a", 0o600, false}, {"b", 0o600, true}, {"b", 0o644, true}, {"b", 0o644, false}} {
		changed, err := new(Workload).WriteFile(path, []byte(step.data), step.perm)
		require.NoError(t, err)
		require.Equal(t, step.changed, changed, "%+v", step)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, step.perm, info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
