package review_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// wifi is a rule for what fails in failing.
func wifi() cert.KnownIssue {
	return cert.KnownIssue{Title: "wifi is lost", Link: "https://bugs.launchpad.net/bugs/2080000", Owner: "ada", Match: cert.IssueMatch{Job: "*::wifi"}}
}

func TestAKnownIssueIsAppliedToWhatIsThere(t *testing.T) {
	t.Parallel()
	w := failing(t, 2)
	k, err := w.r.SaveIssue(t.Context(), wifi(), "ada", cert.Engineer)
	require.NoError(t, err)
	require.Equal(t, 2, k.Linked)
	require.Equal(t, 2, k.Hits)
	f := w.findings(cert.Filter{})
	require.Equal(t, k.ID, f[0].Issue)
	require.True(t, f[0].Open(), "a rule never hides a blocker unless it says so")
	require.Equal(t, k.ID, w.view().Groups[0].Issue)
	w.turn()
	require.Equal(t, cert.CampaignDeciding, w.state())

	change := k.KnownIssue
	change.HidesBlockers = true
	_, err = w.r.SaveIssue(t.Context(), change, "ada", cert.Engineer)
	require.ErrorContains(t, err, "cannot save a known issue that hides blockers: that takes the role signer")
	k, err = w.r.SaveIssue(t.Context(), change, "grace", cert.Signer)
	require.NoError(t, err)
	require.Equal(t, 2, k.Version)
	require.False(t, w.findings(cert.Filter{})[0].Open())
	w.turn()
	require.Equal(t, cert.CampaignApproved, w.state())
	v, err := w.r.Verdict(t.Context(), w.campaign.Name)
	require.NoError(t, err)
	require.Equal(t, map[string]int{k.ID: 2}, v.Issues)
}

func TestAKnownIssueThatIsClosedRecognisesNothingAnyMore(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	k, err := w.r.SaveIssue(t.Context(), wifi(), "ada", cert.Engineer)
	require.NoError(t, err)
	_, err = w.r.SaveIssue(t.Context(), cert.KnownIssue{ID: k.ID, Version: 7, Title: "x", Link: k.Link, Owner: "ada", Match: k.Match}, "bob", cert.Engineer)
	require.ErrorContains(t, err, "version 1 is in force, and this change began with version 7")
	require.Equal(t, cert.Conflict, cert.CodeOf(err))
	closed, err := w.r.CloseIssue(t.Context(), k.ID, "fixed in 51.53", "ada", cert.Engineer)
	require.NoError(t, err)
	require.Equal(t, 1, closed.Unlinked)
	require.Empty(t, w.findings(cert.Filter{})[0].Issue)
	_, err = w.r.CloseIssue(t.Context(), k.ID, "fixed", "ada", cert.Engineer)
	require.ErrorContains(t, err, "is closed already")
	all, err := w.r.Issues(t.Context(), true, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, all.Issues, "who has closed it knows")
}

func TestFaultKnownIssueThatRunsOut(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	k := wifi()
	end := w.now().Add(time.Hour)
	k.Expires, k.HidesBlockers = &end, true
	saved, err := w.r.SaveIssue(t.Context(), k, "grace", cert.Signer)
	require.NoError(t, err)
	require.False(t, w.findings(cert.Filter{})[0].Open())
	w.later(2 * time.Hour)
	w.turn()
	require.Equal(t, cert.CampaignDeciding, w.state())
	f := w.findings(cert.Filter{})[0]
	require.True(t, f.Open())
	require.Empty(t, f.Issue)
	stale, err := w.r.Issues(t.Context(), true, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, stale.Issues, 1)
	require.Equal(t, saved.ID, stale.Issues[0].ID)
	past := w.now().Add(-time.Hour)
	k.Expires = &past
	_, err = w.r.SaveIssue(t.Context(), k, "grace", cert.Signer)
	require.ErrorContains(t, err, "it would have run out on")
}

func TestFaultKnownIssueWithABadExpression(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	for log, want := range map[string]string{"(": "missing closing", strings.Repeat("a", cert.MaxIssuePattern+1): "at most", "(a{1000}){1000}": "repeat", "(?=x)": "invalid"} {
		k := wifi()
		k.Match.Log = log
		_, err := w.r.SaveIssue(t.Context(), k, "ada", cert.Engineer)
		require.ErrorContains(t, err, want)
		require.Equal(t, cert.Invalid, cert.CodeOf(err))
		_, err = w.r.PreviewIssue(t.Context(), k.Match, "")
		require.Equal(t, cert.Invalid, cert.CodeOf(err))
	}
	all, err := w.r.Issues(t.Context(), false, sqlite.Page{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, all.Issues)
}

func TestAPreviewSaysWhatARuleWouldRecognise(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.released(made{})
	for n := range 3 {
		w.deliver(n, made{outcomes: map[string]string{w.jobs[2]: "fail"}, logs: map[string]string{w.jobs[2]: []string{"no carrier", "no firmware", "no carrier"}[n]}})
	}
	for _, c := range []struct {
		m       cert.IssueMatch
		matches int
	}{{cert.IssueMatch{Job: "*::wifi"}, 3}, {cert.IssueMatch{Log: "no (carrier|link)"}, 2}, {cert.IssueMatch{Job: "*::wifi", Log: "carrier"}, 2}, {cert.IssueMatch{Job: "*::suspend"}, 0},
		{cert.IssueMatch{Job: "*::wifi", Machines: "node1"}, 1}, {cert.IssueMatch{Job: "*::wifi", Series: []string{"jammy"}}, 0},
		{cert.IssueMatch{Job: "*::wifi", From: "6.8.0-51"}, 3}, {cert.IssueMatch{Job: "*::wifi", To: "6.8.0-51"}, 0}} {
		p, err := w.r.PreviewIssue(t.Context(), c.m, "")
		require.NoError(t, err)
		require.True(t, p.Complete)
		require.Equal(t, c.matches, p.Matches, "%+v", c.m)
		require.Equal(t, c.matches, p.Machines)
		require.Len(t, p.Open, c.matches)
		require.Len(t, p.Results, c.matches)
	}
	p, err := w.r.PreviewIssue(t.Context(), cert.IssueMatch{Log: "carrier"}, "")
	require.NoError(t, err)
	require.Equal(t, "node3", p.Results[0].Hostname, "the newest first")
	require.Equal(t, "no carrier", p.Results[0].Excerpt)
	k := wifi()
	k.Match = cert.IssueMatch{Log: "carrier"}
	saved, err := w.r.SaveIssue(t.Context(), k, "ada", cert.Engineer)
	require.NoError(t, err)
	require.Equal(t, 2, saved.Linked)
	_, err = w.r.PreviewIssue(t.Context(), cert.IssueMatch{Log: "carrier"}, "rubbish")
	require.ErrorContains(t, err, "the cursor is not one that it gave")
}
