package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// controller is a certlabd process.
type controller struct {
	t    *testing.T
	dir  string
	url  string
	http *http.Client // on its socket
}

// startController builds and starts certlabd.
func startController(t *testing.T) *controller {
	bin := filepath.Join(t.TempDir(), "certlabd")
	// The flags of `make build`, whose compiled packages then serve.
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "certlab/cmd/certlabd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	c := &controller{t: t, dir: t.TempDir(), url: "https://127.0.0.1:" + strconv.Itoa(port)}
	text, err := json.Marshal(order.ControllerDesired{SiteName: "test lab", Port: port, BindAddress: "127.0.0.1", Addresses: []string{"127.0.0.1"}, DataDir: t.TempDir(),
		Agents: []order.EnrolledAgent{{Unit: "checkbox/0", PublicKey: "none", Identity: order.Identity{Hostname: "node0", Architecture: "amd64", SystemID: "abc"}}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, order.ControllerDesiredFile), text, 0o600))
	cmd := exec.Command(bin, "run", "--dir", c.dir)
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		err := cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
		require.NoError(t, err)
	})
	c.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.dir, order.ControllerSocket))
	}}}
	t.Cleanup(c.http.CloseIdleConnections)
	require.Eventually(t, func() bool {
		resp, err := c.http.Get("http://local/health/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
	return c
}

// code makes a code for a token.
func (c *controller) code(name, role string) string {
	resp, err := c.http.Post("http://local/api/v1/tokens", "application/json", strings.NewReader(`{"name":"`+name+`","role":"`+role+`"}`))
	require.NoError(c.t, err)
	defer resp.Body.Close()
	var made cert.CreatedToken
	require.NoError(c.t, json.NewDecoder(resp.Body).Decode(&made))
	require.NotEmpty(c.t, made.Code)
	return made.Code
}

// certlab runs a command and returns its exit code and what it printed.
func certlab(t *testing.T, input string, args ...string) (code int, out, errs string) {
	var o, e strings.Builder
	code = run(t.Context(), args, streams{strings.NewReader(input), &o, &e})
	return code, o.String(), e.String()
}

func mustCertlab(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := certlab(t, "", args...)
	require.Zero(t, code, "certlab %v: %s%s", args, out, errs)
	return out
}

func decodeJSON[T any](t *testing.T, text string) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// TestRemoteCommands goes through the commands that talk to a controller. It sets the environment, and so is not parallel.
func TestRemoteCommands(t *testing.T) {
	login := filepath.Join(t.TempDir(), "new", "login.json")
	t.Setenv("CERTLAB_CONFIG", login)
	code, _, errs := certlab(t, "", "machine", "list")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "not logged in")
	c := startController(t)

	// Who does not trust does not log in, and the code is still good.
	first := c.code("ada", "admin")
	code, _, errs = certlab(t, "no\n", "login", c.url, "--code", first)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "SHA-256")
	code, _, _ = certlab(t, "", "login", c.url, "--code", first, "--fingerprint", strings.Repeat("0", 64))
	require.Equal(t, 1, code)
	require.NoFileExists(t, login)
	code, out, errs := certlab(t, "yes\n", "login", c.url, "--code", first)
	require.Zero(t, code, errs)
	require.Contains(t, out, "logged in to test lab ("+c.url+") as ada, role admin")
	info, err := os.Stat(login)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	code, _, errs = certlab(t, "", "login", c.url, "--code", first, "--insecure-first-use")
	require.Equal(t, 1, code, "a code is good once")
	require.Contains(t, errs, "used already")

	site := decodeJSON[cert.Site](t, mustCertlab(t, "site", "--format", "json"))
	mustCertlab(t, "login", c.url, "--code", c.code("by fingerprint", "viewer"), "--fingerprint", site.CAFingerprint)
	saved := decodeJSON[session](t, readFile(t, login))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, []byte(saved.CAs[0]), 0o600))
	code, _, errs = certlab(t, saved.Token+"\n", "login", c.url, "--token-stdin", "--ca", ca)
	require.Zero(t, code, errs)
	code, _, errs = certlab(t, "", "run", "start", "node0", "com.example::x")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "needs the role engineer")
	mustCertlab(t, "login", c.url, "--code", c.code("engineer", "admin"), "--insecure-first-use")

	machines := decodeJSON[cert.MachineList](t, mustCertlab(t, "machine", "list", "--format", "json"))
	require.Len(t, machines.Machines, 1)
	require.Equal(t, "checkbox/0", machines.Machines[0].Unit)
	require.Contains(t, mustCertlab(t, "machine", "list", "--enrolled"), "node0")
	require.Contains(t, mustCertlab(t, "machine", "show", "abc"), "maas:abc")
	mustCertlab(t, "machine", "add", "bench", "--architecture", "arm64")

	tendMachines(t)
	tendCampaigns(t)

	run := decodeJSON[cert.Run](t, mustCertlab(t, "run", "start", "node0", "com.example::x", "--match", "a,b", "--match", "c", "--exclude", "d", "--env", "A=1,2", "--timeout", "1h", "--format", "json"))
	require.Equal(t, cert.Spec{Plan: "com.example::x", Match: []string{"a,b", "c"}, Exclude: []string{"d"}, Environment: map[string]string{"A": "1,2"}, TimeoutSeconds: 3600}, run.Spec)
	require.Contains(t, mustCertlab(t, "run", "list", "--machine", "node0", "--state", "queued"), run.ID)
	code, out, _ = certlab(t, "", "run", "start", "node0", "com.example::x", "--wait", "1ms")
	require.Equal(t, int(exitNotOver), code)
	require.Contains(t, out, "queued")
	require.Contains(t, mustCertlab(t, "run", "cancel", run.ID), "cancelled")
	require.Contains(t, mustCertlab(t, "run", "show", run.ID), "cancelled")
	code, _, errs = certlab(t, "", "run", "cancel", run.ID)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "cannot cancel run")

	file := "../../internal/results/testdata/head-small.tar.xz"
	added := decodeJSON[cert.Submission](t, mustCertlab(t, "submission", "add", file, "--machine", "bench", "--format", "json"))
	require.Eventually(t, func() bool {
		return strings.Contains(mustCertlab(t, "submission", "list", "--machine", "bench"), "com.example.lab::small")
	}, 20*time.Second, 50*time.Millisecond)
	list := decodeJSON[cert.SubmissionList](t, mustCertlab(t, "submission", "list", "--run", added.Run, "--format", "json"))
	require.Len(t, list.Submissions, 1)
	copied := filepath.Join(t.TempDir(), "copy.tar.xz")
	mustCertlab(t, "submission", "download", added.ID, "--output", copied)
	require.Equal(t, readFile(t, file), readFile(t, copied))
	require.Contains(t, mustCertlab(t, "result", "list", "--machine", "bench", "--outcome", "fail"), "com.example.lab::fail")
	results := decodeJSON[cert.ResultList](t, mustCertlab(t, "result", "list", "--submission", added.ID, "--job", "com.example.lab::", "--limit", "2", "--format", "json"))
	require.Len(t, results.Results, 2)

	made := decodeJSON[cert.CreatedToken](t, mustCertlab(t, "token", "create", "bob", "--role", "viewer", "--format", "json"))
	require.Contains(t, mustCertlab(t, "token", "list"), "code not used")
	require.Contains(t, mustCertlab(t, "token", "revoke", "bob"), made.ID)
	require.Contains(t, mustCertlab(t, "token", "list"), "revoked")
	code, _, _ = certlab(t, "", "login", "http://127.0.0.1", "--code", made.Code)
	require.Equal(t, 1, code, "no TLS, no login")
}

// tendMachines goes through the commands on machines that need no provider, and through what the others say without one.
func tendMachines(t *testing.T) {
	require.Contains(t, mustCertlab(t, "machine", "list", "arch=amd64", "--state", "unknown"), "node0")
	code, out, errs := certlab(t, "", "machine", "list", "arch=riscv64")
	require.Zero(t, code)
	require.NotContains(t, out, "node0")
	require.Contains(t, errs, "no machine matches arch=riscv64: arch=riscv64 excludes all 2 (there are: amd64, arm64)")
	require.Contains(t, fails(t, "machine", "list", "tagz=gpu"), "did you mean tags?")
	require.Contains(t, fails(t, "machine", "reserve", "node0", "--reason", "x"), "MAAS")
	require.Contains(t, mustCertlab(t, "reservation", "list", "--all"), "RESERVATION")
	require.Contains(t, fails(t, "reservation", "show", "node0"), "node0")
	require.Contains(t, fails(t, "machine", "release", "node0"), "node0")

	require.Contains(t, mustCertlab(t, "machine", "dossier", "edit", "node0", "rack=r4", "ability:bmc=true", "manifest:a::b=1"), "manifest:a::b")
	require.Contains(t, fails(t, "machine", "dossier", "edit", "node0", "racks=r4"), `cannot change "racks": there is no column "racks"`)
	require.Contains(t, fails(t, "machine", "dossier", "edit", "node0", "ability:bmc=perhaps"), `cannot change the dossier: ability:bmc is "perhaps": it must be true, false or empty`)
	require.Contains(t, mustCertlab(t, "machine", "dossier", "zone", "z1", "shared=iperf-a", "env:T=1"), "iperf-a")
	require.Contains(t, fails(t, "machine", "dossier", "zone", "z1", "rack=r4"), "a zone has shared and env:NAME only")
	code, out, errs = certlab(t, "SECRETSECRET123\n", "machine", "dossier", "secure-id", "node0")
	require.Zero(t, code, errs)
	require.NotContains(t, out, "SECRET")
	require.Contains(t, fails(t, "machine", "dossier", "secure-id", "node0"), "nothing on standard input")
	csv := filepath.Join(t.TempDir(), "dossiers.csv")
	mustCertlab(t, "machine", "dossier", "export", "--output", csv)
	require.Contains(t, mustCertlab(t, "machine", "dossier", "import", csv), "0 of 2 dossiers changed")
	require.NoError(t, os.WriteFile(csv, []byte("machine,rack\nnode0,r5\n"), 0o600))
	require.Contains(t, mustCertlab(t, "machine", "dossier", "import", csv, "--dry-run"), "1 of 1 dossiers would change (dry run: nothing is stored)")
	require.Contains(t, mustCertlab(t, "machine", "dossier", "show", "node0"), "r4")
	changed := decodeJSON[cert.DossierImport](t, mustCertlab(t, "machine", "dossier", "import", csv, "--format", "json"))
	require.Equal(t, "r5", changed.Changes[0].After)
	require.Contains(t, mustCertlab(t, "machine", "dossier", "history", "node0"), "secure_id")

	require.Contains(t, mustCertlab(t, "machine", "pause", "--rack", "r5", "--reason", "new switch"), "new switch")
	require.Contains(t, mustCertlab(t, "machine", "pause"), "new switch")
	require.Contains(t, mustCertlab(t, "machine", "resume", "--rack", "r5"), "rack r5 takes new work again")
	require.Contains(t, fails(t, "machine", "resume", "--rack", "r5"), "it is not paused")
	require.Contains(t, mustCertlab(t, "machine", "events"), "TIME")
	require.Contains(t, mustCertlab(t, "machine", "incidents", "--open"), "INCIDENT")
	require.Contains(t, mustCertlab(t, "machine", "usage"), "hours of machines")
	require.Contains(t, fails(t, "machine", "usage", "--from", "yesterday"), "cannot use the time")
	require.Contains(t, fails(t, "machine", "console-log", "node0"), "console")
	require.Contains(t, fails(t, "machine", "power", "node0", "off"), "no provider of machines")
}

func readFile(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}
