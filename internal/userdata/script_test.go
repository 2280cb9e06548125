package userdata

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/order"
)

func TestMachineGetsItsAgentWithWhicheverToolItHas(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "wget", "python3"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tool)
			h.params.Keys = []string{sshKeyOf(2048, "ann@desk"), sshKeyOf(1024, "$(reboot) 'x' `y`")}
			h.params.Proxy = order.Proxy{HTTP: "http://ann:hidden@proxy:3128"}
			h.params.Mirror = "http://mirror.lab/ubuntu"
			h.write("etc/apt/sources.list", "deb http://de.archive.ubuntu.com/ubuntu noble main\ndeb http://security.ubuntu.com/ubuntu noble-security main\n")
			h.write("etc/apt/sources.list.d/ubuntu.sources", "URIs: http://archive.ubuntu.com/ubuntu/\nURIs: http://ports.ubuntu.com/ubuntu-ports/\n")
			said, code := h.boot()
			require.Zero(t, code, said)
			require.Equal(t, "certlab: this machine's agent has enrolled\nrunning in "+h.root+"/"+deployed+"agent\n", said)
			var told order.EnrolConfig
			require.NoError(t, json.Unmarshal([]byte(h.read(deployed+"agent/told")), &told))
			require.Equal(t, order.EnrolConfig{Controllers: h.params.Controllers, CAs: h.params.CAs, Deployment: h.params.Deployment, Token: testToken}, told)
			require.True(t, h.has(deployed+"bundle/providers/certlab/manage.py"))
			require.Equal(t, "daemon-reload\nenable certlab-agent.service\nstart --no-block certlab-agent.service\n", h.read("systemctl"))
			unit := h.read("etc/systemd/system/certlab-agent.service")
			require.Contains(t, unit, "ExecStart=/bin/sh "+h.root+"/"+deployed+"start.sh\n")

			require.Equal(t, strings.Join(h.params.Keys, "\n")+"\n", h.read("home/"+h.params.User+"/.ssh/authorized_keys"))
			require.Equal(t, "Acquire::http::Proxy \"http://ann:hidden@proxy:3128\";\n", h.read("etc/apt/apt.conf.d/95certlab-proxy"))
			require.Equal(t, "deb http://mirror.lab/ubuntu/ noble main\ndeb http://security.ubuntu.com/ubuntu noble-security main\n", h.read("etc/apt/sources.list"))
			require.Equal(t, "URIs: http://mirror.lab/ubuntu/\nURIs: http://mirror.lab/ubuntu/\n", h.read("etc/apt/sources.list.d/ubuntu.sources"))
			h.modes()

			// What the person changes afterwards stays, and nothing is fetched again.
			h.write("home/"+h.params.User+"/.ssh/authorized_keys", "mine\n")
			h.write("etc/apt/sources.list", "deb http://archive.ubuntu.com/ubuntu mine\n")
			asked := len(h.region.requests())
			said, code = h.boot()
			require.Zero(t, code, said)
			require.Equal(t, "running in "+h.root+"/"+deployed+"agent\n", said)
			require.Equal(t, "mine\n", h.read("home/"+h.params.User+"/.ssh/authorized_keys"))
			require.Equal(t, "deb http://archive.ubuntu.com/ubuntu mine\n", h.read("etc/apt/sources.list"))
			require.Len(t, h.region.requests(), asked)
		})
	}
}

// modes fails if a file with a secret is for others' eyes, or the token is left anywhere.
func (h *host) modes() {
	h.t.Helper()
	require.NoError(h.t, filepath.Walk(h.root, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		require.NoError(h.t, err)
		if name := strings.TrimPrefix(path, h.root+"/"); name != deployed+"agent/told" { // the stand-in's own note
			require.NotContains(h.t, string(text), testToken, "the token is used up and stays in %s", name)
		}
		if strings.Contains(string(text), "ann:hidden@") {
			require.Zero(h.t, info.Mode()&0o077, "%s is for everybody", path)
		}
		return nil
	}))
}

// TestTokenIsInNoArgument looks at the arguments that every program is started with.
func TestTokenIsInNoArgument(t *testing.T) {
	t.Parallel()
	h := newHost(t, "curl", "wget", "python3")
	for _, name := range append([]string{"curl", "wget", "python3"}, programs...) {
		target, err := os.Readlink(filepath.Join(h.bin, name))
		require.NoError(t, err)
		// set -- keeps the wrapper from calling programs of its own.
		h.program(name, `printf '%s\n' "`+name+` $*" >>`+h.root+`/arguments; exec `+target+` "$@" #`)
	}
	h.region.answers = []func(http.ResponseWriter, *http.Request) bool{hangUp, hangUp} // so that all three are tried
	said, code := h.boot()
	require.Zero(t, code, said)
	arguments := h.read("arguments")
	for _, name := range []string{"curl ", "wget ", "python3 ", "tar "} {
		require.Contains(t, arguments, "\n"+name)
	}
	require.NotContains(t, arguments, testToken)
	require.NotContains(t, said, testToken)
	require.NotContains(t, h.read("var/log/certlab-agent.log")+h.read("dev/console"), testToken)
}

// hangUp ends the connection in the place of an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
	return true
}
