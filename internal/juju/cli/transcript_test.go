package cli_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A step is one command of a transcript with what it printed.
type step struct {
	file    string
	line    int
	section string // the last "## " line before it
	command string
	typed   string // what was typed at the terminal, when it ran on one
	stdout  string
	stderr  string
	code    string
}

func (s step) where() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

// readTranscript reads a file of testdata: "$ command", stdout, "[stderr]" and stderr, "[rc=N]".
func readTranscript(t testing.TB, name string) []step {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var steps []step
	var cur *step
	var section string
	var target *string
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		n++
		line := lines.Text()
		switch {
		case cur == nil && strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		case cur == nil && strings.HasPrefix(line, "$ "):
			cur = &step{file: name, line: n, section: section, command: strings.TrimPrefix(line, "$ ")}
			target = &cur.stdout
		case cur == nil:
		case target == &cur.stdout && cur.stdout == "" && openQuote(cur.command):
			cur.command += "\n" + line
		case line == "[stderr]":
			target = &cur.stderr
		case line == "[no newline at end of stdout]":
			cur.stdout = strings.TrimSuffix(cur.stdout, "\n")
		case strings.HasPrefix(line, "[rc="):
			cur.code = strings.TrimSuffix(strings.TrimPrefix(line, "[rc="), "]")
			if before, typed, ok := strings.Cut(cur.command, "   [on a terminal, typed: "); ok {
				cur.command = before
				cur.typed = strings.ReplaceAll(strings.TrimSuffix(typed, "]"), `\\n`, "\n")
			}
			steps = append(steps, *cur)
			cur = nil
		default:
			*target += line + "\n"
		}
	}
	require.NoError(t, lines.Err())
	require.Nil(t, cur, "%s ends in the middle of a command", name)
	return steps
}

// openQuote says that a shell would want another line.
func openQuote(command string) bool {
	var quote rune
	escaped := false
	for _, r := range command {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		}
	}
	return quote != 0
}

func TestTranscriptsAreReadWhole(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.Len(t, names, 20)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		steps := readTranscript(t, filepath.Base(name))
		require.Equal(t, strings.Count(string(data), "\n[rc="), len(steps), name)
	}
	steps := readTranscript(t, "6-action-results.txt")
	require.Contains(t, steps[6].command, "ml=\"l1\nl2\"'")
}
