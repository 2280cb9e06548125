package results

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// xmlScanner reads the XML that JUnit reports are made of without holding their text. It knows no document type definitions, so
// that there is nothing to expand, and forgives what XML 1.0 forbids and test tools write all the same: control characters
// (Checkbox prints a job's vertical tabs as they are) and bytes that are not UTF-8.
type xmlScanner struct {
	*scanner
	maxText int
	open    []string
}

type attribute struct{ name, value string }

// An xmlHandler is told what a document holds. Text comes in chunks.
type xmlHandler interface {
	start(name string, attributes []attribute) error
	text(chunk []byte) error
	end(name string) error
}

func (x *xmlScanner) bad(format string, args ...any) error {
	if x.readErr != nil && x.readErr != io.EOF { // what looks wrong may only have been cut
		return x.readErr
	}
	if x.pos == x.end && x.readErr != nil {
		return x.place(&Error{Kind: BadXML, Detail: "the document ends too early", Err: io.ErrUnexpectedEOF})
	}
	return x.place(&Error{Kind: BadXML, Detail: fmt.Sprintf(format, args...)})
}

// skip goes n bytes on, which are in the buffer.
func (x *xmlScanner) skip(n int) {
	chunk := x.buf[x.pos : x.pos+n]
	if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
		x.line += bytes.Count(chunk, []byte{'\n'})
		x.lineBase = x.offset() + int64(i) + 1
	}
	x.pos += n
}

func (x *xmlScanner) has(prefix string) bool {
	return x.more(len(prefix)) && string(x.buf[x.pos:x.pos+len(prefix)]) == prefix
}

// run reads the whole document.
func (x *xmlScanner) run(h xmlHandler) error {
	rooted := false
	for {
		if !x.more(1) {
			if x.readErr != io.EOF || len(x.open) > 0 || !rooted {
				return x.bad("")
			}
			return nil
		}
		switch {
		case x.buf[x.pos] != '<':
			if len(x.open) == 0 {
				if c := x.buf[x.pos]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
					if rooted {
						return x.place(&Error{Kind: TrailingData, Detail: "something follows the end of the document"})
					}
					return x.bad("expected an element")
				}
				x.skip(1)
				continue
			}
			if err := x.chars(h.text); err != nil {
				return err
			}
		case x.has("<!--"):
			x.skip(4)
			if err := x.until("-->", nil); err != nil {
				return err
			}
		case x.has("<![CDATA["):
			if len(x.open) == 0 {
				return x.bad("text outside of the document's element")
			}
			x.skip(9)
			if err := x.until("]]>", h.text); err != nil {
				return err
			}
		case x.has("<?"):
			x.skip(2)
			if err := x.until("?>", nil); err != nil {
				return err
			}
		case x.has("<!"):
			return x.bad("a document type definition, which no JUnit report needs")
		case x.has("</"):
			x.skip(2)
			name, err := x.name()
			if err != nil {
				return err
			}
			if len(x.open) == 0 || x.open[len(x.open)-1] != name {
				return x.bad("</%s> ends an element that is not open", name)
			}
			x.space()
			if !x.has(">") {
				return x.bad("expected >")
			}
			x.skip(1)
			x.open = x.open[:len(x.open)-1]
			if err := h.end(local(name)); err != nil {
				return err
			}
		default:
			if rooted && len(x.open) == 0 {
				return x.place(&Error{Kind: TrailingData, Detail: "something follows the end of the document"})
			}
			rooted = true
			if err := x.element(h); err != nil {
				return err
			}
		}
	}
}

func local(name string) string {
	_, after, found := strings.Cut(name, ":")
	if found {
		return after
	}
	return name
}

func (x *xmlScanner) element(h xmlHandler) error {
	x.skip(1)
	name, err := x.name()
	if err != nil {
		return err
	}
	var attributes []attribute
	held := 0 // bytes of them
	for {
		x.space()
		switch {
		case x.has("/>"):
			x.skip(2)
			if err := h.start(local(name), attributes); err != nil {
				return err
			}
			return h.end(local(name))
		case x.has(">"):
			x.skip(1)
			if x.open = append(x.open, name); len(x.open) > x.maxDepth {
				return x.place(limitError("depth", int64(x.maxDepth)))
			}
			return h.start(local(name), attributes)
		}
		if len(attributes) == maxAttributes {
			return x.bad("an element with more than %d attributes", maxAttributes)
		}
		a, err := x.attribute(x.maxText - held)
		if err != nil {
			return err
		}
		held += len(a.name) + len(a.value)
		for _, b := range attributes {
			if a.name == b.name {
				return x.bad("attribute %s is there twice", a.name)
			}
		}
		attributes = append(attributes, a)
	}
}

const maxAttributes = 64

// attribute reads one whose value has at most max bytes.
func (x *xmlScanner) attribute(max int) (attribute, error) {
	name, err := x.name()
	if err != nil {
		return attribute{}, err
	}
	x.space()
	if !x.has("=") {
		return attribute{}, x.bad("attribute %s without a value", name)
	}
	x.skip(1)
	x.space()
	if !x.more(1) || x.buf[x.pos] != '"' && x.buf[x.pos] != '\'' {
		return attribute{}, x.bad("attribute %s without quotes", name)
	}
	q := x.buf[x.pos]
	x.skip(1)
	var b []byte
	start, line, lineBase := x.offset(), x.line, x.lineBase
	keep := func(chunk []byte) error {
		if len(b)+len(chunk) > max {
			return placeAt(limitError("string", int64(x.maxText)), start, line, lineBase)
		}
		b = append(b, chunk...)
		return nil
	}
	for {
		if !x.more(1) {
			return attribute{}, x.bad("")
		}
		switch c := x.buf[x.pos]; c {
		case q:
			x.skip(1)
			return attribute{local(name), string(b)}, nil
		case '<':
			return attribute{}, x.bad("< in the value of attribute %s", name)
		case '&':
			err = x.reference(keep)
		default:
			err = x.span(keep, func(c byte) bool { return c == q || c == '<' || c == '&' })
		}
		if err != nil {
			return attribute{}, err
		}
	}
}

func (x *xmlScanner) chars(emit func([]byte) error) error {
	for x.more(1) {
		var err error
		switch x.buf[x.pos] {
		case '<':
			return nil
		case '&':
			err = x.reference(emit)
		default:
			err = x.span(emit, func(c byte) bool { return c == '<' || c == '&' })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// span emits the buffered bytes up to one that stops it, at least one, as valid UTF-8.
func (x *xmlScanner) span(emit func([]byte) error, stops func(byte) bool) error {
	window := x.buf[x.pos:x.end]
	n := 0
	for n < len(window) && !stops(window[n]) {
		if window[n] >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(window[n:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			n += size
			continue
		}
		n++
	}
	if n > 0 {
		err := emit(window[:n])
		x.skip(n)
		return err
	}
	if x.more(utf8.UTFMax); utf8.FullRune(x.buf[x.pos:x.end]) {
		if r, size := utf8.DecodeRune(x.buf[x.pos:x.end]); r != utf8.RuneError || size > 1 {
			return nil // it goes on with what has been read now
		}
	}
	x.skip(1)
	return emit(replacement)
}

// until reads to end and past it; what comes before goes to emit, unless that is nil.
func (x *xmlScanner) until(end string, emit func([]byte) error) error {
	if emit == nil {
		emit = func([]byte) error { return nil }
	}
	for {
		if x.has(end) {
			x.skip(len(end))
			return nil
		}
		if !x.more(1) {
			return x.bad("")
		}
		if x.buf[x.pos] == end[0] {
			err := emit(x.buf[x.pos : x.pos+1])
			x.skip(1)
			if err != nil {
				return err
			}
			continue
		}
		if err := x.span(emit, func(c byte) bool { return c == end[0] }); err != nil {
			return err
		}
	}
}

var entities = map[string]string{"amp": "&", "lt": "<", "gt": ">", "quot": `"`, "apos": "'"}

func (x *xmlScanner) reference(emit func([]byte) error) error {
	const longest = 12
	x.more(longest)
	window := x.buf[x.pos:min(x.end, x.pos+longest)]
	semicolon := bytes.IndexByte(window, ';')
	if semicolon < 0 {
		return x.bad("& without a name and ;")
	}
	name := string(window[1:semicolon])
	text, ok := entities[name]
	if !ok {
		digits, base := strings.TrimPrefix(name, "#"), 10
		if rest, hex := strings.CutPrefix(digits, "x"); hex {
			digits, base = rest, 16
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if !strings.HasPrefix(name, "#") || err != nil {
			return x.bad("unknown entity &%s;", name)
		}
		text = string(rune(n)) // U+FFFD for what is no character
		if n > utf8.MaxRune {
			text = "\uFFFD"
		}
	}
	x.skip(semicolon + 1)
	return emit([]byte(text))
}

func (x *xmlScanner) space() {
	for x.more(1) {
		switch x.buf[x.pos] {
		case ' ', '\t', '\r', '\n':
			x.skip(1)
		default:
			return
		}
	}
}

const maxName = 256

func (x *xmlScanner) name() (string, error) {
	n := 0
	for x.more(n+1) && n <= maxName {
		c := x.buf[x.pos+n]
		if c <= ' ' || strings.IndexByte(`/>=<"'&!?`, c) >= 0 {
			break
		}
		n++
	}
	if n == 0 || n > maxName || !utf8.Valid(x.buf[x.pos:x.pos+n]) {
		return "", x.bad("expected a name")
	}
	name := string(x.buf[x.pos : x.pos+n])
	x.skip(n)
	return name, nil
}
