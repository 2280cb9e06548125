package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
	"certlab/internal/server/web"
	"certlab/internal/sqlite"
)

var update = flag.Bool("update", false, "write docs/reference/access.md anew")

// What a request comes to.
const (
	served   = "yes"
	nobody   = "401"     // nobody known is asking
	refused  = "403"     // somebody known is asking for what is not theirs
	toLogin  = "→ login" // a page: the same as 401, for people
	hidden   = "404"     // as for what there is not
	noSuch   = "other"   // none of these: the test fails
	accessMD = "../../docs/reference/access.md"
)

// A caller is somebody who makes requests.
type caller struct {
	name    string
	column  string // of the published table; several share one where all of their outcomes are the same
	client  *http.Client
	token   string
	cookie  string
	site    string // Sec-Fetch-Site
	origin  string
	role    cert.Role
	agent   string // "own", "other" or "none"
	foreign bool   // a browser that a page of another site makes ask
	local   bool
}

// expected is the rule of the whole table: what a request of the caller comes to on a route that exists.
func (c caller) expected(rt route.Route) string {
	safe := rt.Method == http.MethodGet || rt.Method == http.MethodHead
	if c.foreign && !safe && rt.Access != route.Agent {
		return refused // before anything else is asked
	}
	switch rt.Access {
	case route.Open:
		switch {
		case rt.Path == "/enrol/v1/enrol" && c.agent != "":
			return refused // the key to enrol is not that of the client certificate
		case strings.HasPrefix(rt.Path, "/enrol/"):
			return nobody // the credential is a deployment's token, which none of them has
		}
		return served
	case route.Agent:
		switch {
		case c.agent == "own":
			return served
		case c.agent == "other" && strings.Contains(rt.Path, "{run}"):
			return hidden
		case c.agent == "other":
			return served // about its own machine
		case c.agent == "none":
			return refused
		}
		return nobody
	case route.Local:
		switch {
		case c.local:
			return served
		case c.role != "":
			return refused
		}
		return nobody
	}
	switch {
	case c.role.May(cert.Role(rt.Access)):
		return served
	case c.role != "":
		return refused
	case rt.Doc.Page && safe, rt.Path == "/logout":
		return toLogin
	}
	return nobody
}

// outcome reads an answer.
func outcome(resp *http.Response) string {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nobody
	case resp.StatusCode == http.StatusForbidden:
		return refused
	case resp.StatusCode == http.StatusNotFound:
		return hidden
	case resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(resp.Header.Get("Location"), "/login"):
		return toLogin
	case resp.StatusCode >= 500:
		return noSuch
	}
	return served
}

// accessLab has one caller of each kind, and something to ask for.
type accessLab struct {
	*lab
	values  *strings.Replacer // of paths
	bodies  map[string]string // by method and path; others get an object that no route accepts
	callers []caller
	ask     *http.Client
}

func newAccessLab(t *testing.T) *accessLab {
	own, other, ended, stranger := newAgent(t, 0), newAgent(t, 1), newAgent(t, 2), newAgent(t, 3)
	l := &accessLab{lab: newLab(t, own, other, ended)}
	stranger.connect(l.lab)
	ended.poll(0)
	l.apply(func(d *order.ControllerDesired) { d.Agents = d.Agents[:2] })
	run := runID()
	ack := own.deliver(run, sample(t, "v5.0.0-odd.tar.xz")) // it has attachments
	sub := indexed(t, l.person(cert.Viewer), ack.Submission)
	campaign := l.storeCampaign("noble", sub.Machine, run, sub.ID, 1)
	l.values = strings.NewReplacer("{run}", run, "{attempt}", "1", "{sha256}", ack.SHA256, "{machine}", "node0", "{submission}", ack.Submission,
		"{index}", "0", "{token}", "viewer", "{zone}", "z1", "{reservation}", l.reservation(), "{architecture}", "amd64", "{$}", "",
		"{campaign}", campaign.ID, "{finding}", campaign.finding, "{issue}", campaign.issue, "{policy}", "sru")
	report, err := json.Marshal(running(run, 2))
	require.NoError(t, err)
	finish, err := json.Marshal(finished(running(run, 2)))
	require.NoError(t, err)
	l.bodies = map[string]string{"PUT /agent/v1/runs/{run}": string(report), "POST /agent/v1/runs/{run}/finish": string(finish)}

	l.ask = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: own.http.Transport.(clockTransport).RoundTripper.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: true}}
	l.ask.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	t.Cleanup(l.ask.CloseIdleConnections)
	expired, revoked, over := l.secret("expired", "admin", 1), l.secret("revoked", "admin", 0), l.secret("over", "admin", 0)
	loggedOut := l.session(over)
	require.Equal(t, http.StatusOK, l.call(l.socket(), "DELETE", "http://local/api/v1/tokens/revoked", nil, nil))
	require.Equal(t, http.StatusSeeOther, l.request(caller{client: l.ask, cookie: loggedOut, site: "same-origin"}, "POST", "/logout", "").StatusCode)

	l.callers = []caller{
		{name: "nobody", column: "nobody"},
		{name: "a token that there is not", column: "bad token", token: cert.NewSecret(cert.TokenPrefix)},
		{name: "a code as a token", column: "bad token", token: cert.NewSecret(cert.CodePrefix)},
		{name: "an expired token", column: "bad token", token: expired},
		{name: "a revoked token", column: "bad token", token: revoked},
		{name: "a session that there is not", column: "bad token", cookie: cert.NewSecret(cert.SessionPrefix), site: "same-origin"},
		{name: "a session that was logged out", column: "bad token", cookie: loggedOut, site: "same-origin"},
		{name: "an agent of the machine", column: "agent, own", client: own.http, agent: "own"},
		{name: "an agent of another machine", column: "agent, other", client: other.http, agent: "other"},
		{name: "an agent whose unit has gone", column: "agent, gone", client: ended.http, agent: "none"},
		{name: "a key that nobody has enrolled", column: "agent, gone", client: stranger.http, agent: "none"},
		{name: "root over the socket", column: "root", client: l.socket(), role: cert.Admin, local: true},
	}
	for _, name := range cert.Roles {
		role, secret := cert.Role(name), l.secret(name, name, 0)
		session := l.session(secret)
		l.callers = append(l.callers,
			caller{name: name, column: name, token: secret, role: role},
			caller{name: name + "'s session", column: name, cookie: session, site: "same-origin", role: role},
			caller{name: name + "'s session, asked by a page of another site", column: "other site", cookie: session, site: "cross-site", foreign: true, role: role},
			caller{name: name + "'s session, asked by another origin", column: "other site", cookie: session, origin: "https://evil.example", foreign: true, role: role})
	}
	// Until the token of a second has expired.
	require.Eventually(t, func() bool {
		return l.request(caller{client: l.ask, token: expired}, "GET", "/api/v1/site", "").StatusCode == http.StatusUnauthorized
	}, patience, 50*time.Millisecond)
	for n := range l.callers {
		if l.callers[n].client == nil {
			l.callers[n].client = l.ask
		}
	}
	return l
}

// reservation stores one that is over.
func (l *accessLab) reservation() string {
	v := cert.Reservation{ID: cert.NewID(cert.ReservationID, time.Now()), Kind: cert.ReserveManual, State: cert.ReservationEnded, Holder: "ada", Created: now()}
	require.NoError(l.t, l.service.db.ChangeFleet(l.t.Context(), func(tx *sqlite.FleetTx) error { return tx.AddReservation(v) }))
	return v.ID
}

// secret makes a token and returns its secret.
func (l *accessLab) secret(name, role string, seconds int64) string {
	var made cert.CreatedToken
	require.Equal(l.t, http.StatusCreated, l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: name, Role: role, ExpiresInSeconds: seconds}, &made))
	var out cert.RedeemedToken
	require.Equal(l.t, http.StatusOK, l.call(l.socket(), "POST", "http://local/api/v1/tokens/redeem", cert.RedeemCode{Code: made.Code}, &out))
	return out.Secret
}

// session logs in and returns the cookie.
func (l *accessLab) session(secret string) string {
	req, err := http.NewRequestWithContext(l.t.Context(), "POST", l.url()+"/login", strings.NewReader(url.Values{"secret": {secret}}.Encode()))
	require.NoError(l.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := l.ask.Transport.RoundTrip(req)
	require.NoError(l.t, err)
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == web.SessionCookie {
			return c.Value
		}
	}
	require.Fail(l.t, "no session")
	return ""
}

// request makes a caller's request and reads the whole answer.
func (l *accessLab) request(c caller, method, path, body string) *http.Response {
	base := l.url()
	if c.local {
		base = "http://local"
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(l.t.Context(), method, base+path, reader)
	require.NoError(l.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.cookie != "" {
		req.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: c.cookie})
	}
	for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Origin": c.origin} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.client.Transport.RoundTrip(req)
	require.NoError(l.t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

// TestWhoMayDoWhat goes through all routes as everybody, over real TLS, and holds what comes of it to the rule and to the published table.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	l := newAccessLab(t)
	o := newOpenAPI(t, l.lab)
	logins := make(map[string]string) // sessions to log out
	for _, c := range l.callers {
		if c.cookie != "" && c.role != "" && !c.foreign {
			logins[c.name] = l.session(l.secret("to log out "+strings.ReplaceAll(c.name, "'", ""), string(c.role), 0))
		}
	}
	for _, c := range l.callers {
		for _, rt := range l.service.server.Routes() {
			name := rt.Method + " " + rt.Path + " as " + c.name
			body := l.bodies[rt.Method+" "+rt.Path]
			if body == "" && rt.Doc.Body != nil {
				body = `{"machine":"no such machine","path":"relative"}`
			}
			path, as := l.values.Replace(rt.Path), c
			switch {
			case rt.Path == "/logout" && logins[c.name] != "":
				as.cookie = logins[c.name]
			case rt.Path == "/api/v1/pauses" && rt.Method == http.MethodDelete:
				path += "?scope=zone&name=nowhere"
			case rt.Method == http.MethodDelete:
				path = "/api/v1/tokens/" + cert.NewID(cert.TokenID, time.Now()) // nobody's
			}
			resp := l.request(as, rt.Method, path, body)
			got, want := outcome(resp), c.expected(rt)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			switch {
			case want == served && rt.Method == http.MethodDelete:
				require.Equal(t, http.StatusNotFound, resp.StatusCode, name) // let in, and then there is no such token
			case want == served && strings.HasSuffix(rt.Path, "/console"):
				require.Equal(t, http.StatusNotFound, resp.StatusCode, name) // let in, and then there is none
				require.Contains(t, string(text), "there is no console log of node0", name)
			case want == served && (rt.Path == "/login" && rt.Method == "POST" || rt.Path == "/api/v1/tokens/redeem"):
				require.Contains(t, []int{http.StatusUnauthorized, http.StatusBadRequest}, resp.StatusCode, name) // these refuse the secret, not the caller
			case want == served && rt.Path == "/logout":
				require.Equal(t, http.StatusSeeOther, resp.StatusCode, name)
				require.NotEmpty(t, resp.Header.Get("Set-Cookie"), name)
			default:
				require.Equal(t, want, got, "%s: %d %s", name, resp.StatusCode, text)
			}
			require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), name)
			require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'", name)
			if resp.Header.Get("Content-Type") == "application/json" && rt.Doc.Response != nil {
				o.check(rt, fmt.Sprint(resp.StatusCode), text)
			}
			if want == nobody || want == refused {
				require.NotContains(t, string(text), l.values.Replace("{submission}"), "%s: who is refused learns nothing", name)
			}
		}
	}
	checkPublished(t, l)
}

// checkPublished holds docs/reference/access.md to the table.
func checkPublished(t *testing.T, l *accessLab) {
	columns := []string{"nobody", "bad token", "viewer", "engineer", "signer", "admin", "other site", "root", "agent, own", "agent, other", "agent, gone"}
	var text strings.Builder
	text.WriteString(accessIntro)
	fmt.Fprintf(&text, "| route | least role | %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)+2))
	var why strings.Builder
	for _, rt := range l.service.server.Routes() {
		fmt.Fprintf(&text, "| `%s %s` | %s |", rt.Method, strings.ReplaceAll(rt.Path, "{$}", ""), rt.Access)
		for _, column := range columns {
			shown := ""
			for _, c := range l.callers {
				if c.column != column {
					continue
				}
				cell := c.expected(rt)
				if column == "other site" && c.role != cert.Admin {
					continue // of those whose session a page of another site might use, the one who may most
				}
				require.True(t, shown == "" || shown == cell, "%s %s: %s", rt.Method, rt.Path, column)
				shown = cell
			}
			if shown == nobody || shown == refused || shown == hidden {
				shown = "**" + shown + "**"
			}
			text.WriteString(" " + shown + " |")
		}
		text.WriteString("\n")
		if rt.Doc.Why != "" {
			fmt.Fprintf(&why, "| `%s %s` | %s |\n", rt.Method, rt.Path, rt.Doc.Why)
		}
	}
	text.WriteString(accessOpen + why.String())
	if *update {
		require.NoError(t, os.WriteFile(accessMD, []byte(text.String()), 0o644))
		return
	}
	published, err := os.ReadFile(accessMD)
	require.NoError(t, err)
	require.Equal(t, text.String(), string(published), "docs/reference/access.md is not current: go test ./cmd/certlabd -run TestWhoMayDoWhat -update")
}

const accessIntro = `# Who may do what

This table is made from the service's routes; ` + "`TestWhoMayDoWhat`" + ` asks for every route as everybody, of a running service over TLS, and fails
when an answer or this page differs (` + "`go test ./cmd/certlabd -run TestWhoMayDoWhat -update`" + ` writes the page anew).

| outcome | meaning |
| --- | --- |
| yes | served: what comes of it depends on the request |
| 401 | nobody known is asking. Paths that do not exist answer the same, so that who is not known learns nothing of what there is |
| 403 | somebody known is asking for what is not theirs |
| 404 | an agent asks for another machine's run: answered as a run that does not exist |
| → login | a page: the browser is sent to the login page |

| column | who |
| --- | --- |
| nobody | no credential |
| bad token | a token that is unknown, expired or revoked, a code in a token's place, a session that is unknown or was logged out: all are answered alike |
| viewer … admin | a token of that role, or a browser's session that was begun with one |
| other site | an admin's browser session, used by a page of another site (a foreign ` + "`Origin`" + ` or ` + "`Sec-Fetch-Site`" + `). What it may read by GET, the browser keeps from that page |
| root | root on the controller's machine, over the unix socket |
| agent, own | an enrolled agent, on a run of its own machine |
| agent, other | an enrolled agent, on a run of another machine |
| agent, gone | a key that is not enrolled, or not any more |

An agent's client certificate counts on the agents' routes only, and by its key only; a token counts on all others only.

`

const accessOpen = `
## What needs no credential, and why

| route | why |
| --- | --- |
`

// TestFaultUnknownPathsRevealNothing: who is not known gets the same answer where there is something and where there is nothing.
func TestFaultUnknownPathsRevealNothing(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	stranger := newAgent(t, 1)
	l := &accessLab{lab: newLab(t, a)}
	stranger.connect(l.lab)
	l.ask = l.browser().http
	nobody, viewer := caller{client: l.ask}, caller{client: l.ask, token: l.token(cert.Viewer)}
	text := func(resp *http.Response) string { return fmt.Sprint(resp.StatusCode) + " " + body(t, resp) }
	there := text(l.request(nobody, "GET", "/api/v1/site", ""))
	require.Contains(t, there, "401 ")
	require.Contains(t, there, "this needs a token: certlab login")
	for _, r := range [][2]string{{"GET", "/api/v1/nothing"}, {"GET", "/api/v2/site"}, {"PUT", "/api/v1/site"}, {"DELETE", "/api/v1/cas"}, {"GET", "/metrics/x"},
		{"GET", "/api/v1/machines/../site"}, {"GET", "/api/v1/site/"}, {"OPTIONS", "/api/v1/site"}, {"TRACE", "/api/v1/cas"},
		{"BREW", "/api/v1/tokens"}, {"GET", "/api/v1/runs/none"}, {"GET", "/api/v1/runs/%2e%2e%2f"}} {
		resp := l.request(nobody, r[0], r[1], "")
		require.Empty(t, resp.Header.Get("Allow"))
		require.Equal(t, there, text(resp), "%v", r)
	}
	for _, path := range []string{"/nothing", "/machines/none", "/.git/config", "/admin", "//api/v1/site"} {
		resp := l.request(nobody, "GET", path, "")
		require.Equal(t, http.StatusSeeOther, resp.StatusCode, path)
		require.Equal(t, "/login?next="+url.QueryEscape(path), resp.Header.Get("Location"))
	}
	// And to a stranger's certificate, below the agents' paths.
	there = text(l.request(caller{client: stranger.http}, "GET", "/agent/v1/poll", ""))
	require.Contains(t, there, "403 ")
	require.Contains(t, there, "this agent's key is not enrolled")
	require.Equal(t, there, text(l.request(caller{client: stranger.http}, "GET", "/agent/v1/nothing", "")))
	require.Contains(t, text(l.request(nobody, "GET", "/agent/v1/nothing", "")), "agents show a client certificate")
	// Who is known is told.
	require.Contains(t, text(l.request(viewer, "GET", "/api/v1/nothing", "")), "there is nothing at /api/v1/nothing")
	resp := l.request(viewer, "PUT", "/api/v1/site", "")
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Contains(t, body(t, resp), "/api/v1/site does not take PUT: use GET, HEAD")
	// Health says to nobody what it says to a load balancer.
	require.JSONEq(t, `{"ready":true}`, body(t, l.request(nobody, "GET", "/health/ready", "")))
	require.Contains(t, body(t, l.request(viewer, "GET", "/health/ready", "")), `"applied"`)

	// An agent cannot tell another's run from none.
	other := newAgent(t, 2)
	other.connect(l.lab)
	l.apply(func(d *order.ControllerDesired) { d.Agents = append(d.Agents, other.enrolled()) })
	run := runID()
	ack := a.deliver(run, sample(t, "head-small.tar.xz"))
	for _, r := range [][2]string{{"HEAD", "/agent/v1/runs/%s/attempts/1/files/" + ack.SHA256}, {"PATCH", "/agent/v1/runs/%s/attempts/1/files/" + ack.SHA256}} {
		none := runID()
		theirs := text(l.request(caller{client: other.http}, r[0], fmt.Sprintf(r[1], run), ""))
		require.Contains(t, theirs, "404 ")
		require.Equal(t, strings.ReplaceAll(text(l.request(caller{client: other.http}, r[0], fmt.Sprintf(r[1], none), "")), none, run), theirs, r[0])
	}
}
