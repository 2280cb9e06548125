package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
	"certlab/internal/server/route"
)

const goodToken = "cld_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

// A door is the API as a deployed machine sees it, with an engine that takes one token.
type door struct {
	Fleet
	Lab
	t        *testing.T
	api      *API
	fleet    order.Fleet
	booted   int
	enrolled []order.Enrolment
	statuses map[string]order.Status
}

func (d *door) Desired() order.ControllerDesired { return order.ControllerDesired{Fleet: d.fleet} }

func (d *door) Booted(_ context.Context, token string) error {
	if token != goodToken {
		return cert.CheckBooted(cert.Deployment{}, token)
	}
	d.booted++
	return nil
}

func (d *door) Enrol(_ context.Context, e order.Enrolment) (order.Enrolled, error) {
	d.enrolled = append(d.enrolled, e)
	return order.Enrolled{Desired: order.AgentDesired{Deployment: e.Deployment}}, nil
}

func (d *door) AgentStatus(_ context.Context, machine string, s order.Status) error {
	d.statuses[machine] = s
	return nil
}

func (d *door) Wake(string) {}

func newDoor(t *testing.T) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{t: t, statuses: map[string]order.Status{}, fleet: order.Fleet{Agents: filepath.Join(dir, "agents"), Providers: filepath.Join(dir, "providers")}}
	d.api = &API{Fleet: d, Lab: d, Patience: time.Minute}
	for name, text := range map[string]string{"agents/certlab-agent_amd64": "\x7fELF of amd64", "agents/certlab-agent_arm64": "\x7fELF of arm64",
		"providers/certlab/manage.py": "#!/usr/bin/env python3\n", "providers/certlab/units/a.pxu": "unit: job\n", "providers/certlab/bin/__pycache__/x.pyc": "no"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "providers/certlab/manage.py"), 0o755))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "providers/certlab/secret")))
	return d
}

// ask asks for the bundle of an architecture.
func (d *door) ask(architecture, authorization string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequest(http.MethodGet, "/enrol/v1/agent/"+architecture, nil)
	r.SetPathValue("architecture", architecture)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	return w, d.api.AgentBundle(w, &route.Request{Request: r})
}

// send sends a JSON body to a handler, with a client certificate of key.
func (d *door) send(handle route.Handler, key string, v any, caller route.Caller) (*httptest.ResponseRecorder, error) {
	text, err := json.Marshal(v)
	require.NoError(d.t, err)
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		der, err := base64.StdEncoding.DecodeString(key)
		require.NoError(d.t, err)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: der}}}
	}
	w := httptest.NewRecorder()
	return w, handle(w, &route.Request{Request: r, Caller: caller})
}

func TestDeployedMachineGetsTheSameBytesEachTime(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	w, err := d.ask("arm64", "Certlab-Deployment "+goodToken)
	require.NoError(t, err)
	require.Equal(t, 1, d.booted)
	body := bytes.Clone(w.Body.Bytes())
	sum := sha256.Sum256(body)
	require.Equal(t, hex.EncodeToString(sum[:]), w.Header().Get(order.BundleHashHeader))
	z, err := gzip.NewReader(bytes.NewReader(body))
	require.NoError(t, err)
	var names []string
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		names = append(names, h.Name)
		if h.Name == "certlab-agent" {
			require.Equal(t, "\x7fELF of arm64", string(text))
			require.Equal(t, int64(0o755), h.Mode)
		}
	}
	require.Equal(t, []string{"certlab-agent", "providers/certlab/manage.py", "providers/certlab/units/a.pxu"}, names, "no links, nothing that was compiled here")

	// Another controller, later, sends the same.
	other := newDoor(t)
	later := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(other.fleet.Agents, "certlab-agent_arm64"), later, later))
	w, err = other.ask("arm64", "certlab-deployment "+goodToken)
	require.NoError(t, err)
	require.Equal(t, body, w.Body.Bytes())

	// A refresh brings another agent.
	require.NoError(t, os.WriteFile(filepath.Join(d.fleet.Agents, "certlab-agent_arm64"), []byte("\x7fELF of arm64, newer"), 0o644))
	w, err = d.ask("arm64", "Certlab-Deployment "+goodToken)
	require.NoError(t, err)
	require.NotEqual(t, body, w.Body.Bytes())
}

func TestFaultNoAgentForAMachine(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, test := range []struct{ architecture, says string }{
		{"riscv64", "there is no agent for riscv64: this controller has it for amd64, arm64"},
		{"..%2f", `"..%2f" is not an architecture (such as amd64)`},
		{"", `"" is not an architecture (such as amd64)`},
	} {
		_, err := d.ask(test.architecture, "Certlab-Deployment "+goodToken)
		require.EqualError(t, err, test.says)
		require.Equal(t, cert.NotFound, cert.CodeOf(err))
	}
	require.NoError(t, os.RemoveAll(d.fleet.Agents))
	_, err := d.ask("amd64", "Certlab-Deployment "+goodToken)
	require.EqualError(t, err, "there is no agent for amd64: this controller has none at all (refresh the cert-controller charm)")
	require.Equal(t, 5-1, d.booted, "that the machine has booted is noted all the same")
}

func TestFaultAgentIsAskedForWithoutATokenThatIsGood(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, authorization := range []string{"", "Bearer " + goodToken, "Certlab-Deployment", "Certlab-Deployment cld_short", "Certlab-Deployment cld_" + strings.Repeat("z", 43)} {
		w, err := d.ask("amd64", authorization)
		require.Equal(t, cert.Unauthorized, cert.CodeOf(err), authorization)
		require.NotContains(t, err.Error(), "zzz")
		require.Zero(t, w.Body.Len())
	}
	require.Zero(t, d.booted)
}

func TestFaultEnrolmentWithAKeyThatIsNotOnesOwn(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	mine, theirs := base64.StdEncoding.EncodeToString([]byte("mine")), base64.StdEncoding.EncodeToString([]byte("theirs"))
	_, err := d.send(d.api.Enrol, "", order.Enrolment{PublicKey: mine}, route.Caller{})
	require.EqualError(t, err, "agents show a client certificate: this enrolment came without one")
	_, err = d.send(d.api.Enrol, mine, order.Enrolment{PublicKey: theirs}, route.Caller{})
	require.EqualError(t, err, "cannot enrol an agent with another's key: public_key is not that of its client certificate")
	require.Empty(t, d.enrolled)
	w, err := d.send(d.api.Enrol, mine, order.Enrolment{PublicKey: mine, Deployment: "d1"}, route.Caller{})
	require.NoError(t, err)
	var answer order.Enrolled
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Equal(t, "d1", answer.Desired.Deployment)
}

func TestAgentSaysHowItsMachineIs(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	run := cert.NewID(cert.RunID, time.Now())
	booted := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	w, err := d.send(d.api.AgentStatus, "", order.Status{BootID: "b", Running: run, Undelivered: []string{run}, Problem: strings.Repeat("x", 10_000), Booted: booted},
		route.Caller{Machine: "m1", Skew: time.Hour})
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, w.Code)
	got := d.statuses["m1"]
	require.Equal(t, run, got.Running)
	require.Len(t, got.Problem, maxStatusText+len("…"))
	require.Equal(t, booted.Add(-time.Hour), got.Booted, "by the controller's clock")
	for _, s := range []order.Status{{Running: strings.Repeat("r", 4000)}, {Undelivered: []string{"../x"}}, {Undelivered: make([]string, maxHeldRuns+1)}} {
		_, err := d.send(d.api.AgentStatus, "", s, route.Caller{Machine: "m2"})
		require.Equal(t, cert.Rejected, cert.CodeOf(err))
	}
	require.NotContains(t, d.statuses, "m2")
}
