package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// formatFlag chooses how a command's answer is written.
type formatFlag struct {
	Format string `help:"How to show it: ${enum}." enum:"text,json" default:"text"`
}

func (f formatFlag) json() bool { return f.Format == "json" }

// write writes v as JSON, unless err is set.
func (f formatFlag) write(std streams, v any, err error) error {
	if err != nil {
		return err
	}
	enc := json.NewEncoder(std.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// limitFlag bounds a list.
type limitFlag struct {
	Limit int `help:"How many at most; 0 for all." default:"100" placeholder:"N"`
}

// table writes rows under a header, in columns. What machines say cannot disturb the terminal.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if header != nil {
		fmt.Fprintln(t, strings.Join(header, "\t"))
	}
	for _, row := range rows {
		for n, cell := range row {
			if cell = clean(cell); cell == "" {
				cell = "-"
			}
			row[n] = cell
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// clean replaces what is not to be printed: control characters, and those that change the direction of text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r) && r != ' ':
			return '\uFFFD'
		}
		return r
	}, s)
}

// timeText is the same for everybody who looks at one lab, wherever they are.
func timeText(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// countsText lists numbers by name.
func countsText(counts map[string]int) string {
	var parts []string
	for name, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, name))
	}
	sort.Slice(parts, func(i, j int) bool {
		return parts[i][strings.IndexByte(parts[i], ' '):] < parts[j][strings.IndexByte(parts[j], ' '):]
	})
	return strings.Join(parts, ", ")
}

// secondsText is a length of time for people.
func secondsText(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
