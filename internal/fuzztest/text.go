package fuzztest

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// MaxError bounds the bytes of an error's text: it goes into one line of a log, a status or an answer.
const MaxError = 1 << 10

// Error fails t unless err, if there is one, has a text that can be shown to a person on one line, whatever input it is about.
func Error(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		Line(t, err.Error())
	}
}

// Line fails t unless text is one short line that neither a terminal nor a log misunderstands.
func Line(t testing.TB, text string) {
	t.Helper()
	if len(text) > MaxError {
		t.Errorf("%d bytes of text: %.200q …", len(text), text)
	}
	Clean(t, text)
}

// Clean fails t unless text is not empty, valid UTF-8 and without control characters.
func Clean(t testing.TB, text string) {
	t.Helper()
	if text == "" {
		t.Error("an empty text")
	}
	if !utf8.ValidString(text) {
		t.Errorf("not UTF-8: %.1000q", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
		t.Errorf("control characters: %.1000q", text)
	}
}

// Lines is Error for one with several lines, such as a list of all that is wrong with a file: at most n, each as Line wants it.
func Lines(t testing.TB, err error, n int) {
	t.Helper()
	if err == nil {
		return
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > n {
		t.Errorf("%d lines of text: %.200q …", len(lines), err.Error())
	}
	for _, line := range lines {
		Line(t, strings.TrimLeft(line, "\t"))
	}
}
