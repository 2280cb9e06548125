package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"certlab/internal/order"
	"certlab/internal/version"
)

// handEvery is the time between two looks at whether somebody runs Checkbox by hand.
const handEvery = time.Minute

// tellStatus tells the controller how this machine is: at start, and whenever that changes; also one that was away, as it may have been
// restored from a backup.
func (a *Agent) tellStatus(ctx context.Context) {
	identity := machineIdentity("/")
	booted := a.now().Add(-uptime()).Truncate(time.Second)
	var trouble complaint
	var looked time.Time
	told, manual := "", false
	for ctx.Err() == nil {
		if time.Since(looked) >= handEvery {
			looked, manual = time.Now(), byHand()
		}
		a.mu.Lock()
		controller, changed := a.remote, a.changed
		enrolled := controller != nil && a.controller == "enrolled"
		s := a.machineStatus()
		to := a.controlAt.String() + a.epoch
		a.mu.Unlock()
		s.Release, s.Kernel, s.Booted, s.Manual = identity.Base, identity.Kernel, booted, manual
		text, err := json.Marshal(s)
		if err != nil {
			return // it is made of texts
		}
		now := to + string(text)
		if !enrolled || now == told {
			untilChanged(ctx, changed, max(0, handEvery-time.Since(looked)))
			continue
		}
		err = controller.status(ctx, s)
		var answered *remoteError
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			trouble.over(a.opts.Log.Info, "the controller knows again how this machine is")
			told = now
		case errors.As(err, &answered) && !refused(err) && !answered.busy() && answered.Status < 500:
			// One of the release before, which does not ask; or it never takes this.
			a.opts.Log.Debug("the controller does not take how this machine is", "error", err)
			told = now
		default:
			trouble.say(a.opts.Log.Warn, "cannot tell the controller how this machine is; it is tried again", "error", err)
			a.noteController(controller, err)
			a.pause(ctx, controller, a.patience(trouble.times-1, err))
			continue
		}
		sleep(ctx, a.opts.ReportEvery)
	}
}

func (r *remote) status(ctx context.Context, s order.Status) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return r.sendJSON(ctx, http.MethodPut, "/agent/v1/status", s, nil)
}

// machineStatus is what changes of a status. a.mu must be held.
func (a *Agent) machineStatus() order.Status {
	s := order.Status{BootID: a.bootID, Version: version.Version, Problem: a.problem}
	if a.stateError != "" {
		s.Problem = a.stateError
	}
	if a.tool != nil {
		s.CheckboxVersion = a.tool.Version.String()
	}
	s.Restoring, s.Dirty = a.held.told()
	for _, id := range a.order {
		r := a.runs[id]
		if r.rec.Run.State == order.Running {
			s.Running = id
		}
		// What was begun holds what nobody else has, until all of it was acknowledged.
		if r.rec.Step != stepQueued && !r.rec.Run.Delivered && !r.rec.Dropped {
			s.Undelivered = append(s.Undelivered, id)
		}
	}
	return s
}

// byHand reports whether a Checkbox runs on this machine that no run of this agent's has started.
func byHand() bool {
	ours := make(map[process]bool)
	for _, p := range descendants(os.Getpid()) {
		ours[p] = true // one that is only asked something
	}
	for p := range allProcesses() {
		if ours[p] {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err != nil || !checkboxCommand(string(line)) {
			continue
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err == nil && !strings.Contains("\x00"+string(environ), "\x00"+startVariable+"=") {
			return true
		}
	}
	return false
}

// checkboxCommand reports whether a command line, as the kernel has it, runs Checkbox: directly, or as Python's script. What only looks
// after one that might come, the remote agent, runs nothing by itself.
func checkboxCommand(line string) bool {
	args := strings.Split(strings.TrimRight(line, "\x00"), "\x00")
	for i, arg := range args[:min(3, len(args))] {
		name := filepath.Base(arg)
		if name != "checkbox-cli" && name != "checkbox.checkbox-cli" {
			continue
		}
		for _, word := range args[i+1:] {
			switch word {
			case "run-agent", "service", "slave":
				return false
			}
		}
		return true
	}
	return false
}
