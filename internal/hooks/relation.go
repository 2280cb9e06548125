package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// bagKey names a databag. Owner is a unit's or an application's name.
type bagKey struct{ relation, owner string }

// RelationIDs returns the ids of an endpoint's relations, sorted. In relation-broken, the one that is going is left out: Juju still
// lists it, but nobody is there.
func (u *Unit) RelationIDs(ctx context.Context, endpoint string) ([]string, error) {
	ids, ok := u.relations[endpoint]
	if !ok {
		if err := u.read(ctx, &ids, "relation-ids", "--format", "json", "--", endpoint); err != nil {
			return nil, err
		}
		if u.Event.Kind == RelationBroken {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == u.Event.RelationID })
		}
		slices.Sort(ids)
		u.relations[endpoint] = ids
	}
	return slices.Clone(ids), nil
}

// RelationUnits returns the remote units that are in the relation now, sorted. In relation-departed, the unit that has left is not
// among them.
func (u *Unit) RelationUnits(ctx context.Context, id string) ([]string, error) {
	units, ok := u.members[id]
	if !ok {
		if err := u.read(ctx, &units, "relation-list", "--format", "json", "-r", id); err != nil {
			return nil, err
		}
		slices.Sort(units)
		u.members[id] = units
	}
	return slices.Clone(units), nil
}

// RelationApp returns the name of the remote application. It costs nothing for the relation of the event.
func (u *Unit) RelationApp(ctx context.Context, id string) (string, error) {
	if id == u.Event.RelationID && u.Event.RemoteApp != "" {
		return u.Event.RemoteApp, nil
	}
	app, ok := u.apps[id]
	if !ok {
		if err := u.read(ctx, &app, "relation-list", "--app", "--format", "json", "-r", id); err != nil {
			return "", err
		}
		u.apps[id] = app
	}
	return app, nil
}

// RelationGet returns a unit's databag: a remote unit's, or the unit's own, with what it has written in this dispatch. Juju 3.6 puts
// addresses of its own among the settings. A unit that has left gives ErrNotFound.
func (u *Unit) RelationGet(ctx context.Context, id, unit string) (map[string]string, error) {
	return u.bag(ctx, bagKey{id, unit}, false)
}

// RelationGetApp returns an application's databag: the remote one's, or the unit's own, which only the leader may read on 3.6.
func (u *Unit) RelationGetApp(ctx context.Context, id, app string) (map[string]string, error) {
	return u.bag(ctx, bagKey{id, app}, true)
}

func (u *Unit) bag(ctx context.Context, key bagKey, app bool) (map[string]string, error) {
	bag, ok := u.bags[key]
	if !ok {
		args := []string{"--format", "json", "-r", key.relation}
		if app {
			args = append(args, "--app")
		}
		args = append(args, "--", "-", key.owner)
		if err := u.read(ctx, &bag, "relation-get", args...); err != nil {
			return nil, err
		}
		if bag == nil {
			bag = make(map[string]string)
		}
		u.bags[key] = bag
	}
	return maps.Clone(bag), nil
}

// RelationSet writes settings into the unit's own databag. Settings that are there already are not written again, an empty value
// takes a setting out, and those not named stay as they are. The first call for a relation reads the databag.
func (u *Unit) RelationSet(ctx context.Context, id string, settings map[string]string) error {
	return u.setBag(ctx, bagKey{id, u.Name}, false, settings)
}

// RelationSetApp does the same for the application's databag, which only the leader may write.
func (u *Unit) RelationSetApp(ctx context.Context, id string, settings map[string]string) error {
	return u.setBag(ctx, bagKey{id, u.App}, true, settings)
}

func (u *Unit) setBag(ctx context.Context, key bagKey, app bool, settings map[string]string) error {
	bag, err := u.bag(ctx, key, app)
	if err != nil {
		return err
	}
	changed := make(map[string]string)
	for name, value := range settings {
		if bag[name] != value {
			changed[name] = value
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return u.writeBag(ctx, key, app, changed)
}

// RelationWrite writes settings into the unit's own databag without reading it first, for a charm that knows that they differ.
func (u *Unit) RelationWrite(ctx context.Context, id string, settings map[string]string) error {
	return u.writeBag(ctx, bagKey{id, u.Name}, false, settings)
}

// RelationWriteApp does the same for the application's databag, which only the leader may write.
func (u *Unit) RelationWriteApp(ctx context.Context, id string, settings map[string]string) error {
	return u.writeBag(ctx, bagKey{id, u.App}, true, settings)
}

func (u *Unit) writeBag(ctx context.Context, key bagKey, app bool, settings map[string]string) error {
	for name := range settings {
		if name == "" || strings.ContainsAny(name, "=\n") {
			return fmt.Errorf("cannot write to relation %s: %q is no setting's name", key.relation, name)
		}
	}
	stdin, err := yaml.Marshal(settings)
	if err != nil {
		return fmt.Errorf("cannot write to relation %s: %w", key.relation, err)
	}
	args := []string{"-r", key.relation}
	if app {
		args = append(args, "--app")
	}
	args = append(args, "--file", "-")
	if _, err := u.run(ctx, Command{Name: "relation-set", Args: args, Stdin: stdin}); err != nil {
		return err
	}
	if bag, ok := u.bags[key]; ok {
		for name, value := range settings {
			if value == "" {
				delete(bag, name)
			} else {
				bag[name] = value
			}
		}
	}
	return nil
}

// GoalState is what Juju is working towards: the units that will be there when it is done.
type GoalState struct {
	// Units of the own application, this one included, by name.
	Units map[string]GoalStatus `json:"units"`
	// Relations by endpoint, then by the name of the remote application or unit.
	Relations map[string]map[string]GoalStatus `json:"relations"`
}

// GoalStatus is what a goal's unit or relation is at.
type GoalStatus struct {
	Status string `json:"status"`
	Since  string `json:"since"` // such as 2026-11-23 08:53:07Z
}

// GoalState returns what Juju is working towards. Units that are dying are included.
func (u *Unit) GoalState(ctx context.Context) (GoalState, error) {
	if u.goal == nil {
		var goal GoalState
		if err := u.read(ctx, &goal, "goal-state", "--format", "json"); err != nil {
			return GoalState{}, err
		}
		u.goal = &goal
	}
	return *u.goal, nil
}

// RelationModel returns the UUID of the model that the relation's other side is in: another one for a cross-model relation.
func (u *Unit) RelationModel(ctx context.Context, id string) (string, error) {
	var model struct {
		UUID string `json:"uuid"`
	}
	if err := u.read(ctx, &model, "relation-model-get", "--format", "json", "-r", id); err != nil {
		return "", err
	}
	if model.UUID == "" {
		return "", errors.New("cannot tell the model of relation " + id + ": Juju does not say")
	}
	return model.UUID, nil
}
