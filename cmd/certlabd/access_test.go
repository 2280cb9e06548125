package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

// openapi checks answers against the document that the service itself publishes.
type openapi struct {
	t        *testing.T
	doc      map[string]any
	compiler *jsonschema.Compiler
}

func newOpenAPI(t *testing.T, l *lab) *openapi {
	resp, err := l.socket().Get("http://local/api/v1/openapi.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	doc, err := jsonschema.UnmarshalJSON(resp.Body)
	require.NoError(t, err)
	o := &openapi{t: t, doc: doc.(map[string]any), compiler: jsonschema.NewCompiler()}
	o.compiler.AssertFormat()
	require.NoError(t, o.compiler.AddResource("http://local/openapi.json", doc))
	return o
}

func at(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func pointer(parts ...string) string {
	for n, p := range parts {
		parts[n] = url.PathEscape(strings.ReplaceAll(strings.ReplaceAll(p, "~", "~0"), "/", "~1"))
	}
	return "http://local/openapi.json#/" + strings.Join(parts, "/")
}

// check checks the JSON answer to a documented request.
func (o *openapi) check(rt route.Route, status string, body []byte) {
	path := strings.TrimSuffix(rt.Path, "{$}")
	steps := []string{"paths", path, strings.ToLower(rt.Method), "responses", status}
	if at(o.doc, steps...) == nil {
		steps[4] = "default"
	}
	require.NotNil(o.t, at(o.doc, steps...), "%s %s answers %s, which is not documented: %s", rt.Method, rt.Path, status, body)
	if at(o.doc, append(steps, "$ref")...) != nil {
		steps = []string{"components", "responses", "Error"}
	}
	steps = append(steps, "content", "application/json", "schema")
	schema, err := o.compiler.Compile(pointer(steps...))
	require.NoError(o.t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	require.NoError(o.t, err, "%s", body)
	require.NoError(o.t, schema.Validate(value), "%s %s: %s", rt.Method, rt.Path, body)
}

func TestTheDescriptionHasEveryRouteAndNoOther(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := newOpenAPI(t, l)
	require.Equal(t, "3.1.0", o.doc["openapi"])
	documented := 0
	for _, item := range at(o.doc, "paths").(map[string]any) {
		documented += len(item.(map[string]any))
	}
	routes := l.service.server.Routes()
	require.Equal(t, len(routes), documented)
	ids := map[string]bool{}
	for _, rt := range routes {
		op := at(o.doc, "paths", strings.TrimSuffix(rt.Path, "{$}"), strings.ToLower(rt.Method))
		require.NotNil(t, op, "%s %s", rt.Method, rt.Path)
		require.Equal(t, string(rt.Access), at(op, "x-role"))
		require.NotEmpty(t, at(op, "summary"))
		id := at(op, "operationId").(string)
		require.False(t, ids[id], id)
		ids[id] = true
		if strings.HasPrefix(rt.Path, "/api/v1/") && rt.Access != route.Open {
			require.NotEqual(t, route.Agent, rt.Access)
		}
		require.Equal(t, strings.HasPrefix(rt.Path, "/agent/"), rt.Access == route.Agent, "agents' routes, and no others, are below /agent")
	}
	// What the table says is what the mux does: a method that is not there is refused with those that are.
	resp, err := l.socket().Post("http://local/api/v1/site", "application/json", nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Allow"), "GET")
}

// TestEveryRouteAsksWhoItIs goes through the table of routes, as everybody.
func TestEveryRouteAsksWhoItIs(t *testing.T) {
	t.Parallel()
	a, stranger := newAgent(t, 0), newAgent(t, 1)
	l := newLab(t, a)
	stranger.connect(l)
	o := newOpenAPI(t, l)
	run := runID()
	ack := a.deliver(run, sample(t, "head-small.tar.xz"))
	indexed(t, l.person("viewer"), ack.Submission)
	values := strings.NewReplacer("{run}", run, "{attempt}", "1", "{sha256}", ack.SHA256, "{machine}", "node0", "{submission}", ack.Submission, "{index}", "1",
		"{token}", "no such token", "{$}", "")

	type caller struct {
		name   string
		client *http.Client
		token  string
		role   cert.Role
		agent  bool
		local  bool
	}
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: a.http.Transport.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	nobody.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	t.Cleanup(nobody.CloseIdleConnections)
	socket := l.socket()
	socket.CheckRedirect = nobody.CheckRedirect
	callers := []caller{
		{name: "nobody", client: nobody},
		{name: "a made-up token", client: nobody, token: cert.NewSecret(cert.TokenPrefix)},
		{name: "a code as a token", client: nobody, token: cert.NewSecret(cert.CodePrefix)},
		{name: "a stranger with a certificate", client: stranger.http},
		{name: "an agent", client: a.http, agent: true},
		{name: "root over the socket", client: socket, role: cert.Admin, local: true},
	}
	for _, role := range []cert.Role{cert.Engineer, cert.Signer, cert.Admin} {
		callers = append(callers, caller{name: string(role), client: nobody, token: l.token(role), role: role})
	}
	callers = append(callers, caller{name: "viewer", client: nobody, role: cert.Viewer, token: func() string {
		var made cert.CreatedToken
		l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "second", Role: "viewer"}, &made)
		var out cert.RedeemedToken
		require.Equal(t, http.StatusOK, l.call(nobody, "POST", l.url()+"/api/v1/tokens/redeem", cert.RedeemCode{Code: made.Code}, &out))
		return out.Secret
	}()})
	for _, c := range callers {
		for _, rt := range l.service.server.Routes() {
			base := l.url()
			if c.local {
				base = "http://local"
			}
			body, kind := io.Reader(nil), ""
			if rt.Doc.Body != nil {
				body, kind = strings.NewReader(`{"machine":"no such machine","path":"relative"}`), "application/json"
			}
			req, err := http.NewRequestWithContext(t.Context(), rt.Method, base+values.Replace(rt.Path), body)
			require.NoError(t, err)
			req.Header.Set("Content-Type", kind)
			if c.token != "" {
				req.Header.Set("Authorization", "Bearer "+c.token)
			}
			client := *c.client
			client.CheckRedirect = nobody.CheckRedirect
			resp, err := client.Do(req)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err)

			allowed := c.role.May(cert.Role(rt.Access))
			switch rt.Access {
			case route.Open:
				allowed = true
			case route.Agent:
				allowed = c.agent
			case route.Local:
				allowed = c.local
			}
			name := rt.Method + " " + rt.Path + " as " + c.name
			toLogin := resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(resp.Header.Get("Location"), "/login?")
			refused := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized || toLogin
			if rt.Path == "/login" && rt.Method == "POST" || rt.Path == "/api/v1/tokens/redeem" {
				refused = false // these refuse the secret, not the caller
			}
			require.Equal(t, allowed, !refused, "%s: %d %s", name, resp.StatusCode, text)
			require.Less(t, resp.StatusCode, 500, "%s: %s", name, text)
			require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), name)
			require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'", name)
			if resp.Header.Get("Content-Type") == "application/json" && rt.Doc.Response != nil {
				status := map[int]string{200: "200", 201: "201", 202: "202"}[resp.StatusCode]
				o.check(rt, status, text)
			}
		}
	}
}

func TestParametersAreChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := newOpenAPI(t, l)
	for query, word := range map[string]string{
		"/api/v1/runs?stat=queued":            "unknown parameter",
		"/api/v1/runs?state=done":             "one of",
		"/api/v1/runs?state=queued&state=x":   "2 times",
		"/api/v1/runs?limit=1001":             "0 to 1000",
		"/api/v1/runs?limit=0":                "between 1 and 1000",
		"/api/v1/runs?limit=-1":               "number",
		"/api/v1/runs?cursor=xyz":             "cursor",
		"/api/v1/machines?cursor=ci41":        "cursor",
		"/api/v1/results?since=yesterday":     "time",
		"/api/v1/machines?enrolled=yes":       "true or false",
		"/api/v1/machines?hostname=%00":       "text",
		"/api/v1/machines/x?limit=1":          "unknown parameter",
		"/api/v1/machines?hostname=a;limit=3": "query",
	} {
		var body json.RawMessage
		require.Equal(t, http.StatusBadRequest, l.call(l.socket(), "GET", "http://local"+query, nil, &body), "%s: %s", query, body)
		require.Contains(t, string(body), word, query)
		o.check(route.Route{Method: "GET", Path: "/api/v1/runs"}, "400", body)
	}
	for _, text := range []string{`{"hostname":"a","colour":"red"}`, `{"hostname":1}`, `{"hostname":"a"}{}`, `[]`, `{`, ``} {
		resp, err := l.socket().Post("http://local/api/v1/machines", "application/json", strings.NewReader(text))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, text)
	}
	resp, err := l.socket().Post("http://local/api/v1/machines", "text/plain", strings.NewReader(`{"hostname":"a"}`))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "a form of another site cannot send JSON")
	large := `{"hostname":"` + strings.Repeat("a", route.MaxBody) + `"}`
	resp, err = l.socket().Post("http://local/api/v1/machines", "application/json", strings.NewReader(large))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
}
