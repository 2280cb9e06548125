package cli

import (
	"strings"
	"unicode/utf8"
)

// The colours of `juju status --color`, as seen from Juju 4.0.15; those of states that the transcripts do not show follow
// Juju's rule of good, busy and bad states.
const (
	plainText  = ""
	headerText = "1;39"
	goodText   = "32"
	busyText   = "33"
	badText    = "31"
	placeText  = "36"
	noteText   = "37"
)

var stateColour = map[string]string{
	"active": goodText, "idle": goodText, "started": goodText, "executing": goodText, "attaching": goodText, "attached": goodText,
	"allocating": busyText, "lost": busyText, "maintenance": busyText, "pending": busyText, "stopped": busyText,
	"unknown": busyText, "detaching": busyText, "detached": busyText, "waiting": busyText,
	"blocked": badText, "down": badText, "error": badText, "failed": badText, "terminated": badText,
}

// A cell is a text and the colour it has when colours are on.
type cell struct{ text, colour string }

func text(s string) cell  { return cell{text: s} }
func state(s string) cell { return cell{text: s, colour: stateColour[s]} }
func place(s string) cell { return cell{text: s, colour: placeText} }
func note(s string) cell  { return cell{text: s, colour: noteText} }
func header(titles ...string) []cell {
	row := make([]cell, 0, len(titles))
	for _, t := range titles {
		row = append(row, cell{text: t, colour: headerText})
	}
	return row
}

func plain(texts ...string) []cell {
	row := make([]cell, 0, len(texts))
	for _, t := range texts {
		row = append(row, text(t))
	}
	return row
}

// A table is columns with two spaces between them. The last cell of a row is not padded; a column in right is aligned to the
// right. A row may be shorter than the others.
type table struct {
	rows  [][]cell
	right map[int]bool
	// padLast pads the last column too (`juju secrets` and `juju storage` end their rows in spaces).
	padLast bool
}

func (t *table) add(row ...cell) { t.rows = append(t.rows, row) }

func (t *table) render(colour bool) string {
	var widths []int
	for _, row := range t.rows {
		last := len(row) - 1
		if t.padLast {
			last = len(row)
		}
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			// A column that is the last one of a row takes no part in the width, but where it is aligned to the right.
			if n := utf8.RuneCountInString(c.text); n > widths[i] && (i < last || t.right[i]) {
				widths[i] = n
			}
		}
	}
	var out strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			pad := 0
			if i < len(row)-1 || t.padLast {
				if !t.right[i] {
					pad = widths[i] - utf8.RuneCountInString(c.text)
				}
				pad += 2
			}
			if i+1 < len(row) && t.right[i+1] {
				pad += widths[i+1] - utf8.RuneCountInString(row[i+1].text)
			}
			if i == 0 && t.right[0] {
				out.WriteString(strings.Repeat(" ", widths[0]-utf8.RuneCountInString(c.text)))
			}
			cellText := c.text + strings.Repeat(" ", pad)
			if colour && c.colour != "" && c.text != "" {
				out.WriteString("\x1b[" + c.colour + "m" + cellText + "\x1b[0m")
			} else {
				out.WriteString(cellText)
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}
