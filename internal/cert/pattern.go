package cert

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// Bounds of patterns.
const (
	maxStars        = 20
	maxInstructions = 5000 // of a compiled regular expression
)

// MatchJob reports whether a pattern, a full id or one with * for any text, is of a job.
func MatchJob(pattern, id string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == id
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(id, first) {
		return false
	}
	id = id[len(first):]
	for _, part := range parts[1 : len(parts)-1] { // the first place that fits leaves the most for what follows
		at := strings.Index(id, part)
		if at < 0 {
			return false
		}
		id = id[at+len(part):]
	}
	return strings.HasSuffix(id, last)
}

// compileBounded compiles a regular expression if it is small. Go's expressions are RE2's: the time that a match takes grows with the text times the
// compiled expression and never faster, whatever the expression. So a bound on that size is all that is needed for none to take for ever; what
// needs more than RE2 (backreferences, lookaround) is refused as not understood, and repetition like (a+)+ is harmless.
func compileBounded(before, pattern, after string) (*regexp.Regexp, error) {
	_, err := syntax.Parse(pattern, syntax.Perl) // by itself: its parentheses have to match within it
	if err != nil {
		return nil, Errorf(Invalid, "it is not a regular expression that can be used: %v (the syntax is RE2's: no backreferences, no lookaround, and at most 1000 repetitions)", err)
	}
	pattern = before + pattern + after
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, Errorf(Invalid, "it is not a regular expression that can be used: %v (the syntax is RE2's: no backreferences, no lookaround, and at most 1000 repetitions)", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, Errorf(Invalid, "it is not a regular expression that can be used: %v", err)
	}
	if len(program.Inst) > maxInstructions {
		return nil, Errorf(Invalid, "it would take too long on a large log: it comes to %d steps for each character, at most %d are allowed (use smaller repetition counts)", len(program.Inst), maxInstructions)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, Errorf(Invalid, "it is not a regular expression that can be used: %v", err)
	}
	return re, nil
}
