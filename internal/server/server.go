// Package server is the controller's HTTP service. Every route, with who may use it, is in one table: routes.go.
package server

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/api"
	"certlab/internal/server/route"
	"certlab/internal/server/web"
)

// Tokens finds out who is behind a secret.
type Tokens interface {
	TokenByHash(ctx context.Context, hash string, now time.Time) (cert.Token, error)
	TokenBySession(ctx context.Context, hash string, now time.Time) (cert.Token, error)
}

// Contacts is told who has called, and knows which machine a public key may act for.
type Contacts interface {
	Agent(publicKey string) (machine string, err error)
	Contact(machine string)
	TokenUsed(id string)
}

// Clocks is told how far a machine's clock is ahead.
type Clocks interface {
	Clock(machine string, skew time.Duration)
}

// Options say what a Server works with. All fields must be set.
type Options struct {
	API      *api.API
	Web      *web.Web
	Metrics  http.Handler
	Tokens   Tokens
	Contacts Contacts
	Clocks   Clocks
	Logger   *slog.Logger
	Now      func() time.Time
	Limits   Limits
}

// A Server answers HTTP requests.
type Server struct {
	Options
	routes []route.Route
	mux    *http.ServeMux
	gate   *gate

	refused refusals
}

// New returns a server of all routes.
func New(o Options) *Server {
	s := &Server{Options: o, mux: http.NewServeMux(), gate: newGate(o.Limits)}
	s.API.Patience = o.Limits.Patience
	s.routes = s.table()
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(s.foreign))
	for _, rt := range s.routes {
		h := s.serve(rt)
		if rt.Access != route.Agent {
			// Refuses what a browser was made to send by another site. Agents are no browsers.
			h = protection.Handler(h)
		}
		s.mux.Handle(rt.Method+" "+rt.Path, h)
	}
	return s
}

// plain reports whether a path has no empty, . or .. elements.
func plain(p string) bool {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean == p
}

// foreign answers a request that a browser was made to send by a page of another site.
func (s *Server) foreign(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, isPage(r.URL.Path), cert.Errorf(cert.Forbidden, "this request comes from a page of another site: it was not carried out"))
}

// isPage reports whether a path that no route has belongs to people's pages, and not below the API's paths.
func isPage(path string) bool {
	for _, prefix := range []string{"/api/", "/agent/", "/enrol/", "/health/", "/metrics"} {
		if strings.HasPrefix(path, prefix) {
			return false
		}
	}
	return true
}

// Routes returns the table.
func (s *Server) Routes() []route.Route { return s.routes }

type localKey struct{}

// Local marks what arrives over the unix socket, where the listener lets only root in.
func Local(ctx context.Context) context.Context { return context.WithValue(ctx, localKey{}, true) }

const (
	requestTime = 2 * time.Minute // for all but uploads and downloads, which set their own deadlines
	maxURL      = 16 << 10
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w = &answer{ResponseWriter: w}
	defer s.recover(w, r)
	deadline := time.Now().Add(requestTime)
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(deadline) // a test's recorder has none
	_ = c.SetWriteDeadline(deadline)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Content-Security-Policy", web.Policy)
	h.Set("Strict-Transport-Security", "max-age=31536000")
	if len(r.RequestURI) > maxURL {
		s.fail(w, r, false, cert.Errorf(cert.Invalid, "the address is longer than %d bytes", maxURL))
		return
	}
	// A path that is not plain is not made so with a redirect: nothing here leads to one.
	if _, pattern := s.mux.Handler(r); pattern == "" || !plain(r.URL.EscapedPath()) {
		s.unrouted(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// unrouted answers what no route takes, in the API's form below the API's paths. Who is not known learns nothing of what there is: the
// answer is the one that a route gives.
func (s *Server) unrouted(w http.ResponseWriter, r *http.Request) {
	page := isPage(r.URL.Path)
	known := route.Route{Access: route.Access(cert.Viewer)}
	if strings.HasPrefix(r.URL.Path, "/agent/") {
		known.Access = route.Agent
	}
	caller, err := s.caller(known, r)
	leave := func() {}
	if err == nil || cert.CodeOf(err) == cert.Unauthorized {
		var busy error
		if leave, busy = s.gate.enter(r.Context(), callerKey(caller, r), ""); busy != nil {
			leave, err = func() {}, busy
		}
	}
	defer leave()
	if err != nil {
		s.fail(w, r, page, err)
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "" && plain(r.URL.EscapedPath()) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeError(w, http.StatusMethodNotAllowed, page, route.ErrorBody{Error: route.ErrorDetail{Code: cert.Invalid,
			Message: fmt.Sprintf("%s does not take %s: use %s", r.URL.Path, r.Method, strings.Join(allowed, ", "))}})
		return
	}
	s.fail(w, r, page, cert.Errorf(cert.NotFound, "there is nothing at %s", r.URL.Path))
}

func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	if w.(*answer).begun {
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, false, errors.New("panic"))
}

// serve checks who asks and what for, and answers.
func (s *Server) serve(rt route.Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.answer(rt, w, r); err != nil {
			s.fail(w, r, rt.Doc.Page, err)
		}
	})
}

func (s *Server) answer(rt route.Route, w http.ResponseWriter, r *http.Request) error {
	caller, err := s.caller(rt, r)
	if !caller.Local {
		leave, busy := s.gate.enter(r.Context(), callerKey(caller, r), slotOf(rt, err))
		if busy != nil {
			return busy
		}
		defer leave()
	}
	if err != nil {
		s.note(r, caller.Name, err)
		return err
	}
	query, err := route.CheckQuery(r.URL.RawQuery, rt.Doc.Query)
	if err != nil {
		return err
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return cert.Errorf(cert.Invalid, "cannot read a body with the Content-Encoding %q: send it as it is", clip(coding))
	}
	for _, name := range pathParams(rt.Path) {
		if value := r.PathValue(name); len(value) > maxPathValue || strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			return cert.Errorf(cert.NotFound, "there is no %s %q", name, clip(value))
		}
	}
	err = rt.Handle(w, &route.Request{Request: r, Caller: caller, Query: query})
	if rt.Access == route.Open {
		s.note(r, caller.Name, err) // a credential of another kind, which the route itself has looked at
	}
	return err
}

// slotOf is what a request takes a slot of: nothing if it is refused anyway.
func slotOf(rt route.Route, refused error) route.Slot {
	if refused != nil {
		return ""
	}
	return rt.Slot
}

// maxPathValue bounds the name of one thing in a path, in bytes.
const maxPathValue = 300

func pathParams(path string) []string {
	var names []string
	for _, m := range pathParam.FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return names
}

func clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > 100 {
		return strings.ToValidUTF8(text[:100], "") + "…"
	}
	return text
}

// caller finds out who asks, and fails unless they may use the route.
func (s *Server) caller(rt route.Route, r *http.Request) (route.Caller, error) {
	local, _ := r.Context().Value(localKey{}).(bool)
	switch {
	case rt.Access == route.Agent:
		return s.agent(r)
	case local:
		return route.Caller{Name: "root", Role: cert.Admin, Local: true}, nil
	}
	token, err := s.token(r)
	if rt.Access == route.Open {
		// Who is known is known here too; who is not may go on.
		return route.Caller{Name: token.Name, Role: token.Role, TokenID: token.ID}, nil
	}
	if err != nil {
		return route.Caller{}, err
	}
	if rt.Access == route.Local {
		return route.Caller{Name: token.Name, TokenID: token.ID}, cert.Errorf(cert.Forbidden, "this is for root on the controller's machine, over the unix socket")
	}
	if !token.Role.May(cert.Role(rt.Access)) {
		return route.Caller{Name: token.Name, TokenID: token.ID}, cert.Errorf(cert.Forbidden, "this needs the role %s: token %q has the role %s", rt.Access, token.Name, token.Role)
	}
	s.Contacts.TokenUsed(token.ID)
	return route.Caller{Name: token.Name, Role: token.Role, TokenID: token.ID}, nil
}

func (s *Server) agent(r *http.Request) (route.Caller, error) {
	key := api.AgentKey(r)
	if key == "" {
		return route.Caller{}, cert.Errorf(cert.Unauthorized, "agents show a client certificate: this request came without one")
	}
	machine, err := s.Contacts.Agent(key)
	if err != nil {
		return route.Caller{}, err
	}
	s.Contacts.Contact(machine)
	caller := route.Caller{Machine: machine}
	if sent, err := time.Parse(time.RFC3339Nano, r.Header.Get(order.TimeHeader)); err == nil {
		caller.Skew = sent.Sub(s.Now())
		s.Clocks.Clock(machine, caller.Skew)
	}
	return caller, nil
}

// token finds the token behind a bearer secret or, where nothing is changed or the browser vouches for the page it comes from, behind a
// session's cookie.
func (s *Server) token(r *http.Request) (cert.Token, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		kind, secret, _ := strings.Cut(header, " ")
		if !strings.EqualFold(kind, "Bearer") || !cert.IsSecret(cert.TokenPrefix, strings.TrimSpace(secret)) {
			return cert.Token{}, cert.Errorf(cert.Unauthorized, "the Authorization header must be: Bearer %s…", cert.TokenPrefix)
		}
		return s.Tokens.TokenByHash(r.Context(), cert.HashSecret(strings.TrimSpace(secret)), s.Now())
	}
	if c, err := r.Cookie(web.SessionCookie); err == nil && cert.IsSecret(cert.SessionPrefix, c.Value) {
		return s.Tokens.TokenBySession(r.Context(), cert.HashSecret(c.Value), s.Now())
	}
	return cert.Token{}, cert.Errorf(cert.Unauthorized, "this needs a token: certlab login, or the header Authorization: Bearer %s…", cert.TokenPrefix)
}

// fail answers an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, page bool, err error) {
	status, body := route.Describe(err)
	if status == http.StatusInternalServerError {
		s.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if a := w.(*answer); a.begun {
		return
	}
	if status == http.StatusUnauthorized {
		if page && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		if page && r.URL.Path == "/logout" {
			http.Redirect(w, r, "/login", http.StatusSeeOther) // the session was over already
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="certlab"`)
	}
	switch status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		w.Header().Set("Retry-After", "5")
	}
	writeError(w, status, page, body)
}

func writeError(w http.ResponseWriter, status int, page bool, body route.ErrorBody) {
	if page {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprint(w, web.ErrorPage(status, html.EscapeString(body.Error.Message)))
		return
	}
	_ = route.JSON(w, status, body)
}

// answer knows whether it has begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) WriteHeader(status int) {
	a.begun = a.begun || status >= 200
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// HTTP returns the http.Server to serve on a listener. local is for the unix socket.
func (s *Server) HTTP(local bool) *http.Server {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.Limits.Head,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	if local {
		h.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return Local(ctx) }
	}
	return h
}
