package checkbox

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"certlab/internal/fuzztest"
)

// FuzzOutputs: whatever checkbox-cli prints, or a job of it, is understood or refused with a line that can be shown.
func FuzzOutputs(f *testing.F) {
	seeds := append(fuzztest.Files(f, 1<<16, "testdata/console/*"), fuzztest.Seeds(
		"test plan 'com.example::a'\n    name: \"A plan\"\ntest plan \"com.example::b\"\n    tr_name: 'It\\'s b'\n",
		"com.example::a\tshell\thas-leftovers simple\ncom.example::b\tmanual\t<missing flags>\n\n", `noise [{"full_id":"a::b","plugin":"shell","flags":"simple"},{"flags":["noreturn"]}]`,
		"checkbox-ng: 1.18.1\ncheckbox-support: 0.22\n", "7.3.0.dev12\n", "ERROR:x\n\nProblems:\n- [a] b: c\n- d\n", "setup(\n  name = 'p',\n  namespace=N_('a.b'),\n version=\"1.0\")\n",
		"--[ Running job 1 / 9. x\nID: a::b\nOutcome: job passed\nTraceback (most recent call last):\nValueError: \x1b[31mno\n",
	)...)
	fuzztest.Run(f, 200, seeds, func(t *testing.T, data []byte) {
		out := string(data)
		v, err := ParseVersion(out)
		if fuzztest.Error(t, err); err == nil {
			again, err := ParseVersion(v.String())
			require.NoError(t, err)
			require.Equal(t, v, again)
			CapabilitiesOf(v)
		}
		plans := parsePlans(out)
		fuzztest.Error(t, &UnknownPlan{Plan: out, Nearest: Nearest(clip(out, 100), plans[:min(len(plans), 50)])})
		fuzztest.Error(t, &ToolError{Args: []string{"list"}, Output: out, Err: errors.New("exit status 1")})
		fuzztest.Error(t, problemsIn(out))
		_, err = parseProvider("/srv/p", out)
		fuzztest.Error(t, err)
		checkJobs(t, out)
		checkConsole(t, data)
	})
}

func checkJobs(t *testing.T, out string) {
	for _, parse := range []func(string) ([]Job, error){parseJobs, parseJobsJSON} {
		jobs, err := parse(out)
		fuzztest.Error(t, err)
		for i, j := range jobs[:min(len(jobs), 20)] {
			if !utf8.ValidString(j.ID) || j.ID == "" {
				continue
			}
			require.False(t, Selected(j.ID, []string{ExactPattern(j.ID)}, nil), "job %d is excluded by its own pattern", i)
			require.True(t, Selected(j.ID, nil, []string{ExactPattern(j.ID)}))
		}
	}
}

// checkConsole: what is told of progress makes sense, however the output comes.
func checkConsole(t *testing.T, data []byte) {
	var whole, pieces Console
	whole.Write(data)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 7)
		pieces.Write(rest[:n])
		rest = rest[n:]
	}
	require.Equal(t, whole, pieces)
	require.LessOrEqual(t, whole.Done, whole.Planned)
	require.LessOrEqual(t, len(whole.line), maxLine)
	if whole.Error != "" {
		fuzztest.Line(t, whole.Error)
	}
}

// FuzzSession: whatever is where Checkbox keeps a session's state.
func FuzzSession(f *testing.F) {
	seeds := fuzztest.Seeds(
		`{"version":7,"session":{"metadata":{"title":"t","app_blob":"eyJ0ZXN0cGxhbl9pZCI6ImE6OmIiLCJkZXNjcmlwdGlvbiI6ImQifQ==","flags":["incomplete"],"running_job_name":"a::b"},"results":{"a::b":[{"outcome":"pass","comments":"x"}],"c":[]}}}`,
		`{"session":{"metadata":{"running_job_name":null},"results":null}}`)
	fuzztest.Run(f, 400, seeds, func(t *testing.T, data []byte) {
		var s Session
		fuzztest.Error(t, s.decode(bytes.NewReader(data)))
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.NoCompression)
		require.NoError(t, err)
		z.Write(data)
		require.NoError(t, z.Close())
		fuzztest.Error(t, s.decode(&packed))
	})
}

// FuzzLauncher: whatever a launcher is asked to say, each value stays in its line, or is refused.
func FuzzLauncher(f *testing.F) {
	type input struct{ Title, Name, Value, Pattern, Manifest string }
	var seeds [][]byte
	for _, in := range []input{{"title", "A", "value", "pattern", "a::b"}, {"a\nb", "A B", "%", "a,b 'c'", "[x]"}, {"\u2028", "é", "\x00", "{1,2}", ""}} {
		text, err := json.Marshal(in)
		require.NoError(f, err)
		seeds = append(seeds, text)
	}
	plain, err := Launcher{Plan: "p", Title: "t", Environment: map[string]string{"A": "v"}, Exclude: []string{"p"}, Manifest: map[string]string{"a": "b"}}.Text(CapabilitiesOf(Version{7, 3, 0}))
	require.NoError(f, err)
	fuzztest.Run(f, 400, seeds, func(t *testing.T, data []byte) {
		var in input
		if json.Unmarshal(data, &in) != nil {
			return
		}
		l := Launcher{Plan: "p", Title: in.Title, Environment: map[string]string{in.Name: in.Value}, Exclude: []string{in.Pattern}, Manifest: map[string]string{in.Manifest: in.Value}}
		for _, v := range []Version{{1, 18, 1}, {3, 3, 0}, {7, 3, 0}} {
			text, err := l.Text(CapabilitiesOf(v))
			if fuzztest.Error(t, err); err == nil {
				require.Equal(t, strings.Count(plain, "\n"), strings.Count(text, "\n"))
				require.NotContains(t, text, "\r")
			}
		}
		_, err := SecretText(map[string]string{in.Name: in.Value})
		if fuzztest.Error(t, err); err != nil && len(in.Value) > 10 {
			require.NotContains(t, err.Error(), in.Value, "a secret")
		}
	})
}
