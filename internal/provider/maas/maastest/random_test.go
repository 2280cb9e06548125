package maastest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"certlab/internal/provider/maas/maastest"
)

// Whatever two users and an administrator ask for, in whatever order and however quickly, and whatever goes wrong.
func TestRandomOperationsKeepMAASsRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		clock := maastest.NewManualClock(time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC))
		r := maastest.New(maastest.Options{Clock: clock})
		people := []*person{newPerson(t, r, "alice", false), newPerson(t, r, "bob", false), newPerson(t, r, "admin", true)}
		var ids []string
		for range 3 {
			ids = append(ids, r.AddMachine(maastest.Machine{}))
		}
		ids = append(ids, r.AddMachine(maastest.Machine{New: true}))
		for _, p := range people {
			p.clock = clock.Now
		}
		operations := []string{"allocate", "deploy", "release", "release erase=true", "abort", "mark_broken", "mark_fixed", "power_on", "power_off",
			"query_power_state", "lock", "unlock", "test", "override_failed_testing", "commission", "rescue_mode", "exit_rescue_mode",
			"set_owner_data a=b", "wait", "wait", "wait", "fault", "clear"}
		kinds := []maastest.FaultKind{maastest.BMCRefuses, maastest.BMCHangs, maastest.DeployFails, maastest.DeployHangs, maastest.EraseFails,
			maastest.TestFails, maastest.RackGone, maastest.Taken, maastest.AbortHangs, maastest.ReleaseHangs}
		for range rapid.IntRange(1, 40).Draw(rt, "length") {
			op, form, _ := strings.Cut(rapid.SampledFrom(operations).Draw(rt, "operation"), " ")
			id := rapid.SampledFrom(ids).Draw(rt, "machine")
			p := people[rapid.IntRange(0, 2).Draw(rt, "who")]
			switch op {
			case "wait":
				clock.Advance(time.Duration(rapid.IntRange(1, 900).Draw(rt, "seconds")) * time.Second)
			case "fault":
				r.Fault(id, maastest.Fault{Kind: rapid.SampledFrom(kinds).Draw(rt, "fault"), Times: rapid.IntRange(1, 2).Draw(rt, "times")})
			case "clear":
				r.Clear(id)
			case "query_power_state":
				if !slices.Contains([]int{200, 403, 503}, askWithin(clock, func() answer { return p.get("machines/" + id + "/?op=" + op) }).Status) {
					rt.Fatalf("%s of %s", op, r.State(id).Status)
				}
			case "allocate":
				p.post("machines/?op=allocate", "system_id="+id, "agent_name="+p.key[:4])
			default:
				a := p.post("machines/"+id+"/?op="+op, strings.Fields(form)...)
				if !slices.Contains([]int{200, 403, 409, 503}, a.Status) {
					rt.Fatalf("%s of %s: %d %s", op, r.State(id).Status, a.Status, a.Body)
				}
			}
			lawful(rt, r, ids)
		}
		// Left alone, with nothing broken any more, all that was under way ends.
		for _, id := range ids {
			r.Clear(id)
		}
		clock.Advance(3 * time.Hour)
		lawful(rt, r, ids)
		for _, id := range ids {
			s := r.State(id)
			underWay := []maastest.Status{maastest.Deploying, maastest.Releasing, maastest.Commissioning, maastest.Testing, maastest.EnteringRescueMode, maastest.ExitingRescueMode}
			if slices.Contains(underWay, s.Status) {
				rt.Fatalf("%s is %s (%s) for ever", id, s.Status, s.StatusMessage)
			}
		}
		require.Empty(rt, r.Undeclared())
	})
}

// askWithin lets the clock pass while a request waits for a BMC. A request that has not arrived when the clock has passed by its timestamp is
// refused for that, as MAAS does, and is asked again.
func askWithin(clock *maastest.ManualClock, ask func() answer) answer {
	for {
		if a := passing(clock, ask); a.Status != 401 || !strings.Contains(a.Body, "Expired timestamp") {
			return a
		}
	}
}

func passing(clock *maastest.ManualClock, ask func() answer) answer {
	done := make(chan answer, 1)
	go func() { done <- ask() }()
	for {
		select {
		case a := <-done:
			return a
		case <-time.After(time.Millisecond):
			clock.Advance(10 * time.Second)
		}
	}
}

// lawful checks what holds at any time.
func lawful(rt *rapid.T, r *maastest.Region, ids []string) {
	for _, v := range r.Violations() {
		if strings.Contains(v, "went from") {
			rt.Fatal(v)
		}
	}
	for _, e := range r.Log() {
		if e.OwnerBefore != "" && e.OwnerAfter != "" && e.OwnerBefore != e.OwnerAfter {
			rt.Fatalf("%s passed from %s to %s by %s", e.SystemID, e.OwnerBefore, e.OwnerAfter, e.Op)
		}
	}
	// A machine that is Broken can be erased without being anybody's.
	held := []maastest.Status{maastest.Allocated, maastest.Deploying, maastest.Deployed, maastest.FailedDeployment, maastest.Testing, maastest.Commissioning}
	for _, id := range ids {
		s := r.State(id)
		if slices.Contains(held, s.Status) != (s.Owner != "") && (s.Status == maastest.Ready || slices.Contains(held, s.Status)) {
			rt.Fatalf("%s is %s and its owner is %q", id, s.Status, s.Owner)
		}
		if s.Owner == "" && s.AgentName != "" {
			rt.Fatalf("%s is nobody's and agent %q's", id, s.AgentName)
		}
	}
}
