package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

func TestFaultAMalformedControllersDatabagIsSaidAndTheLastGoodOneHolds(t *testing.T) {
	t.Parallel()
	l, id := related(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	good := l.desired()
	many, err := json.Marshal(strings.Split(strings.Repeat("https://10.0.0.2:8443 ", 51), " ")[:51])
	require.NoError(t, err)
	for _, c := range []struct{ key, value, message string }{
		{"urls", `["http://10.0.0.2"]`, `cannot use databag key "urls": "http://10.0.0.2" is not an https URL`},
		{"urls", `["https://user:hunter2@10.0.0.2"]`, `is not an https URL`},
		{"urls", `["https://` + strings.Repeat("a", 1000) + `"]`, `is not an https URL`},
		{"urls", strings.Repeat("x", 1<<20), `cannot use databag key "urls": 1048576 bytes, at most 65536 are allowed`},
		{"urls", `not JSON`, `cannot use databag key "urls": invalid character`},
		{"urls", `{"a":1,"a":2}`, `cannot use databag key "urls": json: cannot unmarshal object`},
		{"urls", string(many), `51 urls and 1 cas, at most 50 of each are allowed`},
		{"cas", `["-----BEGIN CERTIFICATE-----"]`, `cannot use databag key "cas": entry 0 is not one PEM certificate`},
		{"cas", `["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]`, `cannot use databag key "cas": entry 0: x509`},
		{"cas", `[7]`, `cannot use databag key "cas": json: cannot unmarshal number`},
	} {
		l.WithData(id, "cert-controller", map[string]string{c.key: c.value})
		r := l.FireRelation("changed", id, "cert-controller").RequireSuccess()
		require.Equal(t, "blocked", r.Status().Name, c.value)
		require.Contains(t, r.Status().Message, "the controller's databag is of no use, refresh both charms: ")
		require.Contains(t, r.Status().Message, c.message)
		require.Less(t, len(r.Status().Message), 400)
		require.Equal(t, good, l.desired(), "%s=%.50q", c.key, c.value)
		l.WithData(id, "cert-controller", controllerBag())
		l.FireRelation("changed", id, "cert-controller").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	}
}

// Juju may end a relation without its hooks having run: the machine was unreachable, say.
func TestFaultARelationWhoseEndWasNeverToldIsLeftAtTheNextHook(t *testing.T) {
	t.Parallel()
	l, _ := related(t)
	l.Fire("config-changed").RequireStatus("active", "idle, checkbox 7.3.0, enrolled")
	require.NotEmpty(t, l.desired().ControllerURLs)
	l.Change(func(state *jujuState) error {
		clear(state.Relations)
		clear(state.Units["checkbox/0"].Uniter.Relations)
		return nil
	})
	l.agent(func(s *order.AgentStatus) { s.Controller = "" })
	l.Fire("update-status").RequireStatus("active", "idle, checkbox 7.3.0, on its own")
	require.Empty(t, l.desired().ControllerURLs)
	require.Empty(t, l.desired().ControllerCAs)
}

// Juju may drop a unit without stop and remove, and deploy one of the same name on the machine.
func TestFaultWhatAUnitOfTheSameNameHasLeftIsNotTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t, hookstest.Fresh())
	l.WithRelation("cert-agents", "controller", 1)
	id := l.RelationID("cert-agents")
	l.WithData(id, "controller", controllerBag())
	for name, text := range map[string]string{
		"relation.json":      `{"id":"` + id + `","app":"of-another-model"}`,
		"resource.json":      `{"path":"/var/lib/juju/gone"}`,
		"agent/desired.json": `{"unit":"checkbox/0","model_uuid":"another","controller_urls":["https://10.9.9.9:1"]}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(l.base, name), []byte(text), 0o600))
	}
	l.agent(func(s *order.AgentStatus) { s.Controller = "enrolled" })
	for _, r := range l.Pending() {
		r.RequireSuccess()
	}
	require.Equal(t, []string{"https://10.0.0.2:8443"}, l.desired().ControllerURLs)
	require.Equal(t, "8cac5806-7ba1-4d95-8a50-ce11f7151656", l.desired().ModelUUID)
}
