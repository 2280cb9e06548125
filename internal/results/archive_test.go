package results_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"certlab/internal/fuzztest"
	"certlab/internal/results"
)

// document is the smallest submission.json.
const document = `{"title":"t","testplan_id":"n::p","results":[{"full_id":"n::a","outcome":"pass","io_log":"log"}]}`

// file is a member of an archive that a test makes.
type file struct {
	name, body string
	header     func(*tar.Header)
}

// tarball makes an archive's tar; raw bytes follow its end.
func tarball(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.body)), Mode: 0o644, Typeflag: tar.TypeReg}
		if f.header != nil {
			f.header(h)
		}
		require.NoError(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, f.body)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	return compress(t, tarball(t, files...))
}

func kind(flag byte) func(*tar.Header) {
	return func(h *tar.Header) {
		h.Typeflag = flag
		h.Size = 0
		h.Linkname = "submission.json"
	}
}

// named makes a tar header with a name that archive/tar would not write as it is.
func named(t testing.TB, data []byte, old, name string) []byte {
	t.Helper()
	require.LessOrEqual(t, len(name), len(old))
	field := append([]byte(name), make([]byte, len(old)-len(name))...)
	i := bytes.Index(data, []byte(old))
	require.GreaterOrEqual(t, i, 0)
	data = bytes.Clone(data)
	copy(data[i:], field)
	i -= i % 512       // the header's start
	for j := range 8 { // the checksum counts itself as spaces
		data[i+148+j] = ' '
	}
	sum := 0
	for _, b := range data[i : i+512] {
		sum += int(b)
	}
	copy(data[i+148:], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
	return data
}

func TestFaultRefusedArchives(t *testing.T) {
	t.Parallel()
	good := file{name: "submission.json", body: document}
	plain := tarball(t, good)
	packed := compress(t, plain)
	with := func(files ...file) []byte { return archive(t, append([]file{good}, files...)...) }
	deep := `{"results":[],"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`
	records := `{"results":[` + strings.Repeat(`{"full_id":"a","outcome":"pass"},`, 9) + `{"full_id":"a","outcome":"pass"}]}`
	flipped := bytes.Clone(packed)
	flipped[len(flipped)/2] ^= 0x10
	refused, err := os.ReadFile("testdata/xz/refused-dictionary.xz")
	require.NoError(t, err)

	for name, c := range map[string]struct {
		data   []byte
		limits results.Limits
		kind   results.Kind
		limit  string
		member string
	}{
		"empty":                        {data: nil, kind: results.Empty},
		"something else":               {data: []byte("hello"), kind: results.UnknownFormat},
		"gzip":                         {data: []byte("\x1f\x8b\x08\x00\x00"), kind: results.UnknownFormat},
		"tar without xz":               {data: plain, kind: results.UnknownFormat},
		"html report":                  {data: []byte("<!DOCTYPE html>\n<html></html>"), kind: results.UnknownFormat},
		"xz of something else":         {data: compress(t, bytes.Repeat([]byte("no tar"), 200)), kind: results.Corrupt},
		"xz of nothing":                {data: compress(t, nil), kind: results.NoSubmission},
		"only the magic":               {data: packed[:6], kind: results.Truncated},
		"truncated":                    {data: packed[:len(packed)-30], kind: results.Truncated},
		"without the last byte":        {data: packed[:len(packed)-1], kind: results.Truncated},
		"truncated tar":                {data: compress(t, plain[:512+40]), kind: results.Truncated, member: "submission.json"},
		"flipped bit":                  {data: flipped, kind: results.Corrupt},
		"trailing byte":                {data: append(bytes.Clone(packed), 0), kind: results.TrailingData},
		"second xz stream":             {data: append(bytes.Clone(packed), packed...), kind: results.TrailingData},
		"bytes after the tar":          {data: compress(t, append(bytes.Clone(plain), "more"...)), kind: results.TrailingData},
		"another tar after the tar":    {data: compress(t, append(bytes.Clone(plain), plain...)), kind: results.TrailingData},
		"xz padding":                   {data: append(bytes.Clone(packed), 0, 0, 0, 0), kind: results.TrailingData},
		"dictionary of 1 GiB":          {data: refused, kind: results.LimitExceeded, limit: "dictionary"},
		"no submission.json":           {data: archive(t, file{name: "submission.html", body: "x"}), kind: results.NoSubmission},
		"in a folder":                  {data: archive(t, file{name: "folder/submission.json", body: document}), kind: results.NoSubmission},
		"absolute path":                {data: with(file{name: "/etc/passwd"}), kind: results.BadPath, member: "/etc/passwd"},
		"parent path":                  {data: with(file{name: "../x"}), kind: results.BadPath, member: "../x"},
		"parent path within":           {data: with(file{name: "test_output/../../x"}), kind: results.BadPath},
		"dot within":                   {data: with(file{name: "test_output/./x"}), kind: results.BadPath},
		"double slash":                 {data: with(file{name: "test_output//x"}), kind: results.BadPath},
		"backslash":                    {data: with(file{name: `test_output\x`}), kind: results.BadPath},
		"newline in a name":            {data: with(file{name: "test_output/a\nb"}), kind: results.BadPath},
		"name that is not UTF-8":       {data: compress(t, named(t, tarball(t, good, file{name: "test_output/xxxx"}), "test_output/xxxx", "test_output/\xff\xfe")), kind: results.BadPath},
		"long name":                    {data: with(file{name: strings.Repeat("x", 2000)}), kind: results.LimitExceeded, limit: "name-length"},
		"symbolic link":                {data: with(file{name: "test_output/x", header: kind(tar.TypeSymlink)}), kind: results.BadType, member: "test_output/x"},
		"hard link":                    {data: with(file{name: "test_output/x", header: kind(tar.TypeLink)}), kind: results.BadType},
		"device":                       {data: with(file{name: "test_output/x", header: kind(tar.TypeChar)}), kind: results.BadType},
		"block device":                 {data: with(file{name: "test_output/x", header: kind(tar.TypeBlock)}), kind: results.BadType},
		"named pipe":                   {data: with(file{name: "test_output/x", header: kind(tar.TypeFifo)}), kind: results.BadType},
		"submission.json as a link":    {data: archive(t, file{name: "submission.json", header: kind(tar.TypeSymlink)}), kind: results.BadType, member: "submission.json"},
		"submission.json as directory": {data: archive(t, file{name: "submission.json/", header: kind(tar.TypeDir)}), kind: results.NoSubmission},
		"submission.json twice":        {data: with(good), kind: results.DuplicateMember, member: "submission.json"},
		"submission.json twice, dots":  {data: with(file{name: "./submission.json", body: document}), kind: results.DuplicateMember, member: "submission.json"},
		"output twice":                 {data: with(file{name: "test_output/n__a"}, file{name: "test_output/n__a"}), kind: results.DuplicateMember, member: "test_output/n__a"},
		"many members":                 {data: with(file{name: "a"}, file{name: "b"}), limits: results.Limits{Members: 2}, kind: results.LimitExceeded, limit: "members"},
		"large member":                 {data: with(file{name: "a", body: strings.Repeat("x", 600)}), limits: results.Limits{MemberSize: 599}, kind: results.LimitExceeded, limit: "member-size", member: "a"},
		"large in all":                 {data: with(file{name: "a", body: strings.Repeat("x", 60000)}), limits: results.Limits{TotalSize: 50000}, kind: results.LimitExceeded, limit: "total-size"},
		"large file":                   {data: packed, limits: results.Limits{CompressedSize: 50}, kind: results.LimitExceeded, limit: "compressed-size"},
		"long claimed size":            {data: compress(t, named(t, tarball(t, file{name: "a", body: "x"}), "00000000001\x00", "77777777777\x00")), kind: results.LimitExceeded, limit: "member-size"},
		"deep JSON":                    {data: archive(t, file{name: "submission.json", body: deep}), kind: results.LimitExceeded, limit: "depth", member: "submission.json"},
		"many records":                 {data: archive(t, file{name: "submission.json", body: records}), limits: results.Limits{Records: 9}, kind: results.LimitExceeded, limit: "records"},
		"long name of a job":           {data: archive(t, file{name: "submission.json", body: strings.Replace(document, "n::a", strings.Repeat("x", 200), 1)}), limits: results.Limits{String: 199}, kind: results.LimitExceeded, limit: "string"},
		"much to hold":                 {data: archive(t, file{name: "submission.json", body: records}), limits: results.Limits{Held: 4000}, kind: results.LimitExceeded, limit: "held"},
		"bad JSON":                     {data: archive(t, file{name: "submission.json", body: document[:50]}), kind: results.BadJSON, member: "submission.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := results.Read(bytes.NewReader(c.data), results.Options{Limits: c.limits})
			requireKind(t, err, c.kind)
			var e *results.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.limit, e.Limit)
			if c.limit != "" {
				require.Contains(t, err.Error(), "(limit "+c.limit+"; ")
				require.NotZero(t, e.Max)
			}
			if c.member != "" {
				require.Equal(t, c.member, e.Member)
			}
			_, again := results.Read(iotest.OneByteReader(bytes.NewReader(c.data)), results.Options{Limits: c.limits})
			require.Equal(t, err.Error(), again.Error(), "read byte by byte")
		})
	}
}

func requireKind(t testing.TB, err error, want results.Kind) {
	t.Helper()
	var e *results.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, want, e.Kind, "%v", err)
	fuzztest.Error(t, err)
	if want != results.NotFound && want != results.WriteFailed { // which are not the submission's fault
		require.Regexp(t, `^cannot read submission: .* \(.{30,}\)$`, err.Error(), "what is wrong, and what to do")
	}
}

// TestFaultCutOffArchive: an upload that was cut off is never taken for a submission, wherever it was cut.
func TestFaultCutOffArchive(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/v2.9.1-odd.tar.xz")
	require.NoError(t, err)
	for n := 1; n < len(data); n += 1 + n/30 {
		_, err := results.Read(bytes.NewReader(data[:n]), results.Options{})
		if n < 6 {
			requireKind(t, err, results.UnknownFormat)
		} else {
			requireKind(t, err, results.Truncated)
		}
	}
}

// TestFaultDamagedArchive: whatever bit of a sample is flipped, the archive is refused.
func TestFaultDamagedArchive(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/v2.9.1-odd.tar.xz")
	require.NoError(t, err)
	for i := 0; i < len(data); i += 101 {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		_, err := results.Read(bytes.NewReader(damaged), results.Options{})
		require.Error(t, err, "byte %d", i)
	}
}

// TestFaultBomb: an archive that becomes thousands of times its size ends at the ratio limit, although no other limit is near; below
// RatioFloor it may.
func TestFaultBomb(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/xz/bomb.tar.xz")
	require.NoError(t, err)
	_, err = results.Read(bytes.NewReader(data), results.Options{Limits: results.Limits{RatioFloor: 1 << 20}})
	requireKind(t, err, results.LimitExceeded)
	require.ErrorContains(t, err, "ratio")
	_, err = results.Read(bytes.NewReader(data), results.Options{})
	requireKind(t, err, results.NoSubmission)
}

// TestFaultUnreadableFile: what a reader of the bytes reports is told apart from what the bytes are.
func TestFaultUnreadableFile(t *testing.T) {
	t.Parallel()
	disk := errors.New("input/output error")
	for _, data := range [][]byte{archive(t, file{name: "submission.json", body: document}), []byte(document), []byte("<testsuites><testcase name='a'/>"), nil} {
		for _, n := range []int{len(data) / 2, max(len(data)-1, 0)} {
			_, err := results.Read(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(disk)), results.Options{})
			requireKind(t, err, results.ReadFailed)
			require.ErrorIs(t, err, disk)
		}
	}
}

// TestJobsWithOneSlug: Checkbox names output files after ids in a way that two ids can share, and then has the file twice.
func TestJobsWithOneSlug(t *testing.T) {
	t.Parallel()
	body := `{"results":[{"full_id":"n::a/b","outcome":"pass"},{"full_id":"n::a b","outcome":"fail"},{"full_id":"n::c","outcome":"pass"}],
		"attachment-results":[{"full_id":"n::a&b","outcome":"pass"}]}`
	out := file{name: "test_output/n__a_b", body: "x"}
	for name, files := range map[string][]file{
		"once":                   {{name: "submission.json", body: body}, out},
		"once for each":          {{name: "submission.json", body: body}, out, out},
		"before submission.json": {out, out, {name: "submission.json", body: body}},
	} {
		sub, err := results.Read(bytes.NewReader(archive(t, files...)), results.Options{})
		require.NoError(t, err, name)
		for _, r := range sub.Results[:2] {
			require.Equal(t, "test_output/n__a_b", r.Stdout, name)
			require.True(t, r.SharedOutput, name)
		}
		require.Empty(t, sub.Results[2].Stdout)
		require.False(t, sub.Results[2].SharedOutput)
		require.Empty(t, sub.Attachments[0].Stdout, "attachments have a directory of their own")
	}
	_, err := results.Read(bytes.NewReader(archive(t, file{name: "submission.json", body: body}, out, out, out)), results.Options{})
	requireKind(t, err, results.DuplicateMember)
}

// TestRepackedArchive: an archive that a person unpacked and packed again has directories and "./" before its names.
func TestRepackedArchive(t *testing.T) {
	t.Parallel()
	sub, err := results.Read(bytes.NewReader(archive(t,
		file{name: "./", header: kind(tar.TypeDir)}, file{name: "./test_output/", header: kind(tar.TypeDir)},
		file{name: "./test_output/n__a", body: "out"}, file{name: "./submission.json", body: document})), results.Options{})
	require.NoError(t, err)
	require.Equal(t, "test_output/n__a", sub.Results[0].Stdout)
	require.Equal(t, []results.Member{{Name: "test_output/n__a", Size: 3}, {Name: "submission.json", Size: int64(len(document))}}, sub.Members)
}

// TestMembersAreStreamed hands each member's bytes to a writer as it is passed by.
func TestMembersAreStreamed(t *testing.T) {
	t.Parallel()
	const path = "testdata/v5.0.0-odd.tar.xz"
	want := unpack(t, path)
	got := make(map[string]*bytes.Buffer)
	logs := make(map[string]*bytes.Buffer)
	sub := readFile(t, path, results.Options{
		KeepLog: 1 << 20,
		Member: func(m results.Member) io.Writer {
			got[m.Name] = new(bytes.Buffer)
			return got[m.Name]
		},
		Log: func(_ int, id string) io.Writer {
			logs[id] = new(bytes.Buffer)
			return logs[id]
		},
	})
	require.Len(t, got, len(want)-1)
	for name, b := range got {
		require.Equal(t, string(want[name]), b.String())
	}
	for _, r := range sub.Records() {
		require.Equal(t, r.Log, logs[r.ID].String())
		require.EqualValues(t, len(r.Log), r.LogSize)

		var one bytes.Buffer
		f, err := os.Open(path)
		require.NoError(t, err)
		require.NoError(t, results.CopyLog(&one, f, results.Limits{}, r.ID))
		require.Equal(t, r.Log, one.String())
		f.Close()
	}
}

func TestWriterErrorsAreTheirOwn(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	_, err := results.Read(strings.NewReader(document), results.Options{Log: func(int, string) io.Writer { return failingWriter{full} }})
	requireKind(t, err, results.WriteFailed)
	require.ErrorIs(t, err, full)
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestCopy(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/v7.3.0-large.tar.xz")
	require.NoError(t, err)
	members := unpack(t, "testdata/v7.3.0-large.tar.xz")
	const name = "attachment_files/com.canonical.certification__audio_alsa_info_attachment"
	var b bytes.Buffer
	require.NoError(t, results.CopyMember(&b, bytes.NewReader(data), results.Limits{}, name))
	require.Equal(t, string(members[name]), b.String())

	b.Reset()
	require.NoError(t, results.CopyValue(&b, bytes.NewReader(data), results.Limits{}, "system_information", "memory", "outputs", "payload"))
	require.JSONEq(t, `{"swap": 0, "total": 25276510208}`, b.String())
	b.Reset()
	require.NoError(t, results.CopyValue(&b, bytes.NewReader(members["submission.json"]), results.Limits{}, "kernel"))
	require.Equal(t, "6.8.0-51-generic", b.String())

	requireKind(t, results.CopyMember(&b, bytes.NewReader(data), results.Limits{}, "nothing"), results.NotFound)
	requireKind(t, results.CopyMember(&b, strings.NewReader(document), results.Limits{}, "x"), results.NotFound)
	requireKind(t, results.CopyLog(&b, bytes.NewReader(data), results.Limits{}, "nothing"), results.NotFound)
	requireKind(t, results.CopyValue(&b, bytes.NewReader(data), results.Limits{}, "no", "thing"), results.NotFound)
	requireKind(t, results.CopyLog(&b, bytes.NewReader(data[:1000]), results.Limits{}, "nothing"), results.Truncated)
}
