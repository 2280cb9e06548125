package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"certlab/internal/order"
)

// epochFile holds the epoch of the controller that was told last what is still here.
const epochFile = "epoch.json"

type epochRecord struct {
	Epoch string `json:"epoch"`
}

// tellHeld tells a controller that was restored from a backup what is still here, and notes what it has to be delivered again. It does
// nothing for an epoch that was answered before. Cut off anywhere, it is done again.
func (a *Agent) tellHeld(ctx context.Context, controller *remote, epoch string) error {
	path := filepath.Join(a.opts.Dir, epochFile)
	var told epochRecord
	if epoch == "" || readJSON(path, &told) == nil && told.Epoch == epoch {
		return nil
	}
	held := order.Held{Epoch: epoch, Runs: []order.HeldRun{}}
	a.mu.Lock()
	for _, id := range a.order {
		rec := &a.runs[id].rec
		h := order.HeldRun{Run: id, Attempt: rec.Run.Attempt, Delivered: rec.Run.Delivered}
		for _, f := range rec.Run.Files {
			if exists(filepath.Join(a.spoolDir(id), f.Name)) {
				h.Files = append(h.Files, f)
			}
		}
		h.Whole = len(h.Files) == len(rec.Run.Files)
		held.Runs = append(held.Runs, h)
	}
	a.mu.Unlock()
	var ack order.HeldAck
	heldCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := controller.sendJSON(heldCtx, http.MethodPost, "/agent/v1/held", held, &ack); err != nil {
		return err
	}
	for _, id := range ack.Again {
		a.mu.Lock()
		r, ok := a.runs[id]
		a.mu.Unlock()
		if !ok {
			continue
		}
		if err := a.update(r, func(rec *record) { rec.Run.Delivered, rec.Kept, rec.Dropped = false, false, false }); err != nil {
			return err
		}
		os.Rename(filepath.Join(a.runDir(id), deliveredFile), filepath.Join(a.runDir(id), askedFile))
		a.opts.Log.Info("the controller has lost a run; it is delivered again", "run", id)
	}
	return writeJSON(path, epochRecord{epoch}, 0o600)
}
