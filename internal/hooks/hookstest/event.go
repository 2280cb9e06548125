package hookstest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"certlab/internal/hooks"
	"certlab/internal/juju"

	"github.com/stretchr/testify/require"
)

// plain are the hooks that have no relation, storage or secret.
var plain = []juju.HookKind{juju.Install, juju.Start, juju.ConfigChanged, juju.LeaderElected, juju.UpdateStatus, juju.UpgradeCharm, juju.Stop, juju.Remove}

// Fire runs a hook that has neither relation nor storage nor secret, such as config-changed, and applies to the state what Juju's agent
// does before and after it: install makes the unit an installed one, upgrade-charm is for a newer revision, and so on.
func (s *Scenario) Fire(hook string) Result {
	s.t.Helper()
	kind := juju.HookKind(hook)
	require.Contains(s.t, plain, kind, "hook")
	return s.fire(step{
		hook: juju.Hook{Name: hook, Kind: kind},
		before: func(state *juju.State, unit *juju.Unit) error {
			installed := unit.Uniter.Installed
			switch {
			case kind == juju.Install && unit.Uniter.Started:
				return errors.New("install does not run on a unit that has started (use Fresh)")
			case kind != juju.Install && kind != juju.LeaderElected && !installed:
				return fmt.Errorf("%s does not run before install", kind)
			case kind == juju.LeaderElected:
				state.Applications[s.app].Leader = s.unit
			case kind == juju.Stop, kind == juju.Remove:
				unit.Life = juju.Dying
			}
			return nil
		},
	})
}

// Pending fires every hook that Juju has to run now, in its order, until there is none or one fails: on a Fresh unit install, relation-created,
// leader-elected, config-changed, start, and what relations bring; otherwise what follows from the changes since the last
// event. It returns their results.
func (s *Scenario) Pending() []Result {
	s.t.Helper()
	var results []Result
	for range maxPending {
		hooks := s.State().NextHooks(s.unit, bootID, s.clock.Now())
		if len(hooks) == 0 {
			return results
		}
		result := s.fire(step{hook: hooks[0]})
		results = append(results, result)
		if result.Code != 0 {
			return results
		}
	}
	require.Fail(s.t, fmt.Sprintf("after %d hooks Juju still has one to run: the charm causes its own events", maxPending))
	return nil
}

const (
	bootID     = "4dd0ef3d-8f22-4ae7-a6e4-7c0bd6a9a0b1"
	maxPending = 500
)

// FireRelation runs a relation hook: created, joined, changed, departed or broken. remote is a unit's name for joined, changed and departed,
// an application's name for a change of its databag, and empty for created and broken. After departed the unit is out of the relation, after
// broken the relation is gone.
func (s *Scenario) FireRelation(event, relationID, remote string) Result {
	s.t.Helper()
	relation, err := s.relation(s.State(), relationID)
	require.NoError(s.t, err)
	other, _ := relation.Remote(s.app)
	endpoint, _, _ := strings.Cut(relationID, ":")
	hook := juju.Hook{Name: endpoint + "-relation-" + event, Kind: juju.HookKind("relation-" + event), Relation: relation.ID, RemoteApp: other.Application}
	switch hook.Kind {
	case juju.RelationCreated, juju.RelationBroken:
		require.Empty(s.t, remote, "%s has no remote unit", hook.Name)
	case juju.RelationJoined, juju.RelationDeparted:
		require.Contains(s.t, relation.Units, remote, "a %s needs a unit of the relation", hook.Name)
		hook.RemoteUnit = remote
	case juju.RelationChanged:
		if remote != other.Application {
			require.Contains(s.t, relation.Units, remote, "a %s needs a unit or the application of the other side", hook.Name)
			hook.RemoteUnit = remote
		}
	default:
		require.Fail(s.t, "no such relation hook: "+hook.Name)
	}
	require.NotEqual(s.t, s.unit, hook.RemoteUnit, "a unit gets no hook about itself")
	if hook.Kind == juju.RelationDeparted {
		hook.DepartingUnit = remote
	}
	return s.fire(step{
		hook: hook,
		before: func(state *juju.State, unit *juju.Unit) error {
			relation, local := state.Relations[hook.Relation], unit.Uniter.Relations[hook.Relation]
			if local == nil && hook.Kind != juju.RelationCreated {
				return fmt.Errorf("%s does not run before relation-created", hook.Name)
			}
			switch hook.Kind {
			case juju.RelationJoined:
				delete(local.Joined, remote)
			case juju.RelationChanged:
				if _, joined := local.Joined[hook.RemoteUnit]; hook.RemoteUnit != "" && !joined {
					return fmt.Errorf("%s has not joined %s", remote, relationID)
				}
			case juju.RelationDeparted:
				relation.Units[remote].InScope = false
			case juju.RelationBroken:
				relation.Life = juju.Dying
				for name, member := range relation.Units {
					if name != s.unit {
						member.InScope = false
					}
				}
				clear(local.Joined)
			}
			return nil
		},
		after: func(state *juju.State) {
			if hook.Kind == juju.RelationBroken {
				delete(state.Units[s.unit].Uniter.Relations, hook.Relation)
				delete(state.Relations, hook.Relation)
				// Access that was granted over a relation goes with it.
				for _, secret := range state.Secrets {
					secret.Grants = slices.DeleteFunc(secret.Grants, func(g juju.Grant) bool { return g.Relation == hook.Relation })
				}
			}
		},
	})
}

// FireStorage runs attached or detaching for a storage id such as data/0. After detaching the storage is gone.
func (s *Scenario) FireStorage(event, storageID string) Result {
	s.t.Helper()
	storage := s.State().Storage[storageID]
	require.NotNil(s.t, storage, "there is no storage %q", storageID)
	hook := juju.Hook{Name: storage.Name + "-storage-" + event, Kind: juju.HookKind("storage-" + event), Storage: storageID}
	require.Contains(s.t, []juju.HookKind{juju.StorageAttached, juju.StorageDetaching}, hook.Kind)
	return s.fire(step{
		hook: hook,
		before: func(state *juju.State, unit *juju.Unit) error {
			if storage := state.Storage[storageID]; !storage.Attached {
				return fmt.Errorf("storage %s is not attached (use WithStorage)", storageID)
			} else if hook.Kind == juju.StorageDetaching {
				storage.Life = juju.Dying
			}
			return nil
		},
		after: func(state *juju.State) {
			if hook.Kind == juju.StorageDetaching {
				delete(state.Storage, storageID)
			}
		},
	})
}

// FireSecret runs changed, remove, rotate or expired for the secret with that bare id. The revision is told for remove and expired only.
func (s *Scenario) FireSecret(event, id string, revision int) Result {
	s.t.Helper()
	kind := juju.HookKind("secret-" + event)
	require.Contains(s.t, []juju.HookKind{juju.SecretChanged, juju.SecretRemove, juju.SecretRotate, juju.SecretExpired}, kind)
	secret := s.State().Secrets[id]
	require.NotNil(s.t, secret, "there is no secret %q", id)
	if kind == juju.SecretChanged {
		require.Contains(s.t, secret.Consumers, s.unit, "secret-changed goes to who has read the secret")
	}
	return s.fire(step{hook: juju.Hook{Name: string(kind), Kind: kind, Secret: id, SecretRevision: revision}})
}

// OptionSecret returns the bare id of the secret that an option is set to.
func (s *Scenario) OptionSecret(option string) string {
	s.t.Helper()
	value, _ := s.State().Settings(s.app)[option].(string)
	require.NotEmpty(s.t, value, "option %q is not set", option)
	return hooks.SecretID(value).Bare()
}

// RunAction runs the action as `juju run` does, with parameters as Juju hands them on. Parameters that the action's schema refuses fail the test.
func (s *Scenario) RunAction(name string, params map[string]any) Result {
	s.t.Helper()
	var task int
	s.Change(func(state *juju.State) error {
		if err := state.CharmOf(s.app).ValidateAction(state.Model.Major(), name, params); err != nil {
			return err
		}
		operation, err := state.EnqueueAction(juju.ActionRequest{Receivers: []string{s.unit}, Action: name, Params: params}, s.clock.Now())
		if err != nil {
			return err
		}
		task = operation.Tasks[0]
		return nil
	})
	return s.fire(step{kind: juju.RunAction, task: task})
}

// Exec runs dispatch as `juju exec` does.
func (s *Scenario) Exec() Result {
	s.t.Helper()
	var task int
	s.Change(func(state *juju.State) error {
		operation, err := state.EnqueueExec("./dispatch", 0, []string{s.unit}, nil, nil, false, "", s.clock.Now())
		if err != nil {
			return err
		}
		task = operation.Tasks[0]
		return nil
	})
	return s.fire(step{kind: juju.RunExec, task: task})
}
