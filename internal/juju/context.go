package juju

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"certlab/internal/juju/toolclient"
)

// A Context is one run of a hook, an action or an exec script: what its hook tools may see, and what they have written and not
// yet made visible. It is used by one process tree; its calls run one at a time. What it has read once it goes on showing, as
// the unit agent's own cache does.
type Context struct {
	model *Model
	unit  string
	app   string
	id    string
	kind  RunKind
	hook  Hook
	task  int
	paths Paths
	fetch func(context.Context, Resource) (string, error)

	kill   func()
	record func(Call)

	mu         sync.Mutex
	closed     bool
	config     map[string]any
	status     *Status
	remote     map[string]map[string]string // bags of others, as first read
	own        map[int]*ownBags
	ports      []Port            // as they will be; nil until changed
	charm      map[string]string // state-set, with own writes; nil until first used
	charmDirty bool
	storage    []string // names of storage-add, repeated for counts
	secrets    secretChanges
	action     string
	params     map[string]any
	results    map[string]any
	failed     bool
	message    string
	reboot     Reboot
}

// Reboot is what juju-reboot asked for.
type Reboot int

const (
	NoReboot    Reboot = iota
	RebootAfter        // when the hook is done
	RebootNow          // at once: the hook is killed, and runs again after the reboot
)

// ownBags are the settings that a unit may write on one relation, with its own writes.
type ownBags struct {
	unit, app           map[string]string
	unitDirty, appDirty bool
}

// ContextOptions say what is run.
type ContextOptions struct {
	Unit string
	Kind RunKind
	Hook Hook // of RunHook
	Task int  // id, of RunAction and RunExec; 0 with RunExec: juju-exec from the machine, which is no task
	// Paths of the unit; empty: DefaultPaths.
	Paths Paths
	// Fetch gets a resource for resource-get and returns its path on the machine; nil: the path that Juju would have.
	Fetch func(context.Context, Resource) (string, error)
	// Kill ends the process that the context is for, for juju-reboot --now.
	Kill func()
	// Record is told of every call when it is over. It sees secrets: it is for tests.
	Record func(Call)
}

// A Call is one hook tool invocation and its outcome.
type Call struct {
	Request
	Response
}

// NewContext begins a run. The unit must exist, as must the action's task.
func NewContext(model *Model, opts ContextOptions) (*Context, error) {
	s := model.Snapshot()
	unit := s.Units[opts.Unit]
	if unit == nil {
		return nil, fmt.Errorf("cannot run a hook: unit %q not found", opts.Unit)
	}
	if s.Applications[unit.Application] == nil {
		return nil, fmt.Errorf("cannot run a hook: application %q not found", unit.Application)
	}
	c := &Context{
		model: model, unit: unit.Name, app: unit.Application, kind: opts.Kind, hook: opts.Hook, task: opts.Task,
		paths: opts.Paths, fetch: opts.Fetch, kill: opts.Kill, record: opts.Record,
		remote: map[string]map[string]string{}, own: map[int]*ownBags{}, results: map[string]any{},
	}
	if c.paths == (Paths{}) {
		c.paths = DefaultPaths(unit.Name)
	}
	name := opts.Hook.Name
	if opts.Kind == RunExec && opts.Task == 0 {
		name = "run-commands"
	} else if opts.Kind != RunHook {
		task := s.Tasks[opts.Task]
		if task == nil {
			return nil, fmt.Errorf("cannot run an action: task %d not found", opts.Task)
		}
		c.action, name = task.Action, task.Action
		params, err := actionParams(s, task)
		if err != nil {
			return nil, err
		}
		c.params = params
	}
	c.id = fmt.Sprintf("%s-%s-%s", unit.Name, name, hex.EncodeToString(model.randomBytes(16)))
	return c, nil
}

// ID is the value of JUJU_CONTEXT_ID.
func (c *Context) ID() string { return c.id }

// Unit that the context is of.
func (c *Context) Unit() string { return c.unit }

// Request and Response are one hook tool call and its answer. A tool that needs standard input or a file that only its caller
// sees says so in the answer and has done nothing; the call is repeated with it.
type (
	Request  = toolclient.Request
	Response = toolclient.Response
)

// Run calls a hook tool from the same process: stdin is all there is of it, and files that arguments name are read, and -o
// written, where this process sees them.
func (c *Context) Run(tool string, args []string, stdin []byte) (stdout, stderr []byte, code int) {
	req := Request{Tool: tool, Args: args, StdinSet: true, Stdin: stdin, Files: map[string][]byte{}, Missing: map[string]string{}}
	if dir, err := os.Getwd(); err == nil {
		req.Dir = dir
	}
	for {
		resp := c.Do(req)
		if len(resp.NeedFiles) == 0 {
			if resp.Output != "" {
				if err := os.WriteFile(resp.Output, resp.Stdout, 0o644); err != nil {
					return nil, []byte("ERROR " + err.Error() + "\n"), 1
				}
				return nil, resp.Stderr, resp.Code
			}
			return resp.Stdout, resp.Stderr, resp.Code
		}
		for _, path := range resp.NeedFiles {
			data, err := os.ReadFile(path)
			if err != nil {
				req.Missing[path] = err.Error()
				continue
			}
			req.Files[path] = data
		}
	}
}

// Do answers one request. A tool that does not exist in the model's version gets what a shell says of it.
func (c *Context) Do(req Request) Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := c.do(req)
	if c.record != nil && !resp.NeedStdin && len(resp.NeedFiles) == 0 {
		c.record(Call{req, resp})
	}
	return resp
}

func (c *Context) do(req Request) Response {
	if c.closed {
		return Response{Stderr: []byte("ERROR bad request: unknown context id\n"), Code: 1}
	}
	state := c.model.Snapshot()
	spec, ok := tools[req.Tool]
	if !ok || !spec.in(state.Model.Major()) {
		return Response{Stderr: fmt.Appendf(nil, "sh: %s: command not found\n", req.Tool), Code: 127}
	}
	inv := &invocation{Context: c, state: state, req: req}
	err := inv.run(spec)
	var need needInput
	switch {
	case errors.As(err, &need):
		return Response{NeedStdin: need.stdin, NeedFiles: need.files}
	case errors.Is(err, errHelp):
		return Response{Stdout: []byte(spec.help(req.Tool))}
	case err != nil:
		code := 1
		if errors.As(err, new(usageError)) {
			code = 2
		}
		return Response{Stdout: inv.stdout, Stderr: fmt.Appendf(inv.stderr, "ERROR %s\n", err), Code: code}
	}
	resp := Response{Stdout: inv.stdout, Stderr: inv.stderr}
	if path := inv.flags["o"]; path != "" {
		resp.Output = inv.path(path)
	}
	return resp
}

// needInput stops a tool that lacks what its caller has to give.
type needInput struct {
	stdin bool
	files []string
}

func (needInput) Error() string { return "hook tool requires input that was not supplied" }

// An invocation is one call under way.
type invocation struct {
	*Context
	state  *State // as it was when the call came
	req    Request
	spec   toolSpec
	flags  map[string]string
	args   []string
	stdout []byte
	stderr []byte
}

func (i *invocation) run(spec toolSpec) error {
	var err error
	i.spec = spec
	i.flags, i.args, err = parseFlags(spec.allFlags(), i.req.Args, func(kind flagKind, value string) error {
		if kind == storageFlag {
			_, err := i.storageInstance(value)
			return err
		}
		_, err := i.parseRelation(value)
		return err
	})
	if err != nil {
		return err
	}
	return spec.run(i)
}

func (i *invocation) flag(name string) bool { return i.flags[name] == "true" }

// write renders the tool's answer in the format asked for.
func (i *invocation) write(value any) error {
	data, err := render(i.flags["format"], value)
	i.stdout = append(i.stdout, data...)
	return err
}

func (i *invocation) path(name string) string {
	if filepath.IsAbs(name) || i.req.Dir == "" {
		return name
	}
	return filepath.Join(i.req.Dir, name)
}

// readFile returns a file that an argument names; "-" is standard input if the tool has that.
func (i *invocation) readFile(name string, stdin bool) ([]byte, error) {
	if stdin && name == "-" {
		if !i.req.StdinSet {
			return nil, needInput{stdin: true}
		}
		return i.req.Stdin, nil
	}
	path := i.path(name)
	if why, ok := i.req.Missing[path]; ok {
		return nil, errors.New(why)
	}
	data, ok := i.req.Files[path]
	if !ok {
		return nil, needInput{files: []string{path}}
	}
	return data, nil
}

func (i *invocation) leader() bool { return i.state.Applications[i.app].Leader == i.unit }

func (i *invocation) machine() *Machine {
	if m := i.state.Machines[i.state.Units[i.unit].Machine]; m != nil {
		return m
	}
	return &Machine{}
}

// parseRelation finds the relation that NAME:N or N means.
func (i *invocation) parseRelation(value string) (*Relation, error) {
	name, number, named := strings.Cut(value, ":")
	if !named {
		name, number = "", value
	}
	id, err := strconv.Atoi(number)
	if err != nil {
		return nil, errors.New("invalid relation id")
	}
	relation := i.state.Relations[id]
	if relation == nil {
		return nil, errors.New("relation not found")
	}
	endpoint, ok := relation.Endpoint(i.app)
	if !ok || named && name != endpoint.Name {
		return nil, errors.New("relation not found")
	}
	return relation, nil
}

// relation is the one that -r names, or the hook's.
func (i *invocation) relation() (*Relation, error) {
	if value := i.flags["r"]; value != "" {
		return i.parseRelation(value)
	}
	if i.kind == RunHook && i.hook.Kind.IsRelation() {
		if relation := i.state.Relations[i.hook.Relation]; relation != nil {
			return relation, nil
		}
		return nil, errors.New("relation not found")
	}
	return nil, usagef("no relation id specified")
}

// bags are the unit's own settings on a relation, with what this context has written.
func (i *invocation) bags(relation *Relation) *ownBags {
	bags := i.own[relation.ID]
	if bags == nil {
		bags = &ownBags{unit: map[string]string{}, app: map[string]string{}}
		if unit := relation.Units[i.unit]; unit != nil {
			maps.Copy(bags.unit, unit.Settings)
		}
		if app := relation.Apps[i.app]; app != nil {
			maps.Copy(bags.app, app.Settings)
		}
		i.own[relation.ID] = bags
	}
	return bags
}

// members are the remote units that the charm knows of on a relation: those that joined and have not departed.
func (i *invocation) members(relation *Relation) []string {
	names := []string{}
	local := i.state.Units[i.unit].Uniter.Relations[relation.ID]
	here := i.kind == RunHook && i.hook.Relation == relation.ID
	if local != nil {
		for name := range local.Joined {
			if !(here && i.hook.Kind == RelationDeparted && name == i.hook.RemoteUnit) {
				names = append(names, name)
			}
		}
	}
	if here && i.hook.Kind == RelationJoined && (local == nil || !has(local.Joined, i.hook.RemoteUnit)) {
		names = append(names, i.hook.RemoteUnit)
	}
	sortUnits(names)
	return names
}

func has[K comparable, V any](m map[K]V, key K) bool {
	_, ok := m[key]
	return ok
}

// sortUnits sorts unit names by application, then number.
func sortUnits(names []string) {
	sort.Slice(names, func(a, b int) bool {
		appA, _, _ := strings.Cut(names[a], "/")
		appB, _, _ := strings.Cut(names[b], "/")
		if appA != appB {
			return appA < appB
		}
		return unitNumber(names[a]) < unitNumber(names[b])
	})
}

// viaJSON is what a value looks like once it has been through Juju's API: numbers are floats.
func viaJSON(params map[string]any) map[string]any {
	data, err := json.Marshal(params)
	if err != nil {
		return params
	}
	var again map[string]any
	if json.Unmarshal(data, &again) != nil || again == nil {
		return map[string]any{}
	}
	return again
}

// Outcome is what an action has said of itself.
type Outcome struct {
	Results map[string]any // nested by the dots in their keys
	Failed  bool           // action-fail was called
	Message string
}

// Outcome of the action so far.
func (c *Context) Outcome() Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Outcome{Results: c.results, Failed: c.failed, Message: c.message}
}

// Reboot is what juju-reboot has asked for so far.
func (c *Context) Reboot() Reboot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reboot
}

// Close ends the context: later calls are refused, as those of a process that outlives its hook are.
func (c *Context) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (i *invocation) log(level, module, message string) error {
	now := i.model.Now()
	return i.model.Update(func(s *State) error {
		s.AppendLog(LogLine{Time: now, Entity: UnitTag(i.unit), Level: level, Module: "unit." + i.unit + "." + module, Message: message})
		return nil
	})
}

// formatSince is how Juju prints a time in ISO form in UTC.
func formatSince(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
