package results

import (
	"bufio"
	"io"

	"github.com/ulikunitz/xz"
)

func unxz(in *bufio.Reader, dictionary int64) io.ReadCloser {
	r, err := xz.ReaderConfig{}.NewReader(in)
	if err != nil {
		return io.NopCloser(failing{&Error{Kind: Corrupt, Err: err}})
	}
	return io.NopCloser(r)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
