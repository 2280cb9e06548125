package report

import (
	"fmt"
	"strings"
)

// The marks between which a document quotes the figures.
const (
	TableMark   = "bench"   // all rows
	ExcerptMark = "excerpt" // one row per measure
)

// Quote replaces what is between a document's marks: <!-- bench:begin --> and <!-- bench:end -->, or excerpt instead of bench. It fails if
// there is no such pair.
func Quote(document, mark, text string) (string, error) {
	begin, end := "<!-- "+mark+":begin -->\n", "<!-- "+mark+":end -->"
	before, rest, found := strings.Cut(document, begin)
	if !found {
		return "", fmt.Errorf("cannot quote the figures: the document has no line %s", strings.TrimSpace(begin))
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("cannot quote the figures: the document has no line %s", end)
	}
	return before + begin + strings.TrimRight(text, "\n") + "\n" + end + after, nil
}

// Quotes reports whether a document has a pair of marks.
func Quotes(document, mark string) bool {
	return strings.Contains(document, "<!-- "+mark+":begin -->")
}
