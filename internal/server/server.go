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
	"runtime/debug"
	"strings"
	"time"

	"certlab/internal/cert"
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

// Options say what a Server works with. All fields must be set.
type Options struct {
	API      *api.API
	Web      *web.Web
	Metrics  http.Handler
	Tokens   Tokens
	Contacts Contacts
	Logger   *slog.Logger
	Now      func() time.Time
}

// A Server answers HTTP requests.
type Server struct {
	Options
	routes []route.Route
	mux    *http.ServeMux
}

// New returns a server of all routes.
func New(o Options) *Server {
	s := &Server{Options: o, mux: http.NewServeMux()}
	s.routes = s.table()
	protection := http.NewCrossOriginProtection()
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
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.unrouted(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// unrouted answers what no route takes, in the API's form below the API's paths.
func (s *Server) unrouted(w http.ResponseWriter, r *http.Request) {
	page := !strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/agent/") && !strings.HasPrefix(r.URL.Path, "/health/")
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "" {
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
		caller, err := s.caller(rt, r)
		var query url.Values
		if err == nil {
			query, err = route.CheckQuery(r.URL.RawQuery, rt.Doc.Query)
		}
		if err == nil {
			err = rt.Handle(w, &route.Request{Request: r, Caller: caller, Query: query})
		}
		if err != nil {
			s.fail(w, r, rt.Doc.Page, err)
		}
	})
}

// caller finds out who asks, and fails unless they may use the route.
func (s *Server) caller(rt route.Route, r *http.Request) (route.Caller, error) {
	local, _ := r.Context().Value(localKey{}).(bool)
	switch {
	case rt.Access == route.Agent:
		return s.agent(r)
	case local:
		return route.Caller{Name: "root", Role: cert.Admin, Local: true}, nil
	case rt.Access == route.Local:
		return route.Caller{}, cert.Errorf(cert.Forbidden, "this is for root on the controller's machine, over the unix socket")
	}
	token, err := s.token(r)
	if rt.Access == route.Open {
		// Who is known is known here too; who is not may go on.
		return route.Caller{Name: token.Name, Role: token.Role, TokenID: token.ID}, nil
	}
	if err != nil {
		return route.Caller{}, err
	}
	if !token.Role.May(cert.Role(rt.Access)) {
		return route.Caller{}, cert.Errorf(cert.Forbidden, "this needs the role %s: token %q has the role %s", rt.Access, token.Name, token.Role)
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
	return route.Caller{Machine: machine}, nil
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
		w.Header().Set("WWW-Authenticate", `Bearer realm="certlab"`)
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
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	if local {
		h.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return Local(ctx) }
	}
	return h
}
