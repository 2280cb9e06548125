package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/durable"
	"certlab/internal/order"
)

const patience = time.Minute

// program returns the path of a built program: of those that make bench has built, or built for this test.
func program(t testing.TB, name string) string {
	if dir := os.Getenv("CERTLAB_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	path := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("go", "build", "-o", path, "certlab/cmd/"+name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// A service is a certlabd process with real TLS.
type service struct {
	t       testing.TB
	program string
	dir     string // of the desired state and the socket
	url     string
	http    *http.Client // without a credential
	root    *http.Client // on the unix socket; the host in its URLs does not matter
	cmd     *exec.Cmd
	log     bytes.Buffer
	over    chan error // of the process
}

// startService runs certlabd on a data directory with these agents enrolled until the test ends, and waits until it is ready.
func startService(t testing.TB, data string, agents ...*agent) *service {
	s := &service{t: t, dir: t.TempDir()}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	s.url = fmt.Sprintf("https://127.0.0.1:%d", port)
	desired := order.ControllerDesired{Unit: "cert-controller/0", ModelUUID: "model", SiteName: "Benchmark", BindAddress: "127.0.0.1", Addresses: []string{"127.0.0.1"},
		Port: port, DataDir: data, MaxSubmissionBytes: 1 << 30, LogLevel: "warning"}
	for _, a := range agents {
		desired.Agents = append(desired.Agents, a.enrolled())
	}
	text, err := json.Marshal(desired)
	require.NoError(t, err)
	require.NoError(t, durable.WriteFile(filepath.Join(s.dir, order.ControllerDesiredFile), text, 0o600))
	t.Cleanup(s.stop)
	s.start()
	return s
}

// start runs the process, waits until it is ready, and returns how long that took.
func (s *service) start() time.Duration {
	if s.program == "" {
		s.program = program(s.t, "certlabd")
	}
	started := time.Now()
	s.cmd = exec.Command(s.program, "run", "--dir", s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	require.NoError(s.t, s.cmd.Start())
	over := make(chan error, 1)
	go func(cmd *exec.Cmd) { over <- cmd.Wait() }(s.cmd)
	s.over = over
	s.http = &http.Client{}
	local := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, order.ControllerSocket))
	}}
	s.root = &http.Client{Transport: local, Timeout: 10 * time.Minute}
	for deadline := time.After(patience); ; {
		if resp, err := s.root.Get("http://local/health/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case err := <-over:
			over <- err
			require.FailNow(s.t, "certlabd has ended", "%v: %s", err, s.log.String())
		case <-deadline:
			require.FailNow(s.t, "certlabd is not ready", s.log.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
	took := time.Since(started)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots()}, ForceAttemptHTTP2: true}, Timeout: patience}
	return took
}

// stop ends the process, kindly.
func (s *service) stop() {
	if s.over == nil {
		return
	}
	s.http.CloseIdleConnections()
	s.root.CloseIdleConnections()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	err := <-s.over
	s.over = nil
	if err != nil || s.t.Failed() {
		s.t.Logf("certlabd: %v: %s", err, s.log.String())
	}
}

func (s *service) roots() *x509.CertPool {
	text, err := os.ReadFile(filepath.Join(s.dir, order.ControllerPublicFile))
	require.NoError(s.t, err)
	var public order.ControllerPublic
	require.NoError(s.t, json.Unmarshal(text, &public))
	pool := x509.NewCertPool()
	for _, ca := range public.CAs {
		require.True(s.t, pool.AppendCertsFromPEM([]byte(ca)))
	}
	return pool
}

// token makes a token of the role.
func (s *service) token(role cert.Role) string {
	var made cert.CreatedToken
	s.call(s.root, http.MethodPost, "http://local/api/v1/tokens", cert.NewToken{Name: "bench " + rand.Text(), Role: string(role)}, &made)
	var redeemed cert.RedeemedToken
	s.call(s.http, http.MethodPost, s.url+"/api/v1/tokens/redeem", cert.RedeemCode{Code: made.Code}, &redeemed)
	return redeemed.Secret
}

// call makes a request that succeeds, and decodes the JSON answer unless out is nil.
func (s *service) call(c *http.Client, method, url string, in, out any) {
	text, err := json.Marshal(in)
	require.NoError(s.t, err)
	req, err := http.NewRequest(method, url, bytes.NewReader(text))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.Less(s.t, resp.StatusCode, 300, "%s %s: %s", method, url, answer)
	if out != nil {
		require.NoError(s.t, json.Unmarshal(answer, out), "%s", answer)
	}
}

// memory is the process's resident memory now and at its highest, in bytes.
func (s *service) memory() (now, peak int64) { return memory(s.t, s.cmd.Process.Pid) }

// processor is the processor time that the process has used.
func (s *service) processor() time.Duration { return processor(s.t, s.cmd.Process.Pid) }

// memory is a process's resident memory now and at its highest, in bytes.
func memory(t testing.TB, pid int) (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	require.NotZero(t, now)
	return now, peak
}

// processor is the processor time that a process has used, its children's that it has waited for not among it.
func processor(t testing.TB, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), ") ")
	require.True(t, ok)
	fields := strings.Fields(rest)
	user, err := strconv.ParseInt(fields[11], 10, 64)
	require.NoError(t, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	require.NoError(t, err)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that we run on
	return time.Duration(user+system) * tick
}

// An agent is a machine's agent, as far as the controller sees it.
type agent struct {
	unit     string
	identity order.Identity
	cert     tls.Certificate
	public   string
}

func newAgent(t testing.TB, number int) *agent {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certlab-agent"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	unit := fmt.Sprintf("checkbox/%d", number)
	return &agent{unit: unit, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, public: base64.StdEncoding.EncodeToString(public),
		identity: order.Identity{Hostname: fmt.Sprintf("node%d", number), Architecture: "amd64", SystemID: fmt.Sprintf("sys%d", number), Unit: unit, ModelUUID: "model"}}
}

func (a *agent) enrolled() order.EnrolledAgent {
	return order.EnrolledAgent{Relation: "cert-agents:1", Unit: a.unit, PublicKey: a.public, Identity: a.identity}
}

// client is an HTTP client with the agent's certificate. Each call makes one with connections of its own.
func (a *agent) client(s *service) *http.Client {
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(), Certificates: []tls.Certificate{a.cert}}, ForceAttemptHTTP2: true}
	s.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 2 * time.Minute}
}

// TestAServiceIsMeasurable starts the service that benchmarks drive, and reads what they read.
func TestAServiceIsMeasurable(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 0)
	s := startService(t, filepath.Join(t.TempDir(), "data"), a)
	var poll order.Poll
	s.call(a.client(s), http.MethodGet, s.url+"/agent/v1/poll?wait=0", nil, &poll)
	require.Empty(t, poll.Orders)
	require.True(t, strings.HasPrefix(s.token(cert.Viewer), cert.TokenPrefix))
	now, peak := s.memory()
	require.GreaterOrEqual(t, peak, now)
	require.Positive(t, s.processor())
}
