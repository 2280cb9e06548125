package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
	"certlab/internal/version"
)

// Options are what an agent is made of besides its directory. The zero value of each field but Dir is good for a real machine.
type Options struct {
	Dir         string
	Log         *slog.Logger    `json:"-"`
	BootIDFile  string          // names the running boot
	SessionsDir string          // where Checkbox keeps its sessions
	Binary      string          // the agent's own, which keepers are started from
	Path        string          // PATH of Checkbox and of what installs it
	Run         checkbox.Runner `json:"-"` // runs apt, snap and systemctl

	Grace        time.Duration // between TERM and KILL; 10 s
	RebootGrace  time.Duration // how long a machine may take to go down after a noreturn job; 3 min
	RestartGrace time.Duration // how long to wait, when Checkbox was killed, for the machine to go down; 10 s
	Interval     time.Duration // between looks at a running Checkbox; 1 s
	ReportEvery  time.Duration // the least time between two reports of a run; 2 s
	RetryLimit   time.Duration // the longest time between two tries at the controller; 1 min
	PollWait     time.Duration // of a long poll; 50 s
	WriteRetry   time.Duration // between two tries to write on a disk that is full; 10 s
	MinFree      int64         // bytes that must be free to begin a run; 64 MiB

	Now        func() time.Time `json:"-"` // the machine's clock, for people
	TempDir    string           // where Checkbox may put what it needs for a moment; the system's
	VMStatFile string           // counts what the kernel ended for want of memory
	Limits     checkbox.Limits  // of commands of checkbox-cli that only ask it something

	JournalCommand []string // what prints the journal; journalctl
	PstoreDirs     []string // where the kernel's last words are; /sys/fs/pstore, and where systemd puts them

	Subject SubjectOptions // how a subject is installed, selected and booted

	KeepFor   time.Duration // how long delivered files are kept; 7 days
	KeepBytes int64         // how much of them; 2 GiB
	KeepFree  int64         // bytes; while less is free nothing is kept; a tenth of the disk, at most 5 GiB
}

func (o *Options) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Grace, 10*time.Second)
	set(&o.RebootGrace, 3*time.Minute)
	set(&o.RestartGrace, 10*time.Second)
	set(&o.Interval, time.Second)
	set(&o.ReportEvery, 2*time.Second)
	set(&o.RetryLimit, time.Minute)
	set(&o.PollWait, 50*time.Second)
	set(&o.WriteRetry, 10*time.Second)
	set(&o.KeepFor, 7*24*time.Hour)
	if o.MinFree == 0 {
		o.MinFree = 64 << 20
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = 2 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.VMStatFile == "" {
		o.VMStatFile = "/proc/vmstat"
	}
	if len(o.JournalCommand) == 0 {
		o.JournalCommand = []string{"journalctl"}
	}
	if len(o.PstoreDirs) == 0 {
		o.PstoreDirs = []string{"/sys/fs/pstore", "/var/lib/systemd/pstore"}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.BootIDFile == "" {
		o.BootIDFile = bootIDFile
	}
	if o.SessionsDir == "" {
		o.SessionsDir = checkbox.SessionsDir
	}
	if o.Binary == "" {
		o.Binary = ownBinary()
	}
	if o.Path == "" {
		o.Path = os.Getenv("PATH")
		if o.Path == "" {
			o.Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
		}
		o.Path += ":/snap/bin"
	}
	if o.Run == nil {
		o.Run = checkbox.Exec
	}
	o.Subject.defaults()
}

// An Agent runs plans on this machine, one at a time.
type Agent struct {
	opts   Options
	key    *agentKey
	bootID string
	since  time.Time // by the machine's clock
	began  time.Time // the same moment by the clock that only counts

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced whenever something below changes
	desired    order.AgentDesired
	applied    string
	stateError string // why the desired state cannot be applied
	remote     *remote
	controller string // "", enrolled, unreachable, refused
	controlErr string
	controlAt  time.Time         // since when controller is what it is
	problems   map[string]string // what a person should see to, by name
	resends    map[resendKey]order.Resend
	epoch      string // of the controller's data, as its last answer said
	tool       *checkbox.Tool
	problem    string
	installing bool
	installed  int // counts the desired states that Checkbox was installed for
	wanted     int
	runs       map[string]*run
	order      []string  // run ids, oldest first
	held       *holding  // what was done to the machine for a subject; nil: nothing
	dirtyAt    time.Time // when putting the machine back has failed last
	leave      bool      // another binary is to take over
}

// Run is the agent's life: it returns nil when it was told to end, or when another binary should take over, which whoever keeps it
// alive then starts. Checkbox goes on in either case.
func Run(ctx context.Context, opts Options) error {
	opts.defaults()
	if err := makeDir(opts.Dir); err != nil {
		return err
	}
	// Unix sockets have short paths only, and relative ones would mean something else to a keeper.
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return err
	}
	opts.Dir = dir
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("cannot run the agent in %s: %w", dir, err)
	}
	defer lock.release()
	if os.Geteuid() == 0 {
		if err := setOOMScoreAdjust(-1000); err != nil {
			opts.Log.Warn("cannot protect the agent from the kernel's memory killer", "error", err)
		}
	}
	a, err := open(opts)
	if err != nil {
		return err
	}
	opts.Log.Info("agent started", "version", version.Version, "boot", a.bootID, "runs", len(a.order))
	return a.serve(ctx)
}

// open reads all that an agent keeps in its directory. What is damaged is set aside, and said.
func open(opts Options) (*Agent, error) {
	a := newAgent(opts)
	var err error
	if a.bootID, err = readBootID(opts.BootIDFile); err != nil {
		return nil, err
	}
	if a.key, err = loadKey(filepath.Join(opts.Dir, keyFile)); err != nil {
		return nil, err
	}
	if a.key.replaced != nil {
		opts.Log.Error("the key cannot be used; a new one was made", "error", a.key.replaced)
		a.trouble("key", fmt.Sprintf("%v; a new key was made, which the controller lets in once the charm has published it", a.key.replaced))
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	a.loadHolding()
	a.apply()
	return a, nil
}

func newAgent(opts Options) *Agent {
	return &Agent{opts: opts, since: opts.Now().UTC(), began: time.Now(), changed: make(chan struct{}), runs: make(map[string]*run),
		problems: make(map[string]string), resends: make(map[resendKey]order.Resend)}
}

// serve runs the agent's parts until one ends or ctx does.
func (a *Agent) serve(ctx context.Context) error {
	listener, err := listen(filepath.Join(a.opts.Dir, order.AgentSocket))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(a.opts.Log.Handler(), slog.LevelWarn)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.opts.Log.Error("cannot serve the socket", "error", err)
			stop()
		}
	})
	for _, part := range []func(context.Context){a.install, a.work, a.poll, a.reportAll, a.deliverAll, a.resendAll, a.tellStatus, a.housekeep, a.dispatch} {
		wg.Go(func() { part(ctx) })
	}
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				a.apply()
			}
		}
	})
	wg.Go(func() {
		for {
			changed := a.watch()
			if a.shouldLeave() {
				a.opts.Log.Info("another version takes over", "binary", a.desiredNow().Binary)
				stop()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	})
	<-ctx.Done()
	// Who waits for a run is told how far it is, rather than cut off.
	shutdown, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if server.Shutdown(shutdown) != nil {
		server.Close()
	}
	wg.Wait()
	return nil
}

// apply reads the desired state anew and puts it into force. What concerns a run holds from the next run on.
func (a *Agent) apply() {
	desired, sum, err := readDesired(a.opts.Dir, order.AgentDesiredFile)
	stateError := ""
	if err != nil {
		a.opts.Log.Error("cannot apply the desired state", "error", err)
		stateError = err.Error()
		if desired, sum, err = a.lastDesired(); err != nil || sum == "" || a.configured() {
			a.mu.Lock()
			a.stateError = stateError
			a.notify()
			a.mu.Unlock()
			return
		}
		a.opts.Log.Warn("the desired state that was in force last goes on", "file", appliedFile)
	} else {
		a.keepDesired(sum)
	}
	if err := writePublic(a.opts.Dir, a.key, desired); err != nil {
		a.opts.Log.Error("cannot publish the identity", "error", err)
	}
	controller, err := newRemote(a.key, desired.ControllerURLs, desired.ControllerCAs, a.opts.Now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if sum == a.applied && a.wanted > 0 && a.stateError == stateError {
		return
	}
	a.stateError = stateError
	if sameController := a.wanted > 0 && fmt.Sprint(a.desired.ControllerURLs, a.desired.ControllerCAs) == fmt.Sprint(desired.ControllerURLs, desired.ControllerCAs); !sameController {
		a.remote = controller
		a.controller, a.controlErr, a.controlAt = "", "", a.now()
		if err != nil {
			a.controller, a.controlErr = "unreachable", err.Error()
		} else if controller != nil {
			a.controller, a.controlErr = "unreachable", "no answer yet"
		}
	}
	a.desired, a.applied = desired, sum
	a.wanted++
	a.notify()
}

// configured reports whether a desired state is in force.
func (a *Agent) configured() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted > 0
}

// notify tells who watches that something changed. a.mu must be held.
func (a *Agent) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// watch returns a channel that is closed at the next change.
func (a *Agent) watch() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func (a *Agent) desiredNow() order.AgentDesired {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.desired
}

// shouldLeave reports whether another binary is wanted and nothing is going on that leaving would disturb. A run that is in its
// keeper's hands would not be, but why risk it.
func (a *Agent) shouldLeave() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.desired.Binary == "" || a.leave {
		return a.leave
	}
	if own := ownBinary(); a.desired.Binary == own || sameFile(a.desired.Binary, "/proc/self/exe") || !executable(a.desired.Binary) {
		return false
	}
	if a.held != nil && a.held.Dirty == "" && a.held.Subject.Restore {
		return false // apt may be at work
	}
	for _, id := range a.order {
		if !a.runs[id].rec.Run.State.Final() {
			return false
		}
	}
	a.leave = true
	return true
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// install makes Checkbox available as the desired state says, and tries again while that fails.
func (a *Agent) install(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		a.mu.Lock()
		changed, wanted, desired := a.changed, a.wanted, a.desired
		busy := a.busy()
		todo := a.applied != "" && (a.installed != wanted && !busy || busy && a.tool == nil)
		if todo {
			a.installing = a.tool == nil
			a.notify()
			changed = a.changed
		}
		a.mu.Unlock()
		if !todo {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		tool, err := a.installOnce(ctx, desired, busy || a.handedOver(desired))
		if err == nil && !busy {
			err = a.handOver(desired, tool)
		}
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		a.installing = false
		if err != nil {
			a.tool, a.problem = nil, err.Error()
			a.opts.Log.Error("Checkbox cannot be used", "error", err)
		} else {
			a.tool, a.problem = tool, ""
			if !busy {
				a.installed = wanted
			}
			a.opts.Log.Info("Checkbox is ready", "path", tool.Path, "version", tool.Version.String())
		}
		a.notify()
		changed = a.changed
		a.mu.Unlock()
		if err == nil {
			failures = 0
			continue
		}
		// Something may become right by itself (the network, another apt) or by a new desired state.
		timer := time.NewTimer(backoff(failures+3, 10*time.Minute))
		failures++
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-changed:
				a.mu.Lock()
				waiting, changed = a.wanted == wanted, a.changed
				a.mu.Unlock()
			}
		}
		timer.Stop()
	}
}

// busy reports whether an attempt is in progress: what it runs on must not be replaced under it, only found. a.mu must be held.
func (a *Agent) busy() bool {
	for _, id := range a.order {
		if s := a.runs[id].rec.Step; s == stepTesting || (s == stepPreparing || s == stepSubject) && a.tool != nil {
			return true
		}
	}
	return false
}

// installOnce makes Checkbox available and opens it; with found set it only looks for one that is installed.
func (a *Agent) installOnce(ctx context.Context, desired order.AgentDesired, found bool) (*checkbox.Tool, error) {
	c := desired.Checkbox
	source := checkbox.Source{Kind: c.Source, Channel: c.Channel, Path: c.Path, ExtraPackages: c.ExtraPackages}
	env := a.baseEnv(desired)
	installer := &checkbox.Installer{Run: a.opts.Run, Env: env, Timeout: 45 * time.Minute, SnapBin: "/snap/bin", Sources: "/etc/apt/sources.list.d",
		Proxy:    checkbox.Proxy{HTTP: desired.Proxy.HTTP, HTTPS: desired.Proxy.HTTPS},
		LookPath: func(name string) (string, error) { return lookPath(a.opts.Path, name) }}
	base := ""
	if _, release, ok := cutBase(machineIdentity("/").Base); ok {
		base = release
	}
	var path string
	var err error
	if found {
		path, err = installer.Find(source)
	} else {
		path, err = installer.Install(ctx, source, base)
	}
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(a.opts.Dir, "providers")
	if !found {
		// What a session began with stays as it is until its end: Checkbox asks a person before it resumes one with other providers.
		if err := announce(dir, path, desired.ProviderPaths); err != nil {
			return nil, err
		}
	}
	if !checkbox.IsSnap(path) {
		env = append(env, "PROVIDERPATH="+checkbox.ProviderPath(dir, path))
	}
	tool, err := checkbox.Open(ctx, path, env, a.opts.Limits)
	if err != nil {
		return nil, err
	}
	tool.SessionsDir = a.opts.SessionsDir
	return tool, nil
}

// announce has the checkbox-cli at program find the providers at paths; dir is where most versions are told of them.
func announce(dir, program string, paths []string) error {
	var providers []checkbox.Provider
	for _, p := range paths {
		found, err := checkbox.FindProviders(p)
		if err != nil {
			return err
		}
		providers = append(providers, found...)
	}
	if err := checkbox.WriteProviders(dir, providers); err != nil {
		return err
	}
	if !checkbox.IsSnap(program) {
		providers = nil // what another Checkbox was given there would hide what this one is told of
	}
	return checkbox.Sideload(checkbox.SideloadDir, providers)
}

// baseEnv is the environment of everything that the agent starts for Checkbox: nothing of what the agent itself was started with, so
// that a run does not depend on how that was.
func (a *Agent) baseEnv(desired order.AgentDesired) []string {
	home := "/root"
	if os.Geteuid() != 0 {
		if h, err := os.UserHomeDir(); err == nil {
			home = h
		}
	}
	env := []string{
		"PATH=" + a.opts.Path, "HOME=" + home, "LANG=C.UTF-8", "SHELL=/bin/bash",
		"PYTHONUNBUFFERED=1", // output that waits in a buffer would look like silence
	}
	if os.Geteuid() == 0 {
		env = append(env, "USER=root", "LOGNAME=root")
	}
	p := desired.Proxy
	return append(env, checkbox.ProxyEnv(p.HTTP, p.HTTPS, p.FTP, p.No)...)
}

// lookPath finds a program in path; exec.LookPath would look in this process's own.
func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, name); filepath.IsAbs(file) && executable(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("cannot find %s: %w", name, exec.ErrNotFound)
}
