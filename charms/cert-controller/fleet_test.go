package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certlab/internal/hooks/hookstest"
	"certlab/internal/juju"
	"certlab/internal/order"
)

const (
	region   = "http://10.1.1.1:5240/MAAS"
	firstKey = "consumer1:token1:sesame-one-1"
	nextKey  = "consumer2:token2:sesame-two-2"
)

func secretOf(url, key string) map[string]string {
	return map[string]string{"maas-url": url, "maas-key": key}
}

// file reads one that the desired state names, and requires that nobody else can.
func (l *lab) file(path string) string {
	l.t.Helper()
	require.True(l.t, strings.HasPrefix(path, l.serviceDir()+"/"), path)
	info, err := os.Stat(path)
	require.NoError(l.t, err)
	require.Equal(l.t, fs.FileMode(0o600), info.Mode())
	text, err := os.ReadFile(path)
	require.NoError(l.t, err)
	return string(text)
}

// requireSecret finds a text nowhere but in the files of the secrets.
func (l *lab) requireSecret(results []hookstest.Result, texts ...string) {
	l.t.Helper()
	for _, text := range texts {
		for _, r := range results {
			require.NotContains(l.t, strings.Join(r.Tools(), "\n"), text)
			require.NotContains(l.t, strings.Join(r.Log, "\n"), text)
			require.NotContains(l.t, r.Status().Message, text)
		}
		for _, line := range l.State().Log {
			require.NotContains(l.t, line.Message, text)
		}
		require.NoError(l.t, filepath.WalkDir(l.base, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || filepath.Base(filepath.Dir(path)) == secretsDir {
				return err
			}
			data, err := os.ReadFile(path)
			require.NotContains(l.t, string(data), text, path)
			return err
		}))
	}
}

func (l *lab) secrets() []string {
	entries, err := os.ReadDir(filepath.Join(l.serviceDir(), secretsDir))
	require.NoError(l.t, err)
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestARegionBySecretIsUsedAndItsKeyRotates(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.WithSecretOption("maas-credentials", secretOf(region+"/api/2.0/", firstKey+"\n"), true)
	first := l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	maas := l.desired().Fleet.MAAS
	require.Equal(t, []string{region, "secret", ""}, []string{maas.URL, maas.Source, maas.CAFile})
	require.Equal(t, firstKey, l.file(maas.KeyFile))

	l.WithSecretContent("maas-credentials", secretOf(region, nextKey))
	second := l.FireSecret("changed", l.OptionSecret("maas-credentials"), 0).RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	rotated := l.desired().Fleet.MAAS
	require.NotEqual(t, maas.KeyFile, rotated.KeyFile, "another path, by which the service sees that there is another key")
	require.Equal(t, nextKey, l.file(rotated.KeyFile))
	require.Len(t, l.secrets(), 1, "the old key is gone")
	l.requireSecret([]hookstest.Result{first, second}, "sesame-one-1", "sesame-two-2")

	// What a relation brings costs no more than before.
	before := l.desired().Fleet
	l.WithRelation("cert-agents", "checkbox", 1)
	r := l.FireRelation("created", l.RelationID("cert-agents"), "").RequireSuccess()
	require.Empty(t, r.Called("secret-get"))
	require.Equal(t, before, l.desired().Fleet)

	l.Change(func(state *juju.State) error {
		delete(state.Applications["cert-controller"].Config, "maas-credentials")
		return nil
	})
	l.Fire("update-status").RequireStatus("active", "0 machines, 0 running")
	require.Zero(t, l.desired().Fleet.MAAS.URL)
	require.Empty(t, l.secrets())
}

func TestFaultASecretThatTheServiceHasNotAppliedLeavesTheOldOneInPlace(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	old := l.desired().Fleet.MAAS.KeyFile
	l.service(func(h *order.ControllerHealth) { h.Ready, h.Problem = false, "cannot listen on port 8443: in use" })
	l.WithSecretContent("maas-credentials", secretOf(region, nextKey))
	l.Fire("config-changed").RequireStatus("blocked", "cannot listen on port 8443: in use")
	require.Equal(t, firstKey, l.file(old))
	l.service(func(h *order.ControllerHealth) { h.Ready, h.Problem = true, "" })
	l.Fire("update-status").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	require.NoFileExists(t, old)
	require.Equal(t, nextKey, l.file(l.desired().Fleet.MAAS.KeyFile))
}

func TestFaultBadCredentialsAreSaidAndTheLastGoodOnesGoOn(t *testing.T) {
	t.Parallel()
	const change, form = "change the secret of maas-credentials: ", "maas-url is not a region's: want http(s)://HOST:5240/MAAS, such as http://10.0.0.2:5240/MAAS "
	l, _ := ready(t, 0)
	for _, c := range []struct {
		content map[string]string
		message string
	}{
		{secretOf("10.9.9.9:5240/MAAS", firstKey), change + form + "(it is no URL)"},
		{secretOf("ftp://10.9.9.9/MAAS", firstKey), change + form + "(it does not begin with http:// or https://)"},
		{secretOf("http:///MAAS", firstKey), change + form + "(it names no host)"},
		{secretOf("http://admin:hunter2@10.9.9.9/MAAS", firstKey), change + form + "(it has a user, a query or a fragment)"},
		{secretOf("http://10.9.9.9:5240", firstKey), change + form + "(it does not end in /MAAS)"},
		{secretOf("http://10.9.9.9:5240/maas/", firstKey), change + form + "(it does not end in /MAAS)"},
		{secretOf(region, "hunter2"), change + "maas-key is not a MAAS API key: want three parts with colons between them, as MAAS shows it below a user's preferences"},
		{secretOf(region, "a:hunter2\n:c"), change + "maas-key is not a MAAS API key: want three parts with colons between them, as MAAS shows it below a user's preferences"},
		{map[string]string{"maas-url": region}, change + "maas-key is missing (juju update-secret ID maas-url=… maas-key=…)"},
		{map[string]string{"maas-key": firstKey}, change + "maas-url is missing (juju update-secret ID maas-url=… maas-key=…)"},
		{map[string]string{"maas-url": region, "maas-key": firstKey, "maas-token": "hunter2"}, change + `key "maas-token" is not known (it has maas-url, maas-key, maas-ca)`},
		{map[string]string{"maas-url": region, "maas-key": firstKey, "maas-ca": authority(t)}, change + "maas-ca is given, but maas-url begins with http: want https, or no maas-ca"},
		{map[string]string{"maas-url": "https://maas.lab/MAAS", "maas-key": firstKey, "maas-ca": "hunter2"}, change + "maas-ca is not one or more PEM certificates (-----BEGIN CERTIFICATE-----)"},
	} {
		for _, before := range []bool{false, true} {
			l, _ := ready(t, 0)
			var good order.MAAS
			if before {
				l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
				l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
				good = l.desired().Fleet.MAAS
				l.WithSecretContent("maas-credentials", c.content)
			} else {
				l.WithSecretOption("maas-credentials", c.content, true)
			}
			message := strings.Replace(c.message, "ID", strings.TrimPrefix(l.OptionSecret("maas-credentials"), "secret:"), 1)
			r := l.Fire("config-changed").RequireStatus("blocked", message)
			require.Equal(t, message, l.desired().Fleet.Problem)
			l.requireSecret([]hookstest.Result{r}, "hunter2", "sesame-one-1")
			if !before {
				require.Zero(t, l.desired().Fleet.MAAS.URL)
				continue
			}
			require.Equal(t, good, l.desired().Fleet.MAAS)
			require.Equal(t, firstKey, l.file(good.KeyFile))
			// It is said in every hook, also in those that ask nobody.
			l.Exec().RequireStatus("blocked", message)
		}
	}
	// The lab works on without machines from a MAAS.
	l.WithSecretOption("maas-credentials", secretOf(region, firstKey), false)
	id := strings.TrimPrefix(l.OptionSecret("maas-credentials"), "secret:")
	l.WithConfig(map[string]string{"site-name": "basement"})
	l.Fire("config-changed").RequireStatus("blocked", "type: juju grant-secret "+id+" cert-controller (maas-credentials cannot be read)")
	require.Equal(t, "basement", l.desired().SiteName)
	l.Change(func(state *juju.State) error { delete(state.Secrets, id); return nil })
	l.Fire("config-changed").RequireStatus("blocked", "set maas-credentials to a secret that exists, or reset it (there is no secret "+id+")")
}

// authority returns a certificate of one.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<33, 0), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (l *lab) withCloud(cloud *juju.CloudSpec) {
	l.WithTrust(true)
	l.Change(func(state *juju.State) error { state.CloudSpec = cloud; return nil })
}

func TestTrustHandsOverTheModelsOwnRegionAndASecretWins(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	ca := authority(t)
	l.withCloud(juju.MAASCloud("rack", "https://maas.lab:5443/MAAS/", firstKey, ca))
	r := l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	maas := l.desired().Fleet.MAAS
	require.Equal(t, []string{"https://maas.lab:5443/MAAS", "trust"}, []string{maas.URL, maas.Source})
	require.Equal(t, firstKey, l.file(maas.KeyFile))
	require.Equal(t, ca, l.file(maas.CAFile))
	l.requireSecret([]hookstest.Result{r}, "sesame-one-1")

	l.withCloud(juju.MAASCloud("rack", "https://maas.lab:5443/MAAS", nextKey, ca)) // juju update-credential, of which no hook tells
	l.forget(askAgain)
	l.Fire("update-status").RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	require.Equal(t, nextKey, l.file(l.desired().Fleet.MAAS.KeyFile))

	l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
	require.Equal(t, []string{region, "secret", ""}, []string{l.desired().Fleet.MAAS.URL, l.desired().Fleet.MAAS.Source, l.desired().Fleet.MAAS.CAFile})

	l.Change(func(state *juju.State) error {
		delete(state.Applications["cert-controller"].Config, "maas-credentials")
		return nil
	})
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	l.WithTrust(false)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	require.Zero(t, l.desired().Fleet.MAAS.URL)
}

func TestFaultTrustWhereThereIsNoRegionIsSaid(t *testing.T) {
	t.Parallel()
	lxd := &juju.CloudSpec{Type: "lxd", Name: "localhost", Credential: &juju.CloudCredential{AuthType: "certificate", Attributes: map[string]string{"client-key": "sesame-one-1"}}}
	empty := juju.MAASCloud("rack", region, "")
	for _, c := range []struct {
		cloud         *juju.CloudSpec
		name, message string
	}{
		{nil, "active", "0 machines, 0 running; no MAAS: set maas-credentials (Juju hands over no credential: cannot access cloud credentials: the model's cloud has none)"},
		{lxd, "active", `0 machines, 0 running; no MAAS: set maas-credentials (this model's cloud is of type "lxd")`},
		{empty, "blocked", `set maas-credentials, or mend the model's credential (juju update-credential): it is "oauth1" and not oauth1 with maas-oauth`},
		{juju.MAASCloud("rack", region, "sesame-one-1"), "blocked", "set maas-credentials, or mend the cloud that Juju hands over: its maas-oauth is not a MAAS API key: " +
			"want three parts with colons between them, as MAAS shows it below a user's preferences"},
		{juju.MAASCloud("rack", "http://10.0.0.2:5240", firstKey), "blocked", "set maas-credentials, or mend the cloud that Juju hands over: its endpoint is not a region's: " +
			"want http(s)://HOST:5240/MAAS, such as http://10.0.0.2:5240/MAAS (it does not end in /MAAS)"},
	} {
		l, _ := ready(t, 0)
		l.withCloud(c.cloud)
		r := l.Fire("config-changed").RequireStatus(c.name, c.message)
		require.NotEmpty(t, l.desired().Fleet.Problem)
		require.Zero(t, l.desired().Fleet.MAAS.URL)
		l.requireSecret([]hookstest.Result{r}, "sesame-one-1")
		l.WithSecretOption("maas-credentials", secretOf(region, firstKey), true)
		l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by secret")
		require.Empty(t, l.desired().Fleet.Problem)
	}
}

func TestOptionsOfTheFleetReachTheService(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	fleet := l.desired().Fleet
	require.Equal(t, order.FleetLimits{MaxHours: 72, MaxExtensions: 10, MaxPerPerson: 10, ReminderMinutes: 30, SilenceMinutes: 15, PowerCycles: 3, QuarantineAfter: 3}, fleet.Limits)
	require.Equal(t, order.MAAS{QuarantineTag: "certlab-quarantine"}, fleet.MAAS)
	require.Equal(t, filepath.Join(l.base, "bin", "current", "agents"), fleet.Agents)
	l.WithModelConfig("juju-http-proxy", "http://proxy:3128").WithModelConfig("juju-no-proxy", "10.0.0.0/8")
	l.WithConfig(map[string]string{
		"maas-pools": "lab, big iron,lab", "maas-protected-pools": "customers", "maas-quarantine-pool": "broken", "maas-quarantine-tag": "",
		"maas-erase": "customers=full, big iron = secure, quick", "power-units": "true", "default-release": "noble", "max-reservation-hours": "8", "max-extensions": "2",
		"max-machines-per-person": "3", "reminder-minutes": "10", "silence-minutes": "20", "power-cycles": "4", "check-hours": "24", "quarantine-after": "5", "auto-return": "true",
		"fleet-limits":             "# slow BMCs\nboot-minutes: 30\nmax-tries: 5\nincident-percent: 20\nsilence-seconds: 7\nboot-seconds: 9\n",
		"deployed-checkbox-source": "deb", "deployed-checkbox-channel": "ppa:checkbox-dev/stable", "deployed-checkbox-packages": "checkbox-provider-gpgpu",
		"apt-mirror": "http://mirror.lab/ubuntu/",
	})
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	fleet = l.desired().Fleet
	require.Equal(t, order.FleetLimits{Release: "noble", MaxHours: 8, MaxExtensions: 2, MaxPerPerson: 3, ReminderMinutes: 10, SilenceMinutes: 20, PowerCycles: 4, CheckHours: 24,
		QuarantineAfter: 5, AutoReturn: true, BootMinutes: 30, MaxTries: 5, IncidentPercent: 20, SilenceSeconds: 7, BootSeconds: 9}, fleet.Limits)
	require.Equal(t, order.MAAS{Pools: []string{"lab", "big iron"}, ProtectedPools: []string{"customers"}, QuarantinePool: "broken", PowerUnits: true,
		Erase: map[string]string{"customers": "full", "big iron": "secure", "": "quick"}}, fleet.MAAS)
	require.Equal(t, order.CheckboxSource{Source: "deb", Channel: "ppa:checkbox-dev/stable", ExtraPackages: []string{"checkbox-provider-gpgpu"}}, fleet.Checkbox)
	require.Equal(t, order.Proxy{HTTP: "http://proxy:3128", No: "10.0.0.0/8"}, fleet.Proxy)
	require.Equal(t, "http://mirror.lab/ubuntu", fleet.Mirror)
	for _, c := range []struct{ option, value, message string }{
		{"maas-protected-pools", "lab", `take the pool "lab" out of maas-pools or out of maas-protected-pools: it is in both`},
		{"maas-quarantine-pool", "lab", `set maas-quarantine-pool to a pool that is not among maas-pools: machines in "lab" would be taken again`},
	} {
		l.WithConfig(map[string]string{"maas-pools": "lab", c.option: c.value})
		l.Fire("config-changed").RequireStatus("blocked", c.message)
		require.Equal(t, fleet, l.desired().Fleet)
		l.WithConfig(map[string]string{"maas-pools": "lab", c.option: "customers"})
	}
}

func TestFaultAWebhookIsNeverUsedUnsigned(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.WithConfig(map[string]string{"webhook-url": "https://chat.example.com/hooks?lab=1"})
	l.Fire("config-changed").RequireStatus("blocked", "set webhook-secret too, or reset webhook-url: nothing is sent unsigned")
	require.Zero(t, l.desired().Fleet.Webhook)
	l.WithSecretOption("webhook-secret", map[string]string{"webhook-key": "hunter2"}, true)
	l.Fire("config-changed").RequireStatus("blocked", "change the secret of webhook-secret: want a webhook-key of 16 to 4096 bytes")
	require.Zero(t, l.desired().Fleet.Webhook)
	l.WithSecretContent("webhook-secret", map[string]string{"webhook-key": "correct-horse-battery\n"})
	r := l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	webhook := l.desired().Fleet.Webhook
	require.Equal(t, "https://chat.example.com/hooks?lab=1", webhook.URL)
	require.Equal(t, "correct-horse-battery", l.file(webhook.SecretFile))
	l.requireSecret([]hookstest.Result{r}, "correct-horse-battery")
	l.WithSecretContent("webhook-secret", map[string]string{"key": "correct-horse-battery"})
	l.Fire("config-changed")
	require.Equal(t, webhook, l.desired().Fleet.Webhook, "the last good one goes on")
}

// programs makes the resource site-programs.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	w := tar.NewWriter(zipped)
	for _, name := range names {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: 2}))
		_, err := w.Write([]byte("#!"))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, zipped.Close())
	path := filepath.Join(t.TempDir(), "site-programs.tar.gz")
	require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o644))
	return path
}

func TestFaultABadArchiveOfTheSitesProgramsLeavesTheOldOnes(t *testing.T) {
	t.Parallel()
	l, _ := ready(t, 0)
	l.WithResource("site-programs", programs(t, "prepare/tpm-clear", "console"))
	l.Fire("upgrade-charm").RequireStatus("active", "0 machines, 0 running")
	site := l.desired().Fleet.Site
	info, err := os.Stat(filepath.Join(site, "prepare", "tpm-clear"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode())

	l.WithResource("site-programs", programs(t, "../../escape"))
	const message = `attach a proper archive as resource site-programs, or an empty file: member "../../escape" leads outside`
	l.Fire("upgrade-charm").RequireStatus("blocked", message)
	l.Exec().RequireStatus("blocked", message)
	require.Equal(t, site, l.desired().Fleet.Site)
	require.FileExists(t, filepath.Join(site, "console"))

	l.WithResource("site-programs", programs(t, "console"))
	l.Fire("upgrade-charm").RequireStatus("active", "0 machines, 0 running")
	require.NotEqual(t, site, l.desired().Fleet.Site)
	require.NoDirExists(t, site)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o644))
	l.WithResource("site-programs", empty)
	l.Fire("upgrade-charm").RequireStatus("active", "0 machines, 0 running")
	require.Empty(t, l.desired().Fleet.Site)
}

func TestWhatTheCharmBringsToMachinesIsPutInPlace(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.WithStorage("data", l.storage)
	for name, text := range map[string]string{"bin/agents/certlab-agent_amd64": "a", "bin/agents/certlab-agent_arm64": "b", "providers/certlab/manage.py": "c"} {
		path := filepath.Join(l.sys.charmDir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	}
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	fleet := l.desired().Fleet
	require.FileExists(t, filepath.Join(fleet.Agents, "certlab-agent_arm64"))
	require.FileExists(t, filepath.Join(fleet.Providers, "certlab", "manage.py"))
	require.NoError(t, os.WriteFile(filepath.Join(l.sys.charmDir, "providers/certlab/manage.py"), []byte("d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(l.sys.charmDir, "bin/agents/certlab-agent_arm64"), []byte("new"), 0o755))
	l.Fire("upgrade-charm").RequireStatus("active", "0 machines, 0 running")
	require.NoDirExists(t, fleet.Providers)
	text, err := os.ReadFile(filepath.Join(l.desired().Fleet.Agents, "certlab-agent_arm64"))
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
}

// requireTools fires an update-status and requires so many hook tools.
func (l *lab) requireTools(tools int, about string) hookstest.Result {
	l.t.Helper()
	r := l.Fire("update-status").RequireSuccess()
	require.Len(l.t, r.Tools(), tools, "%s: %v", about, r.Tools())
	return r
}

// forget has it that the model's credential was asked for so long ago.
func (l *lab) forget(ago time.Duration) {
	l.t.Helper()
	path := filepath.Join(l.base, outfitFile)
	var o outfit
	require.NoError(l.t, json.Unmarshal(must(os.ReadFile(path)), &o))
	require.WithinDuration(l.t, time.Now(), o.Asked, time.Hour)
	o.Asked = time.Now().Add(-ago)
	require.NoError(l.t, os.WriteFile(path, must(json.Marshal(o)), 0o600))
}

func TestAHookWithNothingToDoCallsSixTools(t *testing.T) {
	t.Parallel()
	l, id := ready(t, 1)
	l.FireRelation("changed", id, "checkbox/0").RequireSuccess()
	l.withCloud(juju.MAASCloud("rack", region, firstKey))
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	l.requireTools(6, "what is there is taken")
	r := l.Fire("update-status").RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	require.Empty(t, r.Called("credential-get"))
	require.Equal(t, firstKey, l.file(l.desired().Fleet.MAAS.KeyFile))

	// A changed credential of the model, of which no hook tells, is seen within the hour.
	l.withCloud(juju.MAASCloud("rack", region, nextKey))
	l.forget(askAgain - time.Minute)
	l.requireTools(6, "not yet")
	l.forget(askAgain)
	l.requireTools(7, "an hour later")
	require.Equal(t, nextKey, l.file(l.desired().Fleet.MAAS.KeyFile))
	l.requireTools(6, "and then not")
	l.forget(-time.Minute)
	l.requireTools(7, "a clock that was put back")

	// So are a region that refuses the key, and files that are gone.
	l.service(func(h *order.ControllerHealth) { h.Problems = []string{"MAAS refuses the key"} })
	l.Exec().RequireStatus("blocked", "MAAS refuses the key")
	require.Len(t, l.Fire("update-status").Called("credential-get"), 1)
	require.Len(t, l.Fire("update-status").Called("credential-get"), 1, "as long as there is something wrong")
	l.service(func(h *order.ControllerHealth) { h.Problems = nil })
	l.Fire("update-status")
	l.requireTools(6, "nothing is wrong any more")
	require.NoError(t, os.Remove(l.desired().Fleet.MAAS.KeyFile))
	l.requireTools(7, "the key's file is gone")
	require.Equal(t, nextKey, l.file(l.desired().Fleet.MAAS.KeyFile))
	require.NoError(t, os.Remove(filepath.Join(l.serviceDir(), order.ControllerDesiredFile)))
	l.Exec().RequireStatus("active", "0 machines, 0 running, MAAS by trust")
	require.Equal(t, nextKey, l.file(l.desired().Fleet.MAAS.KeyFile))

	// Hooks that may bring something ask at once.
	l.WithTrust(false)
	l.Fire("config-changed").RequireStatus("active", "0 machines, 0 running")
	l.WithSecretOption("maas-credentials", secretOf(region, firstKey), false)
	grant := "type: juju grant-secret " + strings.TrimPrefix(l.OptionSecret("maas-credentials"), "secret:") + " cert-controller (maas-credentials cannot be read)"
	l.Fire("config-changed").RequireStatus("blocked", grant)
	require.Len(t, l.Fire("update-status").RequireStatus("blocked", grant).Called("secret-get"), 1, "a grant is told by no hook")
}
