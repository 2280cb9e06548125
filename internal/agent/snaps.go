package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/agent/checkbox"
	"certlab/internal/order"
)

// heldFile names the snaps that the agent holds for a run, and that nobody else holds.
const heldFile = "held-snaps.json"

// snapTime bounds one call of snap.
const snapTime = time.Minute

// holdSnaps keeps Checkbox's snaps as they are for the time of a run. Where that cannot be done, by an old snapd, the run goes on.
func (a *Agent) holdSnaps(ctx context.Context, limit time.Duration) {
	a.releaseSnaps() // those of a run whose end was cut off: the time starts anew
	ctx, cancel := context.WithTimeout(ctx, snapTime)
	defer cancel()
	names, err := checkbox.HoldSnaps(ctx, a.opts.Run, a.baseEnv(order.AgentDesired{}), limit)
	if err == nil && len(names) > 0 {
		err = writeJSON(filepath.Join(a.opts.Dir, heldFile), names, 0o600)
	}
	if err != nil && ctx.Err() == nil {
		a.opts.Log.Warn("Checkbox's snaps may be refreshed during the run", "error", err)
	}
}

// releaseSnaps ends what holdSnaps began. A hold ends by itself too.
func (a *Agent) releaseSnaps() {
	path := filepath.Join(a.opts.Dir, heldFile)
	var names []string
	err := readJSON(path, &names)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), snapTime)
		defer cancel()
		err = checkbox.ReleaseSnaps(ctx, a.opts.Run, a.baseEnv(order.AgentDesired{}), names)
	}
	if err != nil {
		a.opts.Log.Warn("Checkbox's snaps are held until the hold ends by itself", "error", err)
	}
	os.Remove(path)
}

// steadyTool makes sure that tool stays what it is for a run of at most limit, and is what it says: snapd replaces snaps when it likes.
func (a *Agent) steadyTool(ctx context.Context, tool *checkbox.Tool, limit time.Duration) (*checkbox.Tool, error) {
	if !checkbox.IsSnap(tool.Path) {
		return tool, nil
	}
	a.holdSnaps(ctx, limit)
	now, err := checkbox.Open(ctx, tool.Path, tool.Env, tool.Limits)
	if err != nil {
		return nil, err
	}
	now.SessionsDir = tool.SessionsDir
	if now.Version != tool.Version {
		a.mu.Lock()
		if a.tool == tool {
			a.tool = now
			a.notify()
		}
		a.mu.Unlock()
	}
	return now, nil
}
