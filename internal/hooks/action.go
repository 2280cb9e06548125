package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// An ActionCall is one run of an action: its parameters and what it answers.
type ActionCall struct {
	Name string
	ID   string // the task's number
	// Output is shown as the action's stdout, and is the place for what must not be an argument of a process, such as a token that was
	// just made, and for what is long: one result may have at most 120,000 bytes.
	Output io.Writer

	unit    *Unit
	params  map[string]json.RawMessage
	results map[string]string
	failed  bool
	message string
}

// Params reads the parameters into *target, a struct whose fields have tags such as `param:"wait"` and are of type string, int, int64,
// float64 or bool, or pointers to those. Juju has checked types and required parameters, and filled in defaults; a parameter without a
// value gives the zero value or nil, one without a field is an error. Whole numbers are also taken as 3.0, as Juju may hand them on.
func (c *ActionCall) Params(ctx context.Context, target any) error {
	if c.params == nil {
		params := make(map[string]json.RawMessage)
		if err := c.unit.read(ctx, &params, "action-get", "--format", "json"); err != nil {
			return err
		}
		c.params = params
	}
	c.unit.decoded(c.Name, target)
	return decodeFields(c.params, target, "param", "parameter", false)
}

// maxResult bounds one result's bytes: it travels as an argument, which the kernel limits to 128 KiB.
const maxResult = 120_000

var resultKey = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)

// reservedResults are names that Juju keeps for itself. It refuses all but return-code, which it overwrites (seen on 4.0.15).
var reservedResults = map[string]bool{"stdout": true, "stdout-encoding": true, "stderr": true, "stderr-encoding": true, "return-code": true}

// Set adds results: strings, booleans, numbers, and maps and slices of those, whose keys and indexes are joined by dots. They are sent when
// the action returns, and kept when it fails. Keys consist of lower-case letters, digits and hyphens, the first and last no hyphen. Control
// characters in values become spaces; NaN, nil and empty collections are left out.
func (c *ActionCall) Set(results map[string]any) error {
	flat := make(map[string]string)
	if err := flatten(flat, "", results); err != nil {
		return err
	}
	for _, key := range sortedKeys(flat) {
		for _, part := range strings.Split(key, ".") {
			if reservedResults[part] {
				return fmt.Errorf("cannot set action result %q: the name %s is Juju's own", key, part)
			}
		}
		for other := range c.results {
			if strings.HasPrefix(other, key+".") || strings.HasPrefix(key, other+".") {
				return fmt.Errorf("cannot set action result %q: there is %q already", key, other)
			}
		}
		value := c.unit.mask.hide(flat[key])
		if len(value) > maxResult {
			return fmt.Errorf("cannot set action result %q: it has %d bytes, at most %d are allowed (print it to the action's output)", key, len(value), maxResult)
		}
		c.results[key] = value
	}
	return nil
}

func flatten(into map[string]string, prefix string, v any) error {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if !resultKey.MatchString(key) {
				return fmt.Errorf("cannot set action result %q: a key consists of lower-case letters, digits and hyphens", prefix+key)
			}
			if err := flatten(into, prefix+key+".", v[key]); err != nil {
				return err
			}
		}
	case map[string]string:
		for _, key := range sortedKeys(v) {
			if err := flatten(into, prefix, map[string]any{key: v[key]}); err != nil {
				return err
			}
		}
	case map[string]int:
		for _, key := range sortedKeys(v) {
			if err := flatten(into, prefix, map[string]any{key: v[key]}); err != nil {
				return err
			}
		}
	case []any:
		for i, each := range v {
			if err := flatten(into, prefix+strconv.Itoa(i)+".", each); err != nil {
				return err
			}
		}
	case []string:
		for i, each := range v {
			if err := flatten(into, prefix+strconv.Itoa(i)+".", each); err != nil {
				return err
			}
		}
	case string:
		into[strings.TrimSuffix(prefix, ".")] = oneLine(v, len(v)+len("\uFFFD")*len(v))
	case bool, int, int64, uint64, json.Number, fmt.Stringer:
		into[strings.TrimSuffix(prefix, ".")] = fmt.Sprint(v)
	case float64:
		// 1e+06 would be odd to read in a table of counts.
		if v == v {
			into[strings.TrimSuffix(prefix, ".")] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	default:
		return fmt.Errorf("cannot set action result %q: it is a %T", strings.TrimSuffix(prefix, "."), v)
	}
	return nil
}

// Fail makes the action a failed one with this message, when it returns. What it wrote to Juju stays, and `juju run` exits 0.
func (c *ActionCall) Fail(format string, args ...any) {
	c.failed = true
	c.message = status("", format, args).Message
}

// Log shows a line to the operator who waits for the action, at once.
func (c *ActionCall) Log(ctx context.Context, format string, args ...any) error {
	text := oneArgument(c.unit.mask.hide(status("", format, args).Message))
	_, err := c.unit.run(ctx, Command{Name: "action-log", Args: []string{"--", text}})
	return err
}

// maxResultsCall bounds the bytes of one action-set's arguments; the kernel allows about 2 MiB together with the environment.
const maxResultsCall = 1 << 20

// finish sends results and failure.
func (c *ActionCall) finish(ctx context.Context, err error) error {
	args, size := []string{"--"}, 0
	send := func() error {
		if len(args) == 1 {
			return nil
		}
		_, err := c.unit.run(ctx, Command{Name: "action-set", Args: args})
		args, size = []string{"--"}, 0
		return err
	}
	for _, key := range sortedKeys(c.results) {
		arg := key + "=" + c.results[key]
		if size+len(arg) > maxResultsCall {
			if err := send(); err != nil {
				return err
			}
		}
		args, size = append(args, arg), size+len(arg)
	}
	if err := send(); err != nil {
		return err
	}
	message := c.message
	switch {
	case err != nil:
		message = err.Error()
	case !c.failed:
		return nil
	}
	if message = oneLine(c.unit.mask.hide(message), 4096); message == "" {
		message = "failed without a reason"
	}
	_, failErr := c.unit.run(ctx, Command{Name: "action-fail", Args: []string{"--", message}})
	return failErr
}
