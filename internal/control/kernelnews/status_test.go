package kernelnews

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(text string) *time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &t
}

// The sample is made up (see what it says of itself), of fields as they are read by others.
func TestAStatusNamesTheKernelsThatWaitForCertificationTesting(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/status.json")
	require.NoError(t, err)
	defer f.Close()
	s, err := Read(f, noon)
	require.NoError(t, err)
	require.Equal(t, []cert.KernelNews{
		{Task: "Triaged", Seen: noon, Subject: cert.Subject{Kind: "kernel", Series: "jammy", Source: "linux", Flavour: "generic", Version: "5.15.0-164.174", Pocket: "proposed",
			Cycle: "s2026.11.09", Spin: 2, Tracker: "https://bugs.launchpad.net/bugs/2150003"}},
		{Task: "In Progress", Seen: noon, Due: at("2026-11-30T23:59:59Z"),
			Note: "not known for certain: its flavour (aws is a guess from the name of the source), where it is (stream 2 goes to another archive than -proposed)",
			Subject: cert.Subject{Kind: "kernel", Series: "jammy", Source: "linux-aws-6.8", Flavour: "aws", Version: "6.8.0-1031.33~22.04.1", Cycle: "2026.11.02", Spin: 3,
				Tracker: "https://bugs.launchpad.net/bugs/2150002"}},
		{Task: "Confirmed", Seen: noon, Due: at("2026-11-27T23:59:59Z"), Subject: cert.Subject{Kind: "kernel", Series: "noble", Source: "linux", Flavour: "generic", Version: "6.8.0-91.92",
			Pocket: "proposed", Cycle: "2026.11.02", Spin: 1, Tracker: "https://bugs.launchpad.net/bugs/2150001"}},
	}, s.Kernels)
	require.Equal(t, 8, s.Trackers)
	require.Equal(t, "not understood in the kernel team's status: tracker 2150007: it has no version; tracker 2150008: it has no version", s.Problem())
}

func one(number, fields string) string {
	return fmt.Sprintf(`{"trackers":{%q:{%s"task":{"certification-testing":{"status":"Confirmed"}}}}}`, number, fields)
}

const kernel = `"series":"noble","source":"linux","version":"6.8.0-91.92",`

// A tracker that is not as it should be costs itself and nothing else.
func TestFaultTrackerIsNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ number, fields, left, note string }{
		{"7", `"series":"noble","source":"linux","version":"six",`, `tracker 7: its version is "six"`, ""},
		{"7", `"series":"NOBLE; rm -rf","source":"linux","version":"6.8.0-1.1",`, `tracker 7: its series is "NOBLE; rm -rf"`, ""},
		{"7", `"series":"noble","source":"../linux","version":"6.8.0-1.1",`, `tracker 7: its source is "../linux"`, ""},
		{"7", `"series":"noble","source":"linux-meta","version":"6.8.0-1.1",`, `tracker 7: cannot use "linux-meta" as a kernel's source: it goes with one (name the kernel's own source package, such as linux)`, ""},
		{"7", `"series":"noble","source":"linux","version":"6.8.0.91.92",`, `tracker 7: cannot tell which kernel version "6.8.0.91.92" is when it runs: give the version of the kernel's package with its ABI and upload, such as 6.8.0-51.52 (not that of a meta package, such as 6.8.0.51.52)`, ""},
		{"7", `"series":{"name":"noble"},"source":"linux","version":"6.8.0-1.1",`, `tracker 7: it has no series`, ""},
		{"javascript:alert(1)", kernel, `tracker javascript:alert(1): its number is "javascript:alert(1)"`, ""},
		{strings.Repeat("9", 5000), kernel, `tracker ` + strings.Repeat("9", 60) + `…: its number is "` + strings.Repeat("9", 60) + `…"`, ""},
		{"7", kernel + `"cycle":["2026.11.02-1"],`, "", `not known for certain: its cycle ("")`},
		{"7", kernel + `"cycle":"soon",`, "", `not known for certain: its cycle ("soon")`},
		{"7", kernel + `"test-observer":{"due-date":"Friday"},`, "", "not known for certain: its due date"},
		{"7", kernel + `"test-observer":{"due-date":20261127},`, "", "not known for certain: its due date"},
		{"7", kernel + `"test-observer":[],"built":[],"cycle":null,`, "", `not known for certain: its cycle ("")`},
	} {
		good := `"8":{"series":"jammy","source":"linux","version":"5.15.0-1.1","task":{"certification-testing":{"status":"Confirmed"}}}`
		text := strings.Replace(one(c.number, c.fields), `{"trackers":{`, `{"trackers":{"9":7,`+good+",", 1)
		s, err := Read(strings.NewReader(text), noon)
		require.NoError(t, err, text)
		require.Equal(t, 3, s.Trackers)
		require.Equal(t, "5.15.0-1.1", s.Kernels[0].Subject.Version, "what is beside it is there")
		require.Nil(t, s.Kernels[0].Due)
		if c.left != "" {
			require.Len(t, s.Kernels, 1)
			require.Equal(t, "not understood in the kernel team's status: tracker 9: it is not an object; "+c.left, s.Problem())
			continue
		}
		require.Len(t, s.Kernels, 2, text)
		require.Equal(t, c.note, s.Kernels[1].Note)
		require.Equal(t, "not understood in the kernel team's status: tracker 9: it is not an object", s.Problem())
	}
	// What is said of many is bounded.
	many := &strings.Builder{}
	many.WriteString(`{"trackers":{`)
	for n := range 1000 {
		fmt.Fprintf(many, `"%d":7,`, n+1)
	}
	many.WriteString(`"0":7}}`)
	s, err := Read(strings.NewReader(many.String()), noon)
	require.NoError(t, err)
	require.Equal(t, 1001, s.Left)
	require.True(t, strings.HasSuffix(s.Problem(), "tracker 20: it is not an object; and 981 more"), s.Problem())
	require.Less(t, len(s.Problem()), 2000)
}

func TestTheNewerOfTwoTrackersOfOneKernelCounts(t *testing.T) {
	t.Parallel()
	tracker := `{` + kernel + `"task":{"certification-testing":{"status":"Confirmed"}}}`
	for _, order := range []string{`"999":` + tracker + `,"1000":` + tracker, `"1000":` + tracker + `,"999":` + tracker} {
		s, err := Read(strings.NewReader(`{"trackers":{`+order+`}}`), noon)
		require.NoError(t, err)
		require.Len(t, s.Kernels, 1)
		require.Equal(t, "https://bugs.launchpad.net/bugs/1000", s.Kernels[0].Subject.Tracker)
	}
}

// endless is a status of trackers that never ends.
type endless struct{ begun bool }

func (e *endless) Read(p []byte) (int, error) {
	text := strings.Repeat(" ", len(p))
	if !e.begun {
		text, e.begun = `{"trackers":{"1":{"source":"`, true
	}
	return copy(p, text), nil
}

func TestFaultStatusIsNone(t *testing.T) {
	t.Parallel()
	const none = "it is not one (want a JSON object with trackers, such as https://kernel.ubuntu.com/swm/status.json)"
	crowd := &strings.Builder{}
	crowd.WriteString(`{"trackers":{"1":{}`)
	for range maxTrackers {
		crowd.WriteString(`,"1":{}`)
	}
	for _, c := range []struct {
		r    io.Reader
		want string
	}{
		{strings.NewReader(""), "it is cut off"},
		{strings.NewReader("  \n"), "it is cut off"},
		{strings.NewReader(`{"trackers":{"1":{"series":"no`), "it is cut off"},
		{strings.NewReader(`{"trackers":{"1":{}}`), "it is cut off"},
		{strings.NewReader("<!DOCTYPE html><title>502</title>"), "it is not JSON at byte 1: invalid character '<' looking for beginning of value"},
		{strings.NewReader("[]"), none},
		{strings.NewReader("7"), none},
		{strings.NewReader("{}"), none},
		{strings.NewReader(`{"trackers":[]}`), none},
		{strings.NewReader(`{"trackers":null}`), none},
		{strings.NewReader(strings.Repeat(`{"a":`, 20_000)), "exceeded max depth"},
		{strings.NewReader(`{"trackers":{"1":` + strings.Repeat(`[`, 20_000)), "exceeded max depth"},
		{strings.NewReader(crowd.String()), "it has more than 20000 trackers"},
		{&endless{}, "it has more than 32 MiB"},
		{iotest.ErrReader(errors.New("connection reset by peer")), "connection reset by peer"},
	} {
		s, err := Read(c.r, noon)
		require.ErrorContains(t, err, c.want)
		require.True(t, strings.HasPrefix(err.Error(), "cannot read the kernel team's status: "), err)
		require.Zero(t, s)
	}
	s, err := Read(strings.NewReader(`{"trackers":{}}`), noon)
	require.NoError(t, err, "that nothing waits for testing is no fault")
	require.Empty(t, s.Kernels)
	require.Empty(t, s.Problem())
}

func FuzzRead(f *testing.F) {
	sample, err := os.ReadFile("testdata/status.json")
	require.NoError(f, err)
	f.Add(sample)
	f.Add([]byte(one("7", kernel)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(strings.NewReader(string(data)), noon)
		if err != nil {
			return
		}
		for _, k := range s.Kernels {
			require.Regexp(t, seriesName, k.Subject.Series)
			require.Regexp(t, sourceName, k.Subject.Source)
			require.Regexp(t, debVersion, k.Subject.Version)
			require.Regexp(t, `^https://bugs\.launchpad\.net/bugs/[0-9]+$`, k.Subject.Tracker)
			require.Contains(t, ready, k.Task)
			require.NoError(t, k.Subject.Validate())
		}
		require.LessOrEqual(t, len(s.Unread), maxUnread)
	})
}
