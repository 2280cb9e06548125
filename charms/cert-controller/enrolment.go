package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"certlab/internal/hooks"
	"certlab/internal/order"
	"certlab/internal/relate/certagents"
)

const (
	// maxAgents bounds how many machines one controller takes.
	maxAgents = 5000
	// readPerHook is how many units are read besides the one of the event: those that are there but not enrolled. Each has an
	// event of its own, so this is for events that never came.
	readPerHook = 2
	// relationsFile keeps, in the unit's directory, what is wrong with which unit, and where the search for missed units has got to.
	relationsFile = "relations.json"
)

// relationsState is the content of relationsFile. It may be lost without harm.
type relationsState struct {
	Problems map[string]string `json:"problems"` // by relation and unit
	Cursor   string            `json:"cursor"`
}

// member names a unit in a relation, also as a key: relation ids have no spaces.
type member struct{ relation, unit string }

func (m member) key() string { return m.relation + " " + m.unit }

// An enrolment is who may act for which machine.
type enrolment struct {
	agents   map[string]order.EnrolledAgent // by member key
	problems map[string]string              // by member key
	cursor   string
}

// enrol works out who is enrolled now, from who was before, who is in the relations, and what the units that it reads say.
// all makes it read every unit that is not enrolled.
func (s service) enrol(ctx context.Context, u *hooks.Unit, before []order.EnrolledAgent, relations []string, all bool) (enrolment, error) {
	var state relationsState
	path := filepath.Join(s.Base(), relationsFile)
	if data, err := os.ReadFile(path); err == nil {
		if json.Unmarshal(data, &state) != nil {
			state = relationsState{}
		}
	}
	e := enrolment{agents: map[string]order.EnrolledAgent{}, problems: map[string]string{}, cursor: state.Cursor}
	there, err := members(ctx, u, before, relations)
	if err != nil {
		return e, err
	}
	for _, agent := range before {
		m := member{agent.Relation, agent.Unit}
		if there[m.key()] == m {
			e.agents[m.key()] = agent
		}
	}
	for key, problem := range state.Problems {
		if _, ok := there[key]; ok && e.agents[key].Unit == "" {
			e.problems[key] = problem
		}
	}
	limit := readPerHook
	if all {
		limit = maxAgents
	}
	for _, m := range e.toRead(u.Event, there, limit) {
		if err := e.read(ctx, u, m); err != nil {
			return e, err
		}
	}
	data, err := json.Marshal(relationsState{e.problems, e.cursor})
	if err != nil {
		return e, err
	}
	_, err = s.WriteFile(path, data, 0o644)
	return e, err
}

// members returns who is in the relations now. In a relation's event only that relation is asked for, and in the others those
// that were there stay.
func members(ctx context.Context, u *hooks.Unit, before []order.EnrolledAgent, relations []string) (map[string]member, error) {
	there := map[string]member{}
	add := func(m member) { there[m.key()] = m }
	for _, relation := range relations {
		if u.Event.IsRelation() && u.Event.Relation == certagents.Endpoint && u.Event.RelationID != relation {
			for _, agent := range before {
				if agent.Relation == relation {
					add(member{relation, agent.Unit})
				}
			}
			continue
		}
		units, err := u.RelationUnits(ctx, relation)
		if errors.Is(err, hooks.ErrNotFound) {
			continue // it is being removed
		}
		if err != nil {
			return nil, err
		}
		for _, unit := range units {
			if u.Event.Kind == hooks.RelationDeparted && u.Event.RelationID == relation && u.Event.DepartingUnit == unit {
				continue
			}
			add(member{relation, unit})
		}
	}
	return there, nil
}

// toRead chooses the units to read: the one of the event, and after the cursor some that are not enrolled.
func (e *enrolment) toRead(event hooks.Event, there map[string]member, limit int) []member {
	var chosen, missing []member
	if m, ok := there[member{event.RelationID, event.RemoteUnit}.key()]; ok && event.RemoteUnit != "" {
		chosen = append(chosen, m)
	}
	for key, m := range there {
		if _, ok := e.agents[key]; !ok && !slices.Contains(chosen, m) {
			missing = append(missing, m)
		}
	}
	// In the order of their keys, beginning after the cursor.
	slices.SortFunc(missing, func(a, b member) int {
		return cmp.Or(
			boolCompare(a.key() <= e.cursor, b.key() <= e.cursor),
			strings.Compare(a.key(), b.key()),
		)
	})
	missing = missing[:min(len(missing), limit)]
	if len(missing) > 0 {
		e.cursor = missing[len(missing)-1].key()
	}
	return append(chosen, missing...)
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// read takes in what one unit says of itself. A unit that says nothing proper has no access.
func (e *enrolment) read(ctx context.Context, u *hooks.Unit, m member) error {
	bag, err := u.RelationGet(ctx, m.relation, m.unit)
	if errors.Is(err, hooks.ErrNotFound) {
		delete(e.agents, m.key()) // it has left since it was listed
		return nil
	}
	if err != nil {
		return err
	}
	delete(e.problems, m.key())
	public, err := certagents.DecodeAgent(bag)
	if errors.Is(err, certagents.ErrNotReady) {
		delete(e.agents, m.key())
		return nil
	}
	if err != nil {
		delete(e.agents, m.key())
		e.problems[m.key()] = fmt.Sprintf("refresh %s: %s", m.unit, err)
		return nil
	}
	agent := order.EnrolledAgent{Relation: m.relation, Unit: m.unit, PublicKey: public.PublicKey, Identity: public.Identity}
	for key, other := range e.agents {
		if key == m.key() {
			continue
		}
		if other.PublicKey == agent.PublicKey || machineKey(other) == machineKey(agent) {
			delete(e.agents, m.key())
			e.problems[m.key()] = fmt.Sprintf("%s and %s claim the same machine (%s): remove one of them", other.Unit, m.unit, agent.Identity.Hostname)
			return nil
		}
	}
	if len(e.agents) >= maxAgents {
		e.problems[m.key()] = fmt.Sprintf("%s is one machine too many: a controller takes %d", m.unit, maxAgents)
		return nil
	}
	e.agents[m.key()] = agent
	return nil
}

// machineKey tells machines apart, as certlabd does: by MAAS's name, or else by what the machine says of itself within its model.
func machineKey(a order.EnrolledAgent) string {
	if a.Identity.SystemID != "" {
		return "maas " + a.Identity.SystemID
	}
	return fmt.Sprintf("juju %q %q %q", a.Identity.ModelUUID, a.Identity.ProductUUID, a.Identity.Hostname)
}

// list returns the enrolled agents, sorted by relation, then unit.
func (e enrolment) list() []order.EnrolledAgent {
	agents := make([]order.EnrolledAgent, 0, len(e.agents))
	for _, agent := range e.agents {
		agents = append(agents, agent)
	}
	slices.SortFunc(agents, func(a, b order.EnrolledAgent) int {
		return cmp.Or(strings.Compare(a.Relation, b.Relation), strings.Compare(a.Unit, b.Unit))
	})
	return agents
}

// problem returns one of the problems, always the same, and how many more there are; or nothing.
func (e enrolment) problem() string {
	keys := make([]string, 0, len(e.problems))
	for key := range e.problems {
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return ""
	}
	text := e.problems[slices.Min(keys)]
	if n := len(keys) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}
