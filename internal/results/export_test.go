package results_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"certlab/internal/results"
)

// TestExportsOfSamples: each format says what was read, and counts add up in each.
func TestExportsOfSamples(t *testing.T) {
	t.Parallel()
	for _, path := range samples(t) {
		t.Run(sampleName(path), func(t *testing.T) {
			t.Parallel()
			sub := readFile(t, path, results.Options{KeepLog: 64 << 10})
			var b bytes.Buffer
			require.NoError(t, results.WriteJSON(&b, sub))
			var doc struct {
				Plan, Title     string
				CheckboxVersion *string `json:"checkbox_version"`
				Counts          map[string]int
				Results         []map[string]any
				Resources       []map[string]any
				Attachments     []map[string]any
				Rejected        []any
				System          map[string]any
				Collectors      map[string]map[string]any `json:"system_information"`
				Members         []results.Member
			}
			require.NoError(t, json.Unmarshal(b.Bytes(), &doc))
			require.Equal(t, sub.Plan, doc.Plan)
			require.Equal(t, sub.Counts(), doc.Counts)
			require.Equal(t, sub.Members, doc.Members)
			require.NotNil(t, doc.Rejected)
			counts := make(map[string]int)
			require.Len(t, doc.Results, len(sub.Results))
			for i, r := range doc.Results {
				counts[r["outcome"].(string)]++
				want := sub.Results[i]
				require.Equal(t, want.ID, r["id"])
				require.Equal(t, want.Name, r["name"])
				require.Equal(t, want.Duration, r["duration_seconds"])
				for _, key := range []string{"certification_status", "category", "plugin", "template_id", "comments", "skip_reason"} {
					require.Contains(t, r, key)
				}
				if want.Comments == "" {
					require.Nil(t, r["comments"])
				}
			}
			require.Equal(t, doc.Counts, counts)
			require.Len(t, doc.Resources, len(sub.Resources))
			require.Len(t, doc.Attachments, len(sub.Attachments))
			require.Len(t, doc.Collectors, len(sub.System.Collectors))

			b.Reset()
			require.NoError(t, results.WriteCSV(&b, sub))
			rows, err := csv.NewReader(&b).ReadAll()
			require.NoError(t, err)
			n := 1
			for section, r := range sub.Records() {
				require.Equal(t, []string{string(section), r.ID}, rows[n][:2])
				require.Equal(t, string(r.Outcome), rows[n][3])
				n++
			}
			require.Len(t, rows, n)

			b.Reset()
			require.NoError(t, results.WriteJUnit(&b, sub))
			require.NoError(t, xml.Unmarshal(b.Bytes(), new(struct{ XMLName xml.Name })), "well-formed")
			back, err := results.Read(&b, results.Options{})
			require.NoError(t, err)
			require.Len(t, back.Results, len(sub.Results))
			for i := range back.Results {
				require.Equal(t, sub.Results[i].ID, back.Results[i].ID)
				switch class := sub.Results[i].Outcome.Class(); class {
				case results.Passed, results.Failed, results.Skipped:
					require.Equal(t, class, back.Results[i].Outcome.Class())
				default:
					require.Equal(t, results.Skipped, back.Results[i].Outcome.Class())
				}
			}

			b.Reset()
			require.NoError(t, results.WriteText(&b, sub))
			for _, r := range sub.Results {
				require.Contains(t, b.String(), r.ID)
			}
		})
	}
}

// TestExportsOfAnything: whatever texts a machine sends, the report is well-formed XML with the same outcomes, a terminal gets no
// control characters, and a spreadsheet no formula.
func TestExportsOfAnything(t *testing.T) {
	t.Parallel()
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\x00\x0b\x1b<>&\"'=+-@\t\r\n]]>\uFFFE\uFFFF\u202e"))))
	rapid.Check(t, func(t *rapid.T) {
		sub := &results.Submission{Format: results.JSON, Plan: text.Draw(t, "plan"), Title: text.Draw(t, "title")}
		for range rapid.IntRange(1, 4).Draw(t, "n") {
			r := results.Result{
				ID: "i" + text.Draw(t, "id"), Name: text.Draw(t, "name"), Plugin: "shell", Comments: text.Draw(t, "comments"), Log: text.Draw(t, "log"),
				Outcome: rapid.SampledFrom([]results.Outcome{"pass", "fail", "crash", "skip", "skipped-resource", "undecided", "none", "new"}).Draw(t, "outcome"),
			}
			r.LogSize = int64(len(r.Log)) + int64(rapid.IntRange(0, 1).Draw(t, "more"))
			sub.Results = append(sub.Results, r)
		}
		var b bytes.Buffer
		require.NoError(t, results.WriteJUnit(&b, sub))
		var report struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
			Suite    struct {
				Cases []struct {
					Failure *struct{} `xml:"failure"`
					Error   *struct{} `xml:"error"`
					Skipped *struct{} `xml:"skipped"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		require.NoError(t, xml.Unmarshal(b.Bytes(), &report))
		require.Equal(t, len(sub.Results), report.Tests)
		passed := 0
		for i, c := range report.Suite.Cases {
			passes := c.Failure == nil && c.Error == nil && c.Skipped == nil
			require.Equal(t, sub.Results[i].Outcome == "pass", passes)
			if passes {
				passed++
			}
		}
		require.Equal(t, passed, report.Tests-report.Failures-report.Errors-report.Skipped)

		b.Reset()
		require.NoError(t, results.WriteText(&b, sub))
		require.NotContains(t, b.String(), "\x1b")
		require.NotContains(t, b.String(), "\x00")
		require.NotContains(t, b.String(), "\u202e")

		b.Reset()
		require.NoError(t, results.WriteCSV(&b, sub))
		rows, err := csv.NewReader(&b).ReadAll()
		require.NoError(t, err)
		for _, row := range rows[1:] {
			for _, cell := range row {
				require.False(t, cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])), "%q", cell)
			}
		}

		b.Reset()
		require.NoError(t, results.WriteJSON(&b, sub))
		require.True(t, json.Valid(b.Bytes()))
	})
}
