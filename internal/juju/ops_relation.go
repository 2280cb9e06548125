package juju

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// insertRelation gives a relation its number.
func (s *State) insertRelation(endpoints []Endpoint, now time.Time) *Relation {
	r := &Relation{ID: s.Next.Relation, Endpoints: endpoints, Life: Alive, Status: Status{Status: "joining", Since: now},
		Apps: map[string]*AppBag{}, Units: map[string]*RelationUnit{}, Created: now}
	s.Next.Relation++
	for _, e := range endpoints {
		r.Apps[e.Application] = &AppBag{Settings: map[string]string{}}
	}
	s.Relations[r.ID] = r
	return r
}

// candidates are the endpoints that "app" or "app:endpoint" can mean.
func (s *State) candidates(name string) ([]Endpoint, error) {
	application, endpoint, _ := strings.Cut(name, ":")
	ch := s.CharmOf(application)
	if ch == nil {
		return nil, fmt.Errorf("application %q not found", application)
	}
	var all []Endpoint
	for _, spec := range ch.Endpoints() {
		if spec.Role == Peer || (endpoint != "" && spec.Name != endpoint) {
			continue
		}
		all = append(all, Endpoint{Application: application, Name: spec.Name, Interface: spec.Interface, Role: spec.Role})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no candidates for %s: relation endpoint not found", name)
	}
	return all, nil
}

// AddRelation relates two applications; each side is "application" or "application:endpoint".
func (s *State) AddRelation(one, two string, now time.Time) (*Relation, error) {
	r, err := s.addRelation(one, two, now)
	if err != nil {
		return nil, fmt.Errorf("adding relation between endpoints %q and %q: %w", one, two, err)
	}
	return r, nil
}

func (s *State) addRelation(one, two string, now time.Time) (*Relation, error) {
	cannot := func(err error) error { return fmt.Errorf("cannot relate endpoints %q and %q: %w", one, two, err) }
	left, err := s.candidates(one)
	if err != nil {
		return nil, cannot(err)
	}
	right, err := s.candidates(two)
	if err != nil {
		return nil, cannot(err)
	}
	var matches [][]Endpoint
	for _, a := range left {
		for _, b := range right {
			if a.Interface != b.Interface || a.Role == b.Role || a.Application == b.Application {
				continue
			}
			if a.Role == Provider {
				matches = append(matches, []Endpoint{b, a})
			} else {
				matches = append(matches, []Endpoint{a, b})
			}
		}
	}
	switch len(matches) {
	case 0:
		return nil, cannot(errors.New("no compatible endpoints found between applications"))
	case 1:
	default:
		var names []string
		for _, m := range matches {
			names = append(names, fmt.Sprintf("\"%s %s\"", m[0], m[1]))
		}
		sort.Strings(names)
		return nil, cannot(fmt.Errorf("ambiguous relation: %q could refer to %s", one+" "+two, strings.Join(names, "; ")))
	}
	endpoints := matches[0]
	for _, e := range endpoints {
		if s.Applications[e.Application].Life != Alive {
			return nil, cannot(fmt.Errorf("application %q is not alive", e.Application))
		}
	}
	for _, r := range s.Relations {
		if r.Key() == (&Relation{Endpoints: endpoints}).Key() && r.Life == Alive {
			return nil, fmt.Errorf("relation %s already exists", r.Key())
		}
	}
	for _, e := range endpoints {
		spec, _ := s.CharmOf(e.Application).Endpoint(e.Name)
		if spec.Limit > 0 && e.Role == Requirer {
			n := 0
			for _, r := range s.RelationsOf(e.Application) {
				if have, _ := r.Endpoint(e.Application); have.Name == e.Name && r.Life == Alive {
					n++
				}
			}
			if n >= spec.Limit {
				return nil, cannot(fmt.Errorf("establishing a new relation for %s would exceed its maximum relation limit of %d: quota limit exceeded", e, spec.Limit))
			}
		}
	}
	return s.insertRelation(endpoints, now), nil
}

// FindRelation is the live relation between two applications, each "application" or "application:endpoint".
func (s *State) FindRelation(one, two string) (*Relation, error) {
	matches := func(name string, e Endpoint) bool {
		application, endpoint, given := strings.Cut(name, ":")
		return e.Application == application && (!given || e.Name == endpoint)
	}
	var found []*Relation
	for _, r := range s.Relations {
		if r.Peer() || r.Life != Alive {
			continue
		}
		a, b := r.Endpoints[0], r.Endpoints[1]
		if matches(one, a) && matches(two, b) || matches(one, b) && matches(two, a) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("relation %q not found", one+" "+two)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("ambiguous relation: %q could refer to %d relations (name the endpoints)", one+" "+two, len(found))
}

// RemoveRelation lets a relation die. It is gone when the last unit has left it.
func (s *State) RemoveRelation(id int) {
	r := s.Relations[id]
	if r == nil || r.Life != Alive {
		return
	}
	r.Life = Dying
	s.dropEmptyRelation(r)
}

// dropEmptyRelation takes a dying relation that no unit is in out of the state, and the grants that hung on it.
func (s *State) dropEmptyRelation(r *Relation) {
	if r.Life == Alive {
		return
	}
	for _, u := range r.Units {
		if u.InScope {
			return
		}
	}
	delete(s.Relations, r.ID)
	for _, secret := range s.Secrets {
		kept := secret.Grants[:0]
		for _, g := range secret.Grants {
			if g.Relation != r.ID {
				kept = append(kept, g)
			}
		}
		secret.Grants = kept
	}
	for _, e := range r.Endpoints {
		s.dropApplication(e.Application) // a dying one may have waited for this
	}
}

// LeaveScope records that a unit has left a relation; a dying relation that it was the last one of is gone then.
func (s *State) LeaveScope(id int, unit string) {
	r := s.Relations[id]
	if r == nil {
		return
	}
	if u := r.Units[unit]; u != nil {
		u.InScope = false
	}
	s.dropEmptyRelation(r)
}
