package main

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

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
		require.Equal(t, rt.Access == route.Open, rt.Doc.Why != "", "%s %s: a route that is open says why, and no other does", rt.Method, rt.Path)
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
