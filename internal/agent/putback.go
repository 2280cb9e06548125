package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"certlab/internal/agent/apt"
	"certlab/internal/order"
)

// A machine that is not deployed anew is put back after a run with a subject: first the run's files are in the spool, and the controller has them if it
// answers; then the kernel of before is selected and booted, as dpkg does not remove the one that runs; then packages, pins, archives and boot
// default go back to what they were, and that is looked at. Until all of it is so, the machine takes no other run.

// nextRestore is what is to be put back now, or how long it is until something may be; -1: there is nothing. a.mu must be held.
func (a *Agent) nextRestore() (*holding, time.Duration) {
	h := a.held
	if h == nil {
		return nil, -1
	}
	if r, ok := a.runs[h.Run]; ok {
		if r.rec.Step != stepEnded {
			return nil, -1
		}
		// The results first: they are on the disk, but no disk is safer than two.
		if left := a.opts.Subject.DeliverFirst - time.Since(r.endedAt); h.Step != holdGoingBack && h.Dirty == "" && h.Subject.Restore &&
			a.remote != nil && !r.rec.Run.Delivered && !r.rec.Dropped && left > 0 && !r.endedAt.IsZero() {
			return nil, left
		}
	}
	if h.Dirty != "" {
		if left := time.Until(a.dirtyAt.Add(a.opts.Subject.RetryDirty)); !a.dirtyAt.IsZero() && left > 0 {
			return nil, left
		}
	}
	copied := *h
	return &copied, 0
}

// putBack puts the machine back to what it was before a run with a subject, or notes why that cannot be.
func (a *Agent) putBack(ctx context.Context, h holding) {
	if !h.Subject.Restore {
		// Its provider does away with all of it.
		if err := a.letGo(); err != nil {
			a.trouble("write", fmt.Sprintf("cannot go on: %v (make room on the machine's disk)", plainly(err)))
			sleep(ctx, a.opts.WriteRetry)
		}
		return
	}
	err := a.restore(ctx, &h)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		a.noteRestored(h.Run, order.SubjectRestored, "") // while it is not forgotten: a kill in between has it done again
		err = a.letGo()
	}
	if err == nil {
		a.opts.Log.Info("the machine is what it was before the run", "run", h.Run)
		return
	}
	a.opts.Log.Error("the machine cannot be put back to what it was", "run", h.Run, "error", err)
	h.Dirty = err.Error()
	a.mu.Lock()
	a.dirtyAt = time.Now()
	a.mu.Unlock()
	if err := a.hold(h); err != nil {
		a.opts.Log.Error("cannot note that the machine is dirty", "error", err)
		// In memory at least, which is what the controller is told.
		a.mu.Lock()
		a.held = &h
		a.dirtyTrouble()
		a.notify()
		a.mu.Unlock()
	}
	a.noteRestored(h.Run, order.SubjectDirty, h.Dirty)
}

// noteRestored says with the run what has become of its machine.
func (a *Agent) noteRestored(id, step, problem string) {
	a.mu.Lock()
	r := a.runs[id]
	a.mu.Unlock()
	if r == nil {
		return
	}
	if err := a.update(r, func(rec *record) {
		if rec.Run.Subject != nil {
			s := *rec.Run.Subject
			s.Step = step
			if problem != "" {
				s.Problem = problem
			}
			rec.Run.Subject = &s
		}
	}); err != nil {
		a.opts.Log.Error("cannot note what has become of the machine", "run", id, "error", err)
	}
}

// restore takes a subject off the machine. Each step can be taken again.
func (a *Agent) restore(ctx context.Context, h *holding) error {
	if h.Before.Packages == nil {
		return errors.New(strings.TrimPrefix(h.Dirty, "cannot put the machine back: "))
	}
	h.Dirty = ""
	now, err := a.running()
	if err != nil {
		return err
	}
	kernel := h.Subject.Kind == order.SubjectKernel
	if kernel && now != h.Before.Kernel {
		if h.Step == holdGoingBack && h.Boot != a.bootID || h.Reboots >= maxReboots {
			return fmt.Errorf("kernel %s was selected again, and the machine came up with %s", h.Before.Kernel, now)
		}
		loader, err := a.loader()
		if err != nil {
			return err
		}
		if err := loader.Select(ctx, h.Before.Kernel); err != nil {
			return err
		}
		syncAll(a.opts.Subject.Root)
		return a.goBack(ctx, h)
	}
	system := a.packages()
	added := h.Added
	if h.Step != holdRestoring && h.Step != holdGoingBack {
		switch h.Step {
		case holdNoted, holdInstalling:
			// Cut off while apt was at work, or before: all that is new is of the subject.
			if err := system.Repair(ctx); err != nil {
				return err
			}
			have, err := system.Packages()
			if err != nil {
				return err
			}
			for name := range have {
				if _, ok := h.Before.Packages[name]; !ok {
					added = append(added, name)
				}
			}
			slices.Sort(added)
			added = slices.Compact(added)
		}
	}
	h.Added, h.Step = added, holdRestoring
	if err := a.hold(*h); err != nil {
		return err
	}
	// The pins first, which would keep the versions of before out.
	if err := system.Close(h.Opened.Lists); err != nil {
		return err
	}
	if err := system.PutBack(ctx, added, h.Before.Replaced, h.Before.Auto, filepath.Join(a.opts.Dir, keptDir)); err != nil {
		return err
	}
	if kernel {
		loader, err := a.loader()
		if err != nil {
			return err
		}
		if err := loader.Restore(ctx); err != nil {
			return err
		}
		d, err := loader.Default()
		if err != nil {
			return err
		}
		if d != h.Before.Default {
			return fmt.Errorf("the boot loader's default is %q (%s) and was %q (%s)", d.Entry, d.Release, h.Before.Default.Entry, h.Before.Default.Release)
		}
	}
	if err := a.verifyRestored(system, h); err != nil {
		return err
	}
	if !kernel && h.Reboots == 0 && exists(filepath.Join(a.opts.Subject.Root, "run/reboot-required")) {
		return a.goBack(ctx, h) // what runs is what was replaced
	}
	return nil
}

// maxReboots is how often a machine is rebooted to get the kernel of before: one that does not come up with it takes no harm from that, but no
// good either.
const maxReboots = 3

func (a *Agent) goBack(ctx context.Context, h *holding) error {
	h.Step = holdGoingBack
	h.Reboots++
	if err := a.hold(*h); err != nil {
		return err
	}
	return a.goDown(ctx)
}

// verifyRestored fails if anything of a subject is left.
func (a *Agent) verifyRestored(system *apt.System, h *holding) error {
	if left := system.Added(); len(left) > 0 {
		return fmt.Errorf("%s is still there", strings.Join(left, ", "))
	}
	have, err := system.Packages()
	if err != nil {
		return err
	}
	names := slices.Concat(h.Added, slices.Collect(maps.Keys(h.Before.Replaced)))
	for _, p := range h.Set.Packages {
		names = append(names, p.Name)
	}
	// Not what somebody else has changed meanwhile.
	if names == nil {
		names = []string{}
	}
	if changes := apt.Changes(h.Before.Packages, have.Versions(), names); len(changes) > 0 {
		return errors.New(strings.Join(changes[:min(5, len(changes))], "; "))
	}
	return nil
}

// postClean takes a person's word that the machine is what it was.
func (a *Agent) postClean(*http.Request) (int, any, error) {
	a.mu.Lock()
	h := a.held
	a.mu.Unlock()
	switch {
	case h == nil:
		return http.StatusOK, map[string]string{"said": "the machine is clean"}, nil
	case h.Dirty == "":
		return 0, nil, requestErrorf(http.StatusConflict, "cannot call the machine clean: run %s has a subject on it, which is taken off by itself (cancel the run if it is to end)", h.Run)
	}
	if left := a.packages().Added(); len(left) > 0 {
		return 0, nil, requestErrorf(http.StatusConflict, "cannot call the machine clean: %s is still there (remove it)", strings.Join(left, ", "))
	}
	if loader, err := a.loader(); err == nil && loader.Left() {
		return 0, nil, requestErrorf(http.StatusConflict, "cannot call the machine clean: the boot loader is still told to start another kernel (remove /etc/default/grub.d/zz-certlab.cfg and run update-grub)")
	}
	if err := a.letGo(); err != nil {
		return 0, nil, err
	}
	a.opts.Log.Warn("a person says that the machine is clean", "run", h.Run, "was", h.Dirty)
	return http.StatusOK, map[string]string{"said": "the machine is clean"}, nil
}
