package apt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// maxLine bounds a line of a control file, in bytes.
const maxLine = 4 << 20

// stanzas reads the stanzas of a control file: field names in lower case, each with its lines joined by newlines. Comments are left out.
func stanzas(r *bufio.Reader) iter.Seq2[map[string]string, error] {
	return func(yield func(map[string]string, error) bool) {
		fields := make(map[string]string)
		last := ""
		for {
			line, err := r.ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				yield(nil, err)
				return
			}
			if len(line) > maxLine {
				yield(nil, fmt.Errorf("a line is longer than %d bytes", maxLine))
				return
			}
			end := err != nil
			text := strings.TrimRight(line, "\r\n \t")
			switch {
			case text == "":
				if len(fields) > 0 && !yield(fields, nil) {
					return
				}
				fields, last = make(map[string]string), ""
			case text[0] == '#':
			case text[0] == ' ' || text[0] == '\t':
				if last != "" {
					fields[last] += "\n" + strings.TrimSpace(text)
				}
			default:
				name, value, ok := strings.Cut(text, ":")
				if last = strings.ToLower(strings.TrimSpace(name)); ok {
					fields[last] = strings.TrimSpace(value)
				} else {
					last = ""
				}
			}
			if end {
				if len(fields) > 0 {
					yield(fields, nil)
				}
				return
			}
		}
	}
}
