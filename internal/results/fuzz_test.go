package results_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/fuzztest"
	"certlab/internal/results"
	"certlab/internal/results/hostile"
)

// fuzzLimits are small, so that inputs of some kilobytes reach them.
var fuzzLimits = results.Limits{
	CompressedSize: 1 << 20, TotalSize: 1 << 20, MemberSize: 1 << 19, Dictionary: 1 << 20, Members: 200, Records: 500, String: 20_000, Value: 5_000,
	Held: 1 << 20, RatioFloor: 1 << 16,
}

// checkSubmission holds for whatever is read: it is refused with a reason that can be shown, the same however the bytes come; or
// it can be written in every format, and read back from JUnit with as many passes.
func checkSubmission(t *testing.T, data []byte) {
	sub, err := results.Read(bytes.NewReader(data), results.Options{Limits: fuzzLimits, KeepLog: 1000})
	slow, slowErr := results.Read(iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(data))), results.Options{Limits: fuzzLimits, KeepLog: 1000})
	fuzztest.Error(t, err)
	if err != nil {
		var e *results.Error
		require.ErrorAs(t, err, &e)
		require.NotEqual(t, results.ReadFailed, e.Kind)
		require.EqualError(t, slowErr, err.Error())
		return
	}
	require.NoError(t, slowErr)
	require.Equal(t, sub, slow, "read in pieces of another size")
	checkBounds(t, sub)
	var text, csv, junit, js bytes.Buffer
	require.NoError(t, results.WriteText(&text, sub))
	require.NoError(t, results.WriteCSV(&csv, sub))
	require.NoError(t, results.WriteJSON(&js, sub))
	require.True(t, json.Valid(js.Bytes()))
	require.NoError(t, results.WriteJUnit(&junit, sub))
	back, err := results.Read(&junit, results.Options{})
	require.NoError(t, err)
	require.Len(t, back.Results, len(sub.Results))
	for i := range back.Results {
		require.Equal(t, sub.Results[i].Outcome.Class() == results.Passed, back.Results[i].Outcome.Class() == results.Passed)
	}
}

// checkBounds: what is held is within the limits, and is text that a database takes.
func checkBounds(t *testing.T, sub *results.Submission) {
	require.LessOrEqual(t, len(sub.Results)+len(sub.Rejected), fuzzLimits.Records)
	require.LessOrEqual(t, len(sub.Members), fuzzLimits.Members)
	held := 0
	for _, r := range sub.Records() {
		require.NotEmpty(t, r.ID)
		for _, s := range []string{r.ID, r.ShortID, r.Name, string(r.Outcome), r.Comments, r.Category, r.Plugin, r.Log} {
			require.True(t, utf8.ValidString(s) && !strings.ContainsRune(s, 0) || s == r.Log, "%q", s)
			held += len(s)
		}
	}
	require.LessOrEqual(t, int64(held), 2*fuzzLimits.Held)
}

// unxz unpacks an archive with another reader than ours.
func unxz(f *testing.F, data []byte) []byte {
	r, err := xz.NewReader(bytes.NewReader(data))
	require.NoError(f, err)
	out, err := io.ReadAll(r)
	require.NoError(f, err)
	return out
}

// members are a sample's files, for seeds.
func members(f *testing.F, sample string) (submission, junit []byte) {
	files := unpack(f, "testdata/"+sample+".tar.xz")
	return files["submission.json"], files["submission.junit"]
}

func FuzzRead(f *testing.F) {
	seeds := fuzztest.Files(f, 1<<20, "testdata/v2.9.1-odd.tar.xz", "testdata/v5.0.0-odd.tar.xz")
	seeds = append(seeds, []byte(document), []byte(`<testsuites><testcase name="a"><failure>&lt;</failure></testcase></testsuites>`),
		[]byte("\x1f\x8b\x08"), []byte("PK\x03\x04"), []byte("\uFEFF{}"), hostile.Store(nil), hostile.Store(tarball(f, file{name: "submission.json", body: document})))
	fuzztest.Run(f, 120, seeds, checkSubmission)
}

// FuzzTar changes what is packed, which changing packed bytes hardly ever does past the checksums.
func FuzzTar(f *testing.F) {
	seeds := [][]byte{
		tarball(f, file{name: "submission.json", body: document}),
		tarball(f, file{name: "./submission.json", body: document}, file{name: "test_output/n__a", body: "x"}, file{name: "attachment_files/n__b", body: "y"}),
	}
	for _, sample := range []string{"v2.9.1-odd", "v5.0.0-odd"} {
		data, err := os.ReadFile("testdata/" + sample + ".tar.xz")
		require.NoError(f, err)
		seeds = append(seeds, unxz(f, data))
	}
	fuzztest.Run(f, 120, seeds, func(t *testing.T, data []byte) { checkSubmission(t, hostile.Store(data)) })
}

func FuzzJSON(f *testing.F) {
	seeds := [][]byte{[]byte(document)}
	for _, sample := range []string{"v2.9.1-odd", "v5.0.0-odd"} {
		submission, _ := members(f, sample)
		seeds = append(seeds, submission)
	}
	large, _ := members(f, "v7.3.0-large")
	seeds = append(seeds, large[:min(len(large), 40_000)])
	fuzztest.Run(f, 120, seeds, func(t *testing.T, data []byte) {
		checkSubmission(t, append([]byte("{"), bytes.TrimPrefix(data, []byte("{"))...))
	})
}

func FuzzJUnit(f *testing.F) {
	seeds := fuzztest.Seeds(
		`<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" tests="4" time="0.1"><testcase classname="a" name="b[1-&gt;2]" time="0.002"><failure message="x">y</failure></testcase></testsuite></testsuites>`,
		`<testsuite><properties><property name="a" value="b"/></properties><testcase name="a" time="1,234.5"><system-out><![CDATA[out ]] > &amp;]]></system-out><error/></testcase></testsuite>`,
		"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='n\xe4me'/></testsuite>",
		`<!-- a --><testsuites tests="2"><testcase name="&#65;&#x42;&quot;"/><testcase name="b" status="notrun"/></testsuites>`)
	for _, sample := range []string{"v2.9.1-odd", "v5.0.0-odd"} {
		_, junit := members(f, sample)
		seeds = append(seeds, junit)
	}
	fuzztest.Run(f, 120, seeds, func(t *testing.T, data []byte) {
		checkSubmission(t, append([]byte("<"), bytes.TrimPrefix(data, []byte("<"))...))
	})
}

// FuzzCopy: whatever is copied out of a submission that can be read is what reading it gave.
func FuzzCopy(f *testing.F) {
	seeds := [][]byte{
		[]byte(document), hostile.Store(tarball(f, file{name: "submission.json", body: document}, file{name: "test_output/n__a", body: "x"})),
		[]byte(`{"results":[{"full_id":"n::a","io_log":"a\u00e9\ud83d\ude00\n"},{"io_log":"late","full_id":"n::b"}],"system_information":{"j":{"outputs":{"payload":"x"}}}}`),
	}
	odd, _ := members(f, "v2.9.1-odd")
	seeds = append(seeds, odd)
	fuzztest.Run(f, 80, seeds, func(t *testing.T, data []byte) {
		var e *results.Error
		for _, path := range [][]string{{"system_information", "j", "outputs", "payload"}, {"results"}, {}} {
			err := results.CopyValue(io.Discard, bytes.NewReader(data), fuzzLimits, path...)
			if fuzztest.Error(t, err); err != nil {
				require.ErrorAs(t, err, &e)
			}
		}
		err := results.CopyMember(io.Discard, bytes.NewReader(data), fuzzLimits, "test_output/n__a")
		fuzztest.Error(t, err)
		sub, err := results.Read(bytes.NewReader(data), results.Options{Limits: fuzzLimits, KeepLog: 1 << 20})
		if err != nil || len(sub.Results) == 0 || sub.Results[0].LogSize == 0 || sub.Results[0].LogSize > int64(len(sub.Results[0].Log)) || sub.Format == results.JUnit {
			return
		}
		var log bytes.Buffer
		err = results.CopyLog(&log, bytes.NewReader(data), fuzzLimits, sub.Results[0].ID)
		if errors.As(err, &e) && e.Kind == results.NotFound { // the id came after the log
			return
		}
		require.NoError(t, err)
		require.Equal(t, sub.Results[0].Log, log.String())
	})
}
