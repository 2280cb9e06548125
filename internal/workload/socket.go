package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer bounds what a service may answer, in bytes.
const maxAnswer = 16 << 20

// ErrNotAnswering means that nobody listens on the service's socket: it is not running, or not yet.
var ErrNotAnswering = errors.New("the service does not answer")

// An APIError is the service's refusal.
type APIError struct {
	Status  int    // of HTTP
	Code    string // the service's word for it, such as not-found; may be empty
	Message string // for people
}

func (e *APIError) Error() string { return e.Message }

// Socket is a service's HTTP API on a unix socket.
type Socket struct{ path string }

// Socket returns the one with that name in the service's directory.
func (w *Workload) Socket(name string) Socket { return Socket{filepath.Join(w.Dir(), name)} }

// Call sends body as JSON, if it is not nil, and decodes the answer into result, if that is not nil. An answer with a status of 400
// or more is an *APIError, except one of 503 that can be decoded: a health check's answer is one either way. The time is ctx's.
func (s Socket) Call(ctx context.Context, method, path string, body, result any) error {
	var data []byte
	kind := ""
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
		kind = "application/json"
	}
	status, answer, err := s.Send(ctx, method, path, kind, data)
	if err != nil {
		var refusal *APIError
		if errors.As(err, &refusal) && refusal.Status == http.StatusServiceUnavailable && refusal.Code == "" && result != nil && json.Unmarshal(answer, result) == nil {
			return nil
		}
		return err
	}
	if result == nil || status == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("cannot read the service's answer: %w", err)
	}
	return nil
}

// Send sends a body of that media type, if it is not empty, and returns the answer as it is. One with a status of 400 or more is an *APIError
// as well.
func (s Socket) Send(ctx context.Context, method, path, mediaType string, body []byte) (status int, answer []byte, err error) {
	resp, err := s.do(ctx, method, path, mediaType, body)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if answer, err = whole(resp.Body); err != nil {
		return 0, nil, err
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode, answer, apiError(resp.StatusCode, answer)
	}
	return resp.StatusCode, answer, nil
}

// Fetch writes what there is at path to w, however long it is, and returns its size. An error after a part of it was written says that it is not
// whole.
func (s Socket) Fetch(ctx context.Context, path string, w io.Writer) (int64, error) {
	resp, err := s.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		answer, err := whole(resp.Body)
		if err != nil {
			return 0, err
		}
		return 0, apiError(resp.StatusCode, answer)
	}
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("cannot take over the service's answer after %d bytes: %w", n, err)
	}
	return n, nil
}

// whole reads an answer that is not too long.
func whole(body io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the service's answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("cannot read the service's answer: it is longer than %d bytes", maxAnswer)
	}
	return answer, nil
}

// do makes a request. The answer's body is the caller's to close.
func (s Socket) do(ctx context.Context, method, path, mediaType string, body []byte) (*http.Response, error) {
	var reader io.Reader
	if mediaType != "" {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://service"+path, reader)
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	var dialed atomic.Bool // a dial that was given up may still end after the answer
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", s.path)
			dialed.Store(err == nil)
			return conn, err
		},
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case err != nil && !dialed.Load() && ctx.Err() == nil:
		return nil, ErrNotAnswering
	case err != nil && ctx.Err() != nil: // whatever the dial said when time was up: who asks has to see that it was
		return nil, fmt.Errorf("cannot ask the service: %w", ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("cannot ask the service: %w", err)
	}
	return resp, nil
}

// apiError reads {"error":{"code":…,"message":…}} and {"error":"…"}.
func apiError(status int, data []byte) *APIError {
	e := &APIError{Status: status}
	var answer struct{ Error json.RawMessage }
	var refusal struct{ Code, Message string }
	if json.Unmarshal(data, &answer) == nil {
		switch {
		case json.Unmarshal(answer.Error, &refusal) == nil:
			e.Code, e.Message = refusal.Code, refusal.Message
		case json.Unmarshal(answer.Error, &e.Message) == nil:
			e.Code = "error"
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the service answered %d %s", status, http.StatusText(status))
		if text := strings.TrimSpace(string(data)); text != "" && len(text) < 200 && !strings.HasPrefix(text, "{") {
			e.Message += ": " + text
		}
	}
	return e
}

// WaitFor asks until done says yes, or returns false after limit. It is for what takes a moment: a hook holds up every other
// hook on its machine.
func WaitFor(ctx context.Context, limit time.Duration, done func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return poll(ctx, func() bool { return done(ctx) }) == nil
}
