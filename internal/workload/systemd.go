package workload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// systemctlTimeout bounds one call of systemctl. A start may have to wait for the network, which systemd itself does for two minutes.
const systemctlTimeout = 3 * time.Minute

// runProgram runs a program of the system with Juju's environment, and never waits for its children.
func runProgram(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// unitFileName is how systemctl calls the unit's Pebble.
func (w *Workload) unitFileName() string { return "certlab-" + w.tag + ".service" }

func (w *Workload) unitFilePath() string { return filepath.Join(w.cfg.UnitFiles, w.unitFileName()) }

// unitFile is the text of the systemd unit.
//
// KillMode=process: a stop ends Pebble, which ends its services; what those have started outside Pebble's care, such as a Checkbox
// that is to outlive its agent, stays. StartLimitIntervalSec=0: systemd never gives up. PEBBLE_PERSIST=never: all
// that Pebble needs to know is in the layer file, and so no state file can be damaged by a power cut. --verbose: what the service logs
// goes to the journal too, which is there after a reboot.
func (w *Workload) unitFile() string {
	return fmt.Sprintf(`# Written by the charm of unit %[1]s; changes are lost.
[Unit]
Description=Pebble for Certlab's unit %[1]s
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Environment=PEBBLE=%[2]s
Environment=PEBBLE_PERSIST=never
ExecStart=%[3]s run --create-dirs --verbose
Restart=always
RestartSec=1
KillMode=process
TimeoutStopSec=%[4]d
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
`, w.cfg.Unit, w.pebbleDir(), w.Current("pebble"), int((w.killDelay() + 10*time.Second).Seconds()))
}

func (w *Workload) systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	w.Step("systemctl " + args[0])
	out, err := w.cfg.Run(ctx, "systemctl", args...)
	if err != nil {
		return fmt.Errorf("cannot run systemctl %s: %w: %s", args[0], err, bytes.TrimSpace(tail(out, 500)))
	}
	return nil
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// Installed reports whether the unit's systemd unit file is there: after Apply, and until Remove.
func (w *Workload) Installed() bool {
	_, err := os.Stat(w.unitFilePath())
	return err == nil
}
