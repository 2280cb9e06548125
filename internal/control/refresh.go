package control

import (
	"context"
	"os/exec"
	"time"
)

const (
	refreshPause   = 2 * time.Second
	refreshTimeout = 5 * time.Minute
)

// Refresh asks for the charm's dispatch, so that the unit's status and databag show what has changed. Requests that come while one is
// under way become one.
func (l *Lab) Refresh() { nudge(l.refresh) }

// refreshLoop runs the desired state's dispatch command, at most one at a time. Nobody waits for it: an action that is waiting holds up
// the unit, and with it this command.
func (l *Lab) refreshLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.refresh:
		}
		if command := l.Desired().DispatchCommand; len(command) > 0 {
			l.dispatch(ctx, command)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(refreshPause):
		}
	}
}

func (l *Lab) dispatch(ctx context.Context, command []string) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
		if len(out) > 500 {
			out = out[:500]
		}
		l.Logger.Warn("cannot refresh the unit's status", "error", err, "output", string(out))
	}
}
