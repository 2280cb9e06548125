package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server"
)

// TestFaultTooMuchAtOnce: what is too much at once is refused as such, with when to come again, and others are served meanwhile.
func TestFaultTooMuchAtOnce(t *testing.T) {
	t.Parallel()
	a, other := newAgent(t, 0), newAgent(t, 1)
	l := &accessLab{lab: newTunedLab(t, func(s *service) {
		s.limits = server.DefaultLimits()
		s.limits.PerCaller, s.limits.Receive, s.limits.Wait = 2, 1, 200*time.Millisecond
	}, a, other)}
	l.ask = l.browser().http
	t.Run("requests of one caller", func(t *testing.T) {
		ctx := t.Context()
		var waiting sync.WaitGroup
		done := make(chan struct{})
		for range 2 {
			req, err := http.NewRequestWithContext(ctx, "GET", l.url()+"/agent/v1/poll?wait=50", nil)
			require.NoError(t, err)
			waiting.Go(func() {
				for { // until it is let in: what asks below, whether there is room, takes room itself
					resp, err := a.http.Do(req)
					if err != nil {
						return
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusTooManyRequests {
						return
					}
				}
			})
		}
		go func() { waiting.Wait(); close(done) }()
		var resp *http.Response
		require.Eventually(t, func() bool {
			resp = l.request(caller{client: a.http}, "GET", "/agent/v1/poll?wait=0", "")
			return resp.StatusCode == http.StatusTooManyRequests
		}, patience, 5*time.Millisecond)
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
		require.Contains(t, body(t, resp), `{"error":{"code":"too-many","message":"2 requests of this caller are under way already (try again in a moment)"}}`)
		other.poll(0)
		require.Contains(t, l.answered(caller{}, "GET", "/health/live", ""), "200 ", "others are served")
		_, err := l.person(cert.Engineer).StartRun(ctx, cert.NewRun{Machine: "node0", Spec: cert.Spec{Plan: "com.example.lab::small"}})
		require.NoError(t, err)
		select {
		case <-done:
		case <-time.After(patience):
			require.Fail(t, "the polls go on for ever")
		}
		require.Len(t, a.poll(0).Orders, 1, "there is room again")
	})
	t.Run("uploads", func(t *testing.T) {
		begin := func(a *agent, text string) file {
			run := runID()
			_, status := a.report(running(run, 1))
			require.Equal(t, http.StatusOK, status)
			return newFile(run, 1, order.ConsoleFile, "console.log", []byte(text))
		}
		slow, quick := begin(a, strings.Repeat("slow", 100)), begin(other, "quick")
		from, to := io.Pipe()
		defer to.CloseWithError(io.ErrUnexpectedEOF)
		var first atomic.Int32
		uploaded := make(chan struct{})
		go func() {
			defer close(uploaded)
			req := a.patchRequest(slow, 0, from, slow.Size)
			req.Header.Set("Expect", "100-continue")
			if resp, err := a.http.Do(req); err == nil {
				resp.Body.Close()
				first.Store(int32(resp.StatusCode))
			}
			from.Close()
		}()
		_, err := to.Write(slow.bytes[:100]) // which is asked for only when the upload has its turn
		require.NoError(t, err)
		resp, err := other.http.Do(other.patchRequest(quick, 0, bytes.NewReader(quick.bytes), quick.Size))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		retry := resp.Header.Get("Retry-After") + " " + body(t, resp)
		require.Equal(t, `5 {"error":{"code":"unavailable","message":"the controller is busy: 1 others are being served (try again in a moment)"}}`+"\n", retry)
		_, err = to.Write(slow.bytes[100:])
		require.NoError(t, err)
		require.NoError(t, to.Close())
		<-uploaded
		require.EqualValues(t, http.StatusOK, first.Load(), "the one under way is whole")
		other.upload(quick)
	})
}
