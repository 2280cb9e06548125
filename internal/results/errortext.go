package results

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// Bounds on the pieces of an error's text, in bytes: what is quoted from a submission may be long.
const (
	maxQuoted = 200
	maxCause  = 300
)

// advice says what to do about a kind of error, for the person who delivers the submission and for the one who finds it refused.
var advice = map[Kind]string{
	LimitExceeded:   "Checkbox writes no such submission; if this one is real, report it as a fault of Certlab",
	Truncated:       "it was cut off while it was written or copied: copy it again from the machine",
	TrailingData:    "copy it again from the machine, as Checkbox wrote it",
	Corrupt:         "it was damaged after Checkbox wrote it: copy it again from the machine",
	BadPath:         "Checkbox writes no such archive: do not unpack it, and ask who made it",
	BadType:         "Checkbox writes no such archive: do not unpack it, and ask who made it",
	DuplicateMember: "Checkbox writes no such archive: ask who made it",
	NoSubmission:    "deliver the .tar.xz that Checkbox wrote, or pack it again with submission.json at its top",
	BadJSON:         "copy it again from the machine; if that is the same, the Checkbox that wrote it is at fault",
	BadXML:          "copy it again from the machine; if that is the same, the tool that wrote it is at fault",
	BadField:        "if a Checkbox wrote it like this, report it as a fault of Certlab",
	DuplicateKey:    "ask who made it: two readers could take two different values",
	UnknownFormat:   "deliver the .tar.xz, the submission.json or the JUnit report",
	ReadFailed:      "the file could not be read; the submission in it may be good",
	Empty:           "the disk may have been full when it was written or copied: copy it again from the machine",
}

// limitTexts say in words what exceeds a limit; %s is the limit as a size, %d as a number.
var limitTexts = map[string]string{
	"compressed-size": "the archive is larger than %s",
	"total-size":      "unpacked it is larger than %s",
	"member-size":     "the file is larger than %s",
	"members":         "the archive has more than %d files",
	"name-length":     "the file's name is longer than %d bytes",
	"ratio":           "unpacking makes it more than %d times its size, as it would a bomb",
	"dictionary":      "unpacking it takes more than %s of memory",
	"depth":           "it is nested more than %d deep",
	"records":         "it has more than %d jobs",
	"string":          "a text is longer than %s",
	"held":            "what is to be kept of it is more than %s",
}

// Error says in one line what is wrong, where, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("cannot read submission")
	if e.Member != "" {
		fmt.Fprintf(&b, ": %s", quoted(e.Member))
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, ": line %d, column %d", e.Line, e.Column)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, ": %s", quoted(e.Field))
	}
	if e.Kind == LimitExceeded {
		fmt.Fprintf(&b, ": %s", limitText(e.Limit, e.Max))
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", quoted(e.Detail))
	}
	if e.Line == 0 && e.Offset > 0 {
		fmt.Fprintf(&b, ", about byte %d", e.Offset)
	}
	if e.Err != nil && !errors.Is(e.Err, io.ErrUnexpectedEOF) {
		fmt.Fprintf(&b, ": %s", clip(printable(causeText(e.Err)), maxCause))
	}
	switch text := advice[e.Kind]; {
	case e.Kind == LimitExceeded:
		fmt.Fprintf(&b, " (limit %s; %s)", e.Limit, text)
	case text != "":
		fmt.Fprintf(&b, " (%s)", text)
	}
	return b.String()
}

// causeText leaves out what Go puts before the reason why a file cannot be read: its caller knows the file.
func causeText(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func limitText(name string, max int64) string {
	text, ok := limitTexts[name]
	switch {
	case !ok:
		return fmt.Sprintf("it exceeds %d", max)
	case strings.Contains(text, "%s"):
		return fmt.Sprintf(text, size(max))
	}
	return fmt.Sprintf(text, max)
}

// size is a number of bytes for people; exactly what it is.
func size(n int64) string {
	for _, u := range []struct {
		unit  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n >= 1<<u.shift && n%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d %s", n>>u.shift, u.unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// quoted is a piece of a submission, fit to be shown.
func quoted(s string) string { return clip(printable(s), maxQuoted) }

// clip cuts out the middle of a long text: a place in a document ends with what matters most.
func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	head, tail := s[:max/2], s[len(s)-max/2:]
	for !utf8.ValidString(head) {
		head = head[:len(head)-1]
	}
	for !utf8.ValidString(tail) {
		tail = tail[1:]
	}
	return head + "…" + tail
}

// printable replaces what would disturb a terminal or a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '\uFFFD'
		}
		return r
	}, s)
}
