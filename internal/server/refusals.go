package server

import (
	"net"
	"net/http"
	"sync"
	"time"

	"certlab/internal/cert"
	"certlab/internal/server/api"
	"certlab/internal/server/web"
)

// How often what is refused is logged.
const (
	refusalPause = time.Minute // between two lines of one address and reason
	maxRefusals  = 1000        // addresses and reasons that are remembered
)

// refusals logs who was refused with a credential, without the credential, and without letting them fill the log.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// note logs an error of authentication or access. Who shows no credential at all is not worth a line.
func (s *Server) note(r *http.Request, who string, err error) {
	code := cert.CodeOf(err)
	_, noCookie := r.Cookie(web.SessionCookie)
	if code != cert.Unauthorized && code != cert.Forbidden || r.Header.Get("Authorization") == "" && noCookie != nil && api.AgentKey(r) == "" {
		return
	}
	from, _, splitErr := net.SplitHostPort(r.RemoteAddr)
	if splitErr != nil {
		from = r.RemoteAddr
	}
	key, now := from+" "+err.Error(), s.Now()
	s.refused.mu.Lock()
	last, seen := s.refused.last[key]
	quiet := seen && now.Sub(last) < refusalPause
	if !quiet {
		if s.refused.last == nil || len(s.refused.last) >= maxRefusals {
			s.refused.last = make(map[string]time.Time)
		}
		s.refused.last[key] = now
	}
	s.refused.mu.Unlock()
	if !quiet {
		s.Logger.Warn("request refused", "from", from, "method", r.Method, "path", clip(r.URL.Path), "who", who, "reason", err.Error())
	}
}
