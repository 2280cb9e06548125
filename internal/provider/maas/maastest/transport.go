package maastest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// Transport answers requests from the region without a network. It may be used inside a testing/synctest bubble. A fault that cuts the
// connection is an error here, as it is over a socket; so is one that refuses it.
func (r *Region) Transport() http.RoundTripper { return transport{r} }

type transport struct{ region *Region }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if t.region.refuses() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	done := make(chan error, 1)
	go func() {
		defer func() {
			_ = in.Body.Close()
			switch p := recover(); {
			case p == nil:
				done <- nil
			case p == any(http.ErrAbortHandler):
				done <- fmt.Errorf("cannot read the answer: %w", io.ErrUnexpectedEOF)
			default:
				panic(p)
			}
		}()
		t.region.ServeHTTP(w, in)
	}()
	select {
	case <-req.Context().Done():
		// What was asked for may happen all the same.
		return nil, req.Context().Err()
	case err := <-done:
		if err != nil {
			return nil, err
		}
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(bytes.NewReader(w.body)), ContentLength: int64(len(w.body)), Request: req,
	}, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (w *recorder) Header() http.Header    { return w.header }
func (w *recorder) WriteHeader(status int) { w.status = status }
func (w *recorder) Write(b []byte) (int, error) {
	w.body = append(w.body, b...)
	return len(b), nil
}

// IsCut tells whether an error is a connection that a fault of the region has cut.
func IsCut(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
