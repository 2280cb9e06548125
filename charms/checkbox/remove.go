package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/workload"
)

// cancelTime is how long a removed unit waits for the run that it ends.
const cancelTime = 60 * time.Second

// remove ends the agent and takes its programs off the machine. Results that no controller has taken stay, and the log says
// where. It runs on stop, on remove, on both or on neither.
func (sys system) remove(ctx context.Context, u *hooks.Unit) error {
	a, err := sys.agent(u)
	if err != nil {
		return err
	}
	undelivered, known := a.wind(ctx, u)
	if err := sys.unlinkCommand(a); err != nil {
		return err
	}
	if err := a.Remove(ctx); err != nil {
		return err
	}
	a.Step("remove providers")
	if err := a.shelf().Remove(); err != nil {
		return fmt.Errorf("cannot remove providers: %w", err)
	}
	a.Step("remove secret")
	if err := os.RemoveAll(a.file(secretFile)); err != nil {
		return fmt.Errorf("cannot remove the secret environment: %w", err)
	}
	for _, name := range []string{resourceFile, relationFile} {
		if err := os.RemoveAll(filepath.Join(a.Base(), name)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(a.Dir()); err == nil {
		switch {
		case undelivered > 0:
			u.Log.Warn("results that no controller has taken stay on the machine", "runs", undelivered, "directory", a.Dir())
		case !known:
			u.Log.Warn("the agent could not be asked whether all results are delivered, so its files stay on the machine", "directory", a.Dir())
		default:
			a.Step("remove agent's files")
			if err := os.RemoveAll(a.Dir()); err != nil {
				return fmt.Errorf("cannot remove the agent's files: %w", err)
			}
		}
	}
	_ = os.Remove(a.Base()) // what is not ours stays, and the directory with it
	return nil
}

// wind ends the run in progress and gives the agent a little time to deliver. It returns how many runs are not delivered, and
// whether the agent could be asked.
func (a agent) wind(ctx context.Context, u *hooks.Unit) (undelivered int, known bool) {
	status, err := a.status(ctx)
	if err != nil {
		return 0, false
	}
	if status.Current != nil {
		err := a.socket.Call(ctx, "POST", "/v1/runs/"+status.Current.Run+"/cancel", nil, nil)
		var refused *workload.APIError
		if err != nil && !errors.As(err, &refused) { // refused: it has ended by itself
			u.Log.Warn("cannot end the run in progress", "run", status.Current.Run, "error", err)
		}
	}
	workload.WaitFor(ctx, cancelTime, func(ctx context.Context) bool {
		now, err := a.status(ctx)
		if err != nil {
			return true
		}
		return now.Current == nil && (now.Undelivered == 0 || now.Controller != "enrolled")
	})
	// The status counts only what a controller is expected to take. Here, what none has taken matters.
	var runs []order.Run
	if err := a.call(ctx, callTime, "GET", "/v1/runs", nil, &runs); err != nil {
		return 0, false
	}
	for _, run := range runs {
		if !run.Delivered && len(run.Files) > 0 {
			undelivered++
		}
	}
	return undelivered, true
}
