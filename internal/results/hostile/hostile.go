package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// An Input is one submission to be taken in.
type Input struct {
	Name string // what is wrong with it, and its number
	Data []byte
	// Unpacked is how many bytes come out of Data at most when it is unpacked: with them, what reading it may cost is explained.
	Unpacked int64
	// Refused says that no reader may accept it.
	Refused bool
	// Intact says that a reader which accepts it must read the same as from Sound()[Sample].
	Intact bool
	Sample int
}

// A Maker makes inputs from samples of what Checkbox really wrote.
type Maker struct {
	samples []sample
}

type sample struct {
	packed []byte // the archive
	tar    []byte // unpacked
	json   []byte // its submission.json
	number int
	values [][2]int
}

// New returns a Maker. Each archive comes with what it is unpacked, and with its submission.json.
func New(packed, unpacked, submission [][]byte) *Maker {
	m := &Maker{}
	for i := range packed {
		m.samples = append(m.samples, sample{packed[i], unpacked[i], submission[i], i, spans(submission[i])})
	}
	return m
}

// maker makes one kind of input.
type maker func(m *Maker, r *rand.Rand, s sample) Input

// kinds are all there are; the first of each family come most often.
var kinds = []struct {
	name string
	make maker
}{
	{"cut off", cutOff}, {"bits flipped", bitsFlipped}, {"xz header", xzHeader}, {"xz blocks", xzBlocks}, {"xz index", xzIndex}, {"xz ends", xzEnds},
	{"other format", otherFormat}, {"member name", memberName}, {"member type", memberType}, {"tar field", tarField}, {"tar size", tarSize}, {"pax", paxRecords},
	{"many members", manyMembers}, {"member twice", memberTwice}, {"tar damaged", tarDamaged}, {"wrong type", wrongType}, {"JSON damaged", jsonDamaged},
	{"JSON deep", jsonDeep}, {"JSON large", jsonLarge}, {"JSON many", jsonMany}, {"JSON text", jsonText}, {"JUnit", junit}, {"bomb", bomb}, {"nested", nested},
}

// Make makes the nth input.
func (m *Maker) Make(n int) Input {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	kind := kinds[n%len(kinds)]
	in := kind.make(m, r, m.samples[r.IntN(len(m.samples))])
	in.Name = fmt.Sprintf("%s (%s) number %d", kind.name, in.Name, n)
	return in
}

// pack is a tar archive as .tar.xz.
func pack(tar []byte, name string, refused bool) Input {
	return Input{Name: name, Data: Store(tar), Unpacked: int64(len(tar)), Refused: refused}
}

// document is an archive with that submission.json.
func document(json []byte, name string, refused bool) Input {
	return pack(tarOf(member{name: "submission.json", body: json}), name, refused)
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func cutOff(_ *Maker, r *rand.Rand, s sample) Input {
	n := r.IntN(len(s.packed))
	return Input{Name: fmt.Sprintf("after byte %d", n), Data: s.packed[:n], Unpacked: int64(len(s.tar)), Refused: true}
}

func bitsFlipped(_ *Maker, r *rand.Rand, s sample) Input {
	data := bytes.Clone(s.packed)
	where := "anywhere"
	low, high := 0, len(data)
	switch r.IntN(4) {
	case 0:
		where, high = "in the header", 36
	case 1:
		where, low = "in index and footer", len(data)-48
	}
	at := low + r.IntN(high-low)
	data[at] ^= 1 << r.IntN(8)
	// There is one byte in each chunk that is always zero, says nothing and has no checksum of its own.
	return Input{Name: where, Data: data, Unpacked: 1 << 20, Intact: true, Sample: s.number}
}

func otherFormat(_ *Maker, r *rand.Rand, s sample) Input {
	c := pick(r, []struct {
		name string
		head string
	}{
		{"gzip", "\x1f\x8b\x08\x00"}, {"bzip2", "BZh91AY&SY"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"zip", "PK\x03\x04"}, {"lzma", "\x5d\x00\x00\x80\x00"},
		{"lz4", "\x04\x22\x4d\x18"}, {"7z", "7z\xbc\xaf\x27\x1c"}, {"html", "<!DOCTYPE html><html>"}, {"nothing", ""}, {"white space", " \n\t "},
		{"PDF", "%PDF-1.7"}, {"ELF", "\x7fELF"}, {"the magic alone", "\xfd7zXZ\x00"}, {"text", "hello"}, {"a JSON list", `[{"results":[]}]`}, {"another JSON", `{"a":1}`},
	})
	data := []byte(c.head)
	if len(c.head) > 0 && r.IntN(2) == 0 {
		data = append(data, s.packed[r.IntN(len(s.packed)):]...)
	}
	if r.IntN(10) == 0 {
		return Input{Name: "a tar archive", Data: s.tar, Refused: true}
	}
	return Input{Name: c.name, Data: data, Refused: true}
}

// bomb packs little into much.
func bomb(_ *Maker, r *rand.Rand, s sample) Input {
	chunks, times := zeros(), 1+r.IntN(3)
	out := newStream(NoCheck)
	switch name := pick(r, []string{"zeros", "zeros in a member", "zeros after the submission", "zeros in a text"}); name {
	case "zeros in a member":
		out.block(headerOf(member{name: "test_output/x", claim: int64(times) * zeroBlock}))
		for range times {
			out.packed(chunks, zeroBlock, nil)
		}
		out.block(make([]byte, 1024))
		return Input{Name: name, Data: out.close(), Unpacked: int64(times)*zeroBlock + 1536, Refused: true}
	case "zeros after the submission":
		out.block(s.tar)
		for range times {
			out.packed(chunks, zeroBlock, nil)
		}
		return Input{Name: name, Data: out.close(), Unpacked: int64(times)*zeroBlock + int64(len(s.tar))}
	case "zeros in a text":
		head := `{"results":[],"system_information":{"j":{"outputs":{"payload":"`
		out.block(append(headerOf(member{name: "submission.json", claim: int64(len(head)) + int64(times)*zeroBlock}), head...))
		for range times {
			out.packed(chunks, zeroBlock, nil)
		}
		return Input{Name: name, Data: out.close(), Unpacked: int64(times)*zeroBlock + 1024, Refused: true}
	default:
		for range times {
			out.packed(chunks, zeroBlock, nil)
		}
		return Input{Name: name, Data: out.close(), Unpacked: int64(times) * zeroBlock, Refused: true}
	}
}

// nested packs archives into archives.
func nested(_ *Maker, r *rand.Rand, s sample) Input {
	inner := s.packed
	depth := 1 + r.IntN(5)
	var tar []byte
	for range depth {
		tar = tarOf(member{name: pick(r, []string{"submission.tar.xz", "attachment_files/inner", "submission.json"}), body: inner})
		inner = Store(tar)
	}
	return Input{Name: fmt.Sprintf("%d deep", depth), Data: inner, Unpacked: int64(len(tar)), Refused: true}
}

// Sound are the samples as they are.
func (m *Maker) Sound() []Input {
	var all []Input
	for _, s := range m.samples {
		all = append(all, Input{Name: "sound", Data: s.packed, Unpacked: int64(len(s.tar))})
	}
	return all
}
