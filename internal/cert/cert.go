// Package cert is Certlab's domain: machines, runs, attempts, submissions, results and the people's tokens, with the rules that
// hold between them. It does no I/O and imports nothing of ours, so that a rule can be read and tested without a database.
//
// The types carry JSON tags: they are what the people's API answers with. All times are UTC.
package cert

import (
	"errors"
	"fmt"
)

// A Code classifies an error for whoever called. The server maps it to an HTTP status in one place.
type Code string

const (
	Invalid      Code = "invalid"      // the request is wrong and will stay so
	Unauthorized Code = "unauthorized" // nobody known is asking
	Forbidden    Code = "forbidden"    // somebody known is asking for what is not theirs
	NotFound     Code = "not-found"    //
	Conflict     Code = "conflict"     // true in general, not in the present state
	Gone         Code = "gone"         // it existed and was removed
	TooLarge     Code = "too-large"    //
	Rejected     Code = "rejected"     // well-formed, but its content cannot be accepted
	NoSpace      Code = "no-space"     // the disk is full, or nearly
	TooMany      Code = "too-many"     // the caller has too many requests under way; try again
	Unavailable  Code = "unavailable"  // not now; try again
	Internal     Code = "internal"     // anything else
)

// An Error is an error that a caller is meant to see: Message says what could not be done and what to do about it.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an *Error. The format must not contain what the caller may not see.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of the first *Error in err's chain, or Internal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
