package notices_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/control/trust/notices"
	"certlab/internal/order"
	"certlab/internal/sqlite"
)

// A post is what the webhook was sent.
type post struct {
	header http.Header
	body   string
}

// A bench is an outbox and a webhook that answers as it is told.
type bench struct {
	t      *testing.T
	path   string
	now    time.Time
	db     *sqlite.DB
	out    *notices.Outbox
	hook   order.Webhook
	posts  []post
	answer func(*http.Request) (int, error)
}

func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	require.NoError(b.t, err)
	b.posts = append(b.posts, post{r.Header.Clone(), string(body)})
	status, err := b.answer(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Location": {"http://elsewhere/"}}, Body: io.NopCloser(strings.NewReader("no\nthanks")), Request: r}, nil
}

const secret = "0123456789abcdef"

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte(secret+"\n"), 0o600))
	b := &bench{t: t, path: filepath.Join(dir, "lab.db"), now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
		hook: order.Webhook{URL: "https://hook.example/T0/s3cret", SecretFile: filepath.Join(dir, "key")}, answer: func(*http.Request) (int, error) { return 204, nil }}
	require.NoError(t, os.WriteFile(b.path, empty(), 0o600))
	b.start()
	t.Cleanup(func() { b.db.Close() })
	return b
}

func (b *bench) start() {
	var err error
	b.db, err = sqlite.Open(context.Background(), b.path)
	require.NoError(b.t, err)
	b.out = notices.New(notices.Options{DB: b.db, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return b.now }, Client: b,
		Config: func() (string, string, order.Fleet) {
			return "lab1", "https://lab1.example:8443", order.Fleet{Webhook: b.hook}
		}})
}

// tell stores a notice, as the engine does.
func (b *bench) tell(key string) cert.Notice {
	until := b.now.Add(30 * time.Minute)
	n := cert.NewNotice(cert.NoticeEnding, key, b.now, "node1 is released at 08:30 UTC: extend it if you need it")
	n.Person, n.Hostname, n.Until = "ada", "node1", &until
	require.NoError(b.t, b.db.ChangeFleet(b.t.Context(), func(tx *sqlite.FleetTx) error { return tx.Notice(n) }))
	return n
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	for end := b.now.Add(d); b.now.Before(end); {
		require.NoError(b.t, b.out.Send(b.t.Context()))
		b.now = b.now.Add(10 * time.Second)
	}
}

func (b *bench) stored() cert.SentNotice {
	all, _, err := b.db.Notices(b.t.Context(), sqlite.Page{Limit: 10})
	require.NoError(b.t, err)
	require.Len(b.t, all, 1)
	return all[0]
}

// TestANoticeIsSignedAndSentOnce holds what is sent, and that telling the same twice is telling it once.
func TestANoticeIsSignedAndSentOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tell("v1")
	require.Equal(t, n.ID, b.tell("v1").ID)
	b.pass(time.Minute)
	require.Len(t, b.posts, 1)
	h := b.posts[0].header
	require.Equal(t, n.ID, h.Get("Certlab-Notice"))
	require.True(t, cert.ValidID(cert.NoticeID, n.ID), n.ID)
	require.Equal(t, "1795420800", h.Get("Certlab-Timestamp"))
	require.Equal(t, "sha256="+notices.Sign([]byte(secret), "1795420800", []byte(b.posts[0].body)), h.Get("Certlab-Signature"))
	require.NotEqual(t, notices.Sign([]byte(secret), "1795420801", []byte(b.posts[0].body)), h.Get("Certlab-Signature")[7:])
	var sent map[string]any
	require.NoError(t, json.Unmarshal([]byte(b.posts[0].body), &sent))
	require.Equal(t, map[string]any{"id": n.ID, "kind": "reservation-ending", "at": "2026-11-23T08:00:00Z", "site": "lab1", "text": n.Text, "person": "ada", "hostname": "node1",
		"until": "2026-11-23T08:30:00Z", "url": "https://lab1.example:8443/"}, sent)
	require.NotNil(t, b.stored().Delivered)
	require.Nil(t, b.stored().Next)
}

// TestFaultWebhook has the webhook be down, slow, broken, moved, or not want what it is sent: a notice is tried again, ever more seldom, and given up
// in the end or when it is not wanted; and what a person sees of it holds no part of the webhook's URL.
func TestFaultWebhook(t *testing.T) {
	t.Parallel()
	status := func(n int) func(*http.Request) (int, error) {
		return func(*http.Request) (int, error) { return n, nil }
	}
	for name, c := range map[string]struct {
		answer func(*http.Request) (int, error)
		tries  int // in ten minutes
		error  string
		given  bool
	}{
		"down": {answer: func(*http.Request) (int, error) { return 0, errors.New("connection refused") }, tries: 6, error: "cannot reach the webhook: connection refused"},
		"slow": {answer: func(r *http.Request) (int, error) {
			deadline, ok := r.Context().Deadline()
			require.True(t, ok)
			require.LessOrEqual(t, time.Until(deadline), 15*time.Second)
			return 0, context.DeadlineExceeded
		}, tries: 6, error: "cannot reach the webhook: context deadline exceeded"},
		"500":            {answer: status(500), tries: 6, error: "the webhook answers Internal Server Error no thanks"},
		"302":            {answer: status(302), tries: 6, error: "the webhook answers Found no thanks"},
		"410":            {answer: status(410), tries: 1, error: "the webhook answers Gone: it wants no such notice", given: true},
		"secret is gone": {tries: 0, error: "cannot read the webhook's secret (option webhook-secret): open /nowhere: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			good := b.hook
			if c.answer != nil {
				b.answer = c.answer
			} else {
				b.hook.SecretFile = "/nowhere"
			}
			b.tell("v1")
			b.pass(10 * time.Minute)
			require.Len(t, b.posts, c.tries)
			n := b.stored()
			require.Equal(t, c.error, n.Error)
			require.Nil(t, n.Delivered)
			require.Equal(t, c.given, n.GivenUp != nil)
			require.NotContains(t, n.Error, "s3cret")
			b.answer, b.hook = status(200), good
			b.pass(11 * time.Minute)
			n = b.stored()
			require.Equal(t, c.given, n.Delivered == nil, "it is taken when it can be")
		})
	}
}

// TestFaultWebhookDownForGood holds that a notice is given up at some time, after about a day.
func TestFaultWebhookDownForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.answer = func(*http.Request) (int, error) { return 503, nil }
	b.tell("v1")
	begin := b.now
	for n := b.stored(); n.GivenUp == nil; n = b.stored() {
		b.now = *n.Next
		require.NoError(t, b.out.Send(t.Context()))
		require.Less(t, b.now.Sub(begin), 48*time.Hour)
	}
	require.Equal(t, 30, b.stored().Tries)
	require.Greater(t, b.now.Sub(begin), 20*time.Hour)
	require.Equal(t, "the webhook answers Service Unavailable no thanks", b.stored().Error)
	waiting, given, err := b.db.NoticeCounts(t.Context())
	require.NoError(t, err)
	require.Equal(t, [2]int{0, 1}, [2]int{waiting, given})
}

// TestFaultKilledWhileSending kills the service after the webhook has taken a notice and before that is stored: it is sent again, under the same id.
func TestFaultKilledWhileSending(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tell("v1")
	ctx, kill := context.WithCancel(t.Context())
	b.answer = func(*http.Request) (int, error) {
		kill()
		return 200, nil
	}
	require.NoError(t, b.out.Send(ctx))
	b.db.Close()
	b.start()
	b.answer = func(*http.Request) (int, error) { return 200, nil }
	b.pass(time.Minute)
	require.Len(t, b.posts, 2)
	require.Equal(t, n.ID, b.posts[0].header.Get("Certlab-Notice"))
	require.Equal(t, n.ID, b.posts[1].header.Get("Certlab-Notice"))
	require.Equal(t, b.posts[0].body, b.posts[1].body)
	require.NotNil(t, b.stored().Delivered)
}

// TestWithoutAWebhookNoticesAreKept holds that they wait for one, and are listed.
func TestWithoutAWebhookNoticesAreKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hook := b.hook
	b.hook = order.Webhook{}
	b.tell("v1")
	b.pass(10 * time.Minute)
	require.Empty(t, b.posts)
	require.Zero(t, b.stored().Tries)
	b.hook = hook
	b.now = b.now.Add(25 * time.Hour)
	b.pass(time.Minute)
	require.Empty(t, b.posts, "it is no news any more")
	require.Equal(t, "it was older than 24 hours before it could be sent", b.stored().Error)
	b.tell("v2")
	b.pass(time.Minute)
	require.Len(t, b.posts, 1)
}

// empty is a database as it is made: making one takes longer than most tests.
var empty = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "certlab-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "lab.db")
	db, err := sqlite.Open(context.Background(), path)
	if err != nil {
		panic(err)
	}
	if err := db.Close(); err != nil {
		panic(err)
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return bytes
})
