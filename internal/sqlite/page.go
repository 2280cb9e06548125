package sqlite

import (
	"encoding/base64"
	"fmt"
	"strings"

	"certlab/internal/cert"
)

// MaxLimit bounds how many rows a page has.
const MaxLimit = 1000

// A Page says which part of a list is wanted. Pages are stable: a row that is added while somebody pages through a list is never
// the reason that another is shown twice or left out.
type Page struct {
	Limit  int    // rows, 1 to MaxLimit
	Cursor string // from the page before; empty: the first
}

// cursor encodes a position in a list.
func cursor(kind string, position ...int64) string {
	text := kind
	for _, p := range position {
		text += fmt.Sprintf(".%d", p)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parse decodes the page's cursor into positions, and reports whether there is one.
func (p Page) parse(kind string, positions ...*int64) (bool, error) {
	if p.Limit < 1 || p.Limit > MaxLimit {
		return false, cert.Errorf(cert.Invalid, "cannot list %d rows: the limit must be between 1 and %d", p.Limit, MaxLimit)
	}
	if p.Cursor == "" {
		return false, nil
	}
	bad := cert.Errorf(cert.Invalid, "cannot continue the list: the cursor is not one that this list gave")
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return false, bad
	}
	fields := strings.Split(string(text), ".")
	if len(fields) != len(positions)+1 || fields[0] != kind {
		return false, bad
	}
	for n, to := range positions {
		if _, err := fmt.Sscanf(fields[n+1], "%d", to); err != nil {
			return false, bad
		}
	}
	return true, nil
}

// where collects conditions.
type where struct {
	text []string
	args []any
}

func (w *where) add(condition string, args ...any) {
	w.text = append(w.text, condition)
	w.args = append(w.args, args...)
}

// equal adds a condition unless value is empty.
func (w *where) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

// A term is a column and the value that is asked for; empty: any.
type term struct{ column, value string }

// narrowest adds a condition for each term that has a value. The first of them leads to the rows, by an index on its column: the terms stand in
// the order of how few rows they leave, which SQLite does not know. The unary plus hides the other columns from its choice.
func (w *where) narrowest(terms ...term) {
	plus := ""
	for _, t := range terms {
		if t.value != "" {
			w.add(plus+t.column+" = ?", t.value)
			plus = "+"
		}
	}
}

func (w *where) String() string {
	if len(w.text) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.text, " AND ")
}

// prefix adds a condition that column begins with value, in a form that an index on column serves.
func (w *where) prefix(column, value string) {
	if value != "" {
		w.add(column+" >= ? AND "+column+" < ?", value, value+"\U0010ffff")
	}
}
