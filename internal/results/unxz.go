package results

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// unxz reads one .xz stream (xz-file-format 1.1.0) with LZMA2, the only filter that Checkbox uses.
//
// It is here because the libraries that exist take the size of the dictionary from the file, up to 4 GiB, and allocate it before
// the first byte is there: 70 bytes would cost the controller its memory. This one refuses a dictionary above its limit, in each
// block, and lets it grow only with what comes out. It also needs 60 % of the time (see BenchmarkUnxz).
//
// Its errors are *Error: Truncated, Corrupt, TrailingData for whatever follows the stream's footer, or LimitExceeded.
type unxz struct {
	in      *byteReader
	maxDict int64

	started bool
	flags   [2]byte
	check   hash.Hash // of the block; nil: none
	lzma    lzma2
	inBlock bool
	block   blockHeader
	start   int64 // of the block in the file
	data    int64 // where its compressed data begins
	out     int64 // bytes that came out of the block
	blocks  uint64
	index   hash.Hash // over the sizes of the blocks so far
	err     error
}

// blockHeader is what a block says of itself; sizes are -1 if it does not say.
type blockHeader struct {
	size                     int64 // of the header
	compressed, uncompressed int64
	dictionary               int64
}

var (
	crc64Table = crc64.MakeTable(crc64.ECMA)
	footMagic  = []byte("YZ")
)

func corrupt(format string, args ...any) error {
	return &Error{Kind: Corrupt, Detail: "xz: " + fmt.Sprintf(format, args...)}
}

func newUnxz(in io.Reader, maxDict int64) *unxz {
	return &unxz{in: newByteReader(in), maxDict: maxDict, index: sha256.New()}
}

func (u *unxz) Read(p []byte) (int, error) {
	for u.err == nil {
		if !u.inBlock {
			u.err = u.next()
			continue
		}
		n, err := u.lzma.read(p)
		if n > 0 {
			u.out += int64(n)
			if u.block.uncompressed >= 0 && u.out > u.block.uncompressed {
				u.err = corrupt("a block is larger than it says")
				break
			}
			if u.check != nil {
				u.check.Write(p[:n])
			}
			return n, nil
		}
		if err == io.EOF {
			u.err = u.endBlock()
			continue
		}
		if err != nil {
			u.err = err
		} else if len(p) == 0 {
			return 0, nil
		}
	}
	return 0, u.err
}

// next reads what comes between blocks: the stream's header, a block's header, or the stream's end.
func (u *unxz) next() error {
	if !u.started {
		u.started = true
		if err := u.streamHeader(); err != nil {
			return err
		}
	}
	u.start = u.in.n
	size, err := u.in.byte()
	if err != nil {
		return err
	}
	if size == 0 {
		return u.streamEnd()
	}
	header := make([]byte, (int(size)+1)*4)
	header[0] = size
	if err := u.in.full(header[1:]); err != nil {
		return err
	}
	if u.block, err = parseBlockHeader(header); err != nil {
		return err
	}
	if u.block.dictionary > u.maxDict {
		return limitError("dictionary", u.maxDict)
	}
	switch u.flags[1] {
	case 0:
		u.check = nil
	case 1:
		u.check = crc32.NewIEEE()
	case 4:
		u.check = crc64.New(crc64Table)
	case 10:
		u.check = sha256.New()
	default:
		return corrupt("unknown kind of checksum %d", u.flags[1])
	}
	u.data = u.in.n
	u.out = 0
	u.inBlock = true
	u.lzma.reset(u.in, u.block.dictionary)
	return nil
}

func (u *unxz) streamHeader() error {
	var h [12]byte
	if err := u.in.full(h[:]); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(h[:6], xzMagic):
		return corrupt("not an xz stream")
	case crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]):
		return corrupt("checksum of the header")
	case h[6] != 0 || h[7] > 15:
		return corrupt("unknown flags")
	}
	copy(u.flags[:], h[6:8])
	return nil
}

func parseBlockHeader(h []byte) (blockHeader, error) {
	b := blockHeader{size: int64(len(h)), compressed: -1, uncompressed: -1}
	body, sum := h[:len(h)-4], h[len(h)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return b, corrupt("checksum of a block's header")
	}
	flags := body[1]
	rest := body[2:]
	number := func() (int64, bool) {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > 1<<62 {
			return 0, false
		}
		rest = rest[size:]
		return int64(n), true
	}
	bad := func() (blockHeader, error) { return b, corrupt("a block's header") }
	if flags&0x3c != 0 {
		return bad()
	}
	if flags&3 != 0 {
		return b, corrupt("a filter other than LZMA2")
	}
	for _, field := range []struct {
		bit  byte
		size *int64
	}{{0x40, &b.compressed}, {0x80, &b.uncompressed}} {
		if flags&field.bit != 0 {
			n, ok := number()
			if !ok {
				return bad()
			}
			*field.size = n
		}
	}
	id, ok := number()
	if !ok {
		return bad()
	}
	if id != 0x21 {
		return b, corrupt("a filter other than LZMA2")
	}
	if size, ok := number(); !ok || size != 1 || len(rest) < 1 || rest[0] > 40 {
		return bad()
	}
	bits := rest[0]
	b.dictionary = int64(2|bits&1) << (bits/2 + 11)
	if bits == 40 {
		b.dictionary = 1<<32 - 1
	}
	for _, pad := range rest[1:] {
		if pad != 0 {
			return bad()
		}
	}
	return b, nil
}

// endBlock checks the padding, the sizes and the checksum after a block's data.
func (u *unxz) endBlock() error {
	u.inBlock = false
	compressed := u.in.n - u.data
	if u.block.compressed >= 0 && compressed != u.block.compressed || u.block.uncompressed >= 0 && u.out != u.block.uncompressed {
		return corrupt("a block is not as large as it says")
	}
	if err := u.zeros(int(-compressed & 3)); err != nil {
		return err
	}
	unpadded := u.block.size + compressed
	if u.check != nil {
		var stored [sha256.Size]byte
		got := u.check.Sum(nil)
		if err := u.in.full(stored[:len(got)]); err != nil {
			return err
		}
		if u.flags[1] != 10 { // CRCs are little endian
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if !bytes.Equal(got, stored[:len(got)]) {
			return corrupt("checksum of the data")
		}
		unpadded += int64(len(got))
	}
	u.blocks++
	addRecord(u.index, uint64(unpadded), uint64(u.out))
	return nil
}

func addRecord(h hash.Hash, unpadded, uncompressed uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], unpadded)
	binary.LittleEndian.PutUint64(b[8:], uncompressed)
	h.Write(b[:])
}

func (u *unxz) zeros(n int) error {
	for range n {
		b, err := u.in.byte()
		if err != nil {
			return err
		}
		if b != 0 {
			return corrupt("padding is not zero")
		}
	}
	return nil
}

// streamEnd reads the index and the footer, and checks that nothing follows.
func (u *unxz) streamEnd() error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	number := func() (uint64, error) {
		var n uint64
		for shift := 0; ; shift += 7 {
			b, err := u.in.byte()
			if err != nil {
				return 0, err
			}
			sum.Write([]byte{b})
			if shift > 56 || b == 0 && shift > 0 {
				return 0, corrupt("the index")
			}
			n |= uint64(b&0x7f) << shift
			if b < 0x80 {
				return n, nil
			}
		}
	}
	records, err := number()
	if err != nil {
		return err
	}
	if records != u.blocks {
		return corrupt("the index does not fit the blocks")
	}
	index := sha256.New()
	for range records {
		unpadded, err := number()
		if err != nil {
			return err
		}
		uncompressed, err := number()
		if err != nil {
			return err
		}
		addRecord(index, unpadded, uncompressed)
	}
	if !bytes.Equal(index.Sum(nil), u.index.Sum(nil)) {
		return corrupt("the index does not fit the blocks")
	}
	padding := int(-(u.in.n - u.start) & 3)
	if err := u.zeros(padding); err != nil {
		return err
	}
	sum.Write(make([]byte, padding))
	size := u.in.n - u.start + 4
	var foot [16]byte // the index's checksum, then the footer
	if err := u.in.full(foot[:]); err != nil {
		return err
	}
	switch {
	case sum.Sum32() != binary.LittleEndian.Uint32(foot[:4]):
		return corrupt("checksum of the index")
	case crc32.ChecksumIEEE(foot[8:14]) != binary.LittleEndian.Uint32(foot[4:8]):
		return corrupt("checksum of the footer")
	case (int64(binary.LittleEndian.Uint32(foot[8:12]))+1)*4 != size:
		return corrupt("the size of the index")
	case !bytes.Equal(foot[12:14], u.flags[:]) || !bytes.Equal(foot[14:], footMagic):
		return corrupt("the footer")
	}
	if _, err := u.in.byte(); err == nil {
		return &Error{Kind: TrailingData, Detail: "something follows the end of the xz stream"}
	} else if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return io.EOF
}

// byteReader is a buffer with a count of what was taken from it.
type byteReader struct {
	r        io.Reader
	buf      []byte
	pos, end int
	n        int64
	err      error
	idle     int
}

func newByteReader(r io.Reader) *byteReader { return &byteReader{r: r, buf: make([]byte, 64<<10)} }

func (b *byteReader) fill() error {
	for b.err == nil {
		b.pos = 0
		b.end, b.err = b.r.Read(b.buf)
		if b.end > 0 {
			b.idle = 0
			return nil
		}
		if b.idle++; b.idle > maxIdle && b.err == nil {
			b.err = io.ErrNoProgress
		}
	}
	if b.err == io.EOF {
		return &Error{Kind: Truncated, Detail: "the archive ends too early", Err: io.ErrUnexpectedEOF}
	}
	return b.err
}

func (b *byteReader) byte() (byte, error) {
	if b.pos == b.end {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	c := b.buf[b.pos]
	b.pos++
	b.n++
	return c, nil
}

func (b *byteReader) full(p []byte) error {
	for len(p) > 0 {
		if b.pos == b.end {
			if err := b.fill(); err != nil {
				return err
			}
		}
		n := copy(p, b.buf[b.pos:b.end])
		b.pos += n
		b.n += int64(n)
		p = p[n:]
	}
	return nil
}
