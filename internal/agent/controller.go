package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"certlab/internal/order"
)

// A remote is the controller as this agent sees it: several addresses, one of which answered last.
type remote struct {
	client *http.Client
	now    func() time.Time // the machine's clock

	mu   sync.Mutex
	urls []string // the one that answered last comes first
	skew string   // what is wrong with the machine's clock, by what the controller's says; empty: nothing
}

// newRemote returns the controller at urls, or nil if there are none.
func newRemote(key *agentKey, urls, cas []string, now func() time.Time) (*remote, error) {
	if len(urls) == 0 {
		return nil, nil
	}
	if len(cas) == 0 {
		return nil, errors.New("cannot trust the controller: it has published no CA certificate yet")
	}
	config, err := clientTLS(key, cas, now)
	if err != nil {
		return nil, err
	}
	for _, u := range urls {
		if parsed, err := url.Parse(u); err != nil || parsed.Scheme != "https" || parsed.Host == "" {
			return nil, fmt.Errorf("cannot use the controller's URL %q: it is not https://host:port", u)
		}
	}
	// No proxy: the lab's own machines talk to each other.
	transport := &http.Transport{
		TLSClientConfig:       config,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 70 * time.Second, // longer than a poll
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   2,
		ForceAttemptHTTP2:     true,
	}
	// Nor does the controller send anybody elsewhere: what redirects is not the controller.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &remote{client: &http.Client{Transport: transport, CheckRedirect: stay}, now: now, urls: append([]string(nil), urls...)}, nil
}

// A remoteError is an answer of the controller that is no success.
type remoteError struct {
	Status  int
	Message string
	Missing []string // hashes, for a finish that came too early
	Offset  int64    // for an upload that went on at the wrong place; -1: not said

	RetryAfter time.Duration // 0: not said
}

func (e *remoteError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the controller answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the controller answers %d: %s", e.Status, e.Message)
}

// busy reports whether the controller has no time or no room now, and says when to come again.
func (e *remoteError) busy() bool { return e.RetryAfter > 0 }

// refused reports whether err says that the controller does not know this agent (any more).
func refused(err error) bool {
	var e *remoteError
	return errors.As(err, &e) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// gone reports whether err says that what was sent will never be taken, however often it is repeated.
func gone(err error) bool {
	var e *remoteError
	return errors.As(err, &e) && (e.Status == http.StatusGone || e.Status == http.StatusNotFound)
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// do sends a request to the first address that a connection can be made to, and decodes the answer into out if it is JSON.
// body is called for each address anew.
func (r *remote) do(ctx context.Context, method, path string, header http.Header, body func() (io.Reader, int64, error), out any) (*http.Response, error) {
	r.mu.Lock()
	urls := append([]string(nil), r.urls...)
	r.mu.Unlock()
	var failures []error
	for _, base := range urls {
		var reader io.Reader
		var length int64
		if body != nil {
			var err error
			if reader, length, err = body(); err != nil {
				return nil, err
			}
		}
		req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, reader)
		if err != nil {
			return nil, err
		}
		if reader != nil {
			if req.ContentLength = length; length == 0 {
				req.Body = http.NoBody
			}
		}
		for k, v := range header {
			req.Header[k] = v
		}
		req.Header.Set(order.TimeHeader, r.now().UTC().Format(time.RFC3339Nano))
		req.Header.Set("Certlab-Protocol", strconv.Itoa(order.Protocol))
		resp, err := r.client.Do(req)
		if err != nil {
			failures = append(failures, err)
			if ctx.Err() != nil {
				break
			}
			continue // perhaps another of its addresses
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot read the controller's answer: %w", err)
		}
		r.answered(base, skew(resp.Header.Get("Date"), r.now()))
		if resp.StatusCode >= 300 {
			e := &remoteError{Status: resp.StatusCode, Offset: -1}
			var answer struct {
				Error   json.RawMessage `json:"error"`
				Missing []string        `json:"missing"`
			}
			if json.Unmarshal(data, &answer) == nil {
				e.Missing = answer.Missing
				var detailed struct {
					Message string `json:"message"`
				}
				if json.Unmarshal(answer.Error, &detailed) == nil && detailed.Message != "" {
					e.Message = clip(detailed.Message, 500)
				} else {
					json.Unmarshal(answer.Error, &e.Message)
					e.Message = clip(e.Message, 500)
				}
			}
			if offset, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64); err == nil && offset >= 0 {
				e.Offset = offset
			}
			if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 && seconds < 24*3600 {
				e.RetryAfter = time.Duration(seconds) * time.Second
			}
			return resp, e
		}
		if out != nil && len(data) > 0 {
			if err := json.Unmarshal(data, out); err != nil {
				return nil, fmt.Errorf("cannot read the controller's answer: %s", clip(err.Error(), 300))
			}
		}
		return resp, nil
	}
	return nil, unreached(urls, failures)
}

// answered takes down that base answered, and how the clocks compared.
func (r *remote) answered(base, skew string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skew = skew
	if r.urls[0] == base {
		return
	}
	urls := []string{base}
	for _, u := range r.urls {
		if u != base {
			urls = append(urls, u)
		}
	}
	r.urls = urls
}

// clockTrouble is what is wrong with the machine's clock, by what the controller's says; empty: nothing.
func (r *remote) clockTrouble() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skew
}

func (r *remote) sendJSON(ctx context.Context, method, path string, v, out any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = r.do(ctx, method, path, http.Header{"Content-Type": {"application/json"}},
		func() (io.Reader, int64, error) { return bytes.NewReader(data), int64(len(data)), nil }, out)
	return err
}

// poll waits up to wait for something to do.
func (r *remote) poll(ctx context.Context, wait time.Duration) (order.Poll, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+30*time.Second)
	defer cancel()
	var p order.Poll
	_, err := r.do(ctx, http.MethodGet, fmt.Sprintf("/agent/v1/poll?wait=%d", int(wait.Seconds())), nil, nil, &p)
	return p, err
}

func (r *remote) report(ctx context.Context, report order.Report) (order.ReportAck, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var ack order.ReportAck
	return ack, r.sendJSON(ctx, http.MethodPut, "/agent/v1/runs/"+url.PathEscape(report.Run), report, &ack)
}

func (r *remote) finish(ctx context.Context, finish order.Finish) (order.ReportAck, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var ack order.ReportAck
	err := r.sendJSON(ctx, http.MethodPost, "/agent/v1/runs/"+url.PathEscape(finish.Run)+"/finish", finish, &ack)
	return ack, err
}

// uploadChunk is how many bytes one request carries: little enough to get through a bad link within its deadline.
const uploadChunk = 8 << 20

// upload brings the file at path to the controller, from where an earlier try got to. It returns once the controller has acknowledged
// all of it.
func (r *remote) upload(ctx context.Context, run string, attempt int, f order.File, path string) error {
	at := fmt.Sprintf("/agent/v1/runs/%s/attempts/%d/files/%s", url.PathEscape(run), attempt, f.SHA256)
	offset, complete, err := r.uploaded(ctx, at)
	if err != nil || complete {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot deliver %s: %w", f.Name, err)
	}
	defer file.Close()
	corrections := 0
	for {
		if offset > f.Size {
			return fmt.Errorf("cannot deliver %s: the controller has %d bytes of %d", f.Name, offset, f.Size)
		}
		length := min(uploadChunk, f.Size-offset)
		header := http.Header{
			"Content-Type":      {"application/offset+octet-stream"},
			"Upload-Offset":     {strconv.FormatInt(offset, 10)},
			"Upload-Length":     {strconv.FormatInt(f.Size, 10)},
			"Certlab-File-Kind": {string(f.Kind)},
			"Certlab-File-Name": {f.Name},
		}
		var ack order.FileAck
		chunk, cancel := context.WithTimeout(ctx, 5*time.Minute)
		resp, err := r.do(chunk, http.MethodPatch, at, header, func() (io.Reader, int64, error) {
			return io.NewSectionReader(file, offset, length), length, nil
		}, &ack)
		cancel()
		var failed *remoteError
		if errors.As(err, &failed) && failed.Status == http.StatusConflict && failed.Offset >= 0 && failed.Offset != offset && corrections < 10 {
			corrections++
			offset = failed.Offset
			continue
		}
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			if ack.SHA256 != f.SHA256 || ack.Size != f.Size {
				return fmt.Errorf("cannot deliver %s: the controller acknowledged another file", f.Name)
			}
			return nil
		}
		next, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
		if err != nil || next < 0 {
			return fmt.Errorf("cannot deliver %s: the controller's answer has no Upload-Offset", f.Name)
		}
		if next <= offset {
			if corrections++; corrections > 10 {
				return fmt.Errorf("cannot deliver %s: the controller does not get beyond byte %d", f.Name, offset)
			}
		}
		offset = next
	}
}

// fileGone says that a file that the controller wants again is not here.
func (r *remote) fileGone(ctx context.Context, w order.Resend, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	at := fmt.Sprintf("/agent/v1/runs/%s/attempts/%d/files/%s/gone", url.PathEscape(w.Run), w.Attempt, url.PathEscape(w.SHA256))
	return r.sendJSON(ctx, http.MethodPost, at, order.FileGone{Reason: reason}, nil)
}

// uploaded asks how much of a file the controller has.
func (r *remote) uploaded(ctx context.Context, at string) (offset int64, complete bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := r.do(ctx, http.MethodHead, at, nil, nil, nil)
	if err != nil {
		var failed *remoteError
		if errors.As(err, &failed) && failed.Status == http.StatusNotFound {
			return 0, false, nil
		}
		return 0, false, err
	}
	offset, _ = strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	return max(0, offset), resp.Header.Get("Upload-Complete") == "true", nil
}

// backoff is how long to wait after the nth failure in a row, from 0: 1 s doubling up to limit, less up to half of it at random, so that
// a whole lab does not come back at the same moment.
func backoff(n int, limit time.Duration) time.Duration {
	d := limit
	if n < 16 {
		d = min(limit, time.Second<<n)
	}
	return d - rand.N(d/2+1)
}

// sleep waits for d or ctx; it reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
