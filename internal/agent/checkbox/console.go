package checkbox

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// Console reads what checkbox-cli prints and tells how far it is. The zero value is ready; it is not safe for concurrent use.
type Console struct {
	Done    int    // jobs that ended, in this start of Checkbox
	Planned int    // jobs of this start; after a resume only those that were left
	Job     string // full id of the job that was announced last; empty: none, or it ended
	Last    string // full id of the job that was announced last, also after it ended

	Traceback bool   // Python printed a traceback
	Error     string // the last line that looks like the reason why Checkbox gave up

	fresh bool // a header was seen, its ID line not yet
	line  []byte
}

// maxLine is how much of a line is looked at, in bytes.
const maxLine = 4096

var (
	jobHeader = regexp.MustCompile(`^[=-]+\[ Running job (\d{1,7}) / (\d{1,7})\. `)
	jobID     = regexp.MustCompile(`^ID: (\S.*)$`)
	exception = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*(Error|Exception|UnexpectedMethodCall)\b.*$`)
	ansi      = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
)

// Write takes in more of what was printed. It never fails.
func (c *Console) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxLine - len(c.line); room > 0 {
			c.line = append(c.line, part[:min(room, len(part))]...)
		}
		if i < 0 {
			break
		}
		c.read(strings.TrimRight(string(c.line), "\r"))
		c.line = c.line[:0]
		p = p[i+1:]
	}
	return n, nil
}

// read looks at one line. A job's output can say the same as Checkbox does; an ID is therefore only believed after a header, and a
// header only with a number that goes up.
func (c *Console) read(line string) {
	if strings.Contains(line, "\x1b") {
		line = ansi.ReplaceAllString(line, "")
	}
	if m := jobHeader.FindStringSubmatch(line); m != nil {
		number, _ := strconv.Atoi(m[1])
		planned, _ := strconv.Atoi(m[2])
		if number > planned || number < 1 {
			return
		}
		c.Done, c.Planned, c.fresh, c.Job = number-1, planned, true, ""
		return
	}
	switch {
	case c.fresh && jobID.MatchString(line):
		c.Job = jobID.FindStringSubmatch(line)[1]
		c.Last, c.fresh = c.Job, false
	case strings.HasPrefix(line, "Outcome: ") && c.Job != "":
		c.Job = ""
		c.Done = min(c.Done+1, c.Planned)
	case strings.HasPrefix(line, "Traceback (most recent call last):"):
		c.Traceback = true
	case c.Traceback && exception.MatchString(line):
		c.Error = clip(line, 300)
	case strings.HasPrefix(line, "ERROR:") || strings.HasPrefix(line, "RuntimeError"):
		c.Error = clip(line, 300)
	}
}
