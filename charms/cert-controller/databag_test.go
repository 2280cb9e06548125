package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/order"
)

func TestFaultTwoUnitsThatClaimOneMachineAreSaidAndTheFirstWorksOn(t *testing.T) {
	t.Parallel()
	sameHost := agentBag(1, "node0")
	sameKey := agentBag(1, "node1")
	sameKey["public-key"] = agentBag(0, "node0")["public-key"]
	for what, c := range map[string]struct {
		bag     map[string]string
		message string
	}{
		"by its identity": {sameHost, "checkbox/0 and checkbox/1 claim the same machine (node0): remove one of them"},
		"by its key":      {sameKey, "checkbox/0 and checkbox/1 claim the same machine (node1): remove one of them"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l, id := ready(t, 2)
			l.WithData(id, "checkbox/1", c.bag)
			l.FireRelation("changed", id, "checkbox/0")
			first := l.desired().Agents[0]
			l.FireRelation("changed", id, "checkbox/1").RequireStatus("blocked", c.message)
			require.Equal(t, []order.EnrolledAgent{first}, l.desired().Agents)
			l.Fire("config-changed").RequireStatus("blocked", c.message)
			require.Equal(t, []order.EnrolledAgent{first}, l.desired().Agents)
			l.FireRelation("departed", id, "checkbox/0")
			l.Fire("update-status").RequireStatus("active", "0 machines, 0 running")
			require.Equal(t, []string{"checkbox/1"}, l.enrolled())
		})
	}
}

func TestFaultAMalformedAgentsDatabagGivesNoAccessAndIsSaid(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 2)
	l.FireRelation("changed", id, "checkbox/0").RequireSuccess()
	l.FireRelation("changed", id, "checkbox/1").RequireSuccess()
	good := agentBag(1, "node1")
	identity := func(change func(*order.Identity)) string {
		var i order.Identity
		require.NoError(t, json.Unmarshal([]byte(good["identity"]), &i))
		change(&i)
		data, err := json.Marshal(i)
		require.NoError(t, err)
		return string(data)
	}
	for _, c := range []struct{ key, value, message string }{
		{"public-key", `"non-sense"`, `cannot use databag key "public-key": not base64`},
		{"public-key", `"AAAA"`, `cannot use databag key "public-key": not a public key`},
		{"public-key", strings.Repeat("x", 1<<20), `cannot use databag key "public-key": 1048576 bytes, at most 65536 are allowed`},
		{"public-key", `not JSON`, `cannot use databag key "public-key": invalid character`},
		{"public-key", `["a"]`, `cannot use databag key "public-key": json: cannot unmarshal array`},
		{"identity", strings.Repeat("[", 60000), `cannot use databag key "identity": `},
		{"identity", `{"hostname":"a","hostname":""}`, `cannot use databag key "identity": no hostname`},
		{"identity", `{"hostname":7}`, `cannot use databag key "identity": json: cannot unmarshal number`},
		{"identity", identity(func(i *order.Identity) { i.Hostname = strings.Repeat("n", 10000) }), `cannot use databag key "identity": Hostname is not one line of at most 255 bytes`},
		{"identity", identity(func(i *order.Identity) { i.Kernel = "6.8\n\x1b[2J" }), `cannot use databag key "identity": Kernel is not one line of at most 255 bytes`},
	} {
		l.WithData(id, "checkbox/1", map[string]string{c.key: c.value})
		r := l.FireRelation("changed", id, "checkbox/1").RequireSuccess()
		require.Equal(t, "blocked", r.Status().Name, c.value)
		require.Contains(t, r.Status().Message, "refresh checkbox/1: "+c.message)
		require.Less(t, len(r.Status().Message), 400)
		require.Equal(t, []string{"checkbox/0"}, l.enrolled(), "the others work on")
		l.WithData(id, "checkbox/1", good)
		l.FireRelation("changed", id, "checkbox/1").RequireStatus("active", "0 machines, 0 running")
		require.Len(t, l.enrolled(), 2)
	}
}

// Juju may drop a unit without stop, remove or storage-detaching, and deploy one of the same name on the machine.
func TestFaultWhatAUnitOfTheSameNameHasLeftIsNotTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t, hookstest.Fresh())
	l.publish("CA one")
	l.WithStorage("data", l.storage)
	left := order.ControllerDesired{Unit: "cert-controller/0", ModelUUID: "another", DataDir: "/gone",
		Agents: []order.EnrolledAgent{{Relation: "cert-agents:0", Unit: "checkbox/0", PublicKey: "of another model"}}}
	data, err := json.Marshal(left)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(l.serviceDir(), order.ControllerDesiredFile), data, 0o600))
	for _, id := range []string{"data/0", "data/7"} {
		require.NoError(t, os.WriteFile(filepath.Join(l.base, storageFile), fmt.Appendf(nil, `{"id":%q,"location":"/gone"}`, id), 0o644))
		r := l.FireStorage("attached", "data/0").RequireSuccess()
		require.Equal(t, l.storage, l.desired().DataDir)
		require.Empty(t, l.enrolled())
		require.Contains(t, strings.Join(r.Log, "\n"), "forgetting a storage that is not this unit's")
		l.Change(func(state *jujuState) error {
			delete(state.Units["cert-controller/0"].Uniter.Storage, "data/0")
			return nil
		})
	}
	l.Fire("install").RequireStatus("active", "0 machines, 0 running")
}
