package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/order"
)

// What was delivered is kept for a while, for a person who wants to look at it on the machine, and for a controller that has lost it.

// housekeepEvery is the time between two looks at what is kept.
const housekeepEvery = time.Minute

// housekeep drops what is kept too long, or in the way.
func (a *Agent) housekeep(ctx context.Context) {
	for {
		a.shed()
		if !sleep(ctx, housekeepEvery) {
			return
		}
	}
}

// shed removes delivered files that are older than KeepFor, more than KeepBytes in all, or, oldest first, for which the disk has no room.
func (a *Agent) shed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	var kept []*run // newest first
	for _, id := range slices.Backward(a.order) {
		r := a.runs[id]
		if !r.rec.Run.Delivered || !r.rec.Kept {
			continue
		}
		// A clock that was wrong when the files were delivered says nothing of their age.
		if at := r.rec.DeliveredAt; at.After(now) || at.Year() < firstYear && now.Year() >= firstYear {
			r.rec.DeliveredAt = now
			a.store(r)
		}
		kept = append(kept, r)
	}
	var size int64
	for i, r := range kept {
		for _, f := range r.rec.Run.Files {
			size += f.Size
		}
		if size > a.opts.KeepBytes || now.Sub(r.rec.DeliveredAt) > a.opts.KeepFor {
			for _, old := range kept[i:] {
				a.forget(old)
			}
			kept = kept[:i]
			break
		}
	}
	for len(kept) > 0 && a.short() {
		a.forget(kept[len(kept)-1])
		kept = kept[:len(kept)-1]
	}
}

// firstYear is a year in which no Certlab ran yet: a clock that says an earlier one was never set.
const firstYear = 2026

// forget removes a delivered run's files. a.mu must be held.
func (a *Agent) forget(r *run) {
	id := r.rec.Run.Run
	if err := os.RemoveAll(a.spoolDir(id)); err != nil {
		a.opts.Log.Error("cannot remove delivered files", "run", id, "error", err)
		return
	}
	r.rec.Kept, r.rec.Run.SubmissionPath = false, ""
	a.store(r) // should it fail: load looks whether there are files
	a.notify()
}

// short reports whether the disk has no room for what need not be there.
func (a *Agent) short() bool {
	var st unix.Statfs_t
	if unix.Statfs(a.opts.Dir, &st) != nil {
		return false
	}
	want := a.opts.KeepFree
	if want == 0 {
		want = min(5<<30, int64(st.Blocks)*st.Bsize/10)
	}
	return int64(st.Bavail)*st.Bsize < want
}

// A resendKey names a file that the controller wants again.
type resendKey struct{ run, sha256 string }

// wantAgain takes down what the controller wants again. It repeats itself until it has its answer.
func (a *Agent) wantAgain(list []order.Resend) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range list {
		key := resendKey{w.Run, w.SHA256}
		if _, known := a.resends[key]; known || len(a.resends) >= maxResends {
			continue
		}
		a.resends[key] = w
		a.notify()
	}
}

// maxResends is how many files that are wanted again are remembered; the controller asks for the others later.
const maxResends = 100

// resendAll answers what the controller wants again, one file at a time.
func (a *Agent) resendAll(ctx context.Context) {
	var trouble complaint
	for ctx.Err() == nil {
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		var todo *order.Resend
		if controller != nil && a.controller == "enrolled" {
			for _, w := range a.resends {
				todo = &w
				break
			}
		}
		a.mu.Unlock()
		if todo == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		sendCtx, stop := context.WithCancel(ctx)
		go a.whenReplaced(sendCtx, controller, stop)
		err := a.resend(sendCtx, controller, *todo)
		stop()
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		delete(a.resends, resendKey{todo.Run, todo.SHA256}) // it is asked for again if this came to nothing
		a.mu.Unlock()
		if err != nil && !gone(err) {
			trouble.say(a.opts.Log.Warn, "cannot send a file again", "run", clip(todo.Run, 100), "file", todo.Name, "error", err)
			a.noteController(controller, err)
			a.pause(ctx, controller, a.patience(trouble.times-1, err))
			continue
		}
		trouble.over(a.opts.Log.Info, "files can be sent again")
	}
}

// resend sends a kept file to the controller, or says why there is none.
func (a *Agent) resend(ctx context.Context, controller *remote, w order.Resend) error {
	path, file, reason := a.keptFile(w)
	if reason == "" {
		if err := checkFile(path, file); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		a.opts.Log.Warn("the controller wants a file that is not here any more", "run", clip(w.Run, 100), "sha256", clip(w.SHA256, 64), "reason", reason)
		return controller.fileGone(ctx, w, reason)
	}
	if err := controller.upload(ctx, w.Run, w.Attempt, file, path); err != nil {
		return err
	}
	a.opts.Log.Info("a file was sent again", "run", w.Run, "file", file.Name, "sha256", file.SHA256)
	return nil
}

// keptFile finds the file that the controller wants again, or says why it cannot be had.
func (a *Agent) keptFile(w order.Resend) (path string, file order.File, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.runs[w.Run]
	if !ok || r.rec.Run.Attempt != w.Attempt {
		return "", file, "this machine does not know the run (any more)"
	}
	for _, f := range r.rec.Run.Files {
		if f.SHA256 != w.SHA256 {
			continue
		}
		path := filepath.Join(a.spoolDir(w.Run), f.Name)
		if !exists(path) {
			return "", f, fmt.Sprintf("its copy on the machine was removed: delivered files are kept for %.0f days and only while there is room", a.opts.KeepFor.Hours()/24)
		}
		return path, f, ""
	}
	return "", file, "the run has no such file"
}

// errFileGone and errFileDamaged say what became of a file in the spool.
var (
	errFileGone    = errors.New("it is gone from the machine's disk")
	errFileDamaged = errors.New("it was damaged on the machine's disk")
)

// checkFile reports whether the file at path is what it was when it was taken down.
func checkFile(path string, f order.File) error {
	sum, size, err := hashFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("cannot deliver %s: %w", path, errFileGone)
	case err != nil:
		return err
	case sum != f.SHA256 || size != f.Size:
		return fmt.Errorf("cannot deliver %s: %w: it has %d bytes with SHA-256 %s", path, errFileDamaged, size, sum)
	}
	return nil
}
