package maastest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// reply is what a request is answered with.
type reply struct {
	status      int
	contentType string
	body        []byte
	header      http.Header
}

const (
	textPlain = "text/plain; charset=utf-8"
	textJSON  = "application/json; charset=utf-8"
)

func text(status int, format string, args ...any) reply {
	return reply{status: status, contentType: textPlain, body: fmt.Appendf(nil, format, args...)}
}

func conflict(format string, args ...any) reply { return text(http.StatusConflict, format, args...) }

// forbidden has an empty body, as MAAS's has.
func forbidden() reply { return text(http.StatusForbidden, "") }

func noContent() reply { return reply{status: http.StatusNoContent, contentType: textPlain} }

func missing(model string) reply {
	return text(http.StatusNotFound, "No %s matches the given query.", model)
}

// asJSON answers with a value, indented as MAAS does.
func asJSON(v any) reply {
	return reply{status: http.StatusOK, contentType: textJSON, body: indented(v)}
}

func indented(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil {
		panic(err) // values are ours
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// invalid answers a validation error: field, messages.
func invalid(field string, messages ...string) reply {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{%s: [", quoted(field))
	for i, m := range messages {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoted(m))
	}
	b.WriteString("]}")
	return reply{status: http.StatusBadRequest, contentType: textJSON, body: b.Bytes()}
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}

// notAChoice is Django's word for a value that is none of those allowed.
func notAChoice(field, value string) reply {
	return invalid(field, fmt.Sprintf("Select a valid choice. %s is not one of the available choices.", value))
}

// decimal is a number that MAAS writes with a decimal point, whole or not.
type decimal float64

func (d decimal) MarshalJSON() ([]byte, error) {
	s := strconv.FormatFloat(float64(d), 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return []byte(s), nil
}
