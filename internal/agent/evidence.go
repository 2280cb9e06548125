package agent

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/durable"
	"certlab/internal/order"
)

// What a boot in which the machine was lost has left behind: the end of its journal, and what the kernel kept of its end in the firmware
// or in memory (pstore). It is taken right after the next boot, before anything else can end in a loss, and goes with the attempt's files.

// Bounds of what is taken.
const (
	journalLines   = "2000"
	maxJournal     = 4 << 20 // bytes; of more, the end
	journalTime    = time.Minute
	maxPstore      = 8 << 20 // bytes, before compression; the newest first
	maxPstoreFiles = 200
	maxEvidence    = 5 // losses of one attempt
)

// evidencePrefix begins the names of the files; the number of the start that was lost follows.
const evidencePrefix = "lost-"

var bootIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// collect takes what boot has left behind, which ended in the attempt's start with that number. Nothing being there is fine, and nothing
// that goes wrong keeps the attempt from going on. Done again after a power cut, it takes what is missing.
func (t *attempt) collect(ctx context.Context, number int, boot string) {
	a := t.agent
	if number > maxEvidence {
		return
	}
	log := a.opts.Log.With("run", t.rec().Run.Run, "boot", boot)
	base := filepath.Join(t.dir(), fmt.Sprintf("%s%d-", evidencePrefix, number))
	if path := base + "journal.txt"; !exists(path) {
		text, err := a.journal(ctx, boot)
		if err == nil && len(text) > 0 {
			err = durable.WriteFile(path, text, 0o600)
		}
		if err != nil {
			log.Info("there is no journal of the boot in which the machine was lost", "error", err)
		}
	}
	if path := base + "pstore.tar.gz"; !exists(path) {
		if err := savePstore(path, a.opts.PstoreDirs); err != nil {
			log.Warn("cannot keep what the kernel has left of its end", "error", err)
		}
	}
}

// journal returns the end of a boot's journal.
func (a *Agent) journal(ctx context.Context, boot string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	which := "-1"
	if bootIDPattern.MatchString(boot) {
		which = strings.ReplaceAll(boot, "-", "") // as the journal writes it: there may have been another boot since
	}
	command := append(slices.Clone(a.opts.JournalCommand), "-b", which, "-n", journalLines, "--no-pager", "-q")
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = a.baseEnv(order.AgentDesired{})
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, said ending
	out.max, said.max = maxJournal, 1<<10
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := checkbox.RunUnprotected(cmd); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s took longer than %v", command[0], journalTime)
		}
		return nil, fmt.Errorf("%w: %s", err, clip(string(said.kept), 300))
	}
	return out.kept[max(0, len(out.kept)-maxJournal):], nil
}

// An ending keeps the last max bytes of what is written to it.
type ending struct {
	kept []byte
	max  int
}

func (e *ending) Write(p []byte) (int, error) {
	e.kept = append(e.kept, p...)
	if len(e.kept) > 2*e.max {
		e.kept = append(e.kept[:0], e.kept[len(e.kept)-e.max:]...)
	}
	return len(p), nil
}

// pstoreFile is a file that the kernel has left.
type pstoreFile struct {
	path, name string
	info       fs.FileInfo
}

// savePstore writes the files below dirs as a tar.gz to path, durably; nothing if there are none. They stay where they are.
func savePstore(path string, dirs []string) error {
	var files []pstoreFile
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // it may not be mounted, or there is none
			}
			if info, err := d.Info(); err == nil {
				files = append(files, pstoreFile{path, strings.TrimPrefix(path, "/"), info})
			}
			return nil
		})
	}
	if len(files) == 0 {
		return nil
	}
	slices.SortFunc(files, func(x, y pstoreFile) int {
		return cmp.Or(y.info.ModTime().Compare(x.info.ModTime()), strings.Compare(x.name, y.name))
	})
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(writePstore(f, files), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func writePstore(w io.Writer, files []pstoreFile) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	left := int64(maxPstore)
	for _, f := range files[:min(len(files), maxPstoreFiles)] {
		// Files of the kernel's may say 0 bytes and hold some.
		file, err := os.Open(f.path)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(file, left))
		file.Close()
		if err != nil {
			continue
		}
		left -= int64(len(text))
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o600, Size: int64(len(text)), ModTime: f.info.ModTime()}); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
		if left <= 0 {
			break
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// evidence are the files that collect has taken, in order.
func (t *attempt) evidence(dirs ...string) []spooled {
	var found []spooled
	for _, dir := range dirs {
		paths, _ := filepath.Glob(filepath.Join(dir, evidencePrefix+"*"))
		for _, path := range paths {
			f := spooled{name: filepath.Base(path)}
			switch {
			case strings.HasSuffix(f.name, "-journal.txt"):
				f.kind = order.JournalFile
			case strings.HasSuffix(f.name, "-pstore.tar.gz"):
				f.kind = order.PstoreFile
			default:
				continue // what a power cut has left half written
			}
			if !slices.Contains(found, f) {
				found = append(found, f)
			}
		}
	}
	slices.SortFunc(found, func(x, y spooled) int { return strings.Compare(x.name, y.name) })
	return found
}

// wasLost takes the controller's word that it has cycled the machine's power: the boot that ended so was not ended by the job, although the job
// may be meant to reboot and nothing here would tell. The interruption says so from then on, which is how the controller knows that it was
// heard; before that the boot's evidence is taken, so that after a power cut in between all of it is done again.
func (a *Agent) wasLost(ctx context.Context, id string) {
	a.mu.Lock()
	r, ok := a.runs[id]
	if !ok || r.rec.Step != stepTesting && r.rec.Step != stepEnding {
		a.mu.Unlock()
		return
	}
	var lost *order.Interruption
	for _, i := range r.rec.Run.Interruptions {
		if i.Cause == causeReboot && i.BootAfter == a.bootID {
			lost = &i
		}
	}
	number := r.rec.Start - 1
	if lost == nil || number < 1 {
		a.mu.Unlock()
		return // it has not come that far, or has noted it
	}
	a.mu.Unlock()
	(&attempt{agent: a, run: r}).collect(ctx, number, lost.BootBefore)
	err := a.update(r, func(rec *record) {
		list := slices.Clone(rec.Run.Interruptions)
		for n := range list {
			if i := &list[n]; i.Cause == causeReboot && i.BootAfter == a.bootID {
				i.Cause = causePowerCut
				i.Note = strings.TrimPrefix(i.Note+"; "+wasCycled, "; ")
			}
		}
		rec.Run.Interruptions = list
	})
	if err != nil {
		a.opts.Log.Warn("cannot note that the machine was power-cycled; it is tried again", "run", id, "error", err)
		return
	}
	a.opts.Log.Warn("the controller has power-cycled the machine", "run", id, "job", lost.Job, "boot", lost.BootBefore)
}

// wasCycled is the end of the note of such an interruption.
const wasCycled = "the machine kept silent and was power-cycled by the lab's controller"
