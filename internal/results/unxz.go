package results

import (
	"errors"
	"io"
	"math"

	"github.com/therootcompany/xz"
)

// unxz unpacks one .xz stream with a library that refuses a dictionary above a limit before it allocates it (others take what the
// file says, up to 4 GiB). Its errors are *Error: Truncated, Corrupt, TrailingData for whatever follows the stream, or
// LimitExceeded.
//
// Measured on 82 MB of journal-like text, in an archive of 12 MB: xz 1.1 s, this library 1.9 times that, ulikunitz/xz 2.2 to 2.9
// times. Reading the JSON meanwhile costs nothing more on a second processor (see readAhead).
type unxz struct {
	in      *tailReader
	maxDict uint32
	xz      *xz.Reader
	err     error
}

func newUnxz(in io.Reader, maxDict int64) *unxz {
	return &unxz{in: &tailReader{r: in}, maxDict: uint32(min(maxDict, math.MaxUint32))}
}

func (u *unxz) Read(p []byte) (int, error) {
	if u.err == nil && u.xz == nil {
		if u.xz, u.err = xz.NewReader(u.in, u.maxDict); u.err == nil {
			u.xz.Multistream(false)
		} else {
			u.err = u.explain(u.err)
		}
	}
	if u.err != nil || len(p) == 0 {
		return 0, u.err
	}
	n, err := u.xz.Read(p)
	if err == io.EOF {
		u.err = u.finish()
	} else if err != nil {
		u.err = u.explain(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, u.err
}

// explain makes an Error of the library's.
func (u *unxz) explain(err error) error {
	switch {
	case u.in.err != nil:
		return u.in.err
	case errors.Is(err, xz.ErrMemlimit):
		return limitError("dictionary", int64(u.maxDict))
	case errors.Is(err, xz.ErrData) && u.in.padded():
		return trailing()
	case errors.Is(err, xz.ErrBuf), err == io.EOF, errors.Is(err, xz.ErrFormat) && u.in.n < streamHeader:
		return &Error{Kind: Truncated, Detail: "the archive ends too early", Offset: u.in.n, Err: io.ErrUnexpectedEOF}
	case errors.Is(err, xz.ErrOptions), errors.Is(err, xz.ErrUnsupportedCheck):
		return &Error{Kind: Corrupt, Detail: "the archive says that it was packed in a way that xz does not know"}
	}
	return &Error{Kind: Corrupt, Detail: "what xz packed is damaged", Offset: u.in.n}
}

const streamHeader = 12

// finish checks that the stream was the last thing in the file: neither another stream nor padding, which the library would skip.
func (u *unxz) finish() error {
	if err := u.xz.Reset(nil); err != io.EOF { // what the library has in its buffer
		if u.in.err != nil {
			return u.in.err
		}
		return trailing()
	}
	if n, err := io.Copy(io.Discard, u.in); err != nil {
		return err
	} else if n > 0 || u.in.zeros > 0 {
		return trailing()
	}
	return io.EOF
}

func trailing() error {
	return &Error{Kind: TrailingData, Detail: "something follows the end of the xz stream"}
}

// tailReader remembers how the file ends, how many bytes it had, and why it could not be read on.
type tailReader struct {
	r     io.Reader
	n     int64
	last  byte
	tail  [2]byte // the last byte that is not zero, and the one before it
	zeros int     // after that
	err   error
}

// padded reads the rest and reports whether the file ends as an xz stream does but for zeros after that. The library takes a
// number of them that is not a multiple of four for damage.
func (t *tailReader) padded() bool {
	_, err := io.Copy(io.Discard, t)
	return err == nil && t.tail == [2]byte{'Y', 'Z'} && t.zeros > 0
}

// Read fills p as far as the file goes, so that places in errors do not depend on how the file comes.
func (t *tailReader) Read(p []byte) (int, error) {
	n, err := io.ReadFull(t.r, p)
	if err == io.ErrUnexpectedEOF {
		err = nil // the library takes an end that comes with bytes for the end of all bytes
	}
	for i := n - 1; ; i-- { // only the end matters
		if i < 0 {
			t.zeros += n
			break
		}
		if p[i] == 0 {
			continue
		}
		t.zeros = n - 1 - i
		if i > 0 {
			t.last = p[i-1]
		}
		t.tail = [2]byte{t.last, p[i]}
		break
	}
	if n > 0 {
		t.last = p[n-1]
	}
	t.n += int64(n)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
