package hooks

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is how much of a value Shown tells, in bytes.
const maxShown = 60

// Shown quotes a value for a message, so that an operator sees what is there: control characters and what is not UTF-8 are escaped, and
// what is long is cut.
func Shown(value string) string {
	if len(value) <= maxShown {
		return strconv.Quote(value)
	}
	return strconv.Quote(strings.ToValidUTF8(value[:maxShown], "")) + "… (" + strconv.Itoa(len(value)) + " bytes)"
}

// CheckLine checks an action's parameter that is to be one line of text, of at most that many bytes. It may be empty.
func CheckLine(parameter, value string, most int) error {
	if len(value) <= most && utf8.ValidString(value) && !strings.ContainsRune(value, utf8.RuneError) && !strings.ContainsFunc(value, unicode.IsControl) {
		return nil
	}
	return fmt.Errorf("cannot use %s %s: want one line of at most %d bytes", parameter, Shown(value), most)
}
