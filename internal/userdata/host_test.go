package userdata

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

// A host is a machine that runs user-data: a directory in the place of its file system, and a PATH with the programs that it has.
type host struct {
	t      *testing.T
	root   string
	bin    string
	home   string
	params Params
	region *region
}

// programs are what every Ubuntu has and the script uses, besides what fetches.
var programs = []string{"cat", "chmod", "chown", "cp", "date", "grep", "gzip", "head", "mkdir", "mv", "rm", "sed", "sh", "sha256sum", "sleep", "tail", "tar", "touch", "uname"}

// A region is the controller as the script sees it.
type region struct {
	server *httptest.Server
	ca     string

	mu      sync.Mutex
	bundle  []byte
	answers []func(http.ResponseWriter, *http.Request) bool // each in the place of one answer, unless it returns false
	asked   []*http.Request
	also    func(http.ResponseWriter, *http.Request) bool // what else is answered
}

// newRegion starts a controller with a certificate of its own authority.
func newRegion(t *testing.T) *region {
	t.Helper()
	ca, key, certificate := authority(t)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, certificate, own.Public(), key)
	require.NoError(t, err)
	r := &region{ca: ca, bundle: bundleOf(t, agentScript)}
	r.server = httptest.NewUnstartedServer(r)
	r.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}}
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

func (r *region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, req)
	var answer func(http.ResponseWriter, *http.Request) bool
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	bundle := r.bundle
	r.mu.Unlock()
	if answer != nil && answer(w, req) || r.also != nil && r.also(w, req) {
		return
	}
	switch {
	case req.Header.Get("Authorization") != order.EnrolScheme+" "+testToken:
		say(w, http.StatusUnauthorized, "the token is not that of a deployment that is under way (deploy the machine again)")
	case !strings.HasPrefix(req.URL.Path, "/enrol/v1/agent/"):
		say(w, http.StatusNotFound, "there is nothing at "+req.URL.Path)
	default:
		sum := sha256.Sum256(bundle)
		w.Header().Set(order.BundleHashHeader, hex.EncodeToString(sum[:]))
		w.Header().Set("Content-Length", fmt.Sprint(len(bundle)))
		w.Write(bundle)
	}
}

func say(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":"x","message":%q}}`, message)
}

func (r *region) requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// agentScript stands in for certlab-agent: it keeps a key, enrols by writing down what it was told, and runs by saying so.
const agentScript = `#!/bin/sh
dir=$3
case $1 in
enrol)
	mkdir -p "$dir"
	[ -e "$dir/key.pem" ] || { echo "key $$" >"$dir/key.new"; mv "$dir/key.new" "$dir/key.pem"; }
	cat >"$dir/told"
	if [ -e "$dir/../refuse" ]; then echo "certlab-agent: the token of this deployment has been used" >&2; exit 3; fi
	cp "$dir/key.pem" "$dir/desired.new"
	mv "$dir/desired.new" "$dir/desired.json"
	;;
run) echo "running in $dir" ;;
esac
`

// bundleOf is the answer of the controller with a program in the agent's place.
func bundleOf(t *testing.T, agent string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range []struct {
		name, text string
		mode       int64
	}{{"certlab-agent", agent, 0o755}, {"providers/certlab/manage.py", "#!/usr/bin/env python3\n", 0o755}} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(f.text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

// newHost prepares a machine that has the tools named, and a controller for it.
func newHost(t *testing.T, tools ...string) *host {
	t.Helper()
	me, err := user.Current()
	require.NoError(t, err)
	h := &host{t: t, root: filepath.Join(t.TempDir(), "root"), bin: t.TempDir(), region: newRegion(t)}
	h.home = filepath.Join(h.root, "home", me.Username)
	for _, dir := range []string{"etc/apt/sources.list.d", "dev", "var/log", "home/" + me.Username} {
		require.NoError(t, os.MkdirAll(filepath.Join(h.root, dir), 0o755))
	}
	h.write("etc/passwd", me.Username+":x:1000:1000::/home/"+me.Username+":/bin/bash\n")
	h.write("dev/console", "")
	for _, name := range append(programs, tools...) {
		path, err := exec.LookPath(name)
		if name == "python3" && err == nil { // a shim would need its own tools
			out, err := exec.Command(path, "-c", "import sys; print(sys.executable)").Output()
			require.NoError(t, err)
			path = strings.TrimSpace(string(out))
		}
		if err != nil {
			t.Skipf("this machine has no %s", name)
		}
		h.program(name, `exec `+path+` "$@"`)
	}
	// Neither the whole machine's disks nor its services are a test's to touch.
	h.program("sync", "exit 0")
	h.program("systemctl", `echo "$*" >>`+h.root+`/systemctl`)
	h.params = Params{Controllers: []string{h.region.server.URL}, CAs: []string{h.region.ca}, Deployment: "d0123456789abcdefghjkmnpqrs", Token: testToken,
		User: me.Username, Root: h.root, Made: time.Now().Add(-time.Hour), Pause: time.Second, Patience: time.Minute}
	return h
}

// program gives the host a shell script as a program.
func (h *host) program(name, script string) {
	path := filepath.Join(h.bin, name)
	os.Remove(path)
	if target, ok := strings.CutSuffix(strings.TrimPrefix(script, "exec "), ` "$@"`); ok && target != script {
		require.NoError(h.t, os.Symlink(target, path))
		return
	}
	require.NoError(h.t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func (h *host) write(name, text string) {
	require.NoError(h.t, os.WriteFile(filepath.Join(h.root, name), []byte(text), 0o644))
}

func (h *host) read(name string) string {
	text, err := os.ReadFile(filepath.Join(h.root, name))
	require.NoError(h.t, err)
	return string(text)
}

func (h *host) has(name string) bool {
	_, err := os.Stat(filepath.Join(h.root, name))
	return err == nil
}

const deployed = "var/lib/certlab/deployed/"

// run runs a shell script on the host and returns what it said and its exit status; -1: a signal ended it.
func (h *host) run(path string) (string, int) {
	h.t.Helper()
	cmd := exec.Command("/bin/sh", path)
	cmd.Env = []string{"PATH=" + h.bin, "http_proxy=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Dir = "/"
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(h.t, cmd.Start())
	limit := time.AfterFunc(time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer limit.Stop()
	_ = cmd.Wait()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a cut has left
	return out.String(), cmd.ProcessState.ExitCode()
}

// userData runs the user-data, as cloud-init does.
func (h *host) userData() (string, int) {
	h.t.Helper()
	script, err := Script(h.params)
	require.NoError(h.t, err)
	path := filepath.Join(h.t.TempDir(), "part-001")
	require.NoError(h.t, os.WriteFile(path, script, 0o700))
	return h.run(path)
}

// service runs what the unit starts.
func (h *host) service() (string, int) {
	h.t.Helper()
	return h.run(filepath.Join(h.root, deployed, "start.sh"))
}

// boot is the first boot: user-data, then the unit.
func (h *host) boot() (string, int) {
	h.t.Helper()
	said, code := h.userData()
	require.Zero(h.t, code, said)
	return h.service()
}
