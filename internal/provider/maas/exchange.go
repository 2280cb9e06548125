package maas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"
)

// An exchange is one request of MAAS and its answer: the http.RoundTripper under gomaasclient for one attempt. It gives the request the
// context that gomaasclient has no way to be given, bounds what is read, keeps what gomaasclient's errors lose, and keeps Retry-After
// from gomaasapi, which would sleep that long, without a context, and repeat by itself 409 as well as 503.
type exchange struct {
	ctx   context.Context
	next  http.RoundTripper
	limit int64
	into  func(io.Reader) error // reads a good answer as it comes; nil: gomaasclient does
	drop  bool                  // gomaasclient does not read it either
	begun time.Time

	sent     bool // MAAS may have got the request
	answered bool // wholly, whatever the answer
	status   int
	text     string // what a bad answer says
	html     bool   // it is a page: of a proxy before MAAS, mostly
	location string // where a redirection points
	wait     time.Duration
	date     time.Time // MAAS's clock, as its web server says
	err      error     // why there is no answer, or none that can be read
}

// unread is what gomaasclient gets for an answer that was read already. It is an object of MAAS, as gomaasapi understands one.
const unread = `{"resource_uri":"/"}`

// errRedirected ends an exchange that MAAS wants to have elsewhere: the key is not carried to where an answer says.
var errRedirected = errors.New("redirected")

func (x *exchange) RoundTrip(request *http.Request) (*http.Response, error) {
	dialing, connected := false, false
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { dialing = true },
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	}
	response, err := x.next.RoundTrip(request.WithContext(httptrace.WithClientTrace(x.ctx, trace)))
	if err != nil {
		// Without a connection nothing was sent. With one, net/http does not tell how far it came. A transport that is not net/http's
		// tells by its error.
		x.sent = connected || (!dialing && !neverSent(err))
		x.err = err
		return nil, err
	}
	defer response.Body.Close()
	x.sent, x.status = true, response.StatusCode
	x.date, _ = http.ParseTime(response.Header.Get("Date"))
	x.wait = retryAfter(response.Header.Get("Retry-After"), x.date)
	response.Header.Del("Retry-After")
	if x.status >= 300 && x.status < 400 {
		x.answered, x.location, x.err = true, response.Header.Get("Location"), errRedirected
		return nil, errRedirected
	}
	body, err := x.read(response)
	if err != nil {
		x.err = err
		return nil, err
	}
	x.answered = true
	answer := *response
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return &answer, nil
}

// read reads the answer, and returns what gomaasclient gets of it.
func (x *exchange) read(response *http.Response) ([]byte, error) {
	if x.status < 200 || x.status > 299 {
		// What is missing of an error's text is missing: the status counts.
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxError))
		x.text = string(text)
		x.html = strings.Contains(response.Header.Get("Content-Type"), "html") || strings.HasPrefix(strings.TrimSpace(x.text), "<")
		return text, nil
	}
	body := &bounded{r: response.Body, left: x.limit}
	switch {
	case x.into != nil:
		return []byte(unread), x.into(body)
	case x.drop:
		// It is read, so that the other side is not cut off, and it does not matter what it says.
		_, _ = io.Copy(io.Discard, body)
		return []byte(unread), nil
	}
	return io.ReadAll(body)
}

// neverSent reports whether a transport's error means that there was no connection.
func neverSent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// retryAfter reads the header of that name: seconds, or a time.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, time.Hour)
	}
	if at, err := http.ParseTime(text); err == nil && !now.IsZero() && at.After(now) {
		return min(at.Sub(now), time.Hour)
	}
	return 0
}

// bounded reads up to left bytes and then fails, where io.LimitReader would end as if that was all.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(buf []byte) (int, error) {
	if b.left <= 0 {
		// Perhaps it has just ended.
		if n, err := b.r.Read(make([]byte, 1)); n == 0 && err != nil {
			return 0, err
		}
		return 0, errTooLong
	}
	if int64(len(buf)) > b.left {
		buf = buf[:b.left]
	}
	n, err := b.r.Read(buf)
	b.left -= int64(n)
	return n, err
}

var errTooLong = fmt.Errorf("the answer is too long")
