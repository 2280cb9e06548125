package review_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// powerCut is what ends the service at a point.
type powerCut struct{}

// until calls fn, and has the service started again and fn called again when the power was cut in it.
func (w *world) until(fn func() error) {
	for range 3 {
		err, cut := w.live(fn)
		if !cut {
			require.NoError(w, err)
			return
		}
		w.db.Close()
		w.open()
	}
	w.Fatal("the power was cut more than once")
}

func (w *world) live(fn func() error) (err error, cut bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(powerCut); !ok {
				panic(p)
			}
			cut = true
		}
	}()
	return fn(), false
}

// TestFaultReviewKilledAtEachStep cuts the power before and after each commit between results that come in and the verdict.
func TestFaultReviewKilledAtEachStep(t *testing.T) {
	t.Parallel()
	survives := func(t *testing.T, at int) int {
		w := newWorld(t, 2)
		w.released(made{})
		for n, m := range []made{{outcomes: map[string]string{w.jobs[2]: "fail"}}, {}} {
			run, submission := w.run(n, m)
			w.hand(n, run, submission)
			w.index(submission, m)
		}
		w.db.Close()
		w.open()
		points := 0
		w.db.OnStep(func(string) {
			if points++; points == at {
				panic(powerCut{})
			}
		})
		w.until(func() error { return w.r.Turn(t.Context()) })
		w.until(func() error {
			_, err := w.r.SaveIssue(t.Context(), wifi(), "ada", cert.Engineer)
			return err
		})
		w.until(func() error { return w.r.Turn(t.Context()) })
		f := w.findings(cert.Filter{})
		require.Len(t, f, 1)
		require.NotEmpty(t, f[0].Issue)
		until := w.now().Add(24 * time.Hour)
		asked := 0
		w.until(func() error {
			asked++
			_, err := w.decide(cert.NewDecision{Action: cert.Waive, Findings: []string{f[0].ID}, Until: &until, Reason: "the access point was off"})
			if asked > 1 && cert.CodeOf(err) == cert.Conflict {
				return nil // it had been taken
			}
			return err
		})
		w.until(func() error { return w.r.Turn(t.Context()) })
		total := points

		require.Equal(t, cert.CampaignApproved, w.state())
		log := w.intact()
		require.Len(t, log, 2, "decided once")
		require.Equal(t, cert.Waive, log[0].Action)
		require.Equal(t, cert.ByPolicy, log[1].By)
		v, err := w.r.Verdict(t.Context(), w.campaign.ID)
		require.NoError(t, err)
		require.Equal(t, log[1].Hash, v.Head)
		events, err := w.r.Events(t.Context(), w.campaign.ID, sqlite.Page{Limit: 100})
		require.NoError(t, err)
		kinds := map[string]int{}
		for _, e := range events.Events {
			kinds[e.Kind]++
		}
		require.Equal(t, map[string]int{"compared": 2, "waived": 1, "approved": 1, "verdict": 1}, kinds)
		waiting, err := w.db.UnreviewedTargets(t.Context(), "", "", 10)
		require.NoError(t, err)
		require.Empty(t, waiting)
		return total
	}
	total := survives(t, 0)
	require.Greater(t, total, 10)
	for at := 1; at <= total; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			survives(t, at)
		})
	}
}

// TestFaultReviewKilledWhileAKnownIssueIsApplied cuts the power in the middle of findings that a rule recognises: the rest is done afterwards.
func TestFaultReviewKilledWhileAKnownIssueIsApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{outcomes: map[string]string{w.jobs[2]: "fail"}})
	w.many(500)
	w.db.Close()
	w.open()
	points := 0
	w.db.OnStep(func(string) {
		if points++; points == 5 { // the rule is stored, and 200 of them are done
			panic(powerCut{})
		}
	})
	k := wifi()
	k.Match.Job = "many*"
	_, cut := w.live(func() error {
		_, err := w.r.SaveIssue(t.Context(), k, "ada", cert.Engineer)
		return err
	})
	require.True(t, cut)
	w.db.Close()
	w.open()
	linked := func() int {
		all, err := w.r.Issues(t.Context(), false, sqlite.Page{Limit: 10})
		require.NoError(t, err)
		require.Len(t, all.Issues, 1)
		return all.Issues[0].Hits
	}
	require.Equal(t, 200, linked())
	w.turn()
	require.Equal(t, 500, linked())
}
