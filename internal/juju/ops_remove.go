package juju

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// errNotInError is the answer to resolving a unit that has no failed hook.
var errNotInError = errors.New("unit is not in error state")

// RemoveUnit lets a unit die: its agent runs the last hooks and then drops it. A unit whose agent has never run is gone at
// once. The machine that it was the last unit of goes with it.
func (s *State) RemoveUnit(name string, destroyStorage bool, now time.Time) error {
	u := s.Units[name]
	if u == nil {
		return fmt.Errorf("unit %q not found", name)
	}
	if destroyStorage {
		for _, st := range s.StorageOf(name) {
			st.Destroy = true
		}
	}
	if u.Life == Alive {
		u.Life = Dying
	}
	s.retireMachine(u.Machine, now)
	if u.AgentVersion == "" && u.Agent.Status == "allocating" && u.Uniter.Charm == "" && u.Uniter.Running == nil {
		s.DropUnit(name, now)
	}
	return nil
}

// retireMachine lets a machine die when no unit that stays is on it any more.
func (s *State) retireMachine(id string, now time.Time) {
	m := s.Machines[id]
	if m == nil || m.Life != Alive {
		return
	}
	for _, u := range s.UnitsOn(id) {
		if u.Life == Alive {
			return
		}
	}
	m.Life = Dying
	m.Agent = Status{Status: "stopped", Since: now}
}

// RemoveApplication lets an application, its relations and its units die.
func (s *State) RemoveApplication(name string, destroyStorage bool, now time.Time) error {
	app := s.Applications[name]
	if app == nil {
		return fmt.Errorf("application %q not found", name)
	}
	app.Life = Dying
	for _, r := range s.RelationsOf(name) {
		if !r.Peer() {
			s.RemoveRelation(r.ID)
		}
	}
	for _, u := range s.UnitsOf(name) {
		if err := s.RemoveUnit(u.Name, destroyStorage, now); err != nil {
			return err
		}
	}
	s.dropApplication(name)
	return nil
}

// DropUnit takes a unit out of the state, with its part in relations, its storage, its machine if that was dying for it, and its
// application if that was dying. Its agent calls it last.
func (s *State) DropUnit(name string, now time.Time) {
	u := s.Units[name]
	if u == nil {
		return
	}
	delete(s.Units, name)
	for _, r := range s.Relations {
		s.LeaveScope(r.ID, name)
		if r.Peer() {
			delete(r.Units, name)
		}
	}
	for _, st := range s.StorageOf(name) {
		if st.Destroy || !st.Attached {
			delete(s.Storage, st.ID)
			continue
		}
		st.Unit, st.Attached, st.Location = "", false, ""
		st.Status = Status{Status: "detached", Since: now}
	}
	for id, secret := range s.Secrets {
		delete(secret.Consumers, name)
		if secret.Owner == (Owner{Kind: "unit", ID: name}) {
			delete(s.Secrets, id)
		}
	}
	if app := s.Applications[u.Application]; app != nil && app.Leader == name {
		app.Leader, app.LeaseEnd = "", time.Time{}
	}
	if m := s.Machines[u.Machine]; m != nil && len(s.UnitsOn(m.ID)) == 0 && m.Life != Alive {
		delete(s.Machines, m.ID)
	}
	s.dropApplication(u.Application)
	s.dropUnusedCharms()
}

// dropApplication takes a dying application without units out of the state. On 4.0.15 one that owns secrets stays for a while; here
// its secrets go with it, so that a lab can deploy the same name again.
func (s *State) dropApplication(name string) {
	app := s.Applications[name]
	if app == nil || app.Life == Alive || len(s.UnitsOf(name)) > 0 {
		return
	}
	for _, r := range s.RelationsOf(name) {
		if !r.Peer() {
			for _, u := range r.Units {
				if u.InScope {
					return // the other side still has to run relation-broken
				}
			}
		}
		delete(s.Relations, r.ID)
	}
	for id, secret := range s.Secrets {
		if secret.Owner == (Owner{Kind: "application", ID: name}) {
			delete(s.Secrets, id)
		}
	}
	delete(s.Applications, name)
	s.dropUnusedCharms()
}

// RemoveMachine takes an empty machine out of the model.
func (s *State) RemoveMachine(id string, force bool, now time.Time) error {
	m := s.Machines[id]
	if m == nil {
		return fmt.Errorf("machine %s not found", id)
	}
	units := s.UnitsOn(id)
	if len(units) > 0 && !force {
		names := make([]string, len(units))
		for i, u := range units {
			names[i] = u.Name
		}
		return fmt.Errorf("machine %s has unit(s) %s assigned", id, strings.Join(names, ", "))
	}
	for _, u := range units {
		if err := s.RemoveUnit(u.Name, false, now); err != nil {
			return err
		}
	}
	if len(s.UnitsOn(id)) == 0 {
		delete(s.Machines, id)
	}
	return nil
}

// Resolve answers a unit's failed hook: run it again, or go on without it.
func (s *State) Resolve(unit string, retry bool) error {
	u := s.Units[unit]
	if u == nil {
		return fmt.Errorf("unit %q not found", unit)
	}
	if u.Failed == nil {
		return errNotInError
	}
	u.Resolved = ResolveSkip
	if retry {
		u.Resolved = ResolveRetry
	}
	return nil
}
