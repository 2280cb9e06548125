package hostile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"
)

// Checks of an xz stream, by the number that the format gives them. The library that reads them knows these.
const (
	NoCheck = 0
	CRC32   = 1
	CRC64   = 4
)

var (
	xzMagic  = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	crcTable = crc64.MakeTable(crc64.ECMA)
)

// A stream writes an .xz file whose blocks are stored and not compressed, at the speed of its checksums, so that thousands can be
// made. Its fields can be set to what the format does not allow. (The format: https://tukaani.org/xz/xz-file-format.txt)
type stream struct {
	check      byte
	dictionary byte // of blocks to come, as the format writes it: 8 is 64 KiB, 0x16 is 8 MiB
	out        bytes.Buffer
	records    []record
}

type record struct{ unpadded, size uint64 }

func newStream(check byte) *stream {
	s := &stream{check: check, dictionary: 8}
	s.out.Write(xzMagic)
	flags := []byte{0, check}
	s.out.Write(flags)
	s.crc(flags)
	return s
}

// Store is data as an .xz file.
func Store(data []byte) []byte {
	s := newStream(CRC32)
	s.block(data)
	return s.close()
}

func (s *stream) crc(b []byte) {
	s.out.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
}

func (s *stream) pad() {
	for s.out.Len()%4 != 0 {
		s.out.WriteByte(0)
	}
}

// block writes data as one block of stored chunks.
func (s *stream) block(data []byte) {
	var b bytes.Buffer
	control := byte(1) // the first chunk resets the dictionary
	for rest := data; len(rest) > 0; control = 2 {
		n := min(len(rest), 1<<16)
		b.WriteByte(control)
		b.Write(binary.BigEndian.AppendUint16(nil, uint16(n-1)))
		b.Write(rest[:n])
		rest = rest[n:]
	}
	b.WriteByte(0)
	s.packed(b.Bytes(), uint64(len(data)), s.sum(data))
}

// packed writes a block whose LZMA2 chunks are made already.
func (s *stream) packed(chunks []byte, size uint64, sum []byte) {
	start := s.out.Len()
	header := []byte{2, 0, 0x21, 1, s.dictionary, 0, 0, 0}
	s.out.Write(header)
	s.crc(header)
	s.out.Write(chunks)
	unpadded := s.out.Len() - start + len(sum)
	s.pad()
	s.out.Write(sum)
	s.records = append(s.records, record{uint64(unpadded), size})
}

func (s *stream) sum(data []byte) []byte {
	switch s.check {
	case CRC32:
		return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	case CRC64:
		return binary.LittleEndian.AppendUint64(nil, crc64.Checksum(data, crcTable))
	}
	return nil
}

// close writes index and footer and returns the file.
func (s *stream) close() []byte {
	index := binary.AppendUvarint([]byte{0}, uint64(len(s.records)))
	for _, r := range s.records {
		index = binary.AppendUvarint(index, r.unpadded)
		index = binary.AppendUvarint(index, r.size)
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	s.out.Write(index)
	s.crc(index)
	footer := binary.LittleEndian.AppendUint32(nil, uint32((len(index)+4)/4-1))
	footer = append(footer, 0, s.check)
	s.crc(footer)
	s.out.Write(footer)
	s.out.WriteString("YZ")
	return s.out.Bytes()
}
