package locallab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A unitFile is what the lab understands of a service's unit file (systemd.unit(5), systemd.service(5), systemd.exec(5)). Keys that it
// does not know are left alone, as systemd does.
type unitFile struct {
	name        string
	path        string // of the file; empty if there is none
	description string
	after       []string
	wantedBy    []string

	kind          string // simple, exec, oneshot, notify (taken as exec)
	remain        bool
	startPre      []execLine
	start         []execLine
	startPost     []execLine
	stop          []execLine
	stopPost      []execLine
	reload        []execLine
	restart       string
	restartDelay  time.Duration
	startTimeout  time.Duration // 0: none
	stopTimeout   time.Duration
	killMode      string
	killSignal    syscall.Signal
	limitInterval time.Duration
	limitBurst    int
	goodCodes     map[int]bool
	finalCodes    map[int]bool // after which it is not restarted
	finalSignals  map[syscall.Signal]bool
	goodSignals   map[syscall.Signal]bool

	environment []string
	envFiles    []string
	dir         string
	user        string
	group       string
	umask       int
	oom         *int
	output      string
	runtimeDirs []string
	stateDirs   []string
}

// An execLine is one command of a unit file.
type execLine struct {
	argv   []string
	ignore bool // its failure does not matter
	plain  bool // variables are not replaced
}

// unitDirs are where unit files are looked for, in this order.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// maxUnitFile bounds a unit file and an environment file, in bytes.
const maxUnitFile = 1 << 20

var (
	errNoUnit = errors.New("not found")
	errMasked = errors.New("is masked")
)

// validUnitName is what a unit may be called; it keeps names from leading out of a directory.
var validUnitName = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.(service|target|socket|timer|mount|path|slice|scope)$`)

// unitName completes a unit's name as systemctl does.
func unitName(name string) string {
	if validUnitName.MatchString(name) {
		return name
	}
	return name + ".service"
}

// loadUnit reads the named unit's file and its drop-ins. It returns errNoUnit or errMasked when there is nothing to read.
func loadUnit(name string) (*unitFile, error) {
	if !validUnitName.MatchString(name) {
		return nil, fmt.Errorf("unit name %q is not valid", name)
	}
	path := ""
	for _, dir := range unitDirs {
		candidate := filepath.Join(dir, name)
		if target, err := os.Readlink(candidate); err == nil && target == "/dev/null" {
			return nil, errMasked
		}
		if info, err := os.Stat(candidate); err == nil {
			if info.Size() == 0 {
				return nil, errMasked
			}
			path = candidate
			break
		}
	}
	if path == "" {
		if template, instance, ok := strings.Cut(name, "@"); ok && instance != "" {
			suffix := filepath.Ext(name)
			if u, err := loadUnit(template + "@" + suffix); err == nil && instance != suffix {
				return parseUnitFiles(name, u.path)
			}
		}
		return nil, errNoUnit
	}
	return parseUnitFiles(name, path)
}

func parseUnitFiles(name, path string) (*unitFile, error) {
	paths := []string{path}
	for i := len(unitDirs) - 1; i >= 0; i-- {
		extra, _ := filepath.Glob(filepath.Join(unitDirs[i], name+".d", "*.conf"))
		paths = append(paths, extra...)
	}
	u := newUnitFile(name)
	u.path = path
	for _, p := range paths {
		file, err := os.Open(p)
		if err != nil {
			return nil, err
		}
		err = u.parse(io.LimitReader(file, maxUnitFile))
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return u, u.complete()
}

func newUnitFile(name string) *unitFile {
	return &unitFile{
		name: name, description: name, restart: "no", restartDelay: 100 * time.Millisecond, stopTimeout: 90 * time.Second, startTimeout: 90 * time.Second,
		killMode: "control-group", killSignal: syscall.SIGTERM, limitInterval: 10 * time.Second, limitBurst: 5, umask: 0o022,
		finalCodes: map[int]bool{}, finalSignals: map[syscall.Signal]bool{}, goodCodes: map[int]bool{0: true},
		goodSignals: map[syscall.Signal]bool{
			syscall.SIGHUP: true, syscall.SIGINT: true, syscall.SIGTERM: true, syscall.SIGPIPE: true,
		},
	}
}

// parse reads one file into u; later settings replace earlier ones, and lists grow until an empty value clears them.
func (u *unitFile) parse(r io.Reader) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxUnitFile)
	section, pending, number := "", "", 0
	for scanner.Scan() {
		number++
		line := strings.TrimSpace(scanner.Text())
		if pending == "" && (line == "" || line[0] == '#' || line[0] == ';') {
			continue
		}
		if pending != "" && line != "" && (line[0] == '#' || line[0] == ';') {
			continue // a comment does not end a continued line
		}
		line = pending + line
		pending = ""
		if rest, ok := strings.CutSuffix(line, "\\"); ok {
			pending = rest + " "
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return fmt.Errorf("line %d: missing '='", number)
		}
		if err := u.set(section, strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("line %d: %s: %w", number, strings.TrimSpace(key), err)
		}
	}
	return scanner.Err()
}

func (u *unitFile) set(section, key, value string) error {
	apply, ok := unitKeys[section+"."+key]
	if !ok {
		return nil
	}
	return apply(u, value)
}

// unitKeys says what each key that is understood does.
var unitKeys = map[string]func(*unitFile, string) error{
	"Unit.Description":           func(u *unitFile, v string) error { return setText(&u.description, u.expand(v)) },
	"Unit.After":                 func(u *unitFile, v string) error { return addWords(&u.after, v) },
	"Unit.StartLimitIntervalSec": func(u *unitFile, v string) error { return setSpan(&u.limitInterval, v) },
	"Unit.StartLimitInterval":    func(u *unitFile, v string) error { return setSpan(&u.limitInterval, v) },
	"Unit.StartLimitBurst":       func(u *unitFile, v string) error { return setInt(&u.limitBurst, v) },
	"Install.WantedBy":           func(u *unitFile, v string) error { return addWords(&u.wantedBy, v) },

	"Service.Type": func(u *unitFile, v string) error {
		return setOne(&u.kind, v, "simple", "exec", "oneshot", "notify", "idle")
	},
	"Service.RemainAfterExit": func(u *unitFile, v string) error { return setBool(&u.remain, v) },
	"Service.ExecStartPre":    func(u *unitFile, v string) error { return u.addExec(&u.startPre, v) },
	"Service.ExecStart":       func(u *unitFile, v string) error { return u.addExec(&u.start, v) },
	"Service.ExecStartPost":   func(u *unitFile, v string) error { return u.addExec(&u.startPost, v) },
	"Service.ExecStop":        func(u *unitFile, v string) error { return u.addExec(&u.stop, v) },
	"Service.ExecStopPost":    func(u *unitFile, v string) error { return u.addExec(&u.stopPost, v) },
	"Service.ExecReload":      func(u *unitFile, v string) error { return u.addExec(&u.reload, v) },
	"Service.Restart": func(u *unitFile, v string) error {
		return setOne(&u.restart, v, "no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
	},
	"Service.RestartSec":      func(u *unitFile, v string) error { return setSpan(&u.restartDelay, v) },
	"Service.TimeoutStartSec": func(u *unitFile, v string) error { return setSpan(&u.startTimeout, v) },
	"Service.TimeoutStopSec":  func(u *unitFile, v string) error { return setSpan(&u.stopTimeout, v) },
	"Service.TimeoutSec": func(u *unitFile, v string) error {
		if err := setSpan(&u.startTimeout, v); err != nil {
			return err
		}
		return setSpan(&u.stopTimeout, v)
	},
	"Service.KillMode": func(u *unitFile, v string) error {
		return setOne(&u.killMode, v, "control-group", "process", "mixed", "none")
	},
	"Service.KillSignal":        func(u *unitFile, v string) error { return setSignal(&u.killSignal, v) },
	"Service.SuccessExitStatus": func(u *unitFile, v string) error { return addStatuses(u.goodCodes, u.goodSignals, v) },
	"Service.RestartPreventExitStatus": func(u *unitFile, v string) error {
		return addStatuses(u.finalCodes, u.finalSignals, v)
	},
	"Service.Environment":        func(u *unitFile, v string) error { return u.addEnvironment(v) },
	"Service.EnvironmentFile":    func(u *unitFile, v string) error { return addText(&u.envFiles, u.expand(v)) },
	"Service.WorkingDirectory":   func(u *unitFile, v string) error { return setText(&u.dir, u.expand(v)) },
	"Service.User":               func(u *unitFile, v string) error { return setText(&u.user, u.expand(v)) },
	"Service.Group":              func(u *unitFile, v string) error { return setText(&u.group, u.expand(v)) },
	"Service.UMask":              func(u *unitFile, v string) error { return setOctal(&u.umask, v) },
	"Service.StandardOutput":     func(u *unitFile, v string) error { return setText(&u.output, u.expand(v)) },
	"Service.RuntimeDirectory":   func(u *unitFile, v string) error { return addWords(&u.runtimeDirs, u.expand(v)) },
	"Service.StateDirectory":     func(u *unitFile, v string) error { return addWords(&u.stateDirs, u.expand(v)) },
	"Service.OOMScoreAdjust":     func(u *unitFile, v string) error { return u.setOOM(v) },
	"Service.StartLimitInterval": func(u *unitFile, v string) error { return setSpan(&u.limitInterval, v) },
	"Service.StartLimitBurst":    func(u *unitFile, v string) error { return setInt(&u.limitBurst, v) },
}

func (u *unitFile) complete() error {
	if filepath.Ext(u.name) != ".service" {
		return nil
	}
	if u.kind == "" {
		u.kind = "simple"
		if len(u.start) == 0 {
			u.kind = "oneshot"
		}
	}
	if u.kind == "oneshot" {
		u.startTimeout = 0
	}
	if len(u.start) == 0 && (u.kind != "oneshot" || len(u.stop) == 0) {
		return errors.New("service has no ExecStart= setting")
	}
	if len(u.start) > 1 && u.kind != "oneshot" {
		return errors.New("service has more than one ExecStart= setting, which only Type=oneshot allows")
	}
	if u.kind == "oneshot" && (u.restart == "always" || u.restart == "on-success") {
		return fmt.Errorf("a service of Type=oneshot cannot have Restart=%s", u.restart)
	}
	return nil
}

// expand replaces the specifiers of systemd.unit(5) that Certlab's own units may use.
func (u *unitFile) expand(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	stem := strings.TrimSuffix(u.name, filepath.Ext(u.name))
	prefix, instance, _ := strings.Cut(stem, "@")
	host, _ := os.Hostname()
	return strings.NewReplacer("%%", "%", "%n", u.name, "%N", stem, "%p", prefix, "%i", instance, "%I", instance, "%H", host,
		"%t", "/run", "%S", "/var/lib", "%E", "/etc", "%C", "/var/cache", "%L", "/var/log", "%T", "/tmp", "%V", "/var/tmp", "%h", "/root").Replace(s)
}

func (u *unitFile) addExec(list *[]execLine, value string) error {
	if value == "" {
		*list = nil
		return nil
	}
	var line execLine
	argv0 := false
prefixes:
	for len(value) > 0 {
		switch value[0] {
		case '-':
			line.ignore = true
		case ':':
			line.plain = true
		case '@':
			argv0 = true
		case '+', '!':
		default:
			break prefixes
		}
		value = value[1:]
	}
	words, err := splitWords(u.expand(value))
	if err != nil {
		return err
	}
	if argv0 && len(words) > 1 {
		words = append(words[:1], words[2:]...)
	}
	if len(words) == 0 {
		return errors.New("no program is named")
	}
	line.argv = words
	*list = append(*list, line)
	return nil
}

func (u *unitFile) addEnvironment(value string) error {
	if value == "" {
		u.environment = nil
		return nil
	}
	words, err := splitWords(u.expand(value))
	if err != nil {
		return err
	}
	for _, word := range words {
		if !strings.Contains(word, "=") {
			return fmt.Errorf("%q is not an assignment", word)
		}
	}
	u.environment = append(u.environment, words...)
	return nil
}

func addStatuses(codes map[int]bool, signals map[syscall.Signal]bool, value string) error {
	for _, word := range strings.Fields(value) {
		if code, err := strconv.Atoi(word); err == nil {
			codes[code] = true
			continue
		}
		var sig syscall.Signal
		if err := setSignal(&sig, word); err != nil {
			return err
		}
		signals[sig] = true
	}
	return nil
}

func (u *unitFile) setOOM(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < -1000 || n > 1000 {
		return fmt.Errorf("%q is not a number from -1000 to 1000", value)
	}
	u.oom = &n
	return nil
}

func setText(to *string, value string) error { *to = value; return nil }

func addText(to *[]string, value string) error {
	if value == "" {
		*to = nil
		return nil
	}
	*to = append(*to, value)
	return nil
}

func addWords(to *[]string, value string) error {
	if value == "" {
		*to = nil
		return nil
	}
	*to = append(*to, strings.Fields(value)...)
	return nil
}

func setOne(to *string, value string, allowed ...string) error {
	for _, a := range allowed {
		if a == value {
			*to = value
			return nil
		}
	}
	return fmt.Errorf("%q is not one that a lab machine can do (%s)", value, strings.Join(allowed, ", "))
}

func setBool(to *bool, value string) error {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		*to = true
	case "0", "no", "n", "false", "f", "off":
		*to = false
	default:
		return fmt.Errorf("%q is neither yes nor no", value)
	}
	return nil
}

func setInt(to *int, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("%q is not a number", value)
	}
	*to = n
	return nil
}

func setOctal(to *int, value string) error {
	n, err := strconv.ParseInt(value, 8, 32)
	if err != nil || n < 0 || n > 0o777 {
		return fmt.Errorf("%q is not an octal number up to 777", value)
	}
	*to = int(n)
	return nil
}

// spanUnits are the units of time of systemd.time(7), without those longer than a day.
var spanUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

var spanPart = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)`)

// setSpan reads a time span such as "1min 30s", "250ms", "5" (seconds) or "infinity" (0 here).
func setSpan(to *time.Duration, value string) error {
	if value == "infinity" {
		*to = 0
		return nil
	}
	var total time.Duration
	rest := value
	for strings.TrimSpace(rest) != "" {
		part := spanPart.FindStringSubmatch(rest)
		if part == nil {
			return fmt.Errorf("%q is not a time span", value)
		}
		unit, known := spanUnits[part[2]]
		n, err := strconv.ParseFloat(part[1], 64)
		if !known || err != nil || n > 1e6 {
			return fmt.Errorf("%q is not a time span", value)
		}
		total += time.Duration(n * float64(unit))
		rest = rest[len(part[0]):]
	}
	if value == "" {
		return errors.New("no time span")
	}
	*to = total
	return nil
}
