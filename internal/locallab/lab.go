package locallab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/durable"
	"certlab/internal/juju"
)

// A Lab is a model of Juju whose machines are real processes: it boots the machines that the model has, and runs the agents of the units
// on them. All that it writes is in its directory.
type Lab struct {
	dir      string
	log      *slog.Logger
	settings settings
	rack     *Rack
	model    *juju.Model
	number   net.Listener // holds the lab's number
	lock     *os.File
	sup      *supervisor

	archive net.Listener // of the lab's archive
	kernels *Kernels     // that its machines have

	maas         *maas // nil: the lab has none
	maasListener net.Listener
}

// settings are what a lab keeps besides the model.
type settings struct {
	Number   int    `json:"number"`             // tells labs on one host apart: 127.77.NUMBER.x
	Checkbox string `json:"checkbox,omitempty"` // the host's checkbox-cli that machines have to see
	Nodes    int    `json:"nodes,omitempty"`    // machines of the simulated MAAS; 0: there is no MAAS
}

// Options say what a lab is to be like.
type Options struct {
	Checkbox string // the host's checkbox-cli that its machines see; empty: as it was
	Nodes    int    // machines of the simulated MAAS, at least; what it has had, it keeps
}

// DefaultDir is the directory of the lab that is meant when none is named.
func DefaultDir(env func(string) string) (string, error) {
	if dir := env("CERTLAB_LAB"); dir != "" {
		return filepath.Abs(dir)
	}
	if state := env("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "certlab", "lab"), nil
	}
	home := env("HOME")
	if home == "" {
		return "", errors.New("cannot tell where the lab is: neither CERTLAB_LAB nor HOME is set (use --dir)")
	}
	return filepath.Join(home, ".local", "state", "certlab", "lab"), nil
}

// Files of a lab's directory.
func (l *Lab) path(names ...string) string {
	return filepath.Join(append([]string{l.dir}, names...)...)
}
func (l *Lab) storageDir() string          { return l.path("storage") }
func (l *Lab) machineDir(id string) string { return l.path("machines", id) }
func labLog(dir string) string             { return filepath.Join(dir, "log", "lab.log") }

// OpenLab takes the lab of the directory up, or makes a new one there. Nothing runs until Run. Only one process can have a lab open.
func OpenLab(dir string, options Options, log *slog.Logger) (lab *Lab, err error) {
	for _, sub := range []string{"", "log", "machines", "storage", "charms", "resources", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the lab's directory: %w", err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "storage"), 0o755); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, log: log, lock: lock, rack: NewRack(log)}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := Probe(l.rack); err != nil {
		return nil, err
	}
	if err := l.loadSettings(options); err != nil {
		return nil, err
	}
	if err := l.openArchive(); err != nil {
		return nil, err
	}
	state, err := l.loadModel()
	if err != nil {
		return nil, err
	}
	if l.settings.Nodes > 0 {
		if err := l.addMAAS(state); err != nil {
			return nil, fmt.Errorf("cannot start the lab's MAAS: %w", err)
		}
	}
	l.model = juju.NewModel(state, juju.Options{Save: l.saveModel})
	l.sup = newSupervisor(l)
	return l, nil
}

// Close gives the lab's directory free; machines that still run are cut off.
func (l *Lab) Close() {
	l.rack.Close()
	for _, listener := range []net.Listener{l.number, l.maasListener, l.archive} {
		if listener != nil {
			listener.Close()
		}
	}
	l.lock.Close()
}

// errRunning is what opening a lab returns that another process has open.
var errRunning = errors.New("the lab is running already")

// lockDir takes the lab's lock, which ends with the process.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errRunning
		}
		return nil, fmt.Errorf("cannot lock the lab's directory: %w", err)
	}
	return file, nil
}

func (l *Lab) loadSettings(options Options) error {
	path := l.path("lab.json")
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &l.settings); err != nil {
			return fmt.Errorf("cannot read %s: %w", path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if options.Checkbox != "" {
		l.settings.Checkbox = options.Checkbox
	}
	if options.Nodes > maxNodes {
		return fmt.Errorf("cannot make %d nodes: a lab has addresses for %d", options.Nodes, maxNodes)
	}
	l.settings.Nodes = max(l.settings.Nodes, options.Nodes)
	if l.settings.Number, l.number, err = takeNumber(l.dir, l.settings.Number); err != nil {
		return err
	}
	if data, err = json.Marshal(l.settings); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

// maxLabs is how many labs a host can run: their numbers are one part of an address.
const maxLabs = 250

// takeNumber finds a number that no other lab of the host's network has, the wanted one first. It is held as the name of a socket
// that has no file, and so is given free when the process ends.
func takeNumber(dir string, wanted int) (int, net.Listener, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(dir))
	first := int(hash.Sum32() % maxLabs)
	if wanted >= 1 && wanted <= maxLabs {
		first = wanted - 1
	}
	for i := range maxLabs {
		number := (first+i)%maxLabs + 1
		listener, err := net.Listen("unix", fmt.Sprintf("@certlab-lab-%d", number))
		if err == nil {
			return number, listener, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return 0, nil, fmt.Errorf("cannot number the lab: %w", err)
		}
	}
	return 0, nil, fmt.Errorf("cannot number the lab: this host runs %d labs already", maxLabs)
}

// address is the one that the machine has to itself on the host's loopback.
func (l *Lab) address(id string) string {
	n := 0
	for _, c := range id {
		n = n*10 + int(c-'0')
	}
	const perNet = firstNode - firstMachine
	return fmt.Sprintf("127.%d.%d.%d", 77+n/perNet%170, l.settings.Number, firstMachine+n%perNet)
}

// maxModel bounds the model's file, in bytes.
const maxModel = 1 << 30

func (l *Lab) loadModel() (*juju.State, error) {
	path := l.path("model.json")
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return l.newModel(), nil
	}
	if err == nil && info.Size() > maxModel {
		err = fmt.Errorf("it is larger than %d bytes", maxModel)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's model: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's model: %w", err)
	}
	state := &juju.State{}
	if err := json.Unmarshal(data, state); err != nil {
		return nil, fmt.Errorf("cannot read the lab's model in %s: %w (remove the lab with \"certlab lab down --destroy\" to begin anew)", path, err)
	}
	l.afterPowerLoss(state)
	return state, nil
}

// jujuVersion is the one whose behaviour the lab has: that of the controller that the transcripts were made with.
const jujuVersion = "4.0.15"

func (l *Lab) newModel() *juju.State {
	state := juju.NewState(juju.ModelInfo{
		Name: "lab", UUID: newUUID(), ControllerUUID: newUUID(), Version: jujuVersion, Controller: "certlab", Cloud: "lab", CloudType: "unmanaged", Region: "default",
	}, time.Now().UTC())
	l.afterPowerLoss(state)
	return state
}

// afterPowerLoss is how a model looks when its machines have all been off: the agents are lost until they are heard of again.
func (l *Lab) afterPowerLoss(s *juju.State) {
	now := time.Now().UTC()
	s.Model.APIAddresses = []string{fmt.Sprintf("127.77.%d.1:17070", l.settings.Number)}
	for _, m := range s.Machines {
		if m.Agent.Status == "started" {
			m.Agent = juju.Status{Status: "down", Message: machineDown, Since: now}
		}
	}
	for _, u := range s.Units {
		if u.AgentVersion != "" && !u.Lost {
			u.Lost, u.LostSince = true, now
		}
	}
}

const machineDown = "agent is not communicating with the server"

func (l *Lab) saveModel(s *juju.State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.WriteFile(l.path("model.json"), data, 0o600)
}

// toolProgram is what hook tools are links to, on a machine.
func (l *Lab) toolProgram() string {
	if _, err := os.Stat(l.path("bin", "jujuc")); err == nil {
		return insideJujuc
	}
	return insideExe
}

// spec says what the model's machine is made of.
func (l *Lab) spec(id string) Spec {
	spec := Spec{
		ID: id, Dir: l.machineDir(id), Hostname: "machine-" + id, InstanceID: "lab-machine-" + id, Address: l.address(id),
		Hide: []string{l.dir}, Storage: l.storageDir(), Programs: map[string]string{}, Kernels: l.kernels,
	}
	if path := l.path("bin", "jujuc"); l.toolProgram() == insideJujuc {
		spec.Programs[filepath.Base(insideJujuc)] = path
	}
	seen := map[string]bool{}
	for _, path := range append(l.checkboxes(), l.settings.Checkbox) {
		if shared := checkboxRoot(path); shared != "" && !seen[shared] {
			seen[shared] = true
			spec.Share = append(spec.Share, shared)
		}
	}
	for _, st := range l.model.Snapshot().Storage {
		unit := l.model.Snapshot().Units[st.Unit]
		if st.Attached && unit != nil && unit.Machine == id && st.Location != storageDir+"/"+st.ID {
			spec.Mounts = append(spec.Mounts, Mount{Source: storageDir + "/" + st.ID, Path: st.Location})
		}
	}
	return spec
}

// checkboxes are the paths that applications were told to find Checkbox at.
func (l *Lab) checkboxes() []string {
	var paths []string
	for _, app := range l.model.Snapshot().Applications {
		if path := app.Config["checkbox-path"]; path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// checkboxRoot returns what has to be seen for the program at path to work: the virtual environment that it is in, or itself. What is in
// the host's system directories is seen anyway.
func checkboxRoot(path string) string {
	if !filepath.IsAbs(path) {
		return ""
	}
	root := filepath.Dir(filepath.Dir(path))
	if _, err := os.Stat(filepath.Join(root, "pyvenv.cfg")); err == nil {
		return root
	}
	if _, err := os.Stat(path); err != nil || strings.HasPrefix(path, "/usr/") || strings.HasPrefix(path, "/bin/") || strings.HasPrefix(path, "/snap/") {
		return ""
	}
	return path
}

// fill writes into the model what is known of a machine that has booted.
func (l *Lab) fill(m *juju.Machine, now time.Time) {
	address := l.address(m.ID)
	m.Hostname, m.InstanceID = "machine-"+m.ID, "lab-machine-"+m.ID
	m.Addresses = []string{address}
	m.Interfaces = []juju.NetworkInterface{{Name: "lo", MAC: "00:00:00:00:00:00", Addresses: []string{address + "/8"}, Space: "alpha"}}
	m.Arch, m.Cores = runtime.GOARCH, runtime.NumCPU()
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMiB = int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	m.Agent = juju.Status{Status: "started", Since: now}
	if m.Instance.Status != "running" {
		m.Instance = juju.Status{Status: "running", Message: "Machine of the local lab", Since: now}
		m.Modify = juju.Status{Status: "applied", Since: now}
	}
}

// Run boots what the model has and does what it says, until ctx ends; then it switches all machines off in good order.
func (l *Lab) Run(ctx context.Context) error {
	served := make(chan struct{})
	go func() {
		defer close(served)
		l.serveArchive()
	}()
	defer func() {
		l.archive.Close()
		<-served
	}()
	if l.maas == nil {
		return l.sup.run(ctx)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.maas.run(ctx, l.maasListener)
	}()
	err := l.sup.run(ctx)
	<-ended
	return err
}

// Model is the lab's model.
func (l *Lab) Model() *juju.Model { return l.model }
