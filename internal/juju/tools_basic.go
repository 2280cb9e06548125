package juju

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

func configGet(i *invocation) error {
	if i.flag("a") && len(i.args) > 0 {
		return usagef("cannot use argument --all together with key %q", i.args[0])
	}
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	if i.config == nil {
		i.config = i.state.Settings(i.app)
	}
	if len(i.args) == 1 {
		return i.write(i.config[i.args[0]])
	}
	values := map[string]any{}
	for key, value := range i.config {
		if value != nil || i.flag("a") {
			values[key] = value
		}
	}
	return i.write(values)
}

func unitGet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("no setting specified")
	}
	if key := i.args[0]; key != "private-address" && key != "public-address" {
		return usagef("unknown setting %q", key)
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	return i.write(i.machine().Address())
}

func isLeader(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	return i.write(i.leader())
}

// applicationVersionSet is stored at once: it does not wait for the hook's end.
func applicationVersionSet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("no version specified")
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	return i.model.Update(func(s *State) error {
		if u := s.Units[i.unit]; u != nil {
			u.WorkloadVersion = i.args[0]
		}
		return nil
	})
}

var logLevels = []string{"TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}

func jujuLog(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("no message specified")
	}
	level := strings.ToUpper(i.flags["l"])
	if i.flag("debug") {
		level = "DEBUG"
	}
	if level == "WARN" {
		level = "WARNING"
	}
	if !slices.Contains(logLevels, level) {
		level = "INFO" // a level that Juju does not know is no error
	}
	return i.log(level, "juju-log", strings.Join(i.args, " "))
}

func jujuReboot(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	if i.kind != RunHook {
		return fmt.Errorf("%s", "juju-reboot is not supported when running an action.") // Juju's text, with its full stop
	}
	if !i.flag("now") {
		i.reboot = max(i.reboot, RebootAfter)
		return nil
	}
	i.reboot = RebootNow
	if i.kill != nil {
		i.kill()
	}
	return nil
}

// goalStatus is one line of goal-state's answer. Its fields are in Juju's order.
type goalStatus struct {
	Status string `json:"status" yaml:"status"`
	Since  string `json:"since,omitempty" yaml:"since,omitempty"`
}

func goalState(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	type goal struct {
		Units     map[string]goalStatus            `json:"units" yaml:"units"`
		Relations map[string]map[string]goalStatus `json:"relations" yaml:"relations"`
	}
	answer := goal{Units: map[string]goalStatus{}, Relations: map[string]map[string]goalStatus{}}
	add := func(to map[string]goalStatus, app string) {
		for _, u := range i.state.UnitsOf(app) {
			status := u.WorkloadStatus()
			if u.Life != Alive {
				status.Status = "dying"
			}
			to[u.Name] = goalStatus{status.Status, formatSince(status.Since)}
		}
	}
	add(answer.Units, i.app)
	for _, r := range i.state.RelationsOf(i.app) {
		if r.Peer() {
			continue
		}
		local, _ := r.Endpoint(i.app)
		remote, _ := r.Remote(i.app)
		units := answer.Relations[local.Name]
		if units == nil {
			units = map[string]goalStatus{}
			answer.Relations[local.Name] = units
		}
		units[remote.Application] = goalStatus{r.Status.Status, formatSince(r.Status.Since)}
		add(units, remote.Application)
	}
	return i.write(answer)
}

func credentialGet(i *invocation) error {
	if err := noMore(i.args); err != nil {
		return err
	}
	if !i.state.Applications[i.app].Trust {
		return errors.New("cannot access cloud credentials: permission denied")
	}
	if i.state.CloudSpec == nil {
		return errors.New("cannot access cloud credentials: the model's cloud has none")
	}
	return i.write(i.state.CloudSpec)
}

func resourceGet(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("missing required resource name")
	}
	if err := noMore(i.args[1:]); err != nil {
		return err
	}
	name := i.args[0]
	resource, ok := i.state.Applications[i.app].Resources[name]
	if !ok {
		var api string
		if len(i.state.Model.APIAddresses) > 0 {
			api = i.state.Model.APIAddresses[0]
		}
		return fmt.Errorf("could not download resource: HTTP request failed: Get https://%s/model/%s/units/%s/resources/%s: "+
			"getting UUID of resource %s for application %s: resource not found",
			api, i.state.Model.UUID, UnitTag(i.unit), name, name, EntityUUID(i.state, "application", i.app))
	}
	path := strings.TrimSuffix(i.paths.CharmDir, "/charm") + "/resources/" + resource.Filename
	if i.fetch != nil {
		fetched, err := i.fetch(context.Background(), resource)
		if err != nil {
			return fmt.Errorf("could not download resource: %w", err)
		}
		path = fetched
	}
	i.stdout = append(i.stdout, path...) // no newline
	return nil
}

// EntityUUID is the identity that Juju 4 gives to what it also knows by name, and shows in some errors. It is the same for as
// long as the model is.
func EntityUUID(s *State, kind, name string) string {
	sum := sha1.Sum([]byte(s.Model.UUID + " " + kind + " " + name))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	x := hex.EncodeToString(sum[:16])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// leaderGet and leaderSet exist on Juju 3.6 only.
func leaderGet(i *invocation) error {
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	settings := i.state.Applications[i.app].LeaderSettings
	if len(i.args) == 0 || i.args[0] == "-" {
		if settings == nil {
			settings = map[string]string{}
		}
		return i.write(settings)
	}
	if value, ok := settings[i.args[0]]; ok {
		return i.write(value)
	}
	return i.write(nil)
}

func leaderSet(i *invocation) error {
	values, err := keyValues(i.args)
	if err != nil {
		return err
	}
	return i.model.Update(func(s *State) error {
		app := s.Applications[i.app]
		if app.Leader != i.unit {
			return errors.New("cannot write leadership settings: cannot write settings: not the leader")
		}
		makeMap(&app.LeaderSettings)
		for key, value := range values {
			if value == "" {
				delete(app.LeaderSettings, key)
			} else {
				app.LeaderSettings[key] = value
			}
		}
		return nil
	})
}
