package cli_test

import (
	"archive/zip"
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/juju"
	"certlab/internal/juju/cli"
)

// jujuc is the hook tools' program, and testclient the shell lines' juju, built once.
var jujuc, testclient string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "jujucli")
	if err != nil {
		panic(err)
	}
	jujuc = filepath.Join(dir, "jujuc")
	testclient = filepath.Join(dir, "juju")
	for path, program := range map[string]string{jujuc: "certlab/cmd/jujuc", testclient: "certlab/internal/juju/cli/testclient"} {
		build := exec.Command("go", "build", "-trimpath", "-o", path, program)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("cannot build %s: %v\n%s", program, err, out))
		}
	}
	// Replays wait for agents most of their time, so more of them than processors run at once.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// The transcripts' commands are shell lines, so a shell runs them, and their `juju` is a small program that asks the test.
type (
	request struct {
		Args []string
		Dir  string
	}
	response struct {
		Stdout, Stderr []byte
		Code           int
	}
)

// A lab is the model of the transcripts with unit agents that run the transcripts' charms.
type lab struct {
	t     *testing.T
	root  string // short, since sockets' paths are
	dir   string // the operator's directory: charms, bundles, value files
	model *juju.Model
	clock *clock

	waiting sync.WaitGroup // for shortOf's actions
	mu      sync.Mutex
	agents  map[string]context.CancelFunc // of units whose agents run
	// still are applications and units whose agents are kept from running.
	still map[string]bool
}

// stop ends a unit's agent as if it had died.
func (l *lab) stop(unit string) {
	l.mu.Lock()
	cancel := l.agents[unit]
	l.mu.Unlock()
	require.NotNil(l.t, cancel, unit)
	cancel()
	ctx, done := context.WithTimeout(context.Background(), 3*time.Minute)
	defer done()
	require.NoError(l.t, l.model.Wait(ctx, func(s *juju.State) bool { return s.Units[unit].Lost }))
}

// start brings an agent back that was stopped.
func (l *lab) start(unit string) {
	l.mu.Lock()
	delete(l.agents, unit)
	l.mu.Unlock()
	l.edit(func(*juju.State) {})
	ctx, done := context.WithTimeout(context.Background(), 3*time.Minute)
	defer done()
	require.NoError(l.t, l.model.Wait(ctx, func(s *juju.State) bool { return !s.Units[unit].Lost }))
}

// A clock runs at a multiple of the real one's speed, or stands still. Its times have nine digits of fraction, as those of the
// transcripts do, where a length is compared.
type clock struct {
	mu   sync.Mutex
	base time.Time // the time shown at real
	real time.Time
	rate float64

	waiting waiters
	looking bool
}

func newClock() *clock {
	now := time.Now()
	return &clock{base: now.UTC(), real: now, rate: 1}
}

func (c *clock) shown() time.Time {
	return c.base.Add(time.Duration(float64(time.Since(c.real)) * c.rate))
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.shown()
	return t.Add(1 - time.Duration(t.Nanosecond()%10))
}

// run lets time go on at that rate; 0 stops it.
func (c *clock) run(rate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.real, c.rate = c.shown(), time.Now(), rate
}

// After answers when the clock shows d more than now. Most callers give up before that, so one goroutine looks for all of them.
func (c *clock) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	heap.Push(&c.waiting, waiter{c.shown().Add(d), ch})
	if !c.looking {
		c.looking = true
		go c.look()
	}
	return ch
}

// look wakes who is due, until nobody waits.
func (c *clock) look() {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if !c.wake() {
			return
		}
	}
}

func (c *clock) wake() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.shown()
	for len(c.waiting) > 0 && !now.Before(c.waiting[0].end) {
		heap.Pop(&c.waiting).(waiter).ch <- now
	}
	c.looking = len(c.waiting) > 0
	return c.looking
}

// A waiter gets the time from ch when it is end.
type waiter struct {
	end time.Time
	ch  chan time.Time
}

// waiters is a heap, the first to be woken at its top.
type waiters []waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].end.Before(w[j].end) }
func (w waiters) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiters) Push(x any)        { *w = append(*w, x.(waiter)) }
func (w *waiters) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}

// hold lets the charms' sleep begin only as often as pass says; release lets all go on.
func (l *lab) hold() {
	require.NoError(l.t, os.MkdirAll(filepath.Join(l.root, "gate"), 0o755))
}

func (l *lab) pass(n int) {
	for range n {
		f, err := os.CreateTemp(filepath.Join(l.root, "gate"), "pass")
		require.NoError(l.t, err)
		f.Close()
	}
}

func (l *lab) release() { require.NoError(l.t, os.RemoveAll(filepath.Join(l.root, "gate"))) }

// sleepScript is the charms' sleep: it takes a pass where there is a gate, and no time otherwise. How long something takes is in no transcript.
const sleepScript = `#!/bin/sh
g=%s/gate
while [ -d $g ]; do
 for f in $g/pass*; do rm "$f" 2>/dev/null && exit 0; done
 /bin/sleep 0.05
done
`

// keepStill keeps the agents of these applications and units from starting, and lets those of all others.
func (l *lab) keepStill(names ...string) {
	l.mu.Lock()
	l.still = map[string]bool{}
	for _, name := range names {
		l.still[name] = true
	}
	l.mu.Unlock()
	require.NoError(l.t, l.model.Update(func(*juju.State) error { return nil })) // whoever watches looks again
}

func (l *lab) isStill(u *juju.Unit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.still[u.Application] || l.still[u.Name]
}

const modelUUID = "8cac5806-7ba1-4d95-8a50-ce11f7151656"

var macs = []string{"b2:a6:cf:d8:62:b7", "32:9c:42:5a:cd:11", "ce:9d:61:95:08:a7", "46:c1:d1:27:a8:6a", "4e:6f:65:70:b5:d5"}

// ids gives the model the transcripts' secret ids, in order, and other randomness from a fixed source.
type ids struct {
	mu     sync.Mutex
	secret []string
	other  *rand.ChaCha8
}

func (r *ids) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 20 && len(r.secret) > 0 {
		const alphabet = "0123456789abcdefghijklmnopqrstuv"
		for i, c := range r.secret[0] {
			p[i] = byte(strings.IndexRune(alphabet, c))
		}
		r.secret = r.secret[1:]
		return 20, nil
	}
	return r.other.Read(p)
}

// newLab makes the model of the transcripts, with its five machines and nothing deployed. secrets are the ids to give out.
func newLab(t *testing.T, secrets ...string) *lab {
	root, err := os.MkdirTemp("", "jl")
	require.NoError(t, err)
	l := &lab{t: t, root: root, dir: filepath.Join(root, "work"), agents: map[string]context.CancelFunc{}, clock: newClock()}
	require.NoError(t, os.MkdirAll(l.dir, 0o755))
	now := time.Now()
	state := juju.NewState(juju.ModelInfo{Name: "lab1", UUID: modelUUID, Version: "4.0.15", Controller: "c1", ControllerUUID: "73401cba-0741-4ac6-82f3-6b2ac0cd6e37",
		Cloud: "lab", CloudType: "unmanaged", Region: "default", APIAddresses: []string{"10.77.0.10:17070"}}, now.UTC())
	for i, mac := range macs {
		address := fmt.Sprintf("10.77.0.%d", 11+i)
		state.Machines[fmt.Sprint(i)] = &juju.Machine{
			ID: fmt.Sprint(i), Hostname: fmt.Sprintf("m%d", i+1), InstanceID: "manual:" + address, Addresses: []string{address}, Life: juju.Alive,
			Base: juju.Base{Name: "ubuntu", Channel: "24.04"}, Arch: "amd64", Cores: 2, MemoryMiB: 24105,
			Interfaces: []juju.NetworkInterface{{Name: "eth0", MAC: mac, Addresses: []string{address + "/24"}, Gateway: "10.77.0.1", Space: "alpha"}},
			Agent:      juju.Status{Status: "started", Since: now.UTC()}, Instance: juju.Status{Status: "running", Message: "Manually provisioned machine", Since: now.UTC()},
		}
	}
	state.Next.Machine = len(macs)
	l.model = juju.NewModel(state, juju.Options{Clock: l.clock, Random: &ids{secret: secrets, other: rand.NewChaCha8([32]byte{1})}})
	l.charms()
	l.serve()
	return l
}

// charms packs the transcripts' charms as they were used: revision 1, and 2 under the name that refresh was given. The hooks' log
// goes to a directory of the test's.
func (l *lab) charms() {
	files, err := filepath.Glob("testdata/charms/*.yaml")
	require.NoError(l.t, err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(l.t, err)
		require.NoError(l.t, os.WriteFile(filepath.Join(l.dir, filepath.Base(f)), data, 0o644))
	}
	write := func(name, text string) {
		require.NoError(l.t, os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o644))
	}
	write("bad.yaml", "[")
	write("cfgbad.yaml", "ctrl:\n  nosuch: 1\n")
	write("cfgflat.yaml", "title: flat\n")
	require.NoError(l.t, os.MkdirAll(filepath.Join(l.root, "log"), 0o755))
	require.NoError(l.t, os.CopyFS(filepath.Join(l.dir, "worker"), os.DirFS("testdata/charms/worker")))
	log := filepath.Join(l.root, "log") + "/$JUJU_MACHINE_ID"
	l.pack("ctrl", "ctrl.charm", map[string][2]string{
		"dispatch": {"/var/log/lab", log}, "version": {"1.1.0", "1.0.0"},
		"config.yaml": {`added: {type: string, default: "new", description: new option}`, `flag: {type: boolean, default: false, description: a flag}`},
	})
	l.pack("ctrl", "ctrl-v2.charm", map[string][2]string{"dispatch": {"/var/log/lab", log}})
	l.pack("ctrl", "ctrl-ykey.charm", map[string][2]string{"dispatch": {"/var/log/lab", log}, "actions.yaml": {"num: {type", "n: {type"}})
	l.pack("worker", "worker.charm", map[string][2]string{"dispatch": {"/var/log/lab", log}, "version": {"2.2.0", "2.1.0"}})
	l.pack("worker", "worker-v2.charm", map[string][2]string{"dispatch": {"/var/log/lab", log}})
}

func (l *lab) pack(charm, name string, replace map[string][2]string) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	root := os.DirFS(filepath.Join("testdata/charms", charm))
	require.NoError(l.t, fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		if r, ok := replace[path]; ok {
			require.Contains(l.t, string(data), r[0])
			data = []byte(strings.ReplaceAll(string(data), r[0], r[1]))
		}
		h := &zip.FileHeader{Name: path, Method: zip.Deflate}
		h.SetMode(0o644)
		if path == "dispatch" {
			h.SetMode(0o755)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return err
	}))
	require.NoError(l.t, w.Close())
	require.NoError(l.t, os.WriteFile(filepath.Join(l.dir, name), out.Bytes(), 0o644))
}

// serve starts the agents of all units that come, and answers the shell's `juju`.
func (l *lab) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	listener, err := net.Listen("unix", filepath.Join(l.root, "juju.sock"))
	require.NoError(l.t, err)
	require.NoError(l.t, os.MkdirAll(filepath.Join(l.root, "bin"), 0o755))
	require.NoError(l.t, os.Symlink(testclient, filepath.Join(l.root, "bin", "juju")))
	l.t.Cleanup(func() {
		cancel()
		listener.Close()
		wg.Wait()
		os.RemoveAll(l.root)
	})
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				var r request
				if json.NewDecoder(conn).Decode(&r) != nil {
					return
				}
				var out, errs bytes.Buffer
				code := cli.Main(ctx, cli.Env{Model: l.model, Dir: r.Dir, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Location: time.UTC}, r.Args)
				json.NewEncoder(conn).Encode(response{out.Bytes(), errs.Bytes(), code})
			})
		}
	})
	wg.Go(func() {
		for {
			changed := l.model.Changed()
			s := l.model.Snapshot()
			for name, u := range s.Units {
				l.mu.Lock()
				running := l.agents[name] != nil
				l.mu.Unlock()
				if running || u.Machine == "" || l.isStill(u) {
					continue
				}
				host := &host{lab: l, machine: u.Machine}
				agentContext, end := context.WithCancel(ctx)
				l.mu.Lock()
				l.agents[name] = end
				l.mu.Unlock()
				wg.Go(func() {
					if err := juju.NewAgent(l.model, name, host, juju.AgentOptions{}).Run(agentContext); err != nil && agentContext.Err() == nil {
						l.t.Errorf("agent of %s: %v", name, err)
					}
				})
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
}

// settled waits until no agent has anything to do.
func (l *lab) settled() {
	deadline := time.Now().Add(3 * time.Minute)
	for time.Now().Before(deadline) {
		changed := l.model.Changed()
		if !l.busy(l.model.Snapshot()) {
			select {
			case <-changed:
				continue
			case <-time.After(40 * time.Millisecond): // an agent may be about to enter a relation
				return
			}
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
	require.FailNow(l.t, "the model does not settle")
}

func (l *lab) busy(s *juju.State) bool {
	for _, u := range s.Units {
		if l.isStill(u) || u.Lost {
			continue
		}
		if u.Life != juju.Alive || s.Applications[u.Application].CharmVersion != u.Uniter.CharmVersion {
			return true
		}
		if u.Failed == nil && (u.Agent.Status != "idle" || len(s.NextHooks(u.Name, "boot-"+u.Machine, l.model.Now())) > 0) {
			return true
		}
	}
	for _, task := range s.Tasks {
		if u := s.Units[task.Receiver]; u != nil && !l.isStill(u) && !u.Lost && !task.Status.Final() {
			return true
		}
	}
	for _, r := range s.Relations {
		if r.Life != juju.Alive {
			return true
		}
	}
	return false
}

// shell runs one line of a transcript.
func (l *lab) shell(line string) (stdout, stderr string, code int) {
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = l.dir
	cmd.Env = []string{"PATH=" + filepath.Join(l.root, "bin") + ":" + os.Getenv("PATH"), "HOME=" + l.dir, "JUJU_TEST_SOCKET=" + filepath.Join(l.root, "juju.sock")}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(l.t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// onTerminal runs one command as on a terminal, where typed is what is answered.
func (l *lab) onTerminal(args []string, typed string) (screen string, code int) {
	var out bytes.Buffer
	code = cli.Main(context.Background(), cli.Env{Model: l.model, Dir: l.dir, Stdin: io.TeeReader(strings.NewReader(typed), &out), Stdout: &out, Stderr: &out, Terminal: true, Location: time.UTC}, args)
	return out.String(), code
}

// A host runs a unit's processes for real, without any namespace: the machine's files are below a directory of its own.
type host struct {
	lab     *lab
	machine string
}

func (h *host) base() string { return filepath.Join(h.lab.root, h.machine) }

func (h *host) Paths(unit string) juju.Paths {
	p := juju.DefaultPaths(unit)
	at := func(path string) string { return h.base() + path }
	return juju.Paths{CharmDir: at(p.CharmDir), ToolsDir: at(p.ToolsDir), AgentSocket: at(p.AgentSocket), RunSocket: at(p.RunSocket)}
}

func (h *host) BootID(context.Context) (string, error) { return "boot-" + h.machine, nil }

func (h *host) InstallCharm(_ context.Context, unit string, ch *juju.Charm) error {
	dir := h.Paths(unit).CharmDir
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	archive, err := zip.OpenReader(ch.Path)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := os.CopyFS(dir, archive); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(dir, "dispatch"), 0o755); err != nil {
		return err
	}
	tools := h.Paths(unit).ToolsDir
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	// The machine's name, as its own `hostname` tells it.
	name := h.lab.model.Snapshot().Machines[h.machine].Hostname
	if err := os.WriteFile(filepath.Join(tools, "hostname"), []byte("#!/bin/sh\necho "+name+"\n"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tools, "sleep"), fmt.Appendf(nil, sleepScript, h.lab.root), 0o755); err != nil {
		return err
	}
	for _, tool := range juju.ToolNames(4) {
		if err := os.Symlink(jujuc, filepath.Join(tools, tool)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (h *host) Listen(_ context.Context, _, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	os.Remove(path)
	return net.Listen("unix", path)
}

func (h *host) Dispatch(ctx context.Context, spec juju.DispatchSpec) juju.Exit {
	args := []string{spec.Path}
	if spec.Kind == juju.RunExec {
		dir, err := os.MkdirTemp(h.lab.root, "juju-exec")
		if err != nil {
			return juju.Exit{Err: err}
		}
		defer os.RemoveAll(dir)
		script := filepath.Join(dir, "script.sh")
		if err := os.WriteFile(script, []byte(spec.Script), 0o755); err != nil {
			return juju.Exit{Err: err}
		}
		args = []string{"/bin/bash", script}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = spec.Dir, spec.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	exit := juju.Exit{Stdout: out.Bytes(), Stderr: errs.Bytes()}
	var failed *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &failed):
		exit.Code = failed.ExitCode()
		if status, ok := failed.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit.Signal = status.Signal().String()
		}
	default:
		exit.Err = err
	}
	return exit
}

func (h *host) Reboot(context.Context) error { return errors.New("this host does not reboot") }

// AttachStorage says how large the file system is, as that of the transcripts' machine was.
func (h *host) AttachStorage(_ context.Context, _ string, st juju.Storage) (string, error) {
	h.lab.edit(func(s *juju.State) { s.Storage[st.ID].SizeMiB = 258019 })
	return "/srv/" + st.Name, nil
}

func (h *host) DetachStorage(context.Context, string, juju.Storage) error { return nil }

func (h *host) FetchResource(_ context.Context, _ string, r juju.Resource) (string, error) {
	return r.Path, nil
}

func (h *host) RemoveUnit(_ context.Context, unit string) error {
	return os.RemoveAll(h.Paths(unit).CharmDir)
}
