package results

import (
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON without holding it: strings and whole values go chunk by chunk to a function. It checks all that it passes
// over. What it hands out is valid UTF-8; bytes and escapes that are not become U+FFFD, and Python's NaN and Infinity become null.
type scanner struct {
	r        io.Reader
	buf      []byte
	pos, end int
	base     int64 // offset of buf[0] in the document
	line     int
	lineBase int64 // offset of the line's first byte
	depth    int
	maxDepth int
	readErr  error // io.EOF or worse, after buf[:end]
	scratch  [utf8.UTFMax]byte
	idle     int // reads in a row that gave nothing
}

func newScanner(r io.Reader, maxDepth int) *scanner {
	return &scanner{r: r, buf: make([]byte, 64<<10), line: 1, maxDepth: maxDepth}
}

// maxIdle bounds the reads in a row that give neither bytes nor an error.
const maxIdle = 100

// more makes at least n unread bytes available if the document has them.
func (s *scanner) more(n int) bool {
	for s.end-s.pos < n {
		if s.readErr != nil {
			return false
		}
		if s.pos > 0 {
			copy(s.buf, s.buf[s.pos:s.end])
			s.base += int64(s.pos)
			s.end -= s.pos
			s.pos = 0
		}
		k, err := s.r.Read(s.buf[s.end:])
		s.end += k
		s.readErr = err
		if k > 0 {
			s.idle = 0
		} else if s.idle++; s.idle == maxIdle && err == nil {
			s.readErr = io.ErrNoProgress
		}
	}
	return true
}

func (s *scanner) offset() int64 { return s.base + int64(s.pos) }

func (s *scanner) place(e *Error) *Error { return placeAt(e, s.offset(), s.line, s.lineBase) }

func placeAt(e *Error, offset int64, line int, lineBase int64) *Error {
	e.Offset, e.Line, e.Column = offset, line, int(offset-lineBase)+1
	return e
}

// bad is the error for what is at the current place.
func (s *scanner) bad(format string, args ...any) error {
	if s.end == s.pos && s.readErr != nil {
		if s.readErr != io.EOF {
			return s.readErr
		}
		return s.place(&Error{Kind: BadJSON, Detail: "the document ends too early", Err: io.ErrUnexpectedEOF})
	}
	return s.place(&Error{Kind: BadJSON, Detail: fmt.Sprintf(format, args...)})
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for {
		for s.pos < s.end {
			switch c := s.buf[s.pos]; c {
			case '\n':
				s.line++
				s.lineBase = s.offset() + 1
				s.pos++
			case ' ', '\t', '\r':
				s.pos++
			default:
				return c
			}
		}
		if !s.more(1) {
			return 0
		}
	}
}

func (s *scanner) expect(c byte) error {
	if got := s.peek(); got != c {
		return s.bad("expected %q, found %q", c, got)
	}
	s.pos++
	return nil
}

// finish checks that nothing but white space is left.
func (s *scanner) finish() error {
	if s.peek() != 0 || s.pos < s.end {
		return s.place(&Error{Kind: TrailingData, Detail: "something follows the end of the document"})
	}
	if s.readErr != nil && s.readErr != io.EOF {
		return s.readErr
	}
	return nil
}

func (s *scanner) enter() error {
	s.depth++
	if s.depth > s.maxDepth {
		return s.place(limitError("depth", int64(s.maxDepth)))
	}
	return nil
}

// object calls field for each key; field must consume the value. A key is at most maxKey bytes.
func (s *scanner) object(field func(key string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.pos++
		s.depth--
		return nil
	}
	for {
		key, err := s.text(maxKey)
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			s.depth--
			return nil
		default:
			return s.bad("expected ',' or '}' in an object, found %q", s.peek())
		}
	}
}

// maxKey bounds the bytes of a key.
const maxKey = 64 << 10

// array calls item for each element; item must consume it.
func (s *scanner) array(item func(i int) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.pos++
		s.depth--
		return nil
	}
	for i := 0; ; i++ {
		if err := item(i); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			s.depth--
			return nil
		default:
			return s.bad("expected ',' or ']' in a list, found %q", s.peek())
		}
	}
}

// text reads a string of at most max bytes.
func (s *scanner) text(max int) (string, error) {
	var b []byte
	s.peek()
	start, line, lineBase := s.offset(), s.line, s.lineBase
	err := s.str(false, func(chunk []byte) error {
		if len(b)+len(chunk) > max {
			return placeAt(limitError("string", int64(max)), start, line, lineBase)
		}
		b = append(b, chunk...)
		return nil
	})
	return string(b), err
}

// plain marks the bytes that stand for themselves within a string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

var replacement = []byte("\uFFFD")

// str reads a string and hands its text to emit, decoded, or as it stands between the quotes if raw.
func (s *scanner) str(raw bool, emit func([]byte) error) error {
	if err := s.expect('"'); err != nil {
		return err
	}
	for {
		if s.pos == s.end && !s.more(1) {
			return s.bad("")
		}
		window := s.buf[s.pos:s.end]
		i := 0
		for i < len(window) {
			c := window[i]
			if plain[c] {
				i++
				continue
			}
			if c < utf8.RuneSelf {
				break
			}
			r, n := utf8.DecodeRune(window[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		if i > 0 {
			if err := emit(window[:i]); err != nil {
				return err
			}
			s.pos += i
			continue
		}
		switch c := window[0]; {
		case c == '"':
			s.pos++
			return nil
		case c == '\\':
			if err := s.escape(raw, emit); err != nil {
				return err
			}
		case c < 0x20:
			return s.bad("control character %#02x in a string", c)
		default: // not UTF-8, or its end has not been read yet
			if s.more(utf8.UTFMax); utf8.FullRune(s.buf[s.pos:s.end]) {
				if r, n := utf8.DecodeRune(s.buf[s.pos:s.end]); r != utf8.RuneError || n > 1 {
					continue
				}
			}
			if err := emit(replacement); err != nil {
				return err
			}
			s.pos++
		}
	}
}

// escapes maps the letter of a short escape to its byte.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (s *scanner) escape(raw bool, emit func([]byte) error) error {
	if !s.more(2) {
		s.pos = s.end
		return s.bad("")
	}
	letter := s.buf[s.pos+1]
	if b := escapes[letter]; b != 0 {
		out := s.buf[s.pos : s.pos+2]
		if !raw {
			s.scratch[0] = b
			out = s.scratch[:1]
		}
		s.pos += 2
		return emit(out)
	}
	if letter != 'u' {
		return s.bad(`invalid escape \%c in a string`, letter)
	}
	if !s.more(6) {
		s.pos = s.end
		return s.bad("")
	}
	r, ok := s.hex(0)
	if !ok {
		return s.bad(`invalid escape \u in a string`)
	}
	if !utf16.IsSurrogate(r) {
		out := s.buf[s.pos : s.pos+6]
		if !raw {
			out = utf8.AppendRune(s.scratch[:0], r)
		}
		s.pos += 6
		return emit(out)
	}
	low, ok := s.hex(6)
	if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
		out := s.buf[s.pos : s.pos+12]
		if !raw {
			out = utf8.AppendRune(s.scratch[:0], pair)
		}
		s.pos += 12
		return emit(out)
	}
	s.pos += 6 // half of a pair
	return emit(replacement)
}

// hex reads the \uXXXX that is ahead bytes after the current place.
func (s *scanner) hex(ahead int) (rune, bool) {
	if !s.more(ahead + 6) {
		return 0, false
	}
	b := s.buf[s.pos+ahead : s.pos+ahead+6]
	if b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// maxNumber bounds the bytes of a number; Checkbox prints 64-bit ones.
const maxNumber = 512

// scalar reads a number, true, false or null and returns it as JSON.
func (s *scanner) scalar() (string, error) {
	c := s.peek()
	if c == 0 && s.pos == s.end {
		return "", s.bad("")
	}
	n := 0
	for s.more(n+1) && n <= maxNumber {
		c := s.buf[s.pos+n]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.' {
			n++
			continue
		}
		break
	}
	if s.pos+n == s.end && s.readErr != nil {
		if s.readErr != io.EOF || s.depth > 0 { // a word that was cut
			s.pos = s.end
			return "", s.bad("")
		}
	}
	if n > maxNumber {
		return "", s.bad("a number of more than %d digits", maxNumber)
	}
	word := string(s.buf[s.pos : s.pos+n])
	switch word {
	case "true", "false", "null":
	case "NaN", "Infinity", "-Infinity":
		word = "null"
	default:
		if !validNumber(word) {
			return "", s.bad("expected a value, found %q", c)
		}
	}
	s.pos += n
	return word, nil
}

func validNumber(s string) bool {
	digits := func() bool {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	if len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		return false
	}
	if !digits() {
		return false
	}
	if len(s) > 0 && s[0] == '.' {
		if s = s[1:]; !digits() {
			return false
		}
	}
	if len(s) > 0 && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// value reads any value and hands it to emit as JSON without white space.
func (s *scanner) value(emit func([]byte) error) error {
	comma := func(i int) error {
		if i > 0 {
			return emit([]byte{','})
		}
		return nil
	}
	switch s.peek() {
	case '{':
		if err := emit([]byte{'{'}); err != nil {
			return err
		}
		i := 0
		err := s.object(func(key string) error {
			if err := comma(i); err != nil {
				return err
			}
			i++
			if err := emit(append(quote(key), ':')); err != nil {
				return err
			}
			return s.value(emit)
		})
		if err != nil {
			return err
		}
		return emit([]byte{'}'})
	case '[':
		if err := emit([]byte{'['}); err != nil {
			return err
		}
		err := s.array(func(i int) error {
			if err := comma(i); err != nil {
				return err
			}
			return s.value(emit)
		})
		if err != nil {
			return err
		}
		return emit([]byte{']'})
	case '"':
		if err := emit([]byte{'"'}); err != nil {
			return err
		}
		if err := s.str(true, emit); err != nil {
			return err
		}
		return emit([]byte{'"'})
	default:
		word, err := s.scalar()
		if err != nil {
			return err
		}
		return emit([]byte(word))
	}
}

// quote returns text as a JSON string.
func quote(text string) []byte {
	b := make([]byte, 0, len(text)+2)
	b = append(b, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, `\u00`...)
			if r < 0x10 {
				b = append(b, '0')
			}
			b = strconv.AppendInt(b, int64(r), 16)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
