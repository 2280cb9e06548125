package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"certlab/internal/durable"
	"certlab/internal/order"
)

// Files of a run's directory besides run.json. What was asked for is written once and never changed, so that a run whose record was
// damaged is still known; its name says whether the controller has the run.
const (
	recordFile    = "run.json"
	askedFile     = "asked.json"
	deliveredFile = "delivered.json"
	unreadable    = ".unreadable" // ends the name of what was set aside
)

// setAside gives the file or directory at path another name, and returns that.
func setAside(path string) string {
	aside := path + unreadable
	os.RemoveAll(aside)
	if os.Rename(path, aside) != nil {
		return path
	}
	durable.SyncDir(filepath.Dir(path))
	return aside
}

// recoverRun makes the best of a run whose record cannot be read, because of reason: one that was not begun is begun, of any other what
// there is of it is delivered, with a failure that says so. It returns false if there is nothing to deliver, or if it was.
func (a *Agent) recoverRun(id string, reason error) (record, bool) {
	log := a.opts.Log.With("run", id)
	dir := a.runDir(id)
	var rec record
	known := readJSON(filepath.Join(dir, askedFile), &rec) == nil && rec.Run.Run == id
	attempts, _ := filepath.Glob(filepath.Join(dir, "attempt-*"))
	spooled, _ := os.ReadDir(a.spoolDir(id))
	if exists(filepath.Join(dir, deliveredFile)) || !known && len(attempts)+len(spooled) == 0 {
		log.Error("cannot read a run; nothing of it is left to deliver", "error", reason, "aside", setAside(dir))
		os.RemoveAll(a.spoolDir(id))
		return record{}, false
	}
	aside := ""
	if path := filepath.Join(dir, recordFile); exists(path) {
		aside = setAside(path)
	}
	if known && len(attempts)+len(spooled) == 0 {
		log.Error("cannot read a run's record; it had not begun and is begun now", "error", reason, "aside", aside)
		return rec, true
	}
	if !known {
		rec = record{Run: order.Run{Report: order.Report{Run: id, Attempt: 1, Origin: order.FromAction, Created: a.now()}}}
	}
	rec.Step, rec.Verdict = stepEnding, order.Failed
	rec.Start = lastStart(attempts)
	rec.Run.State, rec.Run.Progress.Phase, rec.Run.BootID = order.Running, order.Delivering, a.bootID
	rec.Run.Failure = &order.Failure{Type: order.FailAgent,
		Message: fmt.Sprintf("the run's record on the machine was lost: %v (a power cut or a failing disk does that; what there is of the run is delivered as it is, run the plan again)", reason)}
	log.Error("cannot read a run's record; what there is of the run is delivered", "error", reason, "aside", aside)
	return rec, true
}

// lastStart is the highest number of a start in the directories of attempts.
func lastStart(attempts []string) int {
	last := 0
	for _, dir := range attempts {
		starts, _ := filepath.Glob(filepath.Join(dir, "start-*"))
		for _, s := range starts {
			if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(s), "start-")); err == nil {
				last = max(last, n)
			}
		}
	}
	return last
}

// appliedFile is a copy of the desired state that was in force last, for when the charm's file cannot be read.
const appliedFile = "applied.json"

// lastDesired returns the desired state that was in force last.
func (a *Agent) lastDesired() (order.AgentDesired, string, error) {
	return readDesired(a.opts.Dir, appliedFile)
}

// keepDesired makes the copy that lastDesired returns.
func (a *Agent) keepDesired(sum string) {
	path := filepath.Join(a.opts.Dir, appliedFile)
	if _, kept, err := readDesired(a.opts.Dir, appliedFile); err == nil && kept == sum {
		return
	}
	data, err := os.ReadFile(filepath.Join(a.opts.Dir, order.AgentDesiredFile))
	if err == nil {
		err = durable.WriteFile(path, data, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.opts.Log.Warn("cannot keep a copy of the desired state", "error", err)
	}
}
