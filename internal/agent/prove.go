package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"certlab/internal/agent/apt"
	"certlab/internal/order"
)

// What a boot is, is looked at anew each time: when the agent starts, before Checkbox goes on after an interruption, and at the end. A boot that was
// proved and is not any more has had its packages changed under it.

// look says what this boot of the machine is.
func (t *attempt) look() order.Boot {
	a := t.agent
	b := order.Boot{ID: a.bootID, At: a.now(), Verified: a.now()}
	sub := t.rec().Run.Spec.Subject
	h := t.holding()
	var problems []string
	var err error
	if b.Kernel, err = a.running(); err != nil {
		problems = append(problems, err.Error())
	}
	have, err := a.packages().Packages()
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, prefix := range []string{"linux-image-", "linux-image-unsigned-"} {
		if v := have[prefix+b.Kernel].Version; v != "" && b.Version == "" {
			b.Version = v
		}
	}
	if sub.Kind == order.SubjectKernel {
		switch want := sub.Release(); {
		case b.Kernel != want:
			problems = append(problems, fmt.Sprintf("kernel %s runs, not %s", b.Kernel, want))
		case !apt.IsVersion(b.Version, sub.Version):
			problems = append(problems, fmt.Sprintf("kernel %s is of package version %q, not %s", b.Kernel, b.Version, sub.Version))
		default:
			if built := builtAs(a.opts.Subject.SignatureFile, sub); built != "" && built != sub.Version {
				problems = append(problems, fmt.Sprintf("the kernel that runs was built as %s, not %s", built, sub.Version))
			}
		}
	}
	switch {
	case h == nil || len(h.Set.Packages) == 0:
		problems = append(problems, "the subject's packages are not known to be installed")
	case err == nil:
		if err := apt.Verify(h.Set.Packages, have); err != nil {
			problems = append(problems, err.Error())
		}
	}
	b.Problem = strings.Join(problems, "; ")
	b.Proved = b.Problem == ""
	return b
}

// builtAs is the version that Ubuntu's kernel says it was built as, such as 6.8.0-51.52 of "Ubuntu 6.8.0-51.52-generic 6.8.12". Empty where it does not
// say, or says that of another kernel.
func builtAs(path string, sub *order.Subject) string {
	text, err := os.ReadFile(path)
	f := strings.Fields(string(text))
	if err != nil || len(f) < 2 || f[0] != "Ubuntu" || sub.Flavour == "" {
		return ""
	}
	version, ok := strings.CutSuffix(f[1], "-"+sub.Flavour)
	if !ok || (&order.Subject{Version: version, Flavour: sub.Flavour}).Release() != sub.Release() {
		return ""
	}
	return version
}

// noteBoot takes down what this boot is.
func (t *attempt) noteBoot() order.Boot {
	if t.rec().Run.Spec.Subject == nil {
		return order.Boot{Proved: true}
	}
	b := t.look()
	t.agent.touch(t.run, func(rec *record) {
		s := order.SubjectState{}
		if rec.Run.Subject != nil {
			s = *rec.Run.Subject
		}
		s.Boots = slices.Clone(s.Boots)
		i := slices.IndexFunc(s.Boots, func(o order.Boot) bool { return o.ID == b.ID })
		if i >= 0 {
			b.At, b.Tests = s.Boots[i].At, s.Boots[i].Tests
			s.Boots[i] = b
		} else {
			s.Boots = append(s.Boots, b)
		}
		rec.Run.Subject = &s
	})
	return b
}

// booted decides what the machine has come up with after its subject was selected.
func (t *attempt) booted(h *holding) error {
	if err := t.proved(); err != nil {
		return err
	}
	if err := t.agent.update(t.run, func(rec *record) {
		s := *rec.Run.Subject
		s.Step, s.Problem = order.SubjectProved, ""
		rec.Run.Subject = &s
	}); err != nil {
		return err
	}
	h.Step = holdProved
	return t.agent.hold(*h)
}

// proved fails unless the machine runs the attempt's subject now, and has in all of its boots in which jobs ran. It is nil where there is no subject.
func (t *attempt) proved() error {
	b := t.noteBoot()
	rec := t.rec()
	sub := rec.Run.Spec.Subject
	if sub == nil {
		return nil
	}
	tested := false
	for _, boot := range rec.Run.Subject.Boots {
		tested = tested || boot.Tests
		if boot.Tests && !boot.Proved && b.Proved {
			return t.unproved(fmt.Sprintf("jobs ran in boot %s, in which %s", boot.ID, boot.Problem))
		}
	}
	if b.Proved {
		return nil
	}
	if sub.Kind == order.SubjectKernel && b.Kernel != "" && b.Kernel != sub.Release() {
		if standing, why := t.stillChosen(); standing {
			// The loader was to start the subject, and the machine runs something else.
			t.stepTo(order.SubjectFell, b.Problem)
			t.lastWords()
			return fail(order.FailKernelBoot, "kernel %s was selected, and the machine came up with %s by itself: %s did not boot on it, or did not stay up (its console and what the kernel has left behind are among the run's files, if there is any)",
				sub.Release(), b.Kernel, sub.Release())
		} else if why != "" {
			b.Problem += ", as " + why
		}
	}
	if tested {
		return t.unproved(b.Problem)
	}
	return t.refuse(fmt.Errorf("cannot prove that the machine runs %s %s: %s", sub.Source, sub.Version, b.Problem))
}

func (t *attempt) unproved(why string) error {
	t.agent.touch(t.run, func(rec *record) {
		s := *rec.Run.Subject
		s.Problem = why
		rec.Run.Subject = &s
	})
	sub := t.rec().Run.Spec.Subject
	return fail(order.FailUnproved, "the results say nothing about %s %s: %s (something on the machine changed its kernel or packages; run it again)", sub.Source, sub.Version, why)
}

// stillChosen reports whether the subject still is what the boot loader starts by default, and if not why.
func (t *attempt) stillChosen() (bool, string) {
	sub := t.rec().Run.Spec.Subject
	h := t.holding()
	if h == nil || h.Step != holdSelected && h.Step != holdProved {
		return false, "it had not been selected"
	}
	loader, err := t.agent.loader()
	if err != nil {
		return false, err.Error()
	}
	d, err := loader.Default()
	switch {
	case err != nil:
		return false, err.Error()
	case !loader.Chosen() || d.Release != sub.Release():
		return false, fmt.Sprintf("something on the machine has made %q what it boots by default", d.Entry)
	}
	return true, ""
}

// lastWords keeps what the boot before this one has left behind.
func (t *attempt) lastWords() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*journalTime)
	defer cancel()
	if err := makeDir(t.dir()); err != nil {
		t.agent.opts.Log.Warn("cannot keep what the kernel has left of its end", "error", err)
		return
	}
	t.collect(ctx, min(maxEvidence, max(1, t.rec().Start)), "")
}

// removeAll removes files and directories, durably.
func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return syncDirs(paths...)
}

func syncDirs(paths ...string) error {
	for _, path := range paths {
		f, err := os.Open(filepath.Dir(path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return nil
}

// syncAll has what was written below root be on its disk: a kernel whose modules a power cut takes is none.
func syncAll(root string) {
	for _, dir := range []string{root, filepath.Join(root, "boot"), filepath.Join(root, "boot/efi")} {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		unix.Syncfs(int(f.Fd()))
		f.Close()
	}
}
