package hookstest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

// A Result is what one event brought about.
type Result struct {
	Event         string
	Code          int  // dispatch's exit code; -1: killed
	Killed        bool // by KillAfter, or by juju-reboot --now
	FlushError    error
	Before, After *juju.State // not to be changed
	Calls         []hooks.Command
	Steps         []string // hook tools, and what Scenario.Point named
	Log           []string // "LEVEL text" of each juju-log
	Stdout        string
	Stderr        string
	Reboot        juju.Reboot

	// Of an action:
	Results   map[string]string // by dotted key
	Failed    bool              // action-fail was called
	Message   string
	ActionLog []string

	t    testing.TB
	unit string
}

// Tools returns each hook tool's command line, without what went to stdin or files.
func (r Result) Tools() []string {
	lines := make([]string, len(r.Calls))
	for i, cmd := range r.Calls {
		lines[i] = cmd.String()
	}
	return lines
}

// Count is how many hook tools were called: how many processes the event costs.
func (r Result) Count() int { return len(r.Calls) }

// Called returns the command lines of one tool.
func (r Result) Called(tool string) []string {
	lines := []string{}
	for _, cmd := range r.Calls {
		if cmd.Name == tool {
			lines = append(lines, cmd.String())
		}
	}
	return lines
}

// Wrote returns the command lines of the tools that write.
func (r Result) Wrote() []string {
	lines := []string{}
	for _, cmd := range r.Calls {
		if writers[cmd.Name] {
			lines = append(lines, cmd.String())
		}
	}
	return lines
}

// Status is the unit's, after the event.
func (r Result) Status() hooks.Status {
	workload := r.After.Units[r.unit].Workload
	return hooks.Status{Name: workload.Status, Message: workload.Message}
}

// AppStatus is the application's, as its leader has set it.
func (r Result) AppStatus() hooks.Status {
	status := r.After.Applications[r.After.Units[r.unit].Application].Status
	return hooks.Status{Name: status.Status, Message: status.Message}
}

// Bag returns the settings of a databag after the event; owner is a unit or an application of the relation.
func (r Result) Bag(relationID, owner string) map[string]string {
	r.t.Helper()
	for _, relation := range r.After.Relations {
		for _, endpoint := range relation.Endpoints {
			if fmt.Sprintf("%s:%d", endpoint.Name, relation.ID) != relationID {
				continue
			}
			if unit, ok := relation.Units[owner]; ok {
				return unit.Settings
			}
			if app, ok := relation.Apps[owner]; ok {
				return app.Settings
			}
		}
	}
	require.Fail(r.t, fmt.Sprintf("relation %s has no databag of %s", relationID, owner))
	return nil
}

// RequireStatus requires that the event succeeded and left this status.
func (r Result) RequireStatus(name, message string) Result {
	r.t.Helper()
	r.RequireSuccess()
	require.Equal(r.t, hooks.Status{Name: name, Message: message}, r.Status())
	return r
}

// RequireSuccess requires that dispatch exited 0 and that Juju took what it wrote.
func (r Result) RequireSuccess() Result {
	r.t.Helper()
	require.NoError(r.t, r.FlushError, r.Event)
	require.Zero(r.t, r.Code, "%s: %s", r.Event, r.Stderr)
	return r
}

// Facts tells, in sorted lines, what the unit has made of Juju: its databags and its application's, its state, ports, statuses, version and
// secrets. Times and ids are not among them, so that two ways to the same end compare equal.
func (r Result) Facts() []string {
	state, facts := r.After, []string{}
	unit := state.Units[r.unit]
	add := func(format string, args ...any) { facts = append(facts, fmt.Sprintf(format, args...)) }
	app := state.Applications[unit.Application]
	for _, relation := range state.RelationsOf(unit.Application) {
		endpoint, _ := relation.Endpoint(unit.Application)
		if own := relation.Units[r.unit]; own != nil {
			for key, value := range own.Settings {
				add("relation %s:%d unit %s=%q", endpoint.Name, relation.ID, key, value)
			}
		}
		if own := relation.Apps[unit.Application]; own != nil {
			for key, value := range own.Settings {
				add("relation %s:%d app %s=%q", endpoint.Name, relation.ID, key, value)
			}
		}
	}
	for key, value := range unit.CharmState {
		add("state %s=%q", key, value)
	}
	for _, port := range unit.Ports {
		add("port %s %s", port, port.Endpoint)
	}
	add("status %s %q", unit.Workload.Status, unit.Workload.Message)
	add("application status %s %q", app.Status.Status, app.Status.Message)
	add("version %q", unit.WorkloadVersion)
	for _, secret := range state.Secrets {
		if secret.Owner.ID != r.unit && secret.Owner.ID != app.Name {
			continue
		}
		name := fmt.Sprintf("secret %s %q", secret.Owner.Kind, secret.Label)
		if latest := secret.Revision(secret.Latest()); latest != nil {
			for key, value := range latest.Content {
				add("%s %s=%q", name, key, value)
			}
		}
		for _, grant := range secret.Grants {
			add("%s granted to %s for %s", name, grant.Target, grant.Scope)
		}
	}
	slices.Sort(facts)
	return facts
}

// flat joins nested keys with dots.
func flat(results map[string]any) map[string]string {
	all := make(map[string]string)
	var walk func(prefix string, results map[string]any)
	walk = func(prefix string, results map[string]any) {
		for key, value := range results {
			if inner, ok := value.(map[string]any); ok {
				walk(prefix+key+".", inner)
				continue
			}
			all[prefix+key] = fmt.Sprint(value)
		}
	}
	walk("", results)
	return all
}

// minSecret is the length in bytes from which a secret's value is looked for. Shorter ones appear by chance.
const minSecret = 6

// leaks says where the content of a secret was put, that has no business there.
func leaks(r Result) []string {
	values := make(map[string]string) // value → what it is
	for _, state := range []*juju.State{r.Before, r.After} {
		for _, secret := range state.Secrets {
			for _, revision := range secret.Revisions {
				for key, value := range revision.Content {
					if len(value) >= minSecret {
						values[value] = fmt.Sprintf("%s of secret %q", key, secret.Label+secret.Name)
					}
				}
			}
		}
	}
	var found []string
	look := func(text, where string) {
		for value, what := range values {
			if strings.Contains(text, value) {
				found = append(found, fmt.Sprintf("%s is in %s", what, where))
			}
		}
	}
	for _, cmd := range r.Calls {
		look(strings.Join(cmd.Args, " "), "the arguments of "+cmd.Name)
		if len(cmd.Stdin) > 0 {
			look(string(cmd.Stdin), "the input of "+cmd.Name)
		}
	}
	look(r.Stdout, "stdout")
	look(r.Stderr, "stderr")
	return found
}
