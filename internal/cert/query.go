package cert

import (
	"slices"
	"strings"
)

// A Query selects machines: by one's name, or by what it has. See ParseQuery for the language. The zero Query matches every machine.
type Query struct {
	text        string
	name        string // of a bare word
	constraints []constraint
}

// constraint is one key, operator and value.
type constraint struct {
	text   string // as it was written
	key    *queryKey
	op     string
	words  []string // alternatives, in lower case, of a key that holds text
	amount float64  // of a key that holds a number
}

// queryKey is something of a machine that a query can name.
type queryKey struct {
	name   string
	kind   keyKind
	text   func(*FleetMachine) []string // what the machine has; nothing: not known
	amount func(*FleetMachine) float64  // 0: not known
}

// keyKind says how a key's values are compared.
type keyKind int

const (
	keyWord   keyKind = iota // the whole text, whatever its case
	keyPart                  // a part of the text, whatever its case
	keySet                   // one of several words
	keyCount                 // a number
	keyMemory                // bytes; K, M, G, T are powers of 1024
	keyDisk                  // bytes; K, M, G, T are powers of 1000
)

func (k keyKind) number() bool { return k >= keyCount }

// one is a single text, or nothing where it is empty.
func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// queryKeys returns what a query can name, in the order of the documentation.
func queryKeys() []queryKey {
	return []queryKey{
		{name: "name", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Hostname) }},
		{name: "tags", kind: keySet, text: func(m *FleetMachine) []string { return m.Tags }},
		{name: "arch", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Architecture) }},
		{name: "cores", kind: keyCount, amount: func(m *FleetMachine) float64 { return float64(m.Cores) }},
		{name: "memory", kind: keyMemory, amount: func(m *FleetMachine) float64 { return float64(m.MemoryMiB) * (1 << 20) }},
		{name: "storage", kind: keyDisk, amount: func(m *FleetMachine) float64 { return float64(m.StorageBytes) }},
		{name: "nics", kind: keyCount, amount: func(m *FleetMachine) float64 { return float64(m.NICs) }},
		{name: "pool", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Pool) }},
		{name: "zone", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Zone) }},
		{name: "rack", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Rack) }},
		{name: "vendor", kind: keyPart, text: func(m *FleetMachine) []string { return one(m.Vendor) }},
		{name: "product", kind: keyPart, text: func(m *FleetMachine) []string { return one(m.Product) }},
		{name: "firmware", kind: keyPart, text: func(m *FleetMachine) []string { return one(m.Firmware) }},
		{name: "gpu", kind: keyPart, text: func(m *FleetMachine) []string { return m.GPUs }},
		{name: "ability", kind: keySet, text: abilities},
		{name: "class", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Class) }},
		{name: "cid", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.CID) }},
		{name: "origin", kind: keyWord, text: func(m *FleetMachine) []string { return one(m.Origin) }},
		{name: "state", kind: keyWord, text: func(m *FleetMachine) []string { return one(string(m.State)) }},
	}
}

func abilities(m *FleetMachine) []string {
	var have []string
	for name, can := range m.Abilities {
		if can {
			have = append(have, name)
		}
	}
	slices.Sort(have)
	return have
}

// String returns the query as it was written.
func (q Query) String() string { return q.text }

// Name returns the machine's name, id, system_id or certification id that the query consists of, or "".
func (q Query) Name() string { return q.name }

// Match returns the first of the query's constraints that the machine does not meet, as it was written; "" if it meets all of them.
//
// What is not known of a machine meets no constraint but those with !=: a machine whose memory nobody has told has neither more
// nor less than 64 GiB.
func (q Query) Match(m *FleetMachine) (failing string) {
	if q.name != "" && !q.named(m) {
		return q.name
	}
	for n := range q.constraints {
		if !q.constraints[n].met(m) {
			return q.constraints[n].text
		}
	}
	return ""
}

func (q Query) named(m *FleetMachine) bool {
	for _, name := range []string{m.Hostname, m.ID, m.SystemID, m.CID} {
		if name != "" && strings.EqualFold(name, q.name) {
			return true
		}
	}
	return false
}

// AnyState returns the query without what it says of the machine's state, which changes.
func (q Query) AnyState() Query {
	q.constraints = slices.DeleteFunc(slices.Clone(q.constraints), func(c constraint) bool { return c.key.name == "state" })
	return q
}

func (c *constraint) met(m *FleetMachine) bool {
	if c.key.kind.number() {
		have := c.key.amount(m)
		return have > 0 && compare(have, c.op, c.amount)
	}
	return c.meets(c.key.text(m)) == (c.op == "=")
}

// meets reports whether one of the machine's texts is one of those that the constraint names.
func (c *constraint) meets(have []string) bool {
	for _, text := range have {
		text = strings.ToLower(text)
		for _, word := range c.words {
			if text == word || c.key.kind == keyPart && strings.Contains(text, word) {
				return true
			}
		}
	}
	return false
}

func compare(have float64, op string, want float64) bool {
	switch op {
	case "=":
		return have == want
	case "!=":
		return have != want
	case ">=":
		return have >= want
	case "<=":
		return have <= want
	case ">":
		return have > want
	}
	return have < want
}
