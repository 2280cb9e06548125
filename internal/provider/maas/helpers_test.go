package maas

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testURL = "http://maas.example:5240/MAAS"
	testKey = "consumerAA:tokenBBBBBB:secretCCCCCC"
	testLab = "lab1"
)

// script is a region that answers from a function, and keeps what it was asked.
type script struct {
	answer func(n int, r *http.Request) (*http.Response, error) // n counts from 1, without whoami

	mu    sync.Mutex
	asked []asked
}

type asked struct {
	what          string // GET machines/?id=x
	body          string
	authorization string
	at            time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
	}
	if strings.Contains(r.URL.RawQuery, "op=whoami") {
		return answer(200, `{"username": "certlab", "is_superuser": false}`), nil
	}
	s.mu.Lock()
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/MAAS/api/2.0/")
	if r.URL.RawQuery != "" {
		what += "?" + r.URL.RawQuery
	}
	s.asked = append(s.asked, asked{what, body, r.Header.Get("Authorization"), time.Now()})
	n := len(s.asked)
	s.mu.Unlock()
	return s.answer(n, r)
}

func (s *script) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, a := range s.asked {
		all = append(all, a.what)
	}
	return all
}

// answer makes an answer. Headers are name, value, ….
func answer(status int, body string, headers ...string) *http.Response {
	r := &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// always answers each question alike.
func always(status int, body string, headers ...string) *script {
	return &script{answer: func(int, *http.Request) (*http.Response, error) { return answer(status, body, headers...), nil }}
}

// oneMachine answers reads of a machine with its document, and what changes something with change.
func oneMachine(document string, change func() (*http.Response, error)) *script {
	return &script{answer: func(_ int, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/machines/") {
			return answer(200, "["+document+"]"), nil
		}
		return change()
	}}
}

// held is a machine that this lab has allocated.
const held = `{"system_id": "abc123", "hostname": "node7", "status": 10, "status_name": "Allocated", "owner": "certlab", "architecture": "amd64/generic",
	"pool": {"name": "default"}, "tag_names": [], "owner_data": {"certlab-lab": "lab1"}, "workload_annotations": {"certlab-lab": "lab1"}}`

func provider(t testing.TB, transport http.RoundTripper, change ...func(*Config)) *Provider {
	t.Helper()
	config := Config{URL: testURL, Key: testKey, Lab: testLab, Transport: transport}
	for _, c := range change {
		c(&config)
	}
	p, err := New(config)
	require.NoError(t, err)
	return p
}

func nonce(t *testing.T, authorization string) string {
	t.Helper()
	_, rest, found := strings.Cut(authorization, `oauth_nonce="`)
	require.True(t, found, authorization)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
