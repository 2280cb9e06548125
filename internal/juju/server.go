package juju

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"certlab/internal/juju/toolclient"
)

const (
	// maxConnections bounds how many tools of one unit ask at once.
	maxConnections = 256
	// requestTimeout bounds how long a connected tool may take to say what it wants.
	requestTimeout = 5 * time.Minute
)

// A Server answers the hook tools of one unit. Each context's calls run one at a time.
type Server struct {
	exec func(context.Context, toolclient.Exec) Response // juju-exec; nil: refused

	mu       sync.Mutex
	contexts map[string]*Context
}

// NewServer answers tools, and has exec, if not nil, answer juju-exec.
func NewServer(exec func(context.Context, toolclient.Exec) Response) *Server {
	return &Server{exec: exec, contexts: map[string]*Context{}}
}

// Add lets tools ask for the context until the returned function is called.
func (s *Server) Add(c *Context) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contexts[c.ID()] = c
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.contexts, c.ID())
	}
}

// Serve answers on a listener until ctx is done, and closes it. It returns once all connections are closed. A listener for
// tools has no need of execs: whoever reaches a socket may do what is asked there.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot serve hook tools: %w", err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return nil
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	for {
		if conn.SetReadDeadline(time.Now().Add(requestTimeout)) != nil {
			return
		}
		var req Request
		if toolclient.Read(in, &req) != nil {
			return
		}
		if conn.SetWriteDeadline(time.Now().Add(requestTimeout)) != nil {
			return
		}
		resp := s.answer(ctx, req)
		if req.Exec != nil { // it may have taken long
			if conn.SetWriteDeadline(time.Now().Add(requestTimeout)) != nil {
				return
			}
		}
		if toolclient.Write(conn, resp) != nil {
			return
		}
	}
}

func (s *Server) answer(ctx context.Context, req Request) Response {
	if req.Exec != nil {
		if s.exec == nil {
			return refused(errors.New("this agent runs no commands"))
		}
		return s.exec(ctx, *req.Exec)
	}
	s.mu.Lock()
	c := s.contexts[req.Context]
	s.mu.Unlock()
	if c == nil {
		return refused(fmt.Errorf("bad request: unknown context %q", req.Context))
	}
	return c.Do(req)
}

func refused(err error) Response {
	return Response{Stderr: fmt.Appendf(nil, "ERROR %v\n", err), Code: 1}
}
