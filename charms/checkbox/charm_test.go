package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks"
	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
	"certlab/internal/workload/workloadtest"
)

var builds workloadtest.Builds

func TestMain(m *testing.M) {
	code := m.Run()
	builds.Remove()
	os.Exit(code)
}

// A lab is a unit of the charm on a machine of its own: a model of Juju, a Pebble, and a socket that answers as the agent would.
type lab struct {
	*hookstest.Scenario
	t       testing.TB
	sys     system
	systemd *workloadtest.Systemd
	dir     string // all of the lab
	base    string // of the unit
	agents  string // where Juju's agents have their directories

	mu       sync.Mutex
	status   order.AgentStatus
	stale    bool // it has not applied the desired state
	answers  map[string]answer
	requests []request
	anything func(method, path string) (int, any) // answers what answers does not
}

type answer struct {
	status int
	body   any
}

type request struct {
	Method, Path, Body string
}

// newLab makes one whose Pebble starts nothing. Whatever the charm changes on the machine is a step at which it can be killed.
func newLab(t testing.TB, options ...hookstest.Option) *lab {
	t.Helper()
	return makeLab(t, false, options...)
}

// newPebbleLab makes one with a real Pebble, which runs a dummy in the agent's place.
func newPebbleLab(t testing.TB, options ...hookstest.Option) *lab {
	t.Helper()
	return makeLab(t, true, options...)
}

func makeLab(t testing.TB, pebble bool, options ...hookstest.Option) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "cb") // t.TempDir's names are too long for sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	l := &lab{t: t, base: filepath.Join(dir, "lib", "unit-checkbox-0"), agents: filepath.Join(dir, "agents"), answers: map[string]answer{}}
	units := filepath.Join(dir, "units")
	charm := filepath.Join(l.agents, "unit-checkbox-0", "charm")
	require.NoError(t, os.MkdirAll(units, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(charm, "provider", "units"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(charm, "provider", "manage.py"), []byte("#!/usr/bin/env python3\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(charm, "provider", "units", "a.pxu"), []byte("unit: job\n"), 0o644))
	if pebble {
		require.NoError(t, os.Symlink(filepath.Join(builds.Charm(t, "certlab-agent"), "bin"), filepath.Join(charm, "bin")))
		l.systemd = workloadtest.NewSystemd(t, units)
	} else {
		require.NoError(t, workloadtest.FakeCharm(charm, "certlab-agent"))
		l.systemd = workloadtest.NewFakeSystemd(t, units)
	}
	l.sys = system{root: filepath.Join(dir, "lib"), unitFiles: units, run: l.systemd.Run, charmDir: charm, commands: filepath.Join(dir, "commands"),
		step: func(what string) { l.Point(what) }}
	if !pebble {
		l.sys.proc = units // no processes
		require.NoError(t, os.MkdirAll(l.agentDir(), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(l.agentDir(), order.AgentPublicFile), []byte(fakePublic), 0o600))
	}
	l.dir = dir
	l.Scenario = hookstest.New(t, newCharm(l.sys), "charmcraft.yaml", options...)
	l.status = order.AgentStatus{Version: "1.0", CheckboxVersion: "7.3.0"}
	l.serve()
	return l
}

func (l *lab) agentDir() string { return filepath.Join(l.base, "agent") }

// fakePublic is what an agent has written that has made its key.
const fakePublic = `{"public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8xOUetsCa8EfOlDEBAfREhJqspDoyEh6Szz2in47Tv5n52m9dLYyPCbqZkOB5nTSqtscpkQD/HpykCggvx09iQ==",
 "identity": {"hostname": "node1", "architecture": "amd64", "unit": "checkbox/0", "model_uuid": "8cac5806-7ba1-4d95-8a50-ce11f7151656"}}
`

// serve answers on the agent's socket.
func (l *lab) serve() {
	require.NoError(l.t, os.MkdirAll(l.agentDir(), 0o700))
	listener, err := net.Listen("unix", filepath.Join(l.agentDir(), order.AgentSocket))
	require.NoError(l.t, err)
	server := &http.Server{Handler: http.HandlerFunc(l.handle)}
	go server.Serve(listener)
	l.t.Cleanup(func() { server.Close() })
}

func (l *lab) handle(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var body json.RawMessage
	if r.ContentLength != 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	path := r.URL.RequestURI()
	if path != "/v1/status" {
		l.requests = append(l.requests, request{r.Method, path, string(body)})
	}
	a, ok := l.answers[r.Method+" "+path]
	if path == "/v1/status" {
		a, ok = answer{200, l.statusNow()}, true
	}
	if !ok && l.anything != nil {
		a.status, a.body = l.anything(r.Method, path)
		ok = true
	}
	if !ok {
		a = answer{404, map[string]string{"error": "cannot find " + path}}
	}
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(a.body) // the charm tells if it cannot read it
}

func (l *lab) statusNow() order.AgentStatus {
	status := l.status
	if data, err := os.ReadFile(filepath.Join(l.agentDir(), order.AgentDesiredFile)); err == nil && !l.stale {
		sum := sha256.Sum256(data)
		status.Applied = hex.EncodeToString(sum[:])
	}
	return status
}

// agent changes what the agent answers.
func (l *lab) agent(change func(*order.AgentStatus)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.status)
}

func (l *lab) answer(method, path string, status int, body any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[method+" "+path] = answer{status, body}
}

func (l *lab) asked() []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]request(nil), l.requests...)
}

func (l *lab) desired() order.AgentDesired {
	l.t.Helper()
	var d order.AgentDesired
	data, err := os.ReadFile(filepath.Join(l.agentDir(), order.AgentDesiredFile))
	require.NoError(l.t, err)
	require.NoError(l.t, json.Unmarshal(data, &d))
	return d
}

// files lists what is below a directory, without sockets and the dispatch's own.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			found = append(found, rel)
		}
		return err
	}))
	return found
}

// controllerBag is what a controller publishes.
func controllerBag() map[string]string {
	return map[string]string{"urls": `["https://10.0.0.2:8443"]`, "cas": string(must(json.Marshal([]string{testCA})))}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// related makes a lab with a controller that has published its address, and an agent that is in.
func related(t testing.TB, options ...hookstest.Option) (*lab, string) {
	t.Helper()
	l := newLab(t, options...)
	l.WithRelation("cert-agents", "cert-controller", 1)
	id := l.RelationID("cert-agents")
	l.WithData(id, "cert-controller", controllerBag())
	l.agent(func(s *order.AgentStatus) { s.Controller = "enrolled" })
	return l, id
}

func TestTheCharmAndCharmcraftYamlFit(t *testing.T) {
	t.Parallel()
	hookstest.CheckConfig(t, options{}, "charmcraft.yaml")
	hookstest.CheckActions(t, newCharm(system{}), "charmcraft.yaml")
	hookstest.CheckAction(t, runSuiteParams{}, "charmcraft.yaml", "run-suite")
}

func TestAUnitOnItsOwnBecomesIdle(t *testing.T) {
	t.Parallel()
	for _, version := range []string{hookstest.Juju36, hookstest.Juju40} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := newPebbleLab(t, hookstest.Fresh(), hookstest.Version(version))
			install := l.Fire("install").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
			require.LessOrEqual(t, install.Count(), 10, install.Tools())
			require.True(t, l.systemd.Enabled("certlab-unit-checkbox-0.service"))
			for _, event := range []string{"config-changed", "start", "update-status", "upgrade-charm"} {
				r := l.Fire(event).RequireStatus("active", "idle, checkbox 7.3.0, on its own")
				require.LessOrEqual(t, r.Count(), 7, "%s: %v", event, r.Tools())
			}
			for _, event := range []string{"config-changed", "update-status"} {
				l.Fire(event)
				r := l.Again()
				require.LessOrEqual(t, r.Count(), 6, "%s: %v", event, r.Tools())
			}
			l.Exec().RequireStatus("active", "idle, checkbox 7.3.0, on its own")
			d := l.desired()
			require.Equal(t, "checkbox/0", d.Unit)
			require.Equal(t, "snap", d.Checkbox.Source)
			require.Equal(t, int64(24*3600), d.TimeoutSeconds)
			require.Empty(t, d.ControllerURLs)
			require.Equal(t, []string{"checkbox/0", "/var/lib/juju/agents/unit-checkbox-0/charm/dispatch"}, d.DispatchCommand[1:])
			require.Equal(t, "juju-exec", filepath.Base(d.DispatchCommand[0]))
			require.FileExists(t, d.Binary)
			require.Len(t, d.ProviderPaths, 1)
			require.FileExists(t, filepath.Join(d.ProviderPaths[0], "units", "a.pxu"))
			info, err := os.Stat(filepath.Join(l.agentDir(), order.AgentDesiredFile))
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode())
		})
	}
}

func TestTheRelationCarriesTrustBothWays(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	l.WithRelation("cert-agents", "cert-controller", 1)
	id := l.RelationID("cert-agents")
	r := l.FireRelation("created", id, "").RequireStatus("waiting", "for the controller to publish its address")
	require.LessOrEqual(t, r.Count(), 10, r.Tools())
	bag := r.Bag(id, "checkbox/0")
	require.Contains(t, bag["identity"], `"unit":"checkbox/0"`)
	require.NotEmpty(t, bag["public-key"])

	l.WithData(id, "cert-controller", controllerBag())
	l.agent(func(s *order.AgentStatus) { s.Controller = "refused" })
	l.FireRelation("changed", id, "cert-controller").RequireStatus("waiting", "for the controller to let this machine in")
	require.Equal(t, []string{"https://10.0.0.2:8443"}, l.desired().ControllerURLs)
	l.agent(func(s *order.AgentStatus) { s.Controller = "enrolled" })
	l.Exec().RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	for _, event := range []string{"config-changed", "update-status"} {
		l.Fire(event)
		r := l.Again()
		require.LessOrEqual(t, r.Count(), 6, "%s: %v", event, r.Tools())
		require.Equal(t, bag, r.Bag(id, "checkbox/0"))
	}
	l.agent(func(s *order.AgentStatus) { s.Controller, s.ControllerError = "unreachable", "connection refused" })
	l.Exec().RequireStatus("waiting", "for the controller to be reachable: connection refused")

	l.FireRelation("departed", id, "cert-controller/0")
	l.agent(func(s *order.AgentStatus) { s.Controller, s.ControllerError = "", "" })
	l.FireRelation("broken", id, "").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.Empty(t, l.desired().ControllerURLs)
	require.Empty(t, l.desired().ControllerCAs)
}

func TestFaultARelationThatGoesWhileAnOptionIsMalformedTakesTheAddressAway(t *testing.T) {
	t.Parallel()
	l, id := related(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	l.WithConfig(map[string]string{"timeout": "0"})
	l.FireRelation("departed", id, "cert-controller/0").RequireStatus("blocked", "set timeout to a number from 1 to 43200 (it is 0)")
	require.NotEmpty(t, l.desired().ControllerURLs)
	l.FireRelation("broken", id, "").RequireStatus("blocked", "set timeout to a number from 1 to 43200 (it is 0)")
	require.Empty(t, l.desired().ControllerURLs)
}

func TestStatusesAreThoseThatAnOperatorNeeds(t *testing.T) {
	t.Parallel()
	l, _ := related(t)
	l.Fire("config-changed")
	at := time.Date(2026, 11, 23, 14, 2, 0, 0, time.UTC)
	running := &order.Run{Report: order.Report{Run: "r1", State: order.Running, Started: at, Spec: order.Spec{Plan: "com.canonical.certification::sru"}}}
	for _, c := range []struct {
		change        func(*order.AgentStatus)
		name, message string
	}{
		{func(s *order.AgentStatus) {}, "active", "idle, checkbox 7.3.0, enrolled"},
		{func(s *order.AgentStatus) { s.Current = running }, "active", "running com.canonical.certification::sru since 14:02"},
		{func(s *order.AgentStatus) { s.Installing = true }, "maintenance", "installing checkbox"},
		{func(s *order.AgentStatus) { s.CheckboxProblem = "install checkbox by hand: no snapd" }, "blocked", "install checkbox by hand: no snapd"},
		{func(s *order.AgentStatus) { s.Undelivered = 2 }, "active", "idle, checkbox 7.3.0, enrolled, 2 runs to deliver"},
		{func(s *order.AgentStatus) { s.Problems = []string{"free some space in /var", "set the clock"} }, "blocked", "free some space in /var (and 1 more)"},
		{func(s *order.AgentStatus) { s.Current, s.Problems = running, []string{"set the clock"} }, "active", "running com.canonical.certification::sru since 14:02; set the clock"},
		{func(s *order.AgentStatus) {
			s.Controller, s.ControllerError, s.ControllerSince, s.Undelivered = "unreachable", "connection refused", at, 1
		}, "waiting", "for the controller to be reachable, since 23 Nov 14:02: connection refused, 1 run to deliver"},
		{func(s *order.AgentStatus) { s.Queued = 3 }, "active", "3 queued, checkbox 7.3.0, enrolled"},
	} {
		var old order.AgentStatus
		l.agent(func(s *order.AgentStatus) { old = *s; c.change(s) })
		l.Exec().RequireStatus(c.name, c.message)
		l.agent(func(s *order.AgentStatus) { *s = old })
	}
	require.Equal(t, "7.3.0", l.State().Units["checkbox/0"].WorkloadVersion)
}

func TestOptionsReachTheAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.WithConfig(map[string]string{
		"checkbox-source": "deb", "checkbox-channel": "ppa:checkbox-dev/stable", "extra-packages": "checkbox-provider-base, fwts",
		"default-plan": "com.canonical.certification::sru", "timeout": "60", "silence-timeout": "5", "console-limit": "1", "session-limit": "2",
		"max-boots": "3", "normal-user": "ubuntu", "environment": "A=1\n# a comment\n B= two words ", "manifest": "x::camera=yes\nx::ports=4",
	})
	l.WithModelConfig("juju-http-proxy", "http://proxy:3128")
	l.WithModelConfig("juju-no-proxy", "10.0.0.0/8")
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	d := l.desired()
	require.Equal(t, order.CheckboxSource{Source: "deb", Channel: "ppa:checkbox-dev/stable", ExtraPackages: []string{"checkbox-provider-base", "fwts"}}, d.Checkbox)
	require.Equal(t, map[string]string{"A": "1", "B": " two words "}, d.Environment)
	require.Equal(t, map[string]string{"x::camera": "true", "x::ports": "4"}, d.Manifest)
	require.Equal(t, order.Proxy{HTTP: "http://proxy:3128", No: "10.0.0.0/8"}, d.Proxy)
	require.Equal(t, []int64{3600, 300, 1 << 20, 2 << 20}, []int64{d.TimeoutSeconds, d.SilenceSeconds, d.ConsoleMaxBytes, d.SessionMaxBytes})
	require.Equal(t, 3, d.MaxBoots)
	require.Equal(t, "ubuntu", d.NormalUser)
	require.Equal(t, "com.canonical.certification::sru", d.DefaultPlan)
}

func TestASecretReachesTheAgentInAPrivateFileOnly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.WithSecretOption("secret-environment", map[string]string{"wifi-password": "correct horse", "token": "battery staple"}, false)
	id := l.OptionSecret("secret-environment")
	l.Fire("config-changed").RequireStatus("blocked", "type: juju grant-secret "+id+" checkbox (secret-environment cannot be read)")
	l.Change(func(state *jujuState) error {
		return state.GrantUserSecret("secret-environment", []string{"checkbox"}, true)
	})
	r := l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.LessOrEqual(t, r.Count(), 10)
	require.LessOrEqual(t, l.Again().Count(), 6)

	path := filepath.Join(l.agentDir(), "secret-environment")
	require.Equal(t, path, l.desired().SecretEnvFile)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "TOKEN=battery staple\nWIFI_PASSWORD=correct horse\n", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	for _, name := range files(t, l.base) {
		if filepath.Base(name) == "secret-environment" || strings.HasPrefix(name, "bin/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(l.base, name))
		require.NoError(t, err)
		require.NotContains(t, string(data), "correct horse", name)
	}

	l.WithSecretContent("secret-environment", map[string]string{"wifi-password": "two\nlines-are-too-many"})
	l.FireSecret("changed", id, 0).RequireStatus("blocked", `change the secret of secret-environment: the value of key "wifi-password" is not one line of at most 32768 bytes`)
	l.WithSecretContent("secret-environment", map[string]string{"wifi-password": "new horse"})
	l.FireSecret("changed", id, 0).RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "WIFI_PASSWORD=new horse\n", string(data))

	l.Change(func(state *jujuState) error {
		delete(state.Applications["checkbox"].Config, "secret-environment")
		return nil
	})
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.NoFileExists(t, path)
	require.Empty(t, l.desired().SecretEnvFile)
}

func TestANewSecretReachesAnAgentThatRuns(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	l.WithSecretOption("secret-environment", map[string]string{"token": "battery staple"}, true)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	reloads := filepath.Join(l.agentDir(), "reloads")
	require.Eventually(t, func() bool { _, err := os.Stat(reloads); return err == nil }, time.Minute, 50*time.Millisecond)
	before := l.desired()
	l.WithSecretContent("secret-environment", map[string]string{"token": "other staple"})
	l.FireSecret("changed", l.OptionSecret("secret-environment"), 0)
	require.Equal(t, before, l.desired(), "it has only the file's path")
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(reloads)
		return err == nil && string(data) == "reload\n"
	}, time.Minute, 50*time.Millisecond)
}

func TestFaultASecondUnitOnTheMachineIsBlockedAndOneThatIsGoneIsCleanedUp(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	charm := filepath.Join(l.agents, "unit-other-0", "charm")
	require.NoError(t, os.MkdirAll(charm, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(l.agents, "unit-checkbox-0", "charm", "bin"), filepath.Join(charm, "bin")))
	require.NoError(t, os.CopyFS(filepath.Join(charm, "provider"), os.DirFS(filepath.Join(l.agents, "unit-checkbox-0", "charm", "provider"))))
	sys := l.sys
	sys.charmDir = charm
	other := hookstest.New(t, newCharm(sys), "charmcraft.yaml", hookstest.App("other"))
	other.Fire("config-changed").RequireStatus("blocked", "only one unit can test a machine, and checkbox/0 is here already: remove this one, or that one")
	require.NoDirExists(t, filepath.Join(l.sys.root, "unit-other-0", "agent"))

	require.NoError(t, os.RemoveAll(filepath.Join(l.agents, "unit-checkbox-0", "charm")))
	require.NoError(t, os.Remove(filepath.Join(l.agents, "unit-checkbox-0")))
	require.NoError(t, os.RemoveAll(filepath.Join(charm, "bin")))
	require.NoError(t, os.Symlink(filepath.Join(builds.Charm(t, "certlab-agent"), "bin"), filepath.Join(charm, "bin")))
	r := other.Fire("update-status").RequireStatus("waiting", "for the agent to start")
	require.Contains(t, strings.Join(r.Log, "\n"), "ending the agent of a unit that Juju has dropped without a word; its results stay")
	require.NoDirExists(t, filepath.Join(l.base, "bin"))
	require.FileExists(t, filepath.Join(l.agentDir(), order.AgentDesiredFile), "what it had is kept")
	w, err := l.sys.agentOf(&hooks.Unit{}, "checkbox/0")
	require.NoError(t, err)
	state, err := w.State(t.Context())
	require.NoError(t, err)
	require.Zero(t, state.Processes, "its agent is still running")
	require.False(t, l.systemd.Enabled("certlab-unit-checkbox-0.service"))
	require.True(t, l.systemd.Enabled("certlab-unit-other-0.service"))
	other.Fire("stop")
}

func TestRemoveKeepsWhatNobodyHasTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		undelivered int
		left        []string
	}{{0, nil}, {1, []string{"agent/desired.json", "agent/lock", "agent/reloads", "agent/submission.tar.xz"}}} {
		l := newPebbleLab(t)
		l.WithSecretOption("secret-environment", map[string]string{"token": "battery staple"}, true)
		l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
		require.NoError(t, os.WriteFile(filepath.Join(l.agentDir(), "submission.tar.xz"), []byte("x"), 0o600))
		runs := []order.Run{{Delivered: true, Files: []order.File{{Name: "submission.tar.xz"}}}}
		for range c.undelivered {
			runs = append(runs, order.Run{Files: []order.File{{Name: "submission.tar.xz"}}})
		}
		l.answer("GET", "/v1/runs", 200, runs)
		r := l.Fire("stop").RequireSuccess()
		if c.undelivered > 0 {
			require.Contains(t, strings.Join(r.Log, "\n"), l.agentDir())
		}
		l.Fire("remove").RequireSuccess()
		if c.left == nil {
			require.NoDirExists(t, l.base)
		} else {
			require.Equal(t, c.left, files(t, l.base))
		}
		require.False(t, l.systemd.Enabled("certlab-unit-checkbox-0.service"))
	}
}

func TestFaultAnAgentThatDoesNotStayUpIsSaidWithItsReason(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	require.NoError(t, os.Remove(filepath.Join(l.agentDir(), order.AgentSocket)))
	require.NoError(t, os.WriteFile(filepath.Join(l.agentDir(), "refuse"), []byte("cannot open the spool: disk is full"), 0o600))
	l.Fire("config-changed")
	require.Eventually(t, func() bool {
		r := l.Exec()
		return r.Status().Message == "the agent does not stay up, see juju debug-log; it said: cannot open the spool: disk is full"
	}, 60*time.Second, 100*time.Millisecond)
}
