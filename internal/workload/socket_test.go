package workload

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSocketCallDecodesAnswersAndRefusals(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sock")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	socket := Socket{path}
	require.ErrorIs(t, socket.Call(t.Context(), "GET", "/", nil, nil), ErrNotAnswering)
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	require.ErrorIs(t, socket.Call(late, "GET", "/", nil, nil), context.DeadlineExceeded, "time that was up is no fault of the hook's")

	answers := map[string]struct {
		status int
		body   string
	}{
		"/ok":        {200, `{"n":1}`},
		"/sick":      {503, `{"n":2}`},
		"/full":      {503, `{"error":{"code":"disk","message":"cannot start: disk is full"}}`},
		"/missing":   {404, `{"error":{"code":"not-found","message":"cannot find run r1"}}`},
		"/text":      {400, `{"error":"cannot do that"}`},
		"/plain":     {405, "method not allowed\n"},
		"/malformed": {200, `{`},
	}
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answers[r.URL.Path]
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })

	for path, want := range map[string]struct {
		n       int
		message string
	}{
		"/ok":        {1, ""},
		"/sick":      {2, ""},
		"/full":      {0, "cannot start: disk is full"},
		"/missing":   {0, "cannot find run r1"},
		"/text":      {0, "cannot do that"},
		"/plain":     {0, "the service answered 405 Method Not Allowed: method not allowed"},
		"/malformed": {0, "cannot read the service's answer: unexpected end of JSON input"},
	} {
		var got struct{ N int }
		err := socket.Call(t.Context(), "GET", path, nil, &got)
		require.Equal(t, want.n, got.N, path)
		if want.message == "" {
			require.NoError(t, err, path)
		} else {
			require.EqualError(t, err, want.message, path)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	require.ErrorIs(t, socket.Call(ctx, "GET", "/ok", nil, nil), context.DeadlineExceeded)
}

func TestSocketFetchWritesAnAnswerOfAnyLength(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sock")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := Socket{filepath.Join(dir, "s")}
	listener, err := net.Listen("unix", socket.path)
	require.NoError(t, err)
	const size = maxAnswer + 1
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(404)
			fmt.Fprint(w, `{"error":{"code":"not-found","message":"there is no campaign \"c1\""}}`)
		case "/cut":
			fmt.Fprint(w, "half of i")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			_, _ = w.Write(make([]byte, size))
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	n, err := socket.Fetch(t.Context(), "/whole", io.Discard)
	require.NoError(t, err)
	require.Equal(t, int64(size), n)
	_, err = socket.Fetch(t.Context(), "/missing", io.Discard)
	var refusal *APIError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "not-found", refusal.Code)
	out := &strings.Builder{}
	n, err = socket.Fetch(t.Context(), "/cut", out)
	require.EqualError(t, err, "cannot take over the service's answer after 9 bytes: unexpected EOF")
	require.Equal(t, int64(len(out.String())), n)
	_, _, err = socket.Send(t.Context(), "GET", "/whole", "", nil)
	require.ErrorContains(t, err, "it is longer than")
}
