package maastest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// A FaultKind is something that goes wrong.
type FaultKind string

// Faults of machines. Their Target is a machine, a group of machines or, empty, every machine.
const (
	BMCRefuses   FaultKind = "bmc-refuses"   // power actions fail after a few seconds; a query says error
	BMCHangs     FaultKind = "bmc-hangs"     // power actions fail after 5 minutes, a query after one
	BMCLies      FaultKind = "bmc-lies"      // power actions change nothing and are said to have; Says: what a query answers
	RackGone     FaultKind = "rack-gone"     // nobody reaches the BMC: 503
	PowerBusy    FaultKind = "power-busy"    // another power action is in progress: 503
	DeployFails  FaultKind = "deploy-fails"  // the installer fails, with a log; Message is its last line
	DeployHangs  FaultKind = "deploy-hangs"  // nothing is heard of the installer: node_timeout
	NeverBoots   FaultKind = "never-boots"   // Deployed, and nothing runs
	BootsOther   FaultKind = "boots-other"   // the disk carries Release and Kernel, not what was asked for
	ReleaseHangs FaultKind = "release-hangs" // Releasing until it times out; erasing for ever
	EraseFails   FaultKind = "erase-fails"   //
	AbortHangs   FaultKind = "abort-hangs"   // the machine is never seen off
	TestFails    FaultKind = "test-fails"    // hardware tests; Message is what they print
)

// Faults of requests. Op limits them to one operation, such as "machine.deploy" or "deploy"; to "GET" or "POST"; empty: all. User limits them
// to one user's.
const (
	Answers   FaultKind = "answers"   // Status, Message and RetryAfter are answered instead; After: what was asked for is done all the same
	Cuts      FaultKind = "cuts"      // the connection is cut; After: what was asked for is done
	Truncates FaultKind = "truncates" // half of the answer's body is missing, and nothing says so
	Slow      FaultKind = "slow"      // the answer comes Delay later; After: what was asked for is done first
	Taken     FaultKind = "taken"     // By acquires the machine just before it is allocated or deployed
	Deleted   FaultKind = "deleted"   // the machine is deleted just before
)

// A Fault is switched on by Region.Fault.
type Fault struct {
	Kind  FaultKind
	Times int // how often it strikes; 0: until it is cleared

	Op, User string
	After    bool
	Status   int
	Message,
	RetryAfter string
	Delay time.Duration

	Says            string // on, off
	Release, Kernel string
	By              string // "somebody-else" if empty
}

// FaultText says in a line what a kind of fault does.
type FaultText struct {
	Kind    FaultKind
	Request bool // it is one of requests, not of machines
	Text    string
}

// FaultKinds returns all kinds, those of machines first.
func FaultKinds() []FaultText {
	return []FaultText{
		{BMCRefuses, false, "the BMC refuses: power actions fail after a few seconds, a query says error"},
		{BMCHangs, false, "the BMC hangs: power actions fail after 5 minutes, a query says error after one"},
		{BMCLies, false, "the BMC lies: power actions change nothing and are said to have succeeded"},
		{RackGone, false, "no rack controller reaches the BMC: 503"},
		{PowerBusy, false, "another power action is always in progress: 503"},
		{DeployFails, false, "the installer fails, and leaves a log"},
		{DeployHangs, false, "nothing is heard of the installer until the deployment times out"},
		{NeverBoots, false, "the machine becomes Deployed, and nothing runs on it"},
		{BootsOther, false, "another release or kernel boots than was asked for"},
		{ReleaseHangs, false, "a release does not end: it times out after 5 minutes, and erasing never does"},
		{EraseFails, false, "erasing the disks fails"},
		{AbortHangs, false, "aborting does not end"},
		{TestFails, false, "hardware tests fail"},
		{Answers, true, "another answer than the region's, before or after it has done what was asked for"},
		{Cuts, true, "the connection is cut, before or after the region has done what was asked for"},
		{Truncates, true, "half of the answer is missing"},
		{Slow, true, "the answer comes late, before or after the region has done what was asked for"},
		{Taken, true, "somebody else acquires the machine just before it is allocated or deployed"},
		{Deleted, true, "the machine is deleted just before"},
	}
}

// Overloaded is what the region answers when its database could not serialise a request's transaction: nothing has happened.
func Overloaded() Fault {
	return Fault{Kind: Answers, Status: http.StatusServiceUnavailable, RetryAfter: "10", Message: "could not serialize access due to concurrent update"}
}

// Gateway is an answer of the proxy before the region: 502 or 504. After: the region has done what was asked for.
func Gateway(status int, after bool) Fault {
	return Fault{Kind: Answers, Status: status, After: after, Message: "<html>\r\n<head><title>" + http.StatusText(status) + "</title></head>\r\n</html>\r\n"}
}

type activeFault struct {
	Target string
	Fault
	Left int // of Times
}

// Fault switches a fault on. The target is a machine's system_id; "zone:", "rack:", "pool:", "tag:" or "release:" with a name for all those
// machines (release: deployed or being deployed with it); or empty for all.
func (r *Region) Fault(target string, f Fault) {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Faults = append(r.state.Faults, &activeFault{Target: target, Fault: f, Left: f.Times})
}

// Clear switches off a target's faults: those of some kinds, or all.
func (r *Region) Clear(target string, kinds ...FaultKind) {
	defer r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Faults = slices.DeleteFunc(r.state.Faults, func(f *activeFault) bool {
		return f.Target == target && (len(kinds) == 0 || slices.Contains(kinds, f.Kind))
	})
}

// aims tells whether a fault is one of a machine's.
func (f *activeFault) aims(n *node) bool {
	if f.Target == "" {
		return true
	}
	if n == nil {
		return false
	}
	kind, name, group := strings.Cut(f.Target, ":")
	if !group {
		return f.Target == n.SystemID
	}
	switch kind {
	case "zone":
		return n.Zone == name
	case "rack":
		return n.Rack == name
	case "pool":
		return n.Pool == name
	case "tag":
		return slices.Contains(n.Tags, name)
	case "release":
		return n.Series == name
	}
	return false
}

// fault returns the first fault of a kind that a machine has.
func (r *Region) fault(n *node, kind FaultKind) *activeFault {
	for _, f := range r.state.Faults {
		if f.Kind == kind && f.aims(n) {
			return f
		}
	}
	return nil
}

func (r *Region) faulty(n *node, kind FaultKind) bool { return r.fault(n, kind) != nil }

// strike returns the fault and counts it: one that has struck as often as it may is gone.
func (r *Region) strike(n *node, kind FaultKind) *activeFault {
	f := r.fault(n, kind)
	if f != nil {
		r.count(f)
	}
	return f
}

func (r *Region) struck(n *node, kind FaultKind) bool { return r.strike(n, kind) != nil }

func (r *Region) count(f *activeFault) {
	if f.Times == 0 {
		return
	}
	if f.Left--; f.Left <= 0 {
		r.state.Faults = slices.DeleteFunc(r.state.Faults, func(other *activeFault) bool { return other == f })
	}
}

// trouble is what faults do to a request: before it is looked at, or after what it asks for has been done.
type trouble struct {
	delay    time.Duration
	cut      bool
	truncate bool
	answer   *reply
}

// requestFaults returns what faults do to a request. Those that change a machine have done so. Called with the lock.
func (r *Region) requestFaults(c *call) (before, after trouble) {
	n := r.nodes[c.vars["system_id"]]
	if n == nil && c.route.Name == "allocate" {
		n = r.nodes[c.form.Get("system_id")]
	}
	for _, f := range slices.Clone(r.state.Faults) {
		if f.Kind == Taken && c.route.Name == "allocate" && n == nil { // of those that it could choose from
			for _, candidate := range r.state.Nodes {
				if f.Target != "" && f.aims(candidate) && candidate.Status == Ready {
					r.take(candidate, f)
				}
			}
			continue
		}
		if f.Op != "" && f.Op != c.route.op() && f.Op != c.route.Name && f.Op != c.req.Method || f.User != "" && f.User != c.userName() || !f.aims(n) {
			continue
		}
		t := &before
		if f.After {
			t = &after
		}
		switch f.Kind {
		case Slow:
			t.delay += f.Delay
		case Cuts:
			t.cut = true
		case Truncates:
			after.truncate = true
		case Answers:
			a := text(f.Status, "%s", f.Message)
			if f.RetryAfter != "" {
				a.header = http.Header{"Retry-After": {f.RetryAfter}}
			}
			t.answer = &a
		case Taken:
			if n == nil || n.Status != Ready || c.route.Name != "allocate" && c.route.Name != "deploy" {
				continue
			}
			r.take(n, f)
			continue
		case Deleted:
			if n == nil {
				continue
			}
			r.drop(n)
		default:
			continue
		}
		r.count(f)
	}
	return before, after
}

// take gives a machine to somebody else.
func (r *Region) take(n *node, f *activeFault) {
	n.Owner, n.Token = orElse(f.By, "somebody-else"), "somebody-else"
	r.become(n, Allocated)
	r.record(Entry{User: n.Owner, Op: "taken", SystemID: n.SystemID, Before: Ready, After: Allocated, OwnerAfter: n.Owner})
	r.count(f)
}

// Restart makes the region restart: connections are refused for a time, then the proxy answers 502 for another. What is under way at machines
// goes on.
func (r *Region) Restart(refused, bad time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	r.downUntil, r.badUntil = now.Add(refused), now.Add(refused+bad)
}

// SetClockSkew moves the clock that the region checks requests by; 0: it is right again.
func (r *Region) SetClockSkew(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clockSkew = d
}

// clockNow is what the region takes the time to be, as its answers' Date says.
func (r *Region) clockNow() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock.Now().Add(r.clockSkew)
}

// refuses tells whether the region takes no connections at the moment.
func (r *Region) refuses() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock.Now().Before(r.downUntil)
}

// away returns what is answered while the region restarts; cut: nothing is.
func (r *Region) away() (answer *reply, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	if !now.Before(r.badUntil) {
		return nil, false
	}
	a := reply{status: http.StatusBadGateway, contentType: "text/html", body: []byte(Gateway(http.StatusBadGateway, false).Message)}
	return &a, now.Before(r.downUntil)
}
