package locallab

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A testRegion speaks to a lab's MAAS as a controller does.
type testRegion struct {
	l        *testLab
	url, key string
}

func (l *testLab) maas() *testRegion {
	l.t.Helper()
	r := &testRegion{l: l}
	for line := range strings.SplitSeq(l.must(Call{Op: "maas"}), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "maas-url":
			r.url = value
		case "maas-key":
			r.key = value
		}
	}
	require.NotEmpty(l.t, r.key)
	return r
}

// ask calls the region; with a form, by POST.
func (r *testRegion) ask(path string, form url.Values) (int, string) {
	r.l.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(testContext(r.l.t), method, r.url+"/api/2.0/"+path, body)
	require.NoError(r.l.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	parts := strings.Split(r.key, ":")
	req.Header.Set("Authorization", `OAuth oauth_version="1.0", oauth_signature_method="PLAINTEXT", oauth_consumer_key="`+parts[0]+`", oauth_token="`+parts[1]+
		`", oauth_signature="%26`+parts[2]+`", oauth_nonce="`+newUUID()+`", oauth_timestamp="`+jsonNumber(time.Now().Unix())+`"`)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.l.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(r.l.t, err)
	return resp.StatusCode, string(data)
}

func jsonNumber(n int64) string {
	data, _ := json.Marshal(n)
	return string(data)
}

func (r *testRegion) must(path string, form url.Values) string {
	r.l.t.Helper()
	code, body := r.ask(path, form)
	require.Equal(r.l.t, http.StatusOK, code, body)
	return body
}

type testNode struct {
	SystemID string   `json:"system_id"`
	Hostname string   `json:"hostname"`
	Status   string   `json:"status_name"`
	Power    string   `json:"power_state"`
	UUID     string   `json:"hardware_uuid"`
	IPs      []string `json:"ip_addresses"`
	Series   string   `json:"distro_series"`
}

func (r *testRegion) node(hostname string) testNode {
	r.l.t.Helper()
	var nodes []testNode
	require.NoError(r.l.t, json.Unmarshal([]byte(r.must("machines/?hostname="+hostname, nil)), &nodes))
	require.Len(r.l.t, nodes, 1)
	return nodes[0]
}

// deploy has a node deployed with a script, and waits for what MAAS calls deployed.
func (r *testRegion) deploy(hostname, script string) testNode {
	r.l.t.Helper()
	n := r.node(hostname)
	r.must("machines/op-allocate", url.Values{"system_id": {n.SystemID}})
	r.must("machines/"+n.SystemID+"/op-deploy", url.Values{"user_data": {base64.StdEncoding.EncodeToString([]byte(script))}})
	r.until(hostname, "Deployed")
	return r.node(hostname)
}

func (r *testRegion) until(hostname, status string) {
	r.l.t.Helper()
	eventually(r.l.t, hostname+" is "+status, func() bool { return r.node(hostname).Status == status })
}

// TestNodes takes a node through its life: deployed with user-data that really runs, rebooted, cut off and switched on by its BMC and by
// hand, over the lab's end in both ways, and released.
func TestNodes(t *testing.T) {
	t.Parallel()
	l := newTestLabWith(t, Options{Nodes: 2})
	r := l.maas()
	require.Equal(t, "Ready", r.node("node-2").Status)
	n := r.deploy("node-1", "#!/bin/sh\necho hello on the console > /dev/console\necho \"$(uname -n) $(cat /var/lib/cloud/data/instance-id)\" > /var/tmp/ran\n")
	eventually(t, "the user-data has run", func() bool {
		_, code := l.call(Call{Op: "exec", Target: "node-1", Args: []string{"test", "-e", "/run/cloud-init/result.json"}})
		return code == 0
	})
	require.Equal(t, "node-1 "+n.SystemID, l.on("node-1", "cat /var/tmp/ran"))
	require.Equal(t, strings.ToLower(n.UUID), l.on("node-1", "cat /sys/class/dmi/id/product_uuid"))
	require.Contains(t, l.on("node-1", "cat /etc/hosts"), n.IPs[0]+" node-1")
	require.Contains(t, l.must(Call{Op: "console", Target: "node-1"}), "hello on the console")
	require.Contains(t, l.must(Call{Op: "status"}), "Deployed")
	_, code := l.call(Call{Op: "exec", Target: "node-2", Args: []string{"true"}})
	require.NotZero(t, code, "it is off")
	out, code := l.call(Call{Op: "on", Target: "node-2"})
	require.NotZero(t, code)
	require.Contains(t, out, "nothing is installed on it")

	l.on("node-1", "echo kept > /etc/kept")
	l.must(Call{Op: "reboot", Target: "node-1"})
	require.Equal(t, "kept", l.on("node-1", "cat /etc/kept"))
	power := func() string { return r.must("machines/"+n.SystemID+"/?op=query_power_state", nil) }
	require.JSONEq(t, `{"state": "on"}`, power())
	l.must(Call{Op: "kill", Target: "node-1"})
	require.JSONEq(t, `{"state": "off"}`, power())
	r.must("machines/"+n.SystemID+"/op-power_on", url.Values{})
	eventually(t, "it is on", func() bool {
		_, code := l.call(Call{Op: "exec", Target: "node-1", Args: []string{"true"}})
		return code == 0
	})
	l.must(Call{Op: "freeze", Target: n.SystemID})
	require.Contains(t, l.must(Call{Op: "status"}), "frozen")
	require.JSONEq(t, `{"state": "on"}`, power())
	l.must(Call{Op: "thaw", Target: "node-1"})

	_, err := l.client(nil, nil).Down(testContext(t))
	require.NoError(t, err)
	require.Empty(t, l.leftovers())
	l.upWith(Options{})
	eventually(t, "the node is back with the lab", func() bool {
		out, code := l.call(Call{Op: "exec", Target: "node-1", Args: []string{"cat", "/etc/kept"}})
		return code == 0 && out == "kept"
	})
	require.Equal(t, "Deployed", r.node("node-1").Status)

	r.must("machines/"+n.SystemID+"/op-release", url.Values{})
	l.killProcess() // what was answered is on disk
	eventually(t, "nothing is left", func() bool { return len(l.leftovers()) == 0 })
	l.upWith(Options{})
	r.until("node-1", "Ready")
	r.deploy("node-1", "#!/bin/sh\n")
	_, code = l.call(Call{Op: "exec", Target: "node-1", Args: []string{"test", "-e", "/etc/kept"}})
	require.NotZero(t, code, "it is another system")
}

func TestNodeFaults(t *testing.T) {
	t.Parallel()
	l := newTestLabWith(t, Options{Nodes: 1})
	r := l.maas()
	out, code := l.call(Call{Op: "fault", Target: "node-1", Args: []string{"sulks"}})
	require.NotZero(t, code)
	require.Contains(t, out, `no fault "sulks": choose bmc-refuses, `)
	out, code = l.call(Call{Op: "fault", Target: "node-7", Args: []string{"bmc-refuses"}})
	require.NotZero(t, code)
	require.Contains(t, out, `the lab has no node "node-7"`)

	l.must(Call{Op: "fault", Target: "node-1", Args: []string{"deploy-fails"}})
	n := r.node("node-1")
	r.must("machines/"+n.SystemID+"/op-deploy", url.Values{})
	r.until("node-1", "Failed deployment")
	l.must(Call{Op: "fault", Target: "node-1", Args: []string{"none"}})
	r.must("machines/"+n.SystemID+"/op-release", url.Values{})
	r.until("node-1", "Ready")
	r.deploy("node-1", "#!/bin/sh\n")
}

func TestLabWithoutMAAS(t *testing.T) {
	t.Parallel()
	l := newTestLab(t)
	for _, call := range []Call{{Op: "maas"}, {Op: "fault", Target: "node-1", Args: []string{"none"}}} {
		out, code := l.call(call)
		require.NotZero(t, code)
		require.Contains(t, out, "the lab has no MAAS")
	}
	require.NotContains(t, l.must(Call{Op: "status"}), "NODE")
}
