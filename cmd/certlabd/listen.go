package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"certlab/internal/order"
)

// maxConnections bounds the connections of each listener: 1,000 agents hold one each, and people some.
const maxConnections = 8192

// A listener is an address that is served.
type listener struct {
	address string // as asked for
	net     net.Listener
	http    *http.Server
	done    chan struct{}
}

// certificateNames are the names and addresses that the server's certificate must be good for.
func certificateNames(d order.ControllerDesired) []string {
	names := append([]string(nil), d.Addresses...)
	if ip := net.ParseIP(d.BindAddress); d.BindAddress != "" && (ip == nil || !ip.IsUnspecified()) {
		names = append(names, d.BindAddress)
	}
	if u, err := url.Parse(d.ExternalURL); err == nil && u.Hostname() != "" {
		names = append(names, u.Hostname())
	}
	return names
}

// listen serves the API on the desired address. Where that has changed, the new one is served before the old one is given up, so that
// a port that is taken does not cost the one that works.
func (s *service) listen(d order.ControllerDesired) error {
	address := net.JoinHostPort(d.BindAddress, strconv.Itoa(d.Port))
	s.mu.Lock()
	old := s.tls
	s.mu.Unlock()
	if old != nil && old.address == address && !old.ended() {
		return nil
	}
	if old != nil && old.ended() {
		old = nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil && old != nil && samePort(old.address, address) {
		// All addresses and one of them are in each other's way.
		s.stop(old)
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return fmt.Errorf("cannot serve on %s (is the port option of another service the same?): %w", address, err)
	}
	fresh := s.serve(address, tls.NewListener(limit(l, maxConnections), s.keys.TLS()), false)
	s.mu.Lock()
	s.tls = fresh
	s.mu.Unlock()
	s.logger.Info("serving", "address", l.Addr().String())
	if old != nil {
		s.stop(old)
	}
	return nil
}

func samePort(a, b string) bool {
	_, pa, errA := net.SplitHostPort(a)
	_, pb, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && pa == pb
}

// listenLocal serves the people's API, as admin, on the unix socket.
func (s *service) listenLocal() error {
	path := filepath.Join(s.dir, order.ControllerSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot serve on %s: %w", path, err)
	}
	// The socket is made with a private mode: nobody can connect between its making and a chmod.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("cannot serve on %s: %w", path, err)
	}
	s.mu.Lock()
	s.local = s.serve(path, rootOnly{limit(l, 64)}, true)
	s.mu.Unlock()
	return nil
}

func (s *service) serve(address string, l net.Listener, local bool) *listener {
	out := &listener{address: address, net: l, http: s.server.HTTP(local), done: make(chan struct{})}
	go func() {
		defer close(out.done)
		if err := out.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("cannot serve any more", "address", address, "error", err)
		}
	}()
	return out
}

func (l *listener) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// stop ends a listener: no new connections, and those under way get some time.
func (s *service) stop(l *listener) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := l.http.Shutdown(ctx); err != nil {
		l.http.Close()
	}
	<-l.done
}

// stopListening ends both listeners at once: what one of them still took while the other ends could be lost to a restore.
func (s *service) stopListening() {
	s.lab.End()
	s.mu.Lock()
	all := []*listener{s.tls, s.local}
	s.mu.Unlock()
	var stopped sync.WaitGroup
	for _, l := range all {
		if l != nil {
			stopped.Go(func() { s.stop(l) })
		}
	}
	stopped.Wait()
}

// rootOnly drops connections of others than root and the service's own user.
type rootOnly struct{ net.Listener }

func (l rootOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(c); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return c, nil
		}
		c.Close()
	}
}

// peer returns the user id of the process at the other end of a unix socket.
func peer(c net.Conn) (int, error) {
	if l, ok := c.(*limitedConn); ok {
		c = l.Conn
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}
