package soak

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Event is one thing that is done, at a time from the beginning.
type Event struct {
	N       int
	At      time.Duration
	Kind    string
	Machine string        // number of the machine that it is done to; "0" is the controller's
	Plan    string        // of a run
	For     time.Duration // how long something stays away, or how late it is done
	Number  int           // random, for what else there is to choose
}

func (e Event) String() string {
	s := fmt.Sprintf("%04d %7.1fs %-16s machine %s", e.N, e.At.Seconds(), e.Kind, e.Machine)
	if e.Plan != "" {
		s += " " + strings.TrimPrefix(e.Plan, namespace)
	}
	if e.For > 0 {
		s += fmt.Sprintf(" for %.1fs", e.For.Seconds())
	}
	return s
}

// unit is the unit of checkbox on the event's machine.
func (e Event) unit() string { return unitOn(e.Machine) }

func unitOn(machine string) string {
	n, _ := strconv.Atoi(machine)
	if n == 0 {
		return controllerUnit
	}
	return "checkbox/" + strconv.Itoa(n-1)
}

const (
	namespace      = "com.canonical.certlab::"
	controllerUnit = "cert-controller/0"
)

// A Profile says what a soak does how often.
type Profile struct {
	Machines int           // under test, besides the controller's
	Faults   time.Duration // for so long
	Between  time.Duration // faults, on average
	Runs     time.Duration // between things asked for, on average
	Patience time.Duration // how long what is to strike something in its middle waits for there to be one
	Settle   time.Duration // how long the lab has to become well again
	Kinds    map[string]int
	Work     map[string]int
	Plans    map[string]int
}

// Kinds of faults. Each is drawn as often as it weighs: from a bag that is filled anew when it is empty, so that none is left out by chance.
var allFaults = map[string]int{
	"kill-certlabd": 3, "kill-pebble": 3, "kill-agent": 4, "kill-keeper": 2, "kill-checkbox": 2, "kill-hook": 4, "kill-action": 2,
	"power-cut": 3, "power-off": 1, "reboot": 2, "controller-cut": 1, "controller-off": 1, "freeze-certlabd": 1, "freeze-agent": 1, "rack-cut": 1,
	"config": 3, "refresh": 2, "relation": 1, "disk-low": 1, "backup": 1, "rotate-ca": 1,
}

var allWork = map[string]int{"run-action": 5, "run-order": 6, "cancel": 1, "upload": 2, "token": 1, "revoke": 1}

var allPlans = map[string]int{
	"demo-quick": 6, "preflight": 2, "demo-slow": 4, "demo-blocker": 2, "demo-reboot": 2, "demo": 1, "demo-manual": 1, "demo-unknown": 1, "demo-hang": 1,
}

// Long is the soak of `make soak`.
func Long(faults time.Duration) Profile {
	return Profile{Machines: 3, Faults: faults, Between: 4 * time.Second, Runs: 6 * time.Second, Patience: 20 * time.Second, Settle: 20 * time.Minute,
		Kinds: allFaults, Work: allWork, Plans: allPlans}
}

// Short is the soak of `make test`: fewer kinds, several kills of each.
func Short() Profile {
	return Profile{Machines: 2, Faults: 15 * time.Second, Between: 700 * time.Millisecond, Runs: 2500 * time.Millisecond, Patience: 5 * time.Second, Settle: 8 * time.Minute,
		Kinds: map[string]int{"kill-certlabd": 3, "kill-pebble": 3, "kill-agent": 3, "kill-hook": 3, "kill-action": 2, "power-cut": 3,
			"controller-cut": 1, "config": 1, "refresh": 1},
		Work:  map[string]int{"run-action": 3, "run-order": 3, "upload": 1, "token": 1},
		Plans: map[string]int{"demo-quick": 4, "demo-slow": 1}}
}

// Draw returns the events of a soak, in order. The same seed and profile give the same events.
func Draw(seed uint64, p Profile) []Event {
	var events []Event
	for stream, draw := range []struct {
		bag     map[string]int
		between time.Duration
	}{{p.Kinds, p.Between}, {p.Work, p.Runs}} {
		random := rand.New(rand.NewPCG(seed, uint64(stream)))
		kinds, plans := &bag{random: random, weights: draw.bag}, &bag{random: random, weights: p.Plans}
		for at := time.Duration(0); ; {
			at += time.Duration(random.ExpFloat64() * float64(draw.between))
			if at > p.Faults {
				break
			}
			e := Event{At: at, Kind: kinds.next(), Machine: strconv.Itoa(1 + random.IntN(p.Machines)), Number: random.IntN(1 << 30)}
			late := random.Float64()
			if stream == 1 && strings.HasPrefix(e.Kind, "run-") {
				e.Plan = namespace + plans.next()
			}
			e.For = lasts(e.Kind, late)
			if atController(e.Kind, random.IntN(3) == 0) {
				e.Machine = "0"
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return int(a.At - b.At) })
	for n := range events {
		events[n].N = n + 1
	}
	return events
}

// lasts says how long something is away, or for a kill in the middle of something how late in it; share is between 0 and 1.
func lasts(kind string, share float64) time.Duration {
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(share*float64(most-least))
	}
	switch kind {
	case "kill-hook", "kill-action":
		return between(0, 80*time.Millisecond)
	case "power-off", "controller-off":
		return between(5*time.Second, 60*time.Second)
	case "freeze-certlabd", "freeze-agent":
		return between(3*time.Second, 40*time.Second)
	case "relation":
		return between(2*time.Second, 30*time.Second)
	case "disk-low":
		return between(3*time.Second, 20*time.Second)
	}
	return 0
}

// atController reports whether something is done on the controller's machine: some things always, some in one of three cases.
func atController(kind string, third bool) bool {
	switch kind {
	case "kill-certlabd", "controller-cut", "controller-off", "freeze-certlabd", "disk-low", "backup", "rotate-ca", "rack-cut", "token", "revoke":
		return true
	case "kill-pebble", "kill-hook", "config", "refresh":
		return third
	}
	return false
}

// A bag holds each kind as often as it weighs, and is filled anew when it is empty.
type bag struct {
	random  *rand.Rand
	weights map[string]int
	left    []string
}

func (b *bag) next() string {
	if len(b.left) == 0 {
		for _, name := range slices.Sorted(maps.Keys(b.weights)) {
			for range b.weights[name] {
				b.left = append(b.left, name)
			}
		}
		b.random.Shuffle(len(b.left), func(i, j int) { b.left[i], b.left[j] = b.left[j], b.left[i] })
	}
	kind := b.left[len(b.left)-1]
	b.left = b.left[:len(b.left)-1]
	return kind
}
