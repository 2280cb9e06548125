package agent

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// dispatchEvery is the least time between two refreshes of the unit's status.
const dispatchEvery = 2 * time.Second

// dispatchTimeout is how long a refresh may take: on a unit that is busy with a hook it waits for that.
const dispatchTimeout = 10 * time.Minute

// dispatch has the charm refresh the unit's status when what it says has changed. Nothing waits for it: while an action waits for a run,
// the unit is busy, and a refresh comes after it.
func (a *Agent) dispatch(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		s := a.status()
		changed := a.watch()
		line := said(s)
		command := a.desiredNow().DispatchCommand
		if line == last || len(command) == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		last = line
		commandCtx, cancel := context.WithTimeout(ctx, dispatchTimeout)
		out, err := checkbox.Exec(commandCtx, a.baseEnv(order.AgentDesired{}), command[0], command[1:]...)
		cancel()
		if err != nil && ctx.Err() == nil {
			a.opts.Log.Warn("cannot refresh the unit's status", "error", err, "output", clip(out, 500))
			last = "" // try again at the next change
		}
		sleep(ctx, dispatchEvery)
	}
}

// said is what the unit's status says of the agent, or depends on.
func said(s order.AgentStatus) string {
	line := fmt.Sprint(s.CheckboxVersion, s.CheckboxProblem, s.Installing, s.Controller, s.Applied, s.Problems)
	switch {
	case s.Current == nil:
		line += fmt.Sprint(" ", s.Queued, s.Undelivered)
	case s.Current.Progress.Phase != "":
		line += s.Current.Run
	}
	return line
}
