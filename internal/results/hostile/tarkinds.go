package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// member is one file of a tar archive, written without any check.
type member struct {
	name, link string
	body       []byte
	kind       byte  // tar's type; 0: a plain file
	claim      int64 // the size that the header says; 0: the body's
}

const blockSize = 512

// headerOf is a member's tar header in ustar form.
func headerOf(m member) []byte {
	h := make([]byte, blockSize)
	copy(h[0:100], m.name)
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	size := m.claim
	if size == 0 {
		size = int64(len(m.body))
	}
	copy(h[124:], fmt.Sprintf("%011o\x00", size))
	copy(h[136:], "00000000000\x00")
	h[156] = m.kind
	if m.kind == 0 {
		h[156] = '0'
	}
	copy(h[157:257], m.link)
	copy(h[257:], "ustar\x0000")
	checksum(h)
	return h
}

func checksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h[:blockSize] {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

func appendMember(tar []byte, m member) []byte {
	tar = append(append(tar, headerOf(m)...), m.body...)
	return append(tar, make([]byte, (blockSize-len(m.body)%blockSize)%blockSize)...)
}

func tarOf(members ...member) []byte {
	var tar []byte
	for _, m := range members {
		tar = appendMember(tar, m)
	}
	return append(tar, make([]byte, 2*blockSize)...)
}

// smallDocument is a submission.json that can be read.
var smallDocument = []byte(`{"title":"t","testplan_id":"n::p","results":[{"full_id":"n::a","outcome":"pass","io_log":"log"}]}`)

func good() member { return member{name: "submission.json", body: smallDocument} }

func memberName(_ *Maker, r *rand.Rand, _ sample) Input {
	name := pick(r, []string{"/etc/passwd", "../x", "test_output/../../x", "a/./b", "a//b", `a\b`, "a\nb", "a\x1b[31mb", "a\x00b", "\xff\xfe", "C:/x", "..", "/", "~root/x",
		"test_output/\u202efdp.exe", "-rf", "test_output/" + strings.Repeat("x", 80), "./../../x", "a\u0085b", "$(reboot)", "test_output/%2e%2e/x"})
	clean := strings.HasPrefix(name, "test_output/x") || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "$") || strings.HasPrefix(name, "C:") ||
		strings.HasPrefix(name, "~") || strings.Contains(name, "%2e") || strings.Contains(name, "\u202e") || strings.Contains(name, "\u0085") || strings.Contains(name, "\x00")
	members := []member{good(), {name: name, body: []byte("x")}}
	if r.IntN(2) == 0 {
		members[0], members[1] = members[1], members[0]
	}
	return pack(tarOf(members...), fmt.Sprintf("%q", name), !clean)
}

func memberType(_ *Maker, r *rand.Rand, _ sample) Input {
	kind := byte(1 + r.IntN(255))
	m := member{name: "test_output/x", link: pick(r, []string{"submission.json", "/etc/shadow", "../../x", ""}), kind: kind}
	name := m.name
	if r.IntN(3) == 0 {
		m.name = "submission.json"
		return pack(tarOf(m), fmt.Sprintf("%q for %s", kind, m.name), kind != '0')
	}
	return pack(tarOf(good(), m), fmt.Sprintf("%q for %s", kind, name), strings.IndexByte("123467S", kind) >= 0)
}

// tarField puts anything into one field of a header, with a checksum that fits.
func tarField(_ *Maker, r *rand.Rand, s sample) Input {
	tar := bytes.Clone(s.tar)
	headers := len(tar) / blockSize
	at := 0
	for range 50 { // one that is a header
		if at = r.IntN(headers) * blockSize; string(tar[at+257:at+262]) == "ustar" {
			break
		}
		at = 0
	}
	h := tar[at : at+blockSize]
	field := pick(r, []struct {
		name     string
		from, to int
	}{{"name", 0, 100}, {"mode", 100, 108}, {"owner", 108, 124}, {"size", 124, 136}, {"time", 136, 148}, {"type", 156, 157}, {"link", 157, 257}, {"magic", 257, 265}, {"device", 329, 345}, {"prefix", 345, 500}})
	for i := field.from; i < field.to; i++ {
		switch r.IntN(3) {
		case 0:
			h[i] = byte(r.Uint32())
		case 1:
			h[i] = byte('0' + r.IntN(8))
		}
	}
	checksum(h)
	return pack(tar, field.name, false)
}

func tarSize(_ *Maker, r *rand.Rand, _ sample) Input {
	m := member{name: pick(r, []string{"submission.json", "test_output/x"}), body: smallDocument}
	switch r.IntN(3) {
	case 0:
		m.claim = 1<<20 + r.Int64N(1<<33-1<<20)
		return pack(append(tarOf(good())[:2*blockSize], tarOf(m)...), fmt.Sprintf("of %d bytes", m.claim), true)
	case 1: // in binary, as GNU tar writes large ones; perhaps negative
		h := headerOf(m)
		h[124] = pick(r, []byte{0x80, 0xff})
		binary.BigEndian.PutUint64(h[128:], r.Uint64())
		checksum(h)
		return pack(append(append(h, smallDocument...), make([]byte, 2048)...), "in binary", true)
	default:
		h := headerOf(m)
		copy(h[124:136], pick(r, []string{"-0000000001\x00", "9999999999999", "            ", "0x1234567890", "77777777777777", "1 2 3 4 5 6 "}))
		checksum(h)
		return pack(append(append(h, smallDocument...), make([]byte, 2048)...), "that is no number", false)
	}
}

// A paxRecord is the body of one of tar's extended headers.
type paxRecord struct {
	name, records string
	kind          byte
}

var paxTable = sync.OnceValue(func() []paxRecord {
	text := paxText
	return []paxRecord{
		{"a path that leads outside", text("path", "../../etc/passwd"), 'x'}, {"an absolute path", text("path", "/etc/passwd"), 'x'},
		{"a path of many bytes", text("path", strings.Repeat("x/", 2000)+"x"), 'x'}, {"a size", text("size", "99999999999999"), 'x'}, {"a negative size", text("size", "-1"), 'x'},
		{"a record that is too long", "999999999 path=x\n", 'x'}, {"a record without a length", "path=x\n", 'x'}, {"no end", "20 path=submission", 'x'},
		{"sparse 0.1", text("GNU.sparse.major", "0") + text("GNU.sparse.minor", "1") + text("GNU.sparse.size", "1073741824") + text("GNU.sparse.map", "0,1,1073741823,1"), 'x'},
		{"sparse 1.0", text("GNU.sparse.major", "1") + text("GNU.sparse.minor", "0") + text("GNU.sparse.realsize", "1073741824") + text("GNU.sparse.name", "submission.json"), 'x'},
		{"a global header", text("path", "submission.json"), 'g'}, {"a long name", strings.Repeat("x", 9000), 'L'}, {"a long link", "/etc/shadow\x00", 'K'},
		{"a path with a line's end", text("path", "a\nb"), 'x'}, {"another character set", text("hdrcharset", "BINARY") + text("path", "\xff\xfe"), 'x'},
		{"many records", strings.Repeat(text("comment", "x"), 500), 'x'}, {"many different records", manyRecords(), 'x'},
	}
})

// paxText is one record of an extended header: its own length in digits comes first.
func paxText(key, value string) string {
	n := len(key) + len(value) + 3
	for n != len(fmt.Sprintf("%d %s=%s\n", n, key, value)) {
		n = len(fmt.Sprintf("%d %s=%s\n", n, key, value))
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// paxRecords come before the members that they are about.
func paxRecords(_ *Maker, r *rand.Rand, _ sample) Input {
	c := pick(r, paxTable())
	tar := appendMember(nil, member{name: "PaxHeaders/x", kind: c.kind, body: []byte(c.records)})
	if r.IntN(10) == 0 { // headers of headers
		for range 200 {
			tar = appendMember(tar, member{name: "PaxHeaders/x", kind: c.kind, body: []byte(c.records[:min(len(c.records), 100)])})
		}
	}
	return pack(append(tar, tarOf(member{name: "test_output/x", body: smallDocument}, good())...), c.name, false)
}

func manyRecords() string {
	var b strings.Builder
	for i := range 500 {
		b.WriteString(paxText(fmt.Sprintf("VENDOR.key%d", i), "x"))
	}
	return b.String()
}

func manyMembers(_ *Maker, r *rand.Rand, _ sample) Input {
	n := 20 + r.IntN(60)
	if r.IntN(100) == 0 {
		n = 5000
	}
	members := []member{good()}
	for i := range n {
		members = append(members, member{name: fmt.Sprintf("test_output/%d", i)})
	}
	return pack(tarOf(members...), fmt.Sprint(n), false)
}

func memberTwice(_ *Maker, r *rand.Rand, _ sample) Input {
	twice := pick(r, []string{"submission.json", "./submission.json", "test_output/n__b", "attachment_files/x", "other"})
	first := strings.TrimPrefix(twice, "./")
	members := []member{{name: twice, body: smallDocument}, {name: first, body: smallDocument}}
	if first != "submission.json" {
		members = append(members, good())
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return pack(tarOf(members...), twice, true)
}

func tarDamaged(_ *Maker, r *rand.Rand, s sample) Input {
	tar := bytes.Clone(s.tar)
	switch r.IntN(4) {
	case 0:
		n := r.IntN(len(tar))
		return pack(tar[:n], fmt.Sprintf("cut off after byte %d", n), false)
	case 1:
		at := r.IntN(len(tar))
		tar[at] ^= byte(1 + r.IntN(255))
		return pack(tar, fmt.Sprintf("byte %d", at), false)
	case 2:
		return pack(append(tar, s.json[:100+r.IntN(1000)]...), "something after its end", true)
	default:
		at := r.IntN(len(tar)/blockSize) * blockSize
		return pack(append(bytes.Clone(tar[:at]), tar[min(len(tar), at+blockSize):]...), "a block is missing", false)
	}
}
