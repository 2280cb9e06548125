package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/client"
	"certlab/internal/durable"
	"certlab/internal/order"
)

// TestMain lets the test binary be certlabd, for tests that need a process to kill.
func TestMain(m *testing.M) {
	if os.Getenv("CERTLABD_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

const patience = 40 * time.Second // normally not used up; less than polls wait, so that one that nothing wakes is noticed

// lab is a certlabd with real TLS and a real database, in this process.
type lab struct {
	t       *testing.T
	dir     string
	desired order.ControllerDesired
	service *service
	hup     chan os.Signal
	cancel  context.CancelFunc
	done    chan error
	log     syncBuffer
	tune    func(*service) // what the service is given before it runs
}

// syncBuffer is what the service logs, shown when a test fails.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newLab starts a lab with these agents enrolled.
func newLab(t *testing.T, agents ...*agent) *lab { return newTunedLab(t, nil, agents...) }

func newTunedLab(t *testing.T, tune func(*service), agents ...*agent) *lab {
	l := &lab{t: t, tune: tune, dir: t.TempDir(), desired: order.ControllerDesired{Unit: "cert-controller/0", ModelUUID: "model", SiteName: "Lab <of tests>",
		BindAddress: "127.0.0.1", Addresses: []string{"127.0.0.1"}, DataDir: filepath.Join(t.TempDir(), "data"), MaxSubmissionBytes: 64 << 20}}
	for _, a := range agents {
		l.desired.Agents = append(l.desired.Agents, a.enrolled())
	}
	l.write()
	l.start()
	t.Cleanup(l.stop)
	for _, a := range agents {
		a.connect(l)
	}
	return l
}

func (l *lab) write() {
	text, err := json.Marshal(l.desired)
	require.NoError(l.t, err)
	require.NoError(l.t, durable.WriteFile(filepath.Join(l.dir, order.ControllerDesiredFile), text, 0o600))
}

// apply makes the desired state the one in force.
func (l *lab) apply(change func(*order.ControllerDesired)) {
	change(&l.desired)
	l.write()
	l.hup <- nil
	want := l.desiredHash()
	require.Eventually(l.t, func() bool { return l.service.health(l.t.Context()).Applied == want }, patience, 10*time.Millisecond)
}

func (l *lab) desiredHash() string {
	text, err := os.ReadFile(filepath.Join(l.dir, order.ControllerDesiredFile))
	require.NoError(l.t, err)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (l *lab) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := newService(ctx, l.dir, &l.log)
	require.NoError(l.t, err)
	if l.tune != nil {
		l.tune(s)
		s.server = s.newServer()
	}
	l.service, l.cancel, l.done, l.hup = s, cancel, make(chan error, 1), make(chan os.Signal)
	go func() {
		err := s.run(ctx, l.hup)
		s.close()
		l.done <- err
	}()
	require.Eventually(l.t, func() bool { return s.health(ctx).Ready }, patience, 5*time.Millisecond)
}

func (l *lab) stop() {
	if l.t.Failed() {
		l.t.Log(l.log.String())
	}
	if l.cancel == nil {
		return
	}
	l.cancel()
	l.cancel = nil
	require.NoError(l.t, <-l.done)
}

func (l *lab) url() string {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	return "https://" + l.service.tls.net.Addr().String()
}

// cas are the certificates that the charm would put into the databag.
func (l *lab) cas() []string {
	text, err := os.ReadFile(filepath.Join(l.dir, order.ControllerPublicFile))
	require.NoError(l.t, err)
	var public order.ControllerPublic
	require.NoError(l.t, json.Unmarshal(text, &public))
	return public.CAs
}

func (l *lab) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range l.cas() {
		require.True(l.t, pool.AppendCertsFromPEM([]byte(ca)))
	}
	return pool
}

// socket is a client on the unix socket.
func (l *lab) socket() *http.Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.dir, order.ControllerSocket))
	}}
	l.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: patience}
}

// token makes a token of the role, through its code.
func (l *lab) token(role cert.Role) string {
	var made cert.CreatedToken
	status := l.call(l.socket(), "POST", "http://local/api/v1/tokens", cert.NewToken{Name: "test " + string(role), Role: string(role)}, &made)
	require.Equal(l.t, http.StatusCreated, status)
	c, err := client.New(client.Options{URL: l.url(), CAs: l.cas()})
	require.NoError(l.t, err)
	redeemed, err := c.Redeem(l.t.Context(), made.Code)
	require.NoError(l.t, err)
	return redeemed.Secret
}

// person is a client with a token of the role.
func (l *lab) person(role cert.Role) *client.Client {
	c, err := client.New(client.Options{URL: l.url(), CAs: l.cas(), Token: l.token(role)})
	require.NoError(l.t, err)
	return c
}

// call makes a request and decodes the JSON answer, which may be nil.
func (l *lab) call(c *http.Client, method, url string, in, out any) int {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		require.NoError(l.t, err)
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(l.t.Context(), method, url, body)
	require.NoError(l.t, err)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	require.NoError(l.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	if out != nil {
		require.NoError(l.t, json.Unmarshal(text, out), "%s", text)
	}
	return resp.StatusCode
}

// agent is a machine's agent, as far as the controller sees it.
type agent struct {
	t        *testing.T
	unit     string
	identity order.Identity
	cert     tls.Certificate
	public   string
	lab      *lab
	http     *http.Client
	clock    func() time.Time // of the machine; nil: it does not say
	sessions tls.ClientSessionCache
}

// clockTransport says the machine's time, as agents do.
type clockTransport struct {
	http.RoundTripper
	a *agent
}

func (t clockTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.a.clock != nil {
		r = r.Clone(r.Context())
		r.Header.Set(order.TimeHeader, t.a.clock().UTC().Format(time.RFC3339Nano))
	}
	return t.RoundTripper.RoundTrip(r)
}

func newAgent(t *testing.T, number int) *agent {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	// As an agent on a machine with a wrong clock would make it: only the key counts.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certlab-agent"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	unit := fmt.Sprintf("checkbox/%d", number)
	return &agent{t: t, unit: unit, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, public: base64.StdEncoding.EncodeToString(public),
		identity: order.Identity{Hostname: fmt.Sprintf("node%d", number), Architecture: "amd64", SystemID: fmt.Sprintf("sys%d", number), Unit: unit, ModelUUID: "model"}}
}

func (a *agent) enrolled() order.EnrolledAgent {
	return order.EnrolledAgent{Relation: "cert-agents:1", Unit: a.unit, PublicKey: a.public, Identity: a.identity}
}

func (a *agent) connect(l *lab) {
	a.lab = l
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.roots(), Certificates: []tls.Certificate{a.cert}}, ForceAttemptHTTP2: true,
		ExpectContinueTimeout: patience}
	a.t.Cleanup(t.CloseIdleConnections)
	a.http = &http.Client{Transport: clockTransport{t, a}, Timeout: patience}
}

func (a *agent) poll(wait int) order.Poll {
	var p order.Poll
	require.Equal(a.t, http.StatusOK, a.lab.call(a.http, "GET", fmt.Sprintf("%s/agent/v1/poll?wait=%d", a.lab.url(), wait), nil, &p))
	return p
}

func (a *agent) report(r order.Report) (order.ReportAck, int) {
	var out struct {
		order.ReportAck
		Error json.RawMessage `json:"error"`
	}
	status := a.lab.call(a.http, "PUT", a.lab.url()+"/agent/v1/runs/"+r.Run, r, &out)
	return out.ReportAck, status
}

func (a *agent) finish(f order.Finish) (missing []string, status int) {
	var out struct {
		Missing []string `json:"missing"`
	}
	status = a.lab.call(a.http, "POST", a.lab.url()+"/agent/v1/runs/"+f.Run+"/finish", f, &out)
	return out.Missing, status
}

// file is what an agent uploads.
type file struct {
	order.File
	run     string
	attempt int
	bytes   []byte
}

func newFile(run string, attempt int, kind order.FileKind, name string, content []byte) file {
	sum := sha256.Sum256(content)
	return file{order.File{Kind: kind, Name: name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}, run, attempt, content}
}

func (f file) path() string {
	return fmt.Sprintf("/agent/v1/runs/%s/attempts/%d/files/%s", f.run, f.attempt, f.SHA256)
}

// offset asks how much of a file is durable.
func (a *agent) offset(f file) (offset string, complete string) {
	resp, err := a.http.Head(a.lab.url() + f.path())
	require.NoError(a.t, err)
	resp.Body.Close()
	require.Equal(a.t, http.StatusOK, resp.StatusCode)
	return resp.Header.Get("Upload-Offset"), resp.Header.Get("Upload-Complete")
}

// patchRequest is the request that sends body at an offset.
func (a *agent) patchRequest(f file, offset int, body io.Reader, size int64) *http.Request {
	req, err := http.NewRequestWithContext(a.t.Context(), "PATCH", a.lab.url()+f.path(), body)
	require.NoError(a.t, err)
	req.ContentLength = size
	req.Header.Set("Upload-Offset", fmt.Sprint(offset))
	req.Header.Set("Upload-Length", fmt.Sprint(f.Size))
	req.Header.Set("Certlab-File-Kind", string(f.Kind))
	req.Header.Set("Certlab-File-Name", f.Name)
	return req
}

// patch sends body at an offset. The error is the connection's.
func (a *agent) patch(f file, offset int, body io.Reader, size int64) (status int, next string, ack order.FileAck, err error) {
	resp, err := a.http.Do(a.patchRequest(f, offset, body, size))
	if err != nil {
		return 0, "", ack, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	if resp.StatusCode == http.StatusOK {
		require.NoError(a.t, json.Unmarshal(text, &ack))
	}
	return resp.StatusCode, resp.Header.Get("Upload-Offset"), ack, nil
}

// upload sends a whole file.
func (a *agent) upload(f file) order.FileAck {
	status, _, ack, err := a.patch(f, 0, bytes.NewReader(f.bytes), f.Size)
	require.NoError(a.t, err)
	require.Equal(a.t, http.StatusOK, status)
	return ack
}

// deliver reports a run of the machine's own, uploads an archive and ends the run.
func (a *agent) deliver(run string, archive []byte) order.FileAck {
	r := running(run, 1)
	_, status := a.report(r)
	require.Equal(a.t, http.StatusOK, status)
	f := newFile(run, 1, order.SubmissionFile, "submission.tar.xz", archive)
	ack := a.upload(f)
	missing, status := a.finish(finished(r, f))
	require.Empty(a.t, missing)
	require.Equal(a.t, http.StatusOK, status)
	return ack
}

func running(run string, sequence int64) order.Report {
	return order.Report{Run: run, Attempt: 1, Sequence: sequence, Origin: order.FromAction, Created: time.Now(), Started: time.Now(), State: order.Running,
		Spec: order.Spec{Plan: "com.example.lab::small"}, Progress: order.Progress{Phase: order.Testing, JobsDone: 1, JobsPlanned: 6, CurrentJob: "com.example.lab::env"}}
}

func finished(r order.Report, files ...file) order.Finish {
	r.State, r.Sequence = order.Completed, r.Sequence+1000
	f := order.Finish{Report: r, Finished: time.Now(), Counts: order.Counts{"pass": 1}, Files: []order.File{}}
	for _, file := range files {
		f.Files = append(f.Files, file.File)
	}
	return f
}

func runID() string { return cert.NewID(cert.RunID, time.Now()) }

func sample(t *testing.T, name string) []byte {
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return content
}

// indexed waits for a submission to be read.
func indexed(t *testing.T, c *client.Client, id string) cert.Submission {
	var s cert.Submission
	require.Eventually(t, func() bool {
		var err error
		s, err = c.Submission(t.Context(), id)
		require.NoError(t, err)
		return s.IndexState != cert.IndexPending
	}, patience, 10*time.Millisecond)
	return s
}

func hasCode(t *testing.T, err error, code cert.Code) {
	t.Helper()
	var answer *client.Error
	require.ErrorAs(t, err, &answer)
	require.Equal(t, code, answer.Code, answer.Message)
	require.False(t, strings.HasSuffix(answer.Message, "."))
}
