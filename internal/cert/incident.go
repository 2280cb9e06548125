package cert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scopes of an incident, and of a pause.
const (
	ScopeLab      = "lab"
	ScopePool     = "pool"
	ScopeRack     = "rack"
	ScopeZone     = "zone"
	ScopeRelease  = "release"
	ScopeProvider = "provider"
)

// A Place is where a machine stands and what it is given: what machines that fail alike may have in common.
type Place struct {
	Machine  string `json:"machine"` // id
	Hostname string `json:"hostname"`
	Zone     string `json:"zone,omitempty"`
	Rack     string `json:"rack,omitempty"`
	Pool     string `json:"pool,omitempty"`
	Release  string `json:"release,omitempty"` // that is, or is to be, deployed; empty: not known
}

// A Hold says why something may not begin now.
type Hold struct {
	Incident string     // id; empty: it is something else
	Text     string     // for people
	Until    *time.Time // when that is known
}

// FailSilent is what a machine has in common with others of which nothing is heard. The other types are a deployment's.
const FailSilent = "silent"

// A Trial is what became of a machine within the time that an incident is looked for in.
type Trial struct {
	ID      string // of the deployment; empty for FailSilent
	Place   Place
	At      time.Time
	Failure string // type; empty: it went well
	Open    bool   // still under way: neither
}

// IncidentRule says when machines that fail alike are one incident.
type IncidentRule struct {
	Machines int           // at least so many
	Percent  int           // and at least so many in a hundred of those in use there
	Within   time.Duration // of each other
}

// works is how many machines must go well for each that fails, since the first of them failed, for the failures to be the machines' own.
const works = 3

// Find returns the incident that the trials show, or nil. It has no ID. Trials that belong to an incident already are to be left out.
//
// A scope explains the failures of one type when enough machines in it fail so, at least twice as many of them as of the rest of what is
// around it, and it is not the case that things go well there all the same. The narrowest that does is taken: a rack, then a release (if
// others go well where it does not), a zone, and then everything.
func (r IncidentRule) Find(trials []Trial, now time.Time) *Incident {
	last := make(map[string]Trial, len(trials))
	for _, t := range trials {
		if now.Sub(t.At) > r.Within && !t.Open {
			continue
		}
		have, ok := last[t.Place.Machine]
		if !ok || have.Open && !t.Open || have.Open == t.Open && have.At.Before(t.At) {
			last[t.Place.Machine] = t
		}
	}
	types := map[string]bool{}
	for _, t := range last {
		if t.Failure != "" && !t.Open {
			types[t.Failure] = true
		}
	}
	all := make([]Trial, 0, len(last))
	for _, t := range last {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Trial) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Place.Machine, b.Place.Machine)) })
	for _, failure := range sorted(types) {
		if found := r.explain(all, failure, now); found != nil {
			return found
		}
	}
	return nil
}

// narrowest first.
var scopes = []string{ScopeRack, ScopeRelease, ScopeZone, ScopeProvider}

func (r IncidentRule) explain(all []Trial, failure string, now time.Time) *Incident {
	for _, scope := range scopes {
		if scope == ScopeRelease && !dependsOnRelease[failure] {
			continue
		}
		names := map[string]bool{}
		for _, t := range all {
			if name, ok := t.Place.in(scope); ok && t.fails(failure) {
				names[name] = true
			}
		}
		for _, name := range sorted(names) {
			if found := r.explains(all, failure, scope, name, now); found != nil {
				return found
			}
		}
	}
	return nil
}

// dependsOnRelease holds the failures that what is deployed may cause. A machine that does not answer any more is not among them.
var dependsOnRelease = map[string]bool{FailDeploy: true, FailImage: true, FailBoot: true, FailEnrol: true, FailWrongSystem: true, FailPrepare: true}

func (r IncidentRule) explains(all []Trial, failure, scope, name string, now time.Time) *Incident {
	var inside, failing, around, failingAround int
	inc := &Incident{Scope: scope, Name: name, Failure: failure, Opened: now, Machines: []string{}}
	zones, wide := map[string]bool{}, map[string]bool{} // of the failing ones
	var first time.Time
	for _, t := range all {
		if in, ok := t.Place.in(scope); ok && in == name && t.fails(failure) {
			zones[t.Place.Zone] = true
			wide[t.Place.Zone] = true
			if first.IsZero() {
				first = t.At
			}
		}
	}
	well, othersWell := 0, 0
	for _, t := range all {
		in, ok := t.Place.in(scope)
		switch {
		case ok && in == name:
			inside++
			if t.fails(failure) {
				failing++
				inc.Machines = append(inc.Machines, t.Place.Machine)
			} else if t.well() && !t.At.Before(first) {
				well++
			}
		case scope == ScopeRack && !wide[t.Place.Zone]: // a rack is compared with its zone
		default:
			around++
			if t.fails(failure) {
				failingAround++
			}
			if t.well() && zones[t.Place.Zone] {
				othersWell++
			}
		}
	}
	switch {
	case failing < r.Machines, failing*100 < inside*r.Percent:
		return nil
	case failure != FailSilent && well >= works*failing:
		return nil
	case scope == ScopeRelease && othersWell == 0: // nothing says that it is the release
		return nil
	case around > 0 && failing*around < 2*failingAround*inside: // it is as bad around it
		return nil
	}
	inc.Of = inside
	inc.Text = fmt.Sprintf("%d of the %d machines in use %s failed alike (%s) within %s: taken for a fault of the lab, not of the machines",
		failing, inside, scopeText(scope, name), failure, r.Within)
	if failure == FailSilent {
		inc.Text = fmt.Sprintf("nothing is heard of %d of the %d machines in use %s: taken for a fault of the lab, not of the machines", failing, inside, scopeText(scope, name))
	}
	return inc
}

func (t Trial) fails(failure string) bool { return !t.Open && t.Failure == failure }
func (t Trial) well() bool                { return !t.Open && t.Failure == "" }

// in returns the name of what a scope is called at this place.
func (p Place) in(scope string) (string, bool) {
	switch scope {
	case ScopeRack:
		return p.Rack, p.Rack != ""
	case ScopeRelease:
		return p.Release, p.Release != ""
	case ScopeZone:
		return p.Zone, p.Zone != ""
	case ScopePool:
		return p.Pool, p.Pool != ""
	}
	return "", true
}

// Covers reports whether what is done at a place is within the incident.
func (i *Incident) Covers(p Place) bool {
	name, ok := p.in(i.Scope)
	if !ok && i.Scope == ScopeRelease { // not known yet which: it waits until it is
		return false
	}
	return ok && name == i.Name
}

// Overlaps reports whether a time from begin to end (zero: still) overlaps the incident.
func (i *Incident) Overlaps(begin, end time.Time) bool {
	return (i.Closed == nil || begin.Before(*i.Closed)) && (end.IsZero() || end.After(i.Opened))
}

// Where says in words where the incident is.
func (i *Incident) Where() string { return scopeText(i.Scope, i.Name) }

func scopeText(scope, name string) string {
	switch scope {
	case ScopeRack:
		return "in rack " + name
	case ScopeZone:
		return "in zone " + name
	case ScopePool:
		return "in pool " + name
	case ScopeRelease:
		return "with release " + name
	}
	return "in the lab"
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// CheckRequest asks for a known-good check of one machine: deployed, the plan preflight run, released.
type CheckRequest struct {
	ID          string // of the reservation, of the caller's choosing
	Machine     string // id
	Reason      string
	Release     string // empty: the site's
	Quarantined bool   // it is quarantined, and may be taken for this check alone
}

// CheckPlan is what a check runs.
const CheckPlan = "com.canonical.certlab::preflight"
