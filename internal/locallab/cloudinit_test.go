package locallab

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A testMetadata is what a region tells its machines.
type testMetadata struct {
	*httptest.Server
	mu      sync.Mutex
	script  string
	fetched int
	down    int // requests that are answered by an error before it works
	auth    string
}

func newTestMetadata(t *testing.T, script string) *testMetadata {
	m := &testMetadata{script: script}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.down > 0 {
			m.down--
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		m.auth = r.Header.Get("Authorization")
		switch r.URL.Path {
		case "/MAAS/metadata/2012-03-01/user-data":
			m.fetched++
			_, _ = w.Write([]byte(m.script))
		case "/MAAS/metadata/2012-03-01/meta-data/public-keys":
			_, _ = w.Write([]byte("ssh-ed25519 AAAA somebody\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *testMetadata) cloud(instance string) *Cloud {
	return &Cloud{InstanceID: instance, Hostname: "node-1", Metadata: m.URL + "/MAAS/metadata", ConsumerKey: "c", TokenKey: "t", TokenSecret: "s"}
}

func (m *testMetadata) times() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fetched
}

const testUserData = `#!/bin/sh
echo "ran as $(id -un), home <$HOME>"
echo $(( $(cat /var/tmp/runs 2>/dev/null || echo 0) + 1 )) > /var/tmp/runs
`

func TestUserDataRunsOncePerInstance(t *testing.T) {
	t.Parallel()
	metadata := newTestMetadata(t, testUserData)
	metadata.down = 1
	m := newTestMachine(t, func(s *Spec) { s.Cloud, s.InstanceID = metadata.cloud("abc234"), "abc234" })
	require.NoError(t, m.Boot(testContext(t)))
	finished := func() bool {
		_, code := sh(t, m, "test -e /run/cloud-init/result.json || test -e /var/lib/cloud/instance/boot-finished")
		return code == 0
	}
	eventually(t, "the user-data has run", finished)
	require.Equal(t, "ran as root, home <>", mustSh(t, m, "cat /var/log/cloud-init-output.log"))
	require.Equal(t, "1", mustSh(t, m, "cat /var/tmp/runs"))
	require.Equal(t, "abc234", mustSh(t, m, "cat /var/lib/cloud/data/instance-id"))
	require.Contains(t, mustSh(t, m, "cat /run/cloud-init/instance-data.json"), `"instance_id": "abc234"`)
	require.Contains(t, mustSh(t, m, "cat /root/.ssh/authorized_keys"), "somebody")
	require.Equal(t, strings.ToLower(m.ProductUUID()), mustSh(t, m, "cat /sys/class/dmi/id/product_uuid"))
	require.Equal(t, "600", mustSh(t, m, "stat -c %a /run/certlab-lab/cloud.json"), "it holds a key")
	require.Contains(t, metadata.auth, `oauth_signature="%26s"`)
	machineID := mustSh(t, m, "cat /etc/machine-id")

	require.NoError(t, m.Reboot(testContext(t)))
	eventually(t, "cloud-init was there after the reboot", func() bool {
		_, code := sh(t, m, "test -e /run/cloud-init/instance-data.json")
		return code == 0
	})
	require.Equal(t, "1", mustSh(t, m, "cat /var/tmp/runs"))
	require.Equal(t, 1, metadata.times())

	require.ErrorContains(t, m.Wipe(), "it is on")
	m.Kill()
	require.NoError(t, m.Wipe())
	require.NoError(t, m.Boot(testContext(t)))
	eventually(t, "the user-data has run on the new system", finished)
	require.Equal(t, "1", mustSh(t, m, "cat /var/tmp/runs"))
	require.Equal(t, 2, metadata.times())
	require.NotEqual(t, machineID, mustSh(t, m, "cat /etc/machine-id"))
}

func TestUserDataThatIsNoScriptIsKeptAndNotRun(t *testing.T) {
	t.Parallel()
	metadata := newTestMetadata(t, "#cloud-config\n{}\n")
	c := newCloudInit(*metadata.cloud("abc234"), t.TempDir())
	var out strings.Builder
	c.out = &out
	require.NoError(t, c.run())
	require.FileExists(t, c.path(cloudDir, "instances/abc234/sem/config_scripts_user"))
	require.NoFileExists(t, c.path(cloudDir, "instances/abc234/scripts/part-001"))
	require.Contains(t, out.String(), fmt.Sprintf("%d bytes", len(metadata.script)))
}
