package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

const (
	preflight = "com.canonical.certlab::preflight"
	quick     = "com.canonical.certlab::demo-quick"
	rebooting = "com.canonical.certlab::demo-reboot"
	blocker   = "com.canonical.certlab::demo-blocker"
	slow      = "com.canonical.certlab::demo-slow"
	manual    = "com.canonical.certlab::demo-manual"
)

// TestLab deploys the bundle once and goes through what an operator does with it. The steps share the deployment and depend on
// the ones before them, so the first failure ends the test.
func TestLab(t *testing.T) {
	l := newLab(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"deploy settles with every unit active and enrolled", testDeploy},
		{"list-suites names our plans", testListSuites},
		{"a one-time code becomes a token, once", testLogin},
		{"Fault: a provisioned machine hangs in a job", testBeginHang},
		{"run-suite's counts are those of the stored submission", testRunSuite},
		{"three machines run at once", testThreeMachines},
		{"an unknown plan fails and names the nearest", testUnknownPlan},
		{"a plan that needs a person is refused", testManualPlan},
		{"a run is cancelled", testCancel},
		{"an engineer starts a run at the controller", testOrder},
		{"a reboot in a noreturn job goes on and passes", testReboot},
		{"a power cut in a job is resumed and not a pass", testPowerCut},
		{"a machine is reserved, extended and given back, and another runs a plan, as the tutorial shows", testReserveTranscript},
		{"Fault: the machine that hung is power-cycled and its run delivered", testEndHang},
		{"an SRU campaign finds what a kernel breaks and ends in a verdict, as the tutorial shows", testCampaignTranscript},
		{"Fault: the controller is killed while it provisions and releases", testKilledWhileProvisioning},
		{"Fault: three machines are in the middle of a run", testBeginFaults},
		{"Fault: Pebble is killed in the middle of a run and comes back", testPebbleKilled},
		{"Fault: dispatch is killed while run-suite waits", testDispatchKilled},
		{"Fault: a machine reboots while run-suite waits", testRebootWhileWaiting},
		{"Fault: the controller is killed in the middle of runs", testControllerKilled},
		{"Fault: the runs that faults have hit are whole", testEndFaults},
		{"Fault: charms are refreshed in the middle of a run, forwards and back", testRefresh},
		{"without the relation the access ends and the results stay", testRelation},
		{"a second controller unit is blocked", testSecondController},
		{"a backup is restored", testBackup},
		{"a removed unit leaves its results", testRemoveUnit},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, l) }) {
			t.FailNow()
		}
	}
}

func testDeploy(t *testing.T, l *lab) {
	bundle := l.bundle(t)
	args := []string{"deploy", bundle, "--trust"}
	if overlay := os.Getenv("CERTLAB_OVERLAY"); overlay != "" {
		args = append(args, "--overlay", overlay)
	}
	l.mustJuju(t, args...)
	l.waitUnit(t, "cert-controller/0", "active", "3 machines", 15*time.Minute)
	for _, unit := range machines {
		l.waitUnit(t, unit, "active", "enrolled", 10*time.Minute)
		_, message := l.status(t).unit(unit)
		require.Regexp(t, `^idle, checkbox \d+\.\d+.*, enrolled`, message)
	}
}

var machines = []string{"checkbox/0", "checkbox/1", "checkbox/2"}

// bundle writes a copy of the repository's bundle whose charm paths hold from anywhere. For the local lab it also has the options
// that let several labs share a host, and the Checkbox of the tests.
func (l *lab) bundle(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, "bundles", "lab.yaml"))
	require.NoError(t, err)
	var bundle map[string]any
	require.NoError(t, yaml.Unmarshal(text, &bundle))
	for name, app := range bundle["applications"].(map[string]any) {
		app := app.(map[string]any)
		app["charm"] = l.charm(name)
		if !l.local() {
			continue
		}
		options, _ := app["options"].(map[string]any)
		if options == nil {
			options = map[string]any{}
			app["options"] = options
		}
		switch name {
		case "cert-controller":
			options["port"] = freePort(t)
			options["deployed-checkbox-source"], options["deployed-checkbox-path"] = "path", l.checkbox(t)
			options["reminder-minutes"] = 1
			options["fleet-limits"] = "silence-seconds: 90"
			app["resources"] = map[string]any{"site-programs": l.site(t)}
		case "checkbox":
			options["checkbox-source"] = "path"
			options["checkbox-path"] = l.checkbox(t)
		}
	}
	text, err = yaml.Marshal(bundle)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "bundle.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o644))
	return path
}

// checkbox returns the path of the host's Checkbox, which the local lab's machines see too.
func (l *lab) checkbox(t *testing.T) string {
	t.Helper()
	path := os.Getenv("CERTLAB_CHECKBOX")
	if path == "" {
		path = filepath.Join(l.root, ".venv", "bin", "checkbox-cli")
	}
	require.FileExists(t, path, "run `make setup` first, or set CERTLAB_CHECKBOX")
	return path
}

func testListSuites(t *testing.T, l *lab) {
	out := l.mustJuju(t, "run", "checkbox/0", "list-suites", "filter=certlab")
	for _, plan := range []string{preflight, quick, rebooting} {
		require.Contains(t, out, plan)
	}
}

func testLogin(t *testing.T, l *lab) {
	k := l.run(t, "cert-controller/0", "create-token", "name=integration", "role=admin")
	require.Equal(t, "completed", k.Status, "%v", k)
	code := k.str("code")
	require.NotEmpty(t, code)
	l.mustCertlab(t, "login", l.url(t), "--code", code, "--insecure-first-use")
	again := l.exec(t, l.certlab, "login", l.url(t), "--code", code, "--insecure-first-use")
	require.NotZero(t, again.code, "a code is good once: %s", again)
	require.Contains(t, l.mustCertlab(t, "machine", "list"), l.machineOf(t, "checkbox/0"))
}

// url returns the controller's URL, from its unit's address and port option.
func (l *lab) url(t *testing.T) string {
	t.Helper()
	address := l.status(t).Applications["cert-controller"].Units["cert-controller/0"].PublicAddress
	port := strings.TrimSpace(l.mustJuju(t, "config", "cert-controller", "port"))
	return fmt.Sprintf("https://%s:%s", address, port)
}

// shown is `certlab submission show --format json`.
type shown struct {
	Plan    string         `json:"plan"`
	Title   string         `json:"title"`
	Counts  map[string]int `json:"counts"`
	Results []struct {
		ID       string `json:"id"`
		Outcome  string `json:"outcome"`
		Comments string `json:"comments"`
	} `json:"results"`
}

// outcome returns the outcome of the job, which has to be there once.
func (s shown) outcome(t *testing.T, id string) string {
	t.Helper()
	var found []string
	for _, r := range s.Results {
		if strings.HasSuffix(r.ID, "::"+id) {
			found = append(found, r.Outcome)
		}
	}
	require.Len(t, found, 1, "results of %s in %v", id, s.Results)
	return found[0]
}

// submission downloads the run's submission from the controller, which has to have exactly one, and reads it.
func (l *lab) submission(t *testing.T, run string) shown {
	t.Helper()
	var list struct {
		Submissions []struct {
			ID string `json:"id"`
		} `json:"submissions"`
	}
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "submission", "list", "--run", run, "--format", "json")), &list))
	require.Len(t, list.Submissions, 1, "submissions of run %s", run)
	file := filepath.Join(t.TempDir(), "submission.tar.xz")
	l.mustCertlab(t, "submission", "download", list.Submissions[0].ID, "--output", file)
	var s shown
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "submission", "show", file, "--format", "json")), &s))
	seen := map[string]bool{}
	for _, r := range s.Results {
		require.False(t, seen[r.ID], "%s is there twice", r.ID)
		seen[r.ID] = true
	}
	return s
}

// finished waits until the run is final and delivered, and returns what show-run says of it.
func (l *lab) finished(t *testing.T, unit, run string, limit time.Duration) task {
	t.Helper()
	var k task
	l.eventually(t, limit, func() string {
		k = l.ask(t, unit, "show-run", "run="+run)
		switch k.str("state") {
		case "completed", "failed", "cancelled":
			if k.str("delivered") == "true" {
				return ""
			}
		}
		return fmt.Sprintf("run %s of %s is %v", run, unit, k.Results)
	})
	return k
}

// runs returns the state of each run that the controller knows, by id.
func (l *lab) runs(t *testing.T) map[string]string {
	t.Helper()
	var list struct {
		Runs []struct {
			ID    string `json:"id"`
			State string `json:"state"`
		} `json:"runs"`
	}
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "run", "list", "--limit", "0", "--format", "json")), &list))
	states := map[string]string{}
	for _, r := range list.Runs {
		states[r.ID] = r.State
	}
	return states
}

func testRunSuite(t *testing.T, l *lab) {
	k := l.run(t, "checkbox/0", "run-suite", "plan="+preflight, "wait=240", "title=first")
	require.Equal(t, "completed", k.Status, "%v", k)
	require.Equal(t, "completed", k.str("state"), "%v", k)
	require.NotEmpty(t, k.str("sha256"))
	l.finished(t, "checkbox/0", k.str("run"), time.Minute)
	s := l.submission(t, k.str("run"))
	require.Equal(t, preflight, s.Plan)
	require.Equal(t, "first", s.Title)
	require.Equal(t, s.Counts, k.counts(t))
	require.NotZero(t, s.Counts["pass"])

	plain := l.mustJuju(t, "run", "checkbox/0", "show-run", "run="+k.str("run"))
	require.Contains(t, plain, "run: "+k.str("run")+"\n")
	require.Contains(t, plain, "state: completed\n")
}

func testThreeMachines(t *testing.T, l *lab) {
	args := append([]string{"run"}, machines...)
	args = append(args, "run-suite", "plan="+quick, "wait=0", "--format", "json")
	var tasks map[string]task
	require.NoError(t, json.Unmarshal([]byte(l.mustJuju(t, args...)), &tasks))
	require.Len(t, tasks, len(machines))
	for _, unit := range machines {
		run := tasks[unit].str("run")
		k := l.finished(t, unit, run, 4*time.Minute)
		require.Equal(t, "completed", k.str("state"), "%v", k)
		s := l.submission(t, run)
		require.Equal(t, s.Counts, k.counts(t))
		for _, outcome := range []string{"pass", "fail", "crash"} {
			require.NotZero(t, s.Counts[outcome], "%s in %v", outcome, s.Counts)
		}
	}
}

func testUnknownPlan(t *testing.T, l *lab) {
	k := l.run(t, "checkbox/1", "run-suite", "plan=com.canonical.certlab::prefligth", "wait=120")
	require.Equal(t, "failed", k.Status, "%v", k)
	require.Contains(t, k.Message, preflight)
}

func testManualPlan(t *testing.T, l *lab) {
	k := l.run(t, "checkbox/1", "run-suite", "plan="+manual, "wait=120")
	require.Equal(t, "failed", k.Status, "%v", k)
	require.Contains(t, k.Message, "interactive")
}

// start begins a run without waiting for it and returns its id.
func (l *lab) start(t *testing.T, unit, plan string, params ...string) string {
	t.Helper()
	k := l.run(t, unit, "run-suite", append([]string{"plan=" + plan, "wait=0"}, params...)...)
	require.Equal(t, "completed", k.Status, "%v", k)
	require.NotEmpty(t, k.str("run"))
	return k.str("run")
}

// testing waits until the run is in the middle of a job whose id ends so.
func (l *lab) testing(t *testing.T, unit, run, job string) {
	t.Helper()
	l.eventually(t, 2*time.Minute, func() string {
		k := l.ask(t, unit, "show-run", "run="+run)
		if k.str("state") == "running" && strings.HasSuffix(k.str("current-job"), job) {
			return ""
		}
		return fmt.Sprintf("run %s is not in %s: %v", run, job, k.Results)
	})
}

func testCancel(t *testing.T, l *lab) {
	run := l.start(t, "checkbox/2", slow)
	l.testing(t, "checkbox/2", run, "slow")
	l.waitUnit(t, "checkbox/2", "active", "running com.canonical", time.Minute)
	k := l.run(t, "checkbox/2", "cancel-run", "run="+run)
	require.Equal(t, "completed", k.Status, "%v", k)
	k = l.finished(t, "checkbox/2", run, time.Minute)
	require.Equal(t, "cancelled", k.str("state"), "%v", k)
	l.waitUnit(t, "checkbox/2", "active", "idle", time.Minute)
}

func testOrder(t *testing.T, l *lab) {
	var started struct {
		ID string `json:"id"`
	}
	machine := l.machineOf(t, "checkbox/1")
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "run", "start", machine, quick, "--format", "json")), &started))
	k := l.finished(t, "checkbox/1", started.ID, 4*time.Minute)
	require.Equal(t, "completed", k.str("state"), "%v", k)
	require.Equal(t, quick, l.submission(t, started.ID).Plan)
}

// machineOf returns the controller's name of the unit's machine.
func (l *lab) machineOf(t *testing.T, unit string) string {
	t.Helper()
	var list struct {
		Machines []struct {
			Name string `json:"hostname"`
			Unit string `json:"unit"`
		} `json:"machines"`
	}
	require.NoError(t, json.Unmarshal([]byte(l.mustCertlab(t, "machine", "list", "--format", "json")), &list))
	for _, m := range list.Machines {
		if m.Unit == unit {
			return m.Name
		}
	}
	require.Fail(t, "no machine", "of unit %s in %v", unit, list)
	return ""
}

func testReboot(t *testing.T, l *lab) {
	run := l.start(t, "checkbox/0", rebooting)
	k := l.finished(t, "checkbox/0", run, 6*time.Minute)
	require.Equal(t, "completed", k.str("state"), "%v", k)
	s := l.submission(t, run)
	require.Equal(t, "pass", s.outcome(t, "reboot"))
	require.Equal(t, "pass", s.outcome(t, "after-reboot"))
	require.Equal(t, "1", k.str("interruptions"), "%v", k)
	l.waitUnit(t, "checkbox/0", "active", "enrolled", 2*time.Minute)
}

func testPowerCut(t *testing.T, l *lab) {
	if !l.local() {
		t.Skip("a real controller cannot be asked to cut a machine's power: run this step by hand at the machine's BMC")
	}
	for _, c := range []struct{ plan, job string }{{slow, "slow"}, {blocker, "blocker"}} {
		run := l.start(t, "checkbox/1", c.plan)
		l.testing(t, "checkbox/1", run, c.job)
		l.mustCertlab(t, "lab", "kill", "checkbox/1")
		l.mustCertlab(t, "lab", "on", "checkbox/1")
		k := l.finished(t, "checkbox/1", run, 6*time.Minute)
		require.Equal(t, "completed", k.str("state"), "%v", k)
		s := l.submission(t, run)
		require.Contains(t, []string{"fail", "crash"}, s.outcome(t, c.job))
		require.Equal(t, s.Counts, k.counts(t))
	}
}

func testRelation(t *testing.T, l *lab) {
	before := l.mustCertlab(t, "submission", "list", "--format", "json")
	l.mustJuju(t, "remove-relation", "cert-controller:cert-agents", "checkbox:cert-agents")
	for _, unit := range machines {
		l.eventually(t, 2*time.Minute, func() string {
			if _, m := l.status(t).unit(unit); strings.Contains(m, "enrolled") {
				return unit + " is still enrolled"
			}
			return ""
		})
	}
	run := l.start(t, "checkbox/2", quick)
	l.eventually(t, 4*time.Minute, func() string {
		if k := l.run(t, "checkbox/2", "show-run", "run="+run); k.str("state") != "completed" {
			return fmt.Sprint(k.Results)
		}
		return ""
	})
	require.Equal(t, before, l.mustCertlab(t, "submission", "list", "--format", "json"))
	l.mustJuju(t, "integrate", "cert-controller:cert-agents", "checkbox:cert-agents")
	for _, unit := range machines {
		l.waitUnit(t, unit, "active", "enrolled", 3*time.Minute)
	}
	l.finished(t, "checkbox/2", run, 2*time.Minute)
	require.Equal(t, quick, l.submission(t, run).Plan)
}

func testSecondController(t *testing.T, l *lab) {
	l.mustJuju(t, "add-unit", "cert-controller")
	l.waitUnit(t, "cert-controller/1", "blocked", "one unit", 10*time.Minute)
	l.waitUnit(t, "cert-controller/0", "active", "3 machines", time.Minute)
	l.mustJuju(t, "remove-unit", "cert-controller/1", "--no-prompt")
	l.eventually(t, 5*time.Minute, func() string {
		if c, _ := l.status(t).unit("cert-controller/1"); c != "" {
			return "cert-controller/1 is still there"
		}
		return ""
	})
}

func testBackup(t *testing.T, l *lab) {
	k := l.run(t, "cert-controller/0", "backup")
	require.Equal(t, "completed", k.Status, "%v", k)
	path := k.str("path")
	require.NotEmpty(t, path)
	run := l.start(t, "checkbox/0", quick)
	l.finished(t, "checkbox/0", run, 4*time.Minute)
	after, delivered := l.runs(t), l.submission(t, run)

	k = l.run(t, "cert-controller/0", "restore", "path="+path)
	require.Equal(t, "completed", k.Status, "%v", k)
	// The run is younger than the backup: its machine still has what it delivered, and hands it in again.
	l.eventually(t, 4*time.Minute, func() string {
		r := l.exec(t, l.certlab, "run", "show", run, "--format", "json")
		if r.code != 0 || !strings.Contains(r.stdout, `"completed"`) {
			return fmt.Sprintf("the run that was delivered after the backup is not back: %s", r)
		}
		return ""
	})
	require.Equal(t, after, l.runs(t))
	require.Equal(t, delivered.Counts, l.submission(t, run).Counts)
	l.waitUnit(t, "checkbox/0", "active", "enrolled", 2*time.Minute)
}

func testRemoveUnit(t *testing.T, l *lab) {
	machine := l.machineOf(t, "checkbox/2")
	before := l.mustCertlab(t, "run", "list", "--machine", machine, "--format", "json")
	l.mustJuju(t, "remove-unit", "checkbox/2", "--no-prompt")
	l.waitUnit(t, "cert-controller/0", "active", "2 machines", 5*time.Minute)
	require.Equal(t, before, l.mustCertlab(t, "run", "list", "--machine", machine, "--format", "json"))
}
