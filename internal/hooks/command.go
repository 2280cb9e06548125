package hooks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Command is one hook tool invocation. Values that may be secret or large go to Stdin or Files, never to Args.
type Command struct {
	Name string
	Args []string
	// Stdin is what the tool reads; nil: nothing.
	Stdin []byte
	// Files are written to a private directory, and passed after Args as key#file=path, sorted by key.
	Files map[string][]byte
	// Timeout bounds this call; 0: the runner's default.
	Timeout time.Duration
}

// String shows the tool's name and arguments. Stdin's and Files' contents are not shown; the keys of Files are.
func (c Command) String() string {
	words := append([]string{c.Name}, c.Args...)
	for _, key := range sortedKeys(c.Files) {
		words = append(words, key+"#file=…")
	}
	return strings.Join(words, " ")
}

// Runner is the only seam between a charm and Juju. A tool that ran and refused gives a *ToolError; the bytes returned are then
// undefined.
type Runner interface {
	Run(ctx context.Context, cmd Command) (stdout []byte, err error)
}

// ToolError is a hook tool that exited with a code other than 0. Juju's tools exit 2 for bad arguments and 1 for what
// could not be done.
type ToolError struct {
	Tool   string
	Code   int
	Stderr string // trimmed, at most a few kilobytes
}

func (e *ToolError) Error() string {
	text := strings.TrimPrefix(e.Stderr, "ERROR ")
	if text == "" {
		text = fmt.Sprintf("exit status %d", e.Code)
	}
	return fmt.Sprintf("cannot run %s: %s", e.Tool, text)
}

// Errors that a ToolError matches with errors.Is, recognised by what the tool printed: Juju has no codes for them.
var (
	// ErrNotFound: no such relation, unit, secret, resource or storage; or not yet.
	ErrNotFound = errors.New("not found")
	// ErrNotAllowed: the unit may not read or write it: a secret without a grant, an application's databag without leadership.
	ErrNotAllowed = errors.New("not allowed")
)

var toolErrorTexts = []struct {
	text string
	is   error
}{
	{"not found", ErrNotFound},
	{"permission denied", ErrNotAllowed},
	{"is not allowed to", ErrNotAllowed},
	{"cannot write relation settings", ErrNotAllowed},
	{"not the leader", ErrNotAllowed},
}

// Is matches ErrNotFound and ErrNotAllowed.
func (e *ToolError) Is(target error) bool {
	for _, t := range toolErrorTexts {
		if target == t.is && strings.Contains(e.Stderr, t.text) {
			return true
		}
	}
	return false
}
