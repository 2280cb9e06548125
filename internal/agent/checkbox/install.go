package checkbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Source says where Checkbox comes from.
type Source struct {
	Kind          string // snap, deb or path
	Channel       string // snap channel such as 24.04/stable, or the PPA for deb such as ppa:checkbox-dev/stable
	Path          string // of checkbox-cli
	ExtraPackages []string
}

// Runner runs a command with an environment and returns what it printed; the seam to apt, snap and systemctl.
type Runner func(ctx context.Context, env []string, name string, args ...string) (string, error)

// Exec is the Runner that runs real commands. They end with ctx, with what they started.
func Exec(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Dir = "/"
	out := capped{max: 256 << 10}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := runUnprotected(cmd)
	if ctx.Err() != nil {
		err = errors.New("took too long")
	}
	return out.String(), err
}

// runUnprotected is cmd.Run for a program that the kernel may kill when memory is short, although this process is protected: what
// Checkbox and packages' scripts start would inherit the protection.
func runUnprotected(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("0"), 0) // raising it is always allowed
	return cmd.Wait()
}

// RunUnprotected is cmd.Run for a program that the kernel may kill when memory is short, as it may any other.
func RunUnprotected(cmd *exec.Cmd) error { return runUnprotected(cmd) }

// Installer installs Checkbox and keeps its own remote agent, which obeys anybody on the network as root, from running.
type Installer struct {
	Run      Runner
	Env      []string // complete, with proxy settings
	Timeout  time.Duration
	LookPath func(string) (string, error)
	SnapBin  string        // /snap/bin
	Sources  string        // apt's sources.list.d
	Proxy    Proxy         // for snapd, which does not see Env
	Patience time.Duration // between two tries when another program holds apt's locks; 5 s
}

// A Proxy is what a program that reaches the internet is to go through; empty: nothing.
type Proxy struct{ HTTP, HTTPS string }

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(?:[:=][A-Za-z0-9.+:~-]+)?$`)
	channelName = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
	snapSeries  = regexp.MustCompile(`^(?:uc)?(\d\d)(?:\.\d\d)?(?:/|$)`)
	snapRisk    = regexp.MustCompile(`^(?:stable|candidate|beta|edge)$`)
	ppaName     = regexp.MustCompile(`^ppa:[a-z0-9.+-]+/(?:[a-z0-9.+-]+/)?[a-z0-9.+-]+$`)
)

// Check says what is wrong with a source before anything is installed, with the option to set.
func (s Source) Check() error {
	switch s.Kind {
	case "path":
		if s.Path == "" {
			return errors.New("set checkbox-path: checkbox-source is path")
		}
		if !filepath.IsAbs(s.Path) {
			return fmt.Errorf("set checkbox-path to an absolute path: it is %q", s.Path)
		}
	case "snap":
		if s.Channel != "" && !channelName.MatchString(s.Channel) {
			return fmt.Errorf("set checkbox-channel to a snap channel such as 24.04/stable: it is %q", s.Channel)
		}
	case "deb":
		if s.Channel != "" && !ppaName.MatchString(s.Channel) {
			return fmt.Errorf("set checkbox-channel to a PPA such as ppa:checkbox-dev/stable: it is %q", s.Channel)
		}
	default:
		return fmt.Errorf("set checkbox-source to snap, deb or path: it is %q", s.Kind)
	}
	for _, p := range s.ExtraPackages {
		if !packageName.MatchString(p) {
			return fmt.Errorf("set extra-packages to names of Debian packages: %q is none", p)
		}
	}
	return nil
}

// Install makes checkbox-cli available and returns its path. It can be repeated; what is installed already is left alone. base is the
// machine's release, such as 24.04, which names the snap track where no channel is given.
func (in *Installer) Install(ctx context.Context, s Source, base string) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, in.Timeout)
	defer cancel()
	var path string
	var err error
	switch s.Kind {
	case "path":
		path, err = in.fromPath(s)
	case "snap":
		path, err = in.fromSnap(ctx, s, base)
	case "deb":
		path, err = in.fromDeb(ctx, s)
	}
	if err != nil {
		return "", err
	}
	if s.Kind != "deb" {
		if err := in.packages(ctx, s.ExtraPackages); err != nil {
			return "", err
		}
	}
	return path, nil
}

// Find returns the path of checkbox-cli where it is installed already, and changes nothing.
func (in *Installer) Find(s Source) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	switch s.Kind {
	case "path":
		return in.fromPath(s)
	case "snap":
		return in.snapCLI(), nil
	}
	path, err := in.LookPath("checkbox-cli")
	if err != nil {
		return "", errors.New("cannot find checkbox-cli: it was installed when the run began (set checkbox-source)")
	}
	return path, nil
}

func (in *Installer) snapCLI() string { return filepath.Join(in.SnapBin, "checkbox.checkbox-cli") }

func (in *Installer) fromPath(s Source) (string, error) {
	info, err := os.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("set checkbox-path to where checkbox-cli is: there is nothing at %s", s.Path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot use checkbox-path: %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("set checkbox-path to where checkbox-cli is: %s is no program", s.Path)
	}
	return s.Path, nil
}

// seedTimeout is how long snapd may take over the snaps that came with the machine's image.
const seedTimeout = 10 * time.Minute

func (in *Installer) fromSnap(ctx context.Context, s Source, base string) (string, error) {
	if _, err := in.LookPath("snap"); err != nil {
		return "", errors.New("cannot install the Checkbox snap: this machine has no snapd (set checkbox-source to deb or path)")
	}
	channel := s.Channel
	if channel == "" {
		if base == "" {
			return "", errors.New("set checkbox-channel: the machine's release is not known")
		}
		channel = base + "/stable"
	}
	channel = fullChannel(channel)
	// After its first boot snapd is busy with the snaps that came with the image, and refuses others. An old one cannot wait.
	seeded, cancel := context.WithTimeout(ctx, seedTimeout)
	in.Run(seeded, in.Env, "snap", "wait", "system", "seed.loaded")
	cancel()
	in.snapProxy(ctx)
	// The front end needs the runtime of its series, which holds Checkbox itself: of the same risk, or edge would run what is stable.
	if m := snapSeries.FindStringSubmatch(channel); m != nil {
		risk := strings.Split(channel, "/")[1]
		if err := in.snap(ctx, "checkbox"+m[1], "latest/"+risk, ""); err != nil {
			return "", err
		}
	}
	confinement := "--classic"
	if strings.HasPrefix(channel, "uc") {
		confinement = "--devmode"
	}
	if err := in.snap(ctx, "checkbox", channel, confinement); err != nil {
		return "", err
	}
	for _, service := range []string{"checkbox.agent", "checkbox.remote-slave", "checkbox.service"} {
		// Which of these names exists depends on the version; that one is stopped is checked below.
		in.Run(ctx, in.Env, "snap", "stop", "--disable", service)
	}
	if out, err := in.Run(ctx, in.Env, "snap", "services", "checkbox"); err == nil {
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) >= 3 && strings.HasPrefix(fields[0], "checkbox.") && (fields[1] == "enabled" || fields[2] == "active") {
				if out, err := in.Run(ctx, in.Env, "snap", "stop", "--disable", fields[0]); err != nil {
					return "", failed("stop "+fields[0]+", which lets anybody on the network run commands as root", out, err)
				}
			}
		}
	}
	return in.snapCLI(), nil
}

// fullChannel writes a channel as `snap list` shows it: with its track and its risk.
func fullChannel(channel string) string {
	switch first, _, more := strings.Cut(channel, "/"); {
	case snapRisk.MatchString(first):
		return "latest/" + channel
	case !more:
		return channel + "/stable"
	}
	return channel
}

// snapProxy tells snapd of the proxies: it is snapd that reaches the store, and it does not know the environment of who asks it.
// What an operator, or Juju's snap-http-proxy, has set there stays.
func (in *Installer) snapProxy(ctx context.Context) {
	for _, p := range []struct{ key, value string }{{"proxy.http", in.Proxy.HTTP}, {"proxy.https", in.Proxy.HTTPS}} {
		if p.value == "" {
			continue
		}
		if out, err := in.Run(ctx, in.Env, "snap", "get", "system", p.key); err == nil && strings.TrimSpace(out) != "" {
			continue
		}
		in.Run(ctx, in.Env, "snap", "set", "system", p.key+"="+p.value) // that it failed shows when the store cannot be reached
	}
}

func (in *Installer) snap(ctx context.Context, name, channel, confinement string) error {
	args := []string{"install", name}
	if out, err := in.Run(ctx, in.Env, "snap", "list", name); err == nil {
		if slices.Contains(strings.Fields(out), channel) {
			return nil
		}
		args = []string{"refresh", name}
	}
	args = append(args, "--channel="+channel)
	if confinement != "" {
		args = append(args, confinement)
	}
	if out, err := in.Run(ctx, in.Env, "snap", args...); err != nil {
		return failed("install snap "+name, out, err)
	}
	return nil
}

// IsSnap reports whether the program at path is a snap's: such a Checkbox sets PROVIDERPATH itself.
func IsSnap(path string) bool {
	if strings.HasPrefix(path, "/snap/") {
		return true
	}
	target, err := filepath.EvalSymlinks(path)
	return err == nil && (filepath.Base(target) == "snap" || strings.HasPrefix(target, "/snap/"))
}

// HoldSnaps keeps snapd from replacing Checkbox's snaps for limit: a session does not survive that. It returns those that were not
// held before, for ReleaseSnaps. A runtime has no program of its own that runs, so that snapd would not see that it is in use.
func HoldSnaps(ctx context.Context, run Runner, env []string, limit time.Duration) ([]string, error) {
	out, err := run(ctx, env, "snap", "list")
	if err != nil {
		return nil, failed("list snaps", out, err)
	}
	var names []string
	for line := range strings.Lines(out) {
		// Name, Version, Rev, Tracking, Publisher, Notes
		fields := strings.Fields(line)
		if len(fields) >= 6 && strings.HasPrefix(fields[0], "checkbox") && !slices.Contains(strings.Split(fields[5], ","), "held") {
			names = append(names, fields[0])
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	hours := max(1, int64((limit+time.Hour-1)/time.Hour))
	out, err = run(ctx, env, "snap", append([]string{"refresh", fmt.Sprintf("--hold=%dh", hours)}, names...)...)
	if err != nil {
		return nil, failed("hold "+strings.Join(names, ", "), out, err)
	}
	return names, nil
}

// ReleaseSnaps ends what HoldSnaps has begun.
func ReleaseSnaps(ctx context.Context, run Runner, env, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if out, err := run(ctx, env, "snap", append([]string{"refresh", "--unhold"}, names...)...); err != nil {
		return failed("release "+strings.Join(names, ", "), out, err)
	}
	return nil
}

func (in *Installer) fromDeb(ctx context.Context, s Source) (string, error) {
	if _, err := in.LookPath("apt-get"); err != nil {
		return "", errors.New("cannot install Checkbox's Debian packages: this machine has no apt (set checkbox-source to snap or path)")
	}
	// Masked before it is installed, its unit never starts, not even for a moment.
	if _, err := in.LookPath("systemctl"); err == nil {
		if out, err := in.Run(ctx, in.Env, "systemctl", "mask", "--now", "checkbox-ng.service"); err != nil {
			// Without systemd running the link can be made all the same; with neither, nothing would start the unit.
			if linkErr := maskUnit("/etc/systemd/system", "checkbox-ng.service"); linkErr != nil {
				return "", failed("mask checkbox-ng.service, which lets anybody on the network run commands as root", out, errors.Join(err, linkErr))
			}
		}
	}
	if s.Channel != "" && !in.hasPPA(s.Channel) {
		if _, err := in.LookPath("add-apt-repository"); err != nil {
			if err := in.apt(ctx, "--no-install-recommends", "install", "software-properties-common"); err != nil {
				return "", err
			}
		}
		if out, err := in.unlocked(ctx, "add-apt-repository", "--yes", s.Channel); err != nil {
			return "", failed("add "+s.Channel, out, err)
		}
	}
	if err := in.packages(ctx, []string{"checkbox-ng"}); err != nil {
		return "", err
	}
	extra := s.ExtraPackages
	if len(extra) == 0 {
		// checkbox-ng alone knows no test.
		for _, name := range defaultProviders {
			if _, err := in.Run(ctx, in.Env, "apt-cache", "show", name); err == nil {
				extra = append(extra, name)
			}
		}
	}
	if err := in.packages(ctx, extra); err != nil {
		return "", err
	}
	path, err := in.LookPath("checkbox-cli")
	if err != nil {
		return "", errors.New("cannot find checkbox-cli although package checkbox-ng is installed (set checkbox-channel to a PPA with a newer one)")
	}
	return path, nil
}

// defaultProviders are the packages with the certification plans, of which those are installed that the archive has.
var defaultProviders = []string{"checkbox-provider-certification-client", "checkbox-provider-certification-server", "checkbox-provider-sru"}

// hasPPA reports whether apt knows the PPA already: adding it takes the network each time, which may be missing after a reboot.
func (in *Installer) hasPPA(ppa string) bool {
	owner, name, _ := strings.Cut(strings.TrimPrefix(ppa, "ppa:"), "/")
	path := "/" + owner + "/" + name[strings.LastIndex(name, "/")+1:] + "/"
	lists, _ := filepath.Glob(filepath.Join(in.Sources, "*.list"))
	sources, _ := filepath.Glob(filepath.Join(in.Sources, "*.sources"))
	for _, file := range append(lists, sources...) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			for _, host := range []string{"ppa.launchpadcontent.net", "ppa.launchpad.net", "private-ppa.launchpadcontent.net"} {
				if strings.Contains(line, host+path) && !strings.HasPrefix(line, "#") {
					return true
				}
			}
		}
	}
	return false
}

// packages installs those of the Debian packages that are not installed, with what they recommend: tests' tools are among that.
func (in *Installer) packages(ctx context.Context, names []string) error {
	var missing []string
	for _, name := range names {
		plain := strings.FieldsFunc(name, func(r rune) bool { return r == '=' || r == ':' })[0]
		out, err := in.Run(ctx, in.Env, "dpkg-query", "-W", "-f", "${Status}", plain)
		if err != nil || !strings.HasPrefix(out, "install ok installed") || strings.Contains(name, "=") {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := in.LookPath("apt-get"); err != nil {
		return fmt.Errorf("cannot install %s: this machine has no apt (empty extra-packages)", strings.Join(missing, ", "))
	}
	// One broken archive among many is no reason to stop.
	var updateErr error
	if out, err := in.unlocked(ctx, "apt-get", "-q", "update"); err != nil {
		updateErr = failed("update the package lists", out, err)
	}
	if err := in.apt(ctx, append([]string{"install"}, missing...)...); err != nil {
		if updateErr != nil {
			return fmt.Errorf("%w; before that: %w", err, updateErr)
		}
		return err
	}
	return nil
}

func (in *Installer) apt(ctx context.Context, args ...string) error {
	// Another apt may hold the lock: unattended upgrades do, after each boot.
	full := append([]string{"-q", "-y", "-o", "DPkg::Lock::Timeout=600"}, args...)
	out, err := in.unlocked(ctx, "apt-get", full...)
	if err != nil && strings.Contains(out, "dpkg was interrupted") { // by a power cut, perhaps of an earlier try
		if out, err := in.unlocked(ctx, "dpkg", "--configure", "-a"); err != nil {
			return failed("mend the packages that a power cut has left half installed", out, err)
		}
		out, err = in.unlocked(ctx, "apt-get", full...)
	}
	if err != nil {
		return failed(strings.Join(args, " "), out, err)
	}
	return nil
}

// unlocked runs a program of apt's, again as long as another one holds a lock for which apt itself does not wait: that of the lists is one.
func (in *Installer) unlocked(ctx context.Context, name string, args ...string) (string, error) {
	patience := in.Patience
	if patience == 0 {
		patience = 5 * time.Second
	}
	env := append(slices.Clone(in.Env), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	for deadline := time.Now().Add(120 * patience); ; {
		out, err := in.Run(ctx, env, name, args...)
		if err == nil || !lockHeld.MatchString(out) || time.Now().After(deadline) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(patience):
		}
	}
}

var lockHeld = regexp.MustCompile(`Could not get lock|Unable to lock directory|Unable to acquire the dpkg frontend lock|is another process using it|is locked by another process`)

// maskUnit does what `systemctl mask` does where no systemd answers.
func maskUnit(dir, unit string) error {
	path := filepath.Join(dir, unit)
	if target, err := os.Readlink(path); err == nil && target == "/dev/null" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Symlink("/dev/null", path)
}

// failed is the error for a command that failed: what was wanted, and the last line that says why.
func failed(what, out string, err error) error {
	reason := ""
	for line := range strings.Lines(out) {
		text := strings.TrimSpace(line)
		if strings.HasPrefix(text, "E: ") || strings.HasPrefix(text, "error: ") {
			reason = text
			break
		}
		if text != "" {
			reason = text
		}
	}
	if reason == "" {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	return fmt.Errorf("cannot %s: %s (%w)", what, clip(reason, 300), err)
}

// ProxyEnv returns the variables for Juju's proxy settings, in both spellings, since programs differ in which they read.
func ProxyEnv(http, https, ftp, no string) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"http_proxy", http}, {"https_proxy", https}, {"ftp_proxy", ftp}, {"no_proxy", no},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToUpper(v.name)+"="+v.value)
		}
	}
	return env
}
