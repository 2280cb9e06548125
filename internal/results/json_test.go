package results_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"certlab/internal/results"
)

func read(text string, opts results.Options) (*results.Submission, error) {
	return results.Read(strings.NewReader(text), opts)
}

func TestBadJSONHasAPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text         string
		kind         results.Kind
		line, column int
		field        string
	}{
		"cut":                       {"{\n \"title\": \"x", results.BadJSON, 2, 13, ""},
		"missing comma":             {"{\n\"title\": \"x\"\n \"results\": []}", results.BadJSON, 3, 2, ""},
		"single quotes":             {"{'title': 1}", results.BadJSON, 1, 2, ""},
		"backslash of a summary":    {`{"results": [{"full_id": "a", "name": "C:\dir"}]}`, results.BadJSON, 1, 42, ""},
		"newline in a string":       {"{\"title\": \"a\nb\"}", results.BadJSON, 1, 13, ""},
		"NUL in a string":           {"{\"title\": \"a\x00b\"}", results.BadJSON, 1, 13, ""},
		"empty output of a job":     {`{"results": [], "dkms_info": , "devices": []}`, results.BadJSON, 1, 30, ""},
		"number":                    {`{"results": [], "memory": {"total": 01}}`, results.BadJSON, 1, 37, ""},
		"unknown word":              {`{"results": [], "x": nope}`, results.BadJSON, 1, 22, ""},
		"unicode escape":            {`{"title": "\u12g4"}`, results.BadJSON, 1, 12, ""},
		"trailing text":             {`{"results": []} x`, results.TrailingData, 1, 17, ""},
		"two documents":             {"{\"results\": []}\n{}", results.TrailingData, 2, 1, ""},
		"trailing comma":            {`{"results": [],}`, results.BadJSON, 1, 16, ""},
		"other JSON":                {`{"a": 1}`, results.BadField, 1, 9, "results"},
		"results as object":         {`{"results": {}}`, results.BadField, 1, 13, "results"},
		"record as text":            {`{"results": ["a"]}`, results.BadField, 1, 14, "results[0]"},
		"outcome as list":           {`{"results": [{"full_id": "a", "outcome": []}]}`, results.BadField, 1, 42, "results[0].outcome"},
		"log as number":             {`{"results": [{"full_id": "a", "io_log": 1}]}`, results.BadField, 1, 41, "results[0].io_log"},
		"duration as text":          {`{"results": [{"full_id": "a", "duration": "long"}]}`, results.BadField, 1, 49, "results[0].duration"},
		"no id":                     {`{"results": [{"outcome": "pass"}]}`, results.BadField, 1, 33, "results[0].full_id"},
		"results twice":             {`{"results": [], "results": []}`, results.DuplicateKey, 1, 27, "results"},
		"outcome twice":             {`{"results": [{"full_id":"a","outcome":"fail","outcome":"pass"}]}`, results.DuplicateKey, 1, 56, "results[0].outcome"},
		"outcome twice, by escapes": {`{"results": [{"full_id":"a","outcome":"fail","\u006futcome":"pass"}]}`, results.DuplicateKey, 1, 61, "results[0].outcome"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.text, results.Options{})
			requireKind(t, err, c.kind)
			var e *results.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, fmt.Sprintf("%d:%d", c.line, c.column), fmt.Sprintf("%d:%d", e.Line, e.Column), "%v", err)
			require.Equal(t, c.field, e.Field)
		})
	}
}

// TestWhatVersionsDifferIn reads records with keys missing, null, new and of other types than today's.
func TestWhatVersionsDifferIn(t *testing.T) {
	t.Parallel()
	sub, err := read("\uFEFF \n"+`{
		"results": [
			{"full_id": "n::a", "outcome": null, "comments": null, "template_id": null, "skip_reason": null, "io_log": null, "duration": null},
			{"id": "b", "outcome": "brand-new", "comments": 7, "duration": 1e-3, "new_key": {"x": [1, 2]}, "type": "test", "project": "other"},
			{"full_id": "n::r", "outcome": "pass", "plugin": "resource"},
			{"full_id": "n::t", "outcome": "pass", "plugin": "attachment"},
			{"full_id": "n::s", "outcome": "skipped-manifest", "skip_reason": {"related_manifests": ["n::m"], "because": 1}, "duration": NaN}
		],
		"resource-results": [{"full_id": "n::old", "outcome": "fail"}],
		"attachment-results": null,
		"rejected-jobs": [{"full_id": "n::x", "id": "x"}, {"id": "y", "why": "z"}],
		"launcher": {"environment": {"A": "1", "B": true, "C": ["x"]}, "odd": "text"},
		"memory": {"total": "25276510208", "swap": 0.0, "kind": "ddr"},
		"distribution": "Ubuntu",
		"processor": {"count": 2},
		"system_information": {"version": 7, "new": {"success": true, "outputs": {"payload": [1], "more": 1}}, "odd": []},
		"from_the_future": {"a": null}
	}`, results.Options{})
	require.NoError(t, err)
	require.Equal(t, results.JSON, sub.Format)
	require.Empty(t, sub.Plan)
	require.Empty(t, sub.CheckboxVersion())
	require.Equal(t, map[string]int{"none": 1, "brand-new": 1, "pass": 2, "skipped-manifest": 1}, sub.Counts())
	require.Equal(t, results.Unknown, sub.Results[1].Outcome.Class())
	require.Equal(t, "7", sub.Results[1].Comments)
	require.InDelta(t, 0.001, sub.Results[1].Duration, 1e-9)
	require.Equal(t, map[string]json.RawMessage{"new_key": json.RawMessage(`{"x":[1,2]}`), "project": json.RawMessage(`"other"`)}, sub.Results[1].Extra)
	skip, ok := sub.Results[4].Skip()
	require.True(t, ok)
	require.Equal(t, []string{"n::m"}, skip.Manifests)
	require.Contains(t, string(sub.Results[4].SkipReason), "because")
	require.Len(t, sub.Resources, 2)
	require.Equal(t, "resource", sub.Resources[0].Plugin)
	require.Equal(t, []string{"n::old", "n::r"}, []string{sub.Resources[0].ID, sub.Resources[1].ID})
	require.Len(t, sub.Attachments, 1)
	require.Equal(t, []string{"n::x", "y"}, []string{sub.Rejected[0].ID, sub.Rejected[1].ID})
	require.Contains(t, sub.Rejected[1].Extra, "why")
	require.Equal(t, map[string]string{"A": "1", "B": "true", "C": `["x"]`}, sub.Launcher["environment"])
	require.Equal(t, &results.Memory{Total: 25276510208}, sub.System.Memory)
	require.Equal(t, "2", sub.System.Processor["count"])
	require.Equal(t, "7", sub.System.CollectorsVersion)
	require.JSONEq(t, `[1]`, string(sub.System.Collectors["new"].Payload.JSON))
	for _, key := range []string{"from_the_future", "distribution", "launcher.odd", "memory.kind", "system_information.odd", "system_information.new.outputs.more"} {
		require.Contains(t, sub.Extra, key)
	}
}

// TestOutcomes is the whole table of outcomes of all versions.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for outcome, class := range map[results.Outcome]results.Class{
		"pass": results.Passed, "fail": results.Failed, "crash": results.Failed, "skip": results.Skipped,
		"not-supported": results.Skipped, "skipped-dependency": results.Skipped, "skipped-resource": results.Skipped,
		"skipped-manifest": results.Skipped, "not-implemented": results.Skipped, "undecided": results.Unknown, "none": results.Unknown,
		"": results.Unknown, "passed": results.Unknown, "PASS": results.Unknown,
	} {
		require.Equal(t, class, outcome.Class(), "%q", outcome)
	}
}

func TestBlockersFailed(t *testing.T) {
	t.Parallel()
	var records []string
	for _, status := range []string{"blocker", "non-blocker", "unspecified", "not-part-of-certification"} {
		for _, outcome := range []string{"pass", "fail", "crash", "skip", "not-supported", "skipped-resource"} {
			records = append(records, fmt.Sprintf(`{"full_id":"%s/%s","outcome":%q,"certification_status":%q}`, outcome, status, outcome, status))
		}
	}
	records = append(records, `{"full_id":"resource","plugin":"resource","outcome":"fail","certification_status":"blocker"}`)
	sub, err := read(`{"results":[`+strings.Join(records, ",")+`]}`, results.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"crash/blocker", "fail/blocker", "resource"}, sub.BlockersFailed())
	require.Equal(t, sub.BlockersFailed(), sub.Summary().BlockersFailed)
	require.Equal(t, 25, sub.Summary().Results)
}

// TestHostileText: what is held is valid UTF-8 without NUL; a log keeps its NULs.
func TestHostileText(t *testing.T) {
	t.Parallel()
	sub, err := read("{\"title\": \"a\\u0000b\\ud800c\\udc00\\ud83d\\ude00 \xff\xfe\xc3\x28 \xed\xa0\x80 \xf5\x80 é\u2028\", \"results\": [{"+
		"\"full_id\": \"x\\u0000\", \"name\": \"\xe2\x82\", \"io_log\": \"l\\u0000g\\ud83d\xf0\x9f\x98\"}]}", results.Options{KeepLog: 100})
	require.NoError(t, err)
	require.Equal(t, "a\uFFFDb\uFFFDc\uFFFD😀 \uFFFD\uFFFD\uFFFD( \uFFFD\uFFFD\uFFFD \uFFFD\uFFFD é\u2028", sub.Title)
	require.Equal(t, "x\uFFFD", sub.Results[0].ID)
	require.Equal(t, "\uFFFD\uFFFD", sub.Results[0].Name)
	require.Equal(t, "l\x00g\uFFFD\uFFFD\uFFFD\uFFFD", sub.Results[0].Log)
	require.True(t, utf8.ValidString(sub.Results[0].Log))
}

// TestKeptLogs: a kept log ends between characters, and the sum of them is bounded.
func TestKeptLogs(t *testing.T) {
	t.Parallel()
	sub, err := read(`{"results":[{"full_id":"a","io_log":"ééé"},{"full_id":"b","io_log":"xyz"}]}`, results.Options{KeepLog: 3})
	require.NoError(t, err)
	require.Equal(t, "é", sub.Results[0].Log)
	require.True(t, sub.Results[0].LogTruncated())
	require.EqualValues(t, 6, sub.Results[0].LogSize)
	require.Equal(t, "xyz", sub.Results[1].Log)
	require.False(t, sub.Results[1].LogTruncated())

	var records []string
	for i := range 100 {
		records = append(records, fmt.Sprintf(`{"full_id":"%d","io_log":"%s"}`, i, strings.Repeat("x", 2000)))
	}
	sub, err = read(`{"results":[`+strings.Join(records, ",")+`]}`, results.Options{KeepLog: 1000, Limits: results.Limits{Held: 120_000}})
	require.NoError(t, err)
	kept := 0
	for _, r := range sub.Results {
		require.EqualValues(t, 2000, r.LogSize)
		kept += len(r.Log)
	}
	require.Equal(t, 60_000, kept)
}

// anyJSON draws a JSON value as Go has it.
func anyJSON(depth int) *rapid.Generator[any] {
	text := rapid.String().AsAny()
	number := rapid.Float64Range(-1e300, 1e300).AsAny()
	leaf := rapid.OneOf(text, number, rapid.Bool().AsAny(), rapid.Just[any](nil))
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.SliceOfN(anyJSON(depth-1), 0, 4).AsAny(),
		rapid.MapOfN(rapid.String(), anyJSON(depth-1), 0, 4).AsAny())
}

// TestAnyValueComesThrough: whatever JSON a collector or a newer Checkbox puts into a submission, it is held, or copied out, as
// encoding/json understands it, also when it is read byte by byte.
func TestAnyValueComesThrough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := anyJSON(4).Draw(t, "value")
		text, err := json.MarshalIndent(value, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
		require.NoError(t, err)
		doc := fmt.Sprintf(`{"results": [], "x": %s}`, text)
		sub, err := results.Read(oneByte{strings.NewReader(doc)}, results.Options{})
		require.NoError(t, err)
		var got any
		require.NoError(t, json.Unmarshal(sub.Extra["x"], &got))
		require.Equal(t, value, got)

		var b bytes.Buffer
		require.NoError(t, results.CopyValue(&b, strings.NewReader(doc), results.Limits{}, "x"))
		if s, ok := value.(string); ok {
			require.Equal(t, s, b.String())
		} else {
			require.Equal(t, string(sub.Extra["x"]), b.String())
		}
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// TestWhatIsWrittenIsRead: a submission of any texts, written as Checkbox's template writes it, reads as it was.
func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	clean := rapid.Custom(func(t *rapid.T) string {
		return strings.ReplaceAll(rapid.String().Draw(t, "s"), "\x00", "")
	})
	id := rapid.Custom(func(t *rapid.T) string { return "n::" + clean.Draw(t, "id") })
	rapid.Check(t, func(t *rapid.T) {
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")
		type record map[string]any
		var want []results.Result
		var list []record
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			r := results.Result{
				ID: id.Draw(t, "id"), Name: clean.Draw(t, "name"), Category: "c" + clean.Draw(t, "category"), Comments: clean.Draw(t, "comments"),
				Outcome:             rapid.SampledFrom([]results.Outcome{"pass", "fail", "crash", "skip", "skipped-manifest"}).Draw(t, "outcome"),
				CertificationStatus: rapid.SampledFrom([]string{"blocker", "non-blocker"}).Draw(t, "status"),
				Plugin:              "shell", Duration: rapid.Float64Range(0, 1e6).Draw(t, "duration"), Log: clean.Draw(t, "log"),
			}
			r.LogSize = int64(len(r.Log))
			want = append(want, r)
			list = append(list, record{
				"full_id": escape.Replace(r.ID), "name": escape.Replace(r.Name), "category": escape.Replace(r.Category), "comments": r.Comments,
				"outcome": r.Outcome, "certification_status": r.CertificationStatus, "plugin": r.Plugin, "duration": r.Duration, "io_log": r.Log,
			})
		}
		if list == nil {
			list = []record{}
			want = []results.Result{}
		}
		text, err := json.Marshal(map[string]any{"results": list})
		require.NoError(t, err)
		sub, err := results.Read(bytes.NewReader(text), results.Options{KeepLog: 1 << 20})
		require.NoError(t, err)
		require.Equal(t, want, sub.Results)
	})
}

// journal is a submission.json whose bulk is one string, as a machine with a journal gives it. It is made as it is read.
func journal(size int64) io.Reader {
	line := strings.Repeat(`{\"MESSAGE\": \"something happened é\", \"_PID\": \"1\"}\n`, 20)
	return io.MultiReader(
		strings.NewReader(`{"title":"t","testplan_id":"n::p","results":[{"full_id":"n::a","outcome":"pass","io_log":"x"}],
			"system_information":{"journalctl":{"tool_version":"systemd 252","success":true,"outputs":{"payload":"`),
		&repeat{line: []byte(line), left: size / int64(len(line))},
		strings.NewReader(`","stderr":""}},"version":6}}`))
}

type repeat struct {
	line []byte
	at   int
	left int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.line[r.at:])
	if r.at += n; r.at == len(r.line) {
		r.at = 0
		r.left--
	}
	return n, nil
}

// TestMemoryStaysSmall reads 16 MB that are one string and looks at Go's heap meanwhile.
func TestMemoryStaysSmall(t *testing.T) {
	const size = 16 << 20
	runtime.GC()
	var before, peak runtime.MemStats
	runtime.ReadMemStats(&before)
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	watched := &watch{r: journal(size), every: 1 << 20, look: func() {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		if now.HeapInuse > peak.HeapInuse {
			peak = now
		}
	}}
	sub, err := results.Read(watched, results.Options{})
	require.NoError(t, err)
	c := sub.System.Collectors["journalctl"]
	require.Nil(t, c.Payload.JSON)
	require.Greater(t, c.Payload.Size, int64(size*9/10))
	require.Less(t, int64(peak.HeapInuse)-int64(before.HeapInuse), int64(8<<20))

	var n counter
	require.NoError(t, results.CopyValue(&n, journal(size), results.Limits{}, "system_information", "journalctl", "outputs", "payload"))
	require.Greater(t, int64(n), int64(size*7/10))
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

type watch struct {
	r           io.Reader
	every, n, m int64
	look        func()
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.n += int64(n); w.n-w.m > w.every {
		w.m = w.n
		w.look()
	}
	return n, err
}
