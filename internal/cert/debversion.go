package cert

import "strings"

// CompareVersions orders two versions of packages as dpkg does (deb-version(7)): -1, 0 or 1. It takes any text: what is no version is compared by the
// same rules.
func CompareVersions(a, b string) int {
	epochA, upstreamA, revisionA := splitVersion(a)
	epochB, upstreamB, revisionB := splitVersion(b)
	for _, pair := range [][2]string{{epochA, epochB}, {upstreamA, upstreamB}, {revisionA, revisionB}} {
		if c := compareVersionPart(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if before, after, ok := strings.Cut(v, ":"); ok {
		epoch, v = before, after
	}
	if n := strings.LastIndexByte(v, '-'); n >= 0 {
		return epoch, v[:n], v[n+1:]
	}
	return epoch, v, ""
}

// compareVersionPart takes turns at what is no digit, by characters, and at what is, by number.
func compareVersionPart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			x, y := versionOrder(a), versionOrder(b)
			if x != y {
				return sign(x - y)
			}
			a, b = a[min(1, len(a)):], b[min(1, len(b)):]
		}
		var numberA, numberB string
		numberA, a = leadingNumber(a)
		numberB, b = leadingNumber(b)
		if len(numberA) != len(numberB) {
			return sign(len(numberA) - len(numberB))
		}
		if c := strings.Compare(numberA, numberB); c != 0 {
			return c
		}
	}
	return 0
}

// leadingNumber cuts the digits that a text begins with, without leading zeros.
func leadingNumber(s string) (number, rest string) {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return strings.TrimLeft(s[:n], "0"), s[n:]
}

// versionOrder of the first character: ~ before the end, the end and digits before letters, letters before everything else.
func versionOrder(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
