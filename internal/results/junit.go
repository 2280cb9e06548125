package results

import (
	"bufio"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// declaredEncoding is the encoding that an XML declaration names.
var declaredEncoding = regexp.MustCompile(`^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']`)

// readJUnit reads a JUnit report: Checkbox's (test cases directly below <testsuites>) and the common ones (pytest, Surefire,
// gotestsum, GoogleTest and others, with <testsuite>, nested or not).
func readJUnit(in *bufio.Reader, opts Options) (*Submission, error) {
	var r io.Reader = in
	head, _ := in.Peek(256)
	if m := declaredEncoding.FindSubmatch(head); m != nil {
		switch strings.ToLower(string(m[1])) {
		case "utf-8", "utf8", "us-ascii", "ascii":
		case "iso-8859-1", "latin1", "latin-1", "windows-1252":
			r = &latin1{r: in}
		default:
			return nil, &Error{Kind: BadXML, Detail: "encoding " + string(m[1]) + " is not supported (use UTF-8)"}
		}
	}
	sub := &Submission{Results: []Result{}}
	j := &junit{
		xml:  &xmlScanner{scanner: newScanner(r, opts.Limits.Depth), maxText: opts.Limits.String},
		opts: opts, sub: sub, logs: opts.Limits.Held / 2,
		held: &budget{left: opts.Limits.Held, max: opts.Limits.Held},
	}
	if err := j.xml.run(j); err != nil {
		return nil, err
	}
	j.doubt()
	return sub, nil
}

// junit turns a report's elements into results.
type junit struct {
	xml    *xmlScanner
	opts   Options
	sub    *Submission
	held   *budget
	logs   int64
	path   []string
	suites []string
	root   map[string]string // attributes of the root
	flat   bool              // a test case directly below <testsuites>, as only Checkbox writes it
	plain  int               // test cases with nothing in them
	result *Result           // the open test case
	// comments are the open test case's, which may have very many elements.
	comments strings.Builder
	keep     head
	sink     io.Writer
	into     bool // text belongs to the result's log
}

func (j *junit) start(name string, attributes []attribute) error {
	parent := ""
	if len(j.path) > 0 {
		parent = j.path[len(j.path)-1]
	}
	attrs := make(map[string]string, len(attributes))
	for _, a := range attributes {
		attrs[a.name] = strings.ReplaceAll(a.value, "\x00", "\uFFFD")
	}
	if parent == "" {
		if name != "testsuites" && name != "testsuite" {
			return j.xml.place(&Error{Kind: UnknownFormat, Detail: "it is XML, but not JUnit: its element is <" + name + ">"})
		}
		j.root = attrs
		j.sub.Title = attrs["name"]
		for key, value := range attrs {
			if err := j.take(entryCost + len(key) + len(value)); err != nil {
				return err
			}
		}
	}
	j.path = append(j.path, name)
	switch {
	case name == "testsuite":
		j.suites = append(j.suites, attrs["name"])
		return j.take(len(attrs["name"]))
	case name == "testcase" && j.result == nil:
		j.flat = j.flat || parent == "testsuites"
		return j.testcase(attrs)
	case j.result != nil && parent == "testcase":
		return j.detail(name, attrs)
	}
	return nil
}

func (j *junit) testcase(attrs map[string]string) error {
	if len(j.sub.Results) == j.opts.Limits.Records {
		return j.xml.place(limitError("records", int64(j.opts.Limits.Records)))
	}
	r := Result{Outcome: Pass, Name: attrs["name"], ShortID: attrs["name"], ID: attrs["name"]}
	if class := attrs["classname"]; class != "" && class != r.Name {
		r.ID = class + "::" + r.Name
	}
	if r.ID == "" {
		return j.xml.place(&Error{Kind: BadField, Field: "testcase", Detail: "a test case without a name"})
	}
	if len(j.suites) > 0 {
		r.Category = j.suites[len(j.suites)-1]
	}
	if text := strings.ReplaceAll(attrs["time"], ",", ""); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || seconds != seconds {
			return j.xml.place(&Error{Kind: BadField, Field: "testcase.time", Detail: "expected a number of seconds"})
		}
		r.Duration = seconds
	}
	if attrs["status"] == "notrun" || attrs["status"] == "skipped" || attrs["status"] == "disabled" || attrs["result"] == "skipped" { // GoogleTest and others
		r.Outcome = SkipOutcome
	}
	cost := recordCost
	for key, value := range attrs {
		cost += len(key) + 2*len(value)
		switch key {
		case "name", "classname", "time":
			continue
		}
		if r.Extra == nil {
			r.Extra = make(map[string]json.RawMessage)
		}
		r.Extra[key] = quote(value)
		cost += entryCost
	}
	if err := j.take(cost); err != nil {
		return err
	}
	j.result = &r
	j.keep = head{max: j.opts.KeepLog}
	if j.logs < int64(j.opts.KeepLog) {
		j.keep.max = 0
	}
	j.sink = nil
	if j.opts.Log != nil {
		j.sink = j.opts.Log(len(j.sub.Results), r.ID)
	}
	return nil
}

func (j *junit) take(n int) error {
	if err := j.held.take(n); err != nil {
		return j.xml.place(err.(*Error))
	}
	return nil
}

// weights order outcomes for test cases with more than one element: the worst counts.
var weights = map[Outcome]int{Pass: 0, SkipOutcome: 1, Fail: 2, Crash: 3}

// details are the elements of a test case that say what became of it, or what it printed.
var details = map[string]Outcome{
	"failure": Fail, "error": Crash, "skipped": SkipOutcome, "system-out": "", "system-err": "",
}

func (j *junit) detail(name string, attrs map[string]string) error {
	outcome, ok := details[name]
	if !ok {
		return nil
	}
	j.into = true
	if weights[outcome] > weights[j.result.Outcome] {
		j.result.Outcome = outcome
	}
	if message := attrs["message"]; message != "" && outcome != "" {
		if j.comments.Len() > 0 {
			j.comments.WriteByte('\n')
		}
		j.comments.WriteString(message)
		return j.take(2 * (len(message) + 1)) // while the builder grows
	}
	return nil
}

func (j *junit) text(chunk []byte) error {
	if j.result == nil || !j.into {
		return nil
	}
	j.result.LogSize += int64(len(chunk))
	j.keep.add(chunk)
	if j.sink != nil {
		return writeTo(j.sink, chunk)
	}
	return nil
}

func (j *junit) end(name string) error {
	j.path = j.path[:len(j.path)-1]
	switch {
	case name == "testsuite" && len(j.suites) > 0:
		j.suites = j.suites[:len(j.suites)-1]
	case j.into && len(j.path) > 0 && j.path[len(j.path)-1] == "testcase":
		j.into = false
	case name == "testcase" && j.result != nil && (len(j.path) == 0 || j.path[len(j.path)-1] != "testcase"):
		r := j.result
		r.Status = statusOf(r.Outcome)
		r.Comments = j.comments.String()
		j.comments.Reset()
		r.Log = strings.Trim(string(j.keep.b), "\r\n\t ")
		j.logs -= int64(len(r.Log))
		if r.Outcome == Pass {
			j.plain++
		}
		j.sub.Results = append(j.sub.Results, *r)
		j.result = nil
	}
	return nil
}

// statusOf is Checkbox's coarse name for an outcome.
func statusOf(o Outcome) string {
	switch o.Class() {
	case Passed:
		return "pass"
	case Failed:
		return "fail"
	}
	return "skip"
}

// doubt takes passes back that the report itself does not count. Checkbox of 2026 prints a test that was skipped for a missing
// dependency, resource or manifest entry like one that passed, and resource jobs among the tests; only its totals tell. Which
// test case is which cannot be known, so that all that would be passes become undecided.
func (j *junit) doubt() {
	if !j.flat {
		return
	}
	total := func(key string) (int, bool) {
		n, err := strconv.Atoi(j.root[key])
		return n, err == nil
	}
	tests, ok := total("tests")
	if !ok {
		return
	}
	for _, key := range []string{"failures", "errors", "skipped"} {
		n, _ := total(key)
		tests -= n
	}
	if tests >= j.plain {
		return
	}
	for i := range j.sub.Results {
		if r := &j.sub.Results[i]; r.Outcome == Pass {
			r.Outcome = Undecided
			r.Status = statusOf(Undecided)
		}
	}
}

// latin1 turns ISO 8859-1 into UTF-8.
type latin1 struct {
	r    io.Reader
	rest []byte
}

func (l *latin1) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		var buf [4096]byte
		n, err := l.r.Read(buf[:])
		if n == 0 {
			return 0, err
		}
		l.rest = l.rest[:0]
		for _, b := range buf[:n] {
			l.rest = utf8.AppendRune(l.rest, rune(b))
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
