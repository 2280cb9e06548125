package hooks

import (
	"errors"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// masked is what stands for a secret's value.
const masked = "[secret]"

// minMasked is the length in bytes from which a value is masked. Masking shorter ones would tear holes into ordinary words, and
// protect nothing: they can be guessed.
const minMasked = 6

// A mask hides the values of secrets in text. It is safe for concurrent use.
type mask struct {
	mu     sync.Mutex
	values []string // longest first, so that a value that holds another one goes as a whole
}

// Conceal keeps values out of log lines, statuses, errors and action results for the rest of the dispatch, also line by line and
// as they look when quoted. What is read from and written to secrets is concealed already; use it for what was made from them. Values of fewer than six
// bytes are not masked.
func (u *Unit) Conceal(values ...string) {
	for _, value := range values {
		u.mask.add(value)
	}
}

func (m *mask) add(value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	forms := append([]string{value, strings.TrimSpace(value)}, strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })...)
	for _, form := range forms {
		m.insert(form)
		quoted := strconv.Quote(form)
		m.insert(quoted[1 : len(quoted)-1])
	}
}

func (m *mask) insert(form string) {
	if len(form) < minMasked {
		return
	}
	at := sort.Search(len(m.values), func(i int) bool {
		v := m.values[i]
		return len(v) < len(form) || len(v) == len(form) && v >= form
	})
	if at < len(m.values) && m.values[at] == form {
		return
	}
	m.values = append(m.values, "")
	copy(m.values[at+1:], m.values[at:])
	m.values[at] = form
}

func (m *mask) hide(text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, value := range m.values {
		text = strings.ReplaceAll(text, value, masked)
	}
	return text
}

// wrap hides secrets in a tool's error, which quotes what it did not like.
func (m *mask) wrap(err error) error {
	var tool *ToolError
	if errors.As(err, &tool) {
		if hidden := m.hide(tool.Stderr); hidden != tool.Stderr {
			return &ToolError{Tool: tool.Tool, Code: tool.Code, Stderr: hidden}
		}
	}
	return err
}
