package report

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row Row
		met bool
	}{
		{Row{Value: 1e9}, true},
		{Row{Value: 100, Goal: AtMost(100)}, true},
		{Row{Value: 100.1, Goal: AtMost(100)}, false},
		{Row{Value: 9, Goal: AtLeast(10)}, false},
		{Row{Value: 10, Goal: AtLeast(10)}, true},
		{Row{Value: 15, Baseline: 10, Goal: RatioAtMost(1.5)}, true},
		{Row{Value: 16, Baseline: 10, Goal: RatioAtMost(1.5)}, false},
	} {
		require.Equal(t, c.met, c.row.Met(), "%+v", c.row)
	}
}

func TestSenselessRowsAreRefused(t *testing.T) {
	t.Parallel()
	require.NoError(t, Row{Measure: "a", Unit: "ms"}.check())
	for _, r := range []Row{
		{Unit: "ms"}, {Measure: "a"}, {Measure: "a | b", Unit: "ms"}, {Measure: "a", Unit: "ms", Goal: RatioAtMost(2)}, {Measure: "a", Unit: "ms", Baseline: 2},
	} {
		require.Error(t, r.check(), "%+v", r)
	}
}

func TestTheTableSaysWhatIsMet(t *testing.T) {
	t.Parallel()
	rows := []Row{
		{Measure: "Reading", Value: 12, Unit: "ms", Against: "xz -dc | tar -xO", Baseline: 10, Goal: RatioAtMost(1.5)},
		{Measure: "Route", Case: "GET /a", Value: 250.4, Unit: "ms", Also: "p50 3 ms", Goal: AtMost(100)},
		{Measure: "Route", Case: "GET /b", Value: 2.345, Unit: "ms", Goal: AtMost(100)},
		{Measure: "Hook", Value: 4, Unit: "tools", Goal: AtMost(3)},
		{Measure: "Size", Value: 1234567, Unit: "bytes"},
	}
	known := ReadKnown("# x\n\n## Goals that are not met\n\n- **Hook**: Juju asks twice.\n\n## More\n\n- **Route**: this is another list\n")
	require.Equal(t, Known{"Hook": "Juju asks twice."}, known)
	require.Equal(t, `| measure | value | against | ratio | goal | met |
| --- | --- | --- | --- | --- | --- |
| Reading | 12 ms | 10 ms: xz -dc \| tar -xO | 1.20 | ≤ 1.50 × | yes |
| Route: GET /a | 250 ms (p50 3 ms) |  |  | ≤ 100 ms | **no** |
| Route: GET /b | 2.35 ms |  |  | ≤ 100 ms | yes |
| Hook | 4 tools |  |  | ≤ 3 tools | **no**, known |
| Size | 1,234,567 bytes |  |  |  |  |
`, Table(rows, known))
	require.Contains(t, Excerpt(rows, known), "| Route, worst of 2: GET /a | 250 ms")
	require.NotContains(t, Excerpt(rows, known), "GET /b")
	unmet := Unmet(rows, known)
	require.Len(t, unmet, 1)
	require.Equal(t, "Route: GET /a", unmet[0].Name())
}

func TestTheLastReportOfAMeasureCounts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rows")
	require.NoError(t, os.WriteFile(path, []byte(`{"measure":"a","value":1,"unit":"ms","goal":{}}
{"measure":"b","value":2,"unit":"ms","goal":{}}
{"measure":"a","value":3,"unit":"ms","goal":{"kind":"at most","limit":4}}
`), 0o600))
	rows, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, []Row{{Measure: "a", Value: 3, Unit: "ms", Goal: AtMost(4)}, {Measure: "b", Value: 2, Unit: "ms"}}, rows)
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for n := range 200 {
		all = append(all, time.Duration(200-n))
	}
	require.Equal(t, time.Duration(100), Percentile(all, 50))
	require.Equal(t, time.Duration(198), Percentile(all, 99))
	require.Equal(t, time.Duration(200), Percentile(all, 100))
	require.Equal(t, time.Duration(7), Percentile([]time.Duration{7}, 99))
}

func TestDocumentsAreQuotedInto(t *testing.T) {
	t.Parallel()
	text, err := Quote("a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nz\n", TableMark, "new\n")
	require.NoError(t, err)
	require.Equal(t, "a\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nz\n", text)
	_, err = Quote("a\n", TableMark, "new")
	require.ErrorContains(t, err, "no line <!-- bench:begin -->")
}

func TestTheMachineIsDescribed(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `.+, \d+ cores, [\d.]+ GiB of memory, \w+ on .+, Linux .+, go1\.`, Machine(t.TempDir()))
}
