package server

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/route"
	"certlab/internal/version"
)

// openAPI is GET /api/v1/openapi.json.
func (s *Server) openAPI(w http.ResponseWriter, r *route.Request) error {
	return route.JSON(w, http.StatusOK, Describe(s.routes))
}

type object = map[string]any

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// Describe returns the OpenAPI 3.1 document of the routes. x-role says who may use an operation.
func Describe(routes []route.Route) map[string]any {
	types := &schemas{defs: object{}}
	paths := object{}
	for _, rt := range routes {
		path := strings.TrimSuffix(rt.Path, "{$}")
		item, ok := paths[path].(object)
		if !ok {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(rt.Method)] = operation(rt, path, types)
	}
	errorSchema := types.of(reflect.TypeFor[route.ErrorBody]())
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title":   "Certlab",
			"version": version.Version,
			"description": "The API of a Certlab controller. People and their programs use /api/v1 with a bearer token; agents use /agent/v1 with a client certificate " +
				"whose key was exchanged over the relation; the rest are pages. Lists are pages of at most limit rows; next is the cursor of the following one. " +
				"Unknown query parameters and, from people, unknown fields are errors. x-role is the least role that may use an operation.",
			"license": object{"name": "GPL-3.0-only", "identifier": "GPL-3.0-only"},
		},
		"paths": paths,
		"components": object{
			"schemas":   types.defs,
			"responses": object{"Error": object{"description": "What could not be done, and what to do about it", "content": object{"application/json": object{"schema": errorSchema}}}},
			"securitySchemes": object{
				"token":   object{"type": "http", "scheme": "bearer", "description": "from POST /api/v1/tokens/redeem"},
				"session": object{"type": "apiKey", "in": "cookie", "name": "__Host-certlab", "description": "of a browser, from /login"},
				"agent":   object{"type": "mutualTLS", "description": "a client certificate with an enrolled key"},
			},
		},
	}
}

func operation(rt route.Route, path string, types *schemas) object {
	d := rt.Doc
	op := object{
		"operationId": operationID(rt.Method, path),
		"summary":     d.Summary,
		"x-role":      string(rt.Access),
		"tags":        []string{tag(path)},
	}
	switch rt.Access {
	case route.Open:
		op["security"] = []object{}
		op["description"] = "Open to everybody. " + d.Why
	case route.Agent:
		op["security"] = []object{{"agent": []string{}}}
	case route.Local:
		op["security"] = []object{}
		op["description"] = "Over the unix socket, by root."
	default:
		op["security"] = []object{{"token": []string{}}, {"session": []string{}}}
	}
	var params []object
	for _, m := range pathParam.FindAllStringSubmatch(path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range d.Query {
		params = append(params, object{"name": q.Name, "in": "query", "required": q.Required, "description": q.Help, "schema": querySchema(q)})
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	switch {
	case d.Body != nil:
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": types.of(reflect.TypeOf(d.Body))}}}
	case d.BodyType != "":
		op["requestBody"] = object{"required": true, "content": object{d.BodyType: object{}}}
	}
	status := d.Status
	if status == 0 {
		status = http.StatusOK
	}
	content := object{}
	if d.Response != nil {
		content["application/json"] = object{"schema": types.of(reflect.TypeOf(d.Response))}
	}
	if d.Type != "" {
		content[d.Type] = object{}
	}
	success := object{"description": http.StatusText(status)}
	if len(content) > 0 {
		success["content"] = content
	}
	responses := object{strconv.Itoa(status): success}
	if d.Page {
		responses["default"] = object{"description": "A page that says what went wrong", "content": object{"text/html": object{}}}
	} else {
		responses["default"] = object{"$ref": "#/components/responses/Error"}
	}
	op["responses"] = responses
	return op
}

func operationID(method, path string) string {
	id := strings.ToLower(method)
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/{}-._", r) }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

func tag(path string) string {
	switch {
	case strings.HasPrefix(path, "/agent/"):
		return "agents"
	case strings.HasPrefix(path, "/api/"):
		return "people"
	case strings.HasPrefix(path, "/health/"), path == "/metrics":
		return "watching"
	}
	return "pages"
}

func querySchema(p route.Param) object {
	out := object{"type": "string"}
	switch p.Kind {
	case route.Integer:
		out = object{"type": "integer", "minimum": 0}
		if p.Max > 0 {
			out["maximum"] = p.Max
		}
	case route.Boolean:
		out = object{"type": "boolean"}
	case route.Time:
		out["format"] = "date-time"
	}
	if len(p.Enum) > 0 {
		out["enum"] = p.Enum
	}
	return out
}

// schemas makes JSON schemas of Go types. Structs are named; two of the same name in different packages get their package's before it.
type schemas struct {
	defs  object
	names map[reflect.Type]string
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	enums    = map[reflect.Type][]string{
		reflect.TypeFor[cert.State](): cert.States,
		reflect.TypeFor[cert.Role]():  cert.Roles,
	}
)

func (s *schemas) of(t reflect.Type) object {
	if values, ok := enums[t]; ok {
		return object{"type": "string", "enum": values}
	}
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t == rawType:
		return object{"description": "any JSON"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return object{"anyOf": []object{s.of(t.Elem()), {"type": "null"}}}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Int32:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return object{"$ref": "#/components/schemas/" + s.define(t)}
	}
	panic("no schema for " + t.String())
}

func (s *schemas) define(t reflect.Type) string {
	if name, ok := s.names[t]; ok {
		return name
	}
	name := t.Name()
	if _, taken := s.defs[name]; taken {
		pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	if s.names == nil {
		s.names = make(map[reflect.Type]string)
	}
	s.names[t] = name
	s.defs[name] = nil // taken, also while the fields are looked at
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	slices.Sort(required)
	s.defs[name] = object{"type": "object", "properties": properties, "required": required}
	return name
}

func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, properties, required)
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		properties[name] = s.of(f.Type)
		if !strings.Contains(opts, "omit") {
			*required = append(*required, name)
		}
	}
}
