package userdata

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unavailable is a controller that is starting.
func unavailable(w http.ResponseWriter, _ *http.Request) bool {
	say(w, http.StatusServiceUnavailable, "the controller is busy")
	return true
}

// cutOff sends half of the bundle.
func (r *region) cutOff(w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Content-Length", strconv.Itoa(len(r.bundle)))
	w.Write(r.bundle[:len(r.bundle)/2])
	return hangUp(w, nil)
}

// enrolled fails unless the machine has its agent and nothing is left of getting it.
func (h *host) enrolled() {
	h.t.Helper()
	require.True(h.t, h.has(deployed+"agent/desired.json"))
	require.True(h.t, h.has(deployed+"bundle/certlab-agent"))
	for _, name := range []string{"token", "config.json", "body", "head", "why", "wgetrc", "bundle.new"} {
		require.False(h.t, h.has(deployed+name), "%s is left", name)
	}
}

func TestFaultControllerAnswersAfterAWhile(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	h.region.answers = []func(http.ResponseWriter, *http.Request) bool{hangUp, unavailable}
	said, code := h.boot()
	require.Zero(t, code, said)
	require.Contains(t, said, "certlab: cannot reach the controller: curl "+h.region.server.URL+": curl: (")
	require.Contains(t, said, "; it is tried again\n")
	require.Contains(t, said, "certlab: cannot get the agent: the controller answers 503: the controller is busy\n")
	require.Contains(t, h.read("var/log/certlab-agent.log"), " cannot get the agent: the controller answers 503: the controller is busy\n")
	h.enrolled()
}

func TestFaultBundleIsCutOff(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "wget", "python3"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tool)
			h.region.answers = []func(http.ResponseWriter, *http.Request) bool{h.region.cutOff}
			said, code := h.boot()
			require.Zero(t, code, said)
			// Some tools see it, and some leave it to the sum.
			if !strings.Contains(said, "cannot reach the controller: "+tool) {
				require.Contains(t, said, "what arrived is not what the controller has sent (it was cut off on its way, or this disk is full); it is tried again")
			}
			require.Contains(t, said, "it is tried again\n")
			h.enrolled()
		})
	}
}

// TestFaultBundleOfAnotherSum is cut off where no tool sees it.
func TestFaultBundleOfAnotherSum(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	h.region.answers = []func(http.ResponseWriter, *http.Request) bool{func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Certlab-SHA256", strings.Repeat("ab", 32))
		w.Write(h.region.bundle)
		return true
	}}
	said, code := h.boot()
	require.Zero(t, code, said)
	require.Contains(t, said, "certlab: cannot use the agent: what arrived is not what the controller has sent (it was cut off on its way, or this disk is full); it is tried again\n")
	h.enrolled()
}

func TestFaultAnotherProgramAnswersThere(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "wget", "python3"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tool)
			other, _, _ := authority(t)
			h.params.CAs, h.params.Patience = []string{other}, time.Second
			said, code := h.boot()
			require.Equal(t, 78, code, said)
			require.Contains(t, said, "certlab: cannot reach the controller: "+tool+" "+h.region.server.URL+": ")
			require.Contains(t, said, "(either another program answers there, or this machine's clock, which says "+time.Now().UTC().Format("2006-01-02"))
			require.Contains(t, said, "certlab: gave up after 1 s; the next boot tries again\n")
			require.Empty(t, h.region.requests(), "nobody is told the token")
			require.False(t, h.has(deployed+"bundle"))
			require.True(t, h.has(deployed+"token"), "the next boot needs it")
		})
	}
}

func TestFaultDeploymentIsOver(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "wget", "python3"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tool)
			h.params.Token = "cld_" + strings.Repeat("z", 43)
			said, code := h.boot()
			require.Equal(t, 78, code, said)
			want := "certlab: cannot get the agent: the controller answers 401: the token is not that of a deployment that is under way (deploy the machine again)\n"
			if tool == "wget" { // it keeps the answer to itself
				want = "certlab: cannot get the agent: the controller answers 401\n"
			}
			require.Equal(t, want, said)
			require.Len(t, h.region.requests(), 1)
			require.False(t, h.has(deployed+"agent/desired.json"))
		})
	}
}

func TestFaultEnrolmentIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	said, code := h.userData()
	require.Zero(t, code, said)
	h.write(deployed+"refuse", "")
	said, code = h.service()
	require.Equal(t, 78, code, said)
	require.Equal(t, "certlab: cannot enrol: the token of this deployment has been used\n", said)
	require.Contains(t, h.read("dev/console"), "certlab: cannot enrol: the token of this deployment has been used\n")
}

func TestFaultNothingToFetchWith(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.params.Patience = time.Second
	said, code := h.boot()
	require.Equal(t, 78, code, said)
	require.Contains(t, said, "certlab: cannot reach the controller: there is neither curl nor wget nor python3 on this machine; it is tried again\n")
}

func TestFaultDiskIsFullOnADeployedMachine(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	full := `echo "tar: certlab-agent: Cannot write: No space left on device" >&2; exit 2`
	tar, err := os.Readlink(filepath.Join(h.bin, "tar"))
	require.NoError(t, err)
	h.program("tar", full)
	h.program("sleep", "rm "+h.bin+"/tar; ln -s "+tar+" "+h.bin+"/tar") // room is made meanwhile
	h.program("ln", `exec /bin/ln "$@"`)
	said, code := h.boot()
	require.Zero(t, code, said)
	require.Contains(t, said, "certlab: cannot unpack the agent: tar: certlab-agent: Cannot write: No space left on device; it is tried again\n")
	h.enrolled()

	h = newHost(t, "curl")
	h.program("chmod", `exit 1`) // as where nothing can be written
	said, code = h.userData()
	require.Equal(t, 1, code)
	require.Contains(t, said, "is the disk full? This machine gets no agent\n")
	require.False(t, h.has("etc/systemd/system/certlab-agent.service"))
}

func TestFaultClockThatWasNeverSet(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	date, err := os.Readlink(filepath.Join(h.bin, "date"))
	require.NoError(t, err)
	h.program("date", `case "$*" in +%s) echo 0 ;; *" -s "*) echo "$*" >>`+h.root+`/set ;; "-u +%Y-%m-%d") echo 1970-01-01 ;; *) `+date+` "$@" ;; esac`)
	said, code := h.boot()
	require.Zero(t, code, said)
	require.Contains(t, said, "certlab: this machine's clock said 1970-01-01 and was set to the time of its deployment\n")
	require.Equal(t, fmt.Sprintf("-u -s @%d\n", h.params.Made.Unix()), h.read("set"))
	h.enrolled()
}

func TestFaultAnotherDeploymentsFilesAreSetAside(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	said, code := h.boot()
	require.Zero(t, code, said)
	h.write(deployed+"agent/result", "of the deployment before")
	h.params.Deployment = "d0123456789abcdefghjkmnpqrt"
	said, code = h.boot()
	require.Zero(t, code, said)
	require.Contains(t, said, "this machine's agent has enrolled")
	require.False(t, h.has(deployed+"agent/result"))
	require.Equal(t, "of the deployment before", h.read("var/lib/certlab/deployed.before-"+h.params.Deployment+"/agent/result"))
	h.enrolled()
}

// everyCut in the environment has TestFaultPowerCutAtEachProgram cut before each program, not before every third.
const everyCut = "CERTLAB_EVERY_CUT"

// TestFaultPowerCutAtEachProgram cuts the power before each program that user-data and the unit start, boots again, and finds an enrolled
// machine; or, where the power went before the unit was there, a machine that has done nothing.
func TestFaultPowerCutAtEachProgram(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	h.wrap()
	h.params.Keys = []string{sshKeyOf(1024, "ann")}
	h.params.Mirror = "http://mirror.lab/ubuntu"
	list := "deb http://archive.ubuntu.com/ubuntu noble main\n"
	done, early := false, 0
	step := 3
	if os.Getenv(everyCut) != "" {
		step = 1
	}
	for n := 1; !done; n += step {
		for _, left := range []string{"var/lib/certlab", "etc/systemd", "home/" + h.params.User + "/.ssh"} {
			require.NoError(t, os.RemoveAll(filepath.Join(h.root, left)))
		}
		h.write("etc/apt/sources.list", list)
		asked := len(h.region.requests())
		h.cutBefore(n)
		_, code := h.userData()
		if code == 0 {
			_, code = h.service()
		}
		done = code == 0
		h.cutBefore(1_000_000)
		if !h.has("etc/systemd/system/certlab-agent.service") {
			require.Len(t, h.region.requests(), asked)
			early++
			continue
		}
		if code != 0 {
			said, code := h.service() // user-data does not run again
			require.Zero(t, code, "cut before program %d: %s", n, said)
		}
		h.enrolled()
		require.Equal(t, h.params.Keys[0]+"\n", h.read("home/"+h.params.User+"/.ssh/authorized_keys"), "cut before program %d", n)
		require.Equal(t, "deb http://mirror.lab/ubuntu/ noble main\n", h.read("etc/apt/sources.list"), "cut before program %d", n)
		require.Equal(t, h.read(deployed+"agent/key.pem"), h.read(deployed+"agent/desired.json"), "cut before program %d: one key from the first try on", n)
		require.Less(t, n, 200)
		require.Less(t, early, 60)
	}
	require.NotZero(t, early)
}

// wrap puts a script in the place of each of the host's programs, which ends all that runs there before the program whose number is in
// the file cut.
func (h *host) wrap() {
	h.t.Helper()
	entries, err := os.ReadDir(h.bin)
	require.NoError(h.t, err)
	whole := h.t.TempDir()
	for _, e := range entries {
		path := filepath.Join(h.bin, e.Name())
		require.NoError(h.t, os.Rename(path, filepath.Join(whole, e.Name())))
		require.NoError(h.t, os.WriteFile(path, []byte(fmt.Sprintf(`#!/bin/sh
echo x >>%[1]s/count
n=0
while read -r _; do n=$((n + 1)); done <%[1]s/count
read -r cut <%[1]s/cut
[ "$n" -lt "$cut" ] || kill -KILL 0
exec %[2]s "$@"
`, h.bin, filepath.Join(whole, e.Name()))), 0o755))
	}
}

// cutBefore has the host's n-th program from now on end everything that runs there.
func (h *host) cutBefore(n int) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(filepath.Join(h.bin, "cut"), []byte(strconv.Itoa(n)+"\n"), 0o644))
	require.NoError(h.t, os.WriteFile(filepath.Join(h.bin, "count"), nil, 0o644))
}

// TestFaultAuthorityThatTheMachineTrustsIsNotTheLabs: curl and wget go on trusting the system's authorities when they are given one, unless
// they are told not to.
func TestFaultAuthorityThatTheMachineTrustsIsNotTheLabs(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("another /etc/ssl/certs takes root")
	}
	for _, tool := range []string{"curl", "wget", "python3"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tool)
			theirs := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(theirs, "ca-certificates.crt"), []byte(h.region.ca), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(theirs, "theirs.pem"), []byte(h.region.ca), 0o644))
			if tool == "curl" { // which looks for it by a hash of its name
				hash, err := exec.Command("openssl", "x509", "-hash", "-noout", "-in", filepath.Join(theirs, "theirs.pem")).Output()
				if err != nil {
					t.Skip("this machine has no openssl to prepare a directory of authorities with")
				}
				require.NoError(t, os.Symlink("theirs.pem", filepath.Join(theirs, strings.TrimSpace(string(hash))+".0")))
			}
			inside := func(command string) (string, int) {
				path := filepath.Join(t.TempDir(), "inside")
				require.NoError(t, os.WriteFile(path, []byte("exec /usr/bin/unshare -m /bin/sh -c '/bin/mount --bind "+theirs+" /etc/ssl/certs && "+command+"'\n"), 0o700))
				return h.run(path)
			}
			if said, code := inside("exit 0"); code != 0 {
				t.Skipf("mounting is not allowed here: %s", said)
			}
			if tool == "wget" { // whose system does trust it
				said, code := inside("exec wget -q --no-proxy -O /dev/null " + h.region.server.URL + "/enrol/v1/agent/x")
				require.Equal(t, 6, code, "not a matter of trust, but of rights: %s", said)
			}
			asked := len(h.region.requests())
			other, _, _ := authority(t)
			h.params.CAs, h.params.Patience = []string{other}, time.Second
			said, code := h.userData()
			require.Zero(t, code, said)
			said, code = inside("exec /bin/sh " + filepath.Join(h.root, deployed, "start.sh"))
			require.Equal(t, 78, code, said)
			require.Contains(t, said, "certlab: cannot reach the controller: "+tool+" "+h.region.server.URL+": ")
			require.Len(t, h.region.requests(), asked, "nobody is told the token")
		})
	}
}
