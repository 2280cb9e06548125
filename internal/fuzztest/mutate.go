package fuzztest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// maxMutation bounds the bytes of a mutation, but for seeds that are larger.
const maxMutation = 64 << 10

// tokens are pieces that readers of JSON, YAML, XML, INI and command lines treat specially.
var tokens = []string{
	"{", "}", "[", "]", "{}", "[]", "\"", "'", ",", ":", "\n", "\r\n", "\t", " ", "\x00", "\xff", "\xc3", "\uFEFF", "\u202e", "é",
	"null", "true", "false", "0", "-1", "1e309", "-0.0", "NaN", "9223372036854775808", "18446744073709551616", "0x10", "1e-400",
	"999999999999999999999999", "<", ">", "&", "&#0;", "&amp;", "<!--", "<![CDATA[", "]]>", "<!DOCTYPE", "\\", "\\u0000", "\\ud800",
	"../", "/", "..", "%", "%s", "$", "${x}", "`", "=", "==", ";", "#", "--", "-", "@", "*", "?", "(", ")", "|", "+", "~",
	"!!binary ", "&a ", "*a", "<<: ", "|\n", "- ", "? ", "secret:", "::", "\x1b[31m", "\b",
}

// A Mutator changes inputs at random, and in the same way for the same name and inputs.
type Mutator struct {
	random *rand.Rand
	pool   [][]byte
}

// NewMutator returns a Mutator of the inputs in pool, of which there is at least one.
func NewMutator(name string, pool [][]byte) *Mutator {
	return &Mutator{random: seed(name), pool: pool}
}

// Next returns an input of the pool with a few changes.
func (m *Mutator) Next() []byte {
	data := bytes.Clone(m.pick())
	limit := max(maxMutation, len(data)+len(data)/4)
	for range 1 + m.random.IntN(4)*m.random.IntN(3) {
		if data = m.change(data); len(data) > limit {
			data = data[:limit]
		}
	}
	return data
}

func (m *Mutator) pick() []byte { return m.pool[m.random.IntN(len(m.pool))] }

// at is a place within data, up to its end.
func (m *Mutator) at(data []byte) int { return m.random.IntN(len(data) + 1) }

// span is a part of data, mostly a short one.
func (m *Mutator) span(data []byte) (from, to int) {
	from = m.at(data)
	length := 1 + m.random.IntN(16)
	if m.random.IntN(4) == 0 {
		length = m.random.IntN(len(data) + 1)
	}
	return from, min(len(data), from+length)
}

func (m *Mutator) change(data []byte) []byte {
	from, to := m.span(data)
	switch m.random.IntN(10) {
	case 0: // flip a bit
		if from < len(data) {
			data[from] ^= 1 << m.random.IntN(8)
		}
		return data
	case 1: // other bytes
		for i := from; i < to; i++ {
			data[i] = byte(m.random.Uint32())
		}
		return data
	case 2: // a number in binary
		for _, width := range []int{8, 4, 2} {
			if len(data)-from >= width {
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], []uint64{0, 1, 1<<63 - 1, 1 << 63, ^uint64(0), 1 << 31, 1 << 15}[m.random.IntN(7)])
				copy(data[from:from+width], b[:])
				break
			}
		}
		return data
	case 3: // without a part
		return append(data[:from], data[to:]...)
	case 4: // cut off
		return data[:from]
	case 5: // a part of it again, perhaps often
		times := 1
		if m.random.IntN(8) == 0 {
			times = 1 + m.random.IntN(4000)
		}
		return splice(data, to, to, bytes.Repeat(data[from:to], min(times, maxMutation/max(1, to-from))))
	case 6: // a part of another input
		other := m.pick()
		a, b := m.span(other)
		return splice(data, from, to, other[a:b])
	case 7: // another number for one that is there
		for i := from; i < len(data); i++ {
			if data[i] >= '0' && data[i] <= '9' {
				end := i
				for end < len(data) && data[end] >= '0' && data[end] <= '9' {
					end++
				}
				return splice(data, i, end, []byte(m.token()))
			}
		}
		return data
	case 8: // a token in the place of a part
		return splice(data, from, to, []byte(m.token()))
	}
	return splice(data, from, from, []byte(m.token()))
}

func (m *Mutator) token() string { return tokens[m.random.IntN(len(tokens))] }

// splice puts with in the place of data[from:to].
func splice(data []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(data)-(to-from)+len(with))
	out = append(out, data[:from]...)
	out = append(out, with...)
	return append(out, data[to:]...)
}
