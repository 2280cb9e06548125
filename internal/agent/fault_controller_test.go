package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

// roundTripper answers requests without a network, so that an hour takes no time.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// lone is an agent without a process of its own, which speaks to answer as to its controller. Its log is in text.
func lone(t *testing.T, answer roundTripper) (a *Agent, text *bytes.Buffer) {
	t.Helper()
	text = new(bytes.Buffer)
	opts := Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(text, nil))}
	opts.defaults()
	a = newAgent(opts)
	a.bootID = "boot-1"
	a.remote = &remote{client: &http.Client{Transport: answer}, urls: []string{"https://10.0.0.2:8443"}, now: opts.Now}
	require.NoError(t, a.load())
	return a, text
}

// ended adds a run that has ended, with its archive in the spool.
func (a *Agent) ended(t *testing.T, id string) *run {
	t.Helper()
	require.NoError(t, makeDir(a.runDir(id)))
	require.NoError(t, makeDir(a.spoolDir(id)))
	path := filepath.Join(a.spoolDir(id), "submission.tar.xz")
	require.NoError(t, os.WriteFile(path, []byte("archive of "+id), 0o600))
	sum, size, err := hashFile(path)
	require.NoError(t, err)
	r := &run{wake: make(chan struct{}, 1), version: 1, rec: record{Step: stepEnded, Verdict: order.Completed, Run: order.Run{
		Report: order.Report{Run: id, Attempt: 1, Origin: order.FromAction, State: order.Completed},
		Files:  []order.File{{Kind: order.SubmissionFile, Name: "submission.tar.xz", SHA256: sum, Size: size}}, SubmissionPath: path}}}
	a.mu.Lock()
	defer a.mu.Unlock()
	r.rec.Number = a.nextNumber()
	require.NoError(t, a.store(r))
	a.runs[id] = r
	a.order = append(a.order, id)
	return r
}

// obedient answers as a controller that takes everything.
func obedient(r *http.Request) (*http.Response, error) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/poll") && r.URL.Query().Get("wait") == "0":
		return response(200, "{}"), nil
	case strings.HasSuffix(r.URL.Path, "/poll"):
		select { // as a long poll
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(50 * time.Second):
		}
		return response(200, "{}"), nil
	case r.Method == http.MethodHead:
		return response(200, ""), nil
	case r.Method == http.MethodPatch:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		ack, err := json.Marshal(order.FileAck{SHA256: filepath.Base(r.URL.Path), Size: int64(len(data))})
		return response(200, string(ack)), err
	}
	return response(200, "{}"), nil
}

func TestFaultControllerGoneForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		var tries atomic.Int64
		a, text := lone(t, func(r *http.Request) (*http.Response, error) {
			if away.Load() {
				tries.Add(1)
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: no route to host")}
			}
			return obedient(r)
		})
		ctx, stop := context.WithCancel(t.Context())
		for _, part := range []func(context.Context){a.poll, a.reportAll, a.deliverAll, a.resendAll} {
			go part(ctx)
		}
		synctest.Wait()
		require.Equal(t, "enrolled", a.status().Controller)

		away.Store(true)
		gone := time.Now()
		r := a.ended(t, "r1") // a run ends meanwhile
		time.Sleep(time.Hour)
		s := a.status()
		require.Equal(t, "unreachable", s.Controller)
		require.Equal(t, "cannot reach the controller: https://10.0.0.2:8443: dial tcp: connect: no route to host", s.ControllerError)
		require.WithinDuration(t, gone, s.ControllerSince, 2*time.Minute, "it says since when")
		require.Equal(t, 1, s.Undelivered)
		require.Greater(t, tries.Load(), int64(50), "it goes on trying")
		require.Less(t, tries.Load(), int64(150), "but not too often")
		require.LessOrEqual(t, strings.Count(text.String(), "\n"), 3, text.String())

		away.Store(false)
		time.Sleep(2 * time.Minute) // the longest pause between two tries, and a poll
		s = a.status()
		require.Equal(t, "enrolled", s.Controller)
		require.Zero(t, s.Undelivered)
		a.mu.Lock()
		require.True(t, r.rec.Run.Delivered)
		a.mu.Unlock()
		stop()
		synctest.Wait()
	})
}

func TestFaultControllerAnswersNonsense(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		answer  func(*http.Request) (*http.Response, error)
		message string
	}{
		{"a page of HTML", func(*http.Request) (*http.Response, error) { return response(200, "<html>Welcome</html>"), nil },
			"cannot read the controller's answer: invalid character '<' looking for beginning of value"},
		{"an error", func(*http.Request) (*http.Response, error) { return response(500, "<html>"), nil },
			"the controller answers 500 Internal Server Error"},
		{"a redirection", func(*http.Request) (*http.Response, error) {
			r := response(302, "")
			r.Header.Set("Location", "https://elsewhere/")
			return r, nil
		}, "cannot poll the controller: the controller answers 302 Found (is it a certlabd of this release that answers there?)"},
		{"that there is no such thing", func(*http.Request) (*http.Response, error) { return response(404, "not found"), nil },
			"cannot poll the controller: the controller answers 404 Not Found (is it a certlabd of this release that answers there?)"},
		{"half an answer", func(*http.Request) (*http.Response, error) {
			r := response(200, "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"orders": [`), iotestErr{io.ErrUnexpectedEOF}))
			return r, nil
		}, "cannot read the controller's answer: unexpected EOF"},
		{"without end", func(r *http.Request) (*http.Response, error) {
			never := response(200, "")
			never.Body = io.NopCloser(untilDone{r.Context()})
			return never, nil
		}, "cannot read the controller's answer: context deadline exceeded"},
		{"nothing", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, "cannot reach the controller: https://10.0.0.2:8443: context deadline exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mended, elsewhere atomic.Bool
				a, text := lone(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Host != "10.0.0.2:8443" {
						elsewhere.Store(true)
					}
					if mended.Load() {
						return obedient(r)
					}
					return test.answer(r)
				})
				a.remote.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				r := a.ended(t, "r1")
				ctx, stop := context.WithCancel(t.Context())
				for _, part := range []func(context.Context){a.poll, a.reportAll, a.deliverAll} {
					go part(ctx)
				}
				time.Sleep(30 * time.Minute)
				s := a.status()
				require.Equal(t, "unreachable", s.Controller)
				require.Equal(t, test.message, s.ControllerError)
				require.Equal(t, 1, s.Undelivered)
				require.LessOrEqual(t, strings.Count(text.String(), "\n"), 3, text.String())
				mended.Store(true)
				time.Sleep(4 * time.Minute)
				a.mu.Lock()
				require.True(t, r.rec.Run.Delivered, text.String())
				a.mu.Unlock()
				require.False(t, elsewhere.Load())
				stop()
				synctest.Wait()
			})
		})
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// untilDone is a body that never ends, and breaks off when its request does.
type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

func TestFaultRunThatTheControllerRejectsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		a, text := lone(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/r1/") {
				tries.Add(1)
				return response(422, `{"error":{"code":"rejected","message":"the bytes do not have the hash"}}`), nil
			}
			return obedient(r)
		})
		rejected, other := a.ended(t, "r1"), a.ended(t, "r2")
		a.controller = "enrolled"
		ctx, stop := context.WithCancel(t.Context())
		go a.deliverAll(ctx)
		time.Sleep(time.Hour)
		a.mu.Lock()
		require.True(t, other.rec.Run.Delivered)
		require.False(t, rejected.rec.Run.Delivered)
		require.FileExists(t, rejected.rec.Run.SubmissionPath)
		a.mu.Unlock()
		require.Greater(t, tries.Load(), int64(30))
		require.Equal(t, []string{"cannot deliver run r1: the controller answers 422: the bytes do not have the hash; its files stay in " + a.spoolDir("r1") + " and are tried again"},
			a.status().Problems)
		require.Less(t, strings.Count(text.String(), "\n"), 12, text.String())
		stop()
		synctest.Wait()
	})
}

func TestFaultControllerIsBusyOrFull(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status  int
		problem string
	}{
		{http.StatusTooManyRequests, "cannot deliver run r1: the controller answers 429: come again"},
		{http.StatusServiceUnavailable, ""},
		{http.StatusInsufficientStorage, "cannot deliver run r1: the controller answers 507: come again"},
	} {
		t.Run(http.StatusText(test.status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var better atomic.Bool
				var tries atomic.Int64
				a, text := lone(t, func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPatch && !better.Load() {
						tries.Add(1)
						no := response(test.status, `{"error":{"code":"no","message":"come again"}}`)
						no.Header.Set("Retry-After", "40")
						return no, nil
					}
					return obedient(r)
				})
				r := a.ended(t, "r1")
				a.controller = "enrolled"
				ctx, stop := context.WithCancel(t.Context())
				go a.poll(ctx)
				go a.deliverAll(ctx)
				time.Sleep(10 * time.Minute)
				s := a.status()
				require.Equal(t, "enrolled", s.Controller, "it is there")
				require.Contains(t, strings.Join(s.Problems, "\n"), test.problem)
				require.LessOrEqual(t, tries.Load(), int64(16), "no more often than it asks for")
				better.Store(true)
				time.Sleep(2 * time.Minute)
				a.mu.Lock()
				require.True(t, r.rec.Run.Delivered)
				a.mu.Unlock()
				require.Empty(t, a.status().Problems)
				require.Less(t, strings.Count(text.String(), "\n"), 9, text.String())
				stop()
				synctest.Wait()
			})
		})
	}
}

// An authority signs certificates of controllers.
type testAuthority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func authorityFrom(t *testing.T, from, to time.Time) *testAuthority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a lab"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &testAuthority{t, key, cert}
}

func (a *testAuthority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// serve is a controller with a certificate of the authority's that answers every request with {}.
func (a *testAuthority) serve(from, to time.Time) *httptest.Server {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "certlabd"}, NotBefore: from, NotAfter: to,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	require.NoError(a.t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "{}") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}, ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

func TestFaultControllerThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const day = aDay
	lab := authorityFrom(t, now.Add(-30*day), now.Add(365*day))
	other := authorityFrom(t, now.Add(-30*day), now.Add(365*day))
	old := authorityFrom(t, now.Add(-30*day), now.Add(-3*day))
	key, err := loadKey(filepath.Join(t.TempDir(), keyFile))
	require.NoError(t, err)
	for _, test := range []struct {
		name    string
		server  *httptest.Server
		pinned  *testAuthority
		address string
		clock   time.Duration // how far the machine's is ahead
		message string        // empty: it is trusted
	}{
		{"of another authority", other.serve(now.Add(-day), now.Add(30*day)), lab, "", 0, "is not of an authority that was published over the relation"},
		{"at an address that is not its own", lab.serve(now.Add(-day), now.Add(30*day)), lab, "localhost", 0, "its certificate is not for the address localhost"},
		{"of an authority that has expired", old.serve(now.Add(-day), now.Add(30*day)), old, "", 0, "its authority's certificate is valid from "},
		{"that has expired", lab.serve(now.Add(-30*day), now.Add(-3*day)), lab, "", 0, "its certificate is valid from "},
		{"by a clock that is years ahead", lab.serve(now.Add(-day), now.Add(30*day)), lab, "", 5 * 365 * day, "this machine's clock says 2031-"},
		{"by a clock a day ahead, on its last day", lab.serve(now.Add(-day), now.Add(time.Hour)), lab, "", day, ""},
		{"by a clock a day behind, on its first", lab.serve(now.Add(-time.Hour), now.Add(30*day)), lab, "", -day, ""},
		{"by a clock that was never set", lab.serve(now.Add(-time.Hour), now.Add(30*day)), lab, "", -56 * 365 * day, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := test.server.URL
			if test.address != "" {
				url = strings.Replace(url, "127.0.0.1", test.address, 1)
			}
			// Whatever the day on which this runs, the message names the clock's.
			clock := func() time.Time { return time.Now().Add(test.clock) }
			r, err := newRemote(key, []string{url}, []string{test.pinned.pem()}, clock)
			require.NoError(t, err)
			_, err = r.poll(t.Context(), 0)
			if test.message == "" {
				require.NoError(t, err)
				return
			}
			if strings.HasPrefix(test.message, "this machine's clock says ") {
				test.message = "this machine's clock says " + clock().UTC().Format("2006-")
			}
			require.ErrorContains(t, err, "cannot reach the controller: "+url+": cannot trust it: ")
			require.ErrorContains(t, err, test.message)
		})
	}
}

func TestFaultControllerHasLostAFile(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	c := newController(t)
	c.enrol(g)
	g.start()
	whole, damaged, removed := g.run(order.Spec{Plan: small.Plan}), g.run(order.Spec{Plan: small.Plan}), g.run(order.Spec{Plan: small.Plan})
	var files []order.File
	for _, id := range []string{whole, damaged, removed} {
		r := g.delivered(id)
		require.FileExists(t, r.SubmissionPath, "a delivered archive can still be had on the machine")
		require.Equal(t, c.server.URL+"/runs/"+id, r.URL)
		files = append(files, r.Files[1]) // the archives are the same
	}
	g.kill() // what is kept is kept over restarts
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "spool", damaged, "console"), []byte("something else"), 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(g.dir, "spool", removed)))
	g.start()
	c.mu.Lock()
	for i, id := range []string{whole, damaged, removed} {
		c.resend = append(c.resend, order.Resend{Run: id, Attempt: 1, File: files[i]})
	}
	clear(c.files)
	clear(c.done)
	c.mu.Unlock()
	g.until("the file is there again, and the others are said to be gone", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.done[files[0].SHA256] && c.gone[damaged] != "" && c.gone[removed] != ""
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Len(t, c.files[files[0].SHA256], int(files[0].Size))
	require.Contains(t, c.gone[damaged], "it was damaged on the machine's disk")
	require.Contains(t, c.gone[removed], "its copy on the machine was removed: delivered files are kept for 7 days and only while there is room")
	require.Len(t, c.finished[whole], 1, "the run is not ended a second time")
}

func TestFaultControllerGoesBackInTime(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	c := newController(t)
	c.enrol(g)
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	first := g.delivered(id)
	c.mu.Lock()
	clear(c.files) // restored from a backup that was older
	clear(c.done)
	clear(c.finished)
	c.epoch, c.again = "the second", []string{id}
	c.mu.Unlock()
	g.until("the run is delivered a second time", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.finished[id]) > 0
	})
	again := g.delivered(id)
	require.Equal(t, first.Files, again.Files)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.True(t, c.done[first.Files[0].SHA256])
	require.Equal(t, []order.HeldRun{{Run: id, Attempt: 1, Delivered: true, Files: first.Files, Whole: true}}, c.held)
	require.Equal(t, 1, c.helds, "it is told once")
}
