package api

import (
	"io"
	"net/http"
	"os"
	"time"
)

// longWork bounds what reads or copies all data before it answers.
const longWork = 6 * time.Hour

// extend gives a request time until then, in place of what the server gives to all. Both deadlines are moved: one for reading that runs
// out cancels the request even when its body has long been read. A test's recorder has none, which is fine.
func extend(w http.ResponseWriter, until time.Time) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(until)
	_ = c.SetWriteDeadline(until)
}

// minRate is what an upload brings in a second at least, in bytes, on the whole: one that brings a byte now and then holds up others.
const minRate = 1 << 10

// slowBody lets a body take as long as it needs, as long as something arrives. Its deadline is the wall clock's, as connections know it.
type slowBody struct {
	w        http.ResponseWriter
	r        io.Reader
	patience time.Duration
	began    time.Time
	n        int64
}

func (a *API) body(w http.ResponseWriter, r io.Reader) *slowBody {
	return &slowBody{w: w, r: r, patience: a.Patience, began: time.Now()}
}

func (b *slowBody) Read(p []byte) (int, error) {
	until := time.Now().Add(b.patience)
	if last := b.began.Add(b.patience + time.Duration(b.n/minRate)*time.Second); last.Before(until) {
		until = last
	}
	if time.Now().After(until) {
		return 0, os.ErrDeadlineExceeded
	}
	extend(b.w, until)
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}

// patient lets an answer take as long as it needs, as long as the other side takes something of it.
type patient struct {
	http.ResponseWriter
	patience time.Duration
}

func (p patient) Write(b []byte) (int, error) {
	extend(p.ResponseWriter, time.Now().Add(p.patience))
	return p.ResponseWriter.Write(b)
}

func (p patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
