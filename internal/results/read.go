package results

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// Options say how to read a submission. The zero value reads with DefaultLimits and keeps no logs.
type Options struct {
	Limits Limits

	// KeepLog is how many bytes of each job's log to keep in Result.Log; as with all that is held, Limits.Held bounds the sum.
	// A log that does not fit any more is not kept at all.
	KeepLog int

	// Log is called before a job's log is read; the log goes to what it returns, unless that is nil. index counts from 0 within
	// the list as the file has it, id is the job's full id if the file named it before the log, as Checkbox does.
	Log func(index int, id string) io.Writer

	// Member is called before a member of an archive other than submission.json is read; its bytes go to what it returns, unless
	// that is nil.
	Member func(Member) io.Writer
}

// Read reads an archive, a submission.json or JUnit XML, whichever r holds, to its end. The error is an *Error.
func Read(r io.Reader, opts Options) (*Submission, error) {
	opts.Limits = opts.Limits.withDefaults()
	src := &sourceReader{r: r}
	in := bufio.NewReaderSize(src, 64<<10)
	format, err := sniff(in)
	if err != nil {
		return nil, src.failure(err)
	}
	var sub *Submission
	switch format {
	case Archive:
		src.max, src.lim = opts.Limits.CompressedSize, "compressed-size"
		sub, err = readArchive(in, src, opts)
	case JSON:
		src.max, src.lim = opts.Limits.TotalSize, "total-size"
		sub, err = readJSON(in, opts)
	case JUnit:
		src.max, src.lim = opts.Limits.TotalSize, "total-size"
		sub, err = readJUnit(in, opts)
	}
	if err = src.failure(err); err != nil {
		return nil, err
	}
	sub.Format = format
	sub.views()
	return sub, nil
}

var (
	xzMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	bom     = []byte("\uFEFF")
)

// others names what people confuse with a submission, by its first bytes.
var others = []struct{ magic, name string }{
	{"\x1f\x8b", "gzip (Checkbox writes .tar.xz)"},
	{"BZh", "bzip2 (Checkbox writes .tar.xz)"},
	{"\x28\xb5\x2f\xfd", "zstd (Checkbox writes .tar.xz)"},
	{"PK\x03\x04", "zip, perhaps the .xlsx report"},
	{"<!DOCTYPE html", "HTML, perhaps the .html report"},
	{"<!doctype html", "HTML, perhaps the .html report"},
	{"<html", "HTML, perhaps the .html report"},
}

// sniff tells the format by the first bytes, of which it takes only a byte order mark.
func sniff(in *bufio.Reader) (Format, error) {
	if b, _ := in.Peek(len(bom)); bytes.Equal(b, bom) {
		in.Discard(len(bom))
	}
	head, err := in.Peek(512)
	if len(head) == 0 && err != nil {
		return "", &Error{Kind: Empty, Detail: "it is empty"}
	}
	if bytes.HasPrefix(head, xzMagic) {
		return Archive, nil
	}
	for _, o := range others {
		if bytes.HasPrefix(head, []byte(o.magic)) {
			return "", &Error{Kind: UnknownFormat, Detail: "it is " + o.name}
		}
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return "", &Error{Kind: UnknownFormat, Detail: "it is a tar archive that is not compressed (Checkbox writes .tar.xz)"}
	}
	switch text := bytes.TrimLeft(head, " \t\r\n"); {
	case len(text) == 0:
		return "", &Error{Kind: UnknownFormat, Detail: "it begins with white space only"}
	case text[0] == '{':
		return JSON, nil
	case text[0] == '<':
		return JUnit, nil
	}
	return "", &Error{Kind: UnknownFormat, Detail: "it is neither a .tar.xz archive, nor JSON, nor JUnit XML"}
}

// budget counts what is held.
type budget struct {
	left, max int64
}

// What things cost besides the bytes of their texts: about what they and the maps and slices that they are in occupy, while these
// grow.
const (
	recordCost    = 1024 // a Result, which is also copied into the lists by plugin
	memberCost    = 256
	entryCost     = 128 // an entry in a map
	mapCost       = 320
	keyCost       = 64 // a key that is remembered while its object is read
	packageCost   = 96
	collectorCost = 384
)

// give takes back what is not held any more.
func (b *budget) give(n int) { b.left += int64(n) }

func (b *budget) take(n int) error {
	if b.left -= int64(n); b.left < 0 {
		return limitError("held", b.max)
	}
	return nil
}

// head keeps the beginning of what is written to it, at most max bytes and whole characters.
type head struct {
	b   []byte
	max int
}

func (h *head) add(chunk []byte) {
	room := h.max - len(h.b)
	if room <= 0 {
		return
	}
	if len(chunk) > room {
		for room > 0 && !utf8.RuneStart(chunk[room]) {
			room--
		}
		chunk = chunk[:room]
		h.max = 0
	}
	h.b = append(h.b, chunk...)
}

func writeTo(w io.Writer, chunk []byte) error {
	if _, err := w.Write(chunk); err != nil {
		return &Error{Kind: WriteFailed, Err: fmt.Errorf("cannot pass it on: %w", err)}
	}
	return nil
}
