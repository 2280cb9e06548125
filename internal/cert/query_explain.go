package cert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Explanation says what a query finds among a lab's machines, and what stands in its way.
type Explanation struct {
	Query    string     `json:"query"`
	Of       int        `json:"of"`       // machines that were looked at
	Matching int        `json:"matching"` // in any state, whatever the query says of it
	Free     int        `json:"free"`     // of those, now
	Excluded []Excluded `json:"excluded"` // what each constraint excludes by itself, in the query's order
	Text     string     `json:"text"`     // one sentence
}

// Excluded is what one constraint of a query excludes.
type Excluded struct {
	Constraint string   `json:"constraint"`
	Machines   int      `json:"machines"`        // that do not meet it, whatever the others say
	There      []string `json:"there,omitempty"` // the first dozen values that there are, or their range
	More       int      `json:"more,omitempty"`  // values that are not named
}

// maxThere bounds the values that an explanation names.
const maxThere = 12

// Explain says what the query finds among machines.
func (q Query) Explain(machines []FleetMachine) Explanation {
	e := Explanation{Query: q.text, Of: len(machines)}
	steady := q.AnyState()
	states := map[MachineState]int{}
	found := false // a machine that is in the wanted state, too
	for n := range machines {
		if steady.Match(&machines[n]) == "" {
			e.Matching++
			states[machines[n].State]++
			found = found || q.Match(&machines[n]) == ""
		}
	}
	e.Free = states[MachineFree]
	if q.name != "" {
		e.Excluded = []Excluded{{Constraint: q.name, Machines: e.Of - e.Matching}}
	}
	for n := range steady.constraints {
		e.Excluded = append(e.Excluded, steady.constraints[n].excludes(machines))
	}
	e.Text = e.sentence(q, states, found)
	return e
}

func (c *constraint) excludes(machines []FleetMachine) Excluded {
	x := Excluded{Constraint: c.text}
	there := map[string]bool{}
	for n := range machines {
		if !c.met(&machines[n]) {
			x.Machines++
		}
		if !c.key.kind.number() {
			for _, text := range c.key.text(&machines[n]) {
				there[text] = true
			}
		}
	}
	if c.key.kind.number() {
		x.There = extremes(machines, c.key)
		return x
	}
	x.There = slices.Sorted(maps.Keys(there))
	if more := len(x.There) - maxThere; more > 0 {
		x.There, x.More = x.There[:maxThere], more
	}
	return x
}

// extremes are the least and the most that machines have.
func extremes(machines []FleetMachine, key *queryKey) []string {
	least, most := 0.0, 0.0
	for n := range machines {
		have := key.amount(&machines[n])
		if have > 0 && (least == 0 || have < least) {
			least = have
		}
		most = max(most, have)
	}
	switch {
	case most == 0:
		return nil
	case least == most:
		return []string{showAmount(most, key.kind)}
	}
	return []string{showAmount(least, key.kind) + " to " + showAmount(most, key.kind)}
}

func showAmount(n float64, kind keyKind) string {
	if kind == keyCount {
		return fmt.Sprintf("%.0f", n)
	}
	base := 1024.0
	if kind == keyDisk {
		base = 1000
	}
	unit := 0
	for n >= base && unit < 4 {
		n /= base
		unit++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + []string{"", "K", "M", "G", "T"}[unit]
}

// sentence says what was found, or why nothing was.
func (e Explanation) sentence(q Query, states map[MachineState]int, found bool) string {
	switch {
	case e.Of == 0:
		return "no machine matches " + q.text + ": there are no machines"
	case e.Matching == 0 && q.name != "":
		return fmt.Sprintf("no machine is called %s: none of the %s has that name, id, system_id or certification id", q.name, plural(e.Of, "machine"))
	case e.Matching == 0:
		return "no machine matches " + q.text + ": " + e.obstacles()
	case e.Free > 0 && found:
		return fmt.Sprintf("%s %s %s, of which %d %s free now", plural(e.Matching, "machine"), verb(e.Matching, "matches", "match"), q.text, e.Free, verb(e.Free, "is", "are"))
	}
	var now []string
	for _, state := range slices.SortedFunc(maps.Keys(states), func(a, b MachineState) int {
		return cmp.Or(states[b]-states[a], strings.Compare(string(a), string(b)))
	}) {
		now = append(now, fmt.Sprintf("%d %s", states[state], state))
	}
	if e.Free > 0 {
		return fmt.Sprintf("no machine matches %s now: in all but their state %d do (%s)", q.text, e.Matching, strings.Join(now, ", "))
	}
	return fmt.Sprintf("%s %s %s, of which none is free now (%s)", plural(e.Matching, "machine"), verb(e.Matching, "matches", "match"), q.text, strings.Join(now, ", "))
}

// obstacles says which constraints exclude every machine; where none does so alone, what each of them excludes.
func (e Explanation) obstacles() string {
	var alone, each []string
	for _, x := range e.Excluded {
		if x.Machines == e.Of {
			alone = append(alone, fmt.Sprintf("%s excludes all %d (%s)", x.Constraint, e.Of, x.there()))
		} else if x.Machines > 0 {
			each = append(each, fmt.Sprintf("%s excludes %d", x.Constraint, x.Machines))
		}
	}
	if len(alone) > 0 {
		return strings.Join(alone, ", ")
	}
	return fmt.Sprintf("of %s %s, and together they exclude all", plural(e.Of, "machine"), strings.Join(each, ", "))
}

func (x Excluded) there() string {
	if len(x.There) == 0 {
		return "no machine is known to have any"
	}
	if x.More > 0 {
		return fmt.Sprintf("there are: %s and %d more", strings.Join(x.There, ", "), x.More)
	}
	return "there are: " + strings.Join(x.There, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func verb(n int, singular, plural string) string {
	if n == 1 {
		return singular
	}
	return plural
}
