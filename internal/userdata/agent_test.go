package userdata

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/cert"
	"certlab/internal/order"
)

// realAgent is the path of certlab-agent: of $CERTLAB_BIN, where make puts it, or built now.
func realAgent(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("CERTLAB_BIN"); bin != "" {
		return filepath.Join(bin, "certlab-agent")
	}
	path := filepath.Join(t.TempDir(), "certlab-agent")
	out, err := exec.Command("go", "build", "-o", path, "certlab/cmd/certlab-agent").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// TestRealAgentEnrolsAndSaysHowItIs goes all the way: user-data, a bundle with the real agent, its enrolment by the controller's rules, and
// its first words over mutual TLS.
func TestRealAgentEnrolsAndSaysHowItIs(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl")
	binary, err := os.ReadFile(realAgent(t))
	require.NoError(t, err)
	h.region.bundle = bundleOf(t, string(binary))
	var macs []string
	interfaces, err := net.Interfaces()
	require.NoError(t, err)
	for _, i := range interfaces {
		macs = append(macs, i.HardwareAddr.String())
	}
	instance, _ := os.ReadFile("/var/lib/cloud/data/instance-id")
	uuid, _ := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if strings.Join(macs, "") == "" && len(uuid) == 0 {
		t.Skip("this machine has neither a network card nor a product UUID that would tell which it is")
	}
	machine := cert.Provided{ID: strings.TrimSpace(string(instance)), Hostname: "node7", MACs: macs, ProductUUID: strings.TrimSpace(string(uuid))}
	if len(machine.ID) != 6 {
		machine.ID = ""
	}
	deployment := cert.Deployment{ID: h.params.Deployment, Phase: cert.PhaseBoot, TokenHash: cert.HashSecret(testToken)}
	statuses := make(chan order.Status, 100)
	h.region.also = func(w http.ResponseWriter, r *http.Request) bool {
		key := ""
		if len(r.TLS.PeerCertificates) > 0 {
			key = base64.StdEncoding.EncodeToString(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		}
		switch r.URL.Path {
		case "/enrol/v1/enrol":
			var e order.Enrolment
			if json.NewDecoder(r.Body).Decode(&e) != nil || e.PublicKey != key {
				say(w, http.StatusForbidden, "another's key")
				return true
			}
			if err := cert.CheckEnrolment(deployment, machine, e); err != nil {
				say(w, http.StatusForbidden, err.Error())
				return true
			}
			deployment.AgentKey = key
			json.NewEncoder(w).Encode(order.Enrolled{Desired: order.AgentDesired{Checkbox: order.CheckboxSource{Source: "path", Path: "/nothing/checkbox-cli"}}})
		case "/agent/v1/poll":
			json.NewEncoder(w).Encode(order.Poll{})
		case "/agent/v1/status":
			var s order.Status
			if key == deployment.AgentKey && json.NewDecoder(r.Body).Decode(&s) == nil {
				statuses <- s
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			return false
		}
		return true
	}
	said, code := h.userData()
	require.Zero(t, code, said)
	log, err := os.Create(filepath.Join(h.root, "log"))
	require.NoError(t, err)
	defer log.Close()
	// It is the unit's main process from the first line on: what runs is the agent, not a shell around it.
	service := exec.Command("/bin/sh", filepath.Join(h.root, deployed, "start.sh"))
	service.Env = []string{"PATH=" + h.bin}
	service.Stdout, service.Stderr, service.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, service.Start())
	defer func() {
		syscall.Kill(-service.Process.Pid, syscall.SIGKILL)
		service.Wait()
	}()
	for deadline := time.After(time.Minute); ; {
		var s order.Status
		select {
		case s = <-statuses:
		case <-deadline:
			require.FailNow(t, "the agent says nothing", h.read("log"))
		}
		if s.Problem == "" {
			continue // it is looking for Checkbox
		}
		require.Equal(t, "set checkbox-path to where checkbox-cli is: there is nothing at /nothing/checkbox-cli", s.Problem)
		require.NotEmpty(t, s.BootID)
		break
	}
	running, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", service.Process.Pid))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(h.root, deployed, "bundle", "certlab-agent"), running)
	require.Contains(t, h.read(deployed+"agent/desired.json"), filepath.Join(h.root, deployed, "bundle", "providers", "certlab"))
	h.enrolled()
	h.modes()
}
