package hooks_test

import (
	"context"
	"strings"
	"testing"

	"certlab/internal/hooks"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// seen is config-get's answer on Juju 4.0.15 for options of each type, two of them without a value.
const seen = `{"b":false,"f":1.5,"i":3,"nodef":null,"s":"hello","sec":null}`

func TestConfigIsDecodedStrictlyAndReadOnce(t *testing.T) {
	t.Parallel()
	type options struct {
		B     bool           `config:"b"`
		F     float64        `config:"f"`
		I     int64          `config:"i"`
		NoDef *string        `config:"nodef"`
		S     string         `config:"s"`
		Sec   hooks.SecretID `config:"sec"`
	}
	juju := &answers{out: map[string]string{"config-get": seen}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		got := options{Sec: "left over"}
		require.NoError(t, u.Config(ctx, &got))
		require.Equal(t, options{F: 1.5, I: 3, S: "hello"}, got)

		var less struct {
			B   bool `config:"b"`
			S   int  `config:"s"`
			New bool `config:"new"`
		}
		require.EqualError(t, u.Config(ctx, &less), strings.Join([]string{
			`cannot read option "s": not an integer`,
			`cannot read option "new": Juju does not know it`,
			`cannot read option "f": the charm does not know it`,
			`cannot read option "i": the charm does not know it`,
			`cannot read option "nodef": the charm does not know it`,
			`cannot read option "sec": the charm does not know it`}, "\n"))
	})
	require.Equal(t, []string{"config-get --all --format json"}, juju.lines())
}

func TestConfigTakesNumbersAsJujuWritesThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`3`: "", `3.0`: "", `3e0`: "", `3.5`: "not an integer", `"3"`: "not an integer", `true`: "not an integer",
		`9223372036854775808`: "out of range", `1e300`: "out of range", `[3]`: "not an integer",
	} {
		juju := &answers{out: map[string]string{"config-get": `{"n":` + text + `}`}}
		reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
			var got struct {
				N *int64 `config:"n"`
			}
			err := u.Config(ctx, &got)
			if want == "" {
				require.NoError(t, err, text)
				require.EqualValues(t, 3, *got.N)
			} else {
				require.EqualError(t, err, `cannot read option "n": `+want, text)
			}
		})
	}
}

func TestStructsThatCannotHoldOptionsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := hooks.ConfigFields(struct{ Port int }{})
	require.ErrorContains(t, err, "field Port has no config tag")
	_, err = hooks.ConfigFields(struct {
		port int `config:"port"`
	}{1})
	require.ErrorContains(t, err, "not exported")
	_, err = hooks.ConfigFields(struct {
		A, B string `config:"x"`
	}{})
	require.ErrorContains(t, err, `two fields for "x"`)
	_, err = hooks.ParamFields(struct {
		L []string `param:"list"`
	}{})
	require.ErrorContains(t, err, "is a []string")
	_, err = hooks.ConfigFields("x")
	require.ErrorContains(t, err, "want a struct")

	got, err := hooks.ParamFields(&struct {
		N int      `param:"n"`
		F *float64 `param:"f"`
	}{})
	require.NoError(t, err)
	require.Equal(t, []hooks.Field{{Name: "n", Type: "integer"}, {Name: "f", Type: "number", Optional: true}}, got)
}

func TestRelationReadsCostOneToolEach(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{
		"relation-ids":  `["cluster:7","cluster:0"]`,
		"relation-list": `["worker/10","worker/2"]`,
		"relation-list --app --format json -r cluster:0":             `"worker"`,
		"relation-get --format json -r cluster:0 -- - worker/2":      `{"a":"1","ingress-address":"10.77.0.11"}`,
		"relation-get --format json -r cluster:0 --app -- - worker":  `{}`,
		"relation-get --format json -r cluster:0 --app -- - nothing": `null`,
		"relation-model-get": `{"uuid":"e9824888-ad46-4197-8a05-f3d6e755c569"}`,
		"goal-state":         `{"units":{"probe/0":{"status":"waiting","since":"2026-11-23 08:53:07Z"}},"relations":{}}`,
		"is-leader":          `true`,
	}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		for range 2 {
			ids, err := u.RelationIDs(ctx, "cluster")
			require.NoError(t, err)
			require.Equal(t, []string{"cluster:0", "cluster:7"}, ids)
			ids[0] = "scribbled on"
			units, err := u.RelationUnits(ctx, "cluster:0")
			require.NoError(t, err)
			require.Equal(t, []string{"worker/10", "worker/2"}, units)
			app, err := u.RelationApp(ctx, "cluster:0")
			require.NoError(t, err)
			require.Equal(t, "worker", app)
			bag, err := u.RelationGet(ctx, "cluster:0", "worker/2")
			require.NoError(t, err)
			require.Equal(t, map[string]string{"a": "1", "ingress-address": "10.77.0.11"}, bag)
			bag["a"] = "scribbled on"
			bag, err = u.RelationGetApp(ctx, "cluster:0", "worker")
			require.NoError(t, err)
			require.Empty(t, bag)
			bag, err = u.RelationGetApp(ctx, "cluster:0", "nothing")
			require.NoError(t, err)
			require.Empty(t, bag)
			goal, err := u.GoalState(ctx)
			require.NoError(t, err)
			require.Equal(t, "waiting", goal.Units["probe/0"].Status)
			leader, err := u.IsLeader(ctx)
			require.NoError(t, err)
			require.True(t, leader)
		}
		model, err := u.RelationModel(ctx, "cluster:0")
		require.NoError(t, err)
		require.Equal(t, u.Env.ModelUUID, model)
	})
	require.Len(t, juju.lines(), 9)
}

func TestABrokenRelationAndADetachingStorageAreNotListed(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"relation-ids": `["req:3","req:4"]`, "storage-list": `["data/0"]`}}
	reconcileIn(t, juju, hookEnv("hooks/req-relation-broken", "JUJU_RELATION=req", "JUJU_RELATION_ID=req:3"), func(ctx context.Context, u *hooks.Unit) {
		ids, err := u.RelationIDs(ctx, "req")
		require.NoError(t, err)
		require.Equal(t, []string{"req:4"}, ids)
	})
	reconcileIn(t, juju, hookEnv("hooks/data-storage-detaching", "JUJU_STORAGE_ID=data/0", "JUJU_STORAGE_LOCATION=/srv"), func(ctx context.Context, u *hooks.Unit) {
		ids, err := u.StorageIDs(ctx, "data")
		require.NoError(t, err)
		require.Empty(t, ids)
	})
}

func TestADatabagIsWrittenOnlyWhereItDiffers(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"relation-get": `{"same":"1","old":"2","gone":"3","left":"4"}`}}
	odd := "lines\nand \"quotes\" and \u007f and # : yes"
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		require.NoError(t, u.RelationSet(ctx, "req:1", map[string]string{"same": "1", "never": ""}))
		require.NoError(t, u.RelationSet(ctx, "req:1", map[string]string{"same": "1", "old": "22", "gone": "", "new": "yes", "odd": odd}))
		require.NoError(t, u.RelationSet(ctx, "req:1", map[string]string{"same": "1", "old": "22", "gone": "", "new": "yes", "odd": odd}))
		bag, err := u.RelationGet(ctx, "req:1", "probe/0")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"same": "1", "old": "22", "left": "4", "new": "yes", "odd": odd}, bag)
		require.NoError(t, u.RelationSetApp(ctx, "req:1", map[string]string{"same": "0"}))
		require.NoError(t, u.RelationWriteApp(ctx, "req:2", map[string]string{"a": "b"}))
		require.ErrorContains(t, u.RelationWrite(ctx, "req:2", map[string]string{"a=": "b"}), "no setting's name")
	})
	require.Equal(t, []string{
		"relation-get --format json -r req:1 -- - probe/0",
		"relation-set -r req:1 --file -",
		"relation-get --format json -r req:1 --app -- - probe",
		"relation-set -r req:1 --app --file -",
		"relation-set -r req:2 --app --file -",
	}, juju.lines())
	var written map[string]string
	require.NoError(t, yaml.Unmarshal(juju.calls[1].Stdin, &written))
	require.Equal(t, map[string]string{"old": "22", "gone": "", "new": "yes", "odd": odd}, written)
	require.Equal(t, "a: b\n", string(juju.calls[4].Stdin))
}

func TestStateIsWrittenOnlyWhereItDiffers(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"state-get": `{"a":"1","b":"2"}`}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		require.NoError(t, u.StateSet(ctx, map[string]string{"a": "1", "none": ""}))
		require.NoError(t, u.StateSet(ctx, map[string]string{"a": "1", "b": "", "c": "3"}))
		state, err := u.StateGet(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "1", "c": "3"}, state)
		require.EqualError(t, u.StateSet(ctx, map[string]string{"big": strings.Repeat("x", 65537)}),
			`cannot keep "big" in the unit's state: it has 65537 bytes, at most 65536 are allowed`)
	})
	require.Equal(t, []string{"state-get --format json", "state-set --file -", "state-delete -- b"}, juju.lines())
	require.Equal(t, "c: \"3\"\n", string(juju.calls[1].Stdin))
}

func TestNetworkIsReadAsJujuPrintsIt(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{
		"network-get": `{"bind-addresses":[{"mac-address":"fe:17:1b:4f:b2:21","interface-name":"eth0","addresses":[{"hostname":"10.77.0.11","value":"10.77.0.11","cidr":"10.77.0.0/24"}]}],"egress-subnets":["10.77.0.11/32"],"ingress-addresses":["10.77.0.11"]}`,
	}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		network, err := u.NetworkGet(ctx, "cluster")
		require.NoError(t, err)
		require.Equal(t, "10.77.0.11", network.BindAddress())
		require.Equal(t, "10.77.0.11", network.IngressAddress())
		require.Equal(t, []string{"10.77.0.11/32"}, network.EgressSubnets)
		require.Equal(t, "eth0", network.BindAddresses[0].Name)
		require.Empty(t, hooks.Network{}.BindAddress())
		require.Empty(t, hooks.Network{}.IngressAddress())
	})
}

func TestPortsAreComparedFirst(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"opened-ports": `["9000-9010/udp","8080/tcp"]`}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		require.NoError(t, u.OpenPort(ctx, "8080"))
		require.NoError(t, u.OpenPort(ctx, "9000-9010/udp"))
		require.NoError(t, u.ClosePort(ctx, "icmp"))
		require.NoError(t, u.SetPorts(ctx, "8443/tcp", "icmp", "8080-8080"))
		require.NoError(t, u.SetPorts(ctx, "8443/tcp", "icmp", "8080-8080"))
		ports, err := u.OpenedPorts(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"8080/tcp", "8443/tcp", "icmp"}, ports)
		for _, bad := range []string{"0", "99999", "10-9", "80/sctp", "x", ""} {
			require.ErrorContains(t, u.OpenPort(ctx, bad), "cannot open or close port")
		}
	})
	require.Equal(t, []string{"opened-ports --format json", "close-port -- 9000-9010/udp", "open-port -- 8443/tcp", "open-port -- icmp"}, juju.lines())
}

func TestStorageAndResourcesAreFound(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"storage-list": `["data/1","data/0"]`, "storage-get": `"/srv/data"`,
		"resource-get -- blob": "/var/lib/juju/agents/unit-probe-0/resources/blob.bin"},
		err: map[string]error{"resource-get -- nope": refused("resource-get", 1, "ERROR could not download resource: resource not found")}}
	reconcileIn(t, juju, hookEnv("hooks/data-storage-attached", "JUJU_STORAGE_ID=data/0", "JUJU_STORAGE_LOCATION=/srv/probe"), func(ctx context.Context, u *hooks.Unit) {
		for range 2 {
			ids, err := u.StorageIDs(ctx, "data")
			require.NoError(t, err)
			require.Equal(t, []string{"data/0", "data/1"}, ids)
			location, err := u.StorageLocation(ctx, "data/0")
			require.NoError(t, err)
			require.Equal(t, "/srv/probe", location)
			location, err = u.StorageLocation(ctx, "data/1")
			require.NoError(t, err)
			require.Equal(t, "/srv/data", location)
			path, err := u.ResourceGet(ctx, "blob")
			require.NoError(t, err)
			require.Equal(t, "/var/lib/juju/agents/unit-probe-0/resources/blob.bin", path)
		}
		_, err := u.ResourceGet(ctx, "nope")
		require.ErrorIs(t, err, hooks.ErrNotFound)
	})
	require.Equal(t, []string{"storage-list --format json -- data", "storage-get --format json -s data/1 location", "resource-get -- blob", "resource-get -- nope"}, juju.lines())
}

func TestSecretValuesAreNeverArguments(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{
		"secret-add":      "secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0\n",
		"secret-get":      `{"key":"value","other":"v2"}`,
		"secret-info-get": `{"g1a6hkg3kbj25ult13bg":{"revision":4,"label":"agent-creds","owner":"application","description":"creds of agents","rotation":"never"}}`,
		"credential-get":  `{"type":"lxd","credential":{"auth-type":"certificate","attrs":{"client-key":"cloud-sesame"}}}`,
	}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		id, err := u.SecretAdd(ctx, hooks.Secret{Label: "L1", Owner: "unit", Content: map[string]string{"private-key": "sesame", "name": "aladdin"}})
		require.NoError(t, err)
		require.Equal(t, "m6bsitr58kbhlku6q4v0", id.Bare())
		require.NoError(t, u.SecretSet(ctx, id, hooks.Secret{Description: "d", Content: map[string]string{"private-key": "sesame2"}}))
		require.NoError(t, u.SecretGrant(ctx, id, "agents:1", ""))
		require.NoError(t, u.SecretRevoke(ctx, id, "agents:1", "worker/0"))
		require.NoError(t, u.SecretRemove(ctx, id, 2))
		require.NoError(t, u.SecretRemove(ctx, id, 0))
		for range 2 {
			values, err := u.SecretGet(ctx, hooks.SecretRead{ID: "secret:g1a6", Label: "mine", Refresh: true})
			require.NoError(t, err)
			require.Equal(t, map[string]string{"key": "value", "other": "v2"}, values)
			_, err = u.SecretGet(ctx, hooks.SecretRead{Label: "mine", Peek: true})
			require.NoError(t, err)
		}
		info, err := u.SecretInfo(ctx, "agent-creds")
		require.NoError(t, err)
		require.Equal(t, hooks.SecretInfo{ID: "g1a6hkg3kbj25ult13bg", Revision: 4, Label: "agent-creds", Owner: "application", Description: "creds of agents", Rotation: "never"}, info)
		cloud, err := u.CredentialGet(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"lxd", "certificate"}, []string{cloud.Type, cloud.Credential.AuthType})
		u.Log.Error("cloud-sesame sesame2 aladdin")

		_, err = u.SecretAdd(ctx, hooks.Secret{Label: "x"})
		require.ErrorContains(t, err, "no content")
		for _, key := range []string{"ab", "Abc", "a-b_c", "1ab", "a--b", "ab-"} {
			_, err = u.SecretAdd(ctx, hooks.Secret{Content: map[string]string{key: "v"}})
			require.ErrorContains(t, err, "cannot use secret key", key)
		}
		_, err = u.SecretAdd(ctx, hooks.Secret{Content: map[string]string{"big": strings.Repeat("x", 1_000_001)}})
		require.ErrorContains(t, err, "cannot keep more than 1000000 bytes in a secret")
		_, err = u.SecretGet(ctx, hooks.SecretRead{})
		require.Error(t, err)
	})
	require.Equal(t, []string{
		"secret-add --label L1 --owner unit name#file=… private-key#file=…",
		"secret-set --description d -- secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0 private-key#file=…",
		"secret-grant -r agents:1 -- secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0",
		"secret-revoke -r agents:1 --unit worker/0 -- secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0",
		"secret-remove --revision 2 -- secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0",
		"secret-remove -- secret://e9824888-ad46-4197-8a05-f3d6e755c569/m6bsitr58kbhlku6q4v0",
		"secret-get --format json --label mine --refresh -- secret:g1a6",
		"secret-get --format json --label mine --peek",
		"secret-info-get --format json --label agent-creds",
		"credential-get --format json",
		"juju-log -l ERROR -- [secret] [secret] [secret]",
	}, juju.lines())
	require.Equal(t, map[string][]byte{"private-key": []byte("sesame"), "name": []byte("aladdin")}, juju.calls[0].Files)
}

func TestAToolsErrorHidesSecrets(t *testing.T) {
	t.Parallel()
	juju := &answers{err: map[string]error{"secret-add": refused("secret-add", 1, `ERROR cannot store "open sesame"`)}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		_, err := u.SecretAdd(ctx, hooks.Secret{Content: map[string]string{"password": "open sesame"}})
		require.EqualError(t, err, `cannot run secret-add: cannot store "[secret]"`)
	})
}

func TestStatusIsWrittenOnlyWhenItDiffers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about, now string
		status     hooks.Status
		want       []string
	}{
		{"same", `{"message":"ready","status":"active","status-data":{}}`, hooks.Active("ready"), []string{}},
		{"message", `{"message":"ready","status":"active","status-data":{}}`, hooks.Active("50% ready"), []string{"status-set -- active 50% ready"}},
		{"name", `{"message":"","status":"waiting","status-data":{}}`, hooks.Active(""), []string{"status-set -- active"}},
		{"flag", `{"message":"","status":"unknown"}`, hooks.Blocked("-x is %d", 1), []string{"status-set -- blocked -x is 1"}},
		{"lines", `{"message":"","status":"unknown"}`, hooks.Waiting("a\nb\x00c\xff"), []string{"status-set -- waiting a b c\uFFFD"}},
		{"long", `{"message":"","status":"unknown"}`, hooks.Maintenance("%s", strings.Repeat("ä", 1000)),
			[]string{"status-set -- maintenance " + strings.Repeat("ä", 248) + "…"}},
		{"long again", `{"message":"` + strings.Repeat("ä", 248) + `…","status":"maintenance"}`, hooks.Maintenance("%s", strings.Repeat("ä", 1000)), []string{}},
	} {
		juju := &answers{out: map[string]string{"status-get": test.now}}
		reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
			require.NoError(t, u.SetStatus(ctx, test.status))
			require.NoError(t, u.SetStatus(ctx, test.status))
		})
		require.Equal(t, []string{"status-get --include-data --format json"}, juju.only("status-get"), test.about)
		require.Equal(t, test.want, juju.only("status-set"), test.about)
	}
}

func TestTheApplicationsStatusIsReadWithoutItsUnits(t *testing.T) {
	t.Parallel()
	juju := &answers{out: map[string]string{"status-get": `{"application-status":{"message":"ready","status":"active","status-data":{},"units":{"probe/0":{"message":"","status":"blocked"}}}}`}}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		require.NoError(t, u.SetAppStatus(ctx, hooks.Active("ready")))
		require.NoError(t, u.SetAppStatus(ctx, hooks.Active("steady")))
		require.EqualError(t, u.SetAppStatus(ctx, hooks.Status{Name: "error"}), `cannot set status "error": want active, blocked, waiting or maintenance`)
	})
	require.Equal(t, []string{"status-get --include-data --format json --application", "status-set --application -- active steady"}, juju.lines())
}

func TestTheApplicationsVersionIsSetOnce(t *testing.T) {
	t.Parallel()
	juju, dir := &answers{}, t.TempDir()
	for _, hook := range []string{"hooks/config-changed", "hooks/config-changed", "hooks/upgrade-charm"} {
		code := hooks.Run(t.Context(), hooks.Charm{Reconcile: func(ctx context.Context, u *hooks.Unit) error {
			return u.SetApplicationVersion(ctx, "7.3.0\n")
		}}, hooks.Options{Environ: hookEnv(hook), Runner: juju, StateDir: dir})
		require.Zero(t, code)
	}
	require.Equal(t, []string{"application-version-set -- 7.3.0", "application-version-set -- 7.3.0"}, juju.lines())
}

func TestRebootSendsTheLogFirst(t *testing.T) {
	t.Parallel()
	juju := &answers{}
	reconcile(t, juju, func(ctx context.Context, u *hooks.Unit) {
		u.Log.Info("going down")
		require.NoError(t, u.Reboot(ctx, true))
		require.NoError(t, u.Reboot(ctx, false))
	})
	require.Equal(t, []string{"juju-log -l INFO -- going down", "juju-reboot --now", "juju-reboot"}, juju.lines())
}
