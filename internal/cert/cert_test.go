package cert

import (
	"fmt"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	var ids []string
	for n := range 200 {
		id := NewID(RunID, epoch.Add(time.Duration(n*n)*time.Millisecond))
		require.True(t, ValidID(RunID, id), id)
		require.False(t, ValidID(TokenID, id))
		ids = append(ids, id)
	}
	require.True(t, sort.StringsAreSorted(ids[1:]))
	require.NotEqual(t, NewID(RunID, epoch), NewID(RunID, epoch))
}

func TestWhatMakesAMachine(t *testing.T) {
	t.Parallel()
	for want, id := range map[string]Identity{
		"maas:abc":        {SystemID: "abc", ProductUUID: "U", Hostname: "h", ModelUUID: "m"},
		"dmi:m:u:h":       {ProductUUID: "U", Hostname: "H", ModelUUID: "m"},
		"host:m:node.lan": {Hostname: "node.LAN", ModelUUID: "m"},
		"":                {ModelUUID: "m"},
	} {
		require.Equal(t, want, id.Key())
	}
}

func TestOneUnitPerMachine(t *testing.T) {
	t.Parallel()
	unit := func(n int, host, key string) Enrolment {
		return Enrolment{Unit: fmt.Sprintf("c/%d", n), PublicKey: key, Identity: Identity{Hostname: host, SystemID: host, ModelUUID: "m"}}
	}
	list := []Enrolment{unit(0, "a", "k0"), unit(1, "a", "k1"), unit(2, "b", "k2"), unit(3, "c", "k2"), unit(4, "d", ""), {Unit: "c/5", PublicKey: "k5"}}
	claims, refused := Claims(list, nil)
	require.Len(t, claims, 2)
	require.Equal(t, "c/0", claims[0].Unit)
	require.Equal(t, "c/2", claims[1].Unit)
	require.Len(t, refused, 4)
	claims, _ = Claims(list, map[string]string{"maas:a": "m/c/1"})
	require.Equal(t, "c/1", claims[0].Unit, "who has it keeps it")
	claims, _ = Claims(list, map[string]string{"maas:a": "m/c/9"})
	require.Equal(t, "c/0", claims[0].Unit, "who had it and is gone does not")
}

func TestRoles(t *testing.T) {
	t.Parallel()
	order := []Role{Viewer, Engineer, Signer, Admin}
	for n, have := range order {
		for m, need := range order {
			require.Equal(t, n >= m, have.May(need), "%s may %s", have, need)
		}
	}
	require.False(t, Role("").May(Viewer))
	require.False(t, Role("").May(""))
	require.False(t, Admin.May("root"))
}

// TestARunNeverComesBack sends a run reports, ends and cancellations in any order, twice and late.
func TestARunNeverComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		run := NewReportedRun(NewID(RunID, epoch), "m", Report{Origin: FromOrder}, epoch)
		run.Files = []File{{Kind: KindSubmission, SHA256: "x", Attempt: 1}}
		var final *Run
		attempt, sequence := 0, int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			r := Report{Attempt: rapid.IntRange(1, 3).Draw(t, "attempt"), Sequence: rapid.Int64Range(0, 5).Draw(t, "sequence"), Origin: FromOrder,
				State: State(rapid.SampledFrom(States).Draw(t, "state"))}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				_, err := run.Cancel(epoch)
				require.Equal(t, final != nil, err != nil)
			case 1:
				f := Finish{Report: r, Files: []string{"x"}}
				if r.State == Failed {
					f.Failure = &Failure{}
				}
				changed, err := run.Finish(f, epoch)
				require.False(t, changed && err != nil)
			default:
				if run.Report(r, epoch) {
					require.True(t, r.Attempt > attempt || (r.Attempt == attempt && r.Sequence > sequence), "only what is new is taken")
				}
			}
			if len(run.Attempts) > 0 {
				last := run.Attempts[len(run.Attempts)-1]
				require.GreaterOrEqual(t, last.Number, attempt)
				attempt, sequence = last.Number, last.Sequence
			}
			if final != nil {
				require.Equal(t, final.State, run.State)
				require.Equal(t, final.Attempts, run.Attempts)
			} else if run.State.Final() {
				kept := *run
				kept.Attempts = append([]Attempt(nil), run.Attempts...)
				final = &kept
				require.NotNil(t, run.Finished)
			}
		}
	})
}
