package integration

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The faults hit three machines at once, since what costs time is the job that each is in the middle of. The steps share what is here.
type faults struct {
	runs   map[string]string    // by unit
	waited map[string]chan task // what run-suite with wait= has come to, by unit
	wg     sync.WaitGroup
}

const (
	pebbled    = "checkbox/0" // its Pebble is killed
	dispatched = "checkbox/1" // its dispatch is killed
	rebooted   = "checkbox/2" // its machine reboots
)

// inMachine runs a command in a machine of the local lab.
func (l *lab) inMachine(t *testing.T, unit string, command ...string) result {
	t.Helper()
	return l.exec(t, append([]string{l.certlab, "lab", "exec", unit, "--"}, command...)...)
}

func (l *lab) needsLocal(t *testing.T) {
	t.Helper()
	if !l.local() {
		t.Skip("processes of a real controller's machines are not this test's to kill: do it by hand with juju ssh")
	}
}

func testBeginFaults(t *testing.T, l *lab) {
	l.needsLocal(t)
	l.faults = &faults{runs: map[string]string{}, waited: map[string]chan task{}}
	for unit, limit := range map[string]string{dispatched: "5m", rebooted: "45s"} {
		waited := make(chan task, 1)
		l.faults.waited[unit] = waited
		l.faults.wg.Go(func() { // not by t: it is over before this is
			r := l.command(l.juju[0], append(append([]string{}, l.juju[1:]...), "run", unit, "run-suite", "plan="+slow, "wait=300", "--format", "json", "--wait", limit)...)
			waited <- taskOf(r, unit)
		})
	}
	l.faults.runs[pebbled] = l.start(t, pebbled, slow)
	for _, unit := range []string{dispatched, rebooted} {
		// An action holds up all others of its unit, so the agent is asked.
		l.eventually(t, 2*time.Minute, func() string {
			if l.inMachine(t, unit, "pgrep", "-f", "certlab-count").code != 0 {
				return unit + " is not in the job"
			}
			return ""
		})
	}
	l.testing(t, pebbled, l.faults.runs[pebbled], "slow")
}

func testPebbleKilled(t *testing.T, l *lab) {
	l.needsLocal(t)
	before := strings.Fields(l.inMachine(t, pebbled, "pgrep", "-x", "pebble").stdout)
	require.Len(t, before, 1)
	agent := strings.Fields(l.inMachine(t, pebbled, "pgrep", "-f", "certlab-agent run").stdout)
	require.Len(t, agent, 1)
	require.Zero(t, l.inMachine(t, pebbled, "kill", "-9", before[0]).code)
	l.eventually(t, time.Minute, func() string {
		now := strings.Fields(l.inMachine(t, pebbled, "pgrep", "-x", "pebble").stdout)
		if len(now) == 1 && now[0] != before[0] {
			return ""
		}
		return fmt.Sprintf("Pebble is %v", now)
	})
	require.Contains(t, strings.Fields(l.inMachine(t, pebbled, "pgrep", "-f", "certlab-agent run").stdout), agent[0], "the agent lives on")
	k := l.ask(t, pebbled, "show-run", "run="+l.faults.runs[pebbled])
	require.Equal(t, "running", k.str("state"), "%v", k)
	require.Empty(t, k.str("interruptions"), "%v", k)
}

func testDispatchKilled(t *testing.T, l *lab) {
	l.needsLocal(t)
	require.Zero(t, l.inMachine(t, dispatched, "pkill", "-9", "-x", "dispatch").code)
	k := <-l.faults.waited[dispatched]
	require.Equal(t, "failed", k.Status, "%v", k)
	require.NotEmpty(t, k.Message, "%v", k)
	l.faults.runs[dispatched] = l.runNamed(t, k)
	shown := l.ask(t, dispatched, "show-run", "run="+l.faults.runs[dispatched])
	require.Contains(t, []string{"running", "completed"}, shown.str("state"), "the run goes on: %v", shown)
}

// runNamed returns the run that the log of an action names, which the operator has to have seen when the task itself comes to nothing.
func (l *lab) runNamed(t *testing.T, k task) string {
	t.Helper()
	for _, line := range k.Log {
		if _, rest, ok := strings.Cut(line, "run "); ok && strings.Contains(rest, " has begun; if this task does not end, as after a reboot, ask: juju run ") {
			return strings.Fields(rest)[0]
		}
	}
	require.Fail(t, "the action's log does not name the run", "%v", k)
	return ""
}

func testRebootWhileWaiting(t *testing.T, l *lab) {
	l.needsLocal(t)
	l.mustCertlab(t, "lab", "reboot", rebooted)
	// The agent may still answer that it ends; else `juju run --wait=45s` gives up, or the task fails as on Juju 3.6.
	k := <-l.faults.waited[rebooted]
	require.Contains(t, []string{"", "failed", "running", "completed"}, k.Status, "%v", k)
	if k.Status == "completed" {
		require.Equal(t, "running", k.str("state"), "%v", k)
		require.Contains(t, k.str("notice"), "goes on by itself after that", "%v", k)
	}
	l.waitUnit(t, rebooted, "active", "", 2*time.Minute)
	shown := l.ask(t, rebooted, "show-run", "run=last")
	require.NotEmpty(t, shown.str("run"), "%v", shown)
	l.faults.runs[rebooted] = shown.str("run")
	if len(k.Log) > 0 {
		require.Equal(t, l.runNamed(t, k), shown.str("run"))
	}
}

func testControllerKilled(t *testing.T, l *lab) {
	l.needsLocal(t)
	before := l.mustCertlab(t, "submission", "list", "--format", "json")
	require.Zero(t, l.inMachine(t, "cert-controller/0", "pkill", "-9", "-x", "certlabd").code)
	l.eventually(t, time.Minute, func() string {
		r := l.exec(t, l.certlab, "submission", "list", "--format", "json")
		if r.code != 0 {
			return r.String()
		}
		require.Contains(t, r.stdout, strings.TrimSuffix(strings.TrimSpace(firstID(before)), ","))
		return ""
	})
	l.waitUnit(t, "cert-controller/0", "active", "3 machines", 2*time.Minute)
}

// firstID is the first id of a listing.
func firstID(listing string) string {
	_, rest, _ := strings.Cut(listing, `"id": "`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func testEndFaults(t *testing.T, l *lab) {
	l.needsLocal(t)
	l.faults.wg.Wait()
	for _, c := range []struct {
		unit          string
		outcomes      []string
		interruptions string
	}{
		{pebbled, []string{"pass"}, ""},
		{dispatched, []string{"pass"}, ""},
		{rebooted, []string{"fail", "crash"}, "1"}, // not a pass: the job did not end
	} {
		run := l.faults.runs[c.unit]
		k := l.finished(t, c.unit, run, 4*time.Minute)
		require.Equal(t, "completed", k.str("state"), "%v", k)
		require.Equal(t, c.interruptions, k.str("interruptions"), "%s: %v", c.unit, k)
		require.Contains(t, c.outcomes, l.submission(t, run).outcome(t, "slow"), c.unit)
		agents := strings.Fields(l.inMachine(t, c.unit, "pgrep", "-f", "certlab-agent run").stdout)
		require.Len(t, agents, 1, "agents of %s", c.unit)
	}
}

// otherRevision writes a copy of a packed charm whose programs differ, as those of another revision do: bytes behind an ELF file's end
// are of no consequence.
func (l *lab) otherRevision(t *testing.T, name string) string {
	t.Helper()
	in, err := zip.OpenReader(l.charm(name))
	require.NoError(t, err)
	defer in.Close()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		h := f.FileHeader
		to, err := w.CreateHeader(&zip.FileHeader{Name: h.Name, Method: zip.Store, Modified: h.Modified, ExternalAttrs: h.ExternalAttrs, CreatorVersion: h.CreatorVersion})
		require.NoError(t, err)
		from, err := f.Open()
		require.NoError(t, err)
		_, err = io.Copy(to, from)
		require.NoError(t, err)
		require.NoError(t, from.Close())
		if strings.HasPrefix(h.Name, "bin/certlab") || h.Name == "dispatch" {
			_, err = to.Write([]byte("another revision"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	path := filepath.Join(t.TempDir(), filepath.Base(l.charm(name)))
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
	return path
}

func testRefresh(t *testing.T, l *lab) {
	run := l.start(t, "checkbox/0", slow)
	l.testing(t, "checkbox/0", run, "slow")
	units := []string{"cert-controller/0", "checkbox/0"}
	for _, charm := range []func(string) string{func(name string) string { return l.otherRevision(t, name) }, l.charm} {
		before := map[string]string{}
		for _, unit := range units {
			before[unit] = l.programs(t, unit)
		}
		for _, name := range []string{"cert-controller", "checkbox"} {
			l.mustJuju(t, "refresh", name, "--path", charm(name))
		}
		for _, unit := range units {
			l.eventually(t, 2*time.Minute, func() string {
				if l.programs(t, unit) == before[unit] {
					return unit + " has the programs that it had"
				}
				return ""
			})
		}
	}
	k := l.finished(t, "checkbox/0", run, 6*time.Minute)
	require.Equal(t, "completed", k.str("state"), "%v", k)
	require.Empty(t, k.str("interruptions"))
	require.Equal(t, "pass", l.submission(t, run).outcome(t, "slow"))
	for _, unit := range machines {
		l.waitUnit(t, unit, "active", "enrolled", 2*time.Minute)
	}
	l.waitUnit(t, "cert-controller/0", "active", "3 machines", time.Minute)
}

// programs is the name of the programs that a unit's charm has put in force.
func (l *lab) programs(t *testing.T, unit string) string {
	t.Helper()
	path := "/var/lib/certlab/unit-" + strings.ReplaceAll(unit, "/", "-") + "/bin/current"
	return strings.TrimSpace(l.mustJuju(t, "exec", "--unit", unit, "readlink "+path))
}
