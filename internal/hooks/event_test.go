package hooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
)

func TestParseEnvReadsRealEnvironments(t *testing.T) {
	t.Parallel()
	relation := func(kind hooks.Kind) hooks.Event {
		return hooks.Event{Kind: kind, Hook: "req-" + string(kind), Relation: "req", RelationID: "req:3", RemoteApp: "pa"}
	}
	changed := relation(hooks.RelationChanged)
	changed.RemoteUnit = "pa/0"
	departed := relation(hooks.RelationDeparted)
	departed.RemoteUnit, departed.DepartingUnit = "pa/0", "pa/0"
	want := map[string]hooks.Event{
		"pa-0.actions_echo":                {Kind: hooks.RunAction, ActionName: "echo", ActionID: "67"},
		"pb-0.actions_big":                 {Kind: hooks.RunAction, ActionName: "big", ActionID: "43"},
		"pb-0.hooks_config-changed":        {Kind: hooks.ConfigChanged, Hook: "config-changed"},
		"pb-0.hooks_install":               {Kind: hooks.Install, Hook: "install"},
		"pb-0.hooks_secret-changed":        {Kind: hooks.SecretChanged, Hook: "secret-changed", SecretID: "secret:unsql4nrj2h5sntg9dag"},
		"pb-0.hooks_req-relation-created":  relation(hooks.RelationCreated),
		"pb-0.hooks_req-relation-changed":  changed,
		"pb-0.hooks_req-relation-departed": departed,
		"pb-0.hooks_req-relation-broken":   relation(hooks.RelationBroken),
		"probe-0.hooks_data-storage-attached": {Kind: hooks.StorageAttached, Hook: "data-storage-attached", StorageID: "data/0",
			StorageKind: "filesystem", StorageLocation: "/srv/probe"},
	}
	files, err := filepath.Glob("testdata/env/*.env")
	require.NoError(t, err)
	require.Len(t, files, len(want))
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		env, event, err := hooks.ParseEnv(strings.Split(string(text), "\n"))
		require.NoError(t, err, file)
		name := strings.TrimSuffix(filepath.Base(file), ".env")
		require.Equal(t, want[name], event, file)

		unit := strings.Replace(name[:strings.Index(name, ".")], "-", "/", 1)
		require.Equal(t, hooks.Env{
			UnitName: unit, ModelUUID: "e9824888-ad46-4197-8a05-f3d6e755c569", ModelName: "lab1",
			CharmDir:  "/var/lib/juju/agents/" + env.UnitTag() + "/charm",
			MachineID: "0", JujuVersion: "4.0.15", ContextID: env.ContextID, Proxy: hooks.Proxy{No: "127.0.0.1,localhost,::1"},
		}, env)
		require.True(t, strings.HasPrefix(env.ContextID, unit+"-"))
		require.Equal(t, 4, env.JujuMajor())
	}
}

func TestParseEnvReadsWhatTheSamplesDoNotHave(t *testing.T) {
	t.Parallel()
	base := []string{"JUJU_UNIT_NAME=cert-controller/12", "JUJU_VERSION=3.6.28", "JUJU_CHARM_HTTP_PROXY=http://proxy:3128",
		"JUJU_CHARM_HTTPS_PROXY=http://proxy:3129", "JUJU_CHARM_FTP_PROXY=http://proxy:3130", "JUJU_AVAILABILITY_ZONE=rack-2"}
	for _, test := range []struct {
		about string
		env   []string
		event hooks.Event
	}{
		{"juju exec", []string{"JUJU_ACTION_NAME=juju-exec", "JUJU_ACTION_UUID=165", "JUJU_HOOK_NAME="}, hooks.Event{Kind: hooks.Exec}},
		{"juju-exec on the machine", nil, hooks.Event{Kind: hooks.Exec}},
		{"another application's databag has changed",
			[]string{"JUJU_DISPATCH_PATH=hooks/cert-agents-relation-changed", "JUJU_RELATION=cert-agents", "JUJU_RELATION_ID=cert-agents:7", "JUJU_REMOTE_APP=checkbox", "JUJU_REMOTE_UNIT="},
			hooks.Event{Kind: hooks.RelationChanged, Hook: "cert-agents-relation-changed", Relation: "cert-agents", RelationID: "cert-agents:7", RemoteApp: "checkbox"}},
		{"the other application goes away",
			[]string{"JUJU_DISPATCH_PATH=hooks/cert-agents-relation-broken", "JUJU_RELATION=cert-agents", "JUJU_RELATION_ID=cert-agents:2", "JUJU_REMOTE_APP=", "JUJU_REMOTE_UNIT="},
			hooks.Event{Kind: hooks.RelationBroken, Hook: "cert-agents-relation-broken", Relation: "cert-agents", RelationID: "cert-agents:2"}},
		{"an own secret's revision is not needed any more",
			[]string{"JUJU_DISPATCH_PATH=hooks/secret-remove", "JUJU_SECRET_ID=g1a6hkg3kbj25ult13bg", "JUJU_SECRET_LABEL=agent-creds", "JUJU_SECRET_REVISION=2"},
			hooks.Event{Kind: hooks.SecretRemove, Hook: "secret-remove", SecretID: "g1a6hkg3kbj25ult13bg", SecretLabel: "agent-creds", SecretRevision: 2}},
		{"a hook that is not known yet", []string{"JUJU_DISPATCH_PATH=hooks/moon-full"}, hooks.Event{Kind: "moon-full", Hook: "moon-full"}},
	} {
		env, event, err := hooks.ParseEnv(append(base[:len(base):len(base)], test.env...))
		require.NoError(t, err, test.about)
		require.Equal(t, test.event, event, test.about)
		require.Equal(t, test.event.RelationID != "", event.IsRelation(), test.about)
		require.Equal(t, "cert-controller", env.App())
		require.Equal(t, "unit-cert-controller-12", env.UnitTag())
		require.Equal(t, 3, env.JujuMajor())
		require.Equal(t, "rack-2", env.AvailabilityZone)
		require.Equal(t, hooks.Proxy{HTTP: "http://proxy:3128", HTTPS: "http://proxy:3129", FTP: "http://proxy:3130"}, env.Proxy)
	}
}

func TestSecretIDsAreComparedBare(t *testing.T) {
	t.Parallel()
	for _, id := range []hooks.SecretID{"g1a6", "secret:g1a6", "secret://8cac5806-7ba1-4d95-8a50-ce11f7151656/g1a6", "secret:8cac5806/g1a6"} {
		require.Equal(t, "g1a6", id.Bare())
	}
}

func TestParseEnvRefusesWhatJujuDoesNotSet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "cannot tell what to do: JUJU_UNIT_NAME is not set (run this through Juju: juju exec --unit UNIT ./dispatch)"},
		{[]string{"JUJU_UNIT_NAME=../0"}, `cannot tell what to do: JUJU_UNIT_NAME is "../0", which is no unit's name`},
		{[]string{"JUJU_UNIT_NAME=checkbox"}, `cannot tell what to do: JUJU_UNIT_NAME is "checkbox", which is no unit's name`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/"}, `cannot tell what to do: JUJU_DISPATCH_PATH is "hooks/"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/x/y"}, `cannot tell what to do: JUJU_DISPATCH_PATH is "hooks/x/y"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=bin/x"}, `cannot tell what to do: JUJU_DISPATCH_PATH is "bin/x"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/b-relation-joined", "JUJU_RELATION=c", "JUJU_RELATION_ID=c:1"},
			`cannot tell what to do: hook "b-relation-joined" does not belong to JUJU_RELATION "c"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/c-relation-joined", "JUJU_RELATION=c", "JUJU_RELATION_ID=c"},
			`cannot tell what to do: JUJU_RELATION_ID is "c"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/config-changed", "JUJU_STORAGE_ID=data/0"},
			`cannot tell what to do: hook "config-changed" does not belong to JUJU_STORAGE_ID "data/0"`},
		{[]string{"JUJU_UNIT_NAME=a/0", "JUJU_DISPATCH_PATH=hooks/secret-remove", "JUJU_SECRET_ID=x", "JUJU_SECRET_REVISION=two"},
			`cannot tell what to do: JUJU_SECRET_REVISION is "two"`},
	} {
		_, _, err := hooks.ParseEnv(test.env)
		require.EqualError(t, err, test.want)
	}
}
