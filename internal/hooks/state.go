package hooks

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	maxStateValue = 65536   // bytes; measured on Juju 4.0.15
	maxState      = 2 << 20 // bytes, in all; Juju's source
)

// StateGet returns what the unit keeps in the controller between hooks, with what this dispatch has written.
func (u *Unit) StateGet(ctx context.Context) (map[string]string, error) {
	if u.state == nil {
		state := make(map[string]string)
		if err := u.read(ctx, &state, "state-get", "--format", "json"); err != nil {
			return nil, err
		}
		u.state = state
	}
	return maps.Clone(u.state), nil
}

// StateSet writes settings into the unit's state, when the hook has succeeded. Settings that are there already are not written again, an empty
// value takes a setting out, and those not named stay as they are. A value has at most 65536 bytes.
func (u *Unit) StateSet(ctx context.Context, settings map[string]string) error {
	state, err := u.StateGet(ctx)
	if err != nil {
		return err
	}
	changed := make(map[string]string)
	var gone []string
	total := 0
	for _, key := range sortedKeys(settings) {
		value := settings[key]
		if key == "" || strings.ContainsAny(key, "=\n") {
			return fmt.Errorf("cannot keep state: %q is no setting's name", key)
		}
		if len(value) > maxStateValue {
			return fmt.Errorf("cannot keep %q in the unit's state: it has %d bytes, at most %d are allowed", key, len(value), maxStateValue)
		}
		old, there := state[key]
		switch {
		case value == "" && there:
			gone = append(gone, key)
			delete(state, key)
		case value != "" && value != old:
			changed[key] = value
			state[key] = value
		}
	}
	for key, value := range state {
		total += len(key) + len(value)
	}
	if total > maxState {
		return fmt.Errorf("cannot keep %d bytes in the unit's state: at most %d are allowed", total, maxState)
	}
	if len(changed) > 0 {
		stdin, err := yaml.Marshal(changed)
		if err != nil {
			return fmt.Errorf("cannot keep state: %w", err)
		}
		if _, err := u.run(ctx, Command{Name: "state-set", Args: []string{"--file", "-"}, Stdin: stdin}); err != nil {
			u.state = nil
			return err
		}
	}
	for _, key := range gone {
		if _, err := u.run(ctx, Command{Name: "state-delete", Args: []string{"--", key}}); err != nil {
			u.state = nil
			return err
		}
	}
	u.state = state
	return nil
}
