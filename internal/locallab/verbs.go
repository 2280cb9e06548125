package locallab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/durable"
)

// serve answers systemctl until the machine ends.
func (m *manager) serve(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			m.logf("machine: cannot answer systemctl: %v", err)
			return
		}
		go m.answer(conn)
	}
}

func (m *manager) answer(conn *net.UnixConn) {
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var req systemctlRequest
	if err := json.NewDecoder(io.LimitReader(conn, maxSystemctl)).Decode(&req); err != nil {
		return
	}
	call := &systemctl{m: m, root: peerIsRoot(conn)}
	call.run(req.Args)
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_ = json.NewEncoder(conn).Encode(systemctlReply{Stdout: call.stdout.String(), Stderr: call.stderr.String(), Code: call.code})
	if call.after != nil {
		call.after()
	}
}

func peerIsRoot(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	root := false
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		root = err == nil && cred.Uid == 0
	})
	return root
}

// A systemctl is one call.
type systemctl struct {
	m      *manager
	root   bool
	stdout strings.Builder
	stderr strings.Builder
	code   int
	after  func() // done once the answer is on its way

	now        bool
	quiet      bool
	all        bool
	noLegend   bool
	value      bool
	noBlock    bool
	properties []string
	signal     string
	whom       string
	delay      time.Duration
}

// Exit codes of systemctl(1), after the LSB's.
const (
	codeNotActive = 3
	codeNoUnit    = 4
	codeNotLoaded = 5
)

// A verb is something that systemctl can be asked for.
type verb struct {
	root  bool // only root may
	units int  // how many units at least
	run   func(*systemctl, []string)
}

var verbs = map[string]verb{
	"start":             {true, 1, func(c *systemctl, units []string) { c.each(units, c.start) }},
	"stop":              {true, 1, func(c *systemctl, units []string) { c.each(units, c.stop) }},
	"restart":           {true, 1, func(c *systemctl, units []string) { c.each(units, c.restart) }},
	"try-restart":       {true, 1, func(c *systemctl, units []string) { c.each(units, c.tryRestart) }},
	"reload":            {true, 1, func(c *systemctl, units []string) { c.each(units, c.reload) }},
	"reload-or-restart": {true, 1, func(c *systemctl, units []string) { c.each(units, c.reloadOrRestart) }},
	"kill":              {true, 1, func(c *systemctl, units []string) { c.each(units, c.kill) }},
	"enable":            {true, 1, func(c *systemctl, units []string) { c.each(units, c.enable) }},
	"disable":           {true, 1, func(c *systemctl, units []string) { c.each(units, c.disable) }},
	"mask":              {true, 1, func(c *systemctl, units []string) { c.each(units, c.mask) }},
	"unmask":            {true, 1, func(c *systemctl, units []string) { c.each(units, c.unmask) }},
	"reset-failed":      {true, 0, func(c *systemctl, units []string) { c.resetFailed(units) }},
	"daemon-reload":     {true, 0, func(c *systemctl, _ []string) { c.m.daemonReload() }},
	"daemon-reexec":     {true, 0, func(c *systemctl, _ []string) { c.m.daemonReload() }},
	"reboot":            {true, 0, func(c *systemctl, _ []string) { c.end("reboot") }},
	"poweroff":          {true, 0, func(c *systemctl, _ []string) { c.end("poweroff") }},
	"halt":              {true, 0, func(c *systemctl, _ []string) { c.end("poweroff") }},
	"cancel":            {true, 0, func(c *systemctl, _ []string) { c.m.cancelEnd() }},
	"is-active":         {false, 1, func(c *systemctl, units []string) { c.is(units, codeNotActive, stateActive) }},
	"is-failed":         {false, 1, func(c *systemctl, units []string) { c.is(units, 1, stateFailed) }},
	"is-enabled":        {false, 1, (*systemctl).isEnabled},
	"is-system-running": {false, 0, (*systemctl).isSystemRunning},
	"status":            {false, 0, (*systemctl).status},
	"show":              {false, 0, (*systemctl).show},
	"cat":               {false, 1, (*systemctl).cat},
	"list-units":        {false, 0, (*systemctl).listUnits},
	"list-unit-files":   {false, 0, (*systemctl).listUnitFiles},
	"get-default":       {false, 0, func(c *systemctl, _ []string) { c.stdout.WriteString("multi-user.target\n") }},
}

func (c *systemctl) fail(code int, format string, args ...any) {
	fmt.Fprintf(&c.stderr, format+"\n", args...)
	c.code = code
}

func (c *systemctl) run(args []string) {
	words, err := c.options(args)
	if err != nil {
		c.fail(1, "%v", err)
		return
	}
	if len(words) == 0 {
		words = []string{"list-units"}
	}
	v, ok := verbs[words[0]]
	switch {
	case words[0] == "--version":
		c.stdout.WriteString("systemd 255 (certlab's local lab: a part of systemctl)\n")
	case !ok:
		c.fail(1, "Unknown command verb %s, on a machine of Certlab's local lab.", words[0])
	case v.root && !c.root:
		c.fail(1, "Interactive authentication required.")
	case len(words)-1 < v.units:
		c.fail(1, "Too few arguments.")
	default:
		v.run(c, words[1:])
	}
	if c.quiet {
		c.stdout.Reset()
	}
}

// options takes the options out of the arguments, which may stand anywhere, and returns the rest.
func (c *systemctl) options(args []string) ([]string, error) {
	var words []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, value, hasValue := strings.Cut(arg, "=")
		next := func() error {
			if hasValue {
				return nil
			}
			i++
			if i == len(args) {
				return fmt.Errorf("systemctl: option '%s' requires an argument", name)
			}
			value = args[i]
			return nil
		}
		var err error
		switch {
		case arg == "--":
			words = append(words, args[i+1:]...)
			i = len(args)
		case arg == "--version":
			return []string{arg}, nil
		case name == "--now":
			c.now = true
		case name == "--quiet" || name == "-q":
			c.quiet = true
		case name == "--all" || name == "-a":
			c.all = true
		case name == "--no-legend":
			c.noLegend = true
		case name == "--value":
			c.value = true
		case name == "--no-block":
			c.noBlock = true
		case name == "--property" || name == "-p" || name == "-P":
			if err = next(); err == nil {
				c.properties = append(c.properties, strings.Split(value, ",")...)
				c.value = c.value || name == "-P"
			}
		case strings.HasPrefix(arg, "-p") && len(arg) > 2:
			c.properties = append(c.properties, strings.Split(arg[2:], ",")...)
		case name == "--signal" || name == "-s":
			err = next()
			c.signal = value
		case name == "--kill-whom" || name == "--kill-who":
			err = next()
			c.whom = value
		case name == "--after" && hasValue:
			c.delay, err = time.ParseDuration(value)
		case name == "--type" || name == "-t" || name == "--state" || name == "--lines" || name == "-n" || name == "--output" || name == "-o" ||
			name == "--message" || name == "--job-mode":
			err = next()
		case name == "--user":
			return nil, errors.New("cannot connect to bus: a lab machine has no user manager")
		case strings.HasPrefix(arg, "-"):
			if !ignoredOptions[arg] {
				return nil, fmt.Errorf("systemctl: unrecognized option '%s'", arg)
			}
		default:
			words = append(words, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return words, nil
}

// ignoredOptions are options that change nothing on a lab machine.
var ignoredOptions = map[string]bool{
	"--system": true, "--no-pager": true, "--no-wall": true, "--no-ask-password": true, "--force": true, "-f": true, "-ff": true, "--full": true, "-l": true,
	"--no-reload": true, "-i": true, "--ignore-inhibitors": true, "--plain": true, "--runtime": true, "--no-warn": true, "--failed": true, "--wait": true,
	"--show-transaction": true, "--check-inhibitors=no": true,
}

// each runs do for each unit and keeps the worst code.
func (c *systemctl) each(units []string, do func(name string)) {
	worst := 0
	for _, name := range units {
		c.code = 0
		do(unitName(name))
		worst = max(worst, c.code)
	}
	c.code = worst
}

// find returns the service, or says why there is none, with the code that systemctl has for it.
func (c *systemctl) find(what, name string) *service {
	if filepath.Ext(name) != ".service" {
		c.fail(codeNotLoaded, "Failed to %s %s: Unit %s not found.", what, name, name)
		return nil
	}
	s, err := c.m.service(name)
	switch {
	case err == nil:
		return s
	case errors.Is(err, errMasked):
		c.fail(1, "Failed to %s %s: Unit %s is masked.", what, name, name)
	case errors.Is(err, errNoUnit):
		c.fail(codeNotLoaded, "Failed to %s %s: Unit %s not found.", what, name, name)
	default:
		c.fail(1, "Failed to %s %s: Unit %s has a bad unit file setting.\n%v", what, name, name, err)
	}
	return nil
}

func (c *systemctl) start(name string) {
	s := c.find("start", name)
	if s == nil {
		return
	}
	if c.m.isEnding() {
		c.fail(1, "Failed to start %s: the machine is going down.", name)
		return
	}
	if c.noBlock {
		go func() { _ = s.start() }()
		return
	}
	if err := s.start(); err != nil {
		c.fail(1, "Job for %s failed because %v.\nSee \"systemctl status %s\" for details.", name, err, name)
	}
}

func (c *systemctl) stop(name string) {
	s, err := c.m.service(name)
	if err != nil {
		c.m.mu.Lock()
		s = c.m.services[name]
		c.m.mu.Unlock()
		if s == nil {
			c.fail(codeNotLoaded, "Failed to stop %s: Unit %s not loaded.", name, name)
			return
		}
	}
	if c.noBlock {
		go func() { _ = s.stop(0) }()
		return
	}
	if err := s.stop(0); err != nil {
		c.fail(1, "Failed to stop %s: %v", name, err)
	}
}

func (c *systemctl) restart(name string) {
	if s := c.find("restart", name); s == nil {
		return
	}
	if c.noBlock {
		go func() {
			if s, err := c.m.service(name); err == nil {
				_ = s.stop(0)
				_ = s.start()
			}
		}()
		return
	}
	c.stop(name)
	if c.code == 0 {
		c.start(name)
	}
}

func (c *systemctl) tryRestart(name string) {
	s := c.find("try-restart", name)
	if s == nil {
		return
	}
	if state, _ := c.m.state(name); state == stateActive || state == stateActivating {
		c.restart(name)
	}
}

func (c *systemctl) reload(name string) {
	if s := c.find("reload", name); s != nil {
		if err := s.reload(); err != nil {
			c.fail(1, "Failed to reload %s: %v.", name, err)
		}
	}
}

func (c *systemctl) reloadOrRestart(name string) {
	s := c.find("reload-or-restart", name)
	if s == nil {
		return
	}
	if len(s.file.reload) > 0 && s.reload() == nil {
		return
	}
	c.restart(name)
}

func (c *systemctl) kill(name string) {
	s := c.find("kill", name)
	if s == nil {
		return
	}
	sig := syscall.SIGTERM
	if c.signal != "" {
		if err := setSignal(&sig, c.signal); err != nil {
			c.fail(1, "Failed to parse signal string %s.", c.signal)
			return
		}
	}
	if err := s.kill(sig, c.whom); err != nil {
		c.fail(1, "Failed to kill unit %s: %v", name, err)
	}
}

func (c *systemctl) enable(name string) {
	file, err := loadUnit(name)
	switch {
	case errors.Is(err, errMasked):
		c.fail(1, "Failed to enable unit: Unit file %s is masked.", filepath.Join(unitDirs[0], name))
		return
	case errors.Is(err, errNoUnit):
		c.fail(1, "Failed to enable unit: Unit file %s does not exist.", name)
		return
	case err != nil:
		c.fail(1, "Failed to enable unit: %v", err)
		return
	}
	if len(file.wantedBy) == 0 {
		c.stderr.WriteString("The unit files have no installation config (WantedBy=, RequiredBy=, Also=,\nAlias= settings in the [Install] section).\n")
	}
	for _, target := range file.wantedBy {
		dir := filepath.Join(unitDirs[0], target+".wants")
		link := filepath.Join(dir, name)
		if !validUnitName.MatchString(target) {
			continue
		}
		if old, err := os.Readlink(link); err == nil && old == file.path {
			continue
		}
		if err := replaceLink(file.path, link); err != nil {
			c.fail(1, "Failed to enable unit: %v", err)
			return
		}
		fmt.Fprintf(&c.stderr, "Created symlink %s → %s.\n", link, file.path)
	}
	if c.now {
		c.start(name)
	}
}

// replaceLink makes a link that is there entirely or not at all.
func replaceLink(target, link string) error {
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	temporary := link + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, link); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(link))
}

func (c *systemctl) disable(name string) {
	links, _ := filepath.Glob(filepath.Join(unitDirs[0], "*.wants"))
	known := false
	for _, dir := range links {
		link := filepath.Join(dir, name)
		err := os.Remove(link)
		if err == nil {
			known = true
			fmt.Fprintf(&c.stderr, "Removed %q.\n", link)
		} else if !errors.Is(err, os.ErrNotExist) {
			c.fail(1, "Failed to disable unit: %v", err)
			return
		}
	}
	if _, err := loadUnit(name); errors.Is(err, errNoUnit) && !known {
		c.fail(1, "Failed to disable unit: Unit file %s does not exist.", name)
		return
	}
	if c.now {
		c.stop(name)
	}
}

func (c *systemctl) mask(name string) {
	link := filepath.Join(unitDirs[0], name)
	if !validUnitName.MatchString(name) {
		c.fail(1, "Failed to mask unit: Invalid unit name %q.", name)
		return
	}
	if target, err := os.Readlink(link); err != nil || target != "/dev/null" {
		if _, err := os.Lstat(link); err == nil {
			c.fail(1, "Failed to mask unit: File %s already exists.", link)
			return
		}
		if _, err := loadUnit(name); errors.Is(err, errNoUnit) {
			fmt.Fprintf(&c.stderr, "Unit %s does not exist, proceeding anyway.\n", name)
		}
		if err := replaceLink("/dev/null", link); err != nil {
			c.fail(1, "Failed to mask unit: %v", err)
			return
		}
		fmt.Fprintf(&c.stderr, "Created symlink %s → /dev/null.\n", link)
	}
	c.m.daemonReload()
	if c.now {
		if state, _ := c.m.state(name); state != stateInactive && state != stateFailed {
			c.stop(name)
		}
	}
}

func (c *systemctl) unmask(name string) {
	link := filepath.Join(unitDirs[0], name)
	if target, err := os.Readlink(link); err == nil && target == "/dev/null" {
		if err := os.Remove(link); err != nil {
			c.fail(1, "Failed to unmask unit: %v", err)
			return
		}
		fmt.Fprintf(&c.stderr, "Removed %q.\n", link)
	}
	c.m.daemonReload()
}

func (c *systemctl) resetFailed(units []string) {
	for _, s := range c.m.list() {
		wanted := len(units) == 0
		for _, name := range units {
			wanted = wanted || unitName(name) == s.name
		}
		if !wanted {
			continue
		}
		s.mu.Lock()
		s.starts = nil
		if s.state == stateFailed {
			s.result = "success"
			s.set(stateInactive, "dead")
		}
		s.mu.Unlock()
	}
}

func (c *systemctl) end(kind string) {
	m, delay := c.m, c.delay
	c.after = func() { m.endAfter(kind, delay) }
}
