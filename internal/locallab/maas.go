package locallab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"certlab/internal/durable"
	"certlab/internal/juju"
	"certlab/internal/provider/maas/maastest"
)

// A maas is the lab's simulated MAAS: a region that answers over HTTP, and the machines that it deploys. It keeps its state over the lab's
// end, whichever way that comes.
type maas struct {
	lab    *Lab
	key    string // the API key of the user whom the lab's controller is
	region *maastest.Region

	mu    sync.Mutex
	nodes map[string]*node // by system_id
	ready chan struct{}    // closed once all nodes are known: a region that is taken up goes on at once with what it was doing

	saving sync.Mutex
	saved  []byte // what was written last
}

// maasUser is whose key the model's credential is: an administrator's, since it is the lab of whoever started it.
const maasUser = "certlab"

// maasPort is MAAS's own.
const maasPort = 5240

// maasSettings are what is kept beside the region's own state.
type maasSettings struct {
	Key string `json:"key"`
}

// labTimings are a region's whose racks are quick: the lab is for trying things. What the machines do takes the time that it takes.
func labTimings() maastest.Timings {
	return maastest.Timings{
		PowerOn: 50 * time.Millisecond, PowerOff: 50 * time.Millisecond, Refusal: time.Second, PXE: 200 * time.Millisecond, Install: 400 * time.Millisecond,
		Boot: time.Millisecond, Erase: 200 * time.Millisecond, Test: time.Second, Commission: time.Second, Rescue: time.Second,
	}
}

// openMAAS takes the lab's region up, or makes it, with as many nodes as the settings say.
func (l *Lab) openMAAS() (m *maas, err error) {
	if err := os.MkdirAll(l.path("nodes"), 0o700); err != nil {
		return nil, err
	}
	m = &maas{lab: l, nodes: map[string]*node{}, ready: make(chan struct{})}
	options := maastest.Options{
		Timings: labTimings(), Host: m, Images: []maastest.Image{hostImage(osReleaseFile())}, Racks: []string{"rack-north", "rack-south"}, Log: l.log.With("maas", "region"),
		Seed: uint64(time.Now().UnixNano()),
	}
	if err := m.load(options); err != nil {
		return nil, err
	}
	for number := 1; number <= l.settings.Nodes; number++ {
		if err := m.addNode(number); err != nil {
			return nil, fmt.Errorf("cannot make %s: %w", nodeName(number), err)
		}
	}
	close(m.ready)
	return m, m.save()
}

// addMAAS gives the lab its MAAS, and the model that cloud. It listens from now on, and answers from Run on.
func (l *Lab) addMAAS(state *juju.State) (err error) {
	if l.maasListener, err = net.Listen("tcp", l.maasAddress()); err != nil {
		return err
	}
	if l.maas, err = l.openMAAS(); err != nil {
		return err
	}
	state.Model.CloudType = "maas"
	state.CloudSpec = l.maas.cloudSpec()
	return nil
}

// load takes the region's state from the lab's directory, or makes a new region with a key of ours.
func (m *maas) load(options maastest.Options) error {
	m.region = maastest.New(options)
	data, err := os.ReadFile(m.lab.path("maas.json"))
	var kept maasSettings
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		m.key = m.region.AddUser(maasUser, true)
		return nil
	case err != nil:
		return fmt.Errorf("cannot read the state of the lab's MAAS: %w", err)
	}
	m.key = kept.Key
	if data, err = os.ReadFile(m.lab.path("region.json")); err == nil {
		err = m.region.Load(data)
	}
	if err != nil {
		return fmt.Errorf("cannot read the state of the lab's MAAS: %w", err)
	}
	return nil
}

// save stores the region's state, then what names it: a lab that is killed between the two begins with a region of its own anew.
func (m *maas) save() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	data, err := m.region.Save()
	if err != nil || bytes.Equal(data, m.saved) {
		return err
	}
	if err := durable.WriteFile(m.lab.path("region.json"), data, 0o600); err != nil {
		return err
	}
	m.saved = data
	path := m.lab.path("maas.json")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if data, err = json.Marshal(maasSettings{Key: m.key}); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

// ServeHTTP answers for the region, and not before what a request has changed is on disk: what the lab's controller was told holds, whatever
// becomes of the lab.
func (m *maas) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/MAAS/metadata/") {
		m.region.ServeHTTP(w, r)
		return
	}
	answer := &heldAnswer{header: w.Header(), status: http.StatusOK}
	m.region.ServeHTTP(answer, r)
	m.trySave()
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes())
}

// A heldAnswer is one that is not sent yet.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *heldAnswer) Header() http.Header            { return a.header }
func (a *heldAnswer) WriteHeader(status int)         { a.status = status }
func (a *heldAnswer) Write(data []byte) (int, error) { return a.body.Write(data) }

// addNode makes the node with that number known, here and to the region.
func (m *maas) addNode(number int) error {
	n, err := m.lab.newNode(nodeName(number), number)
	if err != nil {
		return err
	}
	id := ""
	for _, known := range m.region.SystemIDs() {
		if m.region.State(known).Hostname == n.name {
			id = known
		}
	}
	if id == "" {
		id = m.region.AddMachine(nodeFacts(m.lab.settings.Number, number, n.machine.ProductUUID()))
	}
	n.tell = func(on bool) { m.region.PowerChanged(id, on) }
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[id] = n
	return nil
}

// address is where the region listens.
func (l *Lab) maasAddress() string {
	return net.JoinHostPort(fmt.Sprintf("127.77.%d.2", l.settings.Number), strconv.Itoa(maasPort))
}

func (l *Lab) maasURL() string { return "http://" + l.maasAddress() + "/MAAS" }

func (l *Lab) nodeDir(name string) string { return l.path("nodes", name) }

// nodeSpec says what a node's machine is made of.
func (l *Lab) nodeSpec(name string, number int) Spec {
	spec := Spec{ID: name, Dir: l.nodeDir(name), Hostname: name, Address: nodeAddress(l.settings.Number, number), Hide: []string{l.dir}, Kernels: l.kernels}
	if shared := checkboxRoot(l.settings.Checkbox); shared != "" {
		spec.Share = []string{shared}
	}
	return spec
}

// cloudSpec is what the model knows of the MAAS that it is on: that of the lab, with the lab's own key.
func (m *maas) cloudSpec() *juju.CloudSpec { return juju.MAASCloud("lab", m.lab.maasURL(), m.key) }

// run serves the region, brings back the nodes that were on, and saves what changes, until ctx ends; then it switches all nodes off.
func (m *maas) run(ctx context.Context, listener net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("/MAAS/", m)
	mux.HandleFunc("GET /lab/console/{node}", m.serveConsole)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var wait sync.WaitGroup
	wait.Go(func() { _ = server.Serve(listener) })
	for _, n := range m.list() {
		wait.Go(func() {
			if err := n.resume(ctx); err != nil {
				m.lab.log.Error("cannot switch node on", "node", n.name, "error", err)
			}
		})
	}
	m.saveUntil(ctx)
	server.Close()
	wait.Wait()
	m.end()
	m.region.Close()
	m.trySave()
}

// saveEvery is how old the region's state on disk may be as far as it changes by itself; it catches up when it is loaded.
const saveEvery = time.Second

func (m *maas) saveUntil(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.trySave()
		}
	}
}

func (m *maas) trySave() {
	if err := m.save(); err != nil {
		m.lab.log.Error("cannot store the state of the lab's MAAS", "error", err)
	}
}

// end switches all nodes off.
func (m *maas) end() {
	ctx, cancel := context.WithTimeout(context.Background(), offTimeout)
	defer cancel()
	var wait sync.WaitGroup
	for _, n := range m.list() {
		wait.Go(func() {
			if err := n.end(ctx); err != nil {
				m.lab.log.Error("cannot switch node off", "node", n.name, "error", err)
			}
		})
	}
	wait.Wait()
}

// list returns the nodes in the order of their names.
func (m *maas) list() []*node {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	byNumber := map[string]*node{}
	for _, n := range m.nodes {
		byNumber[strings.TrimPrefix(n.name, "node-")] = n
	}
	var all []*node
	for _, number := range sortedIDs(byNumber) {
		all = append(all, byNumber[number])
	}
	return all
}

// find returns the node of that name or system_id; nil if there is none.
func (m *maas) find(name string) (id string, n *node) {
	if m == nil {
		return "", nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[name]; n != nil {
		return name, n
	}
	for id, n := range m.nodes {
		if n.name == name {
			return id, n
		}
	}
	return "", nil
}

func (m *maas) node(systemID string) (*node, error) {
	<-m.ready
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[systemID]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("the lab has no machine %s", systemID)
}

// powerLimit bounds one change of a node's power.
const powerLimit = 90 * time.Second

// PowerOn is a [maastest.Host]'s.
func (m *maas) PowerOn(systemID string, b maastest.Boot) error {
	n, err := m.node(systemID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), powerLimit)
	defer cancel()
	if !b.Fresh {
		return n.restart(ctx)
	}
	c := &Cloud{InstanceID: systemID, Hostname: b.Hostname, Zone: b.Metadata["x-maas-zone"], Metadata: m.lab.maasURL() + "/metadata"}
	parts := strings.Split(b.MetadataKey, ":")
	if len(parts) != 3 {
		return fmt.Errorf("%s has no key for its metadata", n.name)
	}
	c.ConsumerKey, c.TokenKey, c.TokenSecret = parts[0], parts[1], parts[2]
	return n.deploy(ctx, c)
}

// PowerOff is a [maastest.Host]'s.
func (m *maas) PowerOff(systemID string, hard bool) error {
	n, err := m.node(systemID)
	if err != nil {
		return err
	}
	if hard {
		return n.cut()
	}
	ctx, cancel := context.WithTimeout(context.Background(), powerLimit)
	defer cancel()
	return n.off(ctx)
}

// State is a [maastest.Host]'s.
func (m *maas) State(systemID string) (on bool, err error) {
	n, err := m.node(systemID)
	if err != nil {
		return false, err
	}
	return n.isOn(), nil
}

// Wipe is a [maastest.Host]'s.
func (m *maas) Wipe(systemID string) error {
	n, err := m.node(systemID)
	if err != nil {
		return err
	}
	return n.wipe()
}

// serveConsole shows what a node's console has, as a serial console server does.
func (m *maas) serveConsole(w http.ResponseWriter, r *http.Request) {
	_, n := m.find(r.PathValue("node"))
	if n == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	http.ServeFile(w, r, filepath.Join(m.lab.nodeDir(n.name), "log", consoleLog))
}
