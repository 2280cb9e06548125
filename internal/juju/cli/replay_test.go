package cli_test

import (
	"fmt"
	"regexp"
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

// A section is a part of a transcript that is replayed on a lab of its own.
type section struct {
	file string
	// from and to are the lines between which the commands stand; 0 is the file's begin and end.
	from, to int
	seed     func(*lab)
	// task numbers the next operation before the first command; -1 takes the number that the transcript shows before each.
	secrets []string
	// before is run before the command of that line.
	before map[int]func(*lab)
	// at once: commands of these lines are not preceded by waiting until the model is quiet.
	atOnce map[int]bool
	// any order: of these lines' lines of output.
	anyOrder map[int]bool
}

func (s section) name() string {
	if s.from == 0 {
		return s.file
	}
	return fmt.Sprintf("%s:%d", s.file, s.from)
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
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			replay(t, s)
		})
	}
}

func replay(t *testing.T, s section) {
	l := newLab(t, s.secrets...)
	if s.seed != nil {
		s.seed(l)
	}
	for _, st := range readTranscript(t, s.file) {
		if st.line < s.from || s.to > 0 && st.line >= s.to {
			continue
		}
		if unmatched[st.where()] != "" {
			continue
		}
		if do := s.before[st.line]; do != nil {
			do(l)
		}
		if !s.atOnce[st.line] {
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
		want := fmt.Sprintf("%s[stderr]\n%s[rc=%s]", comparable(st.stdout), comparable(st.stderr), st.code)
		got := fmt.Sprintf("%s[stderr]\n%s[rc=%s]", comparable(l.rewritten(stdout)), comparable(l.rewritten(stderr)), code)
		if s.anyOrder[st.line] {
			want, got = unordered(want), unordered(got)
		}
		if want != got {
			t.Errorf("%s: $ %s\n%s", st.where(), st.command, diff.Diff("transcript", []byte(want+"\n"), "replay", []byte(got+"\n")))
		}
	}
}
