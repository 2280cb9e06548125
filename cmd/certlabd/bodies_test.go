package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/server/route"
)

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
