package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/web"
)

// browser is what a browser does, without JavaScript.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

func (l *lab) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(l.t, err)
	t := l.service.server
	require.NotNil(l.t, t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = l.roots()
	l.t.Cleanup(transport.CloseIdleConnections)
	return &browser{l.t, l.url(), &http.Client{Transport: transport, Jar: jar, Timeout: patience}}
}

func (b *browser) do(req *http.Request) (status int, path, text string) {
	resp, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, resp.Request.URL.RequestURI(), string(content)
}

func (b *browser) get(path string) (int, string, string) {
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", b.base+path, nil)
	require.NoError(b.t, err)
	return b.do(req)
}

func (b *browser) post(path, site string, form url.Values) (int, string, string) {
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", b.base+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", site)
	return b.do(req)
}

var hrefs = regexp.MustCompile(`(?:href|action)="([^"]*)"`)

// What is HTML and not XML.
var (
	void    = regexp.MustCompile(`<(meta|link|input|br)\b([^>]*)>`)
	boolean = regexp.MustCompile(` (required|autofocus)\b`)
)

// wellFormed checks a page's markup: each element is closed, and nothing is fetched from elsewhere.
func wellFormed(t *testing.T, path, page string) {
	t.Helper()
	require.True(t, strings.HasPrefix(page, "<!DOCTYPE html>"), path)
	text := boolean.ReplaceAllString(void.ReplaceAllString(page, `<$1$2/>`), ` $1=""`)
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	headings, labelled := 0, map[string]bool{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err, "%s: %s", path, page)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range start.Attr {
			require.False(t, strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "style", "%s: inline script or style", path)
			if a.Name.Local == "for" {
				labelled[a.Value] = true
			}
			if a.Name.Local == "id" && start.Name.Local == "input" {
				require.True(t, labelled[a.Value], "%s: an input without a label", path)
			}
		}
		require.NotEqual(t, "script", start.Name.Local, path)
		if start.Name.Local == "h1" {
			headings++
		}
	}
	require.Equal(t, 1, headings, path)
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		require.True(t, strings.HasPrefix(m[1], "/") && !strings.HasPrefix(m[1], "//"), "%s links to %s", path, m[1])
	}
}

func TestPagesCanBeReadAndTheirLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	a.identity.Kernel = `6.8 <script>alert("kernel")</script>`
	l := newLab(t, a)
	viewer := l.person(cert.Viewer)
	odd := indexed(t, viewer, a.deliver(runID(), sample(t, "v5.0.0-odd.tar.xz")).Submission)
	l.storeCampaign("noble-linux", odd.Machine, odd.Run, odd.ID, 60)
	indexed(t, viewer, a.deliver(runID(), sample(t, "head-800jobs.tar.xz")).Submission)
	indexed(t, viewer, a.deliver(runID(), []byte("not an archive")).Submission)
	r := running(runID(), 1)
	r.Spec.Plan = `x::"><img src=x onerror=alert(1)>`
	r.Interruptions = []order.Interruption{{Job: "<b>", Cause: "reboot"}}
	_, status := a.report(r)
	require.Equal(t, http.StatusOK, status)
	f := finished(r)
	f.State, f.Failure = order.Failed, &order.Failure{Type: order.FailAgent, Message: "</dd><script>"}
	_, status = a.finish(f)
	require.Equal(t, http.StatusOK, status)

	b := l.browser()
	status, path, page := b.get("/runs?state=failed")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "/login?next="+url.QueryEscape("/runs?state=failed"), path, "who is not known logs in first")
	wellFormed(t, path, page)
	var made cert.CreatedToken
	l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "<i>bob</i>", Role: "viewer"}, &made)
	require.Empty(t, made.Code, "a name is plain")
	l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "bob", Role: "viewer"}, &made)
	status, _, page = b.post("/login", "same-origin", url.Values{"secret": {"clt_wrong"}, "next": {"/"}})
	require.Equal(t, http.StatusUnauthorized, status)
	wellFormed(t, "/login", page)
	status, _, _ = b.post("/login", "cross-site", url.Values{"secret": {made.Code}})
	require.Equal(t, http.StatusForbidden, status, "a form of another site")
	status, path, page = b.post("/login", "same-origin", url.Values{"secret": {made.Code}, "next": {"/runs?state=failed"}})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "/runs?state=failed", path)
	require.Contains(t, page, "bob (viewer)")

	// Every page that is reached by links.
	seen, todo := map[string]bool{"/": true}, []string{"/"}
	kinds := map[string]int{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if kind := regexp.MustCompile(`[cfrms0-9][0-9a-z]{20,}|results/\d+|attachments/\d+|cursor=[^&]*`).ReplaceAllString(path, "*"); kinds[kind] > 5 {
			continue // enough of the same kind
		} else {
			kinds[kind]++
		}
		status, _, page := b.get(path)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, page)
		if strings.HasPrefix(path, "/api/") || path == "/style.css" || path == "/favicon.ico" {
			continue
		}
		wellFormed(t, path, page)
		require.NotContains(t, page, "<script")
		require.NotContains(t, page, "<img")
		require.NotContains(t, page, "ZgotmplZ")
		for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
			link := strings.ReplaceAll(m[1], "&amp;", "&")
			if link != "/logout" && !seen[link] {
				seen[link] = true
				todo = append(todo, link)
			}
		}
	}
	require.Greater(t, len(kinds), 20, "%v", kinds)
	require.NotZero(t, kinds["/findings/*"], "%v", kinds)

	// A page of results has a next one, and all of them are on one of the pages.
	subs, err := viewer.Submissions(t.Context(), url.Values{"plan": {"com.example.lab::gen800"}}, 0)
	require.NoError(t, err)
	if len(subs) == 0 {
		subs, err = viewer.Submissions(t.Context(), nil, 0)
		require.NoError(t, err)
	}
	var big cert.Submission
	for _, s := range subs {
		if s.Counts["pass"] > big.Counts["pass"] {
			big = s
		}
	}
	total, next := 0, "/submissions/"+big.ID
	for next != "" {
		_, _, page := b.get(next)
		total += strings.Count(page, `/results/`)
		next = ""
		if m := regexp.MustCompile(`<a href="([^"]*)" rel="next">`).FindStringSubmatch(page); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	want := 0
	for _, n := range big.Counts {
		want += n
	}
	require.Equal(t, want, total)
	require.Greater(t, want, 100)

	status, _, page = b.get("/runs/r1")
	require.Equal(t, http.StatusNotFound, status)
	wellFormed(t, "error", page)
	status, _, page = b.get(`/no/such/<page>`)
	require.Equal(t, http.StatusNotFound, status)
	wellFormed(t, "error", page)
	status, path, _ = b.post("/logout", "same-origin", nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "/login", path)
	_, path, _ = b.get("/")
	require.Equal(t, "/login?next=%2F", path)
}

func TestASessionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b := l.browser()
	secret := l.token2("carol")
	status, path, _ := b.post("/login", "same-origin", url.Values{"secret": {secret}, "next": {"//evil.example/"}})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "/", path, "login leads nowhere else")
	u, err := url.Parse(b.base)
	require.NoError(t, err)
	require.Len(t, b.http.Jar.Cookies(u), 1)
	require.Equal(t, web.SessionCookie, b.http.Jar.Cookies(u)[0].Name)
	req, err := http.NewRequestWithContext(t.Context(), "POST", b.base+"/login", strings.NewReader(url.Values{"secret": {secret}}.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.http.Transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Regexp(t, `^__Host-certlab=cls_[^;]+; Path=/; Expires=[^;]+; HttpOnly; Secure; SameSite=Lax$`, resp.Header.Get("Set-Cookie"))
	status, _, _ = b.get("/api/v1/machines")
	require.Equal(t, http.StatusOK, status, "links to the API work in a browser")
	require.Equal(t, http.StatusOK, l.call(l.socket(), "DELETE", "http://local/api/v1/tokens/carol", nil, nil))
	status, _, _ = b.get("/api/v1/machines")
	require.Equal(t, http.StatusUnauthorized, status)
	_, path, _ = b.get("/machines")
	require.Equal(t, fmt.Sprintf("/login?next=%s", url.QueryEscape("/machines")), path)
}
