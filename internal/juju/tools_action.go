package juju

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	errNoAction  = errors.New("not running an action")
	actionKey    = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)
	reservedKeys = []string{"stdout", "stdout-encoding", "stderr", "stderr-encoding"}
)

func actionGet(i *invocation) error {
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	if i.task == 0 {
		return errNoAction
	}
	if len(i.args) == 0 {
		return i.write(i.params)
	}
	var value any = i.params
	for _, key := range strings.Split(i.args[0], ".") {
		inner, ok := value.(map[string]any)
		if !ok {
			return i.write(nil)
		}
		if value, ok = inner[key]; !ok {
			return i.write(nil)
		}
	}
	return i.write(value)
}

func actionSet(i *invocation) error {
	type pair struct {
		keys  []string
		value string
	}
	var pairs []pair
	for _, arg := range i.args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return usagef("argument %q must be of the form key...=value", arg)
		}
		keys := strings.Split(name, ".")
		for _, key := range keys {
			if !actionKey.MatchString(key) {
				return usagef("key %q must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens", key)
			}
			if slices.Contains(reservedKeys, key) {
				return usagef("cannot set reserved action key %q", key)
			}
		}
		pairs = append(pairs, pair{keys, strings.ToValidUTF8(value, "\uFFFD")})
	}
	if i.task == 0 {
		return errNoAction
	}
	results := cloneMap(i.results)
	for _, p := range pairs {
		setNested(results, p.keys, p.value)
	}
	i.results = results
	return nil
}

// setNested sets a value below keys; what is in the way gives way.
func setNested(m map[string]any, keys []string, value string) {
	for _, key := range keys[:len(keys)-1] {
		inner, ok := m[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[key] = inner
		}
		m = inner
	}
	m[keys[len(keys)-1]] = value
}

func cloneMap(m map[string]any) map[string]any {
	copied := map[string]any{}
	for key, value := range m {
		if inner, ok := value.(map[string]any); ok {
			value = cloneMap(inner)
		}
		copied[key] = value
	}
	return copied
}

func actionFail(i *invocation) error {
	if len(i.args) > 1 {
		return noMore(i.args[1:])
	}
	if i.task == 0 {
		return errNoAction
	}
	i.failed, i.message = true, "action failed without reason given, check action for errors"
	if len(i.args) == 1 {
		i.message = i.args[0]
	}
	return nil
}

// actionLog is stored at once, so that whoever waits for the action sees it.
func actionLog(i *invocation) error {
	if len(i.args) == 0 {
		return usagef("no message specified")
	}
	if i.task == 0 {
		return errNoAction
	}
	entry := TaskLog{Time: i.model.Now(), Message: strings.Join(i.args, " ")}
	return i.model.Update(func(s *State) error {
		task := s.Tasks[i.task]
		if task == nil {
			return fmt.Errorf("action %d not found", i.task)
		}
		task.Log = append(task.Log, entry)
		if len(task.Log) > maxTaskLog {
			task.Log = slices.Clone(task.Log[len(task.Log)-maxTaskLog:])
		}
		return nil
	})
}

// maxTaskLog bounds the messages that are kept of one task.
const maxTaskLog = 2000

// actionParams are what action-get shows: the parameters given, with the schema's defaults.
func actionParams(s *State, task *Task) (map[string]any, error) {
	params := viaJSON(task.Params)
	if task.Action == ExecAction {
		return params, nil
	}
	unit := s.Units[task.Receiver]
	if unit == nil {
		return params, nil
	}
	ch := s.Charms[unit.Uniter.Charm]
	if ch == nil {
		ch = s.CharmOf(unit.Application)
	}
	if ch == nil {
		return params, nil
	}
	spec, ok := ch.Actions.ActionSpecs[task.Action]
	if !ok {
		return params, nil
	}
	full, err := spec.InsertDefaults(params)
	if err != nil {
		return nil, fmt.Errorf("cannot run %q action: %w", task.Action, err)
	}
	return viaJSON(full), nil
}

// ValidateAction judges an action's parameters as Juju of the given major version does: 4 refuses what the schema does not
// name unless it says additionalProperties: true, 3 takes it unless it says false. The error has Juju's text.
func (c *Charm) ValidateAction(major int, action string, params map[string]any) error {
	spec, ok := c.Actions.ActionSpecs[action]
	if !ok {
		return fmt.Errorf("action %q not defined for charm %q", action, c.Name)
	}
	spec.Params = c.ActionSchema(major, action)
	return spec.ValidateParams(params)
}

// ActionSchema is an action's JSON schema with additionalProperties always stated. It is nil if the charm has no such action.
func (c *Charm) ActionSchema(major int, action string) map[string]any {
	spec, ok := c.Actions.ActionSpecs[action]
	if !ok {
		return nil
	}
	schema := maps.Clone(spec.Params)
	if !has(schema, "additionalProperties") {
		schema["additionalProperties"] = major < 4
	}
	return schema
}
