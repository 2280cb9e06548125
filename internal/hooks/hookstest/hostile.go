package hookstest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

// Hostile are values that an operator, or somebody who plays one, may give an option or a parameter that is a text, by what they are.
func Hostile() map[string]string {
	return map[string]string{
		"empty": "", "space": " \t ", "negative": "-1", "huge": strings.Repeat("x", 70<<10), "NUL": "a\x00b", "newline": "a\nb", "escape": "\x1b[2Jx",
		"not UTF-8": "\xff\xfe", "unit": "10GB", "command": "$(reboot)", "more commands": "; reboot", "backticks": "`reboot`", "flag": "--help",
		"path upwards": "../../etc/passwd", "quote": `"'`,
	}
}

// Malformed is an option's or a parameter's row: it says what is expected of it when it is malformed.
type Malformed struct {
	// Message is a regular expression that the status of each refused value has to match.
	Message string
	// Accepts names those of Hostile, or numbers, that are good values.
	Accepts []string
	// With are options that are set as well, for an option that matters only then.
	With map[string]string
	// More are further bad values: "=" and a value, or for those of Hostile their names, each with the status that it has to give.
	More map[string]string
}

// CheckMalformedOptions sets each option of the charm to each malformed value. Each has to give the status blocked, with the message that
// its row asks for, or has to be among what the row accepts; same is called after each refused one. An option without a row
// fails the test, and so does a value of a wrong type that Juju would take.
func (s *Scenario) CheckMalformedOptions(rows map[string]Malformed, same func(about string)) {
	s.t.Helper()
	options := s.State().CharmOf(s.app).Config.Options
	for name := range rows {
		require.Contains(s.t, options, name, "a row for an option that there is not")
	}
	for name, option := range options {
		row, ok := rows[name]
		require.True(s.t, ok, "option %q has no row in the table of malformed options: add one", name)
		values := map[string]string{}
		switch option.Type {
		case "string":
			values = Hostile()
		case "int":
			values = map[string]string{"negative": "-1", "zero": "0", "huge": "9007199254740991", "beyond 32 bits": "4294967297"}
			s.refusedByJuju(name, "", "10MB", "1.5", "$(reboot)", " ")
		case "boolean":
			s.refusedByJuju(name, "", "maybe", "2", "$(reboot)")
		case "secret":
			s.refusedByJuju(name, "hunter2", "secret:", "$(reboot)")
		default:
			require.Fail(s.t, "no hostile values for options of type "+option.Type)
		}
		try := func(what, value, message string) {
			about := fmt.Sprintf("%s is %s", name, what)
			set := map[string]string{name: value}
			for other, good := range row.With {
				set[other] = good
			}
			s.WithConfig(set)
			r := s.Fire("config-changed").RequireSuccess()
			if slices.Contains(row.Accepts, what) {
				require.NotEqual(s.t, "blocked", r.Status().Name, "%s: %s", about, r.Status().Message)
			} else {
				require.Equal(s.t, "blocked", r.Status().Name, "%s: %s", about, r.Status().Message)
				require.Regexp(s.t, regexp.MustCompile(message), r.Status().Message, about)
				require.Contains(s.t, r.Status().Message, name, about)
				require.Less(s.t, len(r.Status().Message), 400, about)
				require.NotContains(s.t, r.Status().Message, "\n", about)
				same(about)
			}
			s.Change(func(state *juju.State) error {
				for key := range set {
					delete(state.Applications[s.app].Config, key)
				}
				state.Log = nil // same has seen it, and each change copies it
				return nil
			})
			if slices.Contains(row.Accepts, what) {
				s.Fire("config-changed").RequireSuccess()
			}
		}
		for what, value := range values {
			try(what, value, row.Message)
		}
		for value, message := range row.More {
			try(fmt.Sprintf("%q", value), strings.TrimPrefix(value, "="), regexp.QuoteMeta(message))
		}
	}
}

// refusedByJuju requires that Juju itself refuses the values, naming the option.
func (s *Scenario) refusedByJuju(option string, values ...string) {
	for _, value := range values {
		s.Change(func(state *juju.State) error {
			err := state.SetOptions(s.app, map[string]string{option: value})
			require.ErrorContains(s.t, err, option, "%q", value)
			return nil
		})
	}
}

// CheckMalformedParams runs each action that has one with each hostile value of each parameter that is a text, others being as
// given. Each has to fail with a message that matches the row, or to be among what the row accepts, and none may make the
// process fail. Rows are by "action parameter"; a parameter without a row fails the test.
func (s *Scenario) CheckMalformedParams(good map[string]map[string]any, rows map[string]Malformed) {
	s.t.Helper()
	for action, spec := range s.State().CharmOf(s.app).Actions.ActionSpecs {
		properties, _ := spec.Params["properties"].(map[string]any)
		for param, schema := range properties {
			row, ok := rows[action+" "+param]
			kind, _ := schema.(map[string]any)["type"].(string)
			values := Hostile()
			switch {
			case schema.(map[string]any)["enum"] != nil, kind == "integer", kind == "boolean":
				values = nil
				s.refusedParams(action, param, schema.(map[string]any), good[action])
				continue
			case kind != "string":
				require.Fail(s.t, fmt.Sprintf("no hostile values for parameters of type %q", kind))
			}
			require.True(s.t, ok, "parameter %q of action %q has no row in the table of malformed parameters: add one", param, action)
			s.forgetTasks()
			for what, value := range values {
				params := map[string]any{}
				for name, other := range good[action] {
					params[name] = other
				}
				params[param] = value
				about := fmt.Sprintf("%s, %s is %s", action, param, what)
				r := s.RunAction(action, params)
				require.Zero(s.t, r.Code, "%s: %s", about, r.Stderr)
				if slices.Contains(row.Accepts, what) {
					require.False(s.t, r.Failed, "%s: %s", about, r.Message)
					continue
				}
				require.True(s.t, r.Failed, about)
				require.Regexp(s.t, regexp.MustCompile(row.Message), r.Message, about)
				require.Less(s.t, len(r.Message), 400, about)
			}
		}
	}
}

// forgetTasks takes away the tasks that are over: each change copies the model, with all of them.
func (s *Scenario) forgetTasks() {
	s.Change(func(state *juju.State) error {
		clear(state.Tasks)
		clear(state.Operations)
		return nil
	})
}

// refusedParams requires that the action's schema refuses values of a number, a boolean or an enumeration.
func (s *Scenario) refusedParams(action, param string, schema, good map[string]any) {
	least, bounded := schema["minimum"]
	for _, value := range []any{"", " ", "10MB", "$(reboot)", -1, 1 << 40, true} {
		if value == true && schema["type"] == "boolean" || value == -1 && bounded && strings.HasPrefix(fmt.Sprint(least), "-") {
			continue
		}
		params := map[string]any{}
		for name, other := range good {
			params[name] = other
		}
		params[param] = value
		ch, major := s.State().CharmOf(s.app), s.State().Model.Major()
		require.ErrorContains(s.t, ch.ValidateAction(major, action, params), param, "%s %s=%v", action, param, value)
	}
}
