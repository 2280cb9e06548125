package cli_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/stretchr/testify/require"
)

// substitutions are all that a transcript and a replay may differ in: times and ages, a context's and a scratch directory's
// random name, and the place of files. Each is applied to both sides.
var substitutions = []struct {
	what string
	re   *regexp.Regexp
	by   string
}{
	{"times of status", regexp.MustCompile(`\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\dZ`), "DD Mon YYYY HH:MM:SSZ"},
	{"times of status in UTC", regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "YYYY-MM-DD HH:MM:SSZ"},
	{"times of tasks", regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC`), "YYYY-MM-DD HH:MM:SS +0000 UTC"},
	{"times of secrets and logs", regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z?)`), "YYYY-MM-DDTHH:MM:SS$2"},
	{"times of day", regexp.MustCompile(`\b\d\d:\d\d:\d\d(Z?)\b`), "HH:MM:SS$1"},
	{"ages", regexp.MustCompile(`(?m) +(just now|\d+ (second|minute)s? ago) *$`), " AGE"},
	{"identity of a unit", regexp.MustCompile(`checking unit "([0-9a-f-]{36}|worker/0)"`), `checking unit "UNIT"`},
	{"days and fractions of log lines", regexp.MustCompile(`\d{4}-\d\d-\d\d HH:MM:SS\.\d{3}`), "YYYY-MM-DD HH:MM:SS.mmm"},
	{"names of contexts", regexp.MustCompile(`-[0-9a-f]{32}\b`), "-CONTEXT"},
	{"scratch directories", regexp.MustCompile(`\S*/juju-exec\d+/`), "./juju-exec/"},
	{"runs of x", regexp.MustCompile(`x{200,}|x\{\d+ times\}`), "xxx"},
}

// addresses of the transcripts were rewritten when they were taken (tables keep the width that they had), as were directories.
func (l *lab) rewritten(text string) string {
	text = strings.ReplaceAll(text, "10.77.0.", "10.0.0.")
	text = strings.ReplaceAll(text, l.dir+"/", "./")
	for machine := range macs {
		text = strings.ReplaceAll(text, fmt.Sprintf("%s/%d/", l.root, machine), "/")
	}
	return strings.ReplaceAll(text, "\x1b", "^[")
}

func comparable(text string) string {
	for _, s := range substitutions {
		text = s.re.ReplaceAllString(text, s.by)
	}
	return strings.ReplaceAll(text, "\x1b", "^[")
}

// unordered sorts what Juju prints in the order of a Go map.
func unordered(text string) string {
	lines := strings.Split(text, "\n")
	sort.Strings(lines)
	for i, line := range lines {
		if before, list, ok := strings.Cut(line, "validation failed: "); ok {
			parts := strings.Split(list, "; ")
			sort.Strings(parts)
			lines[i] = before + "validation failed: " + strings.Join(parts, "; ")
		}
	}
	return strings.Join(lines, "\n")
}

// A part is a stretch of a transcript: the commands from one line up to another; 0 is the file's begin or end.
type part struct {
	file     string
	from, to int
}

// A section is what is replayed on one lab.
type section struct {
	name    string
	parts   []part
	seed    func(*lab)
	secrets []string // ids that secrets get, in order
	// Steps are named by file and line.
	before   map[string]func(*lab) // what happened before that command
	atOnce   []string              // commands that do not wait until the model is quiet
	anyOrder []string              // commands whose lines Juju prints in the order of a Go map
}

var firstTask = regexp.MustCompile(`(?:Running|Scheduled) operation (\d+) |Operation (\d+) failed|"id":"(\d+)"|(?m)^  id: "(\d+)"|task failed:\n - id "(\d+)"`)

// numbered gives the model the number of operation that the transcript had: what ran between its commands is not in it.
func (l *lab) numbered(s step) {
	m := firstTask.FindStringSubmatch(s.stdout + s.stderr)
	if m == nil {
		return
	}
	for i, number := range m[1:] {
		var n int
		if _, err := fmt.Sscan(number, &n); err != nil {
			continue
		}
		if i >= 2 {
			n-- // a task's number is the operation's and one
		}
		require.NoError(l.t, l.model.Update(setNextTask(n)))
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s.secrets...)
			if s.seed != nil {
				s.seed(l)
			}
			for _, p := range s.parts {
				for _, st := range readTranscript(t, p.file) {
					if st.line >= p.from && (p.to == 0 || st.line < p.to) && unmatched[st.where()] == "" {
						l.replay(s, st)
					}
				}
			}
		})
	}
}

// replay runs one command and compares.
func (l *lab) replay(s section, st step) {
	if do := s.before[st.where()]; do != nil {
		do(l)
	}
	if !slices.Contains(s.atOnce, st.where()) {
		l.settled()
	}
	l.numbered(st)
	var stdout, stderr, code string
	if st.typed != "" {
		screen, n := l.onTerminal(strings.Fields(st.command)[1:], st.typed)
		stdout, code = screen, fmt.Sprint(n)
	} else {
		out, errs, n := l.shell(st.command)
		stdout, stderr, code = out, errs, fmt.Sprint(n)
	}
	want := fmt.Sprintf("%s[stderr]\n%s[rc=%s]\n", comparable(st.stdout), comparable(st.stderr), st.code)
	got := fmt.Sprintf("%s[stderr]\n%s[rc=%s]\n", comparable(l.rewritten(stdout)), comparable(l.rewritten(stderr)), code)
	if slices.Contains(s.anyOrder, st.where()) {
		want, got = unordered(want), unordered(got)
	}
	if want != got {
		l.t.Errorf("%s: $ %s\n%s", st.where(), st.command, diff.Diff("transcript", []byte(want), "replay", []byte(got)))
	}
}

// Every command of every transcript is replayed, or is in the table of those that are not.
func TestEveryCommandIsReplayedOrListed(t *testing.T) {
	t.Parallel()
	covered := map[string]int{}
	names, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	for _, name := range names {
		for _, st := range readTranscript(t, filepath.Base(name)) {
			covered[st.where()] = 0
		}
	}
	for where, reason := range unmatched {
		require.Contains(t, covered, where)
		require.NotEmpty(t, reason)
		covered[where]++
	}
	for _, s := range sections {
		for _, p := range s.parts {
			for _, st := range readTranscript(t, p.file) {
				if st.line >= p.from && (p.to == 0 || st.line < p.to) && unmatched[st.where()] == "" {
					covered[st.where()]++
				}
			}
		}
	}
	for where, n := range covered {
		require.Equal(t, 1, n, "%s is replayed or listed %d times", where, n)
	}
}
