package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"

	"github.com/ulikunitz/xz"
)

// zeroBlock is what zeros unpacks to, in bytes.
const zeroBlock = 1 << 16

// zeros are LZMA2 chunks, packed once.
var zeros = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16, CheckSum: xz.CRC32}.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	if _, err = w.Write(make([]byte, zeroBlock)); err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	// The stream's header has 12 bytes, the block's is four times its first byte and four more; from its end the index and the
	// footer are taken off, and the block's padding and checksum.
	data := b.Bytes()
	header := 12 + (int(data[12])+1)*4
	index := (int(binary.LittleEndian.Uint32(data[len(data)-8:])) + 1) * 4
	chunks := data[header : len(data)-12-index-4]
	for len(chunks) > 1 && chunks[len(chunks)-1] == 0 && chunks[len(chunks)-2] == 0 {
		chunks = chunks[:len(chunks)-1]
	}
	return chunks
})

func xzHeader(_ *Maker, r *rand.Rand, s sample) Input {
	data := Store(s.tar)
	fix := func(from, to, at int) { binary.LittleEndian.PutUint32(data[at:], crc32.ChecksumIEEE(data[from:to])) }
	name := ""
	switch r.IntN(6) {
	case 0:
		name = "a check that is not known"
		data[7] = byte(2 + r.IntN(14))
		fix(6, 8, 8)
	case 1:
		name = "reserved flags"
		data[6+r.IntN(2)] |= 1 << (4 + r.IntN(4))
		fix(6, 8, 8)
	case 2:
		name = "a dictionary of gigabytes"
		data[12+4] = byte(30 + r.IntN(34))
		fix(12, 20, 20)
	case 3:
		name = "a filter that is not known"
		data[12+2] = byte(r.IntN(0x80))
		if data[12+2] == 0x21 {
			data[12+2]++
		}
		fix(12, 20, 20)
	case 4:
		name = "a long block header"
		data[12] = byte(3 + r.IntN(250))
	case 5:
		name = "block flags"
		data[13] = byte(1 + r.IntN(255))
		fix(12, 20, 20)
	}
	return Input{Name: name, Data: data, Unpacked: int64(len(s.tar)), Refused: name != "a dictionary of gigabytes"}
}

func xzBlocks(_ *Maker, r *rand.Rand, s sample) Input {
	out := newStream(pick(r, []byte{NoCheck, CRC32, CRC64}))
	switch r.IntN(5) {
	case 0: // allowed, but odd
		size := 512 + r.IntN(2000)
		for rest := s.tar; len(rest) > 0; {
			n := min(len(rest), size)
			out.block(rest[:n])
			rest = rest[n:]
		}
		return Input{Name: fmt.Sprintf("blocks of %d bytes", size), Data: out.close(), Unpacked: int64(len(s.tar))}
	case 1:
		for range 1000 {
			out.block(nil)
		}
		return Input{Name: "empty blocks", Data: out.close(), Refused: true}
	case 2: // chunks that are not LZMA2's
		chunks := make([]byte, 100+r.IntN(2000))
		for i := range chunks {
			chunks[i] = byte(r.Uint32())
		}
		out.packed(chunks, uint64(len(chunks)), make([]byte, 8))
		return Input{Name: "random chunks", Data: out.close(), Unpacked: 2 << 20, Refused: true}
	case 3: // a chunk that says that it is longer than it is
		out.packed(append([]byte{1, 0xff, 0xff}, s.tar[:min(len(s.tar), 5000)]...), 65536, nil)
		return Input{Name: "a short chunk", Data: out.close(), Unpacked: 65536, Refused: true}
	default:
		data := Store(s.tar)
		at := 24 + r.IntN(len(s.tar))
		data[at] ^= 0xff
		return Input{Name: "a byte that the checksum does not fit", Data: data, Unpacked: int64(len(s.tar)), Refused: true}
	}
}

func xzIndex(_ *Maker, r *rand.Rand, s sample) Input {
	out := newStream(CRC32)
	out.block(s.tar)
	name := ""
	switch r.IntN(4) {
	case 0:
		name = "more records than blocks"
		for range 1 + r.IntN(1000) {
			out.records = append(out.records, record{uint64(r.Uint32()), uint64(r.Uint32())})
		}
	case 1:
		name = "a record of another size"
		out.records[0].size += 1 + r.Uint64N(1<<40)
	case 2:
		name = "a record of another packed size"
		out.records[0].unpadded += 4 + r.Uint64N(1<<40)
	case 3:
		name = "no record"
		out.records = nil
	}
	return Input{Name: name, Data: out.close(), Unpacked: int64(len(s.tar)), Refused: true}
}

func xzEnds(_ *Maker, r *rand.Rand, s sample) Input {
	data := bytes.Clone(s.packed)
	switch r.IntN(4) {
	case 0:
		return Input{Name: "two streams", Data: append(data, s.packed...), Unpacked: 2 * int64(len(s.tar)), Refused: true}
	case 1:
		return Input{Name: "padding", Data: append(data, make([]byte, 1+r.IntN(5000))...), Unpacked: int64(len(s.tar)), Refused: true}
	case 2:
		return Input{Name: "garbage", Data: append(data, s.json[:1+r.IntN(len(s.json))]...), Unpacked: int64(len(s.tar)), Refused: true}
	default:
		binary.LittleEndian.PutUint32(data[len(data)-8:], r.Uint32())
		binary.LittleEndian.PutUint32(data[len(data)-12:], crc32.ChecksumIEEE(data[len(data)-8:len(data)-2]))
		return Input{Name: "a footer that points elsewhere", Data: data, Unpacked: int64(len(s.tar)), Refused: true}
	}
}
