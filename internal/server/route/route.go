// Package route is what a route of the controller's service is: a path, who may use it, what it takes and gives, and the function
// that answers. The server checks the access and the parameters, so that no function can forget to; the API's description is
// made from the same values.
package route

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
)

// Access says who may use a route.
type Access string

// Besides these, each of cert's roles is an Access: those who have it or a higher one.
const (
	Open  Access = "open"  // everybody
	Agent Access = "agent" // an enrolled agent, for its own machine
)

// Local routes are used over the unix socket only, by root.
const Local Access = "local"

// A Route is one method of one path.
type Route struct {
	Method string
	Path   string // as net/http's ServeMux takes it
	Access Access
	Handle Handler
	Doc    Doc
	Slot   Slot
}

// A Slot is what a request takes one of while it is served. There are so many of each, and who finds none waits for a while.
type Slot string

const (
	Receive Slot = "receive" // an upload
	Unpack  Slot = "unpack"  // reading a submission's archive, which costs processor time and memory
)

// A Handler answers a request. An error that it returns before it has written anything is written for it.
type Handler func(w http.ResponseWriter, r *Request) error

// Doc describes a route.
type Doc struct {
	Summary  string
	Why      string // why a route is Open
	Query    []Param
	Body     any    // zero value of the JSON body's type; nil: none
	BodyType string // media type of a body that is not JSON
	Status   int    // of success; 0: 200
	Response any    // zero value of the JSON answer's type; nil: none
	Type     string // media type of an answer that is not JSON
	Page     bool   // a page for people: errors are HTML, and who is not known is sent to the login page
}

// Kinds of query parameters.
const (
	Text    = "string"
	Integer = "integer"
	Boolean = "boolean"
	Time    = "date-time"
)

// A Param is a query parameter.
type Param struct {
	Name     string
	Kind     string // Text if empty
	Enum     []string
	Max      int // of an Integer; 0: no bound
	Required bool
	Help     string
}

// Caller is who makes a request.
type Caller struct {
	Name    string    // of the token, or "root" over the socket
	Role    cert.Role // empty for an agent and for nobody
	TokenID string
	Machine string        // id, for an agent
	Local   bool          // over the unix socket
	Skew    time.Duration // how far the clock of an agent's machine is ahead; 0 if it does not say
}

// A Request is a request whose access and parameters were checked.
type Request struct {
	*http.Request
	Caller Caller
	Query  url.Values
}

// maxText bounds a query parameter's value, in bytes.
const maxText = 4096

// CheckQuery parses a query and checks it against the parameters that there are.
func CheckQuery(raw string, params []Param) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, cert.Errorf(cert.Invalid, "cannot read the query: %v", err)
	}
	for name, values := range q {
		n := slices.IndexFunc(params, func(p Param) bool { return p.Name == name })
		if n < 0 {
			var known []string
			for _, p := range params {
				known = append(known, p.Name)
			}
			if len(known) == 0 {
				return nil, cert.Errorf(cert.Invalid, "unknown parameter %q: there are none here", name)
			}
			return nil, cert.Errorf(cert.Invalid, "unknown parameter %q: there are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, cert.Errorf(cert.Invalid, "parameter %s is given %d times", name, len(values))
		}
		if err := params[n].check(values[0]); err != nil {
			return nil, err
		}
	}
	for _, p := range params {
		if p.Required && q.Get(p.Name) == "" {
			return nil, cert.Errorf(cert.Invalid, "parameter %s is required: %s", p.Name, p.Help)
		}
	}
	return q, nil
}

func (p Param) check(value string) error {
	if len(value) > maxText || strings.ContainsRune(value, 0) {
		return cert.Errorf(cert.Invalid, "parameter %s must be text of at most %d bytes", p.Name, maxText)
	}
	if value == "" {
		return nil
	}
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, value) {
		return cert.Errorf(cert.Invalid, "parameter %s is %q: it must be one of %s", p.Name, value, strings.Join(p.Enum, ", "))
	}
	switch p.Kind {
	case Integer:
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || (p.Max > 0 && n > p.Max) {
			if p.Max > 0 {
				return cert.Errorf(cert.Invalid, "parameter %s is %q: it must be a number from 0 to %d", p.Name, value, p.Max)
			}
			return cert.Errorf(cert.Invalid, "parameter %s is %q: it must be a number", p.Name, value)
		}
	case Boolean:
		if value != "true" && value != "false" {
			return cert.Errorf(cert.Invalid, "parameter %s is %q: it must be true or false", p.Name, value)
		}
	case Time:
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return cert.Errorf(cert.Invalid, "parameter %s is %q: it must be a time such as 2026-01-02T15:04:05Z", p.Name, value)
		}
	}
	return nil
}

// Int returns an integer parameter, or otherwise.
func (r *Request) Int(name string, otherwise int) int {
	if n, err := strconv.Atoi(r.Query.Get(name)); err == nil {
		return n
	}
	return otherwise
}

// JSON writes v.
func JSON(w http.ResponseWriter, status int, v any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // job ids have < and &, and nosniff keeps browsers from taking JSON for HTML
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("cannot encode the answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // whoever asked may have gone
	return nil
}

// ErrorBody is every error's answer.
type ErrorBody struct {
	Error   ErrorDetail `json:"error"`
	Missing []string    `json:"missing,omitempty"` // hashes of files that are not here yet, when a run cannot be finished
}

// ErrorDetail says what went wrong.
type ErrorDetail struct {
	Code    cert.Code `json:"code"`
	Message string    `json:"message"`
}

// MissingError says which files are not here.
type MissingError struct{ Missing []string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("cannot finish the run: %d of its files have not arrived", len(e.Missing))
}

// status maps the codes of errors to HTTP, here and nowhere else.
var status = map[cert.Code]int{
	cert.Invalid:      http.StatusBadRequest,
	cert.Unauthorized: http.StatusUnauthorized,
	cert.Forbidden:    http.StatusForbidden,
	cert.NotFound:     http.StatusNotFound,
	cert.Conflict:     http.StatusConflict,
	cert.Gone:         http.StatusGone,
	cert.TooLarge:     http.StatusRequestEntityTooLarge,
	cert.Rejected:     http.StatusUnprocessableEntity,
	cert.NoSpace:      http.StatusInsufficientStorage,
	cert.TooMany:      http.StatusTooManyRequests,
	cert.Unavailable:  http.StatusServiceUnavailable,
	cert.Internal:     http.StatusInternalServerError,
}

// Describe returns the HTTP status and the body for an error. What is not an *cert.Error is not shown to the caller.
func Describe(err error) (int, ErrorBody) {
	var missing *MissingError
	if errors.As(err, &missing) {
		return http.StatusConflict, ErrorBody{Error: ErrorDetail{Code: cert.Conflict, Message: missing.Error()}, Missing: missing.Missing}
	}
	var known *cert.Error
	switch {
	case errors.As(err, &known):
		return status[known.Code], ErrorBody{Error: ErrorDetail{known.Code, known.Message}}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, ErrorBody{Error: ErrorDetail{cert.Unavailable, "the request took too long, or was given up"}}
	}
	return http.StatusInternalServerError, ErrorBody{Error: ErrorDetail{cert.Internal, "something went wrong in the controller: see its log"}}
}
