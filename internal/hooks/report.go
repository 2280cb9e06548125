package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// maxMessage bounds a status message, in bytes: `juju status` shows it in one line.
const maxMessage = 500

// SetStatus shows the status in `juju status`, at once. It reads first, and writes only what is new, so that the time since when
// a unit is what it is stays true.
func (u *Unit) SetStatus(ctx context.Context, s Status) error { return u.setStatus(ctx, s, false) }

// SetAppStatus does the same for the application. Only the leader may.
func (u *Unit) SetAppStatus(ctx context.Context, s Status) error { return u.setStatus(ctx, s, true) }

func (u *Unit) setStatus(ctx context.Context, s Status, app bool) error {
	switch s.Name {
	case ActiveStatus, BlockedStatus, WaitingStatus, MaintenanceStatus:
	default:
		return fmt.Errorf("cannot set status %q: want active, blocked, waiting or maintenance", s.Name)
	}
	s.Message = oneLine(u.mask.hide(s.Message), maxMessage)
	old, known := u.statuses[app]
	if !known {
		var err error
		if old, err = u.statusGet(ctx, app); err != nil {
			return err
		}
	}
	if old != s {
		var args []string
		if app {
			args = append(args, "--application")
		}
		// The dashes keep a message such as "-x" from being read as a flag.
		args = append(args, "--", s.Name)
		if s.Message != "" {
			args = append(args, s.Message)
		}
		if _, err := u.run(ctx, Command{Name: "status-set", Args: args}); err != nil {
			return err
		}
	}
	u.statuses[app] = s
	return nil
}

func (u *Unit) statusGet(ctx context.Context, app bool) (Status, error) {
	args := []string{"--include-data", "--format", "json"}
	if app {
		args = append(args, "--application")
	}
	type answer struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	var got struct {
		answer
		App json.RawMessage `json:"application-status"` // --application wraps the answer, and adds the units'
	}
	if err := u.read(ctx, &got, "status-get", args...); err != nil {
		return Status{}, err
	}
	if got.App != nil {
		if err := json.Unmarshal(got.App, &got.answer); err != nil {
			return Status{}, fmt.Errorf("cannot read what status-get printed: %w", err)
		}
	}
	return Status{Name: got.Status, Message: got.Message}, nil
}

// SetApplicationVersion shows the workload's version in `juju status`, at once. Juju cannot be asked for it, so what was set last is
// remembered on the machine; in install, start, leader-elected and upgrade-charm it is set whatever is remembered.
func (u *Unit) SetApplicationVersion(ctx context.Context, version string) error {
	version = oneLine(version, 256)
	switch u.Event.Kind {
	case Install, Start, LeaderElected, UpgradeCharm:
	default:
		if u.files.version() == version {
			return nil
		}
	}
	if _, err := u.run(ctx, Command{Name: "application-version-set", Args: []string{"--", version}}); err != nil {
		return err
	}
	if err := u.files.setVersion(version); err != nil {
		u.Log.Warn("cannot remember the application's version, so it is set again each time", "error", err)
	}
	return nil
}

// Reboot asks for a reboot of the machine: with now, at once, and then the call does not return and Juju runs the hook again after
// the reboot; otherwise after the hook. Juju refuses it in an action and under juju-exec. Log lines are sent first.
func (u *Unit) Reboot(ctx context.Context, now bool) error {
	u.Flush(ctx)
	var args []string
	if now {
		args = append(args, "--now")
	}
	_, err := u.run(ctx, Command{Name: "juju-reboot", Args: args})
	return err
}

// oneLine makes a text fit for an argument that is shown in one line: no control characters, no broken UTF-8, at most max bytes.
func oneLine(text string, max int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.TrimSpace(text)
	if len(text) <= max {
		return text
	}
	return strings.ToValidUTF8(text[:max-len("…")], "") + "…"
}

// trimLine returns what a tool printed, without the newline at its end.
func trimLine(out []byte) string { return strings.TrimRight(string(out), "\r\n") }
