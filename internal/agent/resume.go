package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// interruptedBy reports whether Checkbox was ended by a signal that it did not send itself. Python does not survive TERM and HUP;
// wrappers such as a snap's say 128 and the signal's number.
func interruptedBy(end *exited) bool {
	if end.Signal != "" {
		return true
	}
	switch end.Code - 128 {
	case int(syscall.SIGHUP), int(syscall.SIGINT), int(syscall.SIGKILL), int(syscall.SIGTERM):
		return true
	}
	return false
}

// resume records the interruption and writes down how Checkbox goes on.
func (t *attempt) resume(ctx context.Context, dir string, end *exited) error {
	a := t.agent
	desired := a.desiredNow()
	rec := t.rec()
	session, found, err := checkbox.FindSession(a.opts.SessionsDir, t.description())
	if err != nil {
		return fail(order.FailInterrupted, "%v", err)
	}
	job := session.Interrupted()
	expected := false
	for _, j := range t.jobs {
		if j.ID == job {
			expected = j.NoReturn()
		}
	}
	before := rec.Run.BootID
	var k kept
	if readJSON(filepath.Join(dir, keepFile), &k) == nil {
		before = k.BootID
	}
	cause := causeKilled
	if before != a.bootID {
		cause = causeReboot
		if !expected {
			t.collect(ctx, rec.Start, before)
		}
	} else {
		// The machine may be on its way down: Checkbox must not be started into that.
		grace := a.opts.RestartGrace
		if expected {
			grace = a.opts.RebootGrace
		}
		a.touch(t.run, func(rec *record) { rec.Run.Progress.Phase = order.Rebooting })
		if !t.settle(ctx, grace) {
			if ctx.Err() != nil {
				return errLeaving
			}
			return errCancelled
		}
	}
	interruption := order.Interruption{Job: job, Cause: cause, Expected: expected, BootBefore: before, BootAfter: a.bootID, At: a.now()}
	maxBoots := desired.MaxBoots
	if maxBoots <= 0 {
		maxBoots = defaultMaxBoots
	}
	var cmd checkbox.Command
	var failed error
	switch {
	case rec.Start > maxBoots:
		interruption.Note = "not resumed: too many interruptions"
		failed = fail(order.FailInterrupted, "Checkbox was interrupted %d times, more often than max-boots allows; the last time %s", rec.Start, describe(interruption))
	case !found || !session.Resumable():
		interruption.Note = "no job had been started: begun afresh"
		if found {
			session.Remove()
		}
	default:
		interruption.Note = resumed
	}
	if end != nil && end.Killed != "" {
		interruption.Note += "; ended by " + end.Killed
	}
	if failed == nil {
		failed = t.proved()
	}
	if failed == nil {
		failed = t.unchanged(dir)
	}
	if t.tool == nil && failed == nil {
		if t.tool, failed = t.reopen(ctx, dir); errors.Is(failed, errLeaving) {
			return failed
		}
	}
	if failed == nil {
		if strings.HasPrefix(interruption.Note, resumed) {
			cmd, err = t.tool.Resume(t.launcherPath(), session, expected, "machine lost: "+describe(interruption))
			if err != nil {
				failed = fail(order.FailInterrupted, "%v", err)
			}
		} else {
			cmd = t.tool.Start(t.launcherPath())
		}
	}
	if failed != nil && strings.HasPrefix(interruption.Note, resumed) {
		interruption.Note = "not " + interruption.Note
	}
	if err := a.update(t.run, func(rec *record) {
		list := rec.Run.Interruptions
		// A power cut between this and the next start makes it happen twice.
		if n := len(list); n == 0 || n < rec.Start {
			rec.Run.Interruptions = append(slices.Clone(list), interruption)
		}
	}); err != nil {
		return fail(order.FailSpool, "%v", err)
	}
	a.opts.Log.Warn("Checkbox was interrupted", "run", rec.Run.Run, "job", job, "cause", cause, "expected", expected, "note", interruption.Note)
	if failed != nil {
		return failed
	}
	return t.begin(cmd)
}

// reopenPatience is how long Checkbox may be missing after a boot: snaps are mounted late.
const reopenPatience = 5 * time.Minute

// reopen returns the tool with the environment that the attempt began with, after the agent itself was restarted.
func (t *attempt) reopen(ctx context.Context, dir string) (*checkbox.Tool, error) {
	deadline := time.Now().Add(reopenPatience)
	tool, err := t.agent.waitTool(ctx)
	for err != nil && time.Now().Before(deadline) && sleep(ctx, time.Second) {
		tool, err = t.agent.waitTool(ctx)
	}
	if ctx.Err() != nil {
		return nil, errLeaving
	}
	if err != nil {
		return nil, err
	}
	var s start
	if err := readJSON(filepath.Join(dir, startFile), &s); err != nil {
		return nil, fail(order.FailAgent, "%v", err)
	}
	copied := *tool
	copied.Env = slices.DeleteFunc(s.Env, func(pair string) bool {
		return strings.HasPrefix(pair, "CERTLAB_RUN=") || strings.HasPrefix(pair, "REMOTE_RESTART_DEBUG=") || pair == tempVariable+t.tempDir()
	})
	return &copied, nil
}

// resumed begins the note of an interruption after which the session went on.
const resumed = "resumed"

// Causes of an interruption.
const (
	causeReboot   = "reboot"
	causeKilled   = "killed"
	causePowerCut = "power-cut"
)

func describe(i order.Interruption) string {
	job := "no job"
	if i.Job != "" {
		job = i.Job
	}
	switch i.Cause {
	case causeReboot:
		return fmt.Sprintf("the machine rebooted or lost power in %s", job)
	case causePowerCut:
		return fmt.Sprintf("the machine hung and was power-cycled in %s", job)
	default:
		return fmt.Sprintf("Checkbox was killed in %s", job)
	}
}

// settle waits for grace, in which a machine that is going down would be down, or longer if it says that it is. False if the run was
// cancelled or the agent is ending.
func (t *attempt) settle(ctx context.Context, grace time.Duration) bool {
	deadline := time.Now().Add(grace)
	for time.Now().Before(deadline) || stopping(ctx) {
		if t.rec().Cancel {
			return false
		}
		if !sleep(ctx, min(time.Second, max(10*time.Millisecond, time.Until(deadline)))) {
			return false
		}
	}
	return true
}

// stopping reports whether systemd says that the machine is going down.
func stopping(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "stopping"
}
