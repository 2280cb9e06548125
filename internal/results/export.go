package results

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// LogTruncated reports whether Log is only the beginning of the job's log.
func (r *Result) LogTruncated() bool { return int64(len(r.Log)) < r.LogSize }

func marshal(v any, prefix string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent(prefix, "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// csvColumns are the columns of WriteCSV. One row is one job; list is results, resources or attachments.
var csvColumns = []string{
	"list", "id", "name", "outcome", "certification_status", "category", "plugin", "template_id", "duration_seconds", "comments",
	"skip_reason",
}

// WriteCSV writes one row for each job, with a header. A cell that a spreadsheet would take for a formula begins with an
// apostrophe: job names and comments come from machines under test.
func WriteCSV(w io.Writer, s *Submission) error {
	out := csv.NewWriter(w)
	out.Write(csvColumns)
	for section, r := range s.Records() {
		out.Write([]string{
			string(section), cell(r.ID), cell(r.Name), cell(string(r.Outcome)), cell(r.CertificationStatus), cell(r.Category),
			cell(r.Plugin), cell(r.TemplateID), strconv.FormatFloat(r.Duration, 'f', -1, 64), cell(r.Comments), cell(string(r.SkipReason)),
		})
	}
	out.Flush()
	return out.Error()
}

func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// WriteJUnit writes the results as a JUnit report: one suite, a test case for each result. What is skipped, for whatever reason and
// under whatever name, is <skipped>, and so is an outcome that says nothing, so that no reader takes either for a pass. The
// report is well-formed whatever the logs hold: what XML cannot express becomes U+FFFD.
func WriteJUnit(w io.Writer, s *Submission) error {
	out := bufio.NewWriter(w)
	var failures, crashes, skipped int
	var seconds float64
	for i := range s.Results {
		r := &s.Results[i]
		seconds += r.Duration
		switch {
		case r.Outcome == Crash:
			crashes++
		case r.Outcome.Class() == Failed:
			failures++
		case r.Outcome.Class() != Passed:
			skipped++
		}
	}
	totals := fmt.Sprintf(`tests="%d" failures="%d" errors="%d" skipped="%d" time="%s"`,
		len(s.Results), failures, crashes, skipped, formatSeconds(seconds))
	name := s.Plan
	if name == "" {
		name = s.Title
	}
	fmt.Fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites %s>\n  <testsuite name=\"%s\" %s>\n", totals, escapeXML(name), totals)
	for i := range s.Results {
		writeCase(out, &s.Results[i])
	}
	out.WriteString("  </testsuite>\n</testsuites>\n")
	return out.Flush()
}

func writeCase(out *bufio.Writer, r *Result) {
	class, name := r.ID, r.ID
	if r.Plugin == "" && r.ShortID != "" && strings.HasSuffix(r.ID, "::"+r.ShortID) { // from JUnit: as it was
		class, name = strings.TrimSuffix(r.ID, "::"+r.ShortID), r.ShortID
	}
	fmt.Fprintf(out, "    <testcase classname=\"%s\" name=\"%s\" time=\"%s\"", escapeXML(class), escapeXML(name), formatSeconds(r.Duration))
	log := r.Log
	if log != "" && r.LogTruncated() {
		log += fmt.Sprintf("\n(%d more bytes)", r.LogSize-int64(len(r.Log)))
	}
	element := ""
	switch {
	case r.Outcome == Crash:
		element = "error"
	case r.Outcome.Class() == Failed:
		element = "failure"
	case r.Outcome.Class() != Passed:
		fmt.Fprintf(out, ">\n      <skipped type=\"%s\" message=\"%s\"/>\n    </testcase>\n", escapeXML(string(r.Outcome)), escapeXML(r.Comments))
		return
	default:
		out.WriteString("/>\n")
		return
	}
	fmt.Fprintf(out, ">\n      <%s type=\"%s\" message=\"%s\">%s</%s>\n    </testcase>\n",
		element, escapeXML(string(r.Outcome)), escapeXML(r.Comments), escapeXML(log), element)
}

func formatSeconds(s float64) string { return strconv.FormatFloat(s, 'f', 6, 64) }

// escapeXML escapes text for an attribute or an element. xml.EscapeText replaces what XML 1.0 does not allow by U+FFFD.
func escapeXML(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text))
	return b.String()
}

// WriteText writes the submission for a person at a terminal: what it is, the counts, then one line for each result, with the
// comments and the log's last lines of those that failed.
func WriteText(w io.Writer, s *Submission) error {
	out := bufio.NewWriter(w)
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(out, "%-10s %s\n", label, printable(value))
		}
	}
	line("Plan", s.Plan)
	line("Title", s.Title)
	line("Checkbox", s.CheckboxVersion())
	line("System", s.System.Distribution["description"])
	line("Kernel", strings.TrimSpace(s.System.Kernel+" "+s.System.Architecture))
	line("Processor", s.System.Processor["model"])
	var counts []string
	for _, outcome := range sortedKeys(s.Counts()) {
		counts = append(counts, fmt.Sprintf("%d %s", s.Counts()[outcome], outcome))
	}
	among := ""
	if n := len(s.Resources) - s.ownResources; n > 0 {
		among = fmt.Sprintf(" (%d of them resource jobs)", n)
	}
	line("Results", fmt.Sprintf("%d%s: %s", len(s.Results), among, strings.Join(counts, ", ")))
	line("Lists", fmt.Sprintf("%d resources, %d attachments, %d rejected", len(s.Resources), len(s.Attachments), len(s.Rejected)))
	for _, id := range s.BlockersFailed() {
		line("Blocker", id)
	}
	out.WriteString("\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OUTCOME\tCERTIFICATION\tSECONDS\tID")
	for i := range s.Results {
		r := &s.Results[i]
		fmt.Fprintf(table, "%s\t%s\t%.2f\t%s\n", printable(string(r.Outcome)), printable(r.CertificationStatus), r.Duration, printable(r.ID))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for i := range s.Results {
		if r := &s.Results[i]; r.Outcome.Class() == Failed && (r.Comments != "" || r.Log != "") {
			fmt.Fprintf(out, "\n%s: %s\n", printable(r.ID), printable(string(r.Outcome)))
			for _, text := range []string{r.Comments, r.Log} {
				for _, l := range lastLines(text, 20) {
					fmt.Fprintf(out, "  %s\n", printable(l))
				}
			}
			if r.Log != "" && r.LogTruncated() {
				fmt.Fprintf(out, "  (%d of %d bytes of the log)\n", len(r.Log), r.LogSize)
			}
		}
	}
	return out.Flush()
}

func lastLines(text string, n int) []string {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		l = strings.TrimRight(l, "\r")
		if j := strings.LastIndexByte(l, '\r'); j >= 0 { // what a terminal would have shown in the end
			l = l[j+1:]
		}
		if !utf8.ValidString(l) {
			l = strings.ToValidUTF8(l, "\uFFFD")
		}
		lines[i] = strings.ReplaceAll(l, "\t", "    ")
	}
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return lines
}
