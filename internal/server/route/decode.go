package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"certlab/internal/cert"
)

// Bounds of a JSON body.
const (
	MaxBody  = 4 << 20 // bytes
	maxDepth = 32      // objects and arrays within each other
)

// Decode reads the JSON body into v. Unknown fields and NULs in texts are errors if strict: people mistype, agents are of another
// release. A name that an object has twice is an error always: which of the two counts would be a guess.
func (r *Request) Decode(v any, strict bool) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return unreadable("its Content-Type must be application/json")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return cert.Errorf(cert.TooLarge, "cannot read the request: its body is larger than %d bytes", large.Limit)
	case err != nil:
		return unreadable("its body was cut off after %d bytes", len(text))
	case len(bytes.TrimSpace(text)) == 0:
		return unreadable("it has no body")
	case !utf8.Valid(text):
		return unreadable("its body is not UTF-8")
	}
	if err := checkJSON(text, strict); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(v); err != nil {
		return decodeError(err)
	}
	return nil
}

func unreadable(format string, args ...any) error {
	return cert.Errorf(cert.Invalid, "cannot read the request: "+format, args...)
}

// decodeError says in the words of JSON what Go says in its own.
func decodeError(err error) error {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong):
		// Embedded structs, whose names begin with a capital, are none of the caller's business.
		var path []string
		for _, name := range strings.Split(wrong.Field, ".") {
			if name != "" && (name[0] < 'A' || name[0] > 'Z') {
				path = append(path, name)
			}
		}
		what := "it"
		if len(path) > 0 {
			what = strings.Join(path, ".")
		}
		if n, isNumber := strings.CutPrefix(wrong.Value, "number "); isNumber {
			return unreadable("%s is the number %s, which is out of range or not whole (at byte %d)", what, clip(n), wrong.Offset)
		}
		return unreadable("%s is a JSON %s, it must be %s (at byte %d)", what, wrong.Value, kindName(wrong.Type), wrong.Offset)
	case errors.As(err, &syntax):
		return unreadable("its body is no JSON: %s (at byte %d)", syntax.Error(), syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return unreadable("its JSON is cut off")
	}
	return unreadable("%s", clip(strings.TrimPrefix(err.Error(), "json: ")))
}

func clip(text string) string {
	if len(text) > 200 {
		return strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return "a number"
	}
	return "another type"
}

// level is an object or an array that checkJSON is in.
type level struct {
	names map[string]bool // of an object; nil: an array
	key   string          // whose value comes; empty: a name comes
	value bool            // a value comes
}

// checkJSON checks one JSON text for what encoding/json lets pass: depth, names that are there twice and, if strict, NULs.
func checkJSON(text []byte, strict bool) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var stack []*level
	where := func() string {
		var path []string
		for _, l := range stack {
			if l.value {
				path = append(path, clip(l.key))
			}
		}
		if len(path) == 0 {
			return ""
		}
		return " in " + strings.Join(path, ".")
	}
	for done := false; !done; {
		token, err := dec.Token()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return decodeError(err)
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if s, ok := token.(string); ok && strict && strings.ContainsRune(s, 0) {
			return unreadable("a text%s has a NUL (at byte %d)", where(), dec.InputOffset())
		}
		switch delim, isDelim := token.(json.Delim); {
		case isDelim && (delim == '{' || delim == '['):
			if len(stack) == maxDepth {
				return unreadable("its JSON is nested deeper than %d levels (at byte %d)", maxDepth, dec.InputOffset())
			}
			l := &level{}
			if delim == '{' {
				l.names = make(map[string]bool)
			}
			stack = append(stack, l)
			continue
		case isDelim:
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				stack[len(stack)-1].value = false
			}
		case top != nil && top.names != nil && !top.value:
			name := fmt.Sprint(token)
			same := name
			if len(stack) == 1 {
				same = strings.ToLower(name) // encoding/json takes either for the same field
			}
			if top.names[same] {
				return unreadable("%q is there twice%s (at byte %d)", clip(name), where(), dec.InputOffset())
			}
			top.names[same], top.key, top.value = true, name, true
			continue
		case top != nil:
			top.value = false
		}
		done = len(stack) == 0
	}
	if _, err := dec.Token(); err != io.EOF {
		return unreadable("more follows its JSON (at byte %d)", dec.InputOffset())
	}
	return nil
}
