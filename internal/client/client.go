// Package client is the Go client of a Certlab controller's API for people.
//
// It trusts the certificate authorities that it is given and no others. FetchCAs gets them from a controller that is not trusted yet, for
// a person to compare their fingerprint.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"certlab/internal/cert"
)

// Options say which controller to talk to, and as whom.
type Options struct {
	URL   string   // https://host:port
	CAs   []string // PEM certificates to trust; none: those of the system
	Token string   // empty: nobody
	Agent string   // User-Agent; empty: Go's

	Timeout time.Duration // for the head of an answer, and for one that stands still; 0: a minute, and two
	Backoff time.Duration // before an upload is tried again, doubled each time; 0: a quarter of a second
}

// A Client talks to a controller. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	http  *http.Client
	token string
	agent string

	Backoff time.Duration // see Options
	stall   time.Duration // how long an answer may stand still
}

const (
	headTime = time.Minute // for the head of an answer
	maxJSON  = 256 << 20   // bytes of an answer
)

// New returns a client.
func New(o Options) (*Client, error) {
	base, err := baseURL(o.URL)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.CAs) > 0 {
		config.RootCAs = x509.NewCertPool()
		for _, text := range o.CAs {
			if !config.RootCAs.AppendCertsFromPEM([]byte(text)) {
				return nil, errors.New("cannot use the certificate authorities: not PEM certificates (certlab login again)")
			}
		}
	}
	return &Client{base: base, token: o.Token, agent: o.Agent, http: newHTTP(config, cmp.Or(o.Timeout, headTime)),
		Backoff: cmp.Or(o.Backoff, 250*time.Millisecond), stall: cmp.Or(o.Timeout, stallTime)}, nil
}

func newHTTP(config *tls.Config, timeout time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	t.ResponseHeaderTimeout = timeout
	t.TLSHandshakeTimeout = min(timeout, t.TLSHandshakeTimeout)
	t.DialContext = (&net.Dialer{Timeout: min(timeout, 30*time.Second), KeepAlive: 15 * time.Second}).DialContext
	t.ForceAttemptHTTP2 = true
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("cannot use the URL %q: give one such as https://10.0.0.5:8443", text)
	}
	return u, nil
}

// An Error is what the controller answered instead of what was asked for.
type Error struct {
	Status  int
	Code    cert.Code
	Message string
	CutOff  bool // a body that arrived in part, of which some is kept
}

func (e *Error) Error() string { return e.Message }

// An AwayError means that no answer came, or not the whole of one: nothing is known of what became of the request.
type AwayError struct{ error }

// Unwrap returns what it was.
func (e *AwayError) Unwrap() error { return e.error }

// A TrustError means that whoever answers is not the controller, as far as can be told.
type TrustError struct{ message string }

func (e *TrustError) Error() string { return e.message }

// FetchCAs returns the certificate authorities that a controller publishes, newest first, over a connection that is not verified
// but for this: the controller's own certificate is signed by one of them.
func FetchCAs(ctx context.Context, address string) ([]string, error) {
	base, err := baseURL(address)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	c := &Client{base: base, http: newHTTP(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // what is fetched is compared by its fingerprint; the chain is verified with it below
		VerifyConnection:   func(s tls.ConnectionState) error { chain = s.PeerCertificates; return nil },
	}, headTime), stall: stallTime}
	defer c.http.CloseIdleConnections()
	var list cert.CAList
	if err := c.get(ctx, "/api/v1/cas", nil, &list); err != nil {
		return nil, err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, text := range list.CAs {
		roots.AppendCertsFromPEM([]byte(text))
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: base.Hostname()}); err != nil {
		return nil, fmt.Errorf("cannot trust %s: its certificate is not signed by the authorities that it publishes, or is for another name: %w", address, err)
	}
	return list.CAs, nil
}

// Fingerprint returns the SHA-256 of a PEM certificate, in lower-case hexadecimal.
func Fingerprint(text string) (string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("cannot read the certificate: not PEM")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// request makes a request and returns the answer if it is a good one. The caller closes its body.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader, size int64) (*http.Response, error) {
	u := *c.base
	full, err := url.Parse(u.String() + path) // path is escaped
	if err != nil {
		return nil, err
	}
	u = *full
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if size >= 0 {
		req.ContentLength = size
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &AwayError{c.reachError(ctx, err)}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

// reachError says in plain words why no answer came.
func (c *Client) reachError(ctx context.Context, err error) error {
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var network net.Error
	switch {
	case ctx.Err() == context.Canceled:
		return fmt.Errorf("given up: %w", ctx.Err())
	case errors.As(err, &unknown):
		return &TrustError{fmt.Sprintf("cannot trust %s: its certificate is signed by an authority that is not known here (certlab login again, and compare the fingerprint)", c.base)}
	case errors.As(err, &wrongName):
		return &TrustError{fmt.Sprintf("cannot trust %s: its certificate is for other names (use the URL that certlab site shows): %v", c.base, wrongName)}
	case errors.As(err, &invalid):
		return &TrustError{fmt.Sprintf("cannot trust %s: %v (is the clock of this machine right? it is %s here)", c.base, invalid, time.Now().UTC().Format("2006-01-02 15:04:05 UTC"))}
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return &TrustError{fmt.Sprintf("cannot reach the controller: what answers at %s does not speak TLS (is the port right?)", c.base)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach the controller: nothing answers at %s (is it running, and the port right?)", c.base)
	case errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("cannot reach the controller: %s does not answer in time (try again, or look at juju status)", c.base)
	}
	var wrapped *url.Error // repeats the method and the whole URL
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("cannot reach the controller at %s: %w", c.base, err)
}

func answerError(resp *http.Response) error {
	var body struct {
		Error struct {
			Code    cert.Code `json:"code"`
			Message string    `json:"message"`
		} `json:"error"`
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is readable of an error is shown
	if err := json.Unmarshal(text, &body); err != nil || body.Error.Message == "" {
		if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout {
			return &Error{Status: resp.StatusCode, Code: cert.Unavailable, Message: fmt.Sprintf("the controller is not there just now: %s (try again in a moment)", resp.Status)}
		}
		return &Error{Status: resp.StatusCode, Code: statusCode(resp.StatusCode), Message: fmt.Sprintf("the controller answered %s (is this the URL of a Certlab controller?)", resp.Status)}
	}
	return &Error{Status: resp.StatusCode, Code: body.Error.Code, Message: body.Error.Message, CutOff: resp.Header.Get("Upload-Offset") != ""}
}

// statusCode is the code of an answer without a body, such as one to HEAD.
func statusCode(status int) cert.Code {
	switch status {
	case http.StatusUnauthorized:
		return cert.Unauthorized
	case http.StatusForbidden:
		return cert.Forbidden
	case http.StatusNotFound:
		return cert.NotFound
	case http.StatusConflict:
		return cert.Conflict
	case http.StatusTooManyRequests:
		return cert.TooMany
	}
	return cert.Internal
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

// call sends in as JSON, if there is one, and reads the answer into out.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	header, size := http.Header{"Accept": {"application/json"}}, int64(-1)
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		header.Set("Content-Type", "application/json")
		body, size = bytes.NewReader(text), int64(len(text))
	}
	resp, err := c.request(ctx, method, path, query, header, body, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(&stalling{resp.Body, c.stall}, out)
}

// pages asks for one page after the other until there are limit rows (0: all). page asks for one, and returns the next one's cursor and
// how many rows there are now.
func pages(filter url.Values, limit int, page func(url.Values) (next string, have int, err error)) error {
	const perPage = 500
	q := url.Values{}
	for name, values := range filter {
		if len(values) > 0 && values[0] != "" {
			q[name] = values
		}
	}
	have := 0
	for {
		n := perPage
		if limit > 0 {
			n = min(n, limit-have)
		}
		q.Set("limit", strconv.Itoa(n))
		next, now, err := page(q)
		if err != nil || next == "" || (limit > 0 && now >= limit) {
			return err
		}
		have = now
		q.Set("cursor", next)
	}
}

func decode(r io.Reader, out any) error {
	err := json.NewDecoder(io.LimitReader(r, maxJSON)).Decode(out)
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStalled), errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return &AwayError{errors.New("cannot read the controller's answer: it stopped in the middle (try again)")}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &AwayError{errors.New("cannot read the controller's answer: it was cut off (try again)")}
	case errors.As(err, &syntax), errors.As(err, &wrong):
		return fmt.Errorf("cannot read the controller's answer: it is not what a Certlab controller says (is this its URL?): %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return fmt.Errorf("cannot read the controller's answer: %w", err)
}
