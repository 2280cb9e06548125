package review_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/sqlite"
)

// TestFaultAHundredThousandFindings looks at a campaign with 100,000 findings: it is shown in groups, listed in pages and exported whole, and results
// that arrive do not wait for it.
func TestFaultAHundredThousandFindings(t *testing.T) {
	t.Parallel()
	const all = 100_000
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
	require.EqualError(t, err, "cannot waive 100000 findings at once: at most 20000 are waived with one reason (choose fewer, by job or class)")
	var out bytes.Buffer
	require.NoError(t, w.r.Export(t.Context(), w.campaign.ID, "csv", &out))
	require.Equal(t, 1+all+1, strings.Count(out.String(), "\n"))
	w.deciding()
	require.Equal(t, cert.CampaignDeciding, w.state())
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
