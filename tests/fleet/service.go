package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"certlab/internal/durable"
	"certlab/internal/order"
)

// service is a certlabd process that can be killed and started again.
type service struct {
	program string
	dir     string // of the desired state and the socket
	url     string

	mu   sync.Mutex
	log  bytes.Buffer
	cmd  *exec.Cmd
	over chan struct{}
}

// newService writes the desired state of a controller that works with a region.
func newService(program, dir string, desired order.ControllerDesired) (*service, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	desired.Port = free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		return nil, err
	}
	s := &service{program: program, dir: filepath.Join(dir, "run"), url: fmt.Sprintf("https://127.0.0.1:%d", desired.Port)}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	text, err := json.Marshal(desired)
	if err != nil {
		return nil, err
	}
	return s, durable.WriteFile(filepath.Join(s.dir, order.ControllerDesiredFile), text, 0o600)
}

// Write keeps the end of what certlabd prints.
func (s *service) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log.Len() > 4<<20 {
		s.log.Reset()
	}
	return s.log.Write(p)
}

func (s *service) printed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// start runs the process and waits until it is ready.
func (s *service) start(ctx context.Context) error {
	cmd := exec.Command(s.program, "run", "--dir", s.dir)
	cmd.Stdout, cmd.Stderr = s, s
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.over = cmd, make(chan struct{})
	go func() { _ = cmd.Wait(); close(s.over) }()
	root := s.root()
	defer root.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://local/health/ready", nil)
		if err != nil {
			return err
		}
		resp, err := root.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.over:
			return fmt.Errorf("certlabd has ended: %s", s.printed())
		case <-ctx.Done():
			return fmt.Errorf("certlabd is not ready: %s", s.printed())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kill ends the process as a crash does.
func (s *service) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.over
	}
}

// root is a client on the unix socket; the host in its URLs does not matter.
func (s *service) root() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, order.ControllerSocket))
	}}}
}

// cas are the certificates that the service publishes.
func (s *service) cas() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, order.ControllerPublicFile))
	if err != nil {
		return nil, err
	}
	var public order.ControllerPublic
	if err := json.Unmarshal(text, &public); err != nil {
		return nil, err
	}
	if len(public.CAs) == 0 {
		return nil, errors.New("the service has published no certificates")
	}
	return public.CAs, nil
}

// memory is the process's resident memory now and at its highest, in bytes.
func (s *service) memory() (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d", &kib); err == nil {
			now = kib << 10
		} else if _, err := fmt.Sscanf(line, "VmHWM: %d", &kib); err == nil {
			peak = kib << 10
		}
	}
	return now, peak
}
