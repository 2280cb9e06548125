package locallab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"certlab/internal/durable"
)

// A Spec says what a machine is. Two machines may share no Dir.
type Spec struct {
	ID         string   // such as "0"
	Dir        string   // absolute; holds all that the machine writes, and its logs
	Hostname   string   //
	InstanceID string   // what cloud-init says that it is
	Address    string   // of its own on the host's loopback
	Hide       []string // directories of the host that it must not see
	Share      []string // files and directories of the host that it must see, wherever the host keeps them
	Storage    string   // directory of the host that holds the storage; empty for none
	// Programs are the host's files that the machine has, read-only, under these names in /run/certlab-lab.
	Programs map[string]string
	// Mounts are made at each boot, before services start: path shows what is at source, both as the machine sees them.
	Mounts []Mount
	// Cloud has the machine get its user-data once per instance, and do what it says; nil for none.
	Cloud *Cloud
	// Kernels has the machine show one of its own as the kernel that runs; nil for the host's.
	Kernels *Kernels
}

// A Mount shows a machine's directory at a second path.
type Mount struct {
	Source string `json:"source"`
	Path   string `json:"path"`
}

// A State says whether a machine is on.
type State string

// States of a machine.
const (
	Off     State = "off"
	Booting State = "booting"
	On      State = "on"
)

// A Change is told to a machine's watcher after each boot and each end. Reboots are an end and a boot.
type Change struct {
	Machine *Machine
	State   State
	BootID  string
	Again   bool // of an end: the machine is going to boot by itself
	Err     error
}

// A Machine is one of the lab's. Its methods may be called from anywhere at any time.
type Machine struct {
	rack   *Rack
	log    *slog.Logger
	notify func(Change)

	mu       sync.Mutex
	spec     Spec
	identity identity
	state    State
	boot     *powerCycle
	gone     chan struct{} // closed when the machine is off for good
}

// powerCycle is one boot of a machine.
type powerCycle struct {
	id     string
	cmd    *exec.Cmd
	wire   *wire
	done   chan struct{} // closed when the first process has ended
	booted chan struct{} // closed when it has said that it is up
	upOnce sync.Once

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	cut     bool // it was asked to end without a reboot
	frozen  bool // see Freeze
	panics  bool // its kernel did: it is frozen for good
}

// An answer is a reply with the files that came along.
type answer struct {
	reply
	files []*os.File
}

// identity is what a machine keeps over its boots.
type identity struct {
	MachineID   string `json:"machine_id"`
	ProductUUID string `json:"product_uuid"`
}

// consoleLog is the file in a machine's directory of logs that has what its first process says.
const consoleLog = "console.log"

// bootTimeout bounds how long a machine may take to come up.
const bootTimeout = 60 * time.Second

// NewMachine returns the machine of the directory, new or as it was left. It is off. notify may be nil; it is called in order, and
// must not wait for the machine.
func (r *Rack) NewMachine(spec Spec, notify func(Change)) (*Machine, error) {
	if !filepath.IsAbs(spec.Dir) {
		return nil, fmt.Errorf("machine's directory %q is not absolute", spec.Dir)
	}
	for _, dir := range []string{"", "root", "log", "layers"} {
		if err := os.MkdirAll(filepath.Join(spec.Dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	id, err := loadIdentity(filepath.Join(spec.Dir, "identity.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot tell who machine %s is: %w", spec.ID, err)
	}
	if err := removeWiped(spec.Dir); err != nil {
		return nil, err
	}
	if notify == nil {
		notify = func(Change) {}
	}
	return &Machine{rack: r, log: r.log.With("machine", spec.ID), notify: notify, spec: spec, identity: id, state: Off}, nil
}

func loadIdentity(path string) (identity, error) {
	var id identity
	data, err := os.ReadFile(path)
	if err == nil {
		return id, json.Unmarshal(data, &id)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return id, err
	}
	id = identity{MachineID: newMachineID(), ProductUUID: newUUID()}
	if data, err = json.Marshal(id); err != nil {
		return id, err
	}
	return id, durable.WriteFile(path, data, 0o600)
}

// newMachineID returns what /etc/machine-id holds.
func newMachineID() string { return strings.ReplaceAll(newUUID(), "-", "") }

// newUUID returns a random UUID.
func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ID returns the machine's id.
func (m *Machine) ID() string { return m.spec.ID }

// ProductUUID is what the machine's firmware says that it is, as long as its directory exists.
func (m *Machine) ProductUUID() string { return m.identity.ProductUUID }

// SetCloud says what the machine's next boot is told of its cloud, and names the machine so; nil for none.
func (m *Machine) SetCloud(c *Cloud) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spec.Cloud = c
	if c != nil {
		m.spec.InstanceID = c.InstanceID
	}
}

// SetKernelFaults says which kernels the machine does not boot as it should, from its next boot on.
func (m *Machine) SetKernelFaults(faults KernelFaults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spec.Kernels == nil {
		return
	}
	kernels := *m.spec.Kernels // the one that a boot may be reading stays
	kernels.Faults = faults
	m.spec.Kernels = &kernels
}

// State returns whether the machine is on, and the id of its boot if it is.
func (m *Machine) State() (state State, bootID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot != nil {
		bootID = m.boot.id
	}
	return m.state, bootID
}

// PID returns the host's number of the machine's first process; 0 when it is off.
func (m *Machine) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == nil {
		return 0
	}
	return m.boot.cmd.Process.Pid
}

// Share adds files and directories of the host that the machine must see; they are there from its next boot.
func (m *Machine) Share(paths ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spec.Share = append(m.spec.Share, paths...)
}

// setMount has the path mounted at each boot from now on; with an empty source, no more.
func (m *Machine) setMount(mount Mount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spec.Mounts = slices.DeleteFunc(slices.Clone(m.spec.Mounts), func(old Mount) bool { return old.Path == mount.Path })
	if mount.Source != "" {
		m.spec.Mounts = append(m.spec.Mounts, mount)
	}
}

// Boot turns the machine on and returns when its first process is up. It does nothing when the machine is on.
func (m *Machine) Boot(ctx context.Context) error {
	m.mu.Lock()
	switch {
	case m.state == On:
		m.mu.Unlock()
		return nil
	case m.state == Off:
		m.state = Booting
		m.gone = make(chan struct{})
		b, err := m.powerOn()
		if err != nil {
			m.state = Off
			close(m.gone)
			m.mu.Unlock()
			return fmt.Errorf("cannot boot machine %s: %w", m.spec.ID, err)
		}
		m.boot = b
		go m.supervise(b)
	}
	b := m.boot
	m.mu.Unlock()
	return m.waitUp(ctx, b)
}

func (m *Machine) waitUp(ctx context.Context, b *powerCycle) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if b == nil {
		return m.waitOn(ctx)
	}
	select {
	case <-b.booted:
		return m.waitOn(ctx)
	case <-b.done:
		return fmt.Errorf("cannot boot machine %s: %s", m.spec.ID, m.lastWords())
	case <-ctx.Done():
		return fmt.Errorf("cannot boot machine %s: %w", m.spec.ID, ctx.Err())
	}
}

// waitOn waits for the state that follows the first process' word.
func (m *Machine) waitOn(ctx context.Context) error {
	for {
		m.mu.Lock()
		state := m.state
		m.mu.Unlock()
		if state == On {
			return nil
		}
		if state == Off {
			return fmt.Errorf("machine %s went off again: %s", m.spec.ID, m.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot boot machine %s: %w", m.spec.ID, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// lastWords returns the end of the machine's console.
func (m *Machine) lastWords() string {
	data, err := os.ReadFile(filepath.Join(m.spec.Dir, "log", consoleLog))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}

// powerOn starts the machine's first process.
func (m *Machine) powerOn() (*powerCycle, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	control, err := newWire(ours)
	if err != nil {
		return nil, err
	}
	b := &powerCycle{id: newUUID(), wire: control, done: make(chan struct{}), booted: make(chan struct{}), waiting: map[uint64]chan answer{}}
	cmd, closeFiles, err := m.firstProcess(b, theirs)
	if err == nil {
		err = m.rack.start(cmd)
		closeFiles()
	}
	if err != nil {
		control.close()
		return nil, err
	}
	b.cmd = cmd
	go b.read()
	return b, nil
}

func (m *Machine) firstProcess(b *powerCycle, control *os.File) (cmd *exec.Cmd, closeFiles func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	rootless := os.Geteuid() != 0
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		resolv = nil // a host without one has no name resolution to pass on
	}
	config, err := bootConfig{
		Hostname: m.spec.Hostname, Address: m.spec.Address, InstanceID: m.spec.InstanceID, MachineID: m.identity.MachineID, ProductUUID: m.identity.ProductUUID,
		BootID: b.id, Dir: m.spec.Dir, Hide: m.spec.Hide, Share: m.spec.Share, Storage: m.spec.Storage, Resolv: resolv, Rootless: rootless,
		Programs: m.spec.Programs, Mounts: m.spec.Mounts, Cloud: m.spec.Cloud, Kernels: m.spec.Kernels,
	}.file()
	if err != nil {
		return nil, nil, err
	}
	console, err := openConsole(filepath.Join(m.spec.Dir, "log", consoleLog))
	if err != nil {
		config.Close()
		return nil, nil, err
	}
	cmd = &exec.Cmd{
		Path: exe, Args: []string{appletBoot}, Dir: "/", Env: []string{"PATH=" + defaultPath}, Stdout: console, Stderr: console,
		ExtraFiles: []*os.File{control, config}, SysProcAttr: namespaces(rootless),
	}
	return cmd, func() { config.Close(); console.Close() }, nil
}

// openConsole opens the log of the machine's first process, and starts it anew when it has become long.
func openConsole(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxUnitLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// supervise follows one boot to its end, and boots again when that is what the machine asked for.
func (m *Machine) supervise(b *powerCycle) {
	for {
		select {
		case <-b.booted:
			m.mu.Lock()
			m.state = On
			m.mu.Unlock()
			m.log.Info("machine is up", "boot", b.id)
			m.notify(Change{Machine: m, State: On, BootID: b.id})
		case <-b.done:
		}
		_ = m.rack.wait(b.cmd)
		b.finish()
		again := b.wantsReboot()
		m.mu.Lock()
		m.boot = nil
		m.state = Off
		if again {
			m.state = Booting
		}
		m.mu.Unlock()
		m.log.Info("machine is down", "boot", b.id, "status", b.cmd.ProcessState.String(), "reboot", again)
		m.notify(Change{Machine: m, State: Off, BootID: b.id, Again: again})
		if !again {
			m.mu.Lock()
			close(m.gone)
			m.mu.Unlock()
			return
		}
		m.mu.Lock()
		next, err := m.powerOn()
		if err != nil {
			m.state = Off
			close(m.gone)
			m.mu.Unlock()
			m.log.Error("cannot boot again", "error", err)
			m.notify(Change{Machine: m, State: Off, Err: err})
			return
		}
		m.boot = next
		m.mu.Unlock()
		b = next
	}
}

// wantsReboot reads the end of the first process: its own exit code, or the signal by which the kernel tells of reboot(2) in a PID
// namespace.
func (b *powerCycle) wantsReboot() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	status, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || b.cut {
		return false
	}
	return status.Exited() && status.ExitStatus() == exitReboot || status.Signaled() && status.Signal() == syscall.SIGHUP
}

// read takes the first process' messages until it is gone.
func (b *powerCycle) read() {
	for {
		var r reply
		files, err := b.wire.read(&r)
		if err != nil {
			close(b.done)
			return
		}
		if r.Event == initPanics {
			b.mu.Lock()
			b.frozen, b.panics = true, true
			b.mu.Unlock()
			r.Event = "booted" // as far as a BMC can tell
		}
		if r.Event == "booted" {
			b.upOnce.Do(func() { close(b.booted) })
			closeAll(files)
			continue
		}
		b.mu.Lock()
		ch := b.waiting[r.ID]
		if r.Event != "started" {
			delete(b.waiting, r.ID)
		}
		b.mu.Unlock()
		if ch == nil {
			closeAll(files)
			continue
		}
		ch <- answer{r, files} // has room for both replies that there can be
	}
}

// finish tells all who wait that nothing comes any more.
func (b *powerCycle) finish() {
	<-b.done
	b.wire.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, ch := range b.waiting {
		delete(b.waiting, id)
		close(ch)
	}
}

// errDown is what was asked of a machine that is off, or went off meanwhile.
var errDown = errors.New("machine is not running")

// ask sends a request; the channel yields its replies, and is closed when the machine ends first.
func (m *Machine) ask(req request, files ...*os.File) (*powerCycle, uint64, <-chan answer, error) {
	m.mu.Lock()
	b, state := m.boot, m.state
	m.mu.Unlock()
	if b == nil || state != On {
		return nil, 0, nil, errDown
	}
	if b.isFrozen() {
		return nil, 0, nil, errFrozen
	}
	ch := make(chan answer, 2)
	b.mu.Lock()
	b.next++
	req.ID = b.next
	b.waiting[req.ID] = ch
	b.mu.Unlock()
	if err := b.wire.write(req, files...); err != nil {
		b.mu.Lock()
		delete(b.waiting, req.ID)
		b.mu.Unlock()
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN) {
			return nil, 0, nil, errDown
		}
		return nil, 0, nil, err
	}
	select {
	case <-b.done: // perhaps after the last were told
		return b, req.ID, ch, errDown
	default:
		return b, req.ID, ch, nil
	}
}

// call is a request with one reply.
func (m *Machine) call(ctx context.Context, req request) ([]*os.File, error) {
	_, _, ch, err := m.ask(req)
	if err != nil {
		return nil, err
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return nil, errDown
		}
		if a.Error != "" {
			closeAll(a.files)
			return nil, errors.New(a.Error)
		}
		return a.files, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Reboot ends the machine in good order and waits until it is up again.
func (m *Machine) Reboot(ctx context.Context) error {
	_, before := m.State()
	if err := m.StartReboot(ctx); err != nil {
		return err
	}
	for {
		state, now := m.State()
		if state == On && now != before {
			return nil
		}
		if state == Off {
			return fmt.Errorf("machine %s did not come back: %s", m.spec.ID, m.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("machine %s has not come back: %w", m.spec.ID, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// StartReboot asks for a reboot and returns at once.
func (m *Machine) StartReboot(ctx context.Context) error {
	if _, err := m.call(ctx, request{Op: "shutdown", Kind: "reboot"}); err != nil {
		return fmt.Errorf("cannot reboot machine %s: %w", m.spec.ID, err)
	}
	return nil
}

// PowerOff ends the machine in good order and waits until it is off. When ctx ends first, the power is cut.
func (m *Machine) PowerOff(ctx context.Context) error {
	m.mu.Lock()
	b, gone := m.boot, m.gone
	m.mu.Unlock()
	if gone == nil {
		return nil
	}
	if b != nil {
		b.mu.Lock()
		b.cut = true
		b.mu.Unlock()
	}
	if _, err := m.call(ctx, request{Op: "shutdown", Kind: "poweroff"}); err != nil { // it is frozen, for one
		m.Kill()
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		m.Kill()
		return fmt.Errorf("machine %s did not end in time and was cut off: %w", m.spec.ID, ctx.Err())
	}
}

// Kill cuts the power and waits until nothing of the machine runs.
func (m *Machine) Kill() {
	for {
		m.mu.Lock()
		b, gone := m.boot, m.gone
		m.mu.Unlock()
		if gone == nil {
			return
		}
		if b != nil {
			b.mu.Lock()
			b.cut = true
			b.mu.Unlock()
			_ = b.cmd.Process.Kill()
		}
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond): // it may be between two boots
		}
	}
}
