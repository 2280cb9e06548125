package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/order"
)

// newShiftedLab is a lab whose service's clock can be put forward.
func newShiftedLab(t *testing.T, agents ...*agent) (l *accessLab, forward func(time.Duration)) {
	var offset atomic.Int64
	l = &accessLab{lab: newTunedLab(t, func(s *service) {
		s.now = func() time.Time { return now().Add(time.Duration(offset.Load())) }
	}, agents...)}
	l.ask = l.browser().http
	return l, func(d time.Duration) { offset.Add(int64(d)) }
}

// answered returns status and body of a request.
func (l *accessLab) answered(c caller, method, path, text string) string {
	if c.client == nil {
		c.client = l.ask
	}
	resp := l.request(c, method, path, text)
	return fmt.Sprint(resp.StatusCode) + " " + body(l.t, resp)
}

// TestFaultCredential is about tokens that are not good: the answer says what to do, the log says who was refused, and neither has the secret.
func TestFaultCredential(t *testing.T) {
	t.Parallel()
	l, forward := newShiftedLab(t)
	expired, revoked, good := l.secret("expired", "admin", 60), l.secret("revoked", "admin", 0), l.secret("good", "viewer", 0)
	require.Contains(t, l.answered(caller{token: expired}, "GET", "/api/v1/site", ""), "200 ")
	require.Equal(t, http.StatusOK, l.call(l.socket(), "DELETE", "http://local/api/v1/tokens/revoked", nil, nil))
	forward(2 * time.Minute)
	const again = `"the token is unknown, revoked or expired (get a new one: certlab login)"`
	for _, c := range []struct{ name, token, status, message string }{
		{"wrong", cert.NewSecret(cert.TokenPrefix), "401", again},
		{"expired", expired, "401", again},
		{"revoked", revoked, "401", again},
		{"a code in its place", cert.NewSecret(cert.CodePrefix), "401", `the Authorization header must be: Bearer clt_…`},
		{"cut short", good[:len(good)-1], "401", `the Authorization header must be: Bearer clt_…`},
		{"of a lesser role", good, "403", `this needs the role admin: token \"good\" has the role viewer`},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := l.answered(caller{token: c.token}, "GET", "/api/v1/tokens", "")
			require.True(t, strings.HasPrefix(answer, c.status+" "), answer)
			require.Contains(t, answer, c.message)
			require.NotContains(t, answer, c.token)
			require.NotContains(t, l.log.String(), c.token)
			require.Regexp(t, `level=WARN msg="request refused" from=127.0.0.1 method=GET path=/api/v1/tokens who=\S* reason=".*`, l.log.String())
		})
	}
	lines := strings.Count(l.log.String(), "request refused")
	for range 20 {
		l.answered(caller{token: revoked}, "GET", "/api/v1/tokens", "")
	}
	require.Equal(t, lines, strings.Count(l.log.String(), "request refused"), "who knocks again and again does not fill the log")
	require.Contains(t, l.answered(caller{token: good}, "GET", "/api/v1/site", ""), "200 ")
}

// TestFaultCodeReplayed: a code is good once, also for two who come at the same instant, and not after its time.
func TestFaultCodeReplayed(t *testing.T) {
	t.Parallel()
	l, forward := newShiftedLab(t)
	code := func(name string) string {
		var made cert.CreatedToken
		require.Equal(t, http.StatusCreated, l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: name, Role: "admin", CodeExpiresInSeconds: 60}, &made))
		return made.Code
	}
	const refusal = "cannot use this code: it is unknown, used already, revoked, or too old (ask an admin for a new one)"
	raced := code("raced")
	var good atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		c, err := client.New(client.Options{URL: l.url(), CAs: l.cas()})
		require.NoError(t, err)
		all.Go(func() {
			if redeemed, err := c.Redeem(t.Context(), raced); err == nil && redeemed.Secret != "" {
				good.Add(1)
			} else if err == nil || err.Error() != refusal {
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, good.Load())
	for name, replay := range map[string]func(code string) string{
		"over the API": func(code string) string {
			return l.answered(caller{}, "POST", "/api/v1/tokens/redeem", `{"code":"`+code+`"}`)
		},
		"on the login page": func(code string) string {
			status, _, page := l.browser().post("/login", "same-origin", url.Values{"secret": {code}})
			return fmt.Sprint(status) + " " + page
		},
	} {
		late := code("late " + name)
		require.Regexp(t, `^401 (?s:.*)cannot use this code: it is unknown, used already, revoked, or too old`, replay(raced), name)
		forward(2 * time.Minute)
		require.Regexp(t, `^401 (?s:.*)cannot use this code`, replay(late), name)
		require.NotContains(t, l.log.String(), late)
	}
	require.NotContains(t, l.log.String(), raced)
	require.Contains(t, l.log.String(), `level=WARN msg="code refused" from=127.0.0.1:`)
	require.Contains(t, l.log.String(), `level=WARN msg="login refused" from=127.0.0.1:`)
}

// TestFaultSessionReplayed: a browser's session is over with its logout, its token, and its time, whoever has kept the cookie.
func TestFaultSessionReplayed(t *testing.T) {
	t.Parallel()
	l, forward := newShiftedLab(t)
	secret := l.secret("carol", "viewer", 0)
	for _, c := range []struct {
		name string
		end  func(session string)
	}{
		{"after logout", func(session string) {
			l.request(caller{client: l.ask, cookie: session, site: "same-origin"}, "POST", "/logout", "")
		}},
		{"after its time", func(string) { forward(13 * time.Hour) }},
		{"after its token was revoked", func(string) { l.call(l.socket(), "DELETE", "http://local/api/v1/tokens/carol", nil, nil) }},
	} {
		session := l.session(secret)
		browser := caller{cookie: session, site: "same-origin"}
		require.Contains(t, l.answered(browser, "GET", "/api/v1/site", ""), "200 ", c.name)
		c.end(session)
		require.Contains(t, l.answered(browser, "GET", "/api/v1/site", ""), "401 ", c.name)
		require.Contains(t, l.answered(browser, "GET", "/api/v1/site", ""), "the token is unknown, revoked or expired (get a new one: certlab login)", c.name)
		browser.client = l.ask
		require.Equal(t, "/login?next=%2Fruns", l.request(browser, "GET", "/runs", "").Header.Get("Location"), c.name)
		require.Equal(t, "/login", l.request(browser, "POST", "/logout", "").Header.Get("Location"), "%s: logging out of what is over", c.name)
		require.NotContains(t, l.log.String(), session)
	}
}

// withCertificate is the agent with another certificate for its key.
func (a *agent) withCertificate(name string, key *ecdsa.PrivateKey) *http.Client {
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(a.t, err)
	config := &tls.Config{RootCAs: a.lab.roots(), Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// TestFaultCertificate: an agent is who its key is enrolled for, whatever its certificate says.
func TestFaultCertificate(t *testing.T) {
	t.Parallel()
	a, other, stranger := newAgent(t, 0), newAgent(t, 1), newAgent(t, 2)
	l := &accessLab{lab: newLab(t, a, other)}
	l.ask = l.browser().http
	stranger.connect(l.lab)
	run := runID()
	ack := a.deliver(run, sample(t, "head-small.tar.xz"))
	file := "/agent/v1/runs/" + run + "/attempts/1/files/" + ack.SHA256
	t.Run("of another machine", func(t *testing.T) {
		require.Contains(t, l.answered(caller{client: other.http}, "PATCH", file, ""), "404 ")
		_, status := other.report(running(run, 9))
		require.Equal(t, http.StatusNotFound, status)
		_, status = other.finish(finished(running(run, 9)))
		require.Equal(t, http.StatusNotFound, status)
		got, err := l.person(cert.Viewer).Run(t.Context(), run)
		require.NoError(t, err)
		require.Equal(t, cert.Completed, got.State, "nothing came of it")
	})
	t.Run("with the right key and another name", func(t *testing.T) {
		http := a.withCertificate("node1", a.cert.PrivateKey.(*ecdsa.PrivateKey))
		require.Contains(t, l.answered(caller{client: http}, "HEAD", file, ""), "200 ")
	})
	t.Run("with the right name and another key", func(t *testing.T) {
		http := stranger.withCertificate("certlab-agent", stranger.cert.PrivateKey.(*ecdsa.PrivateKey))
		answer := l.answered(caller{client: http}, "GET", "/agent/v1/poll", "")
		require.Contains(t, answer, "403 ")
		require.Contains(t, answer, "this agent's key is not enrolled: integrate its application with the controller (juju integrate), and see the controller's status if it is")
		require.Contains(t, l.log.String(), `msg="request refused" from=127.0.0.1 method=GET path=/agent/v1/poll`)
	})
	t.Run("none", func(t *testing.T) {
		require.Contains(t, l.answered(caller{}, "GET", "/agent/v1/poll", ""), `401 {"error":{"code":"unauthorized","message":"agents show a client certificate: this request came without one"}}`)
		require.Contains(t, l.answered(caller{token: l.token(cert.Admin)}, "GET", "/agent/v1/poll", ""), "401 ", "an admin is no agent")
	})
	t.Run("in the place of a token", func(t *testing.T) {
		require.Contains(t, l.answered(caller{client: a.http}, "GET", "/api/v1/site", ""), "401 ", "an agent is no person")
	})
}

// TestFaultOneKeyForTwoMachines: a disk that was cloned brings its key along. The machine that had it first keeps it.
func TestFaultOneKeyForTwoMachines(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	clone := newAgent(t, 1)
	clone.public, clone.cert = a.public, a.cert
	l := newLab(t, a)
	first := a.poll(0)
	l.apply(func(d *order.ControllerDesired) { d.Agents = append(d.Agents, clone.enrolled()) })
	require.Equal(t, first, a.poll(0), "the first one goes on")
	const why = "it has the same public key as unit checkbox/0: remove the key file of one of the two agents (was a disk cloned?)"
	site, err := l.person(cert.Viewer).Site(t.Context())
	require.NoError(t, err)
	require.Equal(t, []cert.RefusedAgent{{Unit: "checkbox/1", Relation: "cert-agents:1", Reason: why}}, site.Refused)
	require.Contains(t, l.service.health(t.Context()).Problem, "unit checkbox/1 was refused: "+why)
	require.Contains(t, l.log.String(), `msg="agent refused" unit=checkbox/1`)
	machines, err := l.person(cert.Engineer).Machines(t.Context(), nil, 0)
	require.NoError(t, err)
	require.Len(t, machines, 1, "nobody acts for the other machine")
}

// TestFaultTwoUnitsClaimOneMachine: the unit that has it keeps it, and everybody is told.
func TestFaultTwoUnitsClaimOneMachine(t *testing.T) {
	t.Parallel()
	first, second := newAgent(t, 0), newAgent(t, 0)
	second.unit = "checkbox/7"
	l := &accessLab{lab: newLab(t, first)}
	second.connect(l.lab)
	run := runID()
	_, status := first.report(running(run, 1))
	require.Equal(t, http.StatusOK, status)
	l.apply(func(d *order.ControllerDesired) {
		d.Agents = []order.EnrolledAgent{second.enrolled(), first.enrolled()}
	})
	const why = "machine node0 (maas:sys0) is already held by unit checkbox/0: remove one of the two units"
	require.Equal(t, `403 {"error":{"code":"forbidden","message":"agent of unit checkbox/7 was refused: `+why+`"}}`+"\n", l.answered(caller{client: second.http}, "GET", "/agent/v1/poll", ""))
	require.Contains(t, l.service.health(t.Context()).Problem, "unit checkbox/7 was refused: "+why)
	require.True(t, l.service.health(t.Context()).Ready, "the others can work")
	viewer := l.person(cert.Viewer)
	site, err := viewer.Site(t.Context())
	require.NoError(t, err)
	require.Equal(t, []cert.RefusedAgent{{Unit: "checkbox/7", Relation: "cert-agents:1", Reason: why}}, site.Refused)
	m, err := viewer.Machine(t.Context(), "node0")
	require.NoError(t, err)
	require.Equal(t, "checkbox/0", m.Unit)
	require.Equal(t, "unit checkbox/7 was refused: "+why, m.Problem)
	for _, path := range []string{"/", "/machines/node0"} {
		require.Contains(t, body(t, l.raw("GET", path, "")), "checkbox/7 was refused: "+why)
	}
	require.Contains(t, l.log.String(), `msg="agent refused" unit=checkbox/7`)
	// The one that has the machine goes on, and loses nothing.
	archive := sample(t, "head-small.tar.xz")
	f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", archive)
	first.upload(f)
	_, status = first.finish(finished(running(run, 1), f))
	require.Equal(t, http.StatusOK, status)
	// It leaves: the other has the machine, with its runs.
	l.apply(func(d *order.ControllerDesired) { d.Agents = d.Agents[:1] })
	second.poll(0)
	m, err = viewer.Machine(t.Context(), "node0")
	require.NoError(t, err)
	require.Equal(t, "checkbox/7", m.Unit)
	require.Empty(t, m.Problem)
}

// TestFaultNotTLS: what speaks plain HTTP, or an old TLS, on the port is told so, and the service goes on.
func TestFaultNotTLS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	address := strings.TrimPrefix(l.url(), "https://")
	t.Run("plain HTTP", func(t *testing.T) {
		resp, err := http.Get("http://" + address + "/api/v1/site")
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Equal(t, "Client sent an HTTP request to an HTTPS server.\n", string(text))
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		_, err := tls.Dial("tcp", address, &tls.Config{RootCAs: l.roots(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		require.ErrorContains(t, err, "protocol version")
	})
	t.Run("noise", func(t *testing.T) {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Write(bytes.Repeat([]byte{0x16, 0x03, 0xff}, 1000))
		require.NoError(t, err)
		_, err = io.ReadAll(c)
		if err != nil {
			require.NotErrorIs(t, err, net.ErrClosed)
		}
	})
	_, err := l.person(cert.Viewer).Site(t.Context())
	require.NoError(t, err)
}

// TestFaultClockOfAMachine: a machine's clock is a day off. Its times are corrected, the controller's own are the truth, and people are told.
func TestFaultClockOfAMachine(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"a day ahead": 24 * time.Hour, "a day behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, 0)
			l := newLab(t, a)
			a.clock = func() time.Time { return time.Now().Add(skew) }
			began := time.Now().Add(-time.Second)
			run := runID()
			r := running(run, 1)
			r.Created, r.Started = a.clock(), a.clock()
			r.Interruptions = []order.Interruption{{Job: "com.example.lab::env", Cause: "reboot", At: a.clock()}}
			_, status := a.report(r)
			require.Equal(t, http.StatusOK, status)
			f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", sample(t, "head-small.tar.xz"))
			a.upload(f)
			end := finished(r, f)
			end.Finished = a.clock()
			_, status = a.finish(end)
			require.Equal(t, http.StatusOK, status)

			viewer := l.person(cert.Viewer)
			got, err := viewer.Run(t.Context(), run)
			require.NoError(t, err)
			for what, at := range map[string]time.Time{"created": got.Created, "started": *got.Started, "finished": *got.Finished, "updated": got.Attempts[0].Updated,
				"received": got.Files[0].Received, "interrupted": got.Attempts[0].Interruptions[0].At} {
				require.WithinRange(t, at, began, time.Now().Add(time.Second), what)
			}
			require.NoError(t, l.service.lab.FlushContacts(t.Context()))
			m, err := viewer.Machine(t.Context(), "node0")
			require.NoError(t, err)
			require.NotNil(t, m.Seen)
			require.InDelta(t, skew.Seconds(), *m.ClockSkewSeconds, 60)
			direction := map[bool]string{true: "ahead of", false: "behind"}[skew > 0]
			require.Regexp(t, `^its clock is \d+h\d+m\d+s `+direction+` the controller's: the times that it reports are corrected by that \(look at timedatectl there\)$`, m.Problem)
			require.Contains(t, body(t, (&accessLab{lab: l}).raw("GET", "/machines/node0", "")), direction+" the controller&#39;s")
			require.WithinRange(t, *m.Seen, began, time.Now().Add(time.Second), "last contact is the controller's time")
			a.poll(0)
			require.Equal(t, 1, strings.Count(l.log.String(), `msg="a machine's clock is wrong"`))

			a.clock = time.Now
			a.poll(0)
			m, err = viewer.Machine(t.Context(), "node0")
			require.NoError(t, err)
			require.Empty(t, m.Problem)
			require.Contains(t, l.log.String(), "a machine's clock is right again")
		})
	}
}
