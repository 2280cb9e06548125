package soak

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASeedGivesTheSamePlan(t *testing.T) {
	t.Parallel()
	p := Long(10 * time.Minute)
	require.Equal(t, Draw(7, p), Draw(7, p))
	require.NotEqual(t, Draw(7, p), Draw(8, p))
}

func TestThePlanHasEverything(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Profile{"long": Long(30 * time.Minute), "short": Short()} {
		for seed := range uint64(20) {
			count, last := map[string]int{}, time.Duration(0)
			for n, e := range Draw(seed, p) {
				require.Equal(t, n+1, e.N)
				require.GreaterOrEqual(t, e.At, last)
				require.LessOrEqual(t, e.At, p.Faults)
				require.True(t, faultKinds[e.Kind] != nil || work[e.Kind] != nil, "nobody does %q", e.Kind)
				require.NotEqual(t, e.Plan == "", e.Kind == "run-action" || e.Kind == "run-order", "%v", e)
				last = e.At
				count[e.Kind]++
			}
			if name == "long" {
				for kind := range p.Kinds {
					require.NotZero(t, count[kind], "seed %d has no %s", seed, kind)
				}
			}
		}
	}
}
