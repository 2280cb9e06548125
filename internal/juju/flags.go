package juju

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A usageError is a mistake in a tool's arguments: exit code 2, where a failed run has 1.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A flagSpec is one option of a hook tool: its names, the first of which holds its value, and how its value is read.
type flagSpec struct {
	names []string
	kind  flagKind
	def   string
}

type flagKind int

const (
	textFlag     flagKind = iota
	boolFlag              // may be given as --app or --app=false
	relationFlag          // NAME:N or N, of a relation that the unit is in
	storageFlag           // NAME/N, of a storage instance that the unit has
)

var errHelp = errors.New("help requested")

// parseFlags reads options wherever they stand among the arguments, up to a --, in the manner of Juju's own parser: -x and --x
// are the same, and a value follows as =VALUE or as the next argument. check judges the values of relation and storage flags.
func parseFlags(specs []flagSpec, args []string, check func(flagKind, string) error) (values map[string]string, rest []string, err error) {
	values = map[string]string{}
	byName := map[string]flagSpec{}
	for _, spec := range specs {
		values[spec.names[0]] = spec.def
		for _, name := range spec.names {
			byName[name] = spec
		}
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return values, append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		shown := dashed(name)
		spec, ok := byName[name]
		if !ok {
			if name == "h" || name == "help" {
				return nil, nil, errHelp
			}
			return nil, nil, usagef("option provided but not defined: %s", shown)
		}
		if spec.kind == boolFlag {
			if !hasValue {
				value = "true"
			}
			b, err := strconv.ParseBool(value)
			if err != nil {
				return nil, nil, usagef("invalid boolean value %q for option %s: %v", value, shown, err)
			}
			values[spec.names[0]] = strconv.FormatBool(b)
			continue
		}
		if !hasValue {
			if len(args) == 0 {
				return nil, nil, usagef("option needs an argument: %s", shown)
			}
			value, args = args[0], args[1:]
		}
		if spec.names[0] == "format" && spec.def != "" && !knownFormat(spec.def, value) {
			return nil, nil, usagef("invalid value %q for option %s: unknown format %q", value, shown, value)
		}
		if spec.kind != textFlag {
			if err := check(spec.kind, value); err != nil {
				return nil, nil, usagef("invalid value %q for option %s: %v", value, shown, err)
			}
		}
		values[spec.names[0]] = value
	}
	return values, rest, nil
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// noMore refuses arguments that are left over.
func noMore(args []string) error {
	if len(args) > 0 {
		return usagef("unrecognized args: %q", args)
	}
	return nil
}

// keyValues reads key=value arguments as relation-set and state-set do. An empty value is allowed; a key twice is not.
func keyValues(args []string) (map[string]string, error) {
	values := map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usagef(`expected "key=value", got %q`, arg)
		}
		if _, twice := values[key]; twice {
			return nil, usagef("key %q specified more than once", key)
		}
		values[key] = value
	}
	return values, nil
}
