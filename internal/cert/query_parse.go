package cert

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a query.
const (
	maxQueryText  = 1024
	maxQueryTerms = 32
	maxQueryWords = 32 // alternatives of one constraint
)

// ParseQuery reads a query. It fails as Invalid, saying what is wrong with it.
//
// A query is either one bare word, which is a machine's name, id, system_id or certification id, or constraints with commas between
// them, all of which hold: key, operator, value, as in
//
//	tags=gpu,tags=^old,arch=arm64,memory>=64G,gpu="NVIDIA A100, 80 GB",pool=lab|default
//
// Operators are = and !=, and for numbers >=, <=, > and <. A value that begins with ^ is one that the machine must not have. | separates
// values that will do. A value with a comma, a space or a | in it is quoted, with " or '. Case does not matter. Memory and storage
// need a unit: K, M, G and T are powers of 1024 for memory and of 1000 for storage, as they are sold; KiB … are the former and KB … the
// latter for both.
func ParseQuery(text string) (Query, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Query{}, Errorf(Invalid, "cannot read an empty query: give a machine's name, or what it has to have, such as tags=gpu,arch=arm64,memory>=64G")
	case len(text) > maxQueryText:
		return Query{}, Errorf(Invalid, "cannot read the query: it has %d bytes, at most %d are allowed", len(text), maxQueryText)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return Query{}, Errorf(Invalid, "cannot read the query: it must be one line of text")
	}
	if !strings.ContainsAny(text, ",=<>!\"'|^ ") {
		return Query{text: text, name: text}, nil
	}
	terms, err := splitOutside(text, ',')
	if err != nil {
		return Query{}, err
	}
	if len(terms) > maxQueryTerms {
		return Query{}, Errorf(Invalid, "cannot read the query: it has %d constraints, at most %d are allowed", len(terms), maxQueryTerms)
	}
	q := Query{text: text}
	keys := queryKeys()
	for _, term := range terms {
		c, err := parseConstraint(strings.TrimSpace(term), keys)
		if err != nil {
			return Query{}, err
		}
		q.constraints = append(q.constraints, c)
	}
	return q, nil
}

// splitOutside splits a text at separators that are not in quotes.
func splitOutside(text string, separator byte) ([]string, error) {
	var parts []string
	var quote byte
	start := 0
	for n := 0; n < len(text); n++ {
		switch c := text[n]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == separator:
			parts = append(parts, text[start:n])
			start = n + 1
		}
	}
	if quote != 0 {
		return nil, Errorf(Invalid, "cannot read %q: a %c is not closed", cut(text), quote)
	}
	return append(parts, text[start:]), nil
}

func parseConstraint(term string, keys []queryKey) (constraint, error) {
	if term == "" {
		return constraint{}, Errorf(Invalid, "cannot read the query: there is nothing between two commas, or after the last one")
	}
	at := strings.IndexAny(term, "=<>!")
	if at < 0 {
		return constraint{}, Errorf(Invalid, "cannot read %q: a constraint is a key, an operator and a value, such as arch=arm64 (a machine's name stands alone, or is given as name=%s)", cut(term), cut(term))
	}
	name := strings.ToLower(strings.TrimSpace(term[:at]))
	key := findKey(name, keys)
	if key == nil {
		return constraint{}, unknownKey(name, keys)
	}
	op, rest := term[at:at+1], term[at+1:]
	if strings.HasPrefix(rest, "=") && op != "=" {
		op, rest = op+"=", rest[1:]
	}
	rest = strings.TrimSpace(rest)
	if op == "!" {
		return constraint{}, Errorf(Invalid, "cannot read %q: %q is not an operator (there are: =, !=, >=, <=, >, <)", cut(term), op)
	}
	c := constraint{text: term, key: key, op: op}
	if key.kind.number() {
		amount, err := parseAmount(rest, key)
		c.amount = amount
		return c, err
	}
	if op != "=" && op != "!=" {
		return constraint{}, Errorf(Invalid, "cannot compare %s with %s: it is not a number (use = or !=)", key.name, op)
	}
	return c, c.parseWords(rest)
}

func findKey(name string, keys []queryKey) *queryKey {
	switch name {
	case "tag":
		name = "tags"
	case "abilities":
		name = "ability"
	case "architecture":
		name = "arch"
	case "mem":
		name = "memory"
	}
	for n := range keys {
		if keys[n].name == name {
			return &keys[n]
		}
	}
	return nil
}

func unknownKey(name string, keys []queryKey) error {
	names := make([]string, len(keys))
	for n := range keys {
		names[n] = keys[n].name
	}
	if name == "release" || name == "kernel" || name == "series" {
		return Errorf(Invalid, "cannot select machines by %s: it is not what a machine has, but what it is deployed with (say it beside the query)", name)
	}
	hint := ""
	if near := nearest(name, names); near != "" {
		hint = "did you mean " + near + "? "
	}
	return Errorf(Invalid, "cannot select machines by %q (%sthere are: %s)", cut(name), hint, strings.Join(names, ", "))
}

// parseWords takes in the alternatives of a value.
func (c *constraint) parseWords(value string) error {
	if rest, ok := strings.CutPrefix(value, "^"); ok {
		if c.op == "!=" {
			return Errorf(Invalid, "cannot read %q: both != and ^ say no; use one of them", cut(c.text))
		}
		c.op, value = "!=", rest
	}
	alternatives, err := splitOutside(value, '|')
	if err != nil {
		return err
	}
	if len(alternatives) > maxQueryWords {
		return Errorf(Invalid, "cannot read %q: it names %d values, at most %d are allowed", cut(c.text), len(alternatives), maxQueryWords)
	}
	for _, alternative := range alternatives {
		word, err := unquote(strings.TrimSpace(alternative))
		if err != nil {
			return Errorf(Invalid, "cannot read %q: %v", cut(c.text), err)
		}
		if word == "" {
			return Errorf(Invalid, "cannot read %q: it names no value", cut(c.text))
		}
		if c.key.name == "state" && !isOneOf(word, MachineStates) {
			return Errorf(Invalid, "cannot select machines in state %q (there are: %s)", cut(word), strings.Join(MachineStates, ", "))
		}
		c.words = append(c.words, strings.ToLower(word))
	}
	return nil
}

func isOneOf(word string, words []string) bool {
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// unquote returns what is in a value's quotes. Quotes are around all of it, or nowhere.
func unquote(value string) (string, error) {
	if !strings.ContainsAny(value, `"'`) {
		if strings.ContainsAny(value, "=<>!^") {
			return "", Errorf(Invalid, "%q has a character that needs quotes around the value", cut(value))
		}
		return value, nil
	}
	quote := value[0]
	if quote != '"' && quote != '\'' || strings.IndexByte(value[1:], quote) != len(value)-2 {
		return "", Errorf(Invalid, "quotes go around the whole value")
	}
	return strings.TrimSpace(value[1 : len(value)-1]), nil
}

// parseAmount reads a number, with its unit where the key is one of bytes.
func parseAmount(value string, key *queryKey) (float64, error) {
	digits := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToLower(strings.TrimSpace(value[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.ContainsAny(digits, "eExXpP_+-") || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, Errorf(Invalid, "cannot compare %s with %q: give a number, such as %s", key.name, cut(value), example(key.kind))
	}
	if key.kind == keyCount {
		if unit != "" || n != math.Trunc(n) {
			return 0, Errorf(Invalid, "cannot compare %s with %q: give a whole number, such as %s", key.name, cut(value), example(key.kind))
		}
		return n, nil
	}
	factor, ok := unitFactor(unit, key.kind)
	if !ok {
		return 0, Errorf(Invalid, "cannot compare %s with %q: give its unit, one of K, M, G, T, KiB, MiB, GiB, TiB, KB, MB, GB, TB, as in %s", key.name, cut(value), example(key.kind))
	}
	return n * factor, nil
}

func example(kind keyKind) string {
	return map[keyKind]string{keyCount: "4", keyMemory: "64G", keyDisk: "1T"}[kind]
}

// unitFactor returns the number of bytes in a unit.
func unitFactor(unit string, kind keyKind) (float64, bool) {
	if unit == "" {
		return 0, false
	}
	power := strings.IndexByte("kmgt", unit[0]) + 1
	base := map[string]float64{"ib": 1024, "b": 1000, "": 1024}[unit[1:]]
	if unit[1:] == "" && kind == keyDisk {
		base = 1000
	}
	return math.Pow(base, float64(power)), power > 0 && base > 0
}
