package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A transcript is what a document shows of a terminal: commands, each with what it prints. In what is printed, "…" stands for any text in a
// line, and a line of only that for any lines; white space is of no account, since columns are as wide as what is in them.
type transcript []exchange

type exchange struct {
	command string
	output  []string
}

// readTranscript takes the console blocks out of a document.
func readTranscript(t *testing.T, path string) transcript {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var out transcript
	inside := false
	for line := range strings.SplitSeq(string(text), "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case isCommand:
			command, _, _ = strings.Cut(command, "  #")
			out = append(out, exchange{command: command})
		case len(out) > 0:
			out[len(out)-1].output = append(out[len(out)-1].output, line)
		}
	}
	return out
}

// pattern is what the exchange's output has to match.
func (e exchange) pattern() *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range e.output {
		if strings.TrimSpace(line) == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		for i, part := range strings.Split(squeezed(line), "…") {
			if i > 0 {
				b.WriteString(`.*`)
			}
			b.WriteString(regexp.QuoteMeta(part))
		}
		b.WriteString(`\n`)
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String())
}

var spaces = regexp.MustCompile(`[ \t]+`)

func squeezed(line string) string { return strings.TrimSpace(spaces.ReplaceAllString(line, " ")) }

// looks are commands that change nothing: they are given again until what they show is what the document says.
var looks = regexp.MustCompile(`^certlab (?:machine (?:list|show|events)|reservation (?:list|show)|run (?:list|show)|lab (?:status|exec)|result list|submission list)\b`)

// replay gives the commands one after the other, in a shell that has certlab, and holds what they print to the document.
func (l *lab) replay(t *testing.T, script transcript) {
	t.Helper()
	require.NotEmpty(t, script)
	for _, e := range script {
		want := e.pattern()
		deadline := time.Now().Add(2 * time.Minute)
		for {
			out := l.shell(t, e.command)
			if want.MatchString(out) {
				break
			}
			if !looks.MatchString(e.command) || time.Now().After(deadline) {
				require.Fail(t, "not what the document shows", "$ %s\n%s\n--- where the document has\n%s", e.command, out, strings.Join(e.output, "\n"))
			}
			time.Sleep(300 * time.Millisecond)
		}
	}
}

// shell gives one command to a shell and returns what it printed, each line squeezed. What does not succeed shows in that.
func (l *lab) shell(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/bash", "-c", "set -o pipefail; "+command+" 2>&1")
	cmd.Env = append(os.Environ(), "CERTLAB_LAB="+l.dir, "XDG_CONFIG_HOME="+l.config, "PATH="+filepath.Dir(l.certlab)+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second
	data, err := cmd.CombinedOutput()
	var out strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n") {
		out.WriteString(squeezed(line) + "\n")
	}
	if err != nil {
		out.WriteString("exit: " + err.Error() + "\n")
	}
	return strings.TrimPrefix(out.String(), "\n")
}

func TestTranscriptsAreHeldToWhatIsPrinted(t *testing.T) {
	t.Parallel()
	e := exchange{output: []string{"…", "State    ready", "Until  …", "URL  https://…"}}
	for text, same := range map[string]bool{
		"State ready\nUntil now\nURL https://x\n":                    true,
		"waiting\nstill\nState ready\nUntil 2026\nURL https://x/y\n": true,
		"State failed\nUntil now\nURL https://x\n":                   false,
		"State ready\nUntil now\nURL https://x\nmore\n":              false,
		"State ready\nURL https://x\n":                               false,
	} {
		require.Equal(t, same, e.pattern().MatchString(text), text)
	}
	require.True(t, exchange{}.pattern().MatchString(""))
	require.False(t, exchange{}.pattern().MatchString("something\n"))

	path := filepath.Join(t.TempDir(), "doc.md")
	require.NoError(t, os.WriteFile(path, []byte("text\n```console\n$ one  # why\nout\n$ two\n```\n$ not this\n```yaml\n$ nor this\n```\n"), 0o600))
	require.Equal(t, transcript{{command: "one", output: []string{"out"}}, {command: "two"}}, readTranscript(t, path))
}
