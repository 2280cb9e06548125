package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// A testController is a controller as package order describes it, with faults.
type testController struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	keys     []string // public keys that may come in
	orders   map[string]order.Order
	cancels  map[string]bool
	reports  map[string][]order.Report
	files    map[string][]byte // hash → bytes that are durable
	done     map[string]bool   // hash → acknowledged
	finished map[string][]order.Finish
	faults   map[string]int // what still goes wrong, how often
	refused  int
	resend   []order.Resend    // wanted again
	gone     map[string]string // run → why it cannot be had
	times    []string          // headers with the agent's time

	statuses   []order.Status
	lost       []string // runs whose machine was power-cycled
	deployment *cert.Deployment
	machine    cert.Provided

	epoch string
	again []string // runs that were forgotten
	held  []order.HeldRun
	helds int
}

func newController(t *testing.T) *testController {
	c := &testController{t: t, orders: map[string]order.Order{}, cancels: map[string]bool{}, reports: map[string][]order.Report{},
		files: map[string][]byte{}, done: map[string]bool{}, finished: map[string][]order.Finish{}, faults: map[string]int{}, gone: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /agent/v1/poll", c.poll)
	mux.HandleFunc("PUT /agent/v1/runs/{run}", c.report)
	mux.HandleFunc("HEAD /agent/v1/runs/{run}/attempts/{attempt}/files/{hash}", c.head)
	mux.HandleFunc("PATCH /agent/v1/runs/{run}/attempts/{attempt}/files/{hash}", c.patch)
	mux.HandleFunc("POST /agent/v1/runs/{run}/finish", c.finish)
	mux.HandleFunc("POST /agent/v1/runs/{run}/attempts/{attempt}/files/{hash}/gone", c.fileGone)
	mux.HandleFunc("POST /agent/v1/held", c.takeHeld)
	mux.HandleFunc("PUT /agent/v1/status", c.status)
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/enrol/v1/enrol" {
			c.enrolment(w, r)
			return
		}
		key := base64.StdEncoding.EncodeToString(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		c.mu.Lock()
		c.times = append(c.times, r.Header.Get(order.TimeHeader))
		known := slices.Contains(c.keys, key)
		if !known {
			c.refused++
		}
		c.mu.Unlock()
		if !known {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"error":{"code":"forbidden","message":"this key is not enrolled"}}`)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	c.server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	c.server.Config.ErrorLog = nil
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	return c
}

// enrol lets the rig's agent in, and tells it where the controller is.
func (c *testController) enrol(g *rig) {
	g.write()
	require.NoError(c.t, Identify(g.dir))
	var public order.AgentPublic
	require.NoError(c.t, readJSON(filepath.Join(g.dir, order.AgentPublicFile), &public))
	c.mu.Lock()
	c.keys = append(c.keys, public.PublicKey)
	c.mu.Unlock()
	c.known(g)
}

func (c *testController) known(g *rig) {
	g.desired.ControllerURLs = []string{"https://127.0.0.1:1", c.server.URL} // the first is dead
	g.desired.ControllerCAs = []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw}))}
}

// answer writes v with a field that this agent does not know: the controller may be a release ahead.
func answer(w io.Writer, v any) {
	text, _ := json.Marshal(v)
	text = bytes.TrimSuffix(text, []byte("}"))
	if len(text) > 1 {
		text = append(text, ',')
	}
	_, _ = w.Write(append(text, `"of_a_later_release":{"a":[1,null]}}`...))
}

// fault counts down what is to go wrong.
func (c *testController) fault(name string) bool {
	if c.faults[name] > 0 {
		c.faults[name]--
		return true
	}
	return false
}

func (c *testController) poll(w http.ResponseWriter, r *http.Request) {
	wait, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	for deadline := time.Now().Add(time.Duration(wait) * time.Second); ; {
		var p order.Poll
		c.mu.Lock()
		for id, o := range c.orders {
			if len(c.reports[id]) == 0 {
				p.Orders = append(p.Orders, o)
			}
		}
		for id := range c.cancels {
			if len(c.finished[id]) == 0 {
				p.Cancel = append(p.Cancel, id)
			}
		}
		for _, w := range c.resend {
			if !c.done[w.SHA256] && c.gone[w.Run] == "" {
				p.Resend = append(p.Resend, w)
			}
		}
		p.Epoch, p.Lost = c.epoch, c.lost
		c.mu.Unlock()
		if len(p.Orders)+len(p.Cancel)+len(p.Resend) > 0 || time.Now().After(deadline) || r.Context().Err() != nil {
			answer(w, p)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *testController) report(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault("report 500") {
		w.WriteHeader(500)
		return
	}
	var report order.Report
	if json.NewDecoder(r.Body).Decode(&report) != nil || report.Run != r.PathValue("run") {
		w.WriteHeader(400)
		return
	}
	c.reports[report.Run] = append(c.reports[report.Run], report)
	answer(w, order.ReportAck{URL: c.server.URL + "/runs/" + report.Run})
}

func (c *testController) status(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault("status 503") {
		w.WriteHeader(503)
		return
	}
	var s order.Status
	if json.NewDecoder(r.Body).Decode(&s) != nil {
		w.WriteHeader(400)
		return
	}
	c.statuses = append(c.statuses, s)
	w.WriteHeader(http.StatusNoContent)
}

// enrolment is POST /enrol/v1/enrol, by the controller's own rules.
func (c *testController) enrolment(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e order.Enrolment
	if json.NewDecoder(r.Body).Decode(&e) != nil {
		w.WriteHeader(400)
		return
	}
	if c.fault("enrol 503") {
		w.WriteHeader(503)
		return
	}
	if err := cert.CheckEnrolment(*c.deployment, c.machine, e); err != nil {
		w.WriteHeader(map[cert.Code]int{cert.Unauthorized: 401, cert.Forbidden: 403, cert.Rejected: 422}[cert.CodeOf(err)])
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": string(cert.CodeOf(err)), "message": err.Error()}})
		return
	}
	c.deployment.AgentKey = e.PublicKey
	c.keys = append(c.keys, e.PublicKey)
	if c.fault("answer lost") {
		panic(http.ErrAbortHandler)
	}
	answer(w, order.Enrolled{Desired: order.AgentDesired{Checkbox: order.CheckboxSource{Source: "snap"}, Reserved: true}})
}

func (c *testController) head(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := r.PathValue("hash")
	w.Header().Set("Upload-Offset", strconv.Itoa(len(c.files[hash])))
	w.Header().Set("Upload-Complete", strconv.FormatBool(c.done[hash]))
}

func (c *testController) patch(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := r.PathValue("hash")
	offset, _ := strconv.Atoi(r.Header.Get("Upload-Offset"))
	length, _ := strconv.Atoi(r.Header.Get("Upload-Length"))
	if err != nil || r.Header.Get("Certlab-File-Kind") == "" || r.Header.Get("Certlab-File-Name") == "" {
		w.WriteHeader(400)
		return
	}
	if offset != len(c.files[hash]) {
		w.Header().Set("Upload-Offset", strconv.Itoa(len(c.files[hash])))
		w.WriteHeader(http.StatusConflict)
		return
	}
	if c.fault("cut") { // half of it has arrived when the connection breaks
		c.files[hash] = append(c.files[hash], body[:len(body)/2]...)
		panic(http.ErrAbortHandler)
	}
	if c.fault("short") { // takes less than was sent, which it may
		body = body[:len(body)/3]
	}
	c.files[hash] = append(c.files[hash], body...)
	if len(c.files[hash]) < length {
		w.Header().Set("Upload-Offset", strconv.Itoa(len(c.files[hash])))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	sum := sha256.Sum256(c.files[hash])
	if hex.EncodeToString(sum[:]) != hash {
		c.files[hash] = nil
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	c.done[hash] = true
	if c.fault("acknowledgement lost") {
		panic(http.ErrAbortHandler)
	}
	answer(w, order.FileAck{SHA256: hash, Size: int64(length)})
}

func (c *testController) finish(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var f order.Finish
	if json.NewDecoder(r.Body).Decode(&f) != nil {
		w.WriteHeader(400)
		return
	}
	if c.fault("file lost") {
		for _, file := range f.Files {
			delete(c.files, file.SHA256)
			delete(c.done, file.SHA256)
		}
	}
	var missing []string
	for _, file := range f.Files {
		if !c.done[file.SHA256] {
			missing = append(missing, file.SHA256)
		}
	}
	if len(missing) > 0 {
		w.WriteHeader(http.StatusConflict)
		answer(w, map[string]any{"missing": missing})
		return
	}
	c.finished[f.Run] = append(c.finished[f.Run], f)
	if c.fault("finish lost") {
		panic(http.ErrAbortHandler)
	}
	answer(w, order.ReportAck{URL: c.server.URL + "/runs/" + f.Run})
}

func (c *testController) fileGone(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var gone order.FileGone
	if json.NewDecoder(r.Body).Decode(&gone) != nil {
		w.WriteHeader(400)
		return
	}
	c.gone[r.PathValue("run")] = gone.Reason
	w.WriteHeader(http.StatusNoContent)
}

func (c *testController) takeHeld(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var held order.Held
	if json.NewDecoder(r.Body).Decode(&held) != nil || held.Epoch != c.epoch {
		w.WriteHeader(400)
		return
	}
	c.held = held.Runs
	c.helds++
	answer(w, order.HeldAck{Again: c.again})
}

func TestFaultConnectionBreaksAnywhere(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	c := newController(t)
	c.enrol(g)
	for _, fault := range []string{"report 500", "cut", "short", "acknowledgement lost", "file lost", "finish lost"} {
		c.faults[fault] = 1
	}
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.orders["rorder1"] = order.Order{Run: "rorder1", Created: created, Spec: order.Spec{Plan: small.Plan, Title: "weekly"}}
	g.start()
	g.until("the run is delivered", 60*time.Second, func() bool {
		r, err := g.client.Run(context.Background(), "rorder1", 0)
		return err == nil && r.Delivered
	})
	r := g.wait("rorder1")
	require.Equal(t, order.FromOrder, r.Origin)
	require.Equal(t, created, r.Created)
	require.Equal(t, c.server.URL+"/runs/rorder1", r.URL)
	require.FileExists(t, r.SubmissionPath, "a copy is kept")

	c.mu.Lock()
	defer c.mu.Unlock()
	require.Zero(t, c.refused)
	for fault, left := range c.faults {
		require.Zero(t, left, fault)
	}
	last := c.finished["rorder1"][len(c.finished["rorder1"])-1]
	require.Equal(t, order.Completed, last.State)
	require.Equal(t, sampleCounts(t, "testdata/archives/head-small.tar.xz"), last.Counts)
	want, err := os.ReadFile("testdata/archives/head-small.tar.xz")
	require.NoError(t, err)
	require.Equal(t, order.SubmissionFile, last.Files[0].Kind)
	require.Equal(t, want, c.files[last.Files[0].SHA256], "byte for byte")
	var sequence int64
	for _, report := range c.reports["rorder1"] {
		require.GreaterOrEqual(t, report.Sequence, sequence, "a repeated report may have the number of the first")
		require.False(t, report.State.Final(), "only a finish ends a run")
		sequence = report.Sequence
	}
	require.Greater(t, last.Sequence, sequence)
}

func TestFaultControllerDoesNotKnowTheKey(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	c := newController(t)
	g.write()
	require.NoError(t, Identify(g.dir))
	c.known(g) // but the controller does not know the agent
	g.start()
	id := g.run(order.Spec{Plan: small.Plan})
	r := g.wait(id)
	require.Equal(t, order.Completed, r.State)
	require.False(t, r.Delivered)
	var status order.AgentStatus
	g.until("the agent has been refused", 20*time.Second, func() bool {
		var err error
		status, err = g.client.Status(context.Background())
		require.NoError(t, err)
		return status.Controller == "refused"
	})
	require.Equal(t, 1, status.Undelivered)
	require.Contains(t, status.ControllerError, "this key is not enrolled")
	g.killAll()
	c.enrol(g)
	g.start()
	g.until("the run is delivered", 30*time.Second, func() bool {
		r, err := g.client.Run(context.Background(), id, 0)
		return err == nil && r.Delivered
	})
	require.Len(t, c.finished[id], 1)
}

func TestControllerCancelsARun(t *testing.T) {
	t.Parallel()
	s := small
	s.Running = example + "pass" // hangs
	g, _ := scriptedRig(t, s)
	c := newController(t)
	c.enrol(g)
	c.orders["rorder1"] = order.Order{Run: "rorder1", Spec: order.Spec{Plan: small.Plan}}
	g.start()
	g.until("the run has begun", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.reports["rorder1"], func(r order.Report) bool {
			return r.Progress.Phase == order.Testing && r.Progress.CurrentJob == s.Running
		})
	})
	c.mu.Lock()
	c.cancels["rorder1"] = true
	c.mu.Unlock()
	g.until("the run is delivered", 30*time.Second, func() bool {
		r, err := g.client.Run(context.Background(), "rorder1", 0)
		return err == nil && r.Delivered
	})
	require.Equal(t, order.Cancelled, c.finished["rorder1"][0].State)
}

func TestFaultOrderThatCannotBeRun(t *testing.T) {
	t.Parallel()
	g, _ := scriptedRig(t, small)
	c := newController(t)
	c.enrol(g)
	c.orders["rorder1"] = order.Order{Run: "rorder1", Spec: order.Spec{Plan: "no plan"}}
	g.start()
	g.until("the order is answered", 30*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.finished["rorder1"]) > 0
	})
	require.Equal(t, order.Failed, c.finished["rorder1"][0].State)
	require.True(t, strings.Contains(c.finished["rorder1"][0].Failure.Message, "not a full id"))
}

func TestOnlyThePinnedAuthorityIsTrusted(t *testing.T) {
	t.Parallel()
	key, err := loadKey(filepath.Join(t.TempDir(), keyFile))
	require.NoError(t, err)
	again, err := newRemote(key, nil, nil, time.Now)
	require.NoError(t, err)
	require.Nil(t, again)
	c := newController(t)
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.StartTLS()
	defer other.Close()
	c.keys = []string{key.public}
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw}))
	r, err := newRemote(key, []string{c.server.URL}, []string{authority}, time.Now)
	require.NoError(t, err)
	_, err = r.poll(t.Context(), 0)
	require.NoError(t, err)
	// The right authority, another name.
	r, err = newRemote(key, []string{strings.Replace(c.server.URL, "127.0.0.1", "127.0.0.2", 1)}, []string{authority}, time.Now)
	require.NoError(t, err)
	_, err = r.poll(t.Context(), 0)
	require.Error(t, err)
	_, err = newRemote(key, []string{c.server.URL}, nil, time.Now)
	require.ErrorContains(t, err, "no CA certificate")
	_, err = newRemote(key, []string{"http://plain"}, []string{authority}, time.Now)
	require.ErrorContains(t, err, "https")
	_, err = newRemote(key, []string{c.server.URL}, []string{"nonsense"}, time.Now)
	require.Error(t, err)
	// A server that is not of the authority.
	stranger, err := loadKey(filepath.Join(t.TempDir(), keyFile))
	require.NoError(t, err)
	certificate, err := stranger.certificate()
	require.NoError(t, err)
	config, err := clientTLS(key, []string{authority}, time.Now)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	require.NoError(t, err)
	require.Error(t, config.VerifyConnection(tls.ConnectionState{ServerName: "127.0.0.1", PeerCertificates: []*x509.Certificate{leaf}}))
	require.Error(t, config.VerifyConnection(tls.ConnectionState{ServerName: "127.0.0.1"}))
}
