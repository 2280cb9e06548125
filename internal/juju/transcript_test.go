package juju

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHookToolTranscriptReplays runs every command of testdata/tools-exec.txt, which was recorded under `juju exec` on a real
// Juju 4.0.15, in one exec context and compares every line of output and every exit code.
//
// The seed is probeState: what the transcript's own model held when it was recorded. Substituted are
//
//   - the id of the secret that secret-add makes (random), once it has been made;
//   - the application's UUID in the error of resource-get (the model has its own);
//   - the quotes around `status-set active "msg here"`, which the transcript has lost: without them Juju refuses the third word.
//
// Times need no substitution: the model's clock stands at the time that goal-state shows.
func TestHookToolTranscriptReplays(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/tools-exec.txt")
	require.NoError(t, err)
	tools, rest, found := strings.Cut(string(data), "\n")
	require.True(t, found)
	commands := splitTranscript(t, rest)

	m := probeModel(t, "4.0.15")
	c, err := NewContext(m, ContextOptions{Unit: "probe/0", Kind: RunExec, Task: 1})
	require.NoError(t, err)
	var secret string
	for _, cmd := range commands {
		words := strings.Fields(cmd.line)
		if cmd.line == "status-set active msg here" {
			words = []string{"status-set", "active", "msg here"}
		}
		stdout, stderr, code := c.Run(words[0], words[1:], nil)
		got := string(stdout) + string(stderr)
		if words[0] == "secret-add" && code == 0 {
			secret = strings.TrimSpace(got[strings.LastIndex(got, "/")+1:])
		}
		if secret != "" {
			got = strings.ReplaceAll(got, secret, "m6bsitr58kbhlku6q4v0")
		}
		got = strings.ReplaceAll(got, EntityUUID(m.Snapshot(), "application", "probe"), "3fae9d5d-9559-4f40-87ec-04add0340f64")
		require.Equal(t, cmd.output, got, "$ %s", cmd.line)
		require.Equal(t, cmd.code, code, "$ %s", cmd.line)
	}
	require.Len(t, commands, 105)
	require.NoError(t, c.Flush())

	// The first line lists the hook tools that were there; some files beside them are Juju's own programs.
	files := regexp.MustCompile(`\bdownloaded-tools.txt|juju4\S+|jujuc|jujud|tools.tar.gz`).ReplaceAllString(tools, "")
	require.ElementsMatch(t, strings.Fields(files), ToolNames(4))
}

// TestHookToolsHaveJujusOptions compares each tool's options and defaults with testdata/tools-usage.md, which was made from the
// help texts of Juju 4.0.15.
func TestHookToolsHaveJujusOptions(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/tools-usage.md")
	require.NoError(t, err)
	seen := 0
	for _, line := range strings.Split(string(data), "\n") {
		if line, ok := strings.CutPrefix(line, "- "); ok {
			checkUsage(t, line)
			seen++
		}
	}
	require.Equal(t, len(ToolNames(4)), seen)
}

type transcribed struct {
	line, output string
	code         int
}

// splitTranscript returns the commands with their outputs.
func splitTranscript(t *testing.T, text string) []transcribed {
	t.Helper()
	var commands []transcribed
	var output strings.Builder
	rc := regexp.MustCompile(`^(.*)\[rc=(\d+)\]$`)
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if cmd, ok := strings.CutPrefix(line, "$ "); ok {
			commands = append(commands, transcribed{line: cmd})
			output.Reset()
			continue
		}
		if match := rc.FindStringSubmatch(line); match != nil {
			output.WriteString(match[1])
			last := &commands[len(commands)-1]
			last.output, last.code = output.String(), atoi(t, match[2])
			continue
		}
		output.WriteString(line + "\n")
	}
	return commands
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n := 0
	for _, r := range text {
		require.True(t, r >= '0' && r <= '9')
		n = n*10 + int(r-'0')
	}
	return n
}

// checkUsage compares a tool's options with a line such as
// "config-get [options] [<key>] | -a, --all  (= false) ; --format  (= smart) ; -o, --output (= "")".
func checkUsage(t *testing.T, line string) {
	t.Helper()
	head, options, _ := strings.Cut(line, " | ")
	name := strings.Fields(head)[0]
	spec, ok := tools[name]
	require.True(t, ok, "tool %s", name)
	want := map[string]bool{}
	for _, option := range strings.Split(options, ";") {
		names, def, ok := strings.Cut(strings.TrimSpace(option), "(= ")
		if !ok {
			continue
		}
		def = strings.Trim(strings.TrimSuffix(def, ")"), `"`)
		if def == "false" {
			def = ""
		}
		want[strings.Join(strings.Fields(strings.ReplaceAll(names, ",", " ")), " ")+"="+def] = true
	}
	got := map[string]bool{}
	for _, f := range spec.allFlags() {
		var names []string
		for _, n := range f.names {
			names = append(names, dashed(n))
		}
		got[strings.Join(names, " ")+"="+f.def] = true
	}
	require.Equal(t, want, got, "options of %s", name)
}
