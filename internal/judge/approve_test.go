package judge_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/judge"
	"certlab/internal/judge/judgetest"
)

func TestPolicyApprovesNothingWithAFaultInIt(t *testing.T) {
	t.Parallel()
	for _, fault := range judgetest.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				c := judgetest.Planted(rand.New(rand.NewPCG(seed, 1)), fault)
				f := c.Compared()
				a := judge.Assess(f)
				require.NotEqual(t, cert.StandApproved, a.Standing, "seed %d", seed)
				require.NotEmpty(t, a.Needs, "seed %d: it has to be said what is missing", seed)
				for _, need := range a.Needs {
					require.NotEmpty(t, need.Commands, need.What)
				}
				_, err := judge.VerdictOf(f, a, string(cert.CampaignApproved), cert.ByPolicy, "clear", "", nil)
				require.Equal(t, cert.Conflict, cert.CodeOf(err))
				_, _, err = judge.Decide(f, cert.NewDecision{Action: cert.Approve, Reason: "looks good"}, nil, nil, "ada", cert.Signer)
				require.Equal(t, cert.Conflict, cert.CodeOf(err), "a person has to decide on the machine too")
			}
		})
	}
}

func TestPolicyApprovesWhatIsClean(t *testing.T) {
	t.Parallel()
	needed := 0
	for seed := range uint64(50) {
		c := judgetest.Planted(rand.New(rand.NewPCG(seed, 2)), judgetest.Clean)
		f := c.Compared()
		a := judge.Assess(f)
		if a.Standing != cert.StandApproved {
			needed++
			t.Logf("seed %d: %+v", seed, a.Needs[0])
			continue
		}
		require.Empty(t, a.Needs)
		v, err := judge.VerdictOf(f, a, string(cert.CampaignApproved), cert.ByPolicy, "clear", "", nil)
		require.NoError(t, err)
		require.Equal(t, judge.DigestVerdict(v), v.Digest)
	}
	require.LessOrEqual(t, needed, 1, "of fifty clean campaigns")
}
