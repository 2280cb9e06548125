package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"certlab/internal/juju"
)

func taskID(text string) (int, error) {
	id, err := strconv.Atoi(text)
	if err != nil || id < 0 {
		return 0, fmt.Errorf("task ID %q not valid", text)
	}
	return id, nil
}

func showTaskCommand(c *call) func([]string) (func() error, error) {
	w := &waiter{c: c, wait: -1, progress: true}
	var watch bool
	c.flags.duration(&w.wait, "wait", "Maximum wait time for a task to complete")
	c.flags.boolean(&watch, "watch", "Wait indefinitely for results")
	c.flags.boolean(&w.utc, "utc", "Show times in UTC")
	c.out.options("plain", map[string]func(any) (string, error){"plain": func(v any) (string, error) { return plainTask(v.(map[string]any)) }})
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no task ID specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		if watch && w.wait >= 0 {
			return nil, errors.New("cannot specify both --watch and --wait")
		}
		id, err := taskID(args[0])
		if err != nil {
			return nil, err
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			if s.Tasks[id] == nil {
				return fmt.Errorf("task %q not found", args[0])
			}
			if watch || w.wait > 0 {
				shown := 0
				ctx := c.ctx
				done := func(s *juju.State) bool {
					t := s.Tasks[id]
					if t == nil {
						return true
					}
					for _, line := range t.Log[min(shown, len(t.Log)):] {
						c.infof("%s", logLine(line, w.location()))
						shown++
					}
					return t.Status.Final()
				}
				if w.wait > 0 {
					limited, cancel := c.after(w.wait)
					defer cancel()
					ctx = limited
				}
				_ = c.Env.Model.Wait(ctx, done) // when time is up, what is known is shown
				if shown > 0 {
					c.infof("")
				}
				if s = c.Env.Model.Snapshot(); s.Tasks[id] == nil {
					return fmt.Errorf("task %q not found", args[0])
				}
			}
			return c.out.write(taskDoc(s.Tasks[id], w.location(), true))
		}, nil
	}
}

func cancelTaskCommand(c *call) func([]string) (func() error, error) {
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no task IDs specified")
		}
		ids := make([]int, len(args))
		for i, arg := range args {
			id, err := taskID(arg)
			if err != nil {
				return nil, err
			}
			ids[i] = id
		}
		return func() error {
			var failed []string
			cancelled := map[string]any{}
			err := c.Env.Model.Update(func(s *juju.State) error {
				for _, id := range ids {
					if err := s.CancelTask(id, c.Env.Model.Now()); err != nil {
						failed = append(failed, fmt.Sprintf("task: %d, error: %v", id, err))
						continue
					}
					cancelled[fmt.Sprint(id)] = taskDoc(s.Tasks[id], c.Location, true)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if len(failed) > 0 {
				c.warnf("The following tasks could not be canceled:\n%s", strings.Join(failed, "\n"))
			}
			if len(cancelled) == 0 {
				c.out.written = true
				return nil
			}
			return c.out.write(cancelled)
		}, nil
	}
}

var taskStates = []string{"pending", "running", "completed", "failed", "cancelled", "aborting", "aborted", "error"}

func operationsCommand(c *call) func([]string) (func() error, error) {
	var states, actions, apps, units, machines []string
	limit, offset := 50, 0
	var utc bool
	c.flags.commas(&states, "status", "Comma separated list of statuses to filter on")
	c.flags.commas(&actions, "actions", "Comma separated list of actions names to filter on")
	c.flags.commas(&apps, "a,apps,applications", "Comma separated list of applications to filter on")
	c.flags.commas(&units, "u,units", "Comma separated list of units to filter on")
	c.flags.commas(&machines, "machines", "Comma separated list of machines to filter on")
	c.flags.integer(&limit, "limit", "The maximum number of operations to return")
	c.flags.integer(&offset, "offset", "Return operations from offset onwards")
	c.flags.boolean(&utc, "utc", "Show times in UTC")
	c.out.options("plain", map[string]func(any) (string, error){"plain": func(v any) (string, error) { return v.(operationList).table, nil }})
	return func(args []string) (func() error, error) {
		for _, state := range states {
			if !slices.Contains(taskStates, state) {
				return nil, fmt.Errorf("%q is not a valid task status, want one of %v", state, taskStates)
			}
		}
		if len(args) > 0 {
			return nil, fmt.Errorf("unrecognized args: %q", args)
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			location := c.Location
			if utc {
				location = time.UTC
			}
			var found []*juju.Operation
			for _, op := range s.Operations {
				if operationMatches(s, op, states, actions, apps, units, machines) {
					found = append(found, op)
				}
			}
			// Juju sorts the numbers as text, and cuts pages in that order.
			sort.Slice(found, func(i, j int) bool { return fmt.Sprint(found[i].ID) < fmt.Sprint(found[j].ID) })
			more := false
			found = found[min(max(offset, 0), len(found)):]
			if limit > 0 && len(found) > limit {
				found, more = found[:limit], true
			}
			if len(found) == 0 {
				c.infof("no matching operations")
				c.out.written = true
				return nil
			}
			sort.Slice(found, func(i, j int) bool { return found[i].ID < found[j].ID })
			if c.out.machine() {
				docs := map[string]any{}
				for _, op := range found {
					docs[fmt.Sprint(op.ID)] = operationDoc(s, op, location)
				}
				return c.out.write(docs)
			}
			list := operationList{}
			if more {
				list.table = fmt.Sprintf("Displaying operation results %d to %d.\nRun the command again with --offset=%d --limit=%d to see the next batch.\n\n", offset+1, offset+len(found), offset+limit, limit)
			}
			t := table{right: map[int]bool{0: true}}
			t.add(header("ID", "Status", "Started", "Finished", "Task IDs", "Summary")...)
			for _, op := range found {
				_, finished := s.OperationTimes(op)
				ids := make([]string, 0, len(op.Tasks))
				for i, id := range op.Tasks {
					if i == 5 {
						ids = append(ids, "...")
						break
					}
					ids = append(ids, fmt.Sprint(id))
				}
				at := ""
				if !finished.IsZero() {
					at = finished.In(location).Format("2006-01-02T15:04:05")
				}
				t.add(text(fmt.Sprint(op.ID)), text(string(s.OperationStatus(op))), text(""), text(at), text(strings.Join(ids, ",")), text(op.Summary))
			}
			list.table += t.render(false)
			return c.out.write(list)
		}, nil
	}
}

type operationList struct{ table string }

func operationMatches(s *juju.State, op *juju.Operation, states, actions, apps, units, machines []string) bool {
	if len(states) > 0 && !slices.Contains(states, string(s.OperationStatus(op))) {
		return false
	}
	if len(actions)+len(apps)+len(units)+len(machines) == 0 {
		return true
	}
	for _, id := range op.Tasks {
		t := s.Tasks[id]
		if t == nil {
			continue
		}
		application, _, isUnit := strings.Cut(t.Receiver, "/")
		if (len(actions) == 0 || slices.Contains(actions, t.Action)) &&
			(len(apps) == 0 || isUnit && slices.Contains(apps, application)) &&
			(len(units) == 0 || slices.Contains(units, t.Receiver)) &&
			(len(machines) == 0 || slices.Contains(machines, t.Receiver)) {
			return true
		}
	}
	return false
}

// operationDoc is an operation as `juju show-operation` has it: no results, only states, messages and logs of its tasks.
func operationDoc(s *juju.State, op *juju.Operation, location *time.Location) map[string]any {
	started, completed := s.OperationTimes(op)
	timing := map[string]string{"enqueued": longTime(op.Enqueued, location)}
	if !started.IsZero() {
		timing["started"] = longTime(started, location)
	}
	if !completed.IsZero() {
		timing["completed"] = longTime(completed, location)
	}
	doc := map[string]any{"summary": op.Summary, "status": string(s.OperationStatus(op)), "timing": timing}
	if op.Fail != "" {
		doc["error"] = op.Fail
	}
	tasks := map[string]any{}
	for _, id := range op.Tasks {
		t := s.Tasks[id]
		if t == nil {
			continue
		}
		task := taskDoc(t, location, false)
		delete(task, "results")
		delete(task, "id")
		task["host"] = t.Receiver
		tasks[fmt.Sprint(id)] = task
		action := map[string]any{"name": t.Action, "parameters": t.Params}
		doc["action"] = action
	}
	if len(tasks) > 0 {
		doc["tasks"] = tasks
	}
	return doc
}

func showOperationCommand(c *call) func([]string) (func() error, error) {
	w := &waiter{c: c, wait: -1}
	var watch bool
	c.flags.duration(&w.wait, "wait", "Wait for results")
	c.flags.boolean(&watch, "watch", "Wait indefinitely for results")
	c.flags.boolean(&w.utc, "utc", "Show times in UTC")
	c.out.options("yaml", nil)
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no operation ID specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		id, err := taskID(args[0])
		if err != nil {
			return nil, fmt.Errorf("operation ID %q not valid", args[0])
		}
		return func() error {
			if c.Env.Model.Snapshot().Operations[id] == nil {
				return fmt.Errorf("operation %q not found", args[0])
			}
			if watch || w.wait > 0 {
				ctx := c.ctx
				if w.wait > 0 {
					limited, cancel := c.after(w.wait)
					defer cancel()
					ctx = limited
				}
				_ = c.Env.Model.Wait(ctx, func(s *juju.State) bool {
					op := s.Operations[id]
					return op == nil || s.OperationStatus(op).Final()
				})
			}
			s := c.Env.Model.Snapshot()
			if s.Operations[id] == nil {
				return fmt.Errorf("operation %q not found", args[0])
			}
			return c.out.write(operationDoc(s, s.Operations[id], w.location()))
		}, nil
	}
}

func actionsCommand(c *call) func([]string) (func() error, error) {
	var schema bool
	c.flags.boolean(&schema, "schema", "Display the full action schema")
	c.out.options("default", map[string]func(any) (string, error){
		"default": func(v any) (string, error) {
			switch v := v.(type) {
			case map[string]string:
				t := table{}
				t.add(header("Action", "Description")...)
				for _, name := range sortedNames(v) {
					t.add(text(name), text(v[name]))
				}
				return t.render(false), nil
			default:
				return marshalYAML(v)
			}
		},
		"tabular": nil,
	})
	c.out.other["tabular"] = c.out.other["default"]
	return func(args []string) (func() error, error) {
		if len(args) == 0 {
			return nil, errors.New("no application specified")
		}
		if len(args) > 1 {
			return nil, fmt.Errorf("unrecognized args: %q", args[1:])
		}
		return func() error {
			s := c.Env.Model.Snapshot()
			ch := s.CharmOf(args[0])
			if ch == nil {
				return fmt.Errorf("application %q not found", args[0])
			}
			if len(ch.Actions.ActionSpecs) == 0 {
				c.infof("No actions defined for %s.", args[0])
				return nil
			}
			if schema {
				docs := map[string]any{}
				for name := range ch.Actions.ActionSpecs {
					docs[name] = ch.ActionSchema(s.Model.Major(), name)
				}
				return c.out.write(docs)
			}
			short := map[string]string{}
			for name, spec := range ch.Actions.ActionSpecs {
				short[name] = spec.Description
			}
			return c.out.write(short)
		}, nil
	}
}

func showActionCommand(c *call) func([]string) (func() error, error) {
	return func(args []string) (func() error, error) {
		switch {
		case len(args) == 0:
			return nil, errors.New("no application specified")
		case len(args) == 1:
			return nil, errors.New("no action specified")
		case len(args) > 2:
			return nil, fmt.Errorf("unrecognized args: %q", args[2:])
		}
		return func() error {
			ch := c.Env.Model.Snapshot().CharmOf(args[0])
			if ch == nil {
				return fmt.Errorf("application %q not found", args[0])
			}
			spec, ok := ch.Actions.ActionSpecs[args[1]]
			if !ok {
				fmt.Fprintf(c.Stderr, "unknown action %q\n", args[1])
				return errSilent
			}
			fmt.Fprintf(c.Stdout, "%s\n\nArguments\n", spec.Description)
			properties, _ := spec.Params["properties"].(map[string]any)
			type argument struct {
				Type        any `yaml:"type"`
				Description any `yaml:"description"`
				Default     any `yaml:"default,omitempty"`
			}
			for _, name := range sortedNames(properties) {
				property, _ := properties[name].(map[string]any)
				doc, err := marshalYAML(map[string]argument{name: {property["type"], property["description"], property["default"]}})
				if err != nil {
					return err
				}
				io.WriteString(c.Stdout, doc)
			}
			_, err := io.WriteString(c.Stdout, "\n")
			return err
		}, nil
	}
}
