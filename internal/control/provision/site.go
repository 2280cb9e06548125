package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"

	"certlab/internal/cert"
)

// A site brings programs of its own: steps that make a machine ready for a deployment, listed in prepare.yaml, and others that are asked for by
// name. They are run on the controller, as its user, with a small environment that names the machine.
type site struct {
	dir   string
	Steps []siteStep `yaml:"steps"`
}

// siteStep is one step that a reservation may ask for.
type siteStep struct {
	Name        string   `yaml:"name"`
	Program     string   `yaml:"program"` // below prepare/
	Timeout     string   `yaml:"timeout"` // such as 5m
	Classes     []string `yaml:"classes"` // parts of machine classes' names for which it is; empty: all
	Description string   `yaml:"description"`
}

const (
	siteTimeout = 10 * time.Minute // of a step that names none
	siteLongest = 6 * time.Hour
	siteOutput  = 8 << 10 // bytes of a step's output that are kept in the machine's log
)

// loadSite reads what a site brings; nothing if dir is empty or has no list.
func loadSite(dir string) (site, error) {
	s := site{dir: dir}
	if dir == "" {
		return s, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "prepare.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("cannot read the site's steps: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, cert.Errorf(cert.Conflict, "cannot use the site's prepare.yaml: %v", err)
	}
	for n, step := range s.Steps {
		if step.Name == "" || step.Program == "" || !filepath.IsLocal(step.Program) {
			return s, cert.Errorf(cert.Conflict, "cannot use the site's prepare.yaml: step %d needs a name and a program below prepare/", n+1)
		}
		if d, err := step.limit(); err != nil || d <= 0 || d > siteLongest {
			return s, cert.Errorf(cert.Conflict, "cannot use the site's prepare.yaml: the timeout of step %s must be between 1s and %s", step.Name, siteLongest)
		}
	}
	return s, nil
}

func (s siteStep) limit() (time.Duration, error) {
	if s.Timeout == "" {
		return siteTimeout, nil
	}
	return time.ParseDuration(s.Timeout)
}

func (s site) find(name string) (siteStep, bool) {
	n := slices.IndexFunc(s.Steps, func(x siteStep) bool { return x.Name == name })
	if n < 0 {
		return siteStep{}, false
	}
	return s.Steps[n], true
}

// has reports which of some steps the site does not have.
func (s site) has(names []string) error {
	var there []string
	for _, step := range s.Steps {
		there = append(there, step.Name)
	}
	for n, name := range names {
		if _, ok := s.find(name); !ok {
			return cert.Errorf(cert.Invalid, "cannot prepare %q: the site has no such step (there are: %s)", name, first(strings.Join(there, ", "), "none"))
		}
		if slices.Contains(names[:n], name) {
			return cert.Errorf(cert.Invalid, "cannot prepare %q twice", name)
		}
	}
	return nil
}

// prepare runs one of the site's steps on the machine. A step that was cut off is run again: they must be such that this does no harm.
func (a *at) prepare(ctx context.Context) (bool, error) {
	_, conf, _ := a.f.settings()
	name := a.d.Step
	all, err := loadSite(conf.Site)
	step, found := all.find(name)
	if err != nil || !found {
		return a.fail(ctx, cert.FailPrepare, fmt.Sprintf("the site has no step %s: %v", name, err))
	}
	text, failed := fmt.Sprintf("step %s does not apply to this class", name), error(nil)
	if step.applies(a.d.Class) {
		limit, _ := step.limit()
		out := limited{most: siteOutput}
		run, cancel := context.WithTimeout(ctx, limit)
		a.f.mu.Lock()
		a.f.stops[a.d.ID] = cancel
		a.f.mu.Unlock()
		began := a.f.Now()
		failed = a.f.Run(run, filepath.Join(all.dir, "prepare", step.Program), a.environment(), &out)
		expired := errors.Is(run.Err(), context.DeadlineExceeded)
		cancel()
		a.f.mu.Lock()
		delete(a.f.stops, a.d.ID)
		a.f.mu.Unlock()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if expired {
			failed = fmt.Errorf("it was ended: it took longer than %s", limit)
		}
		text = fmt.Sprintf("step %s took %.1f s", name, a.f.Now().Sub(began).Seconds())
		if printed := strings.TrimSpace(out.String()); printed != "" {
			text += ": " + printed
		}
	}
	if failed != nil {
		if r, err := a.f.DB.Reservation(ctx, a.r.ID); err == nil && r.State != cert.ReservationPreparing {
			return true, nil // it was ended because the reservation is over
		}
		return a.fail(ctx, cert.FailPrepare, fmt.Sprintf("the site's step %s failed: %v\n%s", name, failed, text))
	}
	calls := a.f.counted(a.d.ID)
	return true, a.f.advance(ctx, a.d, func(e *edit) error {
		e.log("prepared", "certlab", text)
		if n := slices.Index(e.r.Want.Prepare, name); n >= 0 && n+1 < len(e.r.Want.Prepare) {
			e.step(e.r.Want.Prepare[n+1], 0)
			return nil
		}
		e.phase(cert.PhaseDeploy, stepDeploy, a.f.minutes(deployMinutes), calls)
		return nil
	})
}

func (s siteStep) applies(class string) bool {
	return len(s.Classes) == 0 || slices.ContainsFunc(s.Classes, func(c string) bool { return strings.Contains(strings.ToLower(class), strings.ToLower(c)) })
}

// environment names the machine to a program of the site.
func (a *at) environment() []string {
	out := []string{"CERTLAB_MACHINE=" + a.d.Machine, "CERTLAB_HOSTNAME=" + a.m.Machine.Hostname, "CERTLAB_SYSTEM_ID=" + a.id, "CERTLAB_ARCHITECTURE=" + a.m.Machine.Architecture,
		"CERTLAB_CLASS=" + a.d.Class, "CERTLAB_POOL=" + a.p.Pool, "CERTLAB_ZONE=" + a.p.Zone, "CERTLAB_POWER_TYPE=" + a.p.PowerType, "CERTLAB_RESERVATION=" + a.r.ID,
		"CERTLAB_HOLDER=" + a.r.Holder, "CERTLAB_RELEASE=" + a.d.Release}
	if len(a.p.Addresses) > 0 {
		out = append(out, "CERTLAB_ADDRESS="+a.p.Addresses[0])
	}
	return out
}

// SiteProgram runs one of the site's programs, by its name below the site's directory. It fails with fs.ErrNotExist if there is none.
func (f *Fleet) SiteProgram(ctx context.Context, name string, env []string, out io.Writer) error {
	_, conf, _ := f.settings()
	if conf.Site == "" || !filepath.IsLocal(name) {
		return fs.ErrNotExist
	}
	path := filepath.Join(conf.Site, name)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return f.Run(ctx, path, env, out)
}

// runSite runs a program in a process group of its own, all of which ends with ctx.
func runSite(ctx context.Context, path string, env []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin", "LANG=C.UTF-8"}, env...)
	cmd.Dir = filepath.Dir(path)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd.Run()
}

// limited keeps the end of what is written to it.
type limited struct {
	kept []byte
	most int // bytes
}

func (l *limited) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p...)
	if len(l.kept) > 2*l.most { // seldom, for it moves all of it
		l.kept = append(l.kept[:0], l.kept[len(l.kept)-l.most:]...)
	}
	return len(p), nil
}

func (l *limited) String() string {
	return strings.ToValidUTF8(string(l.kept[max(0, len(l.kept)-l.most):]), "\uFFFD")
}
