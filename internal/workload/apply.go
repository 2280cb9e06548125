package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// applied is the content of applied.json: what is known to be in force. It is written after the fact.
type applied struct {
	UnitFile string `json:"unit_file"` // SHA-256 of the text that systemd was told to read
	Layer    string `json:"layer"`     // SHA-256 of the layer that Pebble has planned with
	Programs string `json:"programs"`  // directory that the service was last started from, as far as the charm saw to it
}

// Options of Apply.
type Options struct {
	// MayInterrupt allows what stops the service for a moment: activating a changed layer or a changed Pebble.
	MayInterrupt bool
	// RestartOnNewPrograms restarts the service, if MayInterrupt too, when it runs other programs than the newest. A service that
	// changes to them by itself, when it is idle, does without.
	RestartOnNewPrograms bool
}

// Apply installs the programs and makes systemd and Pebble keep the service running. A second call with nothing changed
// starts no process and makes one connection. What may not be interrupted now is left for a later call, and pending names it.
func (w *Workload) Apply(ctx context.Context, opts Options) (pending string, err error) {
	programs, err := w.Install(ctx)
	if err != nil {
		return "", err
	}
	for _, dir := range []struct {
		path string
		perm os.FileMode
	}{{w.base, 0o755}, {w.pebbleDir(), 0o700}, {filepath.Dir(w.layerPath()), 0o755}, {w.Dir(), 0o700}} {
		if err := os.MkdirAll(dir.path, dir.perm); err != nil {
			return "", fmt.Errorf("cannot make directory: %w", err)
		}
	}
	layer, err := w.layer()
	if err != nil {
		return "", err
	}
	if _, err := w.WriteFile(w.layerPath(), layer, 0o644); err != nil {
		return "", err
	}
	record := w.readApplied()
	if err := w.applyUnitFile(ctx, &record); err != nil {
		return "", err
	}
	started := false
	if !w.answers() {
		if err := w.systemctl(ctx, "start", w.unitFileName()); err != nil {
			return "", err
		}
		if err := w.waitForPebble(ctx); err != nil {
			return "", err
		}
		started = true
	}
	pending, err = w.activate(ctx, opts, layer, programs, started, &record)
	if err != nil {
		return "", err
	}
	running, err := w.processes()
	if err != nil {
		return "", err
	}
	return pending, w.removeUnused(running)
}

func (w *Workload) applyUnitFile(ctx context.Context, record *applied) error {
	text := []byte(w.unitFile())
	changed, err := w.WriteFile(w.unitFilePath(), text, 0o644)
	if err != nil {
		return err
	}
	if !changed && record.UnitFile == hash(text) {
		return nil
	}
	if err := w.systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if err := w.systemctl(ctx, "enable", w.unitFileName()); err != nil {
		return err
	}
	record.UnitFile = hash(text)
	return w.writeApplied(*record)
}

// activate makes Pebble use the layer and the service and Pebble the newest programs, as far as opts allow.
func (w *Workload) activate(ctx context.Context, opts Options, layer []byte, programs string, started bool, record *applied) (pending string, err error) {
	state, err := w.State(ctx)
	if err != nil {
		return "", err
	}
	mayInterrupt := opts.MayInterrupt || state.Processes == 0
	old, err := w.oldPebble(programs)
	if err != nil {
		return "", err
	}
	switch {
	case old && !mayInterrupt:
		return "Pebble", nil
	case old:
		w.cfg.Log.Info("restarting Pebble, which has changed", "unit", w.unitFileName())
		if err := w.systemctl(ctx, "restart", w.unitFileName()); err != nil {
			return "", err
		}
		if err := w.waitForPebble(ctx); err != nil {
			return "", err
		}
		started = true
	}

	want := *record
	want.Layer, want.Programs = hash(layer), programs
	// A Pebble that has just started has read the layer from disk and started the service from the newest programs.
	if !started && (record.Layer != want.Layer || state.Service == "") {
		if err := w.addLayer(ctx, layer); err != nil {
			return "", err
		}
		if !mayInterrupt {
			return "layer", nil
		}
		if err := w.services(ctx, "replan"); err != nil {
			return "", err
		}
	}
	if opts.RestartOnNewPrograms && record.Programs != "" && record.Programs != programs {
		if !mayInterrupt {
			return w.cfg.Service.Name, nil
		}
		if err := w.restartFrom(ctx, programs); err != nil {
			return "", err
		}
	}
	if want != *record {
		*record = want
		return "", w.writeApplied(want)
	}
	return "", nil
}

// oldPebble reports whether the Pebble that runs is not the newest.
func (w *Workload) oldPebble(programs string) (bool, error) {
	all, err := w.processes()
	if err != nil {
		return false, err
	}
	newest := filepath.Join(programs, "pebble")
	if real, err := filepath.EvalSymlinks(newest); err == nil {
		newest = real
	}
	for _, p := range all {
		if w.isPebble(p) && p.exe != newest && !sameFile(p.exe, newest) {
			return true, nil
		}
	}
	return false, nil
}

// sameFile reports whether two files hold the same bytes; most refreshes change the service but not Pebble.
func sameFile(a, b string) bool {
	hashes := [2]string{}
	for i, path := range []string{a, b} {
		sum := sha256.New()
		if copyFile(context.Background(), sum, path) != nil {
			return false
		}
		hashes[i] = hex.EncodeToString(sum.Sum(nil))
	}
	return hashes[0] == hashes[1]
}

// restartFrom restarts the service if a process of it runs from another directory than programs, also one that an earlier
// Pebble has left behind.
func (w *Workload) restartFrom(ctx context.Context, programs string) error {
	if real, err := filepath.EvalSymlinks(programs); err == nil {
		programs = real
	}
	running, err := w.serviceProcesses()
	if err != nil {
		return err
	}
	var old []process
	for _, p := range running {
		if !strings.HasPrefix(p.exe, programs+string(filepath.Separator)) {
			old = append(old, p)
		}
	}
	if len(old) == 0 {
		return nil
	}
	w.cfg.Log.Info("restarting the service from its new programs", "service", w.cfg.Service.Name)
	if err := w.services(ctx, "restart", w.cfg.Service.Name); err != nil {
		return err
	}
	return w.end(ctx, old, w.killDelay())
}

// end makes processes end: SIGTERM, and SIGKILL after delay.
func (w *Workload) end(ctx context.Context, ps []process, delay time.Duration) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, delay}, {syscall.SIGKILL, callTimeout}} {
		gone := func() bool {
			for _, p := range ps {
				if w.alive(p) {
					return false
				}
			}
			return true
		}
		if gone() {
			return nil
		}
		for _, p := range ps {
			if w.alive(p) {
				_ = syscall.Kill(p.pid, step.signal) // it may be gone by now, which is what is wanted
			}
		}
		waitCtx, cancel := context.WithTimeout(ctx, step.wait)
		err := poll(waitCtx, gone)
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("cannot end %s: it survives SIGKILL", w.cfg.Service.Name)
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (w *Workload) appliedPath() string { return filepath.Join(w.base, "applied.json") }

// readApplied returns nothing known if the file is missing or damaged: then each step is taken once more.
func (w *Workload) readApplied() applied {
	var record applied
	data, err := os.ReadFile(w.appliedPath())
	if err != nil || json.Unmarshal(data, &record) != nil {
		return applied{}
	}
	return record
}

func (w *Workload) writeApplied(record applied) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = w.WriteFile(w.appliedPath(), append(data, '\n'), 0o644)
	return err
}
