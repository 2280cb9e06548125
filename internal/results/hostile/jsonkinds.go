package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// spans are where each value of a JSON document begins and ends.
func spans(text []byte) (all [][2]int) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var open []int
	for {
		token, err := dec.Token()
		if err != nil {
			return all
		}
		end := int(dec.InputOffset())
		switch token {
		case json.Delim('{'), json.Delim('['):
			open = append(open, end-1)
		case json.Delim('}'), json.Delim(']'):
			all = append(all, [2]int{open[len(open)-1], end})
			open = open[:len(open)-1]
		default:
			start := end
			if _, ok := token.(string); ok { // a key, perhaps; what is put in its place then is no JSON
				for start--; start > 0 && (text[start-1] != '"' || escaped(text, start-1)); start-- {
				}
				start--
			} else {
				for start > 0 && !bytes.ContainsRune([]byte(" \n\t:,[{"), rune(text[start-1])) {
					start--
				}
			}
			all = append(all, [2]int{max(start, 0), end})
		}
	}
}

func escaped(text []byte, at int) bool {
	n := 0
	for at-n-1 >= 0 && text[at-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

// wrongs are values that a field may have and should not.
var wrongs = []string{
	"null", "true", "-1", "1e309", "NaN", "1e400", "[]", "{}", `""`, `"\u0000"`, `"\ud800"`, "[null]", `{"":null}`, `[[[[]]]]`, `{"a":{"a":{"a":1}}}`, "99999999999999999999999", "0.1e-9",
	"\"\x80\xff\"", `"<script>alert(1)</script>"`, `"&lt;&amp;amp;"`, "\"\u202e\"", "[1,2,3]", `"../../etc/passwd"`, `"%s%n"`, `"'; DROP TABLE results; --"`,
	`"=cmd|' /C calc'!A0"`, "-0", "00", "'x'", "{", "]", "", "undefined", `"\x"`, "\"\n\"", `{"outcome":"pass"}`,
}

func wrongType(_ *Maker, r *rand.Rand, s sample) Input {
	text := s.json
	places := s.values
	n := 1 + r.IntN(2)
	name := ""
	for range n {
		at := pick(r, places)
		wrong := pick(r, wrongs)
		if at[1] > len(text) {
			break
		}
		name = fmt.Sprintf("%.20q for byte %d", wrong, at[0])
		text = append(append(bytes.Clone(text[:at[0]]), wrong...), text[at[1]:]...)
	}
	return document(text, name, false)
}

func jsonDamaged(_ *Maker, r *rand.Rand, s sample) Input {
	text := bytes.Clone(s.json)
	switch r.IntN(5) {
	case 0:
		n := r.IntN(len(text) - 2)
		return document(text[:n], fmt.Sprintf("cut off after byte %d", n), true)
	case 1:
		for range 1 + r.IntN(5) {
			text[r.IntN(len(text))] = byte(r.Uint32())
		}
		return document(text, "random bytes", false)
	case 2:
		return document(append(text, pick(r, []string{"{}", "x", "\x00", "]", ","})...), "something after its end", true)
	case 3:
		return document(append([]byte("\uFEFF"), text...), "a byte order mark", true)
	default:
		from := r.IntN(len(text))
		to := min(len(text), from+1+r.IntN(200))
		return document(append(bytes.Clone(text[:from]), text[to:]...), "a piece is missing", false)
	}
}

// around puts a value into a place of a submission.json.
func around(r *rand.Rand, value string) []byte {
	return fmt.Appendf(nil, pick(r, []string{
		`{"results":[],"x":%s}`, `{"results":[{"full_id":"a","x":%s}]}`, `{"results":[],"launcher":{"a":{"b":%s}}}`, `{"results":[],"system_information":{"a":{"outputs":{"payload":%s}}}}`,
		`{"results":[{"full_id":"a","skip_reason":%s}]}`, `{"results":[],"dkms_info":%s}`, `{"results":[],"origin":{"packaging":%s}}`, `{"results":[],"processor":{"a":%s}}`,
	}), value)
}

func jsonDeep(_ *Maker, r *rand.Rand, _ sample) Input {
	n := pick(r, []int{60, 64, 65, 70, 80, 100, 10_000})
	open, end := "[", "]"
	if r.IntN(2) == 0 {
		open, end = `{"a":`, "}"
	}
	text := strings.Repeat(open, n)
	if r.IntN(2) == 0 {
		text += "1" + strings.Repeat(end, n)
	}
	return document(around(r, text), fmt.Sprint(n), n > 64)
}

func jsonLarge(_ *Maker, r *rand.Rand, _ sample) Input {
	n := 1000 + r.IntN(8000)
	if r.IntN(50) == 0 {
		n = 100_000
	}
	name, value := "", ""
	switch r.IntN(5) {
	case 0:
		name, value = "number", strings.Repeat("9", n)
	case 1:
		name, value = "text", `"`+strings.Repeat("é", n/2)+`"`
	case 2:
		name, value = "key", `{"`+strings.Repeat("k", n)+`":1}`
	case 3:
		name, value = "escapes", `"`+strings.Repeat(`\u0001`, n/6)+`"`
	case 4:
		name, value = "white space", strings.Repeat(" \n", n/2)+"1"
	}
	return document(around(r, value), fmt.Sprintf("%s of %d bytes", name, n), name == "number" && n > 512)
}

// jsonMany has very many small things.
func jsonMany(_ *Maker, r *rand.Rand, _ sample) Input {
	n := 50 + r.IntN(200)
	if r.IntN(50) == 0 {
		n = 5000
	}
	many := func(format, separator string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteString(separator)
			}
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	name, text := "", ""
	switch r.IntN(7) {
	case 0:
		name, text = "keys of a result", `{"results":[{"full_id":"a",`+many(`"k%d":1`, ",")+`}]}`
	case 1:
		name, text = "results", `{"results":[`+many(`{"full_id":"%d"}`, ",")+`]}`
	case 2:
		name, text = "categories", `{"results":[],"category_map":{`+many(`"c%d":""`, ",")+`}}`
	case 3:
		name, text = "empty lists", `{"results":[],"x":[`+many("[]%.0s", ",")+`]}`
	case 4:
		name, text = "packages", `{"results":[],"packages":[`+many(`{"name":"%d"}`, ",")+`]}`
	case 5:
		name, text = "equal keys", `{"results":[{"full_id":"a",`+many(`"k":%d`, ",")+`}]}`
	case 6:
		name, text = "results of one name", `{"results":[`+many(`{"full_id":"a","x":%d}`, ",")+`]}`
	}
	return document([]byte(text), fmt.Sprintf("%d %s", n, name), name == "equal keys")
}

// jsonText has texts that are no texts.
func jsonText(_ *Maker, r *rand.Rand, _ sample) Input {
	text := pick(r, []string{"\xff\xfe", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", `\ud800`, `\udc00\ud800`, `\u0000`, "\u2028", "\u202e\u2066", "\x7f", `\b\f`, "\xef\xbf\xbf", "&#0;", "&lt;script&gt;", "%00", strings.Repeat("\xcc\x81", 1000)})
	field := pick(r, []string{"full_id", "name", "outcome", "comments", "category", "io_log", "plugin", "status"})
	return document(fmt.Appendf(nil, `{"title":"%[1]s","testplan_id":"%[1]s","results":[{"full_id":"a","x":1},{"id":"b","%[2]s":"%[1]s"}]}`, text, field), fmt.Sprintf("%.20q in %s", text, field), false)
}

func junit(_ *Maker, r *rand.Rand, _ sample) Input {
	n := 100 + r.IntN(200)
	if r.IntN(50) == 0 {
		n = 20_000
	}
	c := pick(r, []struct {
		name, text string
		refused    bool
	}{
		{"an entity bomb", `<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><testsuites><testcase name="&b;"/></testsuites>`, true},
		{"an external entity", `<?xml version="1.0"?><!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuites><testcase name="&x;"/></testsuites>`, true},
		{"an entity that is not known", `<testsuites><testcase name="&xxe;"/></testsuites>`, true},
		{"cases", "<testsuites>" + strings.Repeat(`<testcase name="a"/>`, n) + "</testsuites>", false},
		{"empty elements", "<testsuites>" + strings.Repeat("<x/>", n) + "</testsuites>", false},
		{"depth", strings.Repeat("<testsuite>", n), true},
		{"attributes", "<testsuites " + strings.Repeat("a='1' ", n) + "/>", true},
		{"failures of one case", `<testsuites><testcase name="a">` + strings.Repeat(`<failure message="x"/>`, n) + "</testcase></testsuites>", false},
		{"a long name", `<testsuites><testcase name="` + strings.Repeat("x", n) + `"/></testsuites>`, false},
		{"a long element", "<" + strings.Repeat("x", n) + "/>", true},
		{"no end", `<testsuites><testcase name="a"><failure>` + strings.Repeat("x", n), true},
		{"a comment without end", "<testsuites><!--" + strings.Repeat("-", n), true},
		{"CDATA without end", "<testsuites><testcase name='a'><failure><![CDATA[" + strings.Repeat("]", n), true},
		{"references", `<testsuites><testcase name='a'><failure>` + strings.Repeat("&#65;", n) + "</failure></testcase></testsuites>", false},
		{"bytes that are no characters", "<testsuites><testcase name='\xff\x00\x1b'><failure>\xc0\xaf</failure></testcase></testsuites>", false},
		{"a time", "<testsuites><testcase name='a' time='1e999'/></testsuites>", false},
		{"UTF-16", "<?xml version='1.0' encoding='UTF-16'?><testsuites/>", true}, {"another root", "<svg/>", true},
		{"two roots", "<testsuites/><testsuites/>", true},
	})
	return Input{Name: c.name, Data: []byte(c.text), Refused: c.refused}
}
