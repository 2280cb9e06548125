package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// A sheet is a text of rows with a label before each part.
type sheet struct {
	strings.Builder
	width int
	lines int
	last  string
}

const labelWidth = 11

// row writes a line under a label, which is not repeated. What machines say cannot disturb the terminal.
func (s *sheet) row(label, format string, args ...any) {
	shown := label
	if label == s.last {
		shown = ""
	}
	s.last = label
	text := clean(fmt.Sprintf(format, args...))
	s.WriteString(strings.TrimRight(fmt.Sprintf("%-*s", labelWidth, shown)+cut(text, s.width-labelWidth), " ") + "\n")
	s.lines++
}

// whole writes a line that is never cut, because it has a command in it.
func (s *sheet) whole(label, format string, args ...any) {
	width := s.width
	s.width = 1 << 30
	s.row(label, format, args...)
	s.width = width
}

// command writes a command, which is there to be copied.
func (s *sheet) command(label, text string) { s.whole(label, "  %s", text) }

// fold says how many more there are, and where.
func (s *sheet) fold(label string, more int, command string) {
	if more > 0 {
		s.whole(label, "… and %d more: %s", more, command)
	}
}

// wrap writes a text in two lines at most, the second set in by indent.
func (s *sheet) wrap(label, indent, format string, args ...any) {
	text := []rune(clean(fmt.Sprintf(format, args...)))
	room := s.width - labelWidth
	if len(text) <= room {
		s.row(label, "%s", string(text))
		return
	}
	end := room
	for end > room/2 && text[end] != ' ' {
		end--
	}
	if text[end] != ' ' {
		end = room
	}
	s.row(label, "%s", string(text[:end]))
	s.row(label, "%s%s", indent, strings.TrimLeft(string(text[end:]), " "))
}

func shortTime(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

func dueText(t *time.Time) string { return cmp.Or(shortTime(t), "no due date") }

func daysLeft(days float64) string {
	if days < 0 {
		return fmt.Sprintf("%.1f days OVER", -days)
	}
	return fmt.Sprintf("%.1f days left", days)
}

func holdsText(holds *bool) string {
	switch {
	case holds == nil:
		return "not known whether it holds"
	case *holds:
		return "it holds"
	}
	return "IT DOES NOT HOLD"
}
