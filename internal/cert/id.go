package cert

import (
	"crypto/rand"
	"encoding/binary"
	"regexp"
	"time"
)

// Prefixes of identifiers.
const (
	MachineID    = 'm'
	RunID        = 'r'
	SubmissionID = 's'
	TokenID      = 't'
)

// idAlphabet is Crockford's base32 in lower case: no i, l, o, u.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var idPattern = regexp.MustCompile(`^[a-z][0-9a-z]{26}$`)

// NewID returns prefix and 26 base32 characters: 48 bits of milliseconds, then 80 random bits, so that ids sort by time.
func NewID(prefix byte, now time.Time) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	rand.Read(raw[6:])
	out := make([]byte, 27)
	out[0] = prefix
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := 26; i > 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out)
}

// ValidID reports whether id has the form of an identifier with that prefix.
func ValidID(prefix byte, id string) bool {
	return idPattern.MatchString(id) && id[0] == prefix
}

var hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ValidSHA256 reports whether s is a SHA-256 in lower-case hexadecimal.
func ValidSHA256(s string) bool { return hashPattern.MatchString(s) }
