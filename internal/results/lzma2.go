package results

import (
	"encoding/binary"
	"io"
)

// lzma2 decodes the LZMA2 data of one block: chunks, each either plain or compressed with LZMA, that share a dictionary of what
// came last.
type lzma2 struct {
	in       *byteReader
	dictSize int    // as the block says
	window   []byte // the dictionary, circular once it has its full size
	pos      int    // where the next byte goes
	unread   int    // window[unread:pos] was not handed out yet
	wrapped  bool
	valid    int64 // bytes since the dictionary was reset

	plain      bool // the chunk's kind
	left       int  // bytes that the chunk has yet to give
	done       bool
	needDict   bool
	needProps  bool
	needState  bool
	rangeCoder rangeCoder
	lzma       lzma
}

// rangeCoder holds a compressed chunk, which is at most 64 KiB, and how far it was decoded.
type rangeCoder struct {
	buf       [1<<16 + coderSlack]byte
	pos, end  int
	rng, code uint32
}

// coderSlack is more than one symbol can read, so that the end needs to be looked at only after each symbol.
const coderSlack = 64

const (
	states      = 12
	posSlots    = 64
	firstWindow = 256 << 10
)

// lzma is the state of the decoder: adaptive probabilities, and the last four distances.
type lzma struct {
	lc, lp, pb uint
	state      uint32
	rep        [4]uint32
	pending    int // bytes of a match that did not fit

	isMatch    [states << 4]uint16
	isRep      [states]uint16
	isRepG0    [states]uint16
	isRepG1    [states]uint16
	isRepG2    [states]uint16
	isRep0Long [states << 4]uint16
	posSlot    [4][posSlots]uint16
	special    [115]uint16
	align      [16]uint16
	matchLen   lengthCoder
	repLen     lengthCoder
	literal    [0x300 << 4]uint16
}

type lengthCoder struct {
	choice, choice2 uint16
	low, mid        [16][8]uint16
	high            [256]uint16
}

const half = 1 << 10 // even odds

func reset(probs []uint16) {
	for i := range probs {
		probs[i] = half
	}
}

func (c *lengthCoder) reset() {
	c.choice, c.choice2 = half, half
	for i := range c.low {
		reset(c.low[i][:])
		reset(c.mid[i][:])
	}
	reset(c.high[:])
}

func (z *lzma) reset() {
	z.state = 0
	z.rep = [4]uint32{}
	z.pending = 0
	for _, probs := range [][]uint16{
		z.isMatch[:], z.isRep[:], z.isRepG0[:], z.isRepG1[:], z.isRepG2[:], z.isRep0Long[:], z.special[:], z.align[:],
		z.literal[:0x300<<(z.lc+z.lp)],
	} {
		reset(probs)
	}
	for i := range z.posSlot {
		reset(z.posSlot[i][:])
	}
	z.matchLen.reset()
	z.repLen.reset()
}

// reset begins a block.
func (l *lzma2) reset(in *byteReader, dictionary int64) {
	l.in = in
	l.dictSize = int(max(dictionary, 4096))
	if l.window == nil {
		l.window = make([]byte, min(l.dictSize, firstWindow))
	}
	if len(l.window) > l.dictSize {
		l.window = l.window[:l.dictSize]
	}
	l.pos, l.unread, l.valid = 0, 0, 0
	l.left = 0
	l.done = false
	l.needDict, l.needProps, l.needState = true, true, true
}

// read decodes into p; io.EOF at the end of the block's data.
func (l *lzma2) read(p []byte) (int, error) {
	for {
		if l.unread < l.pos {
			n := copy(p, l.window[l.unread:l.pos])
			l.unread += n
			return n, nil
		}
		if l.done {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if l.left == 0 {
			if err := l.chunk(); err != nil {
				return 0, err
			}
			continue
		}
		if l.pos == len(l.window) {
			l.makeRoom()
		}
		limit := min(len(l.window), l.pos+min(l.left, max(len(p), 4096)))
		from := l.pos
		var err error
		if l.plain {
			err = l.in.full(l.window[l.pos:limit])
			l.pos = limit
		} else {
			err = l.decode(limit)
		}
		l.left -= l.pos - from
		l.valid += int64(l.pos - from)
		if err == nil && !l.plain && l.left == 0 {
			err = l.endChunk()
		}
		if err != nil {
			return 0, err
		}
	}
}

// makeRoom lets the window grow to the dictionary's size, and then goes back to its start. All of it was handed out.
func (l *lzma2) makeRoom() {
	if len(l.window) < l.dictSize && l.valid <= int64(len(l.window)) && !l.wrapped {
		grown := make([]byte, min(l.dictSize, 2*len(l.window)))
		copy(grown, l.window)
		l.window = grown
		return
	}
	l.wrapped = true
	l.pos, l.unread = 0, 0
}

// chunk reads a chunk's header, and its data if that is compressed.
func (l *lzma2) chunk() error {
	control, err := l.in.byte()
	if err != nil {
		return err
	}
	if control == 0 {
		l.done = true
		return nil
	}
	if control == 1 || control >= 0xe0 {
		l.needDict = false
		l.needProps = true
		l.valid = 0
		if !l.wrapped { // else the old contents may not be reached any more: valid says so
			l.pos, l.unread = 0, 0
		}
	} else if l.needDict {
		return corrupt("the first chunk needs a dictionary")
	}
	if control < 0x80 {
		if control > 2 {
			return corrupt("a chunk of unknown kind")
		}
		var h [2]byte
		if err := l.in.full(h[:]); err != nil {
			return err
		}
		l.plain = true
		l.left = int(binary.BigEndian.Uint16(h[:])) + 1
		return nil
	}
	var h [4]byte
	if err := l.in.full(h[:]); err != nil {
		return err
	}
	l.plain = false
	l.left = (int(control&0x1f)<<16 | int(binary.BigEndian.Uint16(h[:2]))) + 1
	size := int(binary.BigEndian.Uint16(h[2:])) + 1
	if control >= 0xc0 {
		props, err := l.in.byte()
		if err != nil {
			return err
		}
		if props >= 9*5*5 {
			return corrupt("a chunk's properties")
		}
		l.lzma.lc, l.lzma.lp, l.lzma.pb = uint(props%9), uint(props/9%5), uint(props/45)
		if l.lzma.lc+l.lzma.lp > 4 {
			return corrupt("a chunk's properties")
		}
		l.needProps = false
	} else if l.needProps {
		return corrupt("a chunk without properties")
	}
	if control >= 0xa0 {
		l.lzma.reset()
		l.needState = false
	} else if l.needState {
		return corrupt("a chunk without a state")
	}
	rc := &l.rangeCoder
	if size < 5 {
		return corrupt("a chunk is too small")
	}
	if err := l.in.full(rc.buf[:size]); err != nil {
		return err
	}
	if rc.buf[0] != 0 {
		return corrupt("a chunk's first byte")
	}
	rc.rng = 0xffffffff
	rc.code = binary.BigEndian.Uint32(rc.buf[1:])
	rc.pos, rc.end = 5, size
	return nil
}

// endChunk checks that a compressed chunk was used up.
func (l *lzma2) endChunk() error {
	rc := &l.rangeCoder
	if rc.rng < 1<<24 {
		rc.rng <<= 8
		rc.code = rc.code<<8 | uint32(rc.buf[rc.pos])
		rc.pos++
	}
	if rc.pos != rc.end || rc.code != 0 || l.lzma.pending != 0 {
		return corrupt("a chunk is not as large as it says")
	}
	return nil
}
