package results

import "io"

// readAhead reads from another goroutine, so that unpacking and reading JSON keep two processors busy. It holds at most
// aheadBuffers of aheadSize bytes.
type readAhead struct {
	full    chan aheadBuffer
	empty   chan []byte
	stop    chan struct{}
	stopped chan struct{}
	current []byte // what is left of buf
	buf     []byte
	err     error
}

type aheadBuffer struct {
	b   []byte
	err error // after b
}

const (
	aheadBuffers = 4
	aheadSize    = 128 << 10
)

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{
		full: make(chan aheadBuffer, aheadBuffers), empty: make(chan []byte, aheadBuffers),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.stopped)
	for made := 0; ; {
		var buf []byte
		if len(a.empty) == 0 && made < aheadBuffers { // a small archive needs only one
			made++
			buf = make([]byte, aheadSize)
		} else {
			select {
			case buf = <-a.empty:
			case <-a.stop:
				return
			}
		}
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var k int
			k, err = r.Read(buf[n:])
			n += k
		}
		a.full <- aheadBuffer{buf[:n], err} // there is always room: no more buffers than places
		if err != nil {
			return
		}
	}
}

// Read gives what was read, and then the error that ended it.
func (a *readAhead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.current) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.buf != nil {
			a.empty <- a.buf[:aheadSize]
		}
		next := <-a.full
		a.buf, a.current, a.err = next.b, next.b, next.err
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// Close ends the reading and waits for a read that is in progress.
func (a *readAhead) Close() {
	close(a.stop)
	<-a.stopped
}
