package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"certlab/internal/order"
	"certlab/internal/version"
)

// listen makes the unix socket at path, mode 0600, which only root (or, in a trial, the agent's own user) may speak to.
func listen(path string) (net.Listener, error) {
	if len(path) > 107 {
		return nil, fmt.Errorf("cannot listen on %s: the path of a socket has at most 107 bytes (choose a shorter directory)", path)
	}
	// The agent holds its lock: what is there is left over.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return peerListener{l}, nil
}

// A peerListener drops connections of users who are neither root nor the one that the agent runs as, whatever the mode of the socket.
type peerListener struct{ net.Listener }

func (l peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if allowedPeer(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

func allowedPeer(conn net.Conn) bool {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	allowed := false
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			allowed = cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
		}
	})
	return allowed
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 2 << 20

// maxWait bounds how long a request may wait for a run to end.
const maxWait = time.Hour

// routes is the API of the socket, all of it.
func (a *Agent) routes() http.Handler {
	mux := http.NewServeMux()
	for _, route := range []struct {
		pattern string
		handle  func(*http.Request) (status int, answer any, err error)
	}{
		{"GET /v1/status", a.getStatus},
		{"GET /v1/plans", a.getPlans},
		{"GET /v1/runs", a.getRuns},
		{"POST /v1/runs", a.postRun},
		{"GET /v1/runs/{id}", a.getRun},
		{"POST /v1/runs/{id}/cancel", a.postCancel},
		{"POST /v1/runs/{id}/rerun-failed", a.postRerun},
		{"GET /v1/runs/{id}/terminal", a.getTerminal},
		{"POST /v1/clean", a.postClean},
	} {
		mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			status, answer, err := route.handle(r)
			if err != nil {
				status = http.StatusInternalServerError
				var e *requestError
				if errors.As(err, &e) {
					status = e.status
				}
				answer = map[string]string{"error": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(answer)
		})
	}
	return mux
}

func (a *Agent) getStatus(*http.Request) (int, any, error) { return http.StatusOK, a.status(), nil }

func (a *Agent) status() order.AgentStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := order.AgentStatus{Version: version.Version, CheckboxProblem: a.problem, Installing: a.installing, Controller: a.controller,
		ControllerError: a.controlErr, ControllerSince: a.controlAt, Applied: a.applied, Since: a.since, Problems: a.troubles()}
	if a.stateError != "" {
		s.CheckboxProblem = a.stateError
	} else if a.applied == "" {
		s.CheckboxProblem = "nothing is configured yet"
	}
	if a.tool != nil {
		s.CheckboxVersion = a.tool.Version.String()
	}
	s.Restoring, s.Dirty = a.held.told()
	for _, id := range a.order {
		r := a.runs[id]
		switch {
		case r.rec.Run.State == order.Queued:
			s.Queued++
		case r.rec.Run.State == order.Running:
			v := a.view(r)
			s.Current = &v
		case a.remote != nil && !r.rec.Run.Delivered && !r.rec.Dropped:
			s.Undelivered++
		}
	}
	return s
}

func (a *Agent) getPlans(r *http.Request) (int, any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Minute)
	defer cancel()
	tool, err := a.waitTool(ctx)
	if err != nil {
		var f *failure
		if errors.As(err, &f) {
			return 0, nil, requestErrorf(http.StatusServiceUnavailable, "cannot list the plans: %s", f.Message)
		}
		return 0, nil, requestErrorf(http.StatusServiceUnavailable, "cannot list the plans: Checkbox is still being installed; try again later")
	}
	plans, err := tool.Plans(ctx)
	if err != nil {
		return 0, nil, err
	}
	filter := strings.ToLower(r.URL.Query().Get("filter"))
	suites := []order.Suite{}
	for _, p := range plans {
		if strings.Contains(strings.ToLower(p.ID), filter) || strings.Contains(strings.ToLower(p.Name), filter) {
			suites = append(suites, order.Suite{ID: p.ID, Name: p.Name})
		}
	}
	return http.StatusOK, suites, nil
}

func (a *Agent) getRuns(*http.Request) (int, any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	runs := []order.Run{}
	for _, id := range slices.Backward(a.order) {
		runs = append(runs, a.view(a.runs[id]))
	}
	return http.StatusOK, runs, nil
}

func (a *Agent) postRun(r *http.Request) (int, any, error) {
	var req order.RunRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return 0, nil, requestErrorf(http.StatusBadRequest, "cannot read the request: %v", err)
	}
	switch req.Origin {
	case "":
		req.Origin = order.FromAction
	case order.FromAction, order.FromInteractive:
	default:
		return 0, nil, requestErrorf(http.StatusBadRequest, "cannot start a run of origin %q here", clip(string(req.Origin), 50))
	}
	run, err := a.add(req.ID, req.Origin, time.Time{}, req.Spec)
	return http.StatusAccepted, run, err
}

func (a *Agent) getRun(req *http.Request) (int, any, error) {
	r, err := a.find(req.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var wait time.Duration
	if text := req.URL.Query().Get("wait"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 {
			return 0, nil, requestErrorf(http.StatusBadRequest, "cannot wait for %q seconds", clip(text, 50))
		}
		wait = min(time.Duration(seconds)*time.Second, maxWait)
	}
	return http.StatusOK, a.waitRun(req.Context(), r, wait), nil
}

// deliveryPatience is how long a request that waits for a run also waits for the controller to have it.
const deliveryPatience = 10 * time.Second

// waitRun waits until a run is final, and, as long as the controller answers, delivered, or until wait is over.
func (a *Agent) waitRun(ctx context.Context, r *run, wait time.Duration) order.Run {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	var patience <-chan time.Time
	for {
		a.mu.Lock()
		v, changed := a.view(r), a.changed
		expected := a.controller == "enrolled" && !v.Delivered && !r.rec.Dropped
		a.mu.Unlock()
		if v.State.Final() {
			if !expected {
				return v
			}
			if patience == nil {
				patience = time.After(deliveryPatience)
			}
		}
		select {
		case <-ctx.Done():
			if !v.State.Final() {
				v.Notice = fmt.Sprintf("the agent is ending, as when the machine goes down or a new version takes over; run %s goes on by itself after that (show-run shows it)", v.Run)
			}
			return v
		case <-timeout.C:
			return v
		case <-patience:
			return v
		case <-changed:
		}
	}
}

func (a *Agent) postCancel(r *http.Request) (int, any, error) {
	found, err := a.find(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	run, err := a.cancel(found.rec.Run.Run)
	return http.StatusOK, run, err
}

func (a *Agent) postRerun(r *http.Request) (int, any, error) {
	run, err := a.rerunFailed(r.PathValue("id"))
	return http.StatusAccepted, run, err
}

// A terminal is where the process of a person at the keyboard finds what it is to run: the directory to keep, once that is ready.
type terminal struct {
	Run   order.Run `json:"run"`
	Start string    `json:"start,omitempty"`
}

func (a *Agent) getTerminal(r *http.Request) (int, any, error) {
	found, err := a.find(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := terminal{Run: a.view(found)}
	if found.rec.Run.Origin == order.FromInteractive && found.rec.Step == stepTesting {
		dir := a.startDir(&found.rec, found.rec.Start)
		if exists(filepath.Join(dir, startFile)) && !exists(filepath.Join(dir, keepFile)) {
			t.Start = dir
		}
	}
	return http.StatusOK, t, nil
}

// terminalPatience is how long an interactive run waits for the person, also after a reboot.
const terminalPatience = 10 * time.Minute

// waitTerminal waits for a person's process to take the start in dir.
func (t *attempt) waitTerminal(ctx context.Context, dir string) bool {
	deadline := time.Now().Add(terminalPatience)
	for !exists(filepath.Join(dir, keepFile)) {
		if t.rec().Cancel || time.Now().After(deadline) || !sleep(ctx, 50*time.Millisecond) {
			return false
		}
	}
	return true
}
