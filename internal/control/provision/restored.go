package provision

import (
	"context"
	"fmt"
	"time"

	"certlab/internal/cert"
)

// spare keeps a machine that is to go back from it for a day after this lab was restored, unless the agent of this deployment has been heard
// since: between the backup and the restore it may have gone back already, and be another's by now, of whom nothing is known any more. The
// provider cannot tell these apart. It reports whether the machine has to wait.
func (a *at) spare(ctx context.Context) (bool, error) {
	if a.r.Discard != "" || a.m.Gone != nil || a.p.Holder != cert.ThisLab || a.p.Status != cert.StatusDeployed {
		return false, nil
	}
	epoch, err := a.f.DB.Epoch(ctx)
	if err != nil || epoch.Cause == "new" || !a.d.Started.Before(epoch.Since) {
		return false, err
	}
	until := epoch.Since.Add(orphanAfter)
	if !a.f.Now().Before(until) {
		return false, nil
	}
	said, found, err := a.f.DB.AgentStatus(ctx, a.d.Machine)
	if err != nil || found && said.Key == a.d.ID && !said.At.Before(epoch.Since) {
		return false, err
	}
	a.f.putOff(a.d.ID, idleWait)
	return true, a.blockDrain(ctx, fmt.Sprintf("machine %s is not released yet: this lab went back to an earlier time at %s, and nothing was heard since of the agent that was on it then, "+
		"so it may be somebody else's by now; it is released at %s (to release it before, name the machine: certlab machine release %s --discard %s)", a.m.Machine.Hostname,
		epoch.Since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339), a.r.ID, a.m.Machine.Hostname))
}
