package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks"
	"certlab/internal/hooks/hookstest"
	"certlab/internal/juju"
	"certlab/internal/order"
	"certlab/internal/workload/workloadtest"
)

var builds workloadtest.Builds

func TestMain(m *testing.M) {
	code := m.Run()
	builds.Remove()
	os.Exit(code)
}

// A lab is the controller's unit on a machine of its own: a model of Juju, a Pebble, and a socket that answers as certlabd would.
type lab struct {
	*hookstest.Scenario
	t       testing.TB
	sys     system
	systemd *workloadtest.Systemd
	dir     string // all of the lab
	base    string // of the unit
	storage string

	mu       sync.Mutex
	health   order.ControllerHealth
	answers  map[string]answer
	requests []request
	anything func(method, path string) (int, any) // answers what answers does not
}

type answer struct {
	status int
	body   any
}

// rawBody is an answer that is not JSON.
type rawBody string

// cutShort is one whose connection breaks before its end.
type cutShort string

type request struct {
	Method, Path, Body string
}

// newLab makes one whose Pebble starts nothing. Whatever the charm changes on the machine is a step at which it can be killed.
func newLab(t testing.TB, options ...hookstest.Option) *lab {
	t.Helper()
	return makeLab(t, false, options...)
}

// newPebbleLab makes one with a real Pebble, which runs a dummy in certlabd's place.
func newPebbleLab(t testing.TB, options ...hookstest.Option) *lab {
	t.Helper()
	return makeLab(t, true, options...)
}

func makeLab(t testing.TB, pebble bool, options ...hookstest.Option) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "cc") // t.TempDir's names are too long for sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	l := &lab{t: t, base: filepath.Join(dir, "lib", "unit-cert-controller-0"), storage: filepath.Join(dir, "data"), answers: map[string]answer{}}
	units := filepath.Join(dir, "units")
	require.NoError(t, os.MkdirAll(units, 0o755))
	require.NoError(t, os.MkdirAll(l.storage, 0o755))
	charm := filepath.Join(dir, "charm")
	if pebble {
		charm = builds.Charm(t, "certlabd")
		l.systemd = workloadtest.NewSystemd(t, units)
	} else {
		require.NoError(t, workloadtest.FakeCharm(charm, "certlabd"))
		l.systemd = workloadtest.NewFakeSystemd(t, units)
	}
	l.dir = dir
	l.sys = system{root: filepath.Join(dir, "lib"), unitFiles: units, run: l.systemd.Run, charmDir: charm, step: func(what string) { l.Point(what) }}
	if !pebble {
		l.sys.proc = units // no processes
	}
	l.Scenario = hookstest.New(t, newCharm(l.sys), "charmcraft.yaml", options...)
	l.health = order.ControllerHealth{Ready: true, Version: "1.0", Machines: 0}
	l.serve()
	return l
}

// ready is a lab whose service runs, with that many related machines, enrolled.
func ready(t testing.TB, machines int) (*lab, string) {
	t.Helper()
	l := newLab(t)
	l.WithStorage("data", l.storage)
	l.publish("CA one")
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	if machines == 0 {
		return l, ""
	}
	l.WithRelation("cert-agents", "checkbox", machines)
	id := l.RelationID("cert-agents")
	// All at once: each change copies the model.
	l.Change(func(state *juju.State) error {
		for _, relation := range state.Relations {
			for i := range machines {
				maps.Copy(relation.Units[fmt.Sprintf("checkbox/%d", i)].Settings, agentBag(i, fmt.Sprintf("node%d", i)))
			}
		}
		return nil
	})
	l.FireRelation("created", id, "").RequireStatus("active", "0 machines, 0 running")
	return l, id
}

func (l *lab) serviceDir() string { return filepath.Join(l.base, "service") }

// publish is what certlabd does when it has made a CA.
func (l *lab) publish(cas ...string) {
	require.NoError(l.t, os.MkdirAll(l.serviceDir(), 0o700))
	data, err := json.Marshal(order.ControllerPublic{CAs: cas})
	require.NoError(l.t, err)
	require.NoError(l.t, os.WriteFile(filepath.Join(l.serviceDir(), order.ControllerPublicFile), data, 0o600))
}

// serve answers on certlabd's socket.
func (l *lab) serve() {
	require.NoError(l.t, os.MkdirAll(l.serviceDir(), 0o700))
	listener, err := net.Listen("unix", filepath.Join(l.serviceDir(), order.ControllerSocket))
	require.NoError(l.t, err)
	server := &http.Server{Handler: http.HandlerFunc(l.handle)}
	go server.Serve(listener)
	l.t.Cleanup(func() { server.Close() })
}

func (l *lab) handle(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var body json.RawMessage
	if r.Header.Get("Content-Type") == "text/csv" {
		body, _ = io.ReadAll(r.Body)
	} else if r.ContentLength != 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	path := r.URL.RequestURI()
	a, ok := l.answers[r.Method+" "+path]
	if path == "/health/ready" {
		health := l.health
		if data, err := os.ReadFile(filepath.Join(l.serviceDir(), order.ControllerDesiredFile)); err == nil {
			sum := sha256.Sum256(data)
			health.Applied = hex.EncodeToString(sum[:])
		}
		a, ok = answer{200, health}, true
		if !health.Ready {
			a.status = 503
		}
	} else {
		l.requests = append(l.requests, request{r.Method, path, string(body)})
	}
	if !ok && l.anything != nil {
		a.status, a.body = l.anything(r.Method, path)
		ok = true
	}
	if !ok {
		a = answer{404, map[string]any{"error": map[string]string{"code": "not-found", "message": "cannot find " + path}}}
	}
	w.WriteHeader(a.status)
	if raw, ok := a.body.(rawBody); ok {
		_, _ = w.Write([]byte(raw))
		return
	}
	if cut, ok := a.body.(cutShort); ok {
		_, _ = w.Write([]byte(cut))
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(a.body) // the charm tells if it cannot read it
}

func (l *lab) service(change func(*order.ControllerHealth)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.health)
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

func (l *lab) desired() order.ControllerDesired {
	l.t.Helper()
	var d order.ControllerDesired
	data, err := os.ReadFile(filepath.Join(l.serviceDir(), order.ControllerDesiredFile))
	require.NoError(l.t, err)
	require.NoError(l.t, json.Unmarshal(data, &d))
	return d
}

func (l *lab) enrolled() []string {
	units := []string{}
	for _, agent := range l.desired().Agents {
		units = append(units, agent.Unit)
	}
	return units
}

var keys sync.Map

// agentBag is what the unit with that number publishes.
func agentBag(number int, hostname string) map[string]string {
	key, ok := keys.Load(number)
	if !ok {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			panic(err)
		}
		key, _ = keys.LoadOrStore(number, base64.StdEncoding.EncodeToString(der))
	}
	identity, err := json.Marshal(order.Identity{Hostname: hostname, Architecture: "amd64", Unit: fmt.Sprintf("checkbox/%d", number)})
	if err != nil {
		panic(err)
	}
	return map[string]string{"public-key": fmt.Sprintf("%q", key), "identity": string(identity)}
}

func TestTheCharmAndCharmcraftYamlFit(t *testing.T) {
	t.Parallel()
	hookstest.CheckConfig(t, options{}, "charmcraft.yaml")
	hookstest.CheckActions(t, newCharm(system{}), "charmcraft.yaml")
}

func TestAFreshUnitStartsItsService(t *testing.T) {
	t.Parallel()
	for _, version := range []string{hookstest.Juju36, hookstest.Juju40} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := newPebbleLab(t, hookstest.Fresh(), hookstest.Version(version))
			l.WithStorage("data", l.storage)
			l.service(func(h *order.ControllerHealth) { h.Ready = false })
			r := l.FireStorage("attached", "data/0").RequireStatus("waiting", "starting")
			require.LessOrEqual(t, r.Count(), 12, r.Tools())
			l.service(func(h *order.ControllerHealth) { h.Ready = true })
			r = l.Fire("install").RequireStatus("active", "0 machines, 0 running")
			require.LessOrEqual(t, r.Count(), 12, r.Tools())
			for _, event := range []string{"leader-elected", "config-changed", "start", "upgrade-charm", "update-status"} {
				r := l.Fire(event).RequireStatus("active", "0 machines, 0 running")
				most := 7
				if event == "upgrade-charm" { // which asks for the resource too
					most++
				}
				require.LessOrEqual(t, r.Count(), most, "%s: %v", event, r.Tools())
			}
			r = l.Again()
			require.LessOrEqual(t, r.Count(), 6, r.Tools())
			l.Exec().RequireStatus("active", "0 machines, 0 running")
			d := l.desired()
			require.Equal(t, l.storage, d.DataDir)
			require.FileExists(t, filepath.Join(l.storage, d.DataMark))
			require.Equal(t, 8443, d.Port)
			require.Contains(t, d.Addresses, "10.0.0.10")
			require.Equal(t, "lab", d.SiteName, "the model's name")
			require.Equal(t, int64(1<<30), d.MinFreeBytes)
			require.Equal(t, "1.0", l.State().Units["cert-controller/0"].WorkloadVersion)
			require.Equal(t, []string{"8443/tcp"}, openPorts(l))
		})
	}
}

func openPorts(l *lab) []string {
	ports := []string{}
	for _, p := range l.State().Units["cert-controller/0"].Ports {
		ports = append(ports, fmt.Sprint(p))
	}
	return ports
}

func TestMachinesAreLetInAndOutByTheRelation(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 3)
	require.Equal(t, map[string]string{"cas": `["CA one"]`, "urls": `["https://10.0.0.10:8443"]`}, l.bag(id))
	for i := range 3 {
		unit := fmt.Sprintf("checkbox/%d", i)
		r := l.FireRelation("joined", id, unit).RequireSuccess()
		require.LessOrEqual(t, r.Count(), 8, r.Tools())
		l.FireRelation("changed", id, unit).RequireSuccess()
	}
	require.Equal(t, []string{"checkbox/0", "checkbox/1", "checkbox/2"}, l.enrolled())
	require.Equal(t, id, l.desired().Agents[0].Relation)
	require.Equal(t, "node1", l.desired().Agents[1].Identity.Hostname)
	l.service(func(h *order.ControllerHealth) { h.Machines, h.Running = 3, 1 })
	l.Exec().RequireStatus("active", "3 machines, 1 running")
	require.LessOrEqual(t, l.Again().Count(), 6)

	l.FireRelation("departed", id, "checkbox/1").RequireSuccess()
	require.Equal(t, []string{"checkbox/0", "checkbox/2"}, l.enrolled())
	l.FireRelation("broken", id, "").RequireSuccess()
	require.Empty(t, l.enrolled())
	for key := range l.State().Units["cert-controller/0"].CharmState {
		require.NotContains(t, key, "databag.")
	}
}

func (l *lab) bag(id string) map[string]string {
	for _, relation := range l.State().Relations {
		if fmt.Sprintf("cert-agents:%d", relation.ID) == id {
			return relation.Apps["cert-controller"].Settings
		}
	}
	return nil
}

func TestAHookCostsTheSameWith1And500Units(t *testing.T) {
	t.Parallel()
	counts := map[int][]int{}
	for _, n := range []int{1, 500} {
		l, id := ready(t, n)
		require.NoError(t, writeEnrolled(l, id, n))
		for _, fire := range []func() hookstest.Result{
			func() hookstest.Result { return l.Fire("config-changed") },
			func() hookstest.Result { return l.Fire("update-status") },
			func() hookstest.Result { return l.FireRelation("changed", id, "checkbox/0") },
			func() hookstest.Result {
				l.WithData(id, "checkbox/0", map[string]string{"identity": `{"hostname":"renamed","architecture":"amd64"}`})
				return l.FireRelation("changed", id, "checkbox/0")
			},
			func() hookstest.Result { return l.FireRelation("departed", id, "checkbox/0") },
		} {
			r := fire().RequireSuccess()
			require.LessOrEqual(t, r.Count(), 10, r.Tools())
			counts[n] = append(counts[n], r.Count())
		}
		require.Len(t, l.enrolled(), n-1)
	}
	require.Equal(t, counts[1], counts[500])
}

// writeEnrolled puts n agents into the desired state, as n hooks would have.
func writeEnrolled(l *lab, id string, n int) error {
	d := l.desired()
	for i := range n {
		bag := agentBag(i, fmt.Sprintf("node%d", i))
		var agent order.EnrolledAgent
		if err := json.Unmarshal([]byte(bag["public-key"]), &agent.PublicKey); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(bag["identity"]), &agent.Identity); err != nil {
			return err
		}
		agent.Relation, agent.Unit = id, fmt.Sprintf("checkbox/%d", i)
		d.Agents = append(d.Agents, agent)
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.serviceDir(), order.ControllerDesiredFile), data, 0o600)
}

func TestFaultUnitsWhoseEventsNeverCameAreFoundAfterAWhile(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 7)
	for range 4 {
		l.Fire("update-status").RequireSuccess()
	}
	require.Len(t, l.enrolled(), 7)
	// Who has left without an event loses its access at the next hook.
	l.Change(func(state *juju.State) error {
		for _, relation := range state.Relations {
			if fmt.Sprintf("cert-agents:%d", relation.ID) == id {
				relation.Units["checkbox/3"].InScope = false
				delete(state.Units["cert-controller/0"].Uniter.Relations[relation.ID].Joined, "checkbox/3")
			}
		}
		return nil
	})
	l.Fire("config-changed").RequireSuccess()
	require.Len(t, l.enrolled(), 6)
	require.NotContains(t, l.enrolled(), "checkbox/3")
}

func TestFaultALostDesiredStateIsRebuiltAtOnce(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 7)
	require.NoError(t, os.Remove(filepath.Join(l.serviceDir(), order.ControllerDesiredFile)))
	l.Fire("update-status").RequireSuccess()
	require.Len(t, l.enrolled(), 7)
}

func TestOptionsReachTheServiceAndTheAgents(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 1)
	l.WithConfig(map[string]string{
		"port": "9443", "external-url": "https://lab.example.com/", "site-name": "basement", "min-free-space": "5", "retention-days": "30",
		"max-submission-size": "7", "log-level": "debug",
	})
	r := l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	require.LessOrEqual(t, r.Count(), 14, r.Tools())
	d := l.desired()
	require.Equal(t, 9443, d.Port)
	require.Equal(t, "https://lab.example.com", d.ExternalURL)
	require.Contains(t, d.Addresses, "lab.example.com")
	require.Equal(t, "basement", d.SiteName)
	require.Equal(t, []int64{5 << 20, 30, 7 << 20}, []int64{d.MinFreeBytes, int64(d.RetentionDays), d.MaxSubmissionBytes})
	require.Equal(t, "debug", d.LogLevel)
	require.Equal(t, `["https://10.0.0.10:9443"]`, l.bag(id)["urls"])
	require.Equal(t, []string{"9443/tcp"}, openPorts(l))

	l.WithConfig(map[string]string{"bind-address": "fd00::1"})
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	require.Equal(t, `["https://[fd00::1]:9443"]`, l.bag(id)["urls"])
}

func TestANewAddressAndANewCAReachTheAgents(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 1)
	l.Change(func(state *juju.State) error {
		machine := state.Machines[state.Units["cert-controller/0"].Machine]
		machine.Addresses = []string{"10.0.0.99"}
		machine.Interfaces[0].Addresses = []string{"10.0.0.99/24"}
		return nil
	})
	l.Fire("config-changed").RequireSuccess()
	require.Equal(t, `["https://10.0.0.99:8443"]`, l.bag(id)["urls"])
	require.Contains(t, l.desired().Addresses, "10.0.0.99")
	l.publish("CA two", "CA one")
	l.Exec().RequireSuccess()
	require.Equal(t, `["CA two","CA one"]`, l.bag(id)["cas"])
}

func TestOnlyTheLeaderWritesTheApplicationsDatabag(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 1)
	l.publish("CA two")
	l.WithLeader(false)
	l.Fire("update-status").RequireStatus("waiting", "to lead the application: agents cannot be told the address (remove other units)")
	require.Equal(t, `["CA one"]`, l.bag(id)["cas"])
	l.WithLeader(true)
	l.Fire("leader-elected").RequireStatus("active", "0 machines, 0 running")
	require.Equal(t, `["CA two"]`, l.bag(id)["cas"])
}

func TestFaultASecondUnitIsBlocked(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 1)
	l.WithUnits(1)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")

	dir := t.TempDir()
	tools := &canned{answers: map[string]string{
		"state-get":  `{}`,
		"goal-state": `{"units":{"cert-controller/0":{"status":"active"},"cert-controller/1":{"status":"waiting"}}}`,
		"status-get": `{"status":"waiting","message":"agent initialising"}`,
	}}
	code := hooks.Run(t.Context(), newCharm(system{root: dir, unitFiles: dir, run: l.systemd.Run, charmDir: l.sys.charmDir}), hooks.Options{
		Environ: []string{"JUJU_UNIT_NAME=cert-controller/1", "JUJU_DISPATCH_PATH=hooks/install"}, Runner: tools, StateDir: t.TempDir(),
	})
	require.Zero(t, code)
	require.Equal(t, []string{"state-get", "goal-state", "status-get", "status-set"}, tools.names)
	require.Equal(t, []string{"--", "blocked", "cert-controller runs as one unit, and cert-controller/0 is there already: remove this one"}, tools.last)
	require.NoDirExists(t, filepath.Join(dir, "unit-cert-controller-1"))
}

// canned answers hook tools with texts.
type canned struct {
	answers map[string]string
	names   []string
	last    []string
}

func (c *canned) Run(_ context.Context, cmd hooks.Command) ([]byte, error) {
	c.names, c.last = append(c.names, cmd.Name), cmd.Args
	return []byte(c.answers[cmd.Name]), nil
}

func TestFaultStorageThatIsNotThereIsAskedFor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.Fire("config-changed").RequireStatus("blocked", "attach storage: juju add-storage cert-controller/0 data")
	require.NoFileExists(t, filepath.Join(l.serviceDir(), order.ControllerDesiredFile))
	l.WithStorage("data", l.storage)
	l.Fire("update-status").RequireStatus("active", "0 machines, 0 running")

	// The mount is gone: an empty directory must not become an empty lab.
	mark := filepath.Join(l.storage, ".certlab-storage")
	require.NoError(t, os.Rename(mark, mark+".away"))
	l.Fire("update-status").RequireStatus("blocked", "mount the storage data/0 at "+l.storage+": the file .certlab-storage, by which it is known, is not there")
	require.NoError(t, os.Rename(mark+".away", mark))
	l.Fire("update-status").RequireStatus("active", "0 machines, 0 running")

	l.FireStorage("detaching", "data/0").RequireStatus("blocked", "the storage is being detached; everything that the lab knows is on it")
	require.FileExists(t, mark)
	l.Fire("stop").RequireSuccess()
	l.Fire("remove").RequireSuccess()
	require.NoDirExists(t, l.base)
	require.FileExists(t, mark)
	require.False(t, l.systemd.Enabled("certlab-unit-cert-controller-0.service"))
}

func TestFaultTheServicesProblemsAreShown(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	for _, c := range []struct {
		change        func(*order.ControllerHealth)
		name, message string
	}{
		{func(h *order.ControllerHealth) { h.DiskLow = true }, "blocked",
			"disk: less than 1024 MiB are free in " + l.storage + ", so no new runs are handed out: free some, or lower min-free-space"},
		{func(h *order.ControllerHealth) { h.Ready, h.Problem = false, "cannot listen on port 8443: in use" }, "blocked", "cannot listen on port 8443: in use"},
		{func(h *order.ControllerHealth) {
			h.Problem, h.Problems = "blob ab12 is missing: repair it", []string{"blob ab12 is missing: repair it", "the clock was set back"}
		}, "blocked", "blob ab12 is missing: repair it (and 1 more)"},
		{func(h *order.ControllerHealth) { h.Machines, h.Running = 1, 1 }, "active", "1 machine, 1 running"},
	} {
		var old order.ControllerHealth
		l.service(func(h *order.ControllerHealth) { old = *h; c.change(h) })
		l.Exec().RequireStatus(c.name, c.message)
		l.service(func(h *order.ControllerHealth) { *h = old })
	}
}

func TestFaultAServiceThatDoesNotStayUpIsSaidWithItsReason(t *testing.T) {
	t.Parallel()
	l := newPebbleLab(t)
	l.WithStorage("data", l.storage)
	require.NoError(t, os.Remove(filepath.Join(l.serviceDir(), order.ControllerSocket)))
	require.NoError(t, os.WriteFile(filepath.Join(l.serviceDir(), "refuse"), []byte("cannot use the database: it is newer than this program"), 0o600))
	l.Fire("config-changed")
	require.Eventually(t, func() bool {
		return l.Exec().Status().Message == "certlabd does not stay up: cannot use the database: it is newer than this program"
	}, 60*time.Second, 100*time.Millisecond)
}
