package workload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Stop ends the service and its Pebble, also processes that an earlier Pebble has left behind, until the next Apply.
func (w *Workload) Stop(ctx context.Context) error {
	if _, err := os.Stat(w.unitFilePath()); err == nil {
		if err := w.systemctl(ctx, "stop", w.unitFileName()); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot stop %s: %w", w.cfg.Service.Name, err)
	}
	all, err := w.processes()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(all, func(p process) bool { return !w.isService(p) && !w.isPebble(p) })
	return w.end(ctx, left, w.killDelay())
}

// Remove stops the service and removes all that this package has put on the machine. The service's own directory stays: what is
// in it is not this package's to judge.
func (w *Workload) Remove(ctx context.Context) error {
	if err := w.Stop(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(w.unitFilePath()); err == nil {
		if err := w.systemctl(ctx, "disable", w.unitFileName()); err != nil {
			return err
		}
		w.Step("remove unit file")
		if err := os.Remove(w.unitFilePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the unit file: %w", err)
		}
		if err := w.systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	for _, path := range []string{w.pebbleDir(), filepath.Join(w.base, "bin"), w.appliedPath()} {
		w.Step("remove " + filepath.Base(path))
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot remove the unit's programs: %w", err)
		}
	}
	// The unit's directory goes too if the service has left nothing in it.
	if err := os.Remove(w.Dir()); err == nil {
		_ = os.Remove(w.base) // something else may be in it, which then stays
	}
	return nil
}
