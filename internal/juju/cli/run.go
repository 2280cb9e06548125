package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v2"

	"certlab/internal/juju"
)

var (
	unitName   = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*/(0|[1-9][0-9]*)$`)
	leaderName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*/leader$`)
	paramKey   = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)
)

// maxParams bounds a file of action parameters.
const maxParams = 4 << 20

// A waiter is what `run` and `exec` have in common: they follow the tasks of an operation.
type waiter struct {
	c          *call
	wait       time.Duration
	background bool
	utc        bool
	progress   bool
}

func (w *waiter) options() {
	w.c.flags.boolean(&w.background, "background", "Run the task in the background")
	w.c.flags.duration(&w.wait, "wait", "Maximum wait time for a task to complete")
	w.c.flags.boolean(&w.utc, "utc", "Show times in UTC")
}

func (w *waiter) check() error {
	if w.background && w.c.flags.flags["wait"].given {
		return errors.New("cannot specify both --wait and --background")
	}
	return nil
}

func runCommand(c *call) func([]string) (func() error, error) {
	w := &waiter{c: c, wait: 60 * time.Second, progress: true}
	w.options()
	var paramsFile, group string
	var stringArgs, parallel bool
	parallel = true
	c.flags.str(&paramsFile, "params", "Path to yaml-formatted params file")
	c.flags.boolean(&stringArgs, "string-args", "Use raw string values of CLI args")
	parallelOption := c.flags.boolean(&parallel, "parallel", "Run the action in parallel, overriding what the charm says")
	groupOption := c.flags.str(&group, "execution-group", "Run the action in the specified execution group")
	c.out.options("plain", map[string]func(any) (string, error){"plain": func(v any) (string, error) { return plainResults(v.(map[string]any)) }})
	return func(args []string) (func() error, error) {
		if err := w.check(); err != nil {
			return nil, err
		}
		request := juju.ActionRequest{}
		for len(args) > 0 && (unitName.MatchString(args[0]) || leaderName.MatchString(args[0])) {
			request.Receivers = append(request.Receivers, args[0])
			args = args[1:]
		}
		if len(request.Receivers) == 0 {
			return nil, errors.New("no unit specified")
		}
		if len(args) == 0 {
			return nil, errors.New("no action specified")
		}
		application, _, _ := strings.Cut(request.Receivers[0], "/")
		for _, r := range request.Receivers {
			if other, _, _ := strings.Cut(r, "/"); other != application {
				return nil, errors.New("all units must be of the same application")
			}
		}
		request.Action = args[0]
		if !paramKey.MatchString(request.Action) {
			return nil, fmt.Errorf("invalid unit or action name %q", request.Action)
		}
		type param struct {
			keys  []string
			value string
		}
		var params []param
		for _, arg := range args[1:] {
			key, value, ok := strings.Cut(arg, "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("argument %q must be of the form key.key.key...=value", arg)
			}
			p := param{keys: strings.Split(key, "."), value: value}
			for _, k := range p.keys {
				if !paramKey.MatchString(k) {
					return nil, fmt.Errorf("key %q must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens", k)
				}
			}
			params = append(params, p)
		}
		if parallelOption.given {
			request.Parallel = &parallel
		}
		if groupOption.given {
			request.ExecutionGroup = &group
		}
		return func() error {
			values := map[string]any{}
			if paramsFile != "" {
				read, err := c.readParams(paramsFile)
				if err != nil {
					return err
				}
				values = read
			}
			for _, p := range params {
				var value any = p.value
				if !stringArgs {
					value = nil
					if err := yaml.Unmarshal([]byte(p.value), &value); err != nil {
						return err
					}
					if value == nil {
						value = ""
					}
				}
				setNested(values, p.keys, value)
			}
			if _, err := json.Marshal(values); err != nil {
				return err
			}
			request.Params = flatten(values)
			return w.enqueue(func(s *juju.State, now time.Time) (*juju.Operation, error) { return s.EnqueueAction(request, now) })
		}, nil
	}
}

func (c *call) readParams(name string) (map[string]any, error) {
	data, err := c.readFile(name, maxParams)
	if err != nil {
		return nil, err
	}
	read := map[any]any{}
	if err := yaml.Unmarshal(data, &read); err != nil {
		return nil, err
	}
	conformed, err := conform(read)
	if err != nil {
		return nil, err
	}
	return conformed.(map[string]any), nil
}

// readFile reads a file that the caller named, up to a limit.
func (c *call) readFile(name string, limit int64) ([]byte, error) {
	var in io.Reader = c.Stdin
	if name != "-" {
		f, err := os.Open(c.path(name))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	if in == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("cannot read %q: it is larger than %d bytes", name, limit)
	}
	return data, err
}

// conform makes all keys of maps strings.
func conform(value any) (any, error) {
	switch v := value.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			name, ok := key.(string)
			if !ok {
				return nil, errors.New("map keyed with non-string value")
			}
			conformed, err := conform(inner)
			if err != nil {
				return nil, err
			}
			out[name] = conformed
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			conformed, err := conform(inner)
			if err != nil {
				return nil, err
			}
			out[i] = conformed
		}
		return out, nil
	}
	return value, nil
}

func setNested(values map[string]any, keys []string, value any) {
	for len(keys) > 1 {
		inner, ok := values[keys[0]].(map[string]any)
		if !ok {
			inner = map[string]any{}
			values[keys[0]] = inner
		}
		values, keys = inner, keys[1:]
	}
	values[keys[0]] = value
}

// flatten turns objects and arrays into text, as they arrive on 4.0.15: "map[a:deep b:5]", "[p q]".
func flatten(values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for name, value := range values {
		switch v := value.(type) {
		case map[string]any, []any:
			out[name] = fmt.Sprint(v)
		case int:
			out[name] = int64(v)
		case float64:
			if v == float64(int64(v)) {
				out[name] = int64(v) // the values travel as JSON: 3.0 is 3
				continue
			}
			out[name] = v
		default:
			out[name] = v
		}
	}
	return out
}

func execCommand(c *call) func([]string) (func() error, error) {
	w := &waiter{c: c, wait: 5 * time.Minute}
	w.options()
	var all bool
	parallel := true
	var group string
	var machines, applications, units []string
	c.flags.boolean(&all, "all", "Run the commands on all the machines")
	c.flags.boolean(&parallel, "parallel", "Run the commands in parallel without first acquiring a lock")
	c.flags.str(&group, "execution-group", "Commands in the same execution group are run sequentially")
	c.flags.commas(&machines, "machine", "One or more machine ids")
	c.flags.commas(&applications, "a,app,application", "One or more application names")
	c.flags.commas(&units, "u,unit", "One or more unit ids")
	c.out.options("plain", map[string]func(any) (string, error){"plain": func(v any) (string, error) { return plainExec(v.(map[string]any)), nil }})
	return func(args []string) (func() error, error) {
		if err := w.check(); err != nil {
			return nil, err
		}
		if len(args) == 0 {
			return nil, errors.New("no commands specified")
		}
		script := args[0]
		if len(args) > 1 {
			script = quoteCommand(args)
		}
		if all && len(machines)+len(applications)+len(units) > 0 {
			return nil, errors.New("You cannot specify --all and individual targets")
		}
		if !all && len(machines)+len(applications)+len(units) == 0 {
			return nil, errors.New("You must specify a target, either through --all, --machine, --application or --unit")
		}
		for _, u := range units {
			if !unitName.MatchString(u) && !leaderName.MatchString(u) {
				return nil, fmt.Errorf("The following exec targets are not valid:\n  %q is not a valid unit name", u)
			}
		}
		return func() error {
			return w.enqueue(func(s *juju.State, now time.Time) (*juju.Operation, error) {
				targets := machines
				if all {
					targets = sortedNames(s.Machines)
				}
				return s.EnqueueExec(script, w.wait, units, applications, targets, parallel, group, now)
			})
		}, nil
	}
}

// quoteCommand makes one shell line of separate arguments.
func quoteCommand(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-") != "" {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'"'"'`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// enqueue schedules an operation, tells of it, and waits for its tasks.
func (w *waiter) enqueue(make func(*juju.State, time.Time) (*juju.Operation, error)) error {
	c := w.c
	var op juju.Operation
	receivers := map[int]string{}
	// Time runs from before the tasks are there: an exec's own limit, which is the same, never comes first.
	ctx, cancel := c.after(w.wait)
	defer cancel()
	err := c.Env.Model.Update(func(s *juju.State) error {
		made, err := make(s, c.Env.Model.Now())
		if err != nil {
			return err
		}
		op = *made
		for _, id := range op.Tasks {
			receivers[id] = s.Tasks[id].Receiver
		}
		return nil
	})
	if err != nil {
		return err
	}
	plural := ""
	if len(op.Tasks) != 1 {
		plural = "s"
	}
	if w.background && len(op.Tasks) > 0 {
		if len(op.Tasks) == 1 {
			c.infof("Scheduled operation %d with task %d", op.ID, op.Tasks[0])
			c.infof("Check operation status with 'juju show-operation %d'", op.ID)
			c.infof("Check task status with 'juju show-task %d'", op.Tasks[0])
			return nil
		}
		c.infof("Scheduled operation %d with %d tasks", op.ID, len(op.Tasks))
		for _, id := range op.Tasks {
			c.infof("  - task %d on %s", id, tag(receivers[id]))
		}
		c.infof("Check operation status with 'juju show-operation %d'", op.ID)
		c.infof("Check task status with 'juju show-task <id>'")
		return nil
	}
	if w.progress && len(op.Tasks) > 0 {
		c.infof("Running operation %d with %d task%s", op.ID, len(op.Tasks), plural)
		for _, id := range op.Tasks {
			c.infof("  - task %d on %s", id, tag(receivers[id]))
		}
	}
	if op.Fail != "" {
		if w.progress {
			c.infof("")
		}
		amount := "any"
		if len(op.Tasks) > 0 {
			amount = "some"
		}
		c.infof("Operation %d failed to schedule %s tasks:\n%s", op.ID, amount, op.Fail)
		if len(op.Tasks) == 0 {
			return nil
		}
	}
	if w.progress {
		c.infof("")
	}
	return w.follow(ctx, op.Tasks, receivers)
}

func tag(receiver string) string {
	if strings.Contains(receiver, "/") {
		return juju.UnitTag(receiver)
	}
	return "machine-" + receiver
}

// follow waits for tasks and prints their results. Log lines are shown when there is one task.
func (w *waiter) follow(ctx context.Context, tasks []int, receivers map[int]string) error {
	c := w.c
	if w.progress {
		for _, id := range tasks {
			c.infof("Waiting for task %d...", id)
		}
	}
	shown := 0
	followLog := func(s *juju.State) {
		if !w.progress || len(tasks) != 1 || s.Tasks[tasks[0]] == nil {
			return
		}
		for _, line := range s.Tasks[tasks[0]].Log[shown:] {
			c.infof("%s", logLine(line, w.location()))
			shown++
		}
	}
	var s *juju.State // as it was last seen in time
	err := c.Env.Model.Wait(ctx, func(now *juju.State) bool {
		s = now
		followLog(s)
		for _, id := range tasks {
			if t := s.Tasks[id]; t != nil && !t.Status.Final() {
				return false
			}
		}
		return true
	})
	if shown > 0 {
		c.infof("")
	}
	results := map[string]any{}
	var late []string
	type failure struct{ id, code int }
	var failures []failure
	for _, id := range tasks {
		t := s.Tasks[id]
		if t == nil || !t.Status.Final() {
			late = append(late, receiverKind(receivers[id])+" "+receivers[id])
			continue
		}
		results[t.Receiver] = taskDoc(t, w.location(), true)
		if code := returnCode(t); code != 0 {
			failures = append(failures, failure{id, code})
		}
	}
	if c.ctx.Err() != nil && err != nil {
		return c.ctx.Err()
	}
	if len(results) > 0 {
		if err := c.out.write(results); err != nil {
			return err
		}
	}
	if len(late) > 0 {
		return fmt.Errorf("timed out waiting for results from: %s", strings.Join(late, ", "))
	}
	switch len(failures) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("the following task failed:\n - id \"%d\" with return code %d\n\nuse 'juju show-task' to inspect the failure\n", failures[0].id, failures[0].code)
	}
	var list strings.Builder
	for _, f := range failures {
		fmt.Fprintf(&list, " - id \"%d\" with return code %d\n", f.id, f.code)
	}
	return fmt.Errorf("the following tasks failed:\n%s\nuse 'juju show-task' to inspect the failures\n", list.String())
}

func receiverKind(receiver string) string {
	if strings.Contains(receiver, "/") {
		return "unit"
	}
	return "machine"
}

func (w *waiter) location() *time.Location {
	if w.utc {
		return time.UTC
	}
	return w.c.Location
}

func logLine(line juju.TaskLog, location *time.Location) string {
	return line.Time.In(location).Format("15:04:05") + " " + line.Message
}

func returnCode(t *juju.Task) int {
	switch code := t.Results["return-code"].(type) {
	case int:
		return code
	case int64:
		return int(code)
	case float64:
		return int(code) // a state that was read back from JSON
	}
	return 0
}

// taskDoc is a task as yaml and json show it: keys sorted, no time of completion (as measured).
func taskDoc(t *juju.Task, location *time.Location, unit bool) map[string]any {
	doc := map[string]any{"id": fmt.Sprint(t.ID), "status": string(t.Status)}
	if unit {
		doc[receiverKind(t.Receiver)] = t.Receiver
	}
	if t.Message != "" {
		doc["message"] = t.Message
	}
	if len(t.Log) > 0 {
		lines := make([]string, len(t.Log))
		for i, line := range t.Log {
			lines[i] = longTime(line.Time, location) + " " + line.Message
		}
		doc["log"] = lines
	}
	if len(t.Results) > 0 {
		results := make(map[string]any, len(t.Results))
		for key, value := range t.Results {
			results[key] = value
		}
		if _, ok := results["return-code"]; ok {
			results["return-code"] = returnCode(t)
		}
		doc["results"] = results
	}
	timing := map[string]string{}
	if !t.Enqueued.IsZero() {
		timing["enqueued"] = longTime(t.Enqueued, location)
	}
	if !t.Started.IsZero() {
		timing["started"] = longTime(t.Started, location)
	}
	doc["timing"] = timing
	return doc
}

// longTime is how Juju prints the times of tasks: "2026-11-23 09:38:35.560652888 +0000 UTC".
func longTime(t time.Time, location *time.Location) string {
	return t.Round(0).In(location).String()
}

// plainResults is `juju run`'s plain format: of one task its results and output, of several a YAML document by unit.
func plainResults(results map[string]any) (string, error) {
	if len(results) == 1 {
		for _, v := range results {
			return plainTask(v.(map[string]any))
		}
	}
	all := map[string]any{}
	for unit, v := range results {
		task := v.(map[string]any)
		output := fmt.Sprintf("Task %v %v", task["id"], task["status"])
		if values, ok := task["results"].(map[string]any); ok {
			text, err := resultsText(values)
			if err != nil {
				return "", err
			}
			output = strings.TrimRight(text, "\n") + "\n"
		}
		doc := map[string]any{"id": task["id"], "status": task["status"], "output": output}
		if message, ok := task["message"]; ok {
			doc["message"] = message
		}
		all[unit] = doc
	}
	return marshalYAML(all)
}

func plainTask(task map[string]any) (string, error) {
	var out strings.Builder
	status := task["status"]
	values, ok := task["results"].(map[string]any)
	if message, failed := task["message"]; failed && (status == "failed" || status == "error") {
		fmt.Fprintf(&out, "Action id %v failed: %v\n", task["id"], message)
	} else if !ok {
		fmt.Fprintf(&out, "Task %v %v\n", task["id"], status)
	}
	if ok {
		text, err := resultsText(values)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// resultsText is the results as YAML, an empty line, and what the action printed.
func resultsText(values map[string]any) (string, error) {
	own := map[string]any{}
	for key, value := range values {
		switch key {
		case "return-code", "stdout", "stderr", "stdout-encoding", "stderr-encoding":
		default:
			own[key] = value
		}
	}
	text := ""
	if len(own) > 0 {
		var err error
		if text, err = marshalYAML(own); err != nil {
			return "", err
		}
	}
	return text + "\n" + outputText(values), nil
}

func outputText(values map[string]any) string {
	text := ""
	for _, key := range []string{"stdout", "stderr"} {
		if s, ok := values[key].(string); ok && s != "" {
			text += strings.TrimSuffix(s, "\n") + "\n"
		}
	}
	return text
}

// plainExec is `juju exec`'s plain format: what each target printed, with the targets' names when several printed something.
func plainExec(results map[string]any) string {
	outputs := map[string]string{}
	for name, v := range results {
		values, _ := v.(map[string]any)["results"].(map[string]any)
		if text := outputText(values); text != "" {
			outputs[name] = text
		}
	}
	if len(outputs) == 1 {
		for _, text := range outputs {
			return text
		}
	}
	var out strings.Builder
	for _, name := range sortedNames(outputs) {
		fmt.Fprintf(&out, "%s:\n%s\n", name, outputs[name])
	}
	return out.String()
}
