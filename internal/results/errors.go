package results

import (
	"errors"
	"io"
	"sync/atomic"
)

// Kind says what is wrong with a submission.
type Kind string

const (
	LimitExceeded   Kind = "limit"            // Error.Limit names it
	Truncated       Kind = "truncated"        // the archive ends too early
	TrailingData    Kind = "trailing-data"    // something follows the end of the archive, or of the JSON or XML document
	Corrupt         Kind = "corrupt"          // xz or tar structure, or a checksum
	BadPath         Kind = "bad-path"         // a member's name is not a plain relative path
	BadType         Kind = "bad-type"         // a member is a link, a device or the like
	DuplicateMember Kind = "duplicate-member" // a name twice
	NoSubmission    Kind = "no-submission"    // the archive has no submission.json
	BadJSON         Kind = "bad-json"         // Error has the place
	BadXML          Kind = "bad-xml"          // Error has the place
	BadField        Kind = "bad-field"        // a field has a type that it cannot have
	DuplicateKey    Kind = "duplicate-key"    // a key twice in one object
	UnknownFormat   Kind = "unknown-format"   // neither archive, JSON nor JUnit
	Empty           Kind = "empty"            // no bytes at all
	NotFound        Kind = "not-found"        // what was to be copied out is not there
	ReadFailed      Kind = "read"             // the source could not be read: the submission may be good
	WriteFailed     Kind = "write"            // a writer in Options returned an error
)

// An Error says why a submission could not be read. Use errors.As to get at it.
type Error struct {
	Kind   Kind
	Member string // of the archive; empty: the archive itself, or a bare file
	Limit  string // for LimitExceeded: its name, see Limits
	Max    int64  // for LimitExceeded: its value
	Field  string // for BadField, DuplicateKey: where in the document, such as results[3].io_log
	Line   int    // for BadJSON, BadXML, BadField: from 1; 0 if not known
	Column int    // bytes, from 1
	Offset int64  // bytes from the start of the document; of what was unpacked for a fault of the tar archive, of the file for one of xz
	Detail string
	Err    error // the cause, if there is one
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func limitError(name string, max int64) *Error {
	return &Error{Kind: LimitExceeded, Limit: name, Max: max}
}

// inMember adds the member's name to an Error that has none.
func inMember(err error, name string) error {
	var e *Error
	if errors.As(err, &e) && e.Member == "" {
		e.Member = name
	}
	return err
}

// sourceReader remembers why the source could not be read, so that a broken disk is not taken for a broken submission.
type sourceReader struct {
	r   io.Reader
	n   int64
	max int64 // 0: no limit
	lim string
	err atomic.Pointer[Error]
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.max > 0 && s.n > s.max {
		e := limitError(s.lim, s.max)
		s.err.Store(e)
		return 0, e
	}
	if err != nil && err != io.EOF {
		e := &Error{Kind: ReadFailed, Err: err}
		s.err.Store(e)
		return n, e
	}
	return n, err
}

// failure replaces err by the reason why the source could not be read, if there is one, whatever the layers above made of it.
func (s *sourceReader) failure(err error) error {
	if e := s.err.Load(); e != nil {
		return e
	}
	return err
}
