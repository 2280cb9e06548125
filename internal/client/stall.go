package client

import (
	"errors"
	"io"
	"time"
)

// stallTime is how long a body that is read may stand still.
const stallTime = 2 * time.Minute

var errStalled = errors.New("nothing comes any more")

// stalling is a body of an answer that is closed when nothing comes of it for a while.
type stalling struct {
	io.ReadCloser
	patience time.Duration
}

func (s *stalling) Read(p []byte) (int, error) {
	stalled := make(chan struct{})
	t := time.AfterFunc(s.patience, func() { close(stalled); s.Close() })
	n, err := s.ReadCloser.Read(p)
	if !t.Stop() && err != nil {
		<-stalled
		return n, errStalled
	}
	return n, err
}
