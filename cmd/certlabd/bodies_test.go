package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/server/route"
)

func TestFaultParameters(t *testing.T) {
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
}

// TestFaultBodies: what is wrong with a body is said with its place, and nothing comes of it.
func TestFaultBodies(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	l := &accessLab{lab: newLab(t, a)}
	l.ask = l.browser().http
	engineer := caller{token: l.token(cert.Engineer)}
	const machines, runs = "/api/v1/machines", "/api/v1/runs"
	for name, c := range map[string]struct{ path, text, status, message string }{
		"an unknown field":         {machines, `{"hostname":"a","colour":"red"}`, "400", `cannot read the request: unknown field \"colour\"`},
		"a wrong type":             {machines, `{"hostname":1}`, "400", `cannot read the request: hostname is a JSON number, it must be a string (at byte 13)`},
		"a wrong type inside":      {runs, `{"machine":"a","environment":{"A":1}}`, "400", `environment is a JSON number, it must be a string`},
		"an array":                 {machines, `[]`, "400", `cannot read the request: it is a JSON array, it must be an object`},
		"out of range":             {runs, `{"timeout_seconds":1e30}`, "400", `timeout_seconds is the number 1e30, which is out of range or not whole`},
		"not whole":                {runs, `{"timeout_seconds":1.5}`, "400", `timeout_seconds is the number 1.5, which is out of range or not whole`},
		"negative":                 {runs, `{"machine":"node0","plan":"a::b","timeout_seconds":-1}`, "400", `timeout`},
		"more after it":            {machines, `{"hostname":"a"}{}`, "400", `cannot read the request: more follows its JSON`},
		"cut off":                  {machines, `{"hostname":`, "400", `cannot read the request: its JSON is cut off`},
		"no JSON":                  {machines, `hostname=a`, "400", `cannot read the request: its body is no JSON: invalid character 'h'`},
		"nothing":                  {machines, ` `, "400", `cannot read the request: it has no body`},
		"a name twice":             {machines, `{"hostname":"a","hostname":"b"}`, "400", `cannot read the request: \"hostname\" is there twice (at byte 26)`},
		"a name twice otherwise":   {machines, `{"hostname":"a","HostName":"b"}`, "400", `\"HostName\" is there twice`},
		"a name twice inside":      {runs, `{"machine":"a","environment":{"A":"1","A":"2"}}`, "400", `\"A\" is there twice in environment`},
		"a NUL":                    {machines, `{"hostname":"a\u0000b"}`, "400", `cannot read the request: a text in hostname has a NUL (at byte 22)`},
		"no UTF-8":                 {machines, "{\"hostname\":\"a\xff\"}", "400", `cannot read the request: its body is not UTF-8`},
		"too deep":                 {runs, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "400", `cannot read the request: its JSON is nested deeper than 32 levels (at byte 161)`},
		"too deep, without an end": {runs, strings.Repeat("[", 1<<20), "400", `nested deeper than 32 levels`},
		"too large":                {machines, `{"hostname":"` + strings.Repeat("a", route.MaxBody) + `"}`, "413", `cannot read the request: its body is larger than 4194304 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			answer := l.answered(engineer, "POST", c.path, c.text)
			require.True(t, strings.HasPrefix(answer, c.status+" "), answer)
			require.Contains(t, answer, c.message)
			require.Less(t, len(answer), 1000)
		})
	}
	t.Run("another type", func(t *testing.T) {
		resp, err := l.socket().Post("http://local/api/v1/machines", "text/plain", strings.NewReader(`{"hostname":"a"}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "a form of another site cannot send JSON")
	})
	t.Run("from an agent", func(t *testing.T) {
		path := "/agent/v1/runs/" + runID()
		answer := l.answered(caller{client: a.http}, "PUT", path, `{"run":"a","run":"b"}`)
		require.Contains(t, answer, `\"run\" is there twice`)
		answer = l.answered(caller{client: a.http}, "PUT", path, `{"run":"a","of_another_release":1}`)
		require.Contains(t, answer, "the body is about run", "what it does not know it leaves out")
	})
	found, err := l.person(cert.Viewer).Machines(t.Context(), nil, 0)
	require.NoError(t, err)
	require.Len(t, found, 1, "nothing came of any of them")
}

// TestFaultPaths: a name in a path that cannot be one is a name that there is not, however it is spelt.
func TestFaultPaths(t *testing.T) {
	t.Parallel()
	l := &accessLab{lab: newLab(t)}
	l.ask = l.browser().http
	viewer := caller{token: l.token(cert.Viewer)}
	long := strings.Repeat("a", 5000)
	for path, want := range map[string]string{
		"/api/v1/machines/..%2f..%2fetc%2fpasswd":                         `404 .*there is no machine \\"../../etc/passwd\\"`,
		"/api/v1/runs/%00":                                                `404 .*there is no run \\"\\\\x00\\"`,
		"/api/v1/runs/%ff":                                                `404 .*there is no run`,
		"/api/v1/runs/" + long:                                            `404 .*there is no run \\"a{100}…\\"`,
		"/api/v1/runs/" + strings.Repeat("a", 20000):                      `400 .*the address is longer than 16384 bytes`,
		"/api/v1/submissions/s1/archive":                                  `404 .*there is no submission \\"s1\\"`,
		"/api/v1/submissions/x/results/-1":                                `404 .*there is no number`,
		"/api/v1/submissions/x/results/99999999999999999999":              `404 .*there is no number`,
		"/api/v1/runs/x/attempts/1/files/..%2f..%2fkeys%2fca-0001.key":    `404 .*a file is named by its SHA-256`,
		"/api/v1/runs/x/attempts/999999/files/" + strings.Repeat("0", 64): `404 .*it must be a number from 1 to 1000`,
		"/api/v1/machines/../tokens":                                      `404 .*there is nothing at`,
		"/api/v1/machines/%2e%2e/tokens":                                  `404 .*there is nothing at`,
	} {
		require.Regexp(t, `^`+want, l.answered(viewer, "GET", path, ""), path[:min(len(path), 100)])
	}
}
