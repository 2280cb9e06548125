package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Bounds of what is kept of a log.
const (
	maxExcerpt   = 4 << 10
	maxSignLines = 30  // lines that a signature is made of
	maxSignKept  = 50  // lines that are kept to choose them from
	maxSignLine  = 300 // bytes of each
)

// A replacement takes something out of a line that differs from run to run.
type replacement struct {
	re *regexp.Regexp
	by string
}

// replacements in their order: what is longer and tells more about itself first.
var replacements = []replacement{
	{regexp.MustCompile(`[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}`), "<uuid>"},
	{regexp.MustCompile(`(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}`), "<mac>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d| UTC)?`), "<time>"},
	{regexp.MustCompile(`(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2}(?: \d{4})?,? \d\d:\d\d:\d\d(?:[.,]\d+)?(?: [AP]M)?(?: [A-Z]{3,4})?(?: \d{4})?`), "<time>"},
	{regexp.MustCompile(`^\[ *\d+\.\d+\] ?(?:\[ *[TC]\d+\] ?)?`), ""},
	{regexp.MustCompile(`\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b`), "<time>"},
	{regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?:/\d+)?(?::\d+)?\b`), "<ip>"},
	{regexp.MustCompile(`\b(?:[0-9a-fA-F]{1,4}:){3,7}:?[0-9a-fA-F]{1,4}(?:/\d+)?\b`), "<ip>"},
	{regexp.MustCompile(`\b0x[0-9a-fA-F]+\b`), "<hex>"},
	{regexp.MustCompile(`(/tmp|/var/tmp|/run|/proc)/[^\s:'",)\]]*`), "$1/<path>"},
	{regexp.MustCompile(`\b(\d+\.\d+\.\d+-)\d+(-[a-z])`), "$1<n>$2"}, // kernel releases
	{regexp.MustCompile(`\b[0-9a-fA-F]*[a-fA-F][0-9a-fA-F]*\d[0-9a-fA-F]*\b|\b\d+[a-fA-F][0-9a-fA-F]*\b`), "<hex>"},
	{regexp.MustCompile(`\d+(?:[.,]\d+)*`), "<n>"},
}

// normalise takes out of a line what differs from run to run: times, durations, addresses, process ids, and all other numbers.
func normalise(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	if len(line) > 2*maxSignLine {
		line = line[:2*maxSignLine]
	}
	if !strings.ContainsAny(line, "0123456789") { // nothing to take out but a path
		if !strings.Contains(line, "/") {
			return cutLine(line)
		}
	}
	for _, r := range replacements {
		line = r.re.ReplaceAllString(line, r.by)
	}
	return cutLine(strings.TrimSpace(line))
}

func cutLine(line string) string {
	if len(line) > maxSignLine {
		return strings.ToValidUTF8(line[:maxSignLine], "")
	}
	return line
}

// tells reports whether a line says what went wrong.
func tells(line string) bool {
	lower := strings.ToLower(line)
	for _, word := range []string{"error", "fail", "traceback", "exception", "not found", "no such", "denied", "timed out", "timeout", "cannot", "can't", "could not", "couldn't", "unable",
		"invalid", "assert", "segfault", "segmentation", "panic", "oops", "bug:", "call trace", "killed", "refused", "unreachable", "missing", "mismatch", "fatal", "critical", "not supported", "aborted", "expected"} {
		if strings.Contains(lower, word) {
			return true
		}
	}
	return false
}

// Signature is alike for logs that are alike: it is made of the lines that say what went wrong, without what differs from run to run, each once and in
// their order; of the last lines where none does. Empty for a log without text.
func Signature(log string) string {
	w := NewLogWatch("")
	w.Write([]byte(log))
	return w.Signature()
}

// Excerpt is what matters in a log, at most 4 KiB of it: its beginning and end, and the lines around those that say what went wrong.
func Excerpt(log string) string {
	w := NewLogWatch("")
	w.Write([]byte(log))
	return w.Excerpt()
}

func hashLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	h := sha256.New()
	for _, line := range lines {
		h.Write([]byte(line))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
