package results

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// CopyMember writes one member of the archive in r to w and stops reading there. The error is an *Error; its kind is NotFound if
// there is no such member. Of a name that is there twice it takes the first.
func CopyMember(w io.Writer, r io.Reader, limits Limits, name string) error {
	found := false
	err := eachMember(r, limits, func(m Member, body io.Reader) (bool, error) {
		if m.Name != name {
			return true, nil
		}
		found = true
		return false, pass(body, m, func(Member) io.Writer { return w })
	})
	if err == nil && !found {
		err = &Error{Kind: NotFound, Detail: fmt.Sprintf("the archive has no member %q", name)}
	}
	return err
}

// CopyLog writes the log (standard output and error, as they came) of the job with that full id to w. r is an archive, a
// submission.json or JUnit XML. The error's kind is NotFound if there is no such job. Of an id that is there twice it takes the
// first one's log.
func CopyLog(w io.Writer, r io.Reader, limits Limits, id string) error {
	opts := Options{Limits: limits.withDefaults()}
	found := false
	take := func(_ int, this string) io.Writer {
		if found || this != id {
			return nil
		}
		found = true
		return w
	}
	in, src, format, err := open(r, opts.Limits)
	if err != nil {
		return err
	}
	if format == JUnit {
		opts.Log = take
		_, err = readJUnit(in, opts)
	} else {
		err = inDocument(in, src, format, opts.Limits, func(s *scanner) error { return copyJSONLog(s, take) })
	}
	err = src.failure(err)
	if err == nil && !found {
		err = &Error{Kind: NotFound, Detail: fmt.Sprintf("no job %q", id)}
	}
	return err
}

// copyJSONLog streams the log that take wants. Checkbox writes the id before the log; in a document that has it after it, the
// log is not found.
func copyJSONLog(s *scanner, take func(int, string) io.Writer) error {
	ignore := func([]byte) error { return nil }
	return s.object(func(key string) error {
		switch key {
		case "results", "resource-results", "attachment-results":
		default:
			return s.value(ignore)
		}
		if s.peek() != '[' {
			return s.value(ignore)
		}
		return s.array(func(i int) error {
			if s.peek() != '{' {
				return s.value(ignore)
			}
			id := ""
			return s.object(func(key string) error {
				switch {
				case key == "full_id" && s.peek() == '"':
					text, err := s.text(maxKey)
					id = strings.ReplaceAll(unescape.Replace(text), "\x00", "\uFFFD")
					return err
				case key == "io_log" && s.peek() == '"':
					if w := take(i, id); w != nil {
						return s.str(false, func(chunk []byte) error { return writeTo(w, chunk) })
					}
				}
				return s.value(ignore)
			})
		})
	})
}

// CopyValue writes the value at path in submission.json (of an archive, or bare) to w: a text as itself, anything else as JSON.
// system_information, journalctl, outputs, payload is a path. The error's kind is NotFound if there is nothing there.
func CopyValue(w io.Writer, r io.Reader, limits Limits, path ...string) error {
	limits = limits.withDefaults()
	in, src, format, err := open(r, limits)
	if err != nil {
		return err
	}
	found := false
	if format != JUnit {
		err = inDocument(in, src, format, limits, func(s *scanner) error { return copyJSONValue(s, w, path, &found) })
	}
	err = src.failure(err)
	if err == nil && !found {
		err = &Error{Kind: NotFound, Detail: "no value at " + strings.Join(path, ".")}
	}
	return err
}

func copyJSONValue(s *scanner, w io.Writer, path []string, found *bool) error {
	write := func(chunk []byte) error { return writeTo(w, chunk) }
	if len(path) == 0 {
		if *found {
			return s.value(func([]byte) error { return nil })
		}
		*found = true
		if s.peek() == '"' {
			return s.str(false, write)
		}
		return s.value(write)
	}
	if s.peek() != '{' {
		return s.value(func([]byte) error { return nil })
	}
	return s.object(func(key string) error {
		if key == path[0] {
			return copyJSONValue(s, w, path[1:], found)
		}
		return s.value(func([]byte) error { return nil })
	})
}

// open sniffs r.
func open(r io.Reader, limits Limits) (*bufio.Reader, *sourceReader, Format, error) {
	src := &sourceReader{r: r}
	in := bufio.NewReaderSize(src, 64<<10)
	format, err := sniff(in)
	src.max, src.lim = limits.TotalSize, "total-size"
	if format == Archive {
		src.max, src.lim = limits.CompressedSize, "compressed-size"
	}
	return in, src, format, src.failure(err)
}

// inDocument calls do with the submission.json.
func inDocument(in *bufio.Reader, src *sourceReader, format Format, limits Limits, do func(*scanner) error) error {
	whole := func(r io.Reader) error {
		s := newScanner(r, limits.Depth)
		if err := do(s); err != nil {
			return err
		}
		return s.finish()
	}
	if format == JSON {
		return whole(in)
	}
	found := false
	err := membersOf(in, src, limits, func(m Member, body io.Reader) (bool, error) {
		if m.Name != submissionName {
			return true, nil
		}
		found = true
		return false, whole(body)
	})
	if err == nil && !found {
		err = &Error{Kind: NoSubmission, Detail: "the archive has no " + submissionName}
	}
	return err
}

// eachMember calls do for the members of the archive in r until it returns false.
func eachMember(r io.Reader, limits Limits, do func(Member, io.Reader) (bool, error)) error {
	limits = limits.withDefaults()
	in, src, format, err := open(r, limits)
	if err != nil {
		return err
	}
	if format != Archive {
		return &Error{Kind: NotFound, Detail: "it is not an archive and has no members"}
	}
	return src.failure(membersOf(in, src, limits, do))
}

func membersOf(in *bufio.Reader, src *sourceReader, limits Limits, do func(Member, io.Reader) (bool, error)) error {
	a := newArchiveReader(in, src, limits)
	defer a.Close()
	for {
		m, err := a.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		on, err := do(m, memberReader{a})
		if err != nil {
			return inMember(err, m.Name)
		}
		if !on {
			return nil
		}
	}
}
