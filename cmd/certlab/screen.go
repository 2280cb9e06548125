package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"certlab/internal/cert"
	"certlab/internal/client"
)

// Columns of a screen where nobody says how many it has, and at least.
const (
	screenWidth = 100
	leastWidth  = 60
)

// terminal returns how wide and high the terminal is that w writes to, and whether it is one.
func terminal(w io.Writer) (width, height int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile {
		return screenWidth, 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return screenWidth, 0, false
	}
	if size.Col == 0 {
		return screenWidth, int(size.Row), true
	}
	return max(int(size.Col), leastWidth), int(size.Row), true
}

// cut shortens a text to so many columns.
func cut(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	runes := []rune(text)
	return string(runes[:max(columns-1, 0)]) + "…"
}

// plain is a text of several lines without what would disturb a terminal.
func plain(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for n, line := range lines {
		lines[n] = clean(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n")
}

// A neutral writer passes on text without what would disturb a terminal: line ends and tabs stay, other control characters do not.
type neutral struct {
	w    io.Writer
	rest []byte // of a character that is not whole yet
}

func (n *neutral) Write(p []byte) (int, error) {
	text := append(n.rest, p...)
	whole := len(text)
	for cutOff := 1; cutOff < utf8.UTFMax && cutOff <= len(text); cutOff++ {
		if at := len(text) - cutOff; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				whole = at
			}
			break
		}
	}
	n.rest = bytes.Clone(text[whole:])
	if _, err := io.WriteString(n.w, neutralText(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func neutralText(text string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\t':
			return r
		case '\r':
			return -1 // consoles end their lines with it
		}
		return []rune(clean(string(r)))[0]
	}, text)
}

// flushed writes what is left of a character that was cut off.
func (n *neutral) flushed() error {
	if len(n.rest) == 0 {
		return nil
	}
	_, err := io.WriteString(n.w, "\uFFFD")
	return err
}

// A screen shows a text again and again: on a terminal in the same place, elsewhere only its one line of progress, when that changes.
type screen struct {
	std   streams
	tty   bool
	lines int // that the last text took, less the height that scrolled away
	said  string
}

func newScreen(std streams) *screen {
	_, _, tty := terminal(std.out)
	return &screen{std: std, tty: tty}
}

// show puts text in place of the text before, or says line.
func (s *screen) show(text, line string) {
	if !s.tty {
		if line != s.said {
			fmt.Fprintln(s.std.err, line)
		}
		s.said = line
		return
	}
	width, height, _ := terminal(s.std.out)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if height > 2 && len(lines) > height-1 {
		lines = append(lines[:height-2], "…")
	}
	var out strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", s.lines)
	}
	for _, l := range lines {
		out.WriteString("\r" + cut(l, width) + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	s.lines = len(lines)
	io.WriteString(s.std.out, out.String())
}

// end makes room for what is printed for good.
func (s *screen) end() {
	if s.tty && s.lines > 0 {
		fmt.Fprintf(s.std.out, "\x1b[%dA\r\x1b[J", s.lines)
		s.lines = 0
	}
}

// watch asks again and again until over says that there is nothing more to wait for, or the patience is used up (0: none is), and calls seen with
// each answer. A controller that is away is waited for: it may be starting again, and what it does goes on.
func watch[T any](ctx context.Context, std streams, every, patience time.Duration, ask func() (T, error), over func(T) bool, seen func(T)) (out T, err error) {
	var end <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		end = timer.C
	}
	first, away := true, false
	for {
		next, err := ask()
		switch {
		case err == nil:
			if away {
				fmt.Fprintln(std.err, "certlab: the controller is there again")
			}
			out, first, away = next, false, false
			seen(out)
			if over(out) {
				return out, nil
			}
		case first || ctx.Err() != nil || !passes(err):
			return out, err
		case !away:
			away = true
			fmt.Fprintf(std.err, "certlab: %s; trying again\n", plain(err.Error()))
		}
		pause := time.NewTimer(every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return out, ctx.Err()
		case <-end:
			pause.Stop()
			return out, nil
		case <-pause.C:
		}
	}
}

// passes reports whether an error may be over in a while.
func passes(err error) bool {
	var answer *client.Error
	var trust *client.TrustError
	switch {
	case errors.As(err, &trust):
		return false
	case errors.As(err, &answer):
		return answer.Code == cert.Unavailable || answer.Code == cert.TooMany || answer.Status >= 500
	}
	return true
}

// bar draws how much of something is done.
func bar(done, of, width int) string {
	if of <= 0 {
		return ""
	}
	full := min(max(done, 0), of) * width / of
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

// watchFlags say whether to follow something.
type watchFlags struct {
	Watch    bool          `help:"Follow it: on a terminal in place, elsewhere one line per change."`
	Interval time.Duration `help:"How often to look (${default})." default:"3s" placeholder:"TIME"`
	Patience time.Duration `help:"Stop following after this time; it goes on. Without it, it is followed to its end." placeholder:"TIME"`
}

// shellWord quotes a word for a shell, if it has to be.
func shellWord(word string) string {
	word = clean(word)
	if word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.,:=/@+%", r))
	}) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
