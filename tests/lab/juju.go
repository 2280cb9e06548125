package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// A Task is what `juju run --format json` says of one unit.
type Task struct {
	ID      string         `json:"id"`
	Log     []string       `json:"log"`
	Message string         `json:"message"`
	Results map[string]any `json:"results"`
	Status  string         `json:"status"`
	Unit    string         `json:"unit"`
}

// Text returns a result by its dotted path, or "".
func (k Task) Text(path string) string {
	var v any = k.Results
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[part]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Action runs an action on a unit and waits for it up to wait, such as 60s. It fails when Juju has no word of how the action ended; an
// action that failed is no error.
func (l *Lab) Action(ctx context.Context, wait, unit, action string, params ...string) (Task, error) {
	args := append([]string{"juju", "run", unit, action}, params...)
	r, err := l.Run(ctx, append(args, "--format", "json", "--wait", wait)...)
	if err != nil {
		return Task{}, err
	}
	var tasks map[string]Task
	if err := json.Unmarshal([]byte(r.Stdout), &tasks); err != nil {
		return Task{}, fmt.Errorf("cannot read what juju run said: %w: %s", err, r)
	}
	k, ok := tasks[unit]
	if !ok {
		return Task{}, fmt.Errorf("juju run does not name %s: %s", unit, r)
	}
	return k, nil
}

// Status is the part of `juju status --format json` that is looked at.
type Status struct {
	Machines map[string]struct {
		Agent struct {
			Current string `json:"current"`
		} `json:"juju-status"`
	} `json:"machines"`
	Applications map[string]struct {
		Units map[string]Unit `json:"units"`
	} `json:"applications"`
}

// Unit is one unit in a Status.
type Unit struct {
	Workload struct {
		Current string `json:"current"`
		Message string `json:"message"`
	} `json:"workload-status"`
	Agent struct {
		Current string `json:"current"`
		Message string `json:"message"`
	} `json:"juju-status"`
	Machine       string `json:"machine"`
	PublicAddress string `json:"public-address"`
}

// Status returns the model's status.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	var s Status
	out, err := l.Juju(ctx, "status", "--format", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// Units returns all units by name.
func (s Status) Units() map[string]Unit {
	all := map[string]Unit{}
	for _, app := range s.Applications {
		for name, unit := range app.Units {
			all[name] = unit
		}
	}
	return all
}
