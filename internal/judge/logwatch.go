package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a LogWatch. A longer line is taken in pieces of maxLine bytes, which overlap so that no rule misses a text at a seam.
const (
	maxLine    = 8 << 10
	overlap    = 256
	headLines  = 8
	tailLines  = 16
	aroundLine = 1 // lines kept around each that tells something
	maxHits    = 40
	maxKept    = 600 // bytes of each line that is kept
)

// A LogWatch is an io.Writer that a log is written into, whatever its size, and that afterwards knows what matters in it. Its memory is bounded.
type LogWatch struct {
	rules  []DoubtRule
	doubt  string
	line   []byte // the line that is not complete yet
	number int
	head   []kept
	tail   []kept // a ring
	hits   []kept // lines that tell something, and those around them; the first ones
	last   []kept // the last ones, a ring
	before kept
	after  int
	signs  []string // lines that tell something, of those that differ in their numbers only the first
	crude  []string // the same without their digits
	bytes  int64
}

// kept is a line with its number.
type kept struct {
	number int
	text   string
}

// NewLogWatch returns one for the log of a job; job is its full id.
func NewLogWatch(job string) *LogWatch {
	if quotes(job) {
		return &LogWatch{rules: ownDoubts}
	}
	return &LogWatch{rules: doubts}
}

// Write takes in a piece of the log. It never fails.
func (w *LogWatch) Write(p []byte) (int, error) {
	n := len(p)
	w.bytes += int64(n)
	for len(p) > 0 {
		end := -1
		limit := min(len(p), maxLine-len(w.line))
		for i, c := range p[:limit] {
			if c == '\n' || c == '\r' {
				end = i
				break
			}
		}
		if end >= 0 {
			w.line = append(w.line, p[:end]...)
			w.take()
			w.line = w.line[:0]
			p = p[end+1:]
			continue
		}
		w.line = append(w.line, p[:limit]...)
		p = p[limit:]
		if len(w.line) >= maxLine {
			w.take()
			w.line = append(w.line[:0], w.line[len(w.line)-overlap:]...)
		}
	}
	return n, nil
}

// take looks at a line.
func (w *LogWatch) take() {
	if len(w.line) == 0 {
		return
	}
	text := string(w.line)
	if w.doubt == "" {
		for n := range w.rules {
			if w.rules[n].fits(text) {
				w.doubt = w.rules[n].ID
				break
			}
		}
	}
	if strings.TrimSpace(text) == "" {
		return
	}
	w.number++
	k := kept{w.number, clip(text)}
	if len(w.head) < headLines {
		w.head = append(w.head, k)
	}
	w.tail = ring(w.tail, k, tailLines)
	if tells(text) {
		if w.before.number > 0 && w.after == 0 {
			w.hit(w.before)
		}
		w.hit(k)
		w.sign(text)
		w.after = aroundLine
	} else if w.after > 0 {
		w.hit(k)
		w.after--
	}
	w.before = k
}

func (w *LogWatch) hit(k kept) {
	if len(w.hits) < maxHits {
		w.hits = append(w.hits, k)
		return
	}
	w.last = ring(w.last, k, maxHits/2)
}

// ring appends, and forgets the oldest.
func ring(list []kept, k kept, most int) []kept {
	if len(list) == most {
		copy(list, list[1:])
		list = list[:most-1]
	}
	return append(list, k)
}

// sign keeps a line for the signature. What that costs is left until somebody asks for it: few logs are ever asked.
func (w *LogWatch) sign(text string) {
	if len(w.signs) == maxSignKept {
		return
	}
	if len(text) > 2*maxSignLine {
		text = text[:2*maxSignLine]
	}
	crude := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
	if !slices.Contains(w.crude, crude) {
		w.signs, w.crude = append(w.signs, text), append(w.crude, crude)
	}
}

func clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxKept {
		cut := maxKept
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strings.TrimRight(text, " \t")
}

// flush takes in a last line that no newline ends. What is written afterwards begins a new one.
func (w *LogWatch) flush() {
	if len(w.line) > 0 {
		w.take()
		w.line = w.line[:0]
	}
}

// Doubt is the id of the first rule by which a pass with this log is doubted; empty: none.
func (w *LogWatch) Doubt() string {
	w.flush()
	return w.doubt
}

// Signature is that of the log written so far. See the function of the same name.
func (w *LogWatch) Signature() string {
	w.flush()
	var lines []string
	for _, text := range w.signs {
		if line := normalise(text); line != "" && len(lines) < maxSignLines && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		return hashLines(lines)
	}
	const enough = 5
	for _, k := range w.tail[max(0, len(w.tail)-enough):] {
		lines = append(lines, normalise(k.text))
	}
	return hashLines(lines)
}

// Excerpt is what matters in the log written so far. See the function of the same name.
func (w *LogWatch) Excerpt() string {
	w.flush()
	chosen := map[int]string{}
	size := 0
	choose := func(list []kept, backwards bool, most int) {
		for n := range list {
			k := list[n]
			if backwards {
				k = list[len(list)-1-n]
			}
			if _, have := chosen[k.number]; have {
				continue
			}
			if cost := len(k.text) + 1 + len("[… 1000000 lines …]\n"); size+cost <= most {
				chosen[k.number] = k.text
				size += cost
			}
		}
	}
	choose(w.hits, false, maxExcerpt/2)
	choose(w.tail, true, maxExcerpt*3/4)
	choose(w.last, true, maxExcerpt*7/8)
	choose(w.head, false, maxExcerpt-100)
	return render(chosen, w.number)
}

func render(chosen map[int]string, lines int) string {
	var out strings.Builder
	leave := func(gap int) {
		if gap > 0 {
			fmt.Fprintf(&out, "[… %s …]\n", count(gap, "line", "lines"))
		}
	}
	at := 0
	for _, n := range slices.Sorted(maps.Keys(chosen)) {
		leave(n - at - 1)
		out.WriteString(chosen[n])
		out.WriteByte('\n')
		at = n
	}
	leave(lines - at)
	return out.String()
}
