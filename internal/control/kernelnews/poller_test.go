package kernelnews

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const address = "https://kernel.test/swm/status.json"

// A site answers requests in memory.
type site struct {
	mu     sync.Mutex
	asked  []*http.Request
	at     []time.Duration // since start
	start  time.Time
	answer func(r *http.Request) (*http.Response, error)
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked, s.at = append(s.asked, r), append(s.at, time.Since(s.start))
	answer := s.answer
	s.mu.Unlock()
	return answer(r)
}

func (s *site) set(answer func(r *http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *site) request(n int) *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[n]
}

func (s *site) times() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.at...)
}

func reply(code int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// A desk takes statuses, and has what a test changes meanwhile.
type desk struct {
	mu    sync.Mutex
	taken []Status
	fail  error
	url   string
}

func (d *desk) change(change func(d *desk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *desk) address() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.url
}

func (d *desk) all() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken
}

func (d *desk) take(_ context.Context, got Status, url string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if url != d.url {
		return errors.New("from another address than was asked for")
	}
	if d.fail == nil {
		d.taken = append(d.taken, got)
	}
	return d.fail
}

// polled runs a poller in a bubble, whose clock goes on when nobody has anything to do.
func polled(t *testing.T, test func(t *testing.T, s *site, p *Poller, d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{start: time.Now(), answer: reply(200, one("7", kernel), "ETag", `"one"`)}
		d := &desk{url: address}
		p := NewPoller(PollerOptions{URL: d.address, Transport: func() http.RoundTripper { return s }, Logger: slog.New(slog.DiscardHandler), Take: d.take})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		test(t, s, p, d)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestAStatusIsTakenOnceAndAskedForWithItsTag(t *testing.T) {
	t.Parallel()
	polled(t, func(t *testing.T, s *site, p *Poller, d *desk) {
		require.Len(t, d.all(), 1)
		require.Equal(t, "6.8.0-91.92", d.all()[0].Kernels[0].Subject.Version)
		require.Equal(t, s.start, *p.Read())
		s.set(reply(304, ""))
		time.Sleep(Every)
		synctest.Wait()
		require.Equal(t, `"one"`, s.request(1).Header.Get("If-None-Match"))
		require.Len(t, d.all(), 1)
		require.Equal(t, s.start.Add(Every), *p.Read())
		require.Empty(t, p.Problem())

		// Another address has nothing of the old one's.
		d.change(func(d *desk) { d.url = "https://other.test/status.json" })
		s.set(reply(200, one("8", kernel)))
		p.Nudge()
		synctest.Wait()
		require.Len(t, d.all(), 2)
		require.Empty(t, s.request(2).Header.Get("If-None-Match"))
		p.Nudge()
		synctest.Wait()
		require.Len(t, s.times(), 3, "the same address is not asked before its time")
		d.change(func(d *desk) { d.url = "" })
		p.Nudge()
		time.Sleep(10 * Every)
		synctest.Wait()
		require.Len(t, s.times(), 3, "without an address nobody is asked")
	})
}

func TestFaultKernelTeamsStatusIsAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		want   string
	}{
		{"no connection", func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, "connection refused"},
		{"an error", reply(503, "busy"), "it answers Service Unavailable"},
		{"unchanged, although nobody asked", reply(304, ""), "it answers Not Modified"},
		{"a page", reply(200, "<html>"), "it is not JSON at byte 1: invalid character '<' looking for beginning of value"},
		{"cut off", reply(200, `{"trackers":{"1":`), "it is cut off"},
		{"hanging", func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }, "no answer within 1m0s"},
		{"dripping", func(r *http.Request) (*http.Response, error) {
			body, end := io.Pipe()
			context.AfterFunc(r.Context(), func() { end.CloseWithError(r.Context().Err()) })
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}, nil
		}, "no answer within 1m0s"},
		{"for ever elsewhere", reply(302, "", "Location", "/again"), "it leads elsewhere more than 5 times"},
		{"without protection", reply(302, "", "Location", "http://kernel.test/status.json"), "it leads from https to something that is not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			polled(t, func(t *testing.T, s *site, p *Poller, d *desk) {
				require.Len(t, d.all(), 1)
				was := *p.Read()
				s.set(c.answer)
				if c.name == "unchanged, although nobody asked" {
					s.set(reply(200, one("7", kernel))) // without a tag
					time.Sleep(Every)
					synctest.Wait()
					was = *p.Read()
					s.set(c.answer)
				}
				known := len(d.all())
				time.Sleep(Every + 2*oneTry)
				synctest.Wait()
				require.Equal(t, "cannot read the kernel team's status from "+address+": "+c.want, p.Problem())
				require.Equal(t, was, *p.Read(), "when it was seen last is not forgotten")
				require.Len(t, d.all(), known, "what was known stays")
				s.set(reply(200, one("8", kernel)))
				time.Sleep(Every)
				synctest.Wait()
				require.Empty(t, p.Problem())
				require.Len(t, d.all(), known+1)
			})
		})
	}
}

func TestFaultKernelTeamIsAskedLessOftenWhileItIsAway(t *testing.T) {
	t.Parallel()
	polled(t, func(t *testing.T, s *site, p *Poller, d *desk) {
		s.set(reply(500, ""))
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		m := time.Minute
		require.Equal(t, []time.Duration{0, 5 * m, 10 * m, 20 * m, 40 * m, 80 * m, 140 * m, 200 * m, 260 * m}, s.times())
		s.set(reply(429, "", "Retry-After", "86400"))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 320*m, s.times()[9], "at most an hour, whatever it asks for")
		s.set(reply(200, one("7", kernel), "Retry-After", "900"))
		time.Sleep(30 * m)
		s.set(reply(200, one("7", kernel), "Retry-After", "18446744074")) // in nanoseconds it is more than there are
		time.Sleep(75 * m)
		synctest.Wait()
		require.Equal(t, []time.Duration{380 * m, 395 * m, 455 * m}, s.times()[10:13], "patience is given, at most an hour of it")
	})
}

// A status that could not be stored is fetched again, although it did not change.
func TestFaultKernelTeamsStatusIsNotStored(t *testing.T) {
	t.Parallel()
	polled(t, func(t *testing.T, s *site, p *Poller, d *desk) {
		d.change(func(d *desk) { d.fail = errors.New("the disk is full") })
		s.set(reply(200, one("8", kernel), "ETag", `"two"`))
		time.Sleep(Every)
		synctest.Wait()
		require.Equal(t, "cannot read the kernel team's status from "+address+": it cannot be stored: the disk is full", p.Problem())
		d.change(func(d *desk) { d.fail = nil })
		time.Sleep(Every)
		synctest.Wait()
		require.Equal(t, `"one"`, s.request(2).Header.Get("If-None-Match"))
		require.Len(t, d.all(), 2)
		require.Empty(t, p.Problem())
	})
}
