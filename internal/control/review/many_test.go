package review_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// TestFaultAHundredThousandResults has two machines deliver 50,000 results each.
func TestFaultAHundredThousandResults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.jobs = nil
	bad := made{outcomes: map[string]string{}}
	for n := range 50_000 {
		w.jobs = append(w.jobs, fmt.Sprintf("many::job%d", n))
		if n%100 == 0 {
			bad.outcomes[w.jobs[n]] = "fail"
		}
	}
	w.deliver(0, bad)
	w.deliver(1, bad)
	for n := range 2 {
		require.Equal(t, cert.TargetDone, w.target(n).State)
		require.Equal(t, 50_000, w.target(n).Compared.Ran)
	}
	v := w.view()
	require.Equal(t, 1000, v.Blockers)
	require.Len(t, v.Groups, cert.MaxGroups)
	require.Equal(t, 500-cert.MaxGroups, v.More)
	require.Equal(t, 2, v.Groups[0].Of)
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
	w.decided(0)
}

// TestFaultMoreFindingsThanAReasonIsGivenFor looks at a campaign with very many findings: it is shown in groups and listed in pages, results that arrive do
// not wait for it, and not all is waived at once. With CERTLAB_SCALE they are as many as it says.
func TestFaultMoreFindingsThanAReasonIsGivenFor(t *testing.T) {
	t.Parallel()
	all := 20_001
	if os.Getenv("CERTLAB_SCALE") != "" {
		all = 100_000
	}
	w := newWorld(t, 2)
	w.released(made{})
	w.deliver(0, made{})
	w.many(all)
	w.deliver(1, made{})
	require.Equal(t, cert.TargetDone, w.target(1).State)
	v := w.view()
	require.Equal(t, cert.StandUndecided, v.Standing)
	require.Equal(t, all, v.Blockers)
	require.Len(t, v.Groups, cert.MaxGroups)
	require.Equal(t, 2100-cert.MaxGroups, v.More)
	page, err := w.r.Findings(t.Context(), w.campaign.ID, cert.Filter{Open: new(true)}, sqlite.Page{Limit: 100})
	require.NoError(t, err)
	require.Len(t, page.Findings, 100)
	more, err := w.r.Findings(t.Context(), w.campaign.ID, cert.Filter{Open: new(true)}, sqlite.Page{Limit: 100, Cursor: page.Next})
	require.NoError(t, err)
	require.NotEqual(t, page.Findings[99].ID, more.Findings[0].ID)
	until := w.now().Add(time.Hour)
	_, err = w.decide(cert.NewDecision{Action: cert.Waive, All: true, Filter: cert.Filter{Class: cert.ClassRegression}, Until: &until, Reason: "all of it"})
	require.EqualError(t, err, fmt.Sprintf("cannot waive %d findings at once: at most 20000 are waived with one reason (choose fewer, by job or class)", all))
	w.decided(0)
}

func TestAnExportIsWholeAndNoFormula(t *testing.T) {
	t.Parallel()
	w := failing(t, 1)
	_, err := w.decide(cert.NewDecision{Action: cert.Reject, Reason: "=cmd()"})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, w.r.Export(t.Context(), w.campaign.ID, "json", &out))
	var whole struct {
		Campaign  cert.Campaign
		Verdict   *cert.Verdict
		Targets   []cert.Target
		Findings  []cert.Finding
		Decisions []cert.Decision
		Events    []cert.CampaignEvent
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &whole))
	require.Len(t, whole.Targets, 1)
	require.Len(t, whole.Findings, 1)
	require.Len(t, whole.Decisions, 1)
	require.Equal(t, "rejected", whole.Verdict.Outcome)
	require.NotEmpty(t, whole.Events)
	w = newWorld(t, 1, func(c *cert.Campaign) { c.Name = `=HYPERLINK("http://evil")` })
	out.Reset()
	require.NoError(t, w.r.Export(t.Context(), w.campaign.ID, "csv", &out))
	require.Contains(t, out.String(), `"'=HYPERLINK(""http://evil"")"`)
	require.ErrorContains(t, w.r.Export(t.Context(), w.campaign.ID, "xml", &out), "there are json and csv")
}
