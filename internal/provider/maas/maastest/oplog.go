package maastest

import (
	"slices"
	"sort"
	"time"
)

// An Entry of the log is one operation that changes something, or one change that happened by itself.
type Entry struct {
	Seq                     int64
	At                      time.Time
	User, Token             string // empty: it happened by itself
	Op                      string // as in Call; by itself: the step, such as "power-off"
	SystemID                string
	Before, After           Status
	OwnerBefore, OwnerAfter string
	HTTP                    int  // the answer's status; 0: by itself
	Lost                    bool // done, but the answer was lost or replaced
	Comment                 string
}

// maxEntries bounds the log of a region that runs for long.
const maxEntries = 100_000

func (r *Region) record(e Entry) {
	r.state.Entries++
	e.Seq, e.At = r.state.Entries, r.clock.Now()
	if len(r.oplog) >= maxEntries {
		r.oplog = slices.Delete(r.oplog, 0, maxEntries/2)
	}
	r.oplog = append(r.oplog, e)
}

// Log returns what was done to the region's machines, oldest first.
func (r *Region) Log() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.oplog)
}

// A Call is who called which operation: as MAAS's description names them, such as "machines.allocate", "machine.deploy", "machines.read".
type Call struct{ User, Op string }

// Calls returns how often each operation was called, by whom, answered or not.
func (r *Region) Calls() map[Call]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := make(map[Call]int, len(r.calls))
	for c, n := range r.calls {
		calls[c] = n
	}
	return calls
}

// CallsOf returns how often an operation was called; with "", how often any was.
func (r *Region) CallsOf(op string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := 0
	for c, n := range r.calls {
		if op == "" || c.Op == op {
			sum += n
		}
	}
	return sum
}

// ResetCalls starts counting anew.
func (r *Region) ResetCalls() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = map[Call]int{}
}

// Violations returns what must not happen and did: a machine acquired, deployed, switched or released by a key while another held it.
func (r *Region) Violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, n := range r.state.Nodes {
		all = append(all, n.Violations...)
	}
	sort.Strings(all)
	return all
}

// Undeclared returns the parameters that were read though Offered does not list them: for the region's own tests.
func (r *Region) Undeclared() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedKeys(r.undeclared)
}
