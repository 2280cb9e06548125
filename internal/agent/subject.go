package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"certlab/internal/agent/apt"
	"certlab/internal/agent/bootloader"
	"certlab/internal/durable"
	"certlab/internal/order"
)

// SubjectOptions say how a subject is installed, selected and booted. The zero value of each field is good for a real machine.
type SubjectOptions struct {
	Root          string        // of the machine's file system; /
	Env           []string      // what apt, dpkg and update-grub get besides
	ReleaseFile   string        // says what uname -r does; /proc/sys/kernel/osrelease
	SignatureFile string        // says which version of the package the kernel was built as, on Ubuntu; /proc/version_signature
	RebootCommand []string      // systemctl reboot
	RebootLimit   time.Duration // how long the machine may take to go down; 10 min
	TellLimit     time.Duration // how long the controller is waited for before that; 1 min
	LockWait      time.Duration // how long another program may hold apt's locks; 15 min
	Patience      time.Duration // between two tries at them; 5 s
	Timeout       time.Duration // of one command of apt's; 45 min
	RetryDirty    time.Duration // between two tries to put a dirty machine back; 1 h
	DeliverFirst  time.Duration // how long delivering a run goes before putting its machine back; 10 min
}

func (o *SubjectOptions) defaults() {
	text := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	text(&o.Root, "/")
	text(&o.ReleaseFile, "/proc/sys/kernel/osrelease")
	text(&o.SignatureFile, "/proc/version_signature")
	if len(o.RebootCommand) == 0 {
		o.RebootCommand = []string{"systemctl", "reboot"}
	}
	set(&o.RebootLimit, 10*time.Minute)
	set(&o.TellLimit, time.Minute)
	set(&o.RetryDirty, time.Hour)
	set(&o.DeliverFirst, 10*time.Minute)
}

// bootQuiet is how long a machine may keep silent while it goes down and boots a subject.
const bootQuiet = 15 * time.Minute

// packages is the machine's apt.
func (a *Agent) packages() *apt.System {
	o := a.opts.Subject
	return &apt.System{Root: o.Root, Run: a.runProgram, Env: a.subjectEnv(), Timeout: o.Timeout, LockWait: o.LockWait, Patience: o.Patience}
}

func (a *Agent) subjectEnv() []string {
	return append(a.baseEnv(a.desiredNow()), a.opts.Subject.Env...)
}

// loader is the machine's boot loader.
func (a *Agent) loader() (bootloader.Loader, error) {
	return bootloader.Find(a.opts.Subject.Root, bootloader.LookPath(a.opts.Path), func(ctx context.Context, name string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		return a.runProgram(ctx, a.subjectEnv(), name, args...)
	})
}

// runProgram runs a program that is in the agent's PATH, which need not be that of this process.
func (a *Agent) runProgram(ctx context.Context, env []string, name string, args ...string) (string, error) {
	if !filepath.IsAbs(name) {
		path, err := lookPath(a.opts.Path, name)
		if err != nil {
			return "", err
		}
		name = path
	}
	return a.opts.Run(ctx, env, name, args...)
}

// running is what uname -r says.
func (a *Agent) running() (string, error) {
	text, err := os.ReadFile(a.opts.Subject.ReleaseFile)
	if err != nil {
		return "", fmt.Errorf("cannot tell which kernel runs: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// install has the machine run the attempt's subject: installed, selected, booted, proved. It returns at once where there is none. Killed at any
// line, it is called again and goes on.
func (t *attempt) install(ctx context.Context) error {
	a := t.agent
	sub := t.rec().Run.Spec.Subject
	if sub == nil {
		return nil
	}
	if h := t.holding(); h != nil && h.Step == holdProved {
		t.noteBoot()
		return t.proved()
	}
	now, err := a.running()
	if err != nil {
		return t.refuse(err)
	}
	if err := a.update(t.run, func(rec *record) {
		rec.Step = stepSubject
		rec.Run.State, rec.Run.Progress = order.Running, order.Progress{Phase: order.Installing}
		if rec.Run.Started.IsZero() {
			rec.Run.Started = a.now()
		}
		rec.Run.BootID = a.bootID
		if rec.Run.Subject == nil {
			rec.Run.Subject = &order.SubjectState{Step: order.SubjectInstalling, Before: now}
		}
	}); err != nil {
		return err
	}
	t.noteBoot()
	h := t.holding()
	if h != nil && h.Step == holdSelected {
		if h.Boot == a.bootID && t.mustReboot(h) {
			return t.reboot(ctx, h)
		}
		return t.booted(h)
	}
	if h, err = t.noted(ctx, sub, now); err == nil {
		if err = t.change(ctx, h); err == nil {
			err = t.choose(ctx, h)
		}
	}
	if ctx.Err() != nil {
		return errCancelled
	}
	var undurable *undurableError
	switch {
	case errors.As(err, &undurable):
		return undurable.err
	case err != nil:
		return t.refuse(err)
	}
	if !t.mustReboot(h) {
		return t.booted(h)
	}
	return t.reboot(ctx, h)
}

// undurableError is that a step could not be written down, which is no fault of the subject's and tried again.
type undurableError struct{ err error }

func (e *undurableError) Error() string { return e.err.Error() }

// holdOn is Agent.hold for a step of the attempt's.
func (t *attempt) holdOn(h *holding, step holdStep) error {
	h.Step = step
	if err := t.agent.hold(*h); err != nil {
		return &undurableError{err}
	}
	return nil
}

// noted writes down what there is.
func (t *attempt) noted(ctx context.Context, sub *order.Subject, running string) (*holding, error) {
	a := t.agent
	system := a.packages()
	if release := system.Release(); release != "" && sub.Series != "" && release != sub.Series {
		return nil, fmt.Errorf("cannot install a subject of %s: this machine runs %s", sub.Series, release)
	}
	var loader bootloader.Loader
	var err error
	if sub.Kind == order.SubjectKernel {
		// Before anything is changed: a kernel that cannot be selected need not be installed.
		if loader, err = a.loader(); err != nil {
			return nil, err
		}
	}
	if err := system.Repair(ctx); err != nil {
		return nil, err
	}
	if h := t.holding(); h != nil {
		return h, nil
	}
	// What a subject before has left on a machine that was not to be put back is not what there was.
	if err := system.Close(nil); err != nil {
		return nil, err
	}
	rec := t.rec()
	h := &holding{Run: rec.Run.Run, Attempt: rec.Run.Attempt, Subject: *sub, Since: a.now(), Before: before{Kernel: running}}
	if loader != nil {
		if loader.Left() {
			if err := loader.Restore(ctx); err != nil {
				return nil, err
			}
		}
		if h.Before.Default, err = loader.Default(); err != nil {
			return nil, err
		}
	}
	have, err := system.Packages()
	if err != nil {
		return nil, err
	}
	h.Before.Packages = have.Versions()
	return h, t.holdOn(h, holdNoted)
}

// change installs the subject's packages.
func (t *attempt) change(ctx context.Context, h *holding) error {
	a := t.agent
	system := a.packages()
	have, err := system.Packages()
	if err != nil {
		return err
	}
	if h.Opened, err = system.Open(ctx, &h.Subject); err != nil {
		return err
	}
	set, err := system.Resolve(ctx, &h.Subject, h.Opened.Where, h.Before.Kernel, have)
	if err != nil {
		return err
	}
	if err := system.Pin(h.Opened, slices.Concat(set.Packages, set.Optional)); err != nil {
		return err
	}
	if h.Set, err = system.Try(ctx, set); err != nil {
		return err
	}
	var replaced []string
	for _, p := range h.Set.Packages {
		// By what there was before, not by what a try that was cut off has left.
		if was := h.Before.Packages[p.Name]; was != "" && was != p.Version {
			if h.Before.Replaced == nil {
				h.Before.Replaced = make(apt.Packages)
			}
			if _, noted := h.Before.Replaced[p.Name]; !noted {
				h.Before.Replaced[p.Name] = have[p.Name]
			}
			replaced = append(replaced, p.Name)
		}
	}
	if h.Subject.Restore && len(replaced) > 0 {
		if h.Before.Auto == nil {
			if h.Before.Auto, err = system.Auto(replaced); err != nil {
				return err
			}
		}
		if err := system.Keep(ctx, h.Set, have, filepath.Join(a.opts.Dir, keptDir)); err != nil {
			return err
		}
	}
	if err := t.holdOn(h, holdInstalling); err != nil {
		return err
	}
	if err := system.Install(ctx, h.Set); err != nil {
		return err
	}
	if have, err = system.Packages(); err != nil {
		return err
	}
	h.Added = nil
	for name := range have {
		if _, ok := h.Before.Packages[name]; !ok {
			h.Added = append(h.Added, name)
		}
	}
	slices.Sort(h.Added)
	return a.update(t.run, func(rec *record) {
		s := *rec.Run.Subject
		s.Installed = slices.Clone(h.Set.Packages)
		s.Lacking = slices.Clone(h.Set.Lacking)
		rec.Run.Subject = &s
	})
}

// choose makes a kernel the default of the next boots, and says that the machine goes down.
func (t *attempt) choose(ctx context.Context, h *holding) error {
	a := t.agent
	if err := t.holdOn(h, holdSelecting); err != nil {
		return err
	}
	if h.Subject.Kind == order.SubjectKernel {
		release := h.Subject.Release()
		image := filepath.Join(a.opts.Subject.Root, "boot", "vmlinuz-"+release)
		if !exists(image) {
			return fmt.Errorf("cannot select kernel %s: its package is installed, and there is no /boot/vmlinuz-%s", release, release)
		}
		loader, err := a.loader()
		if err != nil {
			return err
		}
		if err := loader.Select(ctx, release); err != nil {
			return err
		}
		durable.SyncDir(filepath.Dir(image))
	}
	syncAll(a.opts.Subject.Root)
	return t.holdOn(h, holdSelected)
}

// mustReboot reports whether the subject takes a boot: a kernel does, other packages where they say so.
func (t *attempt) mustReboot(h *holding) bool {
	return h.Subject.Kind == order.SubjectKernel || exists(filepath.Join(t.agent.opts.Subject.Root, "run/reboot-required"))
}

// reboot takes the machine down into the subject. The controller is told first, as silence then means something else.
func (t *attempt) reboot(ctx context.Context, h *holding) error {
	a := t.agent
	if err := a.update(t.run, func(rec *record) {
		rec.Run.Progress = order.Progress{Phase: order.Booting, QuietSeconds: int64(bootQuiet / time.Second)}
		s := *rec.Run.Subject
		s.Step = order.SubjectSelected
		rec.Run.Subject = &s
	}); err != nil {
		return err
	}
	a.toldBy(ctx, t.run, a.opts.Subject.TellLimit)
	if ctx.Err() != nil {
		return errCancelled
	}
	err := a.goDown(ctx)
	if ctx.Err() != nil {
		return errCancelled
	}
	return t.refuse(err)
}

// goDown reboots the machine. It returns when ctx ends, as it does when the machine goes down, or with why that did not happen.
func (a *Agent) goDown(ctx context.Context) error {
	command := a.opts.Subject.RebootCommand
	a.opts.Log.Warn("the machine is rebooted", "command", strings.Join(command, " "))
	said, cancel := context.WithTimeout(ctx, a.opts.Subject.RebootLimit)
	defer cancel()
	out, err := a.runProgram(said, a.baseEnv(order.AgentDesired{}), command[0], command[1:]...)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot reboot the machine: %w: %s", err, clip(strings.TrimSpace(out), 300))
	}
	<-said.Done()
	return fmt.Errorf("cannot reboot the machine: it is still up %v after it was told to go down", a.opts.Subject.RebootLimit)
}

// toldBy waits until the controller knows all of a run, as long as it answers, or until limit.
func (a *Agent) toldBy(ctx context.Context, r *run, limit time.Duration) {
	deadline := time.Now().Add(limit)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		a.mu.Lock()
		changed := a.changed
		done := r.reported >= r.version || a.remote == nil || a.controller != "enrolled"
		a.mu.Unlock()
		if done {
			return
		}
		untilChanged(ctx, changed, min(time.Second, time.Until(deadline)))
	}
}

// refuse is the failure of a subject that could not be installed or selected.
func (t *attempt) refuse(err error) error {
	var failed *failure
	if errors.As(err, &failed) {
		return err
	}
	t.stepTo(order.SubjectRefused, err.Error())
	return fail(order.FailWrongKernel, "%s", err)
}

// stepTo notes where the subject is, and why.
func (t *attempt) stepTo(step, problem string) {
	t.agent.touch(t.run, func(rec *record) {
		s := order.SubjectState{}
		if rec.Run.Subject != nil {
			s = *rec.Run.Subject
		}
		s.Step, s.Problem = step, problem
		rec.Run.Subject = &s
	})
}
