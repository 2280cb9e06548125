package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Read reads the rows of a file in the order in which their measures were first reported. Of a measure and case that was reported several
// times the last row counts. No file is no rows.
func Read(path string) ([]Row, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the figures: %w", err)
	}
	var rows []Row
	at := map[string]int{}
	for line := range bytes.Lines(text) {
		var r Row
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("cannot read the figures in %s: %w", path, err)
		}
		if n, again := at[r.Name()]; again {
			rows[n] = r
			continue
		}
		at[r.Name()] = len(rows)
		rows = append(rows, r)
	}
	return rows, nil
}

// Known are the goals that are known not to be met: by measure, why.
type Known map[string]string

// knownLine is an item of the list of goals that are not met.
var knownLine = regexp.MustCompile(`^- \*\*(.+?)\*\*: (.+)$`)

// ReadKnown finds the goals that are not met in the text of docs/reference/measurements.md: the list below the heading "Goals that are not
// met", each item "- **measure**: why".
func ReadKnown(document string) Known {
	known := Known{}
	_, section, _ := strings.Cut(document, "\n## Goals that are not met\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if m := knownLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			known[m[1]] = m[2]
		}
	}
	return known
}

// Unmet returns the rows whose goal is neither met nor known not to be.
func Unmet(rows []Row, known Known) []Row {
	var out []Row
	for _, r := range rows {
		if !r.Met() && known[r.Measure] == "" {
			out = append(out, r)
		}
	}
	return out
}

// Table is all rows as Markdown.
func Table(rows []Row, known Known) string {
	var out strings.Builder
	out.WriteString("| measure | value | against | ratio | goal | met |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		writeRow(&out, r, r.Name(), known)
	}
	return out.String()
}

// Excerpt is one row per measure: of several cases the one that is furthest from meeting its goal, or the largest.
func Excerpt(rows []Row, known Known) string {
	var out strings.Builder
	out.WriteString("| measure | value | against | ratio | goal | met |\n| --- | --- | --- | --- | --- | --- |\n")
	done := map[string]bool{}
	for _, r := range rows {
		if done[r.Measure] {
			continue
		}
		done[r.Measure] = true
		worst, cases := r, 0
		for _, other := range rows {
			if other.Measure != r.Measure {
				continue
			}
			cases++
			if other.strain() > worst.strain() {
				worst = other
			}
		}
		name := worst.Name()
		if cases > 1 {
			which := "worst"
			if worst.Goal.Kind == "" {
				which = "largest"
			}
			name = fmt.Sprintf("%s, %s of %d: %s", worst.Measure, which, cases, worst.Case)
		}
		writeRow(&out, worst, name, known)
	}
	return out.String()
}

// strain is how much of its goal a row uses up: more than 1 when it is not met.
func (r Row) strain() float64 {
	switch r.Goal.Kind {
	case atLeast:
		return r.Goal.Limit / r.Value
	case ratioAtMost:
		return r.Ratio() / r.Goal.Limit
	case atMost:
		return r.Value / r.Goal.Limit
	}
	return r.Value
}

func writeRow(out *strings.Builder, r Row, name string, known Known) {
	value, base, ratio, met := quantity(r.Value, r.Unit), escape(r.Against), "", ""
	if r.Also != "" {
		value += " (" + r.Also + ")"
	}
	if r.Baseline != 0 {
		base = quantity(r.Baseline, r.Unit) + ": " + base
		ratio = number(r.Ratio())
	}
	if r.Goal.Kind != "" {
		switch {
		case r.Met():
			met = "yes"
		case known[r.Measure] != "":
			met = "**no**, known"
		default:
			met = "**no**"
		}
	}
	fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s |\n", name, value, base, ratio, r.goal(), met)
}

func escape(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func (r Row) goal() string {
	switch r.Goal.Kind {
	case "":
		return ""
	case ratioAtMost:
		return "≤ " + number(r.Goal.Limit) + " ×"
	case atLeast:
		return "≥ " + quantity(r.Goal.Limit, r.Unit)
	}
	return "≤ " + quantity(r.Goal.Limit, r.Unit)
}

// String says the goal in words.
func (g Goal) String() string {
	if g.Kind == "" {
		return "none"
	}
	return g.Kind + " " + number(g.Limit)
}

func quantity(v float64, unit string) string { return number(v) + " " + unit }

// number writes a figure with three digits that mean something.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// group puts a comma between thousands.
func group(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for n := len(digits) - 3; n > 0; n -= 3 {
		digits = digits[:n] + "," + digits[n:]
	}
	return sign + digits
}
