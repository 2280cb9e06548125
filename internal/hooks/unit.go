package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
)

// A Unit is the charm's side of one dispatch: what Juju said in the environment, and the hook tools. What it has read is
// remembered until the dispatch ends, since Juju itself shows a hook one unchanging picture plus the hook's own writes. It is not safe
// for concurrent use, but for Log.
type Unit struct {
	Name  string // checkbox/0
	App   string // checkbox
	Env   Env
	Event Event
	// Log goes to juju-log, and so to `juju debug-log`. Lines wait and go together; see Flush. Values of secrets are masked.
	Log *slog.Logger

	runner Runner
	sink   *logSink
	mask   *mask
	files  *files
	// decoded is Options.Decoded.
	decoded func(action string, target any)

	leader     *bool
	config     map[string]json.RawMessage
	relations  map[string][]string          // relation ids by endpoint
	members    map[string][]string          // units by relation id
	apps       map[string]string            // remote applications by relation id
	bags       map[bagKey]map[string]string // with what has been written
	networks   map[string]Network
	ports      []string // sorted
	portsKnown bool
	storages   map[string][]string // storage ids by name
	locations  map[string]string   // by storage id
	state      map[string]string   // nil: not read
	goal       *GoalState
	resources  map[string]string // paths by name
	secrets    map[SecretRead]map[string]string
	statuses   map[bool]Status // the application's under true
}

func newUnit(env Env, event Event, runner Runner, files *files, sink *logSink) *Unit {
	u := &Unit{
		Name: env.UnitName, App: env.App(), Env: env, Event: event,
		Log:    slog.New(&logHandler{sink: sink}),
		runner: runner, sink: sink, mask: sink.mask, files: files,
		relations: make(map[string][]string),
		members:   make(map[string][]string),
		apps:      make(map[string]string),
		bags:      make(map[bagKey]map[string]string),
		networks:  make(map[string]Network),
		storages:  make(map[string][]string),
		locations: make(map[string]string),
		resources: make(map[string]string),
		secrets:   make(map[SecretRead]map[string]string),
		statuses:  make(map[bool]Status),
	}
	return u
}

// run starts one tool and returns what it printed.
func (u *Unit) run(ctx context.Context, cmd Command) ([]byte, error) {
	u.sink.flush(ctx, true)
	out, err := u.runner.Run(ctx, cmd)
	if err != nil {
		return nil, u.mask.wrap(err)
	}
	return out, nil
}

// read runs a tool with --format json and decodes its answer. Numbers become json.Number.
func (u *Unit) read(ctx context.Context, into any, name string, args ...string) error {
	out, err := u.run(ctx, Command{Name: name, Args: args})
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		// The answer itself may hold secrets, and so is not shown.
		return fmt.Errorf("cannot read what %s printed (%d bytes): it is not the JSON that was expected", name, len(out))
	}
	return nil
}

// IsLeader reports whether the unit leads its application. Juju guarantees it for 30 seconds.
func (u *Unit) IsLeader(ctx context.Context) (bool, error) {
	if u.leader == nil {
		var leader bool
		if err := u.read(ctx, &leader, "is-leader", "--format", "json"); err != nil {
			return false, err
		}
		u.leader = &leader
	}
	return *u.leader, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
